"""What can be wrong with joints that enter: bones no person has, axes and sides exchanged, a root that does not travel."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from data_loaders.missing_bones import SHORTEST, bone_vectors

if TYPE_CHECKING:
    from data_loaders.skeleton import Skeleton

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
