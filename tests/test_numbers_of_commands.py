"""Every number that a command takes has a range, which --help tells and which nothing gets past."""

import ast
import dataclasses
import importlib
import subprocess
import typing
from pathlib import Path
from types import UnionType

import pytest

from protos import options
from protos.flags import Range, bounds_of
from protos.options import make_options, parse

ROOT = Path(__file__).resolve().parents[1]
BAD = ("nan", "inf", "1e308", "-1", "0", "1" + 30 * "0", "9" * 5000)
# What a subcommand asks for before it looks at a number.
NEEDED = {"PreparationSettings": {"input": Path("x"), "output": Path("x")},
          "Search": {"text": "walk"}, "Localize": {"text": "walk"}, "EncodeDataset": {"dataset": "x"},
          "RetrievalOptions": {"dataset": "x"}, "EvalInterhumanOptions": {"dataset": "x"},
          "CaptionEvaluationOptions": {"dataset": "x"}, "T2MTransformerOptions": {"tokenizer": "x"},
          "EditOptions": {"edit": "mirror"}}  # fmt: skip


def modules_with_options() -> list[str]:
    """Commands that turn their command line into options."""
    listed = subprocess.run(["git", "ls-files", "*.py"], cwd=ROOT, capture_output=True, text=True, check=True).stdout.split()
    found = []
    for name in listed:
        calls = (node for node in ast.walk(ast.parse((ROOT / name).read_text(encoding="utf-8"))) if isinstance(node, ast.Call))
        if not name.startswith(("tests/", "protos/options")) and any(_is_parse(call) for call in calls):
            found.append(name.removesuffix(".py").replace("/", "."))
    return found


def _is_parse(call: ast.Call) -> bool:
    return isinstance(call.func, ast.Name) and call.func.id in ("parse", "command") and bool(call.args)


class Asked(Exception):
    """Raised in the place of `parse`, with what it was asked for."""


def options_of(module: str, monkeypatch: pytest.MonkeyPatch) -> list[type]:
    """The dataclasses whose fields are the flags of a command: several where it has subcommands."""
    command = importlib.import_module(module)

    def asked(options_type: object, *_: object, **__: object) -> None:
        raise Asked(options_type)

    for place in (options, command):  # in the main that `protos.options.command` makes, or in a main of its own
        monkeypatch.setattr(place, "parse", asked, raising=False)
    with pytest.raises(Asked) as found:
        command.main()
    options_type = found.value.args[0]
    union = typing.get_origin(options_type) in (typing.Union, UnionType)
    return list(typing.get_args(options_type)) if union else [options_type]


def plain_instance(kind: type, **changes: object) -> object:
    """Options with their defaults, and any value where one is needed, as the command line makes them."""
    needed = {
        field.name: Path("x") if hints[field.name] is Path else "x"
        for hints in [typing.get_type_hints(kind)]
        for field in dataclasses.fields(kind)
        if field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING
    }
    return make_options(kind, {**needed, **NEEDED.get(kind.__name__, {}), **changes})


COMMANDS = modules_with_options()


def test_all_commands_are_found():
    assert {"sample.sample", "data_loaders.prepare", "train.train_tmr", "evaluations.board", "benchmarks.output"} <= {*COMMANDS}


@pytest.mark.parametrize("module", COMMANDS)
def test_every_number_has_a_range(module, monkeypatch):
    for kind in options_of(module, monkeypatch):
        without = [name for name, (bounds, _) in bounds_of(kind).items() if bounds.low is None or bounds.high is None]
        assert not without, f"{kind.__name__}: {without}"


@pytest.mark.parametrize("module", COMMANDS)
def test_defaults_are_in_their_ranges_and_no_number_beyond_gets_into_options(module, monkeypatch):
    for kind in options_of(module, monkeypatch):
        plain_instance(kind)
        for name, (bounds, whole) in bounds_of(kind).items():
            several = isinstance(getattr(plain_instance(kind), name), tuple)
            for value in (bounds.low, bounds.high, -1, 0, 10**30, *(() if whole else (float("nan"), float("inf"), 1e308))):
                if value is None:
                    continue
                try:
                    plain_instance(kind, **{name: (value,) if several else value})
                except ValueError as error:  # of what a number means beside others, or what is out of range
                    assert name in str(error), error


@pytest.mark.parametrize("module", COMMANDS)
def test_what_is_typed_for_a_number_is_taken_or_refused_by_its_flag(module, monkeypatch, capsys):
    for kind in options_of(module, monkeypatch):
        hints = typing.get_type_hints(kind, include_extras=True)
        for field in dataclasses.fields(kind):
            if field.name not in bounds_of(kind) or field.name not in vars(kind).get("__annotations__", {}):
                continue  # an inherited flag is looked at where it is declared, by one that is quicker to parse
            alone = dataclasses.make_dataclass("Alone", [(field.name, hints[field.name])], frozen=True)
            bounds = bounds_of(kind)[field.name][0]
            for typed in BAD:
                try:
                    value = getattr(parse(alone, [f"--{field.name}", typed]), field.name)
                except SystemExit as ended:
                    said = capsys.readouterr()
                    assert ended.code == 2 and field.name in said.err + said.out and "Traceback" not in said.err
                else:
                    assert bounds.problem(value) is None


@pytest.mark.parametrize("bounds, words", [
    (Range(1, 65_536), "from 1 to 65536"), (Range(0, 10**9), "from 0 to 10^9"), (Range(1e-4, 1), "from 0.0001 to 1"),
    (Range(0, 100, above=True), "above 0, at most 100"), (Range(0, 1, above=True, below=True), "above 0, below 1"),
    (Range(-(2**63), 2**63 - 1), "from -2^63 to 2^63 - 1"), (Range(0, 5e6), "from 0 to 5·10^6"),
])  # fmt: skip
def test_ranges_read_well(bounds, words):
    assert str(bounds) == words
