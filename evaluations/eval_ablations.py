"""python -m evaluations.eval_ablations --model_paths save/run_1 save/run_2 ...: what is each part of a reaction model worth?

Checkpoints of train.train_reaction, complete ones and such as do without a part (`--no_semantics`, ...), several seeds each: a
row for each part, with what leaving it out costs beside the complete model, and for answers that need no model.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from evaluations.settings import chosen_dataset
from protos.flags import BATCH_SIZE, SEED, Range
from protos.options import command, run_command
from sample.generation import DecodingSettings

if TYPE_CHECKING:
    from evaluations.ablations import Ablations


@dataclass(frozen=True, kw_only=True)
class EvalAblationsOptions(DecodingSettings):
    """Judge reaction models that do without a part beside complete ones."""

    model_paths: tuple[Path, ...]
    """Checkpoints, or folders of runs; they differ in the parts that they do without, and in their seeds."""
    dataset: str | None = None
    """Prepared dataset of two people, a folder or known name (default: that which the first was trained on)."""
    evaluator: Path | None = None
    """Judge (default: as evaluations.eval_interhuman has it)."""
    samples: Annotated[int, Range(1, 10_000)] = 10
    """Reactions of each action: MPJPE is the mean over them, and the least beside it."""
    with_text: bool = False
    """Tell the models what the two do, as well."""
    seed: Annotated[int, SEED] = 10
    """Seed: the same seed gives the same numbers."""
    batch_size: Annotated[int, BATCH_SIZE] = 32
    """Motions made at once."""
    device: str = "auto"
    """auto, cpu, cuda, cuda:1 or 1."""
    output_dir: Path | None = None
    """Folder for the report (default: outputs/ablations_<dataset>); an existing one is kept, `_2` is added."""

    def __post_init__(self) -> None:
        if not self.model_paths:
            raise ValueError("--model_paths: give the checkpoints to compare")


def run(options: EvalAblationsOptions) -> "Ablations":
    """Writes the report. ValueError or OSError, in a user's words, for models that cannot be compared."""
    from data_loaders.corpus import Corpus
    from evaluations.ablations import Ablations, Comparison, ablation_report, beside_complete, grouped, spread_of, summary
    from evaluations.interaction_set import interaction_set
    from evaluations.reactions import judge_at
    from evaluations.report import checkpoint_stamp, command_line
    from model.capabilities import Reacts
    from model.checkpoints import from_pretrained
    from model.embedding import default_evaluator
    from model.registry import able
    from protos.files import safe_name
    from protos.processes import pick_device

    device, paths = pick_device(options.device), list(dict.fromkeys(options.model_paths))
    models = {path: from_pretrained(path, device, systems=able(Reacts)) for path in paths}
    corpus = Corpus.open(chosen_dataset(options.dataset, paths[0]))
    for path, model in models.items():
        model.features.require(corpus.features, str(path), f"dataset {corpus.folder}")
    rows, evaluator = grouped(models), options.evaluator or default_evaluator(corpus)
    space = judge_at(evaluator, options.evaluator is not None, device, corpus)
    longest = min(model.config.max_frames for model in models.values())
    comparison = Comparison(corpus, interaction_set(corpus), space, longest, options.samples, options.seed, options.with_text)
    decoding = options.decoding(options.batch_size)
    runs = {row: [comparison.of_model(models[path], decoding) for path in own] for row, own in rows.items()}
    runs |= {row: [found] for row, found in comparison.without_model().items()}
    found = Ablations(
        dataset=corpus.folder.name, evaluator=space and str(evaluator), segments=len(comparison.data), samples=options.samples,
        seed=options.seed, text=options.with_text, runs={row: [str(path) for path in own] for row, own in rows.items()},
        rows=summary(runs), spread=spread_of(runs), beside=beside_complete(runs),
        command=command_line("evaluations.eval_ablations"),
        made_from={"dataset": corpus.stamp, "evaluator": space and checkpoint_stamp(evaluator),
                   **{f"model {path.name}": checkpoint_stamp(path) for path in paths}},
    )  # fmt: skip
    ablation_report(found).publish(options.output_dir or Path("outputs") / f"ablations_{safe_name(found.dataset)}",
                                   "report of ablations")  # fmt: skip
    return found


main = command(EvalAblationsOptions, run, __doc__)

if __name__ == "__main__":
    run_command(main)
