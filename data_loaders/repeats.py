"""Clips played several times in a row: short actions on the spot, for requests that are longer than recordings."""

import numpy as np

from data_loaders.features import Features

FADE = 8  # frames over which a repeated clip joins itself
LOOP_GAP = 0.06  # metres that joints of a clip may be apart at its ends, to be repeated
STANDING_SPEED = 0.15  # m/s: slower is on the spot


def loop_gap(rows: np.ndarray, features: Features) -> float:
    """Mean distance (metres) between the joints of the last and the first frame in the body's own frame."""
    ric = features.blocks["ric"]
    difference = (rows[-1, ric] - rows[0, ric]).reshape(-1, 3)
    return float(np.linalg.norm(difference, axis=1).mean()) * features.body.metres_per_unit


def can_repeat(rows: np.ndarray, features: Features, fade: int) -> bool:
    """Whether a clip is an action on the spot that ends as it began, so that it may be played again and again."""
    if features.in_world or len(rows) < 2 * fade or loop_gap(rows, features) > LOOP_GAP:
        return False
    step = rows[:, features.blocks["root_velocity"]]
    return float(np.linalg.norm(step, axis=1).mean()) * features.body.metres_per_unit * features.fps < STANDING_SPEED


def repeat_clip(rows: np.ndarray, times: int, fade: int, features: Features) -> np.ndarray:
    """A clip (T, D) played `times` in a row, ends cross-faded over `fade` frames: (times·(T - fade) + fade, D).

    Features are relative to the body and to the frame before, so clips join without moving or turning anything; use it
    where the clip ends as it began (`loop_gap`). Contacts stay 0 or 1. Raises ValueError when the clip is too short.
    """
    length = len(rows)
    if length < 2 * fade:
        raise ValueError(f"a clip of {length} frames cannot be joined over {fade} frames: it needs {2 * fade}")
    rise = (np.arange(fade, dtype=np.float32) + 1)[:, None] / (fade + 1)
    seam = rows[-fade:] * (1 - rise) + rows[:fade] * rise  # (fade, D)
    contact = features.blocks["contact"]
    seam[:, contact] = np.round(seam[:, contact])
    body = rows[fade:-fade]
    parts = [rows[:fade], body]
    for _ in range(times - 1):
        parts += [seam, body]
    return np.concatenate([*parts, rows[-fade:]])
