"""Motions of two people as evaluations draw them, what a model is asked for beside them, and how real ones are spoilt."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from data_loaders import interhuman_features
from data_loaders.corpus import Corpus, require_finite
from data_loaders.features import Features
from data_loaders.humanml import CaptionedMotion
from data_loaders.interaction_batches import InteractionDataset, Making
from data_loaders.interhuman_features import Floor
from data_loaders.text import Caption
from evaluations.evaluation_set import EvaluationSet, Motions
from evaluations.motion_sources import ModelSource
from evaluations.played_back import PlayedBack
from evaluations.protocol import Control
from model.capabilities import Request

NOISE = 0.1  # of how far a person moves on the floor
PLAYED_BACK = "nearest training segment"
SWAPPED, JITTERED = "real motion, partners of other pairs", "real motion, 10 % noise on paths"


@dataclass(frozen=True)
class PairCaption(Caption):
    """What two people do, and a text about each of them; none where the data have none."""

    individuals: tuple[str, ...] = ()


FIRST, AGAIN = 1, 2  # bits of how people are exchanged: before whoever is first is put at the origin, and after that


class InteractionSet(EvaluationSet):
    """Motions of two people. A draw takes at most `longest` frames, from anywhere in a motion, and in half of the cases exchanges
    the people; whoever is first then starts at the origin and faces +Z. Liang et al. 2024, whose loader in half of the cases
    exchanges them once more, where they are (`twice`).
    """

    def __init__(self, entries: Sequence[CaptionedMotion], features: Features, longest: int, floor: Floor, twice: bool = False):
        super().__init__(entries, features)
        self.longest, self.floor, self.twice = longest, floor, twice

    def frames_of(self, entry: np.ndarray, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        length = np.minimum(self.lengths[entry], self.longest)
        start = rng.integers(self.lengths[entry] - length + 1)
        return start, length, rng.integers(2 * AGAIN if self.twice else 2 * FIRST, size=len(entry))

    def motion(self, entry: int, start: int, length: int, exchanged: int = 0) -> np.ndarray:
        rows = torch.from_numpy(np.array(super().motion(entry, start, length), np.float32))
        if exchanged & FIRST:
            rows = interhuman_features.exchanged(rows, self.features)
        rows = interhuman_features.from_start(rows, self.features, self.floor)
        return (interhuman_features.exchanged(rows, self.features) if exchanged & AGAIN else rows).numpy()


def interaction_set(corpus: Corpus, split: str = "test", twice: bool = False) -> InteractionSet:
    """The motions of a split, each described stretch one of its own, without mirrored twins. FeaturesMismatch for data of another
    kind, ValueError, with the dataset's folder, where no motion can be used."""
    data = InteractionDataset(corpus, split, mirror=False)
    own = texts_of_each(corpus, split)
    entries = []
    for example in data.examples:
        place, name = (example.clip, example.start, example.stop), corpus.names[example.clip]
        if example.stop - example.start < corpus.lengths[example.clip]:
            name = f"{name} {example.start}-{example.stop}"
        individuals = own.get(place, ())
        captions = tuple(
            PairCaption(text, individuals=tuple(each[k % len(each)] for each in individuals))
            for k, text in enumerate(example.texts)
        )
        rows = require_finite(corpus[example.clip][example.start : example.stop], f"{corpus.folder}: {name}")
        entries.append(CaptionedMotion(name, rows, captions))
    floor = "person" if corpus.heading == "published" else "kept"
    return InteractionSet(entries, corpus.features, data.max_frames, floor, twice)


def texts_of_each(corpus: Corpus, split: str) -> dict[tuple[int, int, int], tuple[tuple[str, ...], ...]]:
    """{(clip, start, stop): texts about each person} of the stretches of a split that have such."""
    try:
        data = InteractionDataset(corpus, split, Making(individuals=True), mirror=False)
    except ValueError:  # none has
        return {}
    return {(each.clip, each.start, each.stop): each.individuals for each in data.examples}


class InteractionSource(ModelSource):
    """A model that makes motions of two people, as protocols ask for them: with the texts about each, if it reads such."""

    def request(self, caption: Caption, frames: int, seed: int) -> Request:
        reads = getattr(self.networks.config, "individual_texts", True)  # InterGen does not
        individuals = caption.individuals if reads and isinstance(caption, PairCaption) else ()
        return Request(caption.text, frames, seed, individual_texts=individuals or None)


def baselines_of(corpus: Corpus) -> dict[str, PlayedBack]:
    """What answers captions without a model, where the dataset has a train split."""
    try:
        data = InteractionDataset(corpus, "train", Making(exchange=False))
    except (FileNotFoundError, ValueError):
        return {}
    return {PLAYED_BACK: PlayedBack([each.texts for each in data.examples], lambda i: data.item(i, 0).motion)}


# ---------------------------------------------------------------------------------------------------------------------- controls


def controls_of(corpus: Corpus) -> dict[str, Control]:
    """What a judge of two people must see: that the partner is somebody else's, and that people are shaken."""
    features = corpus.features

    def swapped(motions: Motions, rng: np.random.Generator) -> list[np.ndarray]:
        return partners_swapped(motions, features, rng)

    def jittered(motions: Motions, rng: np.random.Generator) -> list[np.ndarray]:
        return [noisy_paths(each, features, rng) for each in motions]

    return {SWAPPED: swapped, JITTERED: jittered}


def partners_swapped(motions: Motions, features: Features, rng: np.random.Generator) -> list[np.ndarray]:
    """Motions (T, 2 * width) in which person 2 is that of another one, where and as it was, both as long as the shorter is.

    Partners come from motions of like length; of a single motion there is no other.
    """
    order = np.lexsort((rng.random(len(motions)), [len(each) for each in motions]))
    made: list[np.ndarray] = [None] * len(motions)
    for i, own in enumerate(order):
        first, second = motions[own], motions[order[i - 1]]
        frames = min(len(first), len(second))
        made[own] = np.concatenate([first[:frames, : features.width], second[:frames, features.width :]], axis=1)
    return made


def noisy_paths(motion: np.ndarray, features: Features, rng: np.random.Generator, share: float = NOISE) -> np.ndarray:
    """A motion (T, 2 * width) each of whose people is moved about on the floor, frame by frame, by noise whose standard deviation
    is a share of that of the person's own path; velocities and contacts follow."""
    rows = torch.from_numpy(np.array(motion, np.float32))
    joints = interhuman_features.all_joints(rows, features)  # (2, T+1, J, 3)
    spread = joints[:, :, 0].std(1, keepdim=True) * torch.tensor([1.0, 0.0, 1.0])  # (2, 1, 3)
    moved = torch.from_numpy(rng.standard_normal(joints[:, :, 0].shape).astype(np.float32)) * (share * spread)
    people = interhuman_features.of_persons(rows, features)
    rotations = people[..., features.blocks["rot"]].unflatten(-1, (-1, 6))
    made = interhuman_features.features_of(joints + moved[:, :, None], rotations, features.body)
    return interhuman_features.of_all(made).numpy()
