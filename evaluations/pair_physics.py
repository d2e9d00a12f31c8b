"""How the bodies of two people that a model makes are, and what lies between them, beside recorded ones and beside pairs that
need no model: two independent people, and what was trained on.
"""

from collections.abc import Mapping

import numpy as np

from data_loaders.corpus import Corpus
from data_loaders.physics import MEASURES, Physics, physics_table
from evaluations import interaction_measures
from evaluations.interaction_measures import between, interaction_physics
from evaluations.interaction_set import PLAYED_BACK, InteractionSource, baselines_of, interaction_set, partners_swapped
from evaluations.motion_sources import feature_joints
from model.capabilities import OWN, Decoding, Generates
from protos.randomness import derive_seed

REAL, GENERATED, TRAINED_ON, INDEPENDENT = "real, test", "generated", "real, train", "two independent people"
NOTE = (f"{GENERATED}: for captions of the test segments, as long as these. {TRAINED_ON}: how far recordings are from one "
        f"another. {INDEPENDENT}: each of another test segment, where and as it was there. {PLAYED_BACK}: that whose sentence is "
        "nearest to the caption. Distances of distributions are from those of the test segments, frame by frame.")  # fmt: skip


def pair_physics(model: Generates, corpus: Corpus, most: int, repetitions: int, seed: int,
                 decoding: Decoding = OWN) -> dict[str, Physics]:
    """Physics of each row, the test split's first. At most `most` motions are made, each test segment being asked for up to
    `repetitions` times, by its captions in turn. FeaturesMismatch where the model makes other motions than the corpus has."""
    data, source = interaction_set(corpus), InteractionSource(model, corpus, decoding)
    longest = min(data.longest, model.config.max_frames)
    plan = [(i, k) for k in range(repetitions) for i in range(len(data))][:most]
    captions = [data.entries[i].captions[k % len(data.entries[i].captions)] for i, k in plan]
    lengths = [int(min(data.lengths[i], longest)) for i, _ in plan]
    seeds = [derive_seed(seed, "physics", i, k) for i, k in plan]
    train = interaction_set(corpus, "train")
    recorded = {row: [own.motion(i, 0, int(min(own.lengths[i], longest))) for i in range(len(own))]
                for row, own in ((REAL, data), (TRAINED_ON, train))}  # fmt: skip
    rng = np.random.default_rng(derive_seed(seed, "independent"))
    rows = {REAL: recorded[REAL], GENERATED: source(captions, lengths, seeds), TRAINED_ON: recorded[TRAINED_ON]}
    if len(data) > 1:
        rows[INDEPENDENT] = partners_swapped(recorded[REAL], corpus.features, rng)
    rows |= {row: played(captions, lengths, seeds) for row, played in baselines_of(corpus).items()}
    features, fps, body = corpus.features, corpus.fps, corpus.features.body
    joints = {row: feature_joints(motions, features) for row, motions in rows.items()}
    real = between(joints[REAL], fps, body)
    return {row: interaction_physics(motions, fps, body, real) for row, motions in joints.items()}


def physics_beside(physics: Mapping[str, Physics]) -> str:
    """The table of `pair_physics`, and what its columns are."""
    measures = (*MEASURES, *interaction_measures.MEASURES)
    return "\n\n".join([physics_table(physics, (GENERATED, REAL), measures), NOTE])
