"""What parts of a body do in other motions, laid over a long one that comes piece by piece."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from data_loaders.skeleton import Skeleton
from visualize.edited_body import carried_over

FADE = 0.3  # seconds in which a part passes over from the one motion to the other, and back


class Reel:
    """Frames of pieces (n, J, 3) that are taken as many at a time as are wanted."""

    def __init__(self, pieces: Iterable[np.ndarray]):
        self._pieces, self._held = iter(pieces), None

    def take(self, count: int) -> np.ndarray:
        """The next frames. ValueError where there are no more."""
        held = [] if self._held is None else [self._held]
        while sum(map(len, held)) < count:
            piece = next(self._pieces, None)
            if piece is None:
                raise ValueError(f"a motion of {sum(map(len, held))} more frames, {count} are wanted")
            held.append(piece)
        frames = np.concatenate(held)
        self._held = frames[count:]
        return frames[:count]


@dataclass(frozen=True)
class Laid:
    """Another motion, from frame `start` up to `stop` of the long one, of which the bones that end at `joints` are taken."""

    reel: Reel
    start: int
    stop: int
    joints: Sequence[int]

    def share(self, first: int, last: int, fps: float) -> np.ndarray:
        """How much of it is taken in frames `first` up to `last`."""
        frame, fade = np.arange(first, last), FADE * fps + 1
        rising = np.clip(np.minimum(frame - self.start + 1, self.stop - frame) / fade, 0, 1)
        return rising * rising * (3 - 2 * rising)


def laid_over(pieces: Iterable[np.ndarray], others: Sequence[Laid], fps: float, skeleton: Skeleton) -> Iterator[np.ndarray]:
    """Pieces (n, J, 3) of joints in metres, Y up, of humanml's names, in which bones of the others turn about the body's hips and
    shoulders as they do there. They keep their lengths, and all else its place."""
    first = 0
    for joints in pieces:
        last = first + len(joints)
        for other in others:
            begin, end = max(first, other.start), min(last, other.stop)
            if begin < end:
                own = joints[begin - first : end - first]
                weights = np.zeros(own.shape[:2])
                weights[:, list(other.joints)] = other.share(begin, end, fps)[:, None]
                joints = joints.copy()
                joints[begin - first : end - first] = carried_over(own, own, other.reel.take(end - begin), weights, skeleton)
        yield joints
        first = last
