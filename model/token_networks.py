"""Transformers over motion tokens: the masked one, which fills in the first codebook, and the residual one, which adds others.

Guo et al. 2024 (MoMask), §3.2 and 3.3; LaMP's has another condition and lets padding be seen. One token before the motion holds
the condition, in the residual one a second which codebook is asked for; neither has a position.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from model.layers import TransformerLayer, sinusoidal_table
from model.lsremgm_network import zero_where
from model.token_transformer_config import TokenTransformerConfig

HEAD_EPS = 1e-12


class TokenTrunk(nn.Module):
    """(B, N, outputs) of embedded tokens (B, N, code_dim), behind `prefix` tokens (B, P, C)."""

    def __init__(self, config: TokenTransformerConfig, code_dim: int, outputs: int):
        super().__init__()
        dim = config.latent_dim
        self.attention, self.key_padding = config.attention, config.key_padding
        self.input_projection = nn.Linear(code_dim, dim)
        self.register_buffer("positions", sinusoidal_table(config.max_positions, dim), persistent=False)
        self.condition_projection = nn.Linear(config.condition_dim, dim)
        self.dropout = nn.Dropout(config.dropout)
        self.layers = nn.ModuleList(
            TransformerLayer(dim, config.num_heads, config.ff_size, config.dropout, causal=config.attention == "causal")
            for _ in range(config.num_layers)
        )
        self.head = nn.Linear(dim, dim)
        self.head_norm = nn.LayerNorm(dim, HEAD_EPS)
        self.output_projection = nn.Linear(dim, outputs)

    def forward(self, embedded: Tensor, prefix: Tensor, mask: Tensor | None) -> Tensor:
        """mask (B, N): tokens that are seen, where padding is hidden."""
        x = self.dropout(self.input_projection(embedded) + self.positions[: embedded.shape[1]])
        x = torch.cat([prefix, x], dim=1)  # (B, P + N, C)
        keep = F.pad(mask, (prefix.shape[1], 0), value=True) if self.key_padding and mask is not None else None
        # Published LaMP adds a lower triangle of ones to the scores where it means to hide what comes later
        bias = x.new_ones(x.shape[1], x.shape[1]).tril() if self.attention == "tril_plus_one" else None
        for layer in self.layers:
            x = layer(x, keep, bias=bias)
        x = self.head_norm(F.gelu(self.head(x[:, prefix.shape[1] :])))
        return self.output_projection(x)  # (B, N, outputs)

    def condition(self, condition: Tensor, drop: Tensor | None) -> Tensor:
        """The token (B, 1, C) of a condition (B, D), which is zero where drop (B,) says so."""
        return self.condition_projection(zero_where(drop, condition))[:, None]


class MaskedTransformer(nn.Module):
    """Logits (B, N, K) of the codes behind ids (B, N) of which some are `mask_id`, beyond the end `pad_id`."""

    def __init__(self, config: TokenTransformerConfig):
        super().__init__()
        self.mask_id, self.pad_id = config.num_codes, config.num_codes + 1
        self.embedding = nn.Embedding(config.num_codes + 2, config.code_dim)
        self.trunk = TokenTrunk(config, config.code_dim, config.num_codes)
        begin(self)

    def forward(self, ids: Tensor, condition: Tensor, mask: Tensor | None = None, drop: Tensor | None = None) -> Tensor:
        return self.trunk(self.embedding(ids), self.trunk.condition(condition, drop), mask)


class ResidualTransformer(nn.Module):
    """Logits (B, N, K + 1) of the codes of a codebook, of those before it; class K means that none is added.

    `share_weights`: what a codebook's codes are read by is what the one before is told by. Without, published code adds the
    projection twice: the released weights are made for that.
    """

    def __init__(self, config: TokenTransformerConfig):
        super().__init__()
        self.num_quantizers, self.pad_id = config.num_quantizers, config.num_codes
        classes, shared = config.num_codes + 1, config.share_weights
        shape = (self.num_quantizers - (2 if shared else 1), classes, config.code_dim)
        if shared:
            self.shared = nn.Parameter(torch.empty(shape))
            self.first_embedding = nn.Parameter(torch.empty(1, *shape[1:]))
            self.last_projection = nn.Parameter(torch.empty(1, *shape[1:]))
        else:
            self.embeddings, self.projections = (nn.Parameter(torch.empty(shape)) for _ in range(2))
            self.projection_bias = nn.Parameter(torch.zeros(self.num_quantizers, classes))
        self.quantizer_projection = nn.Linear(self.num_quantizers, config.latent_dim)
        self.trunk = TokenTrunk(config, config.code_dim, config.code_dim)
        begin(self)
        for parameter in self.parameters(recurse=False):
            if parameter.dim() == 3:
                nn.init.normal_(parameter, std=0.02)

    def tables(self) -> tuple[Tensor, Tensor]:
        """Embeddings of the codebooks but the last (Q - 1, K + 1, C), and projections of those but the first."""
        if hasattr(self, "shared"):
            return torch.cat([self.first_embedding, self.shared]), torch.cat([self.shared, self.last_projection])
        return self.embeddings, self.projections

    def told(self, ids: Tensor, below: Tensor) -> Tensor:
        """Sums (B, N, C) of the embeddings of ids (B, N, Q or fewer) of codebooks lower than `below` (B,); -1 and padding have
        one of their own.
        """
        count = min(ids.shape[-1], self.num_quantizers - 1)
        ids = torch.where(ids < 0, self.pad_id, ids)[..., :count]
        embedded = self.tables()[0][torch.arange(count, device=ids.device), ids]  # (B, N, count, C)
        known = torch.arange(count, device=ids.device) < below[:, None]  # (B, count)
        return (embedded * known[:, None, :, None]).sum(2)

    def hidden(self, told: Tensor, layer: Tensor, condition: Tensor, mask: Tensor | None, drop: Tensor | None = None) -> Tensor:
        """What the trunk makes (B, N, C) of codes told so far (B, N, C), asked for codebook `layer` (B,)."""
        which = F.one_hot(layer, self.num_quantizers).to(told)
        prefix = torch.cat([self.trunk.condition(condition, drop), self.quantizer_projection(which)[:, None]], dim=1)
        return self.trunk(told, prefix, mask)

    def project(self, hidden: Tensor, layer: Tensor) -> Tensor:
        """Logits (B, N, K + 1) of hidden (B, N, C) for codebook `layer` (B,) of each."""
        weights = self.tables()[1][layer - 1]  # (B, K + 1, C)
        logits = hidden @ weights.mT
        return logits if hasattr(self, "shared") else 2 * logits + self.projection_bias[layer - 1][:, None]

    def forward(self, ids: Tensor, layer: Tensor, condition: Tensor, mask: Tensor | None = None,
                drop: Tensor | None = None) -> Tensor:
        """Of ids (B, N, at least `layer`), asked for codebook `layer` (B,) of each."""
        return self.project(self.hidden(self.told(ids, layer), layer, condition, mask, drop), layer)


def begin(network: nn.Module) -> None:
    """Weights of N(0, 0.02), biases of 0, as published."""
    for module in network.modules():
        if isinstance(module, (nn.Linear, nn.Embedding)):
            nn.init.normal_(module.weight, std=0.02)
            if getattr(module, "bias", None) is not None:
                nn.init.zeros_(module.bias)
