"""Whatever is in a file, a command ends with one line that names it, or takes it; nothing of the user's is lost."""

import shutil
import sys
from pathlib import Path

import pytest

from tests.attack.inputs import make_inputs
from tests.attack.runner import run
from tests.attack.scenarios import SCENARIOS
from tests.attack.table import attack, targets_of

CASES = 650


@pytest.fixture(scope="module")
def inputs(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("inputs")

    def make(module: str, arguments: str, where: Path) -> None:
        ending = run(module, arguments.split(), where, limited=False)
        assert ending.code == 0, f"{module} {arguments}: {ending}"

    make_inputs(folder, make)
    return folder


@pytest.mark.slow
def test_no_mutated_file_ends_in_a_traceback_or_costs_the_user_a_file(inputs, tmp_path, monkeypatch):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    cases = list(attack(inputs, tmp_path / "work", seed=1, cases=CASES))
    assert len(cases) >= 600
    faults = [f"{case.scenario}, {case.target}, {case.kind}: {case.fault}" for case in cases if case.fault]
    assert not faults, f"{len(faults)} of {len(cases)}:\n" + "\n".join(faults)


def test_every_command_takes_its_inputs_while_they_are_whole(inputs, tmp_path):
    """Else a refusal would say nothing."""
    for scenario in SCENARIOS:
        work = tmp_path / scenario.name.replace(" ", "_")
        shutil.copytree(inputs / scenario.base, work / "in")
        ending = run(scenario.module, scenario.arguments.split(), work / scenario.cwd)
        assert ending.code == 0, f"{scenario.name}: {ending}"
        assert targets_of(inputs, scenario)


def test_the_runner_sees_what_it_should(tmp_path):
    """A fault of the program, an endless loop and a lost file are told apart from a refusal."""
    (tmp_path / "faulty.py").write_text("from protos.options import run_command\nrun_command(lambda: {}['a'])\n")
    (tmp_path / "endless.py").write_text("while True: pass\n")
    sys.path.insert(0, str(tmp_path))
    try:
        assert run("faulty", [], tmp_path).code == 70
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("tests.attack.runner.LIMIT_SECONDS", 0.2)
            assert run("endless", [], tmp_path).escaped.startswith("no answer")
    finally:
        sys.path.remove(str(tmp_path))
