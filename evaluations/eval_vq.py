"""python -m evaluations.eval_vq --model_path FOLDER: what motion loses when it is told by a tokenizer's codes.

The field's metrics of motions that come back from their tokens, real motion first, and how far their joints lie from where they
were. The same command goes on where it was interrupted.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from evaluations.settings import MODES, TokenizerSettings
from protos.flags import REPLICATIONS
from protos.options import command, run_command

if TYPE_CHECKING:
    from evaluations.metrics_report import Measured


@dataclass(frozen=True, kw_only=True)
class EvalVQOptions(TokenizerSettings):
    """Judge a motion tokenizer."""

    replications: Annotated[int, REPLICATIONS] | None = None
    """Replications (default: as --eval_mode says)."""
    device: str = "auto"
    """auto, cpu, cuda, cuda:1 or 1."""
    output_dir: Path | None = None
    """Folder for the reports; a run with the same settings on the same data is gone on with (default:
    outputs/eval_<what>_<dataset>_<protocol>, with `_2` added where another one is there)."""
    overwrite: bool = False
    """Begin anew in a folder that holds an evaluation."""


def run(options: EvalVQOptions) -> "Measured":
    """What the report says. ValueError or OSError in a user's words."""
    from evaluations.text_to_motion import measure
    from evaluations.tokens import TOKENS, tokens_report
    from protos.processes import Processes

    replications = MODES[options.eval_mode][0] if options.replications is None else options.replications
    found = measure(options, replications, Processes(options.device), output_dir=options.output_dir, overwrite=options.overwrite,
                    cast=TOKENS)  # fmt: skip
    print(tokens_report(found).markdown())
    return found


main = command(EvalVQOptions, run, __doc__, {"repeat_times": "replications"})

if __name__ == "__main__":
    run_command(main)
