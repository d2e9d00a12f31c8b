"""Joints to features and back: round trips, invariances, edge cases."""

import logging
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor

from benchmarks.features import main as benchmark
from benchmarks.features import reference_features
from data_loaders.bone_rotations import bone_lengths
from data_loaders.feature_statistics import feature_mean_std, mean_std, renormalise, with_feature_bias
from data_loaders.features import Features, FeaturesMismatch, humanml_blocks
from data_loaders.headings import Spans, smooth_in_time
from data_loaders.humanml_features import (
    features_from_clips,
    features_from_joints,
    foot_contacts,
    joints_from_features,
    mirror_joints,
)
from data_loaders.skeleton import load_skeleton
from tests.published_rotations import canonical_joints, joints_from_rotations, root_from_features
from tests.synthetic import synthetic_clip, walk

FEATURES = Features("humanml", 20.0, "published")
HUMANML, KIT = load_skeleton("humanml"), load_skeleton("kit")
TENTH_OF_A_MILLIMETRE = 1e-4


def clip(frames: int = 60, seed: int = 0) -> Tensor:
    return torch.from_numpy(synthetic_clip(frames, HUMANML, seed))


def turned(joints: Tensor, degrees: float | np.ndarray, about_root: bool = False) -> Tensor:
    """Joints (T, J, 3) turned about the world's Y axis, or each frame about its root's."""
    angle = torch.as_tensor(np.radians(degrees)) * torch.ones(len(joints), dtype=torch.float64)
    cos, sin = angle.cos()[:, None], angle.sin()[:, None]
    centre = joints[:, :1].double() * torch.tensor([1.0, 0.0, 1.0]) if about_root else 0.0
    x, y, z = (joints.double() - centre).unbind(-1)
    return (torch.stack((cos * x + sin * z, y, cos * z - sin * x), -1) + centre).float()


def spinning(degrees_per_frame: float, frames: int = 120) -> Tensor:
    return turned(clip(frames, seed=4), degrees_per_frame * np.arange(frames), about_root=True)


def largest_error(joints: Tensor, skeleton=HUMANML, heading="continuous", **options) -> float:
    features = features_from_joints(joints, skeleton, heading, **options)
    expected = canonical_joints([joints], skeleton, heading, **options)[0][:-1]
    return (joints_from_features(features, skeleton) - expected).abs().max().item()


@pytest.mark.parametrize("frames", [2, 3, 41, 500])
def test_continuous_features_decode_to_the_joints_they_came_from(frames):
    assert largest_error(clip(frames)) < 1e-5


@pytest.mark.parametrize("degrees_per_frame", [3, 18, 60, 90, 120, 179, 180, 250])
def test_however_fast_a_body_spins_it_decodes(degrees_per_frame):
    assert largest_error(spinning(degrees_per_frame)) < 1e-5


@pytest.mark.parametrize("degrees", [0, 90, 179.99, 180, 270])
def test_whichever_way_a_clip_starts_out_its_features_are_the_same(degrees):
    for heading in ("published", "continuous"):
        expected = features_from_joints(clip(), HUMANML, heading)
        got = features_from_joints(turned(clip(), degrees), HUMANML, heading)
        assert (got - expected).abs().max() < TENTH_OF_A_MILLIMETRE


def test_where_a_clip_takes_place_does_not_matter():
    moved = clip() + torch.tensor([3.0, 0.5, -2.0])
    assert (features_from_joints(moved, HUMANML) - features_from_joints(clip(), HUMANML)).abs().max() < 1e-4


def test_rotations_and_positions_tell_the_same_joints():
    features = features_from_joints(clip(200), HUMANML, "continuous")
    difference = joints_from_rotations(features, HUMANML) - joints_from_features(features, HUMANML)
    assert difference.abs().max() < 1e-5


def test_kit_decodes_in_millimetres_and_keeps_its_bones():
    body = replace(KIT, bone_lengths=(0.0,) + (200.0,) * 20)
    joints = 1000 * torch.from_numpy(synthetic_clip(80, replace(body, bone_lengths=(0.0,) + (0.2,) * 20), 1))
    assert largest_error(joints, KIT) * KIT.metres_per_unit < 1e-5
    features = features_from_joints(joints, KIT, "continuous")
    assert features.shape == (79, 251)
    lengths = bone_lengths(joints_from_features(features, KIT), KIT)
    assert torch.allclose(lengths, bone_lengths(joints, KIT)[:-1], atol=1e-2)


def test_every_clip_takes_the_body_of_the_skeleton():
    decoded = joints_from_features(features_from_joints(clip() * 1.3, HUMANML, "continuous"), HUMANML)
    assert torch.allclose(bone_lengths(decoded, HUMANML), torch.tensor(HUMANML.bone_lengths), atol=1e-5)


def test_a_clip_starts_on_the_floor_at_the_origin_facing_z():
    joints = canonical_joints([turned(torch.from_numpy(walk(60)).float(), 130)], HUMANML, "continuous")[0]
    assert joints[..., 1].min().abs() < 1e-6
    assert joints[0, 0, [0, 2]].abs().max() < 1e-6
    assert joints[-1, 0, 2] > 2.5 and joints[-1, 0, 0].abs() < 0.1  # a straight walk leads along +Z
    left, right = (joints[0, HUMANML.index(f"{side}_hip")] for side in ("left", "right"))
    assert left[0] > right[0]


def test_many_clips_at_once_give_what_each_gives_alone():
    clips = [clip(frames, seed) for seed, frames in enumerate((2, 40, 700, 13, 90))]
    for heading in ("published", "continuous"):
        together = features_from_clips(clips, HUMANML, heading)
        for joints, features in zip(clips, together, strict=True):
            assert len(features) == len(joints) - 1
            assert (features - features_from_joints(joints, HUMANML, heading)).abs().max() < 1e-5


def test_a_clip_with_nan_leaves_its_neighbours_alone():
    broken = clip(50, 1)
    broken[20, 5] = torch.nan
    for heading in ("published", "continuous"):
        before, middle, after = features_from_clips([clip(), broken, clip()], HUMANML, heading)
        assert middle.isnan().any()
        alone = features_from_joints(clip(), HUMANML, heading)
        assert torch.allclose(before, alone, atol=1e-6) and torch.allclose(after, alone, atol=1e-6)


def test_published_features_are_the_per_joint_recipe():
    target = (np.array(HUMANML.raw_offsets) * np.array(HUMANML.bone_lengths)[:, None]).astype(np.float32)
    for seed in range(5):
        joints = clip(70, seed)
        expected = torch.from_numpy(reference_features(joints.numpy(), HUMANML, target)).float()
        got = features_from_joints(joints, HUMANML, "published")
        assert (got - expected).abs().max() < 1e-3  # 6D near a half turn
        assert (got - expected)[:, :67].abs().max() < 1e-5


def test_frame_0_is_overwritten_in_published_features_only():
    joints = turned(clip(60), 25 * np.sin(np.arange(60) / 9.0), about_root=True)
    published, continuous = (features_from_joints(joints, HUMANML, mode)[:, 0] for mode in ("published", "continuous"))
    later = published[1:].abs().max()
    assert published[0].abs() > 2 * later  # the step from no rotation to the smoothed heading
    assert continuous[0].abs() < 2 * continuous[1:].abs().max()


@pytest.mark.parametrize("heading", ["published", "continuous"])
@pytest.mark.parametrize("joints", [
    torch.zeros(30, 22, 3), clip(30)[:1].repeat(30, 1, 1), clip(30) * torch.tensor([1.0, 0.0, 1.0])
], ids=["all joints in one point", "nothing moves", "flat on the floor"])  # fmt: skip
def test_degenerate_bodies_have_finite_features(joints, heading):
    assert features_from_joints(joints, HUMANML, heading).isfinite().all()


@pytest.mark.parametrize("lean", [0.0, 1e-9, 1e-7, 1e-5, 1e-3, 1e-2, 0.1])
def test_bones_opposite_to_their_rest_direction_have_a_rotation(lean):
    """Every bone points away from its rest direction, exactly or nearly so."""
    directions = -torch.tensor(HUMANML.raw_offsets) + lean * torch.randn(22, 3, generator=torch.Generator().manual_seed(0))
    offsets = directions * torch.tensor(HUMANML.bone_lengths)[:, None]
    joints = torch.zeros(22, 3)
    for joint in range(1, 22):
        joints[joint] = joints[HUMANML.parents[joint]] + offsets[joint]
    features = features_from_joints(joints.repeat(10, 1, 1), HUMANML, "continuous")
    decoded = joints_from_features(features, HUMANML)
    assert features.isfinite().all()
    assert (joints_from_rotations(features, HUMANML) - decoded).abs().max() < 1e-5


def test_only_root_and_position_columns_are_needed_and_gradients_reach_them():
    features = features_from_joints(clip(), HUMANML, "continuous")
    short = features[:, :67].clone().requires_grad_()
    joints = joints_from_features(short, HUMANML)
    assert torch.equal(joints.detach(), joints_from_features(features, 22))
    joints.square().sum().backward()
    reached = short.grad.abs().sum(0) > 0
    assert reached.all()
    assert short.grad[-1, :3].abs().max() == 0  # the last frame's step leads out of the clip


def test_gradients_reach_the_rotations():
    features = features_from_joints(clip(), HUMANML, "continuous").requires_grad_()
    joints_from_rotations(features, HUMANML).square().sum().backward()
    rot = features.grad[:, humanml_blocks(22)["rot"]]
    assert rot.isfinite().all() and rot.abs().sum(0).min() > 0


def test_decoding_works_on_any_leading_dimensions_and_in_half_precision():
    features = torch.stack([features_from_joints(clip(60, seed), HUMANML, "continuous") for seed in range(4)])
    batched = joints_from_features(features.view(2, 2, 59, 263), HUMANML)
    assert batched.shape == (2, 2, 59, 22, 3)
    assert torch.allclose(batched[1, 0], joints_from_features(features[2], HUMANML))
    assert joints_from_features(features.bfloat16(), HUMANML).dtype == torch.float32
    quaternion, position = root_from_features(features)
    assert torch.allclose(quaternion.norm(dim=-1), torch.ones(4, 59))
    assert torch.allclose(position, batched.view(4, 59, 22, 3)[:, :, 0], atol=1e-6)


def test_mirroring_twice_is_nothing_and_once_swaps_the_hands():
    joints = clip()
    mirrored = mirror_joints(joints, HUMANML)
    left, right = HUMANML.index("left_wrist"), HUMANML.index("right_wrist")
    assert torch.equal(mirrored[:, left], joints[:, right] * torch.tensor([-1.0, 1.0, 1.0]))
    assert torch.equal(mirror_joints(mirrored, HUMANML), joints)


def test_a_mirrored_clip_turns_the_other_way():
    joints = turned(clip(80), 2.0 * np.arange(80), about_root=True)
    there, back = (features_from_joints(j, HUMANML, "continuous")[:, 0] for j in (joints, mirror_joints(joints, HUMANML)))
    assert torch.allclose(there, -back, atol=1e-4)
    assert there.mean() < -0.01  # turning left (towards +X), half angles, world to body


def test_feet_that_rest_touch_and_feet_that_slide_do_not():
    joints = torch.zeros(10, 22, 3)
    joints[:, HUMANML.left_feet[0], 0] = 0.1 * torch.arange(10)
    contacts = foot_contacts(joints, HUMANML)
    assert contacts.shape == (9, 4)
    assert contacts.sum(0).tolist() == [0, 9, 9, 9]
    features = features_from_joints(torch.from_numpy(walk(50)).float(), HUMANML)
    assert 0.2 < features[:, humanml_blocks(22)["contact"]].mean() < 0.95


def test_smoothing_is_scipys_gaussian_filter():
    from scipy.ndimage import gaussian_filter1d

    lengths = [2, 30, 64, 65, 400]
    values = torch.randn(sum(lengths), dtype=torch.complex64, generator=torch.Generator().manual_seed(0))
    smoothed = smooth_in_time(values, Spans.of(lengths, values.device))
    for got, clip_values in zip(smoothed.split(lengths), values.split(lengths)):
        parts = [gaussian_filter1d(part.numpy(), 20, mode="nearest") for part in (clip_values.real, clip_values.imag)]
        assert np.abs(got.numpy() - (parts[0] + 1j * parts[1])).max() < 1e-6


def test_wrong_shapes_are_told():
    with pytest.raises(FeaturesMismatch, match=r"clip 1 has shape \(9, 21, 3\); humanml needs \(frames, 22, 3\)"):
        features_from_clips([clip(), torch.zeros(9, 21, 3)], HUMANML)
    with pytest.raises(FeaturesMismatch, match="at least 2 frames"):
        features_from_joints(clip(60)[:1], HUMANML)
    with pytest.raises(FeaturesMismatch, match="features have 251 columns; 22 joints need 263"):
        joints_from_features(torch.zeros(4, 251), HUMANML)
    with pytest.raises(FeaturesMismatch, match="kit has no bone lengths of its own"):
        joints_from_rotations(torch.zeros(4, 251), KIT)
    with pytest.raises(ValueError, match="unknown heading 'sideways'"):
        features_from_joints(clip(), HUMANML, "sideways")


def test_statistics_are_those_of_all_frames_with_the_std_averaged_in_blocks(caplog):
    random = np.random.default_rng(0)
    clips = [(50 + random.standard_normal((frames, 263)) * np.linspace(1, 2, 263)).astype(np.float32) for frames in (30, 50)]
    broken = np.full((10, 263), np.nan, np.float32)
    with caplog.at_level(logging.WARNING):
        mean, std = mean_std([clips[0], broken, clips[1]], FEATURES)
    assert "1 clips hold NaN or infinite values" in caplog.text
    frames = np.concatenate(clips).astype(np.float64)
    assert np.allclose(mean, frames.mean(0), atol=1e-5)
    for block in humanml_blocks(22).values():
        assert np.allclose(std[block], frames.std(0)[block].mean(), atol=1e-5)


@pytest.mark.parametrize("statistics", [mean_std, feature_mean_std])
def test_features_that_never_move_are_not_divided_by_their_rounding_error(statistics):
    """A walk on level ground, always in contact: other data that does move stays within reach."""
    random = np.random.default_rng(0)
    clips = random.standard_normal((3, 40, 263)).astype(np.float32)
    still = list(range(humanml_blocks(22)["contact"].start, 263)) + [0]  # contacts and the turn of the root
    clips[..., still] = 0.5 + 1e-8 * random.standard_normal((3, 40, 5))
    mean, std = statistics(clips, FEATURES)
    assert np.abs((0.9 - mean[still]) / std[still]).max() < 1
    moving = np.setdiff1d(np.arange(263), still)
    assert np.allclose(std[moving], 1, atol=0.3)


def test_statistics_refuse_the_features_of_another_skeleton():
    with pytest.raises(ValueError, match="humanml features have 263 columns"):
        mean_std([np.zeros((4, 251))], FEATURES)
    with pytest.raises(ValueError, match="no clip of finite values"):
        mean_std([], FEATURES)


def test_normalisation_pairs_convert_by_way_of_physical_units():
    random = np.random.default_rng(0)
    features = random.standard_normal((5, 263)).astype(np.float32)
    one, other = ((random.standard_normal(263), random.uniform(0.5, 2, 263)) for _ in range(2))
    there = renormalise(features, one, other)
    assert np.allclose(renormalise(there, other, (0, 1)), renormalise(features, one, (0, 1)), atol=1e-5)
    assert np.allclose(renormalise(there, other, one), features, atol=1e-5)


def test_published_training_divided_root_and_contact_std_by_25():
    ratio = np.ones(263) / with_feature_bias(np.ones(263), FEATURES, times=2)
    assert set(ratio[:4]) | set(ratio[259:]) == {25.0}
    assert set(ratio[4:259]) == {1.0}


def test_the_benchmark_compares_both_sides(capsys):
    benchmark(["--lengths", "40", "--clips", "3", "--frames", "120"])
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 5 and all("x" in line for line in lines[2:])
