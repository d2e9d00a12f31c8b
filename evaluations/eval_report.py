"""Reports of `evaluations.eval_humanml`: what a table shows, what is said of the real row, and the files."""

import csv
import io
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any

from evaluations.metrics import Interval
from evaluations.protocol import GENERATED, METRICS, REAL, Replication
from evaluations.stamps import spoken
from evaluations.tables import Physics, physics_table, table, write_plain
from protos.names import shown
from protos.outputs import Outputs
from protos.reading import FileError, read_json

PUBLISHED_FILE = Path(__file__).with_name("published_rows.json")
HEADINGS = {
    "top1": "R@1 ↑", "top2": "R@2 ↑", "top3": "R@3 ↑", "fid": "FID ↓", "mm_dist": "MM-Dist ↓", "diversity": "Diversity →",
    "multimodality": "MModality ↑",
}  # fmt: skip
TOLERANCE = {"top1": 0.006, "top2": 0.006, "top3": 0.006, "mm_dist": 0.016}  # twice the published half-widths
SEPARATOR = "published:"


@lru_cache
def published_rows(key: str | None) -> dict[str, dict[str, Interval]]:
    """Rows of the published table of humanml or kit: {system: {metric: value}}; half-widths of 0 where none is given."""
    content = read_json(PUBLISHED_FILE, dict[str, Any])
    rows = content.get(key, {}) if key else {}
    return {
        system: {name: Interval(*(value + [0.0])[:2]) for name, value in zip(content["columns"], values) if value}
        for system, values in rows.items()
    }


def gap_to_published(report: dict) -> list[str]:
    """What to warn of: metrics of the real row that are not where the published table has them."""
    published = published_rows(report["published"]).get(REAL, {})
    own = report["rows"][REAL]
    if report["split"] != "test":
        return []
    off = {
        name: (own[name].mean, published[name].mean)
        for name, tolerance in TOLERANCE.items()
        if name in published and abs(own[name].mean - published[name].mean) > tolerance + own[name].half_width
    }
    if not off:
        return []
    values = ", ".join(f"{HEADINGS[name].split()[0]} {mine:.3f} for {theirs:.3f}" for name, (mine, theirs) in off.items())
    return [
        f"the real row is not the published one ({values}): dataset, its text files or the evaluator differ from those "
        f"of the published tables, so no row here can be compared with them"
    ]


def metrics_table(rows: Mapping[str, Mapping[str, Interval]], more: Mapping[str, Mapping[str, Interval]] | None = None) -> str:
    """One line per row, real motion first; `more` rows come from published tables."""
    names = [name for name in METRICS if any(name in row for row in rows.values())]

    def line(label: str, row: Mapping[str, Interval]) -> list[str]:
        return [label, *(interval_text(row.get(name)) for name in names)]

    body = [line(label, row) for label, row in rows.items()]
    if more:
        body += [line(f"{SEPARATOR} {label}", row) for label, row in more.items()]
    return table(["", *(HEADINGS[name] for name in names)], body)


def interval_text(interval: Interval | None) -> str:
    """'0.511 ± 0.003'; without what is not known."""
    if interval is None:
        return "–"
    return str(interval) if interval.half_width else f"{interval.mean:.3f}"


def times(replications: int) -> str:
    return f"{replications} replications, mean ± 95 % interval" if replications > 1 else "1 replication"


def markdown(report: dict) -> str:
    """The report for people."""
    seconds, parameters = report["seconds_per_motion"], report["parameters"]
    lines = [
        f"# {report['what']} on {report['dataset']} ({report['split']}, {report['motions']} motions)", "",
        f"`{report['command']}`", "",
        f"Protocol {report['protocol']}: {report['whose']}. {times(report['replications'])}, "
        f"seed {report['seed']}. Evaluator: {report['evaluator']}.", "",
        f"Made from {spoken(report['made_from'])}.", "",
        metrics_table(report["rows"], published_rows(report["published"])), "",
    ]  # fmt: skip
    lines += [f"**{warning}**\n" for warning in gap_to_published(report)]
    if report["physics"]:
        pair = (GENERATED, REAL) if GENERATED in report["physics"] else None
        lines += ["## Physics", "", physics_table(report["physics"], pair), ""]
    if seconds is not None:
        lines += [f"{1000 * seconds:.0f} ms per motion, {parameters / 1e6:.1f} M parameters.", ""]
    return "\n".join(lines)


def write_report(outputs: Outputs, report: dict, replications: list[Replication]) -> None:
    """report.json, report.md, and motions.csv with a line per judged motion of every replication."""
    write_plain(outputs, "report.json", report)
    outputs.write("report.md", markdown(report) + "\n")
    out = io.StringIO()
    writer = csv.writer(out)
    writer.writerow(["replication", "row", "clip", "caption", "frames", "seed", "place_in_pool", "distance"])
    for number, replication in enumerate(replications):
        writer.writerows([number, *each[:-1], f"{each.distance:.4f}"] for each in replication.motions)
    outputs.write("motions.csv", out.getvalue())


@dataclass(frozen=True)
class Report:
    """What others read in a report.json: fields that earlier versions did not write have a default."""

    what: str
    dataset: str
    split: str
    protocol: str
    whose: str
    evaluator: str
    replications: int
    seed: int
    rows: dict[str, dict[str, Interval]]
    values: list[dict[str, dict[str, float]]]
    physics: dict[str, Physics]
    published: str | None = None
    seconds_per_motion: float | None = None
    parameters: int | None = None
    made_from: dict[str, str | None] = field(default_factory=dict)
    unreadable: dict[str, str] = field(default_factory=dict)


def read_report(path: Path) -> dict:
    """A report.json, its intervals as they were. FileNotFoundError or FileError naming the file."""
    path = path / "report.json" if path.is_dir() else path
    if not path.is_file():
        raise FileNotFoundError(f"{path}: no such report; python -m evaluations.eval_humanml writes one")
    try:
        report = read_json(path, Report)
    except FileError as error:
        raise FileError(f"{error}: not a report of evaluations.eval_humanml") from None
    if REAL not in report.rows:
        raise FileError(f"{path}: no row {REAL!r}: not a report of evaluations.eval_humanml")
    for row, figures in report.rows.items():
        if lacking := [name for name in METRICS if name not in figures and name != "multimodality"]:
            raise FileError(f"{path}: {lacking[0]} of row {shown(row)} is missing: not a report of evaluations.eval_humanml")
    return {name: getattr(report, name) for name in Report.__dataclass_fields__}
