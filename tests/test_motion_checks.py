"""Motion that is wrong is seen on its way in: bones of no person, axes and sides exchanged, a root that does not travel."""

from dataclasses import replace

import numpy as np
import pytest

from data_loaders.bvh import read_bvh
from data_loaders.joint_mapping import fitting_mapping, load_mapping, retarget
from data_loaders.mocap import checked_joints, read_joints
from data_loaders.motion_checks import bone_problem, orientation_problem, root_problem
from data_loaders.skeleton import load_skeleton
from data_loaders.sources import SourceClip
from protos.reading import FileError
from tests.shared import shared
from tests.synthetic import walk

HUMANML = load_skeleton("humanml")
INDEX = HUMANML.index
SIDES_SWAPPED = list(range(22))
for _left, _right in zip(HUMANML.left_joints, HUMANML.right_joints):
    SIDES_SWAPPED[_left], SIDES_SWAPPED[_right] = _right, _left


def read(joints: np.ndarray, tmp_path) -> list[str]:
    """Warnings about a file of joints."""
    np.save(tmp_path / "take.npy", joints.astype(np.float32))
    warnings: list[str] = []
    read_joints(SourceClip("take", tmp_path / "take.npy", "joints"), 20, warnings=warnings)
    return warnings


def bent(joints: np.ndarray) -> np.ndarray:
    """The walk with knees slightly to the front and toes ahead, as people have them."""
    joints = joints.copy()
    for side in ("left", "right"):
        joints[:, INDEX(f"{side}_knee"), 2] += 0.03
    return joints


@pytest.mark.parametrize(
    ("wrong", "expected"),
    [
        (lambda joints: joints, []),
        (lambda joints: joints[..., [0, 2, 1]] * [1, -1, 1], ["the body is lying in most frames; check the up axis"]),
        (lambda joints: joints * [1, -1, -1], ["the body is upside down in most frames; check the up axis"]),
        (
            lambda joints: joints[:, SIDES_SWAPPED],
            ["knees and toes point backwards; check left and right, and the handedness of the axes"],
        ),
        (
            lambda joints: joints - joints[:, :1],
            ["the root stays in one point while the feet move; are its position channels missing or 0?"],
        ),
    ],
    ids=["right", "Z up", "upside down", "left and right exchanged", "root lost"],
)
def test_joints_in_other_axes_are_read_with_a_warning(wrong, expected, tmp_path):
    assert read(wrong(bent(walk(60))), tmp_path) == expected


def test_without_a_collector_warnings_are_logged_with_the_file(tmp_path, caplog):
    np.save(tmp_path / "take.npy", walk(60)[..., [0, 2, 1]])
    read_joints(SourceClip("take", tmp_path / "take.npy", "joints"), 20)
    assert f"{tmp_path / 'take.npy'}: the body is lying" in caplog.text


@pytest.mark.parametrize(
    ("factor", "expected"),
    [(0, "bones have no length"), (1000, "m long, a person's"), (100, "scale right"), (0.01, "scale right"), (0.394, "leg is")],
    ids=["lost take", "millimetres", "centimetres", "metres read as centimetres", "inches read as centimetres"],
)
def test_joints_in_another_unit_than_metres_are_refused(factor, expected, tmp_path):
    with pytest.raises(FileError, match=expected) as refused:
        read(walk(60) * factor, tmp_path)
    assert str(tmp_path / "take.npy") in str(refused.value) and "\n" not in str(refused.value)


@pytest.mark.parametrize("height", [0.9, 1.2, 1.75, 2.2], ids=lambda height: f"{height} m")
def test_children_and_giants_are_people(height):
    assert bone_problem(walk(20) * height / 1.75, HUMANML) is None


def test_somebody_who_stands_or_turns_on_the_spot_is_no_lost_root():
    standing = np.repeat(walk(1), 40, axis=0)
    assert root_problem(standing, HUMANML) is None
    assert root_problem(walk(60), HUMANML) is None


def test_joints_that_are_too_many_are_left_out_and_too_few_or_broken_ones_named():
    hands = np.concatenate([walk(20), np.zeros((20, 30, 3))], axis=1)
    np.testing.assert_array_equal(checked_joints(hands, HUMANML, "take", []), walk(20))
    with pytest.raises(FileError, match="take: 21 joints, expected the 22 of humanml"):
        checked_joints(walk(20)[:, :21], HUMANML, "take", [])
    hands[7, 3] = 1e30
    with pytest.raises(FileError, match=r"take: a joint of frame 7 is 1e\+30 m from the origin"):
        checked_joints(hands, HUMANML, "take", [])
    hands[7, 3] = np.inf
    with pytest.raises(FileError, match="take: NaN or infinity in frame 7"):
        checked_joints(hands, HUMANML, "take", [])


# ------------------------------------------------------------------------------------------- which mapping a file is read by

XSENS = {  # joint: (parent, offset in cm) of MVN's export: a man of 1.75 m in the pose of his calibration
    "Hips": (None, "0 0 0"), "Chest": ("Hips", "0 9.9 -1"), "Chest2": ("Chest", "0 10 0"), "Chest3": ("Chest2", "0 9.1 0"),
    "Chest4": ("Chest3", "0 9.1 0"), "Neck": ("Chest4", "0 12.5 0"), "Head": ("Neck", "0 8.8 1.5"),
    "RightCollar": ("Chest4", "-2.6 7.2 0"), "RightShoulder": ("RightCollar", "-13.5 0 0"),
    "RightElbow": ("RightShoulder", "-28.5 0 0"), "RightWrist": ("RightElbow", "-24.5 0 0"),
    "LeftCollar": ("Chest4", "2.6 7.2 0"), "LeftShoulder": ("LeftCollar", "13.5 0 0"),
    "LeftElbow": ("LeftShoulder", "28.5 0 0"), "LeftWrist": ("LeftElbow", "24.5 0 0"),
    "RightHip": ("Hips", "-8.7 0 0"), "RightKnee": ("RightHip", "0 -42.5 0"), "RightAnkle": ("RightKnee", "0 -41 0"),
    "RightToe": ("RightAnkle", "0 -8.2 17.5"),
    "LeftHip": ("Hips", "8.7 0 0"), "LeftKnee": ("LeftHip", "0 -42.5 0"), "LeftAnkle": ("LeftKnee", "0 -41 0"),
    "LeftToe": ("LeftAnkle", "0 -8.2 17.5"),
}  # fmt: skip


def xsens_bvh(unit: float = 1.0) -> bytes:
    """A man who stands with slightly bent knees, as Xsens MVN writes him."""
    order: list[str] = []

    def joint(name: str) -> str:
        order.append(name)
        parent, offset = XSENS[name]
        channels = ("3" if parent else "6 Xposition Yposition Zposition") + " Yrotation Xrotation Zrotation"
        inner = "".join(joint(child) for child, (above, _) in XSENS.items() if above == name) or "End Site\n{\nOFFSET 0 1 0\n}\n"
        scaled = " ".join(str(float(number) * unit) for number in offset.split())
        return f"{'ROOT' if parent is None else 'JOINT'} {name}\n{{\nOFFSET {scaled}\nCHANNELS {channels}\n{inner}}}\n"

    hierarchy = joint("Hips")
    bend = {"RightHip": "0 -5 0", "LeftHip": "0 -5 0", "RightKnee": "0 10 0", "LeftKnee": "0 10 0"}
    row = f"0 {93 * unit} 0 0 0 0 " + " ".join(bend.get(name, "0 0 0") for name in order[1:])
    return f"HIERARCHY\n{hierarchy}MOTION\nFrames: 30\nFrame Time: 0.016667\n{(row + chr(10)) * 30}".encode()


def test_xsens_is_read_as_xsens_although_it_has_the_joints_of_cmu():
    clip = read_bvh(xsens_bvh())
    assert load_mapping("cmu_cgspeed").fits(clip.names)
    assert fitting_mapping(clip).name == "xsens_mvn"
    joints = retarget(clip, load_mapping("xsens_mvn"))
    assert orientation_problem(joints, HUMANML) is None and bone_problem(joints, HUMANML) is None
    assert joints[0, INDEX("head"), 1] == pytest.approx(1.52, abs=0.03)
    assert joints[..., 1].min() == pytest.approx(0.0, abs=0.03)
    assert joints[0, INDEX("left_wrist"), 0] > 0.5 > -0.5 > joints[0, INDEX("right_wrist"), 0]


def test_a_mapping_that_makes_no_person_of_a_file_is_not_taken():
    with pytest.raises(FileError, match=r"named as in xsens_mvn, but read so its .*m long, a person's.*--mapping FILE"):
        fitting_mapping(read_bvh(xsens_bvh(unit=10)))  # the same in millimetres
    clip = SourceClip("man", xsens_bvh(), "bvh", "cmu_cgspeed")
    with pytest.raises(FileError, match=r"thigh is 2\.4 m long"):
        read_joints(clip, 20)
    assert read_joints(replace(clip, mapping=None), 20, warnings=[]).shape == (10, 22, 3)


def test_the_salsa_of_cmu_runs_at_its_true_60_frames_per_second():
    """Its files say 120; HumanML3D cuts 60_10 until 19.95 s, where 120 fps would end at 9.97 s."""
    from tests.test_mocap import members

    files = members("two_person/cmu_salsa.tar.xz", {"60_10_scaled"})
    clip = read_bvh(files["cmu_salsa/60_10_scaled.bvh"], name="60_10")
    assert clip.fps == 120
    mapping = fitting_mapping(clip)
    assert (mapping.name, mapping.fps) == ("cmu_salsa", 60)
    warnings: list[str] = []
    joints = read_joints(SourceClip("60_10", files["cmu_salsa/60_10_scaled.bvh"], "bvh"), 20, warnings=warnings)
    assert len(joints) / 20 == pytest.approx(19.95 - 6 / 60, abs=0.06)
    assert "read at 60 fps, as mapping cmu_salsa says, although the file says 120" in warnings


def test_no_recording_of_the_shared_data_is_refused():
    for path in sorted(shared("data", "bandai_namco", "sample").glob("*.bvh"))[::8]:
        warnings: list[str] = []
        read_joints(SourceClip(path.stem, path, "bvh"), 20, warnings=warnings)
        assert warnings == [], path
