"""Edits of a motion in plain words, read by rules: "raise the left arm higher between 2s and 4s; slower; keep the legs".

Clauses stand between semicolons or line ends. One asks for
- a part to change: raise, lift, lower, bend, straighten, spread, close, move ... forward, back, out, in, up, down; hands, feet,
  knees, elbows together, closer, apart; lean forward, back, to the left; crouch, rise. How far: a bit, more, much, fully, less
  (the other way), by 30 degrees, by 20 cm, by 2 steps, to 90 degrees, to at least 40 cm;
- a code by its words or its published name: put the left hand above the left shoulder; set "L-elbow angle 3";
- all of the motion: slower, faster (by 2), mirror, repeat (3 times), keep the legs.
When: between 2s and 4s, from 2s to 4s, until 3s, after 3s, in the last second, at the end; seconds, frames (frame 40), tokens, %.
Nothing said: all the time. What an edit does to codes is told in data_loaders/pose_edits.py.
"""

import math
import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import NamedTuple

from data_loaders.edit_times import ALWAYS, Span, take_span
from data_loaders.pose_code_table import pose_code_table

PACE, FURTHEST_PACE, MOST_REPEATS = 1.5, 8.0, 20
LONGEST = 4000  # letters of all edits together
MOST = 10_000  # of a number
FULLY = math.inf


class Part(NamedTuple):
    """A part of the body: what moves alike (arm, elbow, leg, body, or both of two: hands, ...), its side, and as it was named."""

    family: str
    side: str
    name: str


FAMILIES = {
    "arm": ("arm", "hand", "wrist", "forearm", "fist"), "elbow": ("elbow", "upper arm"),
    "leg": ("leg", "foot", "knee", "ankle", "thigh", "shin", "calf"),
    "body": ("body", "trunk", "torso", "back", "spine", "chest", "upper body", "waist"),
}  # fmt: skip
PLURALS = {"foot": "feet", "calf": "calves", **{name: f"{name}s" for name in (
    "arm", "hand", "wrist", "forearm", "fist", "elbow", "upper arm", "leg", "knee", "ankle", "thigh", "shin")}}
PAIRED = {"arm": "arms", "hand": "hands", "wrist": "hands", "fist": "hands", "elbow": "elbows", "leg": "legs", "foot": "feet",
          "ankle": "feet", "knee": "knees"}  # fmt: skip

# word -> (attribute, more of it or less)
WAYS = {
    **dict.fromkeys(("raise", "lift", "higher", "up", "upward", "upwards", "rise"), ("height", 1)),
    **dict.fromkeys(("lower", "drop", "down", "downward", "downwards"), ("height", -1)),
    **dict.fromkeys(("bend", "flex", "fold", "bent"), ("bend", 1)),
    **dict.fromkeys(("straighten", "stretch", "extend", "unbend", "straighter", "straight"), ("bend", -1)),
    **dict.fromkeys(("apart", "spread", "widen", "wider", "wide", "open"), ("apart", 1)),
    **dict.fromkeys(("closer", "close", "together", "nearer", "narrow", "narrower", "join"), ("apart", -1)),
    **dict.fromkeys(("forward", "forwards", "ahead"), ("forward", 1)),
    **dict.fromkeys(("backward", "backwards", "rearward"), ("forward", -1)),
    **dict.fromkeys(("outward", "outwards", "out", "sideways"), ("outward", 1)),
    **dict.fromkeys(("inward", "inwards", "in"), ("outward", -1)),
    "leftward": ("leftward", 1), "rightward": ("leftward", -1),
    "lean": ("forward", 1), "tilt": ("forward", 1), "bow": ("forward", 1), "crouch": ("height", -1), "squat": ("height", -1),
}  # fmt: skip
OF_BODY = ("lean", "tilt", "bow", "crouch", "squat", "rise")  # need no part
DEFAULTS = ("lean", "tilt")  # say forward unless another way is said
VERBS = ("raise", "lift", "drop", "lower", "bend", "flex", "fold", "straighten", "stretch", "extend", "unbend", "spread", "widen",
         "open", "narrow", "join")  # begin an edit of their own
AMOUNTS = {
    **dict.fromkeys(("slightly", "bit", "little", "somewhat"), 0.5),
    **dict.fromkeys(("much", "lot", "far", "very", "strongly"), 2.0),
    **dict.fromkeys(("more", "further", "farther", "deeper", "deeply", "even"), 1.0), "less": -1.0,
    **dict.fromkeys(("fully", "completely", "entirely", "together", "straight"), FULLY),
}  # fmt: skip
FILLERS = frozenset((
    "the", "a", "an", "my", "his", "her", "their", "its", "your", "of", "to", "it", "is", "are", "be", "and", "with", "please",
    "then", "put", "set", "make", "move", "bring", "reach", "push", "pull", "hold", "keep", "take", "get", "place", "let", "him",
    "them", "both",
))  # fmt: skip


@dataclass(frozen=True)
class Change:
    """More (1) or less (-1) of an attribute of parts, by an amount: 1 is a clear difference, FULLY as far as it goes; or by
    `amount` of `unit` (steps, degrees, cm). bound: 'to' such a value, 'at least' or 'at most' it; '': by it."""

    text: str
    parts: tuple[Part, ...]
    attribute: str
    sign: int
    amount: float = 1.0
    unit: str = ""
    bound: str = ""
    span: Span = ALWAYS


@dataclass(frozen=True)
class Put:
    """A code, whatever was there."""

    text: str
    code: int
    span: Span = ALWAYS


@dataclass(frozen=True)
class Pace:
    """So many times as long."""

    text: str
    factor: float
    span: Span = ALWAYS


@dataclass(frozen=True)
class Repeat:
    """So many times in a row."""

    text: str
    times: int
    span: Span = ALWAYS


@dataclass(frozen=True)
class Mirror:
    """Left and right exchanged."""

    text: str
    span: Span = ALWAYS


@dataclass(frozen=True)
class Keep:
    """Parts whose codes stay as they are."""

    text: str
    parts: tuple[Part, ...]
    span: Span = ALWAYS


Edit = Change | Put | Pace | Repeat | Mirror | Keep


@dataclass
class _Clause:
    """What is left of a clause while it is read, and what was found in it."""

    text: str
    rest: str
    span: Span = ALWAYS
    parts: list[Part] = field(default_factory=list)


def parse_edits(text: str) -> list[Edit]:
    """Edits of all clauses, in their order. ValueError, naming the clause and what is near, for what is not understood."""
    if len(text) > LONGEST:
        raise ValueError(f"{len(text)} letters of edits, expected at most {LONGEST}")
    if strange := next((letter for letter in text if not (letter.isprintable() or letter.isspace())), None):
        raise ValueError(f"the edits hold {strange!r}, which is no letter: expected such as 'raise the left arm until 2s'")
    clauses = [clause.strip().rstrip(".!") for clause in re.split(r"[;\n]", text)]
    edits = [_parse(clause) for clause in clauses if clause]
    if not edits:
        raise ValueError("no edit: expected such as 'raise the left arm between 2s and 4s; slower'")
    return edits


def _parse(text: str) -> Edit:
    clause = _Clause(text, " ".join(text.lower().split()))
    clause.span, clause.rest = take_span(clause.rest)
    if (whole := _of_the_whole(clause)) is not None:
        return whole
    if (code := _named_code(clause)) is not None:
        return Put(text, code, clause.span)
    amount, unit, bound = _take_amount(clause)
    _take_parts(clause)
    words = re.findall(r"[a-z]+", clause.rest)
    ways = _ways(words, clause.parts)
    if words[:1] == ["keep"] and {*words} & {*VERBS}:
        ways.append(("keep", 1))
    if words[:1] == ["keep"] and not ways:
        _require_known(text, words)
        return Keep(text, _some_parts(clause, words), clause.span)
    _require_known(text, words)
    if not ways:
        raise ValueError(f"{text!r} does not say what to do: {', '.join(sorted({way for way, _ in WAYS.values()}))}, "
                         "in words such as raise, bend, apart, forward")  # fmt: skip
    if len({*ways}) > 1:
        said = " and ".join(dict.fromkeys(word for word in words if word in WAYS or (word == "keep" and ("keep", 1) in ways)))
        raise ValueError(f"{text!r} asks for several changes at once, {said}: put a semicolon between them")
    if number := re.search(r"\d[\d.]*", clause.rest):
        raise ValueError(f"{text!r}: what is {number[0][:20]}? Expected such as between 2s and 4s, by 30 degrees, to 90 degrees")
    (attribute, sign), parts = ways[0], _some_parts(clause, words)
    said = [AMOUNTS[word] for word in words if word in AMOUNTS and not (word == "together" and {*words} & {"closer", "nearer"})]
    sign = -sign if -1.0 in said else sign
    if not unit:
        amount = max(said, key=lambda each: abs(math.log(abs(each))), default=1.0)
    parts = _paired(parts, text) if attribute == "apart" else parts
    return Change(text, parts, attribute, sign, abs(amount), unit, bound, clause.span)


def _ways(words: list[str], parts: list[Part]) -> list[tuple[str, int]]:
    """What words ask for. To lean is forward, and to bend the trunk, unless another way is said."""
    defaults = DEFAULTS + (("bend",) if parts and all(part.family == "body" for part in parts) else ())
    said = [word for word in words if word in WAYS]
    return [WAYS[word] for word in said if word not in defaults or all(other in defaults for other in said)]


# -------------------------------------------------------------------------------------------------------------------------- what


def _of_the_whole(clause: _Clause) -> Edit | None:
    """slower, faster, mirror, repeat, where the clause is one of them."""
    rest = clause.rest.strip()
    number = r"(\d+(?:\.\d+)?)"
    ask, pace = r"(?:play |make |do )?(?:it |this |the \w+ )?(?:much )?", r"(slower|faster|slow down|speed up)"
    if found := re.fullmatch(rf"{ask}{pace}(?: by)?(?: {number}(?: ?x| times)?)?|{number} ?(?:x|times) {pace}", rest):
        factor = float(found[2] or found[3] or PACE)
        if not 1 < factor <= FURTHEST_PACE:
            raise ValueError(f"{clause.text!r}: {factor:g} times, expected more than 1, at most {FURTHEST_PACE:g}")
        return Pace(clause.text, factor if (found[1] or found[4]).startswith("slow") else 1 / factor, clause.span)
    if re.fullmatch(r"mirror(?:ed)?(?: (?:it|everything|left and right))?", rest):
        return Mirror(clause.text, clause.span)
    if found := re.fullmatch(r"repeat(?:ed)?(?: it)?(?: (\d+)(?: times| x)?| (twice)| (once))?", rest):
        times = int(found[1] or 2)
        if not 2 <= times <= MOST_REPEATS:
            raise ValueError(f"{clause.text!r}: {times} times in a row, expected 2 to {MOST_REPEATS}")
        return Repeat(clause.text, times, clause.span)
    return None


def _named_code(clause: _Clause) -> int | None:
    """The code whose words or published name the clause is. ValueError where a name in quotes is none."""
    table = pose_code_table()
    names = {name.lower(): code for name, code in table.official_codes.items()}
    names |= {_bare(name): code for name, code in table.worded_codes.items()}
    if quoted := re.search(r"[\"“]([^\"”]*)[\"”]", clause.rest):
        if quoted[1] not in names:
            raise ValueError(f"{clause.text!r}: no code is called {quoted[1][:80]!r}{_near(quoted[1], [*table.official_codes])}")
        return names[quoted[1]]
    plain = re.sub(r"^(?:put|set|make|place|hold|bring) ", "", clause.rest.strip())
    return names.get(plain, names.get(_bare(plain)))


def _bare(text: str) -> str:
    return " ".join(word for word in text.lower().split() if word not in ("the", "is", "are"))


def _take_amount(clause: _Clause) -> tuple[float, str, str]:
    """(amount, unit, bound) where numbers are said."""
    units = r"degrees?|deg|°|cm|centimet(?:re|er)s?|m|met(?:re|er)s?|steps?"
    found = re.search(rf"\b(by|to)\s+(?:(at least|at most|about)\s+)?(\d+(?:\.\d+)?)\s*({units})?(?!\w)", clause.rest)
    if not found:
        clause.rest = re.sub(r"\ball the way\b|\bas far as possible\b", "fully", clause.rest)
        return 1.0, "", ""
    clause.rest = clause.rest.replace(found[0], " ", 1)
    unit = {"d": "degrees", "°": "degrees", "c": "cm", "m": "cm", "s": "steps"}[(found[4] or "steps")[0]]
    amount = float(found[3]) * (100 if (found[4] or "").startswith("m") else 1)
    if amount > MOST:
        raise ValueError(f"{clause.text!r}: {found[3][:20]} is too much")
    if found[1] == "to" and unit == "steps":
        raise ValueError(f"{clause.text!r}: to {found[3]} of what? Expected degrees or cm")
    bound = (found[2] if found[2] in ("at least", "at most") else "to") if found[1] == "to" else ""
    return amount, unit, bound


def _take_parts(clause: _Clause) -> None:
    """Takes the parts out of the clause, and makes words of directions."""
    rest = re.sub(r"\blower body\b", "legs", re.sub(r"\bin front\b", "forward", clause.rest))
    rest = re.sub(r"\b(?:out )?to the sides?\b", "outward", rest)
    rest = re.sub(r"\b(?:to|towards) the (left|right)\b(?! (?:arm|hand|leg|foot|knee|elbow))", r"\1ward", rest)
    rest = re.sub(r"\b(left|right)wards\b", r"\1ward", re.sub(r"\bleft and (?:the )?right\b", "both", rest))
    plural = {more: one for one, more in PLURALS.items()}
    family = {name: family for family, names in FAMILIES.items() for name in names}
    names = sorted([*family, *plural], key=len, reverse=True)
    pattern = re.compile(rf"\b(?:(left|right|both)\s+)?(?:of the\s+)?({'|'.join(names)})\b")

    def taken(found: re.Match) -> str:
        side, name = found[1] or "", found[2]
        if name == "back" and not re.search(r"\b(?:the|his|her|my)\s*$", found.string[: found.start()]):
            return "backward"
        one = plural.get(name, name)
        if family[one] == "body":
            clause.parts.append(Part("body", "", name))
        elif side in ("left", "right"):
            clause.parts.append(Part(family[one], side, one))
        elif side == "both" or name in plural:
            clause.parts += [Part(family[one], each, one) for each in ("left", "right")]
        else:
            raise ValueError(f"{clause.text!r}: which {name}? Say left {name}, right {name}, or {PLURALS[one]}")
        return " "

    clause.rest = re.sub(r"\b(left|right)\b", r"\1ward", pattern.sub(taken, rest))  # no part: a way


def _some_parts(clause: _Clause, words: list[str]) -> tuple[Part, ...]:
    if not clause.parts and {*words} & {*OF_BODY}:
        return (Part("body", "", "body"),)
    if not clause.parts:
        raise ValueError(f"{clause.text!r} names no part of the body; there are {_parts_there_are()}")
    return tuple(dict.fromkeys(clause.parts))


def _parts_there_are() -> str:
    return ", ".join(f"left or right {name}" if family != "body" else name for family, names in FAMILIES.items()
                     for name in names[:3])  # fmt: skip


def _paired(parts: tuple[Part, ...], text: str) -> tuple[Part, ...]:
    """Both of a pair as what they are together."""
    names = {part.name for part in parts}
    sides = {part.side for part in parts}
    if len(names) == 1 and sides == {"left", "right"} and (pair := PAIRED.get(names.copy().pop())):
        return (Part(pair, "", pair),)
    raise ValueError(f"{text!r}: apart and together are said of two: {', '.join(sorted({*PAIRED.values()}))}")


def _require_known(text: str, words: Iterable[str]) -> None:
    """ValueError for the first word that says nothing to us."""
    known = {*WAYS, *AMOUNTS, *FILLERS}
    if wrong := next((word for word in words if word not in known), None):
        if wrong in ("mirror", "repeat", "slower", "faster"):
            raise ValueError(f"{text!r}: {wrong} is of all of the body; keep the parts that stay in another clause")
        worded = pose_code_table().worded_codes
        if any(wrong in name.split() for name in worded):
            raise ValueError(f"{text!r}: no code says so{_near(_bare(text), worded)}")
        named = [*WAYS, *(name for names in FAMILIES.values() for name in names), *PLURALS.values(), "slower", "faster", "mirror",
                 "repeat", "keep"]  # fmt: skip
        raise ValueError(f"{text!r}: {wrong[:40]!r} is not understood{_near(wrong, named)}; parts are {_parts_there_are()}; "
                         f"changes {', '.join(sorted({way for way, _ in WAYS.values()}))}")  # fmt: skip


def _near(wrong: str, known: Iterable[str]) -> str:
    from data_loaders.joint_mapping import nearest  # brings numpy, and only errors need it

    return nearest(wrong[:80], known)
