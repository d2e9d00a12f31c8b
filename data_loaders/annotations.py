"""python -m data_loaders.annotations SOURCE --output FOLDER: datasets in TMR's layout, captions as spans of whole files.

It writes annotations.json and split lists below --output. Programs that know that layout look for the features of the
files in motions/guoh3dfeats, two folders above; those of AMASS are written by python -m data_loaders.guoh3dfeats.
"""

import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import tyro

from protos.options import command, run_command

log = logging.getLogger(__name__)
FOLDERS = {"humanml3d": "HumanML3D", "babel": "BABEL"}


@dataclass(frozen=True)
class AnnotationOptions:
    """Write captions as spans of whole feature files."""

    source: Annotated[Literal["dataset", "humanml3d", "babel"], tyro.conf.Positional]
    """dataset: a prepared one, with its features; humanml3d: HumanML3D's captions on whole AMASS and HumanAct12 files; babel:
    BABEL's labels on whole AMASS files."""
    input: str | None = None
    """dataset: humanml, kit, bandai_namco, or a folder made by data_loaders.prepare. humanml3d: folder of texts/, split lists,
    and index.csv of its repository in it or above (default: dataset/HumanML3D). babel: folder of train.json and val.json
    (default: dataset/BABEL)."""
    output: Path | None = None
    """Folder of annotations.json and splits/ (default: datasets/annotations/SOURCE; dataset: datasets/annotations/NAME)."""
    motions: Path | None = None
    """dataset: folder of the feature files to write. humanml3d: whole files that tell the durations, pose_data or features
    (default of both: ../../motions/guoh3dfeats, seen from --output). babel: the same, files 0.25 s off are left out (default:
    durations that BABEL states)."""
    mode: Literal["all", "seq", "seg"] = "all"
    """babel: labels of whole sequences (seq), of their parts (seg), or both."""
    overwrite: bool = False
    """Replace what an earlier run wrote there."""


def run(options: AnnotationOptions) -> None:
    from data_loaders.annotated_clips import default_motions
    from data_loaders.annotation_builders import babel_annotations, humanml3d_annotations, humanml3d_splits
    from data_loaders.annotation_folder import outputs_of, write_annotations, write_folder
    from data_loaders.clips import LeftOut
    from data_loaders.corpus import Corpus

    left_out, motions = LeftOut(), options.motions
    if options.source == "dataset":
        if options.input is None:
            raise ValueError("which dataset? name it, or its folder, with --input")
        corpus = Corpus.open(options.input)
        output = options.output or Path("datasets/annotations") / corpus.folder.name
        count, clips = write_annotations(corpus, output, motions, options.overwrite, left_out), len(corpus)
    else:
        source = Path(options.input or Path("dataset") / FOLDERS[options.source])
        output = options.output or Path("datasets/annotations") / options.source
        outputs = outputs_of(output, options.overwrite)
        if options.source == "humanml3d":
            motions = motions or default_motions(output)
        if motions and not motions.is_dir():
            raise FileNotFoundError(f"{motions} is absent: give --motions the pose_data of HumanML3D's notebook, or the features "
                                    "that python -m data_loaders.guoh3dfeats makes of it")  # fmt: skip
        if options.source == "humanml3d":
            splits = humanml3d_splits(source)
            content = humanml3d_annotations(source, motions, left_out)
        else:
            content, splits = babel_annotations(source, options.mode, motions, left_out)
        if not content:
            raise ValueError(f"nothing of {source} can be used: {left_out}")
        count, clips = write_folder(outputs, content, splits), len(content)
    log.info("%d captions of %d clips in %s", count, clips, output)
    if left_out.skipped:
        log.warning("%s", left_out)


main = command(AnnotationOptions, run, __doc__, {"dataset": "input"})

if __name__ == "__main__":
    run_command(main)
