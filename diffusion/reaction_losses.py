"""What keeps the latents of an action and of its reaction regular, alike, and apart from those of other interactions.

Latents are Gaussians N(mean, exp(log variance)), (B, C) each.
"""

import torch
from torch import Tensor

EPS = 1e-12  # the least length of a vector that has a direction


def gaussian_kl(mean: Tensor, log_variance: Tensor, other_mean: Tensor | None = None,
                other_log_variance: Tensor | None = None) -> Tensor:
    """KL(N || N_other) (B,) of diagonal Gaussians (B, C), the mean over C; the unit Gaussian in place of an absent other.

    Kingma & Welling 2014, App. B; the mean, so that weights do not depend on the size of a latent.
    """
    if other_mean is None:
        other_mean, other_log_variance = torch.zeros_like(mean), torch.zeros_like(log_variance)
    difference = log_variance - other_log_variance
    distance = (mean - other_mean).square() * torch.exp(-other_log_variance)
    return 0.5 * (difference.exp() + distance - 1 - difference).mean(-1)


def alike(summaries: Tensor, threshold: float) -> Tensor:
    """(B, B) True at pairs of different rows of summaries (B, C) whose cosine is above the threshold: no pair to tell apart."""
    with torch.autocast(summaries.device.type, enabled=False):  # bfloat16 would put pairs on the other side of it
        found = _cosines(summaries, summaries) > threshold
    return found & ~torch.eye(len(found), dtype=torch.bool, device=found.device)


def info_nce(logits: Tensor) -> Tensor:
    """Cross entropy of finding each row's own column and each column's own row, halved. van den Oord et al. 2018, Eq. 4."""
    return -(logits.log_softmax(1).diagonal().mean() + logits.log_softmax(0).diagonal().mean()) / 2


def discrimination(action: Tensor, reaction: Tensor, excluded: Tensor | None = None, temperature: float = 0.1) -> Tensor:
    """Symmetric InfoNCE between mean latents (B, C) of actions and of their reactions, by cosine.

    excluded (B, B): True at pairs that count neither for nor against, never one's own.
    """
    with torch.autocast(action.device.type, enabled=False):  # bfloat16 would blur cosines
        logits = _cosines(action, reaction) / temperature
    return info_nce(logits if excluded is None else logits.masked_fill(excluded, -torch.inf))


def _cosines(a: Tensor, b: Tensor) -> Tensor:
    """Cosines (N, M) of rows of a (N, C) and b (M, C), float32 at least."""
    a, b = (x if x.dtype == torch.float64 else x.float() for x in (a, b))
    a, b = (x / x.norm(dim=-1, keepdim=True).clamp_min(EPS) for x in (a, b))
    return a @ b.T
