"""Where in a long motion a text happens: windows of several lengths slide over it, and each is compared with the text.

Petrovich et al. 2023 show such curves without numbers or settings; windows, curve and moments are our own. Features say
what happens from frame to frame, so a window of them needs no preparation.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from sample.search import score, unit_rows
from sample.sliding import Sliding

if TYPE_CHECKING:
    from model.embedding import TextMotionSpace

SAME_MOMENT = 0.5  # share of the shorter of two windows that lies in the other, from which the lower one is dropped


class Moment(NamedTuple):
    """Frames `first` to before `stop` of a motion, and the score of its window in [0, 1]."""

    first: int
    stop: int
    score: float


@dataclass(frozen=True)
class Windows:
    """Windows over a motion: spans (N, 2) of frames, the wanted length (N,) of each, and unit vectors (N, C)."""

    num_frames: int
    spans: np.ndarray
    sizes: np.ndarray
    vectors: np.ndarray

    def scores(self, text: np.ndarray) -> np.ndarray:
        """(N,) in [0, 1] of a text's vector (C,)."""
        return score(self.vectors @ unit_rows(np.asarray(text, np.float32)))


def window_spans(num_frames: int, sizes: Sequence[int], stride: int) -> tuple[np.ndarray, np.ndarray]:
    """Spans (N, 2) and sizes (N,) of the windows of each size, the last of each at the very end. A size beyond the motion
    is the whole motion, once."""
    spans, owner = [], []
    for size in sorted({min(size, num_frames) for size in sizes}):
        starts = np.arange(0, num_frames - size + 1, stride)
        if starts[-1] + size < num_frames:
            starts = np.append(starts, num_frames - size)
        spans.append(np.stack([starts, starts + size], axis=1))
        owner += [size] * len(starts)
    return np.concatenate(spans), np.array(owner)


def embed_windows(features: np.ndarray, space: "TextMotionSpace", sliding: Sliding | None = None,
                  batch_size: int | None = None) -> Windows:
    """The windows of features (T, D), encoded once for any number of texts; lengths that the model cannot read are fitted
    to what it can, and a stride to the shortest. ValueError for a motion shorter than that."""
    sliding = sliding or Sliding()
    (shortest, longest), fps = space.frame_limits, space.features.fps
    if len(features) < shortest:
        raise ValueError(f"the motion has {len(features)} frames, this model reads {shortest} or more")
    sizes = [min(max(round(seconds * fps), shortest), longest) for seconds in sliding.window_seconds]
    stride = min(max(1, round(sliding.stride_seconds * fps)), *sizes)  # so that no frame is passed over
    spans, owner = window_spans(len(features), sizes, stride)
    vectors = space.encode_motion([features[first:stop] for first, stop in spans], batch_size)
    return Windows(len(features), spans, owner, unit_rows(vectors))


def score_curve(windows: Windows, scores: np.ndarray) -> np.ndarray:
    """(T,) score of each frame: per window length the mean over the windows that cover it, of these means the highest."""
    curves, edges = [], windows.num_frames + 1
    for size in np.unique(windows.sizes):
        rows = windows.sizes == size
        starts, stops = windows.spans[rows].T
        total, covered = (np.cumsum(np.bincount(starts, each, edges) - np.bincount(stops, each, edges))[:-1]
                          for each in (scores[rows], np.ones(len(starts))))  # fmt: skip
        curves.append(np.where(covered > 0, total / np.maximum(covered, 1), -np.inf))
    return np.max(curves, axis=0)


def shared(spans: np.ndarray, span: Sequence[int]) -> tuple[np.ndarray, np.ndarray]:
    """Frames (N,) that spans (N, 2) share with one, and the lengths (N,) of the spans."""
    frames = np.minimum(spans[:, 1], span[1]) - np.maximum(spans[:, 0], span[0])
    return np.maximum(frames, 0), spans[:, 1] - spans[:, 0]


def overlap(spans: np.ndarray, span: Sequence[int]) -> np.ndarray:
    """(N,) intersection over union in time of spans (N, 2) with one."""
    both, lengths = shared(spans, span)
    return both / (lengths + (span[1] - span[0]) - both)


def shared_with_shorter(spans: np.ndarray, span: Sequence[int]) -> np.ndarray:
    """(N,) of how much of the shorter of each span (N, 2) and one lies in the other: 1 where one contains the other."""
    both, lengths = shared(spans, span)
    return both / np.minimum(lengths, span[1] - span[0])


def moments(windows: Windows, scores: np.ndarray, count: int, refine: bool = True) -> list[Moment]:
    """The `count` best windows of which no two are of the same moment, best first; fewer where there are fewer.

    refine: each grows while the curve stays above the middle between its median and its maximum, which finds the ends
    of moments that are longer than a window or fall between two.
    """
    if refine:
        curve = score_curve(windows, scores)
        high = curve >= (curve.max() + np.median(curve)) / 2
    left, found = np.argsort(-scores, kind="stable"), []
    while len(left) and len(found) < count:
        first, stop = map(int, windows.spans[left[0]])
        moment = Moment(first, stop, float(scores[left[0]]))
        if refine:
            moment = grown(moment, high)
        if not any(shared_with_shorter(np.array([moment[:2]]), other)[0] >= SAME_MOMENT for other in found):
            found.append(moment)
        left = left[1:]
        left = left[shared_with_shorter(windows.spans[left], moment) < SAME_MOMENT]
    return found


def grown(moment: Moment, high: np.ndarray) -> Moment:
    """Its ends, moved outwards over the frames next to them where `high` (T,) holds."""
    first, stop = moment.first, moment.stop
    while first > 0 and high[first - 1]:
        first -= 1
    while stop < len(high) and high[stop]:
        stop += 1
    return Moment(first, stop, moment.score)
