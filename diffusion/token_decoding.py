"""Decoding of tokens: functions over `logits(ids)`, the siblings of the samplers of diffusion.

Masked decoding fills in all tokens at once and takes back those that it is least sure of, fewer at every step (Chang et al. 2022,
MaskGIT; Guo et al. 2024, MoMask); residual decoding adds one codebook after another. Randomness comes as Gumbel noise, from
which a draw is an argmax.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

KEPT = 1e5  # the score of a token that is not to be taken back
LEAST_TEMPERATURE = 1e-10
Logits = Callable[[Tensor], Tensor]  # ids (B, N) -> (B, N, K)
Gumbel = Callable[[int, tuple[int, ...]], Tensor]  # (which draw, shape) -> noise


@dataclass(frozen=True)
class TokenSampling:
    """How a token is drawn: from softmax(logits / `temperature`), nearly 0 taking the likeliest, of the likeliest share
    1 - `top_k` of the codes.
    """

    temperature: float = 1.0
    top_k: float = 0.9


def share_masked(progress: Tensor | float) -> Tensor:
    """How much is masked at a progress of 0..1: a quarter of a cosine. Chang et al. 2022, §3.3."""
    return torch.cos(torch.as_tensor(progress) * math.pi * 0.5)


def num_masked(lengths: Tensor, progress: Tensor | float) -> Tensor:
    """How many of `lengths` (B,) tokens are masked, at least one."""
    return (share_masked(progress) * lengths).round().clamp(min=1).long()


def steps_of(count: int, device: torch.device | str = "cpu") -> Tensor:
    """The progress (count,) at which each step begins."""
    return torch.linspace(0, 1, count, device=device)


def num_kept(share: float, classes: int) -> int:
    """How many of so many classes top-k leaves: the likeliest (1 - share) of them."""
    return math.ceil((1 - share) * classes)


def likeliest(logits: Tensor, share: float) -> Tensor:
    """Logits (..., K) of the likeliest (1 - share) of the classes, the others -inf."""
    kept = num_kept(share, logits.shape[-1])
    if kept >= logits.shape[-1]:
        return logits
    values, places = logits.topk(max(kept, 1), dim=-1)
    return torch.full_like(logits, -math.inf).scatter(-1, places, values)


def draw(logits: Tensor, sampling: TokenSampling, gumbel: Tensor | None) -> Tensor:
    """Ids (...) drawn from softmax(logits (..., K) / temperature) among the likeliest; without noise the likeliest itself."""
    filtered = likeliest(logits, sampling.top_k)
    if gumbel is None:
        return filtered.argmax(-1)
    return (filtered / max(sampling.temperature, LEAST_TEMPERATURE) + gumbel).argmax(-1)


def decode_masked(
    logits: Logits, ids: Tensor, open_to: Tensor, mask_id: int, steps: int, sampling: TokenSampling = TokenSampling(),
    gumbel: Gumbel | None = None, share: float | None = None,
) -> Tensor:  # fmt: skip
    """Ids (B, N) of which those `open_to` (B, N) change are made anew, in so many steps.

    At each the least sure of them are masked, all at the first, and drawn again; the surest are kept for good. logits: of ids
    in which masked ones are `mask_id`, guided already. gumbel(step, shape): noise, else the likeliest are taken. share: of them
    that is masked at every step, instead of ever fewer: an edit that stays near what was given.
    """
    lengths = open_to.sum(1)
    if share is None:
        ids = torch.where(open_to, mask_id, ids)
    scores = torch.where(open_to, 0.0, KEPT)  # (B, N)
    for step, progress in enumerate(steps_of(steps, ids.device)):
        count = num_masked(lengths, progress) if share is None else (share * lengths).round().clamp(min=1).long()
        ranks = scores.argsort(dim=1).argsort(dim=1)  # (B, N)
        masked = (ranks < count[:, None]) & open_to
        ids = torch.where(masked, mask_id, ids)
        found = logits(ids)  # (B, N, K)
        noise = None if gumbel is None else gumbel(step, tuple(found.shape))
        drawn = draw(found, sampling, noise)  # (B, N)
        ids = torch.where(masked, drawn, ids)
        sure = found.softmax(-1).gather(-1, drawn[..., None])[..., 0]
        scores = torch.where(masked, sure, KEPT)
    return ids


def decode_residual(
    logits: Callable[[int, Tensor], Tensor], ids: Tensor, mask: Tensor, num_quantizers: int,
    sampling: TokenSampling = TokenSampling(), gumbel: Gumbel | None = None,
) -> Tensor:  # fmt: skip
    """Ids (B, N, Q) of the first codebook's ids (B, N) and of what each further one adds; -1 beyond the end, mask (B, N).

    logits(layer, ids (B, N, layer)) -> (B, N, K + 1), of which the last class means that nothing is added: -1.
    """
    found, nothing = ids[..., None], -1
    for layer in range(1, num_quantizers):
        scores = logits(layer, found)
        noise = None if gumbel is None else gumbel(layer - 1, tuple(scores.shape))
        drawn = draw(scores, sampling, noise)
        found, nothing = torch.cat([found, drawn[..., None]], dim=-1), scores.shape[-1] - 1
    return found.masked_fill((found == nothing) | ~mask[..., None], -1)


def masks_to_train_on(lengths: Tensor, size: int, progress: Tensor, order: Tensor) -> Tensor:
    """Which tokens (B, N) training masks: a share of all places by `progress` (B,) in [0, 1), padding counted, in the `order`
    (B, N) of uniform numbers; of padding none.
    """
    count = (size * share_masked(progress)).round().clamp(min=1)  # (B,)
    places = torch.arange(size, device=lengths.device)
    return (order.argsort(dim=-1) < count[:, None]) & (places < lengths[:, None])


def spoilt(ids: Tensor, masked: Tensor, mask_id: int, replaced: Tensor, other: Tensor, hidden: Tensor) -> Tensor:
    """Ids (B, N) as a network sees them in training: of the masked ones a share `replaced` by `other` ids, of the rest a share
    `hidden` behind `mask_id`, the rest as they are. Devlin et al. 2019, §3.1.
    """
    swapped = masked & replaced
    return torch.where(masked & ~swapped & hidden, mask_id, torch.where(swapped, other, ids))


def layers_to_train(uniform: Tensor, num_quantizers: int) -> Tensor:
    """Which codebook (B,) of 1 to Q - 1 a sample is trained on, of uniform numbers (B,): early ones more often."""
    return ((1 - share_masked(uniform)) * (num_quantizers - 2)).round().long() + 1
