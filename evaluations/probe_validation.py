"""What a probe is worth: how real clips, noise, the mean pose and shuffled prompts fare with it.

A probe is valid when at least 95 % of the real clips of its content pass (all but one where there are fewer than 20),
at most 10 % of the clips of any other content that does not imply it, and at most 10 % of noise, of the mean pose and
of motions made for other prompts.
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from data_loaders.clips import window_number
from data_loaders.corpus import Corpus
from evaluations.probe_rules import Description, describe
from evaluations.probes import AnyProbe, PairProbe, Probes, require_contents

OWN_RATE, OTHER_RATE = 0.95, 0.10
FEW = 20  # fewer real clips than this may fail once
RARE = 5  # contents with fewer training clips are reported apart
PER_CONTROL = 20  # clips per probe among the shuffled prompts


@dataclass(frozen=True)
class RealClip:
    """A whole recording of the corpus: joints (T, J, 3), the content it shows, and who shows it."""

    name: str
    content: str
    style: str
    actor: str
    split: str
    joints: np.ndarray
    description: Description | None


@dataclass(frozen=True)
class Validity:
    """A row of the table. Rates are shares of clips (of pairs, for a paired probe) that pass."""

    probe: str
    content: str
    own: float
    own_count: int
    held_out: float | None  # the same for clips outside the training split
    others: dict[str, float]  # content that does not imply the probe -> rate
    controls: dict[str, float]  # noise, smooth noise, mean pose, shuffled prompts -> rate
    rare: bool
    valid: bool
    reasons: tuple[str, ...] = ()
    style_blind: float | None = None  # pairs of one content drawn from all styles: what a model deaf to style would get

    @property
    def worst_other(self) -> tuple[str, float]:
        return max(self.others.items(), key=lambda item: item[1], default=("", 0.0))


def real_clips(corpus: Corpus, relabelled: Mapping[str, str]) -> list[RealClip]:
    """Every recording as it was made: no mirrored twins, and the windows of a long one put together again.

    relabelled: {recording: its content}, where that is another than its label says. Raises ValueError where the corpus
    does not say what its clips show.
    """
    import torch
    from tqdm import tqdm

    require_contents(corpus)
    if corpus.skeleton.num_joints != 22:
        raise ValueError(
            f"{corpus.folder} has the {corpus.skeleton.name} skeleton; probes judge the 22 joints of humanml"
        )
    splits = {i: name for name in ("train", "val", "test") for i in corpus.split(name)}
    recordings: dict[str, list[int]] = defaultdict(list)
    for i, label in enumerate(corpus.labels):
        if not label.get("mirrored"):
            recordings[label.get("source", corpus.names[i])].append(i)
    clips = []
    for source, parts in tqdm(recordings.items(), desc="real clips", unit="clip", disable=None):
        parts = sorted(parts, key=lambda i: window_number(corpus.names[i]))
        rows = np.concatenate([corpus[i] for i in parts])
        joints = corpus.features.joints(torch.from_numpy(rows)).numpy()
        label = corpus.labels[parts[0]]
        content = relabelled.get(source, label.get("content", ""))
        clips.append(RealClip(
            source, content, label.get("style", ""), source.split("_")[0], splits.get(parts[0], ""), joints,
            describe(joints, corpus.fps),
        ))  # fmt: skip
    return clips


def control_motions(
    corpus: Corpus, probes: Probes, count: int = 200, seed: int = 0
) -> dict[str, list[Description | None]]:
    """Motions that say nothing: white noise and noise smooth over a quarter of a second in the corpus' own statistics,
    and the mean pose (which glides, since the mean speed is not 0), at the lengths of the probes."""
    import torch
    from scipy.ndimage import gaussian_filter1d

    random = np.random.default_rng(seed)
    lengths = random.choice([sample.frames for sample in probes.plan(1, corpus.fps)], count)

    def decoded(rows: np.ndarray) -> Description | None:
        features = torch.from_numpy((rows * corpus.std + corpus.mean).astype(np.float32))
        return describe(corpus.features.joints(features).numpy(), corpus.fps)

    controls: dict[str, list[Description | None]] = {"noise": [], "smooth noise": [], "mean pose": []}
    for frames in lengths:
        white = random.standard_normal((frames, len(corpus.mean)))
        smooth = gaussian_filter1d(white, 0.25 * corpus.fps, axis=0, mode="wrap")
        controls["noise"].append(decoded(white))
        controls["smooth noise"].append(decoded(smooth / smooth.std()))
    controls["mean pose"] = [decoded(np.zeros((frames, len(corpus.mean)))) for frames in sorted(set(lengths))]
    return controls


def validate(
    clips: Sequence[RealClip],
    controls: dict[str, list[Description | None]],
    probes: Probes,
    chosen: Sequence[AnyProbe] | None = None,
    seed: int = 0,
) -> list[Validity]:
    """A row per probe, or per chosen one."""
    validation = _Validation(probes, clips, controls, seed)
    return [validation.row(probe) for probe in (probes.all if chosen is None else chosen)]


class _Validation:
    def __init__(
        self, probes: Probes, clips: Sequence[RealClip], controls: dict[str, list[Description | None]], seed: int
    ) -> None:
        self.probes, self.controls, self.random = probes, controls, np.random.default_rng(seed)
        self.by_content: dict[str, list[RealClip]] = defaultdict(list)
        for clip in clips:
            self.by_content[clip.content].append(clip)

    def row(self, probe: AnyProbe) -> Validity:
        own_contents = {side.content for side in probe.sides}
        paired = isinstance(probe, PairProbe)
        own, count, others, controls = self.pair_rates(probe) if paired else self.single_rates(probe)
        others = {c: rate for c, rate in others.items() if c not in probe.implied_by}
        allowed = 1 if count < FEW else (1 - OWN_RATE) * count
        reasons = []
        if not count:
            reasons.append("no real clip of its content")
        elif round(count * (1 - own)) > allowed:
            reasons.append(f"only {own:.0%} of its own clips pass")
        reasons += [f"{rate:.0%} of {name} pass" for name, rate in {**others, **controls}.items() if rate > OTHER_RATE]
        training = min(sum(clip.split == "train" for clip in self.by_content[c]) for c in own_contents)
        blind = self.style_blind(probe) if paired and probe.slow.style else None
        return Validity(
            probe.name, "/".join(sorted(own_contents)), own, count, self.held_out(probe), others, controls,
            training < RARE, not reasons, tuple(reasons), blind,
        )  # fmt: skip

    def rate(self, probe: AnyProbe, motions: Iterable[tuple[Description | None, ...]]) -> float | None:
        """Share that passes of motions, or of pairs of them; None where there is none."""
        passed = [self.probes.passes(probe, *descriptions) for descriptions in motions]
        return float(np.mean(passed)) if passed else None

    def single_rates(self, probe: AnyProbe) -> tuple[float, int, dict[str, float], dict[str, float]]:
        def rate(descriptions: Iterable[Description | None]) -> float:
            return self.rate(probe, ((d,) for d in descriptions)) or 0.0

        all_rates = {content: rate(clip.description for clip in clips) for content, clips in self.by_content.items()}
        own = all_rates.pop(probe.content, 0.0)
        shuffled = [
            clip.description
            for other in self.probes.content_probes
            if other.content != probe.content and self.by_content.get(other.content)
            for clip in self.random.choice(np.array(self.by_content[other.content], dtype=object), PER_CONTROL)
        ]
        controls = {name: rate(motions) for name, motions in {**self.controls, "shuffled prompts": shuffled}.items()}
        return own, len(self.by_content[probe.content]), all_rates, controls

    def pair_rates(self, probe: PairProbe) -> tuple[float, int, dict[str, float], dict[str, float]]:
        slow, fast = self.by_content[probe.slow.content], self.by_content[probe.fast.content]
        own, count = self.pair_rate(probe, slow, fast)
        others = {}
        for content, clips in self.by_content.items():
            if content != probe.fast.content:
                rate, pairs = self.pair_rate(probe, clips if probe.slow.style else slow, clips)
                if pairs:
                    others[content] = rate
        controls = {name: self.rate(probe, pairwise(motions)) or 0.0 for name, motions in self.controls.items()}
        exchanged, _ = self.pair_rate(probe, slow, fast, exchanged=True)
        return own, count, others, {**controls, "shuffled prompts": exchanged}

    def pair_rate(
        self, probe: PairProbe, slow: Sequence[RealClip], fast: Sequence[RealClip], exchanged: bool = False
    ) -> tuple[float, int]:
        """(share that passes, number) of all pairs of real clips: of the probe's styles, or of the same style and actor.

        `exchanged` gives each motion the other's prompt. The number is that of the rarer side's clips.
        """
        pairs, rarer = [], set()
        for a in (clip for clip in slow if probe.slow.style in (None, clip.style)):
            for b in (clip for clip in fast if probe.fast.style in (None, clip.style)):
                if a is b or (probe.slow.style is None and (a.style, a.actor) != (b.style, b.actor)):
                    continue
                pairs.append((b.description, a.description) if exchanged else (a.description, b.description))
                rarer.add(b.name)
        return self.rate(probe, pairs) or 0.0, len(rarer)

    def held_out(self, probe: AnyProbe) -> float | None:
        clips = [clip for clip in self.by_content[probe.content] if clip.split != "train"]
        if isinstance(probe, PairProbe):
            rate, count = self.pair_rate(probe, self.by_content[probe.slow.content], clips)
            return rate if count else None
        return self.rate(probe, ((clip.description,) for clip in clips))

    def style_blind(self, probe: PairProbe) -> float:
        """Rate of pairs drawn from all styles alike: what a model deaf to style would get."""

        def draw(content: str) -> list[RealClip]:
            styles: dict[str, list[RealClip]] = defaultdict(list)
            for clip in self.by_content[content]:
                styles[clip.style].append(clip)
            large = [clips for clips in styles.values() if len(clips) >= RARE] or list(styles.values())
            if not large:
                return []
            return [large[k][self.random.integers(len(large[k]))] for k in self.random.integers(len(large), size=1000)]

        pairs = zip(draw(probe.slow.content), draw(probe.fast.content))
        return self.rate(probe, ((a.description, b.description) for a, b in pairs)) or 0.0
