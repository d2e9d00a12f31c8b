"""A language model that goes on with what it is given, as OPT (Zhang et al. 2022): layers that normalise first, places that are
learned, keys and values of earlier tokens kept. Low-rank additions to queries and values (LoRA, Hu et al. 2022) where asked for.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from model.captioner_config import CaptionerConfig
from model.layers import LowRank

OFFSET = 2  # OPT's table of places has so many rows more, which no text reaches
Past = list[tuple[Tensor, Tensor]]  # keys and values (B, H, M, C / H) of each layer


class DecoderLayer(nn.Module):
    """Causal self-attention and feed-forward layers, each on its normalised input."""

    def __init__(self, config: CaptionerConfig):
        super().__init__()
        dim, self.num_heads = config.language_dim, config.language_heads
        self.query, self.key, self.value, self.out = (nn.Linear(dim, dim) for _ in range(4))
        rank = config.lora_rank
        self.more_query, self.more_value = (LowRank(dim, dim, rank, config.lora_alpha) if rank else None for _ in range(2))
        self.norm_self, self.norm_ff = nn.LayerNorm(dim), nn.LayerNorm(dim)
        self.linear1, self.linear2 = nn.Linear(dim, config.language_ff), nn.Linear(config.language_ff, dim)
        self.dropout = nn.Dropout(config.dropout)

    def forward(self, x: Tensor, keep: Tensor | None, past: tuple[Tensor, Tensor] | None) -> tuple[Tensor, tuple[Tensor, Tensor]]:
        """x (B, N, C) after `past`, and keys and values of all; keep (B, M) is True at real ones of all tokens so far."""
        y = self.norm_self(x)
        query = self.query(y) + (self.more_query(y) if self.more_query else 0)
        value = self.value(y) + (self.more_value(y) if self.more_value else 0)
        query, key, value = (each.unflatten(-1, (self.num_heads, -1)).transpose(1, 2) for each in (query, self.key(y), value))
        if past is not None:
            key, value = torch.cat([past[0], key], dim=2), torch.cat([past[1], value], dim=2)
        tokens, seen = query.shape[2], key.shape[2]
        visible = torch.ones(tokens, seen, dtype=torch.bool, device=x.device).tril(seen - tokens)
        if keep is not None:
            visible = visible & keep[:, None, None]
        y = F.scaled_dot_product_attention(query, key, value, visible)
        x = x + self.dropout(self.out(y.transpose(1, 2).flatten(-2)))
        return x + self.dropout(self.linear2(F.relu(self.linear1(self.norm_ff(x))))), (key, value)


class LanguageDecoder(nn.Module):
    """Hidden states of embedded tokens, and logits of what follows; `words`: its own, or None where those of another are lent."""

    def __init__(self, config: CaptionerConfig, words: int | None):
        super().__init__()
        dim = config.language_dim
        self.words = None if words is None else nn.Embedding(words, dim)
        said = torch.zeros(config.vocabulary, dtype=torch.bool) if config.told_words == "captions" else None
        self.register_buffer("said", said)  # (V,) True at the words that it can say
        self.positions = nn.Embedding(config.language_positions + OFFSET, dim)
        self.layers = nn.ModuleList(DecoderLayer(config) for _ in range(config.language_layers))
        self.norm = nn.LayerNorm(dim)

    def forward(self, embedded: Tensor, keep: Tensor | None = None, past: Past | None = None) -> tuple[Tensor, Past]:
        """Hidden states (B, N, C) of embedded tokens (B, N, C) after `past`; keep (B, M) of all tokens so far, all by default."""
        before = past[0][0].shape[2] if past else 0
        if keep is None:
            places = torch.arange(before, before + embedded.shape[1], device=embedded.device)
        else:
            places = ((keep.cumsum(1) * keep) - 1)[:, before:]
        x, found = embedded + self.positions(places + OFFSET), []
        for number, layer in enumerate(self.layers):
            x, kept = layer(x, keep, past[number] if past else None)
            found.append(kept)
        return self.norm(x), found
