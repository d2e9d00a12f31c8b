"""What it costs to carry one set of embeddings over to another: how differently two models do the same thing (EID of DualMDM).

Ruiz-Ponce et al. 2024: entropy-regularised optimal transport of uniform weights (Cuturi 2013), its potentials updated as
logarithms, so that a small entropy does not underflow. With as many updates as it takes it comes to the cost of the best
assignment; those published may stop some percent from it.
"""

import math

import numpy as np
import torch
from torch import Tensor

ENTROPY = 1e-3
MOST_UPDATES = 500
SETTLED = 1e-5  # potentials that move less are settled


def transport_cost(a: Tensor, b: Tensor, entropy: float = ENTROPY, updates: int = MOST_UPDATES) -> Tensor:
    """Cost (...) of carrying a (..., N, C) over to b (..., M, C) by Euclidean distance, each row an equal share; in float64.

    Sets with leading axes are carried pair by pair. ValueError for an empty set, or values that are not finite.
    """
    cost = distances(a, b)
    share_a, share_b = (entropy * math.log(1 / size) for size in cost.shape[-2:])
    u, v = torch.zeros_like(cost[..., 0]), torch.full_like(cost[..., 0, :], share_b)  # (..., N), (..., M)
    for _ in range(updates):
        before = u, v
        u = share_a - entropy * torch.logsumexp((v[..., None, :] - cost) / entropy, -1)
        v = share_b - entropy * torch.logsumexp((u[..., :, None] - cost) / entropy, -2)
        if max((now - then).abs().max() for now, then in zip((u, v), before, strict=True)) < SETTLED:
            break
    plan = ((u[..., :, None] + v[..., None, :] - cost) / entropy).exp()
    return (plan * cost).sum((-2, -1))


def assignment_cost(a: Tensor, b: Tensor) -> float:
    """Mean distance of rows of a (N, C) and b (N, C) that are paired in the best way. ValueError as `transport_cost`."""
    from scipy.optimize import linear_sum_assignment

    cost = distances(a, b).cpu().numpy()
    return float(np.mean(cost[linear_sum_assignment(cost)]))


def distances(a: Tensor, b: Tensor) -> Tensor:
    """Euclidean distances (..., N, M) of rows of a (..., N, C) and b (..., M, C), in float64."""
    for each in (a, b):
        if not each.numel() or not each.isfinite().all():
            raise ValueError(f"embeddings of shape {tuple(each.shape)}: expected at least one row, and finite values")
    return torch.cdist(a.double(), b.double(), compute_mode="donot_use_mm_for_euclid_dist")
