"""Motion files of any kind as features: what cannot be read is named, and nothing that a file says fills the memory."""

import numpy as np
import pytest

from data_loaders.mocap import MocapError
from model.embedding import open_space
from sample.motion_files import read_features
from sample.retrieve_options import Reading
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
        with pytest.raises(MocapError, match="not a readable") as refused:
            read_features(tmp_path / f"a.{suffix}", space, Reading())
        assert "load" not in str(refused.value) and "allow" not in str(refused.value)


def test_joints_beyond_those_of_the_model_change_nothing(space, tmp_path):
    joints = walk(60, fps=30.0)
    for name, more in (("body", 0), ("hands", 30)):
        np.save(tmp_path / f"{name}.npy", np.concatenate([joints, np.full((60, more, 3), 9.0)], axis=1))
    body, hands = (read_features(tmp_path / f"{name}.npy", space, Reading(motion_fps=30.0)) for name in ("body", "hands"))
    np.testing.assert_array_equal(body, hands)
