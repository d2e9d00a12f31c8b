"""python -m evaluations.eval_retrieval --model_path FOLDER: how well texts find their motions and motions their texts.

Judges a model that embeds both, an evaluator or TMR, by the four protocols of TMR: all clips of a split; all, where
texts that say the same count as one another's; a subset of dissimilar texts; batches of 32.
"""

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Annotated, Literal

from protos.bounds import PROCESSES, Range, check_bounds
from protos.options import parse, run_command
from protos.processes import start

ALIASES = {"evaluator": "model_path", "run_dir": "model_path", "no_mirror": "fold_mirrored"}


@dataclass(frozen=True)
class RetrievalOptions:
    """Measure text-motion retrieval."""

    model_path: Path | None = None
    """What embeds texts and motions: folder of an evaluator or of TMR (default: the evaluator of the dataset)."""
    dataset: str = "bandai_namco"
    """humanml, kit, bandai_namco, a folder made by data_loaders.prepare, or one with TMR's annotations.json."""
    split: str = "test"
    """Split of the dataset; of each clip the first caption counts."""
    protocol: Literal["all", "normal", "threshold", "nsim", "guo"] = "all"
    """normal: the whole split; threshold: near-duplicate texts count as hits; nsim: dissimilar texts; guo: batches of 32;
    all: these four."""
    threshold: Annotated[float, Range(0, 1, above=True, below=True)] | None = None
    """Score, 0 to 1, above which sentences say the same (default: calibrated for the sentence encoder, 0.95 for mpnet)."""
    sentence_encoder: Literal["mpnet", "minilm"] | None = None
    """What compares sentences (default: mpnet, as published, where its files are on this machine, else minilm)."""
    duplicates: Literal["auto", "words", "published"] = "auto"
    """words: texts that differ in a side, a direction or a word of content are never the same, whatever their score;
    published: the score alone decides; auto: published for humanml and kit with mpnet, else words."""
    fold_mirrored: bool = False
    """Leave out mirrored clips (M000123) whose original (000123) is in the split."""
    device: str = "auto"
    """auto, cpu, cuda, cuda:1 or 1; of several processes each takes a GPU of its own, or its part of the CPU."""
    processes: Annotated[int, PROCESSES] = 1
    """Processes on this machine that share the work."""
    output_dir: Path | None = None
    """Folder for the reports (default: outputs/retrieval_<model>_<dataset>_<split>)."""

    def __post_init__(self) -> None:
        check_bounds(self, "--")


def main(argv: list[str] | None = None) -> None:
    options = parse(RetrievalOptions, argv, __doc__, ALIASES)
    start(partial(run, sys.argv[1:] if argv is None else argv), options)


def run(command: Sequence[str], options: RetrievalOptions) -> None:
    from evaluations.eval_retrieval_run import evaluate, markdown

    if report := evaluate(options, command):
        print(markdown(report))


if __name__ == "__main__":
    run_command(main)
