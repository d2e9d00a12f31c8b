"""What edits in words (data_loaders/edit_grammar.py) ask for, as records."""

from dataclasses import dataclass

from data_loaders.edit_times import ALWAYS, Span
from data_loaders.edit_words import Part


@dataclass(frozen=True)
class Change:
    """More (1) or less (-1) of an attribute of parts, by an amount: 1 is a clear difference, FULLY as far as it goes; or by
    `amount` of `unit` (steps, degrees, cm). bound: 'to' such a value, 'at least' or 'at most' it; '': by it. towards: the part
    from which a hand is that far apart; it stays where it is."""

    text: str
    parts: tuple[Part, ...]
    attribute: str
    sign: int
    amount: float = 1.0
    unit: str = ""
    bound: str = ""
    span: Span = ALWAYS
    towards: Part | None = None


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
