"""Motions as BVH: read back by two readers they are where they were, whichever way people face, spin or lie."""

from pathlib import Path

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from data_loaders.bvh import read_bvh
from data_loaders.corpus import Motion
from data_loaders.joint_mapping import fitting_mapping, retarget
from data_loaders.motion_checks import bone_vectors
from data_loaders.motion_files import motions_in, read_people_npy, write_results
from data_loaders.skeleton import load_skeleton
from protos.reading import FileError
from sample.exports import ExportSettings, require_writable, write_each
from tests.acted_motions import HUMANML
from tests.synthetic import standing, turn, walk_in_a_curve
from tests.turned_motions import MOTIONS, WALK, bent_arms, facing
from visualize.bvh import person_bvh, write_bvh
from visualize.joint_rotations import continuous, euler_angles, solve_turns, t_pose
from visualize.published_bvh import clean_feet, published_bvh, template

KIT = load_skeleton("kit")


def read_independently(text: str) -> tuple[list[str], np.ndarray]:
    """Names and places (T, J, 3) in the file's unit, by forward kinematics of scipy's rotations; End Sites are left out."""
    head, _, body = text.partition("MOTION\n")
    names, parents, offsets, channels, open_joints = [], [], [], [], []
    for words in map(str.split, head.splitlines()):
        if words[0] in ("ROOT", "JOINT", "End"):
            names.append(words[1])
            parents.append(open_joints[-1] if open_joints else -1)
        elif words[0] == "{":
            open_joints.append(len(names) - 1)
        elif words[0] == "}":
            open_joints.pop()
        elif words[0] == "OFFSET":
            offsets.append(np.array(words[1:], float))
            channels.append([])
        elif words[0] == "CHANNELS":
            channels[-1] = words[2:]
    rows = np.array([line.split() for line in body.splitlines()[2:]], float)
    places, world, column = np.zeros((len(names), len(rows), 3)), {}, 0
    for joint, (parent, own) in enumerate(zip(parents, channels)):
        values, column = rows[:, column : column + len(own)], column + len(own)
        turned = [i for i, channel in enumerate(own) if channel.endswith("rotation")]
        order = "".join(own[i][0] for i in turned)
        local = Rotation.from_euler(order, values[:, turned], degrees=True) if own else Rotation.identity(len(rows))
        if parent < 0:
            assert own[:3] == ["Xposition", "Yposition", "Zposition"]
            places[joint], world[joint] = values[:, :3], local
        else:
            places[joint] = places[parent] + world[parent].apply(offsets[joint])
            world[joint] = world[parent] * local
    kept = [i for i, name in enumerate(names) if name != "Site"]
    return [names[i] for i in kept], places[kept].transpose(1, 0, 2)


@pytest.mark.parametrize("name", MOTIONS)
def test_two_readers_find_the_joints_where_they_were(name):
    joints = MOTIONS[name]
    text = person_bvh(joints, 20.0, HUMANML)
    names, places = read_independently(text)
    order = [names.index(each) for each in HUMANML.mixamo_names]
    assert np.linalg.norm(places[:, order] / 100 - joints, axis=-1).max() < 1e-4
    clip = read_bvh(text.encode(), name)
    assert (clip.fps, clip.warnings) == (20.0, ())
    mapping = fitting_mapping(clip) if not name.startswith("on_") else None
    if mapping:
        assert mapping.name == "mixamo"
        assert np.linalg.norm(retarget(clip, mapping) - joints, axis=-1).max() < 1e-4


def test_a_body_whose_bones_change_their_lengths_is_met_within_millimetres():
    bones = bone_vectors(WALK, HUMANML) * (1 + 0.02 * np.random.default_rng(0).standard_normal((*WALK.shape[:2], 1)))
    bones[:, 0] = WALK[:, 0]
    joints = bones.copy()
    for joint, parent in enumerate(HUMANML.parents[1:], start=1):
        joints[:, joint] += joints[:, parent]
    assert np.linalg.norm(solve_turns(joints, HUMANML).joints - joints, axis=-1).mean() < 5e-3


def test_limbs_turn_alike_whichever_way_the_body_faces():
    ahead = solve_turns(WALK, HUMANML)
    for degrees in (60, 180, 300):
        turned = solve_turns(facing(WALK, degrees), HUMANML)
        np.testing.assert_allclose(turned.local[:, 1:], ahead.local[:, 1:], atol=1e-6)
        yaw = Rotation.from_euler("y", degrees, degrees=True).as_matrix()
        np.testing.assert_allclose(turned.local[:, 0], yaw @ ahead.local[:, 0], atol=1e-6)
        np.testing.assert_allclose(turned.offsets, ahead.offsets, atol=1e-6)


def test_the_rest_pose_is_a_t_pose_facing_ahead_with_the_clips_bone_lengths():
    joints = facing(WALK, 130) * 1.1
    offsets = solve_turns(joints, HUMANML).offsets
    np.testing.assert_allclose(np.linalg.norm(offsets, axis=-1),
                               np.linalg.norm(bone_vectors(joints, HUMANML), axis=-1).mean(0), atol=1e-9)  # fmt: skip
    rest = np.zeros_like(offsets)
    for joint, parent in enumerate(HUMANML.parents[1:], start=1):
        rest[joint] = rest[parent] + offsets[joint]
    at = {name: rest[i] for i, name in enumerate(HUMANML.joint_names)}
    for side, sign in (("left", 1), ("right", -1)):
        shoulder, wrist, hip, ankle, toe = (at[f"{side}_{part}"] for part in ("shoulder", "wrist", "hip", "ankle", "foot"))
        assert sign * (wrist - shoulder)[0] == pytest.approx(np.linalg.norm(wrist - shoulder))  # straight out
        assert (hip - ankle)[1] == pytest.approx(np.linalg.norm(hip - ankle))  # straight down
        assert (toe - ankle)[2] > 0.8 * np.linalg.norm(toe - ankle) and toe[1] < ankle[1]
    assert at["head"][1] > at["neck"][1] > at["spine3"][1] > at["pelvis"][1]


@pytest.mark.parametrize("skeleton", [HUMANML, KIT], ids=lambda each: each.name)
def test_a_t_pose_has_its_sides_where_the_names_say(skeleton):
    directions = t_pose(skeleton)
    assert (directions[list(skeleton.left_joints), 0] >= 0).all() and (directions[list(skeleton.right_joints), 0] <= 0).all()
    mirrored = directions[list(skeleton.left_joints)] * [-1, 1, 1]
    np.testing.assert_allclose(mirrored, directions[list(skeleton.right_joints)], atol=1e-12)


@pytest.mark.parametrize("degrees", [0, 180])
def test_elbows_and_knees_bend_about_one_axis(degrees):
    """So that a skinned forearm folds and is not wrung."""
    joints = bent_arms(80.0)
    for side in ("left", "right"):
        knee, *shin = (HUMANML.index(f"{side}_{part}") for part in ("knee", "ankle", "foot"))
        turn(joints, knee, shin, np.full(3, np.radians(-70.0)))
    turned = solve_turns(facing(joints, degrees), HUMANML).local
    for name, axis in HUMANML.hinges.items():
        vector = Rotation.from_matrix(turned[0, HUMANML.index(name)]).as_rotvec(degrees=True)
        np.testing.assert_allclose(vector, np.array(axis) * (70.0 if "knee" in name else 80.0), atol=1.0)


def test_angles_of_somebody_who_spins_go_on_from_frame_to_frame():
    joints = walk_in_a_curve(100, speed=0.0, turn=8.0)  # six turns and more
    turned = solve_turns(joints, HUMANML)
    angles = continuous(euler_angles(turned.local, "ZXY"))
    assert np.abs(np.diff(angles, axis=0)).max() < 45
    assert angles[-1, 0, 2] - angles[0, 0, 2] == pytest.approx(np.degrees(8.0 * 99 / 20), abs=1)


@pytest.mark.parametrize("order", ["ZXY", "ZYX", "XYZ", "YZX"])
def test_euler_angles_are_those_of_scipy_and_hold_where_two_axes_meet(order):
    some = Rotation.random(200, random_state=0)
    quarter = Rotation.from_euler(order, [[20, 90, 50], [-170, -90, 10], [0, 90, 0]], degrees=True)
    for turns in (some, quarter):
        angles = euler_angles(turns.as_matrix()[:, None], order)
        for each in (angles, continuous(angles)):
            back = Rotation.from_euler(order, each[:, 0], degrees=True)
            assert (turns.inv() * back).magnitude().max() < 1e-6
    angles = euler_angles(some.as_matrix()[:, None], order)[:, 0]
    np.testing.assert_allclose(angles, some.as_euler(order, degrees=True), atol=1e-6)


def test_two_people_keep_their_place_in_one_world(tmp_path):
    pair = np.stack([WALK, facing(WALK, 180) + [0.4, 0.0, 2.5]])
    files = write_bvh(tmp_path / "dance.bvh", Motion(pair, 30.0))
    assert [file.name for file in files] == ["dance_p1.bvh", "dance_p2.bvh"]
    people = [retarget(clip, fitting_mapping(clip)) for clip in map(read_bvh, files)]
    np.testing.assert_allclose(people, pair, atol=1e-4)
    assert read_bvh(files[0]).fps == 30.0


def test_another_skeleton_is_written_by_its_own_names():
    joints = np.zeros((4, KIT.num_joints, 3))
    for joint, parent in enumerate(KIT.parents[1:], start=1):
        joints[:, joint] = joints[:, parent] + 0.2 * t_pose(KIT)[joint]
    names, places = read_independently(person_bvh(facing(joints, 150), 12.5, KIT))
    assert {"Hips", "LeftUpLeg", "RightHand"} <= set(names)
    order = [names.index(each) for each in KIT.mixamo_names]
    np.testing.assert_allclose(places[:, order] / 100, facing(joints, 150), atol=1e-4)


# --------------------------------------------------------------------------------------------------------- the published way


def test_the_published_solver_keeps_the_bones_of_its_template_and_ours_those_of_the_person():
    made = published_bvh(1.2 * WALK[:4], iterations=5)
    own = np.linalg.norm(bone_vectors(made.joints, HUMANML), axis=-1)
    lengths = np.linalg.norm(np.array(template().offsets), axis=-1)[template().back]
    np.testing.assert_allclose(own[:, 1:], np.broadcast_to(lengths[1:], own[:, 1:].shape), atol=1e-6)
    errors = [np.linalg.norm(joints - 1.2 * WALK[:4], axis=-1).mean()
              for joints in (solve_turns(1.2 * WALK[:4], HUMANML).joints, made.joints)]  # fmt: skip
    assert errors[0] < 1e-4 < 1e-2 < errors[1]


def test_published_foot_cleaning_puts_a_resting_foot_on_the_floor_and_leaves_a_clip_of_one_frame():
    joints = np.repeat(standing()[list(template().order)][None], 12, axis=0) + [0.0, 0.01, 0.0]
    joints[:, :, 0] += 0.002 * np.arange(12)[:, None]
    cleaned = clean_feet(joints)
    for foot in (3, 4, 7, 8):
        np.testing.assert_allclose(cleaned[:, foot], np.broadcast_to(joints[:, foot].mean(0) * [1, 0, 1], (12, 3)), atol=1e-9)
    np.testing.assert_array_equal(clean_feet(joints[:1]), joints[:1])


# ------------------------------------------------------------------------------------------------------ files of a sampling run


def names_in(folder: Path) -> set[str]:
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}


def test_a_run_has_files_of_each_person_and_those_with_locked_feet(tmp_path):
    pair = np.stack([WALK, WALK + [1.0, 0.0, 0.0]]).astype(np.float32)
    write_each(tmp_path, ["prompt00_rep00"], [Motion(pair, 20.0)], ExportSettings(bvh=True, foot_lock=True))
    assert names_in(tmp_path) == {
        "prompt00_rep00.mp4", "prompt00_rep00_p1.bvh", "prompt00_rep00_p2.bvh", "prompt00_rep00_ik_p1.bvh",
        "prompt00_rep00_ik_p2.bvh", "prompt00_rep00_ik.mp4", "joints/prompt00_rep00_ik.npy",
    }  # fmt: skip
    locked = read_people_npy(tmp_path / "joints" / "prompt00_rep00_ik.npy")
    clips = [read_bvh(tmp_path / f"prompt00_rep00_ik_p{person}.bvh") for person in (1, 2)]
    found = np.stack([retarget(clip, fitting_mapping(clip)) for clip in clips])
    assert np.linalg.norm(found - locked, axis=-1).max() < 5e-3


def test_the_published_way_is_refused_for_another_skeleton_and_where_it_writes_nothing_before_anything_is_made():
    with pytest.raises(ValueError, match="add --bvh"):
        require_writable(ExportSettings(solver="published", foot_lock=True), "humanml")
    require_writable(ExportSettings(bvh=True, solver="published"), "humanml")
    with pytest.raises(FileError, match="22 joints of HumanML3D, not those of kit"):
        require_writable(ExportSettings(bvh=True, solver="published"), "kit")


def test_published_files_of_a_run_are_those_of_its_skeleton(tmp_path):
    settings = ExportSettings(video=False, bvh=True, foot_lock=True, solver="published")
    write_each(tmp_path, ["prompt00_rep00"], [Motion(WALK[None, :6].astype(np.float32), 20.0)], settings)
    assert names_in(tmp_path) == {"prompt00_rep00.bvh", "prompt00_rep00_ik.bvh", "joints/prompt00_rep00_ik.npy"}
    made = published_bvh(WALK[:6].astype(np.float32), foot_ik=True)
    assert (tmp_path / "prompt00_rep00_ik.bvh").read_text() == made.text != (tmp_path / "prompt00_rep00.bvh").read_text()
    clip = read_bvh(tmp_path / "prompt00_rep00_ik.bvh")
    joints = np.load(tmp_path / "joints" / "prompt00_rep00_ik.npy")
    np.testing.assert_allclose(clip.joints[:, 0], joints[:, 0], atol=1e-5)


def test_a_gallery_of_a_run_takes_each_motion_once(tmp_path):
    motion = Motion(WALK[None].astype(np.float32), 20.0, captions=("a walk",))
    write_results(tmp_path, [motion], 1)
    write_each(tmp_path, ["prompt00_rep00"], [motion], ExportSettings(format="npz", video=False, bvh=True, foot_lock=True))
    write_bvh(tmp_path / "mine.bvh", motion)
    found = motions_in(sorted(path for path in tmp_path.rglob("*") if path.suffix in (".npy", ".npz", ".bvh")))
    assert [path.name for path in found] == ["mine.bvh", "motions.npz#0"]
