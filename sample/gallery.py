"""A stored gallery: unit vectors of many motions and of their captions, with where each came from; made once, searched often.

A folder with gallery.json, which names motions-HASH.npy and texts-HASH.npy (float16, memory-mapped), and manifest.json, which
lists what we wrote. gallery.json is written last, by renaming: whoever reads meanwhile has the old gallery or the new one.
.lock keeps writers apart. Whatever else lies in the folder stays as it is.
"""

import difflib
import hashlib
import logging
import os
import re
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import NamedTuple

import numpy as np

from model.embedding import TextMotionSpace
from protos.files import encode_json, is_partial, shown
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
LARGEST = 2 << 30  # bytes of gallery.json: about ten million clips
MOST_SECONDS = 1e7
LONGEST_NAME, MOST_COMPARED = 100, 20_000  # letters and clips among which a name that is near to a wrong one is looked for
REMEDY = "make the gallery again in another folder (encode_dataset --gallery FOLDER)"
StoredClip = tuple[str, str, float, float, list[int]]  # a `Clip`, with the places of its captions among the gallery's texts
Stamp = dict[str, str | int | float | list[int] | None]  # by what to tell that a source has changed


class Clip(NamedTuple):
    """A motion, or the part of one from `start` to `end` seconds. `source`: its file, or the folder of its dataset."""

    name: str
    source: str
    start: float
    end: float
    captions: tuple[str, ...] = ()


@dataclass(frozen=True)
class Format:
    """Of which format a gallery.json is."""

    version: int


@dataclass(frozen=True, kw_only=True)
class Content:
    """What gallery.json holds. `model` and `fingerprint` say what made the vectors; `arrays`: in which files these are."""

    version: int
    model: str
    fingerprint: str
    fps: float
    clips: list[StoredClip]
    texts: list[str]
    files: dict[str, Stamp]
    arrays: dict[str, str] = field(default_factory=lambda: dict(UNHASHED))

    def __post_init__(self) -> None:
        """ValueError for what cannot be, though each value is of its type."""
        if not 0 < self.fps <= 10_000:
            raise ValueError(f"fps {self.fps:g}, expected frames per second")
        for place, (_, _, start, end, texts) in enumerate(self.clips):
            if not 0 <= start <= end <= MOST_SECONDS:
                raise ValueError(f"clip {place} lasts from {start:g} to {end:g} s")
            if not all(0 <= i < len(self.texts) for i in texts):
                raise ValueError(f"a clip has a caption that is none of the {len(self.texts)}")
        for kind, plain in UNHASHED.items():
            name = self.arrays.get(kind, "")
            if not (name == plain if self.version == 1 else ARRAYS.fullmatch(name) and name.startswith(kind)):
                raise ValueError(f"arrays: {kind} in {name[:60]!r}, expected {kind}-HASH.npy")


@dataclass(frozen=True)
class Gallery:
    """Unit vectors (N, C) of `clips` and (M, C) of `texts`, the distinct captions; `text_vectors` has no rows where no search
    among captions was wanted. `files`: a stamp of each source of clips."""

    model: str
    fingerprint: str
    fps: float
    clips: list[Clip]
    vectors: np.ndarray
    texts: list[str]
    text_vectors: np.ndarray
    files: dict[str, Stamp]
    folder: Path = Path("the gallery")

    def __len__(self) -> int:
        return len(self.clips)

    def of_file(self, clip: Clip) -> bool:
        """Whether a clip is of a motion file, not of a dataset."""
        return "motion_fps" in self.files.get(clip.source, ())

    def place(self, clip: Clip) -> str:
        """Where its motion is: the path of a file, or DATASET_FOLDER/NAME."""
        return clip.source if self.of_file(clip) else f"{clip.source}/{clip.name}"

    def row(self, given: str) -> int:
        """The first row of a name or a place; says what else it could have meant. FileError where it is not there."""
        rows = [i for i, clip in enumerate(self.clips) if clip.name == given]
        if not rows:
            path = str(Path(given).absolute())
            rows = [i for i, clip in enumerate(self.clips) if self.place(clip) == path]
        if not rows:
            names = [clip.name[:LONGEST_NAME] for clip in self.clips[:MOST_COMPARED]]
            near = difflib.get_close_matches(given[:LONGEST_NAME], names, 4)
            raise FileError(f"no motion {shown(given)} in this gallery" + (f" (near: {', '.join(near)})" if near else ""))
        if len(rows) > 1:
            clip = self.clips[rows[0]]
            several = len({self.clips[i].source for i in rows}) > 1
            log.warning("%s stands for %d motions or parts here: taken is %s from %.2f to %.2f s%s", given, len(rows),
                        self.place(clip), clip.start, clip.end, "; for another one give its path" if several else "")
        return rows[0]

    def require(self, space: TextMotionSpace, what: str) -> None:
        """FileError unless `what`, the model behind `space`, made the gallery."""
        if self.fingerprint != space.fingerprint:
            raise FileError(f"{self.folder} was made with {self.model}, whose weights {what} does not have (any more): "
                            "run encode_dataset again into another folder")  # fmt: skip
        if self.vectors.shape[1] != space.dim:
            raise damaged(self.folder, f"vectors of {self.vectors.shape[1]} numbers, its model makes {space.dim}")

    def updated(self, gone: set[str], clips: Sequence[Clip], vectors: np.ndarray, files: Mapping[str, Stamp],
                encode_text: Callable[[list[str]], np.ndarray] | None = None) -> "Gallery":
        """Without the clips at the places that are `gone`, with further ones, their vectors (N, C) and stamps.

        encode_text: makes the vectors of captions that have none yet; without it the captions have none.
        """
        keep = [i for i, clip in enumerate(self.clips) if self.place(clip) not in gone]
        clips = [*(self.clips[i] for i in keep), *clips]
        vectors = np.concatenate([self.vectors[keep], as_stored(vectors)]) if len(vectors) else self.vectors[keep]
        sources, texts = {clip.source for clip in clips}, list(dict.fromkeys(text for clip in clips for text in clip.captions))
        files = {source: stamp for source, stamp in {**self.files, **files}.items() if source in sources}
        text_vectors = self.text_vectors[:0]
        if encode_text and texts:
            known = dict(zip(self.texts, self.text_vectors))
            new = [text for text in texts if text not in known]
            known |= zip(new, as_stored(encode_text(new)) if new else ())
            text_vectors = np.stack([known[text] for text in texts])
        return replace(self, clips=clips, vectors=vectors, texts=texts, text_vectors=text_vectors, files=files)

    @staticmethod
    def load(folder: Path) -> "Gallery":
        """The vectors memory-mapped. FileError says what is absent or damaged."""
        folder = Path(folder)
        content = read_content(folder)
        arrays = []
        for kind, count in (("motions", len(content.clips)), ("texts", None)):
            path = folder / content.arrays[kind]
            try:
                with damage_named(path):
                    arrays.append(read_array(path, shape=(count, None), kinds="f", mmap=True, finite=True))
            except FileNotFoundError:
                if read_content(folder).arrays != content.arrays:  # it was replaced meanwhile
                    return Gallery.load(folder)
                raise FileError(f"{folder} is a damaged gallery, {path.name} is missing: {REMEDY}") from None
        (vectors, text_vectors), texts = arrays, content.texts
        if len(text_vectors) not in (0, len(texts)) or (len(text_vectors) and text_vectors.shape[1] != vectors.shape[1]):
            raise damaged(path, f"{text_vectors.shape} vectors of {len(texts)} captions")
        clips = [Clip(*clip, tuple(texts[i] for i in captions)) for *clip, captions in content.clips]
        return Gallery(content.model, content.fingerprint, content.fps, clips, vectors, texts, text_vectors, content.files,
                       folder)  # fmt: skip

    def save(self, folder: Path) -> None:
        """Writes the folder; a gallery of ours that is there is replaced, anything else is not.

        `protos.files.file_lock` keeps two that write at once apart. FileError where it cannot be written.
        """
        require_place(folder)
        outputs, arrays = claimed(folder), {"motions": self.vectors, "texts": self.text_vectors}
        names = {kind: f"{kind}-{hashlib.sha256(array.tobytes()).hexdigest()[:16]}.npy" for kind, array in arrays.items()}
        number = {text: i for i, text in enumerate(self.texts)}
        clips = [(*clip, [number[text] for text in captions]) for *clip, captions in self.clips]
        content = Content(version=FORMAT_VERSION, model=self.model, fingerprint=self.fingerprint, fps=self.fps, clips=clips,
                          texts=self.texts, files=self.files, arrays=names)  # fmt: skip
        try:
            outputs.claim(*names.values(), CONTENT)
            for kind, name in names.items():
                with outputs.file(name) as file:
                    np.save(file, arrays[kind])
            outputs.write(CONTENT, encode_json(vars(content), CONTENT, indent=None))
        except OSError as error:
            raise FileError(f"the gallery {folder} cannot be written: {error.strerror or error}") from error
        for path in filter(lambda path: is_partial(path.name), outputs.folder.iterdir()):  # of a writer that was killed
            path.unlink(missing_ok=True)
        outputs.remove(*(name for name in outputs.listed if REPLACED.fullmatch(name) and name not in names.values()))


def as_stored(vectors: np.ndarray) -> np.ndarray:
    """Unit rows in half precision: a cosine is then off by less than 0.001."""
    return unit_rows(np.asarray(vectors, np.float32)).astype(np.float16)


def damaged(path: Path, why: object) -> FileError:
    text = str(why.strerror or why) if isinstance(why, OSError) else str(why)
    return FileError(f"{path} is damaged ({text.removeprefix(f'{path}: ')}): {REMEDY}")


@contextmanager
def damage_named(path: Path) -> Iterator[None]:
    """What is wrong with a file that is there, with what to do."""
    try:
        yield
    except (FileNotFoundError, NotADirectoryError):
        raise
    except (OSError, FileError) as error:
        raise damaged(path, error) from None


def read_content(folder: Path) -> Content:
    """What gallery.json says. FileError for an absent one, and where it is damaged."""
    path = Path(folder) / CONTENT
    try:
        with damage_named(path):
            data = read_bytes(path, LARGEST)
            if (version := decode_json(data, Format, str(path)).version) in (1, FORMAT_VERSION):
                return decode_json(data, Content, str(path))
    except (FileNotFoundError, NotADirectoryError):
        raise FileError(f"{folder} holds no gallery (gallery.json is missing): make one with "
                        "python -m sample.retrieve encode_dataset") from None
    raise FileError(f"{folder} is of format {version}, expected {FORMAT_VERSION}: {REMEDY}")


def claimed(folder: Path) -> Outputs:
    """The files of a gallery's folder that are ours; without a manifest, those that an earlier version may have written."""
    return Outputs(folder, "gallery", going_on=True, flag="--gallery", earlier=lambda folder: {
        path.name for path in folder.glob("*") if path.name in (CONTENT, LOCK) or REPLACED.fullmatch(path.name)})  # fmt: skip


def require_place(folder: Path) -> None:
    """FileError for a folder that holds anything else than a gallery of ours, or that no gallery can be written to."""
    folder = Path(folder)
    try:
        if folder.is_dir():
            listed, there = claimed(folder).listed, {path.name for path in folder.iterdir() if not is_partial(path.name)}
            if CONTENT in there - listed:
                raise FileError(f"{folder / CONTENT} is not listed in a manifest, and other files lie beside it: "
                                "whose they are cannot be told, choose another folder for the gallery")  # fmt: skip
            if CONTENT not in there and there - listed - {LOCK, MANIFEST}:
                raise FileError(f"{folder} is no gallery and not empty: choose another folder for the gallery")
        elif os.path.lexists(folder) and not folder.exists():
            raise FileError(f"{folder} is a link to a folder that is not there: choose another folder for the gallery")
        above = next(each for each in (folder.absolute(), *folder.absolute().parents) if each.exists())
        claimed(folder)  # refuses a file in the place of a folder
        with tempfile.TemporaryFile(dir=above):
            pass
    except OSError as error:
        raise FileError(f"no gallery can be written to {folder}: {error.strerror or error}") from None
