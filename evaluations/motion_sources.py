"""Where judged motions come from: a model that reads texts, or files that any other program wrote."""

import logging
import math
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import numpy as np
import torch

from data_loaders import interaction_batches
from data_loaders.clips import LeftOut
from data_loaders.corpus import Corpus, Motion
from data_loaders.features import Features
from data_loaders.humanml import MAX_FRAMES, UNIT_LENGTH, CaptionedMotion
from data_loaders.mocap import read_joints_npy, resample
from data_loaders.motion_checks import bone_problem, orientation_problem
from data_loaders.motion_files import RESULTS, read_people_npy, read_results
from data_loaders.text import Caption, read_caption_file
from evaluations.evaluation_set import EvaluationSet, Motions
from model.capabilities import OWN, Decoding, Generates, Request
from protos.options import one_line
from sample.generation import features_for

log = logging.getLogger(__name__)
UNREADABLE = "unreadable"


class ModelSource:
    """A text-to-motion model as protocols ask for it: (captions, lengths, seeds) -> features [(T, D)]."""

    def __init__(self, networks: Generates, corpus: Corpus, decoding: Decoding = OWN, progress: bool = True):
        """Raises FeaturesMismatch where the model makes other motions than the corpus has, ValueError where it
        reads no text."""
        if not networks.config.reads_text:
            raise ValueError("this model reads no text: there is nothing to judge its motions by")
        networks.statistics.features.require(corpus.features, "the model", f"dataset {corpus.folder}")
        self.networks, self.decoding, self.progress = networks, decoding, progress

    def __call__(self, captions: Sequence[Caption], lengths: Sequence[int], seeds: Sequence[int]) -> list[np.ndarray]:
        longest, rows = self.networks.config.max_frames, zip(captions, lengths, seeds, strict=True)
        requests = [self.request(caption, min(int(frames), longest), seed) for caption, frames, seed in rows]
        made = features_for(self.networks, requests, self.decoding, self.progress)
        return [self.networks.completed(features).numpy() for features in made]

    def request(self, caption: Caption, frames: int, seed: int) -> Request:
        """What the model is asked for."""
        return Request(caption.text, frames, seed)


def feature_joints(motions: Motions, features: Features) -> list[np.ndarray]:
    """Joints [(T, J, 3)] in metres of features [(T, D)] in their units."""
    return [features.joints(torch.as_tensor(np.array(each))).numpy() for each in motions]


def noise_motions(real: Motions, rng: np.random.Generator, mean: np.ndarray, std: np.ndarray) -> list[np.ndarray]:
    """Features [(T, D)] without any motion in them, as long as real ones: every value drawn with its mean and std in the data."""
    return [(mean + std * rng.standard_normal(each.shape)).astype(np.float32) for each in real]


def given_set(folder: Path, fps: float | None, corpus: Corpus) -> tuple[EvaluationSet, LeftOut]:
    """Motions of any other program, prepared as the corpus was, for a judge of that corpus; and what was left out.

    NAME.npy holds joints (T, J, 3), of several people (P, T, J, 3), in metres, Y up, at `fps`, NAME.txt its captions, one a line;
    the results of a sampling run are read as well. fps: by default what results say of themselves, else that of the corpus.
    Longer motions are cut to 196 frames, of several people to 299. FileNotFoundError without such files, ValueError where all are
    unreadable, not finite or too short.
    """
    report, entries, clips, odd = LeftOut(), [], [], []
    most = MAX_FRAMES if corpus.features.persons == 1 else interaction_batches.MAX_FRAMES
    files, own_fps = _given_files(folder, corpus)
    fps = fps or own_fps
    longest = math.ceil((most + 1) * fps / corpus.fps) + 100  # a spline through them is the same as through more
    for name, load in files.items():
        try:
            captions, people = load()  # (P, T, J, 3)
            people = resample(people.swapaxes(0, 1)[:longest], fps, corpus.fps)[: most + 1].swapaxes(0, 1)
        except (OSError, ValueError) as error:  # of a file that is absent, damaged or no motion
            report.add(name, f"{UNREADABLE}: {one_line(error)}")
            continue
        if not captions:
            report.add(name, "without caption")
        elif people.shape[1] <= UNIT_LENGTH:
            report.add(name, f"too short: {people.shape[1]} frames at {corpus.fps:g} fps")
        else:
            entries.append((name, tuple(captions)))
            clips.append(people if len(people) > 1 else people[0])
            problems = (bone_problem(each, corpus.skeleton) or orientation_problem(each, corpus.skeleton) for each in people)
            if problem := next(filter(None, problems), None):
                odd.append(f"{name}: {problem}")
    for name, reason in report.skipped.items():
        log.warning("%s is left out: %s", name, reason)
    if not entries:
        raise ValueError(f"{folder}: no motion to judge; {report}")
    log.info("%s: %d motions; %s", folder, len(entries), report)
    if odd:  # judged all the same: what another program gets wrong counts against it
        log.warning("%d of %d motions look wrong, the first %s", len(odd), len(entries), odd[0])
    made = corpus.features.encode(clips)
    motions = [CaptionedMotion(name, features.numpy(), captions) for (name, captions), features in zip(entries, made)]
    return EvaluationSet(motions, corpus.features, cropped=False), report


def unreadable(left_out: LeftOut) -> dict[str, str]:
    """Those of the left out that could not be read, and why."""
    return {name: reason for name, reason in left_out.skipped.items() if reason.startswith(UNREADABLE)}


Load = Callable[[], tuple[list[Caption], np.ndarray]]


def _given_files(folder: Path, corpus: Corpus) -> tuple[dict[str, Load], float]:
    """What reads captions and joints (P, T, J, 3) of each motion in a folder, and the frame rate: the corpus's where no results
    file says."""
    num_joints, persons = corpus.skeleton.num_joints, corpus.features.persons
    if folder.is_file() or any((folder / name).is_file() for name in RESULTS):
        motions = read_results(folder, corpus.fps).motions
        fps = motions[0].fps if motions else corpus.fps
        return {f"{row:04d}": partial(_of_run, motion, num_joints, persons) for row, motion in enumerate(motions)}, fps
    files = sorted(folder.glob("*.npy"))
    if not files:
        raise FileNotFoundError(f"{folder}: no motions; expected NAME.npy with joints and NAME.txt with captions")
    return {path.stem: partial(_file_with_captions, path, num_joints, persons) for path in files}, corpus.fps


def _file_with_captions(path: Path, num_joints: int, persons: int) -> tuple[list[Caption], np.ndarray]:
    captions = read_caption_file(path.with_suffix(".txt"), plain=True)
    if persons == 1:
        return captions, read_joints_npy(path, num_joints, name=path.name)[None]
    return captions, _checked(read_people_npy(path), num_joints, persons)


def _of_run(motion: Motion, num_joints: int, persons: int) -> tuple[list[Caption], np.ndarray]:
    return [Caption(text) for text in motion.captions if text.strip()], _checked(motion.joints, num_joints, persons)


def _checked(people: np.ndarray, num_joints: int, persons: int) -> np.ndarray:
    """Joints (P, T, J, 3). ValueError where they are of others than expected, or not finite."""
    if people.shape[2] != num_joints or len(people) != persons:
        expected = f"{num_joints} of {'one' if persons == 1 else persons}"
        raise ValueError(f"{people.shape[2]} joints of {len(people)} person(s), expected {expected}")
    if not np.isfinite(people).all():
        raise ValueError("NaN or infinity in its joints, expected finite numbers")
    return people
