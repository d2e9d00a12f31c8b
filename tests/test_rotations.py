"""Rotations against scipy and against what any rotation must obey."""

import numpy as np
import pytest
import torch
from scipy.spatial.transform import Rotation

from tests import rotations

RANDOM = Rotation.random(200, random_state=3)
QUATERNIONS = torch.tensor(RANDOM.as_quat(scalar_first=True))
MATRICES = torch.tensor(RANDOM.as_matrix())
VECTORS = torch.tensor(np.random.default_rng(5).standard_normal((200, 3)))


def same_rotation(q: torch.Tensor, r: torch.Tensor) -> bool:
    return torch.allclose((q * r).sum(-1).abs(), torch.ones(len(q), dtype=q.dtype), atol=1e-10)


def test_matrices_and_quaternions_are_scipys():
    assert torch.allclose(rotations.quaternion_to_matrix(QUATERNIONS), MATRICES)
    assert same_rotation(rotations.matrix_to_quaternion(MATRICES), QUATERNIONS)


@pytest.mark.parametrize("axis", range(3))
def test_half_turns_survive_the_way_through_quaternions(axis):
    matrix = -torch.eye(3, dtype=torch.float64)
    matrix[axis, axis] = 1
    quaternion = rotations.matrix_to_quaternion(matrix)
    assert torch.allclose(rotations.quaternion_to_matrix(quaternion), matrix, atol=1e-12)


def test_product_turns_by_the_right_factor_first():
    q, r = QUATERNIONS[:100], QUATERNIONS[100:]
    turned = rotations.qrotate(q, rotations.qrotate(r, VECTORS[:100]))
    assert torch.allclose(rotations.qrotate(rotations.qmul(q, r), VECTORS[:100]), turned)


def test_conjugate_undoes_a_rotation():
    back = rotations.qrotate(rotations.qconj(QUATERNIONS), rotations.qrotate(QUATERNIONS, VECTORS))
    assert torch.allclose(back, VECTORS)


def test_one_rotation_turns_many_vectors():
    turned = rotations.qrotate(QUATERNIONS[0], VECTORS)
    assert torch.allclose(turned, VECTORS @ MATRICES[0].T)


@pytest.mark.parametrize("there, back", [
    (rotations.matrix_to_6d, rotations.sixd_to_matrix),
    (rotations.matrix_to_6d_rows, rotations.sixd_rows_to_matrix),
])  # fmt: skip
def test_six_numbers_carry_a_rotation(there, back):
    assert torch.allclose(back(there(MATRICES)), MATRICES)
    assert torch.allclose(back(3.0 * there(MATRICES)), MATRICES)  # length does not matter


def test_column_and_row_6d_are_each_others_transpose():
    assert torch.equal(rotations.matrix_to_6d_rows(MATRICES.mT), rotations.matrix_to_6d(MATRICES))


def test_6d_of_a_quaternion_leads_back_to_it():
    assert same_rotation(rotations.sixd_to_quaternion(rotations.quaternion_to_6d(QUATERNIONS)), QUATERNIONS)


@pytest.mark.parametrize("order", rotations.EULER_ORDERS)
def test_euler_angles_compose_like_scipys_intrinsic_ones(order):
    degrees = torch.tensor(np.random.default_rng(7).uniform(-80, 80, (50, 3)))  # x, y, z
    ours = rotations.euler_to_quaternion(degrees, order)
    in_order = degrees[:, ["xyz".index(letter) for letter in order]]
    theirs = Rotation.from_euler(order.upper(), in_order.numpy(), degrees=True).as_quat(scalar_first=True)
    assert same_rotation(ours, torch.tensor(theirs))
    assert torch.allclose(rotations.quaternion_to_euler(ours, order), in_order)


def test_unknown_euler_order_is_refused():
    with pytest.raises(ValueError, match="unknown Euler order 'xyx'"):
        rotations.euler_to_quaternion(torch.zeros(3), "xyx")


def test_axis_angle_is_scipys_rotation_vector():
    vectors = torch.tensor(RANDOM.as_rotvec())
    assert same_rotation(rotations.axis_angle_to_quaternion(vectors), QUATERNIONS)
    assert torch.allclose(rotations.quaternion_to_axis_angle(QUATERNIONS), vectors)
    assert torch.allclose(rotations.quaternion_to_axis_angle(-QUATERNIONS), vectors)
    assert torch.equal(rotations.axis_angle_to_quaternion(torch.zeros(3)), torch.tensor([1.0, 0, 0, 0]))


def test_shortest_arc_reaches_its_goal_by_the_angle_between():
    start, goal = VECTORS[:100], VECTORS[100:]
    arc = rotations.qbetween(start, goal)
    reached = rotations.qrotate(arc, start)
    assert torch.allclose(torch.nn.functional.cosine_similarity(reached, goal), torch.ones(100, dtype=torch.float64))
    cosine = torch.nn.functional.cosine_similarity(start, goal)
    assert torch.allclose(2 * arc[:, 0] ** 2 - 1, cosine)


@pytest.mark.parametrize("vector", [(0.0, 0.0, 1.0), (0.0, -2.0, 0.0), (1.0, 1.0, 1.0)])
def test_opposite_vectors_are_half_a_turn_apart(vector):
    vector = torch.tensor(vector)
    arc = rotations.qbetween(vector, -vector)
    assert torch.allclose(rotations.qrotate(arc, vector), -vector, atol=1e-6)


def test_a_vector_without_length_needs_no_turn():
    assert torch.equal(rotations.qbetween(torch.zeros(3), torch.ones(3)), torch.tensor([1.0, 0, 0, 0]))


def test_signs_become_continuous_and_rotations_stay():
    steps = torch.tensor(Rotation.from_rotvec(np.outer(np.linspace(0, 12, 90), [0, 1, 0])).as_quat(scalar_first=True))
    broken = steps * torch.tensor(np.random.default_rng(1).choice([-1.0, 1.0], (90, 1)))
    fixed = rotations.qfix(broken)
    assert ((fixed[1:] * fixed[:-1]).sum(-1) > 0).all()
    assert same_rotation(fixed, steps)
    assert torch.equal(rotations.qfix(broken[None], dim=1)[0], fixed)
