"""The free body: what its file holds, and that it follows joints as flesh would, standing, lying, spinning, arms up."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from data_loaders.corpus import Motion
from data_loaders.motion_features import read_people
from data_loaders.motion_files import read_results
from data_loaders.skeleton import load_skeleton
from data_loaders.sources import Reading
from protos.reading import FileError
from sample.exports import ExportSettings, RunSettings, require_writable, write_motions, write_views
from tests.acted_motions import HUMANML, walking
from tests.shared import shared
from tests.synthetic import walk_in_a_curve
from visualize.joint_rotations import TurnedSkeleton, solve_turns
from visualize.resting_ends import rested
from visualize.skinned_body import (
    FILE,
    SOLE,
    Skin,
    ends_of,
    fitted,
    free_body,
    posed,
    posed_normals,
    skinned,
    twisted,
    twisted_pose,
    worn,
)
from visualize.video import Sheet, write_strip, write_video

BOTH = pytest.mark.parametrize("fine", [False, True], ids=["coarse", "fine"])
RECORDED = ("dataset-1_bow_sad_001", "dataset-1_byebye_childish_001", "dataset-1_punch_normal_001", "dataset-2_run_youthful_001",
            "dataset-2_walk_active_013")  # fmt: skip


def in_t_pose(skin: Skin) -> TurnedSkeleton:
    """One frame in which no joint of the skin turns."""
    offsets = np.array([skin.joints[j] - skin.joints[max(p, 0)] for j, p in enumerate(HUMANML.parents)])
    return TurnedSkeleton(HUMANML, offsets, skin.joints[:1], np.tile(np.eye(3), (1, 22, 1, 1)))


def of(joints: np.ndarray) -> Motion:
    return Motion(np.asarray(joints, np.float64)[None], 20.0)


def recorded(name: str) -> Motion:
    path = shared("data", "bandai_namco", "sample", f"{name}.bvh")
    return Motion(read_people(path, HUMANML, 20.0, Reading()), 20.0)


def acted(frames: int = 2, **degrees: tuple[str, float]) -> np.ndarray:
    """Joints (T, 22, 3) of somebody with humanml's bones in T-pose, but for joints turned about an axis against their parent."""
    directions = np.array(HUMANML.t_pose) / np.maximum(np.linalg.norm(HUMANML.t_pose, axis=1, keepdims=True), 1e-9)
    turns = np.tile(np.eye(3), (1, 22, 1, 1))
    for joint, (parent, name) in enumerate(zip(HUMANML.parents, HUMANML.joint_names)):
        own = Rotation.from_euler(*degrees.get(name, ("x", 0.0)), degrees=True).as_matrix()
        turns[0, joint] = turns[0, max(parent, 0)] @ own if joint else own
    body = TurnedSkeleton(HUMANML, directions * np.array(HUMANML.bone_lengths)[:, None], np.array([[0.0, 0.95, 0.0]]), turns)
    return np.repeat(body.joints, frames, axis=0)


def both(axis: str, left: float, right: float, part: str) -> dict[str, tuple[str, float]]:
    return {f"left_{part}": (axis, left), f"right_{part}": (axis, right)}


def turned_about(joints: np.ndarray, axis: str, degrees: float) -> np.ndarray:
    return Rotation.from_euler(axis, degrees, degrees=True).apply(joints.reshape(-1, 3)).reshape(joints.shape)


ARMS_DOWN = both("z", -75.0, 75.0, "shoulder")
STANDING = acted(**ARMS_DOWN)
SPINNING = np.concatenate([turned_about(acted(1), "y", 40.0 * frame) for frame in range(18)])
POSES = {
    "standing": STANDING, "arms_up": acted(**both("z", 85.0, -85.0, "shoulder")), "spinning": SPINNING,
    "arms_ahead": acted(**both("y", -90.0, 90.0, "shoulder")), "on_the_back": turned_about(STANDING, "x", -90.0),
    "on_the_face": turned_about(STANDING, "x", 90.0), "on_the_side": turned_about(STANDING, "z", 90.0),
    "sitting": acted(**ARMS_DOWN, **both("x", -90.0, -90.0, "hip"), **both("x", 90.0, 90.0, "knee")),
    "squatting": acted(**ARMS_DOWN, **both("x", -120.0, -120.0, "hip"), **both("x", 135.0, 135.0, "knee")),
    "hands_to_shoulders": acted(**both("z", -40.0, 40.0, "shoulder"), **both("y", -140.0, 140.0, "elbow")),
    "bowing": acted(**ARMS_DOWN, spine1=("x", 40.0), spine3=("x", 40.0)),
}  # fmt: skip


def edges(vertices: np.ndarray, faces: np.ndarray) -> np.ndarray:
    """Lengths (..., F, 3) of the edges of triangles."""
    corners = vertices[..., faces, :]
    return np.linalg.norm(corners - np.roll(corners, 1, axis=-2), axis=-1)


# -------------------------------------------------------------------------------------------------------------------- the file


def test_the_file_is_small_free_and_packed():
    assert FILE.stat().st_size <= 250_000
    licence = FILE.with_name("free_body_LICENSE.md").read_text(encoding="utf-8")
    assert "CC0 1.0 Universal" in licence and "MakeHuman" in licence and "Public License Fallback" in licence
    wheel = (Path(__file__).parents[1] / "pyproject.toml").read_text(encoding="utf-8")
    assert '"free_body.npz"' in wheel and '"free_body_LICENSE.md"' in wheel
    with np.load(FILE, allow_pickle=False) as arrays:
        assert all(arrays[name].dtype.kind in "iuf" for name in arrays.files)


@BOTH
def test_the_mesh_is_a_person_in_t_pose_who_faces_the_front(fine):
    skin = free_body(fine)
    names = ("left_wrist", "left_foot", "right_foot", "head")
    left_wrist, left_toe, right_toe, head = (skin.joints[HUMANML.index(name)] for name in names)
    assert left_toe[0] > 0 > right_toe[0] and left_wrist[0] > 0.5 and head[1] > 1.4
    low, high = skin.vertices.min(axis=0), skin.vertices.max(axis=0)
    assert abs(low[1]) < 2e-3 and 1.6 < high[1] < 1.8 and 1.5 < high[0] - low[0] < 1.8
    sole = skin.vertices[skin.vertices[:, 1] < 0.03]
    assert sole[:, 2].max() > 0.1 > -0.02 > sole[:, 2].min()  # toes ahead, heels behind the ankles
    np.testing.assert_allclose(skin.joint_weights.sum(axis=1), 1.0, atol=1e-6)
    assert skin.joint_weights.min() >= 0 and skin.joint_indices.max() == 21 and np.isin(np.arange(22), skin.joint_indices).all()
    assert np.array_equal(np.unique(skin.faces), np.arange(len(skin.vertices)))
    a, b, c = (skin.vertices[corner] for corner in skin.faces.T)
    assert 0.04 < np.einsum("fc,fc->f", a, np.cross(b, c)).sum() / 6 < 0.09  # cubic metres: wound to the outside
    sides = [skin.weights[:, joints].sum() for joints in (list(HUMANML.left_joints), list(HUMANML.right_joints))]
    assert sides[0] == pytest.approx(sides[1], rel=0.15)


# ------------------------------------------------------------------------------------------------------------- linear blending


@BOTH
def test_without_a_turn_the_mesh_is_as_it_was(fine):
    skin = free_body(fine)
    np.testing.assert_allclose(posed(skin, in_t_pose(skin))[0], skin.vertices, atol=1e-6)
    np.testing.assert_allclose(posed(twisted(skin), twisted_pose(in_t_pose(skin)))[0], skin.vertices, atol=1e-6)
    np.testing.assert_allclose(posed_normals(skin, in_t_pose(skin))[0], skin.normals, atol=1e-5)


def test_a_turn_of_the_whole_body_turns_every_vertex():
    skin = free_body()
    still = in_t_pose(skin)
    turns = Rotation.random(5, random_state=1).as_matrix()
    root = np.random.default_rng(0).normal(size=(5, 3))
    moved = replace(still, root=root, turns=np.repeat(turns[:, None], 22, axis=1))
    wanted = np.einsum("tab,vb->tva", turns, skin.vertices - skin.joints[0]) + root[:, None]
    np.testing.assert_allclose(posed(skin, moved), wanted, atol=1e-5)
    np.testing.assert_allclose(posed(twisted(skin), twisted_pose(moved)), wanted, atol=1e-5)


def test_a_motion_turned_and_shifted_on_the_floor_has_its_skin_turned_and_shifted():
    joints = np.concatenate([POSES["sitting"], POSES["arms_up"], STANDING])
    moved = turned_about(joints, "y", 140) + [2.0, 0.0, -1.0]
    wanted = turned_about(skinned(free_body(), of(joints))[0].astype(np.float64), "y", 140) + [2.0, 0.0, -1.0]
    np.testing.assert_allclose(skinned(free_body(), of(moved))[0], wanted, atol=1e-4)


def test_each_person_has_a_body_of_their_own_size():
    pair = Motion(np.stack([STANDING, 0.7 * STANDING + [1.0, 0.0, 0.0]]), 20.0)
    large, child = skinned(free_body(), pair)
    assert np.ptp(child[0, :, 1]) == pytest.approx(0.7 * np.ptp(large[0, :, 1]), rel=0.04)
    assert child[0, :, 0].mean() - large[0, :, 0].mean() == pytest.approx(1.0, abs=0.05)


# ---------------------------------------------------------------------------------------------------------- on made-up motions


@pytest.mark.parametrize("name", [*POSES, *RECORDED])
def test_no_triangle_is_turned_inside_out_or_drawn_long(name):
    (skin, pose), = worn(free_body(), (of(POSES[name]) if name in POSES else recorded(name)).joints, HUMANML)
    vertices = posed(skin, pose)
    longer = edges(vertices, skin.faces) / np.maximum(edges(skin.vertices, skin.faces), 0.01)
    corners = vertices[:, skin.faces]
    across = np.cross(corners[:, :, 1] - corners[:, :, 0], corners[:, :, 2] - corners[:, :, 0])
    outwards = posed_normals(skin, pose)[:, skin.faces].sum(axis=2)
    area = np.linalg.norm(across, axis=-1)
    inverted = area[(across * outwards).sum(axis=-1) < 0].sum() / area.sum()
    assert np.quantile(longer, 0.99) < 1.6 and longer.max() < 5
    assert inverted < 0.025  # of the area: armpits and groins fold


@pytest.mark.parametrize("degrees", [0, 90, 150, -90])
def test_an_upper_arm_that_twists_keeps_its_girth(degrees):
    shoulder, elbow, wrist = (HUMANML.index(f"left_{part}") for part in ("shoulder", "elbow", "wrist"))
    joints = STANDING.copy()
    along = joints[0, elbow] - joints[0, shoulder]
    along /= np.linalg.norm(along)
    forearm = np.linalg.norm(joints[0, wrist] - joints[0, elbow])
    ahead = Rotation.from_rotvec(np.radians(degrees) * along).apply([0.0, 0.0, 1.0])
    joints[1, wrist] = joints[1, elbow] + forearm * ahead  # bent by a right angle, to any side
    (skin, pose), = worn(free_body(fine=True), joints[None], HUMANML)
    at = skin.vertices - skin.joints[shoulder]
    share = at[:, 0] / (skin.joints[elbow] - skin.joints[shoulder])[0]
    own = free_body(fine=True).weights[:, [shoulder, elbow]].sum(axis=1) > 0.95
    for low, high in ((0.3, 0.6), (0.5, 0.8)):
        ring = own & (share > low) & (share < high)
        assert ring.sum() > 10
        radius = [np.linalg.norm(np.cross(each[ring] - joints[0, shoulder], along), axis=1).mean() for each in posed(skin, pose)]
        assert radius[1] > (0.9 if abs(degrees) <= 90 else 0.75) * radius[0]


def test_wrists_are_not_wrung():
    joints = walk_in_a_curve(60, turn=12.0)
    turned = solve_turns(joints, HUMANML)
    for elbow in ("left_elbow", "right_elbow"):
        axes = turned.offsets[HUMANML.index(elbow) + 2] / np.linalg.norm(turned.offsets[HUMANML.index(elbow) + 2])
        twist = Rotation.from_matrix(turned.local[:, HUMANML.index(elbow)]).as_quat()[:, :3] @ axes
        np.testing.assert_allclose(twist, 0, atol=1e-6)  # a forearm bends, and does not twist


# ------------------------------------------------------------------------------------------------------------- on real motions


@pytest.mark.parametrize("name", RECORDED)
def test_the_skin_lies_about_the_bones_of_real_motion(name):
    motion = recorded(name)
    vertices = skinned(free_body(), motion)[0][::5]
    joints = motion.joints[0][::5]
    weights = free_body().weights
    for joint, farthest in (("left_elbow", 0.08), ("right_elbow", 0.08), ("left_knee", 0.11), ("left_hip", 0.22)):
        start, end = HUMANML.index(joint), HUMANML.parents.index(HUMANML.index(joint))
        own = weights[:, start] > 0.9
        bone = (joints[:, end] - joints[:, start])[:, None]
        away = vertices[:, own] - joints[:, start][:, None]
        share = np.clip((away * bone).sum(-1) / (bone**2).sum(-1), 0, 1)
        assert np.linalg.norm(away - share[..., None] * bone, axis=-1).max() < farthest
    nearest = np.linalg.norm(vertices[:, :, None] - joints[:, None], axis=-1).min(axis=1)
    assert nearest.max() < 0.16  # every joint lies within the flesh


@pytest.mark.parametrize("name", RECORDED)
def test_feet_stand_on_the_floor(name):
    motion = recorded(name)
    vertices = skinned(free_body(), motion)[0]
    floor = motion.joints[..., 1].min() - SOLE
    lowest = vertices[..., 1].min(axis=1)
    assert lowest.min() > floor - 0.02 and np.median(lowest) < floor + 0.03


def test_soles_of_somebody_who_stands_are_level():
    motion = recorded("dataset-1_bow_sad_001")
    vertices, weights = skinned(free_body(), motion)[0], free_body().weights
    for ankle, toe in (HUMANML.left_feet, HUMANML.right_feet):
        foot = weights[:, [ankle, toe]].sum(axis=1) > 0.9
        ahead = motion.joints[0, :, toe] - motion.joints[0, :, ankle]
        along = np.einsum("tvc,tc->tv", vertices[:, foot], ahead * [1, 0, 1])
        heights = vertices[:, foot, 1]
        half = np.median(along, axis=1, keepdims=True)
        front, back = (np.where(side, heights, 9.0).min(axis=1) for side in (along > half, along <= half))
        assert np.abs(front - back).max() < 0.02


def test_hands_and_toes_do_not_reach_through_the_floor():
    skin = free_body()
    still = in_t_pose(skin)
    wrist = HUMANML.index("left_wrist")
    falls = Rotation.from_euler("z", np.linspace(0, -90, 30)[:, None], degrees=True).as_matrix()
    turns = np.repeat(still.turns, 30, axis=0)
    turns[:, HUMANML.index("left_shoulder") :] = falls[:, None]  # arms that sink until they hang
    sinking = replace(still, turns=turns, root=np.repeat(still.root, 30, axis=0))
    floor = float(sinking.joints[:, wrist, 1].min()) - 0.05
    held = rested(sinking, ends_of(skin), floor)
    hand = skin.weights[:, wrist] > 0.9
    assert posed(skin, sinking)[:, hand, 1].min() < floor - 0.08
    assert posed(skin, held)[:, hand, 1].min() > floor - 0.02
    bends = Rotation.from_matrix(held.local[:, wrist]).magnitude()
    assert bends[0] == pytest.approx(0, abs=1e-6) and np.abs(np.diff(bends)).max() < np.radians(15)
    np.testing.assert_array_equal(held.turns[:, :20], sinking.turns[:, :20])


# ------------------------------------------------------------------------------------------------------------ videos and files


def test_a_video_shows_bodies_in_the_colours_of_their_persons():
    pair = np.stack([walking()[:30], walking()[:30] + [1.0, 0.0, 0.0]])
    stick, body = (next(iter(Sheet(Motion(pair, 20.0), size=240, body=body).pictures())).astype(int) for body in (False, True))
    coloured = [np.ptp(picture, axis=2) > 40 for picture in (stick, body)]
    assert coloured[1].sum() > 1.2 * coloured[0].sum()
    red, green, blue = np.moveaxis(body, -1, 0)
    rows = slice(0, 200)  # above the legend
    assert ((blue > red + 40) & (blue > green + 20))[rows].sum() > 60  # left of the first person
    assert ((green > red + 30) & (green > blue))[rows].sum() > 60  # left of the second


@pytest.mark.parametrize("name", ["arms_up", "on_the_back", "spinning"])
def test_the_whole_body_stays_in_the_picture(name):
    sheet = Sheet(of(POSES[name]), size=200, body=True)
    for picture in sheet.pictures():
        frame = np.concatenate([picture[0], picture[-1], picture[:, 0], picture[:, -1]]).astype(int)
        assert np.ptp(frame, axis=1).max() < 40


def test_planes_and_pictures_of_a_body_agree():
    sheet = Sheet(of(SPINNING[:4]), size=160, body=True)
    planes = [plane[: 160 * 160].reshape(160, 160).astype(float) for plane in sheet.planes()]
    assert len(planes) == 4
    for plane, picture in zip([planes[-1]], list(sheet.pictures())[-1:]):
        luma = 16 + 219 / 255 * (picture @ [0.2126, 0.7152, 0.0722])
        assert np.abs(plane - luma).mean() < 1.5


def test_a_run_with_bodies_writes_what_it_always_does(tmp_path):
    motion = Motion(walking()[None, :20].astype(np.float32), 20.0, captions=("a person walks",))
    write_motions(tmp_path, [motion], 1)
    write_views(tmp_path, [motion], 1, RunSettings(body=True, gif=True, html=True))
    names = {path.name for path in tmp_path.rglob("*") if path.is_file()}
    assert {"prompt00_rep00.mp4", "prompt00_rep00.gif", "prompt00.png", "prompt00.html"} <= names
    np.testing.assert_allclose(read_results(tmp_path / "motions.npz").motions[0].joints, motion.joints, atol=1e-6)
    assert '"bases"' in (tmp_path / "prompt00.html").read_text()
    again = [write_video(tmp_path / name, motion, size=96, body=True).read_bytes() for name in ("a.mp4", "b.mp4")]
    assert again[0] == again[1]
    assert write_strip(tmp_path / "plain.png", motion).read_bytes() != (tmp_path / "prompt00.png").read_bytes()


def test_other_skeletons_have_no_body():
    kit = load_skeleton("kit")
    with pytest.raises(FileError, match="joints of humanml, and these are of kit"):
        require_writable(ExportSettings(body=True), "kit")
    with pytest.raises(FileError, match="leave out --body"):
        skinned(free_body(), Motion(np.zeros((1, 2, kit.num_joints, 3)), 12.5, "kit"))
    with pytest.raises(FileError, match="no known skeleton"):
        Sheet(Motion(np.random.default_rng(0).normal(size=(1, 2, 3, 3)), 20.0, skeleton=(-1, 0, 1)), body=True)


def test_bones_without_length_leave_a_body():
    joints = STANDING.copy()
    joints[:, HUMANML.index("left_collar")] = joints[:, HUMANML.index("spine3")]
    joints[:, HUMANML.index("left_wrist")] = joints[:, HUMANML.index("left_elbow")]
    flat = np.zeros((2, 22, 3))
    assert np.isfinite(skinned(free_body(), of(joints))).all() and np.isfinite(skinned(free_body(), of(flat))).all()


def test_fitting_keeps_the_bones_of_the_motion():
    turned = solve_turns(POSES["bowing"], HUMANML)
    skin = fitted(free_body(), turned)
    np.testing.assert_allclose(np.diff(skin.joints - turned.rest, axis=0), 0, atol=1e-9)
    assert skin.vertices[:, 1].min() == pytest.approx(0, abs=1e-9)
