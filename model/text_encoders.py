"""Frozen text encoders behind one adapter: `TextEncoder.encode(texts)` returns `TextFeatures`. By name: `model/text_towers.py`.

Files are read from disk only, nothing is ever downloaded here. What an encoder makes of a text is computed once and then kept,
for training and sampling alike: in memory, and in a file by encoder, weights and text (`model/text_store.py`).
"""

import logging
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Protocol

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from data_loaders.corpus import Batch
from model.text_store import Row, SavedTexts, TextStore
from protos.names import shown
from protos.reading import FileError

log = logging.getLogger(__name__)

EQUAL_BITS = 16  # up to this many texts are encoded one by one: no bit then depends on a text's neighbours
BATCH, CHUNK = 64, 1024  # texts in a pass, and between two writings of what they gave
KEPT_IN_MEMORY = 500_000_000  # bytes of features


class TextEncoderError(FileError):
    """A text encoder is unknown, or its files are absent or not the expected ones."""


@dataclass(frozen=True)
class TextFeatures:
    """Features of B texts: pooled (B, C), tokens (B, L, C) zero at padding, mask (B, L) True at real tokens, and ids (B, L) of
    the tokens. None for what an encoder does not make.
    """

    pooled: Tensor | None
    tokens: Tensor | None
    mask: Tensor
    ids: Tensor | None = None

    def __len__(self) -> int:
        return len(self.mask)

    @property
    def lengths(self) -> Tensor:
        """(B,): tokens of each text, on the CPU."""
        return self.mask.sum(1).cpu()

    @property
    def last(self) -> Tensor:
        """(B,): place of each text's last token, the mark of its end."""
        return self.mask.shape[1] - 1 - self.mask.flip(1).int().argmax(1)

    def to(self, device: torch.device | str | None = None, dtype: torch.dtype | None = None) -> "TextFeatures":
        return self._each(lambda x: x.to(device, dtype if x.is_floating_point() else None))

    def __getitem__(self, index) -> "TextFeatures":
        """Rows by slice, list or tensor of indices (also repeated ones)."""
        return self._each(lambda x: x[index])

    def _each(self, change: Callable[[Tensor], Tensor]) -> "TextFeatures":
        return TextFeatures(*(None if x is None else change(x) for x in (self.pooled, self.tokens, self.mask, self.ids)))

    @staticmethod
    def collate(rows: Sequence[Row]) -> "TextFeatures":
        """Of the row of each text; their L may differ."""
        pad = torch.nn.utils.rnn.pad_sequence
        mask = pad([torch.ones(len(row.tokens), dtype=torch.bool) for row in rows], batch_first=True)
        tokens = pad([torch.from_numpy(np.array(row.tokens)) for row in rows], batch_first=True)
        known = all(row.ids is not None for row in rows)
        ids = pad([torch.from_numpy(row.ids.astype(np.int64)) for row in rows], batch_first=True) if known else None
        return TextFeatures(torch.from_numpy(np.stack([row.pooled for row in rows])), tokens, mask, ids)


@dataclass(frozen=True)
class Tower:
    """A loaded language model: `tokenize(text)` gives ids and the count of tokens lost to the length limit.

    `run(ids (B, L))` returns pooled (B, C) and tokens (B, L, C) of texts of one token count, so no tower sees padding.
    """

    tokenize: Callable[[str], tuple[list[int], int]]
    run: Callable[[Tensor], tuple[Tensor, Tensor]]


class TextEncoder:
    """A named tower and what it has made of texts. The tower itself is loaded when the first unknown text arrives.

    Several threads may ask at once.
    """

    def __init__(self, name: str, dim: int, load: Callable[[], Tower], identity: Callable[[], str] | None = None,
                 saved: SavedTexts | None = None):
        """identity: what features are a function of, beside the text; without it they are not kept on the disk.
        saved: features that are there already.
        """
        self.name, self.dim, self.saved = name, saved.dim if saved else dim, saved
        self._load, self._identity = load, identity
        self._memory: dict[str, Row] = {}
        self._kept = 0  # bytes in it
        self._cut: set[str] = set()  # kept off the disk, so that every run says what it did not read
        self._reading = threading.RLock()

    def __deepcopy__(self, memo) -> "TextEncoder":
        return self  # frozen: an averaged copy of a model reads texts as the model does

    @cached_property
    def tower(self) -> Tower:
        """Making it draws no random numbers. TextEncoderError where its files are not on this machine, or damaged."""
        return self._load()

    @cached_property
    def store(self) -> TextStore | None:
        return None if self._identity is None else TextStore(self._identity(), self.dim)

    def encode(self, texts: Sequence[str]) -> TextFeatures:
        """Features of the texts in float32 on the CPU. Texts beyond the tower's length are cut, with a warning."""
        return TextFeatures.collate(self._rows(texts))

    def pooled(self, texts: Sequence[str]) -> np.ndarray:
        """(B, C), those of `encode` alone: the padded tokens of many thousand texts fill gigabytes."""
        return np.stack([row.pooled for row in self._rows(texts)])

    def _rows(self, texts: Sequence[str]) -> list[Row]:
        if isinstance(texts, str):
            raise TypeError("encode takes a list of texts, not one string")
        if not len(texts):
            raise ValueError("no text to encode")
        with self._reading:  # a text that two threads ask for is computed once
            rows = {text: self._memory[text] for text in texts if text in self._memory}
            found = self._found_or_computed([text for text in dict.fromkeys(texts) if text not in rows])
            size = sum(row.bytes for row in found.values())
            if self._kept + size <= KEPT_IN_MEMORY:
                self._memory |= found
                self._kept += size
        rows |= found
        return [rows[text] for text in texts]

    def _found_or_computed(self, texts: list[str]) -> dict[str, Row]:
        rows = self.saved.read(texts) if self.saved else {}
        missing = [text for text in texts if text not in rows]
        rows |= self.store.read(missing) if missing and self.store else {}
        fresh = [text for text in missing if text not in rows]
        for start in tqdm(range(0, len(fresh), CHUNK), f"texts by {self.name}", disable=None if len(fresh) > CHUNK else True):
            computed = self._compute(fresh[start : start + CHUNK])
            if self.store:
                self.store.write({text: row for text, row in computed.items() if text not in self._cut})
            rows |= computed
        return rows

    def _compute(self, texts: list[str]) -> dict[str, Row]:
        by_length: dict[int, list[tuple[str, list[int]]]] = {}
        for text in texts:
            ids, lost = self.tower.tokenize(text)
            by_length.setdefault(len(ids), []).append((text, ids))
            if lost:
                self._cut.add(text)
                log.warning("text of %d characters is longer than %s reads: its last %d tokens are ignored",
                            len(text), self.name, lost)
        size = 1 if len(texts) <= EQUAL_BITS else BATCH
        rows = {}
        for group in by_length.values():
            for start in range(0, len(group), size):
                names, ids = zip(*group[start : start + size])
                with torch.inference_mode():
                    pooled, tokens = (x.float().cpu().numpy() for x in self.tower.run(torch.tensor(ids)))
                if self.saved and tokens.shape[-1] != self.dim:
                    raise FileError(f"{self.saved.name}: features of width {self.dim}, those that {self.name} makes of "
                                    f"{shown(names[0])} have {tokens.shape[-1]}")  # fmt: skip
                rows |= {name: Row(*row) for name, *row in zip(names, pooled, tokens, np.array(ids, np.int32))}
        return rows


class EncodesTexts(Protocol):
    """What makes features of texts, the same ones whenever it is asked."""

    def encode(self, texts: Sequence[str]) -> TextFeatures: ...


def with_text_features(batch: Batch, encoders: Mapping[str, EncodesTexts]) -> Batch:
    """The batch with features of its texts, by role."""
    return replace(batch, text_features={role: encoder.encode(batch.texts) for role, encoder in encoders.items()})
