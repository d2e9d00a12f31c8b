"""The words of edits (data_loaders/edit_grammar.py): parts of the body, what becomes of them, how far."""

import math
from typing import NamedTuple

FULLY = math.inf


class Part(NamedTuple):
    """A part of the body: what moves alike (arm, elbow, leg, body, hips, or both of two: hands, ...), its side, and as it was
    named."""

    family: str
    side: str
    name: str


BODY = Part("body", "", "body")
FAMILIES = {
    "arm": ("arm", "hand", "wrist", "forearm", "fist"), "elbow": ("elbow", "upper arm"),
    "leg": ("leg", "foot", "knee", "ankle", "thigh", "shin", "calf"),
    "body": ("body", "trunk", "torso", "back", "spine", "chest", "upper body", "waist"), "hips": ("hips", "pelvis"),
}  # fmt: skip
SIDELESS = ("body", "hips")
PLURALS = {"foot": "feet", "calf": "calves", **{name: f"{name}s" for name in (
    "arm", "hand", "wrist", "forearm", "fist", "elbow", "upper arm", "leg", "knee", "ankle", "thigh", "shin")}}
SINGULARS = {more: one for one, more in PLURALS.items()}
FAMILY_OF = {name: family for family, names in FAMILIES.items() for name in names}
PAIRED = {"arm": "arms", "hand": "hands", "wrist": "hands", "fist": "hands", "elbow": "elbows", "leg": "legs", "foot": "feet",
          "ankle": "feet", "knee": "knees"}  # fmt: skip

# word -> (attribute, more of it or less)
WAYS = {
    **dict.fromkeys(("raise", "lift", "higher", "high", "up", "upward", "upwards", "rise", "height"), ("height", 1)),
    **dict.fromkeys(("lower", "low", "drop", "down", "downward", "downwards"), ("height", -1)),
    **dict.fromkeys(("bend", "flex", "fold", "bent"), ("bend", 1)),
    **dict.fromkeys(("straighten", "stretch", "extend", "unbend", "straighter", "straight"), ("bend", -1)),
    **dict.fromkeys(("apart", "spread", "widen", "wider", "wide", "open", "distance", "gap", "space"), ("apart", 1)),
    **dict.fromkeys(("closer", "close", "together", "nearer", "narrow", "narrower", "join"), ("apart", -1)),
    **dict.fromkeys(("forward", "forwards", "ahead"), ("forward", 1)),
    **dict.fromkeys(("backward", "backwards", "rearward"), ("forward", -1)),
    **dict.fromkeys(("outward", "outwards", "out", "sideways"), ("outward", 1)),
    **dict.fromkeys(("inward", "inwards", "in"), ("outward", -1)),
    "leftward": ("leftward", 1), "rightward": ("leftward", -1),
    **dict.fromkeys(("lean", "tilt", "bow", "hunch", "slouch", "stoop"), ("forward", 1)),
    **dict.fromkeys(("crouch", "squat", "duck"), ("height", -1)),
}  # fmt: skip
OF_BODY = ("lean", "tilt", "bow", "hunch", "slouch", "stoop", "crouch", "squat", "duck", "rise")  # need no part
# Say what they say unless another way is said: to stretch an arm forward is forward
DEFAULTS = ("lean", "tilt", "stretch", "extend", "height", "distance", "gap", "space")
# Begin an edit of their own; say what to do only with another word
VERBS = ("raise", "lift", "drop", "lower", "bend", "flex", "fold", "straighten", "stretch", "extend", "unbend", "spread", "widen",
         "open", "close", "narrow", "join", "lean", "tilt", "bow", "crouch", "squat")  # fmt: skip
HANDLING = ("put", "set", "make", "move", "bring", "reach", "push", "pull", "hold", "keep", "take", "get", "place", "tuck",
            "draw", "point", "leave", "touch")  # fmt: skip
AMOUNTS = {
    **dict.fromkeys(("slightly", "bit", "little", "somewhat", "tad", "gently", "subtly"), 0.5),
    **dict.fromkeys(("much", "lot", "far", "very", "strongly", "really", "significantly", "considerably", "clearly", "way",
                     "extremely", "greatly"), 2.0),
    **dict.fromkeys(("more", "further", "farther", "deeper", "deeply", "deep", "even", "quite"), 1.0), "less": -1.0,
    **dict.fromkeys(("fully", "completely", "entirely", "totally", "together", "straight"), FULLY),
}  # fmt: skip
FILLERS = frozenset((
    *HANDLING, "the", "a", "an", "my", "his", "her", "their", "its", "your", "of", "to", "it", "is", "are", "be", "and", "with",
    "please", "then", "let", "him", "them", "both", "i", "want", "would", "like", "can", "could", "you", "we", "should", "must",
    "needs", "need", "have", "has", "he", "she", "they", "person", "character", "man", "woman", "figure", "actor", "dancer", "so",
    "that", "this", "as", "too", "enough", "also", "just", "only", "now", "while", "but", "each", "other", "between", "from",
    "by", "stand", "stands", "standing", "walk", "walks", "walking",
))  # fmt: skip
STATES = ("close", "open", "narrow", "lower")  # of VERBS those that say how something is kept, too
PLACES = {"above": "above", "over": "above", "below": "below", "under": "below", "beneath": "below", "level with": "level with",
          "in line with": "level with"}  # fmt: skip


def parts_there_are() -> str:
    """For an error."""
    return ", ".join(f"left or right {name}" if family not in SIDELESS else name for family, names in FAMILIES.items()
                     for name in names[:3])  # fmt: skip


def paired(parts: tuple[Part, ...], text: str) -> tuple[Part, ...]:
    """Both of a pair as what they are together. ValueError where they are no pair."""
    names = {part.name for part in parts}
    if len(names) == 1 and {part.side for part in parts} == {"left", "right"} and (pair := PAIRED.get(names.copy().pop())):
        return (Part(pair, "", pair),)
    raise ValueError(f"{text!r}: apart and together are said of two: {', '.join(sorted({*PAIRED.values()}))}")


def ways_of(words: list[str], parts: list[Part]) -> list[tuple[str, int]]:
    """(attribute, sign) of each word that says one. To lean is forward, and to bend the trunk, unless another way is said."""
    defaults = DEFAULTS + (("bend",) if all(part.family == "body" for part in parts) else ())
    said = [word for word in words if word in WAYS]
    return [WAYS[word] for word in said if word not in defaults or all(other in defaults for other in said)]
