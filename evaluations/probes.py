"""Probes: does a motion do what the prompt says? Rules on joints, no learned evaluator.

A `ContentProbe` judges one motion, a `PairProbe` two motions of the same seed by which of them is faster. The probes of a
dataset are a file, `datasets/NAME/probes.toml`: what its motions can show, thresholds, wordings that occur in no caption and
lengths of typical clips. `evaluations.probe_validation` shows on real clips what a probe is worth.
"""

import inspect
import re
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from data_loaders.corpus import Corpus
from data_loaders.known_datasets import dataset_named
from evaluations.probe_rules import RULES, Description, describe
from protos.reading import read_toml

DATASETS = Path(__file__).with_name("datasets")
PROBES_FILE = "probes.toml"
GROUPS = ("locomotion", "hands", "actions", "pairs")


def normalised(text: str) -> str:
    """Lower case letters and digits with single spaces: two wordings are the same when this is."""
    return " ".join(re.findall(r"[a-z0-9]+", text.lower().replace("'", "")))


@dataclass(frozen=True)
class Side:
    """What one motion of a probe shows: a content (of a real clip's label), in a style or in any, told by a rule."""

    content: str
    rule: str
    style: str | None = None


@dataclass(frozen=True)
class ContentProbe:
    """One content a motion can show. `implied_by`: other contents whose clips may pass too: they do it as well."""

    name: str
    group: str
    content: str
    rule: str
    prompts: tuple[str, ...]
    frames: tuple[int, ...]
    implied_by: tuple[str, ...] = ()
    roles: ClassVar = ("",)

    @property
    def sides(self) -> tuple[Side, ...]:
        return (Side(self.content, self.rule),)


@dataclass(frozen=True)
class PairProbe:
    """Two motions from one seed: each shows its content, and the second is at least `ratio` times as fast."""

    name: str
    group: str
    slow: Side
    fast: Side
    measure: str  # field of Description: speed of the root, or of the hands where the body stands
    ratio: float
    prompts: tuple[tuple[str, str], ...]
    frames: tuple[tuple[int, ...], tuple[int, ...]]
    implied_by: tuple[str, ...] = ()
    roles: ClassVar = ("slow", "fast")

    @property
    def content(self) -> str:
        return self.fast.content

    @property
    def sides(self) -> tuple[Side, ...]:
        return self.slow, self.fast


AnyProbe = ContentProbe | PairProbe


@dataclass(frozen=True)
class Sample:
    """One motion to make and judge. Both halves of a pair have the same probe, wording and repetition."""

    probe: str
    wording: int
    repetition: int
    role: str  # "", "slow" or "fast"
    prompt: str
    frames: int


@dataclass(frozen=True)
class Verdict:
    """A probe's word on one motion, or on the two of a pair: indices into the list of samples."""

    probe: str
    wording: int
    samples: tuple[int, ...]
    passed: bool


@dataclass(frozen=True)
class Judged:
    """Motions, joints (T, 22, 3) in metres, with what each was made for and what the probes say. Lists in one order."""

    samples: list[Sample]
    motions: list[np.ndarray]
    fps: float
    descriptions: list[Description | None]
    verdicts: list[Verdict]


@dataclass(frozen=True)
class Probes:
    """The probes of a dataset, as its file has them. `relabelled`: {recording: what it shows in truth}."""

    fps: float
    rules: dict[str, dict[str, Any]]
    content_probes: tuple[ContentProbe, ...]
    pair_probes: tuple[PairProbe, ...] = ()
    relabelled: dict[str, str] = field(default_factory=dict)
    left_right_hands: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        for name, rule in self.rules.items():
            thresholds = dict(rule)
            shown = RULES.get(thresholds.pop("shown", None))
            if shown is None:
                raise ValueError(f"rule '{name}' needs shown = one of {', '.join(RULES)}")
            try:
                inspect.signature(shown).bind(None, **thresholds)
            except TypeError as error:
                raise ValueError(f"rule '{name}': {error}") from None
        for probe in self.all:
            if probe.group not in GROUPS:
                raise ValueError(f"probe '{probe.name}' has group '{probe.group}', expected one of {', '.join(GROUPS)}")
            for side in probe.sides:
                if side.rule not in self.rules:
                    raise ValueError(f"probe '{probe.name}' has rule '{side.rule}', expected one of {', '.join(self.rules)}")
            if isinstance(probe, PairProbe) and probe.measure not in Description.__dataclass_fields__:
                raise ValueError(f"probe '{probe.name}' measures '{probe.measure}', which no Description has")

    @property
    def all(self) -> tuple[AnyProbe, ...]:
        return self.content_probes + self.pair_probes

    def __getitem__(self, name: str) -> AnyProbe:
        return next(probe for probe in self.all if probe.name == name)

    def chosen(self, only: str | None) -> tuple[AnyProbe, ...]:
        """Those of a group or with a name that begins so; all for None. Raises ValueError naming what there is."""
        found = tuple(p for p in self.all if only is None or p.group == only or p.name.startswith(only))
        if not found:
            names = "; ".join(probe.name for probe in self.all)
            raise ValueError(f"--only {only}: no such probe; there are {', '.join(GROUPS)}, and {names}")
        return found

    def texts(self) -> list[str]:
        """Every wording, the two of a pair one after the other, in the order of the file's contents and pairs."""
        return [sample.prompt for sample in self.plan(1)]

    def passes(self, probe: AnyProbe, *descriptions: Description | None) -> bool:
        """Whether the motion, or the slow and the fast one of a pair, shows what the probe asks."""
        for side, description in zip(probe.sides, descriptions, strict=True):
            if description is None:
                return False
            thresholds = dict(self.rules[side.rule])
            if not RULES[thresholds.pop("shown")](description, **thresholds):
                return False
        if isinstance(probe, ContentProbe):
            return True
        slow, fast = (getattr(description, probe.measure) for description in descriptions)
        return fast >= probe.ratio * slow

    def check(self, name: str, *motions: np.ndarray, fps: float) -> bool:
        """`passes` of joints (T, 22, 3) in metres, Y up."""
        return self.passes(self[name], *(describe(joints, fps) for joints in motions))

    def plan(
        self, repetitions: int, fps: float | None = None, chosen: tuple[AnyProbe, ...] | None = None
    ) -> list[Sample]:
        """Every wording of every probe (or of those chosen) `repetitions` times, the typical lengths in turn, at so many fps."""
        samples = []
        for probe in self.all if chosen is None else chosen:
            for wording, prompt in enumerate(probe.prompts):
                for repetition in range(repetitions):
                    paired = isinstance(probe, PairProbe)
                    texts, lengths = (prompt, probe.frames) if paired else ((prompt,), (probe.frames,))
                    for role, text, typical in zip(probe.roles, texts, lengths):
                        frames = round(typical[repetition % len(typical)] * (fps or self.fps) / self.fps)
                        samples.append(Sample(probe.name, wording, repetition, role, text, frames))
        return samples

    def judge(self, samples: list[Sample], descriptions: list[Description | None]) -> list[Verdict]:
        """One verdict per motion of a content probe and per complete pair, in the order of the samples."""
        together: dict[tuple[str, int, int], dict[str, int]] = {}
        for index, sample in enumerate(samples):
            together.setdefault((sample.probe, sample.wording, sample.repetition), {})[sample.role] = index
        verdicts = []
        for (name, wording, _), members in together.items():
            probe = self[name]
            if all(role in members for role in probe.roles):
                indices = tuple(members[role] for role in probe.roles)
                passed = self.passes(probe, *(descriptions[i] for i in indices))
                verdicts.append(Verdict(name, wording, indices, passed))
        return verdicts


def with_probes() -> list[str]:
    """Names of the datasets that have probes."""
    return sorted(path.parent.name for path in DATASETS.glob(f"*/{PROBES_FILE}"))


@lru_cache
def probes_of(dataset: str) -> Probes:
    """The probes of a dataset by its name. Raises ValueError naming the datasets that have some, FileError."""
    known = dataset_named(dataset)
    name = known.folder if known else dataset
    if name not in with_probes():
        raise ValueError(f"there are no probes for dataset {dataset}, only for {', '.join(with_probes())}")
    return read_toml(DATASETS / name / PROBES_FILE, Probes)


def probes_found(corpus: Corpus) -> Probes | None:
    """The probes of a dataset: by the name of its folder, or else those of a dataset that shows some of the same contents."""
    name = corpus.folder.resolve().name
    if name in with_probes():
        return probes_of(name)
    contents = {label.get("content") for label in corpus.labels}
    shared = {each: len(contents & {p.content for p in probes_of(each).content_probes}) for each in with_probes()}
    best = max(shared, key=shared.__getitem__)
    return probes_of(best) if shared[best] else None


def probes_for(corpus: Corpus) -> Probes:
    """`probes_found`; ValueError where a dataset has none."""
    if (found := probes_found(corpus)) is None:
        require_contents(corpus)
        raise ValueError(f"{corpus.folder} shows nothing that probes ask for; there are probes for {', '.join(with_probes())}")
    return found


def require_contents(corpus: Corpus) -> None:
    """Raises ValueError where a dataset does not say what its clips show."""
    if not any(label.get("content") for label in corpus.labels):
        raise ValueError(f"{corpus.folder}: its clips have no content labels, so probes cannot be validated on it; "
                         f"use {' or '.join(with_probes())}")  # fmt: skip
