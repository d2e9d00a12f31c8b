"""What galleries are made of, the clips of a dataset or motion files; what tells that these have changed; and their motions
read again, to be shown.
"""

import hashlib
import logging
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from functools import cache
from itertools import pairwise
from pathlib import Path
from typing import Protocol

import numpy as np

from data_loaders.clips import window_captions
from data_loaders.corpus import Corpus, Motion, cut_span
from data_loaders.motion_features import SUFFIXES, Reading, motion_files, read_features
from data_loaders.motion_files import motion_of, motions_in, named_row, run_results
from data_loaders.text import Caption, in_order, read_caption_file
from model.embedding import NoVectorError, TextMotionSpace
from protos.reading import FileError, convert
from sample.gallery import CONTENT, Clip, Gallery, Stamp

log = logging.getLogger(__name__)
MOST_NAMES = 6  # of what is missing
OF_CAPTIONS = {"captions", "captions.json", "stamp"}  # parts of stamps that say nothing of motions
ClipFeatures = tuple[Clip, np.ndarray]  # features (T, D) in their units


class Source(Protocol):
    """Motions at places, as `Gallery.place` has them. `stamps`: of each that is wanted that of its source; `unreadable`: folders
    whose motions are unknown, and why."""

    space: TextMotionSpace
    given: str
    stamps: dict[str, Stamp]
    unreadable: dict[str, str]

    def gone(self, gallery: Gallery) -> set[str]:
        """Places of the gallery that were of this source and are not any more, or not as they were."""

    def clips(self, place: str) -> tuple[list[ClipFeatures], list[str]]:
        """What can be used of a motion, and why the rest cannot. ValueError or OSError where none of it can."""


class DatasetSource:
    """Clips of a split: each whole clip with its captions, and each stretch that captions of its own describe."""

    def __init__(self, dataset: str, split: str, space: TextMotionSpace):
        self.data = data = Corpus.open(dataset)
        space.require(data.features, f"dataset {data.folder}")
        self.space, self.folder, self.given, self.unreadable = space, str(data.folder.resolve()), str(data.folder), {}
        self.captioned = {data.names[clip]: captions for clip, captions in data.captioned(split).items()}
        self.stamp = dataset_stamp(data)
        self.stamps = {f"{self.folder}/{name}": self.stamp for name in self.captioned}

    def gone(self, gallery: Gallery) -> set[str]:
        there = set(self.data.names) if gallery.files.get(self.folder) == self.stamp else set()
        return {gallery.place(clip) for clip in gallery.clips if clip.source == self.folder and clip.name not in there}

    def clips(self, place: str) -> tuple[list[ClipFeatures], list[str]]:
        name, limits, found, problems = place.removeprefix(f"{self.folder}/"), self.space.frame_limits, [], []
        whole = self.data[self.data.position(name)]
        everything = 0.0, len(whole) / self.data.fps
        spans: dict[tuple[float, float], list[str]] = {} if self.data.of_files else {everything: []}  # described or not
        for caption in self.captioned[name]:
            span = everything if caption.whole else (caption.start, caption.end)
            spans.setdefault(span, []).append(caption.text)
        for span, texts in spans.items():
            try:
                if span[0] < 0:
                    raise ValueError("no time before the beginning of a clip")
                features = usable(whole if span == everything else cut_span(whole, *span, self.data.fps), limits)[: limits[1]]
            except ValueError as error:
                problems.append(f"{span[0]:g} to {span[1]:g} s: {error}")
            else:
                found.append((Clip(name, self.folder, *map(float, span), tuple(dict.fromkeys(texts))), features))
        return found, problems


class FileSource:
    """Motion files of a folder and those below it, long ones in equal parts; or one file."""

    def __init__(self, path: Path, space: TextMotionSpace, reading: Reading, longest_seconds: float | None = None):
        """FileNotFoundError where there is no motion file, ValueError for parts that are too short for the model."""
        self.space, self.reading, self.given, self.unreadable = space, reading, str(path), {}
        shortest, limit = space.frame_limits
        frames = space.longest_trained if longest_seconds is None else int(longest_seconds * space.features.fps)
        if frames < shortest:
            raise ValueError(f"--longest_seconds {longest_seconds:g}: {frames} frames, this model reads {shortest} or more: "
                             f"give at least {shortest / space.features.fps:g}")  # fmt: skip
        self.longest = min(frames, limit)
        # links stay links, since the name given says what a file is and what lies beside it
        path = path.resolve() if ".." in path.parts else path.absolute()
        single = named_row(path)[0].is_file()
        files = [path] if path.is_file() or single else motion_files(path, self.unreadable, without=CONTENT)
        found = files if single and not path.is_file() else motions_in(files)
        if not found:
            raise FileNotFoundError(f"{path}: no motion file; expected {', '.join(SUFFIXES)}")
        self.folder = None if single else path
        # taken before anything is read
        self.stamps = {str(file): asdict(file_stamp(file, reading, self.longest)) for file in found}

    def gone(self, gallery: Gallery) -> set[str]:
        """Those whose file was in this folder."""
        return {clip.source for clip in gallery.clips
                if self.folder and gallery.of_file(clip) and clip.source not in self.stamps
                and Path(clip.source).is_relative_to(self.folder)
                and not any(Path(clip.source).is_relative_to(place) for place in self.unreadable)}  # fmt: skip

    def clips(self, place: str) -> tuple[list[ClipFeatures], list[str]]:
        path, fps = Path(place), self.space.features.fps
        features = usable(read_features(path, self.space.features, self.reading), self.space.frame_limits)
        captions = captions_beside(path)
        file, row = named_row(path)
        name = file.relative_to(self.folder or file.parent).with_suffix("").as_posix() + ("" if row is None else f"#{row}")
        # no part is shorter than what the model reads
        count = max(1, min(-(-len(features) // self.longest), len(features) // self.space.frame_limits[0]))
        found = []
        for first, stop in pairwise(round(i * len(features) / count) for i in range(count + 1)):
            start, end = first / fps, stop / fps
            texts = dict.fromkeys(caption.text for caption in window_captions(captions, start, end, len(features) / fps))
            found.append((Clip(name, place, start, end, tuple(texts)), features[first:stop]))
        return found, []


def captions_beside(motion: Path) -> list[Caption]:
    """The captions of a motion: its text in a results file, the lines of NAME.txt beside any other."""
    file, row = named_row(motion)
    if row is not None:
        results = run_results(file)
        return [] if results is None else [Caption(text) for text in results.motions[row].captions if text.strip()]
    beside = file.with_suffix(".txt")
    return list(map(in_order, read_caption_file(beside, plain=True))) if beside.is_file() else []


def usable(features: np.ndarray, frame_limits: tuple[int, int]) -> np.ndarray:
    """The features. ValueError where a model of these limits cannot read even a part of them: too few frames, or NaN."""
    if len(features) < frame_limits[0]:
        raise ValueError(f"too short: {len(features)} frames, this model reads {frame_limits[0]} or more")
    if not np.isfinite(features).all():
        raise ValueError("its features hold NaN or infinite values")
    return features


def motion_vector(path: Path, space: TextMotionSpace, reading: Reading, start: float | None = None,
                  end: float | None = None) -> np.ndarray:
    """(C,) of a motion file, or of the part of it between two seconds. ValueError where the model cannot read it."""
    features, fps = read_features(path, space.features, reading), space.features.fps
    part = features[int((start or 0) * fps) : None if end is None else int(end * fps)]
    if not len(part):
        raise ValueError(f"{path} lasts {len(features) / fps:.2f} s: no frame between --start {start or 0:g} and "
                         f"--end {'its end' if end is None else format(end, 'g')}")  # fmt: skip
    shortest, longest = space.frame_limits
    if not shortest <= len(part) <= longest:
        raise ValueError(f"{path} has {len(part)} frames, this model reads {shortest} to {longest}: "
                         "choose a part with --start and --end, in seconds")  # fmt: skip
    try:
        return space.encode_motion([part])[0]
    except NoVectorError as error:
        raise ValueError(f"{path}: {error}") from None


# ---------------------------------------------------------------------------------------------------------------- stamps


@dataclass(frozen=True)
class FileStamp:
    """Sizes and times of a motion file and what is read beside it, and how it was read."""

    motion: list[int] | None = None
    captions: list[int] | None = None
    longest: int = 0
    mapping: str | None = None
    mapping_file: list[int] | None = None
    motion_fps: float | None = None
    body_model: str | None = None


def file_stamp(path: Path, reading: Reading, longest: int) -> FileStamp:
    own = reading.mapping if reading.mapping and Path(reading.mapping).is_file() else None
    return FileStamp(
        motion=mark(path), captions=None if named_row(path)[1] is not None else mark(path.with_suffix(".txt")), longest=longest,
        mapping=str(Path(own).absolute()) if own else reading.mapping, mapping_file=mark(Path(own)) if own else None,
        motion_fps=reading.motion_fps, body_model=reading.body_model and str(Path(reading.body_model).absolute()),
    )  # fmt: skip


def dataset_stamp(data: Corpus) -> Stamp:
    """Changes where a dataset is prepared or annotated again, or one of its files is replaced."""
    own, motions = data.files()
    marks: Stamp = {path.name: mark(path) for path in own}
    if not motions:
        return marks | {"stamp": data.stamp}
    return marks | {"motions": hashlib.sha256(repr([mark(path) for path in motions]).encode()).hexdigest()[:16]}


def mark(path: Path) -> list[int] | None:
    """Size and time of a file, which tell that it or a motion in it has changed; None where it is absent."""
    try:
        stat = named_row(path)[0].stat()
    except OSError:
        return None
    return [stat.st_size, stat.st_mtime_ns]


# ---------------------------------------------------------------------------------------------------------- read again


def clip_motions(gallery: Gallery, rows: Sequence[int], space: TextMotionSpace) -> dict[int, Motion]:
    """The motions of rows of a gallery, in their order, each file read once; without those that are not there any more, or
    are other ones now."""
    found = {}
    for source in dict.fromkeys(gallery.clips[row].source for row in rows):
        try:
            features = features_again(gallery, source, space)
            for row in (row for row in rows if gallery.clips[row].source == source):
                clip = gallery.clips[row]
                first, stop = round(clip.start * gallery.fps), round(clip.end * gallery.fps)
                if len(part := features(clip.name)[first : max(stop, first + 1)]):
                    found[row] = motion_of(part, space.features, clip.captions[:1])
        except (KeyError, ValueError, OSError) as error:
            log.debug("%s cannot be shown: %s", source, error)
    return {row: found[row] for row in rows if row in found}


def features_again(gallery: Gallery, source: str, space: TextMotionSpace) -> Callable[[str], np.ndarray]:
    """What gives the features (T, D) of a clip of a source by its name. FileError where the source is another one now;
    captions may be."""
    stored = gallery.files.get(source, {})
    if "motion_fps" in stored:
        how = convert(stored, FileStamp, f"the gallery's entry of {source}")
        reading = Reading(mapping=how.mapping, motion_fps=how.motion_fps, body_model=how.body_model and Path(how.body_model))
        now = asdict(file_stamp(Path(source), reading, how.longest))
        features = cache(lambda _: read_features(Path(source), space.features, reading))
    else:
        data = Corpus.open(source)
        now, features = dataset_stamp(data), lambda name: data[data.position(name)]
    for name in now.keys() & stored.keys() - OF_CAPTIONS:  # an earlier version did not keep all of them
        if stored[name] != now[name]:
            raise FileError(f"{name} has changed")
    return features


def missing_line(gallery: Gallery, rows: Sequence[int], shown: dict[int, Motion]) -> str:
    """Which of the rows cannot be shown; nothing where all can."""
    names = list(dict.fromkeys(gallery.clips[row].name for row in rows if row not in shown))
    if not names:
        return ""
    more = f" and {len(names) - MOST_NAMES} more" if len(names) > MOST_NAMES else ""
    verb = "has" if len(names) == 1 else "have"
    return f"{', '.join(names[:MOST_NAMES])}{more} {verb} changed or gone since, run encode_dataset again"
