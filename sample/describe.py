"""python -m sample.describe MOTION --as semantics, or pose_codes: what happens in a motion file, as a timeline."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

from tyro.conf import Positional, arg

from data_loaders.sources import Reading
from protos.flags import Range
from protos.options import command, run_command

SUFFIXES = (".txt", ".json")


@dataclass(frozen=True, kw_only=True)
class DescribeOptions(Reading):
    """Say what is done in a motion file, and when, of everybody in it."""

    motion: Positional[Path]
    """.npy joints (T, J, 3), of several people (P, T, J, 3), in metres, Y up; .npz AMASS or joints; .bvh; a sampled
    motions.npz#ROW."""
    system: Annotated[Literal["semantics", "pose_codes"], arg(name="as")] = "semantics"
    """semantics: how limbs bend and point, where hands and feet are, how they move, as LS-ReMGM reads an actor; pose_codes: how
    poses differ from standing, as PGR2M and CoMo write motion down, left and right as the body faces at the beginning."""
    shortest: Annotated[float, Range(0, 3600)] = 0.2
    """Seconds below which something is no event of its own."""
    output: Path | None = None
    """File to write it to, .txt or .json (default: it is printed alone); one that is there is not replaced."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.output is not None and self.output.suffix.lower() not in SUFFIXES:
            raise ValueError(f"--output {self.output}: expected a file that ends in {' or '.join(SUFFIXES)}")


def run(options: DescribeOptions) -> None:
    """Prints the timeline. FileError for a file that holds no motion of people."""
    from data_loaders.corpus import Motion
    from data_loaders.motion_features import read_people
    from data_loaders.motion_words import FPS, describe, timeline
    from data_loaders.pose_code_table import RATES
    from data_loaders.pose_code_words import describe_codes
    from data_loaders.skeleton import load_skeleton
    from protos.files import encode_json
    from protos.outputs import require_new, write_new

    require_new(options.output)
    fps, say = {"semantics": (FPS, describe), "pose_codes": (RATES["humanml"], describe_codes)}[options.system]
    people = read_people(options.motion, load_skeleton("humanml"), fps, options)
    events = say(Motion(people, fps), options.shortest)
    told = timeline(events, len(people) > 1)
    print(told or "nothing that is worth a word: the motion stands upright and still")
    if options.output is None:
        return
    if options.output.suffix.lower() == ".json":
        report = {"motion": str(options.motion), "as": options.system, "people": len(people),
                  "seconds": round(people.shape[1] / fps, 3), "events": [each.record() for each in events]}  # fmt: skip
        told = encode_json(report, str(options.output))
    write_new(options.output, told.rstrip("\n") + "\n")


main = command(DescribeOptions, run, __doc__)

if __name__ == "__main__":
    run_command(main)
