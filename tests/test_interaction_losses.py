"""Losses of two people: what leaves them alike, what they do not see, and which frames and samples count."""

import math

import pytest
import torch
from torch import Tensor

from data_loaders.skeleton import load_skeleton
from diffusion import interaction_losses as losses
from diffusion.interaction_losses import InteractionWeights, interaction_loss, person_loss

SKELETON = load_skeleton("humanml")
PAIRS, BODIES = ("distance_map", "joint_affinity", "orientation", "near_joints"), ("velocity", "bone_length", "foot_contact")
ALL = InteractionWeights(near_joints=1.0)


def people(seed: int, batch: int = 3, frames: int = 12, apart: float = 0.4) -> Tensor:
    """Joints (B, 2, T, 22, 3) of two standing bodies that move a little, person 2 so many metres away and turned."""
    generator = torch.Generator().manual_seed(seed)
    bones = torch.tensor(SKELETON.raw_offsets) * torch.tensor(SKELETON.bone_lengths)[:, None]
    body = torch.stack([sum((bones[bone] for bone in line), torch.zeros(3)) for line in SKELETON.ancestors])
    body = body + torch.tensor([0.0, 0.95, 0.0])
    moved = 0.02 * torch.randn(batch, 2, frames, 22, 3, generator=generator).cumsum(2)
    joints = body + moved
    return torch.stack([joints[:, 0], turned(joints[:, 1], 2.0) + torch.tensor([apart, 0.0, 0.1])], 1)


def turned(joints: Tensor, angle: float) -> Tensor:
    """Turned about Y."""
    cos, sin = torch.tensor(angle).cos(), torch.tensor(angle).sin()
    x, y, z = joints.unbind(-1)
    return torch.stack([cos * x + sin * z, y, cos * z - sin * x], -1)


def terms_of(predicted: Tensor, true: Tensor, t: Tensor | None = None, mask: Tensor | None = None,
             weights: InteractionWeights = ALL) -> dict[str, Tensor]:
    """The loss of joints that are their own features."""
    batch, _, frames = predicted.shape[:3]
    t = torch.zeros(batch, dtype=torch.long) if t is None else t
    mask = torch.ones(batch, frames, dtype=torch.bool) if mask is None else mask

    def joints(x: Tensor) -> Tensor:
        return x.unflatten(-1, (2, 22, 3)).transpose(1, 2)

    return interaction_loss(*(x.transpose(1, 2).flatten(2) for x in (predicted, true)), joints, t, mask, weights)


def test_a_right_prediction_errs_in_nothing():
    true = people(0, apart=3.0)  # nobody touches
    found = terms_of(true, true)
    steps = 30 * (found.pop("foot_contact_1") + found.pop("foot_contact_2"))  # feet that stand move a little in truth, too
    assert torch.isclose(found.pop("loss"), steps) and all(term == 0 for term in found.values()), found


def test_swapping_the_two_people_changes_no_term_between_them_and_exchanges_those_of_each():
    predicted, true = people(0), people(1)
    found, swapped = terms_of(predicted, true), terms_of(predicted.flip(1), true.flip(1))
    for name in ("loss", "denoising", *PAIRS):
        assert torch.isclose(found[name], swapped[name]), name
        assert found[name] > 0, name
    for name in BODIES:
        assert torch.isclose(found[f"{name}_1"], swapped[f"{name}_2"]), name
    assert not torch.isclose(found["velocity_1"], found["velocity_2"])


def test_where_the_two_stand_in_the_world_and_which_way_they_face_together_does_not_count_between_them():
    predicted, true = people(0), people(1)
    moved = terms_of(turned(predicted, 0.7) + torch.tensor([3.0, 0.0, -1.0]), true)
    found = terms_of(predicted, true)
    for name in PAIRS:
        assert torch.isclose(found[name], moved[name], rtol=1e-4), name
    assert moved["denoising"] > 10 * found["denoising"]


def test_one_person_further_away_is_seen_between_them_but_not_in_a_body():
    true = people(1)
    predicted = true.clone()
    predicted[:, 1, ..., 0] += 0.1
    found = terms_of(predicted, true)
    assert found["distance_map"] > 1e-4 and found["near_joints"] > 1e-4
    assert all(found[f"{name}_2"] < 1e-10 for name in ("velocity", "bone_length")) and found["orientation"] < 1e-10


def test_half_the_turn_between_two_facings_is_a_quaternions_w_and_y():
    person = people(0, batch=1, frames=1)[:, 0]
    for angle in (-1.2, 0.0, 0.5, 3.0):
        found = losses.relative_facing(torch.stack([person, turned(person, angle)], 1))
        assert torch.allclose(found, torch.tensor([math.cos(angle / 2), math.sin(angle / 2)]), atol=1e-4)


def test_terms_on_joints_count_only_up_to_the_latest_step():
    predicted, true = people(0), people(1)
    late, early = torch.tensor([701, 900, 999]), torch.tensor([700, 0, 350])
    found, none = terms_of(predicted, true, early), terms_of(predicted, true, late)
    assert none["denoising"] == found["denoising"] == none["loss"]
    assert all(none[name] == 0 and found[name] > 0 for name in PAIRS)
    alone = terms_of(predicted[:1], true[:1], early[:1])
    mixed = terms_of(predicted, true, torch.tensor([700, 701, 701]))
    for name in ("distance_map", "near_joints", "velocity_1", "bone_length_2"):
        assert torch.isclose(mixed[name], alone[name]), name
    assert torch.isclose(mixed["orientation"], found["orientation"])  # as published: over all samples, unless none is active


def test_padding_does_not_count_but_for_the_step_into_it():
    predicted, true = people(0, frames=12), people(1, frames=12)
    mask = torch.arange(12) < 8
    broken = predicted.clone()
    broken[:, :, 9:] += 5.0
    found, other = (terms_of(x, true, mask=mask.expand(3, -1)) for x in (predicted, broken))
    assert all(torch.equal(found[name], other[name]) for name in found)
    cut = terms_of(predicted[:, :, :8], true[:, :, :8])
    for name in ("denoising", "distance_map", "orientation", "bone_length_1"):
        assert torch.isclose(found[name], cut[name]), name
    broken[:, :, 8] += 5.0
    assert terms_of(broken, true, mask=mask.expand(3, -1))["velocity_1"] > 1 > found["velocity_1"]


def test_the_nearer_the_joints_the_more_their_distance_weighs():
    def error(apart: float) -> Tensor:
        true = people(1, apart=apart)
        predicted = true.clone()
        predicted[:, 1, ..., 0] += 0.05  # away from person 1
        return terms_of(predicted, true)["near_joints"]

    assert error(1.0) > error(3.0) > error(6.0) > 0


def test_a_foot_that_slides_while_it_stands_costs_and_a_lifted_one_does_not():
    still = people(0)[:, :, :1].expand(-1, -1, 12, -1, -1)
    still = still - torch.stack([still[..., 1].min(), still.new_zeros(()), still.new_zeros(())])[[1, 0, 2]]
    sliding = still + torch.linspace(0, 0.1, 12)[:, None, None] * torch.tensor([1.0, 0.0, 0.0])
    cost = [float(terms_of(x, still)["foot_contact_1"]) for x in (still, sliding, sliding + torch.tensor([0.0, 1.0, 0.0]))]
    assert cost[0] == cost[2] == 0 < cost[1]


def test_the_sum_is_of_the_weighted_terms():
    found = terms_of(people(0), people(1), weights=InteractionWeights())
    assert "near_joints" not in found
    expected = found["denoising"] + 3 * found["distance_map"] + 3 * found["joint_affinity"] + 0.01 * found["orientation"]
    for person in "12":
        expected = expected + 30 * (found[f"velocity_{person}"] + found[f"foot_contact_{person}"])
        expected = expected + 10 * found[f"bone_length_{person}"]
    assert torch.isclose(found["loss"], expected)


@pytest.mark.parametrize("apart", [0.0, 0.4])
def test_gradients_are_finite_where_two_joints_meet(apart):
    predicted = people(0, apart=apart)
    predicted[:, 1] = predicted[:, 0] if apart == 0 else predicted[:, 1]
    predicted.requires_grad_()
    terms_of(predicted, people(1))["loss"].backward()
    assert predicted.grad.isfinite().all() and predicted.grad.abs().sum() > 0


def test_one_person_alone_errs_as_each_of_two():
    predicted, true = people(0), people(1)
    t, mask = torch.tensor([0, 900, 5]), torch.ones(3, 12, dtype=torch.bool)
    alone = (x[:, 0].flatten(2) for x in (predicted, true))
    found = person_loss(*alone, lambda x: x.unflatten(-1, (22, 3)), t, mask, ALL, SKELETON)
    of_two = terms_of(predicted, true, t)
    for name in BODIES:
        assert torch.isclose(found[name], of_two[f"{name}_1"]), name
    weighted = found["denoising"] + sum(getattr(ALL, name) * found[name] for name in BODIES)
    assert torch.isclose(found["loss"], weighted) and found["denoising"] > 0
