"""Moments in long motions: known answers of windows, curves and overlaps; the command; long motions made of clips."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from data_loaders.features import Features
from data_loaders.humanml_features import joints_from_features
from evaluations import eval_localize
from evaluations.localization import joined, measures
from model.embedding import open_space
from sample.localize import (
    Windows,
    embed_windows,
    grown,
    moments,
    overlap,
    score_curve,
    shared_with_shorter,
    window_spans,
)
from sample.retrieve import main
from sample.sliding import Sliding
from tests.synthetic import raise_hand, walk
from tests.tiny_retrieval import SKELETON, TEXT, features_of


def windows_with(event: tuple[int, int], num_frames=200, sizes=(20, 40, 80)) -> tuple[Windows, np.ndarray]:
    """Windows that are the more alike to a text the better they overlap with an event, and the text's vector."""
    spans, owner = window_spans(num_frames, sizes, 5)
    cosine = 2 * overlap(spans, event) - 1
    vectors = np.stack([cosine, np.sqrt(1 - cosine**2)], axis=1).astype(np.float32)
    return Windows(num_frames, spans, owner, vectors), np.array([3.0, 0.0], np.float32)


@pytest.mark.parametrize("num_frames", [10, 20, 21, 23, 160, 203])
def test_windows_cover_every_frame_at_every_size_and_end_with_the_motion(num_frames):
    spans, sizes = window_spans(num_frames, (20, 40, 160), 5)
    assert (spans[:, 1] - spans[:, 0] == sizes).all() and len(np.unique(spans, axis=0)) == len(spans)
    for size in np.unique(sizes):
        own = spans[sizes == size]
        covered = np.zeros(num_frames, bool)
        for first, stop in own:
            covered[first:stop] = True
        assert covered.all() and own[0, 0] == 0 and own[-1, 1] == num_frames
    assert sizes.max() == min(160, num_frames)


def test_overlap_is_shared_time_over_all_time():
    spans = [(0, 10), (5, 15), (10, 20), (2, 8), (0, 20)]
    assert overlap(np.array(spans), (0, 10)).tolist() == pytest.approx([1, 1 / 3, 0, 0.6, 0.5])


def test_an_event_is_found_where_and_as_long_as_it_is():
    windows, text = windows_with((60, 100))
    scores = windows.scores(text)
    assert scores.min() >= 0 and scores.max() == pytest.approx(1)
    best = moments(windows, scores, 3, refine=False)
    assert (best[0].first, best[0].stop) == (60, 100) and best[0].score == pytest.approx(1)
    assert all(overlap(np.array([a[:2]]), b[:2])[0] < 0.5 for i, a in enumerate(best) for b in best[:i])
    refined = moments(windows, scores, 5)
    assert overlap(np.array([refined[0][:2]]), (60, 100))[0] > 0.8
    assert all(shared_with_shorter(np.array([b[:2]]), a)[0] < 0.5 for i, b in enumerate(refined) for a in refined[:i])
    curve = score_curve(windows, scores)
    assert curve.shape == (200,) and 60 <= curve.argmax() < 100 and curve.min() >= 0


def test_the_curve_is_the_highest_of_the_mean_scores_of_the_windows_over_a_frame():
    windows, text = windows_with((30, 70), num_frames=90, sizes=(20, 40))
    scores = windows.scores(text)
    expected = [
        max(scores[(windows.sizes == size) & (windows.spans[:, 0] <= t) & (t < windows.spans[:, 1])].mean() for size in (20, 40))
        for t in range(90)
    ]
    np.testing.assert_allclose(score_curve(windows, scores), expected, atol=1e-6)


def test_a_moment_grows_over_high_frames_only():
    high = np.zeros(50, bool)
    high[8:31] = True
    windows, _ = windows_with((0, 10), 50, (20,))
    moment = moments(windows, np.arange(len(windows.spans), dtype=float), 1, refine=False)[0]
    assert grown(moment._replace(first=10, stop=30), high)[:2] == (8, 31)
    assert grown(moment._replace(first=35, stop=45), high)[:2] == (35, 45)


def test_windows_do_not_depend_on_the_batch_size_or_on_what_else_is_encoded(tmr):
    space, features = open_space(tmr), features_of(np.concatenate([walk(100), walk(60, 2.0)]))
    one = embed_windows(features, space, Sliding(window_seconds=(1, 2), stride_seconds=0.5))
    other = embed_windows(features, space, Sliding(window_seconds=(1, 2), stride_seconds=0.5), batch_size=1)
    np.testing.assert_allclose(one.vectors, other.vectors, atol=2e-5)
    shorter = embed_windows(features, space, Sliding(window_seconds=(2,), stride_seconds=0.5))
    np.testing.assert_allclose(one.vectors[one.sizes == 40], shorter.vectors, atol=2e-5)


def test_the_command_writes_moments_and_a_picture(tmr, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    np.save("long.npy", np.concatenate([walk(200), raise_hand(100)]))
    Path("texts.txt").write_text(f"{TEXT}\n\n$raises_{{ the left hand #2\n")
    main(["localize", "--model_path", str(tmr), "--motion", "long.npy", "--input_text", "texts.txt", "--k", "2"])
    report = json.loads(Path("outputs/localize_long/moments.json").read_text())
    assert report["seconds"] == 14.95 and [each["text"] for each in report["texts"]] == [TEXT, "$raises_{ the left hand #2"]
    for each in report["texts"]:
        assert 1 <= len(each["moments"]) <= 2
        assert all(0 <= m["start"] < m["end"] <= 14.95 and 0 <= m["score"] <= 1 for m in each["moments"])
    assert Path("outputs/localize_long/scores.png").read_bytes()[:4] == b"\x89PNG"
    lines = Path("outputs/localize_long/moments.csv").read_text().splitlines()
    assert lines[0] == "text,rank,start,end,score"
    assert len(lines) - 1 == len(capsys.readouterr().out.splitlines()) == sum(len(each["moments"]) for each in report["texts"])


@pytest.mark.parametrize("flags, message", [
    (["--window_seconds", "inf"], "--window_seconds must be above 0"),
    (["--stride_seconds", "nan"], "--stride_seconds must be above 0"),
    (["--window_seconds", "0"], "--window_seconds must be above 0"), (["--k", "0"], "--k must be from 1 to 100000, got 0"),
])  # fmt: skip
def test_windows_without_meaning_are_refused(flags, message, capsys):
    with pytest.raises(SystemExit):
        main(["localize", "--motion", "long.npy", "--text", TEXT, *flags])
    assert message in " ".join(capsys.readouterr().err.split())


def test_a_stride_beyond_the_shortest_window_leaves_no_frame_out(tmr):
    space, features = open_space(tmr), features_of(walk(120))
    windows = embed_windows(features, space, Sliding(window_seconds=(1, 3), stride_seconds=9))
    assert np.isfinite(score_curve(windows, np.ones(len(windows.spans)))).all()


def test_joined_clips_stay_what_they_are_and_nothing_jumps_between_them():
    clips = [features_of(walk(80)), features_of(raise_hand(60)), features_of(walk(60, 2.0))]
    features, spans = joined(clips, Features("humanml", 20.0, "continuous"), gap=10)
    assert spans == [(0, 79), (89, 148), (158, 217)] and features.shape == (217, 263)
    for clip, (first, stop) in zip(clips, spans):
        np.testing.assert_allclose(features[first:stop, 3:67], clip[:, 3:67], atol=0.03)  # height and poses
    joints = joints_from_features(torch.as_tensor(features), SKELETON).numpy()
    steps = np.linalg.norm(np.diff(joints, axis=0), axis=-1).max(-1)
    inside = max(steps[first : stop - 1].max() for first, stop in spans)
    assert steps.max() <= 1.5 * inside
    assert joints[-1, 0, 2] > 3 + 0.9 * 2.0 * 59 / 20  # the second walk starts where the first ended


def test_measures_of_known_overlaps():
    found = measures(np.array([0.6]), np.array([0.6, 0.1]), np.array([True]))
    assert found == {"mean IoU": 0.6, "R@1 IoU 0.3": 1.0, "R@1 IoU 0.5": 1.0, "R@1 IoU 0.7": 0.0, "R@5 IoU 0.5": 1.0,
                     "pointing": 1.0}  # fmt: skip


def test_the_evaluation_command_compares_with_chance(tmr, small_dataset, tmp_path, capsys):
    flags = ["--model_path", str(tmr), "--dataset", str(small_dataset), "--split", "train", "--clips_per_motion", "2"]
    eval_localize.main([*flags, "--window_seconds", "1", "2", "4", "--output_dir", str(tmp_path / "out")])
    report = json.loads((tmp_path / "out" / "report.json").read_text())
    assert report["queries"] == 2 * report["motions"] >= 2 and set(report["rows"]) == {"model", "chance"}
    assert all(0 <= value <= 1 for row in report["rows"].values() for value in row.values())
    assert 0 < report["rows"]["chance"]["mean IoU"] < 0.5
    assert "| chance" in capsys.readouterr().out
    with pytest.raises(ValueError, match="fewer --clips_per_motion"):
        eval_localize.main([*flags[:-1], "40"])
