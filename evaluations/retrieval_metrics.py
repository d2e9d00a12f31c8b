"""Retrieval measured as TMR does (Petrovich et al. 2023, §4.1): ranks, recalls and median rank of similarity matrices.

A matrix (..., N, N) has a text per row and a motion per column, each text's own motion on the diagonal; leading axes are
separate pools. Nothing is sorted: a place follows from how many entries of a row lie above the wanted one.
"""

from collections.abc import Sequence
from typing import Literal

import numpy as np

from data_loaders.text_similarity import score_to_cosine
from sample.search import unit_rows

TOP_K = (1, 2, 3, 5, 10)
THRESHOLD = 0.95  # a score: sentences of a cosine above 0.9 say the same
SMALL_BATCH = 32
DIRECTIONS = ("t2m", "m2t")

Ties = Literal["average", "optimistic", "in order"]


def cosine(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Cosines (N, M) of rows of a (N, C) and b (M, C); 0 where one of them is zero."""
    return unit_rows(a) @ unit_rows(b).T


def similar_sentences(sentences: np.ndarray, threshold: float = THRESHOLD) -> np.ndarray:
    """Which texts (N, N) count as one another's: sentence embeddings (N, C) of a score above the threshold, and each its own."""
    similar = cosine(sentences, sentences) > score_to_cosine(threshold)
    np.fill_diagonal(similar, True)
    return similar


def ranks(similarity: np.ndarray, alike: np.ndarray | None = None, ties: Ties = "average") -> np.ndarray:
    """Place (..., N), from 0, of each row's own column; with `alike` (..., N, N), of the best of those that count as its own.

    Of equal entries `average` gives the mean place, which may end in .5, `optimistic` the first, and `in order` that of its own
    among them. For motion to text give the transposed matrix. ValueError for NaN or a matrix that is not square.
    """
    similarity = np.asarray(similarity)
    if similarity.ndim < 2 or similarity.shape[-1] != similarity.shape[-2] or not similarity.size:
        raise ValueError(f"a similarity matrix of shape {similarity.shape}: expected a text and a motion for each item")
    if np.isnan(similarity).any():
        raise ValueError("similarities that hold NaN: an embedding is not finite")
    if alike is None:
        wanted = np.diagonal(similarity, axis1=-2, axis2=-1)[..., None].copy()  # of its own memory: read once per row
    elif np.shape(alike) != similarity.shape:
        raise ValueError(f"{np.shape(alike)} says which texts are alike, the similarities have shape {similarity.shape}")
    else:
        alike = alike | np.eye(similarity.shape[-1], dtype=bool)
        wanted = np.max(similarity, axis=-1, keepdims=True, where=alike, initial=-np.inf)
    above = (similarity > wanted).sum(-1)
    if ties == "in order":
        return above + np.tril(similarity == wanted, -1).sum(-1)
    return above.astype(np.float64) if ties == "optimistic" else (above + (similarity >= wanted).sum(-1) - 1) / 2


def recalls(places: np.ndarray) -> dict[str, np.ndarray]:
    """R01 ... R10 in percent and MedR of places (..., N) from 0. A shared place counts as a hit where it is below k."""
    figures = {f"R{k:02d}": 100 * (places < k).mean(-1) for k in TOP_K}
    return {**figures, "MedR": np.median(places, axis=-1) + 1, "len": np.full(places.shape[:-1], float(places.shape[-1]))}


def retrieval_metrics(
    similarity: np.ndarray, alike: np.ndarray | None = None, ties: Ties = "average", rounding: int | None = 2
) -> dict[str, float]:
    """{'t2m/R01': ..., 'm2t/R01': ..., 't2m/R02': ...}: recalls and median ranks of a matrix (..., N, N) in both directions, of
    several pools their means; in the order of the published files."""
    turned = np.swapaxes(similarity, -1, -2)  # texts are alike in both directions
    figures = {"t2m": recalls(ranks(similarity, alike, ties)), "m2t": recalls(ranks(turned, alike, ties))}
    found = {f"{way}/{name}": float(np.mean(figures[way][name])) for name in figures["t2m"] for way in DIRECTIONS}
    return found if rounding is None else {name: round(value, rounding) for name, value in found.items()}


def chance(count: int, alike: np.ndarray | None = None) -> dict[str, float]:
    """What drawing blindly among `count` items gives, in one direction: expected R01 ... R10 in percent, and MedR.

    alike (N, N): which items count as a row's own, its own among them.
    """
    own, rows = np.unique(np.ones(1, int) if alike is None else np.asarray(alike).sum(-1), return_counts=True)
    left = count - np.arange(count)  # items, after each that was drawn
    steps = np.maximum(left - own[:, None], 0) / left  # (distinct numbers of own items, count)
    # share of rows of which none of the first k items is right, k = 0 ... count
    missed = np.concatenate([[1.0], np.average(np.cumprod(steps, axis=1), axis=0, weights=rows)])
    recall = {f"R{k:02d}": 100 * float(1 - missed[min(k, count)]) for k in TOP_K}
    return {**recall, "MedR": float((missed > 0.5).sum())}


def small_batches(names: Sequence[str], size: int = SMALL_BATCH, seed: int = 0) -> np.ndarray:
    """Items (N // size, size) of batches: sorted by name, then in the published random order of numpy's legacy generator; those
    that fill no batch are left out. ValueError where there are fewer items than a batch takes."""
    if len(names) < size:
        raise ValueError(f"small batches need at least {size} motions, there are {len(names)}")
    order = np.arange(len(names))
    np.random.RandomState(seed).shuffle(order)
    by_name = np.array(sorted(range(len(names)), key=lambda i: names[i]))
    return by_name[order[: len(names) // size * size]].reshape(-1, size)
