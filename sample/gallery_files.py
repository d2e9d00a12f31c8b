"""The files of a gallery: what gallery.json says, which arrays belong to it, and which files of the folder are ours.

A folder with gallery.json, which names motions-HASH.npy and texts-HASH.npy (float16, memory-mapped), and manifest.json, which
lists what we wrote. gallery.json is written last, by renaming: whoever reads meanwhile has the old gallery or the new one.
.lock keeps writers apart. Whatever else lies in the folder stays as it is.
"""

import hashlib
import re
import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import numpy as np

from protos.files import encode_json
from protos.outputs import Outputs
from protos.reading import FileError, decode_json, read_array, read_bytes

FORMAT_VERSION = 2
CONTENT = "gallery.json"
LOCK = ".lock"
UNHASHED = {"motions": "motions.npy", "texts": "texts.npy"}  # of format 1, which is still read
ARRAYS = re.compile(r"(motions|texts)-[0-9a-f]{16}\.npy")
# What may be removed once gallery.json no longer names it: arrays, and the index that earlier versions kept beside them.
REPLACED = re.compile(rf"{ARRAYS.pattern}|motions\.npy|texts\.npy|index(-[0-9a-f]{{16}})?\.usearch")
PARTIAL = re.compile(r"\.(motions|texts)-[0-9a-f]{16}\.\d+\.partial\.npy|\.(gallery|manifest)\.\d+\.partial\.json")
LARGEST = 2 << 30  # bytes of gallery.json: about ten million clips
MOST_SECONDS = 1e7
REMEDY = "make the gallery again in another folder (encode_dataset --gallery FOLDER)"


class GalleryError(FileError):
    """A gallery that is absent, damaged, or was made with another model."""


class Clip(NamedTuple):
    """A motion, or the part of one from `start` to `end` seconds. `source`: its file, or the folder of its dataset."""

    name: str
    source: str
    start: float
    end: float
    texts: tuple[int, ...] = ()  # which of the gallery's captions describe it


@dataclass(frozen=True)
class Version:
    """The format that a gallery.json is of."""

    version: int


@dataclass(frozen=True)
class Content:
    """What gallery.json holds; `arrays`: names of the files with the vectors of clips and of texts."""

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
        raise GalleryError(damaged(path, _why(error, path))) from None
    if problem := content.problem():
        raise GalleryError(damaged(path, problem))
    return content


def read_all(folder: Path) -> tuple[Content, np.ndarray, np.ndarray]:
    """gallery.json with the vectors (N, C) of its clips and (M, C) or none of its texts, memory-mapped."""
    folder = Path(folder)
    for _ in range(10):
        content = read_content(folder)
        try:
            vectors = _vectors(folder / content.arrays["motions"], len(content.clips))
            texts = _vectors(folder / content.arrays["texts"], None)
            break
        except FileNotFoundError as error:  # it may have been replaced between the two
            if read_content(folder).arrays == content.arrays:
                missing = Path(error.filename).name
                raise GalleryError(f"{folder} is a damaged gallery, {missing} is missing: {REMEDY}") from None
    else:
        raise GalleryError(f"{folder} is being written again and again: try once more")
    if len(texts) not in (0, len(content.texts)) or (len(texts) and texts.shape[1] != vectors.shape[1]):
        raise GalleryError(damaged(folder / content.arrays["texts"], f"{texts.shape} vectors of {len(content.texts)} captions"))
    return content, vectors, texts


def _vectors(path: Path, count: int | None) -> np.ndarray:
    """(count, C), finite. FileNotFoundError where it is absent, GalleryError where it is damaged."""
    try:
        return read_array(path, shape=(count, None), kinds="f", mmap=True, finite=True)
    except FileNotFoundError:
        raise
    except (OSError, FileError) as error:
        raise GalleryError(damaged(path, _why(error, path))) from None


def write_all(folder: Path, content: Content, vectors: np.ndarray, texts: np.ndarray) -> dict[str, str]:
    """Writes the folder and returns the names of its arrays; a gallery that is there is replaced, anything else is not.

    `protos.files.file_lock` keeps two that write at once apart. GalleryError where it cannot be written.
    """
    outputs = claimed(folder)
    given = {"motions": vectors, "texts": texts}
    arrays = {kind: f"{kind}-{content_hash(array)}.npy" for kind, array in given.items()}
    try:
        outputs.claim(*arrays.values(), CONTENT)
        for kind, name in arrays.items():
            with outputs.file(name) as file:
                np.save(file, given[kind])
        record = vars(content) | {"arrays": arrays}
        outputs.write(CONTENT, encode_json(record, CONTENT, indent=None))
    except OSError as error:
        raise GalleryError(f"the gallery {folder} cannot be written: {error.strerror or error}") from error
    for path in Path(folder).glob(".*.partial.*"):  # of a writer that was killed
        if PARTIAL.fullmatch(path.name):
            path.unlink(missing_ok=True)
    outputs.remove(*(name for name in outputs.listed if REPLACED.fullmatch(name) and name not in arrays.values()))
    return arrays


def claimed(folder: Path) -> Outputs:
    """The files of a gallery's folder that are ours."""
    return Outputs(folder, "gallery", going_on=True, earlier=_earlier, flag="--gallery")


def _earlier(folder: Path) -> set[str]:
    """Names in a folder without a manifest that an earlier version may have written."""
    return {path.name for path in Path(folder).glob("*") if path.name in (CONTENT, LOCK) or REPLACED.fullmatch(path.name)}


def content_hash(array: np.ndarray) -> str:
    """16 characters that change with any number of an array, its kind or its shape."""
    digest = hashlib.sha256(repr((array.shape, str(array.dtype))).encode())
    digest.update(np.ascontiguousarray(array).tobytes())
    return digest.hexdigest()[:16]


def damaged(path: Path, why: str) -> str:
    return f"{path} is damaged ({why}): {REMEDY}"


def _why(error: Exception, path: Path) -> str:
    text = str(error.strerror or error) if isinstance(error, OSError) else str(error)
    return text.removeprefix(f"{path}: ")


def require_free(folder: Path) -> None:
    """GalleryError for a folder that holds anything else than a gallery of ours, or that no gallery can be written to."""
    folder = Path(folder)
    try:
        if folder.is_dir():
            _require_ours(folder)
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


def _require_ours(folder: Path) -> None:
    outputs = claimed(folder)
    if (folder / CONTENT).is_file():
        if CONTENT not in outputs.listed:
            raise GalleryError(f"{folder / CONTENT} is not listed in a manifest, and other files lie beside it: "
                               "whose they are cannot be told, choose another folder for the gallery")  # fmt: skip
        return
    others = (path.name for path in folder.iterdir() if not (path.name == LOCK or PARTIAL.fullmatch(path.name)))
    if any(name not in outputs.listed and name != "manifest.json" for name in others):
        raise GalleryError(f"{folder} is no gallery and not empty: choose another folder for the gallery")
