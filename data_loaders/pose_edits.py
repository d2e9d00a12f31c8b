"""Edits of pose codes: what each edit of the grammar (data_loaders/edit_grammar.py) does to which groups, and how it is applied.

A motion is numbers (N, 70) of the codes that its tokens have, or codes (N, 392). An edit of a part moves a few groups by steps of
their bins, or sets them; every token keeps exactly one code of each group. The arm's and leg's groups are given of the left side,
those of the right are their mirror image. Which groups and steps is ours; the published way has a language model say it (`Reply`).
"""

import math
from collections.abc import Sequence
from itertools import groupby
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from data_loaders.edit_grammar import FULLY, Change, Edit, Keep, Mirror, Pace, Part, Put, Repeat
from data_loaders.pose_code_table import Group, pose_code_table
from data_loaders.pose_codes import RATES, STRIDE, codes_from_indices, indices_from_codes, mirrored_indices

TIGHTEST = 3  # bin of an angle as far as a limb bends: 30 to 40 degrees
HANDS, FEET, KNEES, ELBOWS = (f"distance left_{joint} right_{joint}" for joint in ("hand", "foot", "knee", "elbow"))

# (part, attribute): groups and by how many bins they move for a clear difference; what the edit is about stands first.
MOVES: dict[tuple[str, str], tuple[tuple[str, float], ...]] = {
    ("arm", "height"): (
        ("relY left_hand left_shoulder", 1), ("relY left_wrist neck", 1), ("relY left_hand left_hip", 1),
        ("relY left_hand right_hand", 1), ("relY left_elbow right_elbow", 1),
        ("distance left_hand left_knee", 2), ("distance left_hand right_knee", 2),
        ("distance left_hand left_foot", 2), ("distance left_hand right_foot", 2),
    ),
    ("arm", "bend"): (("angle left_elbow", -4), ("distance left_hand left_shoulder", -1)),
    ("arm", "forward"): (("relZ left_hand torso", -1), ("relZ left_hand right_hand", -1)),
    ("arm", "outward"): (("relX left_hand left_shoulder", -1), ("relX left_hand right_hand", -1), (HANDS, 2), (ELBOWS, 1)),
    ("elbow", "height"): (("relY left_elbow right_elbow", 1), ("relV left_shoulder left_elbow", 1)),
    ("elbow", "bend"): (("angle left_elbow", -4), ("distance left_hand left_shoulder", -1)),
    ("elbow", "forward"): (("relZ left_elbow right_elbow", -1),),
    ("leg", "height"): (
        ("relY left_hip left_knee", -1), ("relV left_hip left_knee", 1), ("relY left_knee right_knee", 1),
        ("relY left_foot left_hip", 1), ("ground left_foot", 1), ("ground left_knee", 1),
    ),
    ("leg", "bend"): (("angle left_knee", -4),),
    ("leg", "forward"): (("relZ left_foot torso", -1), ("relZ left_knee right_knee", -1)),
    ("leg", "outward"): (("relX left_foot left_hip", -1), (FEET, 2), (KNEES, 1)),
    ("hands", "apart"): ((HANDS, 2),), ("elbows", "apart"): ((ELBOWS, 2),), ("arms", "apart"): ((HANDS, 2), (ELBOWS, 2)),
    ("feet", "apart"): ((FEET, 2),), ("knees", "apart"): ((KNEES, 2),), ("legs", "apart"): ((FEET, 2), (KNEES, 1)),
    ("body", "forward"): (("relZ neck pelvis", -1), ("relV pelvis neck", 1)),
    ("body", "backward"): (("relZ neck pelvis", 1), ("relV pelvis neck", 1)),
    ("body", "leftward"): (("relX neck pelvis", -1), ("relV pelvis neck", 1)),
    ("body", "rightward"): (("relX neck pelvis", 1), ("relV pelvis neck", 1)),
    ("body", "bend"): (("relZ neck pelvis", -1), ("relV pelvis neck", 1)),
    ("body", "height"): (
        ("angle left_knee", 4), ("angle right_knee", 4), ("relV left_hip left_knee", -1), ("relV right_hip right_knee", -1),
        ("relY left_hip left_knee", 1), ("relY right_hip right_knee", 1),
    ),
}  # fmt: skip
OPPOSITES = {("body", "forward"): "backward", ("body", "leftward"): "rightward"}  # that are not the same groups the other way
JOINTS = {"arm": ("elbow", "wrist"), "elbow": ("elbow", "wrist"), "leg": ("knee", "ankle", "foot")}
BOTH = {"hands": "arm", "elbows": "arm", "arms": "arm", "feet": "leg", "knees": "leg", "legs": "leg"}
SAME_PAIRS = (  # a distance, and what else is told of its two joints, more than 0.15 m along an axis
    (HANDS, "relX left_hand right_hand", "relY left_hand right_hand", "relZ left_hand right_hand"),
    (ELBOWS, "relY left_elbow right_elbow", "relZ left_elbow right_elbow"),
    (KNEES, "relY left_knee right_knee", "relZ left_knee right_knee"),
    *((f"distance {side}_hand {side}_shoulder", f"relX {side}_hand {side}_shoulder", f"relY {side}_hand {side}_shoulder")
      for side in ("left", "right")),
)  # fmt: skip
LEAST_BIN = (0, 1, 2, 2)  # of a distance by along how many axes it is more than 0.15 m


class Move(NamedTuple):
    """What becomes of a group in tokens from start to stop: its bin moves by `value` ('by'), or is brought to it ('to', 'at least',
    'at most'). main: the edit is about it, others follow."""

    edit: Edit
    group: Group
    how: str
    value: int
    start: int
    stop: int
    main: bool


class Edited(NamedTuple):
    """Codes (M, 392) bool after edits; of which token of the given ones each is, (M,); groups that were edited, (M, 70) bool: nothing
    else differs; and the joints, by name, that were asked to move."""

    codes: Tensor
    source: Tensor
    touched: Tensor
    joints: frozenset[str]


# -------------------------------------------------------------------------------------------------------------------------- plans


def moves_of(edit: Change | Put, tokens: int, fps: float) -> list[Move]:
    """What an edit does to groups of a clip of so many tokens. ValueError for an attribute that a part has not, naming those it has,
    and for a time outside the clip."""
    start, stop = _tokens(edit, tokens, fps)
    table = pose_code_table()
    if isinstance(edit, Put):
        group = table.groups[table.group_of[edit.code]]
        return [Move(edit, group, "to", edit.code - group.first, start, stop, True)]
    steps: dict[int, float] = {}
    mains: set[int] = set()
    for part in edit.parts:
        weights = _weights(edit, part)
        mains |= {weights[0][0], table.reflections[weights[0][0]].group} & {number for number, _ in weights}
        for number, weight in weights:
            steps[number] = steps.get(number, 0.0) + weight  # what lies between two sides moves by both, or by neither
    if edit.bound:
        return [_to(edit, table.groups[number], start, stop) for number in sorted(mains)]
    found = [_by(edit, table.groups[number], weight, start, stop, number in mains) for number, weight in steps.items() if weight]
    return [move for move in found if move.how != "by" or move.value]


def _tokens(edit: Edit, tokens: int, fps: float) -> tuple[int, int]:
    try:
        return edit.span.tokens(tokens, fps, STRIDE)
    except ValueError as error:
        raise ValueError(f"{edit.text!r}: {error}") from None


def _weights(edit: Change, part: Part) -> list[tuple[int, float]]:
    """Groups by number, and by how many bins each moves, of a part; the sign of the edit counted."""
    attribute, sign = edit.attribute, edit.sign
    if attribute == "leftward" and part.side:
        attribute, sign = "outward", sign if part.side == "left" else -sign
    if sign < 0 and (part.family, attribute) in OPPOSITES:
        attribute, sign = OPPOSITES[part.family, attribute], 1
    moves = MOVES.get((part.family, attribute))
    if moves is None:
        known = ", ".join(sorted(own for family, own in MOVES if family == part.family))
        raise ValueError(f"{edit.text!r}: of {part.name} there is no {attribute}; there is {known}")
    table = pose_code_table()
    found = []
    for key, weight in moves:
        number = table.by_key[key].number
        if part.side == "right":
            other = table.reflections[number]
            number, weight = other.group, -weight if other.reverse else weight
        found.append((number, sign * weight))
    return found


def _by(edit: Change, group: Group, weight: float, start: int, stop: int, main: bool) -> Move:
    """A step, or as far as it goes."""
    many, sign = group.bins > 3, int(math.copysign(1, weight))
    if edit.amount == FULLY and not edit.unit and (main or not many):
        lowest = TIGHTEST if group.kind.name == "angle" else 0
        return Move(edit, group, "to", lowest if sign < 0 else group.bins - 1, start, stop, main)
    if edit.unit == "steps":
        steps = round(edit.amount)
    elif (edit.unit, group.kind.name) in (("degrees", "angle"), ("cm", "distance")):
        steps = round(edit.amount / 10)
    else:
        amount = 1.0 if edit.unit else min(edit.amount, 2.0)
        steps = max(1, round(abs(weight) * amount))
    return Move(edit, group, "by", sign * steps, start, stop, main)


def _to(edit: Change, group: Group, start: int, stop: int) -> Move:
    """The bin of a value in degrees or cm."""
    kind = {"degrees": "angle", "cm": "distance"}[edit.unit]
    if group.kind.name != kind:
        raise ValueError(f"{edit.text!r}: {group.key} is not told in {edit.unit}")
    value = edit.amount / (100 if kind == "distance" else 1)
    return Move(edit, group, edit.bound, sum(value > bound + 1e-9 for bound in group.kind.thresholds), start, stop, True)


def kept_groups(parts: Sequence[Part]) -> set[int]:
    """Groups that tell of these parts and of no other limb."""
    kept = {(("leg" if part.family == "leg" else "arm" if part.family in ("arm", "elbow") else "body"), part.side) for part in parts}
    if any(part.name == "upper body" for part in parts):
        kept |= {("arm", "left"), ("arm", "right")}
    found = set()
    for group in pose_code_table().groups:
        limbs = {(limb, joint.partition("_")[0]) for joint in group.joints for limb, names in JOINTS.items()
                 if limb != "elbow" and joint.partition("_")[2] in (*names, *(("hand",) if limb == "arm" else ()))}  # fmt: skip
        if (limbs or {("body", "")}) <= kept:
            found.add(group.number)
    return found


def _require_no_contradiction(moves: Sequence[Move], keeps: Sequence[tuple[Keep, set[int], int, int]]) -> None:
    """ValueError, naming both, where two edits ask opposite things of the same group at the same time."""
    for k, one in enumerate(moves):
        for other in moves[:k]:
            if other.edit is one.edit or other.group != one.group or not (one.main and other.main) or not _meet(one, other):
                continue
            opposite = one.how == other.how == "by" and one.value * other.value < 0
            if opposite or (one.how == other.how == "to" and one.value != other.value):
                raise ValueError(f"{other.edit.text!r} and {one.edit.text!r} contradict each other: {one.group.key}")
        for keep, groups, start, stop in keeps:
            if one.main and one.group.number in groups and one.start < stop and start < one.stop:
                raise ValueError(f"{keep.text!r} and {one.edit.text!r} contradict each other: {one.group.key}")


def _meet(one: Move, other: Move) -> bool:
    return one.start < other.stop and other.start < one.stop


# --------------------------------------------------------------------------------------------------------------------- application


def apply_edits(codes: Tensor | np.ndarray, edits: Sequence[Edit], fps: float = RATES["humanml"], consistent: bool = True) -> Edited:
    """Codes (N, 392) of a motion of so many frames a second after edits.

    Times are those of the given motion. Parts are edited first, in order, then paces and repetitions. consistent: what the edits say
    of two joints takes along what else is told of them and could not be so (hands that are together are at the same height).
    ValueError: `moves_of`, edits that contradict each other, codes that are none.
    """
    given = indices_from_codes(codes)
    if given.ndim != 2 or not len(given):
        raise ValueError(f"codes of shape {tuple(torch.as_tensor(codes).shape)}, expected (tokens, {pose_code_table().width})")
    count, indices, touched = len(given), given.clone(), torch.zeros_like(given, dtype=torch.bool)
    keeps = [(edit, kept_groups(edit.parts), *_tokens(edit, count, fps)) for edit in edits if isinstance(edit, Keep)]
    planned = [(edit, moves_of(edit, count, fps) if isinstance(edit, Change | Put) else []) for edit in edits]
    _require_no_contradiction([move for _, moves in planned for move in moves], keeps)
    main = torch.zeros_like(touched)
    for edit, moves in planned:
        for move in moves:
            _move(indices[move.start : move.stop, move.group.number], move)
            touched[move.start : move.stop, move.group.number] = True
            main[move.start : move.stop, move.group.number] |= move.main
        if isinstance(edit, Mirror):
            start, stop = _tokens(edit, count, fps)
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
    """Distances and places of the same two joints that cannot both be: what the edits are about stays. ValueError where both are."""
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
            raise ValueError(f"{' and '.join(keys)} contradict each other in token {int(both.nonzero()[0])}: "
                             "joints that are so close cannot be so placed")  # fmt: skip
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
        start, stop = _tokens(edit, count, fps)
        made: list[int] = []
        for within, run in groupby(order, key=lambda token, start=start, stop=stop: start <= token < stop):
            block = list(run)
            if within and isinstance(edit, Repeat):
                block = block * edit.times
            elif within:
                length = max(1, round(len(block) * edit.factor))
                block = [block[k * len(block) // length] for k in range(length)]
            made += block
        order = made
    return torch.tensor(order)


def moved_joints(edits: Sequence[Edit]) -> frozenset[str]:
    """Joints, by name, that edits ask to move: all where they mirror, lean or crouch, none where they only pace or repeat."""
    everything = frozenset(pose_code_table().file.joints[:22])
    found: set[str] = set()
    for edit in edits:
        if isinstance(edit, Mirror) or (isinstance(edit, Change) and any(part.family == "body" for part in edit.parts)):
            return everything
        if isinstance(edit, Change):
            for part in edit.parts:
                sides = (part.side,) if part.side else ("left", "right")
                found |= {f"{side}_{joint}" for side in sides for joint in JOINTS[BOTH.get(part.family, part.family)]}
        elif isinstance(edit, Put):
            table = pose_code_table()
            joints = [joint.replace("hand", "wrist") for joint in table.groups[table.group_of[edit.code]].joints]
            found |= {*joints, *(f"{side}_{joint}" for side in ("left", "right") for limb in ("arm", "leg") for joint in JOINTS[limb]
                                 if any(each.startswith(side) and each.partition("_")[2] in JOINTS[limb] for each in joints))}  # fmt: skip
    return frozenset(found) & everything


# ------------------------------------------------------------------------------------------------------- as a language model replies


class Reply(NamedTuple):
    """Codes by number, one for each token from the first of the motion, of a group; and the tokens, last included, that take them."""

    group: int
    codes: Sequence[int]
    start: int
    stop: int


def with_codes(indices: Tensor, group: int, codes: Sequence[int], start: int = 0) -> Tensor:
    """Numbers (N, 70) in which tokens of a group, from `start` on, have these codes. ValueError for codes of another group, or more of
    them than there are tokens."""
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
    """Numbers (N, 70) after replies, and a line for each that was not used. Ranges are cut to the motion and to the codes that came.

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
