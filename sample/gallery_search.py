"""Asking a gallery."""

from functools import cached_property, partial
from pathlib import Path
from typing import NamedTuple

import numpy as np

from data_loaders.clips import MIRRORED, original_name
from protos.reading import FileError
from sample.gallery import Clip, Gallery, as_stored
from sample.search import SearchIndex, score

EXACT_LIMIT = 200_000  # motions, of which the float32 copy takes 0.2 GB


class Hit(NamedTuple):
    """What a search found. `row`: of the gallery's clips, or -1 for a caption."""

    name: str
    start: float
    end: float
    caption: str
    score: float
    row: int


class HalfPrecisionSearch:
    """Search by usearch in the vectors as they are stored, memory-mapped: for galleries whose float32 copy would be large."""

    def __init__(self, vectors: np.ndarray):
        try:
            from usearch.index import MetricKind, search
        except ImportError as error:
            raise FileError(f"a gallery of {len(vectors)} motions is searched by usearch, which is not there ({error}): "
                            "pip install usearch (the extra [search]), or ask for --exact") from None
        self.vectors, self.search = np.asarray(vectors), partial(search, metric=MetricKind.Cos, exact=True)

    def nearest(self, query: np.ndarray, count: int = 10) -> tuple[np.ndarray, np.ndarray]:
        """(indices, cosines) of the `count` most similar to a query (C,), best first."""
        found = self.search(self.vectors, as_stored(query), count)
        return found.keys.astype(np.int64), 1 - found.distances


class GallerySearch:
    """A gallery ready to be asked: in float32 up to EXACT_LIMIT motions or where `exact`, above by usearch in float16."""

    def __init__(self, gallery: Gallery, exact: bool = False):
        if not len(gallery):
            raise FileError(f"{gallery.folder} holds no motion to find")
        self.gallery = gallery
        self.index = (HalfPrecisionSearch if len(gallery) > EXACT_LIMIT and not exact else SearchIndex)(gallery.vectors)

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
                hits.append(Hit(clip.name, clip.start, clip.end, next(iter(clip.captions), ""), float(score(cosine)), row))
                if len(hits) == count:
                    return hits
            if asked == len(self.gallery):
                return hits
            asked = min(len(self.gallery), 4 * asked)

    def texts(self, query: np.ndarray, count: int) -> list[Hit]:
        """The `count` captions of the gallery nearest to a query (C,), with the first clip that each describes."""
        gallery = self.gallery
        if len(gallery.text_vectors) == 0:
            raise FileError(f"{gallery.folder} holds no captions to find: encode a dataset, or files with captions")
        owner = {text: clip for clip in reversed(gallery.clips) for text in clip.captions}
        hits = [Hit(clip.name, clip.start, clip.end, gallery.texts[i], float(score(cosine)), -1)
                for i, cosine in zip(*SearchIndex(gallery.text_vectors).nearest(query, len(gallery.texts)))
                if (clip := owner.get(gallery.texts[i]))]  # of clips that are gone, in galleries of earlier versions
        return hits[:count]


def original_file(name: str) -> str | None:
    """As `original_name`, of motion files, whose names are anybody's: Mia is no mirror image of ia, nor M/x of x."""
    stem = name.rpartition("/")[2]
    told = stem.endswith((MIRRORED, "_mirrored")) or stem[1:2].isdigit() or (name.startswith("M/") and "/" in name[2:])
    return original_name(name) if told else None

