"""A dataset opened for reading, whatever its layout, and the records that travel between the layers."""

from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from data_loaders.annotated_clips import ANNOTATIONS, MAX_SECONDS, MIN_SECONDS, AnnotatedClips, within_seconds
from data_loaders.clips import Clips, LeftOut
from data_loaders.features import Statistics
from data_loaders.known_datasets import published_name, resolve_dataset
from data_loaders.packed_clips import PREPARE_AGAIN, PackedClips
from data_loaders.skeleton import Skeleton
from data_loaders.text import Caption, in_order
from protos.reading import FileError

if TYPE_CHECKING:
    from torch import Tensor


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
    role_texts: dict[str, list[str]] = field(default_factory=dict)  # of roles that read others than `texts` (individual1, ...)


class Corpus:
    """An index over memory-mapped frames: `corpus[i]` are the features (T, D) of clip i, in their units.

    A clip is (array, start, stop), with captions and what they describe. Prepared data (HumanML3D, KIT, own recordings) are one
    packed array; TMR's layout of annotations is indexed where it lies, on first use (`of_files`: its clips are files, of which
    captions describe parts, and several may be one file). `tagger` made the captions' word/POS tokens ('': not known).
    """

    def __init__(self, folder: str | Path, motions: Path | None = None):
        """motions: where the feature files of annotations lie. FileNotFoundError where there is no dataset; FileError
        where its files are damaged or do not fit together."""
        self.folder = Path(folder)
        annotated = (self.folder / ANNOTATIONS).is_file() and not (self.folder / "corpus").is_dir()
        if motions is not None and not annotated:
            raise ValueError(f"--motions belongs to a folder with annotations.json, and {folder} is none")
        self.clips = AnnotatedClips(self.folder, motions) if annotated else PackedClips(self.folder)
        self.names, self.labels, self.features = self.clips.names, self.clips.labels, self.clips.features
        self.of_files, self.tagger = self.clips.of_files, self.clips.tagger
        self._position = {name: i for i, name in enumerate(self.names)}

    @staticmethod
    def open(name_or_folder: str | Path, motions: Path | None = None) -> "Corpus":
        """A dataset by name (humanml, kit, ...) or folder, prepared or in TMR's layout."""
        return Corpus(resolve_dataset(name_or_folder), motions)

    @property
    def skeleton(self) -> Skeleton:
        return self.features.body

    @property
    def fps(self) -> float:
        return self.features.fps

    @property
    def heading(self) -> str:
        return self.features.heading

    @cached_property
    def published(self) -> str | None:
        """humanml or kit where these are the clips of that dataset as published; None for data of another kind."""
        return published_name(self.features, self.names)

    @property
    def frames(self) -> np.ndarray:
        """All rows (N, D) of prepared data, one clip after the other."""
        return self.clips.frames

    @property
    def lengths(self) -> np.ndarray:
        """Frames (K,) of every clip."""
        return self.clips.lengths

    @cached_property
    def statistics(self) -> Statistics:
        """The dataset's own pair; refused if it was made for other features than the frames."""
        path = self.folder / "corpus" / "stats.npz"
        if self.of_files:
            raise FileNotFoundError(f"{self.folder} holds annotations, no statistics: prepare the dataset, see "
                                    "python -m data_loaders.prepare --help")  # fmt: skip
        found, width = Statistics.load(path), self.features.persons * self.features.width
        if len(found.mean) != width:
            raise FileError(f"{path}: {len(found.mean)} features, expected {width}: {PREPARE_AGAIN}")
        self.features.require(found.features, f"{self.folder}'s features", str(path))
        return found

    @property
    def mean(self) -> np.ndarray:
        return self.statistics.mean

    @property
    def std(self) -> np.ndarray:
        return self.statistics.std

    def __len__(self) -> int:
        return len(self.names)

    def __getitem__(self, i: int) -> np.ndarray:
        rows, start, stop = self.clips.place(i)
        return rows[start:stop]

    def position(self, name: str) -> int:
        """Index of a clip; KeyError where it is absent."""
        return self._position[name]

    def labels_of(self, name: str) -> dict[str, Any]:
        """What is known about a clip (content, style, mirrored, ...); KeyError where it is absent."""
        return self.labels[self._position[name]]

    def captions(self, clip: int | str, person: int | None = 0) -> list[Caption]:
        """The captions of a clip, their times as they stand in the data: of all who are in it, of one person alone (1, 2), or
        (None) both."""
        captions = self.clips.captions(self._position[clip] if isinstance(clip, str) else clip)
        return captions if person is None else [caption for caption in captions if caption.person == person]

    def described(self, clip: int, person: int | None = 0) -> list[Caption]:
        """The captions of a clip by the rule of its layout for times: those of prepared clips `in_order`."""
        captions = self.captions(clip, person)
        return captions if self.of_files else [in_order(caption) for caption in captions]

    def cut(self, clip: int, caption: Caption) -> np.ndarray:
        """The frames (T, D) that a caption describes; none where it begins behind the end of a file."""
        rows = self[clip]
        return rows if caption.whole else cut_span(rows, caption.start, caption.end, self.fps)

    def captioned(self, split: str, shortest: float = MIN_SECONDS, longest: float = MAX_SECONDS,
                  left_out: LeftOut | None = None) -> dict[int, list[Caption]]:
        """The clips of a split, in the order of its list, each with its `described` captions.

        Captions of files count where they last so many seconds, in test splits always, as TMR is trained and tested; files
        without any are left out. `left_out` gets what is.
        """
        found = {}
        for name in self.clips.listed(split):
            if (clip := self._position.get(name)) is None:
                if left_out is not None:
                    left_out.add(name, "without annotations" if self.of_files else "missing")
                continue
            captions = self.described(clip)
            if self.of_files and "test" not in split:
                kept = within_seconds(captions, shortest, longest)
                for each in captions if left_out is not None else ():
                    if each not in kept:
                        left_out.add(each.seg_id, f"of another length: {each.seconds:g} s, not {shortest:g} to {longest:g}")
                if not (captions := kept):
                    continue
            found[clip] = captions
        return found

    def clips_of(self, split: str) -> Clips:
        """The clips of a split as loaders of published datasets take them: the captions of HumanML3D and KIT-ML with their times
        as they stand, those of own data `in_order`. Names that the list has and the data have not count as missing."""
        captions = self.captions if self.published else self.described
        return Clips(self.clips.listed(split), lambda name: self[self._position[name]],
                     lambda name: captions(self._position[name]))  # fmt: skip

    def joints(self, clip: int | str) -> np.ndarray:
        """Joints (T, J, 3), or (P, T, J, 3) of several persons, in metres, Y up, decoded from a clip's features. FileError where
        these are not finite."""
        import torch

        i = self._position[clip] if isinstance(clip, str) else clip
        rows = np.array(self[i])
        if not np.isfinite(rows).all():
            raise FileError(f"{self.folder}: NaN or infinity in clip {self.names[i]}: {PREPARE_AGAIN}")
        return self.features.joints(torch.from_numpy(rows)).numpy()

    def motion(self, clip: int | str) -> Motion:
        """A clip as joints in metres, with its captions."""
        captions = tuple(caption.text for caption in self.captions(clip))
        joints = self.joints(clip)
        return Motion(joints if self.features.persons > 1 else joints[None], self.fps, self.features.skeleton, captions)

    def listed(self, split: str) -> list[str]:
        """Names of a split's list, also of clips that are not there. FileNotFoundError names the splits there are."""
        return self.clips.listed(split)

    def split(self, name: str) -> list[int]:
        """Indices of the clips of a split (train, val, test, ...), in the order of its list; absent names are left out.

        Raises FileNotFoundError, naming the splits there are.
        """
        return [self._position[line] for line in self.clips.listed(name) if line in self._position]

    def files(self) -> tuple[list[Path], list[Path]]:
        """The dataset's own files that frames and captions are read from, and the files of features of annotated ones."""
        return self.clips.files()

    @property
    def stamp(self) -> str:
        """16 characters that change when frames, captions, labels, splits or statistics do: what was computed from the data
        (evaluations, galleries, text features, a training that is resumed) is compared by it. The same data prepared again,
        or copied, has the same.
        """
        return self.clips.stamp


def require_finite(rows: np.ndarray, name: str) -> np.ndarray:
    """Features of a clip of that name as they are. FileError where one is not a finite number."""
    if not np.isfinite(rows).all():
        raise FileError(f"{name}: its features hold NaN or infinite values; prepare the dataset again")
    return rows


def span_frames(start: float, end: float, fps: float) -> tuple[int, int]:
    """First frame and the one after the last, of seconds: each product is cut, not rounded (0.58 s at 20 is 11)."""
    return int(start * fps), int(end * fps)


def cut_span(rows: np.ndarray, start: float, end: float, fps: float) -> np.ndarray:
    """The frames (T, D) of a span; one that reaches beyond the file ends with it, one behind its end has none."""
    first, stop = span_frames(start, end, fps)
    return rows[first:stop]
