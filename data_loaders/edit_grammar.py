"""Edits of a motion in plain words, read by rules: "raise the left arm higher between 2s and 4s; slower; keep the legs".

Clauses stand between semicolons, sentences or line ends; within one, "and" or a comma may join edits. One asks for
- a part to change: raise, lift, lower, bend, straighten, spread, close, move ... forward, back, out, in, up, down; hands, feet,
  knees, elbows together, closer, apart; left hand closer to the left knee, onto the right shoulder; hands above the head, at hip
  height; lean forward, back, to the left; crouch, rise. How far: a bit, more, much, fully, less, not so much, too far (the other
  way), by 30 degrees, 20 cm further, by 2 steps, to 90 degrees, to at least 40 cm;
- a code by its words or its published name: put the left hand above the left shoulder; set "L-elbow angle 3";
- all of the motion: slower, faster (by 2, by 20 %, a bit), twice as slow, at half speed, mirror, repeat (3 times), keep the legs
  (as they are in the given motion).
When: between 2s and 4s, from 2s to 4s, until 3s, after 3s, in the last second, in the second half, at the end; seconds, frames
(frame 40), tokens, %. Nothing said: all the time; said once in a clause, all edits of it. What an edit does to codes is told in
data_loaders/pose_edits.py.
"""

import math
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from data_loaders.edit_kinds import Change, Edit, Keep, Put
from data_loaders.edit_phrases import halves, pieces, plain
from data_loaders.edit_times import ALWAYS, Span, take_span
from data_loaders.edit_whole import bare, named_codes, near, of_the_whole
from data_loaders.edit_words import (
    AMOUNTS,
    BODY,
    FAMILIES,
    FAMILY_OF,
    FILLERS,
    OF_BODY,
    PLURALS,
    SIDELESS,
    SINGULARS,
    STATES,
    VERBS,
    WAYS,
    Part,
    paired,
    parts_there_are,
    ways_of,
)
from data_loaders.pose_code_table import pose_code_table

LONGEST = 4000  # letters of all edits together
MOST = 10_000  # of a number
NAMES = "|".join(sorted([*FAMILY_OF, *SINGULARS], key=len, reverse=True))


class SeveralError(ValueError):
    """More than one change is asked for where one is expected."""


@dataclass
class _Clause:
    """What is left of an edit while it is read, and what was found in it."""

    text: str
    rest: str
    span: Span = ALWAYS
    parts: list[Part] = field(default_factory=list)
    towards: Part | None = None
    amount: float = 1.0
    unit: str = ""
    bound: str = ""
    said: list[Edit] = field(default_factory=list)  # that need no part

    @property
    def words(self) -> list[str]:
        return re.findall(r"[^\W\d_]+", self.rest)


def parse_edits(text: str) -> list[Edit]:
    """Edits of all clauses, in their order. ValueError, naming the clause and what is near, for what is not understood."""
    if len(text) > LONGEST:
        raise ValueError(f"{len(text)} letters of edits, expected at most {LONGEST}")
    if strange := next((letter for letter in text if not (letter.isprintable() or letter.isspace())), None):
        raise ValueError(f"the edits hold {strange!r}, which is no letter: expected such as 'raise the left arm until 2s'")
    clauses = [clause.strip().lstrip("-*• ") for clause in re.split(r"[;\n]|[.!?]+(?=\s|$)", text)]
    edits = [edit for clause in clauses if clause for edit in _parse(clause)]
    if not edits:
        raise ValueError("no edit: expected such as 'raise the left arm between 2s and 4s; slower'")
    return edits


def _parse(text: str) -> list[Edit]:
    span, rest = take_span(" ".join(text.lower().split()))
    if codes := named_codes(text, rest):
        return [Put(text, code, span) for code in codes]
    said = plain(text)
    span, rest = take_span(said)
    found = pieces(rest)
    if take_span(rest)[0] != ALWAYS or any(how.endswith("then") for how, _ in found):
        return _each_in_its_time(text, pieces(said))
    return _together(text, [(piece, span) for _, piece in found])


def _each_in_its_time(text: str, found: Sequence[tuple[str, str]]) -> list[Edit]:
    """Edits of a clause that names several times: what comes 'then' begins where the one before ends."""
    timed: list[tuple[str, Span]] = []
    for how, piece in found:
        span, rest = take_span(piece)
        if take_span(rest)[0] != ALWAYS:
            raise ValueError(f"{text!r} names two times for one edit: put a semicolon between, and the edit in either")
        if how.endswith("then") and span == ALWAYS:
            before = timed[-1][1]
            if before.stop is None:
                raise ValueError(f"{text!r}: until when, and what then? Expected such as until 2s, then ...")
            span = Span(before.stop, None, before.unit, f"then, after {before.words}")
        timed.append((rest, span))
    return _together(text, timed)


def _together(text: str, found: Sequence[tuple[str, Span]]) -> list[Edit]:
    """Edits of the pieces of a clause, each with its time; one that names no part is of the part that another names."""
    clauses = [_Clause(text if len(found) == 1 else piece, piece, span) for piece, span in found]
    for clause in clauses:
        clause.said = _said_at_once(clause)
        if not clause.said:
            _take_amount(clause)
            _take_parts(clause)
    named = [clause.parts for clause in clauses]
    edits: list[Edit] = []
    for number, clause in enumerate(clauses):
        if not clause.parts and "keep" not in clause.words and not {*clause.words} & {*OF_BODY}:
            earlier, later = named[:number][::-1], named[number + 1 :]
            clause.parts = list(next((parts for parts in (*earlier, *later) if parts), []))
        try:
            edits += _edits_of(clause)
        except SeveralError:
            if (cut := _cut(clause)) is None:
                raise
            edits += cut
    return edits


def _said_at_once(clause: _Clause) -> list[Edit]:
    """Edits of the whole motion, and codes by name."""
    if (whole := of_the_whole(clause.text, clause.rest, clause.span)) is not None:
        return [whole]
    return [Put(clause.text, code, clause.span) for code in named_codes(clause.text, clause.rest)]


def _cut(clause: _Clause) -> list[Edit] | None:
    """Edits of a clause that asks for several, cut where both halves are edits of their own."""
    for one, other in halves(plain(clause.text)):
        try:
            return [edit for half in (one, other) for edit in _together(half, [(take_span(half)[1], clause.span)])]
        except ValueError:
            continue
    return None


def _edits_of(clause: _Clause) -> list[Edit]:
    if clause.said:
        return clause.said
    text, words = clause.text, clause.words
    ways = ways_of(words, clause.parts)
    if words[:1] == ["keep"] and {*words} & {*VERBS} - {*STATES}:
        raise SeveralError(f"{text!r} asks for several changes at once, {_said(words)}: put a semicolon between them")
    _require_known(clause, words)
    if words[:1] == ["keep"] and not ways:
        return [Keep(text, _some_parts(clause, words), clause.span)]
    return list(_changes(clause, words, ways))


def _changes(clause: _Clause, words: list[str], ways: list[tuple[str, int]]) -> Iterable[Change]:
    """One for each attribute that is said of the parts."""
    text = clause.text
    if clause.towards is not None and not ways:
        ways = [("apart", -1)]
    if not ways:
        raise ValueError(f"{text!r} does not say what to do: {_attributes()}, in words such as raise, bend, apart, forward")
    attributes = dict(ways)
    families = {part.family for part in clause.parts}
    if len({*ways}) > len(attributes) or (len(attributes) > 1 and len(families) > 1):
        raise SeveralError(f"{text!r} asks for several changes at once, {_said(words)}: put a semicolon between them")
    if number := re.search(r"\d[\d.]*", clause.rest):
        raise ValueError(f"{text!r}: what is {number[0][:20]}? Expected such as between 2s and 4s, by 30 degrees, to 90 degrees")
    if "not" in words and not {*words} & {"so", "too", "that", "as", "enough"}:
        raise ValueError(f"{text!r}: of what is not to be, say what is to be: less, not so much, or keep the ... as they are")
    flips = ("less" in words) != ("too" in words or ("not" in words and "enough" not in words))
    said = [AMOUNTS[word] for word in words if word in AMOUNTS and not (word == "together" and {*words} & {"closer", "nearer"})]
    amount = clause.amount if clause.unit else max(said, key=lambda each: abs(math.log(abs(each))), default=clause.amount)
    parts = _some_parts(clause, words)
    for attribute, sign in attributes.items():
        said_of = [parts] if clause.towards is None else [(part,) for part in parts]
        for own in said_of:
            towards = None if clause.towards is None else _target(clause.towards, own[0])
            own = paired(own, text) if attribute == "apart" and towards is None else own
            way = -sign if flips else sign
            yield Change(text, own, attribute, way, abs(amount), clause.unit, clause.bound, clause.span, towards)


def _target(towards: Part, part: Part) -> Part:
    """The part that another goes to: of its own side unless another is said."""
    other = {"left": "right", "right": "left"}[part.side] if part.side else ""
    elsewhere = towards.side == "other" or (not towards.side and towards.name == "elbow")
    return towards._replace(side=other if elsewhere else towards.side or part.side)


def _said(words: list[str]) -> str:
    return " and ".join(dict.fromkeys(word for word in words if word in WAYS or word == "keep"))


def _attributes() -> str:
    return ", ".join(sorted({way for way, _ in WAYS.values()}))


# ------------------------------------------------------------------------------------------------------------------------- what


def _take_amount(clause: _Clause) -> None:
    """Takes what is said in numbers out of an edit."""
    units = r"degrees?|deg|°|cm|centimet(?:re|er)s?|m|met(?:re|er)s?|steps?"
    about = r"(?:(at least|at most|about|around|roughly|another|an extra|an additional)\s+)?"
    found = re.search(rf"\b(by|to)\s+{about}(\d+(?:\.\d+)?)\s*({units})?(?!\w)", clause.rest) or re.search(
        rf"()\b{about}(\d+(?:\.\d+)?)\s*({units})(?!\w)", clause.rest)  # fmt: skip
    if not found:
        return
    clause.rest = clause.rest.replace(found[0], " ", 1)
    clause.unit = {"d": "degrees", "°": "degrees", "c": "cm", "m": "cm", "s": "steps"}[(found[4] or "steps")[0]]
    clause.amount = float(found[3]) * (100 if (found[4] or "").startswith("m") else 1)
    if clause.amount > MOST:
        raise ValueError(f"{clause.text!r}: {found[3][:20]} is too much")
    if found[1] == "to" and clause.unit == "steps":
        raise ValueError(f"{clause.text!r}: to {found[3]} of what? Expected degrees or cm")
    if found[1] == "to":
        clause.bound = found[2] if found[2] in ("at least", "at most") else "to"


def _take_parts(clause: _Clause) -> None:
    """Takes the parts out of an edit, and makes words of directions."""
    rest = _take_towards(clause)
    rest = re.sub(r"\b(?:to|towards?) the (left|right)\b(?: side)?(?! (?:arm|hand|leg|foot|knee|elbow))", r"\1ward", rest)
    rest = re.sub(r"\b(left|right)wards\b", r"\1ward", rest)
    pattern = re.compile(rf"\b(?:(left|right|both)\s+)?(?:(?:of\s+)?(?:the|his|her|their|your|my)\s+)?({NAMES})\b")

    def taken(found: re.Match) -> str:
        side, name = found[1] or "", found[2]
        if name == "back" and not re.search(r"\b(?:the|his|her|my|their|your)\s+back$", found[0]):
            return f"{found[1] or ''} backward"
        one = SINGULARS.get(name, name)
        if FAMILY_OF[one] in SIDELESS:
            clause.parts.append(Part(FAMILY_OF[one], "", name))
        elif side in ("left", "right"):
            clause.parts.append(Part(FAMILY_OF[one], side, one))
        elif side == "both" or name in SINGULARS:
            clause.parts += [Part(FAMILY_OF[one], each, one) for each in ("left", "right")]
        else:
            raise ValueError(f"{clause.text!r}: which {name}? Say left {name}, right {name}, or {PLURALS[one]}")
        return " "

    clause.rest = re.sub(r"\b(left|right)\b", r"\1ward", pattern.sub(taken, rest))  # no part: a way


def _take_towards(clause: _Clause) -> str:
    """What is left of an edit without the part that a hand goes to, or away from."""
    found = re.search(
        r"\b((?:further |farther )?(?:away )?from|(?:closer|nearer|close|near|next) to|towards?|near|onto|on|against|to)\s+"
        r"(?:the |his |her |their |your |my |its )?(?:(left|right|same|other|opposite) )?"
        r"(shoulder|elbow|knee|foot|chest|body|torso|trunk)s?\b(?! height)|"
        r"\b(near|onto|on|to)\s+(?:the |his |her |their )?feet\b", clause.rest)  # fmt: skip
    if not found or not re.search(r"\b(?:hand|arm|wrist|fist)s?\b", clause.rest[: found.start()]):
        return clause.rest
    how, name = found[1] or found[4], found[3] or "foot"
    name = "shoulder" if name in ("chest", "body", "torso", "trunk") else name
    clause.towards = Part("", found[2] if found[2] in ("left", "right") else {"same": "", None: ""}.get(found[2], "other"), name)
    word = "apart" if "from" in how else "closer" if how not in ("onto", "on", "against", "to") else "closer fully"
    return f"{clause.rest[: found.start()]} {word} {clause.rest[found.end() :]}"


def _some_parts(clause: _Clause, words: list[str]) -> tuple[Part, ...]:
    directed = "bend" in words and any(way[0] in ("forward", "leftward") for way in map(WAYS.get, words) if way)
    if not clause.parts and ({*words} & {*OF_BODY} or directed):
        return (BODY,)
    if not clause.parts:
        raise ValueError(f"{clause.text!r} names no part of the body; there are {parts_there_are()}")
    return tuple(dict.fromkeys(clause.parts))


def _require_known(clause: _Clause, words: Iterable[str]) -> None:
    """ValueError for the first word that says nothing to us."""
    known, text = {*WAYS, *AMOUNTS, *FILLERS, "not"}, clause.text
    if wrong := next((word for word in words if word not in known), None):
        if wrong in ("mirror", "flip", "repeat", "loop", "slower", "faster", "slow", "fast", "speed"):
            raise ValueError(f"{text!r}: {wrong} is of all of the body; keep the parts that stay in another clause")
        if wrong == "for":
            raise ValueError(f"{text!r} says how long, not when: expected such as from 1s to 3s")
        worded = pose_code_table().worded_codes
        if any(wrong in name.split() for name in worded):
            raise ValueError(f"{text!r}: no code says so{near(bare(text), worded)}")
        named = [*WAYS, *(name for names in FAMILIES.values() for name in names), *PLURALS.values(), "slower", "faster", "mirror",
                 "repeat", "keep"]  # fmt: skip
        raise ValueError(f"{text!r}: {wrong[:40]!r} is not understood{near(wrong, named)}; parts are {parts_there_are()}; "
                         f"changes {_attributes()}")  # fmt: skip
    if strange := re.search(r"[^\w\s,'\"“”():°–-]", clause.rest):
        raise ValueError(f"{text!r}: what is {strange[0]!r}? Expected words such as raise the left arm until 2s")
