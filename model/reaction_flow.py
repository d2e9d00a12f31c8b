"""The network of MeanFlow that makes reactions piece by piece: the average velocity of a piece's latent, out of what is
remembered of the past. The past is read once for a piece, in the first step of sampling; those after it ask for the latent alone.
"""

from dataclasses import replace
from typing import NamedTuple

import torch
from einops import rearrange
from torch import Tensor, nn
from torch.nn import functional as F

from model.layers import KeysValues, TransformerLayer, sinusoidal_table, sinusoids
from model.lsremgm_network import Modulation, zero_where
from model.reaction_config import ReactionConfig
from model.reaction_network import Action
from model.text_encoders import TextFeatures

TIME_SCALE = 10.0  # radians of the fastest wave that tells a time from 0 to 1: faster ones make its derivative coarse


class Memory(NamedTuple):
    """What is known of the past: M tokens (B, M, C), which of these there are (B, M), what holds for all of them, text and action
    as a whole (B, C), and, once the tokens were read, keys and values (B, H, M, C/H) that each layer made of them."""

    tokens: Tensor
    keep: Tensor
    condition: Tensor
    layers: tuple[KeysValues, ...] = ()


class FlowDenoiser(nn.Module):
    """Average velocity of the latent (B, 1, Z) of a piece, after tokens of the action and text as a whole, of each earlier piece,
    action and reaction together, and of the frame in which the piece begins. None of them reads a later one, nor the times."""

    def __init__(self, config: ReactionConfig, num_features: int, channels: int):
        """num_features: columns of a frame of the action; channels: of a latent."""
        super().__init__()
        dim, self.piece = config.latent_dim, config.pred_len
        told = num_features + config.semantic_dim * config.semantics
        self.register_buffer("positions", sinusoidal_table(config.context_len // self.piece + 3, dim), persistent=False)
        self.text_projection = nn.Linear(config.text_dim, dim) if config.condition == "text" else None
        self.embed_latent = nn.Linear(config.encoder_dim, dim)
        self.embed_before = nn.Linear(self.piece * told, dim)
        self.embed_now = nn.Linear(told, dim)
        self.input_projection = nn.Linear(channels, dim)
        self.time_mlp = nn.Sequential(nn.Linear(2 * dim, dim), nn.SiLU(), nn.Linear(dim, dim))
        self.modulation = Modulation(replace(config, condition="none"))
        self.layers = nn.ModuleList(
            TransformerLayer(dim, config.num_heads, config.ff_size, config.dropout, norm_first=True, causal=True)
            for _ in range(config.num_layers))  # fmt: skip
        self.final_norm = nn.LayerNorm(dim)
        self.output_projection = nn.Linear(dim, channels)
        self.semantic_final = nn.Linear(dim, self.piece * config.num_semantics) if config.semantics else None

    def remember(self, action: Action, past: Tensor, keep: Tensor, text: TextFeatures | None = None, *,
                 drop: Tensor | None = None, drop_text: Tensor | None = None) -> Memory:
        """What is known, not yet read. action: its motion and semantics (B, context + 1, D), the last frame being the piece's
        first; past (B, N, Z) clean latents of the reaction until then, keep (B, N) True where there are such. drop and drop_text
        (B,) remove action and text."""
        action = action.without(drop)
        condition = self.embed_latent(action.latent)  # (B, C)
        if self.text_projection is not None:
            pooled = condition.new_zeros(1, self.text_projection.in_features) if text is None else text.pooled
            condition = condition + self.text_projection(zero_where(drop_text, pooled.to(condition).expand(len(condition), -1)))
        told = action.motion if action.semantics is None else torch.cat([action.motion, action.semantics], dim=-1)
        before = rearrange(told[:, :-1], "b (n r) d -> b n (r d)", r=self.piece)
        tokens = torch.cat([condition[:, None], self.embed_before(before) + self.input_projection(past),
                            self.embed_now(told[:, -1:])], dim=1) + self.positions[:-1]  # (B, M, C)  # fmt: skip
        return Memory(tokens, F.pad(keep, (1, 1), value=True), condition)

    def forward(self, z: Tensor, r: Tensor, t: Tensor, memory: Memory) -> tuple[Tensor, Tensor | None, Memory]:
        """u (B, 1, Z) of z (B, 1, Z) at t over r to t (B,), what it tells of the reaction's semantics (B, piece, N), None of a
        model without, and the memory, read: tokens that were read once are not read again."""
        y, known = self.input_projection(z) + self.positions[-1], memory.tokens.shape[1]
        modulation = self.modulation(self.given(r, t, memory.condition), None, None)[:, :, :, None]  # (B, layers, 9, 1, C)
        if not memory.layers:  # in one go with the latent, which alone knows the times
            y, modulation = torch.cat([memory.tokens, y], dim=1), F.pad(modulation, (0, 0, known, 0))
        keep, kept = F.pad(memory.keep, (0, 1), value=True), []
        for number, layer in enumerate(self.layers):
            y, (key, value) = layer.onwards(y, memory.layers[number] if memory.layers else None, keep, modulation[:, number])
            kept.append((key[:, :, :known], value[:, :, :known]))
        y = self.final_norm(y[:, -1:])  # (B, 1, C)
        guess = None if self.semantic_final is None else self.semantic_final(y[:, 0]).unflatten(-1, (self.piece, -1))
        return self.output_projection(y), guess, memory._replace(layers=tuple(kept))

    def given(self, r: Tensor, t: Tensor, condition: Tensor) -> Tensor:
        """What shifts, scales and gates the layers (B, C): the time t, how long ago r is, and what holds for all tokens."""
        dim = condition.shape[-1]
        waves = torch.cat([sinusoids(TIME_SCALE * each, dim) for each in (t, t - r)], dim=-1)
        return self.time_mlp(waves.to(condition.dtype)) + condition
