"""Feet that rest stay, bones keep their lengths, and nothing else is shaken."""

import numpy as np
import pytest

from data_loaders.corpus import Motion
from data_loaders.kinematics import jerk, lowest_joint, planted_foot_speed
from data_loaders.motion_checks import bone_vectors
from data_loaders.skeleton import load_skeleton
from tests.acted_motions import HUMANML, airborne, held, walking
from tests.synthetic import standing
from visualize.foot_lock import hold_feet, lock_feet, planted
from visualize.joint_rotations import solve_turns, t_pose
from visualize.two_bones import bend_limb, natural_reach

FPS = 20.0
FEET = list(HUMANML.feet)


def slipping(fps: float = FPS, seconds: float = 3.0, knees: float = 0.03) -> np.ndarray:
    """Somebody who stands with the knees a little bent while both feet slip to and fro by a few centimetres."""
    time = np.arange(int(seconds * fps)) / fps
    joints = np.repeat(standing()[None], len(time), axis=0)
    joints[:, [i for i in range(22) if i not in FEET]] -= [0.0, knees, 0.0]
    for side, feet in ((1, FEET[:2]), (-1, FEET[2:])):
        joints[:, feet, 2] += (side * 0.03 * np.sin(2 * np.pi * 0.5 * time))[:, None]
    return joints


def contact_speed(joints: np.ndarray, steps: np.ndarray, fps: float = FPS) -> float:
    """Mean horizontal speed in m/s of the feet in these steps (T-1, 4)."""
    return float((np.linalg.norm(np.diff(joints[:, FEET][..., ::2], axis=0), axis=-1) * steps).sum() / steps.sum() * fps)


def lengths(joints: np.ndarray) -> np.ndarray:
    return np.linalg.norm(bone_vectors(joints, HUMANML), axis=-1)


def test_slipping_feet_are_held_and_bones_are_as_long_as_they_were():
    joints = slipping()
    locked = hold_feet(joints, FPS, HUMANML)
    assert planted_foot_speed(locked, FPS, HUMANML) < 0.2 * planted_foot_speed(joints, FPS, HUMANML)
    np.testing.assert_allclose(lengths(locked), lengths(joints), atol=1e-9)
    assert np.abs(locked - joints).max() < 0.08


def test_feet_stay_held_on_a_body_of_stiff_bones():
    joints = slipping()
    posed = solve_turns(hold_feet(joints, FPS, HUMANML), HUMANML).joints
    assert planted_foot_speed(posed, FPS, HUMANML) < 0.2 * planted_foot_speed(joints, FPS, HUMANML)


@pytest.mark.parametrize("fps", [10.0, 30.0, 60.0, 120.0])
def test_feet_are_held_at_every_frame_rate(fps):
    joints = slipping(fps)
    locked = hold_feet(joints, fps, HUMANML)
    assert planted_foot_speed(locked, fps, HUMANML) < 0.2 * planted_foot_speed(joints, fps, HUMANML)


def test_a_body_that_is_carried_a_little_is_held_as_a_whole():
    """Both feet slip the same way: the body comes with them, the legs do not stretch."""
    joints = held(60)
    joints[..., 0] += 0.03 * np.sin(np.arange(60) / 60 * 2 * np.pi)[:, None]
    locked = hold_feet(joints, FPS, HUMANML)
    assert planted_foot_speed(locked, FPS, HUMANML) < 0.2 * planted_foot_speed(joints, FPS, HUMANML)
    assert np.ptp(locked[:, 0, 0]) < np.ptp(joints[:, 0, 0])


@pytest.mark.parametrize("knees", [0.0, 0.05])
def test_who_stands_still_is_left_alone(knees):
    joints = slipping(knees=knees)[:1].repeat(30, axis=0)
    joints[:, HUMANML.index("left_knee"), 0] += knees  # to the side
    np.testing.assert_allclose(hold_feet(joints, FPS, HUMANML), joints, atol=1e-9)


def test_who_is_in_the_air_is_left_alone():
    joints = held(20) + [0.0, 0.5, 0.0]
    joints[..., 2] += 0.05 * np.sin(np.arange(20))[:, None]
    assert not planted(joints, FPS, HUMANML).any()
    np.testing.assert_allclose(hold_feet(joints, FPS, HUMANML), joints, atol=1e-9)


def test_a_foot_that_swings_is_no_resting_one_however_low():
    joints = held(20)
    joints[:, FEET[:2], 2] += (0.05 * np.arange(20))[:, None]  # 1 m/s
    steps = planted(joints, FPS, HUMANML)
    assert not steps[:, :2].any() and (steps[:, 2:] == 1).all()


def test_nothing_is_pushed_below_where_it_was():
    joints = airborne(slipping(seconds=4.0), 30, 16, 0.2)
    locked = hold_feet(joints, FPS, HUMANML)
    assert lowest_joint(locked) > lowest_joint(joints) - 2e-3
    assert locked[38, FEET, 1].min() > 0.15  # the flight stays one


def test_the_floor_may_lie_anywhere():
    joints = slipping()
    low, high = (lock_feet(Motion((joints + [0.0, height, 0.0])[None], FPS)).joints[0] for height in (0.0, 2.0))
    np.testing.assert_allclose(high - [0.0, 2.0, 0.0], low, atol=1e-6)


def test_each_of_two_people_is_held_as_if_alone_and_stays_where_they_met():
    pair = np.stack([slipping(), slipping()[:, :, [2, 1, 0]] + [0.5, 0.0, 0.0]])
    both = lock_feet(Motion(pair.astype(np.float32), FPS, captions=("two people slip",)))
    assert both.joints.dtype == np.float32 and both.captions == ("two people slip",)
    for person, joints in zip(both.joints, pair):
        np.testing.assert_allclose(person, hold_feet(joints, FPS, HUMANML), atol=1e-5)
    assert np.abs(both.joints[:, :, 0] - pair[:, :, 0]).max() < 0.03


@pytest.mark.parametrize("frames", [1, 2, 3])
def test_a_clip_too_short_to_judge_is_left_as_it_is(frames):
    motion = Motion(slipping()[None, :frames], FPS)
    assert lock_feet(motion) is motion


def test_who_walks_keeps_the_way():
    joints = walking()
    assert np.linalg.norm(hold_feet(joints, FPS, HUMANML)[:, 0] - joints[:, 0], axis=-1).max() < 0.1


def test_another_skeleton_with_more_joints_below_the_ankle_is_held_too():
    kit = load_skeleton("kit")
    rest = np.zeros((kit.num_joints, 3))
    for joint, parent in enumerate(kit.parents[1:], start=1):
        rest[joint] = rest[parent] + 0.25 * t_pose(kit)[joint] * (0.2 if joint in kit.feet else 1)
    joints = np.repeat(rest[None] - [0.0, rest[:, 1].min(), 0.0], 40, axis=0)
    below = [14, 15, 13]  # the right foot slips, its leg follows
    joints[:, below, 2] += 0.02 * np.sin(np.arange(40) / 4)[:, None]
    locked = hold_feet(joints, 12.5, kit)
    assert planted_foot_speed(locked, 12.5, kit) < 0.3 * planted_foot_speed(joints, 12.5, kit)
    own, kept = (np.linalg.norm(bone_vectors(each, kit), axis=-1) for each in (joints, locked))
    np.testing.assert_allclose(kept, own, atol=1e-9)


def test_a_limb_of_two_bones_bends_to_the_side_it_did_and_reaches_for_what_is_too_far():
    limb = np.array([[[0.0, 1.0, 0.0], [0.0, 0.5, 0.1], [0.0, 0.0, 0.0]]])
    ahead, bone = np.array([[0.0, 0.0, 1.0]]), np.hypot(0.5, 0.1)
    knee, ankle = bend_limb(limb, limb[:, 0], np.array([[0.0, 0.4, 0.0]]), (bone, bone), ahead)
    np.testing.assert_allclose(ankle, [[0.0, 0.4, 0.0]], atol=1e-12)
    np.testing.assert_allclose(knee, [[0.0, 0.7, np.sqrt(bone**2 - 0.3**2)]], atol=1e-9)
    _, far = bend_limb(limb, limb[:, 0], np.array([[0.0, -5.0, 0.0]]), (bone, bone), ahead)
    assert 1 - far[0, 1] == pytest.approx(2 * bone)
    straight = np.array([[[0.0, 1.0, 0.0], [0.0, 0.5, 0.0], [0.0, 0.0, 0.0]]])
    knee, _ = bend_limb(straight, straight[:, 0], straight[:, 2], (bone, bone), ahead)
    np.testing.assert_allclose(knee, [[0.0, 0.5, 0.1]], atol=1e-9)


def test_a_limb_reaches_as_far_as_its_bend_lets_it_and_is_the_stiffer_the_straighter():
    angle = np.radians([5.0, 60.0, 90.0])
    limb = np.zeros((3, 3, 3))
    limb[:, 1, 1] = -0.4
    limb[:, 2] = limb[:, 1] + 0.4 * np.stack([0 * angle, -np.cos(angle), np.sin(angle)], -1)
    reach, stiffness = natural_reach(limb, (0.4, 0.4))
    np.testing.assert_allclose(reach, np.linalg.norm(limb[:, 2], axis=-1), atol=1e-12)
    np.testing.assert_allclose(natural_reach(limb, (0.8, 0.8))[0], 2 * reach, atol=1e-12)
    assert stiffness[0] > 50 > 1 > stiffness[1] > stiffness[2]


def test_nearly_straight_knees_of_bones_that_waver_shake_little_more():
    joints = slipping(knees=0.005)
    knees = [HUMANML.index("left_knee"), HUMANML.index("right_knee")]
    joints[:, knees] += np.random.default_rng(0).normal(scale=0.003, size=(len(joints), 2, 3))
    locked = hold_feet(joints, FPS, HUMANML)
    np.testing.assert_allclose(lengths(locked), lengths(joints), atol=1e-9)
    assert planted_foot_speed(locked, FPS, HUMANML) < 0.2 * planted_foot_speed(joints, FPS, HUMANML)
    assert jerk(locked, FPS) < 1.5 * jerk(joints, FPS)


def total_slip(clips: list[np.ndarray], steps: list[np.ndarray]) -> float:
    return sum(contact_speed(joints, each) * each.sum() for joints, each in zip(clips, steps, strict=True))


@pytest.mark.slow
def test_generated_feet_slip_half_as_fast_and_no_motion_is_shaken():
    """Made by the weights that come with the code. Feet in contact before are measured before and after, as joints and on bodies
    of stiff bones: the mean over all low feet, `planted_foot_speed`, is mostly that of feet which swing close to the floor."""
    from sample.generation import generate

    prompts = ["a person walks forward", "a person turns left while walking", "a person runs fast", "an old person walks",
               "a person walks backward", "a person kicks", "a person dances salsa", "a person jumps"] * 2  # fmt: skip
    motions = generate(prompts, [80] * len(prompts), seeds=range(len(prompts)))
    before = [motion.joints[0].astype(np.float64) for motion in motions]
    after = [lock_feet(motion).joints[0].astype(np.float64) for motion in motions]
    steps = [planted(joints, FPS, HUMANML) > 0 for joints in before]
    assert total_slip(after, steps) < 0.3 * total_slip(before, steps)
    stiff = [[solve_turns(joints, HUMANML).joints for joints in clips] for clips in (before, after)]
    assert total_slip(stiff[1], steps) < 0.6 * total_slip(stiff[0], steps)
    for prompt, joints, held_ones in zip(prompts, before, after, strict=True):
        assert jerk(held_ones, FPS) < 1.1 * jerk(joints, FPS), prompt
