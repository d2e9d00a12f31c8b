"""Augmentations of feature clips that keep their captions true."""

import numpy as np

from data_loaders.feature_statistics import feature_blocks
from data_loaders.skeleton import Skeleton


def loop_gap(features: np.ndarray, skeleton: Skeleton) -> float:
    """Mean distance (metres) between the joints of the last and the first frame in the body's own frame."""
    ric = feature_blocks(skeleton.num_joints)["ric"]
    difference = (features[-1, ric] - features[0, ric]).reshape(-1, 3)
    return float(np.linalg.norm(difference, axis=1).mean()) * skeleton.metres_per_unit


LOOP_GAP = 0.06  # metres
STANDING_SPEED = 0.15  # m/s


def can_repeat(features: np.ndarray, skeleton: Skeleton, fps: float, fade: int) -> bool:
    """Whether a clip at `fps` is an action on the spot that ends as it began, so that it may be played again and again."""
    if len(features) < 2 * fade or loop_gap(features, skeleton) > LOOP_GAP:
        return False
    step = features[:, feature_blocks(skeleton.num_joints)["root_velocity"]]
    return float(np.linalg.norm(step, axis=1).mean()) * skeleton.metres_per_unit * fps < STANDING_SPEED


def repeat_clip(features: np.ndarray, times: int, fade: int, skeleton: Skeleton) -> np.ndarray:
    """A clip (T, D) played `times` in a row, ends cross-faded over `fade` frames: (times·(T - fade) + fade, D).

    Features are relative to the body and to the frame before, so clips join without moving or turning anything; use it
    where the clip ends as it began (`loop_gap`). Contacts stay 0 or 1. Raises ValueError when the clip is too short.
    """
    length = len(features)
    if length < 2 * fade:
        raise ValueError(f"a clip of {length} frames cannot be joined over {fade} frames: it needs {2 * fade}")
    rise = (np.arange(fade, dtype=np.float32) + 1)[:, None] / (fade + 1)
    seam = features[-fade:] * (1 - rise) + features[:fade] * rise  # (fade, D)
    contact = feature_blocks(skeleton.num_joints)["contact"]
    seam[:, contact] = np.round(seam[:, contact])
    body = features[fade:-fade]
    parts = [features[:fade], body]
    for _ in range(times - 1):
        parts += [seam, body]
    return np.concatenate([*parts, features[-fade:]])
