"""TMR (Petrovich et al. 2023): sentences and motions in one latent space; TEMOS (Petrovich et al. 2022) without its contrast.

Two transformer encoders make a Gaussian over latents, one of a text's word features and one of a motion; a decoder
makes a motion of any length out of either. Searching and scoring use the Gaussians' means. Losses: `model/tmr_losses.py`.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Literal

import numpy as np
import torch
from einops import rearrange
from torch import Tensor, nn
from torch.nn import functional as F

from data_loaders.corpus import Motion, Statistics
from data_loaders.features import Features, FeaturesMismatch
from data_loaders.text import Caption
from model.capabilities import OWN, Decoding, Request, VectorSpace, require_only
from model.layers import TransformerLayer, sinusoidal_table
from model.motion_autoencoder import Posterior
from model.text_encoders import TextEncoder, TextFeatures
from model.text_towers import load_text_encoder
from protos.bounds import CHANNELS, FPS, FRAMES, LAYERS, SHARE, WEIGHT, Range, check_bounds
from protos.randomness import derive_seed, randn

FRAMES_AT_ONCE = {"cpu": 2048}  # of which a batch is encoded where nothing else is said: what the caches of a core hold
FRAMES_ON_ACCELERATORS = 65536
ACTIVATIONS = {"gelu": F.gelu, "relu": F.relu}
EPS = 1e-12  # added to every std, and the least length of a vector that has a direction


@dataclass(frozen=True)
class TMRConfig:
    """What the networks are, what they read and how they are trained. Defaults: TMR on HumanML3D."""

    # networks
    num_features: Annotated[int, CHANNELS] = 263
    text_dim: Annotated[int, CHANNELS] = 768
    latent_dim: Annotated[int, CHANNELS] = 256
    ff_size: Annotated[int, Range(1, 65_536)] = 1024
    num_layers: Annotated[int, LAYERS] = 6
    num_heads: Annotated[int, Range(1, 256)] = 4
    dropout: Annotated[float, Range(0, 1, below=True)] = 0.1
    activation: Literal["gelu", "relu"] = "gelu"  # in the feed-forward layers
    vae: bool = True  # False: encoders give one vector, not a Gaussian
    # below 0 fresh networks begin with little noise and soon tell left from right
    log_variance_shift: Annotated[float, Range(-50, 50)] = 0.0
    text_relu: bool = False  # a ReLU before the projection of words, as in TEMOS as first published
    max_positions: Annotated[int, Range(3, 100_000)] = 5000
    # 1 as published; more frames side by side in a token make everything faster
    frames_per_token: Annotated[int, Range(1, 1000)] = 1
    # texts
    text_encoder: str = "distilbert"  # whose word features are read
    sentence_encoder: str = "mpnet"  # whose similarity of captions tells false negatives
    # training
    lambda_recons: Annotated[float, WEIGHT] = 1.0
    lambda_kl: Annotated[float, WEIGHT] = 1e-5
    lambda_latent: Annotated[float, WEIGHT] = 1e-5
    lambda_contrastive: Annotated[float, WEIGHT] = 0.1  # 0: TEMOS
    contrast: Literal["infonce", "hard_negatives"] = "infonce"
    temperature: Annotated[float, Range(0, above=True)] = 0.1
    # score in [0, 1], cosine / 2 + 0.5, of captions that mean the same; 0: none
    false_negative_threshold: Annotated[float, SHARE] = 0.8
    duplicates: Literal["published", "words"] = "published"  # words: sides, directions and words of content must agree too
    # motion
    dataset: str = "humanml"
    skeleton: str = "humanml"
    fps: Annotated[float, FPS] = 20.0
    heading: Literal["published", "continuous"] = "published"
    features: Literal["humanml", "rifke", "rotations"] = "humanml"
    min_frames: Annotated[int, FRAMES] = 40  # 2 to 10 seconds: what is trained on
    max_frames: Annotated[int, FRAMES] = 200

    def __post_init__(self):
        check_bounds(self)
        if self.activation not in ACTIVATIONS:
            raise ValueError(f"activation {self.activation!r}: expected {' or '.join(ACTIVATIONS)}")
        if self.latent_dim % self.num_heads:
            raise ValueError(f"latent size {self.latent_dim} is not a multiple of {self.num_heads} attention heads")

    @property
    def motion_features(self) -> Features:
        return Features(self.skeleton, self.fps, self.heading, self.features)

    reads_text = True
    own_guidance = None

    @property
    def num_tokens(self) -> int:
        """Learned tokens before a sequence, whose outputs are the mean and, in a VAE, the log variance."""
        return 2 if self.vae else 1


def transformer_layer(config: TMRConfig, cross_attention: bool = False) -> TransformerLayer:
    return TransformerLayer(config.latent_dim, config.num_heads, config.ff_size, config.dropout,
                            cross_attention=cross_attention, activation=ACTIVATIONS[config.activation])  # fmt: skip


class SequenceEncoder(nn.Module):
    """Outputs (B, 1 or 2, C) of the learned tokens put before a sequence (B, N, D). Petrovich et al. 2021 (ACTOR)."""

    def __init__(self, num_inputs: int, config: TMRConfig, relu_first: bool = False):
        super().__init__()
        dim = config.latent_dim
        self.relu_first = relu_first
        self.projection = nn.Linear(num_inputs, dim)
        self.tokens = nn.Parameter(torch.randn(config.num_tokens, dim))
        self.register_buffer("positions", sinusoidal_table(config.max_positions, dim), persistent=False)
        self.dropout = nn.Dropout(config.dropout)
        self.layers = nn.ModuleList(transformer_layer(config) for _ in range(config.num_layers))

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        """mask (B, N) True at real entries. Positions count from the first token on, not from the first frame."""
        count = len(self.tokens)
        x = self.projection(x.relu() if self.relu_first else x)  # (B, N, C)
        x = torch.cat([self.tokens.expand(len(x), -1, -1), x], dim=1)  # (B, 2 + N, C)
        keep = F.pad(mask, (count, 0), value=True)  # (B, 2 + N)
        x = self.dropout(x + self.positions[: x.shape[1]])
        for layer in self.layers[:-1]:
            x = layer(x, keep)
        return self.layers[-1](x, keep, first=count)


class MotionDecoder(nn.Module):
    """Motion (B, T, D) from latents (B, C): every frame is a query that knows only its place. As in ACTOR."""

    def __init__(self, config: TMRConfig):
        super().__init__()
        dim, self.frames_per_token = config.latent_dim, config.frames_per_token
        self.register_buffer("positions", sinusoidal_table(config.max_positions, dim), persistent=False)
        self.dropout = nn.Dropout(config.dropout)
        self.layers = nn.ModuleList(transformer_layer(config, cross_attention=True) for _ in range(config.num_layers))
        self.output = nn.Linear(dim, config.frames_per_token * config.num_features)

    def forward(self, latents: Tensor, mask: Tensor) -> Tensor:
        """mask (B, T) says how long each motion becomes; frames beyond are zero."""
        keep = mask[:, :: self.frames_per_token]  # (B, N)
        x = self.dropout(self.positions[: keep.shape[1]].expand(len(latents), -1, -1))  # (B, N, C)
        for layer in self.layers:
            x = layer(x, keep, latents[:, None])
        x = rearrange(self.output(x), "b n (k d) -> b (n k) d", k=self.frames_per_token)
        return x[:, : mask.shape[1]] * mask[..., None]  # (B, T, D)


def frames_side_by_side(motion: Tensor, mask: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """Motion (B, T, D) as tokens (B, T / count, count D) and their mask, True where a token has a real frame; zeros fill up."""
    if count == 1:
        return motion, mask
    motion = F.pad(motion * mask[..., None], (0, 0, 0, -motion.shape[1] % count))
    return rearrange(motion, "b (n k) d -> b n (k d)", k=count), mask[:, ::count]


class TMR(nn.Module):
    """The three networks with the statistics they were trained with and the frozen text encoders they read through.

    `text_posterior`, `motion_posterior` and `decode` work on tensors and are differentiable; `encode_text`,
    `encode_motion` and `generate` are for users. Made by `build`.
    """

    def __init__(self, config: TMRConfig, statistics: Statistics | None = None, text_encoder: TextEncoder | None = None,
                 sentence_encoder: TextEncoder | None = None):
        super().__init__()
        self.config, self.statistics = config, statistics
        self.text_encoder = SequenceEncoder(config.text_dim, config, config.text_relu)
        self.motion_encoder = SequenceEncoder(config.frames_per_token * config.num_features, config)
        self.motion_decoder = MotionDecoder(config)
        self._frozen = {"words": text_encoder, "sentences": sentence_encoder}
        mean, std = (None, None) if statistics is None else self._checked(statistics)
        self.register_buffer("mean", mean, persistent=False)
        self.register_buffer("std", std, persistent=False)

    @property
    def device(self) -> torch.device:
        return self.motion_decoder.output.weight.device

    def space(self) -> VectorSpace:
        limits = (1, self.config.max_positions - self.config.num_tokens)
        return VectorSpace("the TMR model", self.config.latent_dim, limits, "cosine")

    def word_features(self, texts: Sequence[str]) -> TextFeatures:
        """Word features of texts by the frozen encoder, marks of start and end included."""
        return self._encoder("words", self.config.text_encoder).encode(texts).to(self.device)

    def sentence_features(self, texts: Sequence[str]) -> Tensor:
        """Unit vectors (B, C) of whole captions, whose products say which captions mean the same."""
        pooled = self._encoder("sentences", self.config.sentence_encoder).encode(texts).pooled
        return F.normalize(pooled, dim=-1).to(self.device)

    def normalise(self, features: Tensor) -> Tensor:
        """Normalised motion (..., D) from features in their units."""
        return features if self.mean is None else (features - self.mean) / (self.std + EPS)

    def normalised(self, features: Tensor, mask: Tensor) -> Tensor:
        """Normalised motion (B, T, D), zero where mask (B, T) is False, on the model's device."""
        return self.normalise(features.to(self.device)) * mask.to(self.device)[..., None]

    def denormalise(self, motion: Tensor) -> Tensor:
        return motion * (self.std + EPS) + self.mean

    def text_posterior(self, text: TextFeatures) -> Posterior:
        """Gaussian over latents, (B, C), of texts."""
        return self._posterior(self.text_encoder(text.tokens, text.mask))

    def motion_posterior(self, motion: Tensor, mask: Tensor) -> Posterior:
        """Gaussian over latents, (B, C), of normalised motion (B, T, D) with mask (B, T) True at real frames."""
        return self._posterior(self.motion_encoder(*frames_side_by_side(motion, mask, self.config.frames_per_token)))

    def decode(self, latents: Tensor, mask: Tensor) -> Tensor:
        """Normalised motion (B, T, D), zero where mask (B, T) is False, from latents (B, C)."""
        return self.motion_decoder(latents, mask)

    @torch.no_grad()
    def encode_text(self, texts: Sequence[str | Caption], batch_size: int = 256) -> Tensor:
        """Mean latents (N, C) on the CPU, not of unit length. Equal texts get equal bits: ties of ranks depend on it."""
        texts = [text if isinstance(text, str) else text.text for text in texts]
        distinct = list(dict.fromkeys(texts))
        found = [self.text_posterior(self.word_features(distinct[i : i + batch_size])).mean.cpu()
                 for i in range(0, len(distinct), batch_size)]
        row = {text: i for i, text in enumerate(distinct)}
        return torch.cat(found)[[row[text] for text in texts]] if found else torch.zeros(0, self.config.latent_dim)

    @torch.no_grad()
    def encode_motion(self, motions: Sequence[np.ndarray], batch_size: int | None = None) -> Tensor:
        """Mean latents (N, C) on the CPU, in the order of the features [(T, D)] in their units, whatever their lengths.

        batch_size: how many at once (default: what is fast on the device). ValueError names a motion that is empty, too
        long, of another width, or not finite.
        """
        self._check_motions(motions)
        order = sorted(range(len(motions)), key=lambda i: len(motions[i]))  # little padding
        frames = FRAMES_AT_ONCE.get(self.device.type, FRAMES_ON_ACCELERATORS)
        found, start = [], 0
        while start < len(order):
            stop = start + (batch_size or max(1, frames // len(motions[order[start]])))
            rows = [torch.as_tensor(np.array(motions[i], np.float32)) for i in order[start:stop]]
            start = stop
            mask = lengths_to_mask(torch.tensor([len(row) for row in rows])).to(self.device)
            motion = self.normalised(nn.utils.rnn.pad_sequence(rows, batch_first=True), mask)  # (B, T, D)
            found.append(self.motion_posterior(motion, mask).mean.cpu())
        return torch.cat(found)[torch.argsort(torch.tensor(order))] if found else torch.zeros(0, self.config.latent_dim)

    @torch.no_grad()
    def generate(self, requests: Sequence[Request], decoding: Decoding = OWN) -> list[Tensor]:
        """Features [(frames, D)] in their units (TEMOS). ValueError for a length that cannot be made, a setting of diffusion."""
        made_at_once = "this model (TEMOS or TMR) makes a motion in one step, without diffusion, and does not take it"
        for record in (decoding, *requests):
            require_only(record, (), made_at_once)
        lengths, limit = [request.frames for request in requests], self.config.max_positions
        if bad := [n for n in lengths if not 1 <= n <= limit]:
            raise ValueError(f"this model makes motions of 1 to {limit} frames, not {bad[0]}")
        self.eval()
        posterior = self.text_posterior(self.word_features([request.text for request in requests]))
        generators = [torch.Generator().manual_seed(derive_seed(request.seed, "latent")) for request in requests]
        latents = posterior.sample(randn(generators, posterior.mean.shape, device=self.device))
        mask = lengths_to_mask(torch.tensor(lengths)).to(self.device)
        features = self.denormalise(self.decode(latents, mask))  # (B, T, D)
        return [row[:n] for row, n in zip(features, lengths, strict=True)]

    def columns(self) -> slice:
        """The feature columns that the model makes: all."""
        return slice(None)

    def motion(self, features: Tensor, *captions: str) -> Motion:
        """Features (T, D) in their units as joints in metres. FeaturesMismatch where they hold rotations only."""
        joints = self.config.motion_features.joints(features)  # (T, J, 3)
        return Motion(joints[None].cpu().numpy(), self.config.fps, self.config.skeleton, captions)

    def _posterior(self, outputs: Tensor) -> Posterior:
        outputs = outputs.to(torch.promote_types(outputs.dtype, torch.float32))  # also where the networks run in bfloat16
        mean = outputs[:, 0]  # (B, C)
        if not self.config.vae:
            return Posterior(mean, torch.full_like(mean, -torch.inf))
        return Posterior(mean, outputs[:, 1] + self.config.log_variance_shift)

    def _encoder(self, role: str, name: str) -> TextEncoder:
        if self._frozen[role] is None:
            self._frozen[role] = load_text_encoder(name)
        return self._frozen[role]

    def _check_motions(self, motions: Sequence[np.ndarray]) -> None:
        width, longest = self.config.num_features, self.space().frame_limits[1]
        for i, features in enumerate(motions):
            if features.ndim != 2 or features.shape[1] != width:
                raise FeaturesMismatch(f"motion {i} has shape {tuple(features.shape)}, "
                                             f"this model reads (frames, {width})")
            if not 1 <= len(features) <= longest:
                raise ValueError(f"motion {i} has {len(features)} frames, this model reads 1 to {longest}")
            if not np.isfinite(features).all():
                raise ValueError(f"motion {i} holds NaN or infinite values")

    def _checked(self, statistics: Statistics) -> tuple[Tensor, Tensor]:
        self.config.motion_features.require(statistics.features, "the model", "its mean and std")
        if statistics.mean.shape != (self.config.num_features,):
            raise FeaturesMismatch(f"mean and std of {statistics.mean.shape[-1]} features, "
                                         f"this model reads {self.config.num_features}")
        return tuple(torch.tensor(array, dtype=torch.float32) for array in (statistics.mean, statistics.std))


def build(config: TMRConfig, statistics: Statistics | None = None, text_encoder: TextEncoder | None = None,
          sentence_encoder: TextEncoder | None = None) -> TMR:
    """A model with fresh weights. The encoders replace those named in the configuration."""
    return TMR(config, statistics, text_encoder, sentence_encoder)


def lengths_to_mask(lengths: Tensor) -> Tensor:
    """(B, T) True below each length, T the largest."""
    return torch.arange(int(lengths.max())) < lengths[:, None]


def cosines(a: Tensor, b: Tensor) -> Tensor:
    """Cosines (N, M) of rows of a (N, C) and b (M, C); 0 where a row is zero."""
    return F.normalize(a, dim=-1, eps=EPS) @ F.normalize(b, dim=-1, eps=EPS).T


def scores(a: Tensor, b: Tensor) -> Tensor:
    """Scores in [0, 1], 0.5 for what has nothing in common: (N, M) of rows, or one of two vectors (C,). No probability."""
    if a.ndim == 1:
        return scores(a[None], b[None])[0, 0]
    return cosines(a, b) / 2 + 0.5
