"""The motions of a gallery, read again to be shown."""

import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from data_loaders.amass_annotations import Annotation
from data_loaders.amass_dataset import AmassDataset, open_dataset
from data_loaders.corpus import Corpus, Motion
from model.embedding import TextMotionSpace
from protos.reading import convert
from sample.gallery import Gallery, GalleryError
from sample.gallery_sources import dataset_stamp, feature_file, mark
from sample.motion_files import motion_of, read_features
from sample.reading import Reading

log = logging.getLogger(__name__)
MOST_NAMES = 6  # of what is missing


@dataclass(frozen=True)
class HowRead:
    """What a gallery keeps of how a motion file was read, so that it can be read again."""

    mapping: str | None
    motion_fps: float | None
    body_model: str | None
    mapping_file: list[int] | None = None


def clip_motions(gallery: Gallery, rows: Sequence[int], space: TextMotionSpace) -> dict[int, Motion]:
    """The motions of rows of a gallery, in their order, each file read once; without those that are not there any more, or
    are other ones now."""
    of_source: dict[str, list[int]] = {}
    for row in rows:
        of_source.setdefault(gallery.clips[row].source, []).append(row)
    found = {}
    for source, own in of_source.items():
        for row, features in features_of_source(gallery, source, own, space):
            clip = gallery.clips[row]
            first, stop = round(clip.start * gallery.fps), round(clip.end * gallery.fps)
            part = features[first : max(stop, first + 1)]
            if len(part):
                found[row] = motion_of(part, space, gallery.captions(row)[:1])
    return {row: found[row] for row in rows if row in found}


def missing_line(gallery: Gallery, rows: Sequence[int], shown: dict[int, Motion]) -> str:
    """Which of the rows cannot be shown; nothing where all can."""
    names = list(dict.fromkeys(gallery.clips[row].name for row in rows if row not in shown))
    if not names:
        return ""
    more = f" and {len(names) - MOST_NAMES} more" if len(names) > MOST_NAMES else ""
    verb = "has" if len(names) == 1 else "have"
    return f"{', '.join(names[:MOST_NAMES])}{more} {verb} changed or gone since, run encode_dataset again"


def features_of_source(gallery: Gallery, source: str, rows: Sequence[int],
                       space: TextMotionSpace) -> Iterator[tuple[int, np.ndarray]]:
    """(row, features (T, D) of its whole file or clip) of those rows that can be read as they were."""
    try:
        if gallery.of_file(gallery.clips[rows[0]]):
            features = read_again(gallery, source, space)
            yield from ((row, features) for row in rows)
            return
        data = open_dataset(source)
        # captions may be others now; of an annotated dataset each clip's own file is looked at
        require_unchanged(gallery, source, {name: now for name, now in dataset_stamp(data).items()
                                            if name in ("features.npy", "index.json")})  # fmt: skip
    except (KeyError, ValueError, OSError) as error:
        log.debug("%s cannot be shown: %s", source, error)
        return
    for row in rows:
        name = gallery.clips[row].name
        try:
            if isinstance(data, AmassDataset):
                path = feature_file(data, name)
                require_unchanged(gallery, str(path), {"motion": mark(path)})
            features = whole_clip(data, name)
        except (KeyError, ValueError, OSError) as error:
            log.debug("%s cannot be shown: %s", name, error)
        else:
            yield row, features


def read_again(gallery: Gallery, source: str, space: TextMotionSpace) -> np.ndarray:
    """Features (T, D) of a motion file. GalleryError where it is another one now."""
    path = Path(source)
    how = convert(gallery.files[source], HowRead, f"the gallery's entry of {path}")
    mapping = mark(Path(how.mapping)) if how.mapping and how.mapping_file else None
    require_unchanged(gallery, source, {"motion": mark(path), "mapping_file": mapping})
    reading = Reading(mapping=how.mapping, motion_fps=how.motion_fps, body_model=how.body_model and Path(how.body_model))
    return read_features(path, space, reading)


def require_unchanged(gallery: Gallery, file: str, marks: dict[str, list[int] | None]) -> None:
    """GalleryError where a mark that the gallery keeps of a file is another one now."""
    stored = gallery.files.get(file, {})
    for name, now in marks.items():
        if stored.get(name, now) != now:
            raise GalleryError(f"{name} has changed")


def whole_clip(data: Corpus | AmassDataset, name: str) -> np.ndarray:
    """Features (T, D) of a clip of a dataset from its first second on."""
    if isinstance(data, AmassDataset):
        file = data.files[name]
        return data.motion(file, Annotation("", "", 0.0, file.duration))
    return data[data.position(name)]
