"""On-disk cache of text features: one sqlite file per encoder and weights, safe for several processes at once."""

import hashlib
import logging
import os
import sqlite3
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

log = logging.getLogger(__name__)

LARGEST = 2_000_000_000  # bytes of a file, beyond which it takes no more: a server would fill the disk

Row = tuple[np.ndarray, np.ndarray]


def cache_folder() -> Path:
    """$XDG_CACHE_HOME/moveo, by default ~/.cache/moveo."""
    base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base) if base else Path.home() / ".cache") / "moveo"


class FeatureCache:
    """(pooled (C,), tokens (L, C)) float32 by text. A cache that cannot be used is left aside, with a warning."""

    def __init__(self, name: str, dim: int):
        """dim: C, of which every row must be."""
        self.dim = dim
        self.path = cache_folder() / "text_features" / f"{name}.sqlite"
        self._usable = True

    def read(self, texts: Sequence[str]) -> dict[str, Row]:
        """What the cache holds of `texts`."""
        if not self._usable or not self.path.is_file():
            return {}
        found = {}
        try:
            with self._connect() as database:
                query = "SELECT pooled, tokens FROM features WHERE key = ?"
                for text in texts:
                    row = database.execute(query, (_key(text),)).fetchone()
                    if row is not None:
                        found[text] = self._checked(*row)
        except (sqlite3.Error, OSError, ValueError, TypeError) as error:
            self._give_up(error)
            return {}
        return found

    def _checked(self, pooled: bytes, tokens: bytes) -> Row:
        """A row of the database as arrays. ValueError or TypeError where it is none that `write` wrote."""
        pooled, tokens = (np.frombuffer(each, np.float32) for each in (pooled, tokens))
        if pooled.size != self.dim or not tokens.size or not (np.isfinite(pooled).all() and np.isfinite(tokens).all()):
            raise ValueError(f"a text has features that are not finite or not {self.dim} wide")
        return pooled, tokens.reshape(-1, self.dim)

    def write(self, rows: Mapping[str, Row]) -> None:
        """Adds the rows in one transaction; what another process wrote meanwhile stays."""
        if not self._usable or (self.path.is_file() and self.path.stat().st_size > LARGEST):
            return
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with self._connect() as database:
                database.executemany(
                    "INSERT OR IGNORE INTO features VALUES (?, ?, ?)",
                    [(_key(text), pooled.astype(np.float32).tobytes(), tokens.astype(np.float32).tobytes())
                     for text, (pooled, tokens) in rows.items()])
        except (sqlite3.Error, OSError) as error:
            self._give_up(error)

    def _connect(self) -> sqlite3.Connection:
        database = sqlite3.connect(self.path, timeout=60)
        with database:
            database.execute("CREATE TABLE IF NOT EXISTS features (key TEXT PRIMARY KEY, pooled BLOB, tokens BLOB)")
        return database

    def _give_up(self, error: Exception) -> None:
        self._usable = False
        log.warning("text feature cache %s is not usable (%s): going on without it", self.path, error)


def _key(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()
