"""Preparing a dataset again: what is done anew, and whose files stay as they are."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from data_loaders.corpus import Corpus
from data_loaders.preparation import prepare
from protos.outputs import OutputError
from protos.reading import FileError
from tests.recordings import contents, options, record, report, train_on
from tests.synthetic import walk

ROOT = Path(__file__).resolve().parents[1]


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
