"""Motions in words: bands that do not flicker, phrases that hold of the motion, the command and what it refuses."""

import json
import re

import numpy as np
import pytest
import torch

from data_loaders.corpus import Motion
from data_loaders.humanml_features import mirror_joints
from data_loaders.motion_semantics import KINDS, PUBLISHED
from data_loaders.motion_words import TRACKS, bands, describe, runs, timeline
from protos.options import run_command
from sample.describe import main
from tests.pairs import greeting, turned
from tests.synthetic import bvh_text, raise_hand, standing, synthetic_clip, turn, walk, walk_in_a_curve

FPS = 30.0
OTHER = {"left": "right", "right": "left"}


def bending(degrees: float, frames: int = 90) -> np.ndarray:
    """Joints (T, 22, 3) of a person who bends the right elbow so far in the second third of the time, and stretches it again."""
    joints = np.repeat(standing()[None], frames, axis=0)
    share = np.clip(np.minimum(np.arange(frames) - frames // 3, 2 * frames // 3 - np.arange(frames)) / 6, 0, 1)
    turn(joints, 19, [21], np.radians(degrees) * share)
    return joints


def phrases(joints: np.ndarray, **settings) -> set[str]:
    people = joints if joints.ndim == 4 else joints[None]
    return {event.phrase for event in describe(Motion(people, FPS), **settings)}


def test_every_phrase_is_of_a_value_that_is_read():
    for track in TRACKS:
        assert track.value in PUBLISHED.names and len(track.phrases) == len(track.edges) + 1
        assert list(track.edges) == sorted(track.edges) and any(track.phrases)
    assert {track.value.split()[0] for track in TRACKS} == set(KINDS)


def test_an_elbow_that_bends_is_said_with_when_and_how_far():
    events = describe(Motion(bending(90)[None], FPS))
    (event,) = [each for each in events if "right elbow bends moderately" in each.phrase]
    assert 0.9 < event.start < 1.3 and 1.7 < event.end < 2.1 and event.kind == "QLAT" and event.person == 1
    assert not any("left elbow" in each.phrase for each in events)
    assert "right elbow bends completely" in phrases(bending(160))


@pytest.mark.parametrize(("joints", "said", "unsaid"), [
    (walk(60, 1.2, FPS), {"body moves forward", "left foot steps forward"}, {"body moves backward", "hands are together"}),
    (walk(60, -1.2, FPS), {"body moves backward"}, {"body moves forward"}),
    (walk(60, 3.0, FPS), {"body moves forward fast"}, {"body moves backward"}),
    (raise_hand(60, "left"), {"left hand is above the head", "left hand goes up", "left hand goes down",
                              "left upper arm points up", "left upper arm points forward",
                              "left hand is above the right", "left hand is before the body"},
     {"right hand is above the head", "body moves forward", "right hand goes up"}),
    (np.repeat(standing()[None], 60, axis=0), set(), {"body moves forward", "trunk leans forward", "left thigh is level"}),
])  # fmt: skip
def test_what_is_said_is_what_happens(joints, said, unsaid):
    found = phrases(joints)
    assert said <= found and not unsaid & found
    assert phrases(turned(joints, 100, 4, -2)) == found  # wherever and however the person stands


def test_left_and_right_are_exchanged_in_a_mirror():
    for joints in (raise_hand(60), walk_in_a_curve(60), *(synthetic_clip(90, PUBLISHED.body, seed) for seed in range(4))):
        image = mirror_joints(torch.from_numpy(joints), PUBLISHED.body).numpy()
        assert phrases(image) == {re.sub("left|right", lambda side: OTHER[side[0]], each) for each in phrases(joints)}


def test_people_are_told_apart():
    events = describe(Motion(greeting(60), FPS))
    raised = {(each.person, each.phrase) for each in events if "above the head" in each.phrase}
    assert raised == {(1, "left hand is above the head"), (2, "right hand is above the head")}
    lines = timeline(events, several=True).splitlines()
    assert len(lines) == len(events) and any("s  person 2: right hand is above the head" in line for line in lines)
    assert [each.start for each in events] == sorted(each.start for each in events)


def test_a_value_that_wavers_about_an_edge_is_one_band():
    wavering = 1.0 + 0.05 * np.resize([1, -1], 40)
    assert set(bands(wavering, (1.0,), 0.1)) == {1}  # it began above, and never was clearly below
    passing = np.array([0.0, 0.95, 1.05, 1.2, 1.05, 0.95, 0.8])
    np.testing.assert_array_equal(bands(passing, (1.0,), 0.1), [0, 0, 0, 1, 1, 1, 0])
    np.testing.assert_array_equal(bands(np.array([3.0, -1.0, 1.5]), (0.0, 1.0, 2.0), 0.1), [3, 0, 2])


def test_what_is_too_short_to_be_seen_is_no_event_of_its_own():
    assert runs(np.array([0, 0, 0, 1, 0, 0, 2, 2, 2]), 2) == [(0, 6, 0), (6, 9, 2)]
    assert runs(np.array([1, 0, 0, 0]), 2) == [(0, 4, 0)]
    assert runs(np.array([1]), 5) == [(0, 1, 1)]
    motion = Motion(bending(90, 24)[None], FPS)  # bent for a quarter of a second
    assert all(each.end - each.start >= 0.5 - 1e-9 for each in describe(motion, shortest=0.5))


@pytest.mark.parametrize(("motion", "said"), [
    (Motion(walk(30)[None, :, :21], FPS, "kit"), "skeleton 'kit'"),
    (Motion(walk(30)[None, :1], FPS), "2 or more frames"),
    (Motion(walk(30)[None] * np.nan, FPS), "NaN or infinity"),
])  # fmt: skip
def test_motions_that_cannot_be_read_are_refused(motion, said):
    with pytest.raises(ValueError, match=said):
        describe(motion)


def test_the_command_tells_motions_of_any_kind_of_file(tmp_path, capsys):
    np.save(tmp_path / "one.npy", raise_hand(60))
    np.save(tmp_path / "two.npy", greeting(60))
    (tmp_path / "take.bvh").write_text(bvh_text(raise_hand(60)))
    for name, said in (("one.npy", "s  left hand is above the head"), ("two.npy", "s  person 1: left hand is above the head"),
                       ("take.bvh", "s  left hand is above the head")):  # fmt: skip
        main([str(tmp_path / name), "--as", "semantics"])
        assert said in capsys.readouterr().out
    main([str(tmp_path / "two.npy"), "--output", str(tmp_path / "out.json"), "--shortest", "0.5"])
    report = json.loads((tmp_path / "out.json").read_text())
    assert report["as"] == "semantics" and report["people"] == 2 and report["seconds"] == 2
    assert {"start", "end", "person", "phrase", "kind"} == set(report["events"][0])
    main([str(tmp_path / "one.npy"), "--output", str(tmp_path / "out.txt")])
    assert "left hand is above the head" in (tmp_path / "out.txt").read_text()


def test_the_command_says_what_is_wrong_in_a_line(tmp_path, capsys, monkeypatch):
    for name, content in (("short", walk(1)), ("nan", walk(9) * np.nan), ("kit", walk(30)[:, :21]), ("fine", walk(30)),
                          ("table", np.zeros((30, 263)))):  # fmt: skip
        np.save(tmp_path / f"{name}.npy", content)
    (tmp_path / "there.txt").write_text("mine")
    for arguments, said in (
        (["short.npy"], "1 frames"), (["nan.npy"], "NaN or infinity in frame 0"), (["kit.npy"], "21 joints, expected the 22"),
        (["table.npy"], "a table of features, expected joints"), (["none.npy"], "no such file"),
        (["fine.npy", "--output", "there.txt"], "not replaced"), (["fine.npy", "--output", "out.mp4"], "ends in .txt or .json"),
    ):  # fmt: skip
        monkeypatch.chdir(tmp_path)
        monkeypatch.setattr("sys.argv", ["describe", *arguments])
        with pytest.raises(SystemExit) as stopped:
            run_command(main)
        lines = capsys.readouterr().err.strip().splitlines()
        assert stopped.value.code and said in lines[-1] and "Traceback" not in "".join(lines), lines
    assert (tmp_path / "there.txt").read_text() == "mine"
