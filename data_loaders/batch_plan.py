"""Which samples a training step takes, by arithmetic on (seed, step): nothing to remember, nothing to lose."""

import threading
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np


class Drawn(NamedTuple):
    """What to train on: index into the dataset, and place in the run's endless stream of samples (unique; a seed)."""

    index: int
    number: int


class BatchPlan:
    """Which samples each step takes, by arithmetic on (seed, step).

    The stream of samples is one shuffled pass over the data after another; with `weights`, passes of as many draws with
    replacement. `batch_size` counts all processes. With `lengths`, samples of similar length share a batch in runs of `bucket`
    batches.
    """

    def __init__(
        self,
        num_items: int,
        batch_size: int,
        seed: int = 0,
        weights: np.ndarray | None = None,
        lengths: np.ndarray | None = None,
        bucket: int = 16,
    ):
        """weights (num_items,): any non-negative numbers. Raises ValueError where they or the sizes make no sense."""
        if num_items < 1 or batch_size < 1 or bucket < 1:
            raise ValueError(f"{num_items} items in batches of {batch_size}: both must be at least 1")
        self.num_items, self.batch_size, self.seed, self.bucket = num_items, batch_size, seed, bucket
        self.probabilities = None
        if weights is not None:
            weights = np.asarray(weights, np.float64)
            if (
                weights.shape != (num_items,)
                or not np.isfinite(weights).all()
                or weights.min() < 0
                or not weights.any()
            ):
                raise ValueError(f"sampling weights: expected {num_items} non-negative numbers, not all zero")
            self.probabilities = weights / weights.sum()
        self.lengths = None if lengths is None else np.asarray(lengths)
        self._recent: dict[tuple[str, int], np.ndarray] = {}
        self._lock = threading.RLock()  # batches are made by several threads; a bucket asks for passes

    def batch(self, step: int) -> list[Drawn]:
        """Samples of all processes at a step."""
        if self.lengths is None:
            numbers = np.arange(step * self.batch_size, (step + 1) * self.batch_size)
        else:
            numbers = self._remember("bucket", step // self.bucket)[step % self.bucket]
        return [Drawn(self._index(int(number)), int(number)) for number in numbers]

    def _index(self, number: int) -> int:
        return int(self._remember("pass", number // self.num_items)[number % self.num_items])

    def _remember(self, kind: str, number: int) -> np.ndarray:
        """A pass or a bucket, drawn when first needed; the last few are kept."""
        key = (kind, number)
        with self._lock:
            if key not in self._recent:
                drawn = self._draw_pass(number) if kind == "pass" else self._sort_bucket(number)
                self._recent[key] = drawn
                while len(self._recent) > 4:
                    del self._recent[next(iter(self._recent))]
                return drawn
            return self._recent[key]

    def _draw_pass(self, epoch: int) -> np.ndarray:
        generator = np.random.default_rng((self.seed, epoch))
        if self.probabilities is None:
            return generator.permutation(self.num_items)
        return generator.choice(self.num_items, self.num_items, p=self.probabilities)

    def _sort_bucket(self, number: int) -> np.ndarray:
        """Stream numbers (bucket, batch_size) of a run of batches: sorted by length, the batches shuffled."""
        size = self.bucket * self.batch_size
        numbers = np.arange(number * size, (number + 1) * size)
        lengths = self.lengths[[self._index(int(n)) for n in numbers]]
        batches = numbers[np.argsort(lengths, kind="stable")].reshape(self.bucket, self.batch_size)
        return np.random.default_rng((self.seed, number, 1)).permutation(batches)  # the third number: another stream


def balanced_weights(labels: Sequence[str], power: float = 1.0, share: np.ndarray | None = None) -> np.ndarray:
    """Sampling weights (N,) of mean 1 that lift rare labels: power 1 gives every label the same weight, 0 every item.

    share (N,): how much each item counts from the outset, by default 1.
    """
    share = np.ones(len(labels)) if share is None else share
    _, which = np.unique(np.asarray(labels), return_inverse=True)
    weights = share * np.bincount(which, share)[which] ** -float(power)
    return weights / weights.mean()
