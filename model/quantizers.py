"""Codebooks that follow the latents they stand for, one after another (residual vector quantisation).

A codebook is an average of the latents that were nearest to each code; codes that hardly any latent comes near are put where a
latent of the batch lies. van den Oord et al. 2017, App. A.1; resets as in Zhang et al. 2023 (T2M-GPT); residuals as in Guo et al.
2024 (MoMask). What a training step adds to the averages is returned as sums over its samples, so that several processes, or
several passes, make one update together.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from model.across_processes import all_rows

LEAST_USE = 1.0  # average number of latents of a step, below which a code is put elsewhere, as published
SPREAD = 0.01  # of the noise on latents that are repeated, over the root of their channels
PERPLEXITY_EPS = 1e-7
NONE = -1  # the id of a codebook that is left out
Noise = Callable[[tuple[int, ...]], Tensor]  # standard normal numbers of a shape


@dataclass(frozen=True)
class Quantised:
    """vectors (B, N, C), through which gradients pass as if nothing had been rounded; ids (B, N, Q), -1 where a codebook was left
    out; the mean squared distance of latents from their codes; and how many codes are in use (perplexity), a mean over codebooks.

    `sums` of used codebooks (U): `sum` (U, K, C) and `count` (U, K) of the latents of each code, `rows` (U, K, C), latents where
    the batch has its first K, zero elsewhere, and `given` (), how many latents the samples have in all, padding counted.
    """

    vectors: Tensor
    ids: Tensor
    commitment: Tensor
    perplexity: Tensor
    sums: dict[str, Tensor]


class Codebooks(nn.Module):
    """Q codebooks (Q, K, C) with the averages that they come from; `update` is how they learn."""

    def __init__(self, num_quantizers: int, num_codes: int, code_dim: int, decay: float = 0.99, least_use: float = LEAST_USE):
        """least_use: average number of latents of a step, below which a code is put elsewhere."""
        super().__init__()
        self.decay, self.least_use = decay, least_use
        self.register_buffer("codes", torch.zeros(num_quantizers, num_codes, code_dim))
        self.register_buffer("sums", torch.zeros(num_quantizers, num_codes, code_dim))
        self.register_buffer("counts", torch.ones(num_quantizers, num_codes))
        self.register_buffer("started", torch.zeros(num_quantizers, dtype=torch.bool))

    @torch.no_grad()
    def start(self, layer: int, rows: Tensor) -> None:
        """Makes a codebook of latents (K, C)."""
        self.codes[layer], self.sums[layer], self.counts[layer], self.started[layer] = rows, rows, 1.0, True

    def nearest(self, x: Tensor, layer: int, gumbel: Tensor | None = None, temperature: float = 0.0) -> Tensor:
        """Ids (M,) of the codes nearest to latents x (M, C), the first of equals; with gumbel noise (M, K) drawn by
        softmax(-distance² / temperature).
        """
        codes = self.codes[layer]
        distances = x.square().sum(-1, keepdim=True) - 2 * x @ codes.T + codes.square().sum(-1)  # (M, K)
        if gumbel is None or temperature == 0:
            return distances.argmin(-1)
        return (gumbel - distances / temperature).argmax(-1)

    def vectors(self, ids: Tensor) -> Tensor:
        """Sums (..., C) of the codes of ids (..., Q); -1, and codebooks that ids do not reach, add nothing."""
        found = self.codes[torch.arange(ids.shape[-1], device=ids.device), ids.clamp(min=0)]  # (..., Q, C)
        return (found * (ids != NONE)[..., None]).sum(-2)

    def forward(
        self, x: Tensor, keep: Tensor | None = None, used: int | None = None, gumbel: Callable[[int], Tensor] | None = None,
        temperature: float = 0.0, noise: Noise | None = None, first: int = 0,
    ) -> Quantised:  # fmt: skip
        """Latents x (B, N, C) by the first `used` codebooks; keep (B, N) is True at real ones.

        gumbel(layer): noise (B, N, K), to draw codes. In training: noise, of repeated rows, where a codebook has not begun;
        first, the place of the first sample in the step's whole batch.
        """
        used, real = used or len(self.codes), x.new_ones(x.shape[:2], dtype=torch.bool) if keep is None else keep
        rest, total, found = x, torch.zeros_like(x), []
        ids = torch.full((*x.shape[:2], len(self.codes)), NONE, device=x.device)
        for layer in range(used):
            if self.training and not self.started[layer]:
                rows = all_rows(rows_of_samples(rest.detach(), real).flatten(0, 1))
                self.start(layer, tiled(rows, self.codes.shape[1], noise or torch.randn)[: self.codes.shape[1]])
            drawn = gumbel(layer).flatten(0, 1) if gumbel else None
            ids[..., layer] = self.nearest(rest.flatten(0, 1).detach(), layer, drawn, temperature).view(x.shape[:2])
            codes = self.codes[layer][ids[..., layer]]  # (B, N, C)
            found.append(self._found(rest, codes, ids[..., layer], real, layer, first))
            total = total + rest + (codes - rest).detach()
            rest = rest - codes
        sums = {name: torch.stack([each[name] for each in found]) for name in ("sum", "count", "rows")} if self.training else {}
        if self.training:
            sums["given"] = x.new_tensor(x.shape[0] * x.shape[1])
        commitment, perplexity = (torch.stack([each[name] for each in found]).mean() for name in ("commitment", "perplexity"))
        return Quantised(total, ids.masked_fill(~real[..., None], NONE), commitment, perplexity, sums)

    def _found(self, x: Tensor, codes: Tensor, ids: Tensor, real: Tensor, layer: int, first: int) -> dict[str, Tensor]:
        """What one codebook makes of x (B, N, C)."""
        num_codes = self.codes.shape[1]
        kept, rows = ids[real], x.detach()[real]
        count = torch.bincount(kept, minlength=num_codes).to(x.dtype)
        share = count / count.sum()
        found = {
            "commitment": ((x - codes).square().mean(-1) * real).sum() / real.sum(),
            "perplexity": perplexity(share),
        }
        if self.training:
            placed, given = torch.zeros_like(self.codes[layer]), rows_of_samples(x.detach(), real).flatten(0, 1)
            place = first * x.shape[1]
            placed[place : place + len(given)] = given[: max(num_codes - place, 0)]
            found |= {"count": count, "sum": torch.zeros_like(placed).index_add_(0, kept, rows), "rows": placed}
        return found

    @torch.no_grad()
    def update(self, sums: dict[str, Tensor], noise: Noise) -> None:
        """Moves the codebooks by the sums of a step over all its samples."""
        for layer, (total, count, rows) in enumerate(zip(sums["sum"], sums["count"], sums["rows"], strict=True)):
            self.sums[layer].lerp_(total, 1 - self.decay)
            self.counts[layer].lerp_(count, 1 - self.decay)
            alive = self.counts[layer] >= self.least_use
            elsewhere = tiled(rows[: int(sums["given"])], len(rows), noise)[: len(rows)]
            means = self.sums[layer] / self.counts[layer].clamp(min=self.least_use)[:, None]
            self.codes[layer] = torch.where(alive[:, None], means, elsewhere)


def perplexity(share: Tensor) -> Tensor:
    """How many codes are in use (...), of how often each is (..., K)."""
    return torch.exp(-(share * (share + PERPLEXITY_EPS).log()).sum(-1))


def rows_of_samples(x: Tensor, real: Tensor) -> Tensor:
    """x (B, N, C) with the real latents of shorter samples repeated to their end; real (B, N)."""
    places = torch.arange(x.shape[1], device=x.device) % real.sum(1, keepdim=True).clamp(min=1)  # (B, N)
    return x.take_along_dim(places[..., None], dim=1)


def tiled(rows: Tensor, count: int, noise: Noise) -> Tensor:
    """Latents (M, C), or where these are fewer than `count`, so many of them in turn, with a little noise, as to reach it."""
    if len(rows) >= count:
        return rows
    repeated = rows.repeat(math.ceil(count / len(rows)), 1)
    return repeated + noise(tuple(repeated.shape)).to(repeated) * (SPREAD / math.sqrt(rows.shape[-1]))


def gumbel_of(uniform: Tensor, least: float = 1e-20) -> Tensor:
    """Gumbel noise of uniform numbers in [0, 1). Jang et al. 2017."""
    return -(-uniform.clamp(min=least).log()).clamp(min=least).log()
