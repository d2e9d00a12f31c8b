"""Captions of recordings that are prepared: none is lost, and each tells what is done in its own frames."""

import json
import re

import pytest

from data_loaders.clips import window_captions
from data_loaders.corpus import Corpus
from data_loaders.preparation import prepare
from data_loaders.text import Caption
from protos.reading import FileError
from tests.recordings import options, record, report, train_on


@pytest.mark.parametrize(
    ("said", "texts"),
    [
        ("jump", ["jump"]),
        (["jump", "hop"], ["jump", "hop"]),
        ({"captions": "jump"}, ["jump"]),
        ({"caption": "jump"}, ["jump"]),
        ({"captions": {"text": "jump", "start": 0, "end": 1}}, ["jump"]),
        ({"captions": ["", "jump", "  "]}, ["jump"]),
        ({"captions": [{"text": "jump", "start": 0.5}, {"caption": "hop", "start": 1, "end": 1}]}, ["jump"]),
        ({"captions": ["jump#0.5#1.5"]}, ["jump"]),
    ],
)
def test_every_form_that_a_person_may_write_is_understood(tmp_path, said, texts):
    raw, out = tmp_path / "raw", tmp_path / "out"
    record(raw, "one", None)
    for content in ({"one": said}, {"clips": {"one": said}, "_meta": {"by": "me"}}):
        (raw / "captions.json").write_bytes(b"\xef\xbb\xbf" + json.dumps(content).encode())
        train_on(raw, "one")
        prepare(options(raw, out, mirror=False))
        assert [caption.text for caption in Corpus.open(out).captions("one")] == texts


@pytest.mark.parametrize(
    ("said", "message"),
    [
        (5, "expected object, got int"),
        ([["jump"]], r"captions\[0\]: expected str | object, got array"),
        ({"captions": [1]}, r"captions\[0\]"),
        ({"captions": "jump", "split": "training"}, "split: .*expected train, val or test"),
        ({"captions": "jump", "first_frame": "abc"}, "first_frame: expected int"),
        ({"captions": "jump", "first_frame": -1}, "first_frame"),
        ({"captions": "jump", "labels": ["a"]}, "labels: expected object"),
        ({"captions": [{"text": "jump", "start": "now"}]}, r"captions\[0\].start: expected float"),
        (None, "names it, and gives none"),
        ({"captions": ["#walk/VERB#0#0"]}, "an empty caption"),
    ],
)
def test_other_forms_cost_that_recording_and_say_what_was_expected(raw, tmp_path, said, message):
    (raw / "one.txt").unlink()
    (raw / "captions.json").write_text(json.dumps({"one": said}))
    prepare(options(raw, tmp_path / "out", mirror=False))
    assert Corpus.open(tmp_path / "out").names == ["two"]
    line = next(line for line in report(tmp_path / "out") if line.startswith("one: "))
    assert (re.search(message, line) and "captions.json, clip 'one'" in line) or "captions.json names it" in line


@pytest.mark.parametrize("content", ['["one"]', "5", '{"clips": ["one"]}', "{", "null"])
def test_a_caption_file_of_no_such_form_is_refused_before_any_work(raw, tmp_path, content):
    (raw / "captions.json").write_text(content)
    with pytest.raises(FileError, match=r"captions\.json: not "):
        prepare(options(raw, tmp_path / "out"))
    assert not (tmp_path / "out").exists()


def test_a_caption_file_that_is_asked_for_must_be_there(raw, tmp_path):
    with pytest.raises(FileNotFoundError):
        prepare(options(raw, tmp_path / "out", captions=tmp_path / "captions.jsn"))


def test_windows_of_a_long_recording_have_the_captions_of_their_time(tmp_path):
    raw, out = tmp_path / "raw", tmp_path / "out"
    record(raw, "long", "walks#0#4\nturns#4.5#5.5\nstops#6#20\nthe whole of it\nnever#50#60\nbackwards#3#2", frames=201)
    train_on(raw, "long")
    prepare(options(raw, out, mirror=False, max_frames=100))
    corpus = Corpus.open(out)
    said = {name: [(c.text, c.start, c.end) for c in corpus.captions(name)] for name in corpus.names}
    assert said == {
        "long@w0": [("walks", 0.0, 4.0), ("turns", 4.5, 5.0), ("the whole of it", 0.0, 0.0)],
        "long@w1": [("turns", 0.0, 0.5), ("stops", 1.0, 5.0), ("the whole of it", 0.0, 0.0)],
    }
    notes = "\n".join(report(out))
    assert "'never' left out" in notes and "from 3 to 2 s is no span of time" in notes and "'stops' cut" in notes


def test_a_window_that_no_caption_describes_is_left_out_and_said(tmp_path):
    raw, out = tmp_path / "raw", tmp_path / "out"
    record(raw, "long", "walks#0#4", frames=201)
    train_on(raw, "long")
    prepare(options(raw, out, mirror=False, max_frames=100))
    assert Corpus.open(out).names == ["long@w0"]
    assert any("long@w1 left out: no caption of 5 to 10 s" in line for line in report(out))


def test_a_caption_of_all_of_a_window_has_no_times_there():
    found = window_captions([Caption("walks", (), 2.0, 9.0)], 3.0, 6.0, 12.0)
    assert found == [Caption("walks")]
    assert window_captions([Caption("walks", (), 0.0, 4.0)], 0.0, 4.0, 4.0) == [Caption("walks", (), 0.0, 4.0)]


def test_mirrored_captions_keep_times_and_tokens_of_their_own(tmp_path):
    raw, out = tmp_path / "raw", tmp_path / "out"
    record(raw, "one", "waves left#wave/VERB left/ADV#0.5#1.5")
    train_on(raw, "one")
    prepare(options(raw, out))
    assert Corpus.open(out).captions("one@mirrored") == [Caption("waves right", ("wave/VERB", "right/ADV"), 0.5, 1.5)]


def test_a_name_in_two_split_lists_is_said(raw, tmp_path):
    (raw / "test.txt").write_text("two\n")
    prepare(options(raw, tmp_path / "out"))
    assert any("1 names are in train.txt too" in line for line in report(tmp_path / "out"))
