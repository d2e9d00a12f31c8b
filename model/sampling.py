"""How a model of diffusion makes what is asked: lengths, strength of guidance, noise by seeds, steps, edits, smoothing.

Every sample draws its noise from its own seed, so it does not depend on the batch or on padding.
"""

import logging
import math
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from data_loaders.edit_masks import EditError
from data_loaders.features import Features
from diffusion.gaussian import Denoise, EditX0
from diffusion.guidance import keep_given
from diffusion.samplers import Noise, sample
from model.capabilities import Decoding, Guidance, Request
from model.model import Model
from protos.randomness import derive_seed, seeded_randn

log = logging.getLogger(__name__)


class LengthError(ValueError):
    """A length that the model cannot make."""


def check_lengths(lengths: Sequence[int], features: Features, longest: int | None) -> None:
    """LengthError unless every length can be made: 1 to `longest` frames, None being without an end."""
    for length in lengths:
        if length < 1 or (longest is not None and length > longest):
            fps = features.fps
            limit = "" if longest is None else f" to {longest} ({longest / fps:.1f} s at {fps:g} frames per second)"
            raise LengthError(f"this model makes motions of 1{limit} frames, not {length}")


def scale_of(model: Model, decoding: Decoding) -> float:
    """The guidance scale to use; 1 for a model that never learned to do without its condition."""
    asked, own = decoding.guidance_scale, model.config.own_guidance
    if isinstance(asked, Guidance):
        raise ValueError("this model reads one text: give one guidance scale")
    scale = model.config.guidance_scale if asked is None else float(asked)
    if not math.isfinite(scale):
        raise ValueError(f"guidance scale {scale}: expected a finite number")
    if own is None and asked is not None and scale != 1:
        none = model.config.condition == "none"
        why = "has no condition to follow" if none else "was trained with its condition always present"
        log.warning("guidance scale %g is ignored: this model %s", scale, why)
    return 1.0 if own is None else scale


def run(model: Model, denoise: Denoise, shape: tuple[int, ...], noise: Noise, decoding: Decoding,
        edit_x0: EditX0 | None = None) -> Tensor:
    """A sample of `shape` (B, T, D) of the model's diffusion by the sampler and in the steps that are asked for, else its own."""
    start = noise(torch.empty(shape, device=model.device))
    sampler = decoding.sampler or model.config.sampler
    if decoding.eta and sampler != "ddim":
        raise ValueError(f"eta {decoding.eta:g}: only the sampler ddim takes it, not {sampler}")
    if decoding.order is not None and sampler not in ("plms", "dpmpp"):
        raise ValueError(f"order {decoding.order}: only the samplers plms and dpmpp take it, not {sampler}")
    steps = model.config.sampling_steps if decoding.sampling_steps is None else decoding.sampling_steps
    if isinstance(steps, int):
        steps = spaced(steps, model.config.spacing, model.diffusion.num_timesteps)
    return sample(denoise, start, model.diffusion, sampler=sampler, sampling_steps=steps, noise=noise,
                  eta=decoding.eta or 0.0, order=decoding.order, edit_x0=edit_x0, on_step=decoding.on_step)


def spaced(count: int, spacing: str, of: int) -> int | str:
    """Which `count` of the steps of a diffusion, as `space_timesteps` reads it; even ones where no whole stride gives so many."""
    if spacing == "trailing":
        return f"trailing{count}"
    return f"ddim{count}" if spacing == "strided" and math.ceil(of / math.ceil(of / count)) == count else count


def edit_of(model: Model, requests: Sequence[Request], frames: int) -> EditX0 | None:
    """Replacement of the kept part of x0 (B, T, D), padded or cut to `frames`; None where nothing is given."""
    if all(request.motion is None for request in requests):
        return None
    motion = torch.zeros(len(requests), frames, model.num_channels, device=model.device)
    keep = torch.zeros_like(motion, dtype=torch.bool)
    for row, request in enumerate(requests):
        if request.motion is None:
            continue
        if request.keep is None:
            raise EditError("an edit needs `keep` beside the motion: True where the motion stays")
        given = min(len(request.motion), frames)
        motion[row, :given] = model.normalise(request.motion[:given].to(model.device))
        keep[row, :given] = request.keep[:given].to(model.device)
    return keep_given(motion, keep)


def smooth(features: Tensor, sigma: float) -> Tensor:
    """Features (T, D) under a Gaussian along time, `sigma` in frames, the first and last frame repeated beyond the ends."""
    radius = max(1, math.ceil(3 * sigma))
    offsets = torch.arange(-radius, radius + 1, device=features.device, dtype=features.dtype)
    kernel = torch.exp(-0.5 * (offsets / sigma) ** 2)
    padded = torch.cat([features[:1].expand(radius, -1), features, features[-1:].expand(radius, -1)])  # (T + 2r, D)
    return padded.unfold(0, 2 * radius + 1, 1) @ (kernel / kernel.sum())  # (T, D)


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
