"""APE and AVE: how far generated joints lie from the recorded ones, and how unlike their spread is. Ghosh et al. 2021.

Motions are joints (T, 21, 3) of the MMM skeleton in millimetres; results are in metres. What counts is the motion seen from
its own start: both lose their initial heading and place. Published numbers are taken at 100 frames per second.
"""

from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor

from data_loaders.rifke import joints_from_rifke, local_joints, rifke_from_joints

PARTS = ("root", "traj", "pose", "joints")
MILLIMETRES = 1000.0
Pick = Literal["first", "best", "worst"]


def parts_of(joints: Tensor) -> dict[str, Tensor]:
    """Metres (T, K, axes) of the root, its path on the floor, the pose about it and all joints in the world."""
    features = rifke_from_joints(joints)
    world = joints_from_rifke(features) / MILLIMETRES  # (T, 21, 3)
    root = world[:, :1]
    return {"root": root, "traj": root[..., [0, 2]], "pose": local_joints(features) / MILLIMETRES, "joints": world}


def position_errors(reference: Tensor, predicted: Tensor) -> dict[str, tuple[Tensor, Tensor]]:
    """Per part: distances summed over frames (K,), and distance of the variances over time (K,). The shorter length counts."""
    frames = min(len(reference), len(predicted))
    a, b = parts_of(reference[:frames]), parts_of(predicted[:frames])
    return {
        part: ((a[part] - b[part]).norm(dim=-1).sum(0), (a[part].var(0) - b[part].var(0)).norm(dim=-1)) for part in PARTS
    }


def ape_ave(pairs: Sequence[tuple[Tensor, Sequence[Tensor]]], pick: Pick = "first") -> dict[str, float]:
    """The eight published numbers over pairs of a recording and its samples.

    APE is pooled over all frames, AVE averaged over recordings; pose and joints are means over their joints. With `best`
    or `worst`, the sample whose root strays least or most stands for its recording in every number.
    """
    frames, chosen = 0, []
    for reference, samples in pairs:
        found = [position_errors(reference, sample) for sample in samples]
        strays = torch.stack([one["root"][0] for one in found])[:, 0]  # of each sample's root
        index = {"first": 0, "best": int(strays.argmin()), "worst": int(strays.argmax())}[pick]
        chosen.append(found[index])
        frames += min(len(reference), len(samples[index]))
    names = {part: part if part in ("root", "traj") else f"mean_{part}" for part in PARTS}
    ape = {f"APE_{names[part]}": float(torch.stack([one[part][0] for one in chosen]).sum(0).mean() / frames) for part in PARTS}
    ave = {f"AVE_{names[part]}": float(torch.stack([one[part][1] for one in chosen]).mean()) for part in PARTS}
    return ape | ave
