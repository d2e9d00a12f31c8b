"""What is left open of a motion, made by a text-to-motion model: its beginning or end is kept, or both, or a part of the body.

A model that can keep what is given does so while it makes the rest (data_loaders/edit_masks.py); of any other what it makes is
put in place of the rest and passes over from what was there in a few frames. Either way the kept frames are the given ones, in
their world: what lies before a kept end is led to it.
"""

import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from data_loaders.corpus import Motion
from data_loaders.edit_masks import feature_mask, in_between_mask, lower_body_joints
from data_loaders.features import Features
from model.capabilities import OWN, Decoding, Generates, Inpaints, Request
from sample.edits import require_edited, rows_of
from sample.generation import features_for, require_finite
from visualize.joining import led_to, on_own_bones, placed

log = logging.getLogger(__name__)
FADE = 4  # frames of the rest that pass over from what was there, of models that cannot keep what is given
Kept = Literal["prefix", "suffix", "in_between", "upper_body", "lower_body", "root"]


@dataclass(frozen=True)
class Completion:
    """What is kept of joints (T, J, 3) in metres: `frames` (T,) True of whole frames, or `what` is a part of the body; the same
    as features `rows` (T, D), of which `mask` (T, D) stays."""

    joints: np.ndarray
    what: Kept
    rows: Tensor
    frames: np.ndarray
    mask: Tensor


def completion_of(joints: np.ndarray, features: Features, longest: int, what: Kept, prefix_end: float = 0.25,
                  suffix_start: float = 0.75) -> Completion:  # fmt: skip
    """What is kept of joints (T, J, 3) at the rate of `features`: until a share `prefix_end` of the time, or from `suffix_start`
    on. What goes on beyond `longest` frames is left out, with a word. ValueError where nothing would be made, or nothing kept.
    """
    require_edited(features)
    if len(joints) > longest:
        fps = features.fps
        log.warning("the motion lasts %.1f s, this model makes the first %.1f s", len(joints) / fps, longest / fps)
        joints = joints[:longest]
    rows, count = rows_of(joints, features), len(joints)
    edges = {"prefix": (prefix_end, 1.0), "suffix": (0.0, suffix_start), "in_between": (prefix_end, suffix_start)}
    if what not in edges:
        return Completion(joints, what, rows, np.zeros(count, bool), feature_mask(what, features).expand(count, -1))
    frames = in_between_mask(torch.tensor([count]), count, *edges[what])[0]
    if frames.all() or not frames.any():
        raise ValueError(f"--keep {what}: {'all' if frames.all() else 'none'} of {count} frames would be kept: change "
                         "--prefix_end or --suffix_start")  # fmt: skip
    return Completion(joints, what, rows, frames.numpy(), frames[:, None].expand(-1, features.width))


def completed_motions(model: Generates, completion: Completion, requests: Sequence[Request],
                      decoding: Decoding = OWN) -> list[Motion]:  # fmt: skip
    """A motion for each request: the kept of the given one, and what the model makes of the rest. NotFiniteError."""
    keeps = isinstance(model, Inpaints) and model.inpaints()
    if keeps:
        requests = [replace(request, motion=completion.rows, keep=completion.mask) for request in requests]
    share = completion.mask.float() if keeps else kept_share(completion)
    made = [model.completed(rows) for rows in features_for(model, requests, decoding)]
    joints = [joined(share * completion.rows + (1 - share) * rows, completion, model.features) for rows in made]
    require_finite((bool(np.isfinite(each).all()) for each in joints), model, requests, decoding)
    features = model.features
    texts = [(request.text,) if request.text else () for request in requests]
    return [Motion(each[None].astype(np.float32), features.fps, features.skeleton, text) for each, text in zip(joints, texts)]


def kept_share(completion: Completion) -> Tensor:
    """How much of the given features (T, D) stays where a model makes everything: all of the kept, then less and less."""
    place, kept = np.arange(len(completion.frames)), np.flatnonzero(completion.frames)
    if not len(kept):
        return completion.mask.float()
    away = np.abs(place[:, None] - kept).min(axis=1)
    return torch.from_numpy(np.maximum(1 - away / (FADE + 1), 0).astype(np.float32))[:, None]


def joined(rows: Tensor, completion: Completion, features: Features) -> np.ndarray:
    """Joints (T, J, 3) of features (T, D) on the bones and in the world of the given motion, whose kept frames, or joints, are
    those of the given; frames before kept ones lead to them."""
    given, kept, body = completion.joints.astype(np.float64), completion.frames, features.body
    if completion.what == "upper_body":
        rows = about_pelvis(rows, completion, features)
    decoded = (features.joints(each).double().numpy() for each in (rows, completion.rows))
    joints = on_own_bones(*decoded, given, body)
    if kept.any():
        gap = np.flatnonzero(~kept)
        first, following = gap[0], gap[-1] + 1
        if following < len(joints) and first:
            joints[: following + 1] = led_to(joints[: following + 1], first, given[following])
        elif following < len(joints):
            joints[: following + 1] = placed(joints[: following + 1], joints[following], given[following])
        joints[kept] = given[kept]
    elif completion.what != "upper_body":
        joints += given[:, :1] - joints[:, :1]
        if completion.what == "lower_body":
            legs = lower_body_joints(body)
            joints[:, legs] = given[:, legs]
    return joints


def about_pelvis(rows: Tensor, completion: Completion, features: Features) -> Tensor:
    """Features (T, D) whose kept joints are as far above the pelvis as they were given: features tell heights above the floor,
    and the pelvis is made anew."""
    height, places = features.blocks["root_height"], torch.arange(features.width)[features.blocks["ric"]]
    kept = places[1::3][completion.mask[0, places[1::3]]]
    rows = rows.clone()
    rows[:, kept] += rows[:, height] - completion.rows[:, height]
    return rows
