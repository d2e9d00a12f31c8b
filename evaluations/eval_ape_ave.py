"""python -m evaluations.eval_ape_ave --generated FOLDER --reference FOLDER: APE and AVE of KIT motions, as TEMOS is measured.

Both folders hold NAME.npy, joints (T, 21, 3) of the MMM skeleton in millimetres, Y up; several samples of a motion are
NAME_0.npy, NAME_1.npy, ... Published figures are taken at 100 frames per second: --upsample 8 brings 12.5 there.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

from protos.bounds import Range, check_bounds
from protos.options import parse, run_command, setup_logging


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
    """YAML file to write the figures to, in metres."""

    def __post_init__(self) -> None:
        check_bounds(self, "--")


def figures(options: ApeAveOptions) -> dict[str, float]:
    """The eight numbers, in metres. FileNotFoundError or MocapError in a user's words."""
    import torch

    from data_loaders.mocap import read_joints_npy
    from data_loaders.rifke import MMM_JOINTS, upsampled
    from evaluations.ape_ave import ape_ave

    def read(path: Path) -> torch.Tensor:
        return torch.from_numpy(read_joints_npy(path, len(MMM_JOINTS))).double()

    pairs = []
    for path in sorted(options.reference.glob("*.npy")):
        samples = [options.generated / path.name] if (options.generated / path.name).is_file() else []
        samples += sorted(options.generated.glob(f"{path.stem}_[0-9]*.npy"), key=lambda p: int(p.stem.rpartition("_")[2]))
        if not samples:
            raise FileNotFoundError(f"{options.generated} holds neither {path.name} nor {path.stem}_0.npy")
        pairs.append((read(path), [upsampled(read(sample), options.upsample) for sample in samples]))
    if not pairs:
        raise FileNotFoundError(f"{options.reference} holds no .npy file")
    if options.pick != "avg":
        return ape_ave(pairs, options.pick)
    count = min(len(samples) for _, samples in pairs)
    each = [ape_ave([(reference, samples[k : k + 1]) for reference, samples in pairs]) for k in range(count)]
    return {name: sum(one[name] for one in each) / count for name in each[0]}


def main(argv: list[str] | None = None) -> None:
    options = parse(ApeAveOptions, argv, __doc__)
    setup_logging()
    from evaluations.tables import table
    from protos.files import write_atomically

    found = figures(options)
    print(table(["metres", "root", "traj", "mean pose", "mean joints"], [
        [kind, *(f"{found[f'{kind}_{part}']:.3f}" for part in ("root", "traj", "mean_pose", "mean_joints"))]
        for kind in ("APE", "AVE")
    ]))  # fmt: skip
    if options.output:
        write_atomically(options.output, "".join(f"{name}: {value:.5f}\n" for name, value in found.items()))


if __name__ == "__main__":
    run_command(main)
