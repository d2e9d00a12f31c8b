"""The field's metrics as functions of embeddings, joints and values: equal to the published code, without its quirks.

Embeddings are numpy arrays (N, C), texts and motions aligned row by row. `rng` is a numpy Generator, or the RandomState
that published numbers were drawn with.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from evaluations import retrieval_metrics

POOL = 32  # motions a text is ranked among; published numbers hold for 32 only
TOP_K = (1, 2, 3)
DIVERSITY_TIMES = 300
FEW_DIVERSITY_TIMES = 100  # where there are no more than 300 samples
MULTIMODALITY_TIMES = 10
REPLICATIONS = 20

Random = np.random.Generator | np.random.RandomState


def _checked(name: str, *arrays: np.ndarray) -> list[np.ndarray]:
    """The arrays in float64. ValueError where one is empty or not finite, or their widths differ."""
    arrays = [np.asarray(array, np.float64) for array in arrays]
    for array in arrays:
        if array.ndim < 2 or not array.size:
            raise ValueError(f"{name} of embeddings of shape {array.shape}: expected at least one row")
        if not np.isfinite(array).all():
            raise ValueError(f"{name} of embeddings that hold NaN or infinite values")
        if array.shape[-1] != arrays[0].shape[-1]:
            raise ValueError(f"{name} of embeddings of {arrays[0].shape[-1]} and {array.shape[-1]} channels")
    return arrays


def euclidean(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Distances (..., N, M) between rows of a (..., N, C) and b (..., M, C), never below 0."""
    squares = (a**2).sum(-1)[..., :, None] + (b**2).sum(-1)[..., None, :]
    return np.sqrt(np.maximum(squares - 2 * a @ np.swapaxes(b, -1, -2), 0))


def pool_distances(text: np.ndarray, motion: np.ndarray, pool: int = POOL) -> np.ndarray:
    """Distances (batches, pool, pool) of texts (rows) and motions (columns) of the same batch.

    Batches follow the order of the rows; rows that fill no batch are left out. ValueError for fewer rows than a pool.
    """
    text, motion = _checked("R-precision", text, motion)
    if len(text) != len(motion):
        raise ValueError(f"{len(text)} texts for {len(motion)} motions: expected a motion for each text")
    batches = len(text) // pool
    if not batches:
        raise ValueError(f"R-precision needs at least {pool} motions, there are {len(text)}")
    return euclidean(*(x[: batches * pool].reshape(batches, pool, -1) for x in (text, motion)))


def places_in_pools(text: np.ndarray, motion: np.ndarray, pool: int = POOL) -> np.ndarray:
    """Place (N,), from 0, of each text's own motion among the `pool` motions of its batch (see `pool_distances`).

    A motion just as near counts as nearer when it stands before.
    """
    return retrieval_metrics.ranks(-pool_distances(text, motion, pool), ties="in order").reshape(-1)


def r_precision(text: np.ndarray, motion: np.ndarray, top_k: Sequence[int] = TOP_K, pool: int = POOL) -> np.ndarray:
    """Share (len(top_k),) of texts whose own motion is among the k nearest of its pool. Guo et al. 2022, §5."""
    places = places_in_pools(text, motion, pool)
    return np.array([(places < k).mean() for k in top_k])


def label_precision(
    text: np.ndarray, motion: np.ndarray, labels: np.ndarray, k: int = 3, pool: int = POOL
) -> tuple[float, float]:
    """Share of texts with a motion of their own label (N,) among the k nearest of their pool; and that share by chance.

    Many clips of a dataset are said and shown alike, so that a text's own motion is but one right answer.
    """
    gaps = pool_distances(text, motion, pool)
    _, codes = np.unique(labels, return_inverse=True)
    codes = codes[: len(gaps) * pool].reshape(len(gaps), pool)
    right = codes[:, :, None] == codes[:, None, :]  # (batches, texts, motions)
    nearest = np.argsort(gaps, axis=-1, kind="stable")[..., :k]
    found = np.take_along_axis(right, nearest, axis=-1).any(-1)
    wrong = pool - right.sum(-1)  # motions of other labels: chance draws k motions out of the pool
    missed = np.prod([np.maximum(wrong - i, 0) / (pool - i) for i in range(k)], axis=0)
    return float(found.mean()), float(1 - missed.mean())


def matching_score(text: np.ndarray, motion: np.ndarray) -> float:
    """Mean distance of aligned texts and motions ("MM-Dist"). Guo et al. 2022, §5."""
    text, motion = _checked("MM-Dist", text, motion)
    return float(np.linalg.norm(text - motion, axis=-1).mean())


class Gaussian(NamedTuple):
    """Mean (C,) and covariance (C, C), with N - 1 in its denominator, of a set of embeddings."""

    mean: np.ndarray
    covariance: np.ndarray


def gaussian_of(embeddings: np.ndarray) -> Gaussian:
    """That of embeddings (N, C). ValueError for fewer than two, or values that are not finite."""
    (embeddings,) = _checked("FID", embeddings)
    if len(embeddings) < 2:
        raise ValueError("FID needs at least two motions on each side")
    return Gaussian(embeddings.mean(0), np.cov(embeddings, rowvar=False).reshape(embeddings.shape[-1], -1))


def fid(a: np.ndarray | Gaussian, b: np.ndarray | Gaussian) -> float:
    """Fréchet distance of two sets of embeddings (N, C), or of their Gaussians. Heusel et al. 2017, Eq. 6.

    The trace of sqrt(A B) is that of sqrt(Rᵀ B R) for any A = R Rᵀ, a symmetric matrix: no complex roots, no iteration.
    """
    a, b = (x if isinstance(x, Gaussian) else gaussian_of(x) for x in (a, b))
    if len(a.mean) != len(b.mean):
        raise ValueError(f"FID of embeddings of {len(a.mean)} and {len(b.mean)} channels")
    root = _root(a.covariance)
    overlap = np.linalg.eigvalsh(root.T @ b.covariance @ root)
    trace = np.sqrt(np.maximum(overlap, 0)).sum()
    gap = a.mean - b.mean
    return float(gap @ gap + np.trace(a.covariance) + np.trace(b.covariance) - 2 * trace)


def _root(covariance: np.ndarray) -> np.ndarray:
    """R (C, rank) with R Rᵀ = covariance (C, C)."""
    try:
        root = np.linalg.cholesky(covariance)
    except np.linalg.LinAlgError:
        root = np.zeros((1, 1))
    diagonal = np.diagonal(root)
    if diagonal.min() > 1e-5 * diagonal.max():
        return root
    values, vectors = np.linalg.eigh(covariance)  # fewer motions than channels, or nearly so
    kept = values > values[-1] * len(values) * np.finfo(np.float64).eps  # the others are rounding
    return vectors[:, kept] * np.sqrt(values[kept])


def diversity(embeddings: np.ndarray, rng: Random, times: int | None = None) -> float:
    """Mean distance of `times` random pairs: 300 where there are more motions, else 100 at most. Guo et al. 2022, §5."""
    (embeddings,) = _checked("diversity", embeddings)
    if times is None:
        times = DIVERSITY_TIMES if len(embeddings) > DIVERSITY_TIMES else min(FEW_DIVERSITY_TIMES, len(embeddings))
    first, second = pairs(len(embeddings), times, rng)
    return float(np.linalg.norm(embeddings[first] - embeddings[second], axis=-1).mean())


def multimodality(embeddings: np.ndarray, rng: Random, times: int = MULTIMODALITY_TIMES) -> float:
    """Mean distance of `times` random pairs of motions of the same text: embeddings (texts, repeats, C).

    The same repeats are drawn for all texts, and a pair may be one motion twice, as in the published code.
    """
    (embeddings,) = _checked("MultiModality", embeddings)
    first, second = pairs(embeddings.shape[1], times, rng)
    return float(np.linalg.norm(embeddings[:, first] - embeddings[:, second], axis=-1).mean())


def pairs(count: int, times: int, rng: Random) -> tuple[np.ndarray, np.ndarray]:
    """Two draws of `times` indices below `count`, each without repetition. ValueError where there are not as many."""
    if times > count:
        raise ValueError(f"{times} different motions cannot be drawn out of {count}")
    return rng.choice(count, times, replace=False), rng.choice(count, times, replace=False)


def joint_distances(a: np.ndarray, b: np.ndarray, root: int | None = 0) -> np.ndarray:
    """Distances (..., J) of the joints of poses (..., J, 3), both moved so that their roots meet (None: as they stand)."""
    a, b = (np.asarray(x, np.float64) for x in (a, b))
    if root is not None:
        a, b = (x - x[..., root : root + 1, :] for x in (a, b))
    return np.linalg.norm(a - b, axis=-1)


def mpjpe(a: np.ndarray, b: np.ndarray, root: int | None = 0) -> np.ndarray:
    """Mean distance (...) of the joints of poses (..., J, 3), both moved so that their roots meet; in their unit."""
    return joint_distances(a, b, root).mean(-1)


def aligned_mpjpe(true: np.ndarray, made: np.ndarray) -> np.ndarray:
    """Mean distance (...) of joints after each pose (..., J, 3) that was made is turned, scaled and moved onto the true one,
    without reflection: PA-MPJPE, Procrustes by SVD (Kabsch 1976, Umeyama 1991); in their unit."""
    true, made = (np.asarray(x, np.float64) for x in (true, made))
    true, made = (x - x.mean(-2, keepdims=True) for x in (true, made))
    u, singular, vt = np.linalg.svd(np.swapaxes(made, -1, -2) @ true)
    sign = np.ones_like(singular)
    sign[..., -1] = np.sign(np.linalg.det(u) * np.linalg.det(vt))
    turned = made @ ((u * sign[..., None, :]) @ vt)
    size = np.maximum((made**2).sum((-1, -2)), 1e-30)
    return joint_distances((singular * sign).sum(-1)[..., None, None] / size[..., None, None] * turned, true, None).mean(-1)


def acceleration_error(true: np.ndarray, made: np.ndarray) -> np.ndarray:
    """Mean difference (..., T-2) over joints of the second differences of motions (..., T, J, 3), as they stand; unit per
    frame²."""
    true, made = (np.diff(np.asarray(x, np.float64), 2, axis=-3) for x in (true, made))
    return joint_distances(true, made, None).mean(-1)


def joint_l1(a: np.ndarray, b: np.ndarray) -> float:
    """Mean absolute difference of joint coordinates, in their unit, roots included."""
    return float(np.abs(np.asarray(a, np.float64) - np.asarray(b, np.float64)).mean())


class Interval(NamedTuple):
    """Mean of replications and the half-width of its 95 % confidence interval; 0 where it is not known."""

    mean: float
    half_width: float

    def __str__(self) -> str:
        return f"{self.mean:.3f} ± {self.half_width:.3f}" if self.half_width else f"{self.mean:.3f}"


def mean_interval(values: Sequence[float]) -> Interval:
    """mean ± 1.96 σ/√n, σ with n in its denominator, as published tables have it."""
    values = np.asarray(values, np.float64)
    if not values.size:
        raise ValueError("no replication to average")
    return Interval(float(values.mean()), float(1.96 * values.std() / np.sqrt(len(values))))
