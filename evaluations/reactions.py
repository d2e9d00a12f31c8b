"""Judges reactions beside recorded ones and beside answers that need no model: either person of a test pair acts in turn."""

import logging
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from data_loaders.corpus import Corpus
from data_loaders.features import Features
from data_loaders.physics import Physics, physics_of
from evaluations import metrics
from evaluations.evaluation_set import Share, embed_motion
from evaluations.interaction_measures import between, interaction_physics, own_bones
from evaluations.interaction_set import InteractionSet
from evaluations.interactions import split_of
from evaluations.metrics import Interval, mean_interval
from evaluations.protocol import PROTOCOLS, EvaluationProtocol
from evaluations.reaction_measures import alignment, contact_consistency, contacts, joint_error, over_segments, velocity_error
from evaluations.reaction_set import (
    MEAN_POSE,
    MIRROR,
    NEAREST,
    ORDERS,
    SHUFFLED,
    Segment,
    TrainingPairs,
    reaction_segments,
    reactions_of_others,
)
from evaluations.report import checkpoint_stamp, command_line
from evaluations.settings import REAL_MOTION, InteractionSettings, ReactionSettings, chosen_dataset
from evaluations.text_to_motion import as_typed
from model.capabilities import OWN, Decoding, Reacts, Request
from model.checkpoints import from_pretrained
from model.embedding import TextMotionSpace, default_evaluator, open_space
from model.registry import able
from protos.processes import Processes
from protos.randomness import derive_seed
from sample.generation import in_batches, require_finite

log = logging.getLogger(__name__)
TRUTH, MADE = "ground truth", "generated"
ERRORS = ("mpjpe", "best_mpjpe", "mpjve", "contacts")  # of every segment
JUDGED = ("fid", "diversity", "multimodality")  # of all together
Answers = list[list[Tensor]]  # of each segment, in their order, reactions (T, width): one, or samples


class Errors(NamedTuple):
    """How far one reaction is from the recorded one: mm, mm a frame, F1 of contacts."""

    mpjpe: float
    mpjve: float
    contacts: float


@dataclass(frozen=True)
class Reactions:
    """What an evaluation came to, as report.json has it.

    rows: of all segments, {row: {metric: interval}}, ERRORS over the segments, JUDGED over samples; orders: the same of each of
    ORDERS; beside: {row: by how much its MPJPE is over that of the generated reactions, segment by segment}; untouched: recorded
    reactions that never touch the actor; alignment: of latents, and by chance; segments: how many, counted once though either
    person acts in them.
    """

    what: str
    dataset: str
    split: str
    evaluator: str | None  # none: without JUDGED
    segments: int
    samples: int
    seed: int
    text: bool
    protocol: str
    rows: dict[str, dict[str, Interval]]
    orders: dict[str, dict[str, dict[str, Interval]]]
    beside: dict[str, Interval]
    physics: dict[str, Physics]
    untouched: int = 0
    alignment: dict[str, float] | None = None
    seconds_per_motion: float | None = None
    parameters: int | None = None
    made_from: dict[str, str | None] = field(default_factory=dict)
    command: str = ""


def answers_of(model: Reacts, segments: Sequence[Segment], samples: int, seed: int, decoding: Decoding = OWN, text: bool = False,
               share: Share | None = None, progress: bool = True) -> Answers:
    """So many reactions of a model to each segment, every one from its own seed. text: whether it is told what the two do.

    NotFiniteError, and ValueError for what the model cannot take.
    """
    requests = [
        Request(each.text if text else "", len(each), derive_seed(seed, "reaction", each.clip, each.order, k), actor=each.actor)
        for each in segments for k in range(samples)
    ]  # fmt: skip

    def work(some: list[Request]) -> list[Tensor]:
        made = in_batches(lambda part: model.react(part, decoding), some, decoding.batch_size, progress)
        require_finite((bool(each.isfinite().all()) for each in made), model, some, decoding)
        return made

    made = share(work, requests) if share else work(requests)
    return [made[i : i + samples] for i in range(0, len(made), samples)]


def answers_without_model(segments: Sequence[Segment], corpus: Corpus, data: InteractionSet, samples: int,
                          seed: int) -> dict[str, Answers]:
    """Rows that a model should leave behind: those that are learnt from a train split where there is one."""
    rng = np.random.default_rng(derive_seed(seed, "others"))
    others = reactions_of_others(segments, samples, rng)
    rows = {SHUFFLED: others} if all(others) else {}
    try:
        pairs = TrainingPairs(corpus, data.floor)
    except (FileNotFoundError, ValueError) as error:
        log.warning("no answers out of a train split: %s", error)
        return rows
    by_pairs = {MEAN_POSE: pairs.mean_pose, NEAREST: pairs.nearest, MIRROR: pairs.mirror}
    return rows | {row: [[answer(each)] for each in segments] for row, answer in by_pairs.items()}


def errors_of(segment: Segment, reaction: Tensor) -> Errors:
    """Of a reaction (T', width), over the frames that it has."""
    actor, true = segment.joints[:, : len(reaction)]
    made = segment.reaction_joints(reaction)
    return Errors(joint_error(made, true), velocity_error(made, true), contact_consistency(actor, made, true))


def error_figures(segments: Sequence[Segment], errors: Sequence[Sequence[Errors]]) -> dict[str, Interval]:
    """ERRORS over recordings, each the mean of its samples and of who acts in it. The least MPJPE of several samples is left out
    where there is one."""
    return {name: over_segments(values) for name, values in errors_by_clip(segments, errors).items()}


def errors_by_clip(segments: Sequence[Segment], errors: Sequence[Sequence[Errors]]) -> dict[str, list[float]]:
    """ERRORS of each recording, as `error_figures` averages them."""
    own = [np.array(each) for each in errors]  # (samples, 3)
    values = {name: [each[:, k].mean() for each in own] for k, name in enumerate(Errors._fields)}
    values["best_mpjpe"] = [each[:, 0].min() for each in own]
    several = max(map(len, own)) > 1
    return {name: by_clip(segments, values[name]) for name in ERRORS if several or name != "best_mpjpe"}


def by_clip(segments: Sequence[Segment], values: Sequence[float]) -> list[float]:
    """The mean of the values of each recording's segments."""
    groups: dict[int, list[float]] = {}
    for segment, value in zip(segments, values, strict=True):
        groups.setdefault(segment.clip, []).append(value)
    return [float(np.mean(each)) for each in groups.values()]


class ReactionJudge:
    """What a judge of two people says of reactions, each beside its true actor."""

    def __init__(self, space: TextMotionSpace, segments: Sequence[Segment], protocol: EvaluationProtocol, seed: int = 0):
        """FeaturesMismatch where the judge reads other features."""
        space.require(segments[0].features, "the real motions")
        self.space, self.segments, self.protocol, self.seed = space, segments, protocol, seed
        self.real = self.vectors([[each.reaction] for each in segments])[:, 0]  # (N, C)

    def vectors(self, answers: Answers) -> np.ndarray:
        """(N, samples, C): where a segment has fewer answers than another, its own come again."""
        samples = max(map(len, answers))
        flat = [segment.answered(reaction).numpy() for segment, each in zip(self.segments, answers) for reaction in each]
        rows = iter(embed_motion(self.space, flat))
        found = [[next(rows) for _ in each] for each in answers]
        return np.stack([np.stack([each[k % len(each)] for k in range(samples)]) for each in found])

    def figures(self, vectors: np.ndarray, chosen: np.ndarray) -> dict[str, Interval]:
        """JUDGED of the chosen segments, each sample of all of them being one set. MultiModality, where there are several, is the
        mean distance of all pairs of samples of a segment.

        FID compares with the recorded reactions of the same segments. None of it where they are fewer than two.
        """
        if np.count_nonzero(chosen) < 2:
            return {}
        vectors, real = vectors[chosen], self.protocol.gaussian(self.real[chosen])
        rng, samples = np.random.default_rng(derive_seed(self.seed, "judged")), vectors.shape[1]
        sets = [vectors[:, k] for k in range(samples)]
        found = {
            "fid": mean_interval([max(metrics.fid(real, self.protocol.gaussian(each)), 0.0) for each in sets]),
            "diversity": mean_interval([self.protocol.diversity(each, rng) for each in sets]),
        }
        if samples > 1:
            one, other = np.triu_indices(samples, 1)
            apart = np.linalg.norm(vectors[:, one] - vectors[:, other], axis=-1).mean(-1)
            some = [each for each, take in zip(self.segments, chosen) if take]
            found["multimodality"] = over_segments(by_clip(some, apart))
        return found


def table_of(segments: Sequence[Segment], errors: Mapping[str, Sequence[Sequence[Errors]]], judge: ReactionJudge | None,
             vectors: Mapping[str, np.ndarray], order: int | None = None) -> dict[str, dict[str, Interval]]:
    """{row: {metric: interval}} of all segments, or of those of an order."""
    chosen = np.array([order in (None, each.order) for each in segments])
    some = [each for each, take in zip(segments, chosen) if take]
    return {
        row: error_figures(some, [each for each, take in zip(own, chosen) if take])
        | (judge.figures(vectors[row], chosen) if judge else {})
        for row, own in errors.items()
    }


def beside_generated(segments: Sequence[Segment], errors: Mapping[str, Sequence[Sequence[Errors]]]) -> dict[str, Interval]:
    """By how much the MPJPE of each row is over that of the generated reactions, recording by recording."""
    if MADE not in errors:
        return {}
    means = {row: np.array([np.mean([one.mpjpe for one in each]) for each in own]) for row, own in errors.items()}
    return {row: over_segments(by_clip(segments, own - means[MADE])) for row, own in means.items() if row not in (MADE, TRUTH)}


def reaction_physics(segments: Sequence[Segment], answers: Mapping[str, Answers], count: int) -> dict[str, Physics]:
    """Of the first answer to the first `count` segments of each row: the body of the one who reacts, and what lies between it and
    the actor, beside all recorded ones."""
    features: Features = segments[0].features
    real, found = between([each.joints for each in segments], features.fps, features.body), {}
    for row, own in answers.items():
        pairs = [np.stack([segment.joints[0, : len(each[0])], segment.reaction_joints(each[0])])
                 for segment, each in zip(segments[:count], own)]  # fmt: skip
        bodies = physics_of([both[1] for both in pairs], features.fps, own_bones(features.body))
        found[row] = interaction_physics(pairs, features.fps, features.body, real) | bodies
    return found


def alignment_of(model: Reacts, segments: Sequence[Segment]) -> dict[str, float]:
    """Share of recorded reactions whose latent is nearest to that of their own actor, among those of an order, and chance."""
    shares = []
    for order in range(len(ORDERS)):
        some = [each for each in segments if each.order == order]
        latents = model.embed_reactions([each.actor for each in some], [each.reaction for each in some])
        shares.append(alignment(*(each.numpy() for each in latents)))
    return {"share": float(np.mean(shares)), "chance": 1 / len(some)}


def judge_at(evaluator: Path, asked: bool, device: torch.device, corpus: Corpus) -> TextMotionSpace | None:
    """The judge of a folder; None, and a warning, where there is none and the user did not ask for one."""
    if not asked and not evaluator.exists():
        log.warning("%s: no judge of two people there, FID, Diversity and MultiModality are left out (--evaluator takes one)",
                    as_typed(evaluator))  # fmt: skip
        return None
    return open_space(evaluator, device, corpus)


def measure_reactions(settings: InteractionSettings, asked: ReactionSettings, processes: Processes,
                      batch_size: int = 32) -> tuple[Reactions, list[list[object]]] | None:
    """What the evaluation came to, and a line for each reaction, in the main process; None in the others.

    batch_size: reactions made at once. Raises ValueError or OSError in a user's words.
    """
    real = settings.model_path == REAL_MOTION
    corpus = Corpus.open(chosen_dataset(settings.dataset, settings.evaluator if real else settings.model_path))
    data, evaluator = split_of(corpus, settings), settings.evaluator or default_evaluator(corpus)
    space = judge_at(evaluator, settings.evaluator is not None, processes.device, corpus)
    model = None if real else from_pretrained(settings.model_path, processes.device, systems=able(Reacts))
    if model is not None:
        model.features.require(corpus.features, "the model", f"dataset {corpus.folder}")
    segments = reaction_segments(data, data.longest if model is None else min(data.longest, model.config.max_frames))
    answers, seconds = {TRUTH: [[each.reaction] for each in segments]}, None
    if model is not None:
        began = time.perf_counter()
        answers[MADE] = answers_of(model, segments, asked.samples, settings.seed, settings.decoding(batch_size), asked.with_text,
                                   processes.share, processes.main)  # fmt: skip
        seconds = (time.perf_counter() - began) / (len(segments) * asked.samples)
    if not processes.main:
        return None
    if settings.controls:
        answers |= answers_without_model(segments, corpus, data, asked.samples, settings.seed)
    found = Reactions(
        what=settings.model_path, dataset=corpus.folder.name, split=settings.split, evaluator=space and as_typed(evaluator),
        segments=len(data), samples=asked.samples, seed=settings.seed, text=asked.with_text, protocol=settings.protocol,
        rows={}, orders={}, beside={}, physics={}, alignment=model and alignment_of(model, segments), seconds_per_motion=seconds,
        parameters=model and model.num_parameters, command=command_line("evaluations.eval_interhuman"),
        made_from={"dataset": corpus.stamp, "evaluator": space and checkpoint_stamp(evaluator),
                   "model": None if real else checkpoint_stamp(settings.model_path)},
    )  # fmt: skip
    return judged(segments, answers, space, PROTOCOLS[settings.protocol], found, settings.physics_clips)


def judged(segments: Sequence[Segment], answers: Mapping[str, Answers], space: TextMotionSpace | None,
           protocol: EvaluationProtocol, found: Reactions, physics_clips: int) -> tuple[Reactions, list[list[object]]]:
    """The evaluation with its figures filled in, and a line for each reaction: row, segment, order, sample, frames, errors."""
    errors = {row: [[errors_of(segment, reaction) for reaction in each] for segment, each in zip(segments, own)]
              for row, own in answers.items()}  # fmt: skip
    judge = space and ReactionJudge(space, segments, protocol, found.seed)
    vectors = {row: judge.vectors(own) for row, own in answers.items()} if judge else {}
    lines = [
        [row, segment.name, ORDERS[segment.order], k, len(reaction), *(f"{value:.4f}" for value in error)]
        for row, own in errors.items() for segment, each, made in zip(segments, own, answers[row])
        for k, (error, reaction) in enumerate(zip(each, made))
    ]  # fmt: skip
    return replace(
        found, rows=table_of(segments, errors, judge, vectors),
        orders={name: table_of(segments, errors, judge, vectors, order) for order, name in enumerate(ORDERS)},
        beside=beside_generated(segments, errors), untouched=sum(not contacts(*each.joints).any() for each in segments),
        physics=reaction_physics(segments, answers, physics_clips) if physics_clips else {},
    ), lines  # fmt: skip
