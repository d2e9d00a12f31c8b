"""The rules of the published loaders of HumanML3D and KIT-ML: which clips count, and how they are cropped.

Rules and the order of random draws are those of text-to-motion (Guo et al. 2022), because published numbers depend on both.
Training of our own models draws its samples from `data_loaders.batches`.
"""

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np

from data_loaders.clips import Clips, LeftOut, readable_motions
from data_loaders.text import Caption
from protos.reading import FileError

log = logging.getLogger(__name__)
T = TypeVar("T")

MAX_FRAMES = 196
UNIT_LENGTH = 4
TAG_FPS = 20.0  # the published loaders turn the seconds of a caption into frames with 20 for KIT too
COIN = ("single", "single", "double")
PART_LETTERS = "ABCDEFGHIJKLMNOPQRSTUVW"


class LoaderDraws:
    """The random choices of a loader, from one numpy Generator."""

    def __init__(self, generator: np.random.Generator):
        self.generator = generator

    def choice(self, options: Sequence[T]) -> T:
        return options[int(self.generator.integers(len(options)))]

    def randint(self, low: int, high: int) -> int:
        """An integer of low..high, both included."""
        return int(self.generator.integers(low, high + 1))

    def coin(self) -> str:
        """Two in three 'single', one in three 'double': how many units are cut off a clip."""
        return self.choice(COIN)


@dataclass(frozen=True)
class CaptionedMotion:
    """A clip, or a captioned part of one, with the captions that describe all of it. motion (T, D), not normalised."""

    name: str
    motion: np.ndarray
    captions: tuple[Caption, ...]
    part_of: str = ""

    @property
    def clip(self) -> str:
        """The name of the clip that it is, or is a part of."""
        return self.part_of or self.name


def _too_short_or_long(frames: int, limits: tuple[int, int]) -> str | None:
    if frames < limits[0]:
        return f"too short: {frames} frames, {limits[0]} needed"
    return f"too long: {frames} frames, below {limits[1]} needed" if frames >= limits[1] else None


def select_entries(
    clips: Clips, limits: tuple[int, int], num_features: int, draws: LoaderDraws, tag_fps: float = TAG_FPS
) -> tuple[list[CaptionedMotion], LeftOut]:
    """Entries by rising length (ties in split order) of the clips with limits[0] <= frames < limits[1].

    A caption with times makes an entry of its own, named by a drawn letter; the rest of a clip's captions share one.
    Raises ValueError where no clip is left.
    """
    report, entries, taken = LeftOut(), [], set()
    for name, motion in readable_motions(clips, num_features, report):
        if reason := _too_short_or_long(len(motion), limits):
            report.add(name, reason)
            continue
        try:
            captions = clips.captions(name)
        except (KeyError, OSError, FileError) as error:
            report.add(name, f"without caption: {error}")
            continue
        for caption in captions:
            if caption.whole:
                continue
            part = motion[int(caption.start * tag_fps) : int(caption.end * tag_fps)]
            if reason := _too_short_or_long(len(part), limits):
                report.add(f"{name} at {caption.start:g}-{caption.end:g} s", reason)
                continue
            part_name = f"{draws.choice(PART_LETTERS)}_{name}"
            while part_name in taken:
                part_name = f"{draws.choice(PART_LETTERS)}_{name}"
            taken.add(part_name)
            entries.append(CaptionedMotion(part_name, part, (caption,), name))
        if whole := tuple(caption for caption in captions if caption.whole):
            entries.append(CaptionedMotion(name, motion, whole))
        elif not captions:
            report.add(name, "without caption")
    if not entries:
        raise ValueError(f"none of the {len(clips.names)} clips that the split lists can be used: {report}")
    log.info("%d entries; %s", len(entries), report)
    return sorted(entries, key=lambda entry: len(entry.motion)), report


def crop(frames: int, unit_length: int, draws: LoaderDraws) -> tuple[int, int]:
    """(start, length) of the published random crop: all whole units, or one fewer in a third of the draws."""
    coin = draws.coin() if unit_length < 10 else "single"
    length = (frames // unit_length - (coin == "double")) * unit_length
    return draws.randint(0, frames - length), length
