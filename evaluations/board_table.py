"""The board: rows of several evaluations as one report and one chart."""

from collections.abc import Sequence
from pathlib import Path

from evaluations.metrics_report import HEADINGS, metrics_table, times
from evaluations.protocol import GENERATED, GIVEN, REAL
from evaluations.report import Report
from evaluations.tables import percent

COMPARABLE = ("dataset", "split", "protocol", "evaluator", "replications")
CHARTED = ("top3", "fid", "mm_dist", "diversity")


def board_of(reports: Sequence[dict]) -> dict:
    """Rows of reports of one dataset, protocol, evaluator and number of replications, real motion and controls once.

    Raises ValueError naming two reports that differ in one of these.
    """
    first = reports[0]
    for report in reports[1:]:
        for name in COMPARABLE:
            if report[name] != first[name]:
                raise ValueError(f"{first['what']} and {report['what']} cannot stand side by side: {name} is "
                                 f"{first[name]} of one and {report[name]} of the other")
        for name in ("dataset", "evaluator"):
            one, other = (each.get("made_from", {}).get(name) for each in (first, report))
            if one and other and one != other:
                raise ValueError(f"{first['what']} and {report['what']} cannot stand side by side: "
                                 f"the {name} has changed between their evaluations")
    stamps = first.get("made_from", {})
    made_from = {name: stamps.get(name) for name in ("dataset", "evaluator")}
    entrants: dict[str, dict] = {}
    others: dict[str, dict] = {}
    for report in reports:
        for row, figures in report["rows"].items():
            shown = {"figures": figures, "physics": report["physics"].get(row, {})}
            if row in (GENERATED, GIVEN):
                shown |= {name: report.get(name) for name in ("probes", "seconds_per_motion", "parameters")}
                name = _fresh(Path(report["what"]).name or report["what"], entrants)
                entrants[name] = shown
                made_from[name] = report.get("made_from", {}).get("model" if row == GENERATED else "motions")
            else:
                others.setdefault(row, shown)
    rows = {REAL: others.pop(REAL), **entrants, **others}
    return {**{name: first[name] for name in (*COMPARABLE, "whose", "seed", "published")}, "rows": rows, "made_from": made_from}


def _fresh(name: str, taken: dict) -> str:
    number, wanted = 1, name
    while name in taken:
        number += 1
        name = f"{wanted}_{number}"
    return name


def board_report(board: dict, command: str) -> Report:
    """Metrics, physics, probes, speed and size of each row; a line below says how they came about."""
    extras = [
        ("foot, m/s", lambda row: _number(row["physics"].get("planted_foot_speed"), 3)),
        ("jerk, m/s³", lambda row: _number(row["physics"].get("jerk"), 0)),
        ("probes, %", lambda row: percent((row.get("probes") or {}).get("overall"))),
        ("ms / motion", lambda row: _number(1000 * row["seconds_per_motion"] if row.get("seconds_per_motion") else None, 0)),
        ("parameters, M", lambda row: _number(row["parameters"] / 1e6 if row.get("parameters") else None, 1)),
    ]
    rows = list(board["rows"].values())
    header, body = metrics_table({name: row["figures"] for name, row in board["rows"].items()}, board["published"])
    for i, line in enumerate(body):  # published rows come last and have figures alone
        line += [show(rows[i]) if i < len(rows) else "–" for _, show in extras]
    how = (f"{board['dataset']}, {board['split']} split, protocol {board['protocol']} ({board['whose']}), "
           f"{times(board['replications'])}; evaluator {board['evaluator']}.")  # fmt: skip
    header += [title for title, _ in extras]
    return Report(f"Models on {board['dataset']}", {"command": command, **board}, header, body, [how])


def _number(value: float | None, digits: int) -> str:
    return "–" if value is None else f"{value:.{digits}f}"


def board_chart(path: Path, board: dict) -> None:
    """A bar per row and metric, with its interval; real motion's value runs through as a line."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    from protos.files import atomic_path

    rows = board["rows"]
    figure = Figure(figsize=(3.0 * len(CHARTED), 1.2 + 0.42 * len(rows)), dpi=120, layout="constrained")
    FigureCanvasAgg(figure)
    names = list(rows)
    colours = ["#8a8a8a" if name == REAL else "#2f6f9f" if rows[name].get("parameters") else "#c9c9c9" for name in names]
    for axes, metric in zip(figure.subplots(1, len(CHARTED), sharey=True), CHARTED):
        values = [rows[name]["figures"][metric] for name in names]
        axes.barh(names, [v.mean for v in values], xerr=[v.half_width for v in values], color=colours, height=0.62,
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
