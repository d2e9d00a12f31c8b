"""What lies between two people, read from joints with plain geometry: whether they pass through each other, how far apart they
are, and how they face.

Joints are (2, T, J, 3) in metres, Y up, both in one world. Sets of motions are compared by the distributions over their frames.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from data_loaders.physics import Physics, physics_of
from data_loaders.skeleton import Skeleton
from evaluations.motion_measures import PELVIS, body_axes

RADIUS = 0.06  # metres, of the capsule around a bone
FOREARM = 0.5  # share of a forearm, from the elbow on, that counts: hands, and what is near them, touch on purpose
HANDS = ("left_wrist", "right_wrist")

MEASURES = (  # of `interaction_physics`: label and digits
    ("interpenetration", "frames in which bodies overlap, %", 1),
    ("pelvis_distance", "distance of the pelvises, mean, m", 2),
    ("pelvis_distance_gap", "its distribution: Wasserstein distance from the real one, m", 3),
    ("facing", "turn of a body away from the partner, mean, degrees", 1),
    ("facing_gap", "its distribution: Wasserstein distance from the real one, degrees", 2),
)


def bones(joints: np.ndarray, skeleton: Skeleton) -> tuple[np.ndarray, np.ndarray]:
    """Starts and ends (..., J-1, 3) of the bones of joints (..., J, 3), forearms without what is near the hand."""
    start, end = joints[..., list(skeleton.parents[1:]), :], joints[..., 1:, :].copy()
    wrists = [skeleton.joint_names.index(name) - 1 for name in HANDS if name in skeleton.joint_names]
    end[..., wrists, :] = start[..., wrists, :] + FOREARM * (end[..., wrists, :] - start[..., wrists, :])
    return start, end


def segment_distances(a: tuple[np.ndarray, np.ndarray], b: tuple[np.ndarray, np.ndarray]) -> np.ndarray:
    """Distances (..., N, M) of segments from a[0] to a[1], (..., N, 3) each, and from b[0] to b[1], (..., M, 3). Exact.

    Of lines that come nearest within both segments that is the distance; else an end of one of them is nearest to the other.
    """
    start_a, start_b = a[0][..., :, None, :], b[0][..., None, :, :]
    along_a, along_b = (a[1] - a[0])[..., :, None, :], (b[1] - b[0])[..., None, :, :]
    between = start_a - start_b  # (..., N, M, 3)
    aa, bb, ab = _dot(along_a, along_a), _dot(along_b, along_b), _dot(along_a, along_b)
    ac, bc = _dot(along_a, between), _dot(along_b, between)
    area = aa * bb - ab**2  # squared; 0 of parallel lines, whose ends tell
    crossing = np.where(area > 1e-12 * aa * bb, area, np.inf)
    s, t = (ab * bc - bb * ac) / crossing, (aa * bc - ab * ac) / crossing
    within = (area > 1e-12 * aa * bb) & (s >= 0) & (s <= 1) & (t >= 0) & (t <= 1)
    lines = np.where(within, _length(between + s[..., None] * along_a - t[..., None] * along_b), np.inf)
    ends = [
        _point_distance(point, start, along, square)
        for points, start, along, square in (
            ((start_a, start_a + along_a), start_b, along_b, bb), ((start_b, start_b + along_b), start_a, along_a, aa)
        )
        for point in points
    ]  # fmt: skip
    return np.minimum.reduce([lines, *ends])


def _point_distance(point: np.ndarray, start: np.ndarray, along: np.ndarray, square: np.ndarray) -> np.ndarray:
    """Distance of points from segments."""
    share = np.clip(_dot(point - start, along) / np.maximum(square, 1e-30), 0, 1)
    return _length(point - start - share[..., None] * along)


def _dot(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    return np.einsum("...d,...d->...", *np.broadcast_arrays(a, b))


def _length(vectors: np.ndarray) -> np.ndarray:
    return np.sqrt(_dot(vectors, vectors))


def body_distance(joints: np.ndarray, skeleton: Skeleton) -> np.ndarray:
    """Smallest distance (T,) between bones of the two people of joints (2, T, J, 3)."""
    first, second = (bones(person, skeleton) for person in _two(joints))
    return segment_distances(first, second).min((-2, -1))


def interpenetration(joints: np.ndarray, skeleton: Skeleton) -> float:
    """Share of the frames of joints (2, T, J, 3) in which capsules of RADIUS around bones of the two people overlap."""
    return float((body_distance(joints, skeleton) < 2 * RADIUS).mean())


def pelvis_distance(joints: np.ndarray) -> np.ndarray:
    """Distance (T,) in metres of the pelvises of joints (2, T, J, 3)."""
    first, second = _two(joints)[:, :, PELVIS]
    return _length(first - second)


def facing(joints: np.ndarray, fps: float) -> np.ndarray:
    """How far each of two people is turned away from the partner, (2, T) degrees: 0 faces the partner, 180 turns the back.

    Of joints (2, T, 22, 3), as seen from above.
    """
    turned = []
    for person, partner in (_two(joints), _two(joints)[::-1]):
        _, forward, left = body_axes(person, fps)
        toward = partner[:, PELVIS] - person[:, PELVIS]
        turned.append(np.degrees(np.abs(np.arctan2(_dot(toward, left), _dot(toward, forward)))))
    return np.stack(turned)


def _two(joints: np.ndarray) -> np.ndarray:
    joints = np.asarray(joints, np.float64)
    if joints.ndim != 4 or len(joints) != 2:
        raise ValueError(f"joints have shape {joints.shape}, expected two people: (2, frames, joints, 3)")
    return joints


def wasserstein(a: np.ndarray, b: np.ndarray) -> float:
    """How far values would have to be moved on average to make one distribution into the other, in their unit."""
    from scipy.stats import wasserstein_distance

    return float(wasserstein_distance(np.ravel(a), np.ravel(b)))


@dataclass(frozen=True)
class Between:
    """What lies between the people of a set of motions, frame by frame, all clips one after the other."""

    overlapping: np.ndarray  # (N,) bool
    distance: np.ndarray  # (N,) metres
    facing: np.ndarray  # (2 N,) degrees


def between(clips: Iterable[np.ndarray], fps: float, skeleton: Skeleton) -> Between | None:
    """Of joints [(2, T, J, 3), ...]; clips that are not finite are left out. None where none is left."""
    usable = [clip for clip in clips if np.isfinite(clip).all() and clip.shape[1]]
    if not usable:
        return None
    return Between(
        np.concatenate([body_distance(clip, skeleton) < 2 * RADIUS for clip in usable]),
        np.concatenate([pelvis_distance(clip) for clip in usable]),
        np.concatenate([facing(clip, fps).ravel() for clip in usable]),
    )


def own_bones(skeleton: Skeleton) -> Skeleton:
    """The skeleton without lengths of its own: two people keep the bodies they were recorded with, and what deviates is told from
    each body's mean lengths."""
    return replace(skeleton, bone_lengths=None)


def interaction_physics(
    clips: Sequence[np.ndarray], fps: float, skeleton: Skeleton, real: Between | None = None
) -> Physics:
    """`physics_of` all bodies of joints [(2, T, J, 3), ...], and what lies between them; gaps to `real` where it is given, None
    for what cannot be told."""
    found = physics_of([body for clip in clips for body in clip], fps, own_bones(skeleton))
    own = between(clips, fps, skeleton)
    found["clips"] = len(clips)
    if own is None:
        return {**found, **dict.fromkeys((name for name, _, _ in MEASURES), None)}
    return {
        **found,
        "interpenetration": 100 * float(own.overlapping.mean()),
        "pelvis_distance": float(own.distance.mean()),
        "pelvis_distance_gap": real and wasserstein(own.distance, real.distance),
        "facing": float(own.facing.mean()),
        "facing_gap": real and wasserstein(own.facing, real.facing),
    }
