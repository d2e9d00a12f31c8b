"""Encoder and decoder of a motion tokenizer: residual convolutions over time, dilated, on levels of half the frame rate each.

Zhang et al. 2023 (T2M-GPT), §3.1; LaMP and MoMask take it over. Tokens are (B, N, C); `keep` (B, T) is True at real frames, so
that a motion of a padded batch has the codes that it has alone. Without it padding counts, as published.
"""

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from model.layers import TimeConv
from model.quantizers import Codebooks
from model.vqvae_config import TokenizerConfig, VQVAEConfig


class DilatedBlock(nn.Module):
    """x + conv(act(dilated conv(act(x))))."""

    def __init__(self, config: TokenizerConfig, dilation: int):
        super().__init__()
        self.act = getattr(F, config.activation)
        self.conv1 = TimeConv(config.width, config.width, 3, dilation)
        self.conv2 = TimeConv(config.width, config.width, 1)
        self.dropout = nn.Dropout(config.dropout)

    def forward(self, x: Tensor, keep: Tensor | None) -> Tensor:
        y = zeroed(self.conv1(self.act(x)), keep)
        return x + zeroed(self.dropout(self.conv2(self.act(y))), keep)


class Level(nn.Module):
    """Blocks of falling dilation, and the convolution that leads to the next level or away from it."""

    def __init__(self, config: TokenizerConfig, down: bool):
        super().__init__()
        self.conv = TimeConv(config.width, config.width, 4, stride=2) if down else TimeConv(config.width, config.width, 3)
        self.blocks = nn.ModuleList(DilatedBlock(config, config.dilation_growth**i) for i in reversed(range(config.depth)))

    def forward(self, x: Tensor, keep: Tensor | None) -> Tensor:
        for block in self.blocks:
            x = block(x, keep)
        return x


class Encoder(nn.Module):
    """Latents (B, T / 2^levels, C) of normalised motion (B, T, D)."""

    def __init__(self, config: TokenizerConfig, num_features: int):
        super().__init__()
        self.first = TimeConv(num_features, config.width, 3)
        self.levels = nn.ModuleList(Level(config, down=True) for _ in range(config.num_levels))
        self.last = TimeConv(config.width, config.code_dim, 3)

    def forward(self, x: Tensor, keep: Tensor | None = None) -> Tensor:
        h = zeroed(self.first(zeroed(x, keep)).relu(), keep)
        for level in self.levels:
            keep = None if keep is None else keep[:, 1::2]  # whole pairs of frames
            h = level(zeroed(level.conv(h), keep), keep)
        return zeroed(self.last(h), keep)


class Decoder(nn.Module):
    """Normalised motion (B, N * 2^levels, D) of codes (B, N, C); keep (B, N)."""

    def __init__(self, config: TokenizerConfig, num_features: int):
        super().__init__()
        self.first = TimeConv(config.code_dim, config.width, 3)
        self.levels = nn.ModuleList(Level(config, down=False) for _ in range(config.num_levels))
        self.smooth = TimeConv(config.width, config.width, 3)
        self.last = TimeConv(config.width, num_features, 3)
        blocks = sum(config.dilation_growth**i for i in range(config.depth))  # frames of its level to either side
        of_levels = sum(blocks / 2**level + 0.5 / 2**level for level in range(config.num_levels))
        self.reach = math.ceil(1 + of_levels + 2 / 2**config.num_levels) + 1  # tokens to either side on which a frame depends

    def forward(self, z: Tensor, keep: Tensor | None = None) -> Tensor:
        h = zeroed(self.first(zeroed(z, keep)).relu(), keep)
        for level in self.levels:
            h = level(h, keep).repeat_interleave(2, dim=1)
            keep = None if keep is None else keep.repeat_interleave(2, dim=1)
            h = zeroed(level.conv(h), keep)
        return self.last(zeroed(self.smooth(h).relu(), keep))


class Tokenizer(nn.Module):
    """Encoder, codebooks, decoder."""

    def __init__(self, config: VQVAEConfig, num_features: int):
        super().__init__()
        self.encoder = Encoder(config, num_features)
        self.codebooks = Codebooks(config.num_quantizers, config.num_codes, config.code_dim, config.code_decay,
                                   config.code_least_use)  # fmt: skip
        self.decoder = Decoder(config, num_features)


def zeroed(x: Tensor, keep: Tensor | None) -> Tensor:
    """x (B, N, C), zero where keep (B, N) is False: what convolutions see beyond an end."""
    return x if keep is None else x * keep[..., None]


def masked_mean(x: Tensor, keep: Tensor) -> Tensor:
    """Mean of x (B, T, ...) over frames with keep (B, T) True."""
    each = x.flatten(2).mean(-1)
    return (each * keep).sum() / keep.sum()


def smooth_l1(a: Tensor, b: Tensor, keep: Tensor) -> Tensor:
    """Smooth L1 distance (Girshick 2015) of motions (B, T, C), a mean over real frames, keep (B, T)."""
    return masked_mean(F.smooth_l1_loss(a, b, reduction="none"), keep)


def whole_tokens(motion: Tensor, mask: Tensor, frames: int) -> tuple[Tensor, Tensor]:
    """Motion (B, T, D) and mask (B, T) without what is left over after tokens of `frames` frames."""
    lengths = mask.sum(1) // frames * frames
    size = int(lengths.max())
    return motion[:, :size], torch.arange(size, device=mask.device) < lengths[:, None]
