"""What a probe is worth: how real clips, noise, the mean pose and shuffled prompts fare with it.

A probe is valid when at least 95 % of the real clips of its content pass (all but one where there are fewer than 20),
at most 10 % of the clips of any other content that does not imply it, and at most 10 % of noise, of the mean pose and
of motions made for other prompts.
"""

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import torch
from scipy.ndimage import gaussian_filter1d
from tqdm import tqdm

from data_loaders.clips import window_number
from data_loaders.corpus import Corpus
from evaluations.motion_measures import Measures, describe
from evaluations.probes import Probe, Probes, Side, with_probes

OWN_RATE, OTHER_RATE = 0.95, 0.10
FEW = 20  # fewer real clips than this may fail once
RARE = 5  # contents with fewer training clips are reported apart
PER_CONTROL = 20  # clips per probe among the shuffled prompts
BLIND_PAIRS = 1000  # drawn from all styles
Told = tuple[Measures | None, ...]  # of a motion, or of the two of a pair


@dataclass(frozen=True)
class RealClip:
    """A whole recording of the corpus: joints (T, J, 3) in metres, the content it shows, and who shows it. `cuts`: measures of
    the clips it was cut into, of which a model learns; its own where it is one clip."""

    name: str
    content: str
    style: str
    actor: str
    split: str
    joints: np.ndarray
    measures: Measures | None
    cuts: tuple[Measures | None, ...]


@dataclass(frozen=True)
class Validity:
    """A row of the table. Rates are shares of clips (of pairs, for a paired probe) that pass."""

    probe: str
    content: str
    own: float
    own_count: int
    own_cuts: float | None  # the same for the clips that long recordings were cut into: what a model can reach; of one side only
    takes: tuple[int, int, int]  # recordings of its content in train, val and test; of two sides, of the rarer one
    held_out: float | None  # the same for clips outside the training split
    others: dict[str, float]  # content that does not imply the probe -> rate
    controls: dict[str, float]  # noise, smooth noise, mean pose, shuffled prompts -> rate
    rare: bool
    valid: bool
    reasons: tuple[str, ...] = ()
    style_blind: float | None = None  # pairs of one content drawn from all styles: what a model deaf to style would get

    @property
    def worst_other(self) -> tuple[str, float]:
        """The content that passes most often though it should not, and its rate; ("", 0) where none does."""
        passing = (item for item in self.others.items() if item[1])
        return max(passing, key=lambda item: item[1], default=("", 0.0))


def real_clips(corpus: Corpus, probes: Probes) -> list[RealClip]:
    """Every recording as it was made: no mirrored twins, and the windows of a long one put together again.

    ValueError where the corpus does not say what its clips show.
    """
    if not any(label.get("content") for label in corpus.labels):
        raise ValueError(f"{corpus.folder}: its clips have no content labels, so probes cannot be validated on it; "
                         f"use {' or '.join(with_probes())}")  # fmt: skip
    if corpus.skeleton.num_joints != 22:
        raise ValueError(f"{corpus.folder} has the {corpus.skeleton.name} skeleton; probes judge the 22 joints of humanml")
    splits = {i: name for name in ("train", "val", "test") for i in corpus.split(name)}
    recordings: dict[str, list[int]] = defaultdict(list)
    for i, label in enumerate(corpus.labels):
        if not label.get("mirrored"):
            recordings[label.get("source", corpus.names[i])].append(i)
    clips = []
    for source, parts in tqdm(recordings.items(), desc="real clips", unit="clip", disable=None):
        parts = sorted(parts, key=lambda i: window_number(corpus.names[i]))
        cuts = [corpus[i] for i in parts]
        joints = joints_of(corpus, np.concatenate(cuts))
        whole = describe(joints, corpus.fps)
        told = tuple(describe(joints_of(corpus, rows), corpus.fps) for rows in cuts) if len(cuts) > 1 else (whole,)
        label = corpus.labels[parts[0]]
        actor = (label.get("recording") or label.get("original") or source).split("_")[0]
        clips.append(RealClip(source, probes.content_of(label, source), label.get("style", ""), actor, splits.get(parts[0], ""),
                              joints, whole, told))  # fmt: skip
    return clips


def joints_of(corpus: Corpus, rows: np.ndarray) -> np.ndarray:
    """Joints (T, J, 3) in metres of features (T, D) of one person."""
    return corpus.features.joints(torch.from_numpy(np.array(rows))).numpy()


def control_motions(corpus: Corpus, probes: Probes, count: int = 200, seed: int = 0) -> dict[str, list[Measures | None]]:
    """Motions that say nothing: white noise and noise smooth over a quarter of a second in the corpus' own statistics,
    and the mean pose (which glides, since the mean speed is not 0), at the lengths of the probes."""
    random = np.random.default_rng(seed)
    lengths = random.choice([frames for trial in probes.plan(1, corpus.fps) for frames in trial.frames], count)

    def decoded(rows: np.ndarray) -> Measures | None:
        return describe(joints_of(corpus, (rows * corpus.std + corpus.mean).astype(np.float32)), corpus.fps)

    controls: dict[str, list[Measures | None]] = {"noise": [], "smooth noise": []}
    for frames in lengths:
        white = random.standard_normal((frames, len(corpus.mean)))
        smooth = gaussian_filter1d(white, 0.25 * corpus.fps, axis=0, mode="wrap")
        controls["noise"].append(decoded(white))
        controls["smooth noise"].append(decoded(smooth / smooth.std()))
    return {**controls, "mean pose": [decoded(np.zeros((frames, len(corpus.mean)))) for frames in sorted(set(lengths))]}


def standing_for(side: Side, clips: Iterable[RealClip], beside: RealClip | None = None) -> list[RealClip]:
    """Clips that can stand for a side: in its style, or where it has none in the style and by the actor of the clip `beside`."""

    def fits(clip: RealClip) -> bool:
        if side.style is not None or beside is None:
            return side.style in (None, clip.style)
        return (clip.style, clip.actor) == (beside.style, beside.actor)

    return [clip for clip in clips if clip is not beside and fits(clip)]


def trials_of(probe: Probe, *clips: Sequence[RealClip]) -> list[tuple[RealClip, ...]]:
    """All real clips, or pairs of them, of which a probe can be asked: of its styles, or of the same style and actor."""
    *slow, last = zip(probe.sides, clips, strict=True)
    asked = [(clip,) for clip in standing_for(*last)]
    return [(a, b) for (b,) in asked for a in standing_for(*slow[0], b)] if slow else asked


def validate(
    clips: Sequence[RealClip],
    controls: dict[str, list[Measures | None]],
    probes: Probes,
    chosen: Sequence[Probe] | None = None,
    seed: int = 0,
) -> list[Validity]:
    """What each probe, or each chosen one, is worth."""
    by_content: dict[str, list[RealClip]] = defaultdict(list)
    for clip in clips:
        by_content[clip.content].append(clip)
    validation = _Validation(probes, dict(by_content), controls, np.random.default_rng(seed))
    return [validation.row(probe) for probe in (probes.probes if chosen is None else chosen)]


@dataclass(frozen=True)
class _Validation:
    probes: Probes
    by_content: Mapping[str, list[RealClip]]
    controls: Mapping[str, list[Measures | None]]
    random: np.random.Generator

    def row(self, probe: Probe) -> Validity:
        """What a probe is worth."""
        own = [self.by_content.get(side.content, []) for side in probe.sides]
        trials = trials_of(probe, *own)
        passing, count = self.rate(probe, trials) or 0.0, len({clips[-1].name for clips in trials})  # the rarer side's clips

        def in_their_place(clips: Sequence[RealClip]) -> list[tuple[RealClip, ...]]:
            """Another content in the place of both sides, or of the fast one where those differ by content."""
            slow = [clips] if probe.sides[0].style else own
            return trials_of(probe, *slow[: len(own) - 1], clips)

        others = {
            content: rate for content, clips in self.by_content.items() if content not in (probe.content, *probe.implied_by)
            if (rate := self.rate(probe, in_their_place(clips))) is not None
        }  # fmt: skip
        silent = {name: pairwise(each) if probe.paired else zip(each) for name, each in self.controls.items()}
        silent["shuffled prompts"] = self.shuffled(probe, trials)
        controls = {name: self.share(probe, each) or 0.0 for name, each in silent.items()}
        allowed = 1 if count < FEW else (1 - OWN_RATE) * count
        reasons = []
        if not count:
            reasons.append("no real clip of its content")
        elif round(count * (1 - passing)) > allowed:
            reasons.append(f"only {passing:.0%} of its own clips pass")
        reasons += [f"{rate:.0%} of {name} pass" for name, rate in {**others, **controls}.items() if rate > OTHER_RATE]
        held_out = trials_of(probe, *own[:-1], [clip for clip in own[-1] if clip.split != "train"])
        splits = (Counter(clip.split for clip in each) for each in own)
        takes = min(tuple(found[split] for split in ("train", "val", "test")) for found in splits)
        cuts = None if probe.paired else self.share(probe, ((each,) for clip in own[0] for each in clip.cuts))
        return Validity(
            probe.name, "/".join(sorted({side.content for side in probe.sides})), passing, count, cuts, takes,
            self.rate(probe, held_out), others, controls, takes[0] < RARE, not reasons, tuple(reasons),
            self.style_blind(probe, own) if probe.sides[0].style else None,
        )  # fmt: skip

    def share(self, probe: Probe, motions: Iterable[Told]) -> float | None:
        """Share that passes; None of none."""
        passed = [self.probes.passes(probe, *each) for each in motions]
        return float(np.mean(passed)) if passed else None

    def rate(self, probe: Probe, trials: Iterable[tuple[RealClip, ...]]) -> float | None:
        """Share of real clips, or of pairs, that passes; None of none."""
        return self.share(probe, (tuple(clip.measures for clip in each) for each in trials))

    def shuffled(self, probe: Probe, trials: Sequence[tuple[RealClip, ...]]) -> Iterable[Told]:
        """Motions made for other prompts: clips of the other probes' contents that do not imply it, or pairs each of the
        other's."""
        if probe.paired:
            return [(b.measures, a.measures) for a, b in trials]
        asked = dict.fromkeys(p.content for p in self.probes.content_probes)
        others = [each for each in asked if each in self.by_content and each not in (probe.content, *probe.implied_by)]
        drawn = (self.random.choice(np.array(self.by_content[other], dtype=object), PER_CONTROL) for other in others)
        return [(clip.measures,) for each in drawn for clip in each]

    def style_blind(self, probe: Probe, own: Sequence[Sequence[RealClip]]) -> float:
        """Rate of pairs drawn from all styles alike: what a model deaf to style would get."""

        def draw(clips: Sequence[RealClip]) -> list[RealClip]:
            styles: dict[str, list[RealClip]] = defaultdict(list)
            for clip in clips:
                styles[clip.style].append(clip)
            large = [each for each in styles.values() if len(each) >= RARE] or list(styles.values())
            places = self.random.integers(len(large), size=BLIND_PAIRS) if large else ()
            return [large[k][self.random.integers(len(large[k]))] for k in places]

        return self.rate(probe, zip(*map(draw, own))) or 0.0
