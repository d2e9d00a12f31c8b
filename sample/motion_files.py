"""Motion files of any kind as the features that a text-motion model reads."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch

from data_loaders.corpus import Motion
from data_loaders.humanml_features import features_from_joints, joints_from_features
from data_loaders.mocap import MocapError, load_mapping, read_joints, read_joints_npy, resample
from data_loaders.sources import SourceClip
from model.embedding import TextMotionSpace
from sample.retrieve_options import Reading

SUFFIXES = (".npy", ".npz", ".bvh")


def read_features(path: Path, space: TextMotionSpace, reading: Reading) -> np.ndarray:
    """Features (T, D) in their units, at the model's frame rate, of a file.

    .npy: features as they are, or joints (T, J, 3) in metres, Y up; .npz: AMASS, or such joints with their `fps`; .bvh.
    MocapError says what is wrong with it.
    """
    path = Path(path)
    if path.is_dir() or path.suffix.lower() not in SUFFIXES:
        raise MocapError(f"{path}: expected a motion file, one of {', '.join(SUFFIXES)}")
    if path.suffix.lower() == ".npy" and (features := _stored_features(path, space)) is not None:
        return features
    skeleton = space.skeleton
    if not space.reads_joints:
        raise MocapError(f"{path}: this model reads its own {space.num_features} features, which are not made from joints here")
    try:
        joints = _joints(path, space, reading)  # (T, J, 3)
    except MocapError as error:
        raise MocapError(str(error) if str(path) in str(error) else f"{path}: {error}") from None
    if joints.shape[1] < skeleton.num_joints:
        raise MocapError(f"{path}: {joints.shape[1]} joints, this model reads the {skeleton.num_joints} of {skeleton.name}")
    if len(joints) < 2 or not np.isfinite(joints).all():
        raise MocapError(f"{path}: {len(joints)} frames at {space.fps:g} per second, expected at least 2, without NaN")
    joints = torch.as_tensor(joints[:, : skeleton.num_joints] / skeleton.metres_per_unit, dtype=torch.float32)
    return _finite(features_from_joints(joints, skeleton, space.representation.heading).numpy(), path)


def motion_of(features: np.ndarray, space: TextMotionSpace, captions: Sequence[str] = ()) -> Motion:
    """Features (T, D) as joints in metres. MocapError where the model reads features of another kind."""
    if not space.reads_joints:
        raise MocapError("the features of this model hold no joints to draw")
    joints = joints_from_features(torch.as_tensor(np.array(features, np.float32)), space.skeleton)
    return Motion(joints.numpy()[None] * space.skeleton.metres_per_unit, space.fps, space.skeleton.name, tuple(captions))


def cut_seconds(features: np.ndarray, start: float | None, end: float | None, fps: float, what: str) -> np.ndarray:
    """The frames (T, D) between two seconds. ValueError where none is left."""
    first = 0 if start is None else int(start * fps)
    stop = len(features) if end is None else int(end * fps)
    if not 0 <= first < min(stop, len(features)):
        raise ValueError(f"{what} lasts {len(features) / fps:.2f} s: no frame between --start {start or 0:g} and "
                         f"--end {'its end' if end is None else format(end, 'g')}")  # fmt: skip
    return features[first:stop]


def _stored_features(path: Path, space: TextMotionSpace) -> np.ndarray | None:
    """Features of a file that holds a table (T, D); None where it holds something else."""
    try:
        content = np.load(path, mmap_mode="r", allow_pickle=False)
    except FileNotFoundError:
        raise MocapError(f"{path}: no such file") from None
    except (ValueError, EOFError, OSError) as error:
        reason = str(error).partition(". ")[0]  # what follows may advise to unpickle it
        raise MocapError(f"{path}: not a readable .npy array: {reason}") from None
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


def _joints(path: Path, space: TextMotionSpace, reading: Reading) -> np.ndarray:
    """Joints (T, J, 3) in metres at the model's frame rate, no more of them than it reads."""
    fps, suffix, most = space.fps, path.suffix.lower(), space.skeleton.num_joints
    if suffix == ".npy":
        return resample(read_joints_npy(path)[:, :most], reading.motion_fps or fps, fps)
    if suffix == ".bvh":
        mapping = load_mapping(reading.mapping) if reading.mapping else None
        return read_joints(SourceClip(path.stem, path, "bvh"), fps, mapping=mapping)
    found = _joints_of_archive(path)
    if found is None:
        return read_joints(SourceClip(path.stem, path, "amass"), fps, reading.body_model)
    joints, own = found
    return resample(joints[:, :most], reading.motion_fps or own or fps, fps)


def _joints_of_archive(path: Path) -> tuple[np.ndarray, float | None] | None:
    """(joints, fps) of an .npz with `joints` (T, J, 3) and perhaps `fps`; None for one of another kind."""
    import io

    try:
        with np.load(path, allow_pickle=False) as content:
            if "joints" not in content:
                return None
            joints = content["joints"]
            own = float(content["fps"]) if "fps" in content else None
            if own is not None and not 0.1 <= own <= 10_000:
                raise MocapError(f"{path}: fps is {own:g}, expected frames per second")
    except FileNotFoundError:
        raise MocapError(f"{path}: no such file") from None
    except MocapError:
        raise
    except Exception as error:  # a damaged archive fails in any way it likes
        reason = str(error).partition(". ")[0]
        raise MocapError(f"{path}: not a readable .npz file: {reason}") from None
    buffer = io.BytesIO()
    np.save(buffer, joints)  # the same checks as of a file of joints
    buffer.seek(0)
    return read_joints_npy(buffer, name=str(path)), own
