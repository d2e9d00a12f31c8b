"""Hands and toes that rest on the floor: joints do not say how they turn, and left straight they would reach through it."""

from dataclasses import replace

import numpy as np

from visualize.joint_rotations import TurnedSkeleton
from visualize.two_bones import unit

THICKNESS = 0.02  # metres of a hand or of toes, above which their middle rests
MOST = np.radians(100.0)  # that a wrist or the ball of a foot bends


def rested(turned: TurnedSkeleton, ends: dict[int, np.ndarray], floor: float) -> TurnedSkeleton:
    """The solved body with joints bent, of which ends (3,) are what reaches out in T-pose, so that those stay above the floor.

    They bend about the axis across, as wrists and toes do: towards the back of the hand (up in T-pose) or away from it, whichever
    lifts the end. Nothing changes where nothing reaches through.
    """
    turns, joints = turned.turns.copy(), turned.joints
    for joint, end in ends.items():
        length = float(np.linalg.norm(end))
        if not length:
            continue
        along = turns[:, joint] @ unit(end)  # (T, 3)
        back = turns[:, joint] @ unit(np.array([0.0, 1.0, 0.0]) - unit(end)[1] * unit(end))
        lowest = np.clip((floor + THICKNESS - joints[:, joint, 1]) / length, -1.0, 0.0)  # how high the end may be, of its length
        reach = np.hypot(along[:, 1], back[:, 1])
        highest = np.arctan2(back[:, 1], along[:, 1])  # bend at which the end is highest
        bend = highest - np.sign(highest) * np.arccos(np.clip(lowest / np.maximum(reach, 1e-9), -1.0, 1.0))
        bend = np.where(along[:, 1] < lowest, np.clip(bend, -MOST, MOST), 0.0)
        turns[:, joint] = _about(np.cross(along, back), bend) @ turns[:, joint]
    return replace(turned, turns=turns)


def _about(axes: np.ndarray, angles: np.ndarray) -> np.ndarray:
    """Turns (T, 3, 3) about unit axes (T, 3) by angles (T,)."""
    x, y, z = axes.T
    zero = np.zeros_like(x)
    cross = np.stack([zero, -z, y, z, zero, -x, -y, x, zero], axis=-1).reshape(-1, 3, 3)
    return np.eye(3) + np.sin(angles)[:, None, None] * cross + (1 - np.cos(angles))[:, None, None] * (cross @ cross)
