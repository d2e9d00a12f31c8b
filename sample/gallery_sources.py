"""What galleries are made of: the clips of a dataset, or a folder of motion files, and what tells that they have changed."""

import os
from collections.abc import Sequence
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
from sample.gallery import Clip, Gallery
from sample.motion_files import SUFFIXES, motions_in, named_row, read_features, run_results
from sample.reading import Reading

PARTS_AT_ONCE = 1024  # of which features are held in memory before they are encoded
Span = tuple[float, float]  # seconds


class Part(NamedTuple):
    """A clip with what describes it and its features (T, D) in their units."""

    clip: Clip
    captions: tuple[str, ...]
    features: np.ndarray


class Encoded(NamedTuple):
    """What became of an item: vectors (n, C) of its parts, and what of it could not be used."""

    item: str
    clips: list[Clip]
    captions: list[tuple[str, ...]]
    vectors: np.ndarray
    problem: str = ""


class Source:
    """Items to encode, files or clips of a dataset. `stamps`: of each what a gallery keeps of its files, to tell later that it
    has changed, and to read it again; `unreadable`: folders whose items are unknown, with the reason."""

    space: TextMotionSpace
    given: str
    stamps: dict[str, dict[str, dict]]
    unreadable: dict[str, str]

    def item_of(self, clip: Clip) -> str | None:
        """The item that a gallery's clip is of; None for one of another source."""
        raise NotImplementedError

    def gone(self, gallery: Gallery) -> set[tuple[str, str]]:
        """(source, name) of the gallery's clips that are not there any more."""
        raise NotImplementedError

    def parts(self, item: str) -> tuple[list[Part], list[str]]:
        """What can be used of an item, and why the rest cannot. ValueError or OSError where none of it can."""
        raise NotImplementedError

    def new(self, gallery: Gallery) -> list[str]:
        """Items that the gallery lacks, or that were other ones, or read otherwise."""
        known = {self.item_of(clip) for clip in gallery.clips}
        return [item for item, files in self.stamps.items()
                if item not in known or any(gallery.files.get(path) != stamp for path, stamp in files.items())]


class DatasetSource(Source):
    """Clips of a split: each whole clip with its captions, and each stretch that captions of its own describe."""

    def __init__(self, data: Corpus | AmassDataset, split: str, space: TextMotionSpace):
        space.require(data.representation, f"dataset {data.folder}")
        self.data, self.space, self.folder = data, space, str(data.folder.resolve())
        self.given, self.unreadable, self.stamp = str(data.folder), {}, dataset_stamp(data)
        found = data.split(split)
        if isinstance(data, AmassDataset):
            self.annotated, self.all_names = found, set(data.files)
            own = {name: {str(path): {"motion": mark(path)}} for name in found for path in [feature_file(data, name)]}
        else:
            self.all_names, own = set(data.names), {data.names[i]: {} for i in found}
        self.stamps = {name: {self.folder: self.stamp, **files} for name, files in own.items()}

    def item_of(self, clip: Clip) -> str | None:
        return clip.name if clip.source == self.folder else None

    def gone(self, gallery: Gallery) -> set[tuple[str, str]]:
        """All of them where the dataset was made again."""
        kept = self.all_names if gallery.files.get(self.folder) == self.stamp else set()
        return {(clip.source, clip.name) for clip in gallery.clips if clip.source == self.folder and clip.name not in kept}

    def parts(self, name: str) -> tuple[list[Part], list[str]]:
        parts, problems = [], []
        features = None if isinstance(self.data, AmassDataset) else self.data[self.data.position(name)]
        for span, texts in self._spans(name, features).items():
            try:
                part = usable(self._features(name, span, features), self.space)
            except (ValueError, OSError) as error:
                problems.append(f"{span[0]:g} to {span[1]:g} s: {error}")
            else:
                parts.append(Part(Clip(name, self.folder, *map(float, span)), tuple(texts), part))
        return parts, problems

    def _spans(self, name: str, features: np.ndarray | None) -> dict[Span, list[str]]:
        """The captions of each stretch of a clip; of a corpus also the whole clip, described or not."""
        found: dict[Span, list[str]] = {}
        if features is None:
            captions = self.annotated[name].annotations
        else:
            whole = 0.0, len(features) / self.data.fps
            found[whole] = []
            try:
                captions = self.data.captions(name)
            except KeyError:
                captions = []
        for caption in captions:
            span = caption.start, caption.end
            if features is not None:  # equal times mean the whole clip, as in TMR's annotations
                span = whole if span[0] == span[1] else (min(span), max(span))
            found.setdefault(span, []).append(caption.text)
        return found

    def _features(self, name: str, span: Span, features: np.ndarray | None) -> np.ndarray:
        if features is None:
            return self.data.motion(self.annotated[name], Annotation("", "", *span))
        if span == (0.0, len(features) / self.data.fps):
            return features
        if span[0] < 0:
            raise ValueError("no time before the beginning of a clip")
        return cut_span(features, *span, self.data.fps)


class FileSource(Source):
    """Motion files of a folder and those below it, long ones in equal parts; or one file."""

    def __init__(self, path: Path, space: TextMotionSpace, reading: Reading, longest_seconds: float | None = None):
        """FileNotFoundError where there is no motion file, ValueError for parts that are too short for the model."""
        self.space, self.reading, self.given, self.unreadable = space, reading, str(path), {}
        shortest, limit = space.frame_limits
        frames = space.longest_trained if longest_seconds is None else int(longest_seconds * space.fps)
        if frames < shortest:
            raise ValueError(f"--longest_seconds {longest_seconds:g}: {frames} frames, this model reads {shortest} or more: "
                             f"give at least {shortest / space.fps:g}")  # fmt: skip
        self.longest = min(frames, limit)
        # links stay links, since the name given says what a file is and what lies beside it
        path = path.resolve() if ".." in path.parts else path.absolute()
        single = named_row(path)[0].is_file()
        found = motions_in([path]) if path.is_file() else [path] if single else motions_in(motion_files(path, self.unreadable))
        if not found:
            raise FileNotFoundError(f"{path}: no motion file; expected {', '.join(SUFFIXES)}")
        self.folder = None if single else path
        self.names = {str(file): _name(file, self.folder or path.parent) for file in found}
        self.stamps = {str(file): {str(file): self._stamp(file)} for file in found}  # taken before anything is read

    def item_of(self, clip: Clip) -> str | None:
        return clip.source if clip.source in self.names else None

    def gone(self, gallery: Gallery) -> set[tuple[str, str]]:
        """Those whose file was in this folder."""
        return {(clip.source, clip.name) for clip in gallery.clips
                if self.folder and gallery.of_file(clip) and clip.source not in self.names
                and Path(clip.source).is_relative_to(self.folder)
                and not any(Path(clip.source).is_relative_to(place) for place in self.unreadable)}  # fmt: skip

    def parts(self, file: str) -> tuple[list[Part], list[str]]:
        features = usable(read_features(Path(file), self.space, self.reading), self.space, cut=False)
        captions = captions_of(Path(file))
        # no part is shorter than what the model reads
        count = max(1, min(-(-len(features) // self.longest), len(features) // self.space.frame_limits[0]))
        parts = []
        for first, stop in pairwise(round(i * len(features) / count) for i in range(count + 1)):
            start, end = first / self.space.fps, stop / self.space.fps
            texts = tuple(caption.text for caption in captions if describes(caption, start, end))
            parts.append(Part(Clip(self.names[file], file, start, end), texts, features[first:stop]))
        return parts, []

    def _stamp(self, file: Path) -> dict:
        reading = self.reading
        own = None if reading.mapping is None or not Path(reading.mapping).is_file() else Path(reading.mapping).absolute()
        return {
            "motion": mark(file), "captions": None if named_row(file)[1] is not None else mark(file.with_suffix(".txt")),
            "longest": self.longest,
            "mapping": reading.mapping if own is None else str(own), "mapping_file": None if own is None else mark(own),
            "motion_fps": reading.motion_fps,
            "body_model": None if reading.body_model is None else str(Path(reading.body_model).absolute()),
        }  # fmt: skip


def source_of(space: TextMotionSpace, dataset: str | None = None, split: str = "all", motions: Path | None = None,
              reading: Reading | None = None, longest_seconds: float | None = None) -> Source:
    """What is to be read: a split of a dataset, or motion files."""
    if dataset is not None:
        return DatasetSource(open_dataset(dataset), split, space)
    return FileSource(motions, space, reading or Reading(), longest_seconds)


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
    beside = file.with_suffix(".txt")
    return read_caption_file(beside, plain=True) if beside.is_file() else []


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
    """Changes where a dataset is prepared or annotated again, or one of its files is replaced."""
    if isinstance(data, AmassDataset):  # each clip has a feature file of its own
        return {name: mark(data.folder / name) for name in (ANNOTATIONS, REPRESENTATION)}
    files = ("features.npy", "index.json", "captions.json")
    return {name: mark(data.folder / "corpus" / name) for name in files} | {"stamp": data.stamp}


def feature_file(data: AmassDataset, name: str) -> Path:
    return data.motions.absolute() / f"{data.files[name].path}.npy"


def usable(features: np.ndarray, space: TextMotionSpace, cut: bool = True) -> np.ndarray:
    """Features that the model can read, cut to its longest motion. ValueError for too few frames, or NaN."""
    shortest, longest = space.frame_limits
    if len(features) < shortest:
        raise ValueError(f"too short: {len(features)} frames, this model reads {shortest} or more")
    if not np.isfinite(features).all():
        raise ValueError("its features hold NaN or infinite values")
    return features[:longest] if cut else features


def encode_items(source: Source, items: Sequence[str], batch_size: int | None = None, bar: tqdm | None = None) -> list[Encoded]:
    """The items, in their order, with the problems of bad ones. But for rounding, what a motion becomes does not
    depend on its neighbours.

    bar: gets a step per item.
    """
    found: list[Encoded] = []
    waiting: list[tuple[str, list[Part], list[str]]] = []

    def encode() -> None:
        features = [part.features for _, parts, _ in waiting for part in parts]
        good = np.ones(len(features), bool)
        try:
            vectors = source.space.encode_motion(features, batch_size)
        except NoVectorError as error:
            vectors, good[error.rows] = error.vectors, False
        start = 0
        for item, parts, problems in waiting:
            rows = np.arange(start, start := start + len(parts))
            problems += [f"{part.clip.start:.2f} to {part.clip.end:.2f} s: no finite vector, its features are far beyond those "
                         "of motions" for part, row in zip(parts, rows) if not good[row]]  # fmt: skip
            kept = [part for part, row in zip(parts, rows) if good[row]]
            found.append(Encoded(item, [part.clip for part in kept], [part.captions for part in kept], vectors[rows[good[rows]]],
                                 "; ".join(dict.fromkeys(problems))))  # fmt: skip
        waiting.clear()

    for item in items:
        try:
            waiting.append((item, *source.parts(item)))
        except (ValueError, OSError) as error:
            waiting.append((item, [], [str(error)]))
        if sum(len(parts) for _, parts, _ in waiting) >= PARTS_AT_ONCE:
            encode()
        if bar is not None:
            bar.update()
    encode()
    return found
