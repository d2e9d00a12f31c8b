"""Motion capture of any skeleton -> joints (T, J, 3) of ours, in metres, +Y up, facing +Z at zero heading, left = +X.

A mapping file (TOML or JSON, see data_loaders/mappings) says how: which source joints make each target joint, the
scale, the axes, the floor. `retarget` moves joints only; uniform bone lengths come later, from the features (which keep
bone directions and use the skeleton's lengths).
"""

from __future__ import annotations

import logging
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

import numpy as np

from data_loaders.bvh import BvhClip, read_bvh
from data_loaders.joint_mapping import Mapping, fitting_mapping, load_mapping, retarget
from data_loaders.motion_checks import bone_problem, orientation_problem, root_problem, with_all_bones
from data_loaders.skeleton import load_skeleton
from data_loaders.smpl_body import published_stride, read_amass_npz
from protos.reading import FileError, name_of, read_array

if TYPE_CHECKING:
    from data_loaders.skeleton import Skeleton
    from data_loaders.sources import SourceClip

log = logging.getLogger(__name__)
MOST_FRAMES = 2_000_000  # that are made by interpolation; at 20 fps a day
FARTHEST = 10_000  # metres from the origin; float32 tells millimetres there
RUN_JOINTS = "joints/prompt##_rep##.npy beside it, one motion each"
LIKELY_FPS = 20.0  # of files that do not say theirs


def resample(joints: np.ndarray, source_fps: float, target_fps: float, name: str = "motion") -> np.ndarray:
    """Joints (T, ...) at source_fps -> (T', ...) at target_fps over the same time: T' = floor((T-1) target/source) + 1.

    Cubic spline through every frame. From 30 to 20 fps every second new frame falls between two old ones; there
    straight lines cut arcs short. CMU takes at 120 fps, thinned to 30 and brought to 20, against every sixth of their
    own frames: mean error 1.5 mm linear, 1.1 mm spline; jerk 0.93 of the truth linear, 1.00 spline; forearm length
    wavers 0.9 mm linear, 0.16 mm spline. Whole ratios (120 to 20) hit source frames and equal a stride. FileError for a
    frame rate that cannot be right.
    """
    for fps in (source_fps, target_fps):
        if not 0.1 <= fps <= 10_000:  # NaN too; beyond, a slip would fill the memory
            raise FileError(f"{name}: a frame rate of {fps:g} per second; expected 0.1 to 10000")
    joints = np.asarray(joints)
    ratio = source_fps / target_fps
    count = int(np.floor((len(joints) - 1) / ratio + 1e-6)) + 1
    if count > MOST_FRAMES:
        seconds = len(joints) / source_fps
        raise FileError(f"{name}: {len(joints)} frames at {source_fps:g} per second last {seconds:.0f} s, too long to be read "
                         f"at {target_fps:g} per second: is the frame rate right?")  # fmt: skip
    if abs(ratio - round(ratio)) < 1e-6:
        return joints[:: round(ratio)].copy()
    if len(joints) < 2:
        return joints.copy()
    from scipy.interpolate import CubicSpline

    times = np.minimum(np.arange(count) * ratio, len(joints) - 1)
    return CubicSpline(np.arange(len(joints)), joints, axis=0)(times).astype(joints.dtype, copy=False)


def read_joints_npy(
    source: str | Path | BinaryIO | bytes, num_joints: int | None = None, name: str | None = None
) -> np.ndarray:
    """Joints (T, J, 3) float32 in metres from a .npy file; the file has no frame rate, the caller states it."""
    path = name or name_of(source)
    try:
        joints = read_array(source, name=path)
    except FileError as error:
        if "pickled Python objects" in str(error):
            raise FileError(f"{error}: if it is the results file of a sampling run, take {RUN_JOINTS}") from None
        raise
    expected = f"(T, {num_joints or 'J'}, 3)"
    if joints.ndim != 3 or joints.shape[2] != 3 or 0 in joints.shape:
        raise FileError(f"{path}: shape {joints.shape}, expected joints {expected} in metres")
    if num_joints is not None and joints.shape[1] != num_joints:
        raise FileError(f"{path}: {joints.shape[1]} joints, expected {expected}")
    return finite_joints(joints, path)


def finite_joints(joints: np.ndarray, name: str) -> np.ndarray:
    """Joints (T, J, 3) as float32. FileError where one is not finite, or too large for that."""
    with np.errstate(over="ignore"):
        joints = joints.astype(np.float32, copy=False)
    _require_finite(joints, name)
    return joints


def _require_finite(joints: np.ndarray, name: str) -> None:
    bad = ~np.isfinite(joints)
    if bad.any():
        frame, joint, _ = np.argwhere(bad)[0]
        raise FileError(f"{name}: NaN or infinity in frame {frame}, joint {joint}; expected finite numbers")


def require_near(joints: np.ndarray, name: str) -> None:
    """FileError where one of joints (T, J, 3) in metres is not finite, or farther from the origin than `FARTHEST`."""
    _require_finite(joints, name)
    away = np.abs(joints).max(axis=(1, 2), initial=0)
    if away.max(initial=0) > FARTHEST:
        frame = int(away.argmax())
        raise FileError(f"{name}: a joint of frame {frame} is {away[frame]:.3g} m from the origin, expected up to {FARTHEST} m")


def read_joints(
    clip: SourceClip,
    fps: float,
    body_model: Path | None = None,
    mapping: Mapping | None = None,
    published: bool = False,
    warnings: list[str] | None = None,
) -> np.ndarray:
    """Joints (T, 22, 3) in metres at `fps` of one raw recording of any kind (bvh, amass, joints), checked (`checked_joints`).

    The other arguments and FileError: as `read_recorded`.
    """
    return read_recorded(clip, body_model, mapping, fps, published, warnings)[0]


def read_recorded(
    clip: SourceClip,
    body_model: Path | None = None,
    mapping: Mapping | None = None,
    fps: float | None = None,
    published: bool = False,
    warnings: list[str] | None = None,
) -> tuple[np.ndarray, float]:
    """Joints (T, 22, 3) in metres, Y up, of one raw recording, and their frames per second: `fps`, or without it the recording's.

    mapping: already loaded, else the clip's, else the shipped one that fits a BVH file's joints. published: AMASS frames by
    integer stride as HumanML3D took them, which keeps another frame rate where the ratio is not whole; otherwise everything is
    interpolated. warnings: gets a line for each thing that looks wrong; without it they are logged. FileError says why a
    recording cannot be used.
    """
    name = str(clip.data) if isinstance(clip.data, Path) else clip.name
    told: list[str] = []
    if clip.kind == "bvh":
        joints, own_fps = _joints_of_bvh(clip, name, mapping, told)
    elif clip.kind == "amass":
        amass = read_amass_npz(clip.data, body_model, name=name)
        joints, own_fps = amass.joints, clip.fps or amass.fps
        if published and fps:
            joints, own_fps = published_stride(joints, own_fps, fps), fps
        joints = joints[clip.first_frame :]
    else:
        joints, own_fps = read_joints_npy(clip.data, name=name)[clip.first_frame :], clip.fps or fps or LIKELY_FPS
    if len(joints) == 0:
        raise FileError(f"{name}: the motion should start at frame {clip.first_frame}, but the file is shorter")
    fps = fps or own_fps
    joints = checked_joints(resample(joints, own_fps, fps, name), load_skeleton("humanml"), name, told)
    report_warnings(name, told, warnings)
    return joints, fps


def report_warnings(name: str, found: list[str], warnings: list[str] | None) -> None:
    """Hands lines about a file to a caller who collects them, and to the log where nobody does."""
    if warnings is not None:
        warnings += found
        return
    for line in found:
        log.warning("%s: %s", name, line)


def _joints_of_bvh(clip: SourceClip, name: str, mapping: Mapping | None, told: list[str]) -> tuple[np.ndarray, float]:
    """Joints of ours at the clip's frame rate, and that rate."""
    bvh = read_bvh(clip.data, name=name)
    told += bvh.warnings
    if mapping is None and clip.mapping is not None:
        mapping = load_mapping(clip.mapping)
    if mapping is None:
        mapping = fitting_mapping(bvh)
        if note := rate_note(mapping, bvh):
            told.append(note)
    return retarget(bvh, mapping, first_frame=clip.first_frame or None), clip.fps or mapping.fps or bvh.fps


def rate_note(mapping: Mapping, bvh: BvhClip) -> str:
    """A line where the mapping says another frame rate than the file, else ''."""
    if not mapping.fps or abs(mapping.fps / bvh.fps - 1) <= 0.01:
        return ""
    return f"read at {mapping.fps:g} fps, as mapping {mapping.name} says, although the file says {bvh.fps:g}"


def checked_joints(joints: np.ndarray, skeleton: Skeleton, name: str, warnings: list[str]) -> np.ndarray:
    """Joints (T, J, 3) in metres of a person, each bone with a length; adds to the warnings what looks wrong.

    Joints beyond the skeleton's are left out. FileError where there are too few, one is not finite, or bones are not a
    person's.
    """
    if joints.shape[1] < skeleton.num_joints:
        raise FileError(f"{name}: {joints.shape[1]} joints, expected the {skeleton.num_joints} of {skeleton.name}")
    joints = joints[:, : skeleton.num_joints]
    require_near(joints, name)
    if problem := bone_problem(joints, skeleton):
        raise FileError(f"{name}: {problem}")
    warnings += [line for problem in (orientation_problem, root_problem) if (line := problem(joints, skeleton))]
    try:
        joints, missing = with_all_bones(joints, skeleton)
    except FileError as error:
        raise FileError(f"{name}: {error}") from None
    if missing:
        warnings.append(f"bones without length point as on a resting body: {', '.join(missing)}")
    return joints
