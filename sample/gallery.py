"""A stored gallery: unit vectors of many motions and of their captions, with where each came from; made once, searched often.

A folder with gallery.json (model, clips, captions, files), which names motions-HASH.npy and texts-HASH.npy (float16,
memory-mapped); beside them index-HASH.usearch where the gallery is too large for exact search and was searched before.
gallery.json is written last, by renaming: whoever reads meanwhile has the old gallery or the new one. .lock keeps writers
apart. Whatever else lies in the folder stays as it is.
"""

import hashlib
import json
import logging
import re
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import numpy as np

from protos.files import atomic_file, write_atomically
from sample.search import unit_rows

log = logging.getLogger(__name__)
FORMAT_VERSION = 2
UNHASHED = {"motions": "motions.npy", "texts": "texts.npy"}  # of format 1, which is still read
LOCK = ".lock"
# What a first save that was killed leaves: no reason to refuse the folder.
OURS = re.compile(r"\.lock|\.?(motions|texts)-[0-9a-f]{16}(\.\d+\.partial)?\.npy|\.gallery\.\d+\.partial\.json")
REMEDY = "make the gallery again in another folder (encode_dataset --gallery FOLDER)"


class GalleryError(ValueError):
    """A gallery that is absent, damaged, or was made with another model."""


class Clip(NamedTuple):
    """A motion, or the part of one from `start` to `end` seconds. `source`: its file, or the folder of its dataset."""

    name: str
    source: str
    start: float
    end: float
    texts: tuple[int, ...] = ()  # which of the gallery's captions describe it


@dataclass
class Gallery:
    """Unit vectors (N, C) of `clips` and (M, C) of `texts`, the distinct captions; `text_vectors` has no rows where no
    search among captions was wanted.

    `model` and `fingerprint` say what made them; `files`: how each motion file was read, and by what to tell that a file
    or a dataset has changed since. `arrays`: names of the files with the vectors.
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
    arrays: dict[str, str] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.clips)

    @property
    def index_file(self) -> Path:
        """Where the index of these vectors is kept."""
        return self.folder / index_name(self.arrays["motions"])

    def captions(self, row: int) -> list[str]:
        return [self.texts[i] for i in self.clips[row].texts]

    def of_file(self, clip: Clip) -> bool:
        """Whether a clip is of a motion file, not of a dataset."""
        return "motion_fps" in self.files.get(clip.source, ())

    def row(self, given: str) -> int:
        """The first row of a name, of a motion file, or of DATASET_FOLDER/NAME; says what else it could have meant.
        GalleryError where it is not there."""
        rows = [i for i, clip in enumerate(self.clips) if clip.name == given]
        if not rows:
            path = str(Path(given).absolute())
            rows = [i for i, clip in enumerate(self.clips) if path in (clip.source, f"{clip.source}/{clip.name}")]
        if not rows:
            import difflib

            near = difflib.get_close_matches(given, [clip.name for clip in self.clips], 4)
            raise GalleryError(f"no motion {given!r} in this gallery" + (f" (near: {', '.join(near)})" if near else ""))
        if len(rows) > 1:
            clip = self.clips[rows[0]]
            where = clip.source if self.of_file(clip) else f"{clip.source}/{clip.name}"
            sources = len({self.clips[i].source for i in rows})
            log.warning("%s stands for %d motions or parts here: taken is %s from %.2f to %.2f s%s", given, len(rows), where,
                        clip.start, clip.end, "; for another one give its path" if sources > 1 else "")  # fmt: skip
        return rows[0]

    def require(self, fingerprint: str, what: str) -> None:
        """GalleryError unless `what`, a model with this fingerprint, made the gallery."""
        if fingerprint != self.fingerprint:
            raise GalleryError(f"{self.folder or 'the gallery'} was made with {self.model}, whose weights {what} does not have "
                               "(any more): run encode_dataset again into another folder")  # fmt: skip

    def without(self, gone: set[tuple[str, str]]) -> "Gallery":
        """Without the clips of these (source, name), and without what is known of sources that have no clip left."""
        keep = [i for i, clip in enumerate(self.clips) if (clip.source, clip.name) not in gone]
        clips = [self.clips[i] for i in keep]
        left = {source for source, _ in gone} - {clip.source for clip in clips}
        files = {source: stamp for source, stamp in self.files.items() if source not in left}
        return Gallery(self.model, self.fingerprint, self.fps, self.vectors[keep], clips, self.texts, self.text_vectors, files,
                       self.folder)  # fmt: skip

    def extended(self, clips: Sequence[Clip], captions: Sequence[Sequence[str]], vectors: np.ndarray,
                 files: dict[str, dict]) -> "Gallery":
        """With further clips, what describes each, and their vectors (N, C). Captions that are new come last in `texts`."""
        place = {text: i for i, text in enumerate(self.texts)}
        added = [clip._replace(texts=tuple(place.setdefault(text, len(place)) for text in dict.fromkeys(texts)))
                 for clip, texts in zip(clips, captions)]
        vectors = np.concatenate([self.vectors, as_stored(vectors)]) if len(added) else self.vectors
        return Gallery(self.model, self.fingerprint, self.fps, vectors, [*self.clips, *added], list(place), self.text_vectors,
                       {**self.files, **files}, self.folder)  # fmt: skip

    def compacted(self) -> "Gallery":
        """Without captions that describe no clip."""
        used = sorted({i for clip in self.clips for i in clip.texts})
        place = {old: new for new, old in enumerate(used)}
        known = [i for i in used if i < len(self.text_vectors)]  # new captions come last
        clips = [clip._replace(texts=tuple(place[i] for i in clip.texts)) for clip in self.clips]
        return Gallery(self.model, self.fingerprint, self.fps, self.vectors, clips, [self.texts[i] for i in used],
                       self.text_vectors[known], self.files, self.folder)  # fmt: skip

    def save(self, folder: Path) -> None:
        """Writes the folder; a gallery that is there is replaced, anything else is not. `protos.files.file_lock` keeps two
        that write at once apart."""
        folder = Path(folder)
        require_free(folder)
        folder.mkdir(parents=True, exist_ok=True)
        old = stored_names(folder)
        try:
            arrays = {"motions": write_array(folder, "motions", self.vectors),
                      "texts": write_array(folder, "texts", self.text_vectors)}  # fmt: skip
            content = {
                "version": FORMAT_VERSION, "model": self.model, "fingerprint": self.fingerprint, "fps": self.fps,
                "arrays": arrays, "clips": self.clips, "texts": self.texts, "files": self.files,
            }  # fmt: skip
            write_atomically(folder / "gallery.json", json.dumps(content, separators=(",", ":")))
        except OSError as error:
            raise GalleryError(f"the gallery {folder} cannot be written: {error.strerror or error}") from error
        for path in folder.glob(".*.partial.*"):  # of a writer that was killed
            if OURS.fullmatch(path.name):
                path.unlink(missing_ok=True)
        if old:
            for name in {*old.values(), index_name(old["motions"])} - {*arrays.values(), index_name(arrays["motions"])}:
                (folder / name).unlink(missing_ok=True)

    @staticmethod
    def load(folder: Path) -> "Gallery":
        """GalleryError says what is absent or damaged."""
        folder = Path(folder)
        for _ in range(10):
            found, arrays = read_content(folder)
            try:
                found.vectors, found.text_vectors = (read_array(folder / arrays[name]) for name in ("motions", "texts"))
                break
            except FileNotFoundError as error:
                missing = Path(error.filename).name
                if stored_names(folder) == arrays:
                    raise GalleryError(f"{folder} is a damaged gallery, {missing} is missing: {REMEDY}") from None
        else:
            raise GalleryError(f"{folder} is being written again and again: try once more")
        shape, texts = found.vectors.shape, found.text_vectors.shape
        if len(shape) != 2 or shape[0] != len(found.clips):
            raise GalleryError(damaged(folder / arrays["motions"], f"{shape} vectors of {len(found.clips)} clips"))
        if texts[0] not in (0, len(found.texts)) or (texts[0] and texts[1:] != shape[1:]):
            raise GalleryError(damaged(folder / arrays["texts"], f"{texts} vectors of {len(found.texts)} captions"))
        return found


def read_content(folder: Path) -> tuple[Gallery, dict[str, str]]:
    """What gallery.json says, without vectors, and the names of the files that hold these."""
    path = folder / "gallery.json"
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        if (version := content["version"]) not in (1, FORMAT_VERSION):
            raise GalleryError(f"{folder} is of format {version}, expected {FORMAT_VERSION}: {REMEDY}")
        clips = [Clip(str(name), str(source), float(start), float(end), tuple(texts))
                 for name, source, start, end, texts in content["clips"]]
        texts = [str(text) for text in content["texts"]]
        arrays = UNHASHED if version == 1 else {name: Path(content["arrays"][name]).name for name in UNHASHED}
        if not all(0 <= i < len(texts) for clip in clips for i in clip.texts):
            raise ValueError(f"a clip has a caption that is none of the {len(texts)}")
        return Gallery(str(content["model"]), str(content["fingerprint"]), float(content["fps"]), np.zeros((0, 0), np.float16),
                       clips, texts, files=dict(content["files"]), folder=folder, arrays=arrays), arrays  # fmt: skip
    except (FileNotFoundError, NotADirectoryError):
        raise GalleryError(f"{folder} holds no gallery (gallery.json is missing): make one with "
                           "python -m sample.retrieve encode_dataset") from None
    except GalleryError:
        raise
    except KeyError as error:
        raise GalleryError(damaged(path, f"it has no {error}")) from error
    except (OSError, ValueError, TypeError, AttributeError) as error:
        raise GalleryError(damaged(path, str(error))) from error


def stored_names(folder: Path) -> dict[str, str] | None:
    """Names of the files that the gallery of a folder has its vectors in; None where there is none that can be read."""
    try:
        return read_content(folder)[1]
    except GalleryError:
        return None


def read_array(path: Path) -> np.ndarray:
    """Memory-mapped. FileNotFoundError where it is absent, GalleryError where it is damaged."""
    try:
        return np.load(path, mmap_mode="r", allow_pickle=False)
    except FileNotFoundError:
        raise
    except (OSError, ValueError, EOFError) as error:
        raise GalleryError(damaged(path, str(error))) from error


def damaged(path: Path, why: str) -> str:
    return f"{path} is damaged ({why}): {REMEDY}"


def write_array(folder: Path, kind: str, vectors: np.ndarray) -> str:
    """Writes <kind>-<hash of the content>.npy and returns its name."""
    digest = hashlib.sha256(repr((vectors.shape, str(vectors.dtype))).encode())
    digest.update(np.ascontiguousarray(vectors).tobytes())
    name = f"{kind}-{digest.hexdigest()[:16]}.npy"
    with atomic_file(folder / name) as file:
        np.save(file, vectors)
    return name


def index_name(motions: str) -> str:
    """Of the index that belongs to a file of vectors."""
    return Path(motions.replace("motions", "index", 1)).with_suffix(".usearch").name


def require_free(folder: Path) -> None:
    """GalleryError for a folder that holds anything else than a gallery, or that no gallery can be written to."""
    folder = Path(folder)
    try:
        if folder.is_dir():
            if not (folder / "gallery.json").is_file() and any(not OURS.fullmatch(path.name) for path in folder.iterdir()):
                raise GalleryError(f"{folder} is no gallery and not empty: choose another folder for the gallery")
        elif folder.exists():
            raise GalleryError(f"{folder} is a file: the gallery needs a folder")
        elif folder.is_symlink():
            raise GalleryError(f"{folder} is a link to a folder that is not there: choose another folder for the gallery")
        above = folder.absolute()
        while not above.exists():
            above = above.parent
        if not above.is_dir():
            raise GalleryError(f"{folder}: {above} is a file, so no gallery can be below it")
        with tempfile.TemporaryFile(dir=above):
            pass
    except OSError as error:
        raise GalleryError(f"no gallery can be written to {folder}: {error.strerror or error}") from None


def as_stored(vectors: np.ndarray) -> np.ndarray:
    """Unit rows in half precision: a cosine is then off by less than 0.001."""
    return unit_rows(np.asarray(vectors, np.float32)).astype(np.float16)
