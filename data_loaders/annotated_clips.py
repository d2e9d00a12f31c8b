"""TMR's layout of datasets, indexed where it lies: annotations.json and split lists in one folder, features of files in another.

datasets/annotations/humanml3d/{annotations.json, splits/test.txt, ...} and datasets/motions/guoh3dfeats/<path>.npy: HumanML3D,
KIT-ML and BABEL as captions of whole AMASS files. A clip is a key with its file, which several keys may share, and what a caption
describes are the frames of its seconds, no more and no less.
"""

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from data_loaders.features import Features
from data_loaders.packed_clips import read_split
from data_loaders.text import LONGEST, Caption
from protos.files import inside, leads_out, shown
from protos.reading import FileError, convert, read_array, read_json

ANNOTATIONS = "annotations.json"
REPRESENTATION = "representation.json"  # what features are, where they are not the published ones
OPEN_FILES = 64  # memory maps that are kept
SAMPLED = 1024  # bytes at the end of a feature file that tell two of one size apart
MIN_SECONDS, MAX_SECONDS = 2.0, 10.0  # of the captions that count outside of test splits


@dataclass(frozen=True, kw_only=True)
class Annotation(Caption):
    """A caption of the seconds start to end of a file, never of a clip as a whole."""

    seg_id: str
    start: float
    end: float

    @property
    def seconds(self) -> float:
        return self.end - self.start

    @property
    def whole(self) -> bool:
        return False


@dataclass(frozen=True)
class AnnotatedFile:
    """A clip as annotations.json holds it: path of its features without extension, seconds of the whole file, its captions;
    what else may stand there is passed over.

    `labels` (content, style, ...) are those of a dataset of ours; published files have none.
    """

    path: str
    duration: float
    annotations: tuple[Annotation, ...]
    labels: dict[str, str | int | float | bool | None] = field(default_factory=dict)


def default_motions(folder: Path) -> Path:
    """Where the feature files of an annotations folder lie unless something else is said."""
    return Path(folder).parent.parent / "motions" / "guoh3dfeats"


def read_annotations(path: Path) -> dict[str, AnnotatedFile]:
    """annotations.json by key, in the order of the file. FileError where it is absent or of another form."""
    try:
        try:
            return parse_annotations(read_json(path, dict[str, AnnotatedFile]))
        except FileError:  # once more, to name the entry
            return parse_annotations(read_json(path, dict[str, Any]))
    except FileNotFoundError:
        raise FileError(f"{path} is absent") from None
    except ValueError as error:
        raise FileError(f"{path} is not an annotations file: {str(error).removeprefix(f'{path}: ')}") from error


def parse_annotations(content: Mapping[str, Any]) -> dict[str, AnnotatedFile]:
    """ValueError names the entry and its field, a caption whose seconds are no span of time, and a path that leads elsewhere."""
    files = {}
    for key, each in content.items():
        file = each if isinstance(each, AnnotatedFile) else convert(each, AnnotatedFile, f"entry {shown(key)}")
        if leads_out(file.path):
            raise ValueError(f"entry {shown(key)}: its path {shown(file.path)} leads out of the folder of motions")
        for annotation in file.annotations:
            if not 0 <= annotation.start <= annotation.end <= LONGEST:  # NaN too
                raise ValueError(f"{annotation.seg_id}: from {annotation.start:g} to {annotation.end:g} s is no span of time")
        files[key] = file
    return files


def within_seconds(annotations: Iterable[Annotation], shortest: float = MIN_SECONDS, longest: float = MAX_SECONDS
                   ) -> list[Annotation]:
    """The captions whose span lasts shortest to longest seconds, both included.

    end - start is taken in double precision as it comes: 2.3 - 0.3 is below 2.
    """
    return [each for each in annotations if shortest <= each.seconds <= longest]


class AnnotatedClips:
    """The clips of a folder with annotations.json; see `Corpus`."""

    of_files, tagger = True, ""

    def __init__(self, folder: Path, motions: Path | None = None):
        """motions: where the feature files lie, by default ../../motions/guoh3dfeats. FileError where the folder does not
        hold what it should."""
        self.folder, self.motions = folder, Path(motions) if motions else default_motions(folder)
        annotated = read_annotations(folder / ANNOTATIONS)
        self.names, self.annotated = list(annotated), list(annotated.values())
        self.labels: list[dict[str, Any]] = [each.labels for each in self.annotated]
        self.features = self._described()
        self._rows = lru_cache(OPEN_FILES)(self._read)

    @cached_property
    def lengths(self) -> np.ndarray:
        """Frames (K,) of every file, which are all looked at."""
        return np.array([self.place(clip)[2] for clip in range(len(self.names))])

    def place(self, clip: int) -> tuple[np.ndarray, int, int]:
        """The array that a clip lies in, its first row and the one after its last. FileError where the file is absent or no
        such."""
        rows = self._rows(self.annotated[clip].path)
        return rows, 0, len(rows)

    def captions(self, clip: int) -> list[Caption]:
        """Times are seconds of the file."""
        return list(self.annotated[clip].annotations)

    def listed(self, split: str) -> list[str]:
        """Keys of a split list, also those without annotations."""
        return read_split(self.folder / "splits", split)

    def files(self) -> tuple[list[Path], list[Path]]:
        own = [self.folder / name for name in (ANNOTATIONS, REPRESENTATION)]
        return own, [self.motions / f"{each.path}.npy" for each in self.annotated]

    @cached_property
    def stamp(self) -> str:
        """Of a feature file its size and its end are looked at."""
        kind = ", ".join(f"{name}={value!r}" for name, value in self.features.record().items())
        digest = hashlib.sha256((self.folder / ANNOTATIONS).read_bytes() + f"Representation({kind})".encode())
        for path in sorted((self.folder / "splits").glob("*.txt")):
            digest.update(path.name.encode() + path.read_bytes())
        for path in sorted({each.path for each in self.annotated}):
            digest.update(path.encode() + _end_of(inside(self.motions, f"{path}.npy", reading=True)))
        return digest.hexdigest()[:16]

    def _described(self) -> Features:
        path = self.folder / REPRESENTATION
        if not path.is_file():
            return Features("humanml", 20.0, "published")
        features = read_json(path, Features)
        features.check(str(path))
        return features

    def _read(self, path: str) -> np.ndarray:
        where = inside(self.motions, f"{path}.npy", reading=True)
        try:
            rows = read_array(where, kinds="f", mmap=True)
        except FileNotFoundError:
            raise FileError(f"{where} is absent: do the feature files lie in {self.motions}? (those of AMASS are made by "
                                  "python -m data_loaders.guoh3dfeats)") from None  # fmt: skip
        except (ValueError, OSError) as error:
            raise FileError(f"{where} is not readable: {error}") from error
        width = self.features.persons * self.features.width
        if rows.ndim != 2 or rows.shape[1] != width:
            raise FileError(f"{where} has shape {rows.shape}, expected (frames, {width})")
        return rows


def _end_of(path: Path) -> bytes:
    """Size and last bytes of a file; nothing of one that is absent."""
    try:
        with open(path, "rb") as file:
            size = file.seek(0, 2)
            file.seek(max(0, size - SAMPLED))
            return size.to_bytes(8, "little") + file.read(SAMPLED)
    except OSError:
        return b""
