"""Motions that were cleaned once they were made, before the judges of text-to-motion models."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import torch

from data_loaders.corpus import Corpus, Motion
from data_loaders.features import Features
from data_loaders.physics import Physics, physics_of
from data_loaders.skeleton import load_skeleton
from data_loaders.text import Caption
from evaluations.evaluation_set import real_set
from evaluations.motion_sources import ModelSource, feature_joints
from evaluations.probe_run import Probed
from evaluations.protocol import GENERATED, PROTOCOLS, REAL, Entrants, Evaluation
from evaluations.text_to_motion import one_person_physics
from model.capabilities import Cleanup, Decoding, Generates
from model.embedding import open_space
from protos.processes import pick_device
from visualize.cleanup import cleaned
from visualize.foot_lock import resting_speed

Row = dict[str, float | None]
RESTING = "resting_foot_speed"


class CleanedSource(ModelSource):
    """A model whose motions are cleaned. Those of one request are made once and kept in `made`, for other ways of cleaning."""

    def __init__(self, networks: Generates, corpus: Corpus, decoding: Decoding, cleanup: Cleanup, made: dict):
        super().__init__(networks, corpus, decoding)
        self.cleanup, self.made = cleanup, made

    def __call__(self, captions: Sequence[Caption], lengths: Sequence[int], seeds: Sequence[int]) -> list[np.ndarray]:
        key = tuple(seeds)
        if key not in self.made:
            self.made[key] = super().__call__(captions, lengths, seeds)
        return [recoded(features, self.cleanup, self.networks.features) for features in self.made[key]]


def recoded(rows: np.ndarray, cleanup: Cleanup, features: Features) -> np.ndarray:
    """Features (T, D) of the joints that features (T, D) tell, cleaned. Rows tell what happens up to the next frame, so one is
    added that goes on as the last two did."""
    joints = features.joints(torch.from_numpy(np.asarray(rows))).numpy()
    joints = cleaned(Motion(joints[None], features.fps, features.skeleton), cleanup).joints[0]
    following = 2 * joints[-1:] - joints[-2:-1] if len(joints) > 1 else joints[-1:]
    return features.encode(np.concatenate([joints, following])).numpy()


def cleaned_joints(probed: Probed, cleanup: Cleanup) -> Probed:
    """Motions before the probes, cleaned."""
    made = (cleaned(Motion(joints[None], probed.fps), cleanup) for joints in probed.motions)
    return replace(probed, motions=[motion.joints[0] for motion in made])


def physics_alone(made: Probed, cleaned: Probed) -> Row:
    """Their physics, where there is no real motion that they could be compared with."""
    skeleton = load_skeleton("humanml")
    resting = resting_speed(made.motions, cleaned.motions, made.fps, skeleton)
    return {"fid": None, "top3": None, RESTING: resting, **physics_of(cleaned.motions, cleaned.fps, skeleton)}


def judged_ways(model: Generates, corpus: Corpus | None, evaluator: Path | None, decoding: Decoding, ways: Mapping[str, Cleanup],
                count: int, seed: int, device: str) -> tuple[Row | None, dict[str, Row]]:  # fmt: skip
    """FID, R-precision and physics of real motion, and of `count` motions cleaned in each way; nothing without a corpus."""
    if corpus is None:
        return None, {}
    data, judge = real_set(corpus), open_space(evaluator, pick_device(device), corpus)
    protocol = replace(PROTOCOLS["mdm"], enough=count)
    evaluation = Evaluation(data, judge, protocol, seed, multimodality=False)
    skeleton, rows, made, real, as_made = load_skeleton(data.features.skeleton), {}, {}, None, None
    for name, cleanup in ways.items():
        found = evaluation.replicate(0, Entrants(CleanedSource(model, corpus, decoding, cleanup, made)), count)
        measured: dict[str, Physics] = one_person_physics(found, data, None, count)
        shown, recorded = (feature_joints(found.kept[row], data.features) for row in (GENERATED, REAL))
        as_made = as_made or shown  # the first way leaves them so
        slide = partial(resting_speed, fps=data.features.fps, skeleton=skeleton)
        rows[name] = {**found.rows[GENERATED], **measured[GENERATED], RESTING: slide(as_made, shown)}
        real = {**found.rows[REAL], **measured[REAL], RESTING: slide(recorded, recorded)}
    return real, rows
