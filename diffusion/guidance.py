"""What steers a sampler: classifier-free guidance, with conditions stacked along the batch for one network call, and
in-painting.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from diffusion.gaussian import Denoise, EditX0

Scale = float | Tensor


def guided(denoise: Denoise, scales: Scale | Sequence[Scale], nested: bool = False) -> Denoise:
    """Denoiser of B samples from one that answers (1 + K)·B rows: B unconditional, then B for each of K conditions.

    Ho & Salimans 2022: u + Σ s_k (c_k − u); `nested` measures each condition from the one before it instead,
    u + s_1 (c_1 − u) + s_2 (c_2 − c_1) ..., for conditions that include each other. A scale is a number or one per
    sample (B,); scale 1 for a single condition gives c, scale 0 gives u. Conditions are stacked once, by the caller
    (`stack_conditions`), not at every step.
    """
    scales = list(scales) if isinstance(scales, (list, tuple)) else [scales]

    def denoise_guided(x: Tensor, t: Tensor) -> Tensor:
        copies = 1 + len(scales)
        rows = denoise(x.repeat(copies, *[1] * (x.dim() - 1)), t.repeat(copies))  # ((1 + K) B, ...)
        unconditional, *conditional = rows.chunk(copies)
        guided_x = reference = unconditional
        for scale, answer in zip(scales, conditional):
            guided_x = guided_x + _per_sample(scale, x) * (answer - reference)
            reference = answer if nested else unconditional
        return guided_x

    return denoise_guided


def stack_conditions(condition: Tensor | None, copies: int) -> Tensor | None:
    """`condition` (B, ...) repeated for each block of rows that `guided` asks for, (copies · B, ...)."""
    return None if condition is None else condition.repeat(copies, *[1] * (condition.dim() - 1))


def dropped_rows(batch: int, copies: int = 2, device: torch.device | str | None = None) -> Tensor:
    """Which rows (copies · B,) are unconditional: True for the first B."""
    return torch.arange(copies * batch, device=device) < batch


def _per_sample(scale: Scale, x: Tensor) -> Scale:
    if not isinstance(scale, Tensor) or scale.dim() == 0:
        return scale
    if scale.shape != (x.shape[0],):
        raise ValueError(f"guidance scales of shape {tuple(scale.shape)} for {x.shape[0]} samples: expected one each")
    return scale.to(x).reshape(-1, *[1] * (x.dim() - 1))


def keep_given(given: Tensor, mask: Tensor) -> EditX0:
    """In-painting by replacement: predicted x0 (B, ...) takes the values of `given` wherever `mask` is True.

    For `edit_x0` of every sampler; the masks are made in data_loaders/edit_masks.py. Tevet et al. 2023, §4.1. The given part is
    not noised; root velocities are integrated later, so a given start fixes where a motion begins, and a given end does not fix
    where it stops.
    """
    mask = mask.bool()
    return lambda x0: torch.where(mask, given, x0)
