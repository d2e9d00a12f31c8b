"""Motion files that visitors of the demo send, as features. Read in a process with limits (`protos.confined`): no file, however
it was made, keeps the others waiting or takes this machine's memory."""

from pathlib import Path

import numpy as np

from data_loaders.bvh import read_bvh
from data_loaders.features import Features
from data_loaders.joint_mapping import fitting_mapping, load_mapping
from data_loaders.motion_features import read_features, read_people
from data_loaders.motion_files import read_motion
from data_loaders.sources import Reading
from protos.reading import FileError, read_array
from sample.gallery_sources import usable
from sample.reactions import SHORTEST

SECONDS = 20.0  # that reading a file may take
MEGABYTES = 1024  # that it may take in memory
AT_ONCE = 2
LONGEST_FILE = 900.0  # seconds: what a file says of its frame rate must not make it endless
AUTO = "find out"


def read_upload(path: Path, wanted: Features, limits: tuple[int, int], skeleton: str, fps: float, start: float) -> np.ndarray:
    """Features (T, D) of a file from `start` seconds on, at least and at most so many frames.

    `fps` is of joints in a .npy file, `skeleton` the name of a mapping of a .bvh file, or AUTO. ValueError in one line.
    """
    features = read_features(path, wanted, reading_of(path, skeleton, fps))
    first = int(start * wanted.fps)
    if first >= len(features):
        raise ValueError(f"the motion lasts {len(features) / wanted.fps:.1f} s: it cannot start at {start:g} s")
    return np.array(usable(features[first : first + limits[1]], limits), np.float32)


def read_actor(path: Path, wanted: Features, longest: int, skeleton: str, fps: float, start: float) -> np.ndarray:
    """Joints (T, J, 3) in metres of the one person in a file, from `start` seconds on, at most `longest` frames.

    The other arguments as of `read_upload`. ValueError in one line.
    """
    (joints,) = read_people(path, wanted.body, wanted.fps, reading_of(path, skeleton, fps), persons=1)
    first = int(start * wanted.fps)
    if first + SHORTEST > len(joints):
        raise ValueError(f"the motion lasts {len(joints) / wanted.fps:.1f} s: it cannot start at {start:g} s")
    return joints[first : first + longest]


def reading_of(path: Path, skeleton: str, fps: float) -> Reading:
    """How to read a file; ValueError for one that is too long."""
    if (motion := read_motion(path, fps)) is not None:
        frames, mapping, fps = motion.joints.shape[1], None, motion.fps
    elif path.suffix.lower() == ".npy":
        frames, mapping = len(read_array(path, kinds="fiubUSc", mmap=True)), None
    else:
        bvh = read_bvh(path)
        joint_mapping = fitting_mapping(bvh) if skeleton == AUTO else load_mapping(skeleton)
        mapping, frames, fps = joint_mapping.name, len(bvh.joints), joint_mapping.fps or bvh.fps
    if not frames / fps <= LONGEST_FILE:
        raise FileError(f"{path.name} lasts {frames / fps:.0f} s at {fps:g} frames per second, at most {LONGEST_FILE:g} s "
                         "are read: is its frame rate right?")  # fmt: skip
    return Reading(motion_fps=fps) if mapping is None else Reading(mapping=mapping, motion_fps=fps)
