"""Which motions the probes judge: those of a sampling run, or real clips in the place of a model's."""

import logging
import random
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from data_loaders.corpus import Corpus
from evaluations.probe_validation import RealClip
from evaluations.probes import PROBES, AnyProbe, PairProbe, Sample, Side, normalised, plan

log = logging.getLogger(__name__)
REAL_PAIRS = 50  # pairs of real clips judged per paired probe


def chosen_probes(only: str | None) -> tuple[AnyProbe, ...]:
    """Probes of a group or with a name that begins so. Raises ValueError naming what there is."""
    probes = tuple(p for p in PROBES if only is None or p.group == only or p.name.startswith(only))
    if not probes:
        names = "; ".join(p.name for p in PROBES)
        raise ValueError(f"--only {only}: no such probe; there are locomotion, hands, actions, pairs, and {names}")
    return probes


def samples_of_folder(folder: Path) -> tuple[list[Sample], list[np.ndarray], float | None]:
    """What a sampling run made for the probes' wordings, and its frames per second where it says them; motions of other texts
    are left out.

    Raises ValueError where no text is a wording of a probe.
    """
    from sample.results import read_results

    results = read_results(folder)
    known = {normalised(sample.prompt): sample for sample in plan(1)}
    samples, motions, count = [], [], {}
    for row, text in enumerate(results.text):
        sample = known.get(normalised(text))
        if sample is not None:
            number = count[sample] = count.get(sample, -1) + 1
            samples.append(replace(sample, repetition=number, frames=int(results.lengths[row])))
            motions.append(results.joints(row))
    if not samples:
        raise ValueError(
            f"{folder}: none of its {len(results.text)} texts is a wording of a probe (evaluations/probe_wordings.json)"
        )
    if len(samples) < len(results.text):
        log.info(
            "%d of %d motions belong to no probe and are left out",
            len(results.text) - len(samples),
            len(results.text),
        )
    return samples, motions, results.fps


def samples_of_real(clips: Sequence[RealClip], probes: Sequence[AnyProbe]) -> tuple[list[Sample], list[np.ndarray]]:
    """Real clips of the test split in the place of a model's motions; all splits where the test split shows none."""
    samples, motions = [], []

    def add(probe: str, number: int, role: str, clip: RealClip) -> None:
        samples.append(Sample(probe, 0, number, role, "a real clip", len(clip.joints)))
        motions.append(clip.joints)

    def standing_for(side: Side, like: RealClip | None = None) -> list[RealClip]:
        def fits(clip: RealClip) -> bool:
            if side.styles is not None:
                return clip.style in side.styles
            return like is None or (clip.style, clip.actor) == (like.style, like.actor)

        found = [clip for clip in clips if clip.content == side.content and fits(clip)]
        return [clip for clip in found if clip.split == "test"] or found

    for probe in probes:
        if not isinstance(probe, PairProbe):
            for number, clip in enumerate(standing_for(Side(probe.content, None, probe.rule))):
                add(probe.name, number, "", clip)
            continue
        pairs = [(slow, fast) for fast in standing_for(probe.fast) for slow in standing_for(probe.slow, fast)]
        random.Random(0).shuffle(pairs)
        for number, (slow, fast) in enumerate(pairs[:REAL_PAIRS]):
            add(probe.name, number, "slow", slow)
            add(probe.name, number, "fast", fast)
    return samples, motions


def captioned_test_clips(corpus: Corpus, count: int) -> tuple[list[str], list[int]]:
    """A caption each, and the indices, of `count` recorded clips of the test split, evenly spread over its list."""
    clips = [i for i in corpus.split("test") if not corpus.labels[i].get("mirrored") and corpus.captions(i)]
    if count < len(clips):
        clips = [clips[k * len(clips) // count] for k in range(count)]
    captions = [corpus.captions(i)[k % len(corpus.captions(i))].text for k, i in enumerate(clips)]
    return captions, clips
