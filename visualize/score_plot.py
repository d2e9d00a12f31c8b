"""Scores over time as a picture: a curve per text, the moments found shaded."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from protos.files import atomic_path, printable
from visualize.stick_figure import quiet

COLOUR, SHADE, MUTED = "#2f6690", "#e5a24a", "#5b6470"
INCHES_PER_CURVE = 1.5


def write_score_plot(path: str | Path, curves: Sequence[np.ndarray], titles: Sequence[str],
                     spans: Sequence[Sequence[tuple[float, float]]], fps: float) -> Path:
    """Writes a png of curves [(T,)] at `fps`, one above the other, with the seconds of `spans` shaded, the first most."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(10, 0.8 + INCHES_PER_CURVE * len(curves)), dpi=110, layout="constrained")
    rows = figure.subplots(len(curves), 1, sharex=True, squeeze=False)[:, 0]
    low, high = min(curve.min() for curve in curves), max(curve.max() for curve in curves)
    margin = 0.05 * max(high - low, 0.02)
    for axes, curve, title, shaded in zip(rows, curves, titles, spans):
        for place, (start, end) in enumerate(shaded):
            axes.axvspan(start, end, color=SHADE, alpha=0.45 / (1 + place), linewidth=0)
        axes.plot(np.arange(len(curve)) / fps, curve, color=COLOUR, linewidth=1.6)
        axes.plot(curve.argmax() / fps, curve.max(), "o", color=COLOUR, markersize=4)
        text = printable(title if len(title) <= 110 else title[:109] + "…")
        axes.set_title(text, loc="left", fontsize=10, parse_math=False)
        axes.set_ylim(low - margin, high + margin)
        axes.set_xlim(0, len(curve) / fps)
        axes.set_ylabel("score", color=MUTED, fontsize=9)
        axes.tick_params(colors=MUTED, labelsize=8)
        axes.spines[["top", "right"]].set_visible(False)
    rows[-1].set_xlabel("seconds", color=MUTED, fontsize=9)
    with atomic_path(Path(path)) as temporary, quiet():
        figure.savefig(temporary, format="png", metadata={"Software": None})
    return Path(path)
