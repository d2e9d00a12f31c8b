"""Reactions to what somebody does: the one who acts brought into the world in which models react, and what they make back into
the actor's own.
"""

import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from data_loaders.corpus import Motion
from data_loaders.features import Features
from data_loaders.motion_files import motion_of
from model.capabilities import OWN, Decoding, Reacts, Request
from protos.reading import FileError
from sample.generation import in_batches, require_finite

if TYPE_CHECKING:
    from torch import Tensor

    from data_loaders.interhuman_features import Placement

log = logging.getLogger(__name__)
SHORTEST = 4  # frames of an action


@dataclass(frozen=True)
class Actor:
    """Who acts: joints (T, J, 3) in metres where they are, the same as features (T, D) of one who starts at the origin, faces +Z
    and stands on height 0, and how that leads back: where it starts, and the height of its floor in metres."""

    joints: np.ndarray
    features: "Tensor"
    start: "Placement"
    floor: float


def actor_of(joints: np.ndarray, features: Features, longest: int, name: str) -> Actor:
    """The actor of joints (T, J, 3) in metres at the frame rate of `features`, which are of two people; what goes on beyond
    `longest` frames is left out, with a word. FileError, naming the file, for less than SHORTEST frames.
    """
    import torch

    from data_loaders.interhuman_features import features_from_clips, placement

    if len(joints) < SHORTEST:
        raise FileError(f"{name}: {len(joints)} frames at {features.fps:g} per second, an action has at least {SHORTEST}")
    if len(joints) > longest:
        fps = features.fps
        log.warning("%s: lasts %.1f s, this model reacts to the first %.1f s", name, len(joints) / fps, longest / fps)
    given = torch.from_numpy(np.array(joints[:longest], np.float32))
    going_on = torch.cat([given, 2 * given[-1:] - given[-2:-1]])  # rows tell what happens up to the next frame
    (rows,) = features_from_clips([going_on[None]], features.body, features.heading)  # (T, D)
    height = float(given[0, 0, 1]) - float(rows[0, 1])
    return Actor(given.numpy(), rows, placement(given, features.body), height)


def reactions_for(model: Reacts, requests: Sequence[Request], decoding: Decoding = OWN, progress: bool = True) -> list[Motion]:
    """A Motion for each request, joints (2, frames, J, 3) of the actor and of who reacts, in the world of the actor's
    features."""
    import torch

    made = in_batches(lambda some: model.react(some, decoding), requests, decoding.batch_size, progress)
    require_finite((bool(rows.isfinite().all()) for rows in made), model, requests, decoding)
    both = [torch.cat([request.actor[: len(rows)], rows], dim=-1) for request, rows in zip(requests, made, strict=True)]
    captions = [(request.text,) if request.text else () for request in requests]
    return [motion_of(rows, model.features, words) for rows, words in zip(both, captions, strict=True)]


def reactions_to(model: Reacts, actor: Actor, requests: Sequence[Request], decoding: Decoding = OWN) -> list[Motion]:
    """Reactions to one actor, who is as given, in the actor's own world."""
    from data_loaders.interhuman_features import brought_back

    motions = reactions_for(model, [replace(request, actor=actor.features) for request in requests], decoding)
    return [replace(motion, joints=np.stack([
        actor.joints[: motion.joints.shape[1]], brought_back(motion.joints[1], actor.start, actor.floor)])) for motion in motions]
