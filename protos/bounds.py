"""Bounds of numbers, declared where a setting is declared: `steps: Annotated[int, Range(1, 1000)] = 50`.

The command line checks them and shows them in --help; a configuration read from a file is checked by `check_bounds` in its
`__post_init__`. NaN and infinity are never within.
"""

import dataclasses
import math
import typing
from functools import cache
from types import UnionType
from typing import Any


class Range:
    """Numbers from `low` to `high`, both included unless `above`/`below` leave them out; None: without that end."""

    def __init__(self, low: float | None = None, high: float | None = None, *, above: bool = False, below: bool = False):
        """above: `low` itself is not within; below: `high` itself is not within."""
        self.low, self.high, self.above, self.below = low, high, above, below

    def __contains__(self, value: float) -> bool:
        if isinstance(value, float) and not math.isfinite(value):
            return False
        over = self.low is None or (value > self.low if self.above else value >= self.low)
        return over and (self.high is None or (value < self.high if self.below else value <= self.high))

    def __str__(self) -> str:
        """'at least 1', 'above 0', 'from 1 to 1000', 'from 0 to below 1', 'above 0, at most 100'."""
        low = "" if self.low is None else f"above {_spoken(self.low)}" if self.above else _spoken(self.low)
        high = "" if self.high is None else f"below {_spoken(self.high)}" if self.below else _spoken(self.high)
        if self.low is None:
            return f"at most {high}" if high and not self.below else high or "any finite number"
        if self.high is None:
            return low if self.above else f"at least {low}"
        if self.above:
            return f"{low}, {high}" if self.below else f"{low}, at most {high}"
        return f"from {low} to {high}"

    def problem(self, value: Any) -> str | None:
        """What is wrong with a number: 'must be from 1 to 1000, got 0'; None if it is within (or no number is set)."""
        if value is None or isinstance(value, str):
            return None
        if isinstance(value, (tuple, list)):
            return next(filter(None, map(self.problem, value)), None)
        if isinstance(value, bool) or not isinstance(value, (int, float)) or value not in self:
            return f"must be {self}, got {_shown(value)}"
        return None


FPS = Range(0.1, 10_000)  # frames per second of a motion
FRAMES = Range(1, 100_000)  # of a motion
SEED = Range(-(2**63), 2**63 - 1)
SHARE = Range(0, 1)
WEIGHT = Range(0, 1e9)  # of a loss term
STEPS = Range(1, 1_000_000_000)  # of an optimiser
SAMPLING_STEPS = Range(1, 10_000)
GUIDANCE = Range(-1000, 1000)
BATCH_SIZE = Range(1, 65_536)
PROCESSES = Range(1, 1024)  # of one machine
REPLICATIONS = Range(1, 10_000)
LAYERS = Range(1, 64)
CHANNELS = Range(1, 16_384)


def _spoken(bound: float) -> str:
    """'1000', '0.001', '10^9', '2^63 - 1'; without commas, at which --help would break the line."""
    size = abs(int(bound)) if float(bound).is_integer() else 0
    sign = "-" if bound < 0 else ""
    if size >= 10**6 and set(str(size)[1:]) == {"0"}:
        digit, zeros = str(size)[0], len(str(size)) - 1
        return f"{sign}10^{zeros}" if digit == "1" else f"{sign}{digit}·10^{zeros}"
    if size >= 10**15 and size.bit_count() == 1:
        return f"{sign}2^{size.bit_length() - 1}"
    if size >= 10**15 and (size + 1).bit_count() == 1 and bound > 0:
        return f"2^{size.bit_length()} - 1"
    return str(int(bound)) if float(bound).is_integer() else f"{bound:g}"


def _shown(value: Any) -> str:
    text = str(value) if not isinstance(value, int) or abs(value) < 10**30 else "a number of very many digits"
    return text if len(text) <= 40 else f"{text[:39]}…"


@cache
def bounds_of(kind: type) -> dict[str, tuple[Range, bool]]:
    """(range, whether whole numbers are asked for) of every bounded field of a dataclass. Numbers without one: any finite."""
    found = {}
    hints = typing.get_type_hints(kind, include_extras=True)
    for field in dataclasses.fields(kind):
        ranges = [each for each in _metadata(hints[field.name]) if isinstance(each, Range)]
        numbers = _plain(hints[field.name]) & {int, float}
        if numbers:
            found[field.name] = (ranges[0] if ranges else Range(), float not in numbers)
    return found


def check_bounds(instance: Any, flag: str = "") -> None:
    """ValueError naming the first field of a dataclass that is out of bounds; `flag` ('--') stands before its name."""
    for name, (bounds, _) in bounds_of(type(instance)).items():
        if problem := bounds.problem(getattr(instance, name)):
            raise ValueError(f"{flag}{name} {problem}")


def _metadata(hint: Any) -> tuple[Any, ...]:
    if typing.get_origin(hint) is typing.Annotated:
        return (*hint.__metadata__, *_metadata(typing.get_args(hint)[0]))
    return tuple(each for part in typing.get_args(hint) for each in _metadata(part))


def _plain(hint: Any) -> set[Any]:
    """The plain types in a hint: {int, NoneType} of `Annotated[int, …] | None`, {float} of `tuple[float, ...]`."""
    origin = typing.get_origin(hint)
    if origin is typing.Annotated:
        return _plain(typing.get_args(hint)[0])
    if origin in (typing.Union, UnionType, tuple, list):
        return set().union(*(_plain(part) for part in typing.get_args(hint) if part is not ...))
    return {hint} if isinstance(hint, type) else set()
