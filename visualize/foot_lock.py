"""Feet that rest stay where they are: contacts, the smallest and smoothest correction that stills them, legs bent to it.

Generated feet slide a few centimetres while they stand. What moves them back is found for a whole clip at once, as the least
of a sum of squares: planted feet do not move, the foot keeps its direction, feet keep their place about the body, the body its
path, knees their bend, and no correction jerks. It fades in and out by itself, and takes the body along where both feet slide
with it. Then knees are put where hips and ankles need them. Bones of generated legs waver in length, and go on to: where a leg is
nearly straight, a knee moves six millimetres for each that it is longer, and would shake with bones of one length.
"""

from collections.abc import Iterable
from dataclasses import replace
from itertools import pairwise

import numpy as np

from data_loaders.corpus import Motion
from data_loaders.interhuman_features import CONTACT_HEIGHTS
from data_loaders.kinematics import contacts
from data_loaders.skeleton import Skeleton, load_skeleton
from visualize.two_bones import bend_limb, natural_reach, unit

SHORTEST_CLIP = 4  # frames that a third difference takes
FLOOR_SHARE = 0.05  # of the frames may have all feet below what is taken for the floor
LEAVING = 0.3  # metres per second: a foot in contact of that speed comes or leaves and is not held; half as fast half as much
HOLD = 100.0  # weight of the speed of a planted foot, in metres a 20th of a second; all weights are per frame
STIFF = 0.1  # of a foot that turns
NEAR = 3e-3  # of a foot that leaves its place about the body
STAY = 1e-2  # of a body that leaves its path
FADE = 0.12  # seconds in which a foot's correction fades
DRIFT = 0.1  # seconds in which the body's does
KNEE = 0.1  # of a knee that comes to bend more or less


def lock_feet(motion: Motion) -> Motion:
    """The motion with its planted feet held, for any number of persons, without rotations, which it had for other joints.

    A clip of fewer than 4 frames is left as it is.
    """
    skeleton = load_skeleton(motion.skeleton)
    if motion.joints.shape[1] < SHORTEST_CLIP:
        return motion
    feet = motion.joints[:, :, list(skeleton.feet), 1].min(axis=2)  # (P, T)
    floor = float(np.quantile(feet, FLOOR_SHARE))
    held = [hold_feet(joints, motion.fps, skeleton, floor) for joints in motion.joints]
    return replace(motion, joints=np.stack(held).astype(motion.joints.dtype), rotations=None)


def hold_feet(joints: np.ndarray, fps: float, skeleton: Skeleton, floor: float = 0.0) -> np.ndarray:
    """Joints (T, J, 3) in metres, Y up, of one person, T >= 4, whose planted feet stay; floor: its height."""
    joints = np.asarray(joints, np.float64)
    legs = [next(chain for chain in skeleton.chains if foot in chain)[1:] for foot in skeleton.feet[::2]]
    body, feet = _corrections(joints, planted(joints, fps, skeleton, floor), fps, skeleton, legs)
    low = joints[:, list(skeleton.feet), 1]
    feet[..., 1] = np.maximum(feet[..., 1], np.minimum(floor - low, 0))  # nothing is pushed into the ground
    moved = joints + body[:, None]
    for side, leg in zip((0, 2), legs):
        _place_leg(joints, moved, leg, skeleton.feet[side : side + 2], feet[:, side : side + 2], floor)
    return moved


def planted(joints: np.ndarray, fps: float, skeleton: Skeleton, floor: float = 0.0) -> np.ndarray:
    """How surely ankles and toes rest from a frame to the next, (T-1, 4) from 0 to 1: contacts near the floor, the slower the
    surer. Contacts are HumanML3D's for every skeleton: KIT's published threshold, 0.2 mm a frame, finds none."""
    feet = joints[:, list(skeleton.feet)]  # (T, 4, 3)
    low = feet[..., 1] - floor < CONTACT_HEIGHTS
    speed = np.linalg.norm(np.diff(feet, axis=0), axis=-1) * fps
    usual = load_skeleton("humanml")
    told = replace(skeleton, metres_per_unit=1.0, contact_threshold=usual.contact_threshold, contact_fps=usual.contact_fps)
    return contacts(joints, fps, told) * (low[1:] & low[:-1]) * np.maximum(1 - (speed / LEAVING) ** 2, 0) ** 2  # Tukey's biweight


def resting_speed(made: Iterable[np.ndarray], cleaned: Iterable[np.ndarray], fps: float, skeleton: Skeleton) -> float | None:
    """Metres per second at which feet move in motions [(T, J, 3)] while those of the same motions as they were made rest
    (`planted`); None where none ever does."""
    way = weight = 0.0
    for before, after in zip(made, cleaned, strict=True):
        feet = np.asarray(after, np.float64)[:, list(skeleton.feet)]
        resting = planted(np.asarray(before, np.float64), fps, skeleton)
        way += float((resting * np.linalg.norm(np.diff(feet, axis=0), axis=-1)).sum()) * fps
        weight += float(resting.sum())
    return way / weight if weight else None


def _corrections(
    joints: np.ndarray, weight: np.ndarray, fps: float, skeleton: Skeleton, legs: list[tuple[int, ...]]
) -> tuple[np.ndarray, np.ndarray]:
    """What moves the body (T, 3) and its feet (T, 4, 3): unknowns of one system of linear equations, which couples few frames."""
    from scipy import sparse
    from scipy.sparse.linalg import spsolve

    frames, feet = len(joints), joints[:, list(skeleton.feet)]
    one = sparse.eye_array(frames)
    step = sparse.diags_array([-1.0, 1.0], offsets=[0, 1], shape=(frames - 1, frames))
    third = sparse.diags_array([-1.0, 3.0, -3.0, 1.0], offsets=[0, 1, 2, 3], shape=(frames - 3, frames))
    calm = third.T @ third
    hold = [HOLD * (fps / 20) ** 2 * step.T @ sparse.diags_array(each) @ step for each in weight.T]
    blocks = [[None] * 5 for _ in range(5)]  # the body, then the feet
    blocks[0][0] = (4 * NEAR + STAY) * one + STAY * (DRIFT * fps) ** 6 * calm
    for foot in range(4):
        mate = foot ^ 1  # the toe of an ankle, the ankle of a toe
        blocks[1 + foot][1 + foot] = hold[foot] + (STIFF + NEAR) * one + NEAR * (FADE * fps) ** 6 * calm
        blocks[1 + foot][1 + mate] = -STIFF * one
        blocks[0][1 + foot] = blocks[1 + foot][0] = -NEAR * one
    matrix = sparse.kron(sparse.block_array(blocks), sparse.eye_array(3))
    right = np.concatenate([np.zeros((frames, 3)), *(-(hold[foot] @ feet[:, foot]) for foot in range(4))]).ravel()
    for (hip, knee, ankle, *_), foot in zip(legs, (0, 2)):
        _, stiffness = natural_reach(joints[:, [hip, knee, ankle]], _bones(joints, (hip, knee, ankle)))
        line = joints[:, ankle] - joints[:, hip]
        along = sparse.csr_array((unit(line).ravel(), np.arange(3 * frames), np.arange(0, 3 * frames + 1, 3)))
        parts = [-along, *(along if part == foot else sparse.csr_array(along.shape) for part in range(4))]
        row = sparse.hstack(parts)  # how much farther the hip is from the ankle, (T, 15 T)
        matrix = matrix + row.T @ sparse.diags_array(KNEE * stiffness) @ row
    found = spsolve(sparse.csc_array(matrix), right).reshape(5, frames, 3)
    return found[0], found[1:].transpose(1, 0, 2)


def _bones(joints: np.ndarray, chain: tuple[int, ...]) -> tuple[np.ndarray, ...]:
    """Length (T,) of each bone of a chain of joints (T, J, 3)."""
    return tuple(np.linalg.norm(joints[:, b] - joints[:, a], axis=-1) for a, b in pairwise(chain))


def _place_leg(
    joints: np.ndarray, moved: np.ndarray, leg: tuple[int, ...], feet: tuple[int, int], corrections: np.ndarray, floor: float
) -> None:
    """Moves a leg (hip, knee, ankle, foot joints) of `moved` (T, J, 3): its ankle to where the first of `feet` is moved by the
    corrections (T, 2, 3), as far as it reaches, its toe to where the second is; bones as long as in `joints`."""
    hip, knee, ankle, *below = leg
    upper, lower, *rest = _bones(joints, leg)
    wanted = {joint: joints[:, joint] + corrections[:, int(joint == feet[1])] for joint in (ankle, *below)}
    toes = joints[:, feet[1]] - joints[:, ankle]
    moved[:, knee], moved[:, ankle] = bend_limb(joints[:, [hip, knee, ankle]], moved[:, hip], wanted[ankle], (upper, lower), toes)
    for (before, joint), length in zip(pairwise((ankle, *below)), rest):
        bone = length[:, None] * unit(wanted[joint] - moved[:, before])
        lowest = np.minimum(joints[:, joint, 1], floor) - moved[:, before, 1]
        moved[:, joint] = moved[:, before] + _raised(bone, lowest, length)


def _raised(bones: np.ndarray, lowest: np.ndarray, length: np.ndarray) -> np.ndarray:
    """Bones (T, 3) of these lengths (T,), turned upwards where they end below `lowest` (T,)."""
    height = np.maximum(bones[:, 1], np.minimum(lowest, length))
    level = unit(bones * [1.0, 0.0, 1.0]) * np.sqrt(np.maximum(length**2 - height**2, 0))[:, None]
    return np.where((bones[:, 1] < lowest)[:, None], level + height[:, None] * [0.0, 1.0, 0.0], bones)
