"""What joints say without a model: contacts, sliding, floating, jerk, bone drift.

Joints are (..., T, J, 3) in metres, Y up, as numpy arrays or torch tensors. Numpy in gives numpy (or a float) out,
torch in gives torch, differentiable. Whatever is measured on joints is measured with these functions.
"""

import functools
import math
from collections.abc import Callable, Iterable

import numpy as np
import torch
from torch import Tensor

from data_loaders.bone_rotations import bone_lengths
from data_loaders.humanml_features import foot_contacts
from data_loaders.skeleton import Skeleton

Joints = np.ndarray | Tensor
NEAR_FLOOR = 0.05  # metres: a foot joint below this counts as on the floor


def _numpy_or_torch(measure: Callable) -> Callable:
    @functools.wraps(measure)
    def wrapper(joints: Joints, *args, **kwargs):
        if isinstance(joints, Tensor):
            return measure(joints, *args, **kwargs)
        result = measure(torch.from_numpy(np.asarray(joints, np.float64)), *args, **kwargs)
        return result.item() if result.ndim == 0 else result.numpy()

    return wrapper


@_numpy_or_torch
def contacts(joints: Joints, fps: float, skeleton: Skeleton) -> Joints:
    """1.0 where a foot joint rests, (..., T-1, 4): `foot_contacts` for metres and any frame rate."""
    scale = fps / (skeleton.contact_fps * skeleton.metres_per_unit)  # its threshold is per frame of that rate, in its unit
    return foot_contacts(joints * scale, skeleton)


def _planted_steps(joints: Tensor, fps: float, skeleton: Skeleton, floor: float) -> tuple[Tensor, Tensor]:
    feet = joints[..., list(skeleton.feet), :]
    low = feet[..., 1] - floor < NEAR_FLOOR
    planted = (low[..., 1:, :] & low[..., :-1, :]).to(joints.dtype)
    horizontal = feet[..., ::2].diff(dim=-3).norm(dim=-1) * fps  # (..., T-1, 4)
    return (horizontal * planted).sum((-2, -1)), planted.sum((-2, -1))


@_numpy_or_torch
def planted_foot_speed(joints: Joints, fps: float, skeleton: Skeleton, floor: float = 0.0) -> Joints:
    """Mean horizontal speed (...) in m/s of ankles and toes over the steps in which they stay within 5 cm of the floor;
    0 where none does."""
    total, count = _planted_steps(joints, fps, skeleton, floor)
    return total / count.clamp_min(1)


@_numpy_or_torch
def planted_fraction(joints: Joints, fps: float, skeleton: Skeleton, floor: float = 0.0) -> Joints:
    """Share (...) of ankle and toe steps within 5 cm of the floor: says how much `planted_foot_speed` rests on."""
    _, count = _planted_steps(joints, fps, skeleton, floor)
    return count / max(4 * (joints.shape[-3] - 1), 1)


@_numpy_or_torch
def jerk(joints: Joints, fps: float) -> Joints:
    """Mean length of the third difference times fps³ (...) in m/s³, over joints and frames. NaN below 4 frames."""
    return joints.diff(n=3, dim=-3).norm(dim=-1).mean((-2, -1)) * fps**3


@_numpy_or_torch
def lowest_joint(joints: Joints) -> Joints:
    """Height (...) in metres of the lowest joint of the clip: above 0 it floats, below it sinks."""
    return joints[..., 1].amin((-2, -1))


@_numpy_or_torch
def bone_length_deviation(joints: Joints, skeleton: Skeleton) -> Joints:
    """Mean deviation (...) of bone lengths in %, over bones and frames, from the skeleton's own lengths, or from the
    clip's mean lengths where the skeleton has none."""
    lengths = bone_lengths(joints, skeleton)[..., 1:]  # (..., T, J-1)
    if skeleton.bone_lengths is None:
        reference = lengths.mean(-2, keepdim=True)
    else:
        reference = lengths.new_tensor(skeleton.bone_lengths[1:]) * skeleton.metres_per_unit
    return 100 * ((lengths - reference).abs() / reference).mean((-2, -1))


@_numpy_or_torch
def nan_count(joints: Joints) -> Joints:
    """Number (...) of values that are NaN or infinite."""
    return (~joints.isfinite()).sum((-3, -2, -1))


def smoothed(joints: np.ndarray, sigma: float) -> np.ndarray:
    """Joints (..., T, J, 3) smoothed over time by a Gaussian of so many frames, cut at 4 sigma, the ends repeated."""
    from scipy.ndimage import gaussian_filter1d

    return gaussian_filter1d(joints, sigma, axis=-3, mode="nearest", truncate=4.0)


def low_passed(values: np.ndarray, fps: float, cutoff: float) -> np.ndarray:
    """Values (T, ...) without what is faster than `cutoff` Hz, where half the power goes, nothing of them delayed: Butterworth's
    filter of second order there and back. Winter 2009, §3.4.4. As they are where frames are too few to show what is faster.
    """
    from scipy.signal import butter, sosfiltfilt

    if len(values) < 2 or cutoff >= fps / 2:
        return values
    once = math.tan(math.pi * cutoff / fps) / (math.sqrt(2) - 1) ** 0.25  # of one way of two, by the bilinear transform
    filtered = butter(2, math.atan(once) * fps / math.pi, fs=fps, output="sos")
    return sosfiltfilt(filtered, values, axis=0, padlen=min(round(fps), len(values) - 1))


def physics_summary(clips: Iterable, fps: float, skeleton: Skeleton, floor: float = 0.0) -> dict[str, float]:
    """Physics of many clips [(T, J, 3), ...] pooled: speeds, jerk and bone lengths weigh every frame alike, the lowest
    joint every clip. Clips with NaN enter `nan_count` only. Values are NaN where no clip is long enough to tell."""
    sums: dict[str, float] = dict.fromkeys(("slide", "planted", "steps", "jerk", "thirds", "bones", "frames"), 0.0)
    lowest, not_finite, number = [], 0, 0
    for clip in clips:
        clip = torch.as_tensor(clip).detach().to("cpu", torch.float64)
        number += 1
        broken = int(nan_count(clip))
        not_finite += broken
        if broken or not len(clip):
            continue
        slide, planted = _planted_steps(clip, fps, skeleton, floor)
        sums["slide"] += slide.item()
        sums["planted"] += planted.item()
        sums["steps"] += 4 * (len(clip) - 1)
        if len(clip) > 3:
            sums["jerk"] += jerk(clip, fps).item() * (len(clip) - 3)
            sums["thirds"] += len(clip) - 3
        sums["bones"] += bone_length_deviation(clip, skeleton).item() * len(clip)
        sums["frames"] += len(clip)
        lowest.append(lowest_joint(clip).item())
    return {
        "clips": number,
        "frames": int(sums["frames"]),
        "planted_foot_speed": _ratio(sums["slide"], sums["planted"]),
        "planted_fraction": _ratio(sums["planted"], sums["steps"]),
        "jerk": _ratio(sums["jerk"], sums["thirds"]),
        "lowest_joint": _ratio(sum(lowest), len(lowest)),
        "lowest_joint_min": min(lowest, default=float("nan")),
        "lowest_joint_max": max(lowest, default=float("nan")),
        "bone_length_deviation": _ratio(sums["bones"], sums["frames"]),
        "nan_count": not_finite,
    }


def _ratio(total: float, count: float) -> float:
    return total / count if count else float("nan")
