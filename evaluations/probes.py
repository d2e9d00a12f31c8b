"""Probes: does a motion do what the prompt says? Rules on joints, no learned evaluator.

A probe of one side judges a motion by a rule; one of two sides judges two motions of the same seed by theirs and by which of
them is faster. The probes of a dataset are a file, `datasets/NAME/probes.toml`: what its motions can show, rules, wordings that
occur in no caption and lengths of typical clips; that of a dataset that holds another builds on the other's.
`evaluations.probe_validation` shows on real clips what a probe is worth.
"""

import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

from data_loaders.corpus import Corpus
from data_loaders.known_datasets import dataset_named
from evaluations.motion_measures import MEASURES, Measures
from protos.reading import FileError, read_toml

DATASETS = Path(__file__).with_name("datasets")
PROBES_FILE = "probes.toml"
ACTIVITIES = "activities"  # what a dataset shows beside the contents of its base
GROUPS = ("locomotion", "hands", "actions", "pairs", ACTIVITIES)


def plain_words(text: str) -> str:
    """Lower case letters and digits with single spaces: two wordings are the same when this is."""
    return " ".join(re.findall(r"[a-z0-9]+", text.lower().replace("'", "")))


@dataclass(frozen=True)
class Rule:
    """What a motion shows: measures within [low, high), all, any and none of what other rules, named before, say."""

    within: dict[str, tuple[float, float]] = field(default_factory=dict)
    all_of: tuple[str, ...] = ()
    any_of: tuple[str, ...] = ()
    none_of: tuple[str, ...] = ()


@dataclass(frozen=True)
class Side:
    """What one motion of a probe shows: a content (of a real clip's label), in a style or in any, told by a rule."""

    content: str
    rule: str
    style: str | None = None


@dataclass(frozen=True)
class Probe:
    """What is asked and how it is told. Of two sides, slow and fast, the second is at least `ratio` times as fast in `measure`.

    prompts: wordings, of two sides a pair each. frames: lengths of typical clips, of two sides a list each. implied_by: other
    contents whose clips may pass too: they do it as well.
    """

    name: str
    group: str
    sides: tuple[Side, ...]
    prompts: tuple[str | tuple[str, str], ...]
    frames: tuple[int | tuple[int, ...], ...]
    implied_by: tuple[str, ...] = ()
    measure: str = "speed"
    ratio: float = 1.0

    @property
    def paired(self) -> bool:
        """Whether two motions are asked for."""
        return len(self.sides) == 2

    @property
    def content(self) -> str:
        """What its motion, or the fast one, shows."""
        return self.sides[-1].content

    @property
    def wordings(self) -> tuple[tuple[str, ...], ...]:
        """A prompt for each side, by wording."""
        return tuple(prompt if self.paired else (prompt,) for prompt in self.prompts)

    @property
    def lengths(self) -> tuple[tuple[int, ...], ...]:
        """Lengths of typical clips in frames, by side."""
        return self.frames if self.paired else (self.frames,)


@dataclass(frozen=True)
class Trial:
    """A wording of a probe asked once: a prompt and a length in frames for each side, all of one seed."""

    probe: str
    wording: int
    repetition: int
    prompts: tuple[str, ...]
    frames: tuple[int, ...]


@dataclass(frozen=True)
class Probes:
    """The probes of a dataset, those of its base included; lengths count at `fps`. `relabelled`: {recording, as its own dataset
    calls it: what it shows in truth}.

    ValueError names what contradicts itself.
    """

    fps: float
    rules: dict[str, Rule]
    probes: tuple[Probe, ...]
    relabelled: dict[str, str] = field(default_factory=dict)
    left_right_hands: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if not self.fps > 0:
            raise ValueError("fps is missing, and there is no base that tells it")
        before: list[str] = []
        for name, rule in self.rules.items():
            _require(f"rule '{name}' bounds", rule.within, MEASURES)
            for other in (*rule.all_of, *rule.any_of, *rule.none_of):
                if other not in before:
                    raise ValueError(f"rule '{name}' names '{other}', which does not stand above it")
            before.append(name)
        for probe in self.probes:
            _require(f"probe '{probe.name}' has group", [probe.group], GROUPS)
            _require(f"probe '{probe.name}' has rule", [side.rule for side in probe.sides], self.rules)
            _require(f"probe '{probe.name}' measures", [probe.measure], MEASURES)
            paired = {isinstance(each, tuple) for each in probe.prompts + probe.frames}
            if len(probe.sides) not in (1, 2) or paired != {probe.paired}:
                raise ValueError(f"probe '{probe.name}' has {len(probe.sides)} sides: expected one, or two with pairs of prompts "
                                 "and a list of frames for each")  # fmt: skip

    @property
    def content_probes(self) -> tuple[Probe, ...]:
        """Those of one side."""
        return tuple(probe for probe in self.probes if not probe.paired)

    def content_of(self, labels: Mapping[str, Any], name: str) -> str:
        """What a clip shows, by its labels and the name of its recording; mirrored ones by their labels alone."""
        original = None if labels.get("mirrored") else labels.get("original") or labels.get("source", name)
        return self.relabelled.get(original, labels.get("content", ""))

    def __getitem__(self, name: str) -> Probe:
        return next(probe for probe in self.probes if probe.name == name)

    def chosen(self, only: str | None) -> tuple[Probe, ...]:
        """Those of a group or with a name that begins so; all for None. Raises ValueError naming what there is."""
        found = tuple(p for p in self.probes if only is None or p.group == only or p.name.startswith(only))
        if not found:
            names = "; ".join(probe.name for probe in self.probes)
            raise ValueError(f"--only {only}: no such probe; there are {', '.join(GROUPS)}, and {names}")
        return found

    def texts(self) -> list[str]:
        """Every wording, the two of a pair one after the other, in the order of the file."""
        return [text for probe in self.probes for wording in probe.wordings for text in wording]

    def shows(self, rule: str, measures: Measures) -> bool:
        """Whether a motion shows what a rule says."""
        said = self.rules[rule]
        shown = partial(self.shows, measures=measures)
        return (
            all(low <= measures[name] < high for name, (low, high) in said.within.items())
            and all(map(shown, said.all_of))
            and (not said.any_of or any(map(shown, said.any_of)))
            and not any(map(shown, said.none_of))
        )

    def passes(self, probe: Probe, *motions: Measures | None) -> bool:
        """Whether the motion, or the slow and the fast one of a pair, shows what the probe asks."""
        if not all(found is not None and self.shows(side.rule, found) for side, found in zip(probe.sides, motions, strict=True)):
            return False
        return motions[-1][probe.measure] >= probe.ratio * motions[0][probe.measure] if probe.paired else True

    def plan(self, repetitions: int, fps: float | None = None, chosen: Sequence[Probe] | None = None) -> list[Trial]:
        """Every wording of every probe (or of those chosen) `repetitions` times, the typical lengths in turn, at so many fps."""
        faster = (fps or self.fps) / self.fps
        return [
            Trial(probe.name, wording, repetition, prompts,
                  tuple(round(typical[repetition % len(typical)] * faster) for typical in probe.lengths))
            for probe in (self.probes if chosen is None else chosen)
            for wording, prompts in enumerate(probe.wordings) for repetition in range(repetitions)
        ]  # fmt: skip


@dataclass(frozen=True)
class Amendment:
    """What a probe is on a dataset that holds its own: implied by further contents too, perhaps of another group."""

    implied_by: tuple[str, ...] = ()
    group: str | None = None


@dataclass(frozen=True)
class ProbesFile:
    """A file of probes. One with a `base`, a dataset that has probes, says what it adds to those: rules (in the place of those of
    the same name), probes, relabelled recordings, and by their names what the base's probes are `amended` by."""

    base: str | None = None
    fps: float | None = None
    rules: dict[str, Rule] = field(default_factory=dict)
    probes: tuple[Probe, ...] = ()
    relabelled: dict[str, str] = field(default_factory=dict)
    left_right_hands: tuple[str, ...] = ()
    amended: dict[str, Amendment] = field(default_factory=dict)

    def on(self, base: Probes) -> Probes:
        """These on those of the base. ValueError names what contradicts itself."""
        _require("amended probe", self.amended, [probe.name for probe in base.probes])
        amended = []
        for probe in base.probes:
            more = self.amended.get(probe.name, Amendment())
            amended.append(replace(probe, group=more.group or probe.group, implied_by=probe.implied_by + more.implied_by))
        return Probes(
            self.fps or base.fps, {**base.rules, **self.rules}, (*amended, *self.probes), base.relabelled | self.relabelled,
            base.left_right_hands + self.left_right_hands,
        )  # fmt: skip


def read_probes(path: Path) -> Probes:
    """The probes of a file, those of its base included. FileError names what is wrong."""
    file = read_toml(path, ProbesFile)
    try:
        return file.on(probes_of(file.base) if file.base else Probes(file.fps or 0, {}, ()))
    except ValueError as error:
        raise FileError(f"{path}: {error}") from None


def _require(what: str, names: Iterable[str], known: Iterable[str]) -> None:
    for name in names:
        if name not in known:
            raise ValueError(f"{what} '{name}', expected one of {', '.join(known)}")


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
    return read_probes(DATASETS / name / PROBES_FILE)


def probes_found(corpus: Corpus) -> Probes | None:
    """The probes of a dataset: by the name of its folder, or else those of a dataset that shows most of the same contents and
    fewest others."""
    name = dataset_like(corpus, {each: {p.content for p in probes_of(each).content_probes} for each in with_probes()})
    return probes_of(name) if name else None


def dataset_like(corpus: Corpus, known: Mapping[str, Collection[str]]) -> str | None:
    """Which of the datasets, whose contents are `known`, a corpus is by the name of its folder, or else resembles: it shows most
    of the same contents and fewest others. None where it has none of them."""
    name = corpus.folder.resolve().name
    if name in known:
        return name
    contents = {label.get("content") for label in corpus.labels}
    best = max(known, key=lambda each: (len(contents & set(known[each])), -len(known[each])))
    return best if contents & set(known[best]) else None


def contents_of(corpus: Corpus) -> dict[str, str]:
    """What each clip shows, by its name: what its label says, or a dataset's probes where they know better; '' for none."""
    probes = probes_found(corpus)
    shown = probes.content_of if probes else lambda labels, name: labels.get("content", "")
    return {name: shown(labels, name) for name, labels in zip(corpus.names, corpus.labels)}


def probes_for(corpus: Corpus) -> Probes:
    """`probes_found`; ValueError where a dataset has none."""
    if (found := probes_found(corpus)) is None:
        raise ValueError(f"{corpus.folder} shows nothing that probes ask for; there are probes for {', '.join(with_probes())}")
    return found
