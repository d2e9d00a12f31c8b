"""python -m visualize.preview --dataset NAME: a look at a prepared dataset, a few clips as videos with their captions."""

import logging
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from protos.flags import Range
from protos.options import command, run_command


@dataclass(frozen=True)
class PreviewOptions:
    """Render a few clips of a prepared dataset."""

    dataset: str
    """Dataset folder or known name (humanml, kit, bandai_namco, ...)."""
    num_clips: Annotated[int, Range(1, 100_000)] = 4
    """How many clips, evenly spread over the dataset."""
    split: str = "all"
    """Which split to take them from."""
    output_dir: Path | None = None
    """Where to write (default: DATASET/preview)."""


def run(options: PreviewOptions) -> list[Path]:
    """Writes NAME.mp4 and NAME.png per clip, in place of an earlier preview; returns the videos. Raises FileNotFoundError for
    an unknown dataset, OutputError where files of somebody else are in the way.
    """
    import numpy as np
    from tqdm import tqdm

    from data_loaders.corpus import Corpus
    from protos.files import safe_name
    from protos.outputs import Outputs
    from visualize.video import write_strip, write_video

    corpus = Corpus.open(options.dataset)
    clips = corpus.split(options.split)
    if not clips or options.num_clips < 1:
        raise ValueError(f"nothing to show: {len(clips)} clips in split {options.split}, --num_clips {options.num_clips}")
    chosen = [clips[i] for i in np.linspace(0, len(clips) - 1, min(options.num_clips, len(clips))).astype(int)]
    names: list[str] = []
    for i in chosen:
        names.append(safe_name(corpus.names[i], [name.lower() for name in names]))
    files = [f"{name}.{suffix}" for name in names for suffix in ("mp4", "png")]
    outputs = Outputs(options.output_dir or corpus.folder / "preview", "preview", going_on=True,
                      earlier=() if options.output_dir else earlier_files(corpus.names), flag="--output_dir")  # fmt: skip
    outputs.claim(*files)
    outputs.remove(*(outputs.listed - set(files)))
    videos = []
    for i, name in zip(tqdm(chosen, desc="rendering", unit="clip", disable=None), names, strict=True):
        motion = corpus.motion(i)
        path = outputs.path(f"{name}.mp4")
        write_video(path, [motion])
        write_strip(path.with_suffix(".png"), motion)
        videos.append(path)
        logging.info("%s", path)
    return videos


def earlier_files(names: Iterable[str]) -> set[str]:
    """Names of the files that a version without manifests wrote for these clips, and for their mirror images as it called
    them.
    """
    return {f"{twin}{name}.{suffix}" for name in names for twin in ("", "M") for suffix in ("mp4", "png")}


main = command(PreviewOptions, run, __doc__)

if __name__ == "__main__":
    run_command(main)
