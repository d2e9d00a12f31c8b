"""Training batches that follow from seed and step alone: the same after a restart and on any number of processes.

Nothing here keeps a state. `BatchPlan` says which samples a step takes, `TextMotionDataset` makes a sample from its own
number, so that a resumed run needs to know nothing but its step.
"""

import logging
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Literal, NamedTuple

import numpy as np

from data_loaders.augmentation import can_repeat, repeat_clip
from data_loaders.clips import Report
from data_loaders.humanml import MAX_FRAMES, UNIT_LENGTH, Draws, crop

if TYPE_CHECKING:
    from data_loaders.corpus import Batch, Corpus

log = logging.getLogger(__name__)
FADE = 8  # frames over which a repeated clip joins itself


class Span(NamedTuple):
    """Frames start..stop of a clip of the corpus, played `times` in a row, and the texts that describe them.

    `share` is how often it is drawn beside the others of the same frames, which sum to 1.
    """

    clip: int
    start: int
    stop: int
    texts: tuple[str, ...]
    times: int = 1
    share: float = 1.0

    @property
    def frames(self) -> int:
        return self.times * (self.stop - self.start) - (self.times - 1) * FADE


class TrainingItem(NamedTuple):
    """motion (T, D) float32, normalised; T a multiple of the unit length."""

    motion: np.ndarray
    text: str
    name: str
    index: int


class TextMotionDataset:
    """Captioned motions of a corpus split. `crop_rule` 'published' also cuts a whole unit off in a third of the draws;
    'whole' keeps as many frames as whole units and `max_frames` allow. Longer clips give a random window.
    """

    def __init__(
        self,
        corpus: "Corpus",
        split: str = "train",
        max_frames: int = MAX_FRAMES,
        min_frames: int | None = None,
        unit_length: int = UNIT_LENGTH,
        crop_rule: Literal["published", "whole"] = "published",
        statistics: tuple[np.ndarray, np.ndarray] | None = None,
        repeat: float = 0.0,
    ):
        """statistics: mean and std (D,) to normalise with; default the corpus's own. min_frames: two units by default.

        repeat: how often a short action on the spot is played several times in a row, so that a model learns what to do
        with more time than the recordings take. Raises ValueError where nothing of the split can be used.
        """
        self.corpus, self.unit_length, self.crop_rule = corpus, unit_length, crop_rule
        self.max_frames = max_frames // unit_length * unit_length
        mean, std = statistics or (corpus.mean, corpus.std)
        self.mean, self.std = np.asarray(mean, np.float32), np.asarray(std, np.float32)
        self.report = Report()
        shortest = max(2 * unit_length, min_frames or 0)
        whole = [span for clip in corpus.split(split) for span in self._spans(clip, shortest)]
        self.spans = [each for span in whole for each in self._with_repeats(span, repeat)]
        if not self.spans:
            raise ValueError(f"{corpus.folder}: nothing in split '{split}' can be trained on: {self.report}")
        log.info("%s: %d motions; %s", split, len(whole), self.report)

    def _with_repeats(self, span: Span, repeat: float) -> Iterator[Span]:
        """The span and, if it is an action on the spot, itself played 2, 3, ... times as far as `max_frames` goes."""
        most = (self.max_frames - FADE) // max(span.frames - FADE, 1)
        features = self.corpus[span.clip][span.start : span.stop]
        if not repeat or most < 2 or not can_repeat(features, self.corpus.skeleton, FADE):
            yield span
        else:
            yield span._replace(share=1 - repeat)
            yield from (span._replace(times=n, share=repeat / (most - 1)) for n in range(2, most + 1))

    def _spans(self, clip: int, shortest: int) -> Iterator[Span]:
        frames, captions = int(self.corpus.lengths[clip]), self.corpus.captions(clip)
        found = [(0, frames, tuple(caption.text for caption in captions if caption.whole))]
        for caption in captions:
            if not caption.whole:
                start, stop = (min(int(seconds * self.corpus.fps), frames) for seconds in (caption.start, caption.end))
                found.append((start, stop, (caption.text,)))
        for start, stop, texts in found:
            if stop - start < shortest:
                self.report.add(self.corpus.names[clip], f"too short: {stop - start} frames, {shortest} needed")
            elif texts:
                yield Span(clip, start, stop, texts)
            elif not captions:
                self.report.add(self.corpus.names[clip], "without caption")

    def __len__(self) -> int:
        return len(self.spans)

    @property
    def lengths(self) -> np.ndarray:
        """Frames of every motion, at most `max_frames`: what batches are bucketed by."""
        return np.array([min(span.frames, self.max_frames) for span in self.spans])

    def weights(self, balance: float = 0.0) -> np.ndarray:
        """How often each motion is to be drawn: repeats share with their original, rare contents are lifted by `balance`."""
        return balanced_weights(self.labels("content"), balance, np.array([span.share for span in self.spans]))

    def labels(self, key: str) -> list[str]:
        """A label of every motion's clip, such as content or style; '' where it has none."""
        return [str(self.corpus.labels[span.clip].get(key, "")) for span in self.spans]

    def item(self, index: int, number: int, seed: int = 0) -> TrainingItem:
        """The sample of (index, number, seed); `number` tells repetitions apart (an epoch, or a place in the run).

        Raises ValueError naming the clip if its features are not finite.
        """
        span = self.spans[index]
        draws = Draws(np.random.default_rng((seed, number, index)))
        text = draws.choice(span.texts)
        features = self.corpus[span.clip][span.start : span.stop]
        if span.times > 1:
            features = repeat_clip(features, span.times, FADE, self.corpus.skeleton)
        start, length = self._crop(len(features), draws)
        motion = (features[start : start + length] - self.mean) / self.std
        name = self.corpus.names[span.clip]
        if not np.isfinite(motion).all():
            raise ValueError(f"{name}: its features hold NaN or infinite values; prepare the dataset again")
        return TrainingItem(motion, text, name, index)

    def _crop(self, frames: int, draws: Draws) -> tuple[int, int]:
        if self.crop_rule == "published" and frames < self.max_frames + self.unit_length:
            return crop(frames, self.unit_length, draws)
        length = min(frames // self.unit_length * self.unit_length, self.max_frames)
        return draws.randint(0, frames - length), length

    def batch(self, samples: Sequence["Sample"], seed: int = 0, pad_to: int | None = None) -> "Batch":
        """The samples of a step of a `BatchPlan` as a Batch."""
        return collate([self.item(sample.index, sample.number, seed) for sample in samples], pad_to)


def collate(items: Sequence[TrainingItem], pad_to: int | None = None) -> "Batch":
    """Batch of items in their order, zero-padded to the longest of them or to `pad_to` frames."""
    import torch

    from data_loaders.corpus import Batch

    lengths = torch.tensor([len(item.motion) for item in items])
    frames = pad_to or int(lengths.max())
    motion = torch.zeros(len(items), frames, items[0].motion.shape[1])  # (B, T, D)
    for row, item in zip(motion, items):
        row[: len(item.motion)] = torch.from_numpy(item.motion)
    return Batch(
        motion=motion,
        lengths=lengths,
        mask=torch.arange(frames) < lengths[:, None],
        texts=[item.text for item in items],
        names=[item.name for item in items],
        indices=torch.tensor([item.index for item in items]),
    )


class Sample(NamedTuple):
    """What to train on: index into the dataset, and place in the run's endless stream of samples (unique; a seed)."""

    index: int
    number: int


class BatchPlan:
    """Which samples each step takes, by arithmetic on (seed, step).

    The stream of samples is one shuffled pass over the data after another; with `weights`, passes of as many draws with
    replacement. `batch_size` counts all processes: rank r of W takes every W-th sample, so W processes see together
    what one would. With `lengths`, samples of similar length share a batch within runs of `bucket` batches.
    """

    def __init__(
        self,
        num_items: int,
        batch_size: int,
        seed: int = 0,
        weights: np.ndarray | None = None,
        lengths: np.ndarray | None = None,
        bucket: int = 16,
    ):
        """weights (num_items,): any non-negative numbers. Raises ValueError where they or the sizes make no sense."""
        if num_items < 1 or batch_size < 1 or bucket < 1:
            raise ValueError(f"{num_items} items in batches of {batch_size}: both must be at least 1")
        self.num_items, self.batch_size, self.seed, self.bucket = num_items, batch_size, seed, bucket
        self.probabilities = None
        if weights is not None:
            weights = np.asarray(weights, np.float64)
            if (
                weights.shape != (num_items,)
                or not np.isfinite(weights).all()
                or weights.min() < 0
                or not weights.any()
            ):
                raise ValueError(f"sampling weights: expected {num_items} non-negative numbers, not all zero")
            self.probabilities = weights / weights.sum()
        self.lengths = None if lengths is None else np.asarray(lengths)
        self._recent: dict[tuple[str, int], np.ndarray] = {}

    @property
    def steps_per_epoch(self) -> int:
        return -(-self.num_items // self.batch_size)

    def batch(self, step: int, rank: int = 0, world: int = 1) -> list[Sample]:
        """Samples of one process at a step. Raises ValueError where the batch does not divide evenly."""
        if self.batch_size % world or not 0 <= rank < world:
            raise ValueError(f"a batch of {self.batch_size} cannot be shared evenly by {world} processes")
        if self.lengths is None:
            numbers = np.arange(step * self.batch_size, (step + 1) * self.batch_size)
        else:
            numbers = self._remember("bucket", step // self.bucket)[step % self.bucket]
        return [Sample(self._index(int(number)), int(number)) for number in numbers[rank::world]]

    def batches(self, first_step: int = 0, rank: int = 0, world: int = 1) -> Iterator[list[Sample]]:
        """Batches from a step on, without end."""
        step = first_step
        while True:
            yield self.batch(step, rank, world)
            step += 1

    def _index(self, number: int) -> int:
        return int(self._remember("pass", number // self.num_items)[number % self.num_items])

    def _remember(self, kind: str, number: int) -> np.ndarray:
        """A pass or a bucket, drawn when first needed; the last few are kept."""
        key = (kind, number)
        if key not in self._recent:
            drawn = self._draw_pass(number) if kind == "pass" else self._sort_bucket(number)
            self._recent[key] = drawn
            while len(self._recent) > 4:
                del self._recent[next(iter(self._recent))]
            return drawn
        return self._recent[key]

    def _draw_pass(self, epoch: int) -> np.ndarray:
        generator = np.random.default_rng((self.seed, epoch))
        if self.probabilities is None:
            return generator.permutation(self.num_items)
        return generator.choice(self.num_items, self.num_items, p=self.probabilities)

    def _sort_bucket(self, number: int) -> np.ndarray:
        """Stream numbers (bucket, batch_size) of a run of batches: sorted by length, the batches shuffled."""
        size = self.bucket * self.batch_size
        numbers = np.arange(number * size, (number + 1) * size)
        lengths = self.lengths[[self._index(int(n)) for n in numbers]]
        batches = numbers[np.argsort(lengths, kind="stable")].reshape(self.bucket, self.batch_size)
        return np.random.default_rng((self.seed, number, 1)).permutation(batches)  # the third number: another stream


def balanced_weights(labels: Sequence[str], power: float = 1.0, share: np.ndarray | None = None) -> np.ndarray:
    """Sampling weights (N,) of mean 1 that lift rare labels: power 1 gives every label the same weight, 0 every item.

    share (N,): how much each item counts from the outset, by default 1.
    """
    share = np.ones(len(labels)) if share is None else share
    _, which = np.unique(np.asarray(labels), return_inverse=True)
    weights = share * np.bincount(which, share)[which] ** -float(power)
    return weights / weights.mean()
