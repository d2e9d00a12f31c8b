"""python -m evaluations.eval_evaluator --evaluator FOLDER: how far an evaluator can be trusted.

On real motions of the test split, in pools of 32 drawn as the protocols draw them: how often a text finds its very motion,
how often a motion of the same content and side among its three nearest. And, for wordings that occur in no caption (those of
the probes): how often the nearest motion of the whole split does what is said. Beside each, what chance would find. Works
for anything that judges: the evaluator, or a TMR model.
"""

import logging
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from protos.bounds import REPLICATIONS, SEED, check_bounds
from protos.options import parse, run_command
from protos.processes import setup_logging

if TYPE_CHECKING:
    import numpy as np

    from evaluations.evaluation_set import EvaluationSet, Evaluator

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class EvalEvaluatorOptions:
    """Judge the judge."""

    dataset: str = "bandai_namco"
    """Prepared dataset whose clips have a content label: folder or known name."""
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

    def __post_init__(self) -> None:
        check_bounds(self, "--")


def judge_evaluator(options: EvalEvaluatorOptions) -> dict[str, tuple[float, float]]:
    """{metric: (evaluator, chance)}, means over the replications. ValueError where the clips have no content label."""
    import numpy as np

    from data_loaders.corpus import Corpus
    from evaluations import metrics
    from evaluations.evaluation_set import SetEmbeddings, real_set
    from evaluations.judges import default_evaluator, load_judge
    from evaluations.probes import RELABELLED
    from protos.processes import pick_device
    from protos.randomness import derive_seed

    corpus = Corpus.open(options.dataset)
    data = real_set(corpus, options.split)
    content = {name: labels.get("content", "") for name, labels in zip(corpus.names, corpus.labels)} | RELABELLED
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
    found = {name: (float(own), float(chance)) for name, (own, chance) in zip(names, np.mean(rows, axis=0))}
    if asked := unseen_wordings(set(labels)):
        found[f"unseen wordings ({len(asked)}): content and side first"] = first_hits(judge, data, labels, asked)
    return found


def unseen_wordings(contents: set[str]) -> list[tuple[str, set[str]]]:
    """(wording, contents that are right) of the probes for contents that occur; a clip that does it too is right as well."""
    from evaluations.probes import CONTENT_PROBES

    probes = [probe for probe in CONTENT_PROBES if probe.content in contents]
    return [(prompt, {probe.content, *probe.implied_by}) for probe in probes for prompt in probe.prompts]


def first_hits(
    judge: "Evaluator", data: "EvaluationSet", labels: "np.ndarray", asked: list[tuple[str, set[str]]]
) -> tuple[float, float]:
    """Share of wordings whose nearest motion of the whole set has a right label, and that share by chance."""
    import numpy as np

    from data_loaders.text import Caption
    from evaluations import metrics
    from evaluations.evaluation_set import embed_motion, embed_text

    whole = [data.motion(i, 0, int(frames) // data.unit_length * data.unit_length) for i, frames in enumerate(data.lengths)]
    gaps = metrics.euclidean(embed_text(judge, [Caption(text) for text, _ in asked]), embed_motion(judge, whole))
    right = np.array([np.isin(labels, list(contents)) for _, contents in asked])  # (wordings, motions)
    nearest = gaps.argmin(axis=1)
    return float(right[np.arange(len(asked)), nearest].mean()), float(right.mean())


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
