"""python -m data_loaders.guoh3dfeats --input datasets/motions/pose_data: features of whole files, as TMR reads them.

They come from the joints of HumanML3D's `pose_data` folder (AMASS and HumanAct12 at 20 frames per second). Unlike
HumanML3D's own clips, files are not cut before their features are computed: body and heading are those of the whole file.
Each has a mirrored twin under `M/`.
"""

import logging
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from data_loaders.known_datasets import humanml3d_sources
from data_loaders.skeleton import load_skeleton
from protos.options import command, run_command
from protos.outputs import OutputError, Outputs

if TYPE_CHECKING:
    from torch import Tensor

    from data_loaders.clips import LeftOut

log = logging.getLogger(__name__)
BODY_JOINTS = 24  # of SMPL; files with more have fingers


@dataclass(frozen=True)
class FeatureOptions:
    """Write features (T-1, 263) of every joints file and of its mirror image. An interrupted run goes on where it stopped."""

    input: Path = Path("datasets/motions/pose_data")
    """Folder of joints (T, 22 or more, 3) in .npy files, as HumanML3D's first notebook writes them."""
    output: Path = Path("datasets/motions/guoh3dfeats")
    """Folder to write; mirrored files lie below M/."""
    force_redo: bool = False
    """Compute files again that are there."""


def reflected(joints: "Tensor", path: str) -> "Tensor":
    """Joints (T, J, 3) with x negated, which undoes the reflection of `pose_data`; HumanAct12's stay as they are."""
    return joints if humanml3d_sources().unreflected in path else joints * joints.new_tensor((-1.0, 1.0, 1.0))


def mirrored(joints: "Tensor") -> "Tensor":
    """Joints (T, J, 3) of SMPL (24) or SMPL+H (52) with left and right exchanged, fingers where there are some."""
    from data_loaders.humanml_features import mirror_joints

    skeleton = load_skeleton("humanml")
    if joints.shape[-2] <= BODY_JOINTS:
        skeleton = replace(skeleton, left_hand=(), right_hand=())
    return mirror_joints(joints, skeleton)


def file_features(pose_data: "Tensor", path: str, *, mirror: bool = False, tgt_offsets: "Tensor | None" = None) -> "Tensor":
    """Features (T-1, 263) float32 of a file's joints (T, J >= 22, 3); `path` says where it comes from.

    tgt_offsets (22, 3): the body it is brought to, by default that of HumanML3D.
    """
    from data_loaders.humanml_features import features_from_joints

    skeleton = load_skeleton("humanml")
    joints = reflected(pose_data, path)
    joints = mirrored(joints) if mirror else joints
    return features_from_joints(joints[:, : skeleton.num_joints], skeleton, "published", tgt_offsets)


def write_features(source: Path, output: Path, *, force: bool = False, left_out: "LeftOut | None" = None) -> Iterator[Path]:
    """Writes the features of every joints file below `source`, and of its mirror below output/M; yields what was written.

    Files that are there are kept unless `force`, which replaces only those that an earlier run listed (OutputError otherwise).
    `left_out` gets those left out: of one frame, of other joints, unreadable.
    """
    import numpy as np
    import torch
    from tqdm import tqdm

    from data_loaders.clips import LeftOut
    from data_loaders.mocap import read_joints_npy

    left_out, needed = left_out or LeftOut(), load_skeleton("humanml").num_joints
    files = joints_files(source, output)
    outputs = Outputs(output, "set of features", going_on=True, earlier=[each for both in files.values() for each in both])
    missing = {file: [target for target in both if force or not (outputs.folder / target).is_file()]
               for file, both in files.items()}  # fmt: skip
    outputs.claim(*(target for targets in missing.values() for target in targets))
    for file, targets in tqdm(missing.items(), desc="features", unit="file", disable=None):
        if not targets:
            continue
        name = files[file][0]
        try:
            joints = torch.from_numpy(read_joints_npy(file))
        except (ValueError, OSError) as error:
            left_out.add(name, f"unreadable: {error}")
            log.warning("left out: %s", error)
            continue
        if len(joints) < 2 or joints.shape[1] < needed:
            few = f"of too few joints: {joints.shape[1]}, not {needed}"
            left_out.add(name, "of one frame" if len(joints) < 2 else few)
            continue
        for target in targets:
            with outputs.file(target) as stream:
                np.save(stream, file_features(joints, name, mirror=target != name).numpy())
            yield outputs.folder / target


def joints_files(source: Path, output: Path) -> dict[Path, tuple[str, str]]:
    """The .npy files below a folder, without those of an output within it, sorted, with the names of their features and of
    their mirror's. FileNotFoundError where there is none, OutputError where the output is the folder itself.
    """
    within = Path(output).resolve()
    if within == Path(source).resolve():
        raise OutputError(f"--output {output} is the folder of the joints: give another one")
    files = sorted(path for path in Path(source).rglob("*.npy") if not path.resolve().is_relative_to(within))
    if not files:
        raise FileNotFoundError(f"{source} holds no .npy file: --input must be the pose_data folder that HumanML3D's "
                                "raw_pose_processing notebook writes from AMASS")  # fmt: skip
    names = {file: file.relative_to(source).as_posix() for file in files}
    return {file: (name, f"M/{name}") for file, name in names.items()}


def run(options: FeatureOptions) -> None:
    from data_loaders.clips import LeftOut

    left_out = LeftOut()
    written = sum(1 for _ in write_features(options.input, options.output, force=options.force_redo, left_out=left_out))
    kept = 2 * (len(joints_files(options.input, options.output)) - len(left_out.skipped)) - written
    log.info("%d files written to %s, mirrored ones included; %d were there; of the input %s", written, options.output, kept,
             left_out)  # fmt: skip
    if unreadable := [name for name, reason in left_out.skipped.items() if reason.startswith("unreadable")]:
        raise ValueError(f"{len(unreadable)} unreadable file(s) left out, all else is written: {unreadable[0]}")


main = command(FeatureOptions, run, __doc__)

if __name__ == "__main__":
    run_command(main)
