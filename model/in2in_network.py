"""The networks of InterGen (Liang et al. 2024) and in2IN (Ruiz-Ponce et al. 2024): the denoiser of one or two people, whose
weights all people share, and the reader of texts.
"""

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn

from model.in2in_config import In2INConfig
from model.layers import Attention, FrameDecoder, TransformerLayer, adapt, in_patches, sinusoidal_table

READ_PARTNER = ("cross_attention", "norm_cross", "norm_partner")  # what a layer of two people has beside that of one


class AdaptiveNorm(nn.Module):
    """Layer norm of x (B, T, C) whose scale and shift follow from a condition (B, C); none at first. Peebles & Xie 2023, §3.2."""

    def __init__(self, dim: int):
        super().__init__()
        self.projection = zeroed(nn.Linear(dim, 2 * dim))

    def forward(self, x: Tensor, condition: Tensor) -> Tensor:
        scale, shift = self.projection(condition)[:, None].chunk(2, dim=-1)  # (B, 1, C) each
        return torch.addcmul(shift, F.layer_norm(x, x.shape[-1:], eps=1e-6), 1 + scale)


class PersonLayer(nn.Module):
    """Self-attention, attention to the partner (of several people), feed-forward: of a person (B, T, C), with residuals."""

    def __init__(self, dim: int, num_heads: int, ff_size: int, dropout: float, partner: bool):
        super().__init__()
        self.norm_self, self.norm_ff = AdaptiveNorm(dim), AdaptiveNorm(dim)
        self.self_attention = Attention(dim, num_heads, dropout, zero_slot=True)
        self.norm_cross, self.norm_partner = (AdaptiveNorm(dim), AdaptiveNorm(dim)) if partner else (None, None)
        self.cross_attention = Attention(dim, num_heads, dropout, zero_slot=True) if partner else None
        self.linear1 = nn.Linear(dim, ff_size)
        self.linear2 = zeroed(nn.Linear(ff_size, dim))
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor, own: Tensor, keep: Tensor | None = None, partner: Tensor | None = None,
                shared: Tensor | None = None) -> Tensor:
        """(B, T, C) from x and the partner (B, T, C), conditions of this person and of both (B, C), keep (B, T) True at real
        frames of either."""
        x = x + self.self_attention(self.norm_self(x, own), keep=keep)
        if self.cross_attention is not None:
            x = x + self.cross_attention(self.norm_cross(x, shared), self.norm_partner(partner, shared), keep)
        return x + self.linear2(self.dropout(F.gelu(self.linear1(self.norm_ff(x, own)))))


class PeopleDenoiser(nn.Module):
    """Prediction (B, T, persons * D) of the clean motion from a noisy one, its step and its texts.

    People are rows of one batch with the same weights. A layer reads of the partner what went into that layer, so that both
    go on at once and exchanging them exchanges the result. in2IN: self-attention and feed-forward follow the text about this
    person, attention to the partner the text about both; InterGen: all follow the latter.
    """

    def __init__(self, config: In2INConfig, num_features: int):
        """num_features: columns D of one person."""
        super().__init__()
        dim, self.persons = config.latent_dim, config.persons
        self.patch = config.patch
        self.input_projection = nn.Linear(self.patch * num_features, dim)
        self.first = nn.Parameter(torch.zeros(dim)) if config.tell_first else None
        self.register_buffer("positions", sinusoidal_table(config.max_positions, dim), persistent=False)
        self.time_mlp = nn.Sequential(nn.Linear(dim, dim), nn.SiLU(), nn.Linear(dim, dim))
        self.text_projection = nn.Linear(config.text_dim, dim)
        sizes = dim, config.num_heads, config.ff_size, config.dropout
        self.layers = nn.ModuleList(PersonLayer(*sizes, partner=self.persons > 1) for _ in range(config.num_layers))
        if self.patch == 1:
            self.output_projection = zeroed(nn.Linear(dim, num_features))
        else:
            self.output_projection = FrameDecoder(dim, num_features, self.patch, config.fine_width)
        if config.prior_rank:
            adapt(self, config.prior_rank, but=READ_PARTNER)

    def forward(self, x: Tensor, t: Tensor, texts: Tensor, mask: Tensor | None = None, first_layer: int = 0) -> Tensor:
        """(B, T, persons * D) from x at steps t (B,) of the original, unrespaced schedule.

        texts (B, R, C): of all roles in their order, zero where one is left out. mask (B, T): True at real frames, None where
        all are. first_layer: those before it are left out.
        """
        people = rearrange(x, "b t (p d) -> (p b) t d", p=self.persons)
        keep = None if mask is None else mask.repeat(self.persons, 1)  # (P B, T)
        frames = people.shape[1]
        if self.patch > 1:
            people, keep, real = in_patches(people, keep, self.patch)
        y = self.input_projection(people)  # (P B, N, C), N = T frames or their patches
        y = y + self.positions[: y.shape[1]].to(y.dtype)
        if self.first is not None:
            y = torch.cat([y[: len(x)] + self.first, y[len(x) :]])
        time = self.time_mlp(self.positions[t])  # (B, C)
        given = F.silu(time[:, None] + self.text_projection(texts))  # (B, R, C)
        shared = given[:, 0].repeat(self.persons, 1)  # (P B, C)
        own = rearrange(given[:, 1:], "b p c -> (p b) c") if given.shape[1] > 1 else shared
        for layer in self.layers[first_layer:]:
            y = layer(y, own, keep, y.roll(len(x), dims=0), shared) if self.persons > 1 else layer(y, own, keep)
        if self.patch == 1:
            rows = self.output_projection(y)
        else:
            read = rearrange(people, "p n (r d) -> p (n r) d", r=self.patch)
            rows = self.output_projection(y, read, real)[:, :frames]
        return rearrange(rows, "(p b) t d -> b t (p d)", p=self.persons)


class TextReader(nn.Module):
    """A vector (B, C) of each text from the states of its tokens (B, L, C) in a frozen encoder: that of its end, after layers in
    which all tokens attend to each other.
    """

    def __init__(self, config: In2INConfig):
        super().__init__()
        dim = config.text_dim
        self.layers = nn.ModuleList(
            TransformerLayer(dim, config.text_heads, config.text_ff_size, config.dropout) for _ in range(config.text_layers))
        self.norm = nn.LayerNorm(dim)

    def forward(self, tokens: Tensor, end: Tensor, keep: Tensor | None = None) -> Tensor:
        """end (B,): place of each text's end; keep (B, L) True at its tokens, None: padding is read too, as published."""
        for layer in self.layers:
            tokens = layer(tokens, keep)
        return self.norm(tokens[torch.arange(len(end), device=end.device), end])  # (B, C)


def zeroed(layer: nn.Linear) -> nn.Linear:
    """A layer that answers zero until it is trained."""
    nn.init.zeros_(layer.weight)
    nn.init.zeros_(layer.bias)
    return layer
