"""Mean and std of motion features; normalisation pairs and the way between them.

Three pairs of mean and std exist for the published datasets, and mixing them up is the field's most common mistake:
the dataset's (Mean.npy, Std.npy), the one a checkpoint was trained with, and the evaluator's, whose std was divided by
`feat_bias` twice. Convert explicitly with `renormalise`.
"""

import logging
from collections.abc import Iterable

import numpy as np

from data_loaders.features import Features

logger = logging.getLogger(__name__)
FEATURE_BIAS = 5.0
STILL = 1e-4  # std of a feature that does not move but for rounding; the least of 3,000 real clips is 6e-4


def mean_std(clips: Iterable, features: Features) -> tuple[np.ndarray, np.ndarray]:
    """Mean and std (D,) float32 over all frames of clips [(T, D), ...], the std averaged inside each block; of places in a world
    each column's by itself, as InterGen's. Several persons share theirs, because they may be exchanged.

    Clips that hold NaN are left out and logged. Sums run in float64. ValueError where no clip is left.
    """
    mean, std, _ = _moments(clips, features)
    for block in () if features.in_world else features.blocks.values():
        std[block] = std[block].mean()
    return tuple(np.tile(each.astype(np.float32), features.persons) for each in (mean, _floored(std)))


def feature_mean_std(clips: Iterable, features: Features) -> tuple[np.ndarray, np.ndarray]:
    """As `mean_std`, but with a std of every feature by itself, unbiased: what TMR normalises with."""
    mean, std, frames = _moments(clips, features)
    std = _floored(std * np.sqrt(frames / max(frames - 1, 1)))
    return tuple(np.tile(each.astype(np.float32), features.persons) for each in (mean, std))


def _floored(std: np.ndarray) -> np.ndarray:
    """1 for what does not move: divided by its rounding error (1e-8), one frame of other data would be worth 1e7.

    Only where statistics are taken; published and saved ones are applied as they are.
    """
    return np.where(std < STILL, 1.0, std)


def _moments(clips: Iterable, features: Features) -> tuple[np.ndarray, np.ndarray, int]:
    """Mean and std (width,) of each of a person's features over all frames of all persons, in float64, and how many there are."""
    width = features.persons * features.width
    total, squares, frames, dropped = np.zeros(features.width), np.zeros(features.width), 0, 0
    shift = None  # sums are taken about the first frame, which keeps the variance exact
    for clip in clips:
        clip = np.asarray(clip)
        if clip.ndim != 2 or clip.shape[1] != width:
            raise ValueError(f"{features.skeleton} features have {width} columns, got an array of shape {clip.shape}")
        clip = clip.astype(np.float64).reshape(-1, features.width)
        if not np.isfinite(clip).all():
            dropped += 1
            continue
        if shift is None and len(clip):
            shift = clip[0].copy()
        clip -= 0 if shift is None else shift
        total += clip.sum(0)
        squares += np.einsum("td,td->d", clip, clip)
        frames += len(clip)
    if dropped:
        logger.warning("%d clips hold NaN or infinite values and are left out of the statistics", dropped)
    if not frames:
        raise ValueError("no clip of finite values to take statistics from")
    mean = total / frames
    return mean + shift, np.sqrt(np.maximum(squares / frames - mean**2, 0.0)), frames


def with_feature_bias(std: np.ndarray, features: Features, bias: float = FEATURE_BIAS, times: int = 1) -> np.ndarray:
    """Std whose root (0:4) and contact columns are divided by `bias`, `times` over.

    Published VQ and T2M training divides once for train and again for validation, on one shared array, so that every
    published `meta/std.npy` carries times=2 (momask issue #50, kept by the authors).
    """
    std = np.array(std, copy=True)
    for _ in range(times):
        for name in ("root_yaw", "root_velocity", "root_height", "contact"):
            std[features.blocks[name]] /= bias
    return std


def renormalise(
    features: np.ndarray, source: tuple[np.ndarray, np.ndarray], target: tuple[np.ndarray, np.ndarray]
) -> np.ndarray:
    """Features (..., D) normalised with one (mean, std) pair, expressed in another; (0, 1) are the features' own units.

    float64 inside, float32 out.
    """
    physical = np.asarray(features, np.float64) * source[1] + source[0]
    return ((physical - target[0]) / target[1]).astype(np.float32)
