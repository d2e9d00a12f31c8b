"""The motions of an evaluation with their captions, what a pass draws of them, and their embeddings, each made once."""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np

from data_loaders.corpus import Corpus
from data_loaders.features import Features
from data_loaders.humanml import MAX_FRAMES, TAG_FPS, UNIT_LENGTH, CaptionedMotion, LoaderDraws, select_entries
from data_loaders.known_datasets import published_limits
from data_loaders.text import Caption
from evaluations import metrics
from evaluations.report import stamp
from model.embedding import TextMotionSpace
from protos.randomness import derive_seed
from sample.search import unit_rows

Motions = Sequence[np.ndarray]
# (work on a list, the list) -> results in its order: how several processes share what is to be done
Share = Callable[[Callable[[list], list], list], list]


def alone(work: Callable[[list], list], items: list) -> list:
    """One process does everything."""
    return work(items)


def embed_text(judge: TextMotionSpace, captions: Sequence[Caption]) -> np.ndarray:
    """(N, C) for distances: those of a judge that goes by cosine have length one."""
    return _for_distances(judge, judge.encode_text(captions))


def embed_motion(judge: TextMotionSpace, motions: Motions) -> np.ndarray:
    """(N, C) for distances and FID, as `embed_text`."""
    return _for_distances(judge, judge.encode_motion(motions))


def _for_distances(judge: TextMotionSpace, vectors: np.ndarray) -> np.ndarray:
    return unit_rows(vectors) if judge.similarity == "cosine" else vectors


class Pass(NamedTuple):
    """Draws of one pass: which entry, which of its captions, which frames, and of two people how they are exchanged (0: not)."""

    entry: np.ndarray
    caption: np.ndarray
    start: np.ndarray
    length: np.ndarray
    exchanged: np.ndarray

    def first(self, count: int) -> "Pass":
        """The first so many draws."""
        return Pass(*(column[:count] for column in self))

    def frames(self) -> list[tuple[int, int, int, int]]:
        """What `EvaluationSet.motion` takes, of each draw."""
        return list(zip(*(column.tolist() for column in (self.entry, self.start, self.length, self.exchanged))))


class EvaluationSet:
    """Motions with their captions. `cropped`: whether a pass cuts some of them shorter, as published for real ones."""

    def __init__(self, entries: Sequence[CaptionedMotion], features: Features, cropped: bool = True):
        self.entries, self.features, self.cropped = list(entries), features, cropped
        self.lengths = np.array([len(entry.motion) for entry in self.entries])
        self.num_captions = np.array([len(entry.captions) for entry in self.entries])

    def __len__(self) -> int:
        return len(self.entries)

    def draw(self, rng: np.random.Generator, shuffled: bool = True, any_caption: bool = True, pool: int = metrics.POOL) -> Pass:
        """A pass in whole pools, in random order or that of the set, with any caption of a motion or its first.

        ValueError where the set does not fill a pool.
        """
        count = len(self) // pool * pool
        if not count:
            raise ValueError(f"{len(self)} motions do not fill a pool of {pool}, in which texts look for theirs: "
                             "more motions, or another split, are needed")
        entry = (rng.permutation(len(self)) if shuffled else np.arange(len(self)))[:count]
        caption = rng.integers(self.num_captions[entry]) if any_caption else np.zeros(count, int)
        return Pass(entry, caption, *self.frames_of(entry, rng))

    def frames_of(self, entry: np.ndarray, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Start, length and how people are exchanged, (N,) each, of what is drawn of entries (N,).

        A motion has all its whole units, or, where they are cropped, in a third of the draws one fewer.
        """
        fewer = (rng.integers(3, size=len(entry)) == 2) & self.cropped
        length = (self.lengths[entry] // UNIT_LENGTH - fewer) * UNIT_LENGTH
        return rng.integers(self.lengths[entry] - length + 1), length, np.zeros(len(entry), int)

    @property
    def stamp(self) -> str:
        """16 characters that change with the names, captions or frames of the motions."""
        about = [(e.name, [(c.text, c.start, c.end) for c in e.captions], e.motion.shape) for e in self.entries]
        return stamp(repr(told).encode() + entry.motion.tobytes() for told, entry in zip(about, self.entries))

    def captions(self, drawn: Pass) -> list[Caption]:
        """Those drawn, in their order."""
        return [self.entries[i].captions[k] for i, k in zip(drawn.entry, drawn.caption)]

    def motion(self, entry: int, start: int, length: int, exchanged: int = 0) -> np.ndarray:
        """Frames (length, D) of a motion, in feature units."""
        return self.entries[entry].motion[start : start + length]

    def motions(self, drawn: Pass) -> list[np.ndarray]:
        """Those drawn, in their order."""
        return [self.motion(*key) for key in drawn.frames()]


class SetEmbeddings:
    """Embeddings of a set's captions and crops, each computed when first drawn; `share` hands them to several processes."""

    def __init__(self, data: EvaluationSet, judge: TextMotionSpace, share: Share = alone):
        self.data, self.judge, self.share = data, judge, share
        self.known: dict[tuple[int, ...], np.ndarray] = {}

    def texts(self, drawn: Pass) -> np.ndarray:
        """(N, C)."""
        keys = list(zip(drawn.entry.tolist(), drawn.caption.tolist()))
        return self._look_up(keys, lambda new: embed_text(self.judge, [self.data.entries[i].captions[k] for i, k in new]))

    def motions(self, drawn: Pass) -> np.ndarray:
        """(N, C)."""
        return self._look_up(drawn.frames(), lambda new: embed_motion(self.judge, [self.data.motion(*key) for key in new]))

    def _look_up(self, keys: list[tuple[int, ...]], encode: Callable[[list], np.ndarray]) -> np.ndarray:
        if new := [key for key in dict.fromkeys(keys) if key not in self.known]:
            self.known.update(zip(new, self.share(lambda own: list(encode(own)), new)))
        return np.stack([self.known[key] for key in keys])


def real_set(corpus: Corpus, split: str = "test") -> EvaluationSet:
    """A split of a prepared dataset, by rising length as the published loader orders it.

    Published datasets keep the published limits of length; other data every clip of two units or more. ValueError, with the
    dataset's folder, where no clip can be used.
    """
    limits = published_limits(corpus.features) if corpus.published else (2 * UNIT_LENGTH, MAX_FRAMES + UNIT_LENGTH)
    draws = LoaderDraws(np.random.default_rng(derive_seed(0, "entries")))  # letters in the names of captioned parts
    tag_fps = TAG_FPS if corpus.published else corpus.fps
    try:
        entries, _ = select_entries(corpus.clips_of(split), limits, corpus.features.width, draws, tag_fps)
    except ValueError as error:
        raise ValueError(f"{corpus.folder}: {error}") from None
    return EvaluationSet(entries, corpus.features)
