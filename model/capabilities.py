"""What a model can do: code asks for one of these, never for a system."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol, runtime_checkable

import numpy as np
from torch import Tensor

from data_loaders.text import Caption


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
