"""Motion files of any kind as features: what cannot be read is named, and nothing that a file says fills the memory."""

from dataclasses import replace

import numpy as np
import pytest

from data_loaders.bvh import MocapError
from model.embedding import open_space
from sample.motion_files import read_features
from sample.reading import Reading
from sample.results import stack, write_results
from tests.synthetic import walk
from tests.tiny_retrieval import saved_tmr


@pytest.fixture(scope="module")
def space(tmp_path_factory):
    return open_space(saved_tmr(tmp_path_factory.mktemp("models") / "tiny"))


@pytest.mark.parametrize("fps", [np.inf, np.nan, 0.0, -20.0, 1e-6])
def test_a_frame_rate_without_meaning_is_named(space, tmp_path, fps):
    np.savez(tmp_path / "a.npz", joints=walk(40), fps=fps)
    with pytest.raises(MocapError, match=r"a\.npz: fps is"):
        read_features(tmp_path / "a.npz", space, Reading())
    with pytest.raises(ValueError, match=r"0\.1 to 10000"):
        Reading(motion_fps=fps)


def test_a_file_without_a_frame_and_one_beyond_float32_are_named(space, tmp_path):
    np.save(tmp_path / "none.npy", np.zeros((0, 263)))
    with pytest.raises(MocapError, match=r"none\.npy: holds no frame"):
        read_features(tmp_path / "none.npy", space, Reading())
    np.save(tmp_path / "huge.npy", np.full((20, 263), 1e300))
    with pytest.raises(MocapError, match=r"huge\.npy: NaN or infinity in frame 0"):
        read_features(tmp_path / "huge.npy", space, Reading())


def test_nobody_is_advised_to_unpickle_a_file(space, tmp_path):
    for suffix in ("npy", "npz"):
        (tmp_path / f"a.{suffix}").write_bytes(b"\x80\x04K\x01.")
        with pytest.raises(MocapError, match="not a") as refused:
            read_features(tmp_path / f"a.{suffix}", space, Reading())
        assert "load" not in str(refused.value) and "allow" not in str(refused.value)


def test_joints_beyond_those_of_the_model_change_nothing(space, tmp_path):
    joints = walk(60, fps=30.0)
    for name, more in (("body", 0), ("hands", 30)):
        np.save(tmp_path / f"{name}.npy", np.concatenate([joints, np.full((60, more, 3), 9.0)], axis=1))
    body, hands = (read_features(tmp_path / f"{name}.npy", space, Reading(motion_fps=30.0)) for name in ("body", "hands"))
    np.testing.assert_array_equal(body, hands)


def run(folder, count: int, scale: float = 1.0, **changes):
    """A sampling run's results, of walks."""
    clips = [scale * walk(40 + 10 * i) for i in range(count)]
    write_results(folder, replace(stack(clips, [f"walk {i}" for i in range(count)], count, 1, 20.0, "humanml"), **changes))
    return clips


@pytest.mark.parametrize("name", ["motions.npz", "motions.npy"])
def test_each_motion_of_a_sampling_run_can_be_named(space, tmp_path, name):
    for row, clip in enumerate(run(tmp_path, 3)):
        np.save(tmp_path / "joints.npy", clip)
        expected = read_features(tmp_path / "joints.npy", space, Reading())
        np.testing.assert_allclose(read_features(tmp_path / f"{name}#{row}", space, Reading()), expected, atol=1e-6)
    with pytest.raises(MocapError, match=rf"results file of 3 motions: name one, {name}#0 to #2, or take joints/prompt"):
        read_features(tmp_path / name, space, Reading())
    with pytest.raises(MocapError, match="holds 3 motions, #0 to #2"):
        read_features(tmp_path / f"{name}#3", space, Reading())
    with pytest.raises(MocapError, match="needs no #0"):
        read_features(tmp_path / "joints.npy#0", space, Reading())


def test_a_run_of_one_motion_needs_no_name_and_keeps_its_own_frame_rate(space, tmp_path):
    run(tmp_path, 1, fps=40.0)
    assert len(read_features(tmp_path / "motions.npz", space, Reading())) == 19  # a second at 20 fps
    assert len(read_features(tmp_path / "motions.npz", space, Reading(motion_fps=20.0))) == 39


def test_motions_of_another_skeleton_or_unit_are_not_taken_for_ours(space, tmp_path):
    run(tmp_path, 1, skeleton="kit")
    with pytest.raises(MocapError, match="motions of 'kit', this model reads those of humanml"):
        read_features(tmp_path / "motions.npz", space, Reading())
    np.savez(tmp_path / "kit.npz", joints=walk(40), skeleton="kit")
    with pytest.raises(MocapError, match="motions of 'kit'"):
        read_features(tmp_path / "kit.npz", space, Reading())
    np.savez(tmp_path / "mm.npz", joints=1000 * walk(40), unit="millimetre")
    np.save(tmp_path / "m.npy", walk(40))
    np.testing.assert_allclose(*(read_features(tmp_path / name, space, Reading()) for name in ("mm.npz", "m.npy")), atol=1e-4)
    np.save(tmp_path / "mm.npy", 1000 * walk(40))
    with pytest.raises(MocapError, match="is the scale right"):
        read_features(tmp_path / "mm.npy", space, Reading())


def test_what_looks_wrong_in_a_file_is_told(space, tmp_path):
    np.save(tmp_path / "z_up.npy", walk(40)[..., [0, 2, 1]])
    warnings: list[str] = []
    read_features(tmp_path / "z_up.npy", space, Reading(), warnings)
    assert warnings == ["the body is lying in most frames; check the up axis"]
    np.save(tmp_path / "zeros.npy", 0 * walk(40))
    with pytest.raises(MocapError, match="its bones have no length"):
        read_features(tmp_path / "zeros.npy", space, Reading())


def test_text_that_is_none_does_not_stop_the_program(space, tmp_path):
    """Python cannot even show such text: whoever tries gets a SystemError."""
    np.savez(tmp_path / "a.npz", joints=walk(40), unit=np.frombuffer(np.uint32(0x110000).tobytes(), "<U1")[0:1].reshape(()))
    with pytest.raises(MocapError, match="characters that do not exist"):
        read_features(tmp_path / "a.npz", space, Reading())
