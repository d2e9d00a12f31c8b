"""How far a motion is from its nearest training clip: does a model make motions, or play them back?

Motions are compared as body poses: joints relative to the root's place on the floor and to the facing, frame by frame,
so where and in which direction somebody moves does not count. Time is aligned by stretching both to the same number of
frames; a training clip is also offered by its parts, since a model may have learnt and play back a part.
"""

from collections.abc import Iterable, Sequence

import numpy as np

from evaluations.motion_measures import body_axes

FRAMES = 16  # frames every motion is stretched to
PARTS = ((0.0, 1.0), (0.0, 0.75), (0.25, 1.0), (0.0, 0.5), (0.25, 0.75), (0.5, 1.0))
CANDIDATES = 8  # nearest by root mean square, compared by mean joint distance


def body_poses(joints: np.ndarray, fps: float) -> np.ndarray:
    """Joints (T, J, 3) with the root over the origin and the person facing +Z in every frame."""
    _, forward, left = body_axes(joints, fps)
    placed = joints - joints[:, :1] * np.array([1.0, 0.0, 1.0])
    turned = placed.copy()
    turned[..., 0] = np.einsum("tjd,td->tj", placed, left)
    turned[..., 2] = np.einsum("tjd,td->tj", placed, forward)
    return turned


def stretched(poses: np.ndarray, start: float = 0.0, stop: float = 1.0) -> np.ndarray:
    """The part [start, stop] (shares of the length) of poses (T, J, 3) in FRAMES frames, as one row (FRAMES·J·3,)."""
    at = np.linspace(start * (len(poses) - 1), stop * (len(poses) - 1), FRAMES)
    before = np.minimum(at.astype(int), len(poses) - 2) if len(poses) > 1 else np.zeros(FRAMES, dtype=int)
    after = np.minimum(before + 1, len(poses) - 1)
    share = (at - before)[:, None, None]
    return ((1 - share) * poses[before] + share * poses[after]).astype(np.float32).reshape(-1)


class MotionBank:
    """Training motions to look up. 5,000 clips take about 130 MB; 1,000 look-ups some seconds on one core."""

    def __init__(self, motions: Iterable[np.ndarray], names: Sequence[str], fps: float):
        """`motions`: joints (T, J, 3) in metres, Y up, one per name."""
        self.fps = fps
        self.names = list(names)
        rows, self.owner = [], []
        for owner, joints in enumerate(motions):
            poses = body_poses(np.asarray(joints, np.float64), fps)
            # Below a second a part of a clip is hardly a motion.
            parts = [part for part in PARTS if (part[1] - part[0]) * len(poses) >= min(fps, len(poses))]
            rows += [stretched(poses, *part) for part in parts]
            self.owner += [owner] * len(parts)
        if not rows:
            raise ValueError("no training motion to compare with")
        self.rows = np.stack(rows)  # (N, FRAMES·J·3)
        self._squares = np.einsum("nd,nd->n", self.rows, self.rows)

    def nearest(self, motions: Sequence[np.ndarray], chunk: int = 64) -> list[tuple[float, str]]:
        """(mean joint distance in metres, name) of the nearest training clip per motion; NaN where one is broken."""
        found: list[tuple[float, str]] = [(float("nan"), "")] * len(motions)
        usable = [i for i, joints in enumerate(motions) if len(joints) and np.isfinite(joints).all()]
        for start in range(0, len(usable), chunk):
            part = usable[start : start + chunk]
            queries = np.stack([stretched(body_poses(np.asarray(motions[i], np.float64), self.fps)) for i in part])
            distances = self._squares - 2 * queries @ self.rows.T  # squared, but for a constant per query
            count = min(CANDIDATES, len(self.rows))
            candidates = np.argpartition(distances, count - 1, axis=1)[:, :count]
            for i, query, near in zip(part, queries, candidates):
                gaps = (self.rows[near] - query).reshape(count, -1, 3)
                mean = np.linalg.norm(gaps, axis=-1).mean(axis=-1)
                best = int(mean.argmin())
                found[i] = (float(mean[best]), self.names[self.owner[near[best]]])
        return found
