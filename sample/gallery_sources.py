"""What galleries are made of: the clips of a dataset, or a folder of motion files; each can be read again to be shown."""

import logging
from collections.abc import Iterator, Sequence
from functools import lru_cache
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

import numpy as np
from tqdm import tqdm

from data_loaders.amass_annotations import Annotation, AnnotationError, cut_span
from data_loaders.amass_dataset import AmassDataset, open_dataset
from data_loaders.corpus import Corpus, Motion
from data_loaders.text import CaptionFileError, read_caption_file
from model.embedding import TextMotionSpace
from sample.gallery import Clip, Gallery, GalleryError
from sample.motion_files import SUFFIXES, motion_of, read_features
from sample.retrieve_options import Reading

log = logging.getLogger(__name__)
PARTS_AT_ONCE = 1024  # of which features are held in memory before they are encoded


class Part(NamedTuple):
    """A clip with what describes it and its features (T, D) in their units."""

    clip: Clip
    captions: tuple[str, ...]
    features: np.ndarray


class Encoded(NamedTuple):
    """What became of a file or a dataset's clip: vectors (n, C) of its parts, or the reason why there are none."""

    item: str
    clips: list[Clip]
    captions: list[tuple[str, ...]]
    vectors: np.ndarray
    problem: str = ""


class DatasetSource:
    """Clips of a split: each whole clip with its captions, and each stretch that captions of its own describe."""

    def __init__(self, data: Corpus | AmassDataset, split: str, space: TextMotionSpace):
        space.representation.require(data.representation, "the model", f"dataset {data.folder}")
        self.data, self.space, self.folder = data, space, str(data.folder.resolve())
        if isinstance(data, AmassDataset):
            self.annotated = data.split(split)
            self.names = list(self.annotated)
        else:
            self.names = [data.names[i] for i in data.split(split)]

    def new(self, gallery: Gallery) -> list[str]:
        """Names of the clips that the gallery lacks."""
        known = {clip.name for clip in gallery.clips if clip.source == self.folder}
        return [name for name in self.names if name not in known]

    def parts(self, name: str) -> list[Part]:
        """ValueError or OSError where the clip cannot be used."""
        found = self._annotated(name) if isinstance(self.data, AmassDataset) else self._captioned(name)
        return [
            Part(Clip(name, self.folder, float(start), float(end)), tuple(texts), usable(features, self.space))
            for (start, end), (features, texts) in found.items()
        ]

    def _annotated(self, name: str) -> dict[tuple[float, float], tuple[np.ndarray, list[str]]]:
        """Features and captions of each span."""
        found = {}
        for annotation in (file := self.annotated[name]).annotations:
            span = annotation.start, annotation.end
            if span not in found:
                found[span] = self.data.motion(file, annotation), []
            found[span][1].append(annotation.text)
        return found

    def _captioned(self, name: str) -> dict[tuple[float, float], tuple[np.ndarray, list[str]]]:
        """As `_annotated`, and the whole clip, described or not."""
        features = self.data[self.data.position(name)]
        all_of_it = 0.0, len(features) / self.data.fps
        found = {all_of_it: (features, [])}
        for caption in self._captions(name):
            start, end = sorted((caption.start, caption.end))
            span = all_of_it if start == end else (start, end)  # equal times mean the whole clip, as in TMR's annotations
            if span not in found:
                found[span] = cut_span(features, start, end, self.data.fps), []
            found[span][1].append(caption.text)
        return found

    def _captions(self, name: str) -> list:
        try:
            return self.data.captions(name)
        except KeyError:
            return []


class FileSource:
    """Motion files of a folder and those below it, long ones in equal parts; or one file."""

    def __init__(self, path: Path, space: TextMotionSpace, reading: Reading, longest_seconds: float | None = None):
        """FileNotFoundError where there is no motion file."""
        path = Path(path)
        self.space, self.reading = space, reading
        frames = space.longest_trained if longest_seconds is None else max(1, int(longest_seconds * space.fps))
        self.longest = min(frames, space.frame_limits[1])
        found = [path] if path.is_file() else sorted(p for p in path.rglob("*") if p.suffix.lower() in SUFFIXES and p.is_file())
        if not found:
            raise FileNotFoundError(f"{path}: no motion file; expected {', '.join(SUFFIXES)}")
        base = path.parent if path.is_file() else path
        self.names = {str(file.resolve()): file.relative_to(base).with_suffix("").as_posix() for file in found}

    def parts(self, file: str) -> list[Part]:
        """ValueError or OSError where the file cannot be used."""
        features = usable(read_features(Path(file), self.space, self.reading), self.space, cut=False)
        beside = Path(file).with_suffix(".txt")
        captions = ()
        if beside.is_file():
            captions = tuple(caption.text for caption in read_caption_file(beside, plain=True))
        count = -(-len(features) // self.longest)
        edges = [round(i * len(features) / count) for i in range(count + 1)]
        return [
            Part(Clip(self.names[file], file, first / self.space.fps, stop / self.space.fps), captions, features[first:stop])
            for first, stop in pairwise(edges)
        ]


def usable(features: np.ndarray, space: TextMotionSpace, cut: bool = True) -> np.ndarray:
    """Features that the model can read, cut to its longest motion. ValueError for too few frames, or NaN."""
    shortest, longest = space.frame_limits
    if len(features) < shortest:
        raise ValueError(f"too short: {len(features)} frames, this model reads {shortest} or more")
    if not np.isfinite(features).all():
        raise ValueError("its features hold NaN or infinite values")
    return features[:longest] if cut else features


def encode_items(source: DatasetSource | FileSource, items: Sequence[str], batch_size: int | None = None,
                 progress: bool = True) -> list[Encoded]:
    """The items, in their order, a bad one with its problem. What a motion becomes does not depend on its neighbours."""
    found: list[Encoded | None] = [None] * len(items)
    waiting: list[tuple[int, list[Part]]] = []

    def encode() -> None:
        vectors = source.space.encode_motion([part.features for _, parts in waiting for part in parts], batch_size)
        start = 0
        for i, parts in waiting:
            own = vectors[start : start + len(parts)]
            start += len(parts)
            found[i] = Encoded(items[i], [part.clip for part in parts], [part.captions for part in parts], own)
        waiting.clear()

    for i, item in enumerate(tqdm(items, desc="encoding", unit="motion", disable=None if progress else True)):
        try:
            waiting.append((i, source.parts(item)))
        except (ValueError, OSError, CaptionFileError, AnnotationError) as error:
            found[i] = Encoded(item, [], [], np.zeros((0, source.space.dim), np.float32), str(error))
        if sum(len(parts) for _, parts in waiting) >= PARTS_AT_ONCE:
            encode()
    encode()
    return found


def clip_motions(gallery: Gallery, rows: Sequence[int], space: TextMotionSpace) -> Iterator[Motion]:
    """The motions of rows of a gallery, read again. GalleryError for one that is not there any more."""
    opened = lru_cache(4)(open_dataset)
    for row in rows:
        clip = gallery.clips[row]
        try:
            if Path(clip.source).is_dir():
                data = opened(clip.source)
                features = whole_clip(data, clip.name)
            else:
                stored = gallery.files[clip.source]
                reading = Reading(**{name: stored[name] for name in ("mapping", "motion_fps")},
                                  body_model=None if stored["body_model"] is None else Path(stored["body_model"]))
                features = read_features(Path(clip.source), space, reading)
        except (KeyError, ValueError, OSError) as error:
            raise GalleryError(f"{clip.name} cannot be shown, its motion is not where it was: {error}") from error
        first, stop = round(clip.start * gallery.fps), round(clip.end * gallery.fps)
        yield motion_of(features[first : max(stop, first + 1)], space, gallery.captions(row)[:1])


def whole_clip(data: Corpus | AmassDataset, name: str) -> np.ndarray:
    """Features (T, D) of a clip of a dataset from its first second on."""
    if isinstance(data, AmassDataset):
        file = data.files[name]
        return data.motion(file, Annotation("", "", 0.0, file.duration))
    return data[data.position(name)]
