"""How long what a text says takes, by one vector of the text, as MoMask has it (Guo et al. 2024, its released code); and what
opens an estimator of any kind."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import torch
from torch import Tensor, nn

from data_loaders.features import HUMANML3D, Features, Statistics
from model.capabilities import EstimatesLength, ReadsWords
from model.checkpoints import from_pretrained
from model.evaluator_config import LENGTH_CLASSES
from model.evaluator_words import GLOVE_FOLDER, load_words
from model.evaluators import drawn_frames
from model.model import Model
from model.registry import able
from model.text_encoders import TextEncoder
from model.text_towers import load_text_encoder
from protos.flags import CHANNELS, Bounded, Range, decided

HIDDEN = (512, 256, 128)


@dataclass(frozen=True, kw_only=True)
class TextLengthConfig(Bounded):
    """Length estimator of one vector a text"""

    text_encoder: str = decided("clip-b32")
    text_dim: Annotated[int, CHANNELS] = decided(512)
    shortest_units: Annotated[int, Range(0, LENGTH_CLASSES - 1)] = decided(10)
    features: Features = decided(HUMANML3D)
    dataset: str = decided("humanml")


class TextLengthEstimator(Model):
    """Its network `output` says of a vector (B, C) how likely each of 50 lengths is, in units of 4 frames."""

    def __init__(self, config: TextLengthConfig, statistics: Statistics | None = None, parts: Mapping[str, Model] | None = None,
                 text_encoder: TextEncoder | None = None):  # fmt: skip
        """text_encoder replaces the frozen one that the configuration names."""
        layers: list[nn.Module] = []
        for number, (inputs, outputs) in enumerate(zip((config.text_dim, *HIDDEN), HIDDEN)):
            layers += [nn.Linear(inputs, outputs), nn.LayerNorm(outputs), nn.LeakyReLU(0.2)]
            layers += [nn.Dropout(0.2)] if number < 2 else []
        super().__init__(config, statistics, {"output": nn.Sequential(*layers, nn.Linear(HIDDEN[-1], LENGTH_CLASSES))})
        self.text_encoder = text_encoder

    def logits(self, vectors: Tensor) -> Tensor:
        """(B, 50) of vectors of texts (B, C)."""
        return self.networks["output"](vectors)

    @torch.no_grad()
    def estimate(self, texts: Sequence[str], seeds: Sequence[int]) -> list[int]:
        """Frames that each text takes, drawn by its seed."""
        if self.text_encoder is None:
            self.text_encoder = load_text_encoder(self.config.text_encoder)
        vectors = self.text_encoder.encode(list(texts)).pooled.to(self.device)
        return drawn_frames(self.eval().logits(vectors), self.config.shortest_units, seeds)


def open_length_estimator(path: Path, features: Features) -> EstimatesLength:
    """An estimator of a checkpoint for motions of these features. FileError where it is none, FeaturesMismatch where it is for
    others.
    """
    model = from_pretrained(path, systems=able(EstimatesLength))
    model.features.require(features, "the length estimator", "the model")
    if isinstance(model, ReadsWords):
        model.read_through(load_words(model.config.words, GLOVE_FOLDER, tagger=model.config.tagger))
    return model
