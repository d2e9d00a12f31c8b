"""python -m evaluations.eval_retrieval --model_path FOLDER: how well texts find their motions and motions their texts.

Judges a model that embeds both, an evaluator or TMR, by the four protocols of TMR: all clips of a split; all, where
texts that say the same count as one another's; a subset of dissimilar texts; batches of 32.
"""

import logging
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path
from typing import Annotated, Any, Literal

from protos.flags import PROCESSES, Range
from protos.options import command, run_command

log = logging.getLogger(__name__)

ALIASES = {"evaluator": "model_path", "run_dir": "model_path", "no_mirror": "fold_mirrored"}


@dataclass(frozen=True)
class RetrievalOptions:
    """Measure text-motion retrieval."""

    model_path: Path | None = None
    """What embeds texts and motions: folder of an evaluator or of TMR (default: the evaluator of the dataset)."""
    dataset: str | None = None
    """humanml, kit, bandai_namco, a folder made by data_loaders.prepare, or one with TMR's annotations.json (default: that
    which the model was trained on)."""
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
        if self.model_path is None and self.dataset is None:
            raise ValueError("give --model_path, --dataset or both: which model is measured, on which data")


def run(options: RetrievalOptions) -> dict[str, Any] | None:
    """The facts of the report, in the main process."""
    from data_loaders.corpus import Corpus
    from evaluations.retrieval import captioned_motions, protocols_of, retrieval_report, sentences_for, similarities_of
    from evaluations.settings import chosen_dataset
    from model.embedding import default_evaluator, open_space
    from protos.files import file_name, safe_name
    from protos.processes import Processes

    processes = Processes(options.device)
    data = Corpus.open(chosen_dataset(options.dataset, options.model_path))
    path = options.model_path or default_evaluator(data)
    judge = open_space(path, processes.device, data)
    motions, left_out = captioned_motions(data, options.split, judge.frame_limits, options.fold_mirrored)
    if left_out.skipped:
        log.info("%d clips; %s", len(motions), left_out)
    protocols = protocols_of(options.protocol, len(motions))
    gallery = similarities_of(motions, judge, processes.share)
    if not processes.main:
        return None
    # made when first used: only two of the protocols compare sentences
    sentences = cache(partial(sentences_for, data, options.sentence_encoder, options.threshold, options.duplicates))
    measured = {
        "what": str(path), "dataset": data.folder.name, "split": options.split, "fold_mirrored": options.fold_mirrored,
        "left_out": str(left_out), "similarity": judge.similarity,
    }  # fmt: skip
    report = retrieval_report(gallery, protocols, sentences, data, measured)
    name = safe_name(f"retrieval_{file_name(path.name)}_{data.folder.name}_{options.split}")
    report.publish(options.output_dir or Path("outputs") / name, "report of retrieval")
    return report.facts


main = command(RetrievalOptions, run, __doc__, ALIASES)

if __name__ == "__main__":
    run_command(main)
