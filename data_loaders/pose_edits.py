"""Edits of pose codes, applied: those of the grammar (data_loaders/edit_grammar.py) and the replies of a language model.

A motion is numbers (N, 70) of the codes that its tokens have, or codes (N, 392); every token keeps exactly one code of each
group. """

from collections.abc import Sequence
from itertools import groupby
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from data_loaders.edit_kinds import Change, Edit, Keep, Mirror, Pace, Put, Repeat
from data_loaders.mocap import MOST_FRAMES
from data_loaders.pose_code_table import RATES, STRIDE, pose_code_table
from data_loaders.pose_codes import codes_from_indices, indices_from_codes, mirrored_indices
from data_loaders.pose_moves import ELBOWS, HANDS, KNEES, Move, kept_groups, moved_joints, moves_of, tokens_of

SAME_PAIRS = (  # a distance, and what else is told of its two joints, more than 0.15 m along an axis
    (HANDS, "relX left_hand right_hand", "relY left_hand right_hand", "relZ left_hand right_hand"),
    (ELBOWS, "relY left_elbow right_elbow", "relZ left_elbow right_elbow"),
    (KNEES, "relY left_knee right_knee", "relZ left_knee right_knee"),
    *((f"distance {side}_hand {side}_shoulder", f"relX {side}_hand {side}_shoulder", f"relY {side}_hand {side}_shoulder")
      for side in ("left", "right")),
)  # fmt: skip
LEAST_BIN = (0, 1, 2, 2)  # of a distance by along how many axes it is more than 0.15 m


class Edited(NamedTuple):
    """Codes (M, 392) bool after edits; of which token of the given ones each is, (M,); groups that were edited, (M, 70) bool:
    nothing else differs; and the joints, by name, that were asked to move."""

    codes: Tensor
    source: Tensor
    touched: Tensor
    joints: frozenset[str]


def _require_no_contradiction(moves: Sequence[Move], keeps: Sequence[tuple[Keep, set[int], int, int]]) -> None:
    """ValueError, naming both, where two edits ask opposite things of the same group at the same time."""
    for k, one in enumerate(moves):
        for other in moves[:k]:
            if other.edit is one.edit or other.group != one.group or not (one.main and other.main) or not _meet(one, other):
                continue
            opposite = one.how == other.how == "by" and one.value * other.value < 0
            a, b = one.edit, other.edit
            if isinstance(a, Change) and isinstance(b, Change) and not (a.bound or b.bound):
                opposite |= a.attribute == b.attribute and a.sign != b.sign
            if opposite or _excluded(one, other) or _excluded(other, one):
                raise ValueError(f"{other.edit.text!r} and {one.edit.text!r} contradict each other: {one.group.key}")
        for keep, groups, start, stop in keeps:
            if one.main and one.group.number in groups and one.start < stop and start < one.stop:
                raise ValueError(f"{keep.text!r} and {one.edit.text!r} contradict each other: {one.group.key}")


def _excluded(one: Move, other: Move) -> bool:
    """Whether a bin that is set is not what the other asks for."""
    if one.how == "to":
        return other.how == "by" or (other.how == "to" and one.value != other.value)
    return one.how == "at least" and other.how in ("to", "at most") and other.value < one.value


def _meet(one: Move, other: Move) -> bool:
    return one.start < other.stop and other.start < one.stop


# -------------------------------------------------------------------------------------------------------------------- application


def apply_edits(codes: Tensor | np.ndarray, edits: Sequence[Edit], fps: float = RATES["humanml"],
                consistent: bool = True) -> Edited:
    """Codes (N, 392) of a motion of so many frames a second after edits.

    Times are those of the given motion. Parts are edited first, in order, then paces and repetitions. consistent: what the
    edits say of two joints takes along what else is told of them and could not be so (hands that are together are at the same
    height). ValueError: `moves_of`, edits that contradict each other, codes that are none. """
    given = indices_from_codes(codes)
    if given.ndim != 2 or not len(given):
        raise ValueError(f"codes of shape {tuple(torch.as_tensor(codes).shape)}, expected (tokens, {pose_code_table().width})")
    count, indices, touched = len(given), given.clone(), torch.zeros_like(given, dtype=torch.bool)
    keeps = [(edit, kept_groups(edit.parts), *tokens_of(edit, count, fps)) for edit in edits if isinstance(edit, Keep)]
    planned = [(edit, moves_of(edit, count, fps) if isinstance(edit, Change | Put) else []) for edit in edits]
    _require_no_contradiction([move for _, moves in planned for move in moves], keeps)
    main = torch.zeros_like(touched)
    for edit, moves in planned:
        for move in moves:
            _move(indices[move.start : move.stop, move.group.number], move)
            touched[move.start : move.stop, move.group.number] = True
            main[move.start : move.stop, move.group.number] |= move.main
        if isinstance(edit, Mirror):
            start, stop = tokens_of(edit, count, fps)
            indices[start:stop] = mirrored_indices(indices[start:stop])
            touched[start:stop] = True
    if consistent:
        _reconcile(indices, touched, main)
    for _, groups, start, stop in keeps:
        kept = sorted(groups)
        indices[start:stop, kept] = given[start:stop, kept]
        touched[start:stop, kept] = False
    source = _paced(edits, count, fps).to(given.device)
    return Edited(codes_from_indices(indices[source]), source, touched[source], moved_joints(edits))


def _move(numbers: Tensor, move: Move) -> None:
    """Codes (n,) of a group, changed in place."""
    first, last = move.group.first, move.group.bins - 1
    bins = numbers - first
    if move.how == "by":
        bins = (bins + move.value).clamp(0, last)
    elif move.how == "to":
        bins = torch.full_like(bins, move.value)
    else:
        bins = bins.clamp_min(move.value) if move.how == "at least" else bins.clamp_max(move.value)
    numbers.copy_(first + bins)


def _reconcile(indices: Tensor, touched: Tensor, main: Tensor) -> None:
    """Distances and places of the same two joints that cannot both be: what the edits are about stays. ValueError where both
    are."""
    table = pose_code_table()
    for keys in SAME_PAIRS:
        distance, *places = (table.by_key[key] for key in keys)
        apart = torch.stack([indices[:, each.number] != each.first + 1 for each in places], -1)  # (N, 2 or 3)
        least = torch.tensor(LEAST_BIN, device=indices.device)[apart.sum(-1)] + distance.first
        numbers = [distance.number, *(each.number for each in places)]
        wrong = (indices[:, distance.number] < least) & touched[:, numbers].any(-1)
        asked = apart & main[:, numbers[1:]]
        both = wrong & main[:, distance.number] & (asked.sum(-1) > 0)
        if both.any():
            token = int(both.nonzero()[0])
            said = [table.words(int(indices[token, each.number])) for each in places if main[token, each.number]]
            near = table.words(int(indices[token, distance.number]))
            raise ValueError(f"{near!r} and {' and '.join(map(repr, said))} contradict each other in token {token}")
        nearer, further = wrong & main[:, distance.number], wrong & ~main[:, distance.number]
        for each in places:
            indices[nearer, each.number] = each.first + 1
            touched[nearer, each.number] = True
        indices[further, distance.number] = least[further]
        touched[further, distance.number] = True


def _paced(edits: Sequence[Edit], count: int, fps: float) -> Tensor:
    """Tokens (M,) of the given motion in the order in which they come after paces and repetitions."""
    order = list(range(count))
    for edit in edits:
        if not isinstance(edit, Pace | Repeat):
            continue
        start, stop = tokens_of(edit, count, fps)
        made: list[int] = []
        for within, run in groupby(order, key=lambda token, start=start, stop=stop: start <= token < stop):
            block = list(run)
            often = 1 if not within else edit.times if isinstance(edit, Repeat) else edit.factor
            if len(made) + often * len(block) > MOST_FRAMES / STRIDE:
                raise ValueError(f"{edit.text!r}: more than {MOST_FRAMES:,} frames would come of it: ask for fewer rounds")
            if within and isinstance(edit, Repeat):
                block = block * edit.times
            elif within:
                length = max(1, round(len(block) * edit.factor))
                block = [block[k * len(block) // length] for k in range(length)]
            made += block
        order = made
    return torch.tensor(order)


# ---------------------------------------------------------------------------------------------------- as a language model replies


class Reply(NamedTuple):
    """Codes by number, one for each token from the first of the motion, of a group; and the tokens, last included, that take
    them."""

    group: int
    codes: Sequence[int]
    start: int
    stop: int


def with_codes(indices: Tensor, group: int, codes: Sequence[int], start: int = 0) -> Tensor:
    """Numbers (N, 70) in which tokens of a group, from `start` on, have these codes. ValueError for codes of another group, or
    more of them than there are tokens."""
    table = pose_code_table()
    if not 0 <= group < len(table.groups):
        raise ValueError(f"group {group}, expected 0 to {len(table.groups) - 1}")
    own = table.groups[group]
    if wrong := [code for code in codes if not own.first <= code < own.first + own.bins]:
        raise ValueError(f"code {wrong[0]} is none of group {group} ({own.key}): {own.first} to {own.first + own.bins - 1}")
    if start < 0 or start + len(codes) > len(indices):
        raise ValueError(f"tokens {start} to {start + len(codes) - 1} of group {group}, the motion has {len(indices)}")
    found = indices.clone()
    found[start : start + len(codes), group] = torch.as_tensor(list(codes), dtype=indices.dtype, device=indices.device)
    return found


def apply_replies(indices: Tensor, replies: Sequence[Reply]) -> tuple[Tensor, list[str]]:
    """Numbers (N, 70) after replies, and a line for each that was not used. Ranges are cut to the motion and to the codes that
    came.

    Each reply keeps its own codes and range; the original pairs them anew and lets them land on other groups.
    """
    refused: list[str] = []
    for reply in replies:
        start, stop = max(reply.start, 0), min(reply.stop, len(indices) - 1, len(reply.codes) - 1)
        try:
            if start > stop:
                raise ValueError(f"tokens {reply.start} to {reply.stop} of group {reply.group}: no token of the motion")
            indices = with_codes(indices, reply.group, reply.codes[start : stop + 1], start)
        except ValueError as error:
            refused.append(str(error))
    return indices, refused
