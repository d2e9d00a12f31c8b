"""python -m evaluations.eval_dualmdm --model_path FOLDER: how much individual variety DualMDM adds to two people (EID).

FOLDER holds a blend with both its parts; or give the model of two people and, by --individual_path, that of one. The published
protocol makes 100 clips x 64 motions five times: --clips and --motions make it smaller.
"""

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from protos.flags import BATCH_SIZE, REPLICATIONS, SEED, Range, at_most
from protos.options import command, run_command
from sample.generation import DecodingSettings

if TYPE_CHECKING:
    from evaluations.individual_diversity import Diversity


@dataclass(frozen=True, kw_only=True)
class EvalDualMDMOptions(DecodingSettings):
    """Measure the individual diversity of a blend of two models."""

    model_path: Path
    """Checkpoint of a blend, of a model of two people made of a prior, or, with --individual_path, of any of two people."""
    individual_path: Path | None = None
    """Checkpoint of the model of one person, where --model_path does not hold it."""
    dataset: str | None = None
    """Prepared dataset of two people whose test clips are made (default: that which the model of two people was trained on)."""
    texts: str | None = None
    """Dataset of one person, by whose captions each person is told something else (default: that of the model of one person)."""
    evaluator: Path | None = None
    """Judge whose vectors of motion are compared (default: as evaluations.eval_interhuman has it)."""
    clips: Annotated[int, Range(1, 100_000)] = 100
    """Test clips, or all where there are fewer."""
    motions: Annotated[int, Range(2, 10_000)] = 32
    """Motions of each clip in either set."""
    replications: Annotated[int, REPLICATIONS] = 5
    """Replications."""
    seed: Annotated[int, SEED] = 10
    """Seed: the same seed gives the same numbers."""
    batch_size: Annotated[int, BATCH_SIZE] = 32
    """Motions made at once."""
    device: str = "auto"
    """auto, cpu, cuda, cuda:1 or 1."""
    output_dir: Path | None = None
    """Folder for report.json, report.md and report.csv (default: outputs/eval_dualmdm_<dataset>)."""


def run(options: EvalDualMDMOptions) -> "Diversity":
    """Writes the report. ValueError or OSError in a user's words."""
    from tqdm import tqdm

    from data_loaders.corpus import Corpus
    from evaluations.individual_diversity import (
        Diversity,
        DiversityProtocol,
        IndividualDiversity,
        captions_of,
        diversity_report,
        summary,
    )
    from evaluations.interaction_set import interaction_set
    from evaluations.report import checkpoint_stamp, command_line
    from model.dualmdm import load_dual
    from model.embedding import default_evaluator, open_space
    from protos.files import safe_name
    from protos.processes import pick_device

    device = pick_device(options.device)
    model = load_dual(options.model_path, options.individual_path).to(device).eval()
    corpus = Corpus.open(options.dataset or model.interaction.config.dataset)
    told = Corpus.open(options.texts or model.individual.config.dataset)
    evaluator = options.evaluator or default_evaluator(corpus)
    judge, data = open_space(evaluator, device, corpus), interaction_set(corpus)
    clips = at_most(options.clips, len(data), "--clips", f"the test split of {corpus.folder}")
    protocol = DiversityProtocol(clips, options.motions, options.replications)
    evaluation = IndividualDiversity(model, data, judge, captions_of(told), protocol, options.decoding(options.batch_size),
                                     options.seed)  # fmt: skip
    values = [evaluation.replicate(number)
              for number in tqdm(range(protocol.replications), "replications", unit="", disable=None)]  # fmt: skip
    found = Diversity(
        what=str(options.model_path), dataset=corpus.folder.name, texts=told.folder.name, evaluator=str(evaluator),
        seed=options.seed, rows=summary(values), values=values, **asdict(protocol),
        command=command_line("evaluations.eval_dualmdm"),
        made_from={
            "dataset": corpus.stamp, "texts": told.stamp, "evaluator": checkpoint_stamp(evaluator),
            "model": checkpoint_stamp(options.model_path),
            "individual": options.individual_path and checkpoint_stamp(options.individual_path),
        },
    )  # fmt: skip
    folder = options.output_dir or Path("outputs") / f"eval_dualmdm_{safe_name(found.dataset)}"
    diversity_report(found, asdict(found)).publish(folder, "report of individual diversity")
    return found


main = command(EvalDualMDMOptions, run, __doc__)

if __name__ == "__main__":
    run_command(main)
