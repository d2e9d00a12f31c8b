"""python -m evaluations.eval_interhuman --model_path FOLDER: the field's metrics of a model of two people, real motion first.

Beside them what is published and what users of the released files measure, chance, controls that every judge should tell from
real motion, and what lies between the two bodies. The same command goes on where it was interrupted; `--processes N` shares the
work between processes, with the same numbers.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from evaluations.settings import MODES, CourseSettings, InteractionSettings, ReactionSettings
from protos.flags import REPLICATIONS, with_defaults
from protos.options import command, run_command

if TYPE_CHECKING:
    from evaluations.metrics_report import Measured
    from evaluations.reactions import Reactions

ALIASES = {"repeat_times": "replications"}


@dataclass(frozen=True, kw_only=True)
@with_defaults(batch_size=32)
class EvalInterhumanOptions(CourseSettings, ReactionSettings, InteractionSettings):
    """Judge a model of two people by a published protocol."""

    replications: Annotated[int, REPLICATIONS] | None = None
    """Replications (default: as --eval_mode and the protocol say)."""

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("motions", "num_motions", "replications") if self.task == "reaction" else ():
            if getattr(self, name) is not None:
                raise ValueError(f"--{name} belongs to --task text")


def run(options: EvalInterhumanOptions) -> "Measured | Reactions | None":
    """What the report says, in the main process. ValueError, after it is written, where given motions are unreadable."""
    return judge_reactions(options) if options.task == "reaction" else judge_texts(options)


def judge_texts(options: EvalInterhumanOptions) -> "Measured | None":
    """Of a model that makes both people out of captions."""
    from evaluations.interactions import TWO_PEOPLE
    from evaluations.protocol import PROTOCOLS
    from evaluations.text_to_motion import measure, require_readable
    from protos.processes import Processes

    fewer, _ = MODES[options.eval_mode]
    replications = options.replications or min(fewer, PROTOCOLS[options.protocol].replications)
    found = measure(options, replications, Processes(options.device), options.batch_size, options.output_dir, options.overwrite,
                    TWO_PEOPLE)  # fmt: skip
    if found is not None:
        print(TWO_PEOPLE.report(found, ()).markdown())
        require_readable(found)
    return found


def judge_reactions(options: EvalInterhumanOptions) -> "Reactions | None":
    """Of a model that answers what one of two people does."""
    from evaluations.reaction_report import reaction_report
    from evaluations.reactions import measure_reactions
    from protos.files import file_name, numbered_folder, safe_name
    from protos.outputs import Outputs
    from protos.processes import Processes

    def outputs(folder: Path) -> Outputs:
        return Outputs(folder, "report of reactions", overwrite=options.overwrite, flag="--output_dir")

    wanted = options.output_dir and outputs(options.output_dir)  # refused before the work, where it is to be
    measured = measure_reactions(options, options, Processes(options.device), options.batch_size)
    if measured is None:
        return None
    found, lines = measured
    name = f"eval_reaction_{file_name(Path(found.what).name)}_{safe_name(found.dataset)}"
    report = reaction_report(found, lines)
    report.write(wanted or outputs(numbered_folder(Path("outputs") / name)))
    print(report.markdown())
    return found


main = command(EvalInterhumanOptions, run, __doc__, ALIASES, ignored={"mode": "the checkpoint says it"})

if __name__ == "__main__":
    run_command(main)
