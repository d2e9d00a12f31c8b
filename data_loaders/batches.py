"""Training batches that follow from seed and step alone: the same after a restart and on any number of processes.

Nothing here keeps a state. `BatchPlan` says which samples a step takes, `TextMotionDataset` makes a sample from its own
number, so that a resumed run needs to know nothing but its step.
"""

import logging
from collections.abc import Iterator, Sequence
from typing import Literal, NamedTuple

import numpy as np

from data_loaders.annotated_clips import MAX_SECONDS, MIN_SECONDS
from data_loaders.batch_plan import BatchPlan, Drawn, balanced_weights
from data_loaders.clips import LeftOut
from data_loaders.corpus import Batch, Corpus, span_frames
from data_loaders.features import Features
from data_loaders.humanml import MAX_FRAMES, UNIT_LENGTH, LoaderDraws, crop
from data_loaders.repeats import FADE, can_repeat, repeat_clip
from data_loaders.text import Caption
from protos.randomness import derive_seed

log = logging.getLogger(__name__)


class Part(NamedTuple):
    """Frames start..stop of a clip, and a text that describes them."""

    start: int
    stop: int
    text: str


class Example(NamedTuple):
    """What is drawn at once: a clip, played `times` in a row, and the parts of it of which a draw takes one.

    `share` is how often it is drawn beside the others of the same frames, which sum to 1.
    """

    clip: int
    parts: tuple[Part, ...]
    times: int = 1
    share: float = 1.0

    @property
    def frames(self) -> int:
        longest = max(part.stop - part.start for part in self.parts)
        return self.times * longest - (self.times - 1) * FADE


class TrainingItem(NamedTuple):
    """motion (T, D) float32 in feature units; T a multiple of the unit length. individuals: of several persons what each does."""

    motion: np.ndarray
    text: str
    name: str
    index: int
    individuals: tuple[str, ...] = ()


class TextMotionDataset:
    """Captioned motions of a corpus split. `crop_rule` 'published' also cuts a whole unit off in a third of the draws;
    'whole' keeps as many frames as whole units and `max_frames` allow. Longer clips give a random window.

    Of a prepared clip its captions describe all of it or stretches, each of which is drawn by itself. Of a file of TMR's layout a
    draw takes one caption, so that files count alike however many captions they have; outside of the train split the first.
    """

    def __init__(
        self,
        corpus: Corpus,
        split: str = "train",
        max_frames: int = MAX_FRAMES,
        min_frames: int | None = None,
        unit_length: int = UNIT_LENGTH,
        crop_rule: Literal["published", "whole"] = "published",
        repeat: float = 0.0,
        seconds: tuple[float, float] = (MIN_SECONDS, MAX_SECONDS),
    ):
        """min_frames: two units by default. seconds: of captions of files, the shortest and the longest.

        repeat: how often a short action on the spot is played several times in a row, so that a model learns what to do
        with more time than the recordings take. Raises ValueError where nothing of the split can be used.
        """
        self.corpus, self.unit_length, self.crop_rule = corpus, unit_length, crop_rule
        self.max_frames = max_frames // unit_length * unit_length
        self.first_text = corpus.of_files and split != "train"
        self.left_out = LeftOut()
        shortest = unit_length if corpus.of_files else max(2 * unit_length, min_frames or 0)
        captioned = corpus.captioned(split, *seconds, self.left_out if corpus.of_files else None)
        of_clip = self._of_file if corpus.of_files else self._of_clip
        whole = [example for clip in captioned for example in of_clip(clip, captioned[clip], shortest)]
        self.examples = [each for example in whole for each in self._with_repeats(example, repeat)]
        if not self.examples:
            raise ValueError(f"{corpus.folder}: nothing in split '{split}' can be trained on: {self.left_out}")
        log.info("%s: %d motions; %s", split, len(whole), self.left_out)
        if not corpus.of_files and not corpus.published:
            self._say_whole(list(captioned))

    def _say_whole(self, clips: Sequence[int]) -> None:
        """Names the captions whose times tell no part of their clip."""
        found = [f"{self.corpus.names[clip]} at {each.start:g} s" for clip in clips for each in self.corpus.captions(clip)
                 if each.start == each.end != 0]  # fmt: skip
        if found:
            log.info("%d captions that begin and end at the same second are taken to describe their whole clip (%s%s)",
                     len(found), ", ".join(found[:3]), ", ..." if len(found) > 3 else "")  # fmt: skip

    def _with_repeats(self, example: Example, repeat: float) -> Iterator[Example]:
        """The example and, if it is an action on the spot, itself played 2, 3, ... times as far as `max_frames` goes."""
        most = (self.max_frames - FADE) // max(example.frames - FADE, 1)
        if not repeat or most < 2 or not can_repeat(self._rows(example, example.parts[0]), self.corpus.features, FADE):
            yield example
        else:
            yield example._replace(share=1 - repeat)
            yield from (example._replace(times=n, share=repeat / (most - 1)) for n in range(2, most + 1))

    def _of_clip(self, clip: int, captions: Sequence[Caption], shortest: int) -> Iterator[Example]:
        """Of a prepared clip all of it, with the captions that describe it, and each stretch of a caption's own."""
        name, frames = self.corpus.names[clip], int(self.corpus.lengths[clip])
        captions = self.corpus.captions(clip) if self.corpus.published else captions
        stretches = [(f"{name} at {each.start:g}-{each.end:g} s", [each]) for each in captions if not each.whole]
        for what, described in ((name, [each for each in captions if each.whole]), *stretches):
            start, stop = 0, frames
            if what != name:
                first, last = span_frames(described[0].start, described[0].end, self.corpus.fps)
                start, stop = (max(0, min(frame, frames)) for frame in (first, last))
            if stop - start < shortest:
                self.left_out.add(what, f"too short: {stop - start} frames, {shortest} needed")
            elif described:
                yield Example(clip, tuple(Part(start, stop, each.text) for each in described))
            elif not captions:
                self.left_out.add(what, "without caption")

    def _of_file(self, clip: int, captions: Sequence[Caption], shortest: int) -> Iterator[Example]:
        """Of a file the captions that it has frames of, all of them finite."""
        parts = []
        for each in captions:
            try:
                rows = self.corpus.cut(clip, each)
            except ValueError as error:
                self.left_out.add(each.seg_id, f"unreadable: {error}")
                continue
            if not len(rows):
                self.left_out.add(each.seg_id, "without a frame: the file ends before the caption begins")
            elif len(rows) < shortest:
                self.left_out.add(each.seg_id, f"too short: {len(rows)} frames, {shortest} needed")
            elif not np.isfinite(rows).all():
                self.left_out.add(each.seg_id, f"with NaN or infinite values: {self.corpus.clips.annotated[clip].path}")
            else:
                first, _ = span_frames(each.start, each.end, self.corpus.fps)
                parts.append(Part(first, first + len(rows), each.text))
        if parts:
            yield Example(clip, tuple(parts))

    def _rows(self, example: Example, part: Part) -> np.ndarray:
        return self.corpus[example.clip][part.start : part.stop]

    def __len__(self) -> int:
        return len(self.examples)

    @property
    def lengths(self) -> np.ndarray:
        """Frames of every motion, at most `max_frames`: what batches are bucketed by."""
        return np.array([min(example.frames, self.max_frames) for example in self.examples])

    def weights(self, balance: float = 0.0) -> np.ndarray:
        """How often each motion is to be drawn: repeats share with their original, rare contents are lifted by `balance`."""
        return balanced_weights(self.labels("content"), balance, np.array([example.share for example in self.examples]))

    @property
    def texts(self) -> list[str]:
        """All captions, each once."""
        return list(dict.fromkeys(part.text for example in self.examples for part in example.parts))

    def motions(self) -> Iterator[np.ndarray]:
        """Features (T, D) in their units of every motion, once and not repeated."""
        places = dict.fromkeys((example.clip, part.start, part.stop) for example in self.examples for part in example.parts)
        return (self.corpus[clip][start:stop] for clip, start, stop in places)

    def labels(self, key: str) -> list[str]:
        """A label of every motion's clip, such as content or style; '' where it has none."""
        return [str(self.corpus.labels[example.clip].get(key, "")) for example in self.examples]

    def item(self, index: int, number: int, seed: int = 0) -> TrainingItem:
        """The sample of (index, number, seed); `number` tells repetitions apart (an epoch, or a place in the run).

        Raises ValueError naming the clip if its features are not finite.
        """
        example = self.examples[index]
        draws = LoaderDraws(np.random.default_rng((seed, number, index)))
        part = example.parts[0] if self.first_text else draws.choice(example.parts)
        rows = self._rows(example, part)
        if example.times > 1:
            rows = repeat_clip(rows, example.times, FADE, self.corpus.features)
        start, length = self._crop(len(rows), draws)
        motion = at_origin(np.array(rows[start : start + length], np.float32), self.corpus.features)
        name = self.corpus.names[example.clip]
        if not np.isfinite(motion).all():
            raise ValueError(f"{name}: its features hold NaN or infinite values; prepare the dataset again")
        return TrainingItem(motion, part.text, name, index)

    def _crop(self, frames: int, draws: LoaderDraws) -> tuple[int, int]:
        if self.crop_rule == "published" and frames < self.max_frames + self.unit_length:
            return crop(frames, self.unit_length, draws)
        length = min(frames // self.unit_length * self.unit_length, self.max_frames)
        return draws.randint(0, frames - length), length

    def batch(self, samples: Sequence[Drawn], seed: int = 0, pad_to: int | None = None) -> Batch:
        """The samples of a step of a `BatchPlan` as a Batch."""
        return collate([self.item(sample.index, sample.number, seed) for sample in samples], pad_to)


def collate(items: Sequence[TrainingItem], pad_to: int | None = None) -> Batch:
    """Batch of items in their order, zero-padded to the longest of them or to `pad_to` frames."""
    import torch

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
        role_texts={
            f"individual{person + 1}": [item.individuals[person] for item in items] for person in range(len(items[0].individuals))
        },
    )


def at_origin(rows: np.ndarray, features: Features) -> np.ndarray:
    """Rows (T, D) of a window as those of a clip of its own, where they hold places in a world; others are that already."""
    if not features.in_world:
        return rows
    import torch

    from data_loaders.interhuman_features import from_start

    return from_start(torch.from_numpy(rows), features).numpy()


class CaptionBatches:
    """`batches(step, part, parts)` of a dataset's captioned motions, as the training loop asks for them.

    weights and lengths (num_items,) as in `BatchPlan`; pad_to: frames of every batch, by default those of its longest.
    """

    def __init__(
        self,
        data: TextMotionDataset,
        batch_size: int,
        seed: int = 0,
        weights: np.ndarray | None = None,
        lengths: np.ndarray | None = None,
        pad_to: int | None = None,
    ):
        self.data, self.size, self.seed, self.pad_to = data, batch_size, seed, pad_to
        self.weights, self.lengths = weights, lengths
        self.plans: dict[int, BatchPlan] = {}

    def __call__(self, step: int, part: int, parts: int) -> Batch:
        if parts not in self.plans:
            if parts * self.size > len(self.data):
                log.warning("a step takes %d samples of %d motions: some stand in it several times; --batch_size is per process "
                            "and pass", parts * self.size, len(self.data))  # fmt: skip
            self.plans[parts] = BatchPlan(len(self.data), parts * self.size, self.seed, self.weights, self.lengths)
        samples = self.plans[parts].batch(step)[part * self.size : (part + 1) * self.size]
        return self.data.batch(samples, self.seed, self.pad_to)


def fitting_window(corpus: Corpus, window: int, multiple: int, split: str = "train") -> int:
    """Frames of a window, a multiple of some: as asked for, or as many as the longest clip of a split fills, which the log then
    says. Beyond that all would be padding."""
    longest = max((int(corpus.lengths[clip]) for clip in corpus.split(split)), default=0)
    fitting = -(-longest // multiple) * multiple
    if window % multiple or not 0 < fitting < window:
        return window
    log.warning("--window_size %d: the longest clip of split %s has %d frames; windows have %d", window, split, longest, fitting)
    return fitting


class WindowBatches:
    """`batches(step, part, parts)` of random windows (B, W, D) of motion, drawn by (seed, step) alone.

    Clips are drawn by their length, rare contents lifted by `balance`; one shorter than a window is zero-padded.
    """

    def __init__(
        self,
        corpus: Corpus,
        split: str,
        window: int,
        batch_size: int,
        seed: int = 0,
        balance: float = 0.0,
        unit_length: int = UNIT_LENGTH,
    ):
        self.window, self.batch_size, self.seed, self.unit_length = window, batch_size, seed, unit_length
        self.corpus, self.clips = corpus, corpus.split(split)
        labels = [corpus.labels[i].get("content", "") for i in self.clips]
        weights = balanced_weights(labels, balance) * corpus.lengths[self.clips]
        self.cumulative = np.cumsum(weights / weights.sum())

    def whole_clips(self, limit: int = 2000) -> Iterator[np.ndarray]:
        """Clips (T, D) of the split; evenly chosen ones where there are more than `limit` or so."""
        return (self.corpus[clip] for clip in self.clips[:: max(1, len(self.clips) // limit)])

    def windows(self) -> Iterator[np.ndarray]:
        """Windows (W, D) of these clips one after the other, as they lie; of a shorter clip all of it."""
        for clip in self.whole_clips():
            for start in range(0, max(1, len(clip) - self.window + 1), self.window):
                yield clip[start : start + self.window]

    def __call__(self, step: int, part: int, parts: int) -> Batch:
        import torch

        motion = np.zeros((self.batch_size, self.window, self.corpus[0].shape[1]), np.float32)
        lengths = np.zeros(self.batch_size, np.int64)
        for row in range(self.batch_size):
            draw = np.random.default_rng(derive_seed(self.seed, "windows", step, part * self.batch_size + row))
            clip = self.clips[min(int(np.searchsorted(self.cumulative, draw.random())), len(self.clips) - 1)]
            frames = int(self.corpus.lengths[clip])
            usable = min(frames // self.unit_length * self.unit_length, self.window)
            start = int(draw.integers(0, frames - usable + 1))
            rows = np.array(self.corpus[clip][start : start + usable])
            motion[row, :usable] = at_origin(rows, self.corpus.features) if usable else rows
            lengths[row] = usable
        lengths = torch.from_numpy(lengths)
        mask = torch.arange(self.window)[None] < lengths[:, None]
        return Batch(torch.from_numpy(motion), lengths, mask)
