"""Decoding of poses, one token after another: of each group of pose codes one, until a token says that the motion ends.

Functions over logits (B, bits), of which the first are those of groups of codes and the last two END and PAD. The siblings of
`diffusion/token_decoding.py`, whose temperature and top-k they take. CoMo (arXiv 2403.13900), PGR2M (arXiv 2512.22464).
"""

import math
from collections.abc import Callable, Sequence
from functools import lru_cache

import torch
from torch import Tensor

from diffusion.token_decoding import Gumbel, TokenSampling, draw

# (bits (R, bits) said last, rows (R,) of the call before that they go on from) -> logits (R, bits) of what follows
Advance = Callable[[Tensor, Tensor], Tensor]
LIKELIEST = TokenSampling(top_k=0.0)


@lru_cache(maxsize=16)
@torch.inference_mode(False)
def _places(sizes: tuple[int, ...], device: torch.device) -> tuple[Tensor, Tensor]:
    """Columns (G, most) of the codes of each group, the last repeated, and which of them are its own."""
    widths = torch.tensor(sizes, device=device)[:, None]
    bins = torch.arange(max(sizes), device=device)
    firsts = widths.cumsum(0) - widths
    return firsts + torch.minimum(bins, widths - 1), bins < widths


def hardened(logits: Tensor, sizes: Sequence[int], sampling: TokenSampling = LIKELIEST, gumbel: Tensor | None = None) -> Tensor:
    """Bits (..., bits), 0 or 1, of logits (..., bits): of each group of codes, of these `sizes`, the one drawn, without noise
    (..., G, largest) the likeliest, the first of equals; of END and PAD whether they are likely.
    """
    columns, own = _places(tuple(sizes), logits.device)
    drawn = draw(logits[..., columns].masked_fill(~own, -math.inf), sampling, gumbel)  # (..., G)
    codes = columns.expand(*drawn.shape, -1).gather(-1, drawn[..., None])[..., 0]
    bits = (logits > 0).to(logits)
    bits[..., : sum(sizes)] = 0.0
    return bits.scatter(-1, codes, 1.0)


def spoilt_poses(bits: Tensor, kept: Tensor, noise: Tensor, sizes: Sequence[int]) -> Tensor:
    """Bits (B, N, bits) as a network reads them in training: where not kept noise, and then one code of each group again."""
    return hardened(torch.where(kept, bits, noise), sizes)


def decode_poses(
    first: Tensor, advance: Advance, sizes: Sequence[int], shortest: Tensor, longest: Tensor,
    sampling: TokenSampling = LIKELIEST, gumbel: Gumbel | None = None,
) -> list[Tensor]:  # fmt: skip
    """Bits [(N, bits)] of each sample, of logits (B, bits) of its first token: up to the one before END, at least one.

    END that comes before `shortest` (B,) tokens is not heeded, and with `longest` (B,) a motion ends without it: both alike set
    its length. gumbel(step, shape): noise, else the likeliest are taken.
    """
    end, said = sum(sizes), [[] for _ in first]
    logits, rows = first, torch.arange(len(first), device=first.device)  # of which sample each row of the logits is
    for step in range(int(longest.max())):
        noise = None if gumbel is None else gumbel(step, (len(first), len(sizes), max(sizes)))[rows]
        bits = hardened(logits, sizes, sampling, noise)
        ends = bits[:, end] > 0
        early = ends & (shortest[rows] > step)
        bits[:, end:] = bits[:, end:].masked_fill(early[:, None], 0.0)
        ends = ends & ~early
        for row, token, over in zip(rows.tolist(), bits, ends.tolist(), strict=True):
            if not over or step == 0:
                said[row].append(token)
        going = (~ends & (longest[rows] > step + 1)).nonzero()[:, 0]
        if not len(going):
            break
        rows, logits = rows[going], advance(bits[going], going)
    return [torch.stack(tokens) for tokens in said]
