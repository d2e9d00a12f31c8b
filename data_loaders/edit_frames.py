"""Where edits of pose codes (data_loaders/edit_grammar.py) act in a motion of frames: on which joints, how far in each frame, and
in which order its frames come.
"""

from collections.abc import Sequence
from itertools import groupby

import numpy as np

from data_loaders.edit_kinds import Change, Edit, Keep, Mirror, Pace, Put, Repeat
from data_loaders.edit_words import FULLY
from data_loaders.pose_code_table import STRIDE
from data_loaders.pose_moves import kept_joints, limb_joints, moved_joints, tokens_of

MARGIN = 8  # frames before and after those of an edit, over which it fades


def joint_weights(edits: Sequence[Edit], frames: int, fps: float, joint_names: Sequence[str]) -> np.ndarray:
    """How far each joint of each frame is edited, (T, J) from 0 to 1: 1 in the frames of an edit on the joints that it moves, 0
    beyond MARGIN frames of it and where a part is kept. Legs that are not named go where the body takes them. ValueError for a
    time outside the motion."""
    weights, names = np.zeros((frames, len(joint_names))), list(joint_names)
    for edit in edits:
        if isinstance(edit, Change | Put | Mirror):
            joints = moved_joints([edit])
            if "pelvis" in joints and not isinstance(edit, Mirror):
                joints -= limb_joints("leg")
            columns = [k for k, name in enumerate(names) if name in joints]
            weights[:, columns] = np.maximum(weights[:, columns], _window(edit, frames, fps)[:, None])
    for edit in edits:
        if isinstance(edit, Keep):
            columns = [names.index(name) for name in kept_joints(edit.parts) if name in names]
            weights[:, columns] *= 1 - _window(edit, frames, fps)[:, None]
    return weights


def settles(edit: Edit) -> bool:
    """Whether an edit says what a part comes to, not by how much it changes."""
    return isinstance(edit, Put) or (isinstance(edit, Change) and (bool(edit.bound) or edit.amount == FULLY))


def frames_of(edit: Edit, frames: int, fps: float) -> tuple[int, int]:
    """Half-open range of the frames of the tokens that an edit is about; the last token's go on to the end of the motion.
    ValueError as `tokens_of`."""
    tokens = frames // STRIDE
    start, stop = tokens_of(edit, tokens, fps)
    return start * STRIDE, frames if stop == tokens else stop * STRIDE


def _window(edit: Edit, frames: int, fps: float) -> np.ndarray:
    """1 in the frames of an edit, falling to 0 over MARGIN frames on either side, (T,)."""
    start, stop = frames_of(edit, frames, fps)
    place = np.arange(frames)
    away = np.maximum(np.maximum(start - place, place - (stop - 1)), 0)
    return 0.5 + 0.5 * np.cos(np.pi * np.minimum(away / (MARGIN + 1), 1))


def frame_order(edits: Sequence[Edit], frames: int, fps: float) -> np.ndarray:
    """Places (M,) in a motion of so many frames, between which and the next whole frame they may lie, in the order in which they
    come after paces and repetitions, as `apply_edits` orders its tokens."""
    order = np.arange(frames, dtype=np.float64)
    for edit in edits:
        if not isinstance(edit, Pace | Repeat):
            continue
        start, stop = frames_of(edit, frames, fps)
        made = []
        for within, run in groupby(order, key=lambda place, start=start, stop=stop: start <= place < stop):
            block = np.array(list(run))
            if within and isinstance(edit, Repeat):
                block = np.tile(block, edit.times)
            elif within:
                block = _stretched(block, edit.factor)
            made.append(block)
        order = np.minimum(np.concatenate(made), frames - 1)
    return order


def _stretched(block: np.ndarray, factor: float) -> np.ndarray:
    """Places (m,), `factor` times as many, that go on evenly from each of a block (n,) to the next."""
    count = max(1, round(len(block) * factor))
    place = np.arange(count) * len(block) / count
    before = place.astype(int)
    steps = np.diff(block, append=block[-1] + 1)
    return block[before] + (place - before) * np.where(steps > 0, steps, 1)[before]  # a step back is a new beginning
