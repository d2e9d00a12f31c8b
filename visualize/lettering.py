"""Words in pictures: captions wrapped to a width in pixels, drawn as they are (a `$` is a dollar sign)."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache

import numpy as np
from matplotlib.backends.backend_agg import RendererAgg
from matplotlib.font_manager import FontProperties, fontManager

from protos.files import printable

# asked in this order for letters that DejaVu Sans, which comes with matplotlib, does not have
OTHER_FONTS = (
    "Noto Sans CJK SC", "Noto Sans CJK JP", "Noto Sans SC", "WenQuanYi Zen Hei", "Microsoft YaHei", "PingFang SC",
    "Hiragino Sans", "Malgun Gothic", "Noto Sans Devanagari", "Noto Sans Thai", "Arial Unicode MS",
)  # fmt: skip
CAPTION_LINES = 3
LONGEST_CAPTION = 10_000  # letters that are looked at; no picture has place for more
SHARES = {"left": 0.0, "center": 0.5, "right": 1.0}  # of a line's width that lie left of its place


def write_text(
    renderer: RendererAgg, x: float, y: float, line: str, size: float, colour: np.ndarray, align: str = "left"
) -> None:
    """Draws a line of text, standing on `y` at `x` pixels from the lower left corner of a 72 dpi renderer."""
    if not line:
        return
    context = renderer.new_gc()
    context.set_foreground((*colour, 1.0), isRGBA=True)
    with quiet():
        x -= SHARES[align] * text_width(line, size)
        renderer.draw_text(context, round(x), round(renderer.height - y), line, _font(size), 0.0)


def wrap(caption: str, width: float, size: float, max_lines: int = CAPTION_LINES) -> list[str]:
    """The caption in at most `max_lines` lines of `width` pixels at letter size `size`; what is cut ends in an ellipsis."""
    lines, line = [], ""
    for word in printable(caption[:LONGEST_CAPTION]).split():
        while word and len(lines) <= max_lines:
            longer = f"{line} {word}" if line else word
            if text_width(longer, size) <= width:
                line, word = longer, ""
            elif line:
                lines.append(line)
                line = ""
            else:  # a word wider than the picture
                fits = _letters_that_fit(word, width, size)
                lines.append(word[:fits])
                word = word[fits:]
    lines += [line] if line else []
    if len(lines) > max_lines:
        last = lines[max_lines - 1]
        while last and text_width(last + " …", size) > width:
            last = last[:-1]
        lines = [*lines[: max_lines - 1], last.rstrip() + " …"]
    return lines


def _letters_that_fit(word: str, width: float, size: float) -> int:
    """How many letters of a word `width` pixels hold; at least one."""
    taken = 0.0
    for count, letter in enumerate(word):
        taken += _advance(letter, size)
        if taken > width:
            return max(count, 1)
    return len(word)


def text_width(line: str, size: float) -> float:
    """Width of a line in pixels, letter by letter: kerning would make it a trifle narrower."""
    return sum(_advance(letter, size) for letter in line)


@lru_cache(maxsize=4096)
def _advance(letter: str, size: float) -> float:
    with quiet():
        between, without = (
            _ruler().get_text_width_height_descent(sample, _font(size), False)[0] for sample in (f"n{letter}n", "nn")
        )
    return between - without


@lru_cache(maxsize=1)
def _ruler() -> RendererAgg:
    return RendererAgg(1, 1, 72)


@lru_cache(maxsize=16)
def _font(size: float) -> FontProperties:
    installed = set(fontManager.get_font_names())
    return FontProperties(family=["DejaVu Sans", *(name for name in OTHER_FONTS if name in installed)], size=size)


@contextmanager
def quiet() -> Iterator[None]:
    """Letters that no installed font has are drawn as boxes; matplotlib would warn for each of them."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph .* missing")
        warnings.filterwarnings("ignore", message="constrained_layout not applied")  # signs that pile up above a letter
        yield
