"""python -m evaluations.board --model_paths checkpoints/starter save/run: several models side by side, real motion first.

Evaluates each by the field's metrics and by the probes, or takes over reports that are there (`--reports`), and writes one
table (board.md, board.json) and one chart (board.png).
"""

import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

from protos.bounds import REPLICATIONS, SEED, Range, check_bounds
from protos.options import parse, run_command
from protos.processes import setup_logging
from sample.generation import STARTER

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class BoardOptions:
    """Put models side by side."""

    model_paths: tuple[str, ...] = (str(STARTER),)
    """Checkpoints to evaluate."""
    reports: tuple[Path, ...] = ()
    """Folders that evaluations.eval_humanml wrote, to be taken over; of the same dataset and protocol."""
    dataset: str = "bandai_namco"
    """humanml, kit, bandai_namco, or a folder made by data_loaders.prepare."""
    evaluator: Path | None = None
    """Evaluator to judge with (default: the published one of humanml and kit, ours of bandai_namco)."""
    protocol: Literal["t2m", "mdm", "t2mgpt", "momask", "lamp"] = "mdm"
    """Whose protocol."""
    eval_mode: Literal["debug", "wo_mm", "mm_short", "full"] = "wo_mm"
    """As in evaluations.eval_humanml."""
    replications: Annotated[int, REPLICATIONS] = 5
    """Replications of each evaluation."""
    num_motions: Annotated[int, Range(1, 1_000_000)] | None = None
    """Motions to make per replication (default: as the protocol says)."""
    controls: bool = False
    """Rows for shuffled captions and noise too."""
    probe_seeds: Annotated[int, Range(0, 10_000)] = 3
    """Motions per wording of the probes (0: no probes)."""
    seed: Annotated[int, SEED] = 10
    """Seed of everything."""
    device: str = "auto"
    """auto, cpu, cuda, cuda:1 or 1."""
    output_dir: Path | None = None
    """Folder for board.md, board.json and board.png (default: outputs/board_<dataset>)."""

    def __post_init__(self) -> None:
        check_bounds(self, "--")
        if not self.model_paths and not self.reports:
            raise ValueError("nothing to put on a board: give --model_paths or --reports")


def make_board(options: BoardOptions) -> Path:
    """Writes the board and returns its folder. ValueError or OSError, in a user's words."""
    from evaluations.board_table import board_chart, board_of, board_table
    from evaluations.eval_humanml import EvalOptions
    from evaluations.eval_humanml_run import evaluate
    from evaluations.eval_report import read_report
    from evaluations.tables import fresh_outputs, write_plain
    from protos.names import safe_name

    shared = {name: getattr(options, name) for name in
              ("dataset", "evaluator", "protocol", "eval_mode", "replications", "num_motions", "controls", "seed", "device")}
    reports = [read_report(path) for path in options.reports]
    for path in dict.fromkeys(options.model_paths):
        report = evaluate(EvalOptions(model_path=path, **shared))
        report["probes"] = probe_rates(options, path) if options.probe_seeds else None
        reports.append(report)
    board = board_of(reports)
    outputs = fresh_outputs(options.output_dir or Path("outputs") / f"board_{safe_name(reports[0]['dataset'])}", "board")
    write_plain(outputs, "board.json", board)
    outputs.write("board.md", board_table(board) + "\n")
    board_chart(outputs.path("board.png"), board)
    print(board_table(board))
    log.info("board.md, board.json and board.png in %s", outputs.folder)
    return outputs.folder


def probe_rates(options: BoardOptions, path: str) -> dict:
    """What share of the probes a model passes, by group."""
    from evaluations.eval_probes import EvalProbesOptions, evaluate

    probes = EvalProbesOptions(
        model_path=Path(path), dataset=options.dataset, seeds=options.probe_seeds, physics_clips=0, device=options.device
    )
    return evaluate(probes)["summary"]


def main(argv: list[str] | None = None) -> None:
    options = parse(BoardOptions, argv, __doc__)
    setup_logging()
    make_board(options)


if __name__ == "__main__":
    run_command(main)
