"""What a retrieval gallery is made of: each clip of a split with its first caption."""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from data_loaders.amass_annotations import AnnotationError, cut_span
from data_loaders.amass_dataset import AmassDataset
from data_loaders.clips import Report, clips_of_corpus, mirrored_twins, readable_motions
from data_loaders.corpus import Corpus
from data_loaders.text import Caption
from protos.reading import FileError


class Item(NamedTuple):
    """A clip, or the part of it that its first caption describes: features (T, D) in their units."""

    name: str
    caption: Caption
    motion: np.ndarray


def items_of(
    data: Corpus | AmassDataset, split: str, frame_limits: tuple[int, int], fold_mirrored: bool = False
) -> tuple[list[Item], Report]:
    """Each clip of a split with its first caption, in the order of the list, and what was left out and why.

    Clips beyond the longest are cut. fold_mirrored: without mirrored clips (M000123) whose original (000123) is there.
    ValueError where nothing is left.
    """
    report, items, (shortest, longest) = Report(), [], frame_limits
    read = _items_of_annotations if isinstance(data, AmassDataset) else _items_of_corpus
    found = list(read(data, split, report))
    folded = mirrored_twins([item.name for item in found], data.labels_of) if fold_mirrored else set()
    for item in found:
        if item.name in folded:
            report.add(item.name, "mirrored")
        elif len(item.motion) < shortest:
            report.add(item.name, f"too short: {len(item.motion)} frames, {shortest} needed")
        else:
            items.append(item._replace(motion=item.motion[:longest]))
    if not items:
        raise ValueError(f"{data.folder}: no clip of split {split} can be used: {report}")
    return items, report


def _items_of_corpus(corpus: Corpus, split: str, report: Report) -> Iterator[Item]:
    clips = clips_of_corpus(corpus, split)
    for name, motion in readable_motions(clips, corpus.features.width, report):
        try:
            caption = clips.captions(name)[0]
        except (KeyError, IndexError, OSError, FileError) as error:
            report.add(name, f"without caption: {error}")
            continue
        start, end = sorted((caption.start, caption.end))
        if start < end:  # equal times mean the whole clip, as in TMR's annotations
            motion = cut_span(motion, start, end, corpus.fps)
        yield Item(name, caption, motion)


def _items_of_annotations(data: AmassDataset, split: str, report: Report) -> Iterator[Item]:
    files = data.split(split)
    for key in data.keys(split):
        if key not in files:
            report.add(key, "missing: no annotation of a fitting length")
            continue
        annotation = files[key].annotations[0]
        try:
            motion = data.motion(files[key], annotation)
        except AnnotationError as error:
            report.add(key, f"unreadable: {error}")
            continue
        if not np.isfinite(motion).all():
            report.add(key, "with NaN")
            continue
        yield Item(key, Caption(annotation.text, (), annotation.start, annotation.end), motion)
