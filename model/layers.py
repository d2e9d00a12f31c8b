"""Layers shared by the systems: attention, transformers, convolutions over time, sinusoidal tables, Gaussians over latents.
Batch-first, (B, N, C).
"""

import math
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel

EPS = 1e-12  # the least length of a vector that has a direction
KeysValues = tuple[Tensor, Tensor]  # (B, H, M, C/H) each, of the tokens so far


def sinusoidal_table(length: int, dim: int, base: float = 10000.0) -> Tensor:
    """Rows (length, dim): sin at even columns, cos at odd ones, of p * base^(-2i/dim). Vaswani et al. 2017, §3.5."""
    position = torch.arange(length, dtype=torch.float32)[:, None]
    frequency = torch.exp(torch.arange(0, dim, 2, dtype=torch.float32) * (-math.log(base) / dim))
    table = torch.zeros(length, dim)
    table[:, 0::2] = torch.sin(position * frequency)
    table[:, 1::2] = torch.cos(position * frequency)[:, : dim // 2]
    return table


def sinusoids(values: Tensor, dim: int, base: float = 10000.0) -> Tensor:
    """(..., dim) of numbers (...), as the rows of `sinusoidal_table` are of whole ones. Differentiable, `dim` even."""
    places = torch.arange(0, dim, 2, dtype=torch.float32, device=values.device)
    angles = values[..., None] * torch.exp(places * (-math.log(base) / dim))
    return torch.stack([angles.sin(), angles.cos()], dim=-1).flatten(-2)


def cosines(a: Tensor, b: Tensor) -> Tensor:
    """Cosines (N, M) of rows of a (N, C) and b (M, C); 0 where a row is zero."""
    return F.normalize(a, dim=-1, eps=EPS) @ F.normalize(b, dim=-1, eps=EPS).T


def quick_gelu(x: Tensor) -> Tensor:
    """x · sigmoid(1.702 x), the approximation of GELU that CLIP was trained with."""
    return x * torch.sigmoid(1.702 * x)


@dataclass(frozen=True)
class Posterior:
    """Gaussian over latents: mean and log variance (..., C)."""

    mean: Tensor
    log_variance: Tensor

    def sample(self, noise: Tensor, added: Tensor | float = 0.0) -> Tensor:
        """A draw; `added` (C,): standard deviation of noise on top of the posterior's own."""
        return self.mean + noise * (self.log_variance.exp() + added**2).sqrt()

    def kl(self) -> Tensor:
        """KL to the unit Gaussian per element (..., C). Kingma & Welling 2014, App. B."""
        return 0.5 * (self.mean.square() + self.log_variance.exp() - 1 - self.log_variance)


class Attention(nn.Module):
    """Multi-head attention with packed query/key/value weights, as in torch.nn.MultiheadAttention.

    `forward(x (B, N, C), memory (B, M, C), keep (B, M) or (B, N, M), True = seen)` returns (B, N, C); without `memory` it
    attends to itself, `causal` to no later token, and with a `bias` (N, N) added to what queries and keys make of each other. At
    least one entry of `keep` must be True in every row: a softmax over nothing is not a number. With `zero_slot` there is one
    more key and value, both zero, that are never hidden (add_zero_attn of torch; not for `causal`): a query may then attend to
    nothing.
    """

    def __init__(self, dim: int, num_heads: int, dropout: float = 0.0, zero_slot: bool = False):
        super().__init__()
        if dim % num_heads:
            raise ValueError(f"latent size {dim} is not a multiple of {num_heads} attention heads")
        self.num_heads = num_heads
        self.zero_slot = zero_slot
        self.dropout = dropout
        self.qkv = nn.Linear(dim, 3 * dim)
        self.out = nn.Linear(dim, dim)
        nn.init.xavier_uniform_(self.qkv.weight)
        nn.init.zeros_(self.qkv.bias)
        nn.init.zeros_(self.out.bias)

    def forward(self, x: Tensor, memory: Tensor | None = None, keep: Tensor | None = None,
                causal: bool = False, bias: Tensor | None = None) -> Tensor:
        if memory is not None and memory.shape[1] == 1 and keep is None and not self.zero_slot:
            return self._attend_to_one(x.shape[1], memory)
        if memory is None:
            query, key, value = self.qkv(x).chunk(3, dim=-1)  # (B, N, C) each
        else:
            dim = x.shape[-1]
            query = F.linear(x, self.qkv.weight[:dim], self.qkv.bias[:dim])  # (B, N, C)
            key, value = F.linear(memory, self.qkv.weight[dim:], self.qkv.bias[dim:]).chunk(2, dim=-1)  # (B, M, C)
        if self.zero_slot:
            key, value = F.pad(key, (0, 0, 0, 1)), F.pad(value, (0, 0, 0, 1))  # (B, M + 1, C)
            keep = None if keep is None else F.pad(keep, (0, 1), value=True)
        query, key, value = (y.unflatten(-1, (self.num_heads, -1)).transpose(1, 2) for y in (query, key, value))
        visible = None if keep is None else keep[:, None, None, :] if keep.dim() == 2 else keep[:, None]  # (B, 1, 1 or N, M)
        if causal and visible is not None:
            visible = visible & torch.ones(x.shape[1], x.shape[1], dtype=torch.bool, device=x.device).tril()
        if bias is not None:
            visible = bias.to(query) if visible is None else bias.to(query).masked_fill(~visible, -math.inf)
        dropout = self.dropout if self.training else 0.0
        with quick_backward(query):
            y = F.scaled_dot_product_attention(query, key, value, attn_mask=visible, dropout_p=dropout,
                                               is_causal=causal and visible is None)  # (B, H, N, C/H)
        return self.out(y.transpose(1, 2).flatten(-2))  # (B, N, C)

    def onwards(self, x: Tensor, past: KeysValues | None = None, keep: Tensor | None = None) -> tuple[Tensor, KeysValues]:
        """What causal self-attention makes (B, N, C) of tokens x (B, N, C) that come after those of `past`, and keys and values
        of all of them: earlier tokens are not read again for each new one. keep (B, M): True at those of all M that are seen.
        """
        query, key, value = (y.unflatten(-1, (self.num_heads, -1)).transpose(1, 2) for y in self.qkv(x).chunk(3, dim=-1))
        if past is not None:
            key, value = torch.cat([past[0], key], dim=2), torch.cat([past[1], value], dim=2)  # (B, H, M, C/H)
        tokens, seen = query.shape[2], key.shape[2]
        visible = None if tokens == 1 else torch.ones(tokens, seen, dtype=torch.bool, device=x.device).tril(seen - tokens)
        if keep is not None:
            keep = keep[:, None, None]  # (B, 1, 1, M)
            visible = keep if visible is None else visible & keep
        with quick_backward(query):
            y = F.scaled_dot_product_attention(query, key, value, visible)
        return self.out(y.transpose(1, 2).flatten(-2)), (key, value)

    def _attend_to_one(self, num_queries: int, memory: Tensor) -> Tensor:
        """(B, N, C) of a memory (B, 1, C), which every query attends to whatever it asks: but for dropout, all get the same."""
        dim = memory.shape[-1]
        value = F.linear(memory, self.qkv.weight[2 * dim :], self.qkv.bias[2 * dim :])  # (B, 1, C)
        if not (self.training and self.dropout):
            return self.out(value).expand(-1, num_queries, -1)
        heads = value.view(len(value), self.num_heads, -1)  # (B, H, C/H)
        parts = torch.einsum("bhd,chd->bhc", heads, self.out.weight.view(dim, self.num_heads, -1))  # what each head adds
        kept = F.dropout(parts.new_ones(len(value), num_queries, self.num_heads), self.dropout)  # (B, N, H)
        return kept @ parts + self.out.bias


def quick_backward(query: Tensor) -> AbstractContextManager:
    """Attention by plain matrix products where it is to be differentiated on a CPU: the backward pass of the fused kernel takes
    two to three times as long there."""
    return sdpa_kernel(SDPBackend.MATH) if query.requires_grad and query.device.type == "cpu" else nullcontext()


class TransformerLayer(nn.Module):
    """Self-attention, cross-attention to `memory` if asked for, feed-forward; each with residual and layer norm.

    Post-norm by default, as in torch.nn.TransformerEncoderLayer/DecoderLayer; `norm_first` normalises inside the
    branches (Xiong et al. 2020) and then needs a final norm after the last layer. Only then can a `modulation` shift,
    scale and gate each branch (Peebles & Xie 2023, §3.2), all of it zero leaving the layer as it is. `inner_dropout`: also
    between the two linear layers of the feed-forward branch.
    """

    MODULATED = 9  # vectors: shift, scale and gate of self-attention, cross-attention and feed-forward

    def __init__(self, dim: int, num_heads: int, ff_size: int, dropout: float = 0.1, *,
                 cross_attention: bool = False, norm_first: bool = False, causal: bool = False,
                 activation: Callable[[Tensor], Tensor] = F.gelu, eps: float = 1e-5, inner_dropout: bool = True):
        super().__init__()
        self.norm_first = norm_first
        self.inner_dropout = inner_dropout
        self.causal = causal
        self.activation = activation
        self.self_attention = Attention(dim, num_heads, dropout)
        self.cross_attention = Attention(dim, num_heads, dropout) if cross_attention else None
        self.linear1 = nn.Linear(dim, ff_size)
        self.linear2 = nn.Linear(ff_size, dim)
        self.norm_self = nn.LayerNorm(dim, eps)
        self.norm_cross = nn.LayerNorm(dim, eps) if cross_attention else None
        self.norm_ff = nn.LayerNorm(dim, eps)
        self.dropout = nn.Dropout(dropout)

    def feed_forward(self, x: Tensor) -> Tensor:
        y = self.activation(self.linear1(x))
        return self.linear2(self.dropout(y) if self.inner_dropout else y)

    def onwards(self, x: Tensor, past: KeysValues | None = None, keep: Tensor | None = None,
                modulation: Tensor | None = None) -> tuple[Tensor, KeysValues]:
        """As `Attention.onwards`, of a causal layer without cross-attention, without dropout of attention; modulation (B, 9, N or
        1, C) of each of the tokens x, or of all."""
        one, _, three = (None, None, None) if modulation is None else modulation.split(3, dim=1)

        def attend(y: Tensor) -> Tensor:
            nonlocal past
            y, past = self.self_attention.onwards(y, past, keep)
            return y

        x = self._branch(x, self.norm_self, attend, one)
        return self._branch(x, self.norm_ff, self.feed_forward, three), past

    def forward(self, x: Tensor, keep: Tensor | None = None, memory: Tensor | None = None,
                memory_keep: Tensor | None = None, modulation: Tensor | None = None, first: int | None = None,
                bias: Tensor | None = None) -> Tensor:
        """(B, N, C) from x (B, N, C); keep (B, N) and memory_keep (B, M) are True at real tokens; modulation (B, 9, C).

        bias (N, N): added to the scores of self-attention. first: only the outputs (B, first, C) of that many tokens, where
        nobody reads the others: not for `causal` layers.
        """
        one, two, three = (None, None, None) if modulation is None else modulation[:, :, None].split(3, dim=1)
        if first is None:
            x = self._branch(x, self.norm_self, lambda y: self.self_attention(y, keep=keep, causal=self.causal, bias=bias), one)
        else:
            x = self._branch(x, self.norm_self, lambda y: self.self_attention(y[:, :first], y, keep), one, first)
        if self.cross_attention is not None:
            x = self._branch(x, self.norm_cross, lambda y: self.cross_attention(y, memory, memory_keep), two)
        return self._branch(x, self.norm_ff, self.feed_forward, three)

    def _branch(self, x: Tensor, norm: nn.LayerNorm, branch, modulation: Tensor | None = None,
                first: int | None = None) -> Tensor:
        if not self.norm_first:
            return norm(x[:, :first] + self.dropout(branch(x)))
        if modulation is None:
            return x[:, :first] + self.dropout(branch(norm(x)))
        shift, scale, gate = modulation.unbind(1)  # (B, 1, C) each
        return x[:, :first] + (1 + gate) * self.dropout(branch(norm(x) * (1 + scale) + shift))


class TimeConv(nn.Conv1d):
    """A convolution over tokens (B, N, C), with zeros beyond both ends: one matrix product, in training faster on a CPU.

    It keeps their number, or with a `stride`, of which `kernel` is then twice as many, divides it. `causal`: none of what it
    makes reads a later token; all zeros come before the first.
    """

    def __init__(self, inputs: int, outputs: int, kernel: int, dilation: int = 1, stride: int = 1, causal: bool = False):
        beside = stride // 2 if stride > 1 else dilation * (kernel // 2)
        super().__init__(inputs, outputs, kernel, stride, beside, dilation)
        self.around = (2 * beside, 0) if causal else (beside, beside)

    def forward(self, x: Tensor) -> Tensor:
        (kernel,), (stride,), (dilation,) = self.kernel_size, self.stride, self.dilation
        padded = F.pad(x, (0, 0, *self.around))
        last = padded.shape[1] - dilation * (kernel - 1)  # where a window can begin
        seen = torch.cat([padded[:, k * dilation : k * dilation + last : stride] for k in range(kernel)], dim=-1)  # (B, N, K C)
        return F.linear(seen, rearrange(self.weight, "o i k -> o (k i)"), self.bias)


class ConvBlock(nn.Module):
    """Pre-norm residual block of two temporal convolutions. Tokens (B, N, C)."""

    def __init__(self, width: int, kernel: int, causal: bool = False):
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.conv1, self.conv2 = (TimeConv(width, width, kernel, causal=causal) for _ in range(2))
        nn.init.zeros_(self.conv2.weight)
        nn.init.zeros_(self.conv2.bias)

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        y = self.norm(x) * mask  # zeros beyond the end, as at the start, whatever the padding holds
        return x + self.conv2(F.gelu(self.conv1(y)) * mask)  # (B, N, C)


class LowRank(nn.Module):
    """scale * up(down(x)): what is added to a frozen projection (LoRA, Hu et al. 2022). At first nothing."""

    def __init__(self, inputs: int, outputs: int, rank: int, alpha: float):
        super().__init__()
        self.scale = alpha / rank
        self.down, self.up = nn.Linear(inputs, rank, bias=False), nn.Linear(rank, outputs, bias=False)
        nn.init.zeros_(self.up.weight)

    def forward(self, x: Tensor) -> Tensor:
        return self.scale * self.up(self.down(x))


class AdaptedLinear(nn.Linear):
    """A projection, by names as any other, with a low-rank addition."""

    def __init__(self, inputs: int, outputs: int, rank: int):
        super().__init__(inputs, outputs)
        self.more = LowRank(inputs, outputs, rank, rank)

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x) + self.more(x)


def adapt(module: nn.Module, rank: int, but: tuple[str, ...] = ()) -> None:
    """Gives every projection below a module a low-rank addition, but those below submodules of the names `but`."""
    for name, child in module.named_children():
        if type(child) is nn.Linear:
            setattr(module, name, AdaptedLinear(child.in_features, child.out_features, rank))
        elif name not in but:
            adapt(child, rank, but)


def in_patches(rows: Tensor, keep: Tensor | None, patch: int) -> tuple[Tensor, Tensor | None, Tensor]:
    """Tokens (B, N, r D) of rows (B, T, D), r to each, the last filled up by zeros, keep (B, N) and 1 at real frames (B, N r, 1).

    What lies beyond an end is zero whatever it held, so that a motion is the same alone as beside longer ones. keep (B, T): True
    at real frames, None where all are.
    """
    beyond = -rows.shape[1] % patch
    real = rows.new_ones(rows.shape[:2]) if keep is None else keep.to(rows.dtype)
    rows, real = F.pad(rows * real[..., None], (0, 0, 0, beyond)), F.pad(real, (0, beyond))
    tokens = rearrange(rows, "b (n r) d -> b n (r d)", r=patch)
    return tokens, None if keep is None else real[:, ::patch] > 0, real[..., None]


class FrameDecoder(nn.Module):
    """Rows (B, N r, D) of tokens (B, N, C) that stand for r frames each, and of the rows that these were made of: a token is too
    narrow for all that r frames say, so convolutions over frames read both. A token says how much the rows under it count.
    It answers zero until it is trained."""

    def __init__(self, dim: int, columns: int, frames: int, width: int, num_blocks: int = 2):
        super().__init__()
        self.frames = frames
        self.norm = nn.LayerNorm(dim)
        self.unpatch, self.share = nn.Linear(dim, frames * width), nn.Linear(dim, width)
        self.beside = nn.Linear(columns, width)
        self.fine = nn.ModuleList(ConvBlock(width, 5) for _ in range(num_blocks))
        self.columns_out = nn.Sequential(nn.LayerNorm(width), nn.Linear(width, columns))
        nn.init.zeros_(self.columns_out[1].weight)
        nn.init.zeros_(self.columns_out[1].bias)

    def forward(self, tokens: Tensor, given: Tensor, mask: Tensor) -> Tensor:
        """given (B, N r, D): the rows that the tokens were made of; mask (B, N r, 1): 1 at frames that there are."""
        tokens = self.norm(tokens)
        share = self.share(tokens).repeat_interleave(self.frames, dim=1)
        rows = rearrange(self.unpatch(tokens), "b n (r c) -> b (n r) c", r=self.frames) + (1 + share) * self.beside(given)
        for block in self.fine:
            rows = block(rows, mask)
        return self.columns_out(rows)
