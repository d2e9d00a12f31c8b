"""python -m evaluations.eval_localize --model_path FOLDER: does a model find the moment that a text describes?

Real clips of a split are joined into long motions; each clip's first caption is looked for in its long motion, as
`sample.retrieve localize` does. Clips whose captions may mean the same never share a long motion.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from protos.flags import SEED, Range, at_most
from protos.options import command, run_command
from sample.sliding import Sliding

ALIASES = {"evaluator": "model_path", "run_dir": "model_path"}


@dataclass(frozen=True, kw_only=True)
class LocalizeEvaluationOptions(Sliding):
    """Measure moment retrieval."""

    model_path: Path
    """What embeds texts and motions: folder of TMR or of an evaluator."""
    dataset: str | None = None
    """Prepared dataset: folder or known name (default: that which the model was trained on)."""
    split: str = "test"
    """Split of the dataset; mirrored clips are left out."""
    num_motions: Annotated[int, Range(1, 100_000)] = 50
    """Long motions to make, at most."""
    clips_per_motion: Annotated[int, Range(2, 1000)] = 5
    """Clips in each."""
    transition_seconds: Annotated[float, Range(0, 3600)] = 0.5
    """Time to get from the last pose of a clip to the first of the next."""
    seed: Annotated[int, SEED] = 10
    """Seed of which clips are joined."""
    device: str = "auto"
    """auto, cpu, cuda, cuda:1 or 1."""
    output_dir: Path | None = None
    """Folder for report.json, report.md and report.csv (default: outputs/localize_<model>_<dataset>_<split>)."""


def run(options: LocalizeEvaluationOptions) -> None:
    from data_loaders.corpus import Corpus
    from evaluations.localization import localization_report, long_motions
    from evaluations.settings import chosen_dataset
    from model.embedding import open_space
    from protos.files import file_name, safe_name
    from protos.processes import pick_device

    corpus = Corpus.open(chosen_dataset(options.dataset, options.model_path))
    space = open_space(options.model_path, pick_device(options.device), corpus)
    motions = long_motions(corpus, options.split, options.num_motions, options.clips_per_motion, options.transition_seconds,
                           options.seed)  # fmt: skip
    at_most(options.num_motions, len(motions), "--num_motions", f"what split {options.split} of {corpus.folder} can be joined to")
    report = localization_report(space, options.model_path, corpus, options.split, motions, options)
    name = safe_name(f"localize_{file_name(options.model_path.resolve().name)}_{corpus.folder.name}_{options.split}")
    report.publish(options.output_dir or Path("outputs") / name, "report of localization")


main = command(LocalizeEvaluationOptions, run, __doc__, ALIASES)

if __name__ == "__main__":
    run_command(main)
