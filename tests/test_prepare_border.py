"""Preparing a dataset loses nothing: not a recording, not a caption, not a file of the user's, not an earlier dataset."""

import io
import json
import os
import re
import shutil
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import numpy as np
import pytest

from data_loaders.clips import window_captions
from data_loaders.corpus import Corpus
from data_loaders.preparation import prepare
from data_loaders.prepare_report import Record
from data_loaders.read_recordings import Loaded, PreparationSettings, read_all, read_recording
from data_loaders.sources import SourceClip
from data_loaders.text import Caption
from protos.outputs import OutputError
from protos.reading import FileError
from tests.synthetic import raise_hand, walk

ROOT = Path(__file__).resolve().parents[1]


def options(source: Path, output: Path, **changes) -> PreparationSettings:
    return PreparationSettings(changes.pop("kind", "joints"), source, output, workers=changes.pop("workers", 1), **changes)


def record(folder: Path, name: str, text: str | None = "a person walks", frames: int = 40, speed: float = 1.0) -> None:
    """A recording with a caption beside it."""
    path = folder / f"{name}.npy"
    path.parent.mkdir(parents=True, exist_ok=True)
    np.save(path, walk(frames, speed).astype(np.float32))
    if text is not None:
        path.with_suffix(".txt").write_text(text + "\n", encoding="utf-8")


def npy(joints: np.ndarray) -> bytes:
    stream = io.BytesIO()
    np.save(stream, joints.astype(np.float32))
    return stream.getvalue()


def train_on(folder: Path, *names: str) -> None:
    (folder / "train.txt").write_text("".join(f"{name}\n" for name in names))


def report(folder: Path) -> list[str]:
    return (folder / "report.txt").read_text(encoding="utf-8").splitlines()


def contents(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.fixture
def raw(tmp_path) -> Path:
    """Two recordings in the train split."""
    folder = tmp_path / "raw"
    record(folder, "one")
    record(folder, "two", speed=0.5)
    train_on(folder, "one", "two")
    return folder


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


# ------------------------------------------------------------------------------------------------------ the next run


def test_a_second_run_does_again_what_changed_and_only_that(raw, tmp_path, monkeypatch):
    import data_loaders.mocap as module

    out, read, calls = tmp_path / "out", module.read_joints, []
    monkeypatch.setattr(module, "read_joints", lambda clip, *a, **k: calls.append(clip.name) or read(clip, *a, **k))

    def again(**changes) -> list[str]:
        calls.clear()
        prepare(options(raw, out, mirror=False, **changes))
        return calls

    assert again() == ["one", "two"]
    stamp = Corpus.open(out).stamp
    assert again() == [] and Corpus.open(out).stamp == stamp
    record(raw, "two", speed=0.7)  # another motion
    assert again() == ["two"] and Corpus.open(out).stamp != stamp
    (raw / "one.txt").write_text("a person strolls\n")
    assert again() == ["one"] and Corpus.open(out).captions("one")[0].text == "a person strolls"
    record(raw, "three", None)
    assert again() == []
    (raw / "three.txt").write_text("a person walks\n")
    assert again() == ["three"]
    assert again(min_seconds=0.5) == ["one", "three", "two"]
    (out / "texts" / "two.txt").unlink()
    assert again(min_seconds=0.5) == ["two"]
    (raw / "two.npy").unlink()
    assert again(min_seconds=0.5) == []
    assert not any(path.name.startswith("two.") for path in out.rglob("*")) and "two" not in Corpus.open(out).names
    train_on(raw, "three")
    (raw / "val.txt").write_text("one\n")
    stamp = Corpus.open(out).stamp
    assert again(min_seconds=0.5) == [] and Corpus.open(out).split("val") == [0] and Corpus.open(out).stamp != stamp


def test_an_edited_mapping_is_noticed(tmp_path, recordings):
    from tests.synthetic import bvh_text

    raw, out, mapping = tmp_path / "raw", tmp_path / "out", tmp_path / "map.toml"
    raw.mkdir()
    (raw / "a.bvh").write_text(bvh_text(walk(60)))
    (raw / "a.txt").write_text("a person walks\n")
    train_on(raw, "a")
    shipped = (ROOT / "data_loaders" / "mappings" / "bandai_namco.toml").read_text()
    mapping.write_text(shipped)
    prepare(options(raw, out, kind="bvh", mapping=str(mapping), mirror=False))
    before = np.load(out / "new_joints" / "a.npy")
    lines = ["scale = 0.011" if line.startswith("scale") else line for line in shipped.splitlines()]
    assert lines != shipped.splitlines()
    mapping.write_text("\n".join(lines))
    prepare(options(raw, out, kind="bvh", mapping=str(mapping), mirror=False))
    assert not np.array_equal(before, np.load(out / "new_joints" / "a.npy"))


def test_a_run_that_fails_leaves_the_dataset_of_before(raw, tmp_path):
    out = tmp_path / "out"
    prepare(options(raw, out))
    before = Corpus.open(out).stamp
    for name in ("one", "two"):
        (raw / f"{name}.npy").write_bytes(b"torn")
    with pytest.raises(ValueError, match="no clip of the train split could be prepared"):
        prepare(options(raw, out))
    assert Corpus.open(out).stamp == before and len(Corpus.open(out).split("train")) == 4
    for path in raw.glob("*.npy"):
        path.unlink()
    with pytest.raises(FileNotFoundError, match=r"holds neither \.npy files"):
        prepare(options(raw, out))
    assert Corpus.open(out).stamp == before


def test_what_a_killed_run_left_half_written_goes(raw, tmp_path):
    out = tmp_path / "out"
    prepare(options(raw, out))
    for name in ("new_joints/.one.4711.partial.npy", "texts/.one.4711.partial.txt", ".corpus.4711.partial/features.npy"):
        (out / name).parent.mkdir(exist_ok=True)
        (out / name).write_bytes(b"half")
    prepare(options(raw, out))
    assert not [path for path in out.glob("*/*") if ".partial" in path.name]


def test_a_folder_of_other_recordings_is_not_replaced_by_a_slip(raw, tmp_path):
    out, other = tmp_path / "out", tmp_path / "other"
    prepare(options(raw, out))
    before = Corpus.open(out).stamp
    record(other, "elsewhere")
    train_on(other, "elsewhere")
    with pytest.raises(ValueError, match="was made of other recordings"):
        prepare(options(other, out))
    with pytest.raises(ValueError, match="other settings"):
        prepare(options(raw, out, fps=10.0))
    assert Corpus.open(out).stamp == before
    prepare(options(other, out, overwrite=True, mirror=False))
    assert Corpus.open(out).names == ["elsewhere"] == [path.stem for path in (out / "texts").iterdir()]


def test_a_damaged_list_of_progress_says_what_to_do(raw, tmp_path):
    out = tmp_path / "out"
    prepare(options(raw, out))
    lines = (out / "progress.jsonl").read_text().splitlines()
    (out / "progress.jsonl").write_text("\n".join([lines[0], lines[1].replace('"names": {', '"names": ["'), lines[2]]) + "\n")
    with pytest.raises(FileError, match=r"progress\.jsonl, line 2: .*--overwrite"):
        prepare(options(raw, out))
    prepare(options(raw, out, overwrite=True))
    assert len(Corpus.open(out)) == 4


# ------------------------------------------------------------------------------------------------------ whose files


@pytest.mark.parametrize("name", ["train.txt", "Mean.npy", "report.txt", "progress.jsonl", "new_joints/x.npy", "texts/one.txt",
                                  "corpus/notes.txt", "manifest.json"])  # fmt: skip
def test_files_of_somebody_else_are_refused_before_any_work(raw, tmp_path, name):
    out = tmp_path / "out"
    (out / name).parent.mkdir(parents=True)
    (out / name).write_text("{}")
    before = contents(out)
    with pytest.raises(OutputError, match="another --output"):
        prepare(options(raw, out))
    assert contents(out) == before


def test_an_output_among_the_recordings_is_refused_and_one_below_them_is_not_read(raw):
    before = contents(raw)
    with pytest.raises(OutputError, match="is the folder of the recordings"):
        prepare(options(raw, raw))
    assert contents(raw) == before
    for _ in range(2):
        prepare(options(raw, raw / "prepared"))
    assert len(Corpus.open(raw / "prepared")) == 4
    assert {name: data for name, data in contents(raw).items() if not name.startswith("prepared/")} == before


def test_official_data_and_recordings_do_not_replace_each_other(raw, small_dataset, tmp_path):
    official, packed, out = tmp_path / "HumanML3D", tmp_path / "packed", tmp_path / "out"
    ours = shutil.ignore_patterns("corpus", "manifest.json", "progress.jsonl", "report.txt")
    shutil.copytree(small_dataset, official, ignore=ours)
    prepare(options(official, packed, kind="humanml3d"))
    prepare(options(raw, out))
    stamps = Corpus.open(packed).stamp, Corpus.open(out).stamp
    with pytest.raises(OutputError, match="not made of recordings"):
        prepare(options(raw, packed))
    with pytest.raises(OutputError, match="made of recordings"):
        prepare(options(official, out, kind="humanml3d"))
    prepare(options(official, packed, kind="humanml3d"))
    assert stamps == (Corpus.open(packed).stamp, Corpus.open(out).stamp)


def test_a_dataset_is_not_made_of_its_own_clips(raw, tmp_path):
    out = tmp_path / "out"
    prepare(options(raw, out))
    (out / "new_joints" / "captions.json").write_text(json.dumps({"one": "a person walks"}))
    before = contents(out)
    with pytest.raises(ValueError, match=r"other recordings|clips of .* itself"):
        prepare(options(out / "new_joints", out))
    assert contents(out) == before


def test_a_dataset_by_an_earlier_version_is_taken_over(raw, tmp_path):
    out = tmp_path / "out"
    prepare(options(raw, out))
    # As it was then: no manifests, M before the names of mirrored clips, no identity in progress.jsonl.
    for manifest in out.rglob("manifest.json"):
        manifest.unlink()
    for path in list(out.glob("*/*@mirrored.*")):
        path.rename(path.with_name(f"M{path.name.replace('@mirrored', '')}"))
    settings = {"source": "joints", "fps": 20.0, "heading": "continuous", "mirror": True, "min_seconds": 1.0, "max_frames": 196,
                "mapping": None}  # fmt: skip
    rows = [{"source": name, "split": "train", "labels": {}, "names": {name: "as recorded", f"M{name}": "mirrored"},
             "dropped": None} for name in ("one", "two")]  # fmt: skip
    (out / "progress.jsonl").write_text("".join(json.dumps(row) + "\n" for row in [settings, *rows]))
    (out / "mine.txt").write_text("one\n")
    with pytest.raises(OutputError):  # not exactly what was written then
        prepare(options(raw, out))
    (out / "mine.txt").unlink()
    prepare(options(raw, out))
    assert Corpus.open(out).names == ["one", "one@mirrored", "two", "two@mirrored"]
    assert {path.stem for path in (out / "new_joints").iterdir()} == set(Corpus.open(out).names)


def test_an_official_folder_is_packed_where_it_lies_and_none_of_its_files_is_touched(small_dataset, tmp_path):
    folder = tmp_path / "HumanML3D"
    for name in ("Mean.npy", "Std.npy", "train.txt", "val.txt", "test.txt"):
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_bytes((small_dataset / name).read_bytes())
    for part in ("new_joint_vecs", "texts"):
        (folder / part).mkdir()
        for path in (small_dataset / part).iterdir():
            (folder / part / path.name).write_bytes(path.read_bytes())
    (folder / "texts" / "dataset-2_walk_normal_001.txt").write_text("#a/DET#0#0\na person walks##0.0#0.0\n")
    before = contents(folder)
    for _ in range(2):
        assert prepare(options(folder, folder, kind="humanml3d")).problem() is None
        after = contents(folder)
        assert {name: after[name] for name in before} == before
        assert set(after) - set(before) == {
            "report.txt", "manifest.json", *(f"corpus/{name}" for name in ("index.json", "features.npy", "captions.json",
                                                                          "stats.npz", "manifest.json"))}  # fmt: skip
    assert [c.text for c in Corpus.open(folder).captions("dataset-2_walk_normal_001")] == ["a person walks"]
    assert any("line 1: an empty caption" in line for line in report(folder))
    (folder / "report.txt").write_text("my own report")
    (folder / "manifest.json").unlink()
    with pytest.raises(OutputError, match=r"report\.txt is there already"):
        prepare(options(folder, folder, kind="humanml3d"))
    assert (folder / "report.txt").read_text() == "my own report"


# ---------------------------------------------------------------------------------------------------------- captions


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
