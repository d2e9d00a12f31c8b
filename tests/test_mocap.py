"""Any skeleton to ours: mapping files, axes, scale, floor, time; checked on real recordings against measured facts."""

import json
import tarfile
from dataclasses import replace

import numpy as np
import pytest

from data_loaders.bvh import BvhClip, read_bvh
from data_loaders.joint_mapping import MAPPINGS, load_mapping, retarget
from data_loaders.mocap import read_joints, read_joints_npy, resample
from data_loaders.motion_checks import orientation_problem
from data_loaders.skeleton import load_skeleton
from data_loaders.sources import SourceClip
from protos.reading import FileError
from tests.shared import shared

HUMANML = load_skeleton("humanml")
INDEX = HUMANML.index


def standing(frames: int = 4) -> np.ndarray:
    """A person of humanml's size who stands facing +Z with slightly bent knees: joints (T, 22, 3)."""
    joints = np.zeros((22, 3))
    for joint, parent in enumerate(HUMANML.parents[1:], start=1):
        bend = {4: 0.1, 5: 0.1, 7: -0.1, 8: -0.1}.get(joint, 0.0)
        direction = np.array(HUMANML.raw_offsets[joint]) + [0, 0, bend]
        if joint in (16, 17):  # shoulders lie outwards of the collar
            direction = np.array([1.0 if joint == 16 else -1.0, 0, 0])
        joints[joint] = joints[parent] + direction / np.linalg.norm(direction) * HUMANML.bone_lengths[joint]
    joints[:, 1] -= joints[:, 1].min()
    return np.repeat(joints[None], frames, axis=0)


def as_clip(joints: np.ndarray, names=HUMANML.joint_names, fps: float = 20.0) -> BvhClip:
    turns = np.broadcast_to(np.eye(3), (*joints.shape[:2], 3, 3))
    return BvhClip("clip.bvh", tuple(names), tuple(HUMANML.parents), np.zeros((len(names), 3)), joints, turns, fps)


def mapping(**changes):
    return load_mapping({"joints": {name: name for name in HUMANML.joint_names}, **changes})


# ------------------------------------------------------------------------------------------------------ mapping files


@pytest.mark.parametrize("name", ["bandai_namco", "cmu_iclone", "cmu_cgspeed", "cmu_salsa", "xsens_mvn"])
def test_shipped_mappings_cover_the_skeleton_and_pair_left_with_right(name):
    loaded = load_mapping(name)
    assert loaded == load_mapping(MAPPINGS / f"{name}.toml")
    assert list(loaded.joints) == list(HUMANML.joint_names)
    for left, right in zip(HUMANML.left_joints, HUMANML.right_joints):
        (left_source,), (right_source,) = (loaded.joints[HUMANML.joint_names[joint]] for joint in (left, right))
        swapped = left_source.replace("_L_", "_R_").replace("Left", "Right")
        swapped = swapped[:-2] + "_R" if swapped.endswith("_L") else swapped
        swapped = "r" + swapped[1:] if swapped.startswith("l") else swapped
        assert swapped == right_source != left_source


def test_a_mapping_may_be_json(tmp_path):
    path = tmp_path / "mine.json"
    path.write_text(json.dumps({"scale": 0.01, "joints": {name: name for name in HUMANML.joint_names}}))
    assert load_mapping(path).scale == 0.01 and load_mapping(path).name == "mine"


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"scael": 1}, "unknown entry 'scael' (near: scale)"),
        ({"scale": 0}, "scale = 0; expected metres per source unit"),
        ({"scale": "big"}, "scale = 'big'"),
        ({"up": "Q"}, "up = 'Q'; expected an axis"),
        ({"up": "+Z", "forward": "-Z"}, "same axis"),
        ({"handedness": "both"}, "'right' or 'left'"),
        ({"floor": "ground"}, "floor = 'ground'"),
        ({"fps": -30}, "fps = -30"),
        ({"fps": float("nan")}, "fps = nan"),
        ({"scale": 10**400}, "expected metres per source unit"),
        ({"first_frame": 1.5}, "first_frame = 1.5"),
        ({"skeleton": "dog"}, "unknown skeleton 'dog'"),
        ({"joints": None}, "[joints] table"),
        ({"joints": {"pelvis": "Hips"}}, "does not say where these come from: left_hip"),
        ({"joints": {"left_hipp": "L"}}, "no joint 'left_hipp' (near: left_hip"),
        ({"joints": {"pelvis": 3}}, "'pelvis' expects a source joint"),
        ({"joints": {"pelvis": {"a": 0.5, "b": 0.6}}}, "weights of joint 'pelvis' sum to 1.1, expected 1"),
    ],
)
def test_wrong_mappings_say_what_was_expected(change, expected):
    with pytest.raises(ValueError) as caught:
        mapping(**change)
    assert expected in str(caught.value) and "\n" not in str(caught.value)


def test_broken_or_missing_mapping_files_are_named(tmp_path):
    path = tmp_path / "mine.toml"
    path.write_text("scale = = 1")
    with pytest.raises(FileError, match=r"mine\.toml: not readable TOML"):
        load_mapping(path)
    with pytest.raises(FileError, match="No such file"):
        load_mapping(tmp_path / "absent.toml")
    with pytest.raises(FileError, match="one of bandai_namco, cmu_asf, cmu_cgspeed, cmu_daz, cmu_deepmimic, cmu_iclone"):
        load_mapping("bandai")


def test_an_unknown_source_joint_is_named_with_its_neighbours():
    names = [{"left_knee": "LeftLeg", "left_ankle": "LeftFoot"}.get(name, name) for name in HUMANML.joint_names]
    with pytest.raises(FileError) as caught:
        renamed = {**{name: name for name in names}, "left_knee": "LeftLegs", "left_ankle": "LeftFoot"}
        del renamed["LeftLeg"], renamed["LeftFoot"]
        retarget(as_clip(standing(), names), mapping(joints=renamed))
    message = str(caught.value)
    assert message.startswith("clip.bvh: no joint 'LeftLegs'") and "for left_knee" in message
    assert "near: LeftLeg" in message and "22 joints" in message and "\n" not in message


# --------------------------------------------------------------------------------------------- axes, scale, floor, time


@pytest.mark.parametrize(
    ("up", "forward", "handedness", "to_source"),
    [
        ("+Y", "+Z", "right", lambda x, y, z: (x, y, z)),
        ("Z", "-Y", "right", lambda x, y, z: (x, -z, y)),  # Blender
        ("+Z", "+X", "right", lambda x, y, z: (z, x, y)),  # robots
        ("+Y", "+Z", "left", lambda x, y, z: (-x, y, z)),  # Unity
        ("+Z", "+X", "left", lambda x, y, z: (z, -x, y)),  # Unreal
        ("-Y", "+Z", "right", lambda x, y, z: (-x, -y, z)),  # camera coordinates
    ],
)
def test_axes_of_other_programs_come_out_as_ours(up, forward, handedness, to_source):
    joints = standing()
    source = np.stack(to_source(*np.moveaxis(joints, -1, 0)), axis=-1)
    got = retarget(as_clip(source), mapping(up=up, forward=forward, handedness=handedness))
    np.testing.assert_allclose(got, joints, atol=1e-12)
    assert orientation_problem(got, HUMANML) is None


def test_swapped_sides_and_wrong_axes_are_noticed():
    joints = standing()
    swap = {
        name: name.replace("left", "?").replace("right", "left").replace("?", "right") for name in HUMANML.joint_names
    }
    assert "backwards" in orientation_problem(retarget(as_clip(joints), mapping(joints=swap)), HUMANML)
    assert "lying" in orientation_problem(joints[..., [0, 2, 1]], HUMANML)
    assert "upside down" in orientation_problem(joints * [-1, -1, 1], HUMANML)


def test_scale_is_metres_per_unit_or_the_leg_length():
    joints = standing()
    np.testing.assert_allclose(retarget(as_clip(joints * 100), mapping(scale=0.01)), joints, atol=1e-12)
    np.testing.assert_allclose(retarget(as_clip(joints * 39.37), mapping(scale="leg_length")), joints, atol=1e-9)


def test_weighted_sums_place_joints_that_the_source_lacks():
    joints = {name: name for name in HUMANML.joint_names} | {"spine1": {"pelvis": 0.4, "neck": 0.6}}
    got = retarget(as_clip(standing()), mapping(joints=joints))
    expected = 0.4 * standing()[:, INDEX("pelvis")] + 0.6 * standing()[:, INDEX("neck")]
    np.testing.assert_allclose(got[:, INDEX("spine1")], expected)


@pytest.mark.parametrize(("floor", "lowest"), [("keep", -0.9), ("lowest", 0.0), (-0.8, -0.1)])
def test_floor(floor, lowest):
    sunk = standing() - [0, 0.9, 0]
    assert retarget(as_clip(sunk), mapping(floor=floor))[..., 1].min() == pytest.approx(lowest)


def test_two_people_stay_where_they_are():
    lead, follow = standing(), standing() + [0.3, 0, 2]
    scale = mapping(scale=1.3)
    apart = retarget(as_clip(follow), scale) - retarget(as_clip(lead), scale)
    np.testing.assert_allclose(apart, np.broadcast_to([0.39, 0, 2.6], apart.shape), atol=1e-12)


def test_first_frame_drops_what_comes_before():
    clip = as_clip(standing(5) + np.arange(5)[:, None, None])
    assert len(retarget(clip, mapping(first_frame=2))) == 3
    assert len(retarget(clip, mapping(first_frame=2), first_frame=4)) == 1
    with pytest.raises(FileError, match="should start at frame 5, the file has 5"):
        retarget(clip, mapping(first_frame=5))


def wave(fps: float, seconds: float = 3.0) -> np.ndarray:
    """A hand that waves at 2 Hz, 20 cm wide: (T, 1, 3)."""
    time = np.arange(int(seconds * fps + 1e-6) + 1) / fps
    return np.stack([np.sin(2 * np.pi * 2 * time) * 0.2, time, 0 * time], axis=-1)[:, None]


RATES = [(30, 20), (100, 20), (60, 20), (120, 20), (20, 30), (59.94, 20), (30, 12.5)]


@pytest.mark.parametrize(("source", "target"), RATES)
def test_resampling_follows_the_motion(source, target):
    got, truth = resample(wave(source), source, target), wave(target)
    count = len(got)
    assert count == len(truth) or (source == 59.94 and count == len(truth) - 1)  # its last frame is at 2.99 s
    inner = slice(3, count - 3)  # a spline knows less about the ends
    assert np.abs(got[inner] - truth[inner]).max() < 1e-3  # straight lines would be 4 mm off at 30 to 20 fps


def test_whole_ratios_keep_recorded_frames():
    joints = wave(120)
    np.testing.assert_array_equal(resample(joints, 120, 20), joints[::6])
    np.testing.assert_array_equal(resample(joints, 120, 120), joints)


@pytest.mark.parametrize("frames", [1, 2, 3, 4])
def test_short_clips_can_be_resampled(frames):
    moving = np.arange(frames, dtype=np.float32)[:, None, None] * np.ones((1, 22, 3), np.float32)
    got = resample(moving, 30, 20)
    np.testing.assert_allclose(got[:, 0, 0], np.arange(0, frames - 1 + 1e-6, 1.5), atol=1e-6)
    assert got.dtype == np.float32


def test_resampling_without_a_rate_is_refused():
    with pytest.raises(FileError, match=r"expected 0\.1 to 10000"):
        resample(wave(30), 0, 20)


def test_a_slip_in_the_frame_rate_does_not_fill_the_memory(tmp_path):
    np.save(tmp_path / "a.npy", np.zeros((100_000, 22, 3), np.float16))
    with pytest.raises(FileError, match=r"a\.npy: 100000 frames at 0\.1 per second last 1000000 s, .* is the frame rate right"):
        read_joints(SourceClip("a", tmp_path / "a.npy", "joints", fps=0.1), 20)


# -------------------------------------------------------------------------------------------------------- plain joints


def test_joints_npy(tmp_path):
    path = tmp_path / "walk.npy"
    np.save(path, standing())
    assert read_joints_npy(path).dtype == np.float32
    clip = SourceClip("walk", path, "joints", fps=40.0)
    assert read_joints(clip, 20).shape == (2, 22, 3)
    np.testing.assert_array_equal(read_joints_npy(path.read_bytes()), read_joints_npy(path))


def test_wrong_joints_npy_say_what_was_expected(tmp_path):
    path = tmp_path / "walk.npy"
    broken = standing()
    broken[2, 7, 1] = np.nan
    cases = [
        (np.zeros((5, 66)), "shape (5, 66), expected joints (T, 22, 3)"),
        (np.zeros((0, 22, 3)), "shape (0, 22, 3)"),
        (standing()[:, :21], "21 joints, expected (T, 22, 3)"),
        (broken, "frame 2, joint 7"),
        (np.array([[["a"] * 3] * 22]), "expected numbers"),
    ]
    for array, expected in cases:
        np.save(path, array)
        with pytest.raises(FileError) as caught:
            read_joints_npy(path, num_joints=22)
        assert expected in str(caught.value) and str(path) in str(caught.value)
    path.write_text("not numpy")
    with pytest.raises(FileError, match=r"not a \.npy array"):
        read_joints_npy(path)
    with pytest.raises(FileNotFoundError):
        read_joints_npy(tmp_path / "absent.npy")


# ------------------------------------------------------------------------------------------------------ real recordings


def heading(joints: np.ndarray) -> np.ndarray:
    """Unit facing direction (T, 2) on the floor, as (x, z)."""
    right_hip, left_hip, right_shoulder, left_shoulder = (joints[:, joint] for joint in HUMANML.face_joints)
    facing = np.cross(left_hip - right_hip + left_shoulder - right_shoulder, [0, 1, 0])[:, [0, 2]]
    return facing / np.linalg.norm(facing, axis=-1, keepdims=True)


def turned(joints: np.ndarray) -> float:
    """Degrees the body turned from first to last frame, left positive."""
    facing = heading(joints)
    angle = np.unwrap(np.arctan2(facing[:, 0], facing[:, 1]))
    return float(np.degrees(angle[-1] - angle[0]))


def travelled(joints: np.ndarray) -> tuple[float, float]:
    """Metres (forward, to the left) from first to last frame in the frame of the first facing."""
    step, (x, z) = (joints[-1, 0] - joints[0, 0])[[0, 2]], heading(joints)[0]
    return float(step @ [x, z]), float(step @ [z, -x])


def check_facts(joints: np.ndarray, facts: dict) -> None:
    forward, left = travelled(joints)
    assert turned(joints) == pytest.approx(facts["turn_deg_body"], abs=11)
    distance = np.hypot(facts["net_forward_m"], facts["net_left_m"])
    assert np.hypot(forward, left) == pytest.approx(distance, abs=0.05, rel=0.01)
    if abs(facts["net_forward_m"]) > 0.5:
        assert forward * facts["net_forward_m"] > 0
    assert orientation_problem(joints, HUMANML) is None


def bandai_samples() -> list[str]:
    from tests.shared import shared_folder

    folder = shared_folder()
    return sorted(path.stem for path in (folder / "data/bandai_namco/sample").glob("*.bvh")) if folder else []


@pytest.mark.parametrize("name", bandai_samples() or ["absent"])
def test_bandai_namco_clips_do_what_their_labels_measured(name):
    folder = shared("data", "bandai_namco")
    known = json.loads((folder / "captions.json").read_text())["clips"][name]
    joints = read_joints(SourceClip(name, folder / "sample" / f"{name}.bvh", "bvh", "bandai_namco"), 20)
    assert len(joints) == known["frames_20fps"]
    check_facts(joints, known["facts"])
    assert 0.02 < joints[..., 1].min() < 0.06  # the floor is at 0, toes are the lowest joint
    above = joints[:, [INDEX("left_wrist"), INDEX("right_wrist")], 1].max(0)
    left_up, right_up = above > joints[:, [INDEX("left_shoulder"), INDEX("right_shoulder")], 1].mean(0)
    if "left-hand" in name or "right-hand" in name:
        assert (left_up, right_up) == ("left-hand" in name, "right-hand" in name)


def members(archive: str, wanted: set[str]) -> dict[str, bytes]:
    with tarfile.open(shared("data", *archive.split("/"))) as tar:
        return {m.name: tar.extractfile(m).read() for m in tar if m.name.split("/")[-1].removesuffix(".bvh") in wanted}


def test_cmu_clips_do_what_their_labels_measured():
    """iClone: Z-up offsets, floor below the origin, T-pose in frame 0 of subject 7; cgspeed: mixed channel orders."""
    wanted = {"iclone_006_10", "iclone_006_11", "iclone_007_03", "cgspeed_131_02"}
    labels = json.loads(shared("data", "cmu_sample", "captions.json").read_text())["clips"]
    clips = {path.split("/")[-1][:-4]: data for path, data in members("cmu_sample/cmu_sample.tar.xz", wanted).items()}
    assert set(clips) == wanted
    for name, data in clips.items():
        label, kind = labels[name], "cmu_iclone" if name.startswith("iclone") else "cmu_cgspeed"
        joints = read_joints(SourceClip(name, data, "bvh", kind, first_frame=label["first_frame"]), 20)
        if "facts" in label:
            check_facts(joints, label["facts"])
        assert -0.01 < joints[..., 1].min() < 0.08
        assert 0.8 < joints[:, 0, 1].mean() < 1.1
        assert np.abs(np.diff(joints, axis=0)).max() < 0.5, "a T-pose frame was kept"
        if name == "iclone_006_10":
            assert turned(joints) > 300  # the index says: turns to the left
        if name == "iclone_006_11":
            assert turned(joints) < -300
        if name == "cgspeed_131_02":
            assert travelled(joints)[0] > 1


def test_salsa_partners_meet_and_part():
    take = json.loads(shared("data", "two_person", "captions.json").read_text())["takes"]["salsa_01"]
    files = members("two_person/cmu_salsa.tar.xz", {"60_01_scaled", "61_01_scaled"})
    lead, follow = (
        read_joints(SourceClip(name, files[f"cmu_salsa/{name}.bvh"], "bvh", "cmu_salsa"), 20)
        for name in ("60_01_scaled", "61_01_scaled")
    )
    apart = np.linalg.norm((lead - follow)[:, 0, [0, 2]], axis=-1)
    facts = take["facts"]
    assert apart[0] == pytest.approx(facts["start_distance_m"], abs=0.1)
    assert apart.min() == pytest.approx(facts["min_distance_m"], abs=0.05)
    facing = heading(lead)[0] @ (follow - lead)[0, 0, [0, 2]]
    assert facing > 0.9 * apart[0], "they start face to face"
    for dancer, turn in ((lead, facts["lead_turn_deg"]), (follow, facts["follow_turn_deg"])):
        assert turned(dancer) == pytest.approx(turn, abs=15)
        assert orientation_problem(dancer, HUMANML) is None
        leg = sum(np.linalg.norm(dancer[:, a] - dancer[:, b], axis=-1).mean() for a, b in ((4, 1), (7, 4)))
        assert leg == pytest.approx(0.83, abs=0.01)
        assert np.abs(np.diff(dancer, axis=0)).max() < 0.6


def test_bones_keep_their_length_through_resampling():
    folder = shared("data", "bandai_namco", "sample")
    clip = read_bvh(folder / "dataset-2_run_youthful_001.bvh")
    joints = resample(retarget(clip, load_mapping("bandai_namco")), 30, 20)
    shin = np.linalg.norm(joints[:, INDEX("left_ankle")] - joints[:, INDEX("left_knee")], axis=-1)
    assert shin == pytest.approx(0.41, abs=0.006)


def test_a_bvh_without_mapping_is_read_by_the_shipped_one_that_fits_and_refused_where_none_does(tmp_path):
    path = shared("data", "bandai_namco", "sample", "dataset-2_walk_active_013.bvh")
    clip = SourceClip("walk", path, "bvh")
    np.testing.assert_array_equal(read_joints(clip, 20), read_joints(replace(clip, mapping="bandai_namco"), 20))
    (tmp_path / "other.bvh").write_text(path.read_text().replace("UpperLeg_L", "Oberschenkel_L"))
    with pytest.raises(FileError, match=r"not named as in any skeleton known here \(bandai_namco, .*--mapping FILE"):
        read_joints(SourceClip("other", tmp_path / "other.bvh", "bvh"), 20)
    with pytest.raises(FileError, match="no joint 'hip', which mapping cmu_salsa needs for pelvis"):
        read_joints(replace(clip, mapping="cmu_salsa"), 20)
