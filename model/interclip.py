"""InterCLIP (Liang et al. 2024): sentences and motions of two people in one space, by which what such people do is judged.

A vector's direction says what is meant, its length is the same for all and learnt with them, so that products of vectors
are what the contrast of training divides. Evaluations go by their distances. The order of the two people counts.
"""

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from data_loaders.corpus import Batch
from data_loaders.features import Statistics
from data_loaders.text import Caption
from data_loaders.text_similarity import meaning_key
from model.across_processes import all_rows
from model.capabilities import VectorSpace
from model.clip_tower import VOCABULARY, load_tokenizer
from model.embedder import Embedder
from model.interclip_config import CLIP_TOKENS, InterCLIPConfig
from model.layers import EPS, TransformerLayer
from model.model import Draws, Model
from model.text_encoders import EncodesTexts, TextFeatures
from model.text_towers import load_text_encoder
from model.tmr import SequenceEncoder, frames_side_by_side

NUM_CONTACTS = 4  # last columns of each person, which are not read


class WordEncoder(nn.Module):
    """Vectors (B, E) of texts as words of a language model, of which the mean is taken."""

    def __init__(self, config: InterCLIPConfig):
        super().__init__()
        width = config.text_width
        self.projection = nn.Linear(config.text_dim, width)
        self.layers = text_layers(config)
        self.norm, self.output = nn.LayerNorm(width), nn.Linear(width, config.embedding)

    def forward(self, text: TextFeatures) -> Tensor:
        x = self.projection(text.tokens)  # (B, L, C)
        for layer in self.layers:
            x = layer(x, text.mask)
        mask = text.mask[..., None].to(x.dtype)
        return self.output(self.norm((x * mask).sum(1) / mask.sum(1)))  # (B, E)


class TokenEncoder(nn.Module):
    """Vectors (B, E) of texts as tokens of CLIP, of which its frozen embeddings are read, and nothing of its layers.

    The vector is that of a text's end; what pads it to 77 tokens is seen by all others, as published.
    """

    def __init__(self, config: InterCLIPConfig):
        super().__init__()
        width = config.text_width
        self.words = nn.Embedding(VOCABULARY, width).requires_grad_(False)
        self.positions = nn.Parameter(torch.zeros(CLIP_TOKENS, width), requires_grad=False)
        self.layers = text_layers(config)
        self.norm, self.output = nn.LayerNorm(width), nn.Linear(width, config.embedding)

    def forward(self, text: TextFeatures) -> Tensor:
        ids = F.pad(text.ids, (0, CLIP_TOKENS - text.ids.shape[1]))  # (B, 77)
        x = self.words(ids) + self.positions  # (B, 77, C)
        for layer in self.layers:
            x = layer(x)
        return self.output(self.norm(x[torch.arange(len(x), device=x.device), text.last]))  # (B, E)


def text_layers(config: InterCLIPConfig) -> nn.ModuleList:
    """The layers of either text encoder."""
    return nn.ModuleList(
        TransformerLayer(config.text_width, config.text_heads, config.ff_size, config.dropout) for _ in range(config.text_layers)
    )


class MotionEncoder(nn.Module):
    """Vectors (B, E) of motion (B, T, P * D) with mask (B, T), of all people frame by frame, their contacts left out."""

    def __init__(self, config: InterCLIPConfig):
        super().__init__()
        self.persons, self.frames_per_token = config.features.persons, config.frames_per_token
        columns = self.persons * (config.features.width - NUM_CONTACTS)
        self.sequence = SequenceEncoder(self.frames_per_token * columns, config)
        self.norm, self.output = nn.LayerNorm(config.latent_dim), nn.Linear(config.latent_dim, config.embedding)

    def forward(self, motion: Tensor, mask: Tensor) -> Tensor:
        seen = motion.unflatten(-1, (self.persons, -1))[..., :-NUM_CONTACTS].flatten(-2)  # (B, T, P * (D - 4))
        tokens = self.sequence(*frames_side_by_side(seen, mask, self.frames_per_token))  # (B, 1, C)
        return self.output(self.norm(tokens[:, 0]))  # (B, E)


class Sphere(nn.Module):
    """Vectors (..., E) brought to one length, which is learnt."""

    def __init__(self, radius: float):
        super().__init__()
        self.radius = nn.Parameter(torch.tensor([radius]))

    def forward(self, vectors: Tensor) -> Tensor:
        vectors = vectors.to(torch.promote_types(vectors.dtype, torch.float32))  # also where the networks run in bfloat16
        return F.normalize(vectors, dim=-1, eps=EPS) * self.radius


class InterCLIP(Embedder):
    """Both encoders with the statistics of the data they were trained on and the frozen language model that they read through.

    `text_vectors` and `motion_vectors` work on tensors and are differentiable; `encode_text`, `encode_motion` are for users.
    """

    def __init__(self, config: InterCLIPConfig, statistics: Statistics | None = None, parts: Mapping[str, Model] | None = None,
                 text_encoder: EncodesTexts | None = None):
        """text_encoder replaces the one named in the configuration."""
        super().__init__(config, statistics, {
            "text_encoder": (TokenEncoder if config.reads_tokens else WordEncoder)(config),
            "motion_encoder": MotionEncoder(config),
            "sphere": Sphere(config.initial_scale),
        })  # fmt: skip
        self.text_encoder = text_encoder

    def space(self) -> VectorSpace:
        longest = (self.config.max_positions - 1) * self.config.frames_per_token
        return VectorSpace("InterCLIP", self.config.embedding, (1, longest), "euclidean")

    def normalise(self, features: Tensor) -> Tensor:
        """As they are where it reads them so, as published."""
        return super().normalise(features) if self.config.normalised else features

    def text_vectors(self, text: TextFeatures) -> Tensor:
        """(B, E) of texts."""
        return self.networks["sphere"](self.networks["text_encoder"](text.to(self.device)))

    def motion_vectors(self, motion: Tensor, mask: Tensor) -> Tensor:
        """(B, E) of motion (B, T, P * D), normalised where this model is for such, with mask (B, T) True at real frames."""
        return self.networks["sphere"](self.networks["motion_encoder"](motion, mask))

    def loss(self, batch: Batch, draws: Draws | None = None) -> dict[str, Tensor]:
        """Terms of a training step; the batches of all processes make up one."""
        vectors = self.text_vectors(batch.text_features["interaction"]), self.motion_vectors(*self.masked(batch))
        return contrast(*(all_rows(each) for each in vectors), self.same(batch))

    def same(self, batch: Batch) -> Tensor | None:
        """(B, B) True at captions and motions of different rows, of all processes, that are no negatives of one another."""
        if self.config.duplicates == "published":
            return None
        keys = torch.tensor([meaning_key(text) for text in batch.texts], device=self.device)
        columns = [all_rows(each.to(self.device)) for each in (keys, batch.indices) if each is not None]
        alike = torch.stack([each[:, None] == each for each in columns]).any(0)
        return alike & ~torch.eye(len(alike), dtype=torch.bool, device=self.device)

    def encode_text(self, texts: Sequence[str | Caption]) -> Tensor:
        """Vectors (N, E) on the CPU."""
        return super().encode_text([text if isinstance(text, str) else text.text for text in texts])

    def embed_texts(self, texts: Sequence[str]) -> Tensor:
        self.text_encoder = self.text_encoder or text_reader(self.config)
        return self.text_vectors(self.text_encoder.encode(texts))

    def embed_motions(self, motions: Sequence[np.ndarray]) -> Tensor:
        motion, mask = self.padded(motions)
        return self.motion_vectors(self.normalise(motion), mask)


def contrast(text: Tensor, motion: Tensor, same: Tensor | None = None) -> dict[str, Tensor]:
    """Cross entropies of finding each text's motion and each motion's text among those of a batch, by their vectors (B, E), and
    "loss", their mean. Pairs `same` (B, B) count neither for nor against. Radford et al. 2021, Fig. 3.
    """
    with torch.autocast(text.device.type, enabled=False):
        logits = text.float() @ motion.float().T  # the square of their length times cosines
    if same is not None:
        logits = logits.masked_fill(same, -torch.inf)
    own = torch.arange(len(logits), device=logits.device)
    terms = {"text_to_motion": F.cross_entropy(logits, own), "motion_to_text": F.cross_entropy(logits.T, own)}
    return {"loss": sum(terms.values()) / 2, **terms}


def text_reader(config: InterCLIPConfig) -> EncodesTexts:
    """What reads texts for a model: of CLIP its tokenizer alone."""
    return (load_tokenizer if config.reads_tokens else load_text_encoder)(config.text_encoder)
