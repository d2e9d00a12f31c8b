"""Writes folders in TMR's layout: annotations.json, split lists, and of our own datasets their features and what they are.

Times have three decimals; the frames of a span are the products of its times with the frame rate, cut (`span_frames`).
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path

import numpy as np

from data_loaders.amass_dataset import ANNOTATIONS, REPRESENTATION, default_motions
from data_loaders.corpus import Corpus
from data_loaders.text import Caption
from protos.files import atomic_file, write_atomically


def write_folder(output: Path, content: Mapping[str, dict], splits: Mapping[str, Sequence[str]]) -> int:
    """Writes split lists and, when they are there, annotations.json; returns the number of captions."""
    for split, names in splits.items():
        write_atomically(Path(output) / "splits" / f"{split}.txt", "".join(f"{name}\n" for name in names))
    write_atomically(Path(output) / ANNOTATIONS, json.dumps(content, indent=1))
    return sum(len(entry["annotations"]) for entry in content.values())


def write_annotations(corpus: Corpus, output: Path, motions: Path | None = None) -> int:
    """Writes a dataset of ours and returns the number of captions. Features lie in motions/<name of the output folder>;
    files that are there are replaced.
    """
    output = Path(output)
    motions = Path(motions) if motions else default_motions(output)
    content = annotations_of(corpus, output.resolve().name)
    for i, entry in enumerate(content.values()):
        with atomic_file(motions / f"{entry['path']}.npy") as file:
            np.save(file, corpus[i])
    write_atomically(output / REPRESENTATION, json.dumps(asdict(corpus.representation)))
    lists = [split for split in ("train", "val", "test") if (corpus.folder / f"{split}.txt").is_file()]
    return write_folder(output, content, {split: [corpus.names[i] for i in corpus.split(split)] for split in lists})


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
