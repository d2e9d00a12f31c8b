"""BVH in every dialect we met: forward kinematics against scipy, and one line of explanation for every broken file."""

import io
import time
import tracemalloc

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from data_loaders import bvh
from data_loaders.bvh import read_bvh
from protos.reading import FileError
from tests.shared import shared

SIX = "Xposition Yposition Zposition Zrotation Xrotation Yrotation"
# A leg as iClone, cgspeed and Bandai-Namco would write it, mixed in one file.
LEG = f"""HIERARCHY
ROOT World
{{
  OFFSET 0 0 0
  CHANNELS 6 {SIX}
  JOINT hip
  {{
    OFFSET 4.6 91.5 -427.2
    CHANNELS 6 {SIX}
    JOINT knee
    {{
      OFFSET 1 -39 2
      CHANNELS 3 Yrotation Zrotation Xrotation
      JOINT ankle
      {{
        OFFSET 0 -41 0.5
        CHANNELS 1 Xrotation
        End Site
        {{
          OFFSET 0 -5 12
        }}
      }}
    }}
    JOINT tail
    {{
      OFFSET 0 5 -10
      CHANNELS 2 Yposition Zrotation
    }}
  }}
}}
"""
NODES = [  # name, parent, offset, channels
    ("World", -1, (0, 0, 0), SIX.split()),
    ("hip", 0, (4.6, 91.5, -427.2), SIX.split()),
    ("knee", 1, (1, -39, 2), ["Yrotation", "Zrotation", "Xrotation"]),
    ("ankle", 2, (0, -41, 0.5), ["Xrotation"]),
    ("ankle_end", 3, (0, -5, 12), []),
    ("tail", 1, (0, 5, -10), ["Yposition", "Zrotation"]),
]
CHANNELS = sum(len(node[3]) for node in NODES)


def motion(values: np.ndarray, frame_time: str = "0.0333333") -> str:
    rows = "\n".join(" ".join(f"{value:.9g}" for value in row) for row in values)
    return f"MOTION\nFrames: {len(values)}\nFrame Time: {frame_time}\n{rows}\n"


def reference_kinematics(values: np.ndarray) -> np.ndarray:
    """World positions frame by frame and joint by joint, as the format describes them."""
    joints = np.zeros((len(values), len(NODES), 3))
    for frame, row in enumerate(values):
        turn, place, column = [], [], 0
        for _, parent, offset, channels in NODES:
            local, rotation = np.array(offset, dtype=float), Rotation.identity()
            for channel in channels:
                if channel.endswith("position"):
                    local["XYZ".index(channel[0])] = row[column]
                else:
                    rotation = rotation * Rotation.from_euler(channel[0], row[column], degrees=True)
                column += 1
            above = turn[parent] if parent >= 0 else Rotation.identity()
            turn.append(above * rotation)
            place.append((place[parent] if parent >= 0 else 0) + above.apply(local))
        joints[frame] = place
    return joints


@pytest.fixture
def values() -> np.ndarray:
    return np.random.default_rng(0).uniform(-180, 180, (5, CHANNELS)).round(6)


def error(text: str | bytes) -> str:
    with pytest.raises(FileError) as caught:
        read_bvh(text.encode() if isinstance(text, str) else text, name="leg.bvh")
    message = str(caught.value)
    assert message.startswith("leg.bvh") and "\n" not in message
    return message


def test_kinematics_equal_the_format_joint_by_joint(values):
    clip = read_bvh((LEG + motion(values)).encode())
    assert clip.names == tuple(node[0] for node in NODES)
    assert clip.parents == tuple(node[1] for node in NODES)
    assert clip.joints.shape == (5, 6, 3) and clip.fps == 30
    np.testing.assert_allclose(clip.joints, reference_kinematics(values), atol=1e-9)


def test_world_rotations_carry_the_offsets(values):
    clip = read_bvh((LEG + motion(values)).encode())
    ankle, end = clip.names.index("ankle"), clip.names.index("ankle_end")
    carried = clip.rotations[:, ankle] @ np.array([0, -5, 12.0])
    np.testing.assert_allclose(clip.joints[:, end] - clip.joints[:, ankle], carried, atol=1e-4)
    np.testing.assert_allclose(clip.rotations[:, end], clip.rotations[:, ankle])


def test_position_channels_replace_the_offset_and_a_moving_root_is_composed():
    values = np.zeros((2, CHANNELS))
    values[1, :3] = 1, 2, 3  # World moves
    values[:, 6:9] = 4, 5, 6  # hip
    clip = read_bvh((LEG + motion(values)).encode())
    np.testing.assert_allclose(clip.joints[:, 1], [[4, 5, 6], [5, 7, 9]])


def test_position_channels_of_0_on_every_joint_do_not_put_the_body_into_a_point():
    """Some programs write what is to be added to the OFFSET: nothing, for a rigid body."""
    names, offsets = ("hips", "spine", "neck", "head"), ("0 90 0", "0 30 0", "0 20 0", "0 10 2")
    joint = "{} {}\n{{\nOFFSET {}\nCHANNELS 6 " + SIX + "\n"
    kinds = ("ROOT", "JOINT", "JOINT", "JOINT")
    body = "HIERARCHY\n" + "".join(map(joint.format, kinds, names, offsets)) + "}\n" * 4
    values = np.zeros((5, 24))
    values[:, :3] = np.arange(15).reshape(5, 3)
    clip = read_bvh((body + motion(values)).encode())
    assert "position channels of 3 joints are 0 in every frame" in clip.warnings[0]
    np.testing.assert_allclose(clip.joints - clip.joints[:, :1], [[[0, 0, 0], [0, 30, 0], [0, 50, 0], [0, 60, 2]]] * 5)
    values[:, [7, 13]] = 30, 20  # a head in the neck is a head in the neck where the others tell where they are
    clip = read_bvh((body + motion(values)).encode())
    assert clip.warnings == ()
    np.testing.assert_array_equal(clip.joints[:, 3], clip.joints[:, 2])


@pytest.mark.parametrize(
    "dialect",
    [
        lambda text: text.replace("\n", "\r\n"),
        lambda text: text.replace("\n", "\r"),
        lambda text: text.replace("  ", "\t").replace("Frames: ", "Frames:\t").replace("Time: ", "Time:\t"),
        lambda text: "\ufeff" + text,
        lambda text: text.replace("MOTION", "MOTION  ").replace("Xrotation Yrotation\n", "Xrotation Yrotation \n"),
        lambda text: text.replace("\n{", " {").replace("\n  {", " {"),
        lambda text: text + "\n\n",
        lambda text: text.rstrip("\n"),
        lambda text: text.replace("Frames:", "FRAMES :").replace("HIERARCHY", "Hierarchy"),
    ],
    ids=["crlf", "cr", "tabs", "byte order mark", "trailing blanks", "brace on line", "blank end", "no end", "case"],
)
def test_dialects_read_alike(values, dialect):
    plain = read_bvh((LEG + motion(values)).encode())
    other = read_bvh(dialect(LEG + motion(values)).encode("utf-8"))
    assert other.names == plain.names
    np.testing.assert_array_equal(other.joints, plain.joints)


def test_frames_wrapped_over_lines_are_read(values):
    head, numbers = motion(values).split("0.0333333\n")
    words = numbers.split()
    wrapped = "\n".join(" ".join(words[i : i + 7]) for i in range(0, len(words), 7))
    np.testing.assert_array_equal(
        read_bvh(f"{LEG}{head}0.0333333\n{wrapped}".encode()).joints, read_bvh((LEG + motion(values)).encode()).joints
    )


@pytest.mark.parametrize(
    ("written", "fps"),
    [("0.0333333", 30), ("0.016667", 60), ("0.01", 100), ("0.008333", 120), (".0083333", 120), ("0.033367", 29.97)],
)
def test_frame_rates_lose_their_rounding(values, written, fps):
    assert read_bvh((LEG + motion(values, written)).encode()).fps == pytest.approx(fps, abs=2e-3)


def test_paths_files_and_bytes_are_the_same_clip(values, tmp_path):
    path = tmp_path / "leg.bvh"
    path.write_text(LEG + motion(values))
    with path.open("rb") as file:
        clips = [read_bvh(path), read_bvh(str(path)), read_bvh(file), read_bvh(io.BytesIO(path.read_bytes()))]
    assert all((clip.joints == clips[0].joints).all() for clip in clips)


def test_repeated_joint_names_stay_apart(values):
    clip = read_bvh((LEG.replace("JOINT tail", "JOINT knee") + motion(values)).encode())
    assert clip.names.count("knee") == 1 and "knee#2" in clip.names


def test_single_frame(values):
    assert read_bvh((LEG + motion(values[:1])).encode()).joints.shape == (1, 6, 3)


def test_a_file_cut_inside_a_row_names_the_line(values):
    text = LEG + motion(values)
    message = error(text[: text.rindex(" ", 0, len(text) - 40)])
    assert f"line {text.count(chr(10))}" in message and "expected 18" in message and "cut short" in message


@pytest.mark.parametrize("announced", [4, 6])
def test_a_frame_count_off_by_one_over_whole_rows_is_read_with_a_warning(values, announced):
    clip = read_bvh((LEG + motion(values).replace("Frames: 5", f"Frames: {announced}")).encode())
    assert len(clip.joints) == 5
    assert clip.warnings == (f"holds 5 whole frames, 'Frames:' announces {announced}: all are read",)
    assert read_bvh((LEG + motion(values)).encode()).warnings == ()


def test_a_frame_count_that_is_wrong_or_a_last_row_that_may_be_cut_is_refused(values):
    assert "after 5 frames, expected 7" in error(LEG + motion(values).replace("Frames: 5", "Frames: 7"))
    assert "after 5 frames, expected 3" in error(LEG + motion(values).replace("Frames: 5", "Frames: 3"))
    text = LEG + motion(values).replace("Frames: 5", "Frames: 6")
    assert "cut short" in error(text[:-3]), "the last number lost its last digits"
    assert "expected 18" in error(text[: text.rindex(" ")] + "\n"), "the last row lost a number"


@pytest.mark.parametrize("bad", ["nan", "inf"])
def test_not_a_finite_number_names_line_and_frame(values, bad):
    values[3, 7] = float(bad)
    line = LEG.count("\n") + 3 + 4
    message = error(LEG + motion(values))
    assert f"line {line}" in message and "frame 3, number 8" in message and "finite" in message


def test_not_a_number_names_line_and_word(values):
    rows = motion(values).split("\n")
    rows[5] = rows[5].replace(" ", " 1,5 ", 1)
    message = error(LEG + "\n".join(rows))
    assert f"line {LEG.count(chr(10)) + 6}" in message and "'1,5' is not a number" in message


@pytest.mark.parametrize(
    ("damage", "expected"),
    [
        (lambda text: "", "no line MOTION"),
        (lambda text: "\x00\x01PK", "no line MOTION"),
        (lambda text: text[: text.index("MOTION")], "no line MOTION"),
        (lambda text: text.replace("OFFSET 1 -39 2", "OFFSET 1 -39"), "line 12: OFFSET expects 3 numbers"),
        (lambda text: text.replace("3 Yrotation", "4 Yrotation"), "line 13: knee announces 4 channels"),
        (lambda text: text.replace("Yrotation Zrotation", "Wrotation Zrotation"), "unknown channel 'Wrotation'"),
        (lambda text: text.replace("  }\n}\n", "  }\n"), "while World (line 2) is open"),
        (lambda text: text.replace("JOINT tail", "BONE tail"), "unexpected 'BONE'"),
        (lambda text: text.replace("JOINT tail", "JOINT"), "without a name"),
        (lambda text: text.replace("Frames: 5", "Frames: five"), "expected 'Frames: N'"),
        (lambda text: text.replace("0.0333333", "0"), "from 0.0001 to 10"),
        (lambda text: text.replace("0.0333333", "nan"), "from 0.0001 to 10"),
        (lambda text: text.replace("0.0333333", "1e-310"), "from 0.0001 to 10"),
        (lambda text: text[: text.index("0.0333333") + 10], "no numbers found"),
        (lambda text: text.replace("1 Xrotation", "0"), "18"),
    ],
)
def test_damaged_files_get_one_line(values, damage, expected):
    assert expected in error(damage(LEG + motion(values)))


ROW = " ".join(["0"] * CHANNELS)
HEAD = "MOTION\nFrames: 1\nFrame Time: 0.03"
NESTED = "".join(f"JOINT j{i} {{ OFFSET 0 1 0 " for i in range(4000))
LONG = 1_000_000
HOSTILE = {
    "spaces after Frame Time": f"{LEG}{HEAD}{' ' * LONG}x\n{ROW}\n",
    "spaces after Frames": f"{LEG}MOTION\nFrames: {' ' * LONG}x\n",
    "blank lines before Frames": f"{LEG}MOTION\n{' ' * 9}{chr(10) * LONG}",
    "blank lines before MOTION": f"{LEG}{'    ' * LONG}{chr(10) * LONG}x",
    "blanks before each word": f"{LEG}{(' ' * 1000 + chr(10)) * 1000}MOTIO",
    "a hierarchy in one line": "HIERARCHY ROOT a { CHANNELS 1 Xrotation " + "OFFSET 0 0 0 " * (LONG // 6) + "} x",
    "joints without end": "HIERARCHY ROOT a { " + "JOINT b { OFFSET 0 0 0 " * (LONG // 10),
    "joints without braces": "HIERARCHY ROOT a { " + "JOINT " * (LONG // 3),
    "a name without end": f"HIERARCHY ROOT {'a' * LONG} {{ CHANNELS 1 Xrotation }}",
    "deep nesting, left open": f"HIERARCHY ROOT a {{ CHANNELS 1 Xrotation {NESTED}",
    "braces": "HIERARCHY ROOT a " + "{" * LONG,
    "digits of an offset": LEG.replace("1 -39 2", f"1 -39 {'9' * LONG}"),
    "digits of a channel count": LEG.replace("CHANNELS 3", f"CHANNELS {'9' * LONG}"),
    "digits of a frame count": f"{LEG}MOTION\nFrames: {'9' * LONG}\nFrame Time: 0.03\n{ROW}\n",
    "digits of a frame time": f"{LEG}MOTION\nFrames: 1\nFrame Time: {'9' * LONG}\n{ROW}\n",
    "digits of a value": f"{LEG}{HEAD}\n{'9' * LONG}{ROW}\n",
    "frames announced without end": f"{LEG}MOTION\nFrames: 999999999999\nFrame Time: 0.03\n{ROW}\n",
    "values in one line": f"{LEG}{HEAD}\n{'0 ' * LONG}\n",
    "a value a line": f"{LEG}{HEAD}\n{('0' + chr(10)) * LONG}",
    "a word at the end": f"{LEG}{HEAD}\n{(ROW + chr(10)) * (LONG // 30)}x\n",
}


@pytest.mark.parametrize("kind", HOSTILE)
def test_time_grows_no_faster_than_the_file(kind):
    text = HOSTILE[kind]
    began = time.process_time()
    message = error(text if "MOTION" in text else f"{text}\n{HEAD}\n{ROW}\n")
    assert time.process_time() - began < 3, "a megabyte of anything takes well under a second"
    assert len(message) < 500


def test_joints_and_frames_are_bounded_before_they_take_memory():
    """A joint without channels costs a file nothing, so that 200 kB could ask for any amount."""
    still = "".join(f"JOINT j{i}\n{{\nOFFSET 0 1 0\n}}\n" for i in range(4000))
    header = f"HIERARCHY\nROOT a\n{{\nOFFSET 0 0 0\nCHANNELS 1 Xrotation\n{still}}}\n"
    tracemalloc.start()
    try:
        frames = 50_000
        message = error(f"{header}MOTION\nFrames: {frames}\nFrame Time: 0.01\n" + "0\n" * frames)
        assert "50000 frames of 4001 joints" in message and "into parts" in message
        assert tracemalloc.get_traced_memory()[1] < 50e6
    finally:
        tracemalloc.stop()
    assert "more than 4096 joints" in error(header.replace("}\n}\n", "}\n" + still.replace("j", "k") + "}\n") + f"{HEAD}\n0\n")
    assert len(read_bvh(f"{header}{HEAD}\n30\n".encode()).names) == 4001


def test_long_recordings_are_turned_in_pieces_that_agree(values, monkeypatch):
    values = np.tile(values, (7, 1))
    whole = read_bvh((LEG + motion(values)).encode())
    monkeypatch.setattr(bvh, "KINEMATICS_AT_ONCE", 4 * len(NODES))
    pieces = read_bvh((LEG + motion(values)).encode())
    np.testing.assert_array_equal(pieces.joints, whole.joints)
    np.testing.assert_array_equal(pieces.rotations, whole.rotations)


@pytest.mark.parametrize("name", ["dataset-2_walk_active_013", "dataset-1_walk-back_normal_001"])
def test_bandai_namco_clips_keep_the_published_body(name):
    clip = read_bvh(shared("data", "bandai_namco", "sample", f"{name}.bvh"))
    index = clip.names.index

    def length(joint: str, parent: str) -> float:
        return np.linalg.norm(clip.joints[:, index(joint)] - clip.joints[:, index(parent)], axis=-1).mean()

    assert length("LowerLeg_L", "UpperLeg_L") == pytest.approx(39.1, abs=0.1)
    assert length("Foot_R", "LowerLeg_R") == pytest.approx(41.0, abs=0.1)
    assert length("Head", "Neck") == pytest.approx(6.5, abs=0.1)
    assert clip.fps == 30


def test_the_second_root_of_a_bandai_namco_clip_moves_the_body():
    """joint_Root travels in four clips; without it this walk would go on the spot."""
    clip = read_bvh(shared("data", "bandai_namco", "sample", "dataset-1_walk-back_normal_001.bvh"))
    root, hips = (clip.joints[:, clip.names.index(name)] for name in ("joint_Root", "Hips"))
    assert np.ptp(root, axis=0).max() > 50
    assert np.ptp(hips, axis=0).max() > 50
