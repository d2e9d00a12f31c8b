"""Captions of motion files by a model that describes motion: each person's, long ones stretch by stretch."""

import logging
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch

from model.capabilities import Captioning, Describes
from protos.options import one_line

log = logging.getLogger(__name__)


def captions_of(
    model: Describes, paths: Sequence[Path], read: Callable[[Path], np.ndarray], decoding: Captioning
) -> tuple[list[tuple[str, str]], list[str]]:
    """What captions are of, and they, in the order of the files, and what is wrong with files that have none. read(path) ->
    joints (P, T, J, 3) in metres at the model's frame rate; longer motions than it reads are cut into stretches of that length.
    """
    names, motions, bad = [], [], []
    for path in paths:
        try:
            for name, rows in stretches(model, str(path), read(path)):
                names.append(name)
                motions.append(rows)
        except (OSError, ValueError) as error:
            bad.append(one_line(error))
            log.warning("%s", bad[-1])
    return list(zip(names, model.describe(motions, decoding), strict=True)), bad


def by_name(said: Sequence[tuple[str, str]]) -> dict[str, str]:
    """Captions by what they are of, of which what comes again is counted: 'a.npy', 'a.npy (2)'."""
    found: dict[str, str] = {}
    often = dict.fromkeys((name for name, _ in said), 1)
    for name, caption in said:
        own = name
        while own in found:
            often[name] += 1
            own = f"{name} ({often[name]})"
        found[own] = caption
    return found


def stretches(model: Describes, name: str, people: np.ndarray) -> list[tuple[str, np.ndarray]]:
    """Features (T, D) of each person of joints (P, T, J, 3), and what they are of. ValueError where they are too short."""
    shortest, longest = model.config.min_frames, model.config.max_frames
    found = []
    for number, joints in enumerate(people, 1):
        rows = model.features.encode(torch.from_numpy(np.asarray(joints, np.float32))).numpy()
        if len(rows) < shortest:
            more = len(joints) - len(rows)  # frames that features take for velocities
            raise ValueError(f"{name}: {len(joints)} frames at {model.features.fps:g} fps, this model reads {shortest + more} at "
                             "least")  # fmt: skip
        whose = f"{name} person {number}" if len(people) > 1 else name
        for start in range(0, len(rows), longest):
            part = rows[start : start + longest]
            if len(part) >= shortest:
                fps = model.features.fps
                span = f" {start / fps:.1f}-{(start + len(part)) / fps:.1f} s" if len(rows) > longest else ""
                found.append((whose + span, part))
    return found
