"""Skeleton files: the shipped ones are whole, broken ones are refused in words."""

import json

import pytest

from data_loaders.features import Features
from data_loaders.skeleton import FOLDER, load_skeleton
from protos.reading import FileError


@pytest.mark.parametrize("name, joints, width, fps", [("humanml", 22, 263, 20), ("kit", 21, 251, 12.5)])
def test_shipped_skeletons_have_the_published_sizes(name, joints, width, fps):
    skeleton = load_skeleton(name)
    assert (skeleton.num_joints, skeleton.contact_fps) == (joints, fps)
    assert Features(name, fps, "published").width == width


def test_t2m_is_humanml():
    assert load_skeleton("t2m") is not None
    assert load_skeleton("t2m") == load_skeleton("humanml") == load_skeleton(FOLDER / "humanml.json")


@pytest.mark.parametrize("name", ["humanml", "kit"])
def test_left_and_right_are_mirror_partners_by_name_and_by_tree(name):
    skeleton = load_skeleton(name)
    partner = dict(zip(skeleton.left_joints, skeleton.right_joints))
    partner |= {right: left for left, right in partner.items()}
    for joint, other in partner.items():
        left, right = sorted((skeleton.joint_names[joint], skeleton.joint_names[other]))
        assert left.replace("left", "right") == right
        parent = skeleton.parents[joint]
        assert skeleton.parents[other] == partner.get(parent, parent)


def test_arms_hang_on_the_spine_and_turn_with_the_root():
    skeleton = load_skeleton("humanml")
    collar = skeleton.index("left_collar")
    assert skeleton.parents[collar] == skeleton.index("spine3")
    assert skeleton.rotation_parents[collar] == 0


def test_unknown_joint_is_named():
    with pytest.raises(FileError, match="humanml has no joint 'tail'"):
        load_skeleton("humanml").index("tail")


def test_unknown_skeleton_lists_the_known_ones():
    with pytest.raises(FileError, match=r"unknown skeleton 'smurf'.*humanml, kit"):
        load_skeleton("smurf")


@pytest.mark.parametrize("change, complaint", [
    ({"parents": [-1, 0, 5]}, "joint_names has 22 entries"),
    ({"chains": [[0, 1, 2]]}, "not its child"),
    ({"chains": [[0, 1]]}, "exactly one chain"),
    ({"left_joints": [1]}, "must pair up"),
    ({"fingers": []}, "unknown entry 'fingers'"),
    ({"t_pose": [[0, 1, 0]]}, "t_pose has 1 entries"),
    ({"mixamo_names": ["Hips"]}, "mixamo_names has 1 entries"),
    ({"hinges": {"tail": [1, 0, 0]}}, "no joint 'tail'"),
    ({"contact_fps": None}, "missing required field contact_fps|missing field contact_fps"),
    ({"contact_fps": "20"}, "contact_fps: expected float, got str"),
    ({"contact_fps": 0}, "contact_fps = 0, expected more than 0"),
    ({"feet": [1]}, "unknown entry 'feet'"),
    ({"leg_joints": [5, 80]}, "names joint 80, parents has 22"),
    ({"face_joints": [1, 2]}, "face_joints: expected array of length 4"),
])  # fmt: skip
def test_contradictions_in_a_file_are_told(tmp_path, change, complaint):
    record = json.loads((FOLDER / "humanml.json").read_text()) | change
    path = tmp_path / "body.json"
    path.write_text(json.dumps({key: value for key, value in record.items() if value is not None}))
    with pytest.raises(FileError, match=complaint):
        load_skeleton(path)


def test_a_file_that_is_no_json_is_told(tmp_path):
    path = tmp_path / "body.json"
    path.write_text("joints: 22")
    with pytest.raises(FileError, match=r"body\.json: not readable JSON"):
        load_skeleton(path)


def test_files_with_a_frame_rate_and_length_limits_of_earlier_versions_still_load(tmp_path):
    record = json.loads((FOLDER / "humanml.json").read_text())
    del record["contact_fps"]
    path = tmp_path / "body.json"
    path.write_text(json.dumps({**record, "fps": 20, "length_limits": [40, 200]}))
    assert load_skeleton(path) == load_skeleton("humanml")
