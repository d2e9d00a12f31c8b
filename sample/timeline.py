"""Timelines of long motions: a file of texts and their times, some of parts of the body alone. Loads without torch.

A line is `text # seconds`, which begins where everything above it ends, `text # start # end` in seconds, or
`text # start # end # parts`. What texts say of the whole body follows each other without gaps; a text whose words, or whose last
field, name parts that others leave free lies over it.
"""

import math
import re
from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from model.capabilities import Passage
from protos.files import shown
from protos.reading import read_lines
from sample.generation import PromptError, clean_prompt

SHORTEST = 0.5  # seconds
LARGEST = 8 << 20  # bytes of a file, which is more than the longest motion takes
EXAMPLE = "'a person walks forward # 0 # 6' or 'a person walks forward # 6'"
_ARM = {side: (f"{side}_collar", f"{side}_shoulder", f"{side}_elbow", f"{side}_wrist") for side in ("left", "right")}
_HEAD = ("neck", "head")
PARTS = {  # joints at which the bones of a part end
    "left arm": _ARM["left"], "right arm": _ARM["right"], "arms": _ARM["left"] + _ARM["right"], "head": _HEAD,
    "upper body": ("spine1", "spine2", "spine3", *_HEAD, *_ARM["left"], *_ARM["right"]),
}  # fmt: skip
_LIMB = r"(?:hand|arm|wrist|fist|elbow|forearm|shoulder)"
OF_WHOLE = re.compile(  # words of what a part cannot do alone
    r"\b(?:walk|run|jog|march|strid|step|jump|hop|skip|leap|kick|sit|stand|kneel|squat|crouch|crawl|climb|danc|spin|turn|stumbl|"
    r"fall|lie|lies|lying|roll|foot|feet|leg|legs|knee|knees|backward|backwards|sideways)"
)
OF_HEAD = re.compile(r"\b(?:head|nods?|nodding|looks?|looking|gaz(?:es|ing))\b")
OF_TRUNK = re.compile(r"\b(?:bow|bows|bowing|lean|leans|leaning|torso|trunk|upper body|waist)\b")
OF_ARMS = re.compile(rf"\b(?:{_LIMB}s?|wav(?:e|es|ing)|claps?|clapping|points?|pointing|punch(?:es|ing)?|salutes?|throws?)\b")


@dataclass(frozen=True)
class Said:
    """A text and its time in seconds, by the number of its line; `parts` of the body it is about, where these have a field of
    their own or it lies over others."""

    number: int
    text: str
    start: float
    end: float
    parts: tuple[str, ...] = ()


@dataclass(frozen=True)
class Overlay:
    """What parts of the body do from frame `start` up to `stop`: `joints` by name, at which their bones end."""

    text: str
    start: int
    stop: int
    joints: tuple[str, ...]


@dataclass(frozen=True)
class Timeline:
    """What the whole body does, in its order, and what lies over it."""

    base: tuple[Said, ...]
    over: tuple[Said, ...]

    @property
    def seconds(self) -> float:
        return self.base[-1].end

    def passages(self, fps: float) -> list[Passage]:
        """Of the whole body."""
        return [Passage(said.text, round(said.end * fps) - round(said.start * fps)) for said in self.base]

    def overlays(self, fps: float) -> list[Overlay]:
        """Of its parts."""
        return [Overlay(said.text, round(said.start * fps), round(said.end * fps), tuple(sorted(joints_of(said.parts))))
                for said in self.over]  # fmt: skip

    def told(self) -> str:
        """As a file that says the same, with all times and parts."""
        lines = sorted((*self.base, *self.over), key=lambda said: (said.start, bool(said.parts)))
        return "".join(f"{said.text} # {said.start:.12g} # {said.end:.12g}{' # ' * bool(said.parts)}{', '.join(said.parts)}\n"
                       for said in lines)  # fmt: skip


def read_timeline(path: Path) -> Timeline:
    """PromptError, naming the line and what would do, for what is no timeline; FileNotFoundError."""
    if not path.exists():
        raise FileNotFoundError(f"{path}: no such file, expected a timeline with lines such as {EXAMPLE}")
    if path.is_dir():
        raise PromptError(f"{path}: is a folder, expected a timeline with lines such as {EXAMPLE}")
    said, end = [], 0.0
    for number, line in enumerate(read_lines(path, LARGEST), 1):
        if line.strip():
            try:
                said.append(_line(number, line, end))
                end = max(end, said[-1].end)
            except PromptError as error:
                raise PromptError(f"{path}, line {number}: {error}") from None
    if not said:
        raise PromptError(f"{path}: holds no text; write lines such as {EXAMPLE}")
    try:
        return arranged(said)
    except PromptError as error:
        raise PromptError(f"{path}: {error}") from None


def _line(number: int, line: str, end: float) -> Said:
    """What a line says; `end`: of all before it."""
    text, *fields = line.split("#")
    fields = [field.strip() for field in fields]
    if not 1 <= len(fields) <= 3:
        raise PromptError(f"{len(fields)} fields after the text, expected its seconds, or start and end, and perhaps parts of "
                          f"the body: {EXAMPLE}")  # fmt: skip
    text = clean_prompt(text)
    if len(fields) == 1:
        times, parts = (end, end + _seconds(fields[0])), ()
    else:
        if len(fields) == 2 and fields[1].lower() in PARTS:
            raise PromptError(f"parts of the body need a start and an end: '{text} # {end:g} # {end + 2:g} # {fields[1]}'")
        times = _seconds(fields[0]), _seconds(fields[1])
        parts = _named_parts(fields[2]) if len(fields) == 3 else ()
    if times[1] - times[0] < SHORTEST - 1e-9:
        raise PromptError(f"lasts from {times[0]:g} to {times[1]:g} s, expected at least {SHORTEST:g} s: give a later end")
    return Said(number, text, *times, parts)


def _seconds(field: str) -> float:
    try:
        value = float(field)
    except ValueError:
        value = math.nan
    if not 0 <= value <= 1e6:
        raise PromptError(f"{shown(field, 24)} is no time, expected a number of seconds: {EXAMPLE}")
    return value


def _named_parts(field: str) -> tuple[str, ...]:
    """Parts in a field. PromptError for others than there are."""
    names = [" ".join(name.lower().split()) for name in re.split(r",|\band\b|&", field)]
    if {*names} & {"legs", "leg", "lower body", "left leg", "right leg"}:
        raise PromptError("the legs carry the body: let the text of the legs be that of the whole body, and lay what the arms, "
                          "the head or the upper body do over it")  # fmt: skip
    if unknown := [name for name in names if name not in PARTS]:
        raise PromptError(f"no part of the body is called {shown(unknown[0], 24)}: expected {', '.join(PARTS)}")
    return tuple(dict.fromkeys(names))


def joints_of(parts: Sequence[str]) -> set[str]:
    """Joints at which the bones of parts end."""
    return {joint for part in parts for joint in PARTS[part]}


def parts_in(text: str) -> tuple[str, ...]:
    """The parts of the body that a text is about by its words; none where it is about all of it."""
    text = re.sub(r"\b(?:left and (?:the )?right|right and (?:the )?left)\b", "both", text.lower())
    if OF_WHOLE.search(text):
        return ()
    if OF_TRUNK.search(text):
        return ("upper body",)
    found = ["head"] if OF_HEAD.search(text) else []
    if OF_ARMS.search(text):
        sides = [side for side in ("left", "right") if re.search(rf"\b{side} {_LIMB}\b", text)]
        found += [f"{sides[0]} arm"] if len(sides) == 1 and not re.search(rf"\bboth\b|\b{_LIMB}s\b", text) else ["arms"]
    return tuple(found)


def unsaid_sides(timeline: Timeline) -> list[str]:
    """A line for each text that is laid over one arm and names no side: a model may then do it with the other."""
    return [
        f"line {said.number}: {said.text!r} is laid over the {part}, and does not say which: the other may do it. Say for "
        f"example 'waves the {part.replace('arm', 'hand')}'"
        for said in timeline.over for part in said.parts
        if part in ("left arm", "right arm") and part.removesuffix(" arm") not in said.text.lower()
    ]  # fmt: skip


def arranged(said: Sequence[Said]) -> Timeline:
    """What the whole body does, and what lies over it. PromptError where two say what one part does, or none what it does."""
    base = sorted((each for each in said if not each.parts and not parts_in(each.text)), key=_start)
    over = [each for each in said if each.parts]
    for each in said:  # about parts by its words alone: over others where there are such, else of the whole body
        if not each.parts and (parts := parts_in(each.text)):
            place = bisect_right(base, each.start, key=_start)
            if any(_meet(each, other) for other in base[max(place - 1, 0) : place + 1]):
                over.append(replace(each, parts=parts))
            else:
                base.insert(place, each)
    covered = 0.0
    for before, each in zip([None, *base], base):
        if each.start > covered + 1e-6:
            raise PromptError(f"no text says what the body does from {covered:g} to {each.start:g} s: add a line, for example "
                              f"'a person stands still # {covered:g} # {each.start:g}'")  # fmt: skip
        if each.start < covered - 1e-6:
            raise PromptError(f"lines {before.number} and {each.number} both say what the whole body does from {each.start:g} to "
                              f"{min(covered, each.end):g} s: let one end where the other begins, or name the parts that one is "
                              f"about in a last field: {', '.join(PARTS)}")  # fmt: skip
        covered = each.end
    for each in over:
        if each.end > covered + 1e-6:
            first = max(covered, each.start)
            raise PromptError(f"line {each.number}: no text says what the rest of the body does from {first:g} to {each.end:g} "
                              f"s: add a line, for example 'a person stands still # {covered:g} # {each.end:g}'")  # fmt: skip
    over.sort(key=_start)
    last: dict[str, Said] = {}  # that says what a joint does
    for each in over:
        for joint in sorted(joints_of(each.parts)):
            if joint in last and _meet(each, last[joint]):
                first, second = sorted((each.number, last[joint].number))
                raise PromptError(f"lines {first} and {second} both say what the same part of the body does at one time: let one "
                                  "end where the other begins")  # fmt: skip
            last[joint] = each
    return Timeline(tuple(base), tuple(over))


def _start(said: Said) -> float:
    return said.start


def _meet(one: Said, other: Said) -> bool:
    return one.start < other.end - 1e-6 and other.start < one.end - 1e-6
