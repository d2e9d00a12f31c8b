"""PGR2M's transformers: the base one, which says the pose codes of one token after another, and the refine one, which adds the
ids of one codebook after another to a whole motion. CoMo (arXiv 2403.13900) and PGR2M (arXiv 2512.22464).

A token of poses is 394 bits: the pose codes, END and PAD. What a motion is told by, a vector of its text and one for each
keyword, stands before it.
"""

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from model.layers import KeysValues, TransformerLayer, sinusoidal_table
from model.pgr2m_transformer_config import PoseRefinerConfig, PoseTransformerConfig
from model.token_networks import begin

END, PAD, BITS = 392, 393, 394
MOST_TOKENS = 50  # of a motion
Past = list[KeysValues]  # of each layer


class PoseTransformer(nn.Module):
    """Logits (B, 1 + N, 394) of the token after the condition (B, S, D), and after each of N tokens (B, N, 394)."""

    positions: Tensor

    def __init__(self, config: PoseTransformerConfig):
        super().__init__()
        dim = config.latent_dim
        self.embedding, self.condition_projection = nn.Linear(BITS, dim), nn.Linear(config.condition_dim, dim)
        self.register_buffer("positions", sinusoidal_table(1 + config.num_keywords + MOST_TOKENS, dim), persistent=False)
        self.layers = nn.ModuleList(
            TransformerLayer(dim, config.num_heads, config.ff_size, config.dropout, norm_first=True, causal=True,
                             inner_dropout=False)
            for _ in range(config.num_layers)
        )  # fmt: skip
        self.norm, self.head = nn.LayerNorm(dim), nn.Linear(dim, BITS, bias=False)
        begin(self)

    def every_row(self, bits: Tensor, condition: Tensor) -> Tensor:
        """Logits (B, S + N, 394), those behind the condition's first tokens too."""
        x = torch.cat([self.condition_projection(condition), self.embedding(bits)], dim=1)
        x = x + self.positions[: x.shape[1]]
        for layer in self.layers:
            x = layer(x)
        return self.head(self.norm(x))

    def forward(self, bits: Tensor, condition: Tensor) -> Tensor:
        return self.every_row(bits, condition)[:, condition.shape[1] - 1 :]

    def first(self, condition: Tensor) -> tuple[Tensor, Past]:
        """Logits (B, 394) of the first token, and what is kept for those that follow."""
        return self._onwards(self.condition_projection(condition), [])

    def following(self, bits: Tensor, past: Past) -> tuple[Tensor, Past]:
        """Logits (B, 394) of the token after the last one (B, 394), and what is kept."""
        return self._onwards(self.embedding(bits)[:, None], past)

    def _onwards(self, x: Tensor, past: Past) -> tuple[Tensor, Past]:
        before = past[0][0].shape[2] if past else 0
        x, kept = x + self.positions[before : before + x.shape[1]], []
        for number, layer in enumerate(self.layers):
            x, own = layer.onwards(x, past[number] if past else None)
            kept.append(own)
        return self.head(self.norm(x[:, -1])), kept


class PoseRefiner(nn.Module):
    """Logits (B, N, K + 2) of a codebook's ids, of poses and the ids before it; the last two classes are of no id.

    `share_weights`: codes are read by what they are told by. Without, published code adds the projection twice, as its weights
    need it.
    """

    positions: Tensor

    def __init__(self, config: PoseRefinerConfig):
        super().__init__()
        dim, count = config.latent_dim, config.num_quantizers
        self.num_quantizers, self.num_codes = count, config.num_codes
        shape = (count, config.num_codes + 2, dim)
        if config.share_weights:
            self.shared = nn.Parameter(torch.empty(shape).normal_(std=0.02))
        else:
            self.embeddings = nn.Parameter(torch.empty(count - 1, *shape[1:]).normal_(std=0.02))
            self.projections = nn.Parameter(torch.empty(shape).normal_(std=0.02))
            self.projection_bias = nn.Parameter(torch.zeros(shape[:2]))
        self.embedding, self.condition_projection = nn.Linear(BITS, dim), nn.Linear(config.condition_dim, dim)
        self.quantizer_projection = nn.Linear(count, dim)
        self.register_buffer("positions", sinusoidal_table(MOST_TOKENS, dim), persistent=False)
        self.layers = nn.ModuleList(
            TransformerLayer(dim, config.num_heads, config.ff_size, config.dropout, norm_first=True, inner_dropout=False)
            for _ in range(config.num_layers)
        )  # fmt: skip
        begin(self)

    def read(self, number: int, ids: Tensor) -> Tensor:
        """What ids (B, N) of a codebook are read by (B, N, C); -1 counts as padding."""
        tables = self.shared if hasattr(self, "shared") else self.embeddings
        return F.embedding(torch.where(ids < 0, self.num_codes + 1, ids), tables[number])

    def told(self, ids: Tensor, below: Tensor) -> Tensor:
        """Sums (B, N, C) of the embeddings of ids (B, N, Q or fewer) of codebooks lower than `below` (B,)."""
        count = min(ids.shape[-1], self.num_quantizers - (not hasattr(self, "shared")))
        known = torch.arange(count, device=ids.device) < below[:, None]  # (B, count)
        return sum((self.read(q, ids[..., q]) * known[:, q, None, None] for q in range(count)),
                   self.positions.new_zeros(()))  # fmt: skip

    def forward(self, bits: Tensor, ids: Tensor, stage: Tensor, condition: Tensor, mask: Tensor | None = None) -> Tensor:
        """bits (B, N, 394), ids (B, N, at least `stage`), asked for codebook `stage` (B,) of each; mask (B, N) True at tokens."""
        which = self.quantizer_projection(F.one_hot(stage, self.num_quantizers).to(bits))[:, None]
        x = self._through(self.embedding(bits) + self.told(ids, stage), self.condition_projection(condition), which, mask)
        if hasattr(self, "shared"):
            return x @ self.shared[stage].mT
        return 2 * x @ self.projections[stage].mT + self.projection_bias[stage][:, None]

    def in_turn(self, bits: Tensor, condition: Tensor, mask: Tensor | None = None) -> Callable[[int, Tensor], Tensor]:
        """`logits(q, ids (B, N, q))` (B, N, K) of codebooks 0, 1, ... of the same poses: what all of them share is computed once,
        and what is read of ids added up. Of classes that are no id nothing is said."""
        poses, condition = self.embedding(bits), self.condition_projection(condition)
        told = poses.new_zeros(())

        def logits(number: int, ids: Tensor) -> Tensor:
            nonlocal told
            told = told + self.read(number - 1, ids[..., -1]) if number else told
            which = self.quantizer_projection(torch.eye(self.num_quantizers).to(bits)[None, [number]])
            x = self._through(poses + told, condition, which.expand(len(bits), -1, -1), mask)
            if hasattr(self, "shared"):
                return F.linear(x, self.shared[number, : self.num_codes])
            return 2 * F.linear(x, self.projections[number, : self.num_codes]) + self.projection_bias[number, : self.num_codes]

        return logits

    def _through(self, tokens: Tensor, condition: Tensor, which: Tensor, mask: Tensor | None) -> Tensor:
        """What layers make (B, N, C) of tokens (B, N, C), the condition (B, S, C) and which codebook is asked for (B, 1, C)."""
        count = tokens.shape[1]
        # Positions are added, so that the order is free: what nobody reads of the last layer stands last
        x = torch.cat([tokens + self.positions[:count], condition, which], dim=1)  # (B, N + S + 1, C)
        keep = None if mask is None else F.pad(mask, (0, x.shape[1] - count), value=True)
        *layers, last = self.layers
        for layer in layers:
            x = layer(x, keep)
        return last(x, keep, first=count)
