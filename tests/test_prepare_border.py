"""Preparing a dataset loses nothing: not a recording, and none is lost by another that is bad."""

import io
import json
import os
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import numpy as np
import pytest

from data_loaders.corpus import Corpus
from data_loaders.preparation import prepare
from data_loaders.prepare_report import Record
from data_loaders.read_recordings import Loaded, PreparationSettings, read_all, read_recording
from data_loaders.sources import SourceClip
from data_loaders.text import Caption
from protos.outputs import OutputError
from tests.recordings import contents, npy, options, record, report, train_on
from tests.synthetic import raise_hand, walk

ROOT = Path(__file__).resolve().parents[1]


# ------------------------------------------------------------------------------------------------- what a recording is


def test_recordings_of_one_name_in_several_folders_all_come_out(tmp_path):
    raw, out = tmp_path / "raw", tmp_path / "out"
    for place in ("KIT/3", "KIT/7", "KIT/9"):
        record(raw, f"{place}/walking01", f"a person walks in {place}")
    record(raw, "KIT/3/other")
    train_on(raw, "walking01", "other")
    prepare(options(raw, out, mirror=False))
    corpus = Corpus.open(out)
    assert corpus.names == ["KIT_3_walking01", "KIT_7_walking01", "KIT_9_walking01", "other"]
    assert corpus.captions("KIT_7_walking01")[0].text == "a person walks in KIT/7"
    assert corpus.labels_of("KIT_7_walking01")["file"] == "KIT/7/walking01.npy" and len(corpus.split("train")) == 4


def test_names_with_spaces_letters_of_any_language_and_at_signs_are_reachable(tmp_path):
    raw, out = tmp_path / "raw", tmp_path / "out"
    names = ["Walking (1)", "größe 歩く", "a_w0", "a", "x@mirrored", "x", "WALK", "walk/walk", "M01", "01"]
    for name in names:
        record(raw, name)
    train_on(raw, *names)
    prepare(options(raw, out))
    corpus = Corpus.open(out)
    assert len(corpus) == 2 * len(names) and len(set(map(str.casefold, corpus.names))) == len(corpus)
    assert corpus.split("train") == list(range(len(corpus)))
    assert sum(not labels["mirrored"] for labels in corpus.labels) == len(names)


def test_a_second_recording_of_a_name_gets_its_own_and_the_first_one_its_folders(raw, tmp_path):
    out = tmp_path / "out"
    record(raw, "a/walk")
    train_on(raw, "one", "two", "walk")
    prepare(options(raw, out, mirror=False))
    assert Corpus.open(out).names == ["one", "two", "walk"]
    for name in ("b/walk", "b/one"):
        record(raw, name)
    prepare(options(raw, out, mirror=False))
    assert Corpus.open(out).names == ["a_walk", "b_one", "b_walk", "one", "two"]
    assert {path.stem for path in (out / "new_joints").iterdir()} == set(Corpus.open(out).names)


def test_the_captions_of_a_recording_are_found_by_any_of_its_names(tmp_path):
    raw, out = tmp_path / "raw", tmp_path / "out"
    names = {"a/walk": "a/walk.npy", "b/walk": "b/walk", "jump": "jump", "sit": "sit.npy"}
    for name in names:
        record(raw, name, None)
    (raw / "captions.json").write_text(json.dumps({key: {"captions": name, "split": "train"} for name, key in names.items()}))
    prepare(options(raw, out, mirror=False))
    corpus = Corpus.open(out)
    assert {corpus.labels_of(n)["file"]: corpus.captions(n)[0].text for n in corpus.names} == {
        f"{name}.npy": name for name in names}  # fmt: skip


# ------------------------------------------------------------------------------------------------------------- archives


def test_archives_are_accounted_for_member_by_member(tmp_path):
    raw, out = tmp_path / "raw", tmp_path / "out"
    record(raw, "one")
    with zipfile.ZipFile(raw / "a.zip", "w") as archive:
        archive.writestr("pack/one.npy", (raw / "one.npy").read_bytes())  # the same, unpacked beside it
        archive.writestr("pack/two.npy", npy(walk(40)))
        archive.writestr("pack/readme.md", "x")
    with tarfile.open(raw / "b.tar.gz", "w:gz") as archive:
        for name, data in (("two.npy", npy(raise_hand(40))), ("../../evil.npy", npy(walk(50)))):
            info = tarfile.TarInfo(name)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    (raw / "captions.json").write_text(json.dumps({"one": "a", "a.zip/pack/two": "b", "b.tar.gz/two": "c", "evil": "d"}))
    train_on(raw, "one", "two", "evil")
    accounts = prepare(options(raw, out, mirror=False))
    corpus = Corpus.open(out)
    assert [corpus.captions(name)[0].text for name in corpus.names] == ["b", "c", "d", "a"]
    assert accounts.problem() is None and not (tmp_path / "evil.npy").exists()
    lines = report(out)
    assert lines[3] == ("11 files found: 4 recordings, 1 duplicates in archives, 2 archives, 2 files of captions and splits, "
                        "2 others")  # fmt: skip
    assert any(line.startswith("a.zip/pack/one.npy: the same as one.npy") for line in lines)
    assert "a.zip/pack/readme.md" in lines


def test_a_damaged_archive_costs_what_is_behind_the_damage(raw, tmp_path):
    out = tmp_path / "out"
    with tarfile.open(raw / "pack.tar", "w") as archive:
        for name in ("early", "late"):
            data = npy(walk(400 if name == "late" else 40))
            info = tarfile.TarInfo(f"{name}.npy")
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    whole = (raw / "pack.tar").read_bytes()
    (raw / "pack.tar").write_bytes(whole[: len(whole) // 2])
    (raw / "captions.json").write_text(json.dumps({"early": "a person walks"}))
    accounts = prepare(options(raw, out, mirror=False))
    assert {"early", "one", "two"} <= set(Corpus.open(out).names)
    assert "pack.tar" in accounts.problem()
    assert any(line.startswith("pack.tar: unreadable") for line in report(out))


# --------------------------------------------------------------------------------------------------------- one bad file


def test_one_bad_file_is_left_out_named_counted_and_told_by_the_exit_code(raw, tmp_path):
    out = tmp_path / "out"
    (raw / "torn.npy").write_bytes((raw / "one.npy").read_bytes()[:300])
    (raw / "torn.txt").write_text("a person falls\n")
    (raw / "page.npy").write_text("<html>login</html>")
    (raw / "page.txt").write_text("a person falls\n")
    (raw / "gone.npy").symlink_to(tmp_path / "nowhere")
    os.mkfifo(raw / "pipe.npy")
    record(raw, "latin")
    (raw / "latin.txt").write_bytes("a café\n".encode("cp1252"))
    (raw / "captions.json").write_text(json.dumps({"clips": {"two": {"captions": [5]}}}))
    command = [sys.executable, "-m", "data_loaders.prepare", "joints", "--input", str(raw), "--output", str(out)]
    done = subprocess.run([*command, "--workers", "2"], cwd=ROOT, capture_output=True, text=True, timeout=100)
    assert done.returncode == 1 and "Traceback" not in done.stderr
    assert done.stderr.splitlines()[-1].startswith("error: 6 damaged file(s) left out, all else is prepared")
    assert [name for name in Corpus.open(out).names if "@" not in name] == ["one"]
    lines = report(out)
    assert lines[0] == "7 recordings, 2 clips written, 6 recordings dropped"
    for name in ("torn", "page", "gone", "pipe", "latin", "two"):
        assert sum(line.startswith((f"{name}:", f"{name} (")) for line in lines) == 1, name


def test_the_sums_of_the_report_add_up(tmp_path):
    raw, out = tmp_path / "raw", tmp_path / "out"
    record(raw, "good")
    record(raw, "short", frames=5)
    record(raw, "mute", None)
    (raw / "torn.npy").write_bytes(b"torn")
    (raw / "torn.txt").write_text("a\n")
    (raw / "notes.md").write_text("x")
    train_on(raw, "good", "absent")
    prepare(options(raw, out))
    lines = report(out)
    assert lines[:4] == [
        "4 recordings, 2 clips written, 3 recordings dropped",
        "  written: 2 = 1 as recorded + 1 mirrored, of 1 recordings",
        "  dropped: 3 = 1 damaged + 1 too short + 1 without caption",
        "9 files found: 4 recordings, 0 duplicates in archives, 0 archives, 4 files of captions and splits, 1 others",
    ]
    assert len([path for path in raw.rglob("*") if path.is_file()]) == 9
    assert lines[-1] == "notes.md" and any("1 of 2 entries name no recording that is here ('absent')" in line for line in lines)


def test_a_process_that_dies_costs_the_recording_it_read(raw, tmp_path):
    """The system ends a process that takes too much memory; nothing else is lost with it."""
    clips = [SourceClip(name, raw / f"{name}.npy", "joints", captions=(Caption("x"),), file=name) for name in ("one", "two")]
    deadly = SourceClip("deadly", Deadly(raw / "one.npy"), "joints", captions=(Caption("x"),), file="deadly.npy")
    found = list(read_all([clips[0], deadly, clips[1]], options(raw, tmp_path / "out", workers=2)))
    assert [loaded.joints is not None for loaded in found] == [True, False, True]
    lost = found[1].record
    assert lost.left_out == "damaged" and lost.reason.startswith("deadly.npy: the process that read it was ended")


class Deadly(type(Path())):
    """A path whose reader dies."""

    def __reduce__(self):
        return _die, ()


def _die():
    os._exit(9)


def test_a_results_file_among_the_recordings_is_named_for_what_it_is(raw, tmp_path):
    np.save(raw / "motions.npy", np.array({"motion": np.zeros((1, 22, 3, 8))}, dtype=object))
    (raw / "motions.txt").write_text("a person walks\n")
    assert "if it is the results file of a sampling run, take joints/prompt" in prepare(options(raw, tmp_path / "out")).problem()


def test_a_recording_that_memory_does_not_hold_is_named(raw, tmp_path, monkeypatch):
    def too_large(*given, **more):
        raise MemoryError

    monkeypatch.setattr("data_loaders.mocap.read_joints", too_large)
    loaded = read_recording(SourceClip("one", raw / "one.npy", "joints", file="one.npy"), options(raw, tmp_path / "out"))
    assert loaded == Loaded(Record("one.npy", "one", left_out="damaged", reason="one.npy: more than fits in memory"))


def test_a_clip_that_features_cannot_be_taken_of_costs_itself(raw, tmp_path, monkeypatch):
    import data_loaders.humanml_features as module

    take = module.features_from_clips

    def refuse_long(clips, *given, **more):
        if any(len(clip) > 50 for clip in clips):
            raise ValueError("too long for this test")
        return take(clips, *given, **more)

    monkeypatch.setattr(module, "features_from_clips", refuse_long)
    record(raw, "long", frames=60)
    accounts = prepare(options(raw, tmp_path / "out", mirror=False))
    assert set(Corpus.open(tmp_path / "out").names) == {"one", "two"} and "too long" in accounts.problem()


# --------------------------------------------------------------------------------------------------------------- numbers


@pytest.mark.parametrize("flags", [["--max_frames", "0"], ["--preview", "-1"], ["--min_seconds", "-1"], ["--min_seconds", "nan"],
                                   ["--fps", "0"], ["--fps", "inf"], ["--workers", "-1"], ["--source_fps", "1e9"]])  # fmt: skip
def test_numbers_out_of_range_are_one_line(raw, tmp_path, flags, capsys):
    from protos.options import parse

    with pytest.raises(SystemExit) as stopped:
        parse(PreparationSettings, ["joints", "--input", str(raw), "--output", str(tmp_path / "out"), *flags])
    assert stopped.value.code == 2 and f"{flags[0]} must be" in capsys.readouterr().err


def test_a_recording_of_one_frame_is_too_short_whatever_is_asked(raw, tmp_path):
    record(raw, "still", frames=1)
    assert prepare(options(raw, tmp_path / "out", min_seconds=0.0)).problem() is None
    assert any(line.startswith("still: 0.05 s long, a single frame") for line in report(tmp_path / "out"))


def test_a_preview_replaces_its_own_pictures_and_nobody_elses(raw, tmp_path):
    from visualize.preview import PreviewOptions, run

    out = tmp_path / "out"
    prepare(options(raw, out, mirror=False))
    (out / "preview").mkdir()
    (out / "preview" / "holiday.mp4").write_bytes(b"mine")
    for _ in range(2):
        assert [path.name for path in run(PreviewOptions(str(out), 1))] == ["one.mp4"]
    assert (out / "preview" / "holiday.mp4").read_bytes() == b"mine"
    (tmp_path / "videos").mkdir()
    (tmp_path / "videos" / "one.mp4").write_bytes(b"mine")
    with pytest.raises(OutputError, match=r"one\.mp4 is there already.*--output_dir"):
        run(PreviewOptions(str(out), 1, output_dir=tmp_path / "videos"))
    assert contents(tmp_path / "videos") == {"one.mp4": b"mine"}
