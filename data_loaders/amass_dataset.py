"""Datasets in TMR's layout: annotations.json and split lists in one folder, features of whole files in another.

datasets/annotations/humanml3d/{annotations.json, splits/test.txt, ...} and datasets/motions/guoh3dfeats/<path>.npy.
"""

import hashlib
from collections.abc import Mapping
from functools import cached_property, lru_cache
from pathlib import Path

import numpy as np

from data_loaders.amass_annotations import (
    MAX_SECONDS,
    MIN_SECONDS,
    AnnotatedFile,
    Annotation,
    AnnotationError,
    annotated_split,
    cut_span,
    read_annotations,
)
from data_loaders.clips import Report
from data_loaders.corpus import Corpus
from data_loaders.features import Features
from data_loaders.skeleton import Skeleton
from protos.names import inside
from protos.reading import FileError, read_array, read_json, read_names

ANNOTATIONS = "annotations.json"
REPRESENTATION = "representation.json"  # of features other than the published ones
OPEN_FILES = 64  # memory maps that are kept
SAMPLED = 1024  # bytes at the end of a feature file that tell two of one size apart


def default_motions(folder: Path) -> Path:
    """Where the feature files of an annotations folder lie unless something else is said."""
    return Path(folder).parent.parent / "motions" / "guoh3dfeats"


class AmassDataset:
    """A folder with annotations.json; the feature files lie in ../../motions/guoh3dfeats where nothing else is said."""

    def __init__(self, folder: Path, motions: Path | None = None):
        """AnnotationError where the folder does not hold what it should."""
        self.folder = Path(folder)
        self.motions = Path(motions) if motions else default_motions(self.folder)
        self.files = read_annotations(self.folder / ANNOTATIONS)
        self.features = self._described()
        self._rows = lru_cache(OPEN_FILES)(self._read)

    @staticmethod
    def is_at(folder: str | Path) -> bool:
        return (Path(folder) / ANNOTATIONS).is_file()

    @property
    def skeleton(self) -> Skeleton:
        return self.features.body

    @property
    def heading(self) -> str:
        return self.features.heading

    @property
    def fps(self) -> float:
        return self.features.fps

    def keys(self, split: str) -> list[str]:
        """Keys of a split list, also those without annotations. FileNotFoundError names the splits there are."""
        path = self.folder / "splits" / f"{split}.txt"
        if not path.is_file():
            known = sorted(p.stem for p in path.parent.glob("*.txt"))
            raise FileNotFoundError(f"{path}: no such split; this dataset has {', '.join(known) or 'none'}")
        return read_names(path)

    def split(self, split: str, shortest: float = MIN_SECONDS, longest: float = MAX_SECONDS,
              report: Report | None = None) -> dict[str, AnnotatedFile]:
        """The files of a split by key, in its order, with the captions of 2 to 10 s; of test splits with all captions.

        `report` gets what is left out.
        """
        return annotated_split(self.files, self.keys(split), split, shortest, longest, report)

    @cached_property
    def stamp(self) -> str:
        """16 characters that change when annotations, split lists or feature files do, as `Corpus.stamp`; of a feature file
        its size and its end are looked at.
        """
        kind = ", ".join(f"{name}={value!r}" for name, value in self.features.record().items())
        digest = hashlib.sha256((self.folder / ANNOTATIONS).read_bytes() + f"Features({kind})".encode())
        for path in sorted((self.folder / "splits").glob("*.txt")):
            digest.update(path.name.encode() + path.read_bytes())
        for path in sorted({file.path for file in self.files.values()}):
            digest.update(path.encode() + _end_of(inside(self.motions, f"{path}.npy", reading=True)))
        return digest.hexdigest()[:16]

    def labels_of(self, key: str) -> Mapping[str, object]:
        """What is known about a file beside its captions; nothing of published ones."""
        return self.files[key].labels if key in self.files else {}

    def motion(self, file: AnnotatedFile, annotation: Annotation) -> np.ndarray:
        """Features (T, 263) in their units of what a caption describes. AnnotationError where the file is absent or no such."""
        return cut_span(self._rows(file.path), annotation.start, annotation.end, self.fps)

    def _described(self) -> Features:
        path = self.folder / REPRESENTATION
        if not path.is_file():
            return Features("humanml", 20.0, "published")
        try:
            features = read_json(path, Features)
            features.check(str(path))
        except FileError as error:
            raise AnnotationError(f"{path} is not readable: {error}") from error
        return features

    def _read(self, path: str) -> np.ndarray:
        where = inside(self.motions, f"{path}.npy", reading=True)
        try:
            features = read_array(where, kinds="f", mmap=True)
        except FileNotFoundError:
            raise AnnotationError(f"{where} is absent: do the feature files lie in {self.motions}? (those of AMASS are made by "
                                  "python -m data_loaders.guoh3dfeats)") from None  # fmt: skip
        except (ValueError, OSError) as error:
            raise AnnotationError(f"{where} is not readable: {error}") from error
        if features.ndim != 2 or features.shape[1] != self.features.width:
            raise AnnotationError(f"{where} has shape {features.shape}, expected (frames, {self.features.width})")
        return features


def _end_of(path: Path) -> bytes:
    """Size and last bytes of a file; nothing of one that is absent."""
    try:
        with open(path, "rb") as file:
            size = file.seek(0, 2)
            file.seek(max(0, size - SAMPLED))
            return size.to_bytes(8, "little") + file.read(SAMPLED)
    except OSError:
        return b""


def open_dataset(name_or_folder: str | Path, motions: Path | None = None) -> Corpus | AmassDataset:
    """A prepared dataset by name or folder, or a folder with annotations.json, whose feature files may lie in `motions`.

    ValueError or OSError, in a user's words, where it is neither.
    """
    if AmassDataset.is_at(name_or_folder):
        return AmassDataset(Path(name_or_folder), motions)
    if motions is not None:
        raise ValueError(f"--motions belongs to a folder with annotations.json, and {name_or_folder} is none")
    return Corpus.open(name_or_folder)
