"""Motion files of any kind as the features that a text-motion model reads."""

import re
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path

import numpy as np
import torch

from data_loaders.bvh import MocapError
from data_loaders.corpus import Motion
from data_loaders.joint_mapping import load_mapping
from data_loaders.mocap import (
    RUN_JOINTS,
    checked_joints,
    finite_joints,
    read_joints,
    read_joints_npy,
    report_warnings,
    resample,
)
from data_loaders.skeleton import ALIASES, Skeleton
from data_loaders.sources import SourceClip
from model.embedding import NoVectorError, TextMotionSpace
from protos.reading import read_array, read_arrays
from sample.reading import Reading
from sample.results import KEYS, METRES, Results, holds_objects, read_results, results_of

SUFFIXES = (".npy", ".npz", ".bvh")


def read_features(path: Path, space: TextMotionSpace, reading: Reading, warnings: list[str] | None = None) -> np.ndarray:
    """Features (T, D) in their units, at the model's frame rate, of a file.

    .npy: features as they are, or joints (T, J, 3) in metres, Y up; .npz: AMASS, or such joints with their `fps`; .bvh. The
    results of a sampling run (`motions.npz`, `motions.npy`) hold several motions: `motions.npz#2` names the third. MocapError
    says what is wrong with a file; what looks wrong is collected in `warnings`, or logged.
    """
    path = Path(path)
    file, row = named_row(path)
    if file.is_dir() or file.suffix.lower() not in SUFFIXES:
        raise MocapError(f"{path}: expected a motion file, one of {', '.join(SUFFIXES)}")
    if not file.is_file():
        raise MocapError(f"{path}: no such file")
    results = run_results(file)
    if results is None and row is not None:
        raise MocapError(f"{path}: {file.name} holds one motion, it needs no #{row}")
    if results is None and file.suffix.lower() == ".npy" and (features := _stored_features(file, space)) is not None:
        return features
    skeleton = space.skeleton
    if not space.reads_joints:
        raise MocapError(f"{path}: this model reads its own {space.num_features} features, which are not made from joints here")
    told: list[str] = []
    if results is not None:
        joints = resample(_row_of(results, path, row, skeleton), reading.motion_fps or results.fps or space.fps, space.fps,
                          str(path))  # fmt: skip
        joints = checked_joints(joints, skeleton, str(path), told)
    else:
        joints = _joints(file, space, reading, told)  # (T, J, 3)
    report_warnings(str(path), told, warnings)
    if len(joints) < 2:
        raise MocapError(f"{path}: {len(joints)} frames at {space.fps:g} per second, expected at least 2")
    return _finite(space.features.encode(joints).numpy(), path)


# ---------------------------------------------------------------------------------------------- results of a sampling run


def named_row(path: Path) -> tuple[Path, int | None]:
    """The file, and which of its motions `motions.npz#2` names; None where the name says nothing of the kind."""
    found = re.fullmatch(r"(.+\.np[yz])#(\d{1,9})", path.name, re.IGNORECASE)
    return (path.with_name(found[1]), int(found[2])) if found and not path.exists() else (path, None)


def motions_in(files: Sequence[Path]) -> list[Path]:
    """The files, with each motion of a results file by its name (`motions.npz#0`, …), and no motion of a sampling run twice:
    it writes them to motions.npz, again to motions.npy, and each by itself into joints/, there without its caption."""
    counts = {file: len(found.text) for file in files if (found := _readable_results(file)) is not None}
    runs = {file.parent for file in counts}
    motions: list[Path] = []
    for file in files:
        again = file.suffix.lower() == ".npy" and file.with_suffix(".npz") in counts
        if file in counts and not again:
            motions += [file.with_name(f"{file.name}#{row}") for row in range(counts[file])]
        elif file not in counts and not (file.parent.name == "joints" and file.parent.parent in runs):
            motions.append(file)
    return motions


def _readable_results(path: Path) -> Results | None:
    try:
        return run_results(path)
    except (ValueError, OSError):  # named when it is read
        return None


def run_results(path: Path) -> Results | None:
    """The results of a sampling run in a .npy or .npz file; None where it holds something else. FileError for a damaged file."""
    if path.suffix.lower() not in (".npy", ".npz"):
        return None
    stat = path.stat()
    return _run_results(path, stat.st_size, stat.st_mtime_ns)


@lru_cache(maxsize=1)  # a gallery reads motion after motion of a file
def _run_results(path: Path, size: int, changed: int) -> Results | None:
    if path.suffix.lower() == ".npy":
        return read_results(path) if holds_objects(path) else None
    content = read_arrays(path, only=KEYS)
    return results_of(content, path) if "motion" in content else None


def _row_of(results: Results, path: Path, row: int | None, skeleton: Skeleton) -> np.ndarray:
    """Joints (T, J, 3) in metres of the named motion, or of the only one."""
    count = len(results.text)
    if row is None and count != 1:
        raise MocapError(f"{path}: the results file of {count} motions: name one, {path.name}#0 to #{count - 1}, or take "
                         f"{RUN_JOINTS}")  # fmt: skip
    if (row or 0) >= count:
        raise MocapError(f"{path}: holds {count} motions, #0 to #{count - 1}")
    _require_skeleton(results.skeleton, skeleton, path)
    return finite_joints(results.joints(row or 0), str(path))


def _require_skeleton(found: str | None, expected: Skeleton, path: Path) -> None:
    if found is not None and ALIASES.get(found.lower(), found) != expected.name:
        raise MocapError(f"{path}: motions of {found[:40]!r}, this model reads those of {expected.name}")


# --------------------------------------------------------------------------------------------------------- other files


def motion_of(features: np.ndarray, space: TextMotionSpace, captions: Sequence[str] = ()) -> Motion:
    """Features (T, D) as joints in metres. MocapError where the model reads features of another kind."""
    if not space.reads_joints:
        raise MocapError("the features of this model hold no joints to draw")
    joints = space.features.joints(torch.as_tensor(np.array(features, np.float32)))
    return Motion(joints.numpy()[None], space.fps, space.skeleton.name, tuple(captions))


def cut_seconds(features: np.ndarray, start: float | None, end: float | None, fps: float, what: str) -> np.ndarray:
    """The frames (T, D) between two seconds. ValueError where none is left."""
    first = 0 if start is None else int(start * fps)
    stop = len(features) if end is None else int(end * fps)
    if not 0 <= first < min(stop, len(features)):
        raise ValueError(f"{what} lasts {len(features) / fps:.2f} s: no frame between --start {start or 0:g} and "
                         f"--end {'its end' if end is None else format(end, 'g')}")  # fmt: skip
    return features[first:stop]


def motion_vector(path: Path, space: TextMotionSpace, reading: Reading, start: float | None = None,
                  end: float | None = None) -> np.ndarray:
    """(C,) of a motion file, or of the part of it between two seconds. ValueError where the model cannot read it."""
    part = cut_seconds(read_features(path, space, reading), start, end, space.fps, str(path))
    shortest, longest = space.frame_limits
    if not shortest <= len(part) <= longest:
        raise ValueError(f"{path} has {len(part)} frames, this model reads {shortest} to {longest}: "
                         "choose a part with --start and --end, in seconds")  # fmt: skip
    try:
        return space.encode_motion([part])[0]
    except NoVectorError as error:
        raise ValueError(f"{path}: {error}") from None


def _stored_features(path: Path, space: TextMotionSpace) -> np.ndarray | None:
    """Features of a file that holds a table (T, D); None where it holds something else."""
    content = read_array(path, kinds="fiubUSc", mmap=True)
    if content.ndim != 2:
        return None
    if not len(content):
        raise MocapError(f"{path}: holds no frame")
    if content.dtype.kind not in "fiu" or content.shape[1] != space.num_features:
        raise MocapError(f"{path}: shape {content.shape} of {content.dtype}, expected (frames, {space.num_features}): "
                         f"this model reads {space.skeleton.name} features at {space.fps:g} fps")  # fmt: skip
    with np.errstate(over="ignore"):  # what does not fit into float32 is infinite, and named
        return _finite(np.array(content, np.float32), path)


def _finite(features: np.ndarray, path: Path) -> np.ndarray:
    bad = ~np.isfinite(features)
    if bad.any():
        raise MocapError(f"{path}: NaN or infinity in frame {np.argwhere(bad)[0][0]} of its features")
    return features


def _joints(path: Path, space: TextMotionSpace, reading: Reading, told: list[str]) -> np.ndarray:
    """Joints (T, J, 3) in metres of the model's skeleton at its frame rate."""
    fps, suffix, skeleton = space.fps, path.suffix.lower(), space.skeleton
    found = None
    if suffix == ".npy":
        found = read_joints_npy(path), None
    elif suffix == ".npz":
        found = _joints_of_archive(path, skeleton)
    if found is not None:
        joints, own = found
        more = joints.shape[1] - skeleton.num_joints  # hands, where the skeleton knows of any
        if more < 0 or (more and not skeleton.left_hand):
            raise MocapError(f"{path}: {joints.shape[1]} joints, this model reads the {skeleton.num_joints} of {skeleton.name}")
        joints = resample(joints[:, : skeleton.num_joints], reading.motion_fps or own or fps, fps, str(path))
        return checked_joints(joints, skeleton, str(path), told)
    if skeleton.name != "humanml":
        raise MocapError(f"{path}: {suffix} files are read as joints of humanml, this model reads those of {skeleton.name}")
    if suffix == ".npz":
        return read_joints(SourceClip(path.stem, path, "amass"), fps, reading.body_model, warnings=told)
    mapping = load_mapping(reading.mapping) if reading.mapping else None
    return read_joints(SourceClip(path.stem, path, "bvh"), fps, mapping=mapping, warnings=told)


def _joints_of_archive(path: Path, skeleton: Skeleton) -> tuple[np.ndarray, float | None] | None:
    """(joints (T, J, 3) in metres, fps) of an .npz with `joints`, perhaps `fps`, `unit`, `skeleton`; None for one of another
    kind."""
    content = read_arrays(path, only=("joints", "fps", "unit", "skeleton"))
    if "joints" not in content:
        return None
    joints = content["joints"]
    if joints.dtype.kind not in "fiu" or joints.ndim != 3 or joints.shape[2] != 3 or 0 in joints.shape:
        raise MocapError(f"{path}: joints of shape {joints.shape} of {joints.dtype}, expected (T, J, 3) in metres")
    fps, unit, name = (content[key].reshape(-1)[:1].tolist() if key in content else [] for key in ("fps", "unit", "skeleton"))
    if fps and (not isinstance(fps[0], (int, float)) or not 0.1 <= fps[0] <= 10_000):
        raise MocapError(f"{path}: fps is {fps[0]!r:.40}, expected frames per second, 0.1 to 10000")
    if unit and unit[0] not in METRES:
        raise MocapError(f"{path}: unit is {unit[0]!r:.40}, expected {' or '.join(METRES)}")
    _require_skeleton(str(name[0]) if name else None, skeleton, path)
    return finite_joints(joints, str(path)) * np.float32(METRES[unit[0]] if unit else 1), fps[0] if fps else None
