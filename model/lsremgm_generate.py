"""What sampling with LS-ReMGM is made of: the noise of a seed, piece after piece, smoothing.

Every sample draws its noise from its own seed, so it does not depend on the batch or on padding.
"""

import math
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from protos.randomness import derive_seed, seeded_randn


class LengthError(ValueError):
    """A length that the model cannot make."""


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


def autoregress(next_frames: Callable[[Tensor, int], Tensor], prefix: Tensor, required: int, pred_len: int) -> Tensor:
    """Frames (B, required, D) out of pieces (B, pred_len, D) that next_frames(prefix (B, context, D), call) makes.

    Each piece follows the last `context` frames of the one before. Tevet et al. 2025 (DiP), §3.
    """
    pieces, given = [], prefix
    for call in range(math.ceil(required / pred_len)):
        piece = next_frames(given, call)
        pieces.append(piece)
        given = torch.cat([given, piece], dim=1)[:, -prefix.shape[1]:]  # a piece may be shorter than the context
    return torch.cat(pieces, dim=1)[:, :required]
