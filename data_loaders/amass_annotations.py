"""Captions as spans of whole AMASS files (annotations.json of TMR: HumanML3D, KIT-ML, BABEL), and what they cut out.

Features are those of the whole file; a caption's motion is the frames of its span, no more and no less.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from data_loaders.clips import Report
from data_loaders.text import LONGEST
from protos.names import leads_out, shown
from protos.reading import convert, read_json

MIN_SECONDS, MAX_SECONDS = 2.0, 10.0


class AnnotationError(ValueError):
    """An annotations file that cannot be read, or a span without a frame in its file."""


@dataclass(frozen=True)
class Annotation:
    """A caption of the seconds start to end of a file."""

    seg_id: str
    text: str
    start: float
    end: float

    @property
    def seconds(self) -> float:
        return self.end - self.start


@dataclass(frozen=True)
class AnnotatedFile:
    """A clip as annotations.json holds it: path of its features without extension, seconds of the whole file, its captions;
    what else may stand there is passed over.

    `labels` (content, style, ...) are those of a dataset of ours; published files have none.
    """

    path: str
    duration: float
    annotations: tuple[Annotation, ...]
    labels: dict[str, str | int | float | bool | None] = field(default_factory=dict)
    key: Any = ""  # under which it stands there


def read_annotations(path: Path) -> dict[str, AnnotatedFile]:
    """annotations.json by key, in the order of the file. AnnotationError where it is absent or of another form."""
    try:
        return parse_annotations(read_json(path, dict[str, Any]))
    except FileNotFoundError:
        raise AnnotationError(f"{path} is absent") from None
    except ValueError as error:
        raise AnnotationError(f"{path} is not an annotations file: {str(error).removeprefix(f'{path}: ')}") from error


def parse_annotations(content: Mapping[str, dict]) -> dict[str, AnnotatedFile]:
    """ValueError names the entry and its field, a caption whose seconds are no span of time, and a path that leads elsewhere."""
    files = {}
    for key, each in content.items():
        entry = convert(each, AnnotatedFile, f"entry {shown(key)}")
        if leads_out(entry.path):
            raise ValueError(f"entry {shown(key)}: its path {shown(entry.path)} leads out of the folder of motions")
        for annotation in entry.annotations:
            if not 0 <= annotation.start <= annotation.end <= LONGEST:  # NaN too
                raise ValueError(f"{annotation.seg_id}: from {annotation.start:g} to {annotation.end:g} s is no span of time")
        files[key] = replace(entry, key=key)
    return files


def within_seconds(files: Mapping[str, AnnotatedFile], shortest: float = MIN_SECONDS, longest: float = MAX_SECONDS,
                   report: Report | None = None) -> dict[str, AnnotatedFile]:
    """Files with the captions whose span lasts shortest to longest seconds, both included; files without any are left out.

    end - start is taken in double precision as it comes: 2.3 - 0.3 is below 2. `report` gets the captions left out.
    """
    kept, report = {}, report or Report()
    for key, file in files.items():
        for annotation in file.annotations:
            if not shortest <= annotation.seconds <= longest:
                report.add(annotation.seg_id, f"of another length: {annotation.seconds:g} s, not {shortest:g} to {longest:g}")
        if annotations := tuple(a for a in file.annotations if shortest <= a.seconds <= longest):
            kept[key] = replace(file, annotations=annotations)
    return kept


def annotated_split(files: Mapping[str, AnnotatedFile], keys: Sequence[str], split: str, shortest: float = MIN_SECONDS,
                    longest: float = MAX_SECONDS, report: Report | None = None) -> dict[str, AnnotatedFile]:
    """The files of a split in its order. Only test splits keep every duration. `report` gets what is left out."""
    chosen = {key: files[key] for key in keys if key in files}
    for key in keys:
        if key not in files and report is not None:
            report.add(key, "without annotations")
    return chosen if "test" in split else within_seconds(chosen, shortest, longest, report)


def span_frames(start: float, end: float, fps: float) -> tuple[int, int]:
    """First frame and the one after the last, of seconds: each product is cut, not rounded (0.58 s at 20 is 11)."""
    return int(start * fps), int(end * fps)


def cut_span(features: np.ndarray, start: float, end: float, fps: float) -> np.ndarray:
    """The frames (T, D) of a span; one that reaches beyond the file ends with it, one behind its end has none."""
    first, stop = span_frames(start, end, fps)
    return features[first:stop]
