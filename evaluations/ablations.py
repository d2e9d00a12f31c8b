"""What each part of a reaction model is worth: runs that do without it beside complete ones, several seeds each, and beside
answers that need no model.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path

import numpy as np

from data_loaders.corpus import Corpus
from evaluations.interaction_set import InteractionSet
from evaluations.metrics import Interval
from evaluations.protocol import PROTOCOLS
from evaluations.reaction_measures import over_segments
from evaluations.reaction_report import COLUMNS, FEW, MANY, WITHOUT_MODEL
from evaluations.reaction_set import NEAREST, Segment, reaction_segments
from evaluations.reactions import (
    ERRORS,
    JUDGED,
    TRUTH,
    Answers,
    ReactionJudge,
    alignment_of,
    answers_of,
    answers_without_model,
    errors_by_clip,
    errors_of,
)
from evaluations.report import Report
from model.capabilities import OWN, Decoding, Reacts
from model.embedding import TextMotionSpace
from model.reaction_config import PARTS

COMPLETE, PROTOCOL = "complete", "intergen"


@dataclass(frozen=True)
class Run:
    """What one model, or one answer that needs none, came to: values of each recording, and figures of all together."""

    errors: dict[str, list[float]]  # of ERRORS
    judged: dict[str, float]  # of JUDGED, and `alignment` in percent


@dataclass(frozen=True)
class Ablations:
    """What the comparison came to, as report.json has it.

    runs: {row: checkpoints}; rows: {row: {metric: interval}}, ERRORS over the recordings, the mean of a row's runs counting, what
    is told of all together over the runs; spread: {row: least and largest MPJPE of its runs}; beside: {row: by how much its
    MPJPE is over that of the complete model, recording by recording}.
    """

    dataset: str
    evaluator: str | None  # none: without JUDGED
    segments: int
    samples: int
    seed: int
    text: bool
    runs: dict[str, list[str]]
    rows: dict[str, dict[str, Interval]]
    spread: dict[str, tuple[float, float]]
    beside: dict[str, Interval]
    made_from: dict[str, str | None] = field(default_factory=dict)
    command: str = ""


class Comparison:
    """Judges models on the same actions, of which every model answers as many frames as the one that answers fewest."""

    def __init__(self, corpus: Corpus, data: InteractionSet, space: TextMotionSpace | None, longest: int, samples: int = 10,
                 seed: int = 10, text: bool = False):
        """longest: frames of an action that is answered. FeaturesMismatch where the judge reads other features."""
        self.corpus, self.data, self.samples, self.seed, self.text = corpus, data, samples, seed, text
        self.segments: list[Segment] = reaction_segments(data, min(data.longest, longest))
        self.judge = space and ReactionJudge(space, self.segments, PROTOCOLS[PROTOCOL], seed)

    def of_model(self, model: Reacts, decoding: Decoding = OWN) -> Run:
        """What a model answers."""
        answers = answers_of(model, self.segments, self.samples, self.seed, decoding, self.text)
        found = self.of_answers(answers)
        return replace(found, judged=found.judged | {"alignment": 100 * alignment_of(model, self.segments)["share"]})

    def without_model(self) -> dict[str, Run]:
        """Recorded reactions, and the answers that need no model."""
        made = answers_without_model(self.segments, self.corpus, self.data, self.samples, self.seed)
        truth = {TRUTH: [[each.reaction] for each in self.segments]}
        return {row: self.of_answers(answers) for row, answers in (truth | made).items()}

    def of_answers(self, answers: Answers) -> Run:
        """What answers to all segments come to."""
        errors = [[errors_of(segment, reaction) for reaction in each] for segment, each in zip(self.segments, answers)]
        everyone = np.ones(len(self.segments), bool)
        judged = self.judge.figures(self.judge.vectors(answers), everyone) if self.judge else {}
        return Run(errors_by_clip(self.segments, errors), {name: value.mean for name, value in judged.items()})


def row_of(left_out: Sequence[str]) -> str:
    """The row of a model that does without some parts."""
    return f"without {', '.join(left_out).replace('_', ' ')}" if left_out else COMPLETE


def grouped(models: Mapping[Path, Reacts]) -> dict[str, list[Path]]:
    """{row: checkpoints} of models that differ in nothing but their parts, complete ones first. ValueError where they do, or
    where there is no complete one."""
    plain = {name: True for name in PARTS} | {"num_atomic_actions": 1}  # entries that are not filled are left out of a codebook
    first, *_ = models
    settings = {path: replace(model.config, **plain) for path, model in models.items()}
    for path, config in settings.items():
        if other := [each.name for each in fields(config) if getattr(config, each.name) != getattr(settings[first], each.name)]:
            raise ValueError(f"{path} has {other[0]} {getattr(config, other[0])}, {first} {getattr(settings[first], other[0])}: "
                             "models that are compared differ in the parts they do without, and in nothing else")  # fmt: skip
    rows: dict[str, list[Path]] = {COMPLETE: []}
    for path, model in models.items():
        rows.setdefault(row_of(model.config.left_out), []).append(path)
    if not rows[COMPLETE]:
        raise ValueError("none of these models has all parts: give the one that the others do without a part of")
    return rows


def summary(runs: Mapping[str, Sequence[Run]]) -> dict[str, dict[str, Interval]]:
    """{row: {metric: interval}} of the runs of each row."""
    found = {}
    for row, own in runs.items():
        errors = {name: over_segments(np.mean([run.errors[name] for run in own], axis=0)) for name in own[0].errors}
        found[row] = errors | {name: over_segments([run.judged[name] for run in own]) for name in own[0].judged}
    return found


def beside_complete(runs: Mapping[str, Sequence[Run]]) -> dict[str, Interval]:
    """{row: by how much its MPJPE is over that of the complete model, recording by recording}, the mean of the runs counting."""
    means = {row: np.mean([run.errors["mpjpe"] for run in own], axis=0) for row, own in runs.items()}
    return {row: over_segments(own - means[COMPLETE]) for row, own in means.items() if row not in (COMPLETE, TRUTH)}


def spread_of(runs: Mapping[str, Sequence[Run]]) -> dict[str, tuple[float, float]]:
    """{row: least and largest MPJPE of its runs} of rows with several."""
    each = {row: [float(np.mean(run.errors["mpjpe"])) for run in own] for row, own in runs.items() if len(own) > 1}
    return {row: (min(values), max(values)) for row, values in each.items()}


def verdict(gap: Interval | None) -> str | None:
    """What leaving a part out does to the MPJPE, as far as the interval tells."""
    if gap is None:
        return None
    return "farther" if gap.mean > gap.half_width else "nearer" if -gap.mean > gap.half_width else "not apart"


def ablation_report(found: Ablations) -> Report:
    """A row for each part that is left out, below the complete model; answers that need no model last."""
    names = [name for name in (*ERRORS[1:], *JUDGED, "alignment") if any(name in row for row in found.rows.values())]
    titles = COLUMNS | {"alignment": "alignment, % ↑"}
    columns = ["", "runs", "MPJPE, mm ↓", "of single runs", "over the complete", "that is", *(titles[name].format(found.samples)
                                                                                         for name in names)]  # fmt: skip
    rows = []
    for row, figures in found.rows.items():
        several, gap = found.spread.get(row), found.beside.get(row)
        apart = several and f"{several[0]:.1f}–{several[1]:.1f}"
        count = len(found.runs.get(row, ())) or None
        rows.append([row, count, figures["mpjpe"], apart, gap, verdict(gap), *map(figures.get, names)])
    sets = 2 * found.segments
    notes = [
        f"{found.segments} test segments, in each of which either person acts in turn; {found.samples} reactions of each, seed "
        f"{found.seed}. MPJPE, MPJVE and F1 of contacts: mean ± 95 % interval over the segments (Student's t), of the mean of a "
        "row's runs, samples and orders. 'Over the complete': the difference in MPJPE segment by segment; farther or nearer "
        "where its interval leaves 0 out. What is told of all together: mean ± 95 % interval over the runs (Student's t). "
        "Alignment: how many of the recorded reactions have a latent that is nearest to that of their own actor (chance: "
        f"{100 / found.segments:.1f} %).",
        *([f"FID, Diversity, MModality: {found.evaluator} on the true actor with the reaction, each sample being a set of {sets} "
           "motions; FID compares with the recorded ones." + f" **{FEW}**" * (sets < MANY)] if found.evaluator else []),
        *([WITHOUT_MODEL] if NEAREST in found.rows else []),
        f"The models {'are told' if found.text else 'are not told'} what the two do.",
    ]  # fmt: skip
    lists = {"runs.csv": (["row", "checkpoint"], [[row, path] for row, paths in found.runs.items() for path in paths])}
    return Report(f"What the parts of a reaction model are worth on {found.dataset}", asdict(found), columns, rows, notes,
                  lists=lists)  # fmt: skip
