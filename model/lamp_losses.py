"""LaMP's four objectives (Li et al. 2025, §3.2) as functions over similarities, logits and ids."""

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional as F

IGNORED = -100  # a target that does not count


def similarities(queries: Tensor, texts: Tensor, scale: Tensor) -> Tensor:
    """(motions B, texts B) of unit vectors of a motion's queries (B, Q, E) and of texts (B, E): the best query's cosine, scaled.
    """
    return scale * torch.einsum("mqe,te->mtq", queries, texts).amax(-1)


def smoothed_cross_entropy(logits: Tensor, target: Tensor, smoothing: float, excluded: Tensor | None = None) -> Tensor:
    """Mean cross entropy of logits (B, K) and targets (B,), of which a share `smoothing` goes to all classes but the `excluded`
    (B, K). Szegedy et al. 2016, §7."""
    if excluded is None:
        return F.cross_entropy(logits, target, label_smoothing=smoothing)
    likely = logits.masked_fill(excluded, -torch.inf).log_softmax(-1)
    spread = likely.masked_fill(excluded, 0).sum(-1) / (~excluded).sum(-1)
    return -((1 - smoothing) * likely.gather(-1, target[:, None])[:, 0] + smoothing * spread).mean()


def contrast(scores: Tensor, smoothing: float, same: Tensor | None = None) -> dict[str, Tensor]:
    """Of similarities (motions B, texts B): finding each motion's text and each text's motion; `same` (B, B) excludes pairs."""
    own = torch.arange(len(scores), device=scores.device)
    return {"motion_to_text": smoothed_cross_entropy(scores, own, smoothing, same),
            "text_to_motion": smoothed_cross_entropy(scores.T, own, smoothing, None if same is None else same.T)}  # fmt: skip


def negative_weights(scores: Tensor, alike: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """How likely each motion is drawn as the wrong one of a text (texts B, motions B), and each text as that of a motion
    (motions B, texts B), by similarities (motions B, texts B); `alike` (B, B) pairs, such as its own, are never drawn.

    Without `alike` a sample may be drawn as its own negative, as published code does by a slip.
    """
    if alike is not None:
        scores = scores.masked_fill(alike, -torch.inf)
    return scores.T.softmax(-1), scores.softmax(-1)


def drawn(weights: Tensor, uniform: Tensor) -> Tensor:
    """Ids (B,) drawn by the weights (B, K) of each row, of uniform numbers (B,)."""
    return (weights.cumsum(-1) < uniform[:, None] * weights.sum(-1, keepdim=True)).sum(-1).clamp(max=weights.shape[-1] - 1)


def captioning(
    logits: Callable[..., Tensor], hidden: Tensor, ids: Tensor, mask: Tensor, smoothing: float = 0.0, among: Tensor | None = None
) -> Tensor:
    """How well hidden states (B, L, C) foretell ids (B, L), each of its own place, mask (B, L); logits: of states (M, C).

    Of a large vocabulary only those places are told that count; among (K,): ids of the words, by default all, that they are told
    from, with those of these texts. Then logits are asked for them, too.
    """
    states, wanted = hidden[mask], ids[mask]
    if among is None:
        return F.cross_entropy(logits(states), wanted, label_smoothing=smoothing)
    words, places = torch.cat([among.to(wanted), wanted]).unique(return_inverse=True)
    return F.cross_entropy(logits(states, words), places[len(among) :], label_smoothing=smoothing)


def generation(logits: Tensor, codes: Tensor, smoothing: float) -> Tensor:
    """Of logits (B, N, K) of motion tokens, against codes (B, N), those below 0 not counted."""
    target = torch.where(codes < 0, IGNORED, codes)
    return F.cross_entropy(logits.flatten(0, 1), target.flatten(), ignore_index=IGNORED, label_smoothing=smoothing)
