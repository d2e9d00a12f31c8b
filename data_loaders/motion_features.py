"""Motion files of any kind as features, or as they are: joints, results of a sampling run, AMASS, BVH, tables of features."""

import os
from dataclasses import replace
from pathlib import Path

import numpy as np

from data_loaders.corpus import Motion
from data_loaders.features import Features
from data_loaders.joint_mapping import load_mapping
from data_loaders.mocap import LIKELY_FPS, checked_joints, read_joints, read_recorded, report_warnings, resample
from data_loaders.motion_files import named_row, read_motion, run_results
from data_loaders.skeleton import ALIASES, Skeleton, known_skeletons, load_skeleton
from data_loaders.sources import Reading, SourceClip
from protos.options import one_line
from protos.reading import FileError, read_array

SUFFIXES = (".npy", ".npz", ".bvh")


def read_features(path: Path, features: Features, reading: Reading, warnings: list[str] | None = None) -> np.ndarray:
    """Features (T, D) in their units, at their frame rate, of a file.

    .npy: features as they are, or joints in metres, Y up, of several persons (P, T, J, 3); .npz: AMASS, or such joints with
    their `fps`; .bvh. The results of a sampling run (`motions.npz`, `motions.npy`) hold several motions: `motions.npz#2` names
    the third. FileError says what is wrong with a file; what looks wrong is collected in `warnings`, or logged.
    """
    path, skeleton = Path(path), features.body
    file = _motion_file(path)
    if file.suffix.lower() == ".npy" and (stored := _stored_features(file, features)) is not None:
        return stored
    people = read_people(path, skeleton, features.fps, reading, warnings, features.persons)
    joints = people[0] if features.persons == 1 else people
    return _finite(features.encode(joints).numpy(), path)


def read_people(path: Path, skeleton: Skeleton, fps: float, reading: Reading, warnings: list[str] | None = None,
                persons: int | None = None) -> np.ndarray:
    """Joints (P, T, J, 3) in metres, Y up, at `fps` frames a second, of a file as `read_features` takes them, features but for
    joints excepted, checked (`checked_joints`).

    persons: how many are expected. FileError says what is wrong with a file.
    """
    file, told = _motion_file(path), []
    motion = read_motion(path, reading.motion_fps or fps)
    if motion is not None:
        rate = reading.motion_fps or motion.fps
        people = [resample(each, rate, fps, str(path)) for each in _joints_of(motion, skeleton, persons, path)]
        people = [checked_joints(each, skeleton, str(path), told) for each in people]
    elif file.suffix.lower() == ".npy":
        raise FileError(f"{path}: a table of features, expected joints (frames, {skeleton.num_joints}, 3) in metres")
    elif persons not in (None, 1):
        raise FileError(f"{path}: holds one person, this model reads {persons}: expected joints ({persons}, "
                        f"frames, {skeleton.num_joints}, 3) as .npy, or the results of a run")  # fmt: skip
    elif skeleton.name != "humanml":
        raise FileError(f"{path}: {file.suffix} files are read as joints of humanml, this model reads those of {skeleton.name}")
    else:
        mapping = load_mapping(reading.mapping) if reading.mapping else None
        kind = "bvh" if file.suffix.lower() == ".bvh" else "amass"
        people = [read_joints(SourceClip(path.stem, path, kind), fps, reading.body_model, mapping, warnings=told)]
    report_warnings(str(path), told, warnings)
    if len(people[0]) < 2:
        raise FileError(f"{path}: {len(people[0])} frames at {fps:g} per second, expected at least 2")
    return np.stack(people)


def motion_files(folder: Path, unreadable: dict[str, str], without: str = "") -> list[Path]:
    """Motion files in and below a folder, hidden ones left out, and folders that hold a file `without`. Folders that cannot be
    opened go into `unreadable`, with the reason: what is in them must not be missing without a word."""

    def keep(error: OSError) -> None:
        unreadable[str(error.filename)] = one_line(error)

    found = []
    for place, folders, files in os.walk(folder, onerror=keep):
        if without in files:
            folders.clear()
            continue
        folders[:] = [name for name in folders if not name.startswith(".")]
        found += [Path(place, name) for name in files if Path(name).suffix.lower() in SUFFIXES and not name.startswith(".")]
    return sorted(path for path in found if path.is_file())


def read_whole(path: Path, reading: Reading) -> Motion:
    """The motion in a file as `read_people` takes it, with its captions, of any skeleton and at its own frame rate, checked.

    FileError says what is wrong with a file."""
    file = _motion_file(path)
    motion = read_motion(path, reading.motion_fps or LIKELY_FPS)
    if motion is not None:
        named = ALIASES.get(motion.skeleton.lower(), motion.skeleton) or "humanml"
        if named not in known_skeletons():  # what a file says is never a path
            raise FileError(f"{path}: motions of {motion.skeleton[:40]!r}, expected those of {', '.join(known_skeletons())}")
        body = load_skeleton(named)
        told: list[str] = []
        people = [checked_joints(each, body, str(path), told) for each in _joints_of(motion, body, None, path)]
        report_warnings(str(path), told, None)
        return replace(motion, joints=np.stack(people), fps=reading.motion_fps or motion.fps, skeleton=body.name)
    if file.suffix.lower() == ".npy":
        raise FileError(f"{path}: a table of features, expected joints (frames, joints, 3) in metres")
    mapping = load_mapping(reading.mapping) if reading.mapping else None
    kind = "bvh" if file.suffix.lower() == ".bvh" else "amass"
    joints, fps = read_recorded(SourceClip(path.stem, path, kind), reading.body_model, mapping)
    return Motion(joints[None], fps)


def _motion_file(path: Path) -> Path:
    """The file in which a motion lies. FileError where it is none, or not there."""
    file, _ = named_row(path)
    if file.is_dir() or file.suffix.lower() not in SUFFIXES:
        raise FileError(f"{path}: expected a motion file, one of {', '.join(SUFFIXES)}")
    if not file.is_file():
        raise FileError(f"{path}: no such file")
    return file


def _joints_of(motion: Motion, skeleton: Skeleton, persons: int | None, path: Path) -> np.ndarray:
    """Joints (P, T, J, 3) of as many persons as are expected; hands beyond those of the skeleton are left out. FileError for
    other motions."""
    joints = motion.joints
    if persons not in (None, len(joints)):
        raise FileError(f"{path}: {len(joints)} persons, this model reads {'one' if persons == 1 else persons}: give the joints "
                        "of so many alone")  # fmt: skip
    more = joints.shape[2] - skeleton.num_joints
    if more < 0 or (more and not skeleton.left_hand):
        raise FileError(f"{path}: {joints.shape[2]} joints, expected the {skeleton.num_joints} of {skeleton.name}")
    named = ALIASES.get(motion.skeleton.lower(), motion.skeleton)
    if named and named != skeleton.name:
        raise FileError(f"{path}: motions of {motion.skeleton[:40]!r}, expected those of {skeleton.name}")
    return joints[:, :, : skeleton.num_joints]


def _stored_features(path: Path, features: Features) -> np.ndarray | None:
    """Features of a file that holds a table (T, D); None where it holds something else."""
    if run_results(path) is not None:
        return None
    content = read_array(path, kinds="fiubUSc", mmap=True)
    if content.ndim != 2:
        return None
    if not len(content):
        raise FileError(f"{path}: holds no frame")
    width = features.width * features.persons
    if content.dtype.kind not in "fiu" or content.shape[1] != width:
        raise FileError(f"{path}: shape {content.shape} of {content.dtype}, expected (frames, {width}): "
                         f"this model reads {features.skeleton} features at {features.fps:g} fps")  # fmt: skip
    with np.errstate(over="ignore"):  # what does not fit into float32 is infinite, and named
        return _finite(np.array(content, np.float32), path)


def _finite(features: np.ndarray, path: Path) -> np.ndarray:
    bad = ~np.isfinite(features)
    if bad.any():
        raise FileError(f"{path}: NaN or infinity in frame {np.argwhere(bad)[0][0]} of its features")
    return features
