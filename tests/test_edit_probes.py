"""Probes of edits: what tells that an edit was made, how far the rest moved, and the command on real files."""

import json

import numpy as np
import pytest

from data_loaders.edit_grammar import parse_edits
from evaluations.edit_probes import EditProbe, edit_probes, edit_report, judged, probe_edits, real_clips
from evaluations.eval_edits import main
from tests.synthetic import pool_motion, raise_hand, standing, walk
from tests.tiny_pgr2m import tiny_pg_tokenizer
from tests.tiny_tokens import saved

FPS = 20.0
RAISED = EditProbe("raise the left arm", "left_wrist_height", change=0.1,
                   part=("left_collar", "left_shoulder", "left_elbow", "left_wrist"))  # fmt: skip
STILL = np.repeat(standing()[None], 40, axis=0)


def test_every_edit_is_understood_and_they_are_many():
    probes = edit_probes()
    assert len(probes) >= 12 and all(len(parse_edits(probe.words)) == 1 for probe in probes)
    assert {probe.words for probe in edit_probes("raise the left arm")} == {
        "raise the left arm higher", "raise the left arm between 1s and 2s"}  # fmt: skip
    with pytest.raises(ValueError, match="no edit begins so: raise the left arm higher; "):
        edit_probes("fly")


def test_a_raised_arm_is_told_and_the_other_one_counts_as_what_should_have_stayed():
    left, right = raise_hand(40, "left"), raise_hand(40, "right")
    assert RAISED.made(STILL, left, FPS) and RAISED.moved(STILL, left, FPS) < 1e-9
    assert not RAISED.made(STILL, right, FPS) and RAISED.moved(STILL, right, FPS) > 0.02
    assert not RAISED.made(left, left, FPS) and not RAISED.asks_something_of(left[:10], FPS)


def test_beyond_a_time_nothing_may_move():
    timed = EditProbe("raise the left arm", "left_wrist_height", change=0.1, between=(0.0, 0.5), part=RAISED.part)
    assert timed.words == "raise the left arm between 0s and 0.5s"
    lifted = STILL.copy()
    lifted[:10, 20, 1] += 0.3
    assert timed.made(STILL, lifted, FPS) and timed.moved(STILL, lifted, FPS) == 0
    lifted[30:, 20, 1] += 0.3
    assert timed.moved(STILL, lifted, FPS) > 0


@pytest.mark.parametrize(("measure", "change", "joints", "by"), [
    ("knees_bend", 10.0, (4, 5), (0, 0, 0.15)), ("hands_apart", -0.1, (20,), (-0.3, 0, 0)),
    ("right_wrist_forward", 0.08, (21,), (0, 0, 0.1)), ("lean", 8.0, (12,), (0, 0, 0.15)),
    ("pelvis_height", -0.06, (0,), (0, -0.1, 0)), ("left_elbow_bend", 15.0, (20,), (0, 0.1, 0.2)),
])  # fmt: skip
def test_a_measure_grows_with_what_it_is_named_after(measure, change, joints, by):
    probe, moved = EditProbe("an edit", measure, change=change), STILL.copy()
    moved[:, joints] += by
    assert probe.made(STILL, moved, FPS) and not probe.made(moved, STILL, FPS) and not probe.made(STILL, STILL, FPS)


def test_paces_and_mirrors_are_told_by_what_a_measure_becomes():
    slower, mirror = EditProbe("slower", "seconds", factor=1.5), EditProbe("mirror", "left_wrist_over_right", factor=-1.0)
    assert slower.made(STILL, np.repeat(STILL, 2, axis=0)[:60], FPS) and not slower.made(STILL, STILL, FPS)
    assert mirror.made(raise_hand(40, "left"), raise_hand(40, "right"), FPS) and slower.moved(STILL, STILL, FPS) is None


@pytest.mark.parametrize(("change", "problem"), [
    ({"measure": "grace"}, "measures 'grace', expected one of left_wrist_height, "), ({"part": ("tail",)}, "names joint 'tail'"),
    ({"factor": 2.0}, "neither or both of change and factor"), ({"change": 0.0}, "neither or both of change and factor"),
])  # fmt: skip
def test_a_probe_that_makes_no_sense_is_refused(change, problem):
    with pytest.raises(ValueError, match=problem):
        EditProbe(**{"edit": "raise the wing", "measure": "seconds", "change": 0.1, **change})


def test_edits_that_ask_nothing_of_poses_are_made_by_any_model_and_nothing_else_makes_them():
    clips = [walk(44), pool_motion(1)[0], pool_motion(3)[0]]
    probes = [probe for probe in edit_probes() if probe.words in ("slower", "faster by 2", "repeat", "mirror")]
    found = {each.probe.words: each for each in probe_edits(tiny_pg_tokenizer(), probes, clips, 3, seed=0)}
    for words in ("slower", "faster by 2", "repeat"):
        assert found[words].edited.share == 1 and found[words].untouched.share == 0, words
    assert len(found["mirror"].edited.made) == 1 and found["mirror"].edited.share == 1  # one clip raises the left hand
    report = edit_report({"model": "m", "command": "c", "made_from": {}}, [*found.values()])
    assert report.facts["summary"]["nothing_done"] == 0 and [row[0] for row in report.rows] == ["all", *found]
    assert report.rows[0][1] == sum(row[1] for row in report.rows[1:])


def test_no_clip_is_no_figure():
    nothing = judged(RAISED, [], [], FPS)
    assert nothing.share is None and nothing.distance is None


def test_the_command_judges_a_model_on_real_clips(tmp_path, small_dataset, monkeypatch):
    saved(tmp_path / "poses", tiny_pg_tokenizer())
    monkeypatch.chdir(tmp_path)
    main(["--model_path", "poses", "--dataset", str(small_dataset), "--clips", "2", "--only", "raise", "--device", "cpu",
          "--output_dir", "report"])  # fmt: skip
    facts = json.loads((tmp_path / "report" / "report.json").read_text())
    assert set(facts["edits"]) == {"raise the left arm higher", "raise the right arm much higher",
                                   "raise the left arm between 1s and 2s"}  # fmt: skip
    one = facts["edits"]["raise the right arm much higher"]
    assert one["clips"] == 2 and one["nothing_done"] == 0 and one["others_move_cm"] < 1e-4
    assert (tmp_path / "report" / "report.csv").is_file()


def test_a_split_without_clips_is_refused(small_dataset):
    class Empty:
        folder, names = small_dataset, ("a@mirrored",)

        def split(self, name):
            return [0]

    with pytest.raises(ValueError, match="no recorded clip in its split 'test': give another --split"):
        real_clips(Empty(), "test")
