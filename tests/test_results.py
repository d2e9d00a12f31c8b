"""The results file of sampling: the layout users' tools read, without running what a pickle may hold."""

import pickle

import numpy as np
import pytest

from data_loaders.skeleton import load_skeleton
from protos.reading import FileError
from sample.results import Results, read_results, stack, write_results


@pytest.fixture
def results():
    clips = [np.random.default_rng(i).normal(size=(10 + 5 * i, 22, 3)).astype(np.float32) for i in range(4)]
    return clips, stack(clips, ["walk", "bow\nlow", "walk", "bow\nlow"], num_samples=2, num_repetitions=2)


def test_layout_is_rows_joints_xyz_frames_with_repetitions_outermost(results, tmp_path):
    clips, written = results
    path = write_results(tmp_path / "out", written)
    content = np.load(path, allow_pickle=True)[None][0]  # as published tools do it
    assert content["motion"].shape == (4, 22, 3, 25) and content["motion"].dtype == np.float32
    assert content["text"] == ["walk", "bow\nlow", "walk", "bow\nlow"]
    assert content["lengths"].tolist() == [10, 15, 20, 25]
    assert (content["num_samples"], content["num_repetitions"]) == (2, 2)
    assert written.row(sample=1, repetition=1) == 3
    assert np.array_equal(written.joints(1), clips[1])


def test_text_files_have_a_line_per_motion(results, tmp_path):
    write_results(tmp_path, results[1])
    assert (tmp_path / "motions.txt").read_text().splitlines() == ["walk", "bow low", "walk", "bow low"]
    assert (tmp_path / "motions_len.txt").read_text().split() == ["10", "15", "20", "25"]


@pytest.mark.parametrize("name", ["motions.npy", "motions.npz", ""])
def test_what_was_written_is_read_back(name, results, tmp_path):
    write_results(tmp_path, results[1])
    again = read_results(tmp_path / name)
    assert np.array_equal(again.motion, results[1].motion) and again.text == results[1].text
    assert again.lengths.tolist() == results[1].lengths.tolist() and again.num_repetitions == 2


def test_files_are_byte_equal_for_equal_results(results, tmp_path):
    for folder in ("a", "b"):
        write_results(tmp_path / folder, results[1])
    for name in ("motions.npy", "motions.txt", "motions_len.txt"):
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()


def test_published_misspelling_is_understood(tmp_path):
    content = {"motion": np.zeros((2, 22, 3, 5), np.float32), "text": ["a", "a"], "lengths": np.array([5, 5]),
               "num_samples": 1, "num_repititions": 2}
    np.save(tmp_path / "results.npy", np.array(content, dtype=object))
    assert read_results(tmp_path).num_repetitions == 2


class Harmful:
    def __reduce__(self):
        return exec, ("raise SystemExit('code of a results file was run')",)


def test_code_in_a_results_file_is_not_run(tmp_path):
    np.save(tmp_path / "motions.npy", np.array({"motion": Harmful()}, dtype=object))
    with pytest.raises(FileError, match="only plain values and arrays are read"):
        read_results(tmp_path / "motions.npy")


def test_other_files_are_refused_by_name(tmp_path):
    np.save(tmp_path / "joints.npy", np.zeros((5, 22, 3)))
    with pytest.raises(FileError, match="holds no dict of motions"):
        read_results(tmp_path / "joints.npy")
    (tmp_path / "motions.npy").write_bytes(pickle.dumps([1]))
    with pytest.raises(FileError, match="holds no dict of motions"):
        read_results(tmp_path / "motions.npy")
    np.save(tmp_path / "motions.npy", np.array({"motion": np.zeros((1, 22, 3, 5))}, dtype=object))
    whole = (tmp_path / "motions.npy").read_bytes()
    (tmp_path / "motions.npy").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(FileError, match=r"motions\.npy"):
        read_results(tmp_path / "motions.npy")
    with pytest.raises(FileError, match="no results file"):
        read_results(tmp_path / "nowhere.npy")
    with pytest.raises(FileError, match="lengths"):
        Results(np.zeros((2, 22, 3, 5)), ["a"], np.array([5, 5]), 2, 1)


@pytest.mark.parametrize("name", ["motions.npy", "motions.npz"])
def test_a_file_says_its_unit_frame_rate_and_skeleton(name, tmp_path):
    clips = [np.ones((5, 21, 3)), np.ones((9, 21, 3))]
    write_results(tmp_path, stack(clips, ["walk", "run"], 2, 1, fps=12.5, skeleton="kit"))
    again = read_results(tmp_path / name)
    assert (again.fps, again.skeleton) == (12.5, "kit")
    assert (again.joints(1) == 1).all(), "metres stay metres"


def test_kit_results_without_a_unit_are_in_millimetres_as_published_tools_write_them(tmp_path):
    height = 1700.0
    for joints, metres in ((load_skeleton("kit").num_joints, 1.7), (22, 1700.0)):
        content = {"motion": np.full((1, joints, 3, 5), height), "text": ["a"], "lengths": [5]}
        np.save(tmp_path / "results.npy", np.array(content, dtype=object))
        assert read_results(tmp_path).joints(0) == pytest.approx(metres)


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"motion": np.zeros((2, 22, 3))}, "motion: expected an array of numbers"),
        ({"motion": "walk"}, "motion: expected an array of numbers"),
        ({"motion": np.full((2, 22, 3, 5), "a")}, "motion: expected an array of numbers"),
        ({"text": "walk"}, "text: expected a list of texts"),
        ({"text": [1, 2]}, "text: expected a list of texts"),
        ({"lengths": [5.5, 5]}, "lengths: expected a whole number"),
        ({"lengths": [[5], [5]]}, "lengths: expected a whole number"),
        ({"lengths": [5, 6]}, "lengths from 5 to 6 of motions of 5 frames"),
        ({"lengths": [0, 5]}, "lengths from 0 to 5"),
        ({"num_samples": "2"}, "num_samples: expected a whole number"),
        ({"num_samples": 10**30}, "num_samples: expected a whole number"),
        ({"fps": "fast"}, "fps: expected a number"),
        ({"fps": float("nan")}, "fps is nan"),
        ({"skeleton": 3}, "skeleton: expected a name"),
        ({"unit": "foot"}, "unit: expected metre or millimetre, got 'foot'"),
    ],
)
def test_a_wrong_entry_is_named_with_its_file(change, expected, tmp_path):
    content = {"motion": np.zeros((2, 22, 3, 5)), "text": ["a", "b"], "lengths": [5, 5], "num_samples": 2, "num_repetitions": 1}
    np.save(tmp_path / "results.npy", np.array({**content, **change}, dtype=object))
    with pytest.raises(FileError) as refused:
        read_results(tmp_path)
    assert expected in str(refused.value) and "results.npy" in str(refused.value)
