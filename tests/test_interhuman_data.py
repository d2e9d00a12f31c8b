"""Two people as data: the InterHuman folder, pairs of recordings, HumanML3D in 262 columns; what is wrong costs what it must."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from data_loaders import interhuman_features
from data_loaders.corpus import Corpus
from data_loaders.features import Features, FeaturesMismatch, Statistics
from data_loaders.humanml_features import features_from_joints
from data_loaders.interhuman import joints_and_rotations, used_columns
from data_loaders.merging import merge
from data_loaders.motion_features import read_features
from data_loaders.preparation import prepare
from data_loaders.read_recordings import PreparationSettings
from data_loaders.skeleton import load_skeleton
from data_loaders.sources import Reading
from protos.outputs import OutputError
from protos.reading import FileError
from tests.pairs import PAIR, columns, greeting, meeting_corpus, save, two_walkers, write_interhuman, write_takes
from tests.shared import shared
from tests.synthetic import walk, write_recordings
from tests.synthetic_bodies import write_amass, write_body_models

ROOT = Path(__file__).resolve().parents[1]


def apart(joints: np.ndarray) -> np.ndarray:
    """Distance (T,) between the two pelvises on the floor."""
    return np.linalg.norm((joints[0] - joints[1])[:, 0, [0, 2]], axis=-1)


def packed(source: Path, output: Path, **settings: object) -> Corpus:
    prepare(PreparationSettings("interhuman", source, output, **settings))
    return Corpus.open(output)


def report(folder: Path) -> str:
    return (folder / "report.txt").read_text()


# ------------------------------------------------------------------------------------------------------------- InterHuman folder


@pytest.mark.parametrize("flat", [False, True])
def test_an_interhuman_folder_of_either_layout_becomes_a_dataset(tmp_path, flat):
    corpus = packed(write_interhuman(tmp_path / "raw", flat), tmp_path / "out")
    assert (len(corpus), corpus.features.kind, corpus.fps, corpus.heading) == (8, "interhuman", 30.0, "published")
    assert [corpus.names[i] for i in corpus.split("test")] == ["hello3", "pass3"]  # the last line needs no end
    joints = corpus.joints("pass1")
    assert joints.shape == (2, 33, 22, 3)
    assert np.abs(apart(joints) - apart(two_walkers(34))[:-1]).max() < 1e-3
    assert np.array_equal(corpus.mean, Statistics.published("interhuman", corpus.features).mean)


def test_texts_of_both_and_of_each_stay_apart(tmp_path):
    corpus = packed(write_interhuman(tmp_path / "raw"), tmp_path / "out")
    assert [caption.text for caption in corpus.captions("hello0")] == [
        "one person raises the left hand while the other raises the right hand", "two people are there"
    ]  # fmt: skip
    assert [caption.text for caption in corpus.captions("hello0", person=2)] == ["a person raises the right hand"]
    assert len(corpus.captions("hello0", person=None)) == 4
    assert corpus.motion("hello0").captions == tuple(caption.text for caption in corpus.captions("hello0"))


def test_a_folder_without_individual_descriptions_will_do(tmp_path):
    corpus = packed(write_interhuman(tmp_path / "raw", individuals=False), tmp_path / "out")
    assert len(corpus) == 8 and corpus.captions("pass0", person=1) == []


def test_rotations_are_columns_186_to_312_and_positions_are_turned_upright():
    joints = walk(5)
    table = columns(joints)
    table[:, 186:312] = np.arange(126)
    positions, rotations = joints_and_rotations(used_columns(table))
    assert np.abs(positions - joints).max() < 1e-6
    assert np.array_equal(rotations[0].reshape(-1), np.arange(126))


def test_clips_that_the_list_ignores_are_left_out(tmp_path):
    raw = write_interhuman(tmp_path / "raw", flat=True)
    save(raw / "ignore_list.txt", "pass3")
    corpus = packed(raw, tmp_path / "out")
    assert "pass3" not in corpus.names and "pass3: named in ignore_list.txt" in report(tmp_path / "out")


def test_training_clips_that_are_tested_on_are_told(tmp_path, caplog):
    everything = ["hello0", "hello1", "hello2", "hello3", "pass0"]
    raw = write_interhuman(tmp_path / "raw", lists={"train": everything, "val": ["pass1"], "test": ["hello3", "hello2"]})
    packed(raw, tmp_path / "out")
    line = "2 of 5 clips of train.txt are in test.txt too ('hello2', 'hello3')"
    assert line in caplog.text and line in report(tmp_path / "out") and "val.txt too" not in caplog.text


def one_person(raw: Path) -> None:
    (raw / "motions_processed/person2/pass1.npy").unlink()


def shorter(raw: Path) -> None:
    save(raw / "motions_processed/person2/pass1.npy", columns(walk(20)))


def narrow(raw: Path) -> None:
    save(raw / "motions_processed/person1/pass1.npy", columns(walk(34))[:, :262])


def far_away(raw: Path) -> None:
    table = columns(walk(34))
    table[3, 7] = 1e300
    save(raw / "motions_processed/person1/pass1.npy", table)


def not_a_number(raw: Path) -> None:
    table = columns(walk(34))
    table[3, 7] = np.nan
    save(raw / "motions_processed/person1/pass1.npy", table)


def latin(raw: Path) -> None:
    (raw / "annots/pass1.txt").write_bytes("deux personnes se croisent à gauche".encode("latin-1"))


def latin_individual(raw: Path) -> None:
    (raw / "annots_individual/person2/pass1.txt").write_bytes(b"caf\xe9")


def undescribed(raw: Path) -> None:
    (raw / "annots/pass1.txt").unlink()


def empty_text(raw: Path) -> None:
    save(raw / "annots/pass1.txt", "\n\n")


def pickled(raw: Path) -> None:
    np.save(raw / "motions_processed/person1/pass1.npy", np.array({"a": 1}, dtype=object), allow_pickle=True)


def cut_short(raw: Path) -> None:
    path = raw / "motions_processed/person1/pass1.npy"
    path.write_bytes(path.read_bytes()[:5000])


@pytest.mark.parametrize(("damage", "said"), [
    (one_person, "person2/pass1.npy is missing"), (shorter, "person1 has 34 frames, person2 20"), (narrow, r"262.*expected"),
    (far_away, "pass1.npy: a joint is inf m from the origin"), (not_a_number, r"NaN or infinity at \[3, 7\]"),
    (latin, "annots/pass1.txt, line 1: not UTF-8"),
    (latin_individual, "person2/pass1.txt, line 1: not UTF-8"), (undescribed, "annots/pass1.txt is missing"),
    (empty_text, "no sentence"), (pickled, "pickled"), (cut_short, "cut short"),
])  # fmt: skip
def test_a_damaged_clip_costs_itself_and_is_named(tmp_path, damage, said):
    raw = write_interhuman(tmp_path / "raw")
    damage(raw)
    accounts = prepare(PreparationSettings("interhuman", raw, tmp_path / "out"))
    assert set(Corpus.open(tmp_path / "out").names) == {f"{kind}{i}" for kind in ("hello", "pass") for i in range(4)} - {"pass1"}
    with pytest.raises(AssertionError, match=said):
        raise AssertionError(accounts.problem())
    assert "\n" not in accounts.problem() and "pass1" in report(tmp_path / "out")


def test_a_clip_of_one_frame_is_too_short(tmp_path):
    raw = write_interhuman(tmp_path / "raw")
    for person in (1, 2):
        save(raw / f"motions_processed/person{person}/pass1.npy", columns(walk(1)))
    accounts = prepare(PreparationSettings("interhuman", raw, tmp_path / "out"))
    assert accounts.problem() is None and "pass1: pass1 has one frame" in report(tmp_path / "out")


def test_ids_that_are_only_listed_or_only_there_are_told(tmp_path):
    raw = write_interhuman(tmp_path / "raw", lists={"train": ["hello0", "9999"], "test": ["pass0"]})
    accounts = prepare(PreparationSettings("interhuman", raw, tmp_path / "out"))
    assert Corpus.open(tmp_path / "out").names == ["hello0", "pass0"]
    assert "person1/9999.npy is missing, though" in accounts.problem() and "pass3: in no split list" in report(tmp_path / "out")


@pytest.mark.parametrize(("part", "said"), [
    ("motions_processed/person1", "no folder person1"), ("motions_processed/person2", "person2 is missing"),
    ("annots", "annots is missing"), ("split", "no list split/train.txt"),
])  # fmt: skip
def test_a_folder_that_is_not_interhuman_says_what_is_missing(tmp_path, part, said):
    raw = write_interhuman(tmp_path / "raw")
    (raw / part).rename(raw / "elsewhere")
    with pytest.raises(FileNotFoundError, match=said):
        prepare(PreparationSettings("interhuman", raw, tmp_path / "out"))
    assert not (tmp_path / "out").exists()


def test_a_folder_of_two_people_is_of_no_other_columns(tmp_path):
    with pytest.raises(ValueError, match="is of two people"):
        prepare(PreparationSettings("interhuman", write_interhuman(tmp_path / "raw"), tmp_path / "out", features="humanml"))


def test_a_list_that_is_no_text_is_named(tmp_path):
    raw = write_interhuman(tmp_path / "raw")
    (raw / "split/test.txt").write_bytes(b"hello3\npass\xe9\n")
    with pytest.raises(FileError, match=r"split/test.txt, line 2: not UTF-8"):
        prepare(PreparationSettings("interhuman", raw, tmp_path / "out"))


def test_a_list_cannot_name_files_outside_of_the_folder(tmp_path):
    raw = write_interhuman(tmp_path / "raw", lists={"train": ["hello0", "../../../secret"], "test": ["pass0"]})
    save(tmp_path / "secret.npy", columns(walk(30)))
    prepare(PreparationSettings("interhuman", raw, tmp_path / "out"))
    assert Corpus.open(tmp_path / "out").names == ["hello0", "pass0"]


def test_the_folder_itself_is_never_written_to(tmp_path):
    raw = write_interhuman(tmp_path / "raw")
    before = sorted(path.relative_to(raw) for path in raw.rglob("*"))
    with pytest.raises(OutputError, match="give another"):
        prepare(PreparationSettings("interhuman", raw, raw))
    assert sorted(path.relative_to(raw) for path in raw.rglob("*")) == before


def test_heights_against_each_other_stay_on_a_shared_floor(tmp_path):
    raw = write_interhuman(tmp_path / "raw")
    heights = {}
    for floor in ("person", "shared"):
        joints = packed(raw, tmp_path / floor, floor=floor).joints("pass0")
        heights[floor] = joints[1, ..., 1].min() - joints[0, ..., 1].min()
    assert heights == pytest.approx({"person": 0.0, "shared": 0.2}, abs=1e-3)


# --------------------------------------------------------------------------------------------------------------- pairs of files


def pairs(raw: Path, output: Path, **settings: object) -> Corpus:
    prepare(PreparationSettings("two_person", raw, output, workers=1, **settings))
    return Corpus.open(output)


def test_two_recordings_become_one_clip_in_one_world(tmp_path):
    takes = {f"take{i}": two_walkers(60 + 3 * i) for i in range(4)}
    corpus = pairs(write_takes(tmp_path / "raw", takes), tmp_path / "out")
    assert corpus.names == ["take0", "take1", "take2", "take3"] and corpus.features == PAIR
    for name, people in takes.items():
        joints = corpus.joints(name)
        assert np.abs(apart(joints) - apart(people)[: len(joints[0])]).max() < 2e-3
        assert [caption.text for caption in corpus.captions(name, person=2)] == ["the second one"]
    assert np.load(tmp_path / "out/new_joints/take0.npy").shape == (2, 59, 22, 3)
    assert corpus.split("test") == [2] and not any("mirrored" in name for name in corpus.names)


def any_rate(folder: Path, **changes: str) -> str:
    """The shipped mapping of the made-up files, at whatever rate they say."""
    lines = (ROOT / "data_loaders/mappings/bandai_namco.toml").read_text().splitlines()
    kept = [line for line in lines if line.split(" ")[0] not in ("fps", *changes)]
    return str(save(folder / "map.toml", "\n".join([*(f"{name} = {value}" for name, value in changes.items()), *kept])))


def test_recordings_at_another_rate_keep_their_time(tmp_path):
    takes = {f"take{i}": two_walkers(61) for i in range(3)}
    corpus = pairs(write_takes(tmp_path / "raw", takes, fps=60.0), tmp_path / "out", min_seconds=0.5, mapping=any_rate(tmp_path))
    assert int(corpus.lengths[0]) == 30
    assert np.abs(apart(corpus.joints(0)) - apart(two_walkers(61))[:-1:2]).max() < 2e-3


def test_takes_are_cut_where_their_captions_begin_and_end(tmp_path):
    spoken = [{"start_s": 1.0 * i, "end_s": 1.0 * i + 1.0,
               "captions": {"interaction": [f"part {i}"], "person1": [f"first in {i}"], "person2": [f"second in {i}"]}}
              for i in range(3)]  # fmt: skip
    raw = write_takes(tmp_path / "raw", {"take": two_walkers(91)}, segments=spoken)
    corpus = pairs(raw, tmp_path / "out", min_seconds=0.5)
    assert corpus.names == ["take@w0", "take@w1", "take@w2"] and corpus.lengths.tolist() == [30, 30, 30]
    assert [caption.text for caption in corpus.captions("take@w1", person=None)] == ["part 1", "first in 1", "second in 1"]
    assert all(caption.whole for caption in corpus.captions("take@w1", person=None))
    assert np.abs(apart(corpus.joints("take@w2")) - apart(two_walkers(91))[60:90]).max() < 2e-3


def test_one_scale_serves_both(tmp_path):
    """A child and an adult: scaled each to one leg length they would be of one size, and stand elsewhere."""
    people = two_walkers(60)
    people[1] *= 0.7
    mapping = any_rate(tmp_path, scale='"leg_length"')
    corpus = pairs(write_takes(tmp_path / "raw", {"a": people}), tmp_path / "out", mapping=mapping)
    joints = corpus.joints("a")
    thigh = np.linalg.norm(joints[:, 0, 4] - joints[:, 0, 1], axis=-1)
    assert thigh[1] / thigh[0] == pytest.approx(0.7, abs=0.01)
    scale = thigh[0] / np.linalg.norm(people[0, 0, 4] - people[0, 0, 1])
    assert np.abs(apart(joints) - scale * apart(people)[:-1]).max() < 3e-3


def test_pairs_of_joints_and_of_amass_files_are_read_too(tmp_path):
    raw = tmp_path / "raw"
    said = {"captions": {"interaction": ["two"]}, "split": "train"}
    takes = {kind: {"person1": f"{kind}_1.{kind}", "person2": f"{kind}_2.{kind}", **said} for kind in ("npy", "npz")}
    upright = np.zeros((120, 156))
    upright[:, 0] = np.pi / 2
    for person, joints in enumerate(two_walkers(60), start=1):
        save(raw / f"npy_{person}.npy", joints)
        place = np.stack([np.linspace(0, 1, 120), np.full(120, 2.0 * person), np.zeros(120)], axis=1)
        write_amass(raw / f"npz_{person}.npz", poses=upright, trans=place, betas=np.zeros(10), mocap_framerate=60.0)
    save(raw / "captions.json", json.dumps({"takes": takes}))
    corpus = pairs(raw, tmp_path / "out", body_model=write_body_models(tmp_path / "body"))
    assert corpus.names == ["npy", "npz"] and corpus.lengths.tolist() == [59, 59]
    assert np.abs(apart(corpus.joints("npy")) - apart(two_walkers(60))[:-1]).max() < 1e-3
    assert apart(corpus.joints("npz")) == pytest.approx(2.0, abs=1e-3)


def test_heights_of_two_recordings_stay_on_a_shared_floor(tmp_path):
    raw = write_takes(tmp_path / "raw", {"a": two_walkers(60)})
    for floor, height in (("person", 0.0), ("shared", 0.2)):
        low = pairs(raw, tmp_path / floor, floor=floor).joints("a")[..., 1].min(axis=(1, 2))
        assert low[1] - low[0] == pytest.approx(height, abs=0.02)


def test_people_who_never_met_are_placed_and_called_synthetic(tmp_path):
    raw = tmp_path / "raw"
    write_recordings(raw)
    names = [f"dataset-2_raise-up-left-hand_normal_{take:03d}" for take in (1, 2)]
    placement = {"person2_offset_m": [0.5, 1.4], "person2_yaw_deg": 180, "person2_delay_s": 0.5}
    pair = {"person1": names[0], "person2": names[1], "placement": placement, "captions": {"interaction": ["two greet"]}}
    both = [{**pair, "splits": ["train", split]} for split in ("train", "test")]
    save(raw / "pairs.json", json.dumps({"pairs": both}))
    corpus = pairs(raw, tmp_path / "out", captions=raw / "pairs.json")
    assert len(corpus) == 2 and all(labels["synthetic"] is True for labels in corpus.labels)
    assert len(corpus.split("train")) == len(corpus.split("test")) == 1  # a pair of a test clip is a test pair
    joints = corpus.joints(0)
    second = interhuman_features.placement(torch.from_numpy(joints[1]), corpus.skeleton)
    assert second.origin.numpy() == pytest.approx([0.5, 0, 1.4], abs=1e-3) and abs(second.facing + 1) < 1e-3
    assert np.ptp(joints[1, :15], axis=0).max() < 1e-6 and np.ptp(joints[1, 15:25], axis=0).max() > 1e-2


def of_other_length(raw: Path) -> None:
    (raw / "take0_2.bvh").write_text((raw / "take3_1.bvh").read_text())


def of_other_rate(raw: Path) -> None:
    text = (raw / "take0_2.bvh").read_text()
    (raw / "take0_2.bvh").write_text(text.replace("0.0333333", "0.0166667"))


def absent(raw: Path) -> None:
    (raw / "take0_2.bvh").unlink()


def unnamed(raw: Path) -> None:
    said = json.loads((raw / "captions.json").read_text())
    del said["takes"]["take0"]["person2"]
    save(raw / "captions.json", json.dumps(said))


def twice_the_same(raw: Path) -> None:
    said = json.loads((raw / "captions.json").read_text())
    said["takes"]["take0"]["person2"] = "take0_1"
    save(raw / "captions.json", json.dumps(said))


def of_other_skeleton(raw: Path) -> None:
    text = (raw / "take0_2.bvh").read_text()
    (raw / "take0_2.bvh").write_text(text.replace("UpperLeg_L", "Flipper"))


def without_number(raw: Path) -> None:
    text = (raw / "take0_2.bvh").read_text()
    (raw / "take0_2.bvh").write_text(text[: text.rindex("MOTION")] + text[text.rindex("MOTION") :].replace("0.00000", "nan", 1))


@pytest.mark.parametrize(("damage", "said"), [
    (of_other_length, r"take0_1.bvh lasts .* take0_2.bvh lasts"), (of_other_rate, r"take0_1.bvh lasts .* take0_2.bvh lasts"),
    (absent, r"person2 names 'take0_2.bvh', which is not here"), (unnamed, "person2 names no file"),
    (of_other_skeleton, "take0_2.bvh"), (without_number, "take0_2.bvh"), (twice_the_same, "both people are 'take0_1.bvh'"),
])  # fmt: skip
def test_a_damaged_pair_costs_itself_and_is_named(tmp_path, damage, said):
    raw = write_takes(tmp_path / "raw", {f"take{i}": two_walkers(60 + 6 * i) for i in range(4)})
    damage(raw)
    accounts = prepare(PreparationSettings("two_person", raw, tmp_path / "out", workers=1, mapping=any_rate(tmp_path)))
    assert Corpus.open(tmp_path / "out").names == ["take1", "take2", "take3"]
    with pytest.raises(AssertionError, match=said):
        raise AssertionError(accounts.problem())


def test_a_pair_of_one_frame_is_too_short(tmp_path):
    raw = write_takes(tmp_path / "raw", {"a": two_walkers(60), "b": two_walkers(1)})
    prepare(PreparationSettings("two_person", raw, tmp_path / "out", workers=1))
    assert "b: 0.03 s long, a single frame" in report(tmp_path / "out")


def test_recordings_of_which_nobody_says_that_they_belong_together_are_refused(tmp_path):
    write_recordings(tmp_path / "raw")
    with pytest.raises(FileError, match="says of no two recordings"):
        prepare(PreparationSettings("two_person", tmp_path / "raw", tmp_path / "out", workers=1))
    with pytest.raises(FileError, match="SOURCE two_person"):
        prepare(PreparationSettings("bandai_namco", tmp_path / "raw", tmp_path / "out", features="interhuman", workers=1))
    assert not (tmp_path / "out").exists()


def test_a_further_run_does_what_is_left_and_other_columns_are_another_dataset(tmp_path):
    raw = write_takes(tmp_path / "raw", {f"take{i}": greeting(60 + 3 * i) for i in range(3)})
    pairs(raw, tmp_path / "out")
    stamp = (tmp_path / "out/new_joints/take0.npy").stat().st_mtime_ns
    (raw / "take1_1.bvh").write_text((raw / "take1_1.bvh").read_text() + "\n")
    pairs(raw, tmp_path / "out")
    assert (tmp_path / "out/new_joints/take0.npy").stat().st_mtime_ns == stamp
    with pytest.raises(ValueError, match="begun with other settings"):
        prepare(PreparationSettings("two_person", raw, tmp_path / "out", features="humanml", fps=30.0, workers=1))


def test_each_of_two_people_can_be_a_clip_of_one(tmp_path):
    raw = write_takes(tmp_path / "raw", {f"take{i}": greeting(60) for i in range(3)})
    corpus = pairs(raw, tmp_path / "out", features="interhuman_person", mirror=False)
    assert len(corpus) == 6 and corpus.features.kind == "interhuman_person" and corpus[0].shape[1] == 262
    assert [caption.text for caption in corpus.captions("take0_2")] == ["the second one"]


def test_joints_of_two_people_in_a_file_are_read_as_the_corpus_reads_them(tmp_path):
    raw = write_takes(tmp_path / "raw", {"a": greeting(60)})
    corpus = pairs(raw, tmp_path / "out")
    rows = read_features(tmp_path / "out/new_joints/a.npy", corpus.features, Reading())
    assert np.abs(rows[:, :66] - corpus[0][:-1, :66]).max() < 1e-4
    with pytest.raises(FileError, match="2 persons, this model reads one"):
        read_features(tmp_path / "out/new_joints/a.npy", Features(), Reading())
    with pytest.raises(FileError, match="1 persons, this model reads 2"):
        read_features(save(tmp_path / "one.npy", walk(30)), corpus.features, Reading())
    with pytest.raises(FileError, match="holds one person"):
        read_features(raw / "a_1.bvh", corpus.features, Reading())


def test_datasets_of_two_people_merge_with_the_texts_of_each(tmp_path):
    one, other = meeting_corpus(tmp_path / "one", 4), meeting_corpus(tmp_path / "other", 6)
    for held_out in (folder / f"{split}.txt" for folder in (one, other) for split in ("val", "test")):
        held_out.unlink()
    merge([str(one), str(other)], tmp_path / "both")
    corpus = Corpus.open(tmp_path / "both")
    assert len(corpus) == 10 and corpus.mean.shape == (524,)
    assert corpus.captions("one__hello01", person=1)[0].text == "a person raises the left hand"
    assert (tmp_path / "both/texts/one__hello01.txt").read_text().splitlines()[-1].endswith("#2")


def test_the_preview_shows_both_people(tmp_path):
    meeting_corpus(tmp_path / "pairs", 2)
    command = [sys.executable, "-m", "visualize.preview", "--dataset", str(tmp_path / "pairs"), "--num_clips", "1"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "pairs/preview/pass00.mp4").stat().st_size > 1000
    assert Corpus.open(tmp_path / "pairs").motion("pass00").joints.shape[0] == 2


# ------------------------------------------------------------------------------------------------------------------- one person


def test_any_recordings_of_one_person_become_262_columns(tmp_path):
    write_recordings(tmp_path / "raw")
    prepare(PreparationSettings("bandai_namco", tmp_path / "raw", tmp_path / "out", features="interhuman_person", workers=1))
    corpus = Corpus.open(tmp_path / "out")
    assert len(corpus) == 16 and corpus.features.kind == "interhuman_person" and corpus.mean.shape == (262,)
    assert corpus.published is None
    with pytest.raises(FeaturesMismatch, match="kind"):
        corpus.features.require(Features(heading="continuous"), "one", "other")


@pytest.mark.parametrize("own_joints", [False, True])
def test_the_official_humanml3d_folder_becomes_262_columns(tmp_path, own_joints):
    raw, joints = tmp_path / "HumanML3D", torch.tensor(walk(60), dtype=torch.float32)
    for name in ("000000", "000001"):
        rows = features_from_joints(joints, load_skeleton("humanml"))
        save(raw / f"new_joint_vecs/{name}.npy", rows.numpy())
        save(raw / f"texts/{name}.txt", "a person walks#a/DET person/NOUN walk/VERB#0.0#0.0\n")
        if own_joints:
            save(raw / f"joints/{name}.npy", joints.numpy() + np.float32([3, 0.5, 1]))
    told = {"Mean.npy": np.zeros(263), "Std.npy": np.ones(263), "train.txt": "000000", "test.txt": "000001"}
    for name, content in told.items():
        save(raw / name, content)
    with pytest.raises(OutputError, match="another --output"):
        prepare(PreparationSettings("humanml3d", raw, raw, features="interhuman_person"))
    prepare(PreparationSettings("humanml3d", raw, tmp_path / "out", features="interhuman_person"))
    corpus = Corpus.open(tmp_path / "out")
    assert corpus[0].shape == (58, 262) and corpus.published is None
    assert np.array_equal(corpus[0][:, 132:258], rows.numpy()[:58, 67:193])
    assert np.array_equal(corpus.mean, Statistics.published("interhuman_hml3d", corpus.features).mean)
    assert np.linalg.norm(corpus.joints(0)[-1, 0]) == pytest.approx(np.linalg.norm(walk(60)[57, 0] - walk(60)[0, 0]), abs=0.9)


# ---------------------------------------------------------------------------------------------------------------- the real thing


@pytest.mark.slow
def test_salsa_dancers_keep_their_distance_in_metres(tmp_path):
    """Both scaled by 1.30, read at 60 frames a second: distances that captions.json measured come out."""
    folder = shared("data", "two_person")
    prepare(PreparationSettings("two_person", folder, tmp_path / "salsa", workers=2))
    corpus = Corpus.open(tmp_path / "salsa")
    assert len(corpus) == 47 and [len(corpus.split(split)) for split in ("train", "val", "test")] == [37, 3, 7]
    takes = json.loads((folder / "captions.json").read_text())["takes"]
    for name, take in takes.items():
        for k, segment in enumerate(take["segments"]):
            clip = f"{name}@w{k}"
            distance = apart(corpus.joints(clip))
            assert distance.min() == pytest.approx(segment["facts"]["min_distance_m"], abs=0.06), clip
            said = [caption.text for caption in corpus.captions(clip, person=2)]
            assert said == segment["captions"]["person2"]
    first = [corpus.joints(clip)[:, 0] for clip in range(5)]
    legs = [np.linalg.norm(joints[:, [4, 7]] - joints[:, [1, 4]], axis=-1).sum(1) for joints in first]
    assert np.ptp(legs) < 0.01 and np.mean(legs) == pytest.approx(0.83, abs=0.02)
