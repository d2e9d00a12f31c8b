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
        """'at least 1', 'above 0', 'from 1 to 1000', 'from 0 to below 1'."""
        low = "" if self.low is None else f"above {self.low:,}" if self.above else f"{self.low:,}"
        high = "" if self.high is None else f"below {self.high:,}" if self.below else f"{self.high:,}"
        if self.low is None:
            return f"at most {self.high:,}" if high and not self.below else high or "any finite number"
        if self.high is None:
            return low if self.above else f"at least {low}"
        return f"{low} to {high}" if self.above else f"from {low} to {high}"

    def problem(self, value: Any) -> str | None:
        """What is wrong with a number: 'must be from 1 to 1000, got 0'; None if it is within (or no number is set)."""
        if value is None or isinstance(value, str):
            return None
        if isinstance(value, (tuple, list)):
            return next(filter(None, map(self.problem, value)), None)
        if isinstance(value, bool) or not isinstance(value, (int, float)) or value not in self:
            return f"must be {self}, got {_shown(value)}"
        return None


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
        return hint.__metadata__
    return tuple(each for part in typing.get_args(hint) for each in _metadata(part))


def _plain(hint: Any) -> set[Any]:
    """The plain types in a hint: {int, NoneType} of `Annotated[int, …] | None`, {float} of `tuple[float, ...]`."""
    origin = typing.get_origin(hint)
    if origin is typing.Annotated:
        return _plain(typing.get_args(hint)[0])
    if origin in (typing.Union, UnionType, tuple, list):
        return set().union(*(_plain(part) for part in typing.get_args(hint) if part is not ...))
    return {hint} if isinstance(hint, type) else set()
