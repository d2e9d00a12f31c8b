"""python -m data_loaders.annotations SUBCOMMAND: datasets in TMR's layout. SUBCOMMAND --help tells its options.

Each writes annotations.json and split lists below --output. Programs that know that layout look for the features of the
files in motions/guoh3dfeats, two folders above; those of AMASS are written by python -m data_loaders.guoh3dfeats.
"""

import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from protos.options import command, run_command

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Dataset:
    """Write a prepared dataset as annotated spans of feature files."""

    dataset: str
    """humanml, kit, bandai_namco, or a folder made by data_loaders.prepare."""
    output: Path
    """Folder of annotations.json, such as datasets/annotations/NAME."""
    motions: Path | None = None
    """Folder of the feature files to write (default: ../../motions/guoh3dfeats, seen from --output)."""
    overwrite: bool = False
    """Replace what an earlier run wrote there."""


@dataclass(frozen=True)
class Humanml3d:
    """Rebuild HumanML3D's annotations of whole AMASS and HumanAct12 files."""

    input: Path = Path("dataset/HumanML3D")
    """HumanML3D's folder: texts/, train.txt, val.txt, test.txt, all.txt, and index.csv of its repository in it or above."""
    motions: Path | None = None
    """Whole files that tell the durations: pose_data, or features (default: ../../motions/guoh3dfeats from --output)."""
    output: Path = Path("datasets/annotations/humanml3d")
    """Folder of annotations.json and splits/."""
    overwrite: bool = False
    """Replace what an earlier run wrote there."""


@dataclass(frozen=True)
class Babel:
    """Build annotations of whole AMASS files from BABEL's labels."""

    input: Path = Path("dataset/BABEL")
    """Folder of BABEL's train.json and val.json."""
    motions: Path | None = None
    """pose_data or features that tell the durations; files 0.25 s off are left out (default: durations that BABEL states)."""
    mode: Literal["all", "seq", "seg"] = "all"
    """seq: labels of whole sequences; seg: labels of their parts; all: both."""
    output: Path = Path("datasets/annotations/babel")
    """Folder of annotations.json and splits/."""
    overwrite: bool = False
    """Replace what an earlier run wrote there."""


def run(options: Dataset | Humanml3d | Babel) -> None:
    from data_loaders.annotated_clips import default_motions
    from data_loaders.annotation_builders import babel_annotations, humanml3d_annotations, humanml3d_splits
    from data_loaders.annotation_folder import outputs_of, write_annotations, write_folder
    from data_loaders.clips import LeftOut
    from data_loaders.corpus import Corpus

    report, motions = LeftOut(), options.motions
    if isinstance(options, Dataset):
        corpus = Corpus.open(options.dataset)
        count = write_annotations(corpus, options.output, motions, options.overwrite, report)
        log.info("%d captions of %d clips in %s", count, len(corpus), options.output)
    else:
        output = outputs_of(options.output, options.overwrite)
        if isinstance(options, Humanml3d):
            motions = motions or default_motions(options.output)
        if motions and not motions.is_dir():
            raise FileNotFoundError(f"{motions} is absent: give --motions the pose_data of HumanML3D's notebook, or the features "
                                    "that python -m data_loaders.guoh3dfeats makes of it")  # fmt: skip
        if isinstance(options, Humanml3d):
            splits = humanml3d_splits(options.input)
            content = humanml3d_annotations(options.input, motions, report)
        else:
            content, splits = babel_annotations(options.input, options.mode, motions, report)
        if not content:
            raise ValueError(f"nothing of {options.input} can be used: {report}")
        count = write_folder(output, content, splits)
        log.info("%d captions of %d clips in %s", count, len(content), options.output)
    if report.skipped:
        log.warning("%s", report)


main = command(Dataset | Humanml3d | Babel, run, __doc__)  # in lower case they are what is typed

if __name__ == "__main__":
    run_command(main)
