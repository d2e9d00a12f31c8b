"""Two people in one world: their features lead back to their joints, whoever faces where, and mirror as people do."""

import numpy as np
import pytest
import torch

from data_loaders import interhuman_features
from data_loaders.feature_statistics import feature_mean_std, mean_std
from data_loaders.features import Features, FeaturesMismatch, Statistics, interhuman_blocks, kind_of_width
from data_loaders.humanml_features import features_from_joints, mirror_joints
from data_loaders.skeleton import load_skeleton
from tests import pairs
from tests.shared import shared
from tests.synthetic import walk_in_a_curve

BODY = load_skeleton("humanml")
PAIR = pairs.PAIR
PERSON = Features(kind="interhuman_person", heading="continuous")


def two_walkers(frames: int = 60, degrees: float = 25.0, x: float = 3.0, z: float = -2.0) -> torch.Tensor:
    return torch.tensor(pairs.two_walkers(frames, degrees, x, z), dtype=torch.float32)


def distances(joints: torch.Tensor) -> torch.Tensor:
    """Between every joint of one and every joint of the other, (T, 22, 22)."""
    return (joints[0][:, :, None] - joints[1][:, None]).norm(dim=-1)


def encoded(joints: torch.Tensor, features: Features, floor: str = "shared") -> torch.Tensor:
    return interhuman_features.features_from_clips([joints], BODY, features.heading, floor=floor)[0]


def test_joints_of_two_people_come_back_with_their_distances_and_heights():
    joints = two_walkers()
    rows = encoded(joints, PAIR)
    assert rows.shape == (59, 524)
    back = PAIR.joints(rows)
    assert back.shape == (2, 59, 22, 3)
    assert (distances(back) - distances(joints[:, :-1])).abs().max() < 1e-3
    assert back[1, :, :, 1].min() - back[0, :, :, 1].min() == pytest.approx(0.2, abs=1e-3)


def test_the_first_person_starts_at_the_origin_and_faces_forward():
    back = PAIR.joints(PAIR.encode(two_walkers()))
    start = interhuman_features.placement(back[0], BODY)
    assert start.origin.abs().max() < 1e-5
    assert abs(start.facing - 1) < 1e-5


@pytest.mark.parametrize("degrees", [0, 90, 180, -75])
@pytest.mark.parametrize("features", [PAIR, PERSON])
def test_features_do_not_depend_on_where_people_start_and_face(features, degrees):
    joints, other = two_walkers(), two_walkers(degrees=degrees, x=-5.0, z=8.0)
    if features.persons == 1:
        joints, other = joints[1], other[1]
    assert (features.encode(joints) - features.encode(other)).abs().max() < 1e-4


@pytest.mark.parametrize("features", [PAIR, PERSON])
def test_the_frames_of_a_clip_are_all_in_its_rows(features):
    joints = two_walkers() if features.persons == 2 else two_walkers()[0]
    rows = features.encode(joints)
    frames = interhuman_features.all_joints(rows, features)
    expected = interhuman_features.canonicalise(joints, BODY, sunk=interhuman_features.SUNK)
    assert (frames - expected.reshape(frames.shape)).abs().max() < 1e-5


@pytest.mark.parametrize("features", [PAIR, PERSON])
def test_a_window_of_rows_brought_to_the_origin_is_the_window_of_the_recording(features):
    joints = two_walkers(80) if features.persons == 2 else two_walkers(80)[1]
    window = interhuman_features.from_start(features.encode(joints)[20:50], features)
    other = features.encode(joints[..., 20:51, :, :])
    whole = [interhuman_features.all_joints(each, features) for each in (window, other)]
    on_floor = [interhuman_features.canonicalise(each, BODY) for each in whole]
    assert (on_floor[0] - on_floor[1]).abs().max() < 1e-4  # a clip's floor is its own
    rot = slice(132, 258)
    assert (window[:, rot] - other[:, rot]).abs().max() < 1e-4


@pytest.mark.parametrize("features", [PAIR, PERSON, Features(kind="interhuman_person")])
def test_the_mirror_image_of_features_is_that_of_the_joints_and_twice_it_is_the_motion(features):
    joints = two_walkers() if features.persons == 2 else two_walkers(degrees=0, x=0, z=0)[0]
    rows = features.encode(joints)
    mirror = interhuman_features.mirrored(rows, features)
    assert torch.equal(interhuman_features.mirrored(mirror, features), rows)
    assert not torch.allclose(mirror, rows, atol=1e-2)
    again = features.encode(mirror_joints(joints, BODY))
    tolerance = 1e-4 if features.heading == "continuous" else 0.2  # published bone rotations are not symmetric (rest offsets)
    assert (interhuman_features.from_start(mirror, features) - again).abs().max() < tolerance


@pytest.mark.parametrize("features", [PAIR, PERSON])
def test_motions_moved_about_are_those_of_people_who_stand_there(features):
    joints = two_walkers() if features.persons == 2 else two_walkers()[0]
    rows = features.encode(joints)
    away = interhuman_features.moved(rows, features, np.radians(90), (2.0, -1.0))
    first = features.joints(away).reshape(-1, 59, 22, 3)[0]
    start = interhuman_features.placement(first, BODY)
    assert torch.allclose(start.origin, torch.tensor([2.0, 0.0, -1.0]), atol=1e-5) and abs(start.facing - 1j) < 1e-5
    assert (interhuman_features.from_start(away, features) - rows).abs().max() < 1e-4


@pytest.mark.parametrize("features", [PAIR, PERSON])
def test_about_the_pelvis_a_body_is_told_alike_wherever_it_stands(features):
    rows = features.encode(two_walkers() if features.persons == 2 else two_walkers()[0])
    away = interhuman_features.moved(rows, features, 0.0, (2.0, -1.0))
    people, others = (each.unflatten(-1, (features.persons, -1)) for each in (rows, away))
    told, elsewhere = (interhuman_features.about_pelvis(each, features) for each in (people, others))
    differs = (told - elsewhere).abs().amax(0) > 1e-4
    assert differs.nonzero()[:, 1].tolist() == [0, 2] * features.persons  # x and z of the pelvis alone
    ankle = told[:, 0, features.blocks["velocities"]].unflatten(-1, (-1, 3))[:, 7]
    joints = features.joints(rows).reshape(features.persons, -1, 22, 3)[0]
    step = (joints[:, 7] - joints[:, 0]).diff(dim=0)
    assert (ankle[:-1, ::2] - step[:, ::2]).abs().max() < 1e-5
    assert torch.allclose(interhuman_features.in_world(told, features), people, atol=1e-6)
    places = people[..., features.blocks["positions"]]
    assert torch.equal(interhuman_features.about_pelvis(places, features), told[..., features.blocks["positions"]])


def test_people_exchanged_twice_are_as_they_were():
    rows = PAIR.encode(two_walkers())
    other = interhuman_features.exchanged(rows, PAIR)
    assert torch.equal(other[:, :262], rows[:, 262:])
    assert torch.equal(interhuman_features.exchanged(other, PAIR), rows)


def test_exchanged_people_brought_to_the_origin_are_those_encoded_in_that_order():
    joints = two_walkers()
    other = interhuman_features.from_start(interhuman_features.exchanged(PAIR.encode(joints), PAIR), PAIR)
    assert (other - PAIR.encode(joints.flip(0))).abs().max() < 1e-4


def test_a_floor_for_each_takes_their_relative_height_off_a_shared_one_keeps_it():
    joints = two_walkers()
    for floor, height in (("person", 0.0), ("shared", 0.2)):
        lowest = interhuman_features.canonicalise(joints, BODY, floor)[1, ..., 1].min()
        assert lowest == pytest.approx(height, abs=1e-3)


def test_a_foot_that_sinks_for_a_moment_lifts_nobody():
    joints = two_walkers(100)
    sunk = joints.clone()
    sunk[0, 40:43, 10, 1] -= 0.3
    heights = [PAIR.joints(PAIR.encode(each))[0, 0, :, 1] for each in (joints, sunk)]
    assert (heights[0] - heights[1]).abs().max() < 5e-3
    published = Features(kind="interhuman", heading="published")
    assert (published.joints(published.encode(sunk))[0, 0, :, 1] - heights[0]).min() > 0.25


def test_a_foot_is_planted_where_it_is_low_and_still():
    joints = torch.zeros(3, 22, 3)
    joints[:, :, 1] = 1.0
    joints[:, 7, 1], joints[:, 10, 1] = 0.119, 0.051  # the toe is too high
    joints[:, 8, 1], joints[:, 11, 1] = 0.05, 0.04
    joints[1:, 11, 0] = 0.04  # steps 4 cm in a frame, then stays
    assert interhuman_features.foot_contacts(joints, BODY).tolist() == [[1, 0, 1, 0], [1, 0, 1, 1]]


def test_rotations_are_written_row_by_row_and_turn_with_no_body():
    """A limb at rest has no rotation: 1 0 0 1 0 0."""
    rest = torch.zeros(22, 3)
    for joint, parent in enumerate(BODY.parents):
        if parent >= 0:
            rest[joint] = rest[parent] + torch.tensor(BODY.raw_offsets[joint]) * BODY.bone_lengths[joint]
    joints = torch.stack([rest, rest]).repeat(2, 1, 1, 1)
    joints[1] = torch.from_numpy(pairs.turned(joints[1].numpy(), 120, 1, 1))
    turns = interhuman_features.solved_rotations(joints, BODY)
    assert (turns - torch.tensor([1.0, 0, 0, 1, 0, 0])).abs().max() < 1e-5


def test_rotations_of_files_are_kept_as_they_are():
    joints, rotations = two_walkers(), torch.randn(2, 60, 21, 6)
    rows = interhuman_features.features_from_clips([joints], BODY, rotations=[rotations])[0]
    kept = interhuman_features.of_persons(rows, PAIR)[..., PAIR.blocks["rot"]]
    assert torch.equal(kept, rotations[:, :-1].flatten(-2))


def test_humanml3d_in_262_columns_has_its_own_rotations_and_the_released_converter_others():
    joints = torch.tensor(walk_in_a_curve(40))
    features = features_from_joints(joints, BODY)
    rot = slice(132, 258)
    right = interhuman_features.features_from_humanml3d(joints, features, BODY)
    assert right.shape == (38, 262) and torch.equal(right[:, rot], features[:-1, 67:193])
    released = interhuman_features.features_from_humanml3d(joints, features, BODY, "released")
    assert torch.equal(released[:, rot], features[:-1, 133:259]) and torch.equal(released[:, :132], right[:, :132])
    own = Features(kind="interhuman_person").encode(joints)
    assert (own[:-1] - right).abs().max() < 1e-5


def test_the_rotation_columns_are_what_the_published_statistics_say_they_are():
    """The prior's statistics agree with HumanML3D's own mean of its rotations, columns 67:193."""
    prior = Statistics.published("interhuman_hml3d", Features(kind="interhuman_person"), "float64")
    humanml = Statistics.published("HumanML3D", Features(), "float64")
    assert np.abs(prior.mean[132:258] - humanml.mean[67:193]).max() < 0.05
    assert np.abs(prior.mean[132:258] - humanml.mean[133:259]).max() > 0.5


def test_published_statistics_of_a_person_serve_both():
    pair = Statistics.published("interhuman", PAIR)
    assert pair.mean.shape == (524,) and np.array_equal(pair.mean[:262], pair.mean[262:])
    assert (pair.std > 0.007).all()


def test_published_statistics_are_those_published():
    with np.load(shared("golden", "in2in", "stats.npz")) as file:
        for name, key in (("interhuman", "interhuman"), ("interhuman_hml3d", "hml3d")):
            carried = Statistics.published(name, Features(kind="interhuman_person"), "float64")
            for values, part in ((carried.mean, "mean"), (carried.std, "std")):
                published = file[f"{key}_{part}"]
                assert np.array_equal(values.astype(published.dtype), published)


def test_two_people_share_their_statistics():
    clips = [PAIR.encode(two_walkers(40 + 10 * i)).numpy() for i in range(3)]
    mean, std = mean_std(clips, PAIR)
    assert mean.shape == (524,) and np.array_equal(mean[:262], mean[262:])
    rows = np.concatenate(clips).reshape(-1, 262)
    assert np.abs(mean[:262] - rows.mean(0)).max() < 1e-4
    assert np.abs(std[:66] - rows.std(0)[:66]).max() < 1e-4
    assert np.abs(feature_mean_std(clips, PAIR)[0] - mean).max() < 1e-6


def test_blocks_fill_the_262_columns_of_a_person():
    assert [block.stop for block in interhuman_blocks(22).values()] == [66, 132, 258, 262]
    assert kind_of_width("humanml", 262) == "interhuman_person" and kind_of_width("humanml", 524) == "interhuman"


@pytest.mark.parametrize("shape", [(5, 22, 3), (3, 5, 22, 3), (2, 1, 22, 3), (2, 5, 21, 3)])
def test_joints_of_other_people_frames_or_bodies_are_refused(shape):
    with pytest.raises(FeaturesMismatch, match=r"expected joints|needs"):
        PAIR.encode(torch.zeros(shape))


@pytest.mark.parametrize("width", [262, 263, 523, 526])
def test_rows_of_another_width_are_refused(width):
    with pytest.raises(FeaturesMismatch, match="262"):
        PAIR.joints(torch.zeros(4, width))
