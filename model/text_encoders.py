"""Frozen text encoders behind one adapter: `TextEncoder.encode(texts)` returns `TextFeatures`. By name: `model/text_towers.py`.

Files are read from disk only, nothing is ever downloaded here. What an encoder makes of a text is computed once and then kept,
for training and sampling alike: in memory, and in a file of this machine by encoder, weights and text. TMR's files beside a
dataset are read too. Both kinds of file answer `read(texts)` with a `Row` of every text that they hold.
"""

import hashlib
import logging
import os
import sqlite3
import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import NamedTuple, Protocol

import numpy as np
import torch
from torch import Tensor, nn
from tqdm import tqdm

from data_loaders.corpus import Batch
from protos.files import file_digest, shown
from protos.reading import FileError, read_array, read_json

log = logging.getLogger(__name__)

EQUAL_BITS = 16  # up to this many texts are encoded one by one: no bit then depends on a text's neighbours
BATCH, CHUNK = 64, 1024  # texts in a pass, and between two writings of what they gave
KEPT_IN_MEMORY = 500_000_000  # bytes of features
LARGEST = 8_000_000_000  # bytes of a file, beyond which it takes no more: a server would fill the disk
WORDS, SENTENCES = "token_embeddings", "sent_embeddings"  # folders beside annotations.json that hold TMR's files


class Row(NamedTuple):
    """Features of a text, float32: pooled (C,), tokens (L, C), ids (L,) where they are known."""

    pooled: np.ndarray
    tokens: np.ndarray
    ids: np.ndarray | None = None

    @property
    def bytes(self) -> int:
        return self.pooled.nbytes + self.tokens.nbytes


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


def cache_folder() -> Path:
    """$XDG_CACHE_HOME/moveo, by default ~/.cache/moveo."""
    base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base) if base else Path.home() / ".cache") / "moveo"


def sha256_of(path: Path) -> str:
    """The file's sha256. One once read is recognised by path, size and time."""
    stat = path.stat()
    known, record = f"{path} {stat.st_size} {stat.st_mtime_ns} ", cache_folder() / "sha256.txt"
    try:
        for line in record.read_text().splitlines() if record.is_file() else ():
            if line.startswith(known) and len(line) == len(known) + 64:  # a full disk cuts a line short
                return line.removeprefix(known)
    except (OSError, ValueError):
        pass
    found = file_digest(path)
    try:
        record.parent.mkdir(parents=True, exist_ok=True)
        with record.open("a") as file:
            file.write(f"\n{known}{found}\n")  # on a line of its own, however the one before ends
    except OSError:
        pass  # a cache folder that cannot be written only costs the reading again
    return found


class TextStore:
    """What an encoder has made of texts, kept in one sqlite file for all processes and later runs.

    A file that cannot be used is left aside, with a warning.
    """

    def __init__(self, encoder: str, dim: int):
        """encoder: its name, weights and settings in one word; dim: C, of which every row must be."""
        self.dim, self.path = dim, cache_folder() / "texts" / f"{encoder}.sqlite"
        self._usable = True

    def read(self, texts: Iterable[str]) -> dict[str, Row]:
        """The rows of those of `texts` that are here."""
        if not self._usable or not self.path.is_file():
            return {}
        try:
            with self._connect() as database:
                found = ((text, database.execute("SELECT * FROM features WHERE key = ?", (_key(text),)).fetchone())
                         for text in texts)  # fmt: skip
                return {text: self._checked(*row[1:]) for text, row in found if row is not None}
        except (sqlite3.Error, OSError, ValueError, TypeError) as error:
            self._give_up(error)
            return {}

    def _checked(self, pooled: bytes, tokens: bytes, ids: bytes) -> Row:
        """ValueError or TypeError where a row is none that `write` wrote."""
        row = Row(np.frombuffer(pooled, np.float32), np.frombuffer(tokens, np.float32), np.frombuffer(ids, np.int32))
        if row.pooled.size != self.dim or not row.ids.size or not all(np.isfinite(each).all() for each in row):
            raise ValueError(f"a text has features that are not finite or not {self.dim} wide")
        return row._replace(tokens=row.tokens.reshape(row.ids.size, self.dim))

    def write(self, rows: Mapping[str, Row]) -> None:
        """Adds the rows in one transaction; what another process wrote meanwhile stays."""
        if not self._usable or (self.path.is_file() and self.path.stat().st_size > LARGEST):
            return
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with self._connect() as database:
                database.executemany("INSERT OR IGNORE INTO features VALUES (?, ?, ?, ?)", [
                    (_key(text), row.pooled.tobytes(), row.tokens.tobytes(), row.ids.tobytes()) for text, row in rows.items()
                ])  # fmt: skip
        except (sqlite3.Error, OSError) as error:
            self._give_up(error)

    def _connect(self) -> sqlite3.Connection:
        database = sqlite3.connect(self.path, timeout=60)
        with database:
            database.execute("CREATE TABLE IF NOT EXISTS features (key TEXT PRIMARY KEY, pooled BLOB, tokens BLOB, ids BLOB)")
        return database

    def _give_up(self, error: Exception) -> None:
        self._usable = False
        log.warning("text features in %s are not usable (%s): going on without them", self.path, error)


def _key(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()


class SavedTexts:
    """Features in TMR's files: NAME.npy, NAME_index.json (text -> row) and, of word features, NAME_slice.npy.

    The words of text i are rows slices[i, 0] to slices[i, 1] of `array` (all words, C), and their mean is the text as a
    whole; without `slices`, row i of `array` (N, C) is that. Texts are looked up as they are written: case, dots and spaces
    count.
    """

    def __init__(self, array: np.ndarray, index: Mapping[str, int], slices: np.ndarray | None = None, name: str = ""):
        self.array, self.index, self.slices, self.name = array, index, slices, name

    @property
    def dim(self) -> int:
        return self.array.shape[1]

    def __contains__(self, text: str) -> bool:
        return text in self.index

    def read(self, texts: Iterable[str]) -> dict[str, Row]:
        """The rows of those of `texts` that are here. FileError where one is empty or not finite."""
        return {text: self._row(text) for text in texts if text in self.index}

    def _row(self, text: str) -> Row:
        i = self.index[text]
        begin, end = (i, i + 1) if self.slices is None else self.slices[i]
        words = np.array(self.array[begin:end], np.float32)
        if not len(words) or not np.isfinite(words).all():  # looked at here: the files are gigabytes and mapped
            raise FileError(f"{self.name}: the features of {shown(text)} are empty, NaN or infinite: have them computed again")
        return Row(words.mean(0), words)

    @staticmethod
    def load(path: Path) -> "SavedTexts":
        """The files of `path`, which has no suffix; the array memory-mapped. FileNotFoundError or FileError names the one that
        will not do.
        """
        index_file, array_file, slice_file = (path.with_name(path.name + end) for end in ("_index.json", ".npy", "_slice.npy"))
        index = read_json(index_file, dict[str, int])
        array = read_array(array_file, shape=(None, None), kinds="f", mmap=True)
        slices = read_array(slice_file, shape=(None, 2), kinds="iu") if slice_file.is_file() else None
        rows = len(array) if slices is None else len(slices)
        for row in (max(index.values()), min(index.values())) if index else ():
            if not 0 <= row < rows:
                raise FileError(f"{index_file} names row {row}, there are {rows}")
        if slices is not None and len(slices):
            slices = slices.astype(np.int64)
            if not ((slices[:, 0] >= 0) & (slices[:, 0] <= slices[:, 1]) & (slices[:, 1] <= len(array))).all():
                raise FileError(f"{slice_file}: expected rows (begin, end) of {array_file.name}, which has {len(array)}")
        return SavedTexts(array, index, slices, str(array_file))

    @staticmethod
    def beside(annotations: Path, kind: str, repository: str) -> "SavedTexts | None":
        """Those in a folder with annotations.json: WORDS or SENTENCES, by the encoder of that repository; None where none are."""
        path = Path(annotations) / kind / repository
        if not path.with_name(f"{path.name}_index.json").is_file():
            return None
        found = SavedTexts.load(path)
        if kind == WORDS and found.slices is None:
            raise FileError(f"{path}_slice.npy is absent: it says which rows of {path.name}.npy are a text's words")
        return found


@dataclass(frozen=True)
class PieceReader:
    """A tower as other programs read texts by it: cut into BERT's uncased word pieces, then one call of a network."""

    network: nn.Module  # tokens (B, L, C) of ids (B, L), of texts of one token count
    pieces: tuple[str, ...]  # by id
    max_tokens: int  # of a text, marks of start and end included
    unit_length: bool  # whether `pooled`, the mean of the tokens, is scaled to length 1


@dataclass(frozen=True)
class Tower:
    """A loaded language model: `tokenize(text)` gives ids and the count of tokens lost to the length limit.

    `run(ids (B, L))` returns pooled (B, C) and tokens (B, L, C) of texts of one token count, so no tower sees padding.
    """

    tokenize: Callable[[str], tuple[list[int], int]]
    run: Callable[[Tensor], tuple[Tensor, Tensor]]
    reader: PieceReader | None = None  # where it is that simple


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
        """Making it draws no random numbers. FileError where its files are not on this machine, or damaged."""
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
    """The batch with features of its texts, by role, beside those that it has; a role with texts of its own (`role_texts`) reads
    these."""
    texts = {role: batch.role_texts.get(role, batch.texts) for role in encoders}
    found = {role: encoder.encode(texts[role]) for role, encoder in encoders.items()}
    return replace(batch, text_features=batch.text_features | found)
