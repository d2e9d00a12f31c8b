"""Arms and legs as two bones and a hinge: where knee and elbow lie when the ends move or the bones get other lengths.

Limbs are (T, 3, 3): hip, knee, ankle or shoulder, elbow, wrist. The straighter a limb, the farther its middle moves aside when
its ends come nearer to each other: a centimetre too much length puts a knee six centimetres forward. What corrects motions weighs
that (`stiffness`) against what it wants of the ends.
"""

import numpy as np

SHORTEST = 1e-6  # metres: below it points nowhere
SLACK = 0.02  # metres off the line, to which a straight limb's middle counts as bent

Lengths = tuple[float, float] | tuple[np.ndarray, np.ndarray]  # of the two bones, in metres; one for all frames, or (T,)


def unit(vectors: np.ndarray) -> np.ndarray:
    """Vectors (..., 3) of length 1; 0 where they have none."""
    return vectors / np.maximum(np.linalg.norm(vectors, axis=-1, keepdims=True), SHORTEST)


def natural_reach(limb: np.ndarray, lengths: Lengths) -> tuple[np.ndarray, np.ndarray]:
    """Distance (T,) between the ends of limbs (T, 3, 3) that bend as they do with bones of these lengths, and its `stiffness`
    (T,): the square of how far the middle moves for each metre that the ends are nearer."""
    first, second = unit(limb[:, 1] - limb[:, 0]), unit(limb[:, 2] - limb[:, 1])
    upper, lower = _columns(lengths)
    reach = np.linalg.norm(upper * first + lower * second, axis=-1)
    aside = lengths[0] * lengths[1] * np.linalg.norm(np.cross(first, second), axis=-1) / np.maximum(reach, SHORTEST)
    return reach, reach**2 / (16 * (aside**2 + SLACK**2))


def bend_limb(
    limb: np.ndarray, start: np.ndarray, end: np.ndarray, lengths: Lengths, aside: np.ndarray | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """Middle and end (T, 3) of a limb of two bones of these lengths that is to lead from start (T, 3) to end, bent to the side to
    which it is bent in (T, 3, 3); as far as it must bend more, towards `aside` (T, 3). What lies out of reach is reached for."""
    upper, lower = _columns(lengths)
    along, distance = unit(end - start), np.linalg.norm(end - start, axis=-1, keepdims=True)
    distance = distance.clip(abs(upper - lower), upper + lower)
    reached = (upper**2 - lower**2 + distance**2) / (2 * np.maximum(distance, SHORTEST))
    height = np.sqrt(np.maximum(upper**2 - reached**2, 0))
    bent = _across(limb[:, 1] - limb[:, 0], along)
    if aside is not None:
        more = np.maximum(height - np.linalg.norm(bent, axis=-1, keepdims=True), 0)
        bent = bent + more * unit(_across(aside, along))
    return start + reached * along + height * unit(bent), start + distance * along


def _columns(lengths: Lengths) -> tuple[np.ndarray, np.ndarray]:
    """Lengths as (1,) or (T, 1), to scale vectors (T, 3) by."""
    return np.asarray(lengths[0])[..., None], np.asarray(lengths[1])[..., None]


def _across(vectors: np.ndarray, along: np.ndarray) -> np.ndarray:
    """The part of vectors (T, 3) at a right angle to unit vectors."""
    return vectors - np.einsum("tc,tc->t", vectors, along)[:, None] * along
