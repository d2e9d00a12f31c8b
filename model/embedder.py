"""What models share that bring texts and motions into one space (`model.capabilities.Embeds`)."""

from abc import ABC, abstractmethod
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor, nn

from data_loaders.features import FeaturesMismatch
from data_loaders.text import Caption
from model.capabilities import VectorSpace
from model.model import Model

TEXTS_AT_ONCE = 256
FRAMES_AT_ONCE = {"cpu": 2048}  # of which a batch is embedded where nothing else is said: what the caches of a core hold
FRAMES_ON_ACCELERATORS = 65536


class Embedder(Model, ABC):
    """A system says what its space is and embeds batches; here texts and motions of any number and length become such."""

    @abstractmethod
    def space(self) -> VectorSpace:
        """Where texts and motions are put."""

    @abstractmethod
    def embed_texts(self, texts: Sequence[str | Caption]) -> Tensor:
        """Vectors (B, C) of texts."""

    @abstractmethod
    def embed_motions(self, motions: Sequence[np.ndarray]) -> Tensor:
        """Vectors (B, C) of features [(T, D)] in their units, of like length."""

    def motions_at_once(self, frames: int) -> int:
        """How many motions of so many frames are fast to embed together."""
        return max(1, FRAMES_AT_ONCE.get(self.device.type, FRAMES_ON_ACCELERATORS) // frames)

    def padded(self, motions: Sequence[np.ndarray]) -> tuple[Tensor, Tensor]:
        """Motion (B, T, D) in feature units, zero beyond each end, and mask (B, T) of features [(T, D)]."""
        rows = [torch.as_tensor(np.array(motion, np.float32)) for motion in motions]
        mask = lengths_to_mask(torch.tensor([len(row) for row in rows]))
        return nn.utils.rnn.pad_sequence(rows, batch_first=True).to(self.device), mask.to(self.device)

    @torch.no_grad()
    def encode_text(self, texts: Sequence[str | Caption]) -> Tensor:
        """Vectors (N, C) on the CPU, not of unit length. Equal texts have equal bits: ties of ranks depend on it."""
        row = {text: i for i, text in enumerate(dict.fromkeys(texts))}
        distinct = list(row)
        found = [self.embed_texts(distinct[i : i + TEXTS_AT_ONCE]).cpu() for i in range(0, len(row), TEXTS_AT_ONCE)]
        return torch.cat(found)[[row[text] for text in texts]] if found else torch.zeros(0, self.space().dim)

    @torch.no_grad()
    def encode_motion(self, motions: Sequence[np.ndarray], batch_size: int | None = None) -> Tensor:
        """Vectors (N, C) on the CPU, not of unit length, in the order of the features [(T, D)] in their units.

        batch_size: how many at once (default: what is fast on the device). ValueError names a motion that is too short or
        long, of another width, or not finite.
        """
        self.check_motions(motions)
        order = sorted(range(len(motions)), key=lambda i: len(motions[i]))  # little padding
        found, start = [], 0
        while start < len(order):
            stop = start + (batch_size or self.motions_at_once(len(motions[order[start]])))
            found.append(self.embed_motions([motions[i] for i in order[start:stop]]).cpu())
            start = stop
        return torch.cat(found)[torch.argsort(torch.tensor(order))] if found else torch.zeros(0, self.space().dim)

    def check_motions(self, motions: Sequence[np.ndarray]) -> None:
        """FeaturesMismatch or ValueError names the first of the motions that cannot be read."""
        width, (shortest, longest) = self.features.width * self.features.persons, self.space().frame_limits
        for i, motion in enumerate(motions):
            if motion.ndim != 2 or motion.shape[1] != width:
                raise FeaturesMismatch(f"motion {i} has shape {tuple(motion.shape)}, this model reads (frames, {width})")
            if not shortest <= len(motion) <= longest:
                raise ValueError(f"motion {i} has {len(motion)} frames, this model reads {shortest} to {longest}")
            if not np.isfinite(motion).all():
                raise ValueError(f"motion {i} holds NaN or infinite values")


def lengths_to_mask(lengths: Tensor) -> Tensor:
    """(B, T) True below each length, T the largest."""
    return torch.arange(int(lengths.max())) < lengths[:, None]
