"""Motion capture of any skeleton -> joints (T, J, 3) of ours, in metres, +Y up, facing +Z at zero heading, left = +X.

A mapping file (TOML or JSON, see data_loaders/mappings) says how: which source joints make each target joint, the
scale, the axes, the floor. `retarget` moves joints only; uniform bone lengths come later, from the features (which keep
bone directions and use the skeleton's lengths).
"""

from __future__ import annotations

import io
import logging
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

import numpy as np

from data_loaders.bvh import BvhClip, MocapError, read_bvh
from data_loaders.joint_mapping import AXES, Mapping, fitting_mapping, load_mapping, nearest
from data_loaders.smpl_body import AmassClip, published_stride, read_amass_npz

if TYPE_CHECKING:
    from data_loaders.skeleton import Skeleton
    from data_loaders.sources import SourceClip

__all__ = [
    "AmassClip", "BvhClip", "Mapping", "MocapError", "load_mapping", "nearest", "orientation_problem",
    "published_stride", "read_amass_npz", "read_bvh", "read_joints", "read_joints_npy", "resample", "retarget",
]  # fmt: skip

log = logging.getLogger(__name__)

# ------------------------------------------------------------------------------------------------------- retargeting


def retarget(
    clip: BvhClip, mapping: Mapping, skeleton: str | None = None, first_frame: int | None = None
) -> np.ndarray:
    """Joints (T, J, 3) float64 of our skeleton in metres, +Y up, at the clip's own frame rate.

    skeleton and first_frame override the mapping's. World position and heading are kept (two people captured together
    stay together); only "lowest" moves the floor. Raises MocapError for a joint that the clip does not have.
    """
    from data_loaders.skeleton import load_skeleton

    target = load_skeleton(skeleton or mapping.skeleton)
    start = mapping.first_frame if first_frame is None else first_frame
    if not 0 <= start < len(clip.joints):
        raise MocapError(f"{clip.name}: the motion should start at frame {start}, the file has {len(clip.joints)}")
    weights = _weight_matrix(clip, mapping, target.joint_names)  # (J, source joints)
    joints = np.einsum("js,tsc->tjc", weights, clip.joints[start:], optimize=True) @ _axes(mapping).T  # (T, J, 3)
    if mapping.scale == "leg_length":
        joints *= _leg_length_scale(joints, target, clip.name)
    else:
        joints *= float(mapping.scale)
    if mapping.floor == "lowest":
        joints[..., 1] -= joints[..., 1].min()
    elif mapping.floor != "keep":
        joints[..., 1] -= float(mapping.floor)
    problem = orientation_problem(joints, target)
    if problem:
        log.warning("%s with mapping %s: %s", clip.name, mapping.name, problem)
    return joints


def orientation_problem(joints: np.ndarray, skeleton: Skeleton) -> str | None:
    """What looks wrong with the axes or sides of joints (T, J, 3), None for a person who stands and walks.

    A hint for whoever writes a mapping, not a proof: handstands and people lying down are odd too.
    """
    right_hip, left_hip, right_shoulder, left_shoulder = (joints[:, joint] for joint in skeleton.face_joints)
    trunk = right_shoulder + left_shoulder - right_hip - left_hip  # (T, 3)
    upright = trunk[:, 1] / np.maximum(np.linalg.norm(trunk, axis=-1), 1e-9)
    if np.median(upright) < 0.3:
        state = "upside down" if np.median(upright) < -0.3 else "lying"
        return f"the body is {state} in most frames; check the up axis"
    facing = np.cross(left_shoulder - right_shoulder + left_hip - right_hip, trunk)
    knee, ankle = skeleton.leg_joints
    bend = joints[:, knee] - 0.5 * (joints[:, skeleton.parents[knee]] + joints[:, ankle])  # knees bend to the front
    toes = sum(joints[:, toe] - joints[:, heel] for heel, toe in (skeleton.left_feet, skeleton.right_feet))
    if np.einsum("tc,tc->t", facing, toes + 2 * bend).mean() < 0:
        return "knees and toes point backwards; check left and right, and the handedness of the axes"
    return None


def _weight_matrix(clip: BvhClip, mapping: Mapping, targets: Iterable[str]) -> np.ndarray:
    index = {name: position for position, name in enumerate(clip.names)}
    targets = list(targets)
    weights = np.zeros((len(targets), len(clip.names)))
    for row, target in enumerate(targets):
        if target not in mapping.joints:
            raise MocapError(f"mapping {mapping.name}: no entry for joint {target!r}{nearest(target, mapping.joints)}")
        for source, weight in mapping.joints[target].items():
            if source not in index:
                raise MocapError(
                    f"{clip.name}: no joint {source!r}, which mapping {mapping.name} needs for {target}"
                    f"{nearest(source, index)}; the file has {len(index)} joints: {_shortened(index)}"
                )
            weights[row, index[source]] += weight
    return weights


def _shortened(names: Iterable[str], limit: int = 200) -> str:
    text = ", ".join(names)
    return text if len(text) <= limit else text[:limit].rsplit(",", 1)[0] + ", …"


def _axes(mapping: Mapping) -> np.ndarray:
    """(3, 3) matrix whose rows are our X (left), Y (up), Z (forward) in source axes; a reflection if left-handed."""
    up, forward = np.zeros(3), np.zeros(3)
    for vector, axis in ((up, mapping.up), (forward, mapping.forward)):
        index, sign = AXES[axis]
        vector[index] = sign
    left = np.cross(up, forward)
    return np.stack([left if mapping.handedness == "right" else -left, up, forward])


def _leg_length_scale(joints: np.ndarray, target: Skeleton, name: str) -> float:
    """Target over source leg length (median over frames, mean over the joints named as legs)."""
    if target.bone_lengths is None:
        raise MocapError(f"skeleton {target.name} has no bone lengths: give the mapping a scale in metres per unit")
    legs = list(target.leg_joints)
    parents = [target.parents[joint] for joint in legs]
    source = np.median(np.linalg.norm(joints[:, legs] - joints[:, parents], axis=-1), axis=0).sum()
    if source <= 0:
        raise MocapError(f"{name}: legs have no length, cannot scale to a leg length; give the mapping a scale")
    return float(np.asarray(target.bone_lengths)[legs].sum() * target.metres_per_unit / source)


# -------------------------------------------------------------------------------------------------- time, plain arrays


def resample(joints: np.ndarray, source_fps: float, target_fps: float) -> np.ndarray:
    """Joints (T, ...) at source_fps -> (T', ...) at target_fps over the same time: T' = floor((T-1) target/source) + 1.

    Cubic spline through every frame. From 30 to 20 fps every second new frame falls between two old ones; there
    straight lines cut arcs short. CMU takes at 120 fps, thinned to 30 and brought to 20, against every sixth of their
    own frames: mean error 1.5 mm linear, 1.1 mm spline; jerk 0.93 of the truth linear, 1.00 spline; forearm length
    wavers 0.9 mm linear, 0.16 mm spline. Whole ratios (120 to 20) hit source frames and equal a stride.
    """
    for fps in (source_fps, target_fps):
        if not 0.1 <= fps <= 10_000:  # NaN too; beyond, a slip would fill the memory
            raise MocapError(f"a frame rate of {fps:g} per second; expected 0.1 to 10000")
    joints = np.asarray(joints)
    ratio = source_fps / target_fps
    count = int(np.floor((len(joints) - 1) / ratio + 1e-6)) + 1
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
    path = name or (str(source) if isinstance(source, (str, Path)) else "joints .npy")
    try:
        joints = np.load(io.BytesIO(source) if isinstance(source, bytes) else source, allow_pickle=False)
    except FileNotFoundError:
        raise MocapError(f"{path}: no such file") from None
    except (ValueError, EOFError, OSError) as error:
        reason = str(error).partition(". ")[0]  # what follows may advise to unpickle it
        raise MocapError(f"{path}: not a readable .npy array of joints (T, J, 3): {reason}") from None
    expected = f"(T, {num_joints or 'J'}, 3)"
    if not isinstance(joints, np.ndarray) or joints.ndim != 3 or joints.shape[2] != 3 or 0 in joints.shape:
        raise MocapError(f"{path}: shape {getattr(joints, 'shape', 'unknown')}, expected joints {expected} in metres")
    if num_joints is not None and joints.shape[1] != num_joints:
        raise MocapError(f"{path}: {joints.shape[1]} joints, expected {expected}")
    if joints.dtype.kind not in "fiu":
        raise MocapError(f"{path}: dtype {joints.dtype}, expected numbers")
    bad = ~np.isfinite(joints)
    if bad.any():
        frame, joint, _ = np.argwhere(bad)[0]
        raise MocapError(f"{path}: NaN or infinity in frame {frame}, joint {joint}; expected finite numbers")
    return joints.astype(np.float32, copy=False)


def read_joints(
    clip: SourceClip,
    fps: float,
    body_model: Path | None = None,
    mapping: Mapping | None = None,
    published: bool = False,
) -> np.ndarray:
    """Joints (T, 22, 3) in metres at `fps` of one raw recording of any kind (bvh, amass, joints).

    mapping: already loaded, else the clip's, else the shipped one that fits a BVH file's joint names. published: AMASS frames
    by integer stride as HumanML3D took them, which keeps another frame rate where the ratio is not whole; otherwise everything
    is interpolated.
    """
    name = str(clip.data) if isinstance(clip.data, Path) else clip.name
    if clip.kind == "bvh":
        bvh = read_bvh(clip.data, name=name)
        if mapping is None:
            mapping = fitting_mapping(bvh) if clip.mapping is None else load_mapping(clip.mapping)
        joints, source_fps = retarget(bvh, mapping, first_frame=clip.first_frame or None), mapping.source_fps(bvh)
    elif clip.kind == "amass":
        amass = read_amass_npz(clip.data, body_model, name=name)
        if published:
            return published_stride(amass.joints, clip.fps or amass.fps, fps)[clip.first_frame :]
        joints, source_fps = amass.joints[clip.first_frame :], amass.fps
    elif clip.kind == "joints":
        joints, source_fps = read_joints_npy(clip.data, name=name)[clip.first_frame :], fps
    else:
        raise MocapError(f"{name}: unknown kind of recording {clip.kind!r}; expected bvh, amass or joints")
    if len(joints) == 0:
        raise MocapError(f"{name}: the motion should start at frame {clip.first_frame}, but the file is shorter")
    return resample(joints, clip.fps or source_fps, fps)
