"""Pose codes in words: a timeline of what differs from standing upright, and what an edit changed."""

from collections.abc import Sequence
from functools import lru_cache
from math import ceil

import numpy as np
import torch
from torch import Tensor

from data_loaders.corpus import Motion
from data_loaders.motion_words import SHORTEST, Event, runs
from data_loaders.pose_code_table import KINDS, RATES, STRIDE, Group, pose_code_table
from data_loaders.pose_codes import indices_from_codes, motion_codes, pose_codes
from data_loaders.skeleton import ALIASES, load_skeleton

FINE = 3  # bins of an angle that are one phrase: 30 degrees
CLOSE, WIDE = 3, 7  # bins of a distance below and from which it is worth a word
SAID_WIDE = ("hand", "foot", "knee", "elbow")  # of whose left and right it is said that they are wide apart


@lru_cache(maxsize=1)
def phrases() -> tuple[tuple[str, ...], ...]:
    """Of each group a phrase for each bin, '' for how somebody stands upright, and where nothing is worth a word."""
    return tuple(_phrases(group, bin_) for group, bin_ in zip(pose_code_table().groups, _standing()))


@lru_cache(maxsize=1)
def _standing() -> tuple[int, ...]:
    """Bin of each group of a body that stands with its arms down."""
    body = load_skeleton("humanml")
    joints = torch.zeros(1, body.num_joints, 3)
    for joint, parent in list(enumerate(body.parents))[1:]:
        joints[0, joint] = joints[0, parent] + torch.tensor(body.raw_offsets[joint]) * body.bone_lengths[joint]
    codes = indices_from_codes(pose_codes(joints))[0].tolist()
    return tuple(code - group.first for code, group in zip(codes, pose_code_table().groups))


def _phrases(group: Group, standing: int) -> tuple[str, ...]:
    before, behind = pose_code_table().subject(group)
    kind, words = group.kind.name, group.kind.words
    if kind == "angle":
        last = group.bins - FINE
        return tuple(f"{before} bent to {10 * (k - k % FINE)} to {10 * (k - k % FINE + FINE)} degrees" if k < last else ""
                     for k in range(group.bins))  # fmt: skip
    if kind == "distance":
        wide = any(group.joints == (f"left_{joint}", f"right_{joint}") for joint in SAID_WIDE)
        return tuple(f"{before} {'close' if k else words[0]}" if k < CLOSE and standing >= CLOSE
                     else f"{before} wide apart" if wide and k >= WIDE else "" for k in range(group.bins))  # fmt: skip
    middle = 1 if kind in ("relX", "relZ", "relV") else -1  # neither left nor right, slanted
    said = (" ".join(filter(None, (before, word, behind))) for word in words)
    return tuple("" if k in (standing, middle) else phrase for k, phrase in enumerate(said))


def code_events(codes: Tensor | np.ndarray, fps: float, shortest: float = SHORTEST, person: int = 1) -> list[Event]:
    """What differs from standing, of codes (N, 392) of tokens of 4 frames, `fps` a second, by time; see
    `motion_words.describe`."""
    table, second = pose_code_table(), fps / STRIDE
    indices = indices_from_codes(codes).cpu().numpy()
    found = []
    for group, said in zip(table.groups, phrases()):
        first = np.array([said.index(phrase) for phrase in said])  # bins of one phrase are one
        for start, stop, band in runs(first[indices[:, group.number] - group.first], ceil(shortest * second - 1e-9)):
            if said[band]:
                found.append(Event(start / second, stop / second, said[band], person, group.kind.name))
    return sorted(found, key=lambda event: (event.start, KINDS.index(event.kind), event.phrase))


def describe_codes(motion: Motion, shortest: float = SHORTEST) -> list[Event]:
    """Events of everybody in a motion, by time, then by person. ValueError for motions that pose codes are not read from, see
    `pose_codes.motion_codes`."""
    rate = RATES.get(ALIASES.get(motion.skeleton, motion.skeleton), motion.fps)
    events = [event for person, codes in enumerate(motion_codes(motion), start=1)
              for event in code_events(codes, rate, shortest, person)]  # fmt: skip
    return sorted(events, key=lambda event: (event.start, event.person))


def code_changes(before: Tensor | np.ndarray, after: Tensor | np.ndarray, fps: float,
                 source: Tensor | Sequence[int] | None = None) -> list[Event]:
    """Before and after of every group that differs, 'left knee straight -> left knee bent to 130 degrees', with the times of
    the codes after (M, 392). source: of which token of those before (N, 392) each is; None: of the same."""
    table, second = pose_code_table(), fps / STRIDE
    old, new = (indices_from_codes(each).cpu() for each in (before, after))
    old = (old if source is None else old[torch.as_tensor(source).cpu()]).numpy()
    new = new.numpy()
    if old.shape != new.shape:
        raise ValueError(f"{len(old)} tokens before and {len(new)} after: say of which token each is")
    found = []
    for group in table.groups:
        pairs = old[:, group.number] * table.width + new[:, group.number]
        for start, stop, pair in runs(pairs, 1):
            a, b = divmod(pair, table.width)
            if a != b:
                found.append(Event(start / second, stop / second, f"{table.words(a)} -> {table.words(b)}", 1, group.kind.name))
    return sorted(found, key=lambda event: (event.start, KINDS.index(event.kind), event.phrase))
