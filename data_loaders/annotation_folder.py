"""Writes folders in TMR's layout: annotations.json, split lists, and of our own datasets their features and what they are.

Times have three decimals; the frames of a span are the products of its times with the frame rate, cut (`span_frames`).
"""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from data_loaders.amass_dataset import ANNOTATIONS, REPRESENTATION, default_motions
from data_loaders.corpus import Corpus
from data_loaders.text import Caption
from protos.outputs import Outputs
from protos.reading import FileError


def write_folder(output: Outputs, content: Mapping[str, dict], splits: Mapping[str, Sequence[str]]) -> int:
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


def write_annotations(corpus: Corpus, output: Path, motions: Path | None = None, overwrite: bool = False) -> int:
    """Writes a dataset of ours and returns the number of captions. Features lie in motions/<name of the output folder>.

    OutputError, before anything is written, where files of somebody else are in the way, or earlier ones without `overwrite`.
    """
    output = Path(output)
    name = output.resolve().name
    content = annotations_of(corpus, name)
    files = [f"{clip}.npy" for clip in content]
    folder = outputs_of(output, overwrite)
    features = Outputs((Path(motions) if motions else default_motions(output)) / name, "set of features", overwrite=overwrite,
                       earlier=files, flag="--motions")  # fmt: skip
    lists = [split for split in ("train", "val", "test") if (corpus.folder / f"{split}.txt").is_file()]
    for i, clip in enumerate(content):
        if not np.isfinite(corpus[i]).all():
            raise FileError(f"{corpus.folder}/corpus/features.npy: NaN or infinity in clip {clip}: prepare the dataset again")
    folder.claim(ANNOTATIONS, REPRESENTATION, *(f"splits/{split}.txt" for split in lists))
    features.claim(*files)
    for i, file in enumerate(files):
        with features.file(file) as stream:
            np.save(stream, corpus[i])
    features.remove(*(features.listed - set(files)))
    folder.write_json(REPRESENTATION, corpus.features.record(), None)
    return write_folder(folder, content, {split: [corpus.names[i] for i in corpus.split(split)] for split in lists})


def annotations_of(corpus: Corpus, prefix: str) -> dict[str, dict]:
    """The content of annotations.json: every clip with its captions and their seconds; files lie at prefix/NAME."""
    return {
        name: {
            "path": f"{prefix}/{name}",
            "duration": seconds_of(frames, corpus.fps),
            "labels": labels,
            "annotations": [
                {"seg_id": f"{name}_{i}", "text": caption.text, **_span(caption, frames, corpus.fps)}
                for i, caption in enumerate(corpus.captions(name))
            ],
        }
        for name, frames, labels in zip(corpus.names, corpus.lengths.tolist(), corpus.labels, strict=True)
    }


def seconds_of(frame: int, fps: float) -> float:
    """A time with three decimals from which cutting the product gets the frame back."""
    seconds = round(frame / fps, 3)
    return seconds if int(seconds * fps) >= frame else round(seconds + 0.001, 3)


def _span(caption: Caption, frames: int, fps: float) -> dict[str, float]:
    duration = seconds_of(frames, fps)
    if caption.whole:
        return {"start": 0.0, "end": duration}
    start, end = sorted((caption.start, caption.end))
    return {"start": round(start, 3), "end": min(round(end, 3), duration)}
