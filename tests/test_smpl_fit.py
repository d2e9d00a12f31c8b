"""Bodies of the SMPL family are fitted to joints: a made-up body of the same format, whose pose and shape are known."""

import numpy as np
import pytest
import torch

from data_loaders.body_models import load_body_model, load_surface
from data_loaders.smpl_body import pose_joints, read_amass_npz
from tests.synthetic import walk, walk_in_a_curve
from tests.synthetic_bodies import smooth_poses, write_body_models, write_smpl
from visualize.mesh_files import people_of, write_amass
from visualize.posed_body import PosedBody, PosedSurface, Poses
from visualize.smpl import fit, rigid_pairs, turned_by


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return load_body_model(write_smpl(tmp_path_factory.mktemp("body") / "SMPL_NEUTRAL.npz"))


@pytest.fixture(scope="module")
def moved(model):
    """Joints (B, T, 22, 3) of two bodies that move in the world."""
    clips = []
    for seed in (5, 6):
        betas = np.random.default_rng(seed).normal(size=10)
        way = np.linspace([2.0, 0.9, -3.0], [4.0, 1.1, 1.0], 40)[:, None]
        clips.append(pose_joints(model, smooth_poses(40, seed)[:, :66], betas) + way)
    return np.stack(clips)


@pytest.fixture(scope="module")
def made(model, moved):
    return fit(model, moved)


def test_the_joints_of_a_known_body_are_met(made):
    assert made.errors.shape == (2, 40, 22)
    assert made.errors.mean() < 0.001 and made.errors.max() < 0.003


def test_bones_alone_nearly_meet_them(model, moved, made):
    bones = fit(model, moved, steps=0)
    assert made.errors.mean() < bones.errors.mean() < 0.010


def test_one_shape_for_a_clip_has_its_bones(model, moved, made):
    one, other = np.array(rigid_pairs(model.parents[:22])).T
    for joints, betas in zip(moved, made.poses.betas.numpy()):
        rest = model.rest_joints(betas)
        lengths = np.linalg.norm(rest[one] - rest[other], axis=-1)
        np.testing.assert_allclose(lengths, np.linalg.norm(joints[0, one] - joints[0, other], axis=-1), atol=0.01)


def test_a_person_is_fitted_alike_alone_and_beside_another(model, moved, made):
    alone = fit(model, moved[1:])
    np.testing.assert_allclose(alone.joints[0], made.joints[1], atol=0.004)


def test_another_body_is_fitted_smoothly(model):
    joints = np.stack([walk_in_a_curve(60, turn=t) for t in (0.4, -3.0)])
    made = fit(model, joints)
    assert made.errors.mean() < 0.002
    local = PosedBody(model).local(made.poses.turns).numpy()
    assert np.abs(np.diff(local, n=2, axis=1)).max() < 0.5  # no joint flips


def test_what_joints_leave_open_is_small(model):
    """The chest turns against the pelvis by a little in each joint of the spine, and straight limbs have no twist."""
    joints = walk(20)[None]
    chest, angle = joints[0, :, 9:10], np.radians(45)
    upper = [9, 12, 13, 14, 15, 16, 17, 18, 19, 20, 21]
    turn = np.array([[np.cos(angle), 0, np.sin(angle)], [0, 1, 0], [-np.sin(angle), 0, np.cos(angle)]])
    joints[0, :, upper] = ((joints[0, :, upper].transpose(1, 0, 2) - chest) @ turn.T + chest).transpose(1, 0, 2)
    made = fit(model, joints)
    local = PosedBody(model).local(made.poses.turns)[0, 10].numpy()
    angles = np.degrees([np.arccos((np.trace(local[joint - 1]) - 1) / 2) for joint in (3, 6, 9)])
    assert angles.max() < 20 and 44 < angles.sum() < 47


def test_the_surface_equals_smplx(tmp_path):
    smplx = pytest.importorskip("smplx", reason="the package smplx (extra `smpl`) is the reference here")
    from scipy.spatial.transform import Rotation
    from smplx.vertex_ids import vertex_ids

    path = write_body_models(tmp_path / "models") / "male" / "model.npz"
    body = smplx.SMPLH(str(path), ext="npz", num_betas=10, use_pca=False, flat_hand_mean=True, batch_size=7,
                       vertex_ids=dict.fromkeys(vertex_ids["smplh"], 0))  # fmt: skip
    poses, random = smooth_poses(7)[:, :66], np.random.default_rng(0)
    betas, trans = random.normal(size=(1, 10)), random.normal(size=(7, 3))
    tensors = [torch.tensor(each, dtype=torch.float32) for each in (betas, poses, trans)]
    with torch.no_grad():
        expected = body(betas=tensors[0].repeat(7, 1), global_orient=tensors[1][:, :3], body_pose=tensors[1][:, 3:],
                        left_hand_pose=torch.zeros(7, 45), right_hand_pose=torch.zeros(7, 45), transl=tensors[2])  # fmt: skip
    model = load_body_model(path)
    posed = PosedBody(model)
    local = Rotation.from_rotvec(poses.reshape(-1, 3)).as_matrix().reshape(7, 22, 3, 3)
    turns = local.copy()
    for joint, parent in enumerate(model.parents[1:22], start=1):
        turns[:, joint] = turns[:, parent] @ local[:, joint]
    roots = trans + model.rest_joints(betas[0])[0]
    made = Poses(tensors[0], torch.tensor(turns[None], dtype=torch.float32), torch.tensor(roots[None], dtype=torch.float32))
    np.testing.assert_allclose(posed.joints(made)[0], expected.joints[:, :52], atol=2e-6)
    np.testing.assert_allclose(PosedSurface(posed, load_surface(path)).vertices(made)[0], expected.vertices, atol=3e-6)


def test_turns_add_up_as_rotations(model):
    from scipy.spatial.transform import Rotation

    change, start = torch.tensor([0.3, -0.2, 0.5], dtype=torch.float64), Rotation.from_rotvec([1.0, 2.0, -0.5])
    length = change.norm().item()
    expected = Rotation.from_rotvec(change.numpy() / length * 2 * np.arctan(length)) * start
    np.testing.assert_allclose(turned_by(change, torch.tensor(start.as_matrix())), expected.as_matrix(), atol=1e-12)


def test_amass_files_are_read_back_where_they_were(tmp_path):
    models = write_body_models(tmp_path / "models")
    body = load_body_model(models / "male" / "model.npz")
    made = fit(body, walk(12)[None], steps=2)
    (person,) = people_of(PosedBody(body), made.poses)
    clip = read_amass_npz(write_amass(tmp_path / "a.npz", person, 20.0, "male"), models)
    assert clip.fps == 20 and clip.gender == "male"
    np.testing.assert_allclose(clip.joints, made.joints[0], atol=1e-5)
