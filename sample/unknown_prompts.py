"""Prompts beyond what a checkpoint learnt from, told before motions are made of them."""

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from protos.reading import FileError

if TYPE_CHECKING:
    from model.capabilities import Generates

log = logging.getLogger(__name__)
MOST_LINES = 5
LONGEST_SHOWN = 80  # characters of a prompt


def unknown_prompts(checkpoint: Path, prompts: Sequence[str], networks: "Generates") -> list[str]:
    """A line for each prompt that lies outside what a checkpoint's captions say, naming the nearest that they do.

    None where the checkpoint has no sketch of its captions; where that is damaged the log says so, and motions are made all
    the same.
    """
    from model.known_texts import KnownTexts
    from model.run_folder import checkpoint_in

    try:
        sketch = KnownTexts.beside(checkpoint_in(checkpoint)) if networks.config.reads_text else None
    except (FileError, OSError) as error:
        log.error("%s; prompts beyond these weights are not told", error)
        return []
    if sketch is None:
        return []
    distinct = list(dict.fromkeys(prompts))
    verdicts = zip(distinct, sketch.judge(distinct), strict=True)
    return [_line(prompt, verdict.part, verdict.nearest) for prompt, verdict in verdicts if verdict.outside]


def warn(lines: Sequence[str]) -> None:
    """The first lines as warnings, and how many more there are."""
    for line in lines[:MOST_LINES]:
        log.warning("%s", line)
    if len(lines) > MOST_LINES:
        log.warning("%d more prompts lie outside what these weights know", len(lines) - MOST_LINES)


def _line(prompt: str, part: str, nearest: Sequence[str]) -> str:
    known = f"; nearest to that they know: {'; '.join(nearest)}" if nearest else ""
    return f'"{_short(prompt)}" lies outside what these weights know (farthest: {_short(part)}){known}'


def _short(text: str) -> str:
    return text if len(text) <= LONGEST_SHOWN else f"{text[: LONGEST_SHOWN - 1]}…"
