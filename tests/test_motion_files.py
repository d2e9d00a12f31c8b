"""Motion files: what a run leaves, with one person or several, is read back; any kind as features; what cannot be read is
named, nothing that a file says is run or fills the memory.
"""

import pickle

import numpy as np
import pytest

from data_loaders.corpus import Motion
from data_loaders.features import Features
from data_loaders.motion_features import read_features
from data_loaders.motion_files import read_motion, read_results, write_joints, write_results
from data_loaders.skeleton import load_skeleton
from data_loaders.sources import Reading
from protos.reading import FileError
from tests.synthetic import walk, write_run

FEATURES = Features("humanml", 20.0, "continuous")


@pytest.mark.parametrize("fps", [np.inf, np.nan, 0.0, -20.0, 1e-6])
def test_a_frame_rate_without_meaning_is_named(tmp_path, fps):
    np.savez(tmp_path / "a.npz", joints=walk(40), fps=fps)
    with pytest.raises(FileError, match=r"a\.npz: fps is"):
        read_features(tmp_path / "a.npz", FEATURES, Reading())
    with pytest.raises(ValueError, match=r"0\.1 to 10000"):
        Reading(motion_fps=fps)


def test_a_file_without_a_frame_and_one_beyond_float32_are_named(tmp_path):
    np.save(tmp_path / "none.npy", np.zeros((0, 263)))
    with pytest.raises(FileError, match=r"none\.npy: holds no frame"):
        read_features(tmp_path / "none.npy", FEATURES, Reading())
    np.save(tmp_path / "huge.npy", np.full((20, 263), 1e300))
    with pytest.raises(FileError, match=r"huge\.npy: NaN or infinity in frame 0"):
        read_features(tmp_path / "huge.npy", FEATURES, Reading())


def test_nobody_is_advised_to_unpickle_a_file(tmp_path):
    for suffix in ("npy", "npz"):
        (tmp_path / f"a.{suffix}").write_bytes(b"\x80\x04K\x01.")
        with pytest.raises(FileError, match="not a") as refused:
            read_features(tmp_path / f"a.{suffix}", FEATURES, Reading())
        assert "load" not in str(refused.value) and "allow" not in str(refused.value)


def test_joints_beyond_those_of_the_model_change_nothing(tmp_path):
    joints = walk(60, fps=30.0)
    for name, more in (("body", 0), ("hands", 30)):
        np.save(tmp_path / f"{name}.npy", np.concatenate([joints, np.full((60, more, 3), 9.0)], axis=1))
    body, hands = (read_features(tmp_path / f"{name}.npy", FEATURES, Reading(motion_fps=30.0)) for name in ("body", "hands"))
    np.testing.assert_array_equal(body, hands)


def run(folder, count: int, **changes):
    """A sampling run's results, of walks."""
    clips = [walk(40 + 10 * i) for i in range(count)]
    write_run(folder, clips, [f"walk {i}" for i in range(count)], **changes)
    return clips


@pytest.mark.parametrize("name", ["motions.npz", "motions.npy"])
def test_each_motion_of_a_sampling_run_can_be_named(tmp_path, name):
    for row, clip in enumerate(run(tmp_path, 3)):
        np.save(tmp_path / "joints.npy", clip)
        expected = read_features(tmp_path / "joints.npy", FEATURES, Reading())
        np.testing.assert_allclose(read_features(tmp_path / f"{name}#{row}", FEATURES, Reading()), expected, atol=1e-6)
    with pytest.raises(FileError, match=rf"results file of 3 motions: name one, {name}#0 to #2, or take joints/prompt"):
        read_features(tmp_path / name, FEATURES, Reading())
    with pytest.raises(FileError, match="holds 3 motions, #0 to #2"):
        read_features(tmp_path / f"{name}#3", FEATURES, Reading())
    with pytest.raises(FileError, match="needs no #0"):
        read_features(tmp_path / "joints.npy#0", FEATURES, Reading())


def test_a_run_of_one_motion_needs_no_name_and_keeps_its_own_frame_rate(tmp_path):
    run(tmp_path, 1, fps=40.0)
    assert len(read_features(tmp_path / "motions.npz", FEATURES, Reading())) == 19  # a second at 20 fps
    assert len(read_features(tmp_path / "motions.npz", FEATURES, Reading(motion_fps=20.0))) == 39


def test_motions_of_another_skeleton_or_unit_are_not_taken_for_ours(tmp_path):
    run(tmp_path, 1, skeleton="kit")
    with pytest.raises(FileError, match="motions of 'kit', expected those of humanml"):
        read_features(tmp_path / "motions.npz", FEATURES, Reading())
    np.savez(tmp_path / "kit.npz", joints=walk(40), skeleton="kit")
    with pytest.raises(FileError, match="motions of 'kit'"):
        read_features(tmp_path / "kit.npz", FEATURES, Reading())
    np.savez(tmp_path / "mm.npz", joints=1000 * walk(40), unit="millimetre")
    np.save(tmp_path / "m.npy", walk(40))
    np.testing.assert_allclose(*(read_features(tmp_path / name, FEATURES, Reading()) for name in ("mm.npz", "m.npy")), atol=1e-4)
    np.save(tmp_path / "mm.npy", 1000 * walk(40))
    with pytest.raises(FileError, match="is the scale right"):
        read_features(tmp_path / "mm.npy", FEATURES, Reading())


def test_what_looks_wrong_in_a_file_is_told(tmp_path):
    np.save(tmp_path / "z_up.npy", walk(40)[..., [0, 2, 1]])
    warnings: list[str] = []
    read_features(tmp_path / "z_up.npy", FEATURES, Reading(), warnings)
    assert warnings == ["the body is lying in most frames; check the up axis"]
    np.save(tmp_path / "zeros.npy", 0 * walk(40))
    with pytest.raises(FileError, match="its bones have no length"):
        read_features(tmp_path / "zeros.npy", FEATURES, Reading())


def test_text_that_is_none_does_not_stop_the_program(tmp_path):
    """Python cannot even show such text: whoever tries gets a SystemError."""
    np.savez(tmp_path / "a.npz", joints=walk(40), unit=np.frombuffer(np.uint32(0x110000).tobytes(), "<U1")[0:1].reshape(()))
    with pytest.raises(FileError, match="characters that do not exist"):
        read_features(tmp_path / "a.npz", FEATURES, Reading())


@pytest.fixture
def results():
    """Two samples, two repetitions, of 10, 15, 20 and 25 frames."""
    clips = [np.random.default_rng(i).normal(size=(1, 10 + 5 * i, 22, 3)).astype(np.float32) for i in range(4)]
    texts = ["walk", "bow\nlow", "walk", "bow\nlow"]
    return [Motion(clip, 12.5, captions=(text,)) for clip, text in zip(clips, texts)]


def test_layout_is_rows_joints_xyz_frames_with_repetitions_outermost(results, tmp_path):
    path = write_results(tmp_path / "out", results, num_samples=2)
    content = np.load(path, allow_pickle=True)[None][0]  # as published tools do it
    assert content["motion"].shape == (4, 22, 3, 25) and content["motion"].dtype == np.float32
    assert content["text"] == ["walk", "bow\nlow", "walk", "bow\nlow"]
    assert content["lengths"].tolist() == [10, 15, 20, 25]
    assert (content["num_samples"], content["num_repetitions"]) == (2, 2)
    assert (content["fps"], content["skeleton"], content["unit"]) == (12.5, "humanml", "metre")
    assert np.array_equal(content["motion"][1, :, :, :15].transpose(2, 0, 1), results[1].joints[0])


def test_text_files_have_a_line_per_motion(results, tmp_path):
    write_results(tmp_path, results, 2)
    assert (tmp_path / "motions.txt").read_text().splitlines() == ["walk", "bow low", "walk", "bow low"]
    assert (tmp_path / "motions_len.txt").read_text().split() == ["10", "15", "20", "25"]


@pytest.mark.parametrize("name", ["motions.npy", "motions.npz", ""])
def test_what_was_written_is_read_back(name, results, tmp_path):
    write_results(tmp_path, results, 2)
    again = read_results(tmp_path / name)
    assert (again.num_samples, again.num_repetitions) == (2, 2)
    for read, written in zip(again.motions, results, strict=True):
        assert np.array_equal(read.joints, written.joints) and read.captions == written.captions
        assert (read.fps, read.skeleton) == (12.5, "humanml")


def test_files_are_byte_equal_for_equal_results(results, tmp_path):
    for folder in ("a", "b"):
        write_results(tmp_path / folder, results, 2)
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
    np.save(tmp_path / "motions.npy", np.array({"motion": np.zeros((2, 22, 3, 5)), "text": ["a"]}, dtype=object))
    with pytest.raises(FileError, match="2 motions, 1 texts, 2 lengths"):
        read_results(tmp_path / "motions.npy")


@pytest.mark.parametrize("name", ["motions.npy", "motions.npz"])
def test_a_file_says_its_unit_frame_rate_and_skeleton(name, tmp_path):
    write_run(tmp_path, [np.ones((5, 21, 3)), np.ones((9, 21, 3))], ["walk", "run"], fps=12.5, skeleton="kit")
    motion = read_results(tmp_path / name).motions[1]
    assert (motion.fps, motion.skeleton) == (12.5, "kit")
    assert (motion.joints == 1).all(), "metres stay metres"


def test_kit_results_without_a_unit_are_in_millimetres_as_published_tools_write_them(tmp_path):
    height = 1700.0
    for joints, metres in ((load_skeleton("kit").num_joints, 1.7), (22, 1700.0)):
        content = {"motion": np.full((1, joints, 3, 5), height), "text": ["a"], "lengths": [5]}
        np.save(tmp_path / "results.npy", np.array(content, dtype=object))
        (motion,) = read_results(tmp_path, fps=30.0).motions
        assert motion.joints == pytest.approx(metres)
        assert (motion.skeleton, motion.fps) == ("kit" if joints == 21 else "humanml", 30.0)


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


@pytest.mark.parametrize("name", ["motions.npz", "motions.npy"])
def test_two_persons_are_written_and_read_back(name, tmp_path):
    pair = np.random.default_rng(0).normal(size=(2, 30, 22, 3)).astype(np.float32)
    write_run(tmp_path, [pair, pair[:, :20]], ["they dance", "they bow"])
    long, short = read_results(tmp_path / name).motions
    assert np.array_equal(long.joints, pair) and np.array_equal(short.joints, pair[:, :20])
    published = np.load(tmp_path / "p2.npy", allow_pickle=True).item()
    assert published["motion"].shape == (2, 22, 3, 30) and list(published["lengths"]) == [30, 20]
    assert np.array_equal(read_results(tmp_path / "p1.npy").motions[0].joints, pair[:1])
    again = read_motion(write_joints(tmp_path / "joints" / "a.npy", long), fps=60.0)
    assert np.array_equal(again.joints, pair) and again.fps == 20.0, "the run says its frame rate"
    with pytest.raises(FileError, match="2 persons, this model reads one"):
        read_features(tmp_path / f"{name}#0", FEATURES, Reading())


def test_joints_beside_a_run_have_its_frame_rate(tmp_path):
    (clip,) = run(tmp_path, 1, fps=40.0)
    np.save(tmp_path / "elsewhere.npy", clip)
    write_joints(tmp_path / "joints" / "prompt00_rep00.npy", Motion(clip[None], 40.0))
    assert len(read_features(tmp_path / "joints" / "prompt00_rep00.npy", FEATURES, Reading())) == 19
    assert len(read_features(tmp_path / "elsewhere.npy", FEATURES, Reading())) == 39
