"""The shape of the repository: imports point one way, commands answer --help at once, the code is lint-clean."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
LAYERS = ("protos", "data_loaders", "diffusion", "model", "visualize", "sample", "evaluations", "train")
MODULES = sorted(path for layer in LAYERS for path in (ROOT / layer).rglob("*.py"))
COMMANDS = [path for path in MODULES if "run_command(" in path.read_text() and path.name != "options.py"]
HEAVY = ("torch", "numpy", "scipy", "matplotlib", "transformers", "accelerate", "spacy", "safetensors")


def imported(tree: ast.AST, package: str) -> set[str]:
    """Every module that a source file imports, inside functions too; relative ones made absolute."""
    found = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            found.add(f"{package}.{node.module or ''}" if node.level else node.module)
    return found


def layer_violations(source: str, layer: str) -> set[str]:
    """Imports of `source`, a module of `layer`, that point to a layer on its right, or to tests or benchmarks."""
    allowed = LAYERS[: LAYERS.index(layer) + 1]
    forbidden = {*LAYERS, "tests", "benchmarks"} - {*allowed}
    return {name for name in imported(ast.parse(source), layer) if name.split(".")[0] in forbidden}


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(ROOT)))
def test_imports_point_to_the_left(path):
    assert layer_violations(path.read_text(), path.relative_to(ROOT).parts[0]) == set()


def test_a_wrong_import_would_be_found():
    source = "import protos.files\ndef f():\n    from model.layers import x\n    import train.loop, numpy\n"
    assert layer_violations(source, "diffusion") == {"model.layers", "train.loop"}
    assert layer_violations(source, "train") == set()
    assert layer_violations("from tests.shared import shared", "train") == {"tests.shared"}


def test_diffusion_knows_no_network():
    for path in (ROOT / "diffusion").glob("*.py"):
        assert "torch.nn" not in imported(ast.parse(path.read_text()), "diffusion"), path
        assert "nn.Module" not in path.read_text(), path


@pytest.mark.parametrize("path", COMMANDS, ids=lambda path: str(path.relative_to(ROOT)))
def test_help_is_answered_before_anything_heavy_is_imported(path):
    """Counts imports rather than time: what a command imports beyond tyro is all that its --help can be slow by."""
    module = ".".join(path.relative_to(ROOT).with_suffix("").parts)
    code = (
        "import runpy, sys\n"
        f"sys.argv = ['{module}', '--help']\n"
        f"try:\n    runpy.run_module('{module}', run_name='__main__', alter_sys=True)\n"
        "except SystemExit as end:\n    assert not end.code, end.code\n"
        f"print('imported:', *[name for name in {HEAVY} if name in sys.modules], file=sys.stderr)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "usage:" in done.stdout and module in done.stdout
    assert done.stderr.splitlines()[-1] == "imported:"


def test_ruff_has_no_complaint():
    pytest.importorskip("ruff", reason="ruff is not installed: pip install ruff")
    command = [sys.executable, "-m", "ruff", "check", "--no-cache", "--output-format=concise", "."]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
