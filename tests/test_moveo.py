"""`moveo`: every command under one name, from any folder."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from model.registry import CHECKPOINTS, checkpoint_in
from moveo.__main__ import FOLDERS, commands, described, listing
from protos.processes import run_module
from tests.test_house import COMMANDS

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture
def foreign(folder) -> Path:
    """A folder to work in, in which somebody else's code has the names of ours."""
    for name in FOLDERS | {"model": "", "diffusion": ""}:
        (folder / name).mkdir()
        (folder / name / "__init__.py").write_text(f"raise SystemExit('{name} of the current folder was imported')")
    return folder


def moveo(*words: str, **environment: str) -> subprocess.CompletedProcess:
    """What the console script does, which finds this code last of all, as what is installed."""
    call = "import sys; del sys.path[0]; sys.path.append(sys.argv.pop(1)); from moveo.__main__ import main; main()"
    return subprocess.run([sys.executable, "-c", call, str(ROOT), *words], capture_output=True, text=True, timeout=100,
                          env={**os.environ, **environment})  # fmt: skip


def test_every_command_has_a_name_of_its_own_and_says_what_it_is_for():
    known = commands()
    assert {f"{path.parent.name}.{name}" for name, path in known.items()} == COMMANDS
    for path in known.values():
        assert 10 < len(described(path)) < 200, path


def test_moveo_alone_lists_the_commands():
    told = moveo()
    assert told.returncode == 0 and told.stdout == listing(commands()) + "\n"
    assert "  sample  " in told.stdout and "text to motion, as files and as videos." in told.stdout
    assert moveo("--help").stdout == told.stdout


def test_a_command_is_known_by_its_name_and_answers_help_without_torch(tmp_path):
    (tmp_path / "torch.py").write_text("raise SystemExit('torch was imported')")
    for name in ("sample", "train-latent"):
        told = moveo(name, "--help", PYTHONPATH=str(tmp_path))
        assert told.returncode == 0, told.stderr
        assert told.stdout.startswith(f"usage: moveo {name.replace('-', '_')} [-h]")


@pytest.mark.parametrize("name, said", [("smaple", "do you mean sample?"), ("../sample", "'../sample'"), ("protos", "lists all")])
def test_a_name_that_no_command_has_is_refused_in_one_line(name, said):
    told = moveo(name)
    assert told.returncode == 2 and told.stdout == "" and said in told.stderr and told.stderr.count("\n") == 1


@pytest.mark.parametrize("path", ["", os.pathsep, "."])
def test_what_lies_in_the_current_folder_is_not_imported(foreign, path):
    told = moveo("sample", "--help", PYTHONPATH=path)
    assert told.returncode == 0, told.stderr
    wrong = moveo("describe", "absent.npy", PYTHONPATH=path)  # imports what the work needs
    assert wrong.returncode == 1 and wrong.stderr.startswith("error: absent.npy"), wrong.stderr


def test_python_m_moveo_does_the_same(foreign):
    command = [sys.executable, "-m", "moveo", "sample", "--help"]
    told = subprocess.run(command, env={**os.environ, "PYTHONPATH": str(ROOT)}, capture_output=True, text=True)
    assert told.stdout.startswith("usage: moveo sample [-h]"), told.stderr


def test_a_command_that_another_starts_is_ours_too(foreign, capfd):
    assert run_module("visualize.preview", ["--help"]) == 0
    assert "usage: python -m visualize.preview" in capfd.readouterr().out
    assert run_module("visualize.preview", ["--dataset", "absent"]) == 1


def test_checkpoints_of_the_current_folder_and_those_that_come_with_the_code_stand_in_for_each_other(folder):
    assert checkpoint_in("checkpoints/tmr") == checkpoint_in(CHECKPOINTS / "tmr") == CHECKPOINTS / "tmr"
    own = Path("checkpoints/mine")
    assert checkpoint_in(CHECKPOINTS / "mine") == checkpoint_in("checkpoints/mine") == own
    assert checkpoint_in("elsewhere/tmr") == Path("elsewhere/tmr")
    (folder / "checkpoints" / "tmr").mkdir(parents=True)
    assert checkpoint_in("checkpoints/tmr") == Path("checkpoints/tmr")


def test_a_folder_that_was_removed_is_no_place_to_import_from(tmp_path):
    (tmp_path / "gone").mkdir()
    call = f"import os, sys; os.rmdir(os.getcwd()); sys.path.append({str(ROOT)!r}); from moveo.__main__ import main; main()"
    told = subprocess.run([sys.executable, "-c", call, "--help"], cwd=tmp_path / "gone", capture_output=True, text=True)
    assert told.returncode == 0 and told.stdout == listing(commands()) + "\n", told.stderr
