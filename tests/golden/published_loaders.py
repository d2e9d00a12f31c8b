"""The published loaders of the evaluator, the length estimator and the autoencoders (text-to-motion, Guo et al. 2022), built of
our rules, which are so compared with the originals item by item.
"""

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np
import torch
from torch import Tensor

from data_loaders.clips import Clips, LeftOut, readable_motions
from data_loaders.glove import Words, WordVectorizer
from data_loaders.humanml import MAX_FRAMES, UNIT_LENGTH, CaptionedMotion, LoaderDraws, crop, select_entries
from data_loaders.packed_clips import read_split
from data_loaders.text import read_caption_file
from protos.files import inside
from protos.reading import read_array

log = logging.getLogger(__name__)


def crop_for_length_estimator(frames: int, longest: int, unit_length: int, draws: LoaderDraws) -> tuple[int, int]:
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


def clips_of_folder(folder: str | Path, split: str) -> Clips:
    """Clips of a folder in the HumanML3D layout. Raises FileNotFoundError where it lacks the split list."""
    folder = Path(folder)
    return Clips(
        read_split(folder, split),
        lambda name: read_array(inside(folder, f"new_joint_vecs/{name}.npy", reading=True)),
        lambda name: read_caption_file(inside(folder, f"texts/{name}.txt", reading=True)),
    )


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

    word_vectors: Tensor
    pos_onehot: Tensor
    text_lengths: Tensor
    motion: Tensor
    lengths: Tensor
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
        draws: LoaderDraws,
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

    def item(self, index: int, draws: LoaderDraws) -> Item:
        """A random crop in whole units."""
        entry = self._entry(index)
        words, text = self._words(entry, draws)
        start, length = crop(len(entry.motion), self.unit_length, draws)
        return Item(words, text, self._normalised(entry.motion[start : start + length]), length, entry.name)

    def length_estimator_item(self, index: int, draws: LoaderDraws) -> Item:
        """A crop of exactly the required length, labelled with the length of the clip."""
        entry = self._entry(index)
        words, text = self._words(entry, draws)
        start, label = crop_for_length_estimator(len(entry.motion), self.longest, self.unit_length, draws)
        return Item(words, text, self._normalised(entry.motion[start : start + self.longest]), label, entry.name)

    def _entry(self, index: int) -> CaptionedMotion:
        if not 0 <= index < len(self):
            raise IndexError(index)
        return self.entries[self.pointer + index]

    def _words(self, entry: CaptionedMotion, draws: LoaderDraws) -> tuple[Words, str]:
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
        self.report, self.motions = LeftOut(), []
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

    def random_window(self, clip: int, draws: LoaderDraws) -> np.ndarray:
        """Any window of one clip, as T2M-GPT draws one per clip and epoch."""
        return self._cut(clip, draws.randint(0, len(self.motions[clip]) - self.window))

    def _cut(self, clip: int, start: int) -> np.ndarray:
        return (self.motions[clip][start : start + self.window] - self.mean) / self.std
