"""The packed store of a dataset: what is refused on opening, what its stamp tells, what a failed write leaves."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from data_loaders.batches import CaptionBatches, TextMotionDataset
from data_loaders.clips import clip_name, mirrored_twins, original_name, window_number
from data_loaders.corpus import Corpus
from data_loaders.corpus_writer import NewClip, write_corpus
from data_loaders.features import KINDS, Features, Statistics
from data_loaders.text import Caption
from protos.outputs import OutputError
from protos.reading import FileError
from tests.synthetic import random_corpus

OURS = Features("humanml", 20.0, "continuous")
PAIR = Statistics(np.zeros(263, np.float32), np.ones(263, np.float32), OURS)


@pytest.fixture
def folder(tmp_path) -> Path:
    return random_corpus(tmp_path / "data")


def change(folder: Path, **fields) -> None:
    path = folder / "corpus" / "index.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | fields))


@pytest.mark.parametrize("name", ["../outside", "/etc/x", "a/../../b", "", "c\nd", "C:x", "\0"])
def test_a_name_that_leads_out_of_a_folder_is_refused_on_opening(folder, name):
    change(folder, names=[name, *Corpus(folder).names[1:]])
    with pytest.raises(FileError, match=r"index\.json.*name"):
        Corpus(folder)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"fps": "twenty"}, r"index\.json: fps: expected float, got str"),
        ({"fps": 0}, r"fps 0, expected 0\.1 to"),
        ({"fps": -5.0}, "fps -5"),
        ({"heading": "north"}, "unknown heading"),
        ({"skeleton": "octopus"}, "unknown skeleton"),
        ({"skeleton": "/etc/hostname"}, "expected a name such as humanml, not a path"),
        ({"names": "a"}, "names: expected array, got str"),
        ({"labels": []}, "labels"),
        ({"offsets": [0]}, "offsets"),
        ({"version": [1]}, "format"),
        ({"version": 99}, "format '99'"),
    ],
)
def test_a_wrong_field_of_the_index_is_named(folder, fields, message):
    change(folder, **fields)
    with pytest.raises(ValueError, match=message):
        Corpus(folder)


@pytest.mark.parametrize("spoil", [lambda o: [*o[:-1], 10**15], lambda o: [o[0], o[2], o[1], *o[3:]], lambda o: [5, *o[1:]]])
def test_offsets_rise_and_fit_the_frames(folder, spoil):
    change(folder, offsets=spoil(Corpus(folder).clips.offsets.tolist()))
    with pytest.raises(FileError, match=r"index\.json|features\.npy"):
        Corpus(folder)


def test_two_clips_of_one_name_are_refused(folder):
    names = Corpus(folder).names
    change(folder, names=[names[1], *names[1:]])
    with pytest.raises(FileError, match=f"two clips are called '{names[1]}'"):
        Corpus(folder)


@pytest.mark.parametrize(("mean", "std"), [(np.nan, 1.0), (0.0, np.inf), (0.0, 0.0), (0.0, -1.0)])
def test_statistics_are_finite_and_stds_above_zero(folder, mean, std):
    path = folder / "corpus" / "stats.npz"
    np.savez(path, mean=np.full(263, mean), std=np.full(263, std), skeleton="humanml", fps=20.0, heading="continuous")
    with pytest.raises(FileError, match=r"stats\.npz: mean and std must be finite"):
        Corpus(folder).mean  # noqa: B018


def test_statistics_of_another_width_are_refused(folder):
    path = folder / "corpus" / "stats.npz"
    np.savez(path, mean=np.zeros(5), std=np.ones(5), skeleton="humanml", fps=20.0, heading="continuous")
    with pytest.raises(FileError, match="5 features, expected 263"):
        Corpus(folder).mean  # noqa: B018


def test_captions_of_another_form_are_named(folder):
    (folder / "corpus" / "captions.json").write_text(json.dumps({"000000": [["a", ["b"], "soon", 0.0]]}))
    with pytest.raises(FileError, match=r"captions\.json: .*expected float"):
        Corpus(folder).captions(0)


def test_a_clip_without_captions_has_none(folder):
    (folder / "corpus" / "captions.json").write_text("{}")
    assert Corpus(folder).captions(0) == []


def test_a_split_is_read_a_line_a_name(folder):
    names = ["take 001", "Walking (1)"]
    rows = np.zeros((9, 263), np.float32)
    write_corpus(folder, [NewClip(name, rows, [Caption("walks")]) for name in names], OURS, PAIR)
    (folder / "train.txt").write_text("\ufefftake 001\r\n\r\nWalking (1)\r\n", encoding="utf-8")
    assert Corpus(folder).split("train") == [0, 1]
    (folder / "val.txt").write_bytes("größer\n".encode("cp1252"))
    with pytest.raises(FileError, match=r"val\.txt, line 1: not UTF-8"):
        Corpus(folder).split("val")


def test_the_stamp_tells_frames_captions_splits_and_statistics_apart(folder, tmp_path):
    corpus = Corpus(folder)
    entries = [NewClip(n, np.array(corpus[i]), corpus.captions(i), corpus.labels[i]) for i, n in enumerate(corpus.names)]
    statistics = corpus.statistics

    def stamp(entries=entries, statistics=statistics, train=None) -> str:
        copy = tmp_path / "copy"
        shutil.rmtree(copy, ignore_errors=True)
        shutil.copytree(folder, copy)
        write_corpus(copy, entries, corpus.features, statistics)
        if train is not None:
            (copy / "train.txt").write_text(train)
        return Corpus(copy).stamp

    changed = [
        stamp([NewClip(entries[0].name, entries[0].features + 1, entries[0].captions, entries[0].labels), *entries[1:]]),
        stamp([NewClip(entries[0].name, entries[0].features, [Caption("else")], entries[0].labels), *entries[1:]]),
        stamp([NewClip(entries[0].name, entries[0].features, entries[0].captions, {"content": "x"}), *entries[1:]]),
        stamp(statistics=Statistics(statistics.mean + 1, statistics.std, statistics.features)),
        stamp(train="000003\n"),
    ]
    assert stamp() == corpus.stamp  # the same data prepared again
    assert len({corpus.stamp, *changed}) == 6


def test_what_lists_no_clip_is_not_part_of_the_stamp(folder):
    before = Corpus(folder).stamp
    (folder / "notes.txt").write_text("bought on Monday\n")
    (folder / "report.txt").write_text("000003\n")
    assert Corpus(folder).stamp == before


def test_a_corpus_by_an_earlier_version_is_stamped_by_its_frames(folder):
    path = folder / "corpus" / "index.json"
    index = json.loads(path.read_text())
    del index["frames"]
    path.write_text(json.dumps(index))
    before = Corpus(folder).stamp
    assert Corpus(folder).stamp == before
    features = np.load(folder / "corpus" / "features.npy")
    features[3, 4] += 1
    np.save(folder / "corpus" / "features.npy", features)
    assert Corpus(folder).stamp != before


def test_a_write_that_fails_leaves_the_old_corpus(folder):
    before = Corpus(folder).stamp

    def torn():
        yield NewClip("a", np.zeros((4, 263), np.float32), [])
        raise OSError("disk full")

    with pytest.raises(OSError, match="disk full"):
        write_corpus(folder, torn(), OURS, PAIR)
    with pytest.raises(FileError, match=r"leads out|no name"):
        write_corpus(folder, [NewClip("../a", np.zeros((4, 263), np.float32), [])], OURS, PAIR)
    assert Corpus(folder).stamp == before
    assert [path.name for path in folder.iterdir() if path.name.startswith(".")] == []


def test_a_corpus_folder_with_files_of_somebody_else_is_not_replaced(folder):
    (folder / "corpus" / "thesis.txt").write_text("mine")
    with pytest.raises(OutputError, match=r"thesis\.txt"):
        write_corpus(folder, [], OURS, PAIR)
    assert (folder / "corpus" / "thesis.txt").read_text() == "mine"


def test_names_of_clips_tell_their_recording():
    for recording in ("walk", "M01", "take 3", "a_w0"):
        assert original_name(clip_name(recording, mirrored=True)) == recording
        assert original_name(clip_name(recording, 2, mirrored=True)) == clip_name(recording, 2)
        assert window_number(clip_name(recording, 7, mirrored=True)) == window_number(clip_name(recording, 7)) == 7
    assert window_number("walk") == 0 and window_number("walk_w3") == 3  # as earlier versions named it


def test_a_name_that_begins_with_m_is_an_image_only_where_nothing_says_otherwise():
    recorded, image = {"mirrored": False}, {"mirrored": True}
    assert mirrored_twins(["ike", "Mike"], lambda name: recorded) == set()
    assert mirrored_twins(["ike", "Mike"], {"ike": recorded, "Mike": image}.get) == {"Mike"}  # by an earlier version
    assert mirrored_twins(["000123", "M000123", "M000900"]) == {"M000123"}


def test_motions_of_two_people_lie_side_by_side_in_the_columns(tmp_path, monkeypatch):
    """A kind of features is an entry of one table; here each person's are those of HumanML3D."""
    monkeypatch.setitem(KINDS, "pair", replace(KINDS["humanml"], persons=2))
    pair = replace(OURS, kind="pair")
    one, other = (np.random.default_rng(seed).normal(size=(12, 263)).astype(np.float32) for seed in (0, 1))
    clip = NewClip("hug", np.concatenate([one, other], 1), [Caption("two people hug")])
    write_corpus(tmp_path, [clip], pair, Statistics(np.zeros(526, np.float32), np.ones(526, np.float32), pair))
    (tmp_path / "train.txt").write_text("hug\n")
    corpus = Corpus(tmp_path)
    assert corpus.features == corpus.statistics.features == pair
    motion = corpus.motion("hug")
    assert motion.joints.shape == (2, 12, 22, 3)
    np.testing.assert_array_equal(motion.joints[1], OURS.joints(torch.from_numpy(other)).numpy())
    batch = CaptionBatches(TextMotionDataset(corpus), 2)(0, 0, 1)
    assert batch.motion.shape[-1] == 526 and batch.texts == ["two people hug"] * 2
    with pytest.raises(FileError, match="expected one of humanml"):
        monkeypatch.delitem(KINDS, "pair")
        Corpus(tmp_path)
