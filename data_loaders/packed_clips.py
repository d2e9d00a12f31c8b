"""A prepared dataset: all its rows of features in one array `corpus/features.npy`, and beside it an index and the captions.

The folder has the HumanML3D layout (`new_joints/`, `new_joint_vecs/`, `texts/`, `Mean.npy`, `Std.npy`, split lists) and beside it
`corpus/`, so that opening a dataset costs milliseconds whatever its size. `data_loaders.corpus_writer` makes it.
"""

import hashlib
import json
import re
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any

import msgspec
import numpy as np

from data_loaders.features import Features
from data_loaders.text import LONGEST, Caption, TaggerName
from protos.files import leads_out, recover_folder, shown
from protos.reading import FileError, read_array, read_json, read_names

FORMAT_VERSION = 1
CORPUS_FILES = ("index.json", "captions.json", "features.npy", "stats.npz")
EARLIER_FILES = (*CORPUS_FILES, "features.npy.partial")  # the last was left by a killed run of an earlier version
REPORT = "report.txt"  # the one text file of a dataset folder that is no split list
PLAIN_NAME = re.compile(r"\w[\w@+=,() .-]*")  # of a file, without folders; most are so
PREPARE_AGAIN = "prepare the dataset again"
Seconds = Annotated[float, msgspec.Meta(ge=-LONGEST, le=LONGEST)]


@dataclass(frozen=True)
class Index:
    """What corpus/index.json holds: the clips in the order of their frames, offsets of K + 1 rows, and a hash of the frames."""

    version: int
    skeleton: str
    fps: float
    heading: str
    names: list[str]
    offsets: list[int]
    labels: list[dict[str, Any]]
    kind: str = "humanml"
    frames: str = ""  # sha256 of features.npy's rows; '' where an earlier version wrote it
    tagger: TaggerName = ""  # whose the tokens of all captions are; '' too where an earlier version wrote it

    def check(self, name: str) -> None:
        """FileError where the parts contradict each other, or a clip's name could lead out of a folder."""
        if len(self.offsets) != len(self.names) + 1 or len(self.labels) != len(self.names):
            raise FileError(f"{name}: {len(self.names)} names, {len(self.offsets)} offsets, {len(self.labels)} labels, expected "
                            f"as many labels as names and one offset more: {PREPARE_AGAIN}")  # fmt: skip
        rising = all(one <= other for one, other in zip(self.offsets, self.offsets[1:], strict=False))
        if self.offsets[0] != 0 or not rising or self.offsets[-1] >= 1 << 48:
            raise FileError(f"{name}: offsets must rise from 0: {PREPARE_AGAIN}")
        if len(set(self.names)) < len(self.names):
            twice = next(each for i, each in enumerate(self.names) if each in self.names[:i])
            raise FileError(f"{name}: two clips are called {shown(twice)}: {PREPARE_AGAIN}")
        for each in self.names:
            if not PLAIN_NAME.fullmatch(each) and (leads_out(each) or "\n" in each or "\r" in each):
                raise FileError(f"{name}: the clip's name {shown(each)} is no name of a file: not used")


class StoredCaption(msgspec.Struct, array_like=True):
    """A row of corpus/captions.json; a caption of all who are in the clip has no `person`."""

    text: str
    tokens: list[str]
    start: Seconds
    end: Seconds
    person: Annotated[int, msgspec.Meta(ge=0, le=9)] = 0


@dataclass(frozen=True)
class _Version:
    """What is read of an index first."""

    version: Any = None


class PackedClips:
    """The clips of a prepared dataset; see `Corpus`."""

    of_files = False

    def __init__(self, folder: Path):
        """FileNotFoundError where there is no prepared dataset, FileError where its files are damaged or do not fit together."""
        self.folder, self.store = folder, folder / "corpus"
        index_file = self.store / "index.json"
        recover_folder(self.store)
        if not index_file.is_file():
            raise FileNotFoundError(
                f"{folder} holds no prepared dataset ({index_file} is missing): "
                "make one with python -m data_loaders.prepare --help"
            )
        version = read_json(index_file, _Version).version
        if version != FORMAT_VERSION:
            raise FileError(f"{index_file}: format {shown(version)}, expected {FORMAT_VERSION}: prepare it again")
        self.index = index = read_json(index_file, Index)
        index.check(str(index_file))
        self.names, self.labels, self.tagger = index.names, [_plain_labels(each) for each in index.labels], index.tagger
        self.offsets = np.asarray(index.offsets, dtype=np.int64)
        self.features = Features(index.skeleton, float(index.fps), index.heading, index.kind)
        self.features.check(str(index_file))
        self.frames = read_array(self.store / "features.npy", kinds="f", mmap=True)
        expected = int(self.offsets[-1]), self.features.persons * self.features.width
        if self.frames.shape != expected:
            raise FileError(f"{self.store / 'features.npy'}: shape {self.frames.shape}, expected {expected}: {PREPARE_AGAIN}")

    @cached_property
    def lengths(self) -> np.ndarray:
        return np.diff(self.offsets)

    def place(self, clip: int) -> tuple[np.ndarray, int, int]:
        """The array that a clip lies in, its first row and the one after its last."""
        return self.frames, int(self.offsets[clip]), int(self.offsets[clip + 1])

    def captions(self, clip: int) -> list[Caption]:
        """Of all who are in it and of each person alone. Times as they stand in the data, in seconds of the clip."""
        return self._captions[self.names[clip]]

    @cached_property
    def _captions(self) -> dict[str, list[Caption]]:
        stored = read_json(self.store / "captions.json", dict[str, list[StoredCaption]])
        return {
            name: [Caption(row.text, row.tokens, row.start, row.end, self.tagger, row.person) for row in stored.get(name, ())]
            for name in self.names
        }

    def listed(self, split: str) -> list[str]:
        """Names of a split list, also of clips that are not there; of `all` those of all clips."""
        return self.names if split == "all" else read_split(self.folder, split)

    def files(self) -> tuple[list[Path], list[Path]]:
        return [self.store / name for name in ("features.npy", "index.json", "captions.json")], []

    @cached_property
    def stamp(self) -> str:
        """Of a corpus by an earlier version all frames are read for it."""
        digest = hashlib.sha256()
        for name in ("index.json", "captions.json", "stats.npz"):
            path = self.store / name
            digest.update(name.encode() + (path.read_bytes() if path.is_file() else b""))
        if not self.index.frames:
            digest.update(_hash_of_rows(self.frames).encode())
        position = {name: i for i, name in enumerate(self.names)}
        for path in sorted(self.folder.glob("*.txt")):
            if path.name != REPORT and (clips := [position[name] for name in _names_in(path) if name in position]):
                digest.update(path.name.encode() + np.asarray(clips, np.int64).tobytes())
        return digest.hexdigest()[:16]


def _names_in(path: Path) -> list[str]:
    """The lines of a text file; none of one that is no split list."""
    try:
        return read_names(path)
    except FileError:
        return []


def read_split(folder: Path, split: str) -> list[str]:
    """The names in a split list, one a line. FileNotFoundError names the splits there are."""
    path = Path(folder) / f"{split}.txt"
    if not path.is_file():
        known = sorted(p.stem for p in Path(folder).glob("*.txt") if p.name != REPORT)
        raise FileNotFoundError(f"{path}: no such split; this dataset has {', '.join(known) or 'none'}")
    return read_names(path)


def _plain_labels(labels: dict[str, Any]) -> dict[str, Any]:
    """Labels that can be compared and counted: lists and dicts, which a file may hold, as their text."""
    if not any(type(value) in (list, dict) for value in labels.values()):
        return labels
    return {key: json.dumps(value) if isinstance(value, (list, dict)) else value for key, value in labels.items()}


def _hash_of_rows(features: np.ndarray, rows: int = 1 << 14) -> str:
    """sha256 of an array's float32 rows, read a part at a time."""
    digest = hashlib.sha256()
    for start in range(0, len(features), rows):
        digest.update(np.ascontiguousarray(features[start : start + rows], "<f4").tobytes())
    return digest.hexdigest()
