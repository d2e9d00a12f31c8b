"""Codebooks that are trained by gradients: a latent is compared with the codes as a query with keys, and stands for the value of
its likeliest code, never for the code itself.

The choice is hard forward and soft backward; two entropies keep single choices sure and all codes in use. PGR2M
(arXiv 2512.22464), its residual quantiser; entropies as in Yu et al. 2024 (MAGVIT-v2), §3.1.
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from model.across_processes import all_rows
from model.quantizers import NONE, Noise, Quantised, perplexity, rows_of_samples, tiled

RMS_EPS = 1e-5
TEMPERATURE = 0.01  # of the choices whose entropies are taken
ENTROPY_EPS = 1e-5
BETA = 0.25  # of how far the value of a code lies from a latent that is held still


@dataclass(frozen=True)
class Chosen:
    """What one codebook makes of M latents: logits (M, K), ids (M,), values of all codes (K, C), the values taken (M, C) with
    soft gradients and with hard ones, the loss that brings latents and values together, entropies of a choice and of all
    choices, and the number of codes in use.
    """

    logits: Tensor
    ids: Tensor
    values: Tensor
    soft: Tensor
    hard: Tensor
    loss: Tensor
    sample_entropy: Tensor
    batch_entropy: Tensor
    perplexity: Tensor


@dataclass(frozen=True)
class SoftQuantised(Quantised):
    """`Quantised`, of which nothing is summed over samples; its commitment is the loss of the codebooks, beside it the entropies
    of a choice and of all choices.
    """

    sample_entropy: Tensor
    batch_entropy: Tensor

    @property
    def entropy(self) -> Tensor:
        """Low where single choices are sure and all codes in use."""
        return self.sample_entropy - self.batch_entropy


class SoftCodebook(nn.Module):
    """Codes (K, C) and the projections by which latents choose among them."""

    def __init__(self, num_codes: int, code_dim: int):
        super().__init__()
        self.codes = nn.Parameter(torch.randn(num_codes, code_dim) / math.sqrt(code_dim))
        self.query, self.key, self.value = (nn.Linear(code_dim, code_dim) for _ in range(3))
        self.norm_query, self.norm_key = (nn.RMSNorm(code_dim, RMS_EPS) for _ in range(2))

    def values(self) -> Tensor:
        """What codes stand for (K, C)."""
        return self.value(self.codes)

    def logits(self, x: Tensor) -> Tensor:
        """How well each code fits (..., K) latents x (..., C)."""
        keys = self.norm_key(self.key(self.codes))
        return self.norm_query(self.query(x)) @ keys.T / math.sqrt(x.shape[-1])

    def forward(self, x: Tensor, beta: float = BETA) -> Chosen:
        """Of latents x (M, C), all of which count."""
        logits, values = self.logits(x), self.values()
        ids = logits.argmax(-1)
        hot, shares = F.one_hot(ids, logits.shape[-1]).to(x), logits.softmax(-1)
        soft, hard = (hot - shares.detach() + shares) @ values, hot @ values
        loss = F.mse_loss(soft, x) + F.mse_loss(x, hard.detach()) + beta * F.mse_loss(hard, x.detach())
        sharp = (logits / TEMPERATURE).log_softmax(-1)
        mean = sharp.exp().mean(0)
        return Chosen(
            logits, ids, values, soft, hard, loss, -(sharp.exp() * sharp).sum(-1).mean(),
            -(mean * (mean + ENTROPY_EPS).log()).sum(), perplexity(hot.mean(0)),
        )  # fmt: skip


class SoftCodebooks(nn.Module):
    """Q codebooks, each for what the ones before leave of a latent. `started`: which have begun, at latents of the first batch
    in training; it is stored, so that a run that is gone on with does not begin them again.
    """

    started: Tensor

    def __init__(self, num_quantizers: int, num_codes: int, code_dim: int, beta: float = BETA):
        super().__init__()
        self.beta = beta
        self.layers = nn.ModuleList(SoftCodebook(num_codes, code_dim) for _ in range(num_quantizers))
        self.register_buffer("started", torch.zeros(num_quantizers, dtype=torch.bool))

    def vectors(self, ids: Tensor) -> Tensor:
        """Sums (..., C) of the values of ids (..., Q or fewer); -1 adds nothing."""
        found = [F.embedding(ids[..., q].clamp(min=0), layer.values()) * (ids[..., q] != NONE)[..., None]
                 for q, layer in zip(range(ids.shape[-1]), self.layers, strict=False)]  # fmt: skip
        return torch.stack(found).sum(0)

    @torch.no_grad()
    def _start(self, number: int, x: Tensor, real: Tensor, noise: Noise) -> None:
        codes = self.layers[number].codes
        codes.copy_(tiled(all_rows(rows_of_samples(x, real).flatten(0, 1)), len(codes), noise)[: len(codes)])
        self.started[number] = True

    def forward(self, x: Tensor, keep: Tensor | None = None, used: int | None = None,
                noise: Noise = torch.randn) -> SoftQuantised:  # fmt: skip
        """Latents x (B, N, C) by the first `used` codebooks; keep (B, N) is True at real ones. noise: of repeated latents, at
        which a codebook begins in training.

        Losses and perplexity are means over the codebooks that are used.
        """
        used, real = used or len(self.layers), x.new_ones(x.shape[:2], dtype=torch.bool) if keep is None else keep
        rest, total, found = x, torch.zeros_like(x), []
        ids = torch.full((*x.shape[:2], len(self.layers)), NONE, device=x.device)
        for number, layer in enumerate(self.layers[:used]):
            if self.training and not self.started[number]:
                self._start(number, rest.detach(), real, noise)
            chosen = layer(rest[real], self.beta)
            found.append(chosen)
            ids[..., number] = ids[..., number].masked_scatter(real, chosen.ids)
            value = torch.zeros_like(rest).masked_scatter(real[..., None], chosen.soft.to(rest))
            taken = rest + (value - rest).detach()
            total, rest = total + taken, rest - taken.detach()
        loss, in_use, of_a_choice, of_all = (
            torch.stack([getattr(each, name) for each in found]).mean()
            for name in ("loss", "perplexity", "sample_entropy", "batch_entropy")
        )
        return SoftQuantised(total, ids, loss, in_use, {}, of_a_choice, of_all)
