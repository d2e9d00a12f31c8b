"""python -m evaluations.eval_humanml --model_path FOLDER: the field's metrics of a text-to-motion model, real motion first.

Judges a model of this project, real motion (`--model_path real`), or motions of any other program (`--motions DIR`).
The same command goes on where it was interrupted. `--processes N` shares the work between processes, with the
same numbers.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from evaluations.settings import MODES, EvaluationSettings
from protos.flags import BATCH_SIZE, PROCESSES, REPLICATIONS
from protos.options import KNOWN_BY_CHECKPOINT, command, run_command

if TYPE_CHECKING:
    from evaluations.metrics_report import Measured

ALIASES = {"repeat_times": "replications"}


@dataclass(frozen=True, kw_only=True)
class EvalOptions(EvaluationSettings):
    """Judge a text-to-motion model by a published protocol."""

    replications: Annotated[int, REPLICATIONS] | None = None
    """Replications (default: as --eval_mode says)."""
    batch_size: Annotated[int, BATCH_SIZE] = 64
    """Motions made at once."""
    device: str = "auto"
    """auto, cpu, cuda, cuda:1 or 1; of several processes each takes a GPU of its own, or its part of the CPU."""
    processes: Annotated[int, PROCESSES] = 1
    """Processes on this machine that share the work."""
    output_dir: Path | None = None
    """Folder for the reports; a run with the same settings on the same data is gone on with (default:
    outputs/eval_<what>_<dataset>_<protocol>, with `_2` added where another one is there)."""
    overwrite: bool = False
    """Begin anew in a folder that holds an evaluation."""


def run(options: EvalOptions) -> "Measured | None":
    """What the report says, in the main process. ValueError, after it is written, where given motions are unreadable."""
    from evaluations.metrics_report import metrics_report
    from evaluations.text_to_motion import measure, require_readable
    from protos.processes import Processes

    replications = MODES[options.eval_mode][0] if options.replications is None else options.replications
    found = measure(options, replications, Processes(options.device), options.batch_size, options.output_dir, options.overwrite)
    if found is not None:
        print(metrics_report(found).markdown())
        require_readable(found)
    return found


main = command(EvalOptions, run, __doc__, ALIASES, ignored=KNOWN_BY_CHECKPOINT)

if __name__ == "__main__":
    run_command(main)
