"""python -m evaluations.eval_ape_ave --generated FOLDER --reference FOLDER: APE and AVE of KIT motions, as TEMOS is measured.

Both folders hold NAME.npy, joints (T, 21, 3) of the MMM skeleton in millimetres, Y up; several samples of a motion are
NAME_0.npy, NAME_1.npy, ... Published figures are taken at 100 frames per second: --upsample 8 brings 12.5 there.
"""

import logging
import math
import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from protos.bounds import Range, check_bounds
from protos.options import one_line, parse, run_command
from protos.processes import setup_logging

if TYPE_CHECKING:
    from torch import Tensor

log = logging.getLogger(__name__)


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

    def __post_init__(self) -> None:
        check_bounds(self, "--")


def figures(options: ApeAveOptions) -> tuple[dict[str, float], dict[str, str]]:
    """The eight numbers, in metres, and the recordings that were left out, and why. ValueError or OSError in a user's words."""
    from evaluations.ape_ave import ape_ave

    pairs, left_out = read_pairs(options)
    if options.pick != "avg":
        found = ape_ave(pairs, options.pick)
    else:
        count = min(len(samples) for _, samples in pairs)
        each = [ape_ave([(reference, samples[k : k + 1]) for reference, samples in pairs]) for k in range(count)]
        found = {name: sum(one[name] for one in each) / count for name in each[0]}
    if bad := [name for name, value in found.items() if not math.isfinite(value)]:
        raise ValueError(f"{bad[0]} of {options.generated} is not finite: are its joints in millimetres?")
    return found, left_out


def read_pairs(options: ApeAveOptions) -> "tuple[list[tuple[Tensor, list[Tensor]]], dict[str, str]]":
    """Each recording with its samples, and those that were left out since a file of theirs cannot be used.

    FileNotFoundError where a recording has no sample, ValueError where none is left.
    """
    import torch

    from data_loaders.mocap import read_joints_npy
    from data_loaders.rifke import MMM_JOINTS, upsampled

    def read(path: Path) -> torch.Tensor:
        joints = read_joints_npy(path, len(MMM_JOINTS))
        if len(joints) < 3:
            raise ValueError(f"{path}: {len(joints)} frames have no variance, expected at least 3")
        return torch.from_numpy(joints).double()

    recordings = sorted(options.reference.glob("*.npy"))
    names = {path.stem for path in recordings}
    generated: dict[str, dict[int, Path]] = {}  # name of the recording -> its samples by number; -1: the only one
    for path in options.generated.glob("*.npy"):
        numbered = None if path.stem in names else re.fullmatch(r"(.+)_([0-9]{1,9})", path.stem)
        name, number = (numbered[1], int(numbered[2])) if numbered else (path.stem, -1)
        generated.setdefault(name, {})[number] = path
    pairs, left_out = [], {}
    for path in recordings:
        if path.stem not in generated:
            raise FileNotFoundError(f"{options.generated} holds neither {path.name} nor {path.stem}_0.npy")
        samples = [generated[path.stem][number] for number in sorted(generated[path.stem])]
        try:
            pairs.append((read(path), [upsampled(read(sample), options.upsample) for sample in samples]))
        except (OSError, ValueError) as error:
            left_out[path.stem] = one_line(error)
            log.warning("%s is left out: %s", path.stem, left_out[path.stem])
    if not pairs:
        raise FileNotFoundError(f"{options.reference} holds no .npy file{' that can be used' if left_out else ''}")
    return pairs, left_out


def main(argv: list[str] | None = None) -> None:
    """Ends with code 1 where recordings were left out; the figures are those of the others."""
    options = parse(ApeAveOptions, argv, __doc__)
    setup_logging()
    from evaluations.tables import table
    from protos.files import write_atomically
    from protos.outputs import require_new

    require_new(options.output)
    found, left_out = figures(options)
    print(table(["metres", "root", "traj", "mean pose", "mean joints"], [
        [kind, *(f"{found[f'{kind}_{part}']:.3f}" for part in ("root", "traj", "mean_pose", "mean_joints"))]
        for kind in ("APE", "AVE")
    ]))  # fmt: skip
    if options.output:
        write_atomically(options.output, "".join(f"{name}: {value:.5f}\n" for name, value in found.items()))
    if left_out:
        raise ValueError(f"{len(left_out)} recordings were left out ({', '.join(list(left_out)[:3])}): "
                         "the figures are those of the others")  # fmt: skip


if __name__ == "__main__":
    run_command(main)
