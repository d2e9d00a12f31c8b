"""Training objective of motion diffusion: masked squared errors on the prediction and on what follows from it.

Tevet et al. 2023, §3 and its code. `mask` (B, T) is True at real frames; every term is one number per sample (B,).
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from diffusion.gaussian import Denoise, Diffusion

A2M_FOOT_JOINTS = (7, 10, 8, 11)  # SMPL ankles and feet


@dataclass(frozen=True)
class LossWeights:
    """Weights λ of the terms beside the denoising error. `min_snr_gamma` and what follows reweight that error over the
    steps, as in `snr_weights`; `calm_power` over the samples, as in `calm_weights`."""

    velocity: float = 0.0
    joints: float = 0.0
    joint_velocity: float = 0.0
    foot_contact: float = 0.0
    goal: float = 0.0
    min_snr_gamma: float | None = None
    snr_power: float = 1.0
    snr_floor: float = 0.0
    calm_power: float = 0.0


@dataclass(frozen=True)
class MotionTerms:
    """What some terms need: joints of features, which columns have a velocity, feet, a goal error."""

    joints: Callable[[Tensor], Tensor] | None = None  # features (B, T, D) -> joints (B, T, J, 3)
    velocity_columns: int = -1  # as the end of a slice: the published loss leaves out the last feature row
    foot_joints: tuple[int, ...] = A2M_FOOT_JOINTS
    foot_speed: float = 0.01  # of the true foot, per frame; at or below it the foot stands
    goal: Callable[[Tensor], Tensor] | None = None  # predicted features (B, T, D) -> error (B,)


def masked_l2(a: Tensor, b: Tensor | float, mask: Tensor) -> Tensor:
    """Mean squared difference (B,) of a and b (B, T, ...) over the frames where mask (B, T) is True."""
    mask = mask.to(a.dtype)
    squared = ((a - b) ** 2).flatten(2).sum(2)  # (B, T)
    entries = math.prod(a.shape[2:])
    return (squared * mask).sum(1) / (mask.sum(1) * entries + 1e-8)


def masked_goal_l2(pred: Tensor, goal: Tensor, valid: Tensor) -> Tensor:
    """Squared distance (B,) to goals (B, 8, 3): rows pelvis, feet, wrists, head, traj (x, z only), heading (x only).

    `valid` (B, 8) is True at the requested rows. The heading counts modulo π, as in DiP (Tevet et al. 2025).
    """
    counts = valid[:, :-1, None].expand(-1, -1, 3).clone()  # (B, 7, 3)
    counts[:, -1, 1] = False  # the height of the trajectory
    squared = (pred[:, :-1] - goal[:, :-1]) ** 2 * counts
    location = squared.flatten(1).sum(1) / (counts.flatten(1).sum(1) + 1e-8)
    turn = torch.remainder(pred[:, -1, 0] - goal[:, -1, 0] + math.pi / 2, math.pi) - math.pi / 2  # (B,)
    asked = valid[:, -1].to(turn.dtype)
    return location + turn**2 * asked / (asked + 1e-8)


def snr_weights(diffusion: Diffusion, t: Tensor, gamma: float = 5.0, power: float = 1.0, floor: float = 0.0) -> Tensor:
    """Weights (B,) of the squared error at steps t (B,): clamp(SNR, floor, γ)^power for an error in x0.

    Power 1 and floor 0 are the min-SNR weights of Hang et al. 2023, §3.4, which all but leave out the noisiest steps.
    Latents of a motion repeat each other, so it is just there that the text decides what will happen: power 0.5 makes
    the error, which falls about as SNR^-0.5, count alike at all steps.
    """
    snr = diffusion.at("snr", t, t.new_empty(t.shape, dtype=torch.float32))
    weights = snr.clamp(floor, gamma) ** power
    if diffusion.prediction == "x0":
        return weights
    if diffusion.prediction in ("eps", "v"):
        return weights / (snr + (diffusion.prediction == "v"))
    raise ValueError("SNR weights are defined for x0, eps and v predictions")


def calm_weights(x0: Tensor, mask: Tensor, power: float, typical: float = 0.1, least: float = 1e-3) -> Tensor:
    """Weights (B,) that make an error count for more where little moves: (movement / typical)^-power.

    Movement is the mean squared difference of neighbouring frames or latents x0 (B, T, D). A wave of the hand by 2 cm is
    a hundredth of a walk in squared error, and without a weight learnt last; power 0.5 makes errors of equal share
    count nearly alike. Movement below `least` counts as that much.
    """
    movement = masked_l2(x0[:, 1:], x0[:, :-1], mask[:, 1:])
    return (movement.clamp(min=least) / typical) ** -power


def training_loss(denoise: Denoise, x0: Tensor, t: Tensor, noise: Tensor, mask: Tensor, diffusion: Diffusion,
                  weights: LossWeights = LossWeights(),
                  motion: MotionTerms = MotionTerms()) -> dict[str, Tensor]:
    """Terms (B,) of the loss of one network call at steps t (B,) with this noise; "loss" is their weighted sum.

    x0 and noise are (B, T, D). "denoising" compares the prediction with its target; the others compare the motion it
    stands for with x0: "velocity" of features, "joints", "foot_contact", "goal". "joint_velocity" is measured but, as
    in the published code, not part of the sum.
    """
    x = diffusion.q_sample(x0, t, noise)
    output = denoise(x, diffusion.original_steps(t, x))
    terms = {"denoising": masked_l2(output, diffusion.target(x0, x, t, noise), mask)}
    loss = terms["denoising"]
    if weights.min_snr_gamma is not None:
        loss = loss * snr_weights(diffusion, t, weights.min_snr_gamma, weights.snr_power, weights.snr_floor)
    if weights.calm_power:
        loss = loss * calm_weights(x0, mask, weights.calm_power)
    needs_motion = weights.velocity or weights.goal or _needs_joints(weights)
    if needs_motion:
        terms |= motion_terms(diffusion.x0_from_output(output, x, t), x0, mask, weights, motion)
    for name in ("velocity", "joints", "foot_contact", "goal"):
        if name in terms:
            loss = loss + getattr(weights, name) * terms[name]
    return {"loss": loss, **terms}


def motion_terms(pred: Tensor, true: Tensor, mask: Tensor, weights: LossWeights,
                 motion: MotionTerms) -> dict[str, Tensor]:
    """Terms (B,) that compare a predicted motion (B, T, D) with the true one; only those with a weight."""
    terms = {}
    moving = mask[:, 1:]  # a velocity belongs to the later of its two frames
    if weights.velocity:
        columns = slice(motion.velocity_columns)
        terms["velocity"] = masked_l2(pred[..., columns].diff(dim=1), true[..., columns].diff(dim=1), moving)
    if weights.goal:
        terms["goal"] = motion.goal(pred)
    if not _needs_joints(weights):
        return terms
    pred_joints, true_joints = motion.joints(pred), motion.joints(true)  # (B, T, J, 3)
    pred_speed, true_speed = pred_joints.diff(dim=1), true_joints.diff(dim=1)  # (B, T−1, J, 3)
    if weights.joints:
        terms["joints"] = masked_l2(pred_joints, true_joints, mask)
    if weights.joint_velocity:
        terms["joint_velocity"] = masked_l2(pred_speed, true_speed, moving)
    if weights.foot_contact:
        feet = list(motion.foot_joints)
        stands = true_speed[:, :, feet].norm(dim=-1, keepdim=True) <= motion.foot_speed  # (B, T−1, feet, 1)
        terms["foot_contact"] = masked_l2(pred_speed[:, :, feet] * stands, 0.0, moving)
    return terms


def _needs_joints(weights: LossWeights) -> bool:
    return bool(weights.joints or weights.joint_velocity or weights.foot_contact)
