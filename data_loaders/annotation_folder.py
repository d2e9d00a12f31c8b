"""Folders in TMR's layout: annotations.json, split lists, and of our own datasets their features and what they are.

Each entry of annotations.json is a file with its captions as seconds of the whole file, three decimals, none beyond its end.
The frames of a span are the products of its times with the frame rate, cut (`span_frames`).
"""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from data_loaders.annotated_clips import ANNOTATIONS, REPRESENTATION, default_motions
from data_loaders.clips import LeftOut
from data_loaders.corpus import Corpus
from data_loaders.text import Caption
from protos.outputs import Outputs
from protos.reading import FileError


class Span(NamedTuple):
    """A caption of the seconds start to end of a file; `more`: what else its entry says."""

    seg_id: str
    text: str
    start: float
    end: float
    more: Mapping[str, Any] = {}


def file_entry(path: str, duration: float, spans: Iterable[Span], left_out: LeftOut, **more: Any) -> dict[str, Any] | None:
    """The entry of a file; None where it has no span with a text and some time within it. `left_out` gets such spans."""
    annotations = []
    for span in spans:
        if not span.text:
            left_out.add(span.seg_id, "without text")
        elif not 0 <= span.start < min(span.end, duration):
            left_out.add(span.seg_id, f"outside the file: {span.start:g} to {span.end:g} s of {duration:g} s")
        else:
            times = {"start": round(span.start, 3), "end": min(round(span.end, 3), duration)}
            annotations.append({"seg_id": span.seg_id, "text": span.text, **times, **span.more})
    return {"path": path, "duration": duration, **more, "annotations": annotations} if annotations else None


def caption_span(caption: Caption, start: float, end: float) -> tuple[float, float]:
    """Seconds in the file of a caption of the clip from start to end; its own times count from the start of the clip.

    Exchanged times are put in order; equal ones, of whatever value, mean the whole clip.
    """
    first, last = sorted((caption.start, caption.end))
    return (start, end) if first == last else (start + first, min(end, start + last))


def seconds_of(frame: int, fps: float) -> float:
    """A time with three decimals from which cutting the product gets the frame back."""
    seconds = round(frame / fps, 3)
    return seconds if int(seconds * fps) >= frame else round(seconds + 0.001, 3)


def annotations_of(corpus: Corpus, prefix: str, left_out: LeftOut) -> dict[str, dict[str, Any]]:
    """The content of annotations.json: every clip with its captions and their seconds; files lie at prefix/NAME."""
    content = {}
    for name, frames, labels in zip(corpus.names, corpus.lengths.tolist(), corpus.labels, strict=True):
        duration = seconds_of(frames, corpus.fps)
        spans = [Span(f"{name}_{i}", caption.text, *caption_span(caption, 0.0, duration))
                 for i, caption in enumerate(corpus.captions(name))]  # fmt: skip
        if entry := file_entry(f"{prefix}/{name}", duration, spans, left_out, labels=labels):
            content[name] = entry
    return content


def write_annotations(
    corpus: Corpus, output: Path, motions: Path | None = None, overwrite: bool = False, left_out: LeftOut | None = None
) -> int:
    """Writes a dataset of ours and returns the number of captions. Features lie in motions/<name of the output folder>.
    `left_out` gets captions of no time within their clip.

    OutputError, before anything is written, where files of somebody else are in the way, or earlier ones without `overwrite`.
    """
    output = Path(output)
    name = output.resolve().name
    content = annotations_of(corpus, name, left_out or LeftOut())
    files = {clip: f"{clip}.npy" for clip in content}
    folder = outputs_of(output, overwrite)
    features = Outputs((Path(motions) if motions else default_motions(output)) / name, "set of features", overwrite=overwrite,
                       earlier=files.values(), flag="--motions")  # fmt: skip
    lists = [split for split in ("train", "val", "test") if (corpus.folder / f"{split}.txt").is_file()]
    for clip in content:
        if not np.isfinite(corpus[corpus.position(clip)]).all():
            raise FileError(f"{corpus.folder}/corpus/features.npy: NaN or infinity in clip {clip}: prepare the dataset again")
    folder.claim(ANNOTATIONS, REPRESENTATION, *(f"splits/{split}.txt" for split in lists))
    features.claim(*files.values())
    for clip, file in files.items():
        with features.file(file) as stream:
            np.save(stream, corpus[corpus.position(clip)])
    features.remove(*(features.listed - set(files.values())))
    folder.write_json(REPRESENTATION, corpus.features.record(), None)
    return write_folder(folder, content, {split: [corpus.names[i] for i in corpus.split(split)] for split in lists})


def write_folder(output: Outputs, content: Mapping[str, dict[str, Any]], splits: Mapping[str, Sequence[str]]) -> int:
    """Writes split lists and, when they are there, annotations.json; returns the number of captions."""
    for split, names in splits.items():
        output.write(f"splits/{split}.txt", "".join(f"{name}\n" for name in names))
    output.write_json(ANNOTATIONS, content)
    return sum(len(entry["annotations"]) for entry in content.values())


def outputs_of(folder: Path, overwrite: bool = False) -> Outputs:
    """The files of an annotations folder that may be written. OutputError where an earlier result is not to be replaced."""

    def earlier(there: Path) -> list[str]:
        """Without a manifest only datasets of ours are known from published ones: they say what their features are."""
        splits = [f"splits/{path.name}" for path in (there / "splits").glob("*.txt")]
        return [ANNOTATIONS, REPRESENTATION, *splits] if (there / REPRESENTATION).is_file() else []

    return Outputs(folder, "set of annotations", overwrite=overwrite, earlier=earlier)
