"""A Gaussian along time over what was sampled."""

import math

import torch
from torch import Tensor


def smooth(features: Tensor, sigma: float) -> Tensor:
    """Features (T, D) under a Gaussian along time, `sigma` in frames, the first and last frame repeated beyond the ends."""
    kernel = smoothing_kernel(sigma).to(features)
    radius = len(kernel) // 2
    padded = torch.cat([features[:1].expand(radius, -1), features, features[-1:].expand(radius, -1)])  # (T + 2r, D)
    return padded.unfold(0, len(kernel), 1) @ kernel  # (T, D)


def smoothing_kernel(sigma: float) -> Tensor:
    """Weights (2 r + 1,) of a Gaussian of `sigma` frames; a single 1 where that is 0."""
    if not sigma:
        return torch.ones(1)
    radius = max(1, math.ceil(3 * sigma))
    kernel = torch.exp(-0.5 * (torch.arange(-radius, radius + 1, dtype=torch.float32) / sigma) ** 2)
    return kernel / kernel.sum()
