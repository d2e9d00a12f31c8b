"""When an edit holds: "between 2s and 4s", "until frame 40", "in the last second", "at the end", read by rules."""

import math
import re
from dataclasses import dataclass

ENDS = 0.2  # of the clip is "the end", "the beginning"
UNITS = {"s": "seconds", "sec": "seconds", "secs": "seconds", "second": "seconds", "seconds": "seconds", "frame": "frames",
         "frames": "frames", "token": "tokens", "tokens": "tokens", "%": "share", "": ""}  # fmt: skip


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

_NUMBER = r"(?:(frames?|tokens?)\s+)?(\d+(?:\.\d+)?)\s*(seconds?|secs?|s|frames?|tokens?|%)?(?![\w.])"


def take_span(text: str) -> tuple[Span, str]:
    """The time that is said in a clause in small letters, and what else it says. ValueError for a time in two units."""
    rules = (
        (rf"\b(?:(?:between|from)\s+(?:the\s+)?|(?=frames?\s|tokens?\s)){_NUMBER}\s*(?:and|to|until|till|-)\s*{_NUMBER}",
         lambda a, b: _between(a, b, text)),
        (rf"\b(?:until|till|before|up to)\s+{_NUMBER}", lambda a: Span(None, _inclusive(a), _unit(a))),
        (rf"\b(?:after|from|since|starting at)\s+{_NUMBER}(?:\s+on(?:wards?)?\b)?", lambda a: Span(a[1], None, _unit(a))),
        (rf"\b(?:in|for|during|over)\s+the\s+first\s+{_NUMBER}", lambda a: Span(None, a[1], _unit(a))),
        (rf"\b(?:in|for|during|over)\s+the\s+last\s+{_NUMBER}", lambda a: Span(-a[1], None, _unit(a))),
        (r"\b(?:in|for|during|over)\s+the\s+first\s+(second|token)\b", lambda a: Span(None, 1.0, f"{a[0]}s")),
        (r"\b(?:in|for|during|over)\s+the\s+last\s+(second|token)\b", lambda a: Span(-1.0, None, f"{a[0]}s")),
        (r"\b(?:at|near|towards)\s+the\s+end\b", lambda a: Span(-ENDS, None, "share")),
        (r"\b(?:at|near)\s+the\s+(?:start|beginning)\b", lambda a: Span(None, ENDS, "share")),
        (rf"\bat\s+{_NUMBER}", lambda a: Span(a[1], a[1] + (1.0 if _unit(a) in ("frames", "tokens") else 0.2), _unit(a))),
        (r"\b(?:throughout|always|all the time|the whole time)\b", lambda a: ALWAYS),
    )
    for pattern, made in rules:
        if found := re.search(pattern, text):
            groups = found.groups()
            numbers = [groups[k : k + 3] for k in range(0, len(groups), 3)] if len(groups) >= 3 else [groups]
            read = [_read(*each) if len(each) == 3 else each for each in numbers]
            span = made(*read)
            span = span if span is ALWAYS else Span(span.start, span.stop, span.unit, found[0])
            return span, text.replace(found[0], " ", 1)
    return ALWAYS, text


def _read(before: str | None, number: str, after: str | None) -> tuple[str, float]:
    """(unit, number); a share is of one."""
    unit = UNITS[before or after or ""]
    return unit, float(number) / (100 if unit == "share" else 1)


def _unit(number: tuple[str, float]) -> str:
    return number[0] or "seconds"


def _inclusive(number: tuple[str, float]) -> float:
    """The end of a frame or token that is named belongs to it."""
    return number[1] + (number[0] in ("frames", "tokens"))


def _between(first: tuple[str, float], last: tuple[str, float], text: str) -> Span:
    units = {unit for unit, _ in (first, last) if unit}
    if len(units) > 1:
        raise ValueError(f"{text!r}: a time from {' to '.join(sorted(units))}: give both in one unit")
    unit = next(iter(units), "seconds")
    scale = [100.0 if unit == "share" and not own else 1.0 for own, _ in (first, last)]
    return Span(first[1] / scale[0], _inclusive((unit, last[1] / scale[1])), unit)
