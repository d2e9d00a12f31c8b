"""What a body does in a frame, as 165 quantised values: where its joints are about the root and about one another, how far apart,
how limbs bend and point, how fast joints move. LS-ReMGM calls them quantised motion tokens.

The kinds are those of the paper, the joints, ranges and order ours: it prints neither. Joints are (..., T, J, 3) in metres, Y up,
tensors or arrays; results are tensors on their device, for all clips of a batch at once and without a loop over frames.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache

import numpy as np
import torch
from torch import Tensor

from data_loaders.skeleton import Skeleton, load_skeleton

KINDS = ("QPT", "QPRPT", "QPDT", "QLAT", "QLOT", "QJVT")  # in the order of the values
AXES = ("right", "up", "forward")  # of the body, innermost
SHORTEST = 1e-8  # metres, below which a direction is not known
FIRST_RIGHT = (-1.0, 0.0, 0.0)  # of a body that does not tell: it faces +Z
LEVELS = 512
PAIRS = (
    ("left_wrist", "right_wrist"), ("left_foot", "right_foot"), ("left_wrist", "left_foot"), ("right_wrist", "right_foot"),
    ("left_wrist", "right_foot"), ("right_wrist", "left_foot"), ("left_wrist", "head"), ("right_wrist", "head"),
    ("left_elbow", "right_elbow"), ("left_knee", "right_knee"), ("left_elbow", "left_knee"), ("right_elbow", "right_knee"),
)  # fmt: skip
BENDS = (
    ("left_shoulder", "left_elbow", "left_wrist"), ("right_shoulder", "right_elbow", "right_wrist"),
    ("left_hip", "left_knee", "left_ankle"), ("right_hip", "right_knee", "right_ankle"),
    ("left_collar", "left_shoulder", "left_elbow"), ("right_collar", "right_shoulder", "right_elbow"),
    ("pelvis", "left_hip", "left_knee"), ("pelvis", "right_hip", "right_knee"), ("spine3", "neck", "head"),
)  # fmt: skip
LIMBS = (
    ("left_shoulder", "left_elbow"), ("left_elbow", "left_wrist"), ("right_shoulder", "right_elbow"),
    ("right_elbow", "right_wrist"), ("left_hip", "left_knee"), ("left_knee", "left_ankle"), ("right_hip", "right_knee"),
    ("right_knee", "right_ankle"), ("pelvis", "neck"),
)  # fmt: skip
MOVING = ("pelvis", "left_foot", "right_foot", "head", "left_wrist", "right_wrist")


@dataclass(frozen=True)
class Scheme:
    """What is read of a body, by the names of its joints, and in how many levels.

    ranges: (lowest, highest) of each of KINDS, metres, radians, metres a second; what lies beyond has the last level. pairs: a
    vector from the first to the second. bends: the angle between two bones that follow each other, 0 where they are straight.
    across: what leads to the right side, the sum of the vectors.
    """

    levels: int = LEVELS
    ranges: tuple[tuple[float, float], ...] = (
        (-1.5, 1.5), (-2.0, 2.0), (0.0, 2.0), (0.0, math.pi), (0.0, math.pi), (-5.0, 5.0),
    )  # fmt: skip
    pairs: tuple[tuple[str, str], ...] = PAIRS
    bends: tuple[tuple[str, str, str], ...] = BENDS
    limbs: tuple[tuple[str, str], ...] = LIMBS
    moving: tuple[str, ...] = MOVING
    across: tuple[tuple[str, str], ...] = (("left_hip", "right_hip"), ("left_shoulder", "right_shoulder"))
    skeleton: str = "humanml"

    @property
    def body(self) -> Skeleton:
        """The skeleton whose joints are named."""
        return load_skeleton(self.skeleton)

    @cached_property
    def counts(self) -> dict[str, int]:
        """Values of each kind."""
        others = self.body.num_joints - 1
        return {"QPT": 3 * others, "QPRPT": 3 * len(self.pairs), "QPDT": len(self.pairs), "QLAT": len(self.bends),
                "QLOT": 3 * len(self.limbs), "QJVT": 3 * len(self.moving)}  # fmt: skip

    @property
    def width(self) -> int:
        """Values of a frame: 165."""
        return sum(self.counts.values())

    @cached_property
    def names(self) -> tuple[str, ...]:
        """Of every value: 'QPT head up', 'QPRPT left_wrist right_wrist forward', 'QLAT left_elbow', 'QLOT pelvis neck up'."""

        def along(kind: str, whats: Sequence[str]) -> list[str]:
            return [f"{kind} {what} {axis}" for what in whats for axis in AXES]

        pairs, limbs = map(" ".join, self.pairs), map(" ".join, self.limbs)
        pairs = list(pairs)
        return (
            *along("QPT", self.body.joint_names[1:]), *along("QPRPT", pairs), *(f"QPDT {pair}" for pair in pairs),
            *(f"QLAT {bend[1]}" for bend in self.bends), *along("QLOT", list(limbs)), *along("QJVT", self.moving),
        )  # fmt: skip


PUBLISHED = Scheme()


@dataclass(frozen=True)
class _Indices:
    """Joints of a scheme on a device: of all vectors that are read at once where they start and end, and those that move."""

    starts: Tensor
    ends: Tensor
    moving: Tensor
    lowest: Tensor  # (165,) of the ranges
    scale: Tensor  # (165,) levels for each unit


@lru_cache(maxsize=32)
@torch.inference_mode(False)
def _indices(scheme: Scheme, device: torch.device, dtype: torch.dtype) -> _Indices:
    body = scheme.body
    others = [(body.joint_names[0], name) for name in body.joint_names[1:]]
    first, second = ([bend[k : k + 2] for bend in scheme.bends] for k in (0, 1))
    vectors = [*others, *scheme.pairs, *first, *second, *scheme.limbs]
    starts, ends = (torch.tensor([body.index(each[k]) for each in vectors], device=device) for k in (0, 1))
    low, high = zip(*(bounds for kind, bounds in zip(KINDS, scheme.ranges) for _ in range(scheme.counts[kind])))
    lowest, highest = (torch.tensor(each, dtype=dtype, device=device) for each in (low, high))
    moving = torch.tensor([body.index(name) for name in scheme.moving], device=device)
    return _Indices(starts, ends, moving, lowest, highest - lowest)


def body_axes(joints: Tensor | np.ndarray, scheme: Scheme = PUBLISHED) -> Tensor:
    """Unit vectors (..., T, 3, 3) to the right, up and forward of the body, level with the floor, from hips and shoulders.

    A frame whose hips and shoulders do not tell keeps the axes of the one before; the first faces +Z then.
    """
    right = _right(_tensor(joints, scheme), scheme)
    up = right.new_tensor((0.0, 1.0, 0.0)).expand_as(right)
    x, y, z = right.unbind(-1)
    return torch.stack([right, up, torch.stack([z, y, -x], dim=-1)], dim=-2)  # forward = up x right


def _right(joints: Tensor, scheme: Scheme) -> Tensor:
    """(..., T, 3)."""
    index = scheme.body.index
    across = sum(joints[..., index(right), :] - joints[..., index(left), :] for left, right in scheme.across)
    across = across * across.new_tensor((1.0, 0.0, 1.0))
    length = across.norm(dim=-1, keepdim=True)
    known = length >= SHORTEST  # (..., T, 1)
    place = torch.arange(joints.shape[-3], device=joints.device)[:, None]
    latest = torch.where(known, place, -1).cummax(-2).values  # (..., T, 1): the frame that tells
    unit = torch.take_along_dim(across / length.clamp_min(SHORTEST), latest.clamp_min(0), dim=-2)
    return torch.where(latest >= 0, unit, across.new_tensor(FIRST_RIGHT))


def descriptors(joints: Tensor | np.ndarray, fps: float, scheme: Scheme = PUBLISHED) -> dict[str, Tensor]:
    """Values (..., T, count) of each kind, by name, in metres, radians and metres a second; not finite where joints are not.

    QPT: joints about the root along the body's axes; QPRPT and QPDT: pairs of joints about each other, and their distance; QLAT:
    angles of bends; QLOT: angles of limbs with each axis; QJVT: velocities since the frame before, along the axes of the frame.
    The first frame takes the step of the second, along its own axes; a single one does not move.
    """
    joints = _tensor(joints, scheme)
    indices, right = _indices(scheme, joints.device, joints.dtype), _right(joints, scheme)
    vectors = joints.index_select(-2, indices.ends) - joints.index_select(-2, indices.starts)  # (..., T, V, 3)
    bends = len(scheme.bends)
    counts = (joints.shape[-2] - 1, len(scheme.pairs), bends, bends, len(scheme.limbs))
    others, pairs, first, second, limbs = vectors.split(counts, dim=-2)
    steps = joints.index_select(-2, indices.moving).diff(dim=-3) * fps  # (..., T-1, M, 3)
    steps = torch.cat([steps[..., :1, :, :], steps], dim=-3) if steps.shape[-3] else torch.zeros_like(
        joints.index_select(-2, indices.moving))  # fmt: skip
    along_limbs = _along(_unit(limbs), right)
    return {
        "QPT": _along(others, right), "QPRPT": _along(pairs, right), "QPDT": pairs.norm(dim=-1),
        "QLAT": _angle((_unit(first) * _unit(second)).sum(-1)), "QLOT": _angle(along_limbs), "QJVT": _along(steps, right),
    }  # fmt: skip


def _along(vectors: Tensor, right: Tensor) -> Tensor:
    """Parts (..., T, 3 V) of vectors (..., T, V, 3) to the right, up and forward."""
    x, y, z = vectors.unbind(-1)
    right_x, right_z = right[..., None, 0], right[..., None, 2]
    return torch.stack([x * right_x + z * right_z, y, x * right_z - z * right_x], dim=-1).flatten(-2)


def _unit(vectors: Tensor) -> Tensor:
    return vectors / vectors.norm(dim=-1, keepdim=True).clamp_min(SHORTEST)


def _angle(cosine: Tensor) -> Tensor:
    return cosine.clamp(-1.0, 1.0).acos()


def levels(joints: Tensor | np.ndarray, fps: float, scheme: Scheme = PUBLISHED) -> Tensor:
    """Levels (..., T, 165) int32, from 0 to scheme.levels - 1, of finite joints at `fps` frames a second."""
    values = torch.cat(list(descriptors(joints, fps, scheme).values()), dim=-1)
    indices = _indices(scheme, values.device, values.dtype)
    share = (values - indices.lowest) / indices.scale
    return (share * scheme.levels).floor_().clamp_(0, scheme.levels - 1).int()


def changes(levels: Tensor) -> Tensor:
    """By how many levels (..., T, 165) each value is over that of the frame before, 0 in the first: the printed formula."""
    return torch.cat([torch.zeros_like(levels[..., :1, :]), levels.diff(dim=-2)], dim=-2)


def normalised(levels: Tensor, count: int = LEVELS, dtype: torch.dtype = torch.float32) -> Tensor:
    """The middles of levels out of so many, brought to (-1, 1): what networks read."""
    return (2 * levels.to(dtype) + 1) / count - 1


def semantics(joints: Tensor | np.ndarray, fps: float, scheme: Scheme = PUBLISHED) -> Tensor:
    """Values (..., T, 165) in (-1, 1) of joints, as networks read them, in float32 unless the joints are float64."""
    joints = _tensor(joints, scheme)
    return normalised(levels(joints, fps, scheme), scheme.levels, joints.dtype)


def _tensor(joints: Tensor | np.ndarray, scheme: Scheme) -> Tensor:
    """Joints as a tensor of float32 or float64. ValueError for other joints than the scheme's."""
    joints, expected = torch.as_tensor(joints), scheme.body.num_joints
    if joints.ndim < 3 or joints.shape[-2:] != (expected, 3) or not joints.shape[-3]:
        raise ValueError(f"joints have shape {tuple(joints.shape)}, {scheme.skeleton} has (..., frames, {expected}, 3)")
    return joints if joints.dtype == torch.float64 else joints.float()
