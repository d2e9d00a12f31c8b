"""A body of the SMPL family in the poses of whole clips: joints and skin of all frames of a batch at once, in torch.

Joints turn in the world, not against their parents: then every joint is a sum over the bones above it, and no loop goes from the
root outwards. Loper et al. 2015, §3; equals the smplx package to float precision (tested).
"""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from torch import Tensor

from data_loaders.body_models import BODY_JOINTS, NUM_BETAS, BodyModel, Surface

BLOCK = 32  # frames whose skin is computed at once


@dataclass(frozen=True)
class Poses:
    """Clips of bodies: betas (B, S), turns (B, T, J, 3, 3) of joints in the world from the rest pose, roots (B, T, 3): where the
    pelvis is, in metres. J is 22, of the body; hands, jaw and eyes turn with the joint before them."""

    betas: Tensor
    turns: Tensor
    roots: Tensor


class PosedBody:
    """The joints of a body model as tensors on a device."""

    def __init__(self, model: BodyModel, device: torch.device | str = "cpu"):
        def tensor(array: np.ndarray) -> Tensor:
            return torch.tensor(array, dtype=torch.float32, device=device)

        count = min(model.shape_directions.shape[-1], NUM_BETAS)
        self.model, self.device, self.num_joints = model, device, len(model.parents)
        self.template, self.shape_directions = tensor(model.template), tensor(model.shape_directions[..., :count])
        self.rest_mean = tensor(model.regressor @ model.template)  # (J, 3)
        self.rest_directions = tensor(np.einsum("jv,vcs->jcs", model.regressor, model.shape_directions[..., :count]))
        self.parents = torch.tensor(model.parents[1:], device=device)

    @cached_property
    def below(self) -> Tensor:
        """(J, J): 1 where the bone that ends at a joint lies between the root and another, or ends there."""
        sums = torch.eye(self.num_joints, device=self.device)
        for joint, parent in enumerate(self.model.parents[1:], start=1):
            sums[joint] += sums[parent]
        return sums

    @cached_property
    def turning(self) -> list[int]:
        """(J,): which of the 22 joints of the body each joint turns as."""
        found: list[int] = []
        for joint, parent in enumerate(self.model.parents):
            found.append(joint if joint < BODY_JOINTS else found[parent])
        return found

    def rest(self, betas: Tensor) -> Tensor:
        """Joints (B, J, 3) in the rest pose of bodies of shapes betas (B, S)."""
        return self.rest_mean + torch.einsum("jcs,bs->bjc", self.rest_directions, betas)

    def joints(self, poses: Poses, count: int | None = None) -> Tensor:
        """The first `count` joints (B, T, J, 3), by default all, in metres."""
        count = count or self.num_joints
        rest = self.rest(poses.betas)[:, :count]
        parents = self.parents[: count - 1]
        offsets = rest[:, 1:] - rest[:, parents]
        turns = poses.turns if count <= BODY_JOINTS else poses.turns[:, :, self.turning]
        bones = (turns[:, :, parents] @ offsets[:, None, :, :, None])[..., 0]  # (B, T, J-1, 3)
        return poses.roots[:, :, None] + self.below[:count, 1:count] @ bones

    def local(self, turns: Tensor) -> Tensor:
        """Turns (B, T, 21, 3, 3) of the body's joints but the root against their parents."""
        return turns[:, :, self.parents[: BODY_JOINTS - 1]].transpose(-1, -2) @ turns[:, :, 1:BODY_JOINTS]


class PosedSurface:
    """The skin of a body model as tensors on the device of its joints."""

    def __init__(self, body: PosedBody, surface: Surface):
        self.body, self.faces = body, surface.faces
        self.weights = torch.tensor(surface.weights, dtype=torch.float32, device=body.device)
        directions = surface.pose_directions.reshape(-1, surface.pose_directions.shape[-1]).T  # (9 · 21, V 3)
        self.pose_directions = torch.tensor(np.ascontiguousarray(directions), dtype=torch.float32, device=body.device)

    @torch.no_grad()
    def vertices(self, poses: Poses) -> np.ndarray:
        """Vertices (B, T, V, 3) float32 in metres."""
        people = []
        for betas, turns, roots in zip(poses.betas, poses.turns, poses.roots):
            blocks = [Poses(betas[None], turns[None, start : start + BLOCK], roots[None, start : start + BLOCK])
                      for start in range(0, len(roots), BLOCK)]  # fmt: skip
            people.append(np.concatenate([self._of_block(block).cpu().numpy() for block in blocks]))
        return np.stack(people)

    def _of_block(self, poses: Poses) -> Tensor:
        """Vertices (T, V, 3) of one body."""
        body = self.body
        shaped = body.template + body.shape_directions @ poses.betas[0]  # (V, 3)
        bent = (body.local(poses.turns)[0] - torch.eye(3, device=body.device)).flatten(1)  # (T, 9 · 21)
        shaped = shaped + (bent @ self.pose_directions).unflatten(1, shaped.shape)  # (T, V, 3)
        turns = poses.turns[0, :, body.turning]  # (T, J, 3, 3)
        shifts = body.joints(poses)[0] - (turns @ body.rest(poses.betas)[0, :, :, None])[..., 0]
        moves = self.weights @ torch.cat([turns, shifts[..., None]], dim=-1).flatten(2)  # (T, V, 12)
        moves = moves.unflatten(-1, (3, 4))
        return (moves[..., :3] @ shaped[..., None])[..., 0] + moves[..., 3]
