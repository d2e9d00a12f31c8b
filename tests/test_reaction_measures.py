"""How near a reaction is to the recorded one: known answers."""

import numpy as np
import pytest

from evaluations import reaction_measures as measures
from tests.pairs import greeting
from tests.synthetic import walk

ACTOR, TRUE = greeting(30)


def test_the_recorded_reaction_has_no_error():
    assert measures.joint_error(TRUE, TRUE) == measures.velocity_error(TRUE, TRUE) == 0
    assert measures.contact_consistency(ACTOR, TRUE, TRUE) == 1


def test_a_reaction_that_stands_elsewhere_is_as_far_off_and_moves_alike():
    assert measures.joint_error(TRUE + [0.03, 0, 0.04], TRUE) == pytest.approx(50)  # mm, the root's place counts
    assert measures.velocity_error(TRUE + [0.03, 0, 0.04], TRUE) == pytest.approx(0)


def test_velocity_is_told_by_the_frame():
    still = np.repeat(walk(1)[:1], 30, axis=0)
    drifting = still + np.arange(30)[:, None, None] * [0.002, 0, 0]
    assert measures.velocity_error(drifting, still) == pytest.approx(2)  # mm a frame
    assert measures.joint_error(drifting, still) == pytest.approx(29)  # their mean
    assert measures.velocity_error(drifting[:1], still[:1]) == 0


def test_contacts_are_joints_nearer_than_ten_centimetres():
    a, b = np.zeros((2, 3, 3)), np.zeros((2, 3, 3))
    a[:, :, 0], b[:, :, 0] = [0, 1, 2], [0.09, 1.11, 5]
    np.testing.assert_array_equal(measures.contacts(a, b), np.tile(np.diag([True, False, False]), (2, 1, 1)))


def test_consistency_is_the_f1_of_contacts_and_one_where_there_are_none():
    actor, true, made = (np.full((2, 2, 3), far) for far in (0.0, 5.0, 9.0))
    actor[:, 1] = 20
    assert measures.contact_consistency(actor, made, true) == 1
    true[0, 0] = true[1, 0] = 0.01  # touches in both frames
    assert measures.contact_consistency(actor, made, true) == 0
    made[0, 0] = 0.02  # in one of them
    assert measures.contact_consistency(actor, made, true) == pytest.approx(2 / 3)
    made[:] = 0.0  # and with another joint, in both frames
    assert measures.contact_consistency(actor, made, true) == pytest.approx(2 * 2 / (4 + 2))


def test_alignment_is_the_share_that_finds_its_own_actor():
    actors = np.eye(4)
    assert measures.alignment(actors, actors + 0.1) == 1
    assert measures.alignment(actors, np.roll(actors, 1, axis=0)) == 0
    assert measures.alignment(actors, actors[[0, 1, 3, 2]]) == 0.5
    assert measures.alignment(np.zeros((4, 3)), np.zeros((4, 3))) == 0  # latents that say nothing find nobody
    random = np.random.default_rng(0)
    shares = [measures.alignment(random.normal(size=(20, 3)), random.normal(size=(20, 3))) for _ in range(400)]
    assert np.mean(shares) == pytest.approx(1 / 20, abs=0.01)


def test_intervals_of_few_segments_are_those_of_students_t():
    found = measures.over_segments([1.0, 2.0, 3.0, 4.0])
    assert found.mean == 2.5 and found.half_width == pytest.approx(3.182 * np.std([1, 2, 3, 4], ddof=1) / 2, abs=1e-3)
    assert measures.over_segments([5.0]) == (5.0, 0.0)


def test_reactions_of_other_lengths_are_refused():
    with pytest.raises(ValueError, match="expected \\(frames, joints, 3\\) of both"):
        measures.joint_error(TRUE[:10], TRUE)
