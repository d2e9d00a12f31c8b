"""What a user holds of a system: its networks, with the settings, features and statistics that they were trained with."""

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any, Self

import torch
from torch import Tensor, nn

from data_loaders.corpus import Batch, Statistics
from data_loaders.features import Features, FeaturesMismatch
from model.capabilities import Decoding, Request

Generators = torch.Generator | Sequence[torch.Generator]  # one for all samples, or one each


@dataclass(frozen=True)
class Draws:
    """The randomness of a training step: `samples`, a generator per sample, so that what a sample draws depends neither on its
    neighbours nor on the number of processes, and `step`, one for what the whole batch shares.
    """

    samples: Sequence[torch.Generator]
    step: torch.Generator


def require_only(record: Request | Decoding, taken: Sequence[str], why: str) -> None:
    """ValueError, which says `why`, where a record holds a setting that is not its default and not among `taken`."""
    always = ("text", "frames", "seed", "batch_size")
    for field in fields(record):
        if field.name not in (*always, *taken) and getattr(record, field.name) is not field.default:
            raise ValueError(f"{field.name}: {why}")


class Model:
    """Owns `networks`, which are trained, averaged, moved and saved, and is itself no network.

    `config` is the dataclass of its system, `parts` are models of other systems that it stands on and does not train. Systems
    add what they can do: see `model/capabilities.py`. Features that enter and leave are in their units, (..., T, D).
    """

    def __init__(self, config: Any, statistics: Statistics | None, networks: Mapping[str, nn.Module], *,
                 frozen: Sequence[str] = (), parts: Mapping[str, "Model"] | None = None):
        """frozen: names of networks that stay in eval mode, untrained. FeaturesMismatch where the statistics are of others."""
        self.config, self.statistics = config, statistics
        self.networks = nn.ModuleDict(networks)
        self.frozen, self.parts = tuple(frozen), dict(parts or {})
        for module in (*(self.networks[name] for name in frozen), *(part.networks for part in self.parts.values())):
            module.requires_grad_(False).eval()
        self.mean, self.std = (None, None) if statistics is None else self._checked(statistics)

    @property
    def features(self) -> Features:
        """What its motions are made of."""
        return self.config.features

    @property
    def device(self) -> torch.device:
        """Where its networks are."""
        return next(self.networks.parameters()).device

    @property
    def num_parameters(self) -> int:
        """Those of its parts too."""
        own = sum(p.numel() for p in self.networks.parameters())
        return own + sum(part.num_parameters for part in self.parts.values())

    def to(self, device: torch.device | str) -> Self:
        """Moves its networks and those of its parts; returns the model itself."""
        for module in (self.networks, *(part.networks for part in self.parts.values())):
            module.to(device)
        return self

    def train(self, mode: bool = True) -> Self:
        """Networks in training mode, but for the frozen ones."""
        self.networks.train(mode)
        for name in self.frozen:
            self.networks[name].eval()
        return self

    def eval(self) -> Self:
        """Networks in evaluation mode."""
        return self.train(False)

    def copied(self) -> Self:
        """A model with networks of its own, which are not trained: for a moving average."""
        other = copy.copy(self)
        other.networks = copy.deepcopy(self.networks).requires_grad_(False)
        return other.eval()

    def loss(self, batch: Batch, draws: Draws) -> dict[str, Tensor]:
        """Terms, scalar or (B,), of a training step on features in their units; "loss" is the total, or else their sum."""
        raise ValueError(f"{type(self).__name__} is not trained by itself")

    def completed(self, made: Tensor) -> Tensor:
        """Features (T, D) of full width of a motion that it generated: the same, unless it makes only some of the columns."""
        return made

    def normalise(self, features: Tensor) -> Tensor:
        """(..., D) in units of the model's own mean and std; as they are where it has none."""
        if self.mean is None:
            return features
        return (features - self.mean.to(features.device)) / self.std.to(features.device)

    def denormalise(self, motion: Tensor) -> Tensor:
        """The inverse of `normalise`."""
        return motion if self.mean is None else motion * self.std.to(motion.device) + self.mean.to(motion.device)

    def masked(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """Normalised motion (B, T, D), zero beyond each end, and mask (B, T) of a batch, on the model's device."""
        motion, mask = batch.motion.to(self.device), batch.mask.to(self.device)
        return self.normalise(motion) * mask[..., None], mask

    def _checked(self, statistics: Statistics) -> tuple[Tensor, Tensor]:
        self.features.require(statistics.features, "the model", "its mean and std")
        width = self.features.width * self.features.persons
        if statistics.mean.shape != (width,):
            raise FeaturesMismatch(f"mean and std of {statistics.mean.shape[-1]} features, this model reads {width} "
                                   f"({self.features.kind}, {self.features.skeleton}): pass a dataset of that kind")
        return tuple(torch.tensor(array, dtype=torch.float32) for array in (statistics.mean, statistics.std))
