"""Runs the cases of one golden folder through the handlers of its part and compares the results.

A handler module `tests/golden/PART_<topic>.py` exports HANDLERS: operation -> function(Case) -> dict of outputs;
the operation is the case's config["operation"], config["op"] or, with neither, its group.
"""

import importlib
import json
import pkgutil
import traceback
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.golden import comparison, references

PARTS = ("core", "lsremgm", "lamp", "tmr", "pgr2m", "in2in")
OUR_PACKAGES = ("protos", "data_loaders", "diffusion", "model", "visualize", "sample", "evaluations", "train")
OPTIONAL_PACKAGES = ("spacy", "en_core_web_sm", "smplx", "peft", "bert_score", "gradio", "usearch", "gdown")


@dataclass(frozen=True)
class Case:
    """One entry of cases.json with its references resolved; `references` keeps them as written."""

    name: str
    group: str
    config: dict[str, Any]
    inputs: dict[str, Any]
    expected: dict[str, Any]
    weights: Any
    folder: Path
    references: dict[str, Any] = field(default_factory=dict)

    def path(self, name: str) -> Path:
        """The file an input or an expected value is read from."""
        both = {**self.references.get("expected", {}), **self.references.get("inputs", {})}
        return references.path_of(self.folder, both[name])


Handler = Callable[[Case], dict[str, Any]]


@dataclass(frozen=True)
class Result:
    """status is passed, failed, not yet (no code) or absent (a file or an optional package is not there)."""

    name: str
    status: str
    detail: str
    trace: str = ""

    def __str__(self) -> str:
        return f"{self.status:8}{self.name:48} {self.detail}"


def read_cases(folder: Path) -> list[dict[str, Any]]:
    """The records of folder/cases.json, as they stand."""
    path = folder / "cases.json"
    if not path.is_file():
        raise ValueError(f"{folder} has no cases.json: expected a golden folder such as shared/golden/core")
    return json.loads(path.read_text(encoding="utf-8"))


def load_handlers(part: str) -> tuple[dict[str, Handler], list[str]]:
    """Handlers of every module PART_*, and a line for each module whose code is not built."""
    handlers: dict[str, Handler] = {}
    origin: dict[str, str] = {}
    not_built = []
    import tests.golden as package

    for module_info in pkgutil.iter_modules(package.__path__, package.__name__ + "."):
        name = module_info.name.rpartition(".")[2]
        if not name.startswith(f"{part}_"):
            continue
        try:
            module = importlib.import_module(module_info.name)
        except ModuleNotFoundError as error:
            if not _is_ours(error):
                raise
            not_built.append(f"{name}: {error.name} is not built")
            continue
        for operation, handler in module.HANDLERS.items():
            if operation in handlers:
                raise ValueError(f"operation {operation!r} is handled by both {origin[operation]} and {name}")
            handlers[operation], origin[operation] = handler, name
    return handlers, not_built


def run_case(record: dict[str, Any], folder: Path, handlers: dict[str, Handler]) -> Result:
    """Load, compute, compare one case; nothing escapes but KeyboardInterrupt."""
    name, config = record["name"], record["config"]
    operation = config.get("operation") or config.get("op") or record["group"]
    if operation not in handlers:
        return Result(name, "not yet", f"no handler for {operation!r}")
    try:
        case = _load_case(record, folder)
    except references.MissingReference as error:
        return Result(name, "absent", str(error))
    try:
        got = handlers[operation](case)
        differences = _compare_outputs(got, case, record["compare"])
    except ModuleNotFoundError as error:
        if _is_ours(error):
            return Result(name, "not yet", f"{error.name} is not built")
        if error.name and error.name.partition(".")[0] in OPTIONAL_PACKAGES:
            return Result(name, "absent", f"the optional package {error.name} is not installed")
        return Result(name, "failed", str(error), traceback.format_exc())
    except Exception as error:
        if config.get("raises") in [kind.__name__ for kind in type(error).__mro__]:
            return Result(name, "passed", f"refused: {error}")
        return Result(name, "failed", f"{type(error).__name__}: {error}", traceback.format_exc())
    if "raises" in config:
        return Result(name, "failed", f"nothing raised, expected {config['raises']}")
    return _judge(name, differences)


def run_part(part: str, folder: Path, only: str = "") -> Iterator[Result]:
    """Results of the folder's cases in order; `only` keeps the cases whose name or group holds that text."""
    handlers, not_built = load_handlers(part)
    for record in read_cases(folder):
        if only in record["name"] or only == record["group"]:
            result = run_case(record, folder, handlers)
            if result.status == "not yet" and not_built and result.detail.startswith("no handler"):
                result = Result(result.name, result.status, f"{result.detail} ({'; '.join(not_built)})")
            yield result


def _load_case(record: dict[str, Any], folder: Path) -> Case:
    keys = record["keys"]
    return Case(
        name=record["name"],
        group=record["group"],
        config=record["config"],
        inputs={name: references.load(folder, reference) for name, reference in keys["inputs"].items()},
        expected={name: references.load(folder, reference) for name, reference in keys["expected"].items()},
        weights=references.load_weights(folder, keys.get("weights")),
        folder=folder,
        references=keys,
    )


def _compare_outputs(got: dict[str, Any], case: Case, rules: dict[str, Any]) -> dict[str, comparison.Difference]:
    shared = {"valid": rules["valid"]} if isinstance(rules.get("valid"), str) else {}  # one mask for every output
    differences = {}
    for name, expected in case.expected.items():
        if name not in rules:
            continue
        if name not in got:
            differences[name] = comparison.Difference(problem="not returned by the handler")
            continue
        rule = {**shared, **rules[name]}
        differences[name] = comparison.compare(
            got[name], expected, rule, case, lambda reference: references.load(case.folder, reference)
        )
    return differences


def _judge(name: str, differences: dict[str, comparison.Difference]) -> Result:
    if not differences:
        return Result(name, "failed", "the case compares nothing")
    worst = max(differences, key=lambda output: (differences[output].share, differences[output].largest))
    failed = [output for output in differences if not differences[output].ok]
    detail = f"{worst}: {differences[worst]}"
    if len(failed) > 1:
        detail += f"; {len(failed)} of {len(differences)} outputs fail: {', '.join(failed[:6])}"
    return Result(name, "failed" if failed else "passed", detail)


def _is_ours(error: ModuleNotFoundError) -> bool:
    return bool(error.name) and error.name.partition(".")[0] in OUR_PACKAGES
