"""What motion loses when it is told by tokens: beside the field's metrics of what comes back, how far joints lie from where they
were.
"""

from collections.abc import Sequence

import numpy as np

from data_loaders.corpus import Corpus
from data_loaders.humanml import MAX_FRAMES
from data_loaders.physics import MEASURES, Physics, physics_of
from evaluations.evaluation_set import EvaluationSet, Motions
from evaluations.metrics_report import Measured, metrics_report
from evaluations.motion_sources import ModelSource, feature_joints
from evaluations.protocol import REAL, Control, Entrants, Replication
from evaluations.report import Report
from evaluations.settings import TokenizerSettings
from evaluations.text_to_motion import Cast, noise_control, split_of
from model.capabilities import Tokenises
from model.checkpoints import from_pretrained
from model.registry import able
from protos.processes import Processes

TOLD, PADDED = "told by tokens", "told by tokens, padded as published"
ERRORS = (("mpjpe", "MPJPE, each frame's pelvis on the true one, mm", 1), ("path_error", "error of joints in the world, mm", 1))


def told(model: Tokenises) -> dict[str, Control]:
    """By row, what a tokenizer makes of real motions: of each as it is, and as published of one that is padded first."""

    def as_they_are(motions: Motions, rng: np.random.Generator) -> list[np.ndarray]:
        return [each.numpy() for each in model.reconstruct(motions)]

    def padded(motions: Motions, rng: np.random.Generator) -> list[np.ndarray]:
        return [each.numpy() for each in model.reconstruct(motions, padded_to=MAX_FRAMES)]

    return {TOLD: as_they_are, PADDED: padded}


def told_motions(
    settings: TokenizerSettings, corpus: Corpus, processes: Processes, batch_size: int, cast: Cast
) -> tuple[None, Entrants, dict[str, str]]:
    """What is judged beside real motion."""
    model = from_pretrained(settings.model_path, processes.device, systems=able(Tokenises))
    model.features.require(corpus.features, "the tokenizer", f"dataset {corpus.folder}")
    beside = cast.controls(corpus) if settings.controls else {}
    return None, Entrants(controls={**told(model), **beside}), {}


def physics_of_rows(
    replication: Replication, data: EvaluationSet, given: EvaluationSet | None, count: int
) -> dict[str, Physics]:
    """Of the first `count` motions of the real row and of those told by tokens, these with their `joint_errors`."""
    rows = {row: feature_joints(replication.kept[row], data.features) for row in (REAL, TOLD, PADDED)}
    found = {row: physics_of(joints, data.features.fps, data.features.body) for row, joints in rows.items()}
    return {row: figures | (joint_errors(rows[REAL], rows[row]) if row != REAL else {}) for row, figures in found.items()}


def joint_errors(real: Sequence[np.ndarray], made: Sequence[np.ndarray]) -> dict[str, float]:
    """Mean distance in mm of joints [(T, J, 3)] from where they were, over all frames that came back: `mpjpe`, each frame's
    pelvis laid on the true one, and `path_error`, in the world.
    """
    apart, path = [], []
    for one, other in zip(real, made, strict=True):
        one = one[: len(other)]
        path.append(np.linalg.norm(one - other, axis=-1).mean(-1))  # (T,)
        apart.append(np.linalg.norm((one - one[:, :1]) - (other - other[:, :1]), axis=-1).mean(-1))
    return {"mpjpe": 1000 * float(np.concatenate(apart).mean()), "path_error": 1000 * float(np.concatenate(path).mean())}


def tokens_report(found: Measured, replications: Sequence[Replication] = ()) -> Report:
    """The report of an evaluation, the errors of joints among its physics."""
    return metrics_report(found, replications, (*ERRORS, *MEASURES))


TOKENS = Cast(
    "evaluations.eval_vq", TokenizerSettings, split_of, ModelSource, noise_control, physics_of_rows, tokens_report,
    judged=told_motions,
)  # fmt: skip
