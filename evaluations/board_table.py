"""The board: rows of several evaluations as one table and one chart."""

from collections.abc import Sequence
from pathlib import Path

from evaluations.eval_report import HEADINGS, SEPARATOR, interval_text, published_rows, times
from evaluations.protocol import GENERATED, GIVEN, METRICS, REAL
from evaluations.tables import percent, table

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
    entrants: dict[str, dict] = {}
    others: dict[str, dict] = {}
    for report in reports:
        for row, figures in report["rows"].items():
            shown = {"figures": figures, "physics": report["physics"].get(row, {})}
            if row in (GENERATED, GIVEN):
                shown |= {name: report.get(name) for name in ("probes", "seconds_per_motion", "parameters")}
                entrants[_fresh(Path(report["what"]).name or report["what"], entrants)] = shown
            else:
                others.setdefault(row, shown)
    rows = {REAL: others.pop(REAL), **entrants, **others}
    return {**{name: first[name] for name in (*COMPARABLE, "whose", "seed", "published")}, "rows": rows}


def _fresh(name: str, taken: dict) -> str:
    number, wanted = 1, name
    while name in taken:
        number += 1
        name = f"{wanted}_{number}"
    return name


def board_table(board: dict) -> str:
    """Markdown: metrics, physics, probes, speed and size; a line below says how it came about."""
    rows = board["rows"]
    names = [name for name in METRICS if any(name in row["figures"] for row in rows.values())]
    extras = [
        ("foot, m/s", lambda row: _number(row["physics"].get("planted_foot_speed"), 3)),
        ("jerk, m/s³", lambda row: _number(row["physics"].get("jerk"), 0)),
        ("probes, %", lambda row: percent((row.get("probes") or {}).get("overall"))),
        ("ms / motion", lambda row: _number(1000 * row["seconds_per_motion"] if row.get("seconds_per_motion") else None, 0)),
        ("parameters, M", lambda row: _number(row["parameters"] / 1e6 if row.get("parameters") else None, 1)),
    ]
    body = [
        [name, *(interval_text(row["figures"].get(metric)) for metric in names), *(show(row) for _, show in extras)]
        for name, row in rows.items()
    ]
    for name, figures in published_rows(board["published"]).items():
        body.append([f"{SEPARATOR} {name}", *(interval_text(figures.get(metric)) for metric in names), *("–" for _ in extras)])
    text = table(["", *(HEADINGS[name] for name in names), *(title for title, _ in extras)], body)
    return (f"{text}\n\n{board['dataset']}, {board['split']} split, protocol {board['protocol']} ({board['whose']}), "
            f"{times(board['replications'])}; evaluator {board['evaluator']}.")


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
