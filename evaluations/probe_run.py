"""Motions before the probes: those that a model makes, those of a sampling run, or real clips in the place of a model's."""

import logging
import random
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
from tqdm import tqdm

from data_loaders.corpus import Corpus, Motion
from data_loaders.skeleton import load_skeleton
from evaluations.nearest_motion import MotionBank
from evaluations.physics import Physics, physics_of
from evaluations.probe_report import distances, summarise
from evaluations.probe_rules import describe
from evaluations.probe_validation import RealClip, Validity, control_motions, real_clips, validate
from evaluations.probes import AnyProbe, Judged, Probes, Sample, Side, normalised, probes_for
from protos.randomness import derive_seed
from sample.generation import generate, load

log = logging.getLogger(__name__)
REAL_PAIRS = 50  # pairs of real clips judged per paired probe
Generate = Callable[..., list[Motion]]  # (texts, frames, seeds=seeds), as `sample.generation.generate`


def judge(samples: list[Sample], motions: list[np.ndarray], fps: float, probes: Probes) -> Judged:
    """What the probes say to joints (T, 22, 3) in metres, each made for a sample."""
    descriptions = [describe(joints, fps) for joints in tqdm(motions, desc="judging", unit="motion", disable=None)]
    return Judged(samples, motions, fps, descriptions, probes.judge(samples, descriptions))


def pass_rates(model_path: str, dataset: str, seeds: int, device: str = "auto") -> dict:
    """`summarise` of a checkpoint over the probes that are valid on a dataset, with so many motions per wording."""
    corpus, model = Corpus.open(dataset), load(model_path, device)
    probes = probes_for(corpus)
    _, validity = validate_on(corpus, probes)
    judged = judge_model(partial(generate, model=model), model.config.fps, probes, probes.all, seeds)
    return summarise(judged, probes, validity)


def validate_on(
    corpus: Corpus, probes: Probes, chosen: Sequence[AnyProbe] | None = None
) -> tuple[list[RealClip], list[Validity]]:
    """The real clips of a corpus, and what the probes are worth on them. ValueError where it tells no contents."""
    clips = real_clips(corpus, probes.relabelled)
    return clips, validate(clips, control_motions(corpus, probes), probes, chosen)


def judge_model(
    generate: Generate, fps: float, probes: Probes, chosen: tuple[AnyProbe, ...], seeds: int, seed: int = 0
) -> Judged:
    """Every wording with so many seeds; both motions of a pair share theirs. `fps`: of the model's motions."""
    samples = probes.plan(seeds, fps, chosen)
    own_seeds = [derive_seed(seed, "probe", s.probe, s.wording, s.repetition) for s in samples]
    motions = made_joints(generate, [s.prompt for s in samples], [s.frames for s in samples], own_seeds)
    return judge(samples, motions, fps, probes)


def made_joints(
    generate: Generate, texts: Sequence[str], frames: Sequence[int], seeds: Sequence[int]
) -> list[np.ndarray]:
    """Joints [(T, 22, 3), ...] in metres, in the order of the texts. ValueError where a model makes other skeletons."""
    # Equal lengths side by side: a batch costs as much as its longest motion.
    order = sorted(range(len(texts)), key=lambda i: frames[i])
    made = generate([texts[i] for i in order], [frames[i] for i in order], seeds=[seeds[i] for i in order])
    if made and made[0].skeleton != "humanml":
        raise ValueError(f"the model makes {made[0].skeleton} motions; probes judge the 22 joints of humanml")
    joints: dict[int, np.ndarray] = {i: motion.joints[0] for i, motion in zip(order, made)}
    return [joints[i] for i in range(len(texts))]


def judge_folder(folder: Path, probes: Probes, fps: float) -> Judged:
    """What a sampling run made for the probes' wordings, at `fps` where it does not say its own; motions of other texts are
    left out. Raises ValueError where no text is a wording of a probe."""
    from sample.results import read_results

    results = read_results(folder)
    wordings = {normalised(sample.prompt): sample for sample in probes.plan(1)}
    samples, motions, count = [], [], {}
    for row, text in enumerate(results.text):
        sample = wordings.get(normalised(text))
        if sample is not None:
            number = count[sample] = count.get(sample, -1) + 1
            samples.append(replace(sample, repetition=number, frames=int(results.lengths[row])))
            motions.append(results.joints(row))
    if not samples:
        raise ValueError(f"{folder}: none of its {len(results.text)} texts is a wording of a probe")
    if left_out := len(results.text) - len(samples):
        log.info("%d of %d motions belong to no probe and are left out", left_out, len(results.text))
    return judge(samples, motions, results.fps or fps, probes)


def judge_real(clips: Sequence[RealClip], probes: Probes, chosen: Sequence[AnyProbe], fps: float) -> Judged:
    """Real clips of the test split in the place of a model's motions; all splits where the test split shows none."""
    samples, motions = [], []

    def standing_for(side: Side, like: RealClip | None = None) -> list[RealClip]:
        """Clips of the side's content and style, without one of the style and actor of `like`."""
        found = [
            clip for clip in clips
            if clip.content == side.content and side.style in (None, clip.style)
            and (side.style or like is None or (clip.style, clip.actor) == (like.style, like.actor))
        ]  # fmt: skip
        return [clip for clip in found if clip.split == "test"] or found

    for probe in chosen:
        *slow, last = probe.sides
        if slow:
            shown = [(a, b) for b in standing_for(last) for a in standing_for(slow[0], b)]
            random.Random(0).shuffle(shown)
            shown = shown[:REAL_PAIRS]
        else:
            shown = [(clip,) for clip in standing_for(last)]
        for number, together in enumerate(shown):
            for role, clip in zip(probe.roles, together):
                samples.append(Sample(probe.name, 0, number, role, "a real clip", len(clip.joints)))
                motions.append(clip.joints)
    return judge(samples, motions, fps, probes)


def captioned_test_clips(corpus: Corpus, count: int) -> tuple[list[str], list[int]]:
    """A caption each, and the indices, of `count` recorded clips of the test split, evenly spread over its list."""
    clips = [i for i in corpus.split("test") if not corpus.labels[i].get("mirrored") and corpus.captions(i)]
    if count < len(clips):
        clips = [clips[k * len(clips) // count] for k in range(count)]
    captions = [corpus.captions(i)[k % len(corpus.captions(i))].text for k, i in enumerate(clips)]
    return captions, clips


def physics_beside_real(
    judged: Judged, captioned: Sequence[np.ndarray], corpus: Corpus | None, clips: Sequence[int]
) -> dict[str, Physics]:
    """`physics_summary` of the judged motions, of those made for test captions, and of the very test clips."""
    skeleton = load_skeleton("humanml")
    report = {"motions of the probes": physics_of(judged.motions, judged.fps, skeleton)}
    if captioned:
        report["generated test captions"] = physics_of(captioned, judged.fps, skeleton)
    if corpus is not None:
        name = "the same real clips" if captioned else "real test clips"
        report[name] = physics_of([corpus.joints(i) for i in clips], corpus.fps, skeleton)
    return report


def nearest_training_clips(
    judged: Judged, captioned: Sequence[np.ndarray], corpus: Corpus, clips: Sequence[int]
) -> tuple[dict[str, dict], list[tuple[float, str]]]:
    """Distances to the nearest training clip of each set of motions, and (metres, name) of each judged motion's."""
    train = corpus.split("train")
    progress = tqdm(train, desc="training clips", unit="clip", disable=None)
    bank = MotionBank((corpus.joints(i) for i in progress), [corpus.names[i] for i in train], corpus.fps)
    real = bank.nearest([corpus.joints(i) for i in clips])
    found = bank.nearest(judged.motions)
    report = {"motions of the probes": distances(found, real), "real test clips": distances(real, real)}
    if captioned:
        report["generated test captions"] = distances(bank.nearest(captioned), real)
    return report, found
