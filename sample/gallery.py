"""A stored gallery: unit vectors of many motions and of their captions, with where each came from; made once, searched often.

A folder with motions.npy and texts.npy (float16, memory-mapped), gallery.json (model, clips, captions, files), and
index.usearch where the gallery is too large for exact search and was searched before. Written whole or not at all.
"""

import json
import logging
from collections.abc import Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import NamedTuple

import numpy as np

from data_loaders.clips import original_name
from protos.files import atomic_folder, atomic_path
from sample.retrieve_options import Reading
from sample.search import SearchIndex, unit_rows

log = logging.getLogger(__name__)
FORMAT_VERSION = 1
EXACT_LIMIT = 200_000  # motions; above, an exact search takes tens of milliseconds and its float32 copy much memory


class GalleryError(ValueError):
    """A gallery that is absent, damaged, or was made with another model."""


class Clip(NamedTuple):
    """A motion, or the part of one from `start` to `end` seconds. `source`: its file, or the folder of its dataset."""

    name: str
    source: str
    start: float
    end: float
    texts: tuple[int, ...] = ()  # which of the gallery's captions describe it


class Hit(NamedTuple):
    """What a search found. `row`: of the gallery's clips, or -1 for a caption."""

    name: str
    start: float
    end: float
    caption: str
    score: float
    row: int


@dataclass
class Gallery:
    """Unit vectors (N, C) of `clips` and (M, C) of `texts`, the distinct captions; `text_vectors` has no rows where no
    search among captions was wanted.

    `model` and `fingerprint` say what made them; `files`: how each motion file was read, and its size and time.
    """

    model: str
    fingerprint: str
    fps: float
    vectors: np.ndarray
    clips: list[Clip] = field(default_factory=list)
    texts: list[str] = field(default_factory=list)
    text_vectors: np.ndarray = field(default_factory=lambda: np.zeros((0, 0), np.float16))
    files: dict[str, dict] = field(default_factory=dict)
    folder: Path | None = None

    def __len__(self) -> int:
        return len(self.clips)

    def captions(self, row: int) -> list[str]:
        return [self.texts[i] for i in self.clips[row].texts]

    def row(self, name: str) -> int:
        """The first row of a name. GalleryError where it is not there."""
        for i, clip in enumerate(self.clips):
            if clip.name == name:
                return i
        import difflib

        near = difflib.get_close_matches(name, [clip.name for clip in self.clips], 4)
        raise GalleryError(f"no motion {name!r} in this gallery" + (f" (near: {', '.join(near)})" if near else ""))

    def require(self, fingerprint: str, what: str) -> None:
        """GalleryError unless `what`, a model with this fingerprint, made the gallery."""
        if fingerprint != self.fingerprint:
            raise GalleryError(f"{self.folder or 'the gallery'} was made with {self.model}, whose weights {what} does not have "
                               "(any more): run encode_dataset again into another folder")  # fmt: skip

    def without(self, gone: set[tuple[str, str]]) -> "Gallery":
        """Without the clips of these (source, name)."""
        keep = [i for i, clip in enumerate(self.clips) if (clip.source, clip.name) not in gone]
        return Gallery(self.model, self.fingerprint, self.fps, self.vectors[keep], [self.clips[i] for i in keep], self.texts,
                       self.text_vectors, self.files)  # fmt: skip

    def extended(self, clips: Sequence[Clip], captions: Sequence[Sequence[str]], vectors: np.ndarray,
                 files: dict[str, dict]) -> "Gallery":
        """With further clips, what describes each, and their vectors (N, C). Captions that are new come last in `texts`."""
        place = {text: i for i, text in enumerate(self.texts)}
        added = [clip._replace(texts=tuple(place.setdefault(text, len(place)) for text in dict.fromkeys(texts)))
                 for clip, texts in zip(clips, captions)]
        vectors = np.concatenate([self.vectors, as_stored(vectors)]) if len(added) else self.vectors
        return Gallery(self.model, self.fingerprint, self.fps, vectors, [*self.clips, *added], list(place), self.text_vectors,
                       {**self.files, **files})  # fmt: skip

    def save(self, folder: Path) -> None:
        """Writes the folder; a gallery that is there is replaced, anything else is not."""
        require_free(folder)
        with atomic_folder(folder) as temporary:
            np.save(temporary / "motions.npy", self.vectors)
            np.save(temporary / "texts.npy", self.text_vectors)
            content = {
                "version": FORMAT_VERSION, "model": self.model, "fingerprint": self.fingerprint, "fps": self.fps,
                "clips": self.clips, "texts": self.texts, "files": self.files,
            }  # fmt: skip
            (temporary / "gallery.json").write_text(json.dumps(content, separators=(",", ":")), encoding="utf-8")

    @staticmethod
    def load(folder: Path) -> "Gallery":
        """GalleryError says what is absent or damaged."""
        folder = Path(folder)
        try:
            content = json.loads((folder / "gallery.json").read_text(encoding="utf-8"))
            if content["version"] != FORMAT_VERSION:
                raise GalleryError(f"{folder} is of format {content['version']}, expected {FORMAT_VERSION}: encode it again")
            vectors, text_vectors = (np.load(folder / f"{name}.npy", mmap_mode="r", allow_pickle=False)
                                     for name in ("motions", "texts"))
            clips = [Clip(name, source, start, end, tuple(texts)) for name, source, start, end, texts in content["clips"]]
            found = Gallery(content["model"], content["fingerprint"], content["fps"], vectors, clips, content["texts"],
                            text_vectors, content["files"], folder)  # fmt: skip
        except FileNotFoundError as error:
            raise GalleryError(f"{folder} holds no gallery ({Path(error.filename).name} is missing): make one with "
                               "python -m sample.retrieve encode_dataset") from None
        except GalleryError:
            raise
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise GalleryError(f"{folder} is a damaged gallery: {error}") from error
        if vectors.ndim != 2 or len(vectors) != len(clips) or len(text_vectors) not in (0, len(found.texts)):
            raise GalleryError(f"{folder} is a damaged gallery: {vectors.shape} vectors of {len(clips)} clips, "
                               f"{text_vectors.shape} of {len(found.texts)} captions")
        return found


def require_free(folder: Path) -> None:
    """GalleryError for a folder that holds anything else than a gallery."""
    folder = Path(folder)
    if folder.is_file() or (folder.is_dir() and not (folder / "gallery.json").is_file() and any(folder.iterdir())):
        raise GalleryError(f"{folder} is no gallery and not empty: choose another folder for the gallery")


def as_stored(vectors: np.ndarray) -> np.ndarray:
    """Unit rows in half precision: a cosine is then off by less than 0.001."""
    return unit_rows(np.asarray(vectors, np.float32)).astype(np.float16)


def file_stamp(path: Path, reading: Reading) -> dict:
    """How a file was read, and what tells that it has changed since."""
    stat = path.stat()
    options = {each.name: getattr(reading, each.name) for each in fields(Reading)}
    options["body_model"] = None if reading.body_model is None else str(reading.body_model)
    return {"size": stat.st_size, "mtime_ns": stat.st_mtime_ns, **options}


# ------------------------------------------------------------------------------------------------------------- search


class UsearchIndex:
    """Approximate search by usearch, for galleries that exact search is too slow for; kept in the gallery's folder."""

    def __init__(self, gallery: Gallery):
        try:
            from usearch.index import Index
        except ImportError as error:
            raise GalleryError(f"a gallery of {len(gallery)} motions is searched by usearch, which is not there ({error}): "
                               "pip install usearch (the extra [search]), or ask for --exact") from None
        path = gallery.folder / "index.usearch"
        if path.is_file():
            self.index = Index.restore(str(path), view=True)
            return
        log.info("building the index of %d motions, once", len(gallery))
        self.index = Index(ndim=gallery.vectors.shape[1], metric="cos", dtype="f16")
        self.index.add(np.arange(len(gallery), dtype=np.uint64), np.ascontiguousarray(gallery.vectors))
        with atomic_path(path) as temporary:
            self.index.save(str(temporary))

    def nearest(self, query: np.ndarray, count: int = 10) -> tuple[np.ndarray, np.ndarray]:
        """(indices, cosines) of about the `count` most similar to a query (C,), best first."""
        found = self.index.search(unit_rows(np.asarray(query, np.float32)), min(count, len(self.index)))
        return found.keys.astype(np.int64), 1 - found.distances


class GallerySearch:
    """A gallery ready to be asked: exact up to EXACT_LIMIT motions, by usearch above, unless `exact`."""

    def __init__(self, gallery: Gallery, exact: bool = False):
        if not len(gallery):
            raise GalleryError(f"{gallery.folder} holds no motion to find")
        self.gallery = gallery
        large = len(gallery) > EXACT_LIMIT and not exact
        self.index = UsearchIndex(gallery) if large else SearchIndex(gallery.vectors)
        self._names = {clip.name for clip in gallery.clips}

    def twins(self, row: int) -> tuple[str, float]:
        """Equal for a clip and its mirror image where both are in the gallery."""
        clip = self.gallery.clips[row]
        original = original_name(clip.name)
        return (original if original in self._names else clip.name), round(clip.start, 2)

    def motions(self, query: np.ndarray, count: int, without: int | None = None, fold: bool = True,
                among: np.ndarray | None = None) -> list[Hit]:
        """The `count` motions nearest to a query (C,), best first; fewer where there are fewer.

        fold: of a clip and its mirror image only the nearer. without: a row that is not wanted, and so its mirror image.
        among: (N,) True for the rows that may be found.
        """
        key = self.twins if fold else lambda row: row
        gone = set() if without is None else {without, key(without)}
        asked = min(len(self.gallery), 2 * count + 8)
        while True:
            hits, seen = [], set(gone)
            for row, cosine in zip(*self.index.nearest(query, asked)):
                row = int(row)
                if row in gone or key(row) in seen or (among is not None and not among[row]):
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
        owner = {}
        for clip in gallery.clips:
            for text in clip.texts:
                owner.setdefault(text, clip)
        hits = []
        for i, cosine in zip(*SearchIndex(gallery.text_vectors).nearest(query, len(gallery.texts))):
            if (clip := owner.get(int(i))) is not None:  # captions of clips that are gone are nobody's
                hits.append(Hit(clip.name, clip.start, clip.end, gallery.texts[int(i)], score(cosine), -1))
            if len(hits) == count:
                break
        return hits


def score(cosine: float) -> float:
    """From a cosine, a score in [0, 1]: 0.5 for what has nothing in common. No probability."""
    return float(np.clip(cosine / 2 + 0.5, 0.0, 1.0))
