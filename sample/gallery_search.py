"""Asking a gallery: exactly where it is small, by an index that is made once where it is large."""

import hashlib
import logging
from functools import cached_property
from itertools import islice
from pathlib import Path
from typing import NamedTuple

import numpy as np

from data_loaders.clips import MIRRORED, original_name
from model.feature_cache import cache_folder
from protos.files import atomic_path, write_atomically
from protos.reading import FileError, read_text
from sample.gallery import Clip, Gallery, GalleryError, content_hash, damaged
from sample.search import SearchIndex, unit_rows

log = logging.getLogger(__name__)
EXACT_LIMIT = 200_000  # motions; above, an exact search takes tens of milliseconds and its float32 copy much memory


class Hit(NamedTuple):
    """What a search found. `row`: of the gallery's clips, or -1 for a caption."""

    name: str
    start: float
    end: float
    caption: str
    score: float
    row: int


class UsearchIndex:
    """Approximate search by usearch, for galleries that exact search is too slow for."""

    def __init__(self, gallery: Gallery):
        try:
            from usearch.index import Index
        except ImportError as error:
            raise GalleryError(f"a gallery of {len(gallery)} motions is searched by usearch, which is not there ({error}): "
                               "pip install usearch (the extra [search]), or ask for --exact") from None
        path, size = index_file(gallery), gallery.vectors.shape
        seal = path.with_suffix(".sha256")
        try:
            if read_text(seal) == _digest(path):
                self.index = Index.restore(str(path), view=True)
                if (len(self.index), self.index.ndim) == size:
                    return
        except (OSError, FileError):
            pass  # absent, or not as it was written
        log.info("building the index of %d motions, once", len(gallery))
        self.index = Index(ndim=size[1], metric="cos", dtype="f16")
        self.index.add(np.arange(size[0], dtype=np.uint64), np.ascontiguousarray(gallery.vectors))
        try:
            with atomic_path(path) as temporary:
                self.index.save(str(temporary))
            write_atomically(seal, _digest(path))
        except (OSError, RuntimeError) as error:
            log.warning("the index cannot be kept in %s: %s", path.parent, error)

    def nearest(self, query: np.ndarray, count: int = 10) -> tuple[np.ndarray, np.ndarray]:
        """(indices, cosines) of about the `count` most similar to a query (C,), best first."""
        found = self.index.search(unit_rows(np.asarray(query, np.float32)), min(count, len(self.index)))
        return found.keys.astype(np.int64), 1 - found.distances


def index_file(gallery: Gallery) -> Path:
    """Where the index of these vectors is kept: with what this machine has computed, not in the gallery.

    usearch believes what is in an index, and a damaged one ends the process; a gallery may come from anywhere.
    """
    return cache_folder() / "indices" / f"{content_hash(gallery.vectors)}.usearch"


def _digest(path: Path) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


class GallerySearch:
    """A gallery ready to be asked: exact up to EXACT_LIMIT motions, by usearch above, unless `exact`."""

    def __init__(self, gallery: Gallery, exact: bool = False):
        if not len(gallery):
            raise GalleryError(f"{gallery.folder} holds no motion to find")
        self.gallery = gallery
        large = len(gallery) > EXACT_LIMIT and not exact
        self.index = UsearchIndex(gallery) if large else exact_index(gallery, "motions")

    @cached_property
    def _rows(self) -> dict[tuple, int]:
        return {self._key(clip, clip.name): row for row, clip in enumerate(self.gallery.clips)}

    def _key(self, clip: Clip, name: str) -> tuple:
        """Of the clip called `name` with this clip's span, in the same dataset or folder of files of one kind."""
        home, kind = clip.source, ""
        if self.gallery.of_file(clip):
            path = Path(clip.source)
            home, kind = str(path.with_suffix("")).removesuffix(clip.name), path.suffix.lower()
        return home, kind, name, round(clip.start, 3), round(clip.end, 3)

    def twin(self, row: int) -> int:
        """The row of the clip whose mirror image this is, where it is in the gallery; else the row itself."""
        clip = self.gallery.clips[row]
        original = (original_file if self.gallery.of_file(clip) else original_name)(clip.name)
        if self._key(clip, f"{clip.name}{MIRRORED}") in self._rows:  # it has an image itself, so M is how its name begins
            return row
        return row if original is None else self._rows.get(self._key(clip, original), row)

    def motions(self, query: np.ndarray, count: int, without: int | None = None, fold: bool = True,
                among: np.ndarray | None = None) -> list[Hit]:
        """The `count` motions nearest to a query (C,), best first; fewer where there are fewer.

        fold: of a clip and its mirror image only the nearer. without: a row that is not wanted, and so its mirror image.
        among: (N,) True for the rows that may be found.
        """
        key = self.twin if fold else lambda row: row
        gone = set() if without is None else {key(without)}
        asked = min(len(self.gallery), 2 * count + 8)
        while True:
            hits, seen = [], set(gone)
            for row, cosine in zip(*self.index.nearest(query, asked)):
                row = int(row)
                if key(row) in seen or (among is not None and not among[row]):
                    continue
                seen.add(key(row))
                clip = self.gallery.clips[row]
                captions = self.gallery.captions(row)
                hits.append(Hit(clip.name, clip.start, clip.end, captions[0] if captions else "", score(cosine), row))
                if len(hits) == count:
                    return hits
            if asked == len(self.gallery):
                return hits
            asked = min(len(self.gallery), 4 * asked)

    def texts(self, query: np.ndarray, count: int) -> list[Hit]:
        """The `count` captions of the gallery nearest to a query (C,), with the first clip that each describes."""
        gallery = self.gallery
        if len(gallery.text_vectors) == 0:
            raise GalleryError(f"{gallery.folder} holds no captions to find: encode a dataset, or files with captions")
        owner: dict[int, Clip] = {}
        for clip in gallery.clips:
            for text in clip.texts:
                owner.setdefault(text, clip)
        found = zip(*exact_index(gallery, "texts").nearest(query, len(gallery.texts)))
        hits = (Hit(clip.name, clip.start, clip.end, gallery.texts[i], score(cosine), -1)
                for i, cosine in found if (clip := owner.get(int(i))))  # captions of clips that are gone are nobody's
        return list(islice(hits, count))


def exact_index(gallery: Gallery, kind: str) -> SearchIndex:
    """Of the motions or the texts. GalleryError for vectors that cannot be compared."""
    try:
        return SearchIndex(gallery.vectors if kind == "motions" else gallery.text_vectors)
    except ValueError as error:
        raise damaged(gallery.folder / gallery.arrays[kind], error) from None


def original_file(name: str) -> str | None:
    """As `original_name`, of motion files, whose names are anybody's: Mia is no mirror image of ia, nor M/x of x."""
    stem = name.rpartition("/")[2]
    told = stem.endswith((MIRRORED, "_mirrored")) or stem[1:2].isdigit() or (name.startswith("M/") and "/" in name[2:])
    return original_name(name) if told else None


def score(cosine: float) -> float:
    """From a cosine, a score in [0, 1]: 0.5 for what has nothing in common. No probability."""
    return float(np.clip(cosine / 2 + 0.5, 0.0, 1.0))
