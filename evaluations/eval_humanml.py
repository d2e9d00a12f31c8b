"""python -m evaluations.eval_humanml --model_path FOLDER: the field's metrics of a text-to-motion model, real motion first.

Judges a model of this project, real motion (`--model_path real`), or motions of any other program (`--motions DIR`).
The same command goes on where it was interrupted. `--processes N` shares the work between processes, with the
same numbers.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

from evaluations.settings import MODES, CourseSettings, EvaluationSettings
from protos.flags import REPLICATIONS
from protos.options import KNOWN_BY_CHECKPOINT, command, run_command

if TYPE_CHECKING:
    from evaluations.metrics_report import Measured

ALIASES = {"repeat_times": "replications"}


@dataclass(frozen=True, kw_only=True)
class EvalOptions(CourseSettings, EvaluationSettings):
    """Judge a text-to-motion model by a published protocol."""

    replications: Annotated[int, REPLICATIONS] | None = None
    """Replications (default: as --eval_mode says)."""


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
