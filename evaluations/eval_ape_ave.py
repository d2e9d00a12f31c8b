"""python -m evaluations.eval_ape_ave --generated FOLDER --reference FOLDER: APE and AVE of KIT motions, as TEMOS is measured.

Both folders hold NAME.npy, joints (T, 21, 3) of the MMM skeleton in millimetres, Y up; several samples of a motion are
NAME_0.npy, NAME_1.npy, ... Published figures are taken at 100 frames per second: --upsample 8 brings 12.5 there.
"""

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

from protos.flags import Range
from protos.options import command, run_command


@dataclass(frozen=True)
class ApeAveOptions:
    """Measure how far generated joints lie from recorded ones, and how unlike their spread is."""

    generated: Path
    """Folder of generated motions."""
    reference: Path
    """Folder of the recordings."""
    pick: Literal["avg", "first", "best", "worst"] = "avg"
    """Of several samples: the mean of their figures, the first, or that whose root strays least or most."""
    upsample: Annotated[int, Range(1, 1000)] = 1
    """Put so many frames in the place of each generated one, on straight lines between two (8: from 12.5 to 100 fps)."""
    output: Path | None = None
    """YAML file to write the figures to, in metres; one that is there is not replaced."""


def run(options: ApeAveOptions) -> None:
    """Ends with ValueError where recordings were left out; the figures are those of the others."""
    from evaluations.ape_ave import figures, read_pairs
    from protos.outputs import require_new, write_new
    from protos.tables import table

    require_new(options.output)
    pairs, left_out = read_pairs(options.generated, options.reference, options.upsample)
    found = figures(pairs, options.pick)
    if bad := [name for name, value in found.items() if not math.isfinite(value)]:
        raise ValueError(f"{bad[0]} of {options.generated} is not finite: are its joints in millimetres?")
    print(table(["metres", "root", "traj", "mean pose", "mean joints"], [
        [kind, *(f"{found[f'{kind}_{part}']:.3f}" for part in ("root", "traj", "mean_pose", "mean_joints"))]
        for kind in ("APE", "AVE")
    ]))  # fmt: skip
    if options.output:
        write_new(options.output, "".join(f"{name}: {value:.5f}\n" for name, value in found.items()))
    if left_out:
        raise ValueError(f"{len(left_out)} recordings were left out ({', '.join(list(left_out)[:3])}): "
                         "the figures are those of the others")  # fmt: skip


main = command(ApeAveOptions, run, __doc__)

if __name__ == "__main__":
    run_command(main)
