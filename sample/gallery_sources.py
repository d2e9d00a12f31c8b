"""What galleries are made of: the clips of a dataset, or a folder of motion files, and what tells that they have changed."""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

import numpy as np
from tqdm import tqdm

from data_loaders.amass_annotations import Annotation, cut_span
from data_loaders.amass_dataset import ANNOTATIONS, REPRESENTATION, AmassDataset, open_dataset
from data_loaders.corpus import Corpus
from data_loaders.text import Caption, read_caption_file
from model.embedding import NoVectorError, TextMotionSpace
from protos.options import one_line
from sample.gallery import Gallery
from sample.gallery_files import Clip
from sample.motion_files import SUFFIXES, motions_in, named_row, read_features, run_results
from sample.reading import Reading

PARTS_AT_ONCE = 1024  # of which features are held in memory before they are encoded
Span = tuple[float, float]  # seconds


@dataclass(frozen=True)
class HowRead:
    """What a gallery keeps of how a motion file was read, so that it can be read again."""

    mapping: str | None
    motion_fps: float | None
    body_model: str | None
    mapping_file: list[int] | None = None


class Part(NamedTuple):
    """A clip with what describes it and its features (T, D) in their units."""

    clip: Clip
    captions: tuple[str, ...]
    features: np.ndarray


class Encoded(NamedTuple):
    """What became of a file or a dataset's clip: vectors (n, C) of its parts, and what of it could not be used."""

    item: str
    clips: list[Clip]
    captions: list[tuple[str, ...]]
    vectors: np.ndarray
    problem: str = ""


class DatasetSource:
    """Clips of a split: each whole clip with its captions, and each stretch that captions of its own describe."""

    def __init__(self, data: Corpus | AmassDataset, split: str, space: TextMotionSpace):
        space.require(data.representation, f"dataset {data.folder}")
        self.data, self.space, self.folder = data, space, str(data.folder.resolve())
        self.given, self.unreadable = self.folder, {}
        self.stamp = dataset_stamp(data)
        if isinstance(data, AmassDataset):
            self.annotated = data.split(split)
            self.names = list(self.annotated)
            self.marks = {name: mark(feature_file(data, name)) for name in self.names}
        else:
            self.names, self.marks = [data.names[i] for i in data.split(split)], {}

    def gone(self, gallery: Gallery) -> set[tuple[str, str]]:
        """(source, name) of the gallery's clips that the dataset has no more; all of them where it was made again."""
        own = {(clip.source, clip.name) for clip in gallery.clips if clip.source == self.folder}
        if self._made_again(gallery):
            return own
        known = set(self.data.files if isinstance(self.data, AmassDataset) else self.data.names)
        return {(source, name) for source, name in own if name not in known}

    def new(self, gallery: Gallery) -> list[str]:
        """Names of the clips that the gallery lacks, or has with other features."""
        known = {clip.name for clip in gallery.clips if clip.source == self.folder}
        if self._made_again(gallery):
            known = set()
        return [name for name in self.names if name not in known or not stamped(self._own_file(name), gallery)]

    def _made_again(self, gallery: Gallery) -> bool:
        stored = gallery.files.get(self.folder)
        return stored is None or any(stored.get(name, now) != now for name, now in self.stamp.items())

    def files(self, name: str) -> dict[str, dict]:
        """What a gallery with this clip keeps, to tell later that it has changed."""
        return {self.folder: self.stamp, **self._own_file(name)}

    def _own_file(self, name: str) -> dict[str, dict]:
        """The feature file of a clip of an annotated dataset."""
        return {str(feature_file(self.data, name)): {"motion": self.marks[name]}} if self.marks else {}

    def parts(self, name: str) -> tuple[list[Part], list[str]]:
        """What can be used of a clip, and why the rest cannot."""
        parts, problems = [], []
        for span, texts in self._spans(name).items():
            try:
                features = usable(self._features(name, span), self.space)
            except (ValueError, OSError) as error:
                problems.append(f"{span[0]:g} to {span[1]:g} s: {error}")
            else:
                parts.append(Part(Clip(name, self.folder, *map(float, span)), tuple(texts), features))
        return parts, problems

    def _spans(self, name: str) -> dict[Span, list[str]]:
        """The captions of each stretch of a clip; of a corpus also the whole clip, described or not."""
        if isinstance(self.data, AmassDataset):
            found = {}
            for each in self.annotated[name].annotations:
                found.setdefault((each.start, each.end), []).append(each.text)
            return found
        all_of_it = self._whole(name)
        found = {all_of_it: []}
        for caption in self._captions(name):
            start, end = sorted((caption.start, caption.end))
            span = all_of_it if start == end else (start, end)  # equal times mean the whole clip, as in TMR's annotations
            found.setdefault(span, []).append(caption.text)
        return found

    def _features(self, name: str, span: Span) -> np.ndarray:
        if isinstance(self.data, AmassDataset):
            return self.data.motion(self.annotated[name], Annotation("", "", *span))
        features = self.data[self.data.position(name)]
        if span == self._whole(name):
            return features
        if span[0] < 0:
            raise ValueError("no time before the beginning of a clip")
        return cut_span(features, *span, self.data.fps)

    def _whole(self, name: str) -> Span:
        return 0.0, len(self.data[self.data.position(name)]) / self.data.fps

    def _captions(self, name: str) -> list[Caption]:
        try:
            return self.data.captions(name)
        except KeyError:
            return []


class FileSource:
    """Motion files of a folder and those below it, long ones in equal parts; or one file."""

    def __init__(self, path: Path, space: TextMotionSpace, reading: Reading, longest_seconds: float | None = None):
        """FileNotFoundError where there is no motion file, ValueError for parts that are too short for the model."""
        self.space, self.reading = space, reading
        shortest, limit = space.frame_limits
        frames = space.longest_trained if longest_seconds is None else int(longest_seconds * space.fps)
        if frames < shortest:
            raise ValueError(f"--longest_seconds {longest_seconds:g}: {frames} frames, this model reads {shortest} or more: "
                             f"give at least {shortest / space.fps:g}")  # fmt: skip
        self.longest = min(frames, limit)
        self.given = str(path)
        path = as_given(path)
        single = named_row(path)[0].is_file()
        self.unreadable: dict[str, str] = {}  # folders
        found = motions_in([path]) if path.is_file() else [path] if single else motions_in(motion_files(path, self.unreadable))
        if not found:
            raise FileNotFoundError(f"{path}: no motion file; expected {', '.join(SUFFIXES)}")
        self.folder = None if single else path
        self.names = {str(file): _name(file, self.folder or path.parent) for file in found}
        self.stamps = {str(file): self._stamp(file) for file in found}  # taken before anything is read

    def gone(self, gallery: Gallery) -> set[tuple[str, str]]:
        """(source, name) of the gallery's clips whose file was in this folder and is not there any more."""
        return {(clip.source, clip.name) for clip in gallery.clips
                if self.folder and gallery.of_file(clip) and clip.source not in self.names
                and Path(clip.source).is_relative_to(self.folder)
                and not any(Path(clip.source).is_relative_to(place) for place in self.unreadable)}  # fmt: skip

    def new(self, gallery: Gallery) -> list[str]:
        """Files that the gallery lacks, or that were other ones, or read otherwise."""
        known = {clip.source for clip in gallery.clips}
        return [file for file in self.names if file not in known or not stamped(self.files(file), gallery)]

    def files(self, file: str) -> dict[str, dict]:
        """What a gallery with this file keeps, to read it again and to tell later that it has changed."""
        return {file: self.stamps[file]}

    def parts(self, file: str) -> tuple[list[Part], list[str]]:
        """ValueError or OSError where the file cannot be used."""
        features = usable(read_features(Path(file), self.space, self.reading), self.space, cut=False)
        captions = captions_of(Path(file))
        # no part is shorter than what the model reads
        count = max(1, min(-(-len(features) // self.longest), len(features) // self.space.frame_limits[0]))
        edges = [round(i * len(features) / count) for i in range(count + 1)]
        parts = []
        for first, stop in pairwise(edges):
            start, end = first / self.space.fps, stop / self.space.fps
            texts = tuple(caption.text for caption in captions if describes(caption, start, end))
            parts.append(Part(Clip(self.names[file], file, start, end), texts, features[first:stop]))
        return parts, []

    def _stamp(self, file: Path) -> dict:
        reading = self.reading
        own = None if reading.mapping is None or not Path(reading.mapping).is_file() else Path(reading.mapping).absolute()
        return {
            "motion": mark(file), "captions": None if named_row(file)[1] is not None else mark(captions_beside(file)),
            "longest": self.longest,
            "mapping": reading.mapping if own is None else str(own), "mapping_file": None if own is None else mark(own),
            "motion_fps": reading.motion_fps,
            "body_model": None if reading.body_model is None else str(Path(reading.body_model).absolute()),
        }  # fmt: skip


def source_of(space: TextMotionSpace, dataset: str | None = None, split: str = "all", motions: Path | None = None,
              reading: Reading | None = None, longest_seconds: float | None = None) -> DatasetSource | FileSource:
    """What is to be read: a split of a dataset, or motion files."""
    if dataset is not None:
        return DatasetSource(open_dataset(dataset), split, space)
    return FileSource(motions, space, reading or Reading(), longest_seconds)


def as_given(path: Path) -> Path:
    """Absolute; links stay links, since the name given says what a file is and what lies beside it."""
    return path.resolve() if ".." in path.parts else path.absolute()


def motion_files(folder: Path, unreadable: dict[str, str]) -> list[Path]:
    """Motion files in and below a folder, hidden ones and those of galleries left out. Folders that cannot be opened go into
    `unreadable`, with the reason: what is in them must not be missing without a word."""
    found = []
    def keep(error: OSError) -> None:
        unreadable[str(error.filename)] = one_line(error)

    for place, folders, files in os.walk(folder, onerror=keep):
        if "gallery.json" in files:
            folders.clear()
            continue
        folders[:] = [name for name in folders if not name.startswith(".")]
        found += [Path(place, name) for name in files if Path(name).suffix.lower() in SUFFIXES and not name.startswith(".")]
    return sorted(path for path in found if path.is_file())


def _name(motion: Path, folder: Path) -> str:
    """What a motion is called: its file's name without suffix, and which of several in it."""
    file, row = named_row(motion)
    name = file.relative_to(folder).with_suffix("").as_posix()
    return name if row is None else f"{name}#{row}"


def captions_of(motion: Path) -> list[Caption]:
    """The captions of a motion: its text in a results file, the lines of NAME.txt beside any other."""
    file, row = named_row(motion)
    if row is not None:
        results = run_results(file)
        return [] if results is None or not results.text[row].strip() else [Caption(results.text[row])]
    beside = captions_beside(file)
    return read_caption_file(beside, plain=True) if beside.is_file() else []


def captions_beside(file: Path) -> Path:
    return file.with_suffix(".txt")


def describes(caption: Caption, start: float, end: float) -> bool:
    """Whether a caption is of the part from start to end seconds of its file: half of it lies there, or it fills half."""
    first, last = sorted((caption.start, caption.end))
    if first == last:  # of the whole file
        return True
    return min(last, end) - max(first, start) >= min(last - first, end - start) / 2


def mark(path: Path) -> list[int] | None:
    """Size and time of a file, which tell that it or a motion in it has changed; None where it is absent."""
    try:
        stat = named_row(path)[0].stat()
    except OSError:
        return None
    return [stat.st_size, stat.st_mtime_ns]


def dataset_stamp(data: Corpus | AmassDataset) -> dict:
    """Changes where a dataset is prepared or annotated again."""
    if isinstance(data, AmassDataset):  # each clip has a feature file of its own
        return dataset_marks(data)
    return dataset_marks(data) | {"stamp": data.stamp}


def dataset_marks(data: Corpus | AmassDataset) -> dict:
    """Size and time of the files that hold a dataset; also a change that its own stamp does not know of is seen by them."""
    if isinstance(data, AmassDataset):
        return {name: mark(data.folder / name) for name in (ANNOTATIONS, REPRESENTATION)}
    return {name: mark(data.folder / "corpus" / name) for name in ("features.npy", "index.json", "captions.json")}


def feature_file(data: AmassDataset, name: str) -> Path:
    return data.motions.absolute() / f"{data.files[name].path}.npy"


def stamped(files: dict[str, dict], gallery: Gallery) -> bool:
    """Whether a gallery was made from these files as they are now."""
    return all(gallery.files.get(path) == stamp for path, stamp in files.items())


def usable(features: np.ndarray, space: TextMotionSpace, cut: bool = True) -> np.ndarray:
    """Features that the model can read, cut to its longest motion. ValueError for too few frames, or NaN."""
    shortest, longest = space.frame_limits
    if len(features) < shortest:
        raise ValueError(f"too short: {len(features)} frames, this model reads {shortest} or more")
    if not np.isfinite(features).all():
        raise ValueError("its features hold NaN or infinite values")
    return features[:longest] if cut else features


def encode_items(source: DatasetSource | FileSource, items: Sequence[str], batch_size: int | None = None,
                 bar: tqdm | None = None) -> list[Encoded]:
    """The items, in their order, with the problems of bad ones. But for rounding, what a motion becomes does not
    depend on its neighbours.

    bar: gets a step per item.
    """
    found: list[Encoded | None] = [None] * len(items)
    waiting: list[tuple[int, list[Part], list[str]]] = []

    def encode() -> None:
        vectors, good = finite_vectors(source.space, [part.features for _, parts, _ in waiting for part in parts], batch_size)
        start = 0
        for i, parts, problems in waiting:
            rows = range(start, start + len(parts))
            start = rows.stop
            kept = [part for part, row in zip(parts, rows) if good[row]]
            problems += [f"{part.clip.start:.2f} to {part.clip.end:.2f} s: no finite vector, its features are far beyond those "
                         "of motions" for part, row in zip(parts, rows) if not good[row]]  # fmt: skip
            found[i] = Encoded(items[i], [part.clip for part in kept], [part.captions for part in kept],
                               vectors[[row for row in rows if good[row]]], "; ".join(dict.fromkeys(problems)))  # fmt: skip
        waiting.clear()

    for i, item in enumerate(items):
        try:
            waiting.append((i, *source.parts(item)))
        except (ValueError, OSError) as error:
            found[i] = Encoded(item, [], [], np.zeros((0, source.space.dim), np.float32), str(error))
        if sum(len(parts) for _, parts, _ in waiting) >= PARTS_AT_ONCE:
            encode()
        if bar is not None:
            bar.update()
    encode()
    return found


def finite_vectors(space: TextMotionSpace, motions: list[np.ndarray], batch_size: int | None) -> tuple[np.ndarray, np.ndarray]:
    """Vectors (N, C) of motions, and True (N,) where they are finite."""
    good = np.ones(len(motions), bool)
    try:
        return space.encode_motion(motions, batch_size), good
    except NoVectorError as error:
        good[error.rows] = False
        return error.vectors, good
