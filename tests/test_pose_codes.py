"""Pose codes: the table, what they say of poses, mirrors, jitter, words, and the command that tells them."""

import json

import numpy as np
import pytest
import torch

from benchmarks.pose_codes import reference_codes
from data_loaders.corpus import Motion
from data_loaders.humanml_features import mirror_joints
from data_loaders.motion_words import timeline
from data_loaders.pose_code_table import KINDS, pose_code_table
from data_loaders.pose_code_words import code_changes, code_events, describe_codes, phrases
from data_loaders.pose_codes import (
    codes_from_indices,
    codes_from_values,
    every_token,
    facing_forward,
    indices_from_codes,
    jitter_draws,
    mirrored_indices,
    motion_codes,
    pose_codes,
    pose_values,
    token_codes,
)
from data_loaders.skeleton import load_skeleton
from protos.options import run_command
from sample.describe import main
from tests.pairs import greeting, turned
from tests.synthetic import raise_hand, standing, synthetic_clip, turn, walk, walk_in_a_curve

TABLE, HUMANML, FPS = pose_code_table(), load_skeleton("humanml"), 20.0
ARMS = ("elbow", "wrist", "hand")


def bins(joints: np.ndarray, key: str) -> list[int]:
    group = TABLE.by_key[key]
    return (indices_from_codes(pose_codes(joints))[..., group.number] - group.first).tolist()


def clips() -> list[np.ndarray]:
    return [raise_hand(24), walk(24), walk_in_a_curve(24), *(synthetic_clip(24, HUMANML, seed) for seed in range(4))]


def test_there_are_392_codes_of_70_groups_and_every_name_is_of_one():
    assert TABLE.width == 392 and len(TABLE.groups) == 70 and tuple(kind.name for kind in TABLE.file.kinds) == KINDS
    assert len(TABLE.official_codes) == len(TABLE.worded_codes) == 392
    for kind in TABLE.file.kinds:
        assert len(kind.labels) == len(kind.words) == len(kind.thresholds) + 1
        assert list(kind.thresholds) == sorted(kind.thresholds)


def test_every_pose_has_exactly_one_code_of_each_group():
    for joints in clips():
        codes = pose_codes(joints)
        assert codes.shape == (24, 392) and codes.dtype == torch.bool
        assert torch.equal(codes_from_indices(indices_from_codes(codes)), codes)


def test_codes_are_those_that_are_found_one_by_one():
    joints = np.concatenate(clips()).astype(np.float64)
    np.testing.assert_array_equal(pose_codes(joints).numpy(), reference_codes(joints))


def test_a_standing_person_is_straight_upright_and_on_the_ground():
    still = standing()[None].astype(np.float32)
    for key, bin_ in (("angle left_knee", 17), ("angle right_elbow", 17), ("relV pelvis neck", 0), ("ground left_foot", 0),
                      ("ground left_knee", 1), ("relY left_hand left_shoulder", 0), ("relY left_hip left_knee", 2)):  # fmt: skip
        assert bins(still, key) == [bin_], key


def test_a_segment_that_is_vertical_to_the_last_digit_is_vertical():
    for scale in np.linspace(0.1, 3, 50):
        thigh = standing()[None].astype(np.float32)
        thigh[:, 4] = thigh[:, 1] - np.float32([0, scale, 0])
        assert bins(thigh, "relV left_hip left_knee") == [0]


def test_an_elbow_is_coded_by_its_angle_in_steps_of_ten_degrees():
    joints = np.repeat(standing()[None], 17, axis=0)
    turn(joints, 19, [21], np.radians(np.arange(5, 175, 10)))
    assert bins(joints, "angle right_elbow") == list(range(17, 0, -1)) and set(bins(joints, "angle left_elbow")) == {17}


def test_words_say_what_is_measured_where_published_names_do_not():
    """A left hand at the body's left, a right hand stretched forward: the first frame faces +Z, the left side lies at +X."""
    joints = standing()[None]
    joints[:, 20] += [0.5, 0, 0]
    joints[:, 21] += [0, 0, 0.5]
    codes = indices_from_codes(pose_codes(joints))[0].tolist()
    said = {TABLE.words(code) for code in codes}
    assert {"left hand to the left of left shoulder", "right hand before torso"} <= said
    official = {TABLE.official_name(code) for code in codes}
    assert "L-hand vs L-shoulder relX at the right of" in official and "R-hand vs torso relZ behind" in official
    assert TABLE.words(279) == "left knee below right knee" and TABLE.official_name(279) == "L-ankle vs neck relY below"


def test_raising_an_arm_changes_codes_of_that_arm_alone():
    indices = indices_from_codes(pose_codes(raise_hand(40, "left")))
    changed = (indices != indices[:1]).any(0).nonzero()[:, 0].tolist()
    assert len(changed) > 10
    for number in changed:
        assert any(joint.removeprefix("left_") in ARMS for joint in TABLE.groups[number].joints), TABLE.groups[number].key


def test_mirrored_motion_has_mirrored_codes():
    for joints in clips():
        joints = torch.from_numpy(joints.astype(np.float64))
        mirrored = indices_from_codes(pose_codes(mirror_joints(joints, HUMANML)))
        own = indices_from_codes(pose_codes(joints))
        assert torch.equal(mirrored_indices(own), mirrored)
        assert torch.equal(mirrored_indices(mirrored), own) and not torch.equal(mirrored, own)


def test_codes_do_not_know_where_the_body_is_nor_how_high():
    joints = np.concatenate(clips()).astype(np.float64)
    assert torch.equal(pose_codes(joints + [3.0, 1.5, -2.0]), pose_codes(joints))


def test_a_token_is_the_first_of_four_frames_and_rests_are_left_out():
    joints = walk(27)
    assert torch.equal(token_codes(joints), pose_codes(joints)[[0, 4, 8, 12, 16, 20]])
    batch = np.stack([joints, raise_hand(27)])
    assert torch.equal(token_codes(batch)[1], token_codes(raise_hand(27)))
    uniform = jitter_draws(27, torch.Generator().manual_seed(3))
    assert torch.equal(token_codes(joints, uniform), every_token(pose_codes(joints, uniform)))
    with pytest.raises(ValueError, match="3 frames, expected 4 or more"):
        token_codes(joints[:3])


def test_jitter_repeats_with_its_seed_and_moves_a_value_by_no_more_than_its_kind_allows():
    joints = walk_in_a_curve(60)
    draws = [jitter_draws(60, torch.Generator().manual_seed(seed)) for seed in (1, 1, 2)]
    first, again, other = (indices_from_codes(pose_codes(joints, each)) for each in draws)
    assert torch.equal(first, again) and not torch.equal(first, other)
    moved = (first - indices_from_codes(pose_codes(joints))).abs()
    assert moved.max() == 1 and 0.02 < (moved > 0).float().mean() < 0.25
    assert torch.equal(pose_codes(joints, torch.full((60, 70), 0.5)), pose_codes(joints))


def test_a_value_at_an_upper_bound_belongs_below_it_and_nan_to_the_last_bin():
    values = torch.zeros(3, 70)
    values[0, 0], values[1, 0], values[2, 0] = 20.0, 20.001, torch.nan
    assert indices_from_codes(codes_from_values(values))[:, 0].tolist() == [1, 2, 17]


def test_kit_is_read_in_the_published_places():
    """Feet begin at the middle, and arms are those of the other side."""
    kit = load_skeleton("kit")
    joints = np.zeros((4, 21, 3))
    for name, place in (("left_hip", (0.1, 0.9, 0)), ("left_knee", (0.1, 0.5, 0)), ("left_midfoot", (0.1, 0.5, -0.4)),
                        ("right_hip", (-0.1, 0.9, 0)), ("right_knee", (-0.1, 0.5, 0)), ("right_midfoot", (-0.1, 0.1, 0)),
                        ("right_shoulder", (-0.2, 1.4, 0)), ("right_elbow", (-0.5, 1.4, 0)),
                        ("right_wrist", (-0.5, 1.1, 0))):  # fmt: skip
        joints[:, kit.index(name)] = place
    values = pose_values(joints)
    assert values.shape == (4, 70) and values[0, :3].tolist() == pytest.approx([90, 180, 90], abs=1e-5)


def test_fingers_of_a_full_body_are_read_where_there_are_any():
    joints = np.concatenate([np.repeat(standing()[None], 2, axis=0), np.zeros((2, 30, 3))], axis=1)
    joints[:, [26, 41]] = joints[:, [20, 21]] + [0, 0, 0.4]
    assert bins(joints, "relZ left_hand torso") == [0, 0] and bins(joints[:, :22], "relZ left_hand torso") == [1, 1]


@pytest.mark.parametrize(("motion", "said"), [
    (Motion(walk(30)[None], FPS, "smpl"), "skeleton 'smpl', pose codes are read from humanml or kit"),
    (Motion(walk(30)[None], 30.0), "at 30 frames a second, pose codes of humanml are read at 20: resample"),
    (Motion(walk(30)[None, :, :20], FPS), r"shape \(1, 30, 20, 3\)"),
    (Motion(walk(30)[None] * np.nan, FPS), "NaN or infinity"),
    (Motion(walk(3)[None], FPS), "3 frames, expected 4 or more"),
])  # fmt: skip
def test_motions_that_cannot_be_read_are_refused(motion, said):
    with pytest.raises(ValueError, match=said):
        motion_codes(motion)


def test_codes_that_are_none_are_refused_with_group_and_token():
    codes = token_codes(walk(20))
    for change, said in ((False, "token 2 has 0 codes of group 0"), (True, "token 2 has 2 codes of group 0")):
        wrong = codes.clone()
        wrong[2, :18] = False
        wrong[2, :2] = change
        with pytest.raises(ValueError, match=said):
            indices_from_codes(wrong)
    with pytest.raises(ValueError, match="expected"):
        indices_from_codes(torch.zeros(3, 70))


def test_a_motion_is_read_as_it_first_faces():
    joints = walk(40, fps=FPS)
    for angle in (0, 90, 200):
        seen = motion_codes(Motion(turned(joints, angle, 2, 1)[None], FPS))[0]
        assert (seen != token_codes(joints)).float().mean() < 0.002  # but for rounding at the edge of a bin
    again = facing_forward(torch.from_numpy(turned(joints, 77, 0, 0)))
    np.testing.assert_allclose(again[0, 2] - again[0, 1], joints[0, 2] - joints[0, 1], atol=1e-6)


# ----------------------------------------------------------------------------------------------------------------------- in words


def said(joints: np.ndarray, **settings) -> set[str]:
    return {event.phrase for event in describe_codes(Motion(joints[None], FPS), **settings)}


def test_nothing_is_said_of_standing():
    assert said(np.repeat(standing()[None], 20, axis=0)) == set()
    assert all(len(each) == group.bins and "" in each for each, group in zip(phrases(), TABLE.groups))
    silent = {group.kind.name for each, group in zip(phrases(), TABLE.groups) if not any(each)}
    assert silent <= {"distance"}  # of joints that are near each other anyhow


def test_a_raised_hand_is_told_with_when():
    events = describe_codes(Motion(raise_hand(60)[None], FPS))
    (event,) = [each for each in events if each.phrase == "left hand above left shoulder"]
    assert 0.5 < event.start < 1.2 and 1.8 < event.end < 2.6 and event.kind == "relY"
    assert not any("right hand above" in each.phrase or "knee bent" in each.phrase for each in events)
    assert all(each.end - each.start >= 0.8 - 1e-9 for each in describe_codes(Motion(raise_hand(60)[None], FPS), shortest=0.8))


def test_what_changed_is_told_side_by_side():
    before = token_codes(raise_hand(40))
    indices = indices_from_codes(before)
    indices[2:5, 0] = 12
    (event,) = code_changes(before, codes_from_indices(indices), FPS)
    assert event.phrase == "left knee straight -> left knee bent to 130 degrees" and (event.start, event.end) == (0.4, 1.0)
    assert code_changes(before, before[::2], FPS, range(0, 10, 2)) == []
    with pytest.raises(ValueError, match="10 tokens before and 5 after"):
        code_changes(before, before[::2], FPS)
    assert "left knee straight -> left knee bent" in timeline([event])
    assert code_events(codes_from_indices(indices), FPS)[0].start <= 0.4


def test_the_command_tells_pose_codes_of_everybody(tmp_path, capsys):
    np.save(tmp_path / "one.npy", raise_hand(60))
    np.save(tmp_path / "two.npy", greeting(60))
    main([str(tmp_path / "one.npy"), "--as", "pose_codes"])
    assert "s  left hand above left shoulder" in capsys.readouterr().out
    main([str(tmp_path / "two.npy"), "--as", "pose_codes", "--motion_fps", "30", "--output", str(tmp_path / "out.json")])
    report = json.loads((tmp_path / "out.json").read_text())
    assert report["as"] == "pose_codes" and report["people"] == 2 and report["seconds"] == 2
    raised = {(each["person"], each["phrase"]) for each in report["events"] if "above" in each["phrase"]}
    assert {(1, "left hand above left shoulder"), (2, "right hand above right shoulder")} <= raised
    np.save(tmp_path / "short.npy", walk(3))
    with pytest.raises(SystemExit) as stopped, pytest.MonkeyPatch.context() as patch:
        patch.setattr("sys.argv", ["describe", str(tmp_path / "short.npy"), "--as", "pose_codes"])
        run_command(main)
    lines = capsys.readouterr().err.strip().splitlines()
    assert stopped.value.code and "expected 4 or more" in lines[-1] and "Traceback" not in "".join(lines)
