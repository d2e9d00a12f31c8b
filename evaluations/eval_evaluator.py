"""python -m evaluations.eval_evaluator --evaluator FOLDER: how far an evaluator can be trusted.

On real motions of the test split, in pools of 32 drawn as the protocols draw them: how often a text finds its very motion,
how often a motion of the same content and side among its three nearest. And, for wordings that occur in no caption (those of
the probes): how often the nearest motion of the whole split does what is said. Beside each, what chance would find. Works
for anything that judges: the evaluator, or a TMR model.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from protos.flags import REPLICATIONS, SEED
from protos.options import command, run_command


@dataclass(frozen=True)
class EvalEvaluatorOptions:
    """Judge the judge."""

    dataset: str | None = None
    """Prepared dataset whose clips have a content label: folder or known name (default: that of the evaluator given, or of the
    weights that come with the code)."""
    split: str = "test"
    """Split of the dataset."""
    evaluator: Path | None = None
    """Evaluator or TMR model (default: the evaluator of the dataset)."""
    replications: Annotated[int, REPLICATIONS] = 20
    """Passes over the split."""
    seed: Annotated[int, SEED] = 10
    """Seed of the draws."""
    device: str = "auto"
    """auto, cpu, cuda, cuda:1 or 1."""


def run(options: EvalEvaluatorOptions) -> None:
    from data_loaders.corpus import Corpus
    from evaluations.judge_quality import judge_evaluator
    from evaluations.settings import chosen_dataset
    from model.embedding import default_evaluator, open_space
    from protos.processes import pick_device
    from protos.tables import table

    corpus = Corpus.open(chosen_dataset(options.dataset, options.evaluator))
    judge = open_space(options.evaluator or default_evaluator(corpus), pick_device(options.device), corpus)
    found = judge_evaluator(judge, corpus, options.split, options.replications, options.seed)
    print(table(["", *found], [
        ["evaluator", *(f"{own:.3f}" for own, _ in found.values())],
        ["chance", *(f"{chance:.3f}" for _, chance in found.values())],
    ]))  # fmt: skip


main = command(EvalEvaluatorOptions, run, __doc__)

if __name__ == "__main__":
    run_command(main)
