"""AMASS files through a body model: a made-up body in the real file format, against the smplx package."""

import numpy as np
import pytest

from data_loaders.body_models import find_body_model, load_body_model
from data_loaders.mocap import read_joints
from data_loaders.motion_checks import orientation_problem
from data_loaders.smpl_body import pose_joints, published_stride, read_amass_npz
from data_loaders.sources import SourceClip
from protos.reading import FileError
from tests.synthetic_bodies import HUMANML, rest_pose, write_amass, write_body_models


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    return write_body_models(tmp_path_factory.mktemp("body_models"))


GENDERS = [("male", "male"), ("female", "female"), ("neutral", "female"), (b"male", "male")]


@pytest.mark.parametrize(("gender", "used"), GENDERS)
def test_joints_equal_smplx(models, tmp_path, gender, used):
    smplx = pytest.importorskip("smplx", reason="the package smplx (extra `smpl`) is the reference here")
    torch = pytest.importorskip("torch")
    from smplx.vertex_ids import vertex_ids

    path = write_amass(tmp_path / "walk_poses.npz", gender=gender)
    clip = read_amass_npz(path, models)
    content = np.load(path)
    body = smplx.SMPLH(
        str(models / used / "model.npz"), ext="npz", num_betas=10, use_pca=False, flat_hand_mean=True, batch_size=30,
        vertex_ids=dict.fromkeys(vertex_ids["smplh"], 0),
    )  # fmt: skip
    ends = {"global_orient": (0, 3), "body_pose": (3, 66), "left_hand_pose": (66, 111), "right_hand_pose": (111, 156)}
    part = {key: torch.tensor(content["poses"][:, a:b], dtype=torch.float32) for key, (a, b) in ends.items()}
    with torch.no_grad():
        expected = body(
            **part,
            betas=torch.tensor(content["betas"][None, :10], dtype=torch.float32).repeat(30, 1),
            transl=torch.tensor(content["trans"], dtype=torch.float32),
        ).joints[:, :52]
    x, y, z = np.moveaxis(expected.numpy(), -1, 0)
    swapped = np.stack([-x, z, y], -1)  # HumanML3D: (x, z, y), later x negated
    assert clip.gender == used and clip.fps == 120
    np.testing.assert_allclose(clip.joints, swapped[:, :22], atol=2e-6)
    np.testing.assert_allclose(read_amass_npz(path, models, num_joints=52).joints, swapped, atol=2e-6)


def test_people_stand_upright_with_left_on_the_left(models, tmp_path):
    joints = read_amass_npz(write_amass(tmp_path / "a.npz"), models).joints
    assert (joints[:, HUMANML.index("head"), 1] > joints[:, HUMANML.index("left_foot"), 1] + 1).all()
    assert orientation_problem(joints, HUMANML) is None
    # Facing -Y in AMASS is facing -Z here, with the left hand at -X.
    assert (joints[:, HUMANML.index("left_wrist"), 0] < joints[:, HUMANML.index("right_wrist"), 0]).all()
    assert (joints[:, HUMANML.index("left_foot"), 2] < joints[:, HUMANML.index("left_ankle"), 2]).all()


def test_zero_pose_is_the_rest_pose(models):
    body = load_body_model(models / "male" / "model.npz")
    assert body.parents[0] == -1 and len(body.parents) == 52
    joints = pose_joints(body, np.zeros((1, 66)), np.zeros(10))
    np.testing.assert_allclose(joints[0], rest_pose()[:22] * 1.05, atol=1e-9)


@pytest.mark.parametrize(("fps", "stride"), [(120, 6), (100, 5), (150, 7), (60, 3), (59.9, 2), (20, 1), (12.5, 1)])
def test_published_stride_is_the_whole_part(fps, stride):
    np.testing.assert_array_equal(published_stride(np.arange(40), fps), np.arange(0, 40, stride))


def test_published_and_interpolated_frames(models, tmp_path):
    clip = SourceClip("walk", write_amass(tmp_path / "walk.npz", mocap_framerate=59.9), "amass")
    every = read_amass_npz(clip.data, models).joints
    np.testing.assert_array_equal(read_joints(clip, 20, models, published=True), every[::2])
    true_rate = read_joints(clip, 20, models)
    assert len(true_rate) == 1 + int(29 * 20 / 59.9)
    np.testing.assert_allclose(true_rate[0], every[0], atol=1e-6)


def test_newer_files_spell_the_frame_rate_otherwise(models, tmp_path):
    path = write_amass(tmp_path / "a.npz", mocap_framerate=None, mocap_frame_rate=100)
    assert read_amass_npz(path.read_bytes(), models, name="a").fps == 100


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"mocap_framerate": None}, "no mocap_framerate"),
        ({"mocap_framerate": 0.0}, "no mocap_framerate"),
        ({"poses": None}, "no poses and trans"),
        ({"poses": np.zeros((30, 63))}, "expected (T, 66 or more) and (T, 3)"),
        ({"trans": np.zeros((29, 3))}, "trans (29, 3)"),
        ({"poses": np.zeros((0, 156)), "trans": np.zeros((0, 3))}, "poses (0, 156)"),
        ({"trans": np.full((30, 3), np.nan)}, "NaN or infinity in trans, frame 0"),
        ({"betas": np.full(16, np.inf)}, "NaN or infinity in betas"),
        ({"poses": np.array([[None] * 156] * 30)}, "array poses: holds pickled Python objects"),
        ({"poses": np.array([["a"] * 156] * 30)}, "poses holds <U1, expected numbers"),
        ({"mocap_framerate": np.inf}, "mocap_framerate is inf"),
        ({"mocap_framerate": np.zeros(0)}, "no mocap_framerate"),
        ({"poses": None, "motion": np.zeros((2, 22, 3, 9))}, "is a results file of a sampling run"),
    ],
)
def test_unusable_amass_files_are_named(models, tmp_path, changes, expected):
    path = write_amass(tmp_path / "walk.npz", **changes)
    with pytest.raises(FileError) as caught:
        read_amass_npz(path, models)
    assert expected in str(caught.value) and str(path) in str(caught.value) and "\n" not in str(caught.value)


def test_unreadable_archives_are_named(models, tmp_path):
    whole = write_amass(tmp_path / "walk.npz").read_bytes()
    for data, expected in ((whole[:500], "not a readable"), (b"", "not a readable"), (b"hello", "not a readable")):
        with pytest.raises(FileError, match=expected):
            read_amass_npz(data, models, name="walk.npz")
    np.save(tmp_path / "one.npy", np.zeros(3))
    with pytest.raises(FileError, match=r"is a \.npy array"):
        read_amass_npz(tmp_path / "one.npy", models)
    with pytest.raises(FileNotFoundError):
        read_amass_npz(tmp_path / "absent.npz", models)


def test_body_models_are_found_in_the_usual_layouts(models, tmp_path):
    assert find_body_model(models, "male") == models / "male" / "model.npz"
    assert find_body_model(models.parent / models.name / "female" / "model.npz", "female").name == "model.npz"
    for name in ("SMPLH_FEMALE.npz", "SMPLH_MALE.npz"):
        (tmp_path / "smplh").mkdir(exist_ok=True)
        (tmp_path / "smplh" / name).write_bytes(b"")
    assert find_body_model(tmp_path, "male").name == "SMPLH_MALE.npz"
    assert find_body_model(tmp_path, "female").name == "SMPLH_FEMALE.npz"


def test_missing_or_wrong_body_models_say_what_is_needed(models, tmp_path):
    path = write_amass(tmp_path / "walk.npz")
    with pytest.raises(FileError, match="name the folder of the body model"):
        read_amass_npz(path, None)
    with pytest.raises(FileError, match="no such folder"):
        read_amass_npz(path, tmp_path / "absent")
    (tmp_path / "smplh").mkdir()
    with pytest.raises(FileError, match=r"no male body model; expected male/model\.npz, SMPLH_MALE\.npz"):
        read_amass_npz(path, tmp_path / "smplh")
    (tmp_path / "smplh" / "SMPLH_MALE.pkl").write_bytes(b"")
    with pytest.raises(FileError, match="not a pickle of plain values"):
        read_amass_npz(path, tmp_path / "smplh")
    np.savez(tmp_path / "smplh" / "SMPLH_MALE.npz", v_template=np.zeros((10, 3)))
    with pytest.raises(FileError, match="no shapedirs, J_regressor, kintree_table"):
        read_amass_npz(path, tmp_path / "smplh")
    wrong = dict(np.load(models / "male" / "model.npz")) | {"J_regressor": np.zeros((52, 7))}
    np.savez(tmp_path / "smplh" / "SMPLH_MALE2.npz", **wrong)
    with pytest.raises(FileError, match="do not belong together"):
        load_body_model(tmp_path / "smplh" / "SMPLH_MALE2.npz")
