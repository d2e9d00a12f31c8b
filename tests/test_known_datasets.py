"""Datasets by name, each described by a data file."""

import json

import pytest

from data_loaders.corpus import Corpus
from data_loaders.known_datasets import known_datasets, read_description, resolve_dataset
from data_loaders.preparation import prepare
from data_loaders.read_recordings import PreparationSettings
from protos.reading import FileError
from tests.synthetic import bvh_text, raise_hand, walk

MINE = """
[recordings]
files = "bvh"
mapping = "bandai_namco"
file_name = '(?P<who>[a-z]+)-(?P<action>[a-z]+)(?P<number>[0-9]+)'
numbers = {number = "nr"}
labels = {action = "what"}
neighbours = {labels = ["who"], number = "number", count = 10}
captions = ["a person {action}"]

[recordings.words.action]
walk = "walks ahead"
raise = "raises a hand"
"""


def test_a_dataset_whose_file_names_say_what_they_are_is_a_data_file(tmp_path):
    raw = tmp_path / "raw"
    raw.mkdir()
    for name, joints in (("ann-walk3", walk(75, 0.9, 30.0)), ("ann-raise4", raise_hand(66)), ("ann-fly5", walk(66, 0.9, 30.0))):
        (raw / f"{name}.bvh").write_text(bvh_text(joints))
    (raw / "train.txt").write_text("ann-walk3\nann-raise4\n")
    (raw / "captions.json").write_text(json.dumps({"ann-raise4": {"captions": "up it goes", "what": "raise-left"}}))
    (tmp_path / "mine.toml").write_text(MINE)
    prepare(PreparationSettings(str(tmp_path / "mine.toml"), raw, tmp_path / "out", workers=1, mirror=False))
    corpus = Corpus.open(tmp_path / "out")
    texts = {name: corpus.captions(name)[0].text for name in corpus.names}
    assert texts == {"ann-raise4": "up it goes", "ann-walk3": "a person walks ahead"}
    facts = corpus.labels_of("ann-raise4")
    assert (facts["who"], facts["action"], facts["number"]) == ("ann", "raise-left", 4)
    assert "ann-fly5: no caption" in (tmp_path / "out" / "report.txt").read_text()


def test_what_is_particular_to_a_pack_is_said_by_its_description(tmp_path):
    """Captions under a key of their own, several skeletons, a wrong frame rate, a T-pose before each motion."""
    raw = tmp_path / "raw"
    raw.mkdir()
    (raw / "one.bvh").write_text(bvh_text(walk(130, 0.9, 60.0), fps=120.0))
    (raw / "two.bvh").write_text(bvh_text(walk(130, 0.9, 60.0), fps=120.0))
    (raw / "train.txt").write_text("one\ntwo\n")
    said = {"one": {"written": ["a person walks"], "layout": "bn"}, "two": {"written": "walks", "layout": "other"}}
    (raw / "captions.json").write_text(json.dumps(said))
    (tmp_path / "pack.toml").write_text("[recordings]\nfiles = 'bvh'\ncaption_keys = ['written']\nlabels = {layout = 'layout'}\n"
                                        "mapping_label = 'layout'\nmappings = {bn = 'bandai_namco', other = 'xsens_mvn'}\n"
                                        "source_fps = 60\nfirst_frame = 10\n")  # fmt: skip
    done = prepare(PreparationSettings(str(tmp_path / "pack.toml"), raw, tmp_path / "out", workers=1, mirror=False))
    corpus = Corpus.open(tmp_path / "out")
    assert corpus.names == ["one"] and corpus.captions("one")[0].text == "a person walks"
    assert corpus.lengths.tolist() == [39]  # 120 frames at 60 a second
    assert "mapping xsens_mvn" in done.problem()
    again = PreparationSettings(str(tmp_path / "pack.toml"), raw, tmp_path / "all", "bandai_namco", workers=1, mirror=False)
    assert prepare(again).problem() is None and Corpus.open(tmp_path / "all").names == ["one", "two"]


@pytest.mark.parametrize(("line", "problem"), [
    ("file_name = '('", "file_name"), ("captions = ['a {thing}']", "'thing'"), ("captions = ['{']", "captions"),
    ("colour = 'red'", "colour"), ("mappings = 5", "mappings"),
])  # fmt: skip
def test_what_is_wrong_with_a_description_is_named(tmp_path, line, problem):
    path = tmp_path / "mine.toml"
    path.write_text(f"[recordings]\nfiles = 'bvh'\n{line}\n")
    with pytest.raises(FileError, match=rf"mine.toml.*{problem}"):
        read_description(path)


def test_a_name_stands_for_one_dataset(tmp_path, monkeypatch):
    names = [name for each in known_datasets().values() for name in each.names]
    assert len(set(names)) == len(names) and all(name == name.lower() for name in names)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "dataset" / "HumanML3D").mkdir(parents=True)
    assert resolve_dataset("T2M") == resolve_dataset("humanml") == resolve_dataset("HumanML3D")
    with pytest.raises(FileNotFoundError, match="kit, kit-ml"):
        resolve_dataset("nothing")


def test_a_source_that_nobody_knows_is_refused(tmp_path):
    with pytest.raises(ValueError, match="bvh, amass, joints, bandai_namco, cmu_more, cmu_salsa, cmu_sample, humanml3d, "
                                         "interhuman, kit, two_person"):
        prepare(PreparationSettings("mixamo", tmp_path, tmp_path / "out"))


def test_takes_of_several_persons_become_clips_of_one_each(tmp_path):
    """Each dancer gets what is said about it, in the segments of the take, and the split of the take."""
    raw = tmp_path / "raw"
    raw.mkdir()
    for name in ("60_01", "61_01"):
        (raw / f"{name}.bvh").write_text(bvh_text(walk(150), fps=30.0))
    take = {"person1": "60_01.bvh", "person2": "61_01.bvh", "split": "val",
            "captions": {"person1": ["leads"], "person2": ["follows"]},
            "segments": [{"start_s": 0.0, "end_s": 2.0, "captions": {"interaction": ["a couple"], "person1": ["steps left"]}}]}
    (raw / "captions.json").write_text(json.dumps({"_meta": {}, "takes": {"salsa": take}}))
    (raw / "train.txt").write_text("nobody\n")
    (tmp_path / "pack.toml").write_text(
        "[recordings]\nfiles = 'bvh'\nmapping = 'bandai_namco'\npersons = ['person1', 'person2']\n"
        "file_name = '(?P<recording>.*)'\n[recordings.contents]\n'' = 'salsa'\n")
    with pytest.raises(ValueError, match="train split"):
        prepare(PreparationSettings(str(tmp_path / "pack.toml"), raw, tmp_path / "out", workers=1, mirror=False))
    take["split"] = "train"
    (raw / "captions.json").write_text(json.dumps({"takes": {"salsa": take}}))
    prepare(PreparationSettings(str(tmp_path / "pack.toml"), raw, tmp_path / "out", workers=1, mirror=False))
    corpus = Corpus.open(tmp_path / "out")
    (led,), (followed,) = corpus.captions("60_01"), corpus.captions("61_01")
    assert (led.text, led.start, led.end) == ("steps left", 0.0, 2.0) and (followed.text, followed.whole) == ("follows", True)
    assert corpus.labels_of("61_01")["recording"] == "61_01" and corpus.labels_of("61_01")["content"] == "salsa"
    assert corpus.listed("train") == ["60_01", "61_01"]


@pytest.mark.parametrize("damage", [{"person1": 5}, {"segments": [{"start_s": "x"}]}, {"captions": ["a"]}])
def test_a_damaged_take_is_named(tmp_path, damage):
    raw = tmp_path / "raw"
    raw.mkdir()
    (raw / "60_01.bvh").write_text(bvh_text(walk(150), fps=30.0))
    (raw / "captions.json").write_text(json.dumps({"takes": {"salsa": {"person1": "60_01.bvh", "captions": {}, **damage}}}))
    (tmp_path / "pack.toml").write_text("[recordings]\nfiles = 'bvh'\nmapping = 'bandai_namco'\npersons = ['person1']\n")
    with pytest.raises(FileError, match="take 'salsa'"):
        prepare(PreparationSettings(str(tmp_path / "pack.toml"), raw, tmp_path / "out", workers=1))


@pytest.mark.parametrize(("said", "content"), [
    ("Run Duck Underneath", "duck"), ("run/jog, sudden stop", "run-stop"), ("run/jog, veer left", "run-turn"), ("walk", "walk"),
    ("Run Jump Over", "leap"), ("playground - climb, hang", "climb"), ("jump and spin kick", "acrobatics"),
    ("soccer - kick ball", "kick-ball"), ("jump, balance", "jump"),
    ("dance - cartwheel-like start, pirouettes", "dance"), ("Michael Jackson styled motions - start walk stop", "dance"),
])  # fmt: skip
def test_what_takes_of_cmu_show_is_told_by_its_index(said, content):
    for name in ("cmu_more", "cmu_sample"):
        assert known_datasets()[name].recordings.content_of(said) == content
