"""Protocols: which motions and captions a published table compares, how they are cut, and what repeats 20 times.

One pass over a set draws an order, a caption and a crop for every motion; so many of them at a time are a pool. A replication
judges the rows of a table on such passes, the real row first.
"""

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import repeat
from typing import Literal, NamedTuple

import numpy as np

from data_loaders.text import Caption
from evaluations import metrics, retrieval_metrics
from evaluations.evaluation_set import EvaluationSet, Motions, Pass, SetEmbeddings, Share, alone, embed_motion
from model.embedding import TextMotionSpace
from protos.randomness import derive_seed

# (captions, lengths in frames, seeds) -> features [(T, D)] in their units
Generate = Callable[[Sequence[Caption], Sequence[int], Sequence[int]], Motions]
# (real features [(T, D)], rng) -> features that are wrong in one respect
Control = Callable[[Motions, np.random.Generator], Motions]
Figures = dict[str, float]


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
    pool: int = metrics.POOL  # motions a text is ranked among
    embedding_scale: float = 1.0  # of the embeddings that FID and Diversity compare
    diversity_divisor: float = 1.0  # of the distances of pairs

    def gaussian(self, motion: np.ndarray) -> metrics.Gaussian:
        """What FID compares, of embeddings (N, C)."""
        return metrics.gaussian_of(self.embedding_scale * np.asarray(motion, np.float64))

    def diversity(self, motion: np.ndarray, rng: metrics.Random, times: int | None = None) -> float:
        """Mean distance of random pairs of embeddings (N, C)."""
        return metrics.diversity(self.embedding_scale * np.asarray(motion, np.float64), rng, times) / self.diversity_divisor

    def figures(
        self, text: np.ndarray, motion: np.ndarray, reference: metrics.Gaussian, rng: np.random.Generator
    ) -> Figures:
        """A table row's numbers but MultiModality, from embeddings (N, C)."""
        shares = metrics.r_precision(text, motion, pool=self.pool)
        return {
            **{f"top{k}": float(share) for k, share in zip(metrics.TOP_K, shares)},
            "fid": metrics.fid(reference, self.gaussian(motion)),
            "mm_dist": metrics.matching_score(text, motion),
            "diversity": self.diversity(motion, rng),
        }


TWO_PEOPLE = {"pool": 96, "embedding_scale": 6.0, "diversity_divisor": 2.0}
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
        EvaluationProtocol("intergen", "InterGen (Liang et al. 2024)", **TWO_PEOPLE),
        EvaluationProtocol("in2in", "in2IN (Ruiz-Ponce et al. 2024)", replications=10, **TWO_PEOPLE),
    )
}  # fmt: skip


METRICS = ("top1", "top2", "top3", "fid", "mm_dist", "diversity", "multimodality")


class JudgedMotion(NamedTuple):
    """One motion of a row. `place`: that of its own motion, from 0, among those of its pool, for its caption."""

    row: str
    clip: str
    caption: str
    frames: int
    seed: int | None
    place: int
    distance: float


@dataclass
class Replication:
    """Rows of figures by name, the real one first, and the motions behind them.

    `kept` are features of the first motions of real, generated and control rows, where they are wanted; `seconds` is what
    making one took; `judge` how often the judge finds the text of a real motion, and chance does; `physics` belongs to whoever
    asks for it.
    """

    rows: dict[str, Figures] = field(default_factory=dict)
    motions: list[JudgedMotion] = field(default_factory=list)
    kept: dict[str, list[np.ndarray]] = field(default_factory=dict)
    seconds: float | None = None
    judge: Figures = field(default_factory=dict)
    physics: dict[str, dict[str, int | float | None]] = field(default_factory=dict)


@dataclass(frozen=True)
class Entrants:
    """What is judged beside real motion: what a model makes, what files hold, and controls that no judge should like.

    `baselines`: by row, what answers the captions that a model is asked for without being one. `controls`: by row, what spoils
    the real motions of a pass; with any, captions are shuffled as well.
    """

    generate: Generate | None = None
    given: EvaluationSet | None = None
    baselines: Mapping[str, Generate] = field(default_factory=dict)
    controls: Mapping[str, Control] = field(default_factory=dict)


REAL, GENERATED, GIVEN, SHUFFLED, NOISE = "real motion", "generated", "given", "real motion, shuffled captions", "noise"


class Evaluation:
    """A set, a judge and a protocol; `replicate(k)` is a function of (seed, k) alone, whatever the processes.

    `multimodality`: whether texts are also made several times. Raises FeaturesMismatch where judge and set differ.
    """

    def __init__(
        self,
        data: EvaluationSet,
        judge: TextMotionSpace,
        protocol: EvaluationProtocol = PROTOCOLS["t2m"],
        seed: int = 0,
        multimodality: bool = True,
        share: Share = alone,
    ):
        judge.require(data.features, "the real motions")
        self.data, self.judge, self.protocol, self.seed, self.share = data, judge, protocol, seed, share
        self.multimodality = multimodality and protocol.multimodality_texts != 0
        self.real = SetEmbeddings(data, judge, share)
        self.given: SetEmbeddings | None = None

    def replicate(self, number: int, entrants: Entrants = Entrants(), keep: int = 0) -> Replication:
        """The rows of one replication. keep: how many motions of a row to return."""
        rng = np.random.default_rng(derive_seed(self.seed, "replication", number))
        judged = self._draw(self.data, rng)
        other = self._draw(self.data, rng) if self.protocol.reference == "another pass" else judged
        reference = self.protocol.gaussian(self.real.motions(other))
        found = Replication()

        def judge(
            row: str, of: SetEmbeddings, drawn: Pass, motion: np.ndarray, seeds: Iterable[int | None] = repeat(None)
        ) -> None:
            """Adds the figures of a row, and each of its motions, for texts and embedded motions (N, C) of a pass."""
            text = of.texts(drawn)
            found.rows[row] = self.protocol.figures(text, motion, reference, rng)
            places, gaps = metrics.places_in_pools(text, motion, self.protocol.pool), np.linalg.norm(text - motion, axis=-1)
            columns = (drawn.entry, of.data.captions(drawn), drawn.length, seeds, places, gaps)
            found.motions += [
                JudgedMotion(row, of.data.entries[i].name, caption.text, int(frames), seed, int(place), float(gap))
                for i, caption, frames, seed, place, gap in zip(*columns)
            ]

        text, motion = self.real.texts(judged), self.real.motions(judged)
        judge(REAL, self.real, judged, motion)
        found.judge = finding_texts(text, motion, [caption.text for caption in self.data.captions(judged)], self.protocol.pool)
        if keep:
            found.kept[REAL] = self.data.motions(judged.first(keep))
        asked = None
        if entrants.generate is not None:
            asked = self._asked(judged, rng)
            self._generate(found, number, asked, entrants.generate, judge, rng, keep)
        if entrants.given is not None:
            if self.given is None or self.given.data is not entrants.given:
                self.given = SetEmbeddings(entrants.given, self.judge, self.share)
            drawn = self._first(self._draw(entrants.given, rng))
            judge(GIVEN, self.given, drawn, self.given.motions(drawn))
            if keep:
                found.kept[GIVEN] = entrants.given.motions(drawn.first(keep))
        if entrants.baselines:
            asked = asked or self._asked(judged, rng)
        for row, play in entrants.baselines.items():
            seeds = [derive_seed(self.seed, row, number, i) for i in range(len(asked.entry))]
            played = play(self.data.captions(asked), asked.length.tolist(), seeds)
            judge(row, self.real, asked, embed_motion(self.judge, played))
            if keep:
                found.kept[row] = list(played[:keep])
        if entrants.controls:
            found.rows[SHUFFLED] = self.protocol.figures(text[rng.permutation(len(text))], motion, reference, rng)
            real = self.data.motions(judged)
        for row, spoil in entrants.controls.items():
            spoilt = spoil(real, rng)
            found.rows[row] = self.protocol.figures(text, embed_motion(self.judge, spoilt), reference, rng)
            if keep:
                found.kept[row] = spoilt[:keep]
        return found

    def _draw(self, data: EvaluationSet, rng: np.random.Generator) -> Pass:
        return data.draw(rng, self.protocol.shuffled, self.protocol.captions == "random", self.protocol.pool)

    def _asked(self, judged: Pass, rng: np.random.Generator) -> Pass:
        """Of which captions and lengths are asked for."""
        return self._first(judged if self.protocol.generated_from == "same pass" else self._draw(self.data, rng))

    def _first(self, drawn: Pass) -> Pass:
        """Whole pools of a pass up to the one that reaches as many motions as the protocol needs."""
        enough, pool = self.protocol.enough, self.protocol.pool
        return drawn if enough is None else drawn.first(-(-enough // pool) * pool)

    def _generate(
        self, found: Replication, number: int, asked: Pass, generate: Generate, judge: Callable[..., None],
        rng: np.random.Generator, keep: int,
    ) -> None:  # fmt: skip
        """Adds the row of motions made for a pass, the first texts of which are made several times for MultiModality."""
        count, several = len(asked.entry), 0
        if self.multimodality:
            texts = self.protocol.multimodality_texts
            several = count if texts is None else min(texts, count)
        per_text = self.protocol.multimodality_repeats
        repeats = [per_text if i < several else 1 for i in range(count)]
        captions = self.data.captions(asked)
        rows = [
            (captions[i], int(asked.length[i]), derive_seed(self.seed, "motion", number, i, r))
            for i in range(count) for r in range(repeats[i])
        ]  # fmt: skip
        ends = np.cumsum(repeats)
        shown = ends - 1 if self.protocol.fid_repeat == "last" else ends - repeats
        kept = set(shown[:keep].tolist())

        def work(share: list) -> list[tuple[np.ndarray, np.ndarray | None]]:
            motions = generate(*zip(*(rows[k] for k in share)))
            embedded = embed_motion(self.judge, motions)
            return [(vector, motion if k in kept else None) for k, vector, motion in zip(share, embedded, motions)]

        began = time.perf_counter()
        made = self.share(work, list(range(len(rows))))
        found.seconds = (time.perf_counter() - began) / len(rows)
        embedded = np.stack([vector for vector, _ in made])
        if keep:
            found.kept[GENERATED] = [motion for _, motion in made if motion is not None]
        judge(GENERATED, self.real, asked, embedded[shown], [rows[k][2] for k in shown])
        if several:
            each = embedded[: several * per_text].reshape(several, per_text, -1)
            found.rows[GENERATED]["multimodality"] = metrics.multimodality(each, rng)


def finding_texts(text: np.ndarray, motion: np.ndarray, texts: Sequence[str], pool: int) -> Figures:
    """Share of motions whose text is among the 1, 2, 3 nearest of their pool, and that share by chance ("chance1", ...).

    Embeddings (N, C) and texts of a pass. Of motions that are said alike either's text is right.
    """
    gaps = np.swapaxes(metrics.pool_distances(text, motion, pool), -1, -2)  # (pools, motions, texts)
    codes = np.unique(texts, return_inverse=True)[1][: gaps.shape[0] * pool].reshape(-1, pool)
    alike = codes[:, :, None] == codes[:, None, :]
    places = retrieval_metrics.ranks(-gaps, alike, ties="optimistic")
    by_chance = [retrieval_metrics.chance(pool, each) for each in alike]
    found = {f"top{k}": float((places < k).mean()) for k in metrics.TOP_K}
    return found | {f"chance{k}": float(np.mean([each[f"R{k:02d}"] for each in by_chance])) / 100 for k in metrics.TOP_K}


def summary(figures: Sequence[Figures]) -> dict[str, metrics.Interval]:
    """Mean and interval of every metric over the replications that have it."""
    names = [name for name in METRICS if any(name in each for each in figures)]
    return {name: metrics.mean_interval([each[name] for each in figures if name in each]) for name in names}


def evaluate(
    generate: Generate | None, data: EvaluationSet, evaluator: TextMotionSpace, protocol: EvaluationProtocol, seed: int = 0,
    replications: int | None = None,
) -> dict[str, dict[str, metrics.Interval]]:  # fmt: skip
    """The table of a protocol, {row: {metric: interval}}, real motion first: the Python way in. None: real motion alone."""
    evaluation = Evaluation(data, evaluator, protocol, seed)
    count = protocol.replications if replications is None else replications
    found = [evaluation.replicate(number, Entrants(generate)).rows for number in range(count)]
    return {row: summary([rows[row] for rows in found]) for row in found[0]}
