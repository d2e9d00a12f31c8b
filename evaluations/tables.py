"""Tables for people, and results as JSON: what all reports share."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from protos.outputs import Outputs

MEASURES = (  # as `kinematics.physics_summary` names them
    ("planted_foot_speed", "planted-foot speed, m/s", 3),
    ("jerk", "jerk, m/s³", 1),
    ("lowest_joint", "lowest joint over the clip, mean, m", 3),
    ("lowest_joint_min", "lowest joint over the clip, lowest, m", 3),
    ("lowest_joint_max", "lowest joint over the clip, highest, m", 3),
    ("bone_length_deviation", "bone-length deviation, %", 2),
    ("nan_count", "NaN values", 0),
    ("clips", "clips", 0),
)


def table(header: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    """A Markdown table with aligned columns, so that it reads well in a terminal too."""
    cells = [[str(cell) for cell in row] for row in (header, *rows)]
    widths = [max(len(row[i]) for row in cells) for i in range(len(header))]

    def line(row: Sequence[str]) -> str:
        return "| " + " | ".join(cell.ljust(width) for cell, width in zip(row, widths)) + " |"

    rule = "|" + "|".join("-" * (width + 2) for width in widths) + "|"
    return "\n".join([line(cells[0]), rule, *(line(row) for row in cells[1:])])


def percent(rate: float | None) -> str:
    return "–" if rate is None or np.isnan(rate) else f"{100 * rate:.1f}"


Physics = dict[str, float | None]


def known(figures: Mapping[str, float]) -> Physics:
    """Figures of `physics_summary` with None in the place of NaN: of measures that the motions are too short to tell, or that
    need a planted foot where none is."""
    return {name: None if np.isnan(value) else value for name, value in figures.items()}


def physics_table(physics: dict[str, Physics], compared: tuple[str, str] | None = None) -> str:
    """`physics_summary` of sets of motions, a column each; `compared`: two of them whose ratio is shown too."""
    rows = []
    for key, label, digits in MEASURES:
        row = [label, *("–" if summary[key] is None else f"{summary[key]:.{digits}f}" for summary in physics.values())]
        if compared:
            made, real = (physics[column][key] for column in compared)
            shown = key in ("planted_foot_speed", "jerk") and real and made is not None
            row.append(f"{made / real:.2f}" if shown else "")
        rows.append(row)
    text = table(["", *physics, *(["generated / real"] if compared else [])], rows)
    if any(value is None for summary in physics.values() for value in summary.values()):
        text += "\n\n–: these motions cannot tell it: they are too short, or no foot is ever planted."
    return text


def plain(value: object) -> object:
    """What JSON knows: numpy numbers and paths made plain. NaN and infinity stay, for `encode_json` to refuse."""
    if isinstance(value, dict):
        return {key: plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(item) for item in value]
    if isinstance(value, np.generic):
        value = value.item()
    return str(value) if isinstance(value, Path) else value


def write_plain(outputs: Outputs, name: str, content: object) -> Path:
    """Writes a JSON file. ValueError, and no file, where a figure is NaN or infinite."""
    return outputs.write_json(name, plain(content))


def fresh_outputs(wanted: Path, what: str) -> Outputs:
    """A new folder for a report: `wanted`, or `wanted_2`, ... where that exists."""
    from sample.prompts import new_folder

    return Outputs(new_folder(wanted), what, flag="--output_dir")
