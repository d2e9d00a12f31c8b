"""A sampler as numbers: what other programs need to run it around a network of their own, without a line of torch.

Each step of ddpm, ddim, dpmpp and consistency weighs the same few arrays, whatever the network predicts:

    x0 = x0_of_x · x + x0_of_output · output
    x  = next_of_x · x + next_of_x0 · x0 + next_of_previous · (x0 of the step before) + next_of_noise · noise

The weights are read off the samplers themselves (`diffusion/samplers.py`), which are run once on random vectors.
"""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from diffusion.gaussian import Diffusion
from diffusion.samplers import SamplerName, sample_steps

PROBED = 64  # numbers of a random vector: far more than there are weights to tell
CLOSE = 1e-9  # of a step and what the weights make of it, relative


def linear_steps(diffusion: Diffusion, sampler: SamplerName, sampling_steps: int | str | None = None) -> dict[str, np.ndarray]:
    """Weights (S,) float64 by the names above, and `timesteps` (S,) int64 that the network is told, in the order of the steps.

    ValueError for a sampler whose steps look back further (plms).
    """
    draws = torch.Generator().manual_seed(0)
    told: list[int] = []
    outputs: list[Tensor] = []
    noises: list[Tensor | None] = []

    def fresh() -> Tensor:
        return torch.randn(1, PROBED, generator=draws, dtype=torch.float64)

    def denoise(x: Tensor, t: Tensor) -> Tensor:
        told.append(int(t[0]))
        outputs.append(fresh())
        noises.append(None)
        return outputs[-1]

    def noise(x: Tensor) -> Tensor:
        noises[-1] = fresh()
        return noises[-1]

    x, before, rows = fresh(), None, []
    for step in sample_steps(denoise, x, diffusion, sampler=sampler, sampling_steps=sampling_steps, noise=noise):
        if len(outputs) != len(rows) + 1:
            raise ValueError(_too_far(sampler))
        of_x0 = weights_of(step.x0, [x, outputs[-1]], sampler)
        rows.append(of_x0 + weights_of(step.x, [x, step.x0, before, noises[-1]], sampler))
        x, before = step.x, step.x0
    names = ("x0_of_x", "x0_of_output", "next_of_x", "next_of_x0", "next_of_previous", "next_of_noise")
    return {"timesteps": np.array(told, np.int64), **dict(zip(names, np.array(rows, np.float64).T, strict=True))}


def weights_of(made: Tensor, terms: Sequence[Tensor | None], sampler: str) -> list[float]:
    """How much of each term is in what was made of them; 0 of one that is None. ValueError where that is not all of it."""
    there = [term for term in terms if term is not None]
    basis = torch.cat(there).T.numpy()  # (PROBED, terms)
    found = np.linalg.lstsq(basis, made[0].numpy(), rcond=None)[0]
    if np.abs(basis @ found - made[0].numpy()).max() > CLOSE * max(1.0, float(made.abs().max())):
        raise ValueError(_too_far(sampler))
    left = iter(found.tolist())
    return [0.0 if term is None else next(left) for term in terms]


def _too_far(sampler: str) -> str:
    return f"a step of the sampler {sampler} looks back further than one step: use ddim, dpmpp or ddpm"
