"""Several prepared datasets become one: names, labels, splits, statistics, and a recording that two of them have."""

import json
from pathlib import Path

import numpy as np
import pytest

from data_loaders.corpus import Corpus
from data_loaders.feature_statistics import mean_std
from data_loaders.features import FeaturesMismatch
from data_loaders.merging import merge
from data_loaders.preparation import prepare
from data_loaders.prepare import main
from data_loaders.read_recordings import PreparationSettings
from protos.outputs import OutputError
from protos.reading import FileError
from tests.synthetic import bvh_text, raise_hand, walk, write_cmu_takes

DESCRIPTION = """
[recordings]
files = "bvh"
mapping = "bandai_namco"
labels = {recording = "take", description = "said"}
[recordings.contents]
'walk' = "walk"
'hand' = "raise"
"""


def dataset(folder: Path, takes: dict[str, tuple[str, np.ndarray, str]], **settings) -> Path:
    """Prepared recordings: {file: (take, joints, split)}."""
    raw = folder.with_name(f"{folder.name}_raw")
    raw.mkdir(parents=True)
    (raw / "pack.toml").write_text(DESCRIPTION)
    clips = {}
    for name, (take, joints, split) in takes.items():
        (raw / f"{name}.bvh").write_text(bvh_text(joints))
        said = "walks" if "walk" in name else "lifts a hand"
        clips[name] = {"captions": [f"a person {said}"], "take": take, "said": said, "split": split}
    (raw / "captions.json").write_text(json.dumps({"clips": clips}))
    prepare(PreparationSettings(str(raw / "pack.toml"), raw, folder, workers=1, **settings))
    return folder


@pytest.fixture
def two(tmp_path) -> tuple[Path, Path]:
    """Datasets that both have take 7, one for training and one for testing."""
    first = dataset(tmp_path / "first", {"walk": ("7", walk(90), "test"), "hand": ("8", raise_hand(90), "train")})
    second = dataset(tmp_path / "second", {"walk": ("7", walk(100), "train"), "walk_fast": ("9", walk(100, 1.5), "train"),
                                           "hand": ("", raise_hand(80, "right"), "val")})  # fmt: skip
    return first, second


def test_a_recording_of_two_datasets_is_used_once_with_the_split_of_the_first(two, tmp_path):
    merge(two, tmp_path / "both")
    both = Corpus.open(tmp_path / "both")
    originals = [name for name in both.names if not name.endswith("@mirrored")]
    assert originals == ["first__hand", "first__walk", "second__hand", "second__walk_fast"]
    assert both.listed("test") == ["first__walk", "first__walk@mirrored"]
    assert set(both.listed("train")) == {"first__hand", "first__hand@mirrored", "second__walk_fast", "second__walk_fast@mirrored"}
    report = (tmp_path / "both" / "report.txt").read_text()
    assert "7 left out: first brings this recording" in report
    assert "  walk: 1, 0, 1" in report and "  raise: 1, 1, 0" in report  # recordings, not clips


def test_takes_of_cmu_in_each_of_their_layouts_are_the_same_walk_and_become_one_dataset(tmp_path):
    write_cmu_takes(tmp_path / "raw")
    packs = ("cmu_more", "cmu_sample", "cmu_salsa")
    for pack in packs:
        prepare(PreparationSettings(pack, tmp_path / "raw" / pack, tmp_path / pack, workers=1, mirror=False))
    merge([tmp_path / pack for pack in packs], tmp_path / "cmu")
    corpus = Corpus.open(tmp_path / "cmu")
    assert corpus.names == ["cmu_more__cmu_02_01", "cmu_more__cmu_16_01", "cmu_more__cmu_90_01", "cmu_sample__cgspeed_131_01",
                            "cmu_salsa__60_01_scaled", "cmu_salsa__61_01_scaled"]  # fmt: skip
    for name in corpus.names:
        joints = np.load(corpus.folder / "new_joints" / f"{name}.npy")
        forward, height, wrist, ankle = joints[20, 0, 2] - joints[0, 0, 2], joints[0, 0, 1], joints[:, 20, 1], joints[:, 7, 1]
        assert forward == pytest.approx(1.0, abs=0.01) and height == pytest.approx(0.84, abs=0.015), name
        assert np.ptp(wrist) == pytest.approx(0.064, abs=0.005) and np.ptp(ankle) == pytest.approx(0.101, abs=0.005), name


def test_clips_keep_frames_captions_and_labels_and_say_where_they_come_from(two, tmp_path):
    merge(two, tmp_path / "both")
    both, second = Corpus.open(tmp_path / "both"), Corpus.open(two[1])
    clip = both.position("second__walk_fast@mirrored")
    np.testing.assert_array_equal(both[clip], second[second.position("walk_fast@mirrored")])
    assert both.captions(clip) == second.captions("walk_fast@mirrored")
    labels = both.labels[clip]
    assert (labels["content"], labels["dataset"], labels["original"]) == ("walk", "second", "walk_fast")
    assert labels["source"] == "second__walk_fast" and labels["mirrored"]
    train = [both[i] for i in both.split("train")]
    np.testing.assert_allclose(both.mean, mean_std(train, both.features)[0], atol=1e-6)
    for folder in ("new_joint_vecs", "new_joints"):
        assert np.load(tmp_path / "both" / folder / "first__walk.npy").shape[0] == both.lengths[both.position("first__walk")]


def test_datasets_of_other_features_do_not_merge(tmp_path, two):
    other = dataset(tmp_path / "other", {"walk": ("1", walk(90), "train")}, fps=30.0)
    with pytest.raises(FeaturesMismatch, match="30"):
        merge([str(two[0]), str(other)], tmp_path / "both")
    assert not (tmp_path / "both").exists()


def test_a_recording_in_two_splits_is_refused(tmp_path, two):
    (two[1] / "test.txt").write_text("walk@mirrored\n")
    (two[1] / "train.txt").write_text("walk\nwalk_fast\n")
    with pytest.raises(FileError, match=r"second: recording '7' is in .*expected one split"):
        merge([str(two[1]), str(two[0])], tmp_path / "both")


def test_nothing_that_is_there_is_replaced_unasked(two, tmp_path, capsys):
    flags = ["merge", *map(str, two), "--output"]
    with pytest.raises(OutputError, match="one of the datasets"):
        main([*flags, str(two[0])])
    main([*flags, str(tmp_path / "both")])
    with pytest.raises(OutputError, match="--overwrite"):
        merge(two, tmp_path / "both")
    (tmp_path / "both" / "mine.txt").write_text("first__walk\n")
    merge(two[::-1], tmp_path / "both", overwrite=True)
    both = Corpus.open(tmp_path / "both")
    assert "second__walk" in both.names and "first__walk" not in both.names
    assert not (tmp_path / "both/new_joints/first__walk.npy").exists() and (tmp_path / "both/mine.txt").exists()


@pytest.mark.parametrize(("flags", "problem"), [
    (["merge", "a"], "two or more"), (["merge", "a", "b", "--input", "c"], "no --input"), (["bvh", "a", "--input", "c"], "a"),
    (["merge", "a", "b"], "--output"), (["bandai_namco"], "--output"), (["bvh"], "--output"),
])  # fmt: skip
def test_a_command_line_that_is_neither_is_told(flags, problem, tmp_path, capsys):
    with pytest.raises(SystemExit) as end:
        main([*flags, *(["--output", str(tmp_path / "x")] if problem != "--output" else [])])
    assert end.value.code == 2 and problem in capsys.readouterr().err


def test_a_clip_in_two_lists_is_refused_and_one_in_none_is_counted(two, tmp_path):
    (two[1] / "val.txt").write_text("")  # of the hand
    merge(two, tmp_path / "both")
    assert "2 clips left out: no split list names them" in (tmp_path / "both" / "report.txt").read_text()
    (two[1] / "val.txt").write_text("walk_fast\n")
    with pytest.raises(FileError, match="in train and in val"):
        merge(two, tmp_path / "again")


def test_a_merging_that_fails_leaves_the_former_one(two, tmp_path, monkeypatch):
    merge(two, tmp_path / "both")
    before = Corpus.open(tmp_path / "both")
    joints = Corpus.joints

    def fails(corpus, clip):
        if corpus.names[clip] == "walk_fast":
            raise FileError("NaN in walk_fast")
        return joints(corpus, clip)

    monkeypatch.setattr(Corpus, "joints", fails)
    with pytest.raises(FileError, match="walk_fast"):
        merge(two[::-1], tmp_path / "both", overwrite=True)
    after = Corpus.open(tmp_path / "both")
    assert after.names == before.names and after.stamp == before.stamp
