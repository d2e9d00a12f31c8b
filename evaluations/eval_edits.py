"""python -m evaluations.eval_edits --model_path FOLDER: is a motion edited as words say, and nothing else?

Real clips of the test split are edited by a model over pose codes (CoMo, PGR2M) in each of the ways of
evaluations/edit_probes.toml; rules on joints tell whether what was asked for came about, and how far the rest moved.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from evaluations.settings import DecodingSettings, chosen_dataset
from protos.flags import SEED, Range
from protos.options import command, run_command
from sample.generation import PGR2M


@dataclass(frozen=True, kw_only=True)
class EvalEditsOptions(DecodingSettings):
    """Judge a model that edits by rules on joints."""

    model_path: Path = PGR2M
    """Checkpoint over pose codes: of train.train_refine_trans, or of a tokenizer alone."""
    dataset: str | None = None
    """Prepared dataset with the real clips: folder or known name (default: the checkpoint's own)."""
    split: str = "test"
    """Split of the dataset."""
    clips: Annotated[int, Range(1, 1_000_000)] = 30
    """Clips that each edit is made in, at most: spread over those of which it asks something."""
    only: str | None = None
    """Only edits that begin so ("raise the left arm")."""
    seed: Annotated[int, SEED] = 0
    """Seed of the detail that edited poses get."""
    device: str = "auto"
    """auto, cpu, cuda, cuda:1 or 1."""
    output_dir: Path | None = None
    """Folder for the report (default: outputs/edits_<checkpoint>); an existing one is kept, `_2` is added."""


def run(options: EvalEditsOptions) -> None:
    """Writes the report."""
    from data_loaders.corpus import Corpus
    from evaluations.edit_probes import edit_probes, edit_report, probe_edits, real_clips
    from evaluations.report import checkpoint_stamp, command_line
    from model.capabilities import Edits
    from model.checkpoints import from_pretrained
    from model.registry import able
    from protos.files import safe_name
    from protos.processes import pick_device
    from sample.edits import require_edited

    probes = edit_probes(options.only)
    model = from_pretrained(options.model_path, pick_device(options.device), systems=able(Edits))
    require_edited(model.features)
    corpus = Corpus.open(chosen_dataset(options.dataset, options.model_path))
    model.features.require(corpus.features, f"checkpoint {options.model_path}", f"dataset {corpus.folder}")
    found = probe_edits(model, probes, real_clips(corpus, options.split), options.clips, options.seed, options.decoding(1))
    facts = {
        "model": str(options.model_path), "command": command_line("evaluations.eval_edits"),
        "settings": {name: getattr(options, name) for name in ("split", "clips", "seed", "temperature", "top_k")},
        "made_from": {"dataset": corpus.stamp, "model": checkpoint_stamp(options.model_path)},
    }  # fmt: skip
    folder = options.output_dir or Path("outputs") / f"edits_{safe_name(options.model_path.resolve().name)}"
    edit_report(facts, found).publish(folder, "report of edits")


main = command(EvalEditsOptions, run, __doc__)

if __name__ == "__main__":
    run_command(main)
