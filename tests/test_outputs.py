"""What this program did not write is never replaced and never removed; names from files are never paths."""

import json
import os
import time
import zipfile

import pytest

from protos import files
from protos.archives import members, unpack
from protos.files import atomic_folder, inside, run_folder, safe_name, write_atomically
from protos.flags import Range
from protos.outputs import MANIFEST, OutputError, Outputs, new_folder, require_new, write_new
from protos.reading import FileError


def test_a_file_of_somebody_else_is_refused_and_stays(tmp_path):
    (tmp_path / "train.txt").write_text("mine")
    outputs = Outputs(tmp_path, "dataset")
    outputs.write("report.txt", "ours")
    with pytest.raises(OutputError, match=r"train.txt is there already"):
        outputs.write("train.txt", "ours")
    assert (tmp_path / "train.txt").read_text() == "mine"


def test_an_earlier_result_is_replaced_only_when_asked_for_or_gone_on_with(tmp_path):
    Outputs(tmp_path / "d", "dataset").write("train.txt", "one")
    with pytest.raises(OutputError, match="--overwrite"):
        Outputs(tmp_path / "d", "dataset")
    Outputs(tmp_path / "d", "dataset", going_on=True).write("train.txt", "two")
    again = Outputs(tmp_path / "d", "dataset", overwrite=True)
    (tmp_path / "d" / "notes.txt").write_text("mine")
    again.clear()
    assert {p.name for p in (tmp_path / "d").iterdir()} == {"notes.txt", MANIFEST}


def test_a_folder_of_a_version_without_manifests_is_ours_only_if_it_holds_nothing_else(tmp_path):
    names = ("config.json", "model.safetensors")
    (tmp_path / "config.json").write_text("{}")
    assert Outputs(tmp_path, "checkpoint", overwrite=True, earlier=names).listed == {"config.json"}
    (tmp_path / "thesis.tex").write_text("mine")
    with pytest.raises(OutputError, match=r"config.json is there already"):
        Outputs(tmp_path, "checkpoint", overwrite=True, earlier=names).write("config.json", "")


def test_a_folder_is_replaced_whole_only_where_all_of_it_is_ours(tmp_path):
    for word in ("one", "two"):
        with new_folder(tmp_path / "c", "checkpoint", overwrite=True) as folder:
            (folder / "config.json").write_text(word)
    assert (tmp_path / "c" / "config.json").read_text() == "two"
    (tmp_path / "c" / "src").mkdir()
    (tmp_path / "c" / "src" / "main.py").write_text("mine")
    with pytest.raises(OutputError, match=r"src/main.py"), new_folder(tmp_path / "c", "checkpoint", overwrite=True):
        pass
    assert (tmp_path / "c" / "src" / "main.py").read_text() == "mine"
    with pytest.raises(OutputError, match="holds a checkpoint"), new_folder(tmp_path / "c", "dataset", overwrite=True):
        pass


@pytest.mark.parametrize("content, words", [
    ('{"made_by": "moveo", "what": "dataset", "files": ["../mine.txt"]}', "leads out"),
    ('{"made_by": "moveo", "what": "dataset", "files": 3}', "files: expected array, got int"),
    ('{"scripts": {}}', "not written by this program"),
])  # fmt: skip
def test_a_manifest_that_is_not_ours_or_lies_removes_nothing(tmp_path, content, words):
    (tmp_path / "mine.txt").write_text("mine")
    (tmp_path / "d").mkdir()
    (tmp_path / "d" / MANIFEST).write_text(content)
    with pytest.raises(FileError, match=words):
        Outputs(tmp_path / "d", "dataset", overwrite=True).clear()
    assert (tmp_path / "mine.txt").read_text() == "mine"


def test_a_single_file_that_is_there_is_never_replaced(tmp_path):
    (tmp_path / "v.npy").write_text("mine")
    with pytest.raises(OutputError, match=r"v.npy is there already"):
        require_new(tmp_path / "v.npy")


@pytest.mark.parametrize("links", [True, False])
def test_of_two_runs_that_write_one_file_the_later_leaves_it(tmp_path, monkeypatch, links):
    if not links:
        monkeypatch.setattr("os.link", lambda *_: (_ for _ in ()).throw(OSError("no such links here")))
    write_new(tmp_path / "more" / "said.txt", "one")
    with pytest.raises(OutputError, match=r"said.txt is there already .* another --json"):
        write_new(tmp_path / "more" / "said.txt", "other", "--json")
    assert [path.name for path in (tmp_path / "more").iterdir()] == ["said.txt"]
    assert (tmp_path / "more" / "said.txt").read_text() == "one"


@pytest.mark.parametrize("exchange", [True, False])
@pytest.mark.parametrize("failing", [None, 1, 2, 3])
def test_a_replaced_folder_is_at_every_moment_there_whole(tmp_path, monkeypatch, exchange, failing):
    """failing: which of the renames a kill interrupts, where folders cannot be exchanged in one step."""
    target = tmp_path / "best"
    with atomic_folder(target) as folder:
        (folder / "a").write_text("old")
    calls, rename = [], os.rename

    def failing_rename(one, other):
        calls.append(one)
        if len(calls) == failing:
            raise SystemExit
        rename(one, other)

    if not exchange:
        monkeypatch.setattr(files, "_exchange", lambda one, other: False)
        monkeypatch.setattr(os, "rename", failing_rename)
    interrupted = not exchange and failing is not None
    try:
        with atomic_folder(target) as folder:
            (folder / "a").write_text("new")
    except SystemExit:
        assert interrupted
    monkeypatch.undo()
    files.recover_folder(target)
    assert (target / "a").read_text() == ("old" if interrupted and failing < 3 else "new")
    assert [p.name for p in tmp_path.iterdir()] == ["best"]


@pytest.mark.parametrize("name", ["../x", "/etc/x", "a/../../x", "..", "", ".", "C:\\x", "\\x", "a\0b"])
def test_a_name_that_leads_out_of_its_folder_is_refused(tmp_path, name):
    with pytest.raises(FileError, match="leads out"):
        inside(tmp_path, name)


def test_links_are_followed_when_a_name_is_looked_up(tmp_path):
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "link").symlink_to(tmp_path)
    with pytest.raises(FileError, match="leads out"):
        inside(tmp_path / "in", "link/x")
    assert inside(tmp_path / "in", "day 1/walk.npy") == tmp_path / "in" / "day 1" / "walk.npy"


@pytest.mark.parametrize("name", ["walk", "take 001", "M000012", "Walking (1)", "13_29.v2", "größe", "歩く"])
def test_a_safe_name_is_kept(name):
    assert safe_name(name) == name


def test_unsafe_names_become_safe_and_stay_different(tmp_path):
    names = [
        "a/b", "a\\b", "a-b", "../x", "/etc/x", "", ".", "..", "con", "NUL.txt", "a:b", "a\nb", "x" * 400, "x" * 401, "a ",
        "-rf", "\ud800", "é" * 200, "a  b",
    ]  # fmt: skip
    safe = [safe_name(name) for name in names]
    assert len({name.lower() for name in safe}) == len(names)
    for name in safe:
        (inside(tmp_path, f"{name}.npy")).write_text("")
    assert len(list(tmp_path.iterdir())) == len(names)


def test_names_that_differ_in_case_alone_do_not_meet():
    assert safe_name("Walk", taken={"walk"}) == "Walk-2"


@pytest.mark.parametrize("name", ["../x.txt", "/x.txt", "a/../../x.txt"])
def test_an_archive_writes_nothing_outside_and_replaces_nothing(tmp_path, name):
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.writestr(name, "theirs")
    with pytest.raises(FileError, match="leads out"):
        unpack(tmp_path / "a.zip", tmp_path / "out")
    with zipfile.ZipFile(tmp_path / "b.zip", "w") as archive:
        archive.writestr("mine.txt", "theirs")
    (tmp_path / "out").mkdir(exist_ok=True)
    (tmp_path / "out" / "mine.txt").write_text("mine")
    with pytest.raises(FileError, match="not replaced"):
        unpack(tmp_path / "b.zip", tmp_path / "out")
    assert (tmp_path / "out" / "mine.txt").read_text() == "mine"


def test_a_damaged_archive_and_a_bomb_are_named(tmp_path):
    with zipfile.ZipFile(tmp_path / "a.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("a.txt", bytes(1_000_000))
    with pytest.raises(FileError, match="unpacks to more"):
        list(members(tmp_path / "a.zip", most=1000))
    (tmp_path / "a.zip").write_bytes((tmp_path / "a.zip").read_bytes()[:-10])
    with pytest.raises(FileError, match=r"a.zip: a damaged"):
        list(members(tmp_path / "a.zip"))


@pytest.mark.parametrize("bounds, words", [
    (Range(1, 8), "from 1 to 8"), (Range(1), "at least 1"), (Range(0, above=True), "above 0"),
    (Range(0, 1, below=True), "from 0 to below 1"), (Range(high=5), "at most 5"), (Range(), "any finite number"),
])  # fmt: skip
def test_a_range_says_what_it_allows_and_never_allows_nan(bounds, words):
    assert str(bounds) == words
    assert float("nan") not in bounds and float("inf") not in bounds


@pytest.mark.skipif(not os.path.isdir("/proc"), reason="asks /proc which processes live")
def test_an_unfinished_folder_that_a_killed_run_left_goes_after_a_while(tmp_path):
    ages = {".data.4000001.partial": 4000, ".data.4000002.partial": 60, f".data.{os.getppid()}.partial": 4000}
    for name, age in ages.items():
        (tmp_path / name).mkdir()
        os.utime(tmp_path / name, (time.time() - age,) * 2)
    with atomic_folder(tmp_path / "data") as folder:
        (folder / "a").write_text("whole")
    assert {path.name for path in tmp_path.iterdir()} == {"data", *list(ages)[1:]}  # a young one, and one of a process that lives


def test_two_runs_into_one_folder_list_the_files_of_both(tmp_path):
    one, other = (Outputs(tmp_path / "d", "set of meshes", going_on=True) for _ in range(2))
    one.write("a.obj", "1")
    other.write("b.obj", "2")
    one.write("c.obj", "3")
    assert set(json.loads((tmp_path / "d" / MANIFEST).read_text())["files"]) == {"a.obj", "b.obj", "c.obj"}
    other.write("c.obj", "4")  # of ours, by now
    other.remove("a.obj")
    one.write("d.obj", "5")
    later = Outputs(tmp_path / "d", "set of meshes", overwrite=True)
    assert {"b.obj", "c.obj", "d.obj"} <= later.listed
    later.clear()
    assert not list((tmp_path / "d").glob("*.obj"))


def test_a_run_that_fails_takes_its_own_files_with_it_and_no_others(tmp_path):
    def fail(wanted, notes: bool) -> None:
        with run_folder(tmp_path / wanted) as folder:
            write_atomically(folder / "joints" / "walk.npy", b"1")
            write_atomically(folder / "report.md", "of this run")
            write_atomically(tmp_path / "elsewhere.txt", "not of the folder")
            if notes:
                (folder / "notes.txt").write_text("mine")
            raise KeyboardInterrupt

    for wanted, notes in (("alone", False), ("shared", True)):
        with pytest.raises(KeyboardInterrupt):
            fail(wanted, notes)
    assert not (tmp_path / "alone").exists() and (tmp_path / "elsewhere.txt").is_file()
    assert [path.name for path in (tmp_path / "shared").rglob("*")] == ["notes.txt"]
