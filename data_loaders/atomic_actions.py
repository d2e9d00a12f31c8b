"""What a body does over half a second, as likeness to so many atomic actions: a codebook of windows of its semantics.

LS-ReMGM computes a vector of them per frame and prints neither what a window is nor how the codebook comes about: both are ours.
"""

import logging
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

log = logging.getLogger(__name__)
BEFORE, AFTER = 8, 8  # frames of a window: t-8 to t+7
NUM_ACTIONS = 128
ITERATIONS = 100  # of k-means


class AtomicActions(NamedTuple):
    """A codebook: mean and std (330,) of window features, centres (K, 330) among standardised ones, and the mean squared distance
    () of training windows to their nearest centre."""

    mean: Tensor
    std: Tensor
    codebook: Tensor
    sigma2: Tensor


def window_features(semantics: Tensor, causal: bool = False, lengths: Tensor | None = None) -> Tensor:
    """Features (..., T, 2 C) of the window about each frame of values (..., T, C): their mean over it, and by how much its last
    frame is over its first.

    Windows are t-8 to t+7, or with `causal`, for who may not look ahead, t-15 to t, as far as they lie within the clip. lengths
    (...): of padded clips, whose frames beyond them mean nothing.
    """
    frames, device = semantics.shape[-2], semantics.device
    t, end = torch.arange(frames, device=device), frames if lengths is None else lengths.to(device)[..., None]
    before, after = (BEFORE + AFTER - 1, 1) if causal else (BEFORE, AFTER)
    stop = torch.clamp(t + after, max=end) if isinstance(end, int) else torch.minimum(t + after, end)  # (..., T)
    start = torch.minimum((t - before).clamp_min(0), stop - 1)
    sums = torch.nn.functional.pad(semantics.double().cumsum(-2), (0, 0, 1, 0))  # (..., T+1, C): of the frames before
    count = (stop - start)[..., None]
    mean = (_at(sums, stop) - _at(sums, start)) / count
    change = _at(semantics, stop - 1) - _at(semantics, start)
    return torch.cat([mean.to(semantics.dtype), change], dim=-1)


def _at(values: Tensor, place: Tensor) -> Tensor:
    """Rows of values (..., T, C) at places (..., N)."""
    return torch.take_along_dim(values, place[..., None].expand(*values.shape[:-2], -1, 1), dim=-2)


def fit_codebook(features: Tensor | np.ndarray, count: int = NUM_ACTIONS, seed: int = 0) -> AtomicActions:
    """The atomic actions of window features (N, 330): k-means from distant beginnings (Arthur & Vassilvitskii 2007).

    Of fewer different windows than `count` there are as many actions as windows, and the log says so. ValueError for none, or
    such as are not finite.
    """
    from scipy.cluster.vq import kmeans2

    features = np.asarray(features, np.float64)
    if features.ndim != 2 or not len(features) or not np.isfinite(features).all():
        raise ValueError(f"windows of shape {features.shape}: expected one or more rows of finite features")
    mean, std = features.mean(0), features.std(0)
    std[std < 1e-6] = 1.0  # what never changes tells nothing
    rows = (features - mean) / std
    rng = np.random.default_rng(seed)
    different = len(np.unique((rows @ rng.standard_normal(rows.shape[1])).round(6)))
    if different < count:
        log.warning("%d different windows: as many atomic actions instead of %d", different, count)
    centres, _ = kmeans2(rows, min(count, different), iter=ITERATIONS, minit="++", seed=rng)
    nearest = _squared_distances(torch.from_numpy(rows), torch.from_numpy(centres)).amin(-1)
    found = (mean, std, centres, nearest.mean().item())
    return AtomicActions(*(torch.tensor(each, dtype=torch.float32) for each in found))


def soft_assignment(features: Tensor, actions: AtomicActions) -> Tensor:
    """How like each window (..., 330) is to each atomic action, (..., K), 1 in sum."""
    rows = (features - actions.mean) / actions.std
    width = actions.sigma2.clamp_min(1e-6)  # 0 where every training window is a centre
    return (-_squared_distances(rows, actions.codebook) / (2 * width)).softmax(-1)


def _squared_distances(rows: Tensor, centres: Tensor) -> Tensor:
    """(..., K) of rows (..., C) and centres (K, C)."""
    return (rows.square().sum(-1, keepdim=True) - 2 * rows @ centres.T + centres.square().sum(-1)).clamp_min(0)
