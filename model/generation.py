"""Motions by any model that makes them (`model/capabilities.py`), none of which is handed on where it is not finite."""

from collections.abc import Iterator, Sequence

import numpy as np
from torch import Tensor

from data_loaders.corpus import Motion
from model.capabilities import Generates, Sampling


class NotFiniteError(ValueError):
    """A motion came out with NaN or infinite values."""


def generate_features(networks: Generates, texts: Sequence[str], lengths: Sequence[int], seeds: Sequence[int],
                      sampling: Sampling | None = None) -> list[Tensor]:
    """Features [(lengths[i], D)] in their units for texts[i], of the columns that the model makes.

    ValueError for a length it cannot make, and for settings of diffusion asked of a model without; NotFiniteError.
    """
    sampling = sampling or Sampling()
    made = networks.generate_features(texts, lengths, seeds, sampling)
    _require_finite((bool(features.isfinite().all()) for features in made), networks, texts, sampling)
    return made


def generate(networks: Generates, texts: Sequence[str], lengths: Sequence[int], seeds: Sequence[int],
             sampling: Sampling | None = None) -> list[Motion]:
    """A Motion of lengths[i] frames for texts[i], its joints (1, T, J, 3) in metres. ValueError as `generate_features`."""
    sampling = sampling or Sampling()
    features = generate_features(networks, texts, lengths, seeds, sampling)
    motions = [networks.motion(rows, text) for rows, text in zip(features, texts, strict=True)]
    _require_finite((bool(np.isfinite(motion.joints).all()) for motion in motions), networks, texts, sampling)
    return motions


def _require_finite(finite: Iterator[bool], networks: Generates, texts: Sequence[str], sampling: Sampling) -> None:
    """NotFiniteError, which names the likely causes, at the first motion that is not; so none is ever handed on or written."""
    for number, good in enumerate(finite):
        if not good:
            raise NotFiniteError(f"the motion for {texts[number]!r} came out with NaN or infinite values: "
                                 f"{networks.why_not_finite(sampling)}")
