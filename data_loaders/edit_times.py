"""When an edit holds: "between 2s and 4s", "until frame 40", "in the second half", "at the end", read by rules."""

import math
import re
from collections.abc import Callable
from dataclasses import dataclass

ENDS = 0.2  # of the clip is "the end", "the beginning", "the middle"
UNITS = {"s": "seconds", "sec": "seconds", "secs": "seconds", "second": "seconds", "seconds": "seconds", "frame": "frames",
         "frames": "frames", "token": "tokens", "tokens": "tokens", "%": "share", "": ""}  # fmt: skip
SHARES = {"half": 2, "third": 3, "quarter": 4}
ORDINALS = {"first": 0, "second": 1, "third": 2}


@dataclass(frozen=True)
class Span:
    """When: from start to stop in a unit, half open; None: from the first or to the last; below 0: from the end."""

    start: float | None = None
    stop: float | None = None
    unit: str = "seconds"
    words: str = ""

    def tokens(self, count: int, fps: float, stride: int = 4) -> tuple[int, int]:
        """Half-open range of the tokens whose first frames lie in it, of a clip of so many. ValueError where it is no part of
        it."""
        total = count * stride
        frames = {"seconds": fps, "frames": 1.0, "tokens": float(stride), "share": float(total)}[self.unit]
        start, stop = (edge if value is None else value * frames + (total if value < 0 else 0)
                       for value, edge in ((self.start, 0.0), (self.stop, float(total))))  # fmt: skip
        said = f"{self.words!r}: the clip has {total / fps:g} seconds, {total} frames"
        if start < 0 or start >= total or stop > total + stride + 1e-6:
            raise ValueError(f"{said}; the time lies outside it")
        if start >= stop:
            raise ValueError(f"{said}, and the time ends before it begins")
        return math.floor(start / stride + 1e-6), min(math.ceil(stop / stride - 1e-6), count)


ALWAYS = Span()

_UNIT = r"(seconds?|secs?|s|frames?|tokens?|%)"
_NO_TIME = (r"(?!\s*(?:degrees?|deg|cm|centi\w+|met\w+|m|steps?|times|x)\b|°|"
            r"\s*%?\s*(?:of )?(?:the )?(?:original )?(?:speed|tempo|pace)\b)")  # fmt: skip
_NUMBER = rf"(?:(frames?|tokens?|seconds?)\s+)?(\d+(?:\.\d+)?)\s*{_UNIT}?(?![\w.]){_NO_TIME}"
_FRESH = r"(?<!by )(?<![\w.])"  # 'slower by 2 until 3s' names one time
_TO = r"\s*(?:\b(?:and|to|until|till)\b|-|–)\s*"
_SINCE = r"\b(?:after|from|since|past|(?:starting|beginning)(?:\s+(?:at|from|with))?)"
_UNTIL, _IN = r"\b(?:until|till|before|up to)", r"(?:\b(?:in|for|during|over|within|throughout|at)\s+)?"
_END, _START = r"the\s+(?:very\s+)?end(?:ing)?\b", r"the\s+(?:very\s+)?(?:start|beginning)\b"
_OF_IT = r"(?:\s+of\s+(?:it|the\s+(?:clip|motion|movement|animation|video|recording|take)))?"
_ONE = r"(second|frame|token)\b"


def take_span(text: str) -> tuple[Span, str]:
    """The time that is said in a clause in small letters, and what else it says. ValueError for a time in two units."""
    for pattern, made in _RULES:
        if found := re.search(pattern, text):
            span = made([each or "" for each in found.groups()], text)
            span = span if span is ALWAYS else Span(span.start, span.stop, span.unit, found[0].strip())
            return span, " ".join(text.replace(found[0], " ", 1).split())
    return ALWAYS, text


def _read(said: list[str]) -> tuple[str, float]:
    """(unit, number) of what stands before it, the number, and what stands behind it; a share is of one."""
    unit = UNITS[said[0] or said[2]]
    return unit, float(said[1]) / (100 if unit == "share" else 1)


def _since(said: list[str], text: str) -> Span:
    unit, number = _read(said)
    return Span(number, None, unit or "seconds")


def _until(said: list[str], text: str) -> Span:
    unit, number = _read(said)
    return Span(None, _inclusive(unit, number), unit or "seconds")


def _first(said: list[str], text: str) -> Span:
    return Span(None, _read(said)[1], _read(said)[0] or "seconds")


def _last(said: list[str], text: str) -> Span:
    return Span(-_read(said)[1], None, _read(said)[0] or "seconds")


def _after_first(said: list[str], text: str) -> Span:
    return Span(_read(said)[1], None, _read(said)[0] or "seconds")


def _before_last(said: list[str], text: str) -> Span:
    return Span(None, -_read(said)[1], _read(said)[0] or "seconds")


def _at(said: list[str], text: str) -> Span:
    unit, number = _read(said)
    return Span(number, number + (1.0 if unit in ("frames", "tokens") else 0.2), unit or "seconds")


def _inclusive(unit: str, number: float) -> float:
    """The end of a frame or token that is named belongs to it."""
    return number + (unit in ("frames", "tokens"))


def _between(said: list[str], text: str) -> Span:
    first, last = _read(said[:3]), _read(said[3:6])
    units = {unit for unit, _ in (first, last) if unit}
    if len(units) > 1:
        raise ValueError(f"{text!r}: a time from {' to '.join(sorted(units))}: give both in one unit")
    unit = next(iter(units), "seconds")
    scale = [100.0 if unit == "share" and not own else 1.0 for own, _ in (first, last)]
    return Span(first[1] / scale[0], _inclusive(unit, last[1] / scale[1]), unit)


def _part(said: list[str], text: str) -> Span:
    """The second half, the last third, ..."""
    count = SHARES[said[1]]
    place = {"last": count - 1, "latter": count - 1, "middle": 1}.get(said[0], ORDINALS.get(said[0], 0))
    if place >= count or (said[0] == "middle" and count != 3):
        raise ValueError(f"{text!r}: the {said[0]} {said[1]} is none")
    return Span(place / count, (place + 1) / count, "share")


_Made = Callable[[list[str], str], Span]
_RULES: tuple[tuple[str, _Made], ...] = (  # of which the first that is found holds
    (rf"\bfrom\s+{_START}{_TO}{_NUMBER}", _until),
    (rf"(?:\bfrom\s+)?{_FRESH}{_NUMBER}{_TO}{_END}", _since),
    (rf"\b(?:between|from|during|over|in|within)\s+(?:the\s+)?{_NUMBER}{_TO}{_NUMBER}", _between),
    (rf"(?:(?=\b(?:frames?|tokens?|seconds?)\s)|(?={_FRESH}[\d.]+\s*{_UNIT}?{_TO}[\d.]+\s*{_UNIT}(?!\w)))"
     rf"{_NUMBER}{_TO}{_NUMBER}",
     lambda said, text: _between(said[2:], text)),
    (rf"{_SINCE}\s+the\s+first\s+{_NUMBER}", _after_first),
    (rf"{_SINCE}\s+the\s+first\s+{_ONE}", lambda said, text: Span(1.0, None, f"{said[0]}s")),
    (rf"{_UNTIL}\s+the\s+last\s+{_NUMBER}", _before_last),
    (rf"{_UNTIL}\s+the\s+last\s+{_ONE}", lambda said, text: Span(None, -1.0, f"{said[0]}s")),
    (rf"{_UNTIL}\s+(?:the\s+middle|half\s?way)\b{_OF_IT}", lambda said, text: Span(None, 0.5, "share")),
    (rf"{_SINCE}\s+(?:the\s+middle|half\s?way)(?:\s+on(?:wards?)?)?\b{_OF_IT}", lambda said, text: Span(0.5, None, "share")),
    (rf"{_UNTIL}\s+{_NUMBER}", _until),
    (rf"{_SINCE}\s+{_NUMBER}(?:\s+on(?:wards?)?\b)?", _since),
    (rf"{_IN}\bthe\s+first\s+{_NUMBER}", _first),
    (rf"{_IN}\bthe\s+last\s+{_NUMBER}", _last),
    (rf"{_IN}\bthe\s+(first|second|third|middle|last|latter)\s+(half|third|quarter)\b{_OF_IT}", _part),
    (rf"{_IN}\bthe\s+first\s+{_ONE}", lambda said, text: Span(None, 1.0, f"{said[0]}s")),
    (rf"{_IN}\bthe\s+last\s+{_ONE}", lambda said, text: Span(-1.0, None, f"{said[0]}s")),
    (rf"\b(?:at|near|towards?|in|by)\s+{_END}{_OF_IT}|\bfinally\b", lambda said, text: Span(-ENDS, None, "share")),
    (rf"\b(?:at|near|in)\s+{_START}{_OF_IT}|\binitially\b|\bat first\b", lambda said, text: Span(None, ENDS, "share")),
    (rf"\b(?:in|at|around)\s+the\s+middle\b{_OF_IT}", lambda said, text: Span(0.5 - ENDS / 2, 0.5 + ENDS / 2, "share")),
    (rf"\b(?:at|around)\s+(?:about\s+|around\s+)?{_NUMBER}", _at),
    (r"\b(?:throughout|always)\b|\b(?:all|the (?:whole|entire)) (?:the )?(?:time|way through)\b|"
     r"\b(?:for|during|in|over|throughout) the (?:whole|entire) (?:clip|motion|movement|animation|time)\b",
     lambda said, text: ALWAYS),
)  # fmt: skip
