"""What the evaluator is trained with: a movement autoencoder, then a margin between texts and motions. Guo et al. 2022."""

import torch
from torch import Tensor, nn

MARGIN = 10.0
DISTANCE_EPS = 1e-6  # added to every component of a difference, so that equal vectors have a gradient
SPARSITY, SMOOTHNESS = 1e-3, 1e-3


def distances(a: Tensor, b: Tensor) -> Tensor:
    """Euclidean distances (B,) of aligned rows of a and b (B, C)."""
    return (a - b + DISTANCE_EPS).norm(dim=-1)


def pull(a: Tensor, b: Tensor) -> Tensor:
    """Mean squared distance of rows that belong together. Hadsell et al. 2006, Eq. 4, similar pairs."""
    return distances(a, b).square().mean()


def push(a: Tensor, b: Tensor, margin: float = MARGIN) -> Tensor:
    """Mean squared lack of distance of rows that do not: those farther apart than `margin` count nothing."""
    return (margin - distances(a, b)).clamp(min=0).square().mean()


def draw_shift(batch: int, generator: torch.Generator | None = None) -> int:
    """How far motions are shifted against their texts to make negatives: 1 to batch - 1.

    The published code draws from 0 to batch - 2: every (batch - 1)-th step it pushes pairs apart that belong together.
    """
    if batch < 2:
        raise ValueError("negatives need a batch of at least 2 motions")
    return int(torch.randint(1, batch, (1,), generator=generator))


def matching_loss(text: Tensor, motion: Tensor, shift: int, margin: float = MARGIN) -> dict[str, Tensor]:
    """Terms between embeddings (B, C): `positive` of aligned rows, `negative` with the motions of row i + shift."""
    return {"positive": pull(text, motion), "negative": push(text, motion.roll(-shift, dims=0), margin)}


def movement_loss(encoder: nn.Module, decoder: nn.Module, motion: Tensor, contacts: int = 4) -> dict[str, Tensor]:
    """Weighted terms of the movement autoencoder on normalised windows (B, T, D): the last columns, `contacts`, are made, but
    not read.
    """
    latents = encoder(motion[..., :-contacts])  # (B, T/4, C)
    return {
        "reconstruction": (decoder(latents) - motion).abs().mean(),
        "sparsity": SPARSITY * latents.abs().mean(),
        "smoothness": SMOOTHNESS * latents.diff(dim=1).abs().mean(),
    }
