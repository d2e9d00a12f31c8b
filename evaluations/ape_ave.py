"""APE and AVE: how far generated joints lie from the recorded ones, and how unlike their spread is. Ghosh et al. 2021.

Motions are joints (T, 21, 3) of the MMM skeleton in millimetres; results are in metres. What counts is the motion seen from
its own start: both lose their initial heading and place. Published numbers are taken at 100 frames per second.
"""

import logging
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor

from data_loaders.mocap import read_joints_npy
from data_loaders.rifke import MMM_JOINTS, joints_from_features, local_joints, rifke_from_joints, upsampled
from protos.options import one_line

log = logging.getLogger(__name__)

MILLIMETRES = 1000.0
Pick = Literal["first", "best", "worst"]


def parts_of(joints: Tensor) -> dict[str, Tensor]:
    """Metres (T, K, axes) of the root, its path on the floor, the pose about it and all joints in the world."""
    features = rifke_from_joints(joints)
    world = joints_from_features(features) / MILLIMETRES  # (T, 21, 3)
    root, pose = world[:, :1], local_joints(features) / MILLIMETRES
    return {"root": root, "traj": root[..., [0, 2]], "mean_pose": pose, "mean_joints": world}


def position_errors(reference: Tensor, predicted: Tensor) -> dict[str, Tensor]:
    """Per part (2, K): distances summed over frames, and distance of the variances over time. The shorter length counts."""
    frames = min(len(reference), len(predicted))
    pairs = zip(parts_of(reference[:frames]).items(), parts_of(predicted[:frames]).values())
    return {part: torch.stack([(a - b).norm(dim=-1).sum(0), (a.var(0) - b.var(0)).norm(dim=-1)]) for (part, a), b in pairs}


def ape_ave(pairs: Sequence[tuple[Tensor, Sequence[Tensor]]], pick: Pick = "first") -> dict[str, float]:
    """The eight published numbers over pairs of a recording and its samples.

    APE is pooled over all frames, AVE averaged over recordings; pose and joints are means over their joints. With `best`
    or `worst`, the sample whose root strays least or most stands for its recording in every number.
    """
    frames, chosen = 0, []
    for reference, samples in pairs:
        found = [position_errors(reference, sample) for sample in samples]
        strays = [float(one["root"][0]) for one in found]  # of each sample's root
        index = {"first": 0, "best": strays.index(min(strays)), "worst": strays.index(max(strays))}[pick]
        chosen.append(found[index])
        frames += min(len(reference), len(samples[index]))
    errors = {part: torch.stack([one[part] for one in chosen]) for part in chosen[0]}  # (N, 2, K)
    return {f"APE_{part}": float(each[:, 0].sum(0).mean() / frames) for part, each in errors.items()} | {
        f"AVE_{part}": float(each[:, 1].mean()) for part, each in errors.items()}


def figures(pairs: Sequence[tuple[Tensor, Sequence[Tensor]]], pick: Literal["avg"] | Pick = "avg") -> dict[str, float]:
    """`ape_ave` of the sample that is picked, or the mean of those of the first samples, the second, ..."""
    if pick != "avg":
        return ape_ave(pairs, pick)
    count = min(len(samples) for _, samples in pairs)
    each = [ape_ave([(reference, samples[k : k + 1]) for reference, samples in pairs]) for k in range(count)]
    return {name: sum(one[name] for one in each) / count for name in each[0]}


def read_pairs(
    generated_folder: Path, reference_folder: Path, upsample: int = 1
) -> tuple[list[tuple[Tensor, list[Tensor]]], dict[str, str]]:
    """Each recording with its samples, at `upsample` times their frame rate, and those left out since a file cannot be used.

    FileNotFoundError where a recording has no sample, ValueError where none is left.
    """

    def read(path: Path) -> Tensor:
        joints = read_joints_npy(path, len(MMM_JOINTS))
        if len(joints) < 3:
            raise ValueError(f"{path}: {len(joints)} frames have no variance, expected at least 3")
        return torch.from_numpy(joints).double()

    recordings = sorted(reference_folder.glob("*.npy"))
    names = {path.stem for path in recordings}
    generated: dict[str, dict[int, Path]] = {}  # name of the recording -> its samples by number; -1: the only one
    for path in generated_folder.glob("*.npy"):
        numbered = None if path.stem in names else re.fullmatch(r"(.+)_([0-9]{1,9})", path.stem)
        name, number = (numbered[1], int(numbered[2])) if numbered else (path.stem, -1)
        generated.setdefault(name, {})[number] = path
    pairs, left_out = [], {}
    for path in recordings:
        if path.stem not in generated:
            raise FileNotFoundError(f"{generated_folder} holds neither {path.name} nor {path.stem}_0.npy")
        samples = [generated[path.stem][number] for number in sorted(generated[path.stem])]
        try:
            pairs.append((read(path), [upsampled(read(sample), upsample) for sample in samples]))
        except (OSError, ValueError) as error:
            left_out[path.stem] = one_line(error)
            log.warning("%s is left out: %s", path.stem, left_out[path.stem])
    if not pairs:
        raise FileNotFoundError(f"{reference_folder} holds no .npy file{' that can be used' if left_out else ''}")
    return pairs, left_out
