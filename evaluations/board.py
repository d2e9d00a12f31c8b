"""python -m evaluations.board --model_paths checkpoints/starter save/run: several models side by side, real motion first.

Evaluates each by the field's metrics and by the probes, or takes over reports that are there (`--reports`), and writes one
table (board.md, board.json) and one chart (board.png).
"""

import logging
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Annotated

from evaluations.settings import EvaluationSettings, ProtocolSettings
from protos.bounds import REPLICATIONS, Range
from protos.options import command, run_command
from sample.generation import STARTER

log = logging.getLogger(__name__)


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
    device: str = "auto"
    """auto, cpu, cuda, cuda:1 or 1."""
    output_dir: Path | None = None
    """Folder for board.md, board.json and board.png (default: outputs/board_<dataset>)."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.model_paths and not self.reports:
            raise ValueError("nothing to put on a board: give --model_paths or --reports")


def run(options: BoardOptions) -> None:
    from evaluations.board_table import board_chart, board_of, board_report
    from evaluations.metrics_report import read_report
    from evaluations.report import command_line
    from evaluations.tables import fresh_outputs
    from evaluations.text_to_motion import evaluate
    from protos.names import safe_name
    from protos.processes import Processes

    shared = {each.name: getattr(options, each.name) for each in fields(ProtocolSettings)}
    found = [read_report(path) for path in options.reports]
    for path in dict.fromkeys(options.model_paths):
        judged = evaluate(EvaluationSettings(model_path=path, **shared), options.replications, Processes(options.device)).facts
        judged["probes"] = probe_rates(options, path) if options.probe_seeds else None
        found.append(judged)
    report = board_report(board_of(found), command_line("evaluations.board"))
    outputs = fresh_outputs(options.output_dir or Path("outputs") / f"board_{safe_name(found[0]['dataset'])}", "board")
    report.write(outputs, "board")
    board_chart(outputs.path("board.png"), report.facts)
    print(report.markdown())
    log.info("board.md, board.json and board.png in %s", outputs.folder)


def probe_rates(options: BoardOptions, path: str) -> dict:
    """What share of the probes a model passes, by group."""
    from functools import partial

    from data_loaders.corpus import Corpus
    from evaluations.probe_run import measure
    from evaluations.probes import probes_for
    from sample.generation import generate, load

    corpus, model = Corpus.open(options.dataset), load(path, options.device)
    return measure(partial(generate, model=model), model.config.fps, probes_for(corpus), corpus, options.probe_seeds)


main = command(BoardOptions, run, __doc__)

if __name__ == "__main__":
    run_command(main)
