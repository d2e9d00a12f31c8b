"""Probes: does a motion do what the prompt says? Rules on joints, no learned evaluator.

A `Probe` judges one motion, a `PairProbe` two motions of the same seed by which of them is faster. What each asks the
model and how many frames it gives it lies in `probe_wordings.json`: wordings that occur in no caption of the corpus,
lengths of typical clips of that content. `evaluations.probe_validation` shows on real clips what a probe is worth.
"""

import re
from dataclasses import dataclass
from functools import cached_property, lru_cache
from pathlib import Path

import numpy as np

from evaluations import probe_rules as rules
from evaluations.probe_rules import Description, Rule, describe
from protos.reading import read_json

WORDINGS_FILE = Path(__file__).with_name("probe_wordings.json")
WORDINGS_FPS = 20.0
GROUPS = ("locomotion", "hands", "actions", "pairs")

# What these clips show, where it differs from the content in their file names (measured, and seen in their captions).
RELABELLED = {
    "dataset-2_walk-turn-left_masculine_006": "walk-turn-right",
    "dataset-2_walk-turn-left_masculine_007": "walk-turn-right",
    "dataset-2_walk-turn-right_masculine_006": "walk-turn-left",
    "dataset-2_walk-turn-right_masculine_007": "walk-turn-left",
}


@lru_cache
def wordings() -> dict[str, dict]:
    """{probe: {"prompts": [...], "frames": [...]}} at 20 fps; pairs have [slow, fast] in place of a prompt."""
    return read_json(WORDINGS_FILE, dict[str, dict[str, list]])


def normalised(text: str) -> str:
    """Lower case letters and digits with single spaces: two wordings are the same when this is."""
    return " ".join(re.findall(r"[a-z0-9]+", text.lower().replace("'", "")))


@dataclass(frozen=True)
class Probe:
    """One content a motion can show. `implied_by`: other contents whose clips may pass too: they do it as well."""

    name: str
    group: str
    content: str
    rule: Rule
    implied_by: tuple[str, ...] = ()

    @cached_property
    def prompts(self) -> tuple[str, ...]:
        return tuple(wordings()[self.name]["prompts"])

    @cached_property
    def frames(self) -> tuple[int, ...]:
        return tuple(wordings()[self.name]["frames"])

    def check(self, joints: np.ndarray, fps: float) -> bool:
        """Whether joints (T, 22, 3) in metres, Y up, show it."""
        return self.passes(describe(joints, fps))

    def passes(self, description: Description | None) -> bool:
        return description is not None and self.rule(description)


@dataclass(frozen=True)
class Side:
    """One half of a pair: which real clips it stands for (`styles` None: both halves of the same style)."""

    content: str
    styles: tuple[str, ...] | None
    rule: Rule


@dataclass(frozen=True)
class PairProbe:
    """Two motions from one seed: each shows its content, and the second is at least `ratio` times as fast."""

    name: str
    slow: Side
    fast: Side
    measure: str  # field of Description: speed of the root, or of the hands where the body stands
    ratio: float
    implied_by: tuple[str, ...] = ()
    group: str = "pairs"

    @cached_property
    def prompts(self) -> tuple[tuple[str, str], ...]:
        return tuple((slow, fast) for slow, fast in wordings()[self.name]["prompts"])

    @cached_property
    def frames(self) -> tuple[tuple[int, ...], tuple[int, ...]]:
        slow, fast = wordings()[self.name]["frames"]
        return tuple(slow), tuple(fast)

    @property
    def content(self) -> str:
        return self.fast.content

    def check(self, slow: np.ndarray, fast: np.ndarray, fps: float) -> bool:
        """Whether two motions (T, 22, 3), made for the slow and for the fast wording, differ as they should."""
        return self.passes(describe(slow, fps), describe(fast, fps))

    def passes(self, slow: Description | None, fast: Description | None) -> bool:
        if slow is None or fast is None or not (self.slow.rule(slow) and self.fast.rule(fast)):
            return False
        return getattr(fast, self.measure) >= self.ratio * getattr(slow, self.measure)


AnyProbe = Probe | PairProbe

# What implies what: a dash is a run; a wave raises the hand; bye and byebye are farewells with the right and with both
# hands; respond lifts the left hand, guiding someone the right, calling both to the mouth; the minute of dance holds
# most arm and leg movements there are. Walking forward means straight on: turns and diagonal walks do not imply it.
CONTENT_PROBES: tuple[Probe, ...] = (
    Probe("walk forward", "locomotion", "walk", rules.walks_forward),
    Probe("walk backward", "locomotion", "walk-back", rules.walks_backward),
    Probe("run", "locomotion", "run", rules.runs, implied_by=("dash",)),
    Probe("turn left", "locomotion", "walk-turn-left", rules.turns_left),
    Probe("turn right", "locomotion", "walk-turn-right", rules.turns_right),
    Probe("raise left hand", "hands", "raise-up-left-hand", rules.raises_left_hand, ("wave-left-hand", "respond")),
    Probe("raise right hand", "hands", "raise-up-right-hand", rules.raises_right_hand,
          ("wave-right-hand", "bye", "guide")),
    Probe("raise both hands", "hands", "raise-up-both-hands", rules.raises_both_hands,
          ("wave-both-hands", "byebye", "call", "dance-short")),
    Probe("wave left hand", "hands", "wave-left-hand", rules.waves_left_hand),
    Probe("wave right hand", "hands", "wave-right-hand", rules.waves_right_hand, ("bye",)),
    Probe("wave both hands", "hands", "wave-both-hands", rules.waves_both_hands, ("byebye", "dance-short")),
    Probe("bow", "actions", "bow", rules.bows),
    Probe("punch", "actions", "punch", rules.punches, ("dance-short",)),
    Probe("kick", "actions", "kick", rules.kicks, ("dance-short",)),
)  # fmt: skip


def _styles(
    name: str, content: str, slow: str, fast: str, rule: Rule, measure: str, ratio: float, **more
) -> PairProbe:
    return PairProbe(name, Side(content, (slow,), rule), Side(content, (fast,), rule), measure, ratio, **more)


# Ratios: at most what 95 of 100 pairs of training clips reach. The corpus holds sprints that are slower than another
# style's run, so a sprint is judged against the run of the same style: there it is always faster.
PAIR_PROBES: tuple[PairProbe, ...] = (
    PairProbe("sprint", Side("run", None, rules.runs), Side("dash", None, rules.runs), "forward_speed", 1.15,
              group="locomotion"),
    PairProbe("run faster than walk", Side("walk", None, rules.walks_forward), Side("run", None, rules.runs),
              "forward_speed", 1.25, implied_by=("dash",)),
    _styles("walk, elderly slower than active", "walk", "elderly", "active", rules.walks_forward, "speed", 1.4),
    _styles("walk, exhausted slower than active", "walk", "exhausted", "active", rules.walks_forward, "speed", 1.12),
    _styles("run, elderly slower than youthful", "run", "elderly", "youthful", rules.runs, "speed", 1.35),
    _styles("turn left, exhausted slower than active", "walk-turn-left", "exhausted", "active",
            rules.turns_left, "speed", 1.12),
    _styles("raise right hand, elderly slower than youthful", "raise-up-right-hand", "elderly", "youthful",
            rules.raises_right_hand, "hand_speed", 2.0, implied_by=("wave-right-hand",)),
    _styles("raise both hands, exhausted slower than active", "raise-up-both-hands", "exhausted", "active",
            rules.raises_both_hands, "hand_speed", 1.5, implied_by=("wave-both-hands",)),
    _styles("wave left hand, elderly slower than active", "wave-left-hand", "elderly", "active",
            rules.waves_left_hand, "hand_speed", 2.5),
    _styles("wave both hands, exhausted slower than active", "wave-both-hands", "exhausted", "active",
            rules.waves_both_hands, "hand_speed", 1.5),
)  # fmt: skip

PROBES: tuple[AnyProbe, ...] = CONTENT_PROBES + PAIR_PROBES


@dataclass(frozen=True)
class Sample:
    """One motion to make and judge. Both halves of a pair have the same probe, wording and repetition."""

    probe: str
    wording: int
    repetition: int
    role: str  # "", "slow" or "fast"
    prompt: str
    frames: int


def plan(repetitions: int, fps: float = WORDINGS_FPS, probes: tuple[AnyProbe, ...] = PROBES) -> list[Sample]:
    """Every wording of every probe `repetitions` times, the typical lengths in turn."""
    samples = []
    for probe in probes:
        for wording, prompt in enumerate(probe.prompts):
            for repetition in range(repetitions):
                paired = isinstance(probe, PairProbe)
                roles = zip(("slow", "fast"), prompt, probe.frames) if paired else [("", prompt, probe.frames)]
                for role, text, lengths in roles:
                    frames = round(lengths[repetition % len(lengths)] * fps / WORDINGS_FPS)
                    samples.append(Sample(probe.name, wording, repetition, role, text, frames))
    return samples


@dataclass(frozen=True)
class Verdict:
    """A probe's word on one motion, or on the two of a pair: indices into the list of samples."""

    probe: str
    wording: int
    samples: tuple[int, ...]
    passed: bool


def judge(samples: list[Sample], descriptions: list[Description | None]) -> list[Verdict]:
    """One verdict per motion of a content probe and per complete pair, in the order of the samples."""
    by_name = {probe.name: probe for probe in PROBES}
    together: dict[tuple[str, int, int], dict[str, int]] = {}
    for index, sample in enumerate(samples):
        together.setdefault((sample.probe, sample.wording, sample.repetition), {})[sample.role] = index
    verdicts = []
    for (name, wording, _), members in together.items():
        probe = by_name[name]
        roles = ("slow", "fast") if isinstance(probe, PairProbe) else ("",)
        if all(role in members for role in roles):
            indices = tuple(members[role] for role in roles)
            verdicts.append(Verdict(name, wording, indices, probe.passes(*(descriptions[i] for i in indices))))
    return verdicts
