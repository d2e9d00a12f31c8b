"""How the fields of a dataclass become flags of tyro: in groups by the class that declares them, with meaning and range.

The field's docstring, the literal below it, is its help. No torch, so that --help is instant.
"""

import ast
import dataclasses
import inspect
import operator
import re
import textwrap
import typing
from collections import ChainMap
from collections.abc import Callable, Mapping
from functools import cache, partial
from types import UnionType
from typing import Any, TypeVar

from protos.bounds import Range, bounds_of

Config = TypeVar("Config")


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
    """A group for each class in a dataclass that declares flags, those of its bases first, as its fields are ordered."""
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
    return list(groups.values())


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
