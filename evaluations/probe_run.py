"""Motions before the probes: those that a model makes, those of a sampling run, or real clips in the place of a model's."""

import logging
import random
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from data_loaders.corpus import Corpus
from data_loaders.motion_files import read_results
from data_loaders.physics import physics_of
from data_loaders.skeleton import load_skeleton
from evaluations.motion_measures import Measures, describe
from evaluations.nearest_motion import MotionBank
from evaluations.probe_validation import RealClip, Validity, control_motions, real_clips, standing_for, validate
from evaluations.probes import Probe, Probes, Side, Trial, plain_words
from model.capabilities import Decoding, Generates, Request
from protos.randomness import derive_seed
from sample.generation import motions_for

log = logging.getLogger(__name__)
Near = tuple[float, str]  # metres to the nearest training clip, and its name
REAL_PAIRS = 50  # pairs of real clips judged per paired probe


@dataclass(frozen=True)
class Probed:
    """Trials with the joints (T, 22, 3) in metres of their motions, all in one order: `motions` of a trial after those of the one
    before."""

    trials: Sequence[Trial]
    motions: Sequence[np.ndarray]
    fps: float
    probes: Probes

    @cached_property
    def measures(self) -> list[tuple[Measures | None, ...]]:
        """Of the motion, or the two, of each trial."""
        told = (describe(joints, self.fps) for joints in tqdm(self.motions, desc="judging", unit="motion", disable=None))
        return [tuple(islice(told, len(trial.prompts))) for trial in self.trials]

    @cached_property
    def passed(self) -> list[bool]:
        """What the probes say, by trial."""
        return [self.probes.passes(self.probes[trial.probe], *each) for trial, each in zip(self.trials, self.measures)]


def validate_on(corpus: Corpus, probes: Probes, chosen: Sequence[Probe] | None = None) -> tuple[list[RealClip], list[Validity]]:
    """The real clips of a corpus, and what the probes are worth on them. ValueError where it tells no contents."""
    clips = real_clips(corpus, probes)
    return clips, validate(clips, control_motions(corpus, probes), probes, chosen)


def probe_model(
    model: Generates, probes: Probes, chosen: Sequence[Probe], repetitions: int, seed: int, decoding: Decoding
) -> Probed:
    """Every wording so many times; both motions of a pair share their seed. ValueError where a model makes other skeletons."""
    trials = probes.plan(repetitions, model.features.fps, chosen)
    requests = [
        Request(prompt, frames, derive_seed(seed, "probe", trial.probe, trial.wording, trial.repetition))
        for trial in trials for prompt, frames in zip(trial.prompts, trial.frames)
    ]  # fmt: skip
    return Probed(trials, made_joints(model, requests, decoding), model.features.fps, probes)


def made_joints(model: Generates, requests: Sequence[Request], decoding: Decoding) -> list[np.ndarray]:
    """Joints [(T, 22, 3)] in metres, in the order of the requests, which may ask for more frames than the model makes.

    ValueError where it makes other skeletons.
    """
    longest = model.config.max_frames
    made = motions_for(model, [replace(each, frames=min(each.frames, longest)) for each in requests], decoding)
    if made and made[0].skeleton != "humanml":
        raise ValueError(f"the model makes {made[0].skeleton} motions; probes judge the 22 joints of humanml")
    return [motion.joints[0] for motion in made]


def probe_folder(folder: Path, probes: Probes, fps: float) -> Probed:
    """What a sampling run made for the probes' wordings, at `fps` where it does not say its own; motions of other texts, and of a
    pair of which only one is there, are left out. Raises ValueError where no text is a wording of a probe."""
    results = read_results(folder, fps)
    rows: dict[str, list[int]] = {}
    for row, text in enumerate(results.texts):
        rows.setdefault(plain_words(text), []).append(row)
    trials, motions = [], []
    for trial in probes.plan(1):
        for number, found in enumerate(zip(*(rows.get(plain_words(prompt), ()) for prompt in trial.prompts))):
            trials.append(replace(trial, repetition=number, frames=tuple(results.motions[row].joints.shape[1] for row in found)))
            motions += [results.motions[row].joints[0] for row in found]
    if not trials:
        raise ValueError(f"{folder}: none of its {len(results.motions)} texts is a wording of a probe")
    if left_out := len(results.motions) - len(motions):
        log.info("%d of %d motions belong to no probe and are left out", left_out, len(results.motions))
    return Probed(trials, motions, results.motions[0].fps, probes)


def probe_real(clips: Sequence[RealClip], probes: Probes, chosen: Sequence[Probe], fps: float) -> Probed:
    """Real clips of the test split in the place of a model's motions; all splits where the test split shows none."""

    def shown(side: Side, beside: RealClip | None = None) -> list[RealClip]:
        found = standing_for(side, [clip for clip in clips if clip.content == side.content], beside)
        return [clip for clip in found if clip.split == "test"] or found

    trials, motions = [], []
    for probe in chosen:
        *slow, last = probe.sides
        together = [(clip,) for clip in shown(last)]
        if slow:
            together = [(a, b) for (b,) in together for a in shown(slow[0], b)]
            random.Random(0).shuffle(together)
        for number, each in enumerate(together[: REAL_PAIRS if slow else None]):
            trials.append(Trial(probe.name, 0, number, ("a real clip",) * len(each), tuple(len(clip.joints) for clip in each)))
            motions += [clip.joints for clip in each]
    return Probed(trials, motions, fps, probes)


def captioned_test_clips(corpus: Corpus, count: int) -> tuple[list[str], list[int]]:
    """A caption each, and the indices, of `count` recorded clips of the test split, evenly spread over its list."""
    clips = [i for i in corpus.split("test") if not corpus.labels[i].get("mirrored") and corpus.captions(i)]
    if count < len(clips):
        clips = [clips[k * len(clips) // count] for k in range(count)]
    captions = [corpus.captions(i)[k % len(corpus.captions(i))].text for k, i in enumerate(clips)]
    return captions, clips


def beside_real(
    probed: Probed, captioned: Sequence[np.ndarray], corpus: Corpus | None, clips: Sequence[int]
) -> tuple[dict[str, Any], dict[str, Any], list[Near]]:
    """Physics, and distances to the nearest training clip, of the probed motions, of those made for test captions and of the
    very test clips; and (metres, name) of the training clip that is nearest to each probed motion. Without a corpus: physics."""
    made = {"motions of the probes": probed.motions, **({"generated test captions": captioned} if captioned else {})}
    skeleton = load_skeleton("humanml")
    physics = {name: physics_of(motions, probed.fps, skeleton) for name, motions in made.items()}
    if corpus is None:
        return physics, {}, []
    test, train = [corpus.joints(i) for i in clips], corpus.split("train")
    physics["the same real clips" if captioned else "real test clips"] = physics_of(test, corpus.fps, skeleton)
    progress = tqdm(train, desc="training clips", unit="clip", disable=None)
    bank = MotionBank((corpus.joints(i) for i in progress), [corpus.names[i] for i in train], corpus.fps)
    near = {name: bank.nearest(motions) for name, motions in {**made, "real test clips": test}.items()}
    spread = {name: spread_of_gaps(each, near["real test clips"]) for name, each in near.items()}
    return physics, spread, near["motions of the probes"]


def spread_of_gaps(found: Sequence[Near], reference: Sequence[Near]) -> dict[str, float]:
    """Distribution of distances to the nearest training clip (m), and the share below 1 % of the reference's."""
    values, known = (np.array([gap for gap, _ in each if np.isfinite(gap)]) for each in (found, reference))
    if not len(values):
        return {}
    near = {"clips": len(values), "median": float(np.median(values)), "p5": float(np.percentile(values, 5)),
            "min": float(values.min())}  # fmt: skip
    return near | ({"share_closer_than_real": float((values < np.percentile(known, 1)).mean())} if len(known) else {})
