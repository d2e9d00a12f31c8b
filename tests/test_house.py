"""The rules of the house: data flow one way, commands are leaves, no circles, options without torch."""

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
LAYERS = ("protos", "data_loaders", "diffusion", "model", "visualize", "sample", "evaluations", "train")
FILES = {
    ".".join(path.relative_to(ROOT).with_suffix("").parts): path
    for layer in LAYERS for path in (ROOT / layer).rglob("*.py") if path.stem != "__init__"
}  # fmt: skip


def imports(path: Path) -> set[str]:
    """Modules of ours that a file imports anywhere: in functions and under TYPE_CHECKING too."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            found |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
    return found & set(FILES)


IMPORTS = {name: imports(path) for name, path in FILES.items()}
COMMANDS = {name for name, path in FILES.items() if '\nif __name__ == "__main__":' in path.read_text(encoding="utf-8")}


def test_an_import_points_only_to_its_own_layer_or_below():
    upward = [
        f"{name} imports {other}" for name, others in IMPORTS.items() for other in others
        if LAYERS.index(other.split(".")[0]) > LAYERS.index(name.split(".")[0])
    ]  # fmt: skip
    assert not upward, upward


def circles() -> Iterator[list[str]]:
    """Each circle of files once, as the modules that reach each other."""
    reached: dict[str, set[str]] = {}
    for name in FILES:
        seen, todo = set(), [name]
        while todo:
            for other in IMPORTS[todo.pop()] - seen:
                seen.add(other)
                todo.append(other)
        reached[name] = seen
    done: set[str] = set()
    for name in FILES:
        circle = [other for other in FILES if other in reached[name] and name in reached[other]]
        if circle and name not in done:
            done |= set(circle)
            yield circle


def test_there_are_no_circles_between_files():
    assert list(circles()) == []


def test_commands_are_leaves():
    importing = [f"{name} imports {other}" for name, others in IMPORTS.items() for other in others & COMMANDS]
    assert len(COMMANDS) > 15 and not importing, importing


@pytest.mark.slow
def test_the_help_of_a_command_is_told_without_torch(tmp_path):
    """Else it takes seconds."""
    (tmp_path / "torch.py").write_text("raise SystemExit('torch was imported')")
    for name in sorted(COMMANDS):
        told = subprocess.run(
            [sys.executable, "-m", name, "--help"], cwd=ROOT, capture_output=True, text=True, timeout=60,
            env={"PYTHONPATH": str(tmp_path), "PATH": "/usr/bin:/bin"},
        )  # fmt: skip
        assert told.returncode == 0 and "usage" in told.stdout, f"{name}: {told.stderr[-300:]}"
