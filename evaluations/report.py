"""The report of an evaluation: a table for people (Markdown), its figures for programs (JSON, CSV), what it was made from."""

import hashlib
import logging
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from model.registry import checkpoint_in
from protos.files import encode_csv, file_digest, run_folder
from protos.outputs import MANIFEST, Outputs
from protos.reading import FileError, read_json
from protos.tables import table

log = logging.getLogger(__name__)
Facts = TypeVar("Facts")
Table = tuple[Sequence[str], Iterable[Sequence[object]]]  # columns and rows

# What decides a network's output lies in files of these kinds; logs, cards and prompts do not.
DECIDING = (".safetensors", ".pt", ".tar", ".ckpt", ".json", ".npz", ".npy", ".yaml", ".yml")
ASIDE = (MANIFEST, "training_state.pt")


@dataclass(frozen=True)
class Report:
    """What an evaluation found. `facts` go to NAME.json: among them the `command` and the stamps of what it was `made_from`.

    columns, rows: the table, a name first in each row; a cell is a text, a number, a `metrics.Interval`, or None for what is
    not known. notes: paragraphs under it. appendix: lines that stand in the file alone. lists: further CSV files by name.
    texts: what else is written, by name.
    """

    title: str
    facts: dict[str, Any]
    columns: Sequence[str]
    rows: Sequence[Sequence[object]]
    notes: Sequence[str] = ()
    appendix: str = ""
    lists: Mapping[str, Table] = field(default_factory=dict)
    texts: Mapping[str, str] = field(default_factory=dict)

    def markdown(self) -> str:
        """Title, command, table, notes, and 'Made from dataset 0123456789abcdef, evaluator …'."""
        made_from = ", ".join(f"{name} {stamp}" for name, stamp in self.facts["made_from"].items() if stamp)
        return "\n\n".join([f"# {self.title}", f"`{self.facts['command']}`", table(self.columns, self.rows), *self.notes,
                            f"Made from {made_from}."])  # fmt: skip

    def write(self, outputs: Outputs, name: str = "report") -> None:
        """NAME.json, NAME.md, NAME.csv and the lists. ValueError, and no file, where a figure is NaN or infinite."""
        outputs.write_json(f"{name}.json", self.facts)
        outputs.write(f"{name}.md", "\n\n".join(filter(None, [self.markdown(), self.appendix])) + "\n")
        for file, text in self.texts.items():
            outputs.write(file, text)
        for file, (columns, rows) in {f"{name}.csv": apart(self.columns, self.rows), **self.lists}.items():
            outputs.write(file, encode_csv(columns, rows))

    def publish(self, folder: Path, what: str, name: str = "report") -> Outputs:
        """Writes into a new folder of `what` it holds (FOLDER_2, ... where it exists), prints the report and says where it is."""
        with run_folder(folder) as made:
            outputs = Outputs(made, what, flag="--output_dir")
            self.write(outputs, name)
        print(self.markdown())
        log.info("%s in %s", ", ".join((f"{name}.json", f"{name}.md", f"{name}.csv", *self.lists, *self.texts)), outputs.folder)
        return outputs


def read_report(path: Path, kind: type[Facts], module: str, name: str = "report") -> Facts:
    """The facts of a report (its file, or the folder of NAME.json) that `python -m MODULE` wrote, as a dataclass of them.

    FileNotFoundError, or FileError naming the file and the field that is wrong.
    """
    path = path / f"{name}.json" if path.is_dir() else path
    if not path.is_file():
        raise FileNotFoundError(f"{path}: no such report; python -m {module} writes one")
    try:
        return read_json(path, kind)
    except FileError as error:
        raise FileError(f"{error}: not a report of {module}") from None


def command_line(module: str) -> str:
    """What was typed: 'python -m evaluations.board --seed 3'."""
    return " ".join(["python -m", module, *sys.argv[1:]])


# ------------------------------------------------------------------------------------------------------------------ tables


def apart(columns: Sequence[str], rows: Sequence[Sequence[object]]) -> Table:
    """The same for programs: a column of intervals becomes two, of means and of half-widths ("FID ↓", "FID ↓ ±")."""
    wide = [any(isinstance(row[i], tuple) for row in rows) for i in range(len(columns))]

    def spread(cells: Sequence[object], second: Callable[[object], object]) -> list[object]:
        pairs = ((cell if isinstance(cell, tuple) else (cell, second(cell)))[: 1 + two] for cell, two in zip(cells, wide))
        return [part for pair in pairs for part in pair]

    return spread(columns, lambda column: f"{column} ±"), [spread(row, lambda cell: None) for row in rows]


def percent(rate: float | None) -> str | None:
    """A share of 0..1 as '97.1'."""
    return None if rate is None or rate != rate else f"{100 * rate:.1f}"


# ------------------------------------------------------------------------------------------------------------------ stamps


def stamp(parts: Iterable[bytes]) -> str:
    """16 characters that change with what a result was made from, so that no old one passes for a new one."""
    found = hashlib.sha256()
    for part in parts:
        found.update(part)
    return found.hexdigest()[:16]


def checkpoint_stamp(path: str | Path) -> str:
    """The stamp of the weights, statistics and settings of a checkpoint: of all such files of a folder, or of a weight file and
    the settings beside it."""
    path = checkpoint_in(path)
    folder, files = path, (each for each in path.rglob("*") if each.suffix in DECIDING)
    if path.is_file():
        folder, files = path.parent, [path, *(each for each in path.parent.iterdir() if each.suffix in (".json", ".npy"))]
    found = sorted({each for each in files if each.is_file() and each.name not in ASIDE})
    return stamp(each.relative_to(folder).as_posix().encode() + bytes.fromhex(file_digest(each)) for each in found)
