"""What sampling with LS-ReMGM is made of: what may be given beside a text, the noise of a seed, piece after piece, smoothing.

Every sample draws its noise from its own seed, so it does not depend on the batch or on padding.
"""

import logging
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from data_loaders.edit_masks import TargetLocation
from protos.randomness import derive_seed, seeded_randn

log = logging.getLogger(__name__)

Texts = Sequence[str] | Sequence[Sequence[str]]


class LengthError(ValueError):
    """A length that the model cannot make."""


@dataclass(frozen=True)
class Extras:
    """What a sample may be given beside its text; every tensor has one row per sample.

    `motion` (B, T, F) in feature units with `keep` (B, T, F or 1) True where it stays: an edit. `prefix`
    (B, context, F) in feature units: how a DiP model's motion begins, part of the result with `include_prefix`.
    `target`: where it ends. `actions` (B,): what an action model makes.
    """

    motion: Tensor | None = None
    keep: Tensor | None = None
    prefix: Tensor | None = None
    target: TargetLocation | None = None
    actions: Tensor | None = None
    include_prefix: bool = False

    def rows(self, rows: slice) -> "Extras":
        target = self.target and TargetLocation(self.target.values[rows], self.target.valid[rows])
        motion, keep, prefix, actions = (
            None if x is None else x[rows] for x in (self.motion, self.keep, self.prefix, self.actions))
        return Extras(motion, keep, prefix, target, actions, self.include_prefix)


NO_EXTRAS = Extras()


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


def autoregress(next_frames: Callable[[Tensor, int], Tensor], prefix: Tensor, required: int, pred_len: int,
                include_prefix: bool = False) -> Tensor:
    """Frames (B, required, D) out of pieces (B, pred_len, D) that next_frames(prefix (B, context, D), call) makes.

    Each piece follows the last `context` frames of the one before. With `include_prefix` the given prefix is counted
    as the first of the required frames. Tevet et al. 2025 (DiP), §3.
    """
    pieces, given = [], prefix
    for call in range(math.ceil(required / pred_len)):
        piece = next_frames(given, call)
        pieces.append(piece)
        given = torch.cat([given, piece], dim=1)[:, -prefix.shape[1]:]  # a piece may be shorter than the context
    return torch.cat([prefix, *pieces] if include_prefix else pieces, dim=1)[:, :required]
