"""What steers a sampler: classifier-free guidance, with conditions stacked along the batch for one network call, blending of two
denoisers, and in-painting.
"""

import math
from collections.abc import Callable, Sequence
from typing import Literal

import torch
from torch import Tensor

from diffusion.gaussian import Denoise, EditX0

Scale = float | Tensor
BlendSchedule = Literal["exp", "exp-inv", "lin", "const"]
BLEND_HORIZON = 1000  # steps of the published schedules, whatever the diffusion's


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


def pass_weights(scales: Sequence[float]) -> dict[int, float]:
    """The passes of a network that guidance by several conditions asks for, and how much each counts: pass 0 without a condition,
    pass k under the k-th. u + Σ s_k (c_k − u), Liu et al. 2022 (composable diffusion), Eq. 11; what counts 0 is left out.
    """
    weights = (1 - math.fsum(scales), *scales)
    return {number: weight for number, weight in enumerate(weights) if weight}


def weighted(denoise: Denoise, weights: Sequence[float]) -> Denoise:
    """Denoiser of B samples, or what else asks a network of x and one time or two, from one that answers K·B rows, B for each of
    K passes: their weighted sum."""

    def denoise_weighted(x: Tensor, *times: Tensor) -> Tensor:
        rows = denoise(*(stack_conditions(each, len(weights)) for each in (x, *times)))  # (K B, ...)
        return sum(weight * answer for weight, answer in zip(weights, rows.chunk(len(weights)), strict=True))

    return denoise_weighted


def blend_share(schedule: BlendSchedule, value: float, t: Tensor) -> Tensor:
    """Share (B,), float64, of the second of two denoisers at original steps t (B,). Ruiz-Ponce et al. 2024, §3.3 (DualMDM)."""
    t = t.double()
    if schedule == "const":
        return torch.full_like(t, value)
    if schedule == "lin":
        return t / BLEND_HORIZON
    fallen = torch.exp(-value * (BLEND_HORIZON - t))
    return fallen if schedule == "exp" else 1 - fallen


def blended(first: Denoise, second: Callable[[Tensor, Tensor, Tensor], Tensor], share: Callable[[Tensor], Tensor]) -> Denoise:
    """first + w(t) (second − first), share(t) (B,) being w. `second(x, t, x0)` is told the x0 that `first` predicts."""

    def denoise(x: Tensor, t: Tensor) -> Tensor:
        x0 = first(x, t)
        return x0 + _per_sample(share(t), x) * (second(x, t, x0) - x0)

    return denoise


def held(denoise: Denoise, given: Tensor, columns: Sequence[int]) -> Denoise:
    """Denoiser that sees `columns` of x (B, T, D) as in `given` (B, T, D) at every step, not noised: InterGen's control of where
    people go, by the x and z of their pelvis. Its x0 of these columns is the network's.
    """
    columns = list(columns)

    def denoise_held(x: Tensor, t: Tensor) -> Tensor:
        x = x.clone()
        x[..., columns] = given[..., columns]
        return denoise(x, t)

    return denoise_held


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
