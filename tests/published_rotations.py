"""The published way through rotations, which only comparisons with the originals need: joints <-> local bone rotations, and what
the steps of process_file give one by one. Guo et al. 2022, skeleton.py and motion_representation.py.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from data_loaders.bone_rotations import bone_lengths, skeleton_tensors
from data_loaders.features import FeaturesMismatch, humanml_blocks
from data_loaders.headings import Spans, forward_directions, smooth_in_time, turn, unit_headings
from data_loaders.humanml_features import (
    CanonicalClips,
    _accumulate,
    _canonical_groups,
    _on_target_body,
    _pieces,
    _precise,
)
from data_loaders.skeleton import Heading, Skeleton
from tests.rotations import qbetween, qconj, qmul, quaternion_to_matrix, sixd_to_matrix


def canonical_layout(clips: CanonicalClips) -> Tensor:
    """(J, 3, N): lowest joint at y = 0, root of frame 0 at x = z = 0, turned to face +Z."""
    joints = clips.about_root.clone()
    joints[:, 0].add_(clips.place.imag)
    joints[:, 2].add_(clips.place.real)
    return turn(joints, clips.facing)


def canonical_joints(
    clips: Sequence[Tensor], skeleton: Skeleton, heading: Heading = "published", tgt_offsets: Tensor | None = None
) -> list[Tensor]:
    """The clips [(T, J, 3), ...] as the features describe them: target body, lowest joint at y = 0, root of frame 0 at
    x = z = 0, facing +Z. With `continuous` headings decoding the features gives exactly these (but the last frame)."""
    return [
        joints[start : start + length]
        for canonical in _canonical_groups(clips, skeleton, heading, tgt_offsets)
        for joints in (canonical_layout(canonical).permute(2, 0, 1).clone(memory_format=torch.contiguous_format),)
        for start, length in _pieces(canonical.spans)
    ]


def uniform_skeleton(joints: Tensor, skeleton: Skeleton, tgt_offsets: Tensor | None = None) -> Tensor:
    """One clip (T, J, 3) on the target body, where it was and as it faced (step 1 of process_file)."""
    layout = joints.to(torch.float32).permute(1, 2, 0).contiguous()
    about_root, root, _ = _on_target_body(layout, Spans.of([len(joints)], joints.device), skeleton, tgt_offsets)
    return (about_root + root).permute(2, 0, 1)


def local_positions(clips: CanonicalClips) -> Tensor:
    """(N, J, 3) about the root's place and heading of each frame (step 7 of process_file); y stays absolute."""
    return turn(clips.about_root, clips.facing * clips.heading).permute(2, 0, 1)


def root_from_features(features: Tensor) -> tuple[Tensor, Tensor]:
    """Root rotation (..., T, 4), world to body, and root position (..., T, 3) from features (..., T, >= 4).

    Angles and places are running sums, kept in float64; results have the dtype of the features (float32 for halves).
    """
    half, place = _accumulate(features[..., :3])
    dtype = _precise(features)
    zero = torch.zeros_like(half)
    quaternion = torch.stack((half.cos(), zero, half.sin(), zero), -1)
    position = torch.stack((place[0], features[..., 3].to(place[0].dtype), place[1]), -1)
    return quaternion.to(dtype), position.to(dtype)


def joints_from_rotations(features: Tensor, skeleton: Skeleton, tgt_offsets: Tensor | None = None) -> Tensor:
    """Joints (..., T, J, 3) from the rotation columns (`recover_from_rot`), on the body `tgt_offsets` (J, 3), by
    default the skeleton's own. On generated features it disagrees with `joints_from_features`, which the field uses."""
    if tgt_offsets is None:
        if skeleton.bone_lengths is None:
            raise FeaturesMismatch(f"skeleton {skeleton.name} has no bone lengths of its own: pass tgt_offsets (J, 3)")
        tgt_offsets = torch.tensor(skeleton.raw_offsets) * torch.tensor(skeleton.bone_lengths)[:, None]
    quaternion, position = root_from_features(features)
    rot = features[..., humanml_blocks(skeleton.num_joints)["rot"]].to(quaternion.dtype)
    local = sixd_to_matrix(rot.unflatten(-1, (skeleton.num_joints - 1, 6)))
    rotations = torch.cat((quaternion_to_matrix(quaternion).unsqueeze(-3), local), -3)
    return forward_kinematics(rotations, position, tgt_offsets.to(rotations), skeleton)


def offsets_from_joints(joints: Tensor, skeleton: Skeleton) -> Tensor:
    """Rest offsets (..., J, 3): rest directions with the bone lengths of joints (..., >= J, 3)."""
    lengths = bone_lengths(joints, skeleton)
    return joints.new_tensor(skeleton.raw_offsets) * lengths[..., None]


def inverse_kinematics(joints: Tensor, skeleton: Skeleton, smooth_forward: bool = True) -> Tensor:
    """Local rotations (T, J, 4) of joints (T, J, 3) as published: hips swapped in the heading, frame 0 not rotated.

    The root rotation turns the body's heading to +Z, so it is the inverse of the heading.
    """
    spans = Spans.of([len(joints)], joints.device)
    forward = forward_directions(joints.permute(1, 2, 0), skeleton, swapped_hips=True)
    if smooth_forward:
        forward = smooth_in_time(forward, spans)
    forward = unit_headings(forward, spans.starts)
    forward = torch.stack((forward.imag, torch.zeros_like(forward.imag), forward.real), -1)
    root = qbetween(forward, forward.new_tensor((0.0, 0.0, 1.0)))  # (T, 4)
    root[0] = root.new_tensor((1.0, 0.0, 0.0, 0.0))
    bones = joints - joints[:, [max(parent, 0) for parent in skeleton.parents]]
    world = qbetween(joints.new_tensor(skeleton.raw_offsets), bones)
    world[:, 0] = root
    local = qmul(qconj(world[:, list(skeleton.rotation_parents[1:])]), world[:, 1:])
    return torch.cat((root[:, None], local), 1)


def forward_kinematics(
    rotations: Tensor, root_positions: Tensor, offsets: Tensor, skeleton: Skeleton, root_rotation: bool = True
) -> Tensor:
    """Joints (..., J, 3) from local rotation matrices (..., J, 3, 3), root (..., 3), offsets (J, 3) or (..., J, 3).

    With `root_rotation` off the chains start unrotated. Differentiable.
    """
    root = rotations[..., 0, :, :]
    if not root_rotation:
        root = torch.eye(3, dtype=root.dtype, device=root.device).expand_as(root)
    chains = sorted(skeleton.chains, key=len, reverse=True)
    world = root.unsqueeze(-3).expand(*root.shape[:-2], len(chains), 3, 3)
    levels, joints = [root.unsqueeze(-3)], [0]
    for depth in range(1, len(chains[0])):
        ends = [chain[depth] for chain in chains if len(chain) > depth]
        world = world[..., : len(ends), :, :] @ rotations[..., ends, :, :]
        levels.append(world)
        joints += ends
    order = torch.tensor(joints, device=root.device).argsort()
    bones = (torch.cat(levels, -3)[..., order, :, :] @ offsets.unsqueeze(-1)).squeeze(-1)  # (..., J, 3)
    paths = skeleton_tensors(skeleton, bones.device).paths.to(bones.dtype)
    return paths @ bones[..., 1:, :] + root_positions.unsqueeze(-2)
