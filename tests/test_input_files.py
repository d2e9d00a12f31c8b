"""Files of an input folder: what recordings are called, and how archives are looked through."""

import random

import pytest

from data_loaders.input_files import contents, recording_names, survey


def test_a_recording_keeps_its_name_where_no_other_has_it():
    assert recording_names(["a/walk.bvh", "b/run.bvh", "x/y/jump.bvh"]) == {
        "a/walk.bvh": "walk", "b/run.bvh": "run", "x/y/jump.bvh": "jump"}  # fmt: skip


def test_names_differ_whatever_the_files_are_called():
    files = ["a/b.npy", "a_b.npy", "a/B.npy", "b.npy", "A/b.npy", "x@w0.npy", "x.npy", "x.NPY", "x@mirrored.npy", "con.npy",
             "..npy", "-.npy", f"{'l' * 200}.npy", f"{'l' * 199}m.npy", "a:b.npy", "a?b.npy", "a-b.npy"]  # fmt: skip
    names = recording_names(files)
    assert len({name.casefold() for name in names.values()}) == len(files)
    assert not any("@" in name or "/" in name or len(name) > 140 or name.startswith(".") for name in names.values())
    shuffled = random.Random(0).sample(files, len(files))
    assert recording_names(shuffled) == names


def test_what_is_no_recording_is_told_apart(tmp_path):
    for name in ("s1/walk_poses.npz", "s1/shape.npz", "s1/male_stagei.npz", "._walk.npz", "notes.txt", ".git/x.npz"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(b"x")
    (tmp_path / "linked").symlink_to(tmp_path / "s1")
    found = survey(tmp_path, (".npz",))
    assert [each.file for each in found.recordings] == ["s1/walk_poses.npz"]
    assert sorted(found.others) == ["._walk.npz", "linked (a link to a folder, not followed)", "notes.txt", "s1/male_stagei.npz",
                                    "s1/shape.npz"]  # fmt: skip


def test_a_name_that_is_no_text_of_a_line_is_written_with_escapes(tmp_path):
    try:
        (tmp_path / "one\ntwo.npy").write_bytes(b"x")
        (tmp_path / b"caf\xe9.npy".decode("utf-8", "surrogateescape")).write_bytes(b"y")
    except OSError:
        pytest.skip("this file system takes no such names")
    found = survey(tmp_path, (".npy",)).recordings
    assert sorted(each.file for each in found) == ["caf\\udce9.npy", "one\\x0atwo.npy"]
    assert {data.read_bytes() for _, data in contents(found)} == {b"x", b"y"}


def test_a_folder_without_recordings_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"holds neither \.bvh files nor archives"):
        survey(tmp_path, (".bvh",))
    (tmp_path / "all.tar.xz").write_bytes(b"no archive")
    with pytest.raises(FileNotFoundError, match=r"all\.tar\.xz.*damaged"):
        survey(tmp_path, (".bvh",))
