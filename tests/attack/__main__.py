"""python -m tests.attack [CASES] [SEED]: mutated files of every kind given to every command, and a table of what came of it."""

import sys
import tempfile
from pathlib import Path

from tests.attack.inputs import make_inputs
from tests.attack.runner import run
from tests.attack.table import attack, table


def main(cases: int = 650, seed: int = 0) -> int:
    with tempfile.TemporaryDirectory() as folder:
        inputs, work = Path(folder) / "inputs", Path(folder) / "work"
        inputs.mkdir()
        make_inputs(inputs, lambda module, arguments, where: run(module, arguments.split(), where, limited=False))
        found = list(attack(inputs, work, seed, cases))
    print(table(found))
    return sum(bool(case.fault) for case in found)


if __name__ == "__main__":
    sys.exit(min(1, main(*map(int, sys.argv[1:3]))))
