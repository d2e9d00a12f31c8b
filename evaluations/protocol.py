"""Protocols: which motions and captions a published table compares, how they are cut, and what repeats 20 times.

One pass over a set draws an order, a caption and a crop for every motion; 32 of them at a time are a pool. Embeddings
are kept by what was drawn, so a caption or a crop that comes up again in a later pass or replication costs nothing.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple
from typing import Protocol as Interface

import numpy as np

from data_loaders.corpus import Representation
from data_loaders.humanml import UNIT_LENGTH, Entry
from data_loaders.text import Caption
from evaluations import metrics
from protos.randomness import derive_seed

Motions = Sequence[np.ndarray]


class Evaluator(Interface):
    """What judges: embeddings (N, C) of captions, and of features [(T, D)] in their units."""

    def require(self, representation: Representation, what: str) -> None: ...
    def encode_texts(self, captions: Sequence[Caption]) -> np.ndarray: ...
    def encode_motions(self, motions: Motions) -> np.ndarray: ...


# (captions, lengths in frames, seeds) -> features [(T, D)] in their units
Generate = Callable[[Sequence[Caption], Sequence[int], Sequence[int]], Motions]


@dataclass(frozen=True)
class EvaluationProtocol:
    """Where published protocols differ. The first line of each in PROTOCOLS says whose it is."""

    name: str
    whose: str
    replications: int = metrics.REPLICATIONS
    enough: int | None = None  # generated motions: the pool that reaches so many is the last; None: a whole pass
    captions: Literal["random", "first"] = "random"
    shuffled: bool = True
    reference: Literal["another pass", "same pass"] = "another pass"  # real motions that FID compares with
    generated_from: Literal["own pass", "same pass"] = "own pass"  # captions and lengths: of a pass for them, or the real row's
    multimodality_texts: int | None = 100  # None: every text
    multimodality_repeats: int = 30
    fid_repeat: Literal["first", "last"] = "first"  # of a text that was made several times, the motion that other metrics see


PROTOCOLS = {
    protocol.name: protocol
    for protocol in (
        EvaluationProtocol("t2m", "text-to-motion (Guo et al. 2022)"),
        EvaluationProtocol("mdm", "MDM (Tevet et al. 2023), with the corrected text lengths", enough=1000),
        EvaluationProtocol("t2mgpt", "T2M-GPT (Zhang et al. 2023)", reference="same pass", generated_from="same pass",
                           multimodality_texts=None),
        EvaluationProtocol("momask", "MoMask (Guo et al. 2024)", reference="same pass", generated_from="same pass",
                           multimodality_texts=96, fid_repeat="last"),
        EvaluationProtocol("lamp", "LaMP (Li et al. 2025)", replications=1, captions="first", shuffled=False,
                           reference="same pass", generated_from="same pass", multimodality_texts=0),
    )
}  # fmt: skip


class Pass(NamedTuple):
    """Draws of one pass: which entry, which of its captions, which frames; all (N,)."""

    entry: np.ndarray
    caption: np.ndarray
    start: np.ndarray
    length: np.ndarray

    def first(self, count: int) -> "Pass":
        return Pass(*(column[:count] for column in self))


class EvaluationSet:
    """The motions of a split with their captions, by rising length as the published loader orders them."""

    def __init__(self, entries: Sequence[Entry], representation: Representation, unit_length: int = UNIT_LENGTH):
        self.entries, self.representation, self.unit_length = list(entries), representation, unit_length
        self.lengths = np.array([len(entry.motion) for entry in self.entries])
        self.num_captions = np.array([len(entry.captions) for entry in self.entries])

    def __len__(self) -> int:
        return len(self.entries)

    def draw(self, protocol: EvaluationProtocol, rng: np.random.Generator) -> Pass:
        """A pass in whole pools. A crop has all whole units of its motion, or in a third of the draws one fewer.

        ValueError where the set does not fill a pool.
        """
        count = len(self) // metrics.POOL * metrics.POOL
        if not count:
            raise ValueError(f"{len(self)} motions do not fill a pool of {metrics.POOL}: choose a larger split")
        entry = (rng.permutation(len(self)) if protocol.shuffled else np.arange(len(self)))[:count]
        random = protocol.captions == "random"
        caption = rng.integers(self.num_captions[entry]) if random else np.zeros(count, int)
        fewer = rng.integers(3, size=count) == 2
        length = (self.lengths[entry] // self.unit_length - fewer) * self.unit_length
        start = rng.integers(self.lengths[entry] - length + 1)
        return Pass(entry, caption, start, length)

    def captions(self, drawn: Pass) -> list[Caption]:
        return [self.entries[i].captions[k] for i, k in zip(drawn.entry, drawn.caption)]

    def motion(self, entry: int, start: int, length: int) -> np.ndarray:
        return self.entries[entry].motion[start : start + length]


class RealEmbeddings:
    """Embeddings of a set's captions and crops, each computed when first drawn."""

    def __init__(self, data: EvaluationSet, evaluator: Evaluator):
        self.data, self.evaluator = data, evaluator
        self.known: dict[tuple[int, ...], np.ndarray] = {}

    def texts(self, drawn: Pass) -> np.ndarray:
        """(N, C)."""
        keys = list(zip(drawn.entry.tolist(), drawn.caption.tolist()))
        return self._look_up(keys, lambda new: self.evaluator.encode_texts([self.data.entries[i].captions[k] for i, k in new]))

    def motions(self, drawn: Pass) -> np.ndarray:
        """(N, C)."""
        keys = list(zip(drawn.entry.tolist(), drawn.start.tolist(), drawn.length.tolist()))
        return self._look_up(keys, lambda new: self.evaluator.encode_motions([self.data.motion(*key) for key in new]))

    def _look_up(self, keys: list[tuple[int, ...]], encode: Callable[[list], np.ndarray]) -> np.ndarray:
        if new := [key for key in dict.fromkeys(keys) if key not in self.known]:
            self.known.update(zip(new, encode(new)))
        return np.stack([self.known[key] for key in keys])


Figures = dict[str, float]
METRICS = ("top1", "top2", "top3", "fid", "mm_dist", "diversity", "multimodality")


def figures_of(text: np.ndarray, motion: np.ndarray, reference: metrics.Gaussian, rng: np.random.Generator) -> Figures:
    """A table row's numbers but MultiModality, from embeddings (N, C)."""
    shares = metrics.r_precision(text, motion)
    return {
        **{f"top{k}": float(share) for k, share in zip(metrics.TOP_K, shares)},
        "fid": metrics.fid(reference, motion),
        "mm_dist": metrics.matching_score(text, motion),
        "diversity": metrics.diversity(motion, rng),
    }


@dataclass(frozen=True)
class Replication:
    """One replication: the real row, and the generated one where something generates."""

    real: Figures
    generated: Figures | None = None


class Evaluation:
    """A set, a judge and a protocol; `replicate(k, generate)` is a function of (seed, k) alone.

    `multimodality`: whether texts are also made several times. Raises RepresentationMismatch where judge and set differ.
    """

    def __init__(
        self,
        data: EvaluationSet,
        evaluator: Evaluator,
        protocol: EvaluationProtocol = PROTOCOLS["t2m"],
        seed: int = 0,
        multimodality: bool = True,
    ):
        evaluator.require(data.representation, "the real motions")
        self.data, self.evaluator, self.protocol, self.seed = data, evaluator, protocol, seed
        self.multimodality = multimodality and protocol.multimodality_texts != 0
        self.real = RealEmbeddings(data, evaluator)

    def replicate(self, number: int, generate: Generate | None = None) -> Replication:
        rng = np.random.default_rng(derive_seed(self.seed, "replication", number))
        judged = self.data.draw(self.protocol, rng)
        other = self.data.draw(self.protocol, rng) if self.protocol.reference == "another pass" else judged
        reference = metrics.gaussian_of(self.real.motions(other))
        real = figures_of(self.real.texts(judged), self.real.motions(judged), reference, rng)
        if generate is None:
            return Replication(real)
        asked = judged if self.protocol.generated_from == "same pass" else self.data.draw(self.protocol, rng)
        if self.protocol.enough is not None:
            asked = asked.first(-(-self.protocol.enough // metrics.POOL) * metrics.POOL)
        return Replication(real, self._generated(number, asked, reference, generate, rng))

    def _generated(
        self, number: int, asked: Pass, reference: metrics.Gaussian, generate: Generate, rng: np.random.Generator
    ) -> Figures:
        count = len(asked.entry)
        several = 0
        if self.multimodality:
            texts = self.protocol.multimodality_texts
            several = count if texts is None else min(texts, count)
        repeats = [self.protocol.multimodality_repeats if i < several else 1 for i in range(count)]
        rows = [(i, r) for i in range(count) for r in range(repeats[i])]
        captions = self.data.captions(asked)
        motions = generate(
            [captions[i] for i, _ in rows],
            [int(asked.length[i]) for i, _ in rows],
            [derive_seed(self.seed, "motion", number, i, r) for i, r in rows],
        )
        made = self.evaluator.encode_motions(motions)  # (rows, C)
        last = self.protocol.fid_repeat == "last"
        shown = [k for k, (i, r) in enumerate(rows) if r == (repeats[i] - 1 if last else 0)]
        figures = figures_of(self.real.texts(asked), made[shown], reference, rng)
        if several:
            per_text = made[: several * self.protocol.multimodality_repeats]
            per_text = per_text.reshape(several, self.protocol.multimodality_repeats, -1)
            figures["multimodality"] = metrics.multimodality(per_text, rng)
        return figures


def summary(figures: Sequence[Figures]) -> dict[str, metrics.Interval]:
    """Mean and interval of every metric over the replications that have it."""
    names = [name for name in METRICS if any(name in each for each in figures)]
    return {name: metrics.mean_interval([each[name] for each in figures if name in each]) for name in names}
