"""The networks that the reaction model adds to LS-ReMGM's: what is made of an action's semantics, encoders of action and
reaction, and a denoiser that reads them. Without effect at first, so that a text-to-motion model's weights may be begun from.
"""

from dataclasses import dataclass, replace

import torch
from einops import rearrange
from torch import Tensor, nn

from data_loaders.atomic_actions import AtomicActions, soft_assignment, window_features
from model.in2in_network import zeroed
from model.layers import FrameDecoder, Posterior, in_patches
from model.lsremgm_network import MotionDenoiser, zero_where
from model.reaction_config import SEMANTIC_TOKENS, ReactionConfig
from model.text_encoders import TextFeatures
from model.tmr import SequenceEncoder
from model.tmr_config import TMRConfig

LOG_VARIANCES = (-10.0, 10.0)  # within which those of latents are kept


@dataclass(frozen=True)
class Action:
    """What a reaction is made of: latent (B, Z), normalised motion (B, T, D) of the one who acts, and what is made of its
    semantics (B, T, S) or None."""

    latent: Tensor
    motion: Tensor
    semantics: Tensor | None

    def without(self, drop: Tensor | None) -> "Action":
        """With the samples at which `drop` (B,) is True set to zero."""
        told = None if self.semantics is None else zero_where(drop, self.semantics)
        return Action(zero_where(drop, self.latent), zero_where(drop, self.motion), told)

    def repeated(self, copies: int) -> "Action":
        """`copies` times below each other, (copies · B, ...)."""
        parts = (self.latent, self.motion, self.semantics)
        return Action(*(None if x is None else x.repeat(copies, *[1] * (x.dim() - 1)) for x in parts))


class SemanticReader(nn.Module):
    """What the model is told (B, T, S) of tokens and atomic actions (B, T, N); its buffers are the codebook of the latter."""

    def __init__(self, config: ReactionConfig):
        super().__init__()
        actions, window = config.num_atomic_actions * config.atomic_actions, 2 * SEMANTIC_TOKENS
        if actions:
            self.register_buffer("mean", torch.zeros(window))
            self.register_buffer("std", torch.ones(window))
            self.register_buffer("codebook", torch.zeros(actions, window))
            self.register_buffer("sigma2", torch.ones(()))
        self.mlp = nn.Sequential(nn.Linear(config.num_semantics, config.semantic_dim), nn.GELU(),
                                 nn.Linear(config.semantic_dim, config.semantic_dim))  # fmt: skip

    def adopt(self, actions: AtomicActions) -> None:
        """Takes over a codebook that was fitted to data."""
        for name, value in actions._asdict().items():
            getattr(self, name).copy_(value)

    def assign(self, tokens: Tensor, lengths: Tensor, causal: bool = False) -> Tensor:
        """How like (B, T, A) each moment of tokens (B, T, 165) is to each atomic action, 1 in sum; causal: by the frames before
        it alone."""
        actions = AtomicActions(self.mean, self.std, self.codebook, self.sigma2)
        return soft_assignment(window_features(tokens, causal, lengths), actions)

    def forward(self, semantics: Tensor) -> Tensor:
        return self.mlp(semantics)  # (B, T, S)


class LatentEncoder(SequenceEncoder):
    """Gaussian over latents (B, Z) of a motion (B, T, D) with what is told of the action (B, T, S)."""

    def __init__(self, config: ReactionConfig, num_features: int):
        sizes = TMRConfig(latent_dim=config.encoder_dim, ff_size=config.encoder_ff_size, num_layers=config.encoder_layers,
                          num_heads=config.encoder_heads, dropout=config.dropout)  # fmt: skip
        super().__init__(num_features + config.semantic_dim * config.semantics,
                         replace(sizes, max_positions=config.max_positions))  # fmt: skip
        self.mean, self.log_variance = (nn.Linear(config.encoder_dim, config.encoder_dim) for _ in range(2))

    def forward(self, motion: Tensor, semantics: Tensor | None, mask: Tensor) -> Posterior:
        """mask (B, T) True at real frames."""
        x = motion if semantics is None else torch.cat([motion, semantics.to(motion.dtype)], dim=-1)
        mean, log_variance = super().forward(x, mask).unbind(1)  # (B, Z) each
        return Posterior(self.mean(mean), self.log_variance(log_variance).clamp(*LOG_VARIANCES))


class ReactionDenoiser(MotionDenoiser):
    """LS-ReMGM's denoiser, told of an action: its latent is added to the step, its motion and semantics to the tokens of frames,
    or of `patch` frames."""

    def __init__(self, config: ReactionConfig, num_features: int):
        super().__init__(config, num_features)
        dim, self.patch = config.latent_dim, config.patch
        self.embed_latent = zeroed(nn.Linear(config.encoder_dim, dim))
        self.embed_actor = zeroed(nn.Linear(self.patch * num_features, dim))
        if config.semantics:
            self.embed_semantic = zeroed(nn.Linear(self.patch * config.semantic_dim, dim))
            self.semantic_final = nn.Linear(dim, self.patch * config.num_semantics)
        if self.patch > 1:
            self.input_projection = nn.Linear(self.patch * num_features, dim)
            self.output_projection = FrameDecoder(dim, num_features, self.patch, config.fine_width)

    def forward(self, x: Tensor, t: Tensor, action: Action, text: TextFeatures | None = None, mask: Tensor | None = None, *,
                past: Tensor | None = None, drop: Tensor | None = None,
                drop_text: Tensor | None = None) -> tuple[Tensor, Tensor | None]:
        """Denoised reaction (B, T, D) from x (B, T, D) at steps t (B,) of the original, unrespaced schedule, and what it tells of
        the reaction's semantics (B, T, N): tokens, and logits of atomic actions; None of a model without.

        mask (B, T) is True at real frames. past (B, context, D) is clean motion put before x; action and mask then begin with it.
        drop and drop_text (B,) remove the action and the text.
        """
        action = action.without(drop)
        time = self.time_mlp(self.positions[t]) + self.embed_latent(action.latent)  # (B, C)
        memory, memory_keep = self.condition_tokens(time, text, None, drop_text)  # (B, M, C), (B, M)
        made = x if past is None else torch.cat([past, x], dim=1)  # (B, context + T, D)
        tokens, keep, real = in_patches(made, mask, self.patch) if self.patch > 1 else (made, mask, None)
        added = self.embed_actor(self.tokens_of(action.motion, mask))  # (B, N, C)
        if action.semantics is not None:
            added = added + self.embed_semantic(self.tokens_of(action.semantics, mask))
        y = self.trunk(tokens, time, memory, keep, memory_keep, added=added)
        y = y[:, (made.shape[1] - x.shape[1]) // self.patch :]  # (B, N', C), of x alone
        told = self.semantic_final(y) if action.semantics is not None else None
        if self.patch == 1:
            return self.output_projection(y), told
        frames, given = x.shape[1], rearrange(tokens, "b n (r d) -> b (n r) d", r=self.patch)
        told = None if told is None else rearrange(told, "b n (r c) -> b (n r) c", r=self.patch)[:, :frames]
        return self.output_projection(y, given, real)[:, :frames], told

    def tokens_of(self, rows: Tensor, mask: Tensor | None) -> Tensor:
        """(B, N, r D) of rows (B, T, D), those beyond an end being zero."""
        return in_patches(rows, mask, self.patch)[0] if self.patch > 1 else rows
