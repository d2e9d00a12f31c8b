"""Samplers: from noise to a sample, each a generator of steps over `denoise(x, t)`; `sample` is the one entry.

x_{k−1} is a combination of x_k, the network's x0 and fresh noise, whose weights are plain floats from float64 tables,
so a step costs a few passes over x beside the network. Every sampler visits the same steps: T−1 ... 0 of a (respaced)
Diffusion, ending at ᾱ = 1; `consistency`, which stands still at the original step 0, the trailing ones.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from diffusion.gaussian import Denoise, Diffusion, EditX0
from protos.randomness import derive_seed, randn, seeded_randn

Noise = Callable[[Tensor], Tensor]  # x -> noise of its shape, a new draw at each call
SamplerName = Literal["ddpm", "ddim", "plms", "dpmpp", "consistency"]
SAMPLERS: tuple[SamplerName, ...] = SamplerName.__args__

# Adams–Bashforth weights of the newest noise prediction first. Liu et al. 2022 (PNDM), Eq. 12 for order 4.
ADAMS_BASHFORTH = {
    1: (1.0,), 2: (3 / 2, -1 / 2), 3: (23 / 12, -16 / 12, 5 / 12), 4: (55 / 24, -59 / 24, 37 / 24, -9 / 24)
}

CONSISTENCY_SIGMA, CONSISTENCY_STEP_SCALE = 0.5, 10.0  # of the data, and by which steps are multiplied. Luo et al. 2023


@dataclass(frozen=True)
class SampledStep:
    """State after step `index` (T−1 ... 0): x is x_{index−1}, or the sample at index 0; x0 is what the network saw."""

    index: int
    x: Tensor
    x0: Tensor


def ddpm_steps(denoise: Denoise, x: Tensor, diffusion: Diffusion, noise: Noise, *, first: int | None = None,
               edit_x0: EditX0 | None = None) -> Iterator[SampledStep]:
    """Ancestral sampling, Ho et al. 2020, Algorithm 2: fresh noise at every step but the last."""
    for k in _descending(diffusion, first):
        reverse = diffusion.p_mean_variance(denoise, x, k, edit_x0)
        x = add_noise(reverse.mean, reverse.log_variance, noise(x)) if k else reverse.mean
        yield SampledStep(k, x, reverse.x0)


def ddim_steps(denoise: Denoise, x: Tensor, diffusion: Diffusion, noise: Noise | None = None, *, eta: float = 0.0,
               first: int | None = None, edit_x0: EditX0 | None = None) -> Iterator[SampledStep]:
    """Song et al. 2021, Eq. 12: deterministic at eta 0, as noisy as ancestral sampling at eta 1."""
    for k in _descending(diffusion, first):
        x0 = diffusion.predict_x0(denoise, x, k, edit_x0)
        x, sigma = ddim_update(diffusion, x, x0, k, eta)
        if sigma and k:
            x = x + sigma * noise(x)
        yield SampledStep(k, x, x0)


def plms_steps(denoise: Denoise, x: Tensor, diffusion: Diffusion, *, order: int = 4, first: int | None = None,
               edit_x0: EditX0 | None = None) -> Iterator[SampledStep]:
    """Liu et al. 2022 as in guided-diffusion: one improved-Euler step, then Adams–Bashforth on the noise predictions.

    The last step returns x0. The first step asks the network twice.
    """
    if order not in (2, 3, 4):
        raise ValueError(f"plms has orders 2, 3 and 4, not {order}: use ddim for order 1")
    recent: list[Tensor] = []  # noise predictions, newest first
    for k in _descending(diffusion, first):
        x0 = diffusion.predict_x0(denoise, x, k, edit_x0)
        if k == 0:
            x = x0
        else:
            eps = diffusion.eps_from_x0(x, k, x0)
            recent = [eps, *recent[: order - 1]]
            if len(recent) == 1:
                ahead, _ = ddim_update(diffusion, x, x0, k)
                eps_ahead = diffusion.eps_from_x0(ahead, k - 1, diffusion.predict_x0(denoise, ahead, k - 1, edit_x0))
                slope = (eps + eps_ahead) / 2
            else:
                slope = sum(weight * past for weight, past in zip(ADAMS_BASHFORTH[len(recent)], recent))
            x, _ = ddim_update(diffusion, x, diffusion.x0_from_eps(x, k, slope), k)
        yield SampledStep(k, x, x0)


def dpmpp_steps(denoise: Denoise, x: Tensor, diffusion: Diffusion, *, order: int = 2, first: int | None = None,
                edit_x0: EditX0 | None = None) -> Iterator[SampledStep]:
    """DPM-Solver++(2M), Lu et al. 2022, Algorithm 2: multistep in the half log-SNR λ, on x0 predictions.

    First order, which is DDIM at eta 0, for the first step and for the last, where λ is infinite. Unlike the paper it
    extrapolates no further than the previous step was long: with few evenly spaced steps λ leaps at the end, and the
    plain formula then overshoots (3 times the error on a bimodal density, cosine-1000 in 20 steps).
    """
    if order not in (1, 2):
        raise ValueError(f"dpmpp has orders 1 and 2, not {order}")
    previous, previous_h = None, 0.0
    for k in _descending(diffusion, first):
        x0 = diffusion.predict_x0(denoise, x, k, edit_x0)
        if k == 0:
            x = x0
        else:
            h = half_log_snr(diffusion, k - 1) - half_log_snr(diffusion, k)
            data = x0
            if previous is not None and order == 2:
                extrapolation = min(h / (2 * previous_h), 1.0)
                data = (1 + extrapolation) * x0 - extrapolation * previous
            sigma_ratio = math.sqrt((1 - diffusion.alphas_cumprod[k - 1]) / (1 - diffusion.alphas_cumprod[k]))
            x = sigma_ratio * x - float(diffusion.sqrt_alphas_cumprod[k - 1]) * math.expm1(-h) * data
            previous, previous_h = x0, h
        yield SampledStep(k, x, x0)


def consistency_steps(denoise: Denoise, x: Tensor, diffusion: Diffusion, noise: Noise, *, first: int | None = None,
                      edit_x0: EditX0 | None = None) -> Iterator[SampledStep]:
    """Song et al. 2023, Algorithm 1: the whole way in one step, then from the next noise level again, with fresh noise.

    For networks that were distilled to go the whole way (diffusion/distillation.py): others blur.
    """
    for k in _descending(diffusion, first):
        x0 = consistency_x0(denoise, x, diffusion, k, edit_x0)
        x = diffusion.q_sample(x0, k - 1, noise(x)) if k else x0
        yield SampledStep(k, x, x0)


def consistency_x0(denoise: Denoise, x: Tensor, diffusion: Diffusion, t: int | Tensor, edit_x0: EditX0 | None = None) -> Tensor:
    """Where the probability flow through x (B, ...) at step t ends: f = c_skip x + c_out x0, at the original step 0 x itself.

    Luo et al. 2023, §4.1, with the constants of its code: beyond the first steps it is the network's x0.
    """
    steps = CONSISTENCY_STEP_SCALE * diffusion.original_steps(t, x).reshape(-1, *[1] * (x.dim() - 1))  # (B, 1, ...), float32
    total = steps**2 + CONSISTENCY_SIGMA**2
    skip, out = ((share / total).to(x.dtype) for share in (CONSISTENCY_SIGMA**2, steps * total.sqrt()))
    found = skip * x + out * diffusion.predict_x0(denoise, x, t)
    return found if edit_x0 is None else edit_x0(found)


def add_noise(mean: Tensor, log_variance: Tensor | float, noise: Tensor) -> Tensor:
    """A draw from N(mean, exp(log_variance))."""
    if isinstance(log_variance, float):
        return mean + math.exp(0.5 * log_variance) * noise
    return mean + torch.exp(0.5 * log_variance) * noise


def ddim_update(diffusion: Diffusion, x: Tensor, x0: Tensor, t: int | Tensor, eta: float = 0.0) -> tuple:
    """Mean of x_{t−1} and the standard deviation σ of its noise. Song et al. 2021, Eq. 12 and 16."""
    signal, before = diffusion.at("alphas_cumprod", t, x), diffusion.at("alphas_cumprod_prev", t, x)
    sigma = eta * _root((1 - before) / (1 - signal)) * _root(1 - signal / before)
    eps = diffusion.eps_from_x0(x, t, x0)
    return _root(before) * x0 + _root(_floor(1 - before - sigma**2)) * eps, sigma


def ddim_reverse_update(diffusion: Diffusion, x: Tensor, x0: Tensor, t: int | Tensor) -> Tensor:
    """x_{t+1} on the deterministic path through x: DDIM at eta 0, from a sample to its noise."""
    after = diffusion.at("alphas_cumprod_next", t, x)
    return _root(after) * x0 + _root(1 - after) * diffusion.eps_from_x0(x, t, x0)


def half_log_snr(diffusion: Diffusion, k: int) -> float:
    """λ = log(√ᾱ / √(1−ᾱ)) at step k; −∞ where ᾱ is 0."""
    signal = diffusion.alphas_cumprod[k]
    return 0.5 * (math.log(signal) - math.log1p(-signal)) if signal > 0 else -math.inf


@torch.no_grad()
def sample_steps(denoise: Denoise, start: Tensor | Sequence[int], diffusion: Diffusion, *,
                 sampler: SamplerName = "ddim", sampling_steps: int | str | None = None,
                 noise: Noise | torch.Generator | Sequence[torch.Generator] | None = None,
                 eta: float = 0.0, order: int | None = None, edit_x0: EditX0 | None = None,
                 init: Tensor | None = None, skip_timesteps: int = 0,
                 device: torch.device | str | None = None) -> Iterator[SampledStep]:
    """Every step of `sample`, whose arguments it takes."""
    if sampler not in SAMPLERS:
        raise ValueError(f"unknown sampler {sampler!r}: expected one of {', '.join(SAMPLERS)}")
    if sampling_steps is not None:
        # One step is the last, of most noise: respacing as published would keep the first.
        plain = str(sampling_steps).isdecimal() and (sampler == "consistency" or int(sampling_steps) == 1)
        diffusion = diffusion.respaced(f"trailing{sampling_steps}" if plain else sampling_steps)
    if not 0 <= skip_timesteps < diffusion.num_timesteps:
        raise ValueError(f"cannot skip {skip_timesteps} of {diffusion.num_timesteps} sampling steps")
    draw = noise_function(noise)
    x = start if isinstance(start, Tensor) else draw(torch.empty(*start, device=device))
    first = diffusion.num_timesteps - 1 - skip_timesteps
    if init is not None or skip_timesteps:
        x = diffusion.q_sample(torch.zeros_like(x) if init is None else init.to(x), first, x)
    common = {"first": first, "edit_x0": edit_x0}
    if sampler == "ddpm":
        yield from ddpm_steps(denoise, x, diffusion, draw, **common)
    elif sampler == "ddim":
        yield from ddim_steps(denoise, x, diffusion, draw, eta=eta, **common)
    elif sampler == "consistency":
        yield from consistency_steps(denoise, x, diffusion, draw, **common)
    elif sampler == "plms":
        yield from plms_steps(denoise, x, diffusion, order=4 if order is None else order, **common)
    else:
        yield from dpmpp_steps(denoise, x, diffusion, order=2 if order is None else order, **common)


def sample(denoise: Denoise, start: Tensor | Sequence[int], diffusion: Diffusion, *,
           on_step: Callable[[SampledStep], None] | None = None, **settings) -> Tensor:
    """A sample (B, ...) by `sampler` (ddpm, ddim, plms, dpmpp, consistency) in `sampling_steps` steps (all of them where None).

    `start` is x_T, or the shape to draw it in (on `device`). `noise` is a generator per sample (a sample is then the
    same whatever the batch size), one generator for all, or a function x -> noise; ddpm, consistency, and ddim with eta > 0,
    draw from it at every step. `eta` belongs to ddim, `order` to plms (2–4, default 4) and dpmpp. `edit_x0` changes every
    predicted x0 (in-painting: diffusion.guidance). With `init` the process starts at a noised init, after
    leaving out the first `skip_timesteps` steps. `on_step` sees each SampledStep.

    >>> sample(denoise, (8, 196, 263), diffusion, sampler="ddim", sampling_steps=20, noise=sample_generators(10, range(8)))
    """
    step = None
    for step in sample_steps(denoise, start, diffusion, **settings):
        if on_step is not None:
            on_step(step)
    return step.x


def noise_function(noise: Noise | torch.Generator | Sequence[torch.Generator] | None) -> Noise:
    """x -> noise like x, from a function, one generator, or a generator per sample; an error at first use for None."""
    if isinstance(noise, (torch.Generator, Sequence)):
        return lambda x: randn(noise, x.shape, device=x.device, dtype=x.dtype)
    if noise is None:
        return _no_noise
    return noise


def sample_noise(seeds: Sequence[int], *context: int) -> Callable[[Tensor], Tensor]:
    """x -> noise like x, made on its device, a new draw at each call. Row b depends on seeds[b] and the number of the call
    only.

    A seed per draw, not one per sample: so a shorter row of a padded batch gets the same numbers.
    """
    calls = iter(range(1 << 30))

    def draw(x: Tensor) -> Tensor:
        call = next(calls)
        return seeded_randn([derive_seed(int(seed), *context, call) for seed in seeds], x.shape, x.device).to(x.dtype)

    return draw


def _no_noise(x: Tensor) -> Tensor:
    raise ValueError("this sampler draws noise: pass noise=, a generator per sample or a function")


def _descending(diffusion: Diffusion, first: int | None) -> range:
    return range(diffusion.num_timesteps - 1 if first is None else first, -1, -1)


def _root(value: float | Tensor) -> float | Tensor:
    """The square root, rounded to the nearest on every CPU: torch's own float32 root may be off by its last bit, and the
    variance that is left after η = 1 makes 1e-5 of that."""
    return math.sqrt(value) if isinstance(value, float) else value.double().sqrt().to(value.dtype)


def _floor(value: float | Tensor) -> float | Tensor:
    """Not below 0, where eta > 1 or rounding would make a variance negative."""
    return max(value, 0.0) if isinstance(value, float) else value.clamp(min=0)
