"""The report of the field's metrics: what its table shows, what is said of the real row, and reading it back."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any

from evaluations.metrics import Interval
from evaluations.protocol import GENERATED, METRICS, REAL, Replication
from evaluations.report import Report
from evaluations.tables import Physics, physics_table
from protos.names import shown
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


def gap_to_published(report: Mapping[str, Any]) -> list[str]:
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


def metrics_table(
    rows: Mapping[str, Mapping[str, Interval]], published: str | None = None
) -> tuple[list[str], list[list[str]]]:
    """Header and lines: real motion first, then the others, then those of the published table of humanml or kit."""
    names = [name for name in METRICS if any(name in row for row in rows.values())]
    shown = {**rows, **{f"{SEPARATOR} {system}": row for system, row in published_rows(published).items()}}
    body = [[label, *(interval_text(row.get(name)) for name in names)] for label, row in shown.items()]
    return ["", *(HEADINGS[name] for name in names)], body


def interval_text(interval: Interval | None) -> str:
    """'0.511 ± 0.003'; without what is not known."""
    if interval is None:
        return "–"
    return str(interval) if interval.half_width else f"{interval.mean:.3f}"


def times(replications: int) -> str:
    return f"{replications} replications, mean ± 95 % interval" if replications > 1 else "1 replication"


def report_of(facts: dict[str, Any], replications: Sequence[Replication]) -> Report:
    """The report of facts as in report.json, with a line in motions.csv per judged motion of every replication."""
    seconds, made = facts["seconds_per_motion"], facts["physics"]
    notes = [
        f"Protocol {facts['protocol']}: {facts['whose']}. {times(facts['replications'])}, seed {facts['seed']}. "
        f"Evaluator: {facts['evaluator']}.",
        *(f"**{warning}**" for warning in gap_to_published(facts)),
    ]
    if made:
        notes += ["## Physics", physics_table(made, (GENERATED, REAL) if GENERATED in made else None)]
    if seconds is not None:
        notes.append(f"{1000 * seconds:.0f} ms per motion, {facts['parameters'] / 1e6:.1f} M parameters.")
    lines = [[k, *each[:-1], f"{each.distance:.4f}"] for k, found in enumerate(replications) for each in found.motions]
    return Report(
        f"{facts['what']} on {facts['dataset']} ({facts['split']}, {facts['motions']} motions)", facts,
        *metrics_table(facts["rows"], facts["published"]), notes,
        lists={"motions.csv": (["replication", "row", "clip", "caption", "frames", "seed", "place_in_pool", "distance"], lines)},
    )  # fmt: skip


@dataclass(frozen=True)
class StoredReport:
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
        report = read_json(path, StoredReport)
    except FileError as error:
        raise FileError(f"{error}: not a report of evaluations.eval_humanml") from None
    if REAL not in report.rows:
        raise FileError(f"{path}: no row {REAL!r}: not a report of evaluations.eval_humanml")
    for row, figures in report.rows.items():
        if lacking := [name for name in METRICS if name not in figures and name != "multimodality"]:
            raise FileError(f"{path}: {lacking[0]} of row {shown(row)} is missing: not a report of evaluations.eval_humanml")
    return {name: getattr(report, name) for name in StoredReport.__dataclass_fields__}
