"""Edits of the predicted x0 that every sampler accepts (`edit_x0`): keeping given values, clipping.

The masks for them are made in data_loaders/edit_masks.py.
"""

from collections.abc import Callable

import torch
from torch import Tensor

from diffusion.gaussian import EditX0


def keep_given(given: Tensor, mask: Tensor) -> EditX0:
    """In-painting by replacement: predicted x0 takes the values of `given` wherever `mask` is True.

    Tevet et al. 2023, §4.1. The given part is not noised; root velocities are integrated later, so a given start
    fixes where a motion begins, and a given end does not fix where it stops.
    """
    mask = mask.bool()
    return lambda x0: torch.where(mask, given, x0)


def clip_x0(limit: float = 1.0) -> EditX0:
    """x0 limited to [−limit, limit]: for images; motion features are not bounded."""
    return lambda x0: x0.clamp(-limit, limit)


def in_order(*edits: Callable[[Tensor], Tensor] | None) -> EditX0 | None:
    """One edit that applies all given ones in turn; None where there is none."""
    chosen = [edit for edit in edits if edit is not None]
    if not chosen:
        return None

    def apply(x0: Tensor) -> Tensor:
        for edit in chosen:
            x0 = edit(x0)
        return x0

    return apply
