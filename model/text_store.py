"""Where features of texts lie: in a file of this machine by encoder and text, or in TMR's files beside a dataset.

Both answer `read(texts)` with a `Row` of every text that they hold.
"""

import hashlib
import logging
import os
import sqlite3
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import NamedTuple

import numpy as np

from protos.files import file_sha256
from protos.names import shown
from protos.reading import FileError, read_array, read_json

log = logging.getLogger(__name__)

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
            if line.startswith(known):
                return line.removeprefix(known)
    except (OSError, ValueError):
        pass
    found = file_sha256(path)
    try:
        record.parent.mkdir(parents=True, exist_ok=True)
        with record.open("a") as file:
            file.write(f"{known}{found}\n")
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
