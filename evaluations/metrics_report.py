"""The field's metrics as reports: one evaluation beside the published table, and several evaluations on a board."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any

from data_loaders.corpus import Corpus
from data_loaders.physics import MEASURES, Measures, Physics, physics_table
from evaluations.metrics import POOL, Interval
from evaluations.protocol import GENERATED, GIVEN, METRICS, REAL, Replication
from evaluations.report import Report, percent
from model.interclip_config import TWO_PEOPLE
from protos.files import shown
from protos.reading import read_json
from protos.tables import decimals

PUBLISHED_FILE = Path(__file__).with_name("published_rows.json")
HEADINGS = {
    "top1": "R@1 ↑", "top2": "R@2 ↑", "top3": "R@3 ↑", "fid": "FID ↓", "mm_dist": "MM-Dist ↓", "diversity": "Diversity →",
    "multimodality": "MModality ↑",
}  # fmt: skip
TOLERANCE = {"top1": 0.006, "top2": 0.006, "top3": 0.006, "mm_dist": 0.016}  # twice the published half-widths
COMPARABLE = ("dataset", "split", "protocol", "evaluator", "replications")
CHARTED = ("top3", "fid", "mm_dist", "diversity")
Rows = Mapping[str, Mapping[str, Interval]]  # {row: {metric: interval}}, real motion first


@dataclass(frozen=True)
class Measured:
    """What an evaluation came to, as its report.json has it: fields that earlier versions did not write have a default.

    `values`: the rows of each replication; `published`: humanml, kit or interhuman where the rows of their table can be compared;
    `pool`: motions a text was ranked among; `judge`: how often the judge finds the text of a real motion, and chance does;
    `probes`: `probe_run.summarise` of the same model; `lamp_bertscore` of some rows, with what it was found by in
    `described_by`. ValueError where a row or a metric is missing.
    """

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
    motions: int = 0
    published: str | None = None
    seconds_per_motion: float | None = None
    parameters: int | None = None
    made_from: dict[str, str | None] = field(default_factory=dict)
    unreadable: dict[str, str] = field(default_factory=dict)
    command: str = ""
    probes: dict[str, Any] | None = None
    pool: int = POOL
    judge: dict[str, Interval] = field(default_factory=dict)
    lamp_bertscore: dict[str, Interval] = field(default_factory=dict)
    described_by: str = ""

    def __post_init__(self) -> None:
        if REAL not in self.rows:
            raise ValueError(f"no row {REAL!r}")
        for row, figures in self.rows.items():
            if lacking := [name for name in METRICS if name not in figures and name != "multimodality"]:
                raise ValueError(f"{lacking[0]} of row {shown(row)} is missing")


@lru_cache
def published_rows(key: str | None) -> Rows:
    """Rows of the published table of humanml, kit or interhuman, by system; half-widths of 0 where none is given."""
    content = read_json(PUBLISHED_FILE, dict[str, Any])
    return {
        system: {name: Interval(*(value + [0.0])[:2]) for name, value in zip(content["columns"], values) if value}
        for system, values in (content.get(key, {}) if key else {}).items()
    }


def published_table(corpus: Corpus) -> str | None:
    """Whose published table has rows of this data: humanml, kit, interhuman, or nobody's."""
    return "interhuman" if corpus.features == TWO_PEOPLE else corpus.published


def gap_to_published(found: Measured) -> list[str]:
    """What to warn of: metrics of the real row that are not where the published table has them."""
    published, own = published_rows(found.published).get(REAL, {}), found.rows[REAL]
    off = [
        f"{HEADINGS[name].split()[0]} {own[name].mean:.3f} for {published[name].mean:.3f}"
        for name, tolerance in TOLERANCE.items()
        if name in published and abs(own[name].mean - published[name].mean) > tolerance + own[name].half_width
    ]
    if not off or found.split != "test":
        return []
    return [f"the real row is not the published one ({', '.join(off)}): dataset, its text files or the evaluator differ from "
            "those of the published tables, so no row here can be compared with them"]  # fmt: skip


def metrics_table(rows: Rows, published: str | None = None) -> tuple[list[str], list[list[object]]]:
    """Columns and rows: real motion first, then the others, then those of the published table of humanml or kit."""
    names = [name for name in METRICS if any(name in row for row in rows.values())]
    every = {**rows, **{f"published: {system}": row for system, row in published_rows(published).items()}}
    return ["", *(HEADINGS[name] for name in names)], [[label, *map(row.get, names)] for label, row in every.items()]


def times(replications: int) -> str:
    """'20 replications, mean ± 95 % interval'."""
    return f"{replications} replications, mean ± 95 % interval" if replications > 1 else "1 replication"


def metrics_report(found: Measured, replications: Sequence[Replication] = (), measures: Measures = MEASURES) -> Report:
    """The report of an evaluation, with a line in motions.csv per judged motion of the replications; measures: of physics."""
    notes = [
        f"Protocol {found.protocol}: {found.whose}. {times(found.replications)}, seed {found.seed}. "
        f"Evaluator: {found.evaluator}.",
        *(f"**{warning}**" for warning in gap_to_published(found)),
    ]
    if found.physics:
        compared = (GENERATED, REAL) if GENERATED in found.physics else None
        notes += ["## Physics", physics_table(found.physics, compared, measures)]
    if found.seconds_per_motion is not None:
        notes.append(f"{1000 * found.seconds_per_motion:.0f} ms per motion, {found.parameters / 1e6:.1f} M parameters.")
    lines = [[k, *each[:-1], f"{each.distance:.4f}"] for k, made in enumerate(replications) for each in made.motions]
    columns = ["replication", "row", "clip", "caption", "frames", "seed", "place_in_pool", "distance"]
    return Report(
        f"{found.what} on {found.dataset} ({found.split}, {found.motions} motions)", asdict(found),
        *metrics_table(found.rows, found.published), notes, lists={"motions.csv": (columns, lines)},
    )  # fmt: skip


# ------------------------------------------------------------------------------------------------------------------- board


def entrants_of_board(reports: Sequence[Measured]) -> dict[str, tuple[str, Measured]]:
    """{name on the board: (row, report)} of reports of one dataset, protocol, evaluator and number of replications: real motion
    first and once, then models and given motions, then controls, once each.

    ValueError naming two reports that differ in one of these.
    """
    first = reports[0]
    for report in reports[1:]:
        apart = f"{first.what} and {report.what} cannot stand side by side"
        for name in COMPARABLE:
            if (one := getattr(first, name)) != (other := getattr(report, name)):
                raise ValueError(f"{apart}: {name} is {one} of one and {other} of the other")
        for name in ("dataset", "evaluator"):
            stamps = {each.made_from.get(name) for each in (first, report)} - {None}
            if len(stamps) > 1:
                raise ValueError(f"{apart}: the {name} has changed between their evaluations")
    entrants: dict[str, tuple[str, Measured]] = {}
    controls: dict[str, tuple[str, Measured]] = {}
    for report in reports:
        for row in report.rows:
            if row not in (GENERATED, GIVEN):
                controls.setdefault(row, (row, report))
                continue
            wanted = name = Path(report.what).name or report.what
            number = 1
            while name in entrants:
                name, number = f"{wanted}_{number + 1}", number + 1
            entrants[name] = row, report
    return {REAL: controls.pop(REAL), **entrants, **controls}


def board_report(reports: Sequence[Measured], command: str) -> Report:
    """Metrics, physics, probes, speed and size of each row; a line below says how they came about. ValueError as
    `entrants_of_board`."""
    first, made_from, rows = reports[0], {name: reports[0].made_from.get(name) for name in ("dataset", "evaluator")}, {}
    for name, (row, report) in entrants_of_board(reports).items():
        among = reports if name == REAL else [report]  # those that were taken over know of no captioner
        score = next((each.lamp_bertscore[row] for each in among if row in each.lamp_bertscore), None)
        rows[name] = {"figures": report.rows[row], "physics": report.physics.get(row, {}), "lamp_bertscore": score}
        if row in (GENERATED, GIVEN):
            rows[name] |= {key: getattr(report, key) for key in ("probes", "seconds_per_motion", "parameters")}
            made_from[name] = report.made_from.get("model" if row == GENERATED else "motions")
    columns, body = metrics_table({name: row["figures"] for name, row in rows.items()}, first.published)
    described = [report for report in reports if report.described_by]
    if described:
        made_from["captioner"] = described[0].made_from.get("captioner")
    columns += ["foot, m/s", "jerk, m/s³", "probes, %", *(["LaMP-BertScore ↑"] if described else []), "ms / motion",
                "parameters, M"]  # fmt: skip
    for line in body:
        row = rows.get(line[0], {"physics": {}})  # published rows have figures alone
        line += [
            decimals(row["physics"].get("planted_foot_speed"), 3), decimals(row["physics"].get("jerk"), 0),
            percent((row.get("probes") or {}).get("overall")), *([row.get("lamp_bertscore")] if described else []),
            decimals(row["seconds_per_motion"] * 1000 if row.get("seconds_per_motion") else None, 0),
            decimals(row["parameters"] / 1e6 if row.get("parameters") else None, 1),
        ]  # fmt: skip
    how = (f"{first.dataset}, {first.split} split, protocol {first.protocol} ({first.whose}), {times(first.replications)}; "
           f"evaluator {first.evaluator}.")  # fmt: skip
    facts = {name: getattr(first, name) for name in (*COMPARABLE, "whose", "seed", "published")}
    return Report(
        f"Models on {first.dataset}", {"command": command, **facts, "rows": rows, "made_from": made_from},
        columns, body, [how, *dict.fromkeys(report.described_by for report in described)],
    )  # fmt: skip


def board_chart(path: Path, board: Mapping[str, Any]) -> None:
    """A bar per row and metric of the facts of a board, with its interval; real motion's value runs through as a line."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    from protos.files import atomic_path

    rows = board["rows"]
    figure = Figure(figsize=(3.0 * len(CHARTED), 1.2 + 0.42 * len(rows)), dpi=120, layout="constrained")
    FigureCanvasAgg(figure)
    colours = ["#8a8a8a" if name == REAL else "#2f6f9f" if row.get("parameters") else "#c9c9c9" for name, row in rows.items()]
    for axes, metric in zip(figure.subplots(1, len(CHARTED), sharey=True), CHARTED):
        values = [row["figures"][metric] for row in rows.values()]
        axes.barh(list(rows), [v.mean for v in values], xerr=[v.half_width for v in values], color=colours, height=0.62,
                  error_kw={"elinewidth": 1})
        axes.axvline(values[0].mean, color="#444444", linewidth=0.8, linestyle=":")
        axes.set_title(HEADINGS[metric], fontsize=10)
        axes.tick_params(labelsize=8)
        for place, value in enumerate(values):
            axes.annotate(f" {value.mean:.3g}", (value.mean, place), va="center", fontsize=7)
        axes.margins(x=0.22)
        axes.spines[["top", "right"]].set_visible(False)
    figure.axes[0].invert_yaxis()
    figure.suptitle(f"{board['dataset']}, {board['protocol']} protocol, {times(board['replications'])}", fontsize=9)
    with atomic_path(path) as temporary:
        figure.savefig(temporary, format="png")
