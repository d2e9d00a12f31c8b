"""Features of whole AMASS files, from the joints of HumanML3D's `pose_data` folder, as TMR reads them.

Unlike HumanML3D's own clips, files are not cut before their features are computed: body and heading are those of the whole
file. Each has a mirrored twin under `M/`.
"""

import logging
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from data_loaders.humanml_features import features_from_joints, mirror_joints
from data_loaders.mocap import MocapError, read_joints_npy
from data_loaders.skeleton import Skeleton, load_skeleton
from protos.files import atomic_file

log = logging.getLogger(__name__)
BODY_JOINTS = 24  # of SMPL; files with more have fingers
UNREFLECTED = "humanact12"  # the one source whose joints are not reflected on the way to Y up


def reflected(joints: Tensor, path: str) -> Tensor:
    """Joints (T, J, 3) with x negated, which undoes the reflection of `pose_data`; HumanAct12's stay as they are."""
    return joints if UNREFLECTED in path else joints * joints.new_tensor((-1.0, 1.0, 1.0))


def mirrored(joints: Tensor) -> Tensor:
    """Joints (T, J, 3) of SMPL (24) or SMPL+H (52) with left and right exchanged, fingers where there are some."""
    skeleton = load_skeleton("humanml")
    if joints.shape[-2] <= BODY_JOINTS:
        skeleton = replace(skeleton, left_hand=(), right_hand=())
    return mirror_joints(joints, skeleton)


def file_features(pose_data: Tensor, path: str, *, mirror: bool = False, tgt_offsets: Tensor | None = None) -> Tensor:
    """Features (T-1, 263) float32 of a file's joints (T, J >= 22, 3); `path` says where it comes from.

    tgt_offsets (22, 3): the body it is brought to, by default that of HumanML3D.
    """
    skeleton = load_skeleton("humanml")
    joints = reflected(pose_data, path)
    joints = mirrored(joints) if mirror else joints
    return features_from_joints(joints[:, : skeleton.num_joints], skeleton, "published", tgt_offsets)


def z_up(joints: Tensor) -> Tensor:
    """Joints (..., 3) with Y up turned so that Z is up: (x, -z, y)."""
    x, y, z = joints.unbind(-1)
    return torch.stack([x, -z, y], dim=-1)


def write_features(source: Path, output: Path, *, force: bool = False) -> Iterator[Path]:
    """Writes the features of every joints file below `source`, and of its mirror below output/M; yields what was written.

    Files that are there are kept unless `force`; those of one frame have no features and are left out.
    """
    skeleton: Skeleton = load_skeleton("humanml")
    for file in sorted(Path(source).rglob("*.npy")):
        name = file.relative_to(source)
        targets = {False: Path(output) / name, True: Path(output) / "M" / name}
        missing = [mirror for mirror, target in targets.items() if force or not target.is_file()]
        if not missing:
            continue
        try:
            joints = torch.from_numpy(read_joints_npy(file))
        except MocapError as error:
            log.warning("left out: %s", error)
            continue
        if len(joints) < 2 or joints.shape[1] < skeleton.num_joints:
            log.warning("left out: %s has shape %s", file, tuple(joints.shape))
            continue
        for mirror in missing:
            with atomic_file(targets[mirror]) as stream:
                np.save(stream, file_features(joints, str(name), mirror=mirror).numpy())
            yield targets[mirror]
