"""What each edit of the grammar (data_loaders/edit_grammar.py) does to which groups of pose codes.

An edit of a part moves a few groups by steps of their bins, or sets them. The arm's and leg's groups are given of the left
side, those of the right are their mirror image. Which groups and steps is ours. """

import math
from collections.abc import Sequence
from typing import NamedTuple

from data_loaders.edit_kinds import Change, Edit, Mirror, Put
from data_loaders.edit_words import FULLY, SIDELESS, Part
from data_loaders.pose_code_table import STRIDE, Group, pose_code_table

CLEAR = {"degrees": 45.0, "cm": 30.0}  # a clear difference, of what codes tell in neither
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
    ("elbow", "forward"): (("relZ left_elbow right_elbow", -1),), ("elbow", "outward"): ((ELBOWS, 1),),
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
MOVES["hips", "height"] = MOVES["body", "height"]
OPPOSITES = {("body", "forward"): "backward", ("body", "leftward"): "rightward"}  # that are not the same groups the other way
JOINTS = {"arm": ("elbow", "wrist"), "elbow": ("elbow", "wrist"), "leg": ("knee", "ankle", "foot")}
BOTH = {"hands": "arm", "elbows": "arm", "arms": "arm", "feet": "leg", "knees": "leg", "legs": "leg"}


class Move(NamedTuple):
    """What becomes of a group in tokens from start to stop: its bin moves by `value` ('by'), or is brought to it ('to', 'at
    least', 'at most'). main: the edit is about it, others follow."""

    edit: Edit
    group: Group
    how: str
    value: int
    start: int
    stop: int
    main: bool


def moves_of(edit: Change | Put, tokens: int, fps: float) -> list[Move]:
    """What an edit does to groups of a clip of so many tokens. ValueError for an attribute that a part has not, naming those it
    has, and for a time outside the clip."""
    start, stop = tokens_of(edit, tokens, fps)
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


def tokens_of(edit: Edit, tokens: int, fps: float) -> tuple[int, int]:
    """Half-open range of tokens that an edit is about. ValueError where its time is no part of the clip."""
    try:
        return edit.span.tokens(tokens, fps, STRIDE)
    except ValueError as error:
        raise ValueError(f"{edit.text!r}: {error}") from None


def _weights(edit: Change, part: Part) -> list[tuple[int, float]]:
    """Groups by number, and by how many bins each moves, of a part; the sign of the edit counted."""
    attribute, sign = edit.attribute, edit.sign
    if edit.towards is not None:
        return [(_between(edit, part).number, 2 * sign)]
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


def _between(edit: Change, part: Part) -> Group:
    """The distance of a hand and what it goes to. ValueError where none is told of the two."""
    table, hand, other = pose_code_table(), f"{part.side}_hand", f"{edit.towards.side}_{edit.towards.name}"
    found = table.by_key.get(f"distance {hand} {other}")
    if part.family != "arm" or found is None:
        known = [each.joints[1].replace("_", " ") for each in table.groups
                 if each.kind.name == "distance" and each.joints[0] == f"{part.side or 'left'}_hand"]  # fmt: skip
        raise ValueError(f"{edit.text!r}: no distance is told of {part.side} {part.name} and {other.replace('_', ' ')}; there is "
                         f"of a hand and {', '.join(known)}")  # fmt: skip
    return found


def _by(edit: Change, group: Group, weight: float, start: int, stop: int, main: bool) -> Move:
    """A step, or as far as it goes."""
    many, sign = group.bins > 3, int(math.copysign(1, weight))
    if edit.amount == FULLY and not edit.unit and (main or not many):
        lowest = TIGHTEST if group.kind.name == "angle" else 0
        return Move(edit, group, "to", lowest if sign < 0 else group.bins - 1, start, stop, main)
    if group.kind.name == "relV":  # follows: leaning, not lying
        return Move(edit, group, "at least" if sign > 0 else "at most", 1, start, stop, main)
    if edit.unit == "steps":
        steps = round(edit.amount)
    elif (edit.unit, group.kind.name) in (("degrees", "angle"), ("cm", "distance")):
        steps = round(edit.amount / 10)
    else:
        amount = min(edit.amount / CLEAR.get(edit.unit, 1.0), 2.0)
        steps = max(1, round(abs(weight) * amount))
    return Move(edit, group, "by", sign * min(steps, group.bins), start, stop, main)


def _to(edit: Change, group: Group, start: int, stop: int) -> Move:
    """The bin of a value in degrees or cm."""
    kind = {"degrees": "angle", "cm": "distance"}[edit.unit]
    if group.kind.name != kind:
        raise ValueError(f"{edit.text!r}: {group.key} is not told in {edit.unit}")
    value = edit.amount / (100 if kind == "distance" else 1)
    return Move(edit, group, edit.bound, sum(value > bound + 1e-9 for bound in group.kind.thresholds), start, stop, True)


def kept_groups(parts: Sequence[Part]) -> set[int]:
    """Groups that tell of these parts and of no other limb."""
    kept = _limbs_of(parts)
    return {group.number for group in pose_code_table().groups if _limbs(group) <= kept}


def kept_joints(parts: Sequence[Part]) -> frozenset[str]:
    """Joints, by name, of these parts: those of the trunk are all that are of no limb, but for the pelvis."""
    limbs = _limbs_of(parts)
    kept = {f"{side}_{joint}" for limb, side in limbs if side for joint in JOINTS[limb]}
    if ("body", "") in limbs:
        kept |= {*pose_code_table().file.joints[1:22]} - limb_joints("arm", "leg")
    return frozenset(kept)


def limb_joints(*limbs: str) -> frozenset[str]:
    """Joints, by name, of both arms or legs that edits of these move."""
    return frozenset(f"{side}_{joint}" for limb in limbs for side in ("left", "right") for joint in JOINTS[limb])


def _limbs_of(parts: Sequence[Part]) -> set[tuple[str, str]]:
    """Limbs, with their sides, that parts are; the body where one is none."""
    limb = {"leg": "leg", "arm": "arm", "elbow": "arm"}
    found = {(limb.get(part.family, "body"), part.side) for part in parts}
    if any(part.name == "upper body" for part in parts):
        found |= {("arm", "left"), ("arm", "right")}
    return found


def _limbs(group: Group) -> set[tuple[str, str]]:
    """Limbs, with their sides, that a group tells of; the body where it is none."""
    found = set()
    for joint in group.joints:
        side, _, name = joint.partition("_")
        found |= {(limb, side) for limb in ("arm", "leg") if name in JOINTS[limb] or (limb, name) == ("arm", "hand")}
    return found or {("body", "")}


def moved_joints(edits: Sequence[Edit]) -> frozenset[str]:
    """Joints, by name, that edits ask to move: all where they mirror, lean or crouch, none where they only pace or repeat."""
    table = pose_code_table()
    everything = frozenset(table.file.joints[:22])
    found: set[str] = set()
    for edit in edits:
        if isinstance(edit, Mirror) or (isinstance(edit, Change) and any(part.family in SIDELESS for part in edit.parts)):
            return everything
        if isinstance(edit, Change):
            limbs = {(BOTH.get(part.family, part.family), side) for part in edit.parts
                     for side in ((part.side,) if part.side else ("left", "right"))}  # fmt: skip
        elif isinstance(edit, Put):
            limbs = _limbs(table.groups[table.group_of[edit.code]])
            if ("body", "") in limbs:
                return everything
        else:
            continue
        found |= {f"{side}_{joint}" for limb, side in limbs for joint in JOINTS[limb]}
    return frozenset(found)
