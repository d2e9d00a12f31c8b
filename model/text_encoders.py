"""Frozen text encoders behind one adapter: `TextEncoder.encode(texts)` returns `TextFeatures`. By name: `model/text_towers.py`.

Files are read from disk only, nothing is ever downloaded here. Features are kept in memory and in an on-disk cache, by
(encoder, weights, text).
"""

import hashlib
import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from model.feature_cache import FeatureCache
from protos.reading import FileError

log = logging.getLogger(__name__)

EQUAL_BITS = 16  # up to this many texts are encoded one by one: no bit then depends on a text's neighbours
BATCH = 64
KEPT_IN_MEMORY = 500_000_000  # bytes of features


class TextEncoderError(FileError):
    """A text encoder is unknown, or its files are absent or not the expected ones."""


@dataclass(frozen=True)
class TextFeatures:
    """Features of B texts: pooled (B, C), tokens (B, L, C) zero at padding, mask (B, L) True at real tokens."""

    pooled: Tensor
    tokens: Tensor
    mask: Tensor

    def __len__(self) -> int:
        return self.pooled.shape[0]

    def to(self, device: torch.device | str | None = None, dtype: torch.dtype | None = None) -> "TextFeatures":
        return TextFeatures(self.pooled.to(device, dtype), self.tokens.to(device, dtype), self.mask.to(device))

    def __getitem__(self, index) -> "TextFeatures":
        """Rows by slice, list or tensor of indices (also repeated ones)."""
        return TextFeatures(self.pooled[index], self.tokens[index], self.mask[index])

    @staticmethod
    def collate(rows: Sequence[tuple[np.ndarray, np.ndarray]]) -> "TextFeatures":
        """From (pooled (C,), tokens (L, C)) of each text; L may differ."""
        length, width = max(len(tokens) for _, tokens in rows), rows[0][1].shape[-1]
        tokens, mask = torch.zeros(len(rows), length, width), torch.zeros(len(rows), length, dtype=torch.bool)
        for i, (_, row) in enumerate(rows):
            tokens[i, : len(row)] = torch.from_numpy(np.array(row))
            mask[i, : len(row)] = True
        return TextFeatures(torch.from_numpy(np.stack([pooled for pooled, _ in rows])), tokens, mask)


@dataclass(frozen=True)
class Tower:
    """A loaded language model: `tokenize(text)` gives ids and the count of tokens lost to the length limit.

    `run(ids (B, L))` returns pooled (B, C) and tokens (B, L, C) of texts of one token count, so no tower sees padding.
    """

    tokenize: Callable[[str], tuple[list[int], int]]
    run: Callable[[Tensor], tuple[Tensor, Tensor]]
    dim: int
    max_tokens: int
    weights_id: str


class TextEncoder:
    """A named tower with its caches. The tower itself is loaded when the first unknown text arrives."""

    def __init__(self, name: str, dim: int, weights_id: str, load: Callable[[], Tower], *,
                 cache_name: str = "", disk_cache: bool = True):
        self.name = name
        self.dim = dim
        self._load = load
        self._tower: Tower | None = None
        self._memory: dict[str, tuple[np.ndarray, np.ndarray]] = {}
        self._kept = 0  # bytes in it
        self._cut: set[str] = set()  # kept off the disk, so that every run says what it did not read
        self.identity = f"{cache_name or name}-{weights_id[:16]}"  # what its features are a function of, beside the text
        self._disk = FeatureCache(self.identity, dim) if disk_cache else None

    def __deepcopy__(self, memo) -> "TextEncoder":
        return self  # frozen: an averaged copy of a model reads texts as the model does

    @property
    def tower(self) -> Tower:
        if self._tower is None:
            with torch.random.fork_rng(devices=[]):  # fresh weights, which are then replaced, must not use up random numbers
                self._tower = self._load()
        return self._tower

    def encode(self, texts: Sequence[str]) -> TextFeatures:
        """Features of the texts in float32 on the CPU. Texts beyond the tower's length are cut, with a warning."""
        if isinstance(texts, str):
            raise TypeError("encode takes a list of texts, not one string")
        if not len(texts):
            raise ValueError("no text to encode")
        missing = [text for text in dict.fromkeys(texts) if text not in self._memory]
        found = self._disk.read(missing) if self._disk and missing else {}
        if fresh := [text for text in missing if text not in found]:
            computed = self._compute(fresh)
            if self._disk:
                self._disk.write({text: row for text, row in computed.items() if text not in self._cut})
            found |= computed
        rows = [self._memory[text] if text in self._memory else found[text] for text in texts]
        size = sum(pooled.nbytes + tokens.nbytes for pooled, tokens in found.values())
        if self._kept + size <= KEPT_IN_MEMORY:
            self._memory |= found
            self._kept += size
        return TextFeatures.collate(rows)

    def _compute(self, texts: list[str]) -> dict[str, tuple[np.ndarray, np.ndarray]]:
        ids = {}
        for text in texts:
            ids[text], lost = self.tower.tokenize(text)
            if lost:
                self._cut.add(text)
                log.warning("text of %d characters is longer than %s reads: its last %d tokens are ignored",
                            len(text), self.name, lost)
        size = 1 if len(texts) <= EQUAL_BITS else BATCH
        by_length: dict[int, list[str]] = {}
        for text in texts:
            by_length.setdefault(len(ids[text]), []).append(text)
        rows = {}
        for group in by_length.values():
            for start in range(0, len(group), size):
                part = group[start: start + size]
                with torch.inference_mode():
                    pooled, tokens = self.tower.run(torch.tensor([ids[text] for text in part]))
                for text, p, w in zip(part, pooled.float().cpu().numpy(), tokens.float().cpu().numpy(), strict=True):
                    rows[text] = (p, w)
        return rows


def file_sha256(path) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
