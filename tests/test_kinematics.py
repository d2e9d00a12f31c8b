"""Physics of joints on motions whose answer is known."""

import numpy as np
import pytest
import torch

from data_loaders.kinematics import (
    bone_length_deviation,
    contacts,
    jerk,
    lowest_joint,
    nan_count,
    physics_summary,
    planted_foot_speed,
    planted_fraction,
)
from data_loaders.skeleton import load_skeleton
from tests.synthetic import standing, walk

SKELETON = load_skeleton("humanml")
FPS = 20.0


def sliding(speed: float, frames: int = 40) -> np.ndarray:
    """A person who stands and is carried along +X at `speed` m/s."""
    joints = np.repeat(standing()[None], frames, axis=0)
    joints[..., 0] += speed * np.arange(frames)[:, None] / FPS
    return joints


def test_planted_feet_slide_as_fast_as_the_body_is_carried():
    assert planted_foot_speed(sliding(0.7), FPS, SKELETON) == pytest.approx(0.7)
    assert planted_foot_speed(sliding(0.0), FPS, SKELETON) == 0


def test_feet_above_the_floor_do_not_count():
    raised = sliding(0.7) + np.array([0, 0.06, 0])
    assert planted_fraction(raised, FPS, SKELETON) == 0
    assert planted_foot_speed(raised, FPS, SKELETON) == 0
    assert planted_foot_speed(raised, FPS, SKELETON, floor=0.06) == pytest.approx(0.7)


def test_jerk_of_a_cubic_path_is_its_third_derivative():
    time = np.arange(50) / FPS
    joints = sliding(0.0, 50)
    joints[..., 1] += (4.0 * time**3)[:, None]
    assert jerk(joints, FPS) == pytest.approx(24.0, rel=1e-6)
    assert jerk(sliding(2.0), FPS) == pytest.approx(0.0, abs=1e-6)
    assert np.isnan(jerk(joints[:3], FPS))


def test_jerk_is_per_second_whatever_the_frame_rate():
    def swing(fps):
        return np.sin(2 * np.pi * np.arange(0, 2, 1 / fps))[:, None, None] * np.ones((1, 22, 3))

    assert jerk(swing(60), 60) == pytest.approx(jerk(swing(120), 120), rel=0.02)


def test_lowest_joint_tells_floating_from_sinking():
    assert lowest_joint(standing()[None] + np.array([0, 0.2, 0])) == pytest.approx(0.2)
    assert lowest_joint(standing()[None] - np.array([0, 0.1, 0])) == pytest.approx(-0.1)


def test_bones_five_percent_too_long_deviate_by_five_percent():
    assert bone_length_deviation(1.05 * sliding(0.3), SKELETON) == pytest.approx(5.0, rel=1e-3)
    assert bone_length_deviation(sliding(0.3), SKELETON) == pytest.approx(0.0, abs=1e-4)


def test_bones_of_a_body_without_given_lengths_are_held_against_their_mean():
    joints = np.random.default_rng(0).standard_normal((1, 21, 3)).repeat(10, 0)
    assert bone_length_deviation(joints, load_skeleton("kit")) == pytest.approx(0.0, abs=1e-9)
    joints[::2] *= 1.1
    assert bone_length_deviation(joints, load_skeleton("kit")) == pytest.approx(100 * 0.05 / 1.05, rel=1e-6)


def test_contacts_mean_the_same_at_any_frame_rate_and_unit():
    """The threshold is a speed: about 0.89 m/s for humanml."""
    for fps in (20.0, 60.0):
        slow, fast = (sliding(speed) * [20 / fps, 1, 1] for speed in (0.85, 0.93))
        assert contacts(slow, fps, SKELETON).min() == 1
        assert contacts(fast, fps, SKELETON).max() == 0
    kit = load_skeleton("kit")  # 0.05 mm² per frame: 2.8 mm/s
    assert contacts(sliding(0.0)[:, :21], kit.contact_fps, kit).min() == 1
    assert contacts(sliding(0.01)[:, :21], kit.contact_fps, kit).max() == 0


def test_nan_and_infinity_are_counted():
    joints = sliding(1.0)
    joints[3, 4, 1], joints[5, 6] = np.nan, np.inf
    assert nan_count(joints) == 4


def test_torch_gives_what_numpy_gives_on_batches_with_gradients():
    clips = np.stack([sliding(0.4), walk(40)])
    tensor = torch.tensor(clips, requires_grad=True)
    for measure in (planted_foot_speed, planted_fraction):
        assert np.allclose(measure(clips, FPS, SKELETON), measure(tensor, FPS, SKELETON).detach())
    assert np.allclose(jerk(clips, FPS), jerk(tensor, FPS).detach())
    planted_foot_speed(tensor, FPS, SKELETON).sum().backward()
    assert tensor.grad.isfinite().all() and tensor.grad.abs().sum() > 0


def test_summary_pools_frames_and_keeps_broken_clips_apart():
    broken = sliding(1.0)
    broken[0, 0, 0] = np.nan
    summary = physics_summary([sliding(1.0, 21), torch.tensor(sliding(0.0, 61)), broken], FPS, SKELETON)
    assert summary["clips"] == 3 and summary["frames"] == 82 and summary["nan_count"] == 1
    assert summary["planted_foot_speed"] == pytest.approx(0.25)  # 20 steps at 1 m/s, 60 at rest
    assert summary["lowest_joint"] == pytest.approx(0.0)
    assert summary["jerk"] == pytest.approx(0.0, abs=1e-6)


def test_summary_of_nothing_is_nan_not_an_error():
    summary = physics_summary([], FPS, SKELETON)
    assert summary["clips"] == 0 and np.isnan(summary["jerk"]) and np.isnan(summary["lowest_joint"])
