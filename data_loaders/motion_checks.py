"""Joints that enter are looked at, and a bone without length is mended.

Looked for are bones that no person has, axes and sides exchanged, a root that does not travel. Conversions of motion capture
often put two joints into one point: the collars of CMU's skeleton into the chest, a hip into the pelvis, a toe into the ankle.
Features describe bones by their directions, and the published codec points a bone without one along its rest direction in the
world's axes, so that the same walk has other features at every heading. That codec stays as published; what enters is given
the direction that the bone has in the frame of its parent before it gets there.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from protos.reading import FileError

if TYPE_CHECKING:
    from data_loaders.skeleton import Skeleton

SHORTEST = 1e-3  # metres: what is shorter points nowhere in particular
GIVEN_LENGTH = 1e-2  # metres: enough for a direction in float32, too little to be seen
NARROWEST = 1e-2  # metres between left and right, below which they do not tell the sides
# Metres. A child of two years (0.85 m) has a leg of 0.37 from hip to ankle, half of it thigh, a man of 2.5 m one of 1.2.
# Centimetres or millimetres read as metres lie outside, and so do inches read as centimetres.
LEG = (0.36, 1.4)
LEG_BONE = (0.12, 0.8)
TRUNK = (0.15, 1.3)  # pelvis to head
FEET_TRAVEL = 0.1  # metres that a foot moves about the root, and more, where somebody walks


def bone_problem(joints: np.ndarray, skeleton: Skeleton) -> str | None:
    """Why joints (T, J, 3) in metres are not those of a person, by the median lengths of their bones; None where they may be."""
    with np.errstate(over="ignore", invalid="ignore"):  # what is too long to be told is too long
        lengths = np.median(np.linalg.norm(bone_vectors(joints, skeleton), axis=-1), axis=0)  # (J,)
    if lengths.max() < SHORTEST:
        return "its bones have no length: all joints lie in one point"
    thigh, shin = skeleton.leg_joints
    sides = dict(zip(skeleton.left_joints + skeleton.right_joints, skeleton.right_joints + skeleton.left_joints))
    trunk = next(chain for chain in skeleton.chains if chain[0] == 0 and not {thigh, sides[thigh]} & set(chain))
    found = []
    for upper, lower in ((thigh, shin), (sides[thigh], sides[shin])):
        side = "left" if upper in skeleton.left_joints else "right"
        found += [(f"{side} thigh", lengths[upper], LEG_BONE), (f"{side} shin", lengths[lower], LEG_BONE)]
        found += [(f"{side} leg", lengths[upper] + lengths[lower], LEG)]
    found += [("trunk from pelvis to head", lengths[list(trunk[1:])].sum(), TRUNK)]
    for what, length, (low, high) in found:
        if not low <= length <= high:
            return f"its {what} is {length:.3g} m long, a person's {low:g} to {high:g} m: is the scale right (metres per unit)?"
    return None


def orientation_problem(joints: np.ndarray, skeleton: Skeleton) -> str | None:
    """What looks wrong with the axes or sides of joints (T, J, 3), None for a person who stands and walks.

    A hint, not a proof: handstands and people lying down are odd too.
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


def root_problem(joints: np.ndarray, skeleton: Skeleton) -> str | None:
    """A root that stays in one point to the last digit while the feet travel; None for any other motion (T, J, 3)."""
    feet = joints[:, list(skeleton.feet)] - joints[:, :1]
    if len(joints) > 1 and not np.ptp(joints[:, 0], axis=0).any() and np.ptp(feet, axis=0).max() > FEET_TRAVEL:
        return "the root stays in one point while the feet move; are its position channels missing or 0?"
    return None


def bone_vectors(joints: np.ndarray, skeleton: Skeleton) -> np.ndarray:
    """Bones (T, J, 3) that end at the joints (T, J, 3); 0 for the root."""
    return joints - joints[:, [max(parent, 0) for parent in skeleton.parents]]


def with_all_bones(joints: np.ndarray, skeleton: Skeleton) -> tuple[np.ndarray, tuple[str, ...]]:
    """Joints (T, J, 3) in metres in which no bone is shorter than 1 mm, and the names of those that were.

    Such a bone gets 1 cm along its rest direction in the frame of its parent; what hangs on it moves along, so that all other
    bones keep direction and length. Frames are made of bones that have a length: the sides of hips and shoulders, never the
    bone itself. FileError where neither hips nor shoulders are apart in any frame: nobody can tell where the body faces.
    """
    bones = bone_vectors(joints, skeleton)
    missing = np.linalg.norm(bones, axis=-1) < SHORTEST  # (T, J)
    missing[:, 0] = False
    lost = np.flatnonzero(missing.any(axis=0))
    if not len(lost):
        return joints, ()
    right_hip, left_hip, right_shoulder, left_shoulder = (joints[:, joint] for joint in skeleton.face_joints)
    hips, shoulders = left_hip - right_hip, left_shoulder - right_shoulder
    trunk = 0.5 * (left_shoulder + right_shoulder - left_hip - right_hip)
    legs_side, chest_side = _side(hips, shoulders), _side(shoulders, hips)
    for joint in lost:  # parents come before their children
        parent, rows = skeleton.parents[joint], missing[:, joint]
        leg = bool({joint, *skeleton.ancestors[joint]} & set(skeleton.face_joints[:2]))
        left = legs_side if leg else chest_side
        up = _up(left, bones[:, parent] * skeleton.raw_offsets[parent][1], trunk)  # only bones that rest upright tell
        frame = np.stack([left, up, np.cross(left, up)], axis=-1)  # (T, 3, 3), columns: left, up, ahead
        bones[rows, joint] = GIVEN_LENGTH * (frame[rows] @ _rest_direction(joint, skeleton))
    moved = np.empty_like(bones)
    moved[:, 0] = joints[:, 0]
    for joint, parent in enumerate(skeleton.parents[1:], start=1):
        moved[:, joint] = moved[:, parent] + bones[:, joint]
    return moved, tuple(skeleton.joint_names[joint] for joint in lost)


def _rest_direction(joint: int, skeleton: Skeleton) -> np.ndarray:
    """Where the bone points on a body that faces +Z; kit's file has the sides exchanged, as published."""
    x, y, z = skeleton.raw_offsets[joint]
    side = 1 if joint in skeleton.left_joints else -1 if joint in skeleton.right_joints else np.sign(x)
    return np.array([side * abs(x), y, z], dtype=float)


def _side(across: np.ndarray, otherwise: np.ndarray) -> np.ndarray:
    """Unit vectors (T, 3) to the left of the body; frames that do not tell take the nearest that does."""
    wide = np.linalg.norm(across, axis=-1, keepdims=True) > NARROWEST
    across = np.where(wide, across, otherwise)
    length = np.linalg.norm(across, axis=-1)
    known = np.flatnonzero(length > NARROWEST)
    if not len(known):
        raise FileError("left and right hip lie in one point, and so do the shoulders: where the body faces cannot be told")
    frames = np.arange(len(across))
    after = np.searchsorted(known, frames).clip(max=len(known) - 1)
    before = (after - 1).clip(min=0)
    nearest = known[np.where(np.abs(known[before] - frames) < np.abs(known[after] - frames), before, after)]
    return across[nearest] / length[nearest, None]


def _up(left: np.ndarray, bone: np.ndarray, trunk: np.ndarray) -> np.ndarray:
    """Unit vectors (T, 3) across `left`: along the bone, where it has a length, else along the trunk, else the world's up."""
    up = np.zeros_like(left)
    for vectors in (bone, trunk, np.broadcast_to([0.0, 1.0, 0.0], left.shape), np.broadcast_to([0.0, 0.0, 1.0], left.shape)):
        across = vectors - np.einsum("tc,tc->t", vectors, left)[:, None] * left
        length = np.linalg.norm(across, axis=-1)
        fresh = (length > SHORTEST) & ~up.any(axis=-1)
        up[fresh] = across[fresh] / length[fresh, None]
    return up
