"""People who stand in the world in every way in which a rotation can go wrong: joints (T, 22, 3) in metres at 20 fps."""

import numpy as np
from scipy.spatial.transform import Rotation

from tests.acted_motions import HUMANML, bowing
from tests.synthetic import raise_hand, standing, turn, walk_in_a_curve


def facing(joints: np.ndarray, degrees: float) -> np.ndarray:
    """Turned to the left about the world's upright axis."""
    return Rotation.from_euler("y", degrees, degrees=True).apply(joints.reshape(-1, 3)).reshape(joints.shape)


def tilted(joints: np.ndarray, axis: str, degrees: float) -> np.ndarray:
    return Rotation.from_euler(axis, degrees, degrees=True).apply(joints.reshape(-1, 3)).reshape(joints.shape)


def bent_arms(degrees: float, frames: int = 3) -> np.ndarray:
    """Somebody who stands with both forearms bent forwards."""
    joints = np.repeat(standing()[None], frames, axis=0)
    for side in ("left", "right"):
        turn(joints, HUMANML.index(f"{side}_elbow"), [HUMANML.index(f"{side}_wrist")], np.full(frames, np.radians(degrees)))
    return joints


WALK = walk_in_a_curve(40).astype(np.float64)
MOTIONS = {
    "ahead": WALK, "left": facing(WALK, 90), "away": facing(WALK, 180), "right": facing(WALK, -90),
    "almost_away": facing(WALK, 179.9), "spinning": walk_in_a_curve(60, turn=12.0), "on_the_back": tilted(WALK, "x", -90),
    "on_the_face": tilted(WALK, "x", 90), "on_the_side": tilted(WALK, "z", 90), "head_down": tilted(WALK, "x", 180),
    "bowing": bowing(), "raising_a_hand": raise_hand(30), "one_frame": WALK[:1],
    "knees_and_elbows_at_right_angles": bent_arms(90.0),
}  # fmt: skip
