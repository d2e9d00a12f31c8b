"""A training command with a network of two layers, for the tests that need real processes."""

from dataclasses import dataclass
from functools import partial
from typing import Annotated

import torch
from torch import nn

from data_loaders.features import HUMANML3D, Features
from model.model import Draws, Model
from model.registry import SYSTEMS, System
from protos.flags import Range, configured, decided
from protos.options import command, run_command
from protos.randomness import derive_seed, rand, randn
from train.loop import TrainResult, train
from train.options import TrainOptions
from train.recipe import Recipe

FRAMES, FEATURES, CLIPS = 8, 4, 97


@dataclass
class Batch:
    motion: torch.Tensor
    lengths: torch.Tensor
    mask: torch.Tensor


@dataclass(frozen=True, kw_only=True)
class TinyConfig:
    dropout: Annotated[float, Range(0, 1, below=True)] = 0.0
    width: Annotated[int, Range(1, 64)] = 16
    features: Features = decided(HUMANML3D)


@dataclass(frozen=True, kw_only=True)
class TinyOptions(TinyConfig, TrainOptions):
    bad_step: Annotated[int, Range(-1, 1_000_000)] = -1
    """Step from which on the loss is not a number."""


class TinyDenoiser(nn.Module):
    def __init__(self, width: int = 16, dropout: float = 0.0):
        super().__init__()
        self.net = nn.Sequential(
            nn.Linear(FEATURES + 1, width), nn.GELU(), nn.Dropout(dropout), nn.Linear(width, FEATURES)
        )

    def forward(self, x: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
        return self.net(torch.cat([x, t[:, None, None].expand(-1, x.shape[1], 1)], dim=-1))


class Tiny(Model):
    def __init__(self, config: TinyConfig, statistics=None, parts=None):
        super().__init__(config, statistics, {"denoiser": TinyDenoiser(config.width, config.dropout)})

    def loss(self, batch: Batch, draws: Draws) -> dict[str, torch.Tensor]:
        """Squared error of a clean motion guessed from a noisy one, per sample."""
        denoiser = self.networks["denoiser"]
        t = rand(draws.samples, (len(batch.motion),), device=batch.motion.device)
        noise = randn(draws.samples, batch.motion.shape, batch.motion.device)
        noisy = batch.motion * (1 - t)[:, None, None] + noise * t[:, None, None]
        error = (denoiser(noisy, t) - batch.motion).pow(2) * batch.mask[..., None]
        return {"mse": error.sum((1, 2)) / (batch.lengths * FEATURES), "size": 0.01 * denoiser.net[0].weight.pow(2).mean()}


SYSTEMS["tiny"] = System("tiny", f"{__name__}:TinyConfig", f"{__name__}:Tiny")


class TinyData:
    """Clips of different lengths, padded only to the longest of their part of the batch."""

    def __init__(self, options: TinyOptions):
        self.options = options
        generator = torch.Generator().manual_seed(1)
        self.clips = [torch.randn(4 + i % 5, FEATURES, generator=generator).cumsum(0) for i in range(CLIPS)]

    def __call__(self, step: int, part: int, parts: int) -> Batch:
        size = self.options.batch_size
        first = (step * parts + part) * size
        order = [derive_seed(self.options.seed, "clip", k) % CLIPS for k in range(first, first + size)]
        clips = [self.clips[i] for i in order]
        lengths = torch.tensor([len(clip) for clip in clips])
        motion = nn.utils.rnn.pad_sequence(clips, batch_first=True)
        if 0 <= self.options.bad_step <= step:
            motion = motion * float("nan")
        return Batch(motion, lengths, torch.arange(motion.shape[1])[None] < lengths[:, None])


def tiny(options: TinyOptions) -> Tiny:
    return Tiny(configured(TinyConfig, options))


def run(options: TinyOptions, **callbacks) -> TrainResult:
    return train(Recipe(partial(tiny, options), TinyData(options), **callbacks), options)


main = command(TinyOptions, run, __doc__)


if __name__ == "__main__":
    run_command(main)
