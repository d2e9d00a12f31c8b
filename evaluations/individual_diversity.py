"""How much more varied two people become when each is told something of its own: EID, of DualMDM (Ruiz-Ponce et al. 2024).

Of every test clip some motions are made by the model of two people alone, with the texts of the clip, and as many by the blend
with what each does alone, told of anything that one-person data describe. What it costs to carry the one set of InterCLIP's
vectors over to the other is the clip's EID. That of two sets of the model of two people alone, which differ by their seeds, is
what no difference looks like.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from data_loaders.corpus import Corpus
from evaluations.interaction_set import InteractionSet, PairCaption
from evaluations.metrics import Interval, mean_interval
from evaluations.report import Report
from evaluations.transport import MOST_UPDATES, assignment_cost, transport_cost
from model.capabilities import OWN, Decoding, Request
from model.dualmdm import DualMDM
from model.embedding import TextMotionSpace
from protos.randomness import derive_seed
from sample.generation import features_for

BLEND, FLOOR = "blend, told of other motions", "two people alone, other seeds"
Costs = tuple[float, float]  # by the published updates, by the best assignment


@dataclass(frozen=True)
class DiversityProtocol:
    """As published: so many clips, motions of each, and replications."""

    clips: int = 100
    motions: int = 32
    replications: int = 5


@dataclass(frozen=True)
class Diversity:
    """What was found, as report.json has it. rows: EID and the cost of the best assignment; values: of each replication."""

    what: str
    dataset: str
    texts: str
    evaluator: str
    clips: int
    motions: int
    replications: int
    seed: int
    rows: dict[str, tuple[Interval, Interval]]
    values: list[dict[str, Costs]]
    made_from: dict[str, str | None] = field(default_factory=dict)
    command: str = ""


def captions_of(corpus: Corpus) -> list[str]:
    """All sentences that describe motions of a one-person dataset, those of its test split where it has one."""
    try:
        clips = corpus.split("test")
    except FileNotFoundError:
        clips = range(len(corpus))
    found = list(dict.fromkeys(caption.text for clip in clips for caption in corpus.captions(clip)))
    if not found:
        raise ValueError(f"{corpus.folder}: no caption that a person could be told: give another dataset of --texts")
    return found


def without_prior(model: DualMDM) -> DualMDM:
    """The same blend with nothing of the individual model in it."""
    return DualMDM(replace(model.config, blend="const", blend_value=0.0), model.statistics, model.parts)


class IndividualDiversity:
    """A blend, the clips, a judge and sentences; `replicate(k)` is a function of (seed, k) alone."""

    def __init__(
        self, model: DualMDM, data: InteractionSet, judge: TextMotionSpace, texts: Sequence[str], protocol: DiversityProtocol,
        decoding: Decoding = OWN, seed: int = 0,
    ):  # fmt: skip
        """texts: what people are told instead of their own. FeaturesMismatch where model, clips and judge differ in kind."""
        judge.require(data.features, "the real motions")
        model.features.require(data.features, "the model", "the real motions")
        self.model, self.alone, self.data, self.judge = model, without_prior(model), data, judge
        self.texts, self.protocol, self.decoding, self.seed = list(texts), protocol, decoding, seed

    def replicate(self, number: int) -> dict[str, Costs]:
        """Means over the clips that are drawn, by row."""
        rng = np.random.default_rng(derive_seed(self.seed, "diversity", number))
        drawn = self.data.draw(rng, pool=1).first(self.protocol.clips)
        costs = []
        for i, (caption, frames) in enumerate(zip(self.data.captions(drawn), drawn.length)):
            own = caption.individuals if isinstance(caption, PairCaption) and caption.individuals else None
            others = [tuple(rng.choice(self.texts, 2).tolist()) for _ in range(self.protocol.motions)]
            plain, again, blend = (
                self.vectors(maker, caption.text, int(frames), told, (number, i, which))
                for which, (maker, told) in enumerate([
                    (self.alone, [own] * len(others)), (self.alone, [own] * len(others)), (self.model, others)])
            )  # fmt: skip
            costs.append([[float(transport_cost(plain, other)), assignment_cost(plain, other)] for other in (blend, again)])
        return {row: tuple(means) for row, means in zip((BLEND, FLOOR), np.mean(costs, axis=0).tolist())}

    def vectors(
        self, maker: DualMDM, text: str, frames: int, told: Sequence[tuple[str, str] | None], place: tuple[int, int, int]
    ) -> Tensor:
        """(motions, C) of motions for one text and what each person is told; place: replication, clip, set."""
        frames = min(frames, maker.config.max_frames)
        requests = [
            Request(text, frames, derive_seed(self.seed, "motion", *place, k), individual_texts=each)
            for k, each in enumerate(told)
        ]
        made = features_for(maker, requests, self.decoding, progress=False)
        return torch.from_numpy(self.judge.encode_motion([each.numpy() for each in made]))


def summary(values: Sequence[dict[str, Costs]]) -> dict[str, tuple[Interval, Interval]]:
    """Means and intervals of each row over the replications."""
    return {row: tuple(map(mean_interval, zip(*(each[row] for each in values)))) for row in values[0]}


def diversity_report(found: Diversity, facts: dict[str, Any]) -> Report:
    """The report of an evaluation."""
    notes = [
        f"EID over {found.clips} clips of {found.dataset}, {found.motions} motions of each in either set, {found.replications} "
        f"replications (mean ± 95 % interval), seed {found.seed}; judge {found.evaluator}. Both sets have the texts about both "
        f"people; in that of the blend each person is told a sentence of {found.texts}. EID stops after {MOST_UPDATES} updates, "
        "as published, which may leave it some percent from the cost of the best assignment.",
        f"The row '{FLOOR}' compares two sets made alike: only what goes beyond it is more individual variety. Whether what each "
        "person was told is then seen is not measured by EID.",
    ]  # fmt: skip
    rows = [[row, *values] for row, values in found.rows.items()]
    return Report(f"Individual diversity of {found.what}", facts, ["", "EID ↑", "best assignment ↑"], rows, notes)
