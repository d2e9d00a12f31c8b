"""Noise schedules and respacing: which steps there are and how much noise each of them adds. Everything in float64."""

import math
from collections.abc import Sequence
from itertools import pairwise

import numpy as np


def make_betas(schedule: str, num_timesteps: int) -> np.ndarray:
    """Variances β (T,) of the steps: "linear" (Ho et al. 2020, rescaled to T) or "cosine" (Nichol & Dhariwal 2021)."""
    if num_timesteps < 2:
        raise ValueError(f"a diffusion needs at least 2 steps, not {num_timesteps}")
    if schedule == "linear":
        scale = 1000 / num_timesteps
        if scale * 0.02 > 1:
            raise ValueError(f"the linear schedule needs at least 20 steps, not {num_timesteps}: use cosine")
        return np.linspace(scale * 0.0001, scale * 0.02, num_timesteps, dtype=np.float64)
    if schedule == "cosine":
        kept = [math.cos((i / num_timesteps + 0.008) / 1.008 * math.pi / 2) ** 2 for i in range(num_timesteps + 1)]
        return np.array([min(1 - after / before, 0.999) for before, after in pairwise(kept)])
    raise ValueError(f"unknown noise schedule {schedule!r}: expected cosine or linear")


def space_timesteps(num_timesteps: int, sections: str | int | Sequence[int]) -> list[int]:
    """Ascending indices of the kept steps of a schedule of `num_timesteps`.

    20 or "20": evenly spread, first and last included. "10,10,30": as many from each equal part.
    "ddim20": every n-th from 0, where an n exists that gives exactly 20.
    """
    if isinstance(sections, str) and sections.startswith("ddim"):
        count = _whole_number(sections[4:], sections)
        for stride in range(1, num_timesteps):
            if len(range(0, num_timesteps, stride)) == count:
                return list(range(0, num_timesteps, stride))
        raise ValueError(f'{num_timesteps} steps cannot be cut to exactly {count} by a whole stride: try "{count}"')
    if isinstance(sections, str):
        sections = [_whole_number(part, sections) for part in sections.split(",")]
    counts = [sections] if isinstance(sections, int) else list(sections)
    if not counts or min(counts) < 1:
        raise ValueError(f"cannot keep {sections!r} of {num_timesteps} steps: expected counts of at least 1")
    base, extra = divmod(num_timesteps, len(counts))
    kept, start = [], 0
    for part, count in enumerate(counts):
        size = base + (part < extra)
        if count > size:
            raise ValueError(f"cannot keep {count} steps of a part of {size} ({num_timesteps} steps in all)")
        stride = (size - 1) / (count - 1) if count > 1 else 1.0
        position = 0.0
        for _ in range(count):
            kept.append(start + round(position))
            position += stride  # summed, not multiplied: rounding must fall as in guided-diffusion
        start += size
    return sorted(set(kept))


def respace_betas(betas: np.ndarray, kept: Sequence[int]) -> np.ndarray:
    """β of the shorter process that visits only the `kept` steps: the same noise levels ᾱ at those steps."""
    alphas_cumprod = np.cumprod(1.0 - betas)[list(kept)]
    return 1.0 - alphas_cumprod / np.concatenate([[1.0], alphas_cumprod[:-1]])


def _whole_number(text: str, sections: str) -> int:
    try:
        return int(text)
    except ValueError:
        raise ValueError(f"cannot read {sections!r} as steps to keep: expected 20, 10,10,30 or ddim20") from None
