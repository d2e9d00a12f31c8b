"""What an edit keeps and where a motion shall end: masks over frames and feature columns, target locations.

Masks are True where the given motion is kept and False where the model fills in.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import torch
from torch import Tensor

from data_loaders.features import Features
from data_loaders.skeleton import Skeleton

EDITS = ("in_between", "upper_body", "lower_body", "root", "root_horizontal")
TARGET_JOINTS = ("pelvis", "left_foot", "right_foot", "left_wrist", "right_wrist", "head")
TARGET_ROWS = (*TARGET_JOINTS, "traj", "heading")


class EditError(ValueError):
    """An edit that this motion or skeleton does not allow."""


@dataclass(frozen=True)
class TargetLocation:
    """Where the last frame should end: values (B, 8, 3) in rows TARGET_ROWS, valid (B, 8) True = asked for.

    Joints in the features' unit; `traj` is the pelvis on the floor, its height ignored; `heading` holds radians in x.
    """

    values: Tensor
    valid: Tensor


def lower_body_joints(skeleton: Skeleton) -> list[int]:
    """Indices of root, hips, knees and feet: what lies between the root and the toes."""
    return sorted({0, *skeleton.ancestors[skeleton.left_feet[1]], *skeleton.ancestors[skeleton.right_feet[1]]})


def joint_columns(features: Features, joints: Sequence[int], *, root: bool, contacts: bool) -> Tensor:
    """Columns (D,) True of the joints: position, rotation, velocity; optionally also root and contacts."""
    blocks = features.blocks
    chosen = torch.zeros(features.body.num_joints, dtype=torch.bool)
    chosen[list(joints)] = True
    columns = torch.zeros(features.width, dtype=torch.bool)
    columns[blocks["ric"]] = chosen[1:].repeat_interleave(3)
    columns[blocks["rot"]] = chosen[1:].repeat_interleave(6)
    columns[blocks["local_velocity"]] = chosen.repeat_interleave(3)
    columns[blocks["contact"]] = contacts
    for name in ("root_yaw", "root_velocity", "root_height"):
        columns[blocks[name]] = root
    return columns


def feature_mask(edit: str, features: Features) -> Tensor:
    """Columns (D,) that an edit keeps. Tevet et al. 2023, §3 (editing).

    `lower_body` keeps root, legs and contacts; `upper_body` the complement of that; `root` the root and the pelvis'
    velocity; `root_horizontal` turning and floor velocity only.
    """
    if edit in ("lower_body", "upper_body"):
        lower = joint_columns(features, lower_body_joints(features.body), root=True, contacts=True)
        return lower if edit == "lower_body" else ~lower
    if edit == "root":
        return joint_columns(features, [0], root=True, contacts=False)
    if edit == "root_horizontal":
        columns = joint_columns(features, [], root=True, contacts=False)
        columns[features.blocks["root_height"]] = False
        return columns
    raise EditError(f"unknown edit {edit!r}: choose one of {', '.join(EDITS)}")


def in_between_mask(lengths: Tensor, frames: int, prefix_end: float = 0.25, suffix_start: float = 0.75) -> Tensor:
    """Frames (B, T) kept around a gap: False in [floor(prefix_end · length), floor(suffix_start · length))."""
    if not 0 <= prefix_end <= suffix_start <= 1:
        raise EditError(f"a gap from {prefix_end} to {suffix_start} of the motion: expected 0 <= start <= end <= 1")
    frame = torch.arange(frames)[None]  # (1, T)
    start = (lengths.double() * prefix_end).floor().long()[:, None]
    end = (lengths.double() * suffix_start).floor().long()[:, None]
    return (frame < start) | (frame >= end)


def edit_mask(edit: str, features: Features, lengths: Tensor, frames: int, *,
              prefix_end: float = 0.25, suffix_start: float = 0.75) -> Tensor:
    """Entries (B, T, D) of a motion that an edit keeps.

    `upper_body` and `lower_body` here name the part that is made anew: editing the upper body keeps the lower.
    """
    if edit == "in_between":
        kept = in_between_mask(lengths, frames, prefix_end, suffix_start)[..., None]  # (B, T, 1)
        return kept.expand(-1, -1, features.width)
    kept = {"upper_body": "lower_body", "lower_body": "upper_body"}.get(edit, edit)
    return feature_mask(kept, features).expand(len(lengths), frames, -1)


@lru_cache
def _target_joint_indices(skeleton: Skeleton) -> tuple[int, ...]:
    return tuple(skeleton.index(name) for name in TARGET_JOINTS)


def target_rows(names: Sequence[Sequence[str]], heading: Sequence[bool]) -> Tensor:
    """valid (B, 8) from each sample's joint names (`traj` included) and whether its heading is asked for."""
    unknown = {name for asked in names for name in asked} - set(TARGET_ROWS)
    if unknown:
        raise EditError(f"unknown target {', '.join(sorted(unknown))}: choose from {', '.join(TARGET_ROWS[:-1])}")
    return torch.tensor([[row in asked or (row == "heading" and bool(turned)) for row in TARGET_ROWS]
                         for asked, turned in zip(names, heading, strict=True)])


def target_location(motion: Tensor, lengths: Tensor, valid: Tensor, features: Features) -> TargetLocation:
    """The target that motion (B, T, D) in feature units reaches in its last frame; zero in rows not asked for.

    The heading is atan2 of the forward direction across hips and shoulders, 0 facing +Z. Differentiable.
    """
    skeleton = features.body
    joints = features.joints(motion) / skeleton.metres_per_unit  # (B, T, J, 3)
    last = joints[torch.arange(len(joints)), lengths - 1]  # (B, J, 3)
    right_hip, left_hip, right_shoulder, left_shoulder = skeleton.face_joints
    across = last[:, right_hip] - last[:, left_hip] + last[:, right_shoulder] - last[:, left_shoulder]  # (B, 3)
    heading = torch.atan2(across[:, 2], -across[:, 0])  # forward = Y x across
    floor = last[:, 0] * last.new_tensor((1.0, 0.0, 1.0))
    turned = torch.stack([heading, torch.zeros_like(heading), torch.zeros_like(heading)], dim=-1)
    rows = torch.cat([last[:, list(_target_joint_indices(skeleton))], floor[:, None], turned[:, None]], dim=1)
    return TargetLocation(rows * valid[..., None].to(rows.dtype), valid)
