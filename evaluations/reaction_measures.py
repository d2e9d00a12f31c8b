"""How near a reaction is to the recorded one: joints, their motion, who touches whom, and whether latents find their actors.

Joints are (T, J, 3) in metres in the world of the one who acts, who starts at the origin and faces +Z; both reactions are of as
many frames. The names are the field's; M-Cons has no published definition, so that its formula is ours.
"""

import math
from collections.abc import Sequence

import numpy as np

from evaluations.metrics import Interval, euclidean

MILLIMETRES = 1000.0
TOUCH = 0.10  # metres between two joints that count as in contact


def joint_error(made: np.ndarray, true: np.ndarray) -> float:
    """MPJPE: mean distance of the joints of two reactions in mm, where they stand in the world included."""
    made, true = _alike(made, true)
    return float(np.linalg.norm(made - true, axis=-1).mean()) * MILLIMETRES


def velocity_error(made: np.ndarray, true: np.ndarray) -> float:
    """MPJVE: mean distance of the steps from frame to frame of the joints of two reactions, mm a frame. 0 for a single frame."""
    made, true = _alike(made, true)
    if len(made) < 2:
        return 0.0
    return float(np.linalg.norm(np.diff(made, axis=0) - np.diff(true, axis=0), axis=-1).mean()) * MILLIMETRES


def contacts(actor: np.ndarray, reaction: np.ndarray) -> np.ndarray:
    """Which joints of two people are nearer than TOUCH, (T, J, J) bool: the actor's first."""
    return euclidean(np.asarray(actor, np.float64), np.asarray(reaction, np.float64)) < TOUCH


def contact_consistency(actor: np.ndarray, made: np.ndarray, true: np.ndarray) -> float:
    """M-Cons: F1 of the contacts of a reaction with the actor, against those of the recorded one; 1 where neither has any."""
    made, true = contacts(actor, made), contacts(actor, true)
    both = np.count_nonzero(made & true)
    total = np.count_nonzero(made) + np.count_nonzero(true)
    return 2 * both / total if total else 1.0


def alignment(actors: np.ndarray, reactions: np.ndarray) -> float:
    """Share of reactions whose latent (N, C) is nearest to that of their own actor (N, C), no other being as near; chance has
    1 / N."""
    apart = euclidean(np.asarray(reactions, np.float64), np.asarray(actors, np.float64))  # (N, N): reactions, actors
    own = np.diagonal(apart)[:, None]
    return float(((apart <= own).sum(1) == 1).mean())


def over_segments(values: Sequence[float]) -> Interval:
    """Mean of a value of each segment and the half-width of its 95 % interval, by Student's t: there may be few of them; 0 for a
    single one."""
    from scipy.stats import t

    values, count = np.asarray(values, np.float64), len(values)
    if count < 2:
        return Interval(float(values.mean()), 0.0)
    return Interval(float(values.mean()), float(t.ppf(0.975, count - 1) * values.std(ddof=1) / math.sqrt(count)))


def _alike(made: np.ndarray, true: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    made, true = (np.asarray(each, np.float64) for each in (made, true))
    if made.shape != true.shape or made.ndim != 3 or not len(made):
        raise ValueError(f"reactions have shapes {made.shape} and {true.shape}, expected (frames, joints, 3) of both")
    return made, true
