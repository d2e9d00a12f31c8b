"""The text-motion evaluator of the field (Guo et al. 2022, "text_mot_match") and the length estimator beside it.

Texts and motions become vectors that lie close where they belong together. Motions are normalised with the evaluator's
own mean and std, whatever made them, lose their contacts and are followed by zeros: the convolutions look up to three
frames beyond the end, so what stands there is part of every published number.
"""

from collections.abc import Mapping, Sequence
from typing import Protocol

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from data_loaders.corpus import Batch
from data_loaders.features import Statistics
from data_loaders.text import Caption
from model.capabilities import VectorSpace
from model.embedder import Embedder
from model.evaluator_config import LENGTH_CLASSES, UNIT_LENGTH, EvaluatorConfig, LengthEstimatorConfig
from model.evaluator_losses import draw_shift, matching_loss, movement_loss
from model.evaluator_networks import (
    CaptionEncoder,
    MotionEncoder,
    MovementDecoder,
    MovementEncoder,
    WordReader,
    initialise,
    projection,
)
from model.model import Draws, Model
from model.text_encoders import TextFeatures

NUM_CONTACTS = 4  # last columns of the features, which the evaluator does not see
LOOK_AHEAD = 4  # frames beyond a motion's end, in whole units, that its last latent covers
MOTIONS_AT_ONCE = 128


class WordSource(Protocol):
    """What reads texts as words: tokens (B, L, word_dim + pos_dim), of each word a vector and which of `pos_dim` classes it is of
    (0: none), as `tagger` tells them ('': none). Captions may come with their words and parts of speech.
    """

    name: str
    word_dim: int
    pos_dim: int
    tagger: str

    def encode(self, texts: Sequence[str | Caption]) -> TextFeatures: ...


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
        output = projection(2 * config.hidden, 512, 256, 128, LENGTH_CLASSES)
        super().__init__(config, statistics, {"words": WordReader(config.word_dim, config.pos_dim, config.hidden),
                                              "output": output})  # fmt: skip
        initialise(self.networks)

    def loss(self, batch: Batch, draws: Draws) -> dict[str, Tensor]:
        """Cross entropy (B,) of the lengths of the motions of a batch."""
        return {"cross_entropy": F.cross_entropy(*self.logits_and_units(batch), reduction="none")}

    def logits_and_units(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """Logits (B, 50) of a batch's texts, given as words, and the units (B,) that its motions take."""
        units = (batch.lengths // UNIT_LENGTH).clamp(max=LENGTH_CLASSES - 1).to(self.device)
        return self.logits(batch.text_features["words"]), units

    def read_through(self, words: WordSource) -> None:
        """Takes what reads words for `estimate`."""
        self._source = words

    @torch.no_grad()
    def estimate(self, texts: Sequence[str], seeds: Sequence[int]) -> list[int]:
        """Frames that each text takes, drawn by its seed."""
        return drawn_frames(self.eval().logits(self._source.encode(list(texts))), self.config.shortest_units, seeds)

    def logits(self, words: TextFeatures) -> Tensor:
        """(B, 50), of how many units of 4 frames each text takes."""
        return self.networks["output"](self.networks["words"](words.tokens.to(self.device), words.lengths))


def drawn_frames(logits: Tensor, shortest: int, seeds: Sequence[int]) -> list[int]:
    """Frames of each row of logits (B, 50), drawn by its seed as `sample_lengths` does, at least `shortest` units."""
    rows = zip(logits.cpu().split(1), seeds, strict=True)
    drawn = (int(sample_lengths(row, shortest, torch.Generator().manual_seed(int(seed)))) for row, seed in rows)
    return [max(frames, UNIT_LENGTH * max(shortest, 1)) for frames in drawn]


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


class GuoEvaluator(Embedder):
    """Text, movement and motion encoder with the statistics they were trained with, as one object.

    `encode_motion` takes features of any system in their units, `encode_text` texts, of which `read_through` says how.
    """

    def __init__(self, config: EvaluatorConfig, statistics: Statistics, parts: Mapping[str, Model] | None = None):
        c = config
        super().__init__(config, statistics, {
            "text_encoder": CaptionEncoder(c.word_dim, c.pos_dim, c.text_hidden, c.embedding),
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
        if words.pos_dim and words.tagger != self.config.tagger:
            raise ValueError(f"this evaluator reads the parts of speech of {self.config.tagger}, not of {words.tagger}")
        self.words = words

    def space(self) -> VectorSpace:
        return VectorSpace("the evaluator", self.config.embedding, (UNIT_LENGTH, self.config.max_frames), "euclidean")

    def loss(self, batch: Batch, draws: Draws) -> dict[str, Tensor]:
        """Terms between the embeddings of a batch's texts and motions, and of texts and the motions of others."""
        text, motion = self.embeddings(batch)
        return matching_loss(text, motion, draw_shift(len(text), draws.samples[0]), self.config.negative_margin)

    def embeddings(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """Embeddings (B, C) of a batch's texts, given as words, and of its motions, which zeros follow as when motions are
        judged.
        """
        motion, _ = self.masked(batch)
        frames = min(motion.shape[1] + LOOK_AHEAD, self.config.max_frames)
        motion = F.pad(motion, (0, 0, 0, frames - motion.shape[1]))
        return self.embed_words(batch.text_features["words"]), self.embed_motion(motion, batch.lengths.to(self.device))

    def normalised(self, motions: Sequence[np.ndarray]) -> tuple[Tensor, Tensor]:
        """Motion (B, T, D) with zeros after each end, and lengths (B,), of features [(T, D)] in their units."""
        lengths = torch.tensor([len(features) for features in motions])
        frames = min(-(-int(lengths.max()) // UNIT_LENGTH) * UNIT_LENGTH + LOOK_AHEAD, self.config.max_frames)
        motion = torch.zeros(len(motions), frames, self.features.width)
        for row, features in zip(motion, motions):
            row[: len(features)] = self.normalise(torch.as_tensor(np.array(features)))
        return motion.to(self.device), lengths.to(self.device)

    def embed_words(self, words: TextFeatures) -> Tensor:
        """Embeddings (B, C) of texts given as words."""
        return self.networks["text_encoder"](words.tokens.to(self.device), words.lengths)

    def embed_motion(self, motion: Tensor, lengths: Tensor) -> Tensor:
        """Embeddings (B, C) of normalised, padded motion (B, T, D) of `lengths` (B,) frames, T a multiple of 4."""
        latents = self.networks["movement_encoder"](motion[..., :-NUM_CONTACTS])  # (B, T/4, C)
        return self.networks["motion_encoder"](latents, lengths // UNIT_LENGTH)

    def embed_motions(self, motions: Sequence[np.ndarray]) -> Tensor:
        return self.embed_motion(*self.normalised(motions))

    def motions_at_once(self, frames: int) -> int:
        return MOTIONS_AT_ONCE

    def embed_texts(self, texts: Sequence[str | Caption]) -> Tensor:
        return self.embed_words(self.words.encode(texts))
