"""The packed, memory-mapped store of a dataset, and the records that travel between the layers.

A dataset folder has the HumanML3D layout (`new_joints/`, `new_joint_vecs/`, `texts/`, `Mean.npy`, `Std.npy`, split lists)
and beside it `corpus/`: all feature rows in one array, so that opening a dataset costs milliseconds whatever its size.
"""

import json
import os
from collections.abc import Iterable, Sequence
from dataclasses import asdict, astuple, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from data_loaders.skeleton import Skeleton, load_skeleton
from protos.files import atomic_file, write_atomically

if TYPE_CHECKING:
    from torch import Tensor

    from data_loaders.text import Caption

DATASET_ALIASES = {
    "humanml": "HumanML3D", "t2m": "HumanML3D", "humanml3d": "HumanML3D",
    "kit": "KIT-ML", "kit-ml": "KIT-ML",
    "bandai_namco": "bandai_namco", "cmu_sample": "cmu_sample",
}  # fmt: skip
DATASET_ROOT = Path("dataset")
PUBLISHED_STATISTICS = Path(__file__).with_name("published_statistics.json")
FORMAT_VERSION = 1


class RepresentationMismatch(ValueError):
    """Two things that were made for different motion representations were about to be mixed."""


@dataclass(frozen=True)
class Representation:
    """What a row of features means: skeleton, frames per second and how the heading was taken."""

    skeleton: str
    fps: float
    heading: str

    def require(self, other: "Representation", mine: str, theirs: str) -> None:
        """Raises RepresentationMismatch, naming both sides (words such as 'dataset x'), unless they are the same."""
        for name, verb in (("skeleton", "uses skeleton"), ("fps", "runs at fps"), ("heading", "has heading")):
            here, there = getattr(self, name), getattr(other, name)
            if here != there:
                raise RepresentationMismatch(
                    f"{mine} {verb} '{here}', {theirs} '{there}': choose a dataset and weights made alike, "
                    f"or prepare the data again"
                )


@dataclass(frozen=True)
class Statistics:
    """Per-feature mean and std (D,) and the representation they belong to."""

    mean: np.ndarray
    std: np.ndarray
    representation: Representation

    def save(self, path: Path) -> None:
        with atomic_file(path) as file:
            np.savez(file, mean=self.mean, std=self.std, **asdict(self.representation))

    @staticmethod
    def load(path: Path) -> "Statistics":
        with np.load(path, allow_pickle=False) as file:
            representation = Representation(str(file["skeleton"]), float(file["fps"]), str(file["heading"]))
            return Statistics(file["mean"], file["std"], representation)

    @staticmethod
    def published(name: str, representation: Representation, dtype: type = np.float32) -> "Statistics | None":
        """A pair that is carried with the code, by its name in published_statistics.json; None for any other name."""
        carried = json.loads(PUBLISHED_STATISTICS.read_text(encoding="utf-8")).get(name)
        if carried is None:
            return None
        return Statistics(*(np.array(carried[each], dtype) for each in ("mean", "std")), representation)


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
    """Normalised motion (B, T, D) with zeros beyond `lengths`; mask (B, T) is True on real frames."""

    motion: "Tensor"
    lengths: "Tensor"
    mask: "Tensor"
    texts: list[str] = field(default_factory=list)
    names: list[str] = field(default_factory=list)
    indices: "Tensor | None" = None


@dataclass(frozen=True)
class Entry:
    """One clip on its way into a corpus: denormalised features (T, D), captions, free labels (content, style, ...)."""

    name: str
    features: np.ndarray
    captions: "Sequence[Caption]"
    labels: dict = field(default_factory=dict)


class Corpus:
    """A dataset opened for reading. `corpus[i]` is the memory-mapped feature block (T, D) of clip i, denormalised."""

    def __init__(self, folder: Path):
        self.folder = Path(folder)
        store = self.folder / "corpus"
        index_file = store / "index.json"
        if not index_file.is_file():
            raise FileNotFoundError(
                f"{self.folder} holds no prepared dataset ({index_file} is missing): "
                f"make one with python -m data_loaders.prepare --help"
            )
        index = json.loads(index_file.read_text())
        if index.get("version") != FORMAT_VERSION:
            raise ValueError(f"{index_file}: format {index.get('version')}, expected {FORMAT_VERSION}: prepare it again")
        self.names: list[str] = index["names"]
        self.offsets = np.asarray(index["offsets"], dtype=np.int64)
        self.labels: list[dict] = index["labels"]
        self.skeleton: Skeleton = load_skeleton(index["skeleton"])
        self.representation = Representation(index["skeleton"], float(index["fps"]), index["heading"])
        self.features = np.load(store / "features.npy", mmap_mode="r")
        if self.features.shape != (int(self.offsets[-1]), self.skeleton.num_features):
            raise ValueError(
                f"{store / 'features.npy'}: shape {self.features.shape}, expected "
                f"{(int(self.offsets[-1]), self.skeleton.num_features)}: prepare the dataset again"
            )
        self._store = store
        self._captions: dict[str, list[Caption]] | None = None
        self._position = {name: i for i, name in enumerate(self.names)}
        self._statistics: Statistics | None = None

    @staticmethod
    def open(name_or_folder: str | Path) -> "Corpus":
        return Corpus(resolve_dataset(name_or_folder))

    @property
    def fps(self) -> float:
        return self.representation.fps

    @property
    def heading(self) -> str:
        return self.representation.heading

    @property
    def lengths(self) -> np.ndarray:
        return np.diff(self.offsets)

    @property
    def statistics(self) -> Statistics:
        """The dataset's own pair; refused if it was made for another representation than the features."""
        if self._statistics is None:
            self._statistics = Statistics.load(self._store / "stats.npz")
            self.representation.require(
                self._statistics.representation, f"{self.folder}'s features", f"{self._store / 'stats.npz'}"
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
        return self.features[self.offsets[i] : self.offsets[i + 1]]

    def position(self, name: str) -> int:
        """Index of a clip; KeyError where it is absent."""
        return self._position[name]

    def captions(self, clip: int | str) -> "list[Caption]":
        if self._captions is None:
            from data_loaders.text import Caption

            stored = json.loads((self._store / "captions.json").read_text())
            self._captions = {name: [Caption(*row) for row in rows] for name, rows in stored.items()}
        return self._captions[clip if isinstance(clip, str) else self.names[clip]]

    def joints(self, clip: int | str) -> np.ndarray:
        """Joints (T, J, 3) of a clip in metres, Y up, decoded from its features."""
        import torch

        from data_loaders.humanml_features import joints_from_features

        i = self._position[clip] if isinstance(clip, str) else clip
        joints = joints_from_features(torch.from_numpy(np.array(self[i])), self.skeleton)
        return joints.numpy() * np.float32(self.skeleton.metres_per_unit)

    def motion(self, clip: int | str) -> Motion:
        captions = tuple(caption.text for caption in self.captions(clip))
        return Motion(self.joints(clip)[None], self.fps, self.skeleton.name, captions)

    def split(self, name: str) -> list[int]:
        """Indices of the clips of a split (train, val, test, ...), in the order of its list; absent names are left out.

        Raises FileNotFoundError, naming the splits there are.
        """
        if name == "all":
            return list(range(len(self)))
        path = self.folder / f"{name}.txt"
        if not path.is_file():
            known = sorted(p.stem for p in self.folder.glob("*.txt") if p.stem != "report")
            raise FileNotFoundError(f"{path}: no such split; this dataset has {', '.join(known) or 'none'}")
        return [self._position[line] for line in path.read_text().split() if line in self._position]


def resolve_dataset(name_or_folder: str | Path) -> Path:
    """Folder of a dataset given by alias (humanml, kit, bandai_namco, ...) or by path.

    Raises FileNotFoundError naming the prepare command where it is not there.
    """
    folder = Path(name_or_folder)
    if folder.is_dir():
        return folder
    alias = DATASET_ALIASES.get(str(name_or_folder).lower())
    folder = DATASET_ROOT / alias if alias else DATASET_ROOT / str(name_or_folder)
    if not folder.is_dir():
        raise FileNotFoundError(
            f"dataset '{name_or_folder}' not found at {folder}: prepare it with "
            f"python -m data_loaders.prepare --help, or give its folder (known names: {', '.join(DATASET_ALIASES)})"
        )
    return folder


def write_corpus(folder: Path, entries: Iterable[Entry], representation: Representation, statistics: Statistics) -> None:
    """Packs entries into `folder/corpus`, one clip in memory at a time; complete or not there at all."""
    store = Path(folder) / "corpus"
    store.mkdir(parents=True, exist_ok=True)
    (store / "index.json").unlink(missing_ok=True)  # written last: its presence says that the store is whole
    skeleton = load_skeleton(representation.skeleton)
    names, offsets, labels, captions = [], [0], [], {}
    partial = store / "features.npy.partial"
    with open(partial, "wb") as rows:
        rows.write(_npy_header((0, skeleton.num_features)))
        for entry in entries:
            if entry.features.ndim != 2 or entry.features.shape[1] != skeleton.num_features:
                raise ValueError(
                    f"{entry.name}: features of shape {entry.features.shape}, "
                    f"expected (T, {skeleton.num_features}) for skeleton {skeleton.name}"
                )
            rows.write(np.ascontiguousarray(entry.features, dtype="<f4").tobytes())
            names.append(entry.name)
            offsets.append(offsets[-1] + len(entry.features))
            labels.append(entry.labels)
            captions[entry.name] = [astuple(caption) for caption in entry.captions]
        rows.seek(0)
        rows.write(_npy_header((offsets[-1], skeleton.num_features)))
    os.replace(partial, store / "features.npy")
    statistics.save(store / "stats.npz")
    write_atomically(store / "captions.json", json.dumps(captions))
    index = {"version": FORMAT_VERSION, **asdict(representation), "names": names, "offsets": offsets, "labels": labels}
    write_atomically(store / "index.json", json.dumps(index))


def _npy_header(shape: tuple[int, int], size: int = 128) -> bytes:
    """A version 1.0 .npy header of float32 rows, always `size` bytes long so that the row count can be filled in last."""
    fields = repr({"descr": "<f4", "fortran_order": False, "shape": shape}).encode()
    return b"\x93NUMPY\x01\x00" + (size - 10).to_bytes(2, "little") + fields.ljust(size - 11) + b"\n"
