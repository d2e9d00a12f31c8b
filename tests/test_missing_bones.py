"""Bones without length turn with the body: the same walk has the same features wherever it heads."""

import tarfile
from dataclasses import replace

import numpy as np
import pytest
import torch

from data_loaders.bvh import read_bvh
from data_loaders.humanml_features import features_from_joints, joints_from_features
from data_loaders.joint_mapping import load_mapping, retarget
from data_loaders.mocap import checked_joints, resample
from data_loaders.motion_checks import with_all_bones
from data_loaders.skeleton import load_skeleton
from protos.reading import FileError
from tests.shared import shared
from tests.synthetic import walk

HUMANML, KIT = load_skeleton("humanml"), load_skeleton("kit")
INDEX = HUMANML.index
SIDES = ("left", "right")


def turned(joints: np.ndarray, degrees: float) -> np.ndarray:
    sin, cos = np.sin(np.radians(degrees)), np.cos(np.radians(degrees))
    return joints @ np.array([[cos, 0, sin], [0, 1, 0], [-sin, 0, cos]]).T


def without_bone(joints: np.ndarray, names: list[str]) -> np.ndarray:
    """Joints (T, 22, 3) in which these joints lie in their parents and all that hangs on them follows."""
    joints = joints.copy()
    for name in names:
        joint = INDEX(name)
        moved = [other for other in range(22) if joint in HUMANML.ancestors[other]]
        joints[:, moved] -= (joints[:, joint] - joints[:, HUMANML.parents[joint]])[:, None]
    return joints


def features(joints: np.ndarray) -> torch.Tensor:
    checked = checked_joints(joints, HUMANML, "walk", [])
    return features_from_joints(torch.from_numpy(checked.astype(np.float32)), HUMANML, "continuous")


def assert_same_motion(joints: np.ndarray) -> None:
    """Features and decoded joints at three headings agree to a tenth of a millimetre."""
    expected = features(joints)
    for degrees in (90, 180):
        found = features(turned(joints, degrees))
        apart = (joints_from_features(found, HUMANML) - joints_from_features(expected, HUMANML)).abs().max()
        assert apart < 1e-4, f"{degrees} degrees: {1000 * apart:.2f} mm"
        assert (found - expected)[:, :-4].abs().max() < 1e-3  # 6D rotations of bones of a centimetre, in float32
        assert (found - expected)[:, : 4 + 63].abs().max() < 1e-4


@pytest.fixture(scope="module")
def cmu_walk() -> np.ndarray:
    """CMU 131_01 as its most common conversion has it: both collars lie in the chest."""
    with tarfile.open(shared("data", "cmu_sample", "cmu_sample.tar.xz")) as archive:
        member = next(member for member in archive if member.name.endswith("cgspeed_131_01.bvh"))
        clip = read_bvh(archive.extractfile(member), name="131_01")
    clip = replace(clip, joints=clip.joints[-600:])
    return resample(retarget(clip, load_mapping("cmu_cgspeed")), clip.fps, 20)


def test_a_real_walk_without_collars_has_the_same_features_at_every_heading(cmu_walk):
    collars = np.linalg.norm(cmu_walk[:, [INDEX("left_collar")]] - cmu_walk[:, [INDEX("spine3")]], axis=-1)
    assert collars.max() < 1e-6
    assert_same_motion(cmu_walk)


@pytest.mark.parametrize("missing", ["hip", "foot", "neck", "spine1 spine2", "hip foot neck"])
def test_so_has_one_without_hips_toes_or_neck(missing):
    names = [name for part in missing.split() for name in HUMANML.joint_names if part in (name, name.split("_")[-1])]
    assert len(names) >= len(missing.split())
    assert_same_motion(without_bone(walk(40).astype(np.float64), names))


@pytest.mark.parametrize("missing", ["collar", "hip"])
def test_a_missing_bone_does_not_enter_the_heading(missing):
    """After canonicalisation a body that walks ahead still walks ahead, its shoulders across."""
    whole = turned(walk(40).astype(np.float64), 130)
    found = joints_from_features(features(without_bone(whole, [f"{side}_{missing}" for side in SIDES])), HUMANML)
    expected = joints_from_features(features(whole), HUMANML)
    across, straight = (each[:, INDEX("left_shoulder")] - each[:, INDEX("right_shoulder")] for each in (found, expected))
    angle = torch.nn.functional.cosine_similarity(across, straight, dim=-1).clamp(-1, 1).arccos().rad2deg()
    assert angle.max() < 5
    assert (found[-1, 0] - expected[-1, 0]).norm() < 0.05


def test_all_other_bones_keep_direction_and_length_and_a_whole_body_is_left_alone():
    whole = walk(40).astype(np.float64)
    assert with_all_bones(whole, HUMANML)[0] is whole
    broken = without_bone(whole, ["left_collar", "right_foot"])
    mended, names = with_all_bones(broken, HUMANML)
    assert names == ("right_foot", "left_collar")

    def bones(joints):
        return joints[:, 1:] - joints[:, list(HUMANML.parents[1:])]

    others = [joint - 1 for joint in range(1, 22) if joint not in (INDEX("left_collar"), INDEX("right_foot"))]
    np.testing.assert_allclose(bones(mended)[:, others], bones(broken)[:, others], atol=1e-12)
    assert np.linalg.norm(mended - broken, axis=-1).max() < 0.0101
    left = broken[:, INDEX("left_shoulder")] - broken[:, INDEX("right_shoulder")]
    assert (np.einsum("tc,tc->t", bones(mended)[:, INDEX("left_collar") - 1], left) > 0).all(), "a left collar points left"
    toe, shin = bones(mended)[:, INDEX("right_foot") - 1], bones(broken)[:, INDEX("right_ankle") - 1]
    assert np.abs(np.einsum("tc,tc->t", toe, shin)).max() < 1e-9, "a toe stands across the shin"


def test_left_is_left_on_the_skeleton_of_kit_too():
    joints = np.cumsum(np.random.default_rng(0).normal(size=(3, 21, 3)), axis=1)
    joints[:, KIT.index("left_hip")] = joints[:, 0]
    mended, names = with_all_bones(joints, KIT)
    assert names == ("left_hip",)
    given = mended[:, KIT.index("left_hip")] - mended[:, 0]
    sides = joints[:, KIT.index("left_hip")] - joints[:, KIT.index("right_hip")]
    assert (np.einsum("tc,tc->t", given, sides) > 0).all()


def test_a_body_whose_hips_and_shoulders_lie_in_one_point_is_refused():
    bones = [f"{side}_{bone}" for side in SIDES for bone in ("hip", "collar", "shoulder")]
    flat = without_bone(walk(40).astype(np.float64), bones)
    with pytest.raises(FileError, match="where the body faces cannot be told"):
        with_all_bones(flat, HUMANML)
