"""Words in pictures: captions wrapped to a width in pixels, drawn as they are (a `$` is a dollar sign)."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache

import numpy as np
from matplotlib.backends.backend_agg import RendererAgg
from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties, fontManager
from matplotlib.text import Text

# asked in this order for letters that DejaVu Sans, which comes with matplotlib, does not have
OTHER_FONTS = (
    "Noto Sans CJK SC", "Noto Sans CJK JP", "Noto Sans SC", "WenQuanYi Zen Hei", "Microsoft YaHei", "PingFang SC",
    "Hiragino Sans", "Malgun Gothic", "Noto Sans Devanagari", "Noto Sans Thai", "Arial Unicode MS",
)  # fmt: skip
CAPTION_LINES = 3


@lru_cache(maxsize=8)
def _font(size: float) -> FontProperties:
    installed = set(fontManager.get_font_names())
    return FontProperties(family=["DejaVu Sans", *(name for name in OTHER_FONTS if name in installed)], size=size)


def write_text(
    renderer: RendererAgg, x: float, y: float, line: str, size: float, colour: np.ndarray, ha: str, va: str
) -> None:
    """Draws a line of text at (x, y) pixels from the lower left corner of a 72 dpi renderer."""
    if line:
        text = Text(x, y, line, color=tuple(colour), fontproperties=_font(size), parse_math=False, ha=ha, va=va)
        text.set_figure(Figure(dpi=renderer.dpi))
        with _quiet():
            text.draw(renderer)


def wrap(caption: str, width: float, size: float, max_lines: int = CAPTION_LINES) -> list[str]:
    """The caption in at most `max_lines` lines of `width` pixels at letter size `size`; what is cut ends in an ellipsis."""
    caption = "".join(letter if letter.isprintable() else " " for letter in caption)
    lines, line = [], ""
    with _quiet():
        for word in caption.split():
            while word and len(lines) <= max_lines:
                longer = f"{line} {word}" if line else word
                if _width(longer, size) <= width:
                    line, word = longer, ""
                elif line:
                    lines.append(line)
                    line = ""
                else:  # a word wider than the picture
                    fits = next(n for n in range(len(word) - 1, 0, -1) if n == 1 or _width(word[:n], size) <= width)
                    lines.append(word[:fits])
                    word = word[fits:]
            if len(lines) > max_lines:
                break
        if line:
            lines.append(line)
        if len(lines) > max_lines:
            last = lines[max_lines - 1]
            while last and _width(last + " …", size) > width:
                last = last[:-1]
            lines = [*lines[: max_lines - 1], last.rstrip() + " …"]
    return lines


@lru_cache(maxsize=1)
def _ruler() -> RendererAgg:
    return RendererAgg(1, 1, 72)


def _width(line: str, size: float) -> float:
    return _ruler().get_text_width_height_descent(line, _font(size), False)[0]


@contextmanager
def _quiet() -> Iterator[None]:
    """Letters that no installed font has are drawn as boxes; matplotlib would warn for each of them."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph .* missing")
        yield
