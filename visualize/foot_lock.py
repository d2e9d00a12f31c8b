"""Feet that rest stay where they are: contacts, the smallest and smoothest correction that stills them, legs bent to it.

Generated feet slide a few centimetres while they stand. What moves them back is found for a whole clip at once, as the least of a
sum of squares: planted feet do not move, the foot keeps its direction, feet keep their place about the body, the body its path,
and no correction jerks. It fades in and out by itself, and takes the body along where both feet slide with it. Knees bend as far
as the new hips and ankles need; all bones keep their lengths in every frame.
"""

from dataclasses import replace

import numpy as np

from data_loaders.corpus import Motion
from data_loaders.interhuman_features import CONTACT_HEIGHTS
from data_loaders.kinematics import contacts
from data_loaders.skeleton import Skeleton, load_skeleton

SHORTEST_CLIP = 4  # frames that a third difference takes
FLOOR_SHARE = 0.05  # of the frames may have all feet below what is taken for the floor
SLOW = 0.2  # metres per second: a foot in contact of that speed may rest or leave, it is held a third as much
HOLD = 100.0  # weight of the speed of a planted foot, in metres a 20th of a second; all weights are per frame
STIFF = 0.1  # of a foot that turns
NEAR = 1e-3  # of a foot that leaves its place about the body
STAY = 3e-3  # of a body that leaves its path
FADE = 0.12  # seconds in which a foot's correction fades
DRIFT = 0.4  # seconds in which the body's does
BEND = 0.02  # metres of a knee off the straight leg, below which it bends towards the toes
REACH = 0.9995  # of the leg's length, for legs that were not straighter


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
    body, feet = _corrections(joints, planted(joints, fps, skeleton, floor), fps, skeleton)
    low = joints[:, list(skeleton.feet), 1]
    feet[..., 1] = np.maximum(feet[..., 1], np.minimum(floor - low, 0))  # nothing is pushed into the ground
    moved = joints + body[:, None]
    for side in (0, 2):
        leg = next(chain for chain in skeleton.chains if skeleton.feet[side] in chain)
        _place_leg(joints, moved, leg[1:], skeleton.feet[side : side + 2], feet[:, side : side + 2])
    return moved


def planted(joints: np.ndarray, fps: float, skeleton: Skeleton, floor: float = 0.0) -> np.ndarray:
    """How surely ankles and toes rest from a frame to the next, (T-1, 4) from 0 to 1: contacts near the floor, the slower the
    surer. Contacts are HumanML3D's for every skeleton: KIT's published threshold, 0.2 mm a frame, finds none."""
    feet = joints[:, list(skeleton.feet)]  # (T, 4, 3)
    low = feet[..., 1] - floor < CONTACT_HEIGHTS
    speed = np.linalg.norm(np.diff(feet, axis=0), axis=-1) * fps
    usual = load_skeleton("humanml")
    told = replace(skeleton, metres_per_unit=1.0, contact_threshold=usual.contact_threshold, contact_fps=usual.contact_fps)
    return contacts(joints, fps, told) * (low[1:] & low[:-1]) * np.exp(-((speed / SLOW) ** 2))


def _corrections(joints: np.ndarray, weight: np.ndarray, fps: float, skeleton: Skeleton) -> tuple[np.ndarray, np.ndarray]:
    """What moves the body (T, 3) and its feet (T, 4, 3): unknowns of one banded system of linear equations."""
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
    slides = [-(hold[foot] @ feet[:, foot]) for foot in range(4)]
    found = spsolve(sparse.block_array(blocks, format="csc"), np.concatenate([np.zeros((frames, 3)), *slides]))
    found = found.reshape(5, frames, 3)
    return found[0], found[1:].transpose(1, 0, 2)


def _place_leg(
    joints: np.ndarray, moved: np.ndarray, leg: tuple[int, ...], feet: tuple[int, int], corrections: np.ndarray
) -> None:
    """Moves a leg (hip, knee, ankle, foot joints) of `moved` (T, J, 3): its ankle to where the first of `feet` is moved by the
    corrections (T, 2, 3), as far as it reaches, its toe to where the second is, bones as long as in `joints`."""
    hip, knee, ankle, *below = leg
    wanted = {joint: joints[:, joint] + corrections[:, int(joint == feet[1])] for joint in (ankle, *below)}
    toes = joints[:, feet[1]] - joints[:, ankle]
    moved[:, knee], moved[:, ankle] = bend_limb(joints[:, [hip, knee, ankle]], moved[:, hip], wanted[ankle], toes)
    for before, joint in zip((ankle, *below), below):
        length = np.linalg.norm(joints[:, joint] - joints[:, before], axis=-1, keepdims=True)
        moved[:, joint] = moved[:, before] + length * _unit(wanted[joint] - moved[:, before])


def bend_limb(limb: np.ndarray, start: np.ndarray, end: np.ndarray, aside: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Middle and end (T, 3) of a limb (T, 3, 3) of two bones that is to lead from start (T, 3) to end: the two bones keep their
    lengths and the side they bend to; a limb that is nearly straight bends towards `aside` (T, 3). What lies out of reach is
    reached for."""
    upper, lower = (np.linalg.norm(limb[:, i + 1] - limb[:, i], axis=-1, keepdims=True) for i in (0, 1))
    before, after = limb[:, 2] - limb[:, 0], end - start
    own = np.linalg.norm(before, axis=-1, keepdims=True)
    farthest = np.maximum(REACH * (upper + lower), own)
    distance = np.linalg.norm(after, axis=-1, keepdims=True).clip(np.abs(upper - lower), farthest)
    along = _unit(after)
    bent = limb[:, 1] - limb[:, 0] - 0.5 * before + BEND * _unit(aside)
    bent -= np.einsum("tc,tc->t", bent, along)[:, None] * along
    reached = (upper**2 - lower**2 + distance**2) / (2 * np.maximum(distance, 1e-9))
    height = np.sqrt(np.maximum(upper**2 - reached**2, 0))
    return start + reached * along + height * _unit(bent), start + distance * along


def _unit(vectors: np.ndarray) -> np.ndarray:
    return vectors / np.maximum(np.linalg.norm(vectors, axis=-1, keepdims=True), 1e-9)
