"""The text-motion evaluator of the field (Guo et al. 2022, "text_mot_match") and the length estimator beside it.

Texts and motions become vectors that lie close where they belong together. Motions are normalised with the evaluator's
own mean and std, whatever made them, lose their contacts and are followed by zeros: the convolutions look up to three
frames beyond the end, so what stands there is part of every published number.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Protocol

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils.rnn import pack_padded_sequence

from data_loaders.corpus import Batch, Statistics
from data_loaders.features import FeaturesMismatch
from data_loaders.text import Caption
from model.capabilities import VectorSpace
from model.evaluator_config import LENGTH_CLASSES, UNIT_LENGTH, EvaluatorConfig, LengthEstimatorConfig
from model.evaluator_losses import draw_shift, matching_loss, movement_loss
from model.model import Draws, Model

NUM_CONTACTS = 4  # last columns of the features, which the evaluator does not see
LOOK_AHEAD = 4  # frames beyond a motion's end, in whole units, that its last latent covers
MOTIONS_AT_ONCE, TEXTS_AT_ONCE = 128, 256
SLOPE, DROPOUT = 0.2, 0.2


@dataclass(frozen=True)
class WordFeatures:
    """Words of B texts: vectors (B, L, C), lengths (B,), and pos_onehot (B, L, 15) where their classes are known."""

    vectors: Tensor
    lengths: Tensor
    pos_onehot: Tensor | None = None

    def __len__(self) -> int:
        return len(self.lengths)

    def to(self, device: torch.device | str) -> "WordFeatures":
        pos = None if self.pos_onehot is None else self.pos_onehot.to(device)
        return WordFeatures(self.vectors.to(device), self.lengths.to(device), pos)

    def __getitem__(self, rows) -> "WordFeatures":
        """Rows by slice, list or tensor of indices."""
        return WordFeatures(self.vectors[rows], self.lengths[rows], None if self.pos_onehot is None else self.pos_onehot[rows])


class WordSource(Protocol):
    """Captions to words. `word_dim` and `pos_dim` (0: no classes) are what the networks are built for."""

    name: str
    word_dim: int
    pos_dim: int

    def encode(self, captions: Sequence[str | Caption]) -> WordFeatures: ...


def _initialise(network: nn.Module) -> None:
    """Xavier-normal weights and zero biases of linear maps and convolutions; GRUs keep torch's own."""
    for module in network.modules():
        if isinstance(module, (nn.Linear, nn.Conv1d, nn.ConvTranspose1d)):
            nn.init.xavier_normal_(module.weight)
            nn.init.zeros_(module.bias)


class MovementEncoder(nn.Module):
    """Latents (B, T/4, C) of normalised motion without contacts (B, T, D - 4), T a multiple of 4."""

    def __init__(self, num_columns: int, hidden: int, latent: int):
        super().__init__()
        self.convolutions = nn.Sequential(
            nn.Conv1d(num_columns, hidden, 4, 2, 1), nn.Dropout(DROPOUT), nn.LeakyReLU(SLOPE),
            nn.Conv1d(hidden, latent, 4, 2, 1), nn.Dropout(DROPOUT), nn.LeakyReLU(SLOPE),
        )  # fmt: skip
        self.output = nn.Linear(latent, latent)
        _initialise(self)

    def forward(self, motion: Tensor) -> Tensor:
        return self.output(self.convolutions(motion.mT).mT)


class MovementDecoder(nn.Module):
    """Normalised motion (B, T, D) from latents (B, T/4, C): the other half of the movement autoencoder."""

    def __init__(self, latent: int, hidden: int, num_features: int):
        super().__init__()
        self.convolutions = nn.Sequential(
            nn.ConvTranspose1d(latent, hidden, 4, 2, 1), nn.LeakyReLU(SLOPE),
            nn.ConvTranspose1d(hidden, num_features, 4, 2, 1), nn.LeakyReLU(SLOPE),
        )  # fmt: skip
        self.output = nn.Linear(num_features, num_features)
        _initialise(self)

    def forward(self, latents: Tensor) -> Tensor:
        return self.output(self.convolutions(latents.mT).mT)


class SequenceReader(nn.Module):
    """Last states (B, 2 H) of a bidirectional GRU over sequences (B, N, C) of given lengths, in the order they came."""

    def __init__(self, num_inputs: int, hidden: int):
        super().__init__()
        self.input = nn.Linear(num_inputs, hidden)
        self.gru = nn.GRU(hidden, hidden, batch_first=True, bidirectional=True)
        self.hidden = nn.Parameter(torch.randn(2, 1, hidden))

    def forward(self, x: Tensor, lengths: Tensor) -> Tensor:
        packed = pack_padded_sequence(self.input(x), lengths.cpu(), batch_first=True, enforce_sorted=False)
        _, last = self.gru(packed, self.hidden.expand(-1, len(x), -1).contiguous())  # (2, B, H)
        return torch.cat([last[0], last[1]], dim=-1)


def _projection(*sizes: int) -> nn.Sequential:
    """Linear maps with LayerNorm and LeakyReLU between them."""
    layers: list[nn.Module] = []
    for a, b in pairwise(sizes[:-1]):
        layers += [nn.Linear(a, b), nn.LayerNorm(b), nn.LeakyReLU(SLOPE)]
    return nn.Sequential(*layers, nn.Linear(sizes[-2], sizes[-1]))


class MotionEncoder(nn.Module):
    """Embeddings (B, C) of movement latents (B, N, C) of given lengths (B,)."""

    def __init__(self, latent: int, hidden: int, embedding: int):
        super().__init__()
        self.reader = SequenceReader(latent, hidden)
        self.output = _projection(2 * hidden, hidden, embedding)
        _initialise(self)

    def forward(self, latents: Tensor, lengths: Tensor) -> Tensor:
        return self.output(self.reader(latents, lengths))


class WordReader(nn.Module):
    """States (B, 2 H) of texts: word vectors, to which the class of each word is added where it is known."""

    def __init__(self, word_dim: int, pos_dim: int, hidden: int):
        super().__init__()
        self.pos_projection = nn.Linear(pos_dim, word_dim) if pos_dim else None
        self.reader = SequenceReader(word_dim, hidden)

    def forward(self, words: WordFeatures) -> Tensor:
        x = words.vectors  # (B, L, C)
        if self.pos_projection is not None:
            x = x + self.pos_projection(words.pos_onehot)
        return self.reader(x, words.lengths)


class TextEncoder(nn.Module):
    """Embeddings (B, C) of texts."""

    def __init__(self, word_dim: int, pos_dim: int, hidden: int, embedding: int):
        super().__init__()
        self.words = WordReader(word_dim, pos_dim, hidden)
        self.output = _projection(2 * hidden, hidden, embedding)
        _initialise(self)

    def forward(self, words: WordFeatures) -> Tensor:
        return self.output(self.words(words))


class MovementAutoencoder(Model):
    """Movement encoder and decoder, as they are trained; of them an evaluator keeps the encoder."""

    def __init__(self, config: EvaluatorConfig, statistics: Statistics | None = None, parts: Mapping[str, Model] | None = None):
        super().__init__(config, statistics, {
            "encoder": movement_encoder(config),
            "decoder": MovementDecoder(config.movement_latent, config.movement_hidden, config.features.width),
        })  # fmt: skip

    def loss(self, batch: Batch, draws: Draws | None = None) -> dict[str, Tensor]:
        """Weighted terms of windows of motion: contacts are made, but not read."""
        return movement_loss(self.networks["encoder"], self.networks["decoder"], self.masked(batch)[0], NUM_CONTACTS)


class LengthEstimator(Model):
    """How many units of 4 frames a text's motion takes (Guo et al. 2022, text2length).

    `statistics` are those of the dataset, of which only the features count.
    """

    def __init__(self, config: LengthEstimatorConfig, statistics: Statistics | None = None,
                 parts: Mapping[str, Model] | None = None):
        output = _projection(2 * config.hidden, 512, 256, 128, LENGTH_CLASSES)
        super().__init__(config, statistics, {"words": WordReader(config.word_dim, config.pos_dim, config.hidden),
                                              "output": output})  # fmt: skip
        _initialise(self.networks)
        self.words: WordSource | None = None

    def loss(self, batch: Batch, draws: Draws) -> dict[str, Tensor]:
        """Cross entropy (B,) of the lengths of the motions of a batch."""
        return {"cross_entropy": F.cross_entropy(*self.logits_and_units(batch), reduction="none")}

    def logits_and_units(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """Logits (B, 50) of a batch's texts, and the units (B,) that its motions take."""
        units = (batch.lengths // UNIT_LENGTH).clamp(max=LENGTH_CLASSES - 1).to(self.device)
        return self.logits(self.words.encode(batch.texts)), units

    def logits(self, words: WordFeatures) -> Tensor:
        """(B, 50), of how many units of 4 frames each text takes."""
        return self.networks["output"](self.networks["words"](words.to(self.device)))


def sample_lengths(logits: Tensor, shortest: int, generator: torch.Generator | None = None) -> Tensor:
    """Frames (B,) drawn from the logits (B, 50); what is below `shortest` units is drawn again, twice at most."""
    chances = logits.softmax(-1)
    units = torch.multinomial(chances, 1, generator=generator)[:, 0]
    for _ in range(2):
        units = torch.where(units < shortest, torch.multinomial(chances, 1, generator=generator)[:, 0], units)
    return UNIT_LENGTH * units


def movement_encoder(config: EvaluatorConfig) -> MovementEncoder:
    """Of features without contacts."""
    return MovementEncoder(config.features.width - NUM_CONTACTS, config.movement_hidden, config.movement_latent)


class GuoEvaluator(Model):
    """Text, movement and motion encoder with the statistics they were trained with, as one object.

    `encode_motion` takes features of any system in their units; `encode_words` takes `WordFeatures`.
    """

    def __init__(self, config: EvaluatorConfig, statistics: Statistics, parts: Mapping[str, Model] | None = None):
        c = config
        super().__init__(config, statistics, {
            "text_encoder": TextEncoder(c.word_dim, c.pos_dim, c.text_hidden, c.embedding),
            "movement_encoder": movement_encoder(c),
            "motion_encoder": MotionEncoder(c.movement_latent, c.motion_hidden, c.embedding),
        }, frozen=("movement_encoder",))  # fmt: skip  # trained before, with a decoder
        self.words: WordSource | None = None

    def _checked(self, statistics: Statistics) -> tuple[Tensor, Tensor]:
        super()._checked(statistics)
        return tuple(torch.as_tensor(array, dtype=torch.float64) for array in (statistics.mean, statistics.std))

    def normalise(self, features: Tensor) -> Tensor:
        """In float64, as published, then float32."""
        return super().normalise(features.double()).float()

    def read_through(self, words: WordSource) -> None:
        """Texts are read as words of that source. ValueError where it is not the one of the training."""
        if words.name != self.config.words:
            raise ValueError(f"this evaluator reads {self.config.words} words, not {words.name}")
        self.words = words

    def space(self) -> VectorSpace:
        return VectorSpace("the evaluator", self.config.embedding, (UNIT_LENGTH, self.config.max_frames), "euclidean")

    def loss(self, batch: Batch, draws: Draws) -> dict[str, Tensor]:
        """Terms between the embeddings of a batch's texts and motions, and of texts and the motions of others."""
        text, motion = self.embeddings(batch)
        return matching_loss(text, motion, draw_shift(len(text), draws.samples[0]), self.config.negative_margin)

    def embeddings(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """Embeddings (B, C) of a batch's texts and of its motions, which zeros follow as when motions are judged."""
        motion, _ = self.masked(batch)
        frames = min(motion.shape[1] + LOOK_AHEAD, self.config.max_frames)
        motion = F.pad(motion, (0, 0, 0, frames - motion.shape[1]))
        text = self.networks["text_encoder"](self.words.encode(batch.texts).to(self.device))
        return text, self.embed_motion(motion, batch.lengths.to(self.device))

    def normalised(self, motions: Sequence[np.ndarray]) -> tuple[Tensor, Tensor]:
        """Motion (B, T, D) with zeros after each end, and lengths (B,), of features [(T, D)] in their units.

        ValueError names a motion that is shorter than a unit, too wide or narrow, or not finite.
        """
        width, longest = self.features.width, self.config.max_frames
        for i, features in enumerate(motions):
            if features.ndim != 2 or features.shape[1] != width:
                raise FeaturesMismatch(f"motion {i} has shape {tuple(features.shape)}, "
                                             f"this evaluator reads (frames, {width})")
            if not UNIT_LENGTH <= len(features) <= longest:
                raise ValueError(f"motion {i} has {len(features)} frames, this evaluator reads {UNIT_LENGTH} to {longest}")
            if not np.isfinite(features).all():
                raise ValueError(f"motion {i} holds NaN or infinite values")
        lengths = torch.tensor([len(features) for features in motions])
        frames = min(-(-int(lengths.max()) // UNIT_LENGTH) * UNIT_LENGTH + LOOK_AHEAD, longest)
        motion = torch.zeros(len(motions), frames, width)
        for row, features in zip(motion, motions):
            row[: len(features)] = self.normalise(torch.as_tensor(np.array(features)))
        return motion.to(self.device), lengths.to(self.device)

    def embed_motion(self, motion: Tensor, lengths: Tensor) -> Tensor:
        """Embeddings (B, C) of normalised, padded motion (B, T, D) of `lengths` (B,) frames, T a multiple of 4."""
        latents = self.networks["movement_encoder"](motion[..., :-NUM_CONTACTS])  # (B, T/4, C)
        return self.networks["motion_encoder"](latents, lengths // UNIT_LENGTH)

    @torch.no_grad()
    def encode_motion(self, motions: Sequence[np.ndarray], batch_size: int | None = None) -> Tensor:
        """Embeddings (N, C) on the CPU of features [(T, D)] in their units, in their order whatever their lengths."""
        if not len(motions):
            return torch.zeros(0, self.config.embedding)
        order = sorted(range(len(motions)), key=lambda i: len(motions[i]))  # little padding
        found, batch_size = [], batch_size or MOTIONS_AT_ONCE
        for start in range(0, len(order), batch_size):
            found.append(self.embed_motion(*self.normalised([motions[i] for i in order[start : start + batch_size]])).cpu())
        return torch.cat(found)[torch.argsort(torch.tensor(order))]

    def encode_text(self, texts: Sequence[str | Caption]) -> Tensor:
        """Embeddings (N, C) on the CPU of texts, with their words and parts of speech where known. Equal ones have equal rows."""
        captions = [Caption(text) if isinstance(text, str) else text for text in texts]
        distinct = list(dict.fromkeys(captions))
        starts = range(0, len(distinct), TEXTS_AT_ONCE)
        parts = [self.encode_words(self.words.encode(distinct[i : i + TEXTS_AT_ONCE])) for i in starts]
        row = {caption: i for i, caption in enumerate(distinct)}
        return torch.cat(parts)[[row[caption] for caption in captions]] if parts else torch.zeros(0, self.config.embedding)

    @torch.no_grad()
    def encode_words(self, words: WordFeatures, batch_size: int = TEXTS_AT_ONCE) -> Tensor:
        """Embeddings (N, C) on the CPU of texts given as words."""
        starts = range(0, len(words), batch_size)
        found = [self.networks["text_encoder"](words[start : start + batch_size].to(self.device)).cpu() for start in starts]
        return torch.cat(found) if found else torch.zeros(0, self.config.embedding)
