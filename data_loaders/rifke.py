"""Rifke features of the KIT motions: 21 joints of the MMM skeleton <-> 64 columns a frame, as TEMOS reads them.

Root height, 20 joints about the root in its heading, turn per frame, root velocity in its heading. Joints are (..., T, 21, 3)
in millimetres, Y up, at 12.5 frames per second. Petrovich et al. 2022, after Holden et al. 2016.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from data_loaders.features import RIFKE
from data_loaders.skeleton import Skeleton

MMM_JOINTS = (
    "root", "BP", "BT", "BLN", "BUN", "LS", "LE", "LW", "RS", "RE", "RW",
    "LH", "LK", "LA", "LMrot", "LF", "RH", "RK", "RA", "RMrot", "RF",
)  # fmt: skip
FEET = tuple(MMM_JOINTS.index(name) for name in ("LMrot", "LF", "RMrot", "RF"))
# Meant are hips and shoulders; the published features have knees and elbows, an index off by the root that was taken out.
ACROSS = tuple((MMM_JOINTS.index(right), MMM_JOINTS.index(left)) for right, left in (("RK", "LK"), ("RE", "LE")))
FLOOR_SOFTNESS = 0.5
FPS = 12.5
EPS = 1e-12


def floor_height(joints: Tensor) -> Tensor:
    """Height (...) of the floor: a soft minimum over time of the lowest foot joint."""
    lowest = -joints[..., list(FEET), 1].amin(-1)  # (..., T)
    top, bottom = lowest.amax(-1), lowest.amin(-1)
    return -(top + torch.log(FLOOR_SOFTNESS + torch.exp(bottom - top)))


def heading(joints: Tensor) -> tuple[Tensor, Tensor]:
    """Sine and cosine (..., T) of the heading: the level direction at a right angle to the body's left-right axis."""
    across = sum(joints[..., right, :] - joints[..., left, :] for right, left in ACROSS)
    forward = torch.stack([-across[..., 2], across[..., 0]], dim=-1)  # (..., T, 2) x, z
    forward = forward / forward.norm(dim=-1, keepdim=True).clamp_min(EPS)
    return forward.unbind(-1)


def turned(level: Tensor, sine: Tensor, cosine: Tensor, *, back: bool = False) -> Tensor:
    """Level vectors (..., 2) x, z seen by a body with that heading; with `back` what such a body sees, in the world."""
    x, z = level.unbind(-1)
    sine = -sine if back else sine
    return torch.stack([x * cosine - z * sine, x * sine + z * cosine], dim=-1)


def rifke_from_joints(joints: Tensor) -> Tensor:
    """Features (..., T, 64) of joints (..., T, 21, 3). The first frame has neither turn nor velocity."""
    height = joints[..., 1] - floor_height(joints)[..., None, None]  # (..., T, J)
    level = joints[..., [0, 2]]  # (..., T, J, 2)
    root = level[..., 0, :]
    sine, cosine = heading(joints)
    angle = torch.atan2(sine, cosine)
    velocity = torch.diff(root, dim=-2, prepend=root[..., :1, :])
    about_root = turned(level[..., 1:, :] - root[..., None, :], sine[..., None], cosine[..., None])  # (..., T, J-1, 2)
    local = torch.stack([about_root[..., 0], height[..., 1:], about_root[..., 1]], dim=-1)
    turn = torch.diff(angle, dim=-1, prepend=angle[..., :1])  # jumps by a full turn where the angle does, as published
    return torch.cat([height[..., :1], local.flatten(-2), turn[..., None], turned(velocity, sine, cosine)], dim=-1)


def features_from_clips(clips: Sequence[Tensor], body: Skeleton, heading: str) -> list[Tensor]:
    """Features [(T, 64), ...] of clips [(T, 21, 3), ...]; there is one way only to take the heading."""
    return [rifke_from_joints(clip) for clip in clips]


def local_joints(features: Tensor) -> Tensor:
    """The 20 joints other than the root (..., T, 20, 3): about the root and in its heading, heights absolute."""
    return features[..., RIFKE["joints"]].unflatten(-1, (-1, 3))


def joints_from_features(features: Tensor, body: Skeleton | None = None) -> Tensor:
    """Joints (..., T, 21, 3) from features (..., T, 64): heading and place of the root start from 0."""
    turn, velocity, height = (features[..., RIFKE[name]] for name in ("turn", "velocity", "root_height"))
    angle = turn[..., 0].cumsum(-1)
    angle = angle - angle[..., :1]
    sine, cosine = angle.sin(), angle.cos()
    path = turned(velocity, sine, cosine, back=True).cumsum(-2)  # (..., T, 2)
    path = path - path[..., :1, :]
    local = local_joints(features)
    level = turned(local[..., [0, 2]], sine[..., None], cosine[..., None], back=True) + path[..., None, :]
    joints = torch.stack([level[..., 0], local[..., 1], level[..., 1]], dim=-1)  # (..., T, 20, 3)
    root = torch.stack([path[..., 0], height[..., 0], path[..., 1]], dim=-1)
    return torch.cat([root[..., None, :], joints], dim=-2)


def upsampled(motion: Tensor, factor: int) -> Tensor:
    """Motion (T, ...) with factor - 1 frames put on a straight line between every two: (factor (T - 1) + 1, ...)."""
    time = torch.arange(factor * (len(motion) - 1) + 1, dtype=torch.float64) / factor
    before = time.floor().long().clamp(max=max(len(motion) - 2, 0))
    share = (time - before).view(-1, *[1] * (motion.ndim - 1))
    after = (before + 1).clamp(max=len(motion) - 1)
    return torch.lerp(motion.double()[before], motion.double()[after], share)
