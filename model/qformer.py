"""LaMP's Q-Former: a BERT whose layers learned queries share, which in some of them read a motion. Li et al. 2023 (BLIP-2), §3.1;
Li et al. 2025 (LaMP), §3.2.

Self-attention is the texts' and the queries' own; the feed-forward layers are not. Which token sees which is given by `visible`
(B, N, N), queries first.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from model.lamp_config import QFormerConfig
from model.layers import TransformerLayer

EPS = 1e-12


class CrossAttention(nn.Module):
    """Attention of x (B, N, C) to a memory (B, M, E) of another width; keep (B, M)."""

    def __init__(self, dim: int, memory_dim: int, num_heads: int, dropout: float):
        super().__init__()
        self.num_heads, self.dropout = num_heads, dropout
        self.query, self.key_value, self.out = nn.Linear(dim, dim), nn.Linear(memory_dim, 2 * dim), nn.Linear(dim, dim)

    def forward(self, x: Tensor, memory: Tensor, keep: Tensor | None) -> Tensor:
        query, key, value = (each.unflatten(-1, (self.num_heads, -1)).transpose(1, 2)
                             for each in (self.query(x), *self.key_value(memory).chunk(2, dim=-1)))  # fmt: skip
        visible = None if keep is None else keep[:, None, None]
        y = F.scaled_dot_product_attention(query, key, value, visible, self.dropout if self.training else 0.0)
        return self.out(y.transpose(1, 2).flatten(-2))


class QFormerLayer(TransformerLayer):
    """A layer of BERT, of which queries have feed-forward layers of their own; `reads`: they also read a memory."""

    def __init__(self, config: QFormerConfig, reads: bool):
        dim, dropout = config.latent_dim, config.dropout
        super().__init__(dim, config.num_heads, config.ff_size, dropout, eps=EPS)
        self.reads = CrossAttention(dim, config.memory_dim, config.num_heads, dropout) if reads else None
        self.norm_reads = nn.LayerNorm(dim, EPS) if reads else None
        size = config.query_ff_size or config.ff_size
        self.query_linear1, self.query_linear2 = nn.Linear(dim, size), nn.Linear(size, dim)
        self.query_norm = nn.LayerNorm(dim, EPS)

    def forward(self, x: Tensor, visible: Tensor | None, queries: int, memory: Tensor | None = None,
                memory_keep: Tensor | None = None) -> Tensor:  # fmt: skip
        """(B, N, C) from x (B, N, C), the first so many of which are queries."""
        x = self.norm_self(x + self.dropout(self.self_attention(x, keep=visible)))
        asked, said = x[:, :queries], x[:, queries:]
        if queries:
            if self.reads is not None and memory is not None:
                asked = self.norm_reads(asked + self.dropout(self.reads(asked, memory, memory_keep)))
            asked = self.query_norm(asked + self.dropout(self.query_linear2(F.gelu(self.query_linear1(asked)))))
        if said.shape[1]:
            # BERT has no dropout between its two feed-forward layers
            said = self.norm_ff(said + self.dropout(self.linear2(F.gelu(self.linear1(said)))))
        return torch.cat([asked, said], dim=1)


class QFormer(nn.Module):
    """Last hidden states of queries and of a text's tokens, and the logits of the tokens that follow them."""

    def __init__(self, config: QFormerConfig):
        super().__init__()
        dim = config.latent_dim
        self.queries = nn.Parameter(torch.empty(1, config.num_queries, dim).normal_(std=0.02))
        self.words = nn.Embedding(config.vocabulary, dim)
        self.begin = nn.Parameter(torch.empty(1, dim).normal_(std=0.02))  # the word that begins what is said of a motion
        self.positions = nn.Embedding(config.max_positions, dim)
        self.segment = nn.Parameter(torch.zeros(dim))  # of the first and only sentence, where the language model knows two
        self.norm, self.dropout = nn.LayerNorm(dim, EPS), nn.Dropout(config.dropout)
        self.layers = nn.ModuleList(QFormerLayer(config, i % config.cross_every == 0) for i in range(config.num_layers))
        self.saying, self.saying_norm = nn.Linear(dim, dim), nn.LayerNorm(dim, EPS)
        self.word_bias = nn.Parameter(torch.zeros(config.vocabulary + 1))

    @property
    def begin_id(self) -> int:
        """The id of the word that begins what is said of a motion: the one after all others."""
        return self.words.num_embeddings

    def embedded(self, ids: Tensor) -> Tensor:
        """Words and places (B, L, C) of ids (B, L)."""
        known = self.words(ids.clamp(max=self.begin_id - 1))
        words = torch.where((ids == self.begin_id)[..., None], self.begin, known)
        return words + self.positions.weight[: ids.shape[1]] + self.segment

    def embedding_layer(self, ids: Tensor) -> Tensor:
        """What the first layer is given (B, L, C) of a text's ids (B, L)."""
        return self.dropout(self.norm(self.embedded(ids)))

    def forward(self, ids: Tensor | None = None, visible: Tensor | None = None, asked: int = 0, memory: Tensor | None = None,
                memory_keep: Tensor | None = None, count: int | None = None) -> Tensor:  # fmt: skip
        """(B, N, C): with `asked` = B the queries, for so many samples, then the tokens of ids (B, L), where they are given.

        visible (B or 1, N, N): which token sees which. memory (B, M, E): what queries read; memory_keep (B, M). count: the first
        so many queries, by default all.
        """
        parts = [self.queries[:, :count].expand(asked, -1, -1)] if asked else []
        queries = parts[0].shape[1] if asked else 0
        parts += [] if ids is None else [self.embedded(ids)]
        x = self.dropout(self.norm(torch.cat(parts, dim=1)))
        for layer in self.layers:
            x = layer(x, visible, queries, memory, memory_keep)
        return x

    def word_logits(self, hidden: Tensor, among: Tensor | None = None) -> Tensor:
        """Logits (..., V + 1) of the next token, or of those of ids `among` (K,); a token's weights are its embedding."""
        x = self.saying_norm(F.gelu(self.saying(hidden)))
        if among is not None:
            return F.linear(x, self.words.weight[among], self.word_bias[among])
        return F.linear(x, torch.cat([self.words.weight, self.begin]), self.word_bias)


def seen(mask: Tensor, asked: Tensor | None = None, by_queries: bool = False, causal: bool = False) -> Tensor:
    """visible (B, N, N) of a text's tokens, mask (B, L), behind queries, which see one another; asked (B, Q): those that are.

    Tokens see these queries, and real tokens, with `causal` no later ones; queries see tokens only if by_queries says so.
    """
    length, queries = mask.shape[1], 0 if asked is None else asked.shape[1]
    whole = mask if asked is None else torch.cat([asked, mask], dim=1)
    visible = whole[:, None].repeat(1, queries + length, 1)  # (B, N, N)
    if not by_queries:
        visible[:, :queries, queries:] = False
    if causal:
        visible[:, queries:, queries:] &= torch.ones(length, length, dtype=torch.bool, device=mask.device).tril()
    return visible


def mean_of(x: Tensor, keep: Tensor | None) -> Tensor:
    """Means (B, C) of queries x (B, Q, C): of those with keep (B, Q), by default of all."""
    return x.mean(1) if keep is None else (x * keep[..., None]).sum(1) / keep.sum(1, keepdim=True)
