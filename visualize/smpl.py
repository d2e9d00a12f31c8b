"""Joints -> pose and shape of a body of the SMPL family: all frames of whole clips at once, in a few steps.

The shape of a clip follows from the lengths of its bones, turns from where the bones point (`joint_rotations`): that meets the
joints of a recorded body already. What joints leave open (twist of straight limbs and of the back) and what no body can do (bones
that change their lengths) is settled by L-BFGS over all frames: joints, turns small and smooth, knees and elbows hinges.
The published way (SMPLify, Bogo et al. 2016; in MDM's render_mesh) fits shape and pose anew in each frame, in minutes.
"""

from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from data_loaders.body_models import BODY_JOINTS, NUM_BETAS, BodyModel
from data_loaders.skeleton import load_skeleton
from visualize.joint_rotations import solve_turns
from visualize.posed_body import PosedBody, Poses

SKELETON = "humanml"
STEPS = 40
# Weights of the terms beside squared centimetres of each joint.
SMALL = 0.02  # squared difference of a joint's turn from none: about 2 θ²
SMOOTH = 0.5  # the same, of its second difference over time
HINGE = 0.1  # how far knees and elbows turn the axis about which they bend
SHAPE = 0.25  # of squared betas
TWIST = 60.0  # what a step about a bone is multiplied by, of which only the weak terms above say anything
LENGTH_NOISE = 0.005  # metres, of a bone against what betas of 1 explain


@dataclass(frozen=True)
class Fit:
    """Poses of each clip, and how far its joints (B, T, 22, 3) are from the given ones: errors (B, T, 22) in metres."""

    poses: Poses
    joints: np.ndarray
    errors: np.ndarray


def fit(model: BodyModel, joints: np.ndarray, device: torch.device | str = "cpu", steps: int = STEPS) -> Fit:
    """The body in clips of joints (B, T, 22, 3) in metres, Y up, as HumanML3D and InterHuman have them, where they are in the
    world; one shape for each clip. `steps` of L-BFGS; with 0 it is what bones say by themselves."""
    body = PosedBody(model, device)
    target = torch.tensor(joints, dtype=torch.float32, device=device)
    poses = start(body, np.asarray(joints, np.float64))
    if steps:
        poses = refined(body, poses, target, steps)
    with torch.no_grad():
        made = body.joints(poses, BODY_JOINTS)
        errors = (made - target).norm(dim=-1)
    return Fit(poses, made.cpu().numpy(), errors.cpu().numpy())


# ------------------------------------------------------------------------------------------------------------- what bones say


def start(body: PosedBody, joints: np.ndarray) -> Poses:
    """Shapes from the lengths of bones and turns from their directions, of joints (B, T, 22, 3)."""
    skeleton = load_skeleton(SKELETON)
    betas = np.stack([shape_of(body.model, clip) for clip in joints])
    turns, roots = [], []
    for clip, shape in zip(joints, betas):
        rest = body.model.rest_joints(shape)[:BODY_JOINTS]
        offsets = rest - rest[[0, *skeleton.parents[1:]]]
        turned = solve_turns(clip, skeleton, offsets)
        turns.append(turned.turns)
        roots.append(turned.root)
    return Poses(*(torch.tensor(np.stack(part), dtype=torch.float32, device=body.device) for part in (betas, turns, roots)))


def shape_of(model: BodyModel, joints: np.ndarray) -> np.ndarray:
    """Betas (S,) of the body whose bones are as long as those of joints (T, 22, 3) in the mean, and whose hips and shoulders
    are as far apart. Gauss-Newton, towards the mean body where lengths leave the shape open."""
    count = min(model.shape_directions.shape[-1], NUM_BETAS)
    mean = (model.regressor @ model.template)[:BODY_JOINTS]
    directions = np.einsum("jv,vcs->jcs", model.regressor[:BODY_JOINTS], model.shape_directions[..., :count])
    one, other = np.array(rigid_pairs(model.parents[:BODY_JOINTS])).T
    wanted = np.linalg.norm(joints[:, one] - joints[:, other], axis=-1).mean(axis=0)
    betas = np.zeros(count)
    for _ in range(6):
        between = (mean + directions @ betas)[one] - (mean + directions @ betas)[other]
        lengths = np.maximum(np.linalg.norm(between, axis=-1), 1e-9)
        slopes = np.einsum("kc,kcs->ks", between / lengths[:, None], directions[one] - directions[other])
        hessian = slopes.T @ slopes + LENGTH_NOISE**2 * np.eye(count)
        betas += np.linalg.solve(hessian, slopes.T @ (wanted - lengths) - LENGTH_NOISE**2 * betas)
    return betas


def rigid_pairs(parents: tuple[int, ...]) -> list[tuple[int, int]]:
    """Joints whose distance no pose changes: the ends of bones, and joints that hang on the same one."""
    bones = [(joint, parent) for joint, parent in enumerate(parents) if parent >= 0]
    return bones + [(a, b) for a, of_a in bones for b, of_b in bones if of_a == of_b and a < b]


# ------------------------------------------------------------------------------------------------------------------ refined


def refined(body: PosedBody, poses: Poses, target: Tensor, steps: int) -> Poses:
    """Poses nearer to joints (B, T, 22, 3), small and smooth where these leave turns open."""
    skeleton = load_skeleton(SKELETON)
    parents = skeleton.parents
    # joints without children do not turn: hands, feet and heads are held as the joint before
    held = [joint if joint in parents else parents[joint] for joint in range(BODY_JOINTS)]
    hinges = [skeleton.index(name) - 1 for name in skeleton.hinges]  # in `local`, which has no root
    axes = target.new_tensor(list(skeleton.hinges.values()))[..., None]
    along = bones_along(body, poses, parents)
    changes = torch.zeros_like(along, requires_grad=True)
    shifts = torch.zeros_like(poses.roots, requires_grad=True)
    betas = poses.betas.clone().requires_grad_()
    optimizer = torch.optim.LBFGS([changes, shifts, betas], max_iter=steps, history_size=8, line_search_fn="strong_wolfe",
                                  tolerance_grad=1e-6, tolerance_change=1e-9)  # fmt: skip

    def present() -> Poses:
        twists = (changes * along).sum(-1, keepdim=True) * along
        return Poses(betas, turned_by(changes + (TWIST - 1) * twists, poses.turns)[:, :, held], poses.roots + shifts)

    def loss() -> Tensor:
        now = present()
        apart = 100 * (body.joints(now, BODY_JOINTS) - target)  # cm
        local = body.local(now.turns)  # (B, T, 21, 3, 3)
        bent = local[:, :, hinges] @ axes - axes
        terms = apart.square().sum() + SMALL * _from_none(local) + HINGE * bent.square().sum()
        if local.shape[1] > 2:
            terms = terms + SMOOTH * local.diff(n=2, dim=1).square().sum()
        return terms / target.shape[:2].numel() + SHAPE * betas.square().sum() / len(betas)

    def closure() -> Tensor:
        optimizer.zero_grad()
        value = loss()
        value.backward()
        return value

    optimizer.step(closure)
    with torch.no_grad():
        now = present()
    return replace(now, betas=betas.detach())


def bones_along(body: PosedBody, poses: Poses, parents: tuple[int, ...]) -> Tensor:
    """Unit directions (B, T, 22, 3) of the bone below each joint, 0 where there are several or none: about it joints do not say
    how a joint turns."""
    joints = body.joints(poses, BODY_JOINTS)
    children = [[child for child in range(BODY_JOINTS) if parents[child] == joint] for joint in range(BODY_JOINTS)]
    ends = [own[0] if len(own) == 1 else joint for joint, own in enumerate(children)]
    return torch.nn.functional.normalize(joints[:, :, ends] - joints, dim=-1)


def _from_none(local: Tensor) -> Tensor:
    """|R - 1|² summed over turns (..., 3, 3): 2 (3 - trace)."""
    return 2 * (3 * local.shape[:-2].numel() - local.diagonal(dim1=-2, dim2=-1).sum())


def turned_by(change: Tensor, turns: Tensor) -> Tensor:
    """turns (..., 3, 3), then turned about the axes `change` (..., 3), as long as the tangent of half the angle (Rodrigues 1840):
    smooth everywhere, unlike angles."""
    x, y, z = change.unbind(-1)
    none = torch.zeros_like(x)
    cross = torch.stack([none, -z, y, z, none, -x, -y, x, none], dim=-1).unflatten(-1, (3, 3))
    squared = change.square().sum(-1)[..., None, None]
    outer = change[..., :, None] * change[..., None, :]
    turn = ((1 - squared) * torch.eye(3, dtype=change.dtype, device=change.device) + 2 * (outer + cross)) / (1 + squared)
    return turn @ turns
