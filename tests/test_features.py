"""The codec: what a row of numbers means, and metres on both sides of it."""

import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
import torch

from data_loaders.features import KINDS, Features, FeaturesMismatch, Statistics
from protos.reading import FileError
from tests.synthetic import walk

OURS = Features("humanml", 20.0, "continuous")



def test_metres_go_in_and_metres_come_out_whatever_the_unit_of_the_skeleton():
    kit = Features("kit", 12.5, "continuous")
    joints = torch.from_numpy(walk(40)).float()[:, :21]  # any 21 joints: kit keeps the bones of each clip
    rows = kit.encode(joints)
    assert rows.shape == (39, 251) and rows[:, 3].max() > 100  # heights in millimetres
    decoded = kit.joints(rows)
    heights = joints[:-1, :, 1] - joints[..., 1].min()
    torch.testing.assert_close(decoded[..., 1], heights, atol=1e-4, rtol=0)
    apart = (joints[:-1, :, None] - joints[:-1, None]).norm(dim=-1)
    torch.testing.assert_close((decoded[:, :, None] - decoded[:, None]).norm(dim=-1), apart, atol=1e-4, rtol=0)


def test_the_columns_that_joints_are_read_from_are_enough_and_other_widths_are_named():
    rows = OURS.encode(torch.from_numpy(walk(30)).float())
    assert OURS.read_columns == 67
    assert torch.equal(OURS.joints(rows[:, :67]), OURS.joints(rows))
    with pytest.raises(FeaturesMismatch, match=r"humanml motions have 263 features .*first 67\), these have 251"):
        OURS.joints(torch.zeros(4, 251))


def test_many_clips_are_encoded_as_each_alone():
    clips = [torch.from_numpy(walk(frames)).float() for frames in (20, 33)]
    for rows, clip in zip(OURS.encode(clips), clips):
        torch.testing.assert_close(rows, OURS.encode(clip))


@pytest.mark.parametrize("kind, width", [("humanml", 263), ("rifke", 64), ("rotations", 135), ("smpl_rot6d", 150)])
def test_columns_of_every_kind_follow_one_another(kind, width):
    features = replace(OURS, kind=kind)
    stops = [block.stop for block in features.blocks.values()]
    assert [block.start for block in features.blocks.values()] == [0, *stops[:-1]] and stops[-1] == features.width == width


@pytest.mark.parametrize("kind", [kind for kind, each in KINDS.items() if not each.codec])
def test_rotations_alone_need_a_body(kind):
    features = replace(OURS, kind=kind)
    with pytest.raises(FeaturesMismatch, match="it needs a body model"):
        features.joints(torch.zeros(4, features.width))
    with pytest.raises(FeaturesMismatch, match="it needs a body model"):
        features.encode(torch.zeros(4, 22, 3))


@pytest.mark.parametrize("change", [{"skeleton": "kit"}, {"fps": 30.0}, {"heading": "published"}, {"kind": "rifke"}])
def test_what_was_made_for_other_features_is_refused(change):
    OURS.require(Features(**vars(OURS)), "one", "the other")
    with pytest.raises(FeaturesMismatch, match=r"one .*, the other "):
        OURS.require(replace(OURS, **change), "one", "the other")


def test_files_name_the_kind_only_where_it_is_another_and_older_ones_are_told_by_their_width(tmp_path):
    rifke = Features("kit", 12.5, "published", "rifke")
    assert set(OURS.record()) == {"skeleton", "fps", "heading"} and rifke.record()["kind"] == "rifke"
    for features in (OURS, rifke):
        pair = Statistics(np.zeros(features.width), np.ones(features.width), features)
        pair.save(tmp_path / "stats.npz")
        assert Statistics.load(tmp_path / "stats.npz").features == features
        np.savez(tmp_path / "stats.npz", mean=pair.mean, std=pair.std, **replace(features, kind="humanml").record())
        assert Statistics.load(tmp_path / "stats.npz").features == features
    with pytest.raises(FileError, match=r"stats: features of kind 'waltz', expected one of humanml"):
        replace(OURS, kind="waltz").check("stats")


def test_asking_what_features_are_loads_no_torch():
    code = "from data_loaders.features import Features; import sys; print(Features().width, 'torch' in sys.modules)"
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert said.split() == ["263", "False"]
