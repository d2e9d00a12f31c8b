"""The report of an evaluation: a table for people (Markdown), the figures for programs (JSON), and lists (CSV)."""

import csv
import io
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from evaluations.stamps import spoken
from evaluations.tables import table, write_plain
from protos.outputs import Outputs


@dataclass(frozen=True)
class Report:
    """What an evaluation found. `facts` go to NAME.json: among them the `command` and the stamps of what it was `made_from`.

    header, rows: the table. notes: paragraphs under it. appendix: lines that stand in the file alone. lists: CSV files by
    name, each a header and its lines. texts: what else is written, by name.
    """

    title: str
    facts: dict[str, Any]
    header: Sequence[str]
    rows: Sequence[Sequence[object]]
    notes: Sequence[str] = ()
    appendix: str = ""
    lists: Mapping[str, tuple[Sequence[str], Iterable[Sequence[object]]]] = field(default_factory=dict)
    texts: Mapping[str, str] = field(default_factory=dict)

    def markdown(self) -> str:
        command, made_from = f"`{self.facts['command']}`", f"Made from {spoken(self.facts['made_from'])}."
        return "\n\n".join([f"# {self.title}", command, table(self.header, self.rows), *self.notes, made_from])

    def write(self, outputs: Outputs, name: str = "report") -> None:
        """NAME.json, NAME.md and the lists. ValueError, and no file, where a figure is NaN or infinite."""
        write_plain(outputs, f"{name}.json", self.facts)
        outputs.write(f"{name}.md", "\n\n".join(filter(None, [self.markdown(), self.appendix])) + "\n")
        for file, text in self.texts.items():
            outputs.write(file, text)
        for file, (header, lines) in self.lists.items():
            text = io.StringIO()
            csv.writer(text).writerows([header, *lines])
            outputs.write(file, text.getvalue())


def command_line(module: str) -> str:
    """What was typed: 'python -m evaluations.board --seed 3'."""
    return " ".join(["python -m", module, *sys.argv[1:]])
