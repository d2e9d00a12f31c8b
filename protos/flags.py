"""Settings, declared once, as fields of a dataclass: how they become flags of tyro, and within what bounds their numbers lie.

    steps: Annotated[int, Range(1, 1000)] = 50
    '''Its help is the literal below it.'''

The command line checks bounds and shows them in --help; a configuration read from a file is checked in its `__post_init__`. NaN
and infinity are never within. No torch, so that --help is instant.
"""

import ast
import dataclasses
import inspect
import logging
import math
import operator
import re
import textwrap
import typing
from collections import ChainMap
from collections.abc import Callable, Mapping
from functools import cache, partial
from types import UnionType
from typing import Any, TypeVar

Config = TypeVar("Config")
log = logging.getLogger(__name__)


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


def at_most(asked: int, there: int, flag: str, of: str) -> int:
    """The number asked for, or that of all there are, which the log then says: a few are not taken for many."""
    if asked > there:
        log.warning("%s %d: %s has %d, which are taken", flag, asked, of, there)
    return min(asked, there)


class Bounded:
    """A base of settings: one that is made with a number out of its bounds is refused, with a ValueError that names it."""

    def __post_init__(self) -> None:
        check_bounds(self)


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


# ------------------------------------------------------------------------------------------------------------------------- flags


def decided(default: Any = dataclasses.MISSING, **more: Any) -> Any:
    """A field of a configuration that data or parts decide: it is stored with the others and is no flag.

    more: as `dataclasses.field` takes them.
    """
    return dataclasses.field(default=default, metadata={"decided": True}, **more)


def with_defaults(**values: Any) -> Callable[[type], type]:
    """For a class that is about to become a dataclass: fields of its bases begin from other values here, and stay as declared."""

    def redeclared(kind: type) -> type:
        hints = {name: hint for base in reversed(kind.__bases__)
                 for name, hint in typing.get_type_hints(base, include_extras=True).items()}  # fmt: skip
        kind.__annotations__ = vars(kind).get("__annotations__", {}) | {name: hints[name] for name in values}
        for name, value in values.items():
            setattr(kind, name, value)
        return kind

    return redeclared


def configured(config_type: type[Config], options: Any, **values: Any) -> Config:
    """The configuration whose fields are the options of the same names, but for those that `values` gives."""
    names = [field.name for field in dataclasses.fields(config_type)]
    return config_type(**{**{name: getattr(options, name) for name in names if hasattr(options, name)}, **values})


def dataclasses_in(options_type: Any) -> list[type]:
    """A dataclass itself, or those of a union."""
    if isinstance(options_type, type):
        return [options_type] if dataclasses.is_dataclass(options_type) else []
    return [kind for part in typing.get_args(options_type) for kind in dataclasses_in(part)]


def flags_of(kind: type) -> list[dataclasses.Field]:
    """The fields of a dataclass that are flags."""
    return [field for field in dataclasses.fields(kind) if "decided" not in field.metadata]


def registry_of(kinds: list[type], preset: Mapping[str, Any], make: Callable[[type, Mapping[str, Any]], Any]) -> Any:
    """How tyro reads these dataclasses: their fields are flags, but for the `decided` ones; `preset` replaces defaults.

    What tyro returns makes the options when it is called, by make(dataclass, values): what they refuse is then one line and not
    one of tyro's boxes.
    """
    from tyro.conf import OmitArgPrefixes
    from tyro.constructors import ConstructorRegistry, StructConstructorSpec, StructFieldSpec, StructTypeInfo

    registry = ConstructorRegistry()

    @registry.struct_rule
    def grouped(info: StructTypeInfo) -> StructConstructorSpec | None:
        kind = info.type
        if isinstance(kind, type) and issubclass(kind, _Group):
            return StructConstructorSpec(kind, kind.flags)
        if kind not in kinds:
            return None
        if unknown := preset.keys() - {field.name for field in dataclasses.fields(kind)}:
            raise TypeError(f"a preset sets {', '.join(sorted(unknown))}, unknown to {kind.__name__}")
        groups = _groups(kind, preset)

        def made(**parts: Any) -> Callable[[], Any]:
            return partial(make, kind, parts if len(groups) == 1 else ChainMap(*parts.values()))

        made.__doc__ = kind.__doc__  # which tyro shows
        if len(groups) == 1:
            return StructConstructorSpec(made, groups[0].flags)
        boxes = (StructFieldSpec(each.__name__, typing.Annotated[each, OmitArgPrefixes], info.default) for each in groups)
        return StructConstructorSpec(made, tuple(boxes))

    return registry


class _Group(dict):
    """The flags that one class declares; its name and docstring head them in --help."""

    flags: tuple[Any, ...] = ()


def _groups(kind: type, preset: Mapping[str, Any]) -> list[type[_Group]]:
    """A group for each class in a dataclass that declares flags: its own, then those of its bases, as its fields are ordered."""
    from tyro import MISSING
    from tyro.conf import arg
    from tyro.constructors import StructFieldSpec

    hints, bounds = typing.get_type_hints(kind, include_extras=True), bounds_of(kind)

    def flag(field: dataclasses.Field) -> StructFieldSpec:
        hint = hints[field.name]
        if isinstance(hint, UnionType):  # which tyro could tell only by typeguard, slow to import
            hint = operator.getitem(typing.Union, typing.get_args(hint))
        within = bounds[field.name][0] if field.name in bounds else Range()
        if str(within) != str(Range()):
            hint = typing.Annotated[hint, arg(help_behavior_hint=lambda default: f"(default: {default}; {within})")]
        default = field.default if field.default_factory is dataclasses.MISSING else field.default_factory()
        default = preset.get(field.name, MISSING if default is dataclasses.MISSING else default)
        return StructFieldSpec(field.name, hint, default, partial(_meaning, kind, field.name))

    flags = {field.name: flag(field) for field in flags_of(kind)}
    groups: dict[str, type[_Group]] = {}
    for declaring in reversed(kind.__mro__):
        own = tuple(flags.pop(name) for name in vars(declaring).get("__annotations__", {}) if name in flags)
        if own:  # a configuration and its command's options are of one title, and one group
            head = {"__doc__": (declaring.__doc__ or "").partition("\n\n")[0]}
            group = groups.setdefault(title := _title(declaring), type(title, (_Group,), head))
            group.flags += own
    return sorted(groups.values(), key=lambda group: group.__name__ != _title(kind))


def _title(kind: type) -> str:
    """'Train' of TrainOptions, 'Loss weights' of LossWeights; tyro writes 'options' behind it."""
    words = re.sub(r"(?<=[a-z])[A-Z](?=[a-z])", lambda letter: f" {letter[0].lower()}", kind.__name__)
    return re.sub(r"(?i) ?(options|config|settings)$", "", words).strip() or words


@cache
def _meanings(kind: type) -> Mapping[str, str]:
    """The docstrings that stand below the fields of a class."""
    try:
        (body,) = ast.parse(textwrap.dedent(inspect.getsource(kind))).body
    except (OSError, TypeError):  # made by a program
        return {}
    pairs = zip(body.body, body.body[1:])
    return {
        field.target.id: " ".join(said.value.value.split())
        for field, said in pairs
        if isinstance(field, ast.AnnAssign) and isinstance(said, ast.Expr) and isinstance(said.value, ast.Constant)
    }


def _meaning(kind: type, name: str) -> str | None:
    """The help of a flag: what its nearest declaration says below it."""
    return next(filter(None, (_meanings(each).get(name) for each in kind.__mro__[:-1])), None)
