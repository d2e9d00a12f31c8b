"""What a model can do: code asks for one of these, never for a system."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol, runtime_checkable

import numpy as np
from torch import Tensor

from data_loaders.corpus import Motion
from data_loaders.text import Caption
from diffusion.samplers import SampledStep, SamplerName

NOT_FINITE = "its weights or its mean and std hold such values, or far too large ones"  # why a motion came out with NaN


@dataclass(frozen=True)
class VectorSpace:
    """Where a model puts texts and motions: vectors of `dim` numbers, of motions of `frame_limits` frames.

    `similarity` is what its training brought together; `made_by` names the model in errors.
    """

    made_by: str
    dim: int
    frame_limits: tuple[int, int]
    similarity: Literal["cosine", "euclidean"]


@runtime_checkable
class Embeds(Protocol):
    """Brings texts and motions into one space."""

    def space(self) -> VectorSpace: ...

    def encode_text(self, texts: Sequence[str | Caption]) -> Tensor:
        """Vectors (N, C) on the CPU. Equal texts have equal rows."""

    def encode_motion(self, motions: Sequence[np.ndarray], batch_size: int | None = None) -> Tensor:
        """Vectors (N, C) on the CPU of features [(T, D)] in their units, in their order. ValueError for one it cannot read."""


@runtime_checkable
class ReadsWords(Protocol):
    """Reads texts as words of a source (`model/evaluator_words.py`) that is given to it."""

    def read_through(self, words: Any) -> None: ...


@dataclass(frozen=True)
class Sampling:
    """How to sample; None takes what the model's configuration says. `num_steps`: 20, "ddim20", ..."""

    guidance_scale: float | None = None
    sampler: SamplerName | None = None
    num_steps: int | str | None = None
    smoothing: float | None = None
    eta: float = 0.0
    order: int | None = None
    batch_size: int = 64
    on_step: Callable[[SampledStep], None] | None = None


OWN = Sampling()  # everything as the model's configuration says


@runtime_checkable
class Generates(Protocol):
    """Makes motion, from texts where `reads_text`."""

    def reads_text(self) -> bool: ...

    def columns(self) -> list[int] | slice:
        """The feature columns that it makes."""

    def generate_features(self, texts: Sequence[str], lengths: Sequence[int], seeds: Sequence[int],
                          sampling: Sampling = OWN) -> list[Tensor]:
        """Features [(lengths[i], D)] in their units for texts[i]. ValueError for a length or a setting that it cannot take."""

    def motion(self, features: Tensor, *captions: str) -> Motion:
        """Features (T, D) in their units as joints (1, T, J, 3) in metres."""

    def why_not_finite(self, sampling: Sampling) -> str:
        """The likely causes of motion that is not finite."""
