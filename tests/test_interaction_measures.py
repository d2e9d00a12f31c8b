"""What lies between two people: capsules that overlap, distances, facing, and how sets of motions compare."""

import numpy as np
import pytest

from data_loaders.skeleton import load_skeleton
from evaluations import interaction_measures as measures
from tests import synthetic
from tests.pairs import turned

SKELETON, FPS = load_skeleton("humanml"), 30.0


def standing(frames: int = 20) -> np.ndarray:
    """Joints (T, 22, 3) of a body that stands at the origin and faces +Z, arms hanging."""
    return np.repeat(synthetic.standing()[None], frames, axis=0)


def pair(apart: float, degrees: float = 180.0) -> np.ndarray:
    """Two people, the second so many metres ahead of the first and turned so."""
    return np.stack([standing(), turned(standing(), degrees, 0, apart)])


def test_identical_people_in_one_place_overlap_in_every_frame_and_people_two_metres_apart_in_none():
    assert measures.interpenetration(np.stack([standing(), standing()]), SKELETON) == 1
    assert measures.interpenetration(pair(2.0), SKELETON) == 0


def test_a_person_who_walks_through_another_overlaps_meanwhile():
    walking = standing(61)
    walking[..., 2] += np.linspace(-3, 3, 61)[:, None]
    share = measures.interpenetration(np.stack([standing(61), walking]), SKELETON)
    assert 0.02 < share < 0.3
    assert share == measures.interpenetration(np.stack([walking, standing(61)]), SKELETON)


def test_people_who_hold_hands_do_not_overlap():
    people = pair(1.0)
    for side in ("left", "right"):
        wrist = SKELETON.index(f"{side}_wrist")
        elbow = SKELETON.index(f"{side}_elbow")
        people[0, :, wrist] = people[1, :, wrist] = [0.2 if side == "left" else -0.2, 1.1, 0.5]
        for person, z in ((0, 0.24), (1, 0.76)):
            people[person, :, elbow] = [0.2 if side == "left" else -0.2, 1.1, z]
    assert measures.body_distance(people, SKELETON).min() > 2 * measures.RADIUS
    assert measures.interpenetration(people, SKELETON) == 0


def test_distances_of_segments_are_those_of_their_nearest_points():
    rng = np.random.default_rng(0)
    a, b = (tuple(rng.normal(size=(2, 5, 3))) for _ in range(2))
    share = np.linspace(0, 1, 201)
    points = [start[:, None] + share[:, None] * (end - start)[:, None] for start, end in (a, b)]  # (5, 201, 3)
    gaps = np.linalg.norm(points[0][:, None, :, None] - points[1][None, :, None], axis=-1)  # (5, 5, 201, 201)
    found, nearest = measures.segment_distances(a, b), gaps.min((2, 3))
    assert (found <= nearest + 1e-12).all() and np.abs(found - nearest).max() < 0.02
    np.testing.assert_allclose(measures.segment_distances(b, a), found.T)


@pytest.mark.parametrize(("b", "distance"), [
    (([0, 1, 0], [0, 1, 1]), 1.0),  # parallel, side by side
    (([0, 0, 3], [0, 0, 4]), 2.0),  # on one line
    (([-1, 0.5, 0.5], [1, 0.5, 0.5]), 0.5),  # across
    (([0, 0, 0.5], [0, 0, 0.5]), 0.0),  # a point on it
    (([-1, 0, 0.3], [1, 0, 0.3]), 0.0),  # cut through
    (([0, 2, 1], [0, 3, 5]), 2.0),  # an end is nearest
])  # fmt: skip
def test_a_segment_along_z_is_so_far_from_another(b, distance):
    a = np.zeros((1, 3)), np.array([[0.0, 0.0, 1.0]])
    assert measures.segment_distances(a, tuple(np.array([each], float) for each in b))[0, 0] == pytest.approx(distance)


def test_distance_and_facing_are_those_of_who_stands_where():
    face_to_face, in_file = pair(1.5, 180.0), pair(1.5, 0.0)
    np.testing.assert_allclose(measures.pelvis_distance(face_to_face), 1.5)
    np.testing.assert_allclose(measures.facing(face_to_face, FPS), 0, atol=1e-6)
    front, back = measures.facing(in_file, FPS)  # person 1 looks at the back of person 2
    np.testing.assert_allclose(front, 0, atol=1e-6)
    np.testing.assert_allclose(back, 180, atol=1e-6)
    np.testing.assert_allclose(measures.facing(pair(1.5, 90.0), FPS)[1], 90, atol=1e-6)


def test_where_both_are_in_the_world_does_not_count():
    people = pair(0.8, 150.0)
    moved = turned(people, 77.0, 3.0, -5.0)
    np.testing.assert_allclose(measures.body_distance(moved, SKELETON), measures.body_distance(people, SKELETON), atol=1e-9)
    np.testing.assert_allclose(measures.facing(moved, FPS), measures.facing(people, FPS), atol=1e-6)


def test_the_same_motions_have_no_gap_and_others_one_of_as_much_as_they_are_apart():
    near, far = [pair(1.0)], [pair(1.7)]
    real = measures.between(near, FPS, SKELETON)
    same, other = (measures.interaction_physics(clips, FPS, SKELETON, real) for clips in (near, far))
    assert same["pelvis_distance_gap"] == same["facing_gap"] == 0
    assert other["pelvis_distance_gap"] == pytest.approx(0.7) and other["pelvis_distance"] == pytest.approx(1.7)
    assert same["clips"] == 1 and same["planted_foot_speed"] == pytest.approx(0)


def test_bodies_of_another_size_keep_it_and_do_not_deviate():
    tall = 1.15 * pair(1.0)
    assert measures.interaction_physics([tall], FPS, SKELETON)["bone_length_deviation"] == pytest.approx(0, abs=1e-6)
    breathing = tall * (1 + 0.1 * np.sin(np.arange(tall.shape[1]))[:, None, None])
    assert 3 < measures.interaction_physics([breathing], FPS, SKELETON)["bone_length_deviation"] < 10


def test_clips_that_are_not_finite_are_counted_and_left_out():
    broken = pair(1.0)
    broken[0, 3, 5] = np.nan
    found = measures.interaction_physics([broken, pair(1.0)], FPS, SKELETON)
    assert found["nan_count"] == 3 and found["pelvis_distance"] == pytest.approx(1.0) and found["pelvis_distance_gap"] is None
    assert measures.interaction_physics([broken], FPS, SKELETON)["interpenetration"] is None


def test_one_person_is_no_pair():
    with pytest.raises(ValueError, match="expected two people"):
        measures.pelvis_distance(standing()[None])
