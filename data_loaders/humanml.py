"""The published loaders of HumanML3D and KIT-ML: which clips count, how they are cropped, what an item holds.

They serve the evaluator, its training and the autoencoders. Rules and the order of random draws are those of
text-to-motion (Guo et al. 2022), because published numbers depend on both. Training of our own models draws its samples
from `data_loaders.batches`.
"""

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, NamedTuple, TypeVar

import numpy as np

from data_loaders.clips import Clips, Report, readable_motions
from data_loaders.glove import Words, WordVectorizer
from data_loaders.text import Caption, CaptionFileError

if TYPE_CHECKING:
    from torch import Tensor

log = logging.getLogger(__name__)
T = TypeVar("T")

MAX_FRAMES = 196
UNIT_LENGTH = 4
TAG_FPS = 20.0  # the published loaders turn the seconds of a caption into frames with 20 for KIT too
COIN = ("single", "single", "double")
PART_LETTERS = "ABCDEFGHIJKLMNOPQRSTUVW"


class Draws:
    """The random choices of a loader, from one numpy Generator."""

    def __init__(self, generator: np.random.Generator):
        self.generator = generator

    def choice(self, options: Sequence[T]) -> T:
        return options[int(self.generator.integers(len(options)))]

    def randint(self, low: int, high: int) -> int:
        """An integer of low..high, both included."""
        return int(self.generator.integers(low, high + 1))

    def coin(self) -> str:
        """Two in three 'single', one in three 'double': how many units are cut off a clip."""
        return self.choice(COIN)


@dataclass(frozen=True)
class Entry:
    """A clip, or a captioned part of one, with the captions that describe all of it. motion (T, D), not normalised."""

    name: str
    motion: np.ndarray
    captions: tuple[Caption, ...]


def _too_short_or_long(frames: int, limits: tuple[int, int]) -> str | None:
    if frames < limits[0]:
        return f"too short: {frames} frames, {limits[0]} needed"
    return f"too long: {frames} frames, below {limits[1]} needed" if frames >= limits[1] else None


def select_entries(
    clips: Clips, limits: tuple[int, int], num_features: int, draws: Draws, tag_fps: float = TAG_FPS
) -> tuple[list[Entry], Report]:
    """Entries by rising length (ties in split order) of the clips with limits[0] <= frames < limits[1].

    A caption with times makes an entry of its own, named by a drawn letter; the rest of a clip's captions share one.
    Raises ValueError where no clip is left.
    """
    report, entries, taken = Report(), [], set()
    for name, motion in readable_motions(clips, num_features, report):
        if reason := _too_short_or_long(len(motion), limits):
            report.add(name, reason)
            continue
        try:
            captions = clips.captions(name)
        except (KeyError, OSError, CaptionFileError) as error:
            report.add(name, f"without caption: {error}")
            continue
        for caption in captions:
            if caption.whole:
                continue
            part = motion[int(caption.start * tag_fps) : int(caption.end * tag_fps)]
            if reason := _too_short_or_long(len(part), limits):
                report.add(f"{name} at {caption.start:g}-{caption.end:g} s", reason)
                continue
            part_name = f"{draws.choice(PART_LETTERS)}_{name}"
            while part_name in taken:
                part_name = f"{draws.choice(PART_LETTERS)}_{name}"
            taken.add(part_name)
            entries.append(Entry(part_name, part, (caption,)))
        if whole := tuple(caption for caption in captions if caption.whole):
            entries.append(Entry(name, motion, whole))
        elif not captions:
            report.add(name, "without caption")
    if not entries:
        raise ValueError(f"none of the {len(clips.names)} clips that the split lists can be used: {report}")
    log.info("%d entries; %s", len(entries), report)
    return sorted(entries, key=lambda entry: len(entry.motion)), report


def crop(frames: int, unit_length: int, draws: Draws) -> tuple[int, int]:
    """(start, length) of the published random crop: all whole units, or one fewer in a third of the draws."""
    coin = draws.coin() if unit_length < 10 else "single"
    length = (frames // unit_length - (coin == "double")) * unit_length
    return draws.randint(0, frames - length), length


def crop_for_length_estimator(frames: int, longest: int, unit_length: int, draws: Draws) -> tuple[int, int]:
    """(start, label) of the length estimator's training: the crop has `longest` frames, the label is the clip's length
    in whole units above it. Where there is no unit to spare, the published code draws a start from 0..0.
    """
    if frames == longest:
        return 0, longest
    units = (frames - longest) // unit_length
    coin = draws.coin() if unit_length < 10 else "single"
    if units == 0 or (units == 1 and coin == "double"):
        return draws.randint(0, 0), longest
    label = longest + unit_length * (units - (coin == "double"))
    return draws.randint(0, frames - label), label


class Item(NamedTuple):
    """motion (frames, D) normalised; `length` is the label where the crop is shorter (length estimator)."""

    words: Words
    text: str
    motion: np.ndarray
    length: int
    name: str


@dataclass
class EvaluationBatch:
    """Items by falling text length: word_vectors (B, 22, 300), pos_onehot (B, 22, 15), motion (B, T, D) zero-padded."""

    word_vectors: "Tensor"
    pos_onehot: "Tensor"
    text_lengths: "Tensor"
    motion: "Tensor"
    lengths: "Tensor"
    texts: list[str]
    tokens: list[str]
    names: list[str]


class EvaluationDataset:
    """Text and motion pairs as the evaluator sees them. `item` draws caption, length and start anew each time, since
    published evaluation is random too. `require_length` is the curriculum of the length estimator.
    """

    def __init__(
        self,
        clips: Clips,
        vectorizer: WordVectorizer,
        mean: np.ndarray,
        std: np.ndarray,
        limits: tuple[int, int],
        draws: Draws,
        unit_length: int = UNIT_LENGTH,
    ):
        """mean, std (D,): only the evaluator's own pair gives published numbers. limits: `Skeleton.length_limits`."""
        if limits[0] < 2 * unit_length:
            raise ValueError(f"clips of {limits[0]} frames cannot lose a unit of {unit_length}: raise the lower limit")
        self.vectorizer, self.mean, self.std, self.unit_length = vectorizer, mean, std, unit_length
        self.entries, self.report = select_entries(clips, limits, len(mean), draws)
        for entry in self.entries:
            if not all(caption.tokens for caption in entry.captions):
                raise ValueError(f"{entry.name}: a caption has no word/POS tokens; prepare the dataset again")
        self.lengths = np.array([len(entry.motion) for entry in self.entries])
        self.require_length(20)

    def require_length(self, frames: int) -> None:
        """Leaves out entries of fewer frames from here on."""
        self.longest = frames
        self.pointer = int(np.searchsorted(self.lengths, frames))

    def __len__(self) -> int:
        return len(self.entries) - self.pointer

    def item(self, index: int, draws: Draws) -> Item:
        """A random crop in whole units."""
        entry = self._entry(index)
        words, text = self._words(entry, draws)
        start, length = crop(len(entry.motion), self.unit_length, draws)
        return Item(words, text, self._normalised(entry.motion[start : start + length]), length, entry.name)

    def length_estimator_item(self, index: int, draws: Draws) -> Item:
        """A crop of exactly the required length, labelled with the length of the clip."""
        entry = self._entry(index)
        words, text = self._words(entry, draws)
        start, label = crop_for_length_estimator(len(entry.motion), self.longest, self.unit_length, draws)
        return Item(words, text, self._normalised(entry.motion[start : start + self.longest]), label, entry.name)

    def _entry(self, index: int) -> Entry:
        if not 0 <= index < len(self):
            raise IndexError(index)
        return self.entries[self.pointer + index]

    def _words(self, entry: Entry, draws: Draws) -> tuple[Words, str]:
        caption = draws.choice(entry.captions)
        return self.vectorizer.encode(caption.tokens), caption.text

    def _normalised(self, motion: np.ndarray) -> np.ndarray:
        return (motion - self.mean) / self.std


def padded(motion: np.ndarray, frames: int = MAX_FRAMES) -> np.ndarray:
    """Normalised motion (T, D) followed by zeros, the mean pose, up to `frames`."""
    return np.concatenate([motion, np.zeros((frames - len(motion), motion.shape[1]), motion.dtype)])


def order_by_text_length(text_lengths: Sequence[int]) -> list[int]:
    """Positions by falling text length, ties as they came."""
    return sorted(range(len(text_lengths)), key=lambda i: -text_lengths[i])


def collate_evaluation(items: Sequence[Item], frames: int = MAX_FRAMES) -> EvaluationBatch:
    """Items as tensors, by falling text length, motions padded to `frames`."""
    import torch

    items = [items[i] for i in order_by_text_length([item.words.length for item in items])]
    return EvaluationBatch(
        word_vectors=torch.from_numpy(np.stack([item.words.vectors for item in items])),
        pos_onehot=torch.from_numpy(np.stack([item.words.pos_onehot for item in items])),
        text_lengths=torch.tensor([item.words.length for item in items]),
        motion=torch.from_numpy(np.stack([padded(item.motion, frames) for item in items]).astype(np.float32)),
        lengths=torch.tensor([item.length for item in items]),
        texts=[item.text for item in items],
        tokens=["_".join(item.words.tokens) for item in items],
        names=[item.name for item in items],
    )


class WindowDataset:
    """Windows of `window` frames of all clips that are as long, normalised: training data of the autoencoders.

    `starts='published'` counts one start per clip too few and hits the very first twice, as the original does; 'all'
    has every start once.
    """

    def __init__(
        self,
        clips: Clips,
        window: int,
        mean: np.ndarray,
        std: np.ndarray,
        starts: Literal["published", "all"] = "published",
    ):
        self.window, self.mean, self.std, self.starts = window, mean, std, starts
        self.report, self.motions = Report(), []
        for name, motion in readable_motions(clips, len(mean), self.report):
            if len(motion) < window:
                self.report.add(name, f"too short: {len(motion)} frames, {window} needed")
            else:
                self.motions.append(motion)
        self.snippets = np.array([len(motion) - window + (starts == "all") for motion in self.motions], dtype=np.int64)
        self.offsets = np.concatenate([[0], np.cumsum(self.snippets)]).astype(np.int64)
        if not len(self):
            raise ValueError(f"none of {len(clips.names)} clips has a window of {window} frames: {self.report}")
        log.info("%d windows of %d clips; %s", len(self), len(self.motions), self.report)

    def __len__(self) -> int:
        return int(self.offsets[-1])

    def __getitem__(self, index: int) -> np.ndarray:
        """Window (window, D)."""
        if not 0 <= index < len(self):
            raise IndexError(index)
        if self.starts == "all":
            clip = int(np.searchsorted(self.offsets, index, side="right")) - 1
            return self._cut(clip, index - int(self.offsets[clip]))
        clip = int(np.searchsorted(self.offsets, index)) - 1 if index else 0
        return self._cut(clip, index - int(self.offsets[clip]) - 1 if index else 0)

    def random_window(self, clip: int, draws: Draws) -> np.ndarray:
        """Any window of one clip, as T2M-GPT draws one per clip and epoch."""
        return self._cut(clip, draws.randint(0, len(self.motions[clip]) - self.window))

    def _cut(self, clip: int, start: int) -> np.ndarray:
        return (self.motions[clip][start : start + self.window] - self.mean) / self.std
