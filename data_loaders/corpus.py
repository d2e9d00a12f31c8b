"""The packed, memory-mapped store of a dataset, and the records that travel between the layers.

A dataset folder has the HumanML3D layout (`new_joints/`, `new_joint_vecs/`, `texts/`, `Mean.npy`, `Std.npy`, split lists)
and beside it `corpus/`: all feature rows in one array, so that opening a dataset costs milliseconds whatever its size.
"""

import hashlib
import json
import re
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import numpy as np

from data_loaders.features import Features, kind_of_width
from data_loaders.known_datasets import resolve_dataset
from data_loaders.skeleton import Skeleton
from protos.files import atomic_file, recover_folder
from protos.names import leads_out, shown
from protos.reading import FileError, read_array, read_arrays, read_json, read_names

if TYPE_CHECKING:
    from torch import Tensor

    from data_loaders.text import Caption

PUBLISHED_STATISTICS = Path(__file__).with_name("published_statistics.json")
FORMAT_VERSION = 1
CORPUS_FILES = ("index.json", "captions.json", "features.npy", "stats.npz")
EARLIER_FILES = (*CORPUS_FILES, "features.npy.partial")  # the last was left by a killed run of an earlier version
REPORT = "report.txt"  # the one text file of a dataset folder that is no split list
PLAIN_NAME = re.compile(r"\w[\w@+=,() .-]*")  # of a file, without folders; most are so
PREPARE_AGAIN = "prepare the dataset again"


@dataclass(frozen=True)
class Statistics:
    """Mean and std (D,) of each column, and the features they belong to."""

    mean: np.ndarray
    std: np.ndarray
    features: Features

    def save(self, path: Path) -> None:
        with atomic_file(path) as file:
            np.savez(file, mean=self.mean, std=self.std, **self.features.record())

    @staticmethod
    def load(path: Path) -> "Statistics":
        """FileError names what is missing, not finite, or a std that is not above zero."""
        found = read_arrays(path, only=("mean", "std", "skeleton", "fps", "heading", "kind"))
        for name in ("mean", "std", "skeleton", "fps", "heading"):
            if name not in found:
                raise FileError(f"{path}: no array {name!r}, expected mean, std, skeleton, fps and heading")
        mean, std = found["mean"], found["std"]
        if mean.ndim != 1 or mean.shape != std.shape or mean.dtype.kind != "f" or std.dtype.kind != "f":
            raise FileError(f"{path}: mean {mean.shape} and std {std.shape}, expected two rows of numbers of one length")
        with np.errstate(over="ignore", under="ignore"):  # as networks hold them
            single = mean.astype(np.float32), std.astype(np.float32)
        if not (np.isfinite(single).all() and (single[1] > np.finfo(np.float32).tiny).all()):
            raise FileError(f"{path}: mean and std must be finite and every std above 0, in float32 too")
        told = "kind" in found  # not by earlier versions
        found.setdefault("kind", np.array("humanml"))
        for name, kinds in (("fps", "fiu"), ("skeleton", "U"), ("heading", "U"), ("kind", "U")):
            if found[name].size != 1 or found[name].dtype.kind not in kinds:
                expected = "one number" if name == "fps" else "one word"
                raise FileError(f"{path}: {name} of shape {found[name].shape} and kind {found[name].dtype}, expected {expected}")
        skeleton, fps, heading, kind = (found[name].item() for name in ("skeleton", "fps", "heading", "kind"))
        features = Features(skeleton, float(fps), heading, kind)
        features.check(str(path))
        return Statistics(mean, std, features if told else replace(features, kind=kind_of_width(skeleton, len(mean))))

    @staticmethod
    def published(name: str, features: Features, dtype: type = np.float32) -> "Statistics | None":
        """A pair that is carried with the code, by its name in published_statistics.json; None for any other name."""
        carried = json.loads(PUBLISHED_STATISTICS.read_text(encoding="utf-8")).get(name)
        if carried is None:
            return None
        return Statistics(*(np.array(carried[each], dtype) for each in ("mean", "std")), features)


@dataclass(frozen=True)
class Motion:
    """What any generator returns and any writer takes: joints (P, T, J, 3) in metres, Y up."""

    joints: np.ndarray
    fps: float
    skeleton: str = "humanml"
    captions: tuple[str, ...] = ()
    rotations: np.ndarray | None = None


@dataclass
class Batch:
    """Motion (B, T, persons * width) in feature units, zero beyond `lengths`; mask (B, T) is True on real frames."""

    motion: "Tensor"
    lengths: "Tensor"
    mask: "Tensor"
    texts: list[str] = field(default_factory=list)
    names: list[str] = field(default_factory=list)
    indices: "Tensor | None" = None
    text_features: dict[str, Any] = field(default_factory=dict)  # by role


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


@dataclass(frozen=True)
class _Version:
    """What is read of an index first."""

    version: Any = None


class Corpus:
    """A dataset opened for reading. `corpus[i]` is the memory-mapped feature block (T, D) of clip i, denormalised."""

    def __init__(self, folder: Path):
        """FileNotFoundError where there is no prepared dataset, FileError where its files are damaged or do not fit together."""
        self.folder = Path(folder)
        store = self.folder / "corpus"
        index_file = store / "index.json"
        recover_folder(store)
        if not index_file.is_file():
            raise FileNotFoundError(
                f"{self.folder} holds no prepared dataset ({index_file} is missing): "
                f"make one with python -m data_loaders.prepare --help"
            )
        version = read_json(index_file, _Version).version
        if version != FORMAT_VERSION:
            raise FileError(f"{index_file}: format {shown(version)}, expected {FORMAT_VERSION}: prepare it again")
        index = read_json(index_file, Index)
        index.check(str(index_file))
        self.index = index
        self.names: list[str] = index.names
        self.offsets = np.asarray(index.offsets, dtype=np.int64)
        self.labels: list[dict] = [_plain_labels(each) for each in index.labels]
        self.features = Features(index.skeleton, float(index.fps), index.heading, index.kind)
        self.features.check(str(index_file))
        self.frames = read_array(store / "features.npy", kinds="f", mmap=True)
        expected = int(self.offsets[-1]), self.features.persons * self.features.width
        if self.frames.shape != expected:
            raise FileError(f"{store / 'features.npy'}: shape {self.frames.shape}, expected {expected}: {PREPARE_AGAIN}")
        self._store = store
        self._captions: dict[str, list[Caption]] | None = None
        self._position = {name: i for i, name in enumerate(self.names)}
        self._statistics: Statistics | None = None

    @staticmethod
    def open(name_or_folder: str | Path) -> "Corpus":
        return Corpus(resolve_dataset(name_or_folder))

    @property
    def skeleton(self) -> Skeleton:
        return self.features.body

    @property
    def fps(self) -> float:
        return self.features.fps

    @property
    def heading(self) -> str:
        return self.features.heading

    @property
    def lengths(self) -> np.ndarray:
        return np.diff(self.offsets)

    @property
    def statistics(self) -> Statistics:
        """The dataset's own pair; refused if it was made for other features than the frames."""
        if self._statistics is None:
            self._statistics = Statistics.load(self._store / "stats.npz")
            if len(self._statistics.mean) != self.frames.shape[1]:
                raise FileError(f"{self._store / 'stats.npz'}: {len(self._statistics.mean)} features, expected "
                                f"{self.frames.shape[1]}: {PREPARE_AGAIN}")  # fmt: skip
            self.features.require(
                self._statistics.features, f"{self.folder}'s features", f"{self._store / 'stats.npz'}"
            )
        return self._statistics

    @property
    def mean(self) -> np.ndarray:
        return self.statistics.mean

    @property
    def std(self) -> np.ndarray:
        return self.statistics.std

    def __len__(self) -> int:
        return len(self.names)

    def __getitem__(self, i: int) -> np.ndarray:
        return self.frames[self.offsets[i] : self.offsets[i + 1]]

    def position(self, name: str) -> int:
        """Index of a clip; KeyError where it is absent."""
        return self._position[name]

    def labels_of(self, name: str) -> dict[str, Any]:
        """What is known about a clip (content, style, mirrored, ...); KeyError where it is absent."""
        return self.labels[self._position[name]]

    def captions(self, clip: int | str) -> "list[Caption]":
        if self._captions is None:
            import msgspec

            from data_loaders.text import LONGEST, Caption

            seconds = Annotated[float, msgspec.Meta(ge=-LONGEST, le=LONGEST)]
            stored = read_json(self._store / "captions.json", dict[str, list[tuple[str, list[str], seconds, seconds]]])
            self._captions = {name: [Caption(*row) for row in stored.get(name, ())] for name in self.names}
        return self._captions[clip if isinstance(clip, str) else self.names[clip]]

    def joints(self, clip: int | str) -> np.ndarray:
        """Joints (T, J, 3) of a clip in metres, Y up, decoded from its features. FileError where these are not finite."""
        import torch

        i = self._position[clip] if isinstance(clip, str) else clip
        rows = np.array(self[i])
        if not np.isfinite(rows).all():
            raise FileError(f"{self._store / 'features.npy'}: NaN or infinity in clip {self.names[i]}: {PREPARE_AGAIN}")
        return self.features.joints(torch.from_numpy(rows)).numpy()

    def motion(self, clip: int | str) -> Motion:
        captions = tuple(caption.text for caption in self.captions(clip))
        return Motion(self.joints(clip)[None], self.fps, self.skeleton.name, captions)

    def split(self, name: str) -> list[int]:
        """Indices of the clips of a split (train, val, test, ...), in the order of its list; absent names are left out.

        Raises FileNotFoundError, naming the splits there are.
        """
        if name == "all":
            return list(range(len(self)))
        return [self._position[line] for line in read_split(self.folder, name) if line in self._position]

    @cached_property
    def stamp(self) -> str:
        """16 characters that change when frames, captions, labels, splits or statistics do: what was computed from the data
        (evaluations, galleries, text features, a training that is resumed) is compared by it. The same data prepared again,
        or copied, has the same. Of a corpus by an earlier version all frames are read for it.
        """
        digest = hashlib.sha256()
        for name in ("index.json", "captions.json", "stats.npz"):
            path = self._store / name
            digest.update(name.encode() + (path.read_bytes() if path.is_file() else b""))
        if not self.index.frames:
            digest.update(_hash_of_rows(self.frames).encode())
        for path in sorted(self.folder.glob("*.txt")):
            if path.name != REPORT and (clips := self._listed(path)):
                digest.update(path.name.encode() + np.asarray(clips, np.int64).tobytes())
        return digest.hexdigest()[:16]

    def _listed(self, path: Path) -> list[int]:
        """Clips that a text file lists; none for one that is no split list."""
        try:
            return [self._position[line] for line in read_names(path) if line in self._position]
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
