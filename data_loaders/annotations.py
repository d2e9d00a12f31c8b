"""python -m data_loaders.annotations --dataset bandai_namco --output datasets/annotations/bandai_namco: TMR's layout.

Writes annotations.json, split lists and representation.json of a prepared dataset, and its features below
../../motions/guoh3dfeats/NAME, where programs that know that layout look for them.
"""

import json
import logging
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from protos.options import parse, run_command, setup_logging

if TYPE_CHECKING:
    from data_loaders.corpus import Corpus

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class AnnotationOptions:
    """Write a prepared dataset as annotated spans of feature files."""

    dataset: str
    """humanml, kit, bandai_namco, or a folder made by data_loaders.prepare."""
    output: Path
    """Folder of annotations.json, such as datasets/annotations/NAME."""
    motions: Path | None = None
    """Folder of the feature files (default: ../../motions/guoh3dfeats, seen from --output)."""


def annotations_of(corpus: "Corpus", prefix: str) -> dict[str, dict]:
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


def _span(caption, frames: int, fps: float) -> dict[str, float]:
    duration = seconds_of(frames, fps)
    if caption.whole:
        return {"start": 0.0, "end": duration}
    start, end = sorted((caption.start, caption.end))
    return {"start": round(start, 3), "end": min(round(end, 3), duration)}


def write_annotations(corpus: "Corpus", output: Path, motions: Path | None = None) -> int:
    """Writes the dataset and returns the number of captions. Feature files that are there are replaced."""
    import numpy as np

    from data_loaders.amass_dataset import ANNOTATIONS, REPRESENTATION, default_motions
    from protos.files import atomic_file, write_atomically

    output = Path(output)
    motions = Path(motions) if motions else default_motions(output)
    content = annotations_of(corpus, corpus.folder.resolve().name)
    for i, entry in enumerate(content.values()):
        with atomic_file(motions / f"{entry['path']}.npy") as file:
            np.save(file, corpus[i])
    for split in ("train", "val", "test"):
        if (corpus.folder / f"{split}.txt").is_file():
            names = [corpus.names[i] for i in corpus.split(split)]
            write_atomically(output / "splits" / f"{split}.txt", "".join(f"{name}\n" for name in names))
    write_atomically(output / REPRESENTATION, json.dumps(asdict(corpus.representation)))
    write_atomically(output / ANNOTATIONS, json.dumps(content, indent=1))
    return sum(len(entry["annotations"]) for entry in content.values())


def main(argv: list[str] | None = None) -> None:
    options = parse(AnnotationOptions, argv, __doc__)
    setup_logging()
    from data_loaders.corpus import Corpus

    corpus = Corpus.open(options.dataset)
    count = write_annotations(corpus, options.output, options.motions)
    log.info("%d captions of %d clips in %s", count, len(corpus), options.output)


if __name__ == "__main__":
    run_command(main)
