"""A stored gallery: unit vectors of many motions and of their captions, with where each came from; made once, searched often.

A folder with gallery.json, which names motions-HASH.npy and texts-HASH.npy (float16, memory-mapped), and manifest.json, which
lists what we wrote. gallery.json is written last, by renaming: whoever reads meanwhile has the old gallery or the new one.
.lock keeps writers apart. Whatever else lies in the folder stays as it is.
"""

import hashlib
import logging
import re
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import NamedTuple, Protocol

import numpy as np

from protos.files import encode_json
from protos.names import shown
from protos.outputs import MANIFEST, Outputs
from protos.reading import FileError, decode_json, read_array, read_bytes
from sample.search import unit_rows

log = logging.getLogger(__name__)
FORMAT_VERSION = 2
CONTENT, LOCK = "gallery.json", ".lock"
UNHASHED = {"motions": "motions.npy", "texts": "texts.npy"}  # of format 1, which is still read
ARRAYS = re.compile(r"(motions|texts)-[0-9a-f]{16}\.npy")
# What may be removed once gallery.json no longer names it: arrays, and the index that earlier versions kept beside them.
REPLACED = re.compile(rf"{ARRAYS.pattern}|motions\.npy|texts\.npy|index(-[0-9a-f]{{16}})?\.usearch")
PARTIAL = re.compile(r"\.(motions|texts)-[0-9a-f]{16}\.\d+\.partial\.npy|\.(gallery|manifest)\.\d+\.partial\.json")
LARGEST = 2 << 30  # bytes of gallery.json: about ten million clips
MOST_SECONDS = 1e7
LONGEST_NAME, MOST_COMPARED = 100, 20_000  # letters and clips among which a name that is near to a wrong one is looked for
REMEDY = "make the gallery again in another folder (encode_dataset --gallery FOLDER)"


class GalleryError(FileError):
    """A gallery that is absent, damaged, or was made with another model."""


def damaged(path: Path, why: object) -> GalleryError:
    text = str(why.strerror or why) if isinstance(why, OSError) else str(why)
    return GalleryError(f"{path} is damaged ({text.removeprefix(f'{path}: ')}): {REMEDY}")


class Clip(NamedTuple):
    """A motion, or the part of one from `start` to `end` seconds. `source`: its file, or the folder of its dataset."""

    name: str
    source: str
    start: float
    end: float
    texts: tuple[int, ...] = ()  # which of the gallery's captions describe it


class Made(Protocol):
    """What tells a model's vectors from those of another: `TextMotionSpace`."""

    fingerprint: str
    earlier_fingerprint: str
    dim: int


@dataclass(frozen=True)
class Version:
    """The format that a gallery.json is of."""

    version: int


@dataclass(kw_only=True)
class Content:
    """What gallery.json holds.

    `model` and `fingerprint` say what made the vectors; `texts`: the distinct captions; `files`: how each motion file was read,
    and by what to tell that a file or a dataset has changed since; `arrays`: names of the files with the vectors.
    """

    model: str
    fingerprint: str
    fps: float
    clips: list[Clip]
    texts: list[str]
    files: dict[str, dict[str, str | int | float | list[int] | None]]
    arrays: dict[str, str] = field(default_factory=lambda: dict(UNHASHED))
    version: int = FORMAT_VERSION

    def problem(self) -> str | None:
        """What cannot be, though each value is of its type."""
        if not 0 < self.fps <= 10_000:
            return f"fps {self.fps:g}, expected frames per second"
        count = len(self.texts)
        for place, clip in enumerate(self.clips):
            if not 0 <= clip.start <= clip.end <= MOST_SECONDS:
                return f"clip {place} lasts from {clip.start:g} to {clip.end:g} s"
            if not all(0 <= i < count for i in clip.texts):
                return f"a clip has a caption that is none of the {count}"
        if self.version == 1:
            return None if self.arrays == UNHASHED else "arrays in a gallery of format 1"
        for kind in UNHASHED:
            name = self.arrays.get(kind, "")
            if not (ARRAYS.fullmatch(name) and name.startswith(kind)):
                return f"arrays: {kind} in {name[:60]!r}, expected {kind}-HASH.npy"
        return None


@dataclass(kw_only=True)
class Gallery(Content):
    """Unit vectors (N, C) of `clips` and (M, C) of `texts`; `text_vectors` has no rows where no search among captions was
    wanted."""

    vectors: np.ndarray
    text_vectors: np.ndarray
    folder: Path | None = None

    @staticmethod
    def empty(model: str, fingerprint: str, fps: float, width: int) -> "Gallery":
        """Without a clip, of a model that makes vectors of `width` numbers."""
        nothing = np.zeros((0, width), np.float16)
        return Gallery(model=model, fingerprint=fingerprint, fps=fps, clips=[], texts=[], files={}, vectors=nothing,
                       text_vectors=nothing)  # fmt: skip

    def __len__(self) -> int:
        return len(self.clips)

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

            names = [clip.name[:LONGEST_NAME] for clip in self.clips[:MOST_COMPARED]]
            near = difflib.get_close_matches(given[:LONGEST_NAME], names, 4)
            raise GalleryError(f"no motion {shown(given)} in this gallery" + (f" (near: {', '.join(near)})" if near else ""))
        if len(rows) > 1:
            clip = self.clips[rows[0]]
            where = clip.source if self.of_file(clip) else f"{clip.source}/{clip.name}"
            sources = len({self.clips[i].source for i in rows})
            log.warning("%s stands for %d motions or parts here: taken is %s from %.2f to %.2f s%s", given, len(rows), where,
                        clip.start, clip.end, "; for another one give its path" if sources > 1 else "")  # fmt: skip
        return rows[0]

    def made_by(self, space: Made) -> bool:
        return self.fingerprint in (space.fingerprint, space.earlier_fingerprint)

    def require(self, space: Made, what: str) -> None:
        """GalleryError unless `what`, the model behind `space`, made the gallery."""
        if not self.made_by(space):
            raise GalleryError(f"{self.folder or 'the gallery'} was made with {self.model}, whose weights {what} does not have "
                               "(any more): run encode_dataset again into another folder")  # fmt: skip
        if self.vectors.shape[1] != space.dim:
            raise damaged(self.folder or Path("the gallery"), f"vectors of {self.vectors.shape[1]} numbers, its model makes "
                                                              f"{space.dim}")  # fmt: skip

    def without(self, gone: set[tuple[str, str]]) -> "Gallery":
        """Without the clips of these (source, name), and without what is known of sources that have no clip left."""
        keep = [i for i, clip in enumerate(self.clips) if (clip.source, clip.name) not in gone]
        clips = [self.clips[i] for i in keep]
        left = {source for source, _ in gone} - {clip.source for clip in clips}
        files = {source: stamp for source, stamp in self.files.items() if source not in left}
        return replace(self, vectors=self.vectors[keep], clips=clips, files=files)

    def extended(self, clips: Sequence[Clip], captions: Sequence[Sequence[str]], vectors: np.ndarray,
                 files: dict[str, dict]) -> "Gallery":
        """With further clips, what describes each, and their vectors (N, C). Captions that are new come last in `texts`."""
        place = {text: i for i, text in enumerate(self.texts)}
        added = [clip._replace(texts=tuple(place.setdefault(text, len(place)) for text in dict.fromkeys(texts)))
                 for clip, texts in zip(clips, captions)]
        vectors = np.concatenate([self.vectors, as_stored(vectors)]) if len(added) else self.vectors
        return replace(self, vectors=vectors, clips=[*self.clips, *added], texts=list(place), files={**self.files, **files})

    def compacted(self) -> "Gallery":
        """Without captions that describe no clip."""
        used = sorted({i for clip in self.clips for i in clip.texts})
        place = {old: new for new, old in enumerate(used)}
        known = [i for i in used if i < len(self.text_vectors)]  # new captions come last
        clips = [clip._replace(texts=tuple(place[i] for i in clip.texts)) for clip in self.clips]
        return replace(self, clips=clips, texts=[self.texts[i] for i in used], text_vectors=self.text_vectors[known])

    @staticmethod
    def load(folder: Path) -> "Gallery":
        """The vectors memory-mapped. GalleryError says what is absent or damaged."""
        folder = Path(folder)
        for _ in range(10):
            content = read_content(folder)
            try:
                vectors = _read_vectors(folder / content.arrays["motions"], len(content.clips))
                texts = _read_vectors(folder / content.arrays["texts"], None)
                break
            except FileNotFoundError as error:  # it may have been replaced between the two
                if read_content(folder).arrays == content.arrays:
                    missing = Path(error.filename).name
                    raise GalleryError(f"{folder} is a damaged gallery, {missing} is missing: {REMEDY}") from None
        else:
            raise GalleryError(f"{folder} is being written again and again: try once more")
        if len(texts) not in (0, len(content.texts)) or (len(texts) and texts.shape[1] != vectors.shape[1]):
            raise damaged(folder / content.arrays["texts"], f"{texts.shape} vectors of {len(content.texts)} captions")
        return Gallery(**vars(content), vectors=vectors, text_vectors=texts, folder=folder)

    def save(self, folder: Path) -> None:
        """Writes the folder; a gallery of ours that is there is replaced, anything else is not.

        `protos.files.file_lock` keeps two that write at once apart. GalleryError where it cannot be written.
        """
        require_free(folder)
        outputs = claimed(folder)
        given = {"motions": self.vectors, "texts": self.text_vectors}
        self.version = FORMAT_VERSION
        self.arrays = {kind: f"{kind}-{content_hash(array)}.npy" for kind, array in given.items()}
        try:
            outputs.claim(*self.arrays.values(), CONTENT)
            for kind, name in self.arrays.items():
                with outputs.file(name) as file:
                    np.save(file, given[kind])
            record = {each.name: getattr(self, each.name) for each in fields(Content)}
            outputs.write(CONTENT, encode_json(record, CONTENT, indent=None))
        except OSError as error:
            raise GalleryError(f"the gallery {folder} cannot be written: {error.strerror or error}") from error
        for path in outputs.folder.glob(".*.partial.*"):  # of a writer that was killed
            if PARTIAL.fullmatch(path.name):
                path.unlink(missing_ok=True)
        outputs.remove(*(name for name in outputs.listed if REPLACED.fullmatch(name) and name not in self.arrays.values()))


def as_stored(vectors: np.ndarray) -> np.ndarray:
    """Unit rows in half precision: a cosine is then off by less than 0.001."""
    return unit_rows(np.asarray(vectors, np.float32)).astype(np.float16)


def read_content(folder: Path) -> Content:
    """What gallery.json says. GalleryError for an absent one, and where it is damaged."""
    path = Path(folder) / CONTENT
    try:
        data = read_bytes(path, LARGEST)
        if (version := decode_json(data, Version, str(path)).version) not in (1, FORMAT_VERSION):
            raise GalleryError(f"{folder} is of format {version}, expected {FORMAT_VERSION}: {REMEDY}")
        content = decode_json(data, Content, str(path))
    except (FileNotFoundError, NotADirectoryError):
        raise GalleryError(f"{folder} holds no gallery (gallery.json is missing): make one with "
                           "python -m sample.retrieve encode_dataset") from None
    except GalleryError:
        raise
    except (OSError, FileError) as error:
        raise damaged(path, error) from None
    if problem := content.problem():
        raise damaged(path, problem)
    return content


def _read_vectors(path: Path, count: int | None) -> np.ndarray:
    """(count, C), finite. FileNotFoundError where it is absent, GalleryError where it is damaged."""
    try:
        return read_array(path, shape=(count, None), kinds="f", mmap=True, finite=True)
    except FileNotFoundError:
        raise
    except (OSError, FileError) as error:
        raise damaged(path, error) from None


def claimed(folder: Path) -> Outputs:
    """The files of a gallery's folder that are ours; without a manifest, those that an earlier version may have written."""
    return Outputs(folder, "gallery", going_on=True, flag="--gallery", earlier=lambda folder: {
        path.name for path in folder.glob("*") if path.name in (CONTENT, LOCK) or REPLACED.fullmatch(path.name)})  # fmt: skip


def content_hash(array: np.ndarray) -> str:
    """16 characters that change with any number of an array, its kind or its shape."""
    digest = hashlib.sha256(repr((array.shape, str(array.dtype))).encode())
    digest.update(np.ascontiguousarray(array).tobytes())
    return digest.hexdigest()[:16]


def require_free(folder: Path) -> None:
    """GalleryError for a folder that holds anything else than a gallery of ours, or that no gallery can be written to."""
    folder = Path(folder)
    try:
        if folder.is_dir():
            listed, there = claimed(folder).listed, {path.name for path in folder.iterdir()}
            if CONTENT in there - listed:
                raise GalleryError(f"{folder / CONTENT} is not listed in a manifest, and other files lie beside it: "
                                   "whose they are cannot be told, choose another folder for the gallery")  # fmt: skip
            others = there - listed - {LOCK, MANIFEST}
            if CONTENT not in there and not all(map(PARTIAL.fullmatch, others)):
                raise GalleryError(f"{folder} is no gallery and not empty: choose another folder for the gallery")
        elif folder.exists():
            raise GalleryError(f"{folder} is a file: the gallery needs a folder")
        elif folder.is_symlink():
            raise GalleryError(f"{folder} is a link to a folder that is not there: choose another folder for the gallery")
        above = next(each for each in (folder.absolute(), *folder.absolute().parents) if each.exists())
        if not above.is_dir():
            raise GalleryError(f"{folder}: {above} is a file, so no gallery can be below it")
        with tempfile.TemporaryFile(dir=above):
            pass
    except OSError as error:
        raise GalleryError(f"no gallery can be written to {folder}: {error.strerror or error}") from None
