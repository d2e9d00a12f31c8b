"""Tables to read: Markdown that is aligned, for files and terminals alike."""

from collections.abc import Iterable, Sequence


def table(columns: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """A Markdown table with aligned columns, so that it reads well in a terminal too; – for None."""
    cells = [["–" if cell is None else str(cell) for cell in row] for row in (columns, *rows)]
    widths = [max(len(row[i]) for row in cells) for i in range(len(columns))]
    rule = "|" + "|".join("-" * (width + 2) for width in widths) + "|"
    lines = ["| " + " | ".join(cell.ljust(width) for cell, width in zip(row, widths)) + " |" for row in cells]
    return "\n".join([lines[0], rule, *lines[1:]])


def decimals(value: float | None, digits: int) -> str | None:
    """A number with so many digits after the point."""
    return None if value is None else f"{value:.{digits}f}"
