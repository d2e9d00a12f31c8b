"""Judges models of two people beside real motion: what differs from the evaluation of one person's motions."""

from dataclasses import replace

from data_loaders.corpus import Corpus
from data_loaders.physics import Physics
from evaluations.evaluation_set import EvaluationSet
from evaluations.interaction_measures import between, interaction_physics
from evaluations.interaction_report import interaction_report
from evaluations.interaction_set import InteractionSet, InteractionSource, baselines_of, controls_of, interaction_set
from evaluations.motion_sources import feature_joints
from evaluations.protocol import EvaluationProtocol, Replication
from evaluations.settings import InteractionSettings
from evaluations.text_to_motion import Cast
from model.interclip_config import TWO_PEOPLE as INTERHUMAN


def split_of(corpus: Corpus, settings: InteractionSettings) -> InteractionSet:
    """The real motions, drawn as the protocol's own loader does where these are the published ones."""
    return interaction_set(corpus, settings.split, settings.protocol == "intergen" and corpus.features == INTERHUMAN)


def one_pool_at_least(protocol: EvaluationProtocol, data: EvaluationSet) -> EvaluationProtocol:
    """The protocol, of which a set that does not fill a pool makes one."""
    return replace(protocol, pool=min(protocol.pool, len(data)))


def people_physics(
    replication: Replication, data: EvaluationSet, given: EvaluationSet | None, count: int
) -> dict[str, Physics]:
    """Of the first `count` motions of each row: their bodies, and what lies between them beside all real motions."""
    features = data.features
    whole = feature_joints([data.motion(i, 0, int(min(frames, data.longest))) for i, frames in enumerate(data.lengths)], features)
    real = between(whole, features.fps, features.body)
    return {
        row: interaction_physics(feature_joints(motions, features), features.fps, features.body, real)
        for row, motions in replication.kept.items()
    }


TWO_PEOPLE = Cast(
    "evaluations.eval_interhuman", InteractionSettings, split_of, InteractionSource, controls_of, people_physics,
    interaction_report, one_pool_at_least, baselines_of,
)  # fmt: skip
