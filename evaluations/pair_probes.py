"""Do two people do what a text about both says? Rules on joints, no learned judge.

The probes of a dataset are a file, `datasets/NAME/pair_probes.toml`. Whether a model heeds a text is told by motions that were
asked for something else: they are its shuffled control, as real segments whose captions do not name it are that of the rule.
"""

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from tqdm import tqdm

from data_loaders.corpus import Corpus, Motion
from data_loaders.physics import Physics
from evaluations.interaction_measures import pelvis_distance
from evaluations.interaction_set import interaction_set
from evaluations.metrics import Interval
from evaluations.motion_measures import HEAD, L_WRIST, R_WRIST, body_axes
from evaluations.motion_sources import feature_joints
from evaluations.pair_physics import physics_beside
from evaluations.probe_validation import OWN_RATE
from evaluations.probes import DATASETS
from evaluations.reaction_set import TrainingPairs
from evaluations.report import Report
from model.capabilities import Decoding, Generates, Request
from protos.randomness import derive_seed
from protos.reading import FileError, read_toml
from sample.generation import motions_for

PROBES_FILE = "pair_probes.toml"
SECONDS = 10.0  # of a motion that is asked for: a recorded segment's
SPIN, MEETING, PARTING, MOMENT = 3.0, 8.0, 4.0, 0.3  # seconds that a turn, a meeting, a parting and an end of a motion may take
UNNAMED_RATE = 0.25  # of real segments whose captions do not name it, that may show it all the same
OVER_HEAD = 0.05  # metres between the head's joint and a wrist over it

MEASURES = {
    "turned": "farthest that either turns within three seconds, degrees",
    "hand_over_head": "time that a hand of either is over the own head, seconds",
    "approach": "how much nearer the two come in the first eight seconds, metres",
    "parting": "how much farther apart they end than they were in the last four seconds, metres",
    "lowest_head": "lowest height of a head of either, metres",
}


@dataclass(frozen=True)
class PairProbe:
    """What is asked and how it is told: measures within [low, high). `named`: a pattern of captions that name it."""

    name: str
    named: str
    within: dict[str, tuple[float, float]]
    prompts: tuple[str, ...]

    def __post_init__(self) -> None:
        if unknown := [measure for measure in self.within if measure not in MEASURES]:
            raise ValueError(f"probe '{self.name}' measures '{unknown[0]}', expected one of {', '.join(MEASURES)}")
        try:
            re.compile(self.named)
        except re.error as error:
            raise ValueError(f"probe '{self.name}' has a pattern that cannot be read: {error}") from None

    def shown(self, measures: dict[str, float] | None) -> bool:
        """Whether a motion shows it; one that cannot be measured shows nothing."""
        return measures is not None and all(low <= measures[name] < high for name, (low, high) in self.within.items())


@dataclass(frozen=True)
class PairProbesFile:
    """A file of probes."""

    probes: tuple[PairProbe, ...]


def pair_probes_of(dataset: str) -> tuple[PairProbe, ...]:
    """The probes of a dataset by its name. ValueError naming the datasets that have some, FileError."""
    there = sorted(path.parent.name for path in DATASETS.glob(f"*/{PROBES_FILE}"))
    if dataset not in there:
        raise ValueError(f"there are no probes of two people for dataset {dataset}, only for {', '.join(there)}")
    path = DATASETS / dataset / PROBES_FILE
    try:
        return read_toml(path, PairProbesFile).probes
    except ValueError as error:
        raise error if isinstance(error, FileError) else FileError(f"{path}: {error}") from None


def describe_pair(joints: np.ndarray, fps: float) -> dict[str, float] | None:
    """A number for each of MEASURES of joints (2, T, 22, 3) in metres, Y up; None where they are not finite or last no second."""
    joints = np.asarray(joints, np.float64)
    if joints.shape[1] < fps or not np.isfinite(joints).all():
        return None
    turns = [np.degrees(body_axes(person, fps)[0]) for person in joints]  # (T,) each
    heads, wrists = joints[:, :, HEAD, 1], joints[:, :, [L_WRIST, R_WRIST], 1].max(-1)  # (2, T)
    apart, moment = pelvis_distance(joints), max(1, round(MOMENT * fps))
    return {
        "turned": max(_widest(turn, round(SPIN * fps)) for turn in turns),
        "hand_over_head": float((wrists > heads + OVER_HEAD).sum(1).max() / fps),
        "approach": float(apart[:moment].mean() - apart[: round(MEETING * fps)].min()),
        "parting": float(apart[-moment:].mean() - apart[-round(PARTING * fps) :].min()),
        "lowest_head": float(heads.min()),
    }


def _widest(values: np.ndarray, frames: int) -> float:
    """Largest difference of two of values (T,) that lie at most so many frames apart."""
    windows = np.lib.stride_tricks.sliding_window_view(values, min(frames, len(values)))
    return float(np.ptp(windows, axis=1).max())


# ------------------------------------------------------------------------------------------------------- judging a model


@dataclass(frozen=True)
class Asked:
    """A motion that was made for a wording of a probe, or a real segment with its captions (probe ''), and its measures."""

    probe: str
    texts: tuple[str, ...]
    measures: dict[str, float] | None
    split: str = ""  # of a real segment


@dataclass(frozen=True)
class Heeded:
    """How often a probe is shown: where it was asked for, and where something else was; of real segments likewise. standing:
    measures of two who hold the mean pose."""

    probe: PairProbe
    made: Sequence[Asked]
    real: Sequence[Asked]
    standing: dict[str, float] | None = None

    @cached_property
    def asked(self) -> Interval | None:
        return self._share([each for each in self.made if each.probe == self.probe.name])

    @cached_property
    def asked_else(self) -> Interval | None:
        """The shuffled control."""
        return self._share([each for each in self.made if each.probe != self.probe.name])

    @cached_property
    def named(self) -> Interval | None:
        return self._share([each for each in self.real if self._names(each)])

    @cached_property
    def unnamed(self) -> Interval | None:
        return self._share([each for each in self.real if not self._names(each)])

    @cached_property
    def held_out(self) -> Interval | None:
        """Of real segments that are not trained on."""
        return self._share([each for each in self.real if self._names(each) and each.split != "train"])

    @property
    def valid(self) -> bool:
        """Whether the rule is worth asking by: nearly all real segments that name it show it, few others do, and nobody who
        stands still."""
        if self.named is None:
            return False
        named, others = self.named.mean / 100, self.unnamed.mean / 100 if self.unnamed else 0.0
        failed = round((1 - named) * sum(map(self._names, self.real)))
        return (named >= OWN_RATE or failed <= 1) and others <= UNNAMED_RATE and not self.shown_standing

    @property
    def shown_standing(self) -> bool:
        """Whether two who hold the mean pose show it."""
        return self.probe.shown(self.standing)

    @property
    def heeded(self) -> str | None:
        """yes where it is shown more often when it was asked for, by intervals that have nothing in common."""
        if self.asked is None or self.asked_else is None:
            return None
        apart = self.asked.mean - self.asked_else.mean > self.asked.half_width + self.asked_else.half_width
        return "yes" if apart else "no"

    def _names(self, segment: Asked) -> bool:
        return any(re.search(self.probe.named, text) for text in segment.texts)

    def _share(self, motions: Sequence[Asked]) -> Interval | None:
        """Percent of motions that show it, ± the half-width of a 95 % interval (Agresti & Coull 1998); None of none."""
        if not motions:
            return None
        shown, count = sum(self.probe.shown(each.measures) for each in motions), len(motions)
        middle = (shown + 2) / (count + 4)
        return Interval(100 * shown / count, 100 * 1.96 * math.sqrt(middle * (1 - middle) / (count + 4)))


def make_pairs(model: Generates, probes: Sequence[PairProbe], seeds: int, seed: int,
               decoding: Decoding) -> tuple[list[Asked], list[Motion]]:
    """Every wording of every probe so many times, each as long as a recorded segment or the model's longest motion."""
    frames = min(round(SECONDS * model.features.fps), model.config.max_frames)
    plan = [(probe.name, prompt, k) for probe in probes for prompt in probe.prompts for k in range(seeds)]
    requests = [Request(prompt, frames, derive_seed(seed, "pair probe", prompt, k)) for _, prompt, k in plan]
    motions = motions_for(model, requests, decoding)
    asked = [Asked(name, (prompt,), describe_pair(motion.joints, motion.fps))
             for (name, prompt, _), motion in zip(plan, motions)]  # fmt: skip
    return asked, motions


def real_segments(corpus: Corpus) -> list[Asked]:
    """The recorded segments of all splits."""
    found = []
    for split in ("train", "val", "test"):
        data = interaction_set(corpus, split)
        joints = feature_joints([entry.motion for entry in data.entries], corpus.features)
        for entry, motion in zip(data.entries, tqdm(joints, desc=split, unit="segment", disable=None)):
            texts = tuple(caption.text for caption in entry.captions)
            found.append(Asked("", texts, describe_pair(motion, corpus.fps), split))
    return found


def standing_pair(corpus: Corpus) -> np.ndarray:
    """Joints (2, T, J, 3) of two in the mean pose of the train split, as far apart as people are there, face to face."""
    pairs = TrainingPairs(corpus, "kept")
    one = np.repeat(pairs.pose.numpy()[None], round(SECONDS * corpus.fps), axis=0)
    return np.stack([one, one * [-1, 1, -1] + [0, 0, pairs.distance]])


def pair_validity(probes: Sequence[PairProbe], corpus: Corpus, command: str) -> tuple[Report, bool]:
    """What each probe is worth on the real segments of a corpus, and whether all are valid."""
    real, standing = real_segments(corpus), describe_pair(standing_pair(corpus), corpus.fps)
    found = [Heeded(probe, [], real, standing) for probe in probes]
    columns = ["shown by real segments, %", "named", "of them held out", "not named", "by the mean pose", "verdict"]
    rows = [[each.probe.name, each.named, each.held_out, each.unnamed, "yes" if each.shown_standing else "no",
             "valid" if each.valid else "INVALID"] for each in found]  # fmt: skip
    figures = {each.probe.name: dict(zip(columns[1:], row[1:])) for each, row in zip(found, rows)}
    notes = [
        f"Of {len(real)} recorded segments of all splits, on which the rules were chosen. Valid: at least {100 * OWN_RATE:.0f} % "
        "of the segments whose captions name it show it, or all but one, at most "
        f"{100 * UNNAMED_RATE:.0f} % of the others, whose captions need not say all that is done, and not two who hold the mean "
        "pose, face to face.",
    ]  # fmt: skip
    facts = {"command": command, "made_from": {"dataset": corpus.stamp}, "segments": len(real), "probes": figures}
    report = Report(f"Validity of the probes of two people on {corpus.folder.name}", facts, columns, rows, notes)
    return report, all(each.valid for each in found)


def pair_report(facts: dict[str, Any], probes: Sequence[PairProbe], made: Sequence[Asked], real: Sequence[Asked],
                physics: Mapping[str, Physics]) -> Report:
    """A row for each probe. facts: among them `model`, `command` and what it was `made_from`."""
    found = [Heeded(probe, made, real) for probe in probes]
    columns = ["shown by motions, %", "asked for it", "asked for something else", "heeded", "real, named", "real, not named"]
    rows = [[each.probe.name, each.asked, each.asked_else, each.heeded, each.named, each.unnamed] for each in found]
    notes = [
        f"{len(made)} motions by {facts['model']}, of wordings that occur in no caption; {len(real)} recorded segments of all "
        "splits, on which the rules were chosen. 'asked for something else' is the shuffled control; heeded: its 95 % interval "
        "and that of 'asked for it' have nothing in common.",
    ]  # fmt: skip
    figures = {each.probe.name: dict(zip(columns[1:], row[1:])) for each, row in zip(found, rows)}
    if physics:
        notes += ["## Bodies, and what lies between them", physics_beside(physics)]
    facts = {**facts, "probes": figures, "physics": dict(physics)}
    return Report("Do two people do what they are told?", facts, columns, rows, notes)
