"""python -m evaluations.board --model_paths checkpoints/starter save/run: several models side by side, real motion first.

Evaluates each by the field's metrics and by the probes, or takes over reports that are there (`--reports`), and writes one
table (board.md, board.json, board.csv) and one chart (board.png).
"""

from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Annotated

from evaluations.settings import REAL_MOTION, EvaluationSettings, ProtocolSettings, chosen_dataset
from protos.flags import REPLICATIONS, Range
from protos.options import command, run_command
from sample.generation import STARTER


@dataclass(frozen=True, kw_only=True)
class BoardOptions(ProtocolSettings):
    """Put models side by side."""

    model_paths: tuple[str, ...] = (str(STARTER),)
    """Checkpoints to evaluate."""
    reports: tuple[Path, ...] = ()
    """Folders that evaluations.eval_humanml wrote, to be taken over; of the same dataset and protocol."""
    replications: Annotated[int, REPLICATIONS] = 5
    """Replications of each evaluation."""
    probe_seeds: Annotated[int, Range(0, 10_000)] = 3
    """Motions per wording of the probes (0: no probes)."""
    captioner: Path | None = None
    """Checkpoint of a model that describes motion: adds LaMP-BertScore, how like their prompts its words of their motions are."""
    described_motions: Annotated[int, Range(1, 1_000_000)] = 256
    """Motions that it describes, for captions of the test split that are drawn at random."""
    device: str = "auto"
    """auto, cpu, cuda, cuda:1 or 1."""
    output_dir: Path | None = None
    """Folder for board.md, board.json, board.csv and board.png (default: outputs/board_<dataset>)."""

    def __post_init__(self) -> None:
        if not self.model_paths and not self.reports:
            raise ValueError("nothing to put on a board: give --model_paths or --reports")
        if self.captioner is not None and not self.model_paths:
            raise ValueError("--captioner describes what models make: give --model_paths")


def run(options: BoardOptions) -> None:
    """Writes the board. ValueError where two entrants cannot stand side by side."""
    from evaluations.lamp_bertscore import MotionReader
    from evaluations.metrics_report import Measured, board_chart, board_report
    from evaluations.probe_report import pass_rates
    from evaluations.report import command_line, read_report
    from evaluations.text_to_motion import measure
    from protos.files import safe_name
    from protos.processes import Processes

    shared = {each.name: getattr(options, each.name) for each in fields(ProtocolSettings)}
    found = [read_report(path, Measured, "evaluations.eval_humanml") for path in options.reports]
    paths, reader = list(dict.fromkeys(options.model_paths)), None
    if paths:
        shared["dataset"] = chosen_dataset(options.dataset, paths[0])
    if options.captioner is not None:
        reader = MotionReader(options.captioner, shared["dataset"], options.described_motions, options.seed, options.device)
    for path in paths:
        measured = measure(EvaluationSettings(model_path=path, **shared), options.replications, Processes(options.device))
        asked = options.probe_seeds if path != REAL_MOTION else 0
        probes = pass_rates(path, shared["dataset"], asked, options.device) if asked else None
        measured = replace(measured, probes=probes)
        found.append(reader.scored(measured, path) if reader else measured)
    report = board_report(found, command_line("evaluations.board"))
    folder = options.output_dir or Path("outputs") / f"board_{safe_name(found[0].dataset)}"
    outputs = report.publish(folder, "board", "board")
    board_chart(outputs.path("board.png"), report.facts)


main = command(BoardOptions, run, __doc__)

if __name__ == "__main__":
    run_command(main)
