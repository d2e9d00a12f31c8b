"""Augmentations of feature clips that keep their captions true."""

import numpy as np

from data_loaders.humanml_features import feature_blocks
from data_loaders.skeleton import Skeleton


def loop_gap(features: np.ndarray, skeleton: Skeleton) -> float:
    """Mean distance (metres) between the joints of the last and the first frame in the body's own frame."""
    ric = feature_blocks(skeleton.num_joints)["ric"]
    difference = (features[-1, ric] - features[0, ric]).reshape(-1, 3)
    return float(np.linalg.norm(difference, axis=1).mean()) * skeleton.metres_per_unit


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
