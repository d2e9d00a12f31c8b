"""Joints of one or more people in one world <-> 262 columns a person: positions, velocities, rotations, contacts.

Positions and velocities (metres a frame) are those of the world in which person 1 starts at the origin and faces +Z, so that
nothing is integrated on the way back: joints are the first 66 columns. Rotations say how each bone turns against the one before
it; where the root faces is in the positions alone. Liang et al. 2024 (InterGen), process_motion_np.

InterHuman writes the first two columns of a rotation matrix row by row (r00, r01, r10, r11, r20, r21), HumanML3D one column after
the other (r00, r10, r20, r01, r11, r21). Features of one person with heading `published` are HumanML3D's, as the released prior
was trained on them; all others are written row by row.
"""

import math
from collections.abc import Callable, Sequence
from typing import Literal, NamedTuple

import numpy as np
import torch
from torch import Tensor

from data_loaders import headings, humanml_features
from data_loaders.bone_rotations import local_sixd, skeleton_tensors, unit_bones
from data_loaders.features import Features, FeaturesMismatch, humanml_blocks, interhuman_blocks
from data_loaders.skeleton import Heading, Skeleton, check_heading

Floor = Literal["person", "shared", "kept"]  # whose lowest joint is at height 0: each person's, anybody's, or nothing is moved
SUNK = 0.05  # share of frames that may lie below our floor: feet that markers drive into the ground for a moment lift nobody
NEARLY_ZERO = 1e-12
CONTACT_STEP = 0.001  # squared metres to the next frame, whatever the frame rate
CONTACT_HEIGHTS = (0.12, 0.05, 0.12, 0.05)  # metres: ankle and toe, left and right
TO_ROWS = (0, 3, 1, 4, 2, 5)  # 6D column by column -> row by row
MIRROR_BY_ROW = (1.0, -1.0, -1.0, 1.0, -1.0, 1.0)  # what has one index of x changes its sign
MIRROR_BY_COLUMN = (1.0, -1.0, -1.0, -1.0, 1.0, 1.0)
RELEASED_ROTATIONS = slice(133, 259)  # of the 263 columns: what the released converter took for rotations


class Placement(NamedTuple):
    """Where a body stands in a frame and where it faces: pelvis on the floor (..., 3), unit complex z + i x (...)."""

    origin: Tensor
    facing: Tensor


def placement(joints: Tensor, skeleton: Skeleton) -> Placement:
    """Of the first frame of joints (..., T, J, 3). By the hips alone; a body whose hips do not tell faces +Z."""
    first = joints[..., 0, :, :]
    right, left = skeleton.face_joints[:2]
    across = first[..., right, :] - first[..., left, :]
    forward = torch.complex(-across[..., 0], across[..., 2])  # Y x across
    length = forward.abs()
    facing = torch.where(length > NEARLY_ZERO, forward / length.clamp_min(NEARLY_ZERO), 1.0)
    return Placement(first[..., 0, :] * first.new_tensor((1.0, 0.0, 1.0)), facing)


def canonicalise(joints: Tensor, skeleton: Skeleton, floor: Floor = "person", sunk: float = 0.0) -> Tensor:
    """Joints (P, T, J, 3) in metres, Y up, moved into the frame in which person 1 starts at the origin facing +Z; (T, J, 3) too.

    floor: `person` is the published one, which takes relative heights off; `shared` keeps them. sunk: the share of frames whose
    lowest joint may lie below it; published is 0.
    """
    people = joints if joints.ndim == 4 else joints[None]
    start = placement(people[0], skeleton)
    moved = headings.turn((people - start.origin).transpose(-1, -2), start.facing).transpose(-1, -2)  # (P, T, J, 3)
    if floor != "kept":
        lowest = people[..., 1].amin(-1)  # (P, T)
        lowest = lowest.amin(0, keepdim=True) if floor == "shared" else lowest
        height = lowest.quantile(sunk, dim=1, interpolation="lower") if sunk else lowest.amin(1)
        moved[..., 1] -= height[:, None, None]
    return moved.reshape(joints.shape)


def brought_back(joints: np.ndarray, start: Placement, floor: float) -> np.ndarray:
    """Joints (T, J, 3) out of the frame in which somebody starts at the origin facing +Z, back to where that one starts, with the
    floor `floor` metres high: the inverse of `canonicalise`."""
    layout = torch.from_numpy(joints).transpose(-1, -2)  # (T, 3, J)
    turned = headings.turn(layout, start.facing.conj().resolve_conj()).transpose(-1, -2)
    return (turned + start.origin + turned.new_tensor((0.0, floor, 0.0))).numpy()


def foot_contacts(joints: Tensor, skeleton: Skeleton) -> Tensor:
    """1.0 where a foot joint stays and is near the floor, (..., T-1, 4): left ankle and toe, right ankle and toe. From joints
    (..., T, J, 3) in metres; height and step are those of the earlier frame."""
    feet = joints[..., list(skeleton.feet), :]  # (..., T, 4, 3)
    step = feet.diff(dim=-3).square().sum(-1)
    low = feet[..., :-1, :, 1] < feet.new_tensor(CONTACT_HEIGHTS)
    return ((step < CONTACT_STEP) & low).to(joints.dtype)


def features_of(joints: Tensor, rotations: Tensor, skeleton: Skeleton) -> Tensor:
    """Features (..., T-1, 262) of joints (..., T, J, 3) where they are and rotations (..., >= T-1, J-1, 6)."""
    steps = joints.diff(dim=-3)
    parts = (joints[..., :-1, :, :], steps, rotations[..., : steps.shape[-3], :, :])
    return torch.cat([*(part.flatten(-2) for part in parts), foot_contacts(joints, skeleton)], dim=-1)


def features_from_clips(
    clips: Sequence[Tensor], skeleton: Skeleton, heading: Heading = "published",
    rotations: Sequence[Tensor] | None = None, floor: Floor = "person",
) -> list[Tensor]:  # fmt: skip
    """Features [(T-1, P * 262), ...] float32 of clips [(P, T, J, 3), ...], or [(T, J, 3), ...] of one person, in metres.

    The last frame has no velocity, hence T-1. rotations [(P, T, J-1, 6), ...]: as files tell them, else they are solved: as
    HumanML3D does for one person with heading `published`, else bone by bone in the body's heading of each frame, so that they
    do not depend on where a clip starts. The floor lets feet sink for a moment unless heading is `published`. Raises
    FeaturesMismatch.
    """
    check_heading(heading)
    made = []
    for number, clip in enumerate(clips):
        joints = torch.as_tensor(clip).to(torch.float32)
        if joints.ndim not in (3, 4) or joints.shape[-2:] != (skeleton.num_joints, 3) or joints.shape[-3] < 2:
            raise FeaturesMismatch(f"clip {number} has shape {tuple(joints.shape)}; {skeleton.name} needs (persons, frames, "
                                   f"{skeleton.num_joints}, 3) with at least 2 frames")  # fmt: skip
        if rotations is not None:
            turns = torch.as_tensor(rotations[number]).to(joints)
        elif joints.ndim == 3 and heading == "published":
            whole = humanml_features.features_from_joints(joints, skeleton, heading)
            turns = whole[:, humanml_blocks(skeleton.num_joints)["rot"]].unflatten(-1, (-1, 6))
        else:
            turns = solved_rotations(joints, skeleton)
        placed = canonicalise(joints, skeleton, floor, 0.0 if heading == "published" else SUNK)
        rows = features_of(placed, turns, skeleton)  # (P, T-1, 262)
        made.append(rows if rows.ndim == 2 else rows.transpose(0, 1).flatten(1))
    return made


@torch.inference_mode()
def solved_rotations(joints: Tensor, skeleton: Skeleton) -> Tensor:
    """6D row by row (..., T, J-1, 6) of the bones of joints (..., T, J, 3), each frame in the heading of its hips and shoulders.

    Shortest arcs from the rest directions, without twist (data_loaders/bone_rotations.py).
    """
    shape = joints.shape[:-2]
    layout = joints.flatten(0, -3).permute(1, 2, 0)  # (J, 3, N)
    forward = headings.forward_directions(layout, skeleton, swapped_hips=False)
    facing = headings.unit_headings(forward, torch.arange(0, len(forward), shape[-1], device=joints.device))
    directions, _ = unit_bones(layout, skeleton_tensors(skeleton, joints.device))
    turns = local_sixd(headings.turn(directions, facing), torch.ones_like(facing), skeleton)  # (J-1, 6, N)
    return turns[:, list(TO_ROWS)].permute(2, 0, 1).reshape(*shape, skeleton.num_joints - 1, 6)


def features_of_joints(joints: Tensor, skeleton: Skeleton) -> Tensor:
    """Features (..., T, 262) of each person's joints (..., T+1, J, 3) where they are, rotations solved."""
    return features_of(joints, solved_rotations(joints, skeleton), skeleton)


def features_from_humanml3d(
    joints: Tensor, features: Tensor, skeleton: Skeleton, rotations: Literal["corrected", "released"] = "corrected"
) -> Tensor:
    """Features (T-2, 262) of HumanML3D's joints (T, 22, 3) and features (T-1, 263), as the individual prior of in2IN was trained.

    The joints' last frame is left out, as it has no features. `released`: the columns that the released converter took for
    rotations, 133:259; the statistics published with the prior are those of 67:193, the rotations.
    """
    columns = RELEASED_ROTATIONS if rotations == "released" else humanml_blocks(skeleton.num_joints)["rot"]
    frames = len(features)
    turns = features[:, columns].unflatten(-1, (-1, 6))
    return features_from_clips([joints[:frames]], skeleton, rotations=[turns])[0]


def joints_from_features(features: Tensor, skeleton: Skeleton) -> Tensor:
    """Joints (..., T, J, 3) in metres from features (..., T, >= 66) of each person. Differentiable."""
    dtype = features.dtype if features.dtype in (torch.float32, torch.float64) else torch.float32
    positions = interhuman_blocks(skeleton.num_joints)["positions"]
    return features[..., positions].to(dtype).unflatten(-1, (-1, 3))


# --------------------------------------------------------------------- clips made of clips, from rows (T, persons * width) alone


def of_persons(x: Tensor, features: Features) -> Tensor:
    """Rows (T, persons * width) as (P, T, width)."""
    return x.unflatten(-1, (features.persons, -1)).transpose(0, 1)


def of_all(people: Tensor) -> Tensor:
    """Rows (P, T, width) as (T, P * width)."""
    return people.transpose(0, 1).flatten(1)


def all_joints(x: Tensor, features: Features) -> Tensor:
    """Joints (P, T+1, J, 3) that rows (T, persons * width) were made of: the last row tells the frame after it too."""
    people = of_persons(x, features)
    positions, steps = (people[..., features.blocks[name]].unflatten(-1, (-1, 3)) for name in ("positions", "velocities"))
    return torch.cat([positions, positions[:, -1:] + steps[:, -1:]], dim=1)


def about_pelvis(x: Tensor, features: Features) -> Tensor:
    """Rows (..., C) of one person each, at least the places, with x and z of places and velocities told from the own pelvis,
    whose own stay as they are."""
    return _about_pelvis(x, features, -1.0)


def in_world(x: Tensor, features: Features) -> Tensor:
    """The inverse of `about_pelvis`."""
    return _about_pelvis(x, features, 1.0)


def _about_pelvis(x: Tensor, features: Features, sign: float) -> Tensor:
    rows = x.clone()
    for name in ("positions", "velocities"):
        if features.blocks[name].stop <= rows.shape[-1]:
            vectors = rows[..., features.blocks[name]].unflatten(-1, (-1, 3))  # a view
            vectors[..., 1:, ::2] += sign * vectors[..., :1, ::2]
    return rows


def from_start(x: Tensor, features: Features, floor: Floor = "kept") -> Tensor:
    """Rows (T, persons * width) of a window as those of a clip of its own: person 1 starts at the origin and faces +Z."""
    rotations = of_persons(x, features)[..., features.blocks["rot"]].unflatten(-1, (-1, 6))
    return of_all(features_of(canonicalise(all_joints(x, features), features.body, floor), rotations, features.body))


def moved(x: Tensor, features: Features, angle: float, place: tuple[float, float]) -> Tensor:
    """Rows (T, persons * width) of everybody turned about the origin by an angle (radians, +Z towards +X), then moved by x, z in
    metres."""
    rotations = of_persons(x, features)[..., features.blocks["rot"]].unflatten(-1, (-1, 6))
    facing = torch.complex(*torch.tensor((math.cos(angle), -math.sin(angle)), dtype=torch.float32))
    joints = headings.turn(all_joints(x, features).transpose(-1, -2), facing).transpose(-1, -2).clone()  # (P, T+1, J, 3)
    joints += joints.new_tensor((place[0], 0.0, place[1]))
    return of_all(features_of(joints, rotations, features.body))


def exchanged(x: Tensor, features: Features) -> Tensor:
    """Rows (T, persons * width) with the people in the opposite order, where they are."""
    return of_all(of_persons(x, features).flip(0))


def seen_from(people: Tensor, start: Placement, features: Features) -> Tensor:
    """Rows (B, T, width) of one person each in the frame in which what stands at `start` (B) stands at the origin facing +Z."""
    return _turned_and_moved(people, features, start.facing, lambda places: places - start.origin[:, None, None], first=True)


def back_from(people: Tensor, start: Placement, features: Features) -> Tensor:
    """The inverse of `seen_from`."""
    facing = start.facing.conj().resolve_conj()
    return _turned_and_moved(people, features, facing, lambda places: places + start.origin[:, None, None], first=False)


def _turned_and_moved(
    people: Tensor, features: Features, facing: Tensor, move: Callable[[Tensor], Tensor], first: bool
) -> Tensor:
    """Rows (B, T, width) turned by facing (B,) and moved, first or last."""
    blocks, made = features.blocks, people.clone()

    def turn(vectors: Tensor) -> Tensor:  # (B, T, J, 3)
        return headings.turn(vectors.permute(1, 2, 3, 0), facing).permute(3, 0, 1, 2)

    places, steps = (people[..., blocks[name]].unflatten(-1, (-1, 3)) for name in ("positions", "velocities"))
    places = turn(move(places)) if first else move(turn(places))
    made[..., blocks["positions"]], made[..., blocks["velocities"]] = places.flatten(-2), turn(steps).flatten(-2)
    return made


def told_by_then(people: Tensor, features: Features) -> Tensor:
    """Rows (B, T, width) of one person each as they are known at their own frames: velocities and contacts, which tell of the
    step to the next frame, are those of the step before; nothing moves before the first."""
    blocks, made = features.blocks, people.clone()
    joints = people[..., blocks["positions"]].unflatten(-1, (-1, 3))
    joints = torch.cat([joints[:, :1], joints], dim=1)  # (B, T + 1, J, 3)
    made[..., blocks["velocities"]] = joints.diff(dim=1).flatten(-2)
    made[..., blocks["contact"]] = foot_contacts(joints, features.body)
    return made


def mirrored(x: Tensor, features: Features) -> Tensor:
    """Rows (T, persons * width) of everybody's mirror image: x negated, left and right exchanged."""
    body, people = features.body, of_persons(x, features)
    order = list(range(body.num_joints))
    for left, right in zip(body.left_joints, body.right_joints):
        order[left], order[right] = right, left
    by_column = features.persons == 1 and features.heading == "published"
    signs = {"positions": (-1.0, 1.0, 1.0), "velocities": (-1.0, 1.0, 1.0), "contact": (1.0, 1.0),
             "rot": MIRROR_BY_COLUMN if by_column else MIRROR_BY_ROW}  # fmt: skip
    orders = {"positions": order, "velocities": order, "contact": [1, 0], "rot": [joint - 1 for joint in order[1:]]}
    parts = []
    for name, columns in features.blocks.items():
        sign = people.new_tensor(signs[name])
        parts.append((people[..., columns].unflatten(-1, (-1, len(sign)))[..., orders[name], :] * sign).flatten(-2))
    return of_all(torch.cat(parts, dim=-1))
