"""TMR (Petrovich et al. 2023): sentences and motions in one latent space; TEMOS (Petrovich et al. 2022) without its contrast.

Two transformer encoders make a Gaussian over latents, one of a text's word features and one of a motion; a decoder
makes a motion of any length out of either. Searching and scoring use the Gaussians' means. Losses: `model/tmr_losses.py`.
"""

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from einops import rearrange
from torch import Tensor, nn
from torch.nn import functional as F

from data_loaders.corpus import Batch
from data_loaders.features import Statistics
from data_loaders.text import Caption
from model.capabilities import OWN, Decoding, Request, VectorSpace
from model.embedder import Embedder, lengths_to_mask
from model.layers import EPS, Posterior, TransformerLayer, sinusoidal_table
from model.model import Draws, Model, require_only
from model.network_calls import Input, NetworkCall
from model.text_encoders import TextEncoder, TextFeatures
from model.text_towers import load_text_encoder
from model.tmr_config import TMRConfig
from model.tmr_losses import Captions, LatentNoise, LengthGroups, captions_of, loss_terms
from protos.randomness import derive_seed, randn

ACTIVATIONS = {"gelu": F.gelu, "relu": F.relu}


def transformer_layer(config: TMRConfig, cross_attention: bool = False) -> TransformerLayer:
    """One layer of an encoder, or with `cross_attention` of the decoder."""
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

    def __init__(self, config: TMRConfig, num_features: int):
        super().__init__()
        dim, self.frames_per_token = config.latent_dim, config.frames_per_token
        self.register_buffer("positions", sinusoidal_table(config.max_positions, dim), persistent=False)
        self.dropout = nn.Dropout(config.dropout)
        self.layers = nn.ModuleList(transformer_layer(config, cross_attention=True) for _ in range(config.num_layers))
        self.output = nn.Linear(dim, config.frames_per_token * num_features)

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


class TMR(Embedder):
    """The three networks with the statistics they were trained with and the frozen language models they read through.

    `text_posterior`, `motion_posterior` and `decode` work on tensors and are differentiable; `encode_text`,
    `encode_motion` and `generate` are for users.
    """

    def __init__(self, config: TMRConfig, statistics: Statistics | None = None, parts: Mapping[str, Model] | None = None,
                 text_encoder: TextEncoder | None = None):
        """text_encoder replaces the one named in the configuration."""
        width = config.features.width
        super().__init__(config, statistics, {
            "text_encoder": SequenceEncoder(config.text_dim, config, config.text_relu),
            "motion_encoder": SequenceEncoder(config.frames_per_token * width, config),
            "motion_decoder": MotionDecoder(config, width),
        })  # fmt: skip
        self.text_encoder = text_encoder

    def space(self) -> VectorSpace:
        limits = (1, self.config.max_positions - self.config.num_tokens)
        return VectorSpace("the TMR model", self.config.latent_dim, limits, "cosine")

    def network_calls(self) -> dict[str, NetworkCall]:
        """Both encoders: of what they return (B, 1 or 2, C), the first row is the mean. Frames of a motion stand side by side."""
        config, mask = self.config, Input(("batch", "tokens"), torch.bool)
        widths = {"text_encoder": config.text_dim, "motion_encoder": config.frames_per_token * config.features.width}
        return {name: NetworkCall(self.networks[name], {"x": Input(("batch", "tokens", width)), "mask": mask})
                for name, width in widths.items()}  # fmt: skip

    def word_features(self, texts: Sequence[str]) -> TextFeatures:
        """Word features of texts by the frozen encoder, marks of start and end included."""
        self.text_encoder = self.text_encoder or load_text_encoder(self.config.text_encoder)
        return self.text_encoder.encode(texts).to(self.device)

    def _checked(self, statistics: Statistics) -> tuple[Tensor, Tensor]:
        mean, std = super()._checked(statistics)
        return mean, std + EPS

    def loss(self, batch: Batch, draws: Draws) -> dict[str, Tensor]:
        """Terms of a training step, "loss" their weighted sum; the batches of all processes make up one."""
        return self.loss_terms(batch, draws.samples, together=True)

    def loss_terms(self, batch: Batch, generator: Sequence[torch.Generator], together: bool = False) -> dict[str, Tensor]:
        """The terms of one batch; together: with those of the other processes, which must all call this."""
        motion, mask = self.masked(batch)
        text = self.text_posterior(batch.text_features["words"].to(self.device))
        groups = LengthGroups(batch.lengths, self.device.type)
        posterior = groups.encode(self.motion_posterior, motion, mask)
        noise = LatentNoise.draw(text.mean, generator)
        return loss_terms(text, posterior, noise, lambda latents: groups.decode(self.decode, latents, mask), motion, self.config,
                          self.captions_of(batch), together=together)

    def captions_of(self, batch: Batch) -> Captions | None:
        """What the contrast must know of a batch's captions; None where every other motion is a negative."""
        config = self.config
        if not (config.lambda_contrastive and config.false_negative_threshold):
            return None
        return captions_of(batch, F.normalize(batch.text_features["sentences"].pooled.to(self.device), dim=-1), config.duplicates)

    def text_posterior(self, text: TextFeatures) -> Posterior:
        """Gaussian over latents, (B, C), of texts."""
        return self._posterior(self.networks["text_encoder"](text.tokens, text.mask))

    def motion_posterior(self, motion: Tensor, mask: Tensor) -> Posterior:
        """Gaussian over latents, (B, C), of normalised motion (B, T, D) with mask (B, T) True at real frames."""
        return self._posterior(self.networks["motion_encoder"](*frames_side_by_side(motion, mask, self.config.frames_per_token)))

    def decode(self, latents: Tensor, mask: Tensor) -> Tensor:
        """Normalised motion (B, T, D), zero where mask (B, T) is False, from latents (B, C)."""
        return self.networks["motion_decoder"](latents, mask)

    def encode_text(self, texts: Sequence[str | Caption]) -> Tensor:
        """Mean latents (N, C) on the CPU."""
        return super().encode_text([text if isinstance(text, str) else text.text for text in texts])

    def embed_texts(self, texts: Sequence[str]) -> Tensor:
        return self.text_posterior(self.word_features(texts)).mean

    def embed_motions(self, motions: Sequence[np.ndarray]) -> Tensor:
        motion, mask = self.padded(motions)
        return self.motion_posterior(self.normalise(motion) * mask[..., None], mask).mean

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

    def _posterior(self, outputs: Tensor) -> Posterior:
        outputs = outputs.to(torch.promote_types(outputs.dtype, torch.float32))  # also where the networks run in bfloat16
        mean = outputs[:, 0]  # (B, C)
        if not self.config.vae:
            return Posterior(mean, torch.full_like(mean, -torch.inf))
        return Posterior(mean, outputs[:, 1] + self.config.log_variance_shift)
