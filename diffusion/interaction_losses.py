"""Training objective of two people in one world: errors of each body, and of what lies between the two.

Liang et al. 2024 (InterGen) and its code, which in2IN (Ruiz-Ponce et al. 2024) takes over. Joints are (B, 2, T, J, 3) in
metres, `mask` (B, T) is True at real frames, `active` (B,) at the samples that terms on joints count for: prediction out of
nearly pure noise would teach them nothing (`InteractionWeights.latest_step`). Every term is one number of the whole batch.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from data_loaders.bone_rotations import bone_lengths
from data_loaders.interhuman_features import foot_contacts
from data_loaders.skeleton import Skeleton, load_skeleton

EPS = 1e-7  # in every denominator, as published
NEAR, TOUCHING = 1.0, 0.1  # metres: pairs of joints that `distance_map` and `joint_affinity` look at
NEARNESS = 0.1  # metres added to the distance of two joints, of which `near_joints` weighs by the inverse


@dataclass(frozen=True)
class InteractionWeights:
    """Weights λ of the terms, as published, and what they depend on; `near_joints` (Wu et al. 2025) is ours to add."""

    denoising: float = 1.0
    distance_map: float = 3.0
    joint_affinity: float = 3.0
    orientation: float = 0.01
    velocity: float = 30.0
    bone_length: float = 10.0
    foot_contact: float = 30.0
    near_joints: float = 0.0
    latest_step: int = 700  # of the diffusion, up to which terms on joints count


def interaction_loss(prediction: Tensor, target: Tensor, joints: Callable[[Tensor], Tensor], t: Tensor, mask: Tensor,
                     weights: InteractionWeights = InteractionWeights(),
                     skeleton: Skeleton | None = None) -> dict[str, Tensor]:
    """Terms, without their weights, of a predicted motion of two people; "loss" is their weighted sum.

    prediction and target (B, T, 2 * width) are normalised, `joints` leads from them to (B, 2, T, J, 3) in metres, t (B,) are
    steps of the diffusion. Terms of one body come twice: "velocity_1" of person 1, "velocity_2". skeleton: humanml by default.
    """
    active = t <= weights.latest_step
    predicted, true = joints(prediction), joints(target)
    terms = {"denoising": pooled_squared_error(prediction, target, mask), **pair_terms(predicted, true, mask, active)}
    if weights.near_joints:
        terms["near_joints"] = near_joint_error(predicted, true, mask, active)
    loss = sum(getattr(weights, name) * term for name, term in terms.items())
    for person in range(2):
        found = body_terms(predicted[:, person], true[:, person], mask, active, skeleton or load_skeleton("humanml"))
        loss = loss + sum(getattr(weights, name) * term for name, term in found.items())
        terms |= {f"{name}_{person + 1}": term for name, term in found.items()}
    return {"loss": loss, **terms}


def person_loss(prediction: Tensor, target: Tensor, joints: Callable[[Tensor], Tensor], t: Tensor, mask: Tensor,
                weights: InteractionWeights, skeleton: Skeleton) -> dict[str, Tensor]:
    """As `interaction_loss`, of one person: `joints` leads from (B, T, width) to (B, T, J, 3)."""
    predicted, true = joints(prediction), joints(target)
    terms = {"denoising": pooled_squared_error(prediction, target, mask),
             **body_terms(predicted, true, mask, t <= weights.latest_step, skeleton)}  # fmt: skip
    return {"loss": sum(getattr(weights, name) * term for name, term in terms.items()), **terms}


def pooled_squared_error(prediction: Tensor, target: Tensor, mask: Tensor) -> Tensor:
    """Mean squared error of features (B, T, D) over all real frames of the batch: long motions count for more."""
    return _over_frames(((prediction - target) ** 2).mean(-1), mask)


def pair_terms(predicted: Tensor, true: Tensor, mask: Tensor, active: Tensor) -> dict[str, Tensor]:
    """What lies between two people, of joints (B, 2, T, J, 3).

    "distance_map": distances of joints that come near in the prediction; "joint_affinity": predicted distances of joints that
    truly touch; "orientation": the turn from person 1's facing to person 2's.
    """
    apart, truly = joint_distances(predicted), joint_distances(true)  # (B, T, J, J)
    return {
        "distance_map": _over_samples(_over_pairs((apart - truly) ** 2, apart < NEAR), mask, active),
        "joint_affinity": _over_samples(_over_pairs(apart**2, truly < TOUCHING), mask, active),
        "orientation": _orientation_error(predicted, true, mask, active),
    }


def near_joint_error(predicted: Tensor, true: Tensor, mask: Tensor, active: Tensor) -> Tensor:
    """Squared error of all distances between joints of the two, weighed by 1 / (d + 0.1), d the true distance in metres.

    Wu et al. 2025 (Text2Interact) weigh pairs of joints so; that it is the error of their distance is our reading.
    """
    apart, truly = joint_distances(predicted), joint_distances(true)  # (B, T, J, J)
    return _over_samples(((apart - truly) ** 2 / (truly + NEARNESS)).mean((-2, -1)), mask, active)


def body_terms(predicted: Tensor, true: Tensor, mask: Tensor, active: Tensor, skeleton: Skeleton) -> dict[str, Tensor]:
    """What one body does wrong, of joints (B, T, J, 3): velocities, lengths of bones, and feet that slide where they stand.

    A velocity is masked by the earlier of its frames, so that of padded motion the step to the first frame of padding counts
    as well: as published.
    """
    moving = mask[:, :-1]
    velocity, true_velocity = predicted.diff(dim=1), true.diff(dim=1)  # (B, T−1, J, 3)
    lengths, true_lengths = (bone_lengths(each, skeleton)[..., 1:] for each in (predicted, true))  # (B, T, J−1)
    steps = (velocity[:, :, list(skeleton.feet)] ** 2).mean(-1)  # (B, T−1, 4)
    planted = foot_contacts(predicted.detach(), skeleton)
    return {
        "velocity": _over_samples(((velocity - true_velocity) ** 2).mean((-2, -1)), moving, active),
        "bone_length": _over_samples(((lengths - true_lengths) ** 2).mean(-1), mask, active),
        "foot_contact": _over_samples(_over_pairs(steps[..., None], planted[..., None]), moving, active),
    }


def joint_distances(joints: Tensor) -> Tensor:
    """Distances (B, T, J, J) of person 1's joints (rows) and person 2's, of (B, 2, T, J, 3)."""
    # by differences: matrix products lose what lies below a centimetre
    return torch.cdist(joints[:, 0], joints[:, 1], compute_mode="donot_use_mm_for_euclid_dist")


def relative_facing(joints: Tensor) -> Tensor:
    """Cosine and sine (..., T, 2) of half the turn about Y from person 1's facing to person 2's, of joints (..., 2, T, J, 3):
    the shortest-arc quaternion's w and y. Facing is level and square to the hips; zeros where it is not to be told.
    """
    across = joints[..., 2, :] - joints[..., 1, :]  # (..., 2, T, 3) right hip minus left hip
    z, x = _unit(torch.stack([-across[..., 0], across[..., 2]], -1)).unbind(-1)  # Y × across
    (z1, z2), (x1, x2) = z.unbind(-2), x.unbind(-2)  # (..., T)
    return _unit(torch.stack([1 + z1 * z2 + x1 * x2, z1 * x2 - x1 * z2], -1))


def _orientation_error(predicted: Tensor, true: Tensor, mask: Tensor, active: Tensor) -> Tensor:
    """As published over all real frames of the batch, those of samples that are not active too, unless none is active."""
    squared = ((relative_facing(predicted) - relative_facing(true)) ** 2).mean(-1)  # (B, T)
    return _over_frames(squared, mask) * active.any()


def _unit(vectors: Tensor) -> Tensor:
    """Vectors (..., C) of length 1; zeros stay."""
    return vectors / vectors.norm(dim=-1, keepdim=True).clamp_min(1e-12)


def _over_pairs(values: Tensor, chosen: Tensor) -> Tensor:
    """Mean (B, T) of values (B, T, N, M) over the chosen ones; 0 where none is."""
    chosen = chosen.to(values.dtype)
    return (values * chosen).sum((-2, -1)) / (chosen.sum((-2, -1)) + EPS)


def _over_frames(values: Tensor, mask: Tensor) -> Tensor:
    """Mean of values (B, T) over all real frames of the batch."""
    mask = mask.to(values.dtype)
    return (values * mask).sum() / (mask.sum() + EPS)


def _over_samples(values: Tensor, mask: Tensor, active: Tensor) -> Tensor:
    """Mean over the active samples of the means of values (B, T) over real frames."""
    mask, active = mask.to(values.dtype), active.to(values.dtype)
    means = (values * mask).sum(1) / (mask.sum(1) + EPS)  # (B,)
    return (means * active).sum() / (active.sum() + EPS)
