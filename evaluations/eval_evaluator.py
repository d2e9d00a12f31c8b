"""python -m evaluations.eval_evaluator --evaluator FOLDER: how far an evaluator can be trusted.

On real motions of the test split, in pools of 32 drawn as the protocols draw them: how often a text finds its very motion,
how often a motion of the same content and side among its three nearest, and what chance would find.
"""

import logging
from dataclasses import dataclass
from pathlib import Path

from protos.options import parse, run_command, setup_logging

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class EvalEvaluatorOptions:
    """Judge the judge."""

    dataset: str = "bandai_namco"
    """Prepared dataset whose clips have a content label: folder or known name."""
    split: str = "test"
    """Split of the dataset."""
    evaluator: Path | None = None
    """Evaluator (default: that of the dataset)."""
    replications: int = 20
    """Passes over the split."""
    seed: int = 10
    """Seed of the draws."""
    device: str = "auto"
    """auto, cpu, cuda, cuda:1 or 1."""

    def __post_init__(self) -> None:
        if self.replications < 1:
            raise ValueError(f"--replications must be at least 1, got {self.replications}")


def judge_evaluator(options: EvalEvaluatorOptions) -> dict[str, tuple[float, float]]:
    """{metric: (evaluator, chance)}, means over the replications. ValueError where the clips have no content label."""
    import numpy as np

    from data_loaders.corpus import Corpus
    from evaluations import metrics
    from evaluations.evaluation_set import SetEmbeddings, real_set
    from evaluations.judges import default_evaluator, load_judge
    from protos.options import pick_device
    from protos.randomness import derive_seed

    corpus = Corpus.open(options.dataset)
    data = real_set(corpus, options.split)
    content = {name: labels.get("content", "") for name, labels in zip(corpus.names, corpus.labels)}
    labels = np.array([content.get(entry.name, "") for entry in data.entries])
    if not all(labels):
        raise ValueError(f"{corpus.folder}: its clips have no content label to compare")
    judge = load_judge(options.evaluator or default_evaluator(corpus), corpus, device=str(pick_device(options.device)))
    judge.require(corpus.representation, f"dataset {corpus.folder}")
    embeddings = SetEmbeddings(data, judge)
    rows = []
    for number in range(options.replications):
        drawn = data.draw(np.random.default_rng(derive_seed(options.seed, "replication", number)))
        text, motion = embeddings.texts(drawn), embeddings.motions(drawn)
        by_chance = [(k / metrics.POOL) for k in metrics.TOP_K]
        own = list(zip(metrics.r_precision(text, motion), by_chance))
        rows.append([*own, metrics.label_precision(text, motion, labels[drawn.entry])])
    names = [*(f"R@{k}" for k in metrics.TOP_K), "content and side in the top 3"]
    return {name: (float(own), float(chance)) for name, (own, chance) in zip(names, np.mean(rows, axis=0))}


def main(argv: list[str] | None = None) -> None:
    options = parse(EvalEvaluatorOptions, argv, __doc__)
    setup_logging()
    from evaluations.tables import table

    found = judge_evaluator(options)
    print(table(["", *found], [
        ["evaluator", *(f"{own:.3f}" for own, _ in found.values())],
        ["chance", *(f"{chance:.3f}" for _, chance in found.values())],
    ]))  # fmt: skip


if __name__ == "__main__":
    run_command(main)
