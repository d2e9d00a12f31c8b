"""What a probe is worth: how real clips, noise, the mean pose and shuffled prompts fare with it.

A probe is valid when at least 95 % of the real clips of its content pass (all but one where there are fewer than 20),
at most 10 % of the clips of any other content that does not imply it, and at most 10 % of noise, of the mean pose and
of motions made for other prompts.
"""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from itertools import pairwise

import numpy as np

from data_loaders.clips import window_number
from data_loaders.corpus import Corpus
from evaluations.probe_rules import Description, describe
from evaluations.probes import CONTENT_PROBES, PROBES, RELABELLED, AnyProbe, PairProbe, plan

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
    reasons: tuple[str, ...] = field(default=())
    style_blind: float | None = (
        None  # pairs of one content drawn from all styles: what a model deaf to style would get
    )

    @property
    def worst_other(self) -> tuple[str, float]:
        return max(self.others.items(), key=lambda item: item[1], default=("", 0.0))

    def as_dict(self) -> dict:
        return asdict(self)


def real_clips(corpus: Corpus) -> list[RealClip]:
    """Every recording as it was made: no mirrored twins, and the windows of a long one put together again.

    Raises ValueError where the corpus does not say what its clips show.
    """
    import torch
    from tqdm import tqdm

    from data_loaders.humanml_features import joints_from_features

    if not any(label.get("content") for label in corpus.labels):
        raise ValueError(
            f"{corpus.folder}: its clips have no content labels, so probes cannot be validated on it; use bandai_namco"
        )
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
        joints = joints_from_features(torch.from_numpy(rows), corpus.skeleton).numpy()
        label = corpus.labels[parts[0]]
        content = RELABELLED.get(source, label.get("content", ""))
        clips.append(RealClip(
            source, content, label.get("style", ""), source.split("_")[0], splits.get(parts[0], ""), joints,
            describe(joints, corpus.fps),
        ))  # fmt: skip
    return clips


def control_motions(corpus: Corpus, count: int = 200, seed: int = 0) -> dict[str, list[Description | None]]:
    """Motions that say nothing: white noise and noise smooth over a quarter of a second in the corpus' own statistics,
    and the mean pose (which glides, since the mean speed is not 0), at the lengths of the probes."""
    import torch
    from scipy.ndimage import gaussian_filter1d

    from data_loaders.humanml_features import joints_from_features

    random = np.random.default_rng(seed)
    lengths = random.choice([sample.frames for sample in plan(1, corpus.fps)], count)

    def decoded(rows: np.ndarray) -> Description | None:
        features = torch.from_numpy((rows * corpus.std + corpus.mean).astype(np.float32))
        return describe(joints_from_features(features, corpus.skeleton).numpy(), corpus.fps)

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
    probes: Sequence[AnyProbe] = PROBES,
    seed: int = 0,
) -> list[Validity]:
    """A row per probe."""
    by_content: dict[str, list[RealClip]] = defaultdict(list)
    for clip in clips:
        by_content[clip.content].append(clip)
    random = np.random.default_rng(seed)
    return [_row(probe, by_content, controls, random) for probe in probes]


def _row(
    probe: AnyProbe, by_content: dict[str, list[RealClip]], controls: dict, random: np.random.Generator
) -> Validity:
    own_contents = {probe.slow.content, probe.fast.content} if isinstance(probe, PairProbe) else {probe.content}
    rates = _pair_rates if isinstance(probe, PairProbe) else _single_rates
    own, count, others, control_rates = rates(probe, by_content, controls, random)
    others = {c: rate for c, rate in others.items() if c not in probe.implied_by}
    allowed = 1 if count < FEW else (1 - OWN_RATE) * count
    reasons = []
    if not count:
        reasons.append("no real clip of its content")
    elif round(count * (1 - own)) > allowed:
        reasons.append(f"only {own:.0%} of its own clips pass")
    reasons += [
        f"{rate:.0%} of {name} pass" for name, rate in {**others, **control_rates}.items() if rate > OTHER_RATE
    ]
    training = min(sum(clip.split == "train" for clip in by_content[c]) for c in own_contents)
    blind = _style_blind(probe, by_content, random) if isinstance(probe, PairProbe) and probe.slow.styles else None
    return Validity(
        probe.name, "/".join(sorted(own_contents)), own, count, _held_out(probe, by_content), others, control_rates,
        training < RARE, not reasons, tuple(reasons), blind,
    )  # fmt: skip


def _held_out(probe: AnyProbe, by_content: dict[str, list[RealClip]]) -> float | None:
    clips = [clip for clip in by_content[probe.content] if clip.split != "train"]
    if isinstance(probe, PairProbe):
        rate, count = pair_rate(probe, by_content[probe.slow.content], clips)
        return rate if count else None
    return float(np.mean([probe.passes(clip.description) for clip in clips])) if clips else None


def _single_rates(probe, by_content, controls, random) -> tuple[float, int, dict[str, float], dict[str, float]]:
    def rate(descriptions: Sequence[Description | None]) -> float:
        return float(np.mean([probe.passes(d) for d in descriptions])) if descriptions else 0.0

    all_rates = {content: rate([clip.description for clip in clips]) for content, clips in by_content.items()}
    own = all_rates.pop(probe.content, 0.0)
    shuffled = [
        clip.description
        for other in CONTENT_PROBES
        if other.content != probe.content and by_content.get(other.content)
        for clip in random.choice(np.array(by_content[other.content], dtype=object), PER_CONTROL)
    ]
    control_rates = {name: rate(motions) for name, motions in controls.items()}
    return own, len(by_content[probe.content]), all_rates, {**control_rates, "shuffled prompts": rate(shuffled)}


def _pair_rates(probe, by_content, controls, random) -> tuple[float, int, dict[str, float], dict[str, float]]:
    own, count = pair_rate(probe, by_content[probe.slow.content], by_content[probe.fast.content])
    styled = probe.slow.styles is not None
    others = {}
    for content, clips in by_content.items():
        if content != probe.fast.content:
            rate, pairs = pair_rate(probe, clips if styled else by_content[probe.slow.content], clips)
            if pairs:
                others[content] = rate
    control_rates = {
        name: float(np.mean([probe.passes(a, b) for a, b in pairwise(motions)])) for name, motions in controls.items()
    }
    exchanged, _ = pair_rate(probe, by_content[probe.slow.content], by_content[probe.fast.content], exchanged=True)
    return own, count, others, {**control_rates, "shuffled prompts": exchanged}


def pair_rate(
    probe: PairProbe, slow: Sequence[RealClip], fast: Sequence[RealClip], exchanged: bool = False
) -> tuple[float, int]:
    """(share that passes, number) of all pairs of real clips: of the probe's styles, or of the same style and actor.

    `exchanged` gives each motion the other's prompt. The number is that of the rarer side's clips.
    """
    slow = [clip for clip in slow if probe.slow.styles is None or clip.style in probe.slow.styles]
    fast = [clip for clip in fast if probe.fast.styles is None or clip.style in probe.fast.styles]
    passed, rarer = [], set()
    for a in slow:
        for b in fast:
            same = (a.style, a.actor) == (b.style, b.actor)
            if a is b or (probe.slow.styles is None and not same):
                continue
            pair = (b, a) if exchanged else (a, b)
            passed.append(probe.passes(pair[0].description, pair[1].description))
            rarer.add(b.name)
    return (float(np.mean(passed)) if passed else 0.0), len(rarer)


def _style_blind(probe: PairProbe, by_content: dict[str, list[RealClip]], random: np.random.Generator) -> float:
    """Rate of pairs drawn from all styles alike."""

    def draw(content: str) -> list[RealClip]:
        styles: dict[str, list[RealClip]] = defaultdict(list)
        for clip in by_content[content]:
            styles[clip.style].append(clip)
        large = [clips for clips in styles.values() if len(clips) >= RARE] or list(styles.values())
        return (
            [large[k][random.integers(len(large[k]))] for k in random.integers(len(large), size=1000)]
            if large
            else []
        )

    pairs = list(zip(draw(probe.slow.content), draw(probe.fast.content)))
    return float(np.mean([probe.passes(a.description, b.description) for a, b in pairs])) if pairs else 0.0
