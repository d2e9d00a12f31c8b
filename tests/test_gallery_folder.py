"""The folder of a gallery: whole at any moment, its own files alone touched, damage named, runs at once kept apart."""

import json
import os
import shutil
import threading
from pathlib import Path

import numpy as np
import pytest

from protos import files as atomic
from protos.files import file_lock
from protos.reading import FileError
from sample import gallery as storage
from sample import gallery_encode
from sample.gallery import Gallery
from sample.retrieve import main
from tests.synthetic import walk
from tests.tiny_retrieval import TEXT, encode_folder, found, write_motions


def names(gallery) -> set[str]:
    return {clip.name for clip in gallery.clips}


def test_an_extended_gallery_leaves_what_else_is_in_its_folder(tmr, motions):
    Path("place").mkdir()
    Path("gallery").symlink_to("place")
    encode_folder(tmr)
    for name in ("notes.txt", "hits.html", "motions-of-mine.npy"):
        Path("gallery", name).write_text("mine")
    np.save(motions / "new.npy", walk(44))
    assert "new" in names(encode_folder(tmr))
    assert Path("gallery").is_symlink()
    kept = sorted(path.name for path in Path("place").iterdir() if not path.name.startswith("."))
    mine = [name for name in kept if Path("place", name).read_bytes() == b"mine"]
    assert mine == ["hits.html", "motions-of-mine.npy", "notes.txt"]
    assert len(kept) == 7  # gallery.json, its motions and texts, the manifest


class Killed(BaseException):
    pass


def test_a_save_that_is_killed_leaves_the_old_gallery_and_the_next_one_goes_on(tmr, motions, monkeypatch):
    before = encode_folder(tmr)
    (motions / "new.txt").write_text("something else\n")
    np.save(motions / "new.npy", walk(44))
    replace = os.replace
    for survived in range(3):  # manifest; motions; gallery.json, the names having been listed the time before
        left = iter([True] * survived)
        monkeypatch.setattr(atomic.os, "replace", lambda *paths, left=left: replace(*paths) if next(left, False) else kill())
        with pytest.raises(Killed):
            encode_folder(tmr)
        now = Gallery.load(Path("gallery"))
        assert now.clips == before.clips and np.array_equal(now.vectors, before.vectors)
    monkeypatch.setattr(atomic.os, "replace", replace)
    Path("gallery/.motions-0123456789abcdef.123.partial.npy").write_text("killed outright, which cleans nothing up")
    assert names(encode_folder(tmr)) == names(before) | {"new"}
    assert len(list(Path("gallery").iterdir())) == 5  # the lock, gallery.json, motions, texts and the manifest
    shutil.rmtree("gallery")
    monkeypatch.setattr(atomic.os, "replace", lambda *paths: replace(*paths) if paths[1].suffix == ".npy" else kill())
    with pytest.raises(Killed):
        encode_folder(tmr)
    monkeypatch.setattr(atomic.os, "replace", replace)
    assert len(encode_folder(tmr)) == len(before) + 1  # a first save that was killed is in nobody's way


def kill():
    raise Killed


def test_a_gallery_may_be_read_while_it_is_replaced(tmr, motions, monkeypatch):
    encode_folder(tmr)
    read = storage.read_content

    def replaced_meanwhile(folder):
        monkeypatch.setattr(storage, "read_content", read)
        content = read(folder)
        np.save(motions / "new.npy", walk(44))
        encode_folder(tmr)
        return content

    monkeypatch.setattr(storage, "read_content", replaced_meanwhile)
    assert "new" in names(Gallery.load(Path("gallery")))


def test_two_runs_at_once_lose_nothing(tmr, motions, monkeypatch):
    others = write_motions(motions.parent / "others")
    encode, waiting = gallery_encode.encode_places, iter(["others"])

    def with_another_run(*arguments):
        if next(waiting, None):
            encode_folder(tmr, motions=others)
        return encode(*arguments)

    monkeypatch.setattr(gallery_encode, "encode_places", with_another_run)
    gallery = encode_folder(tmr)
    assert len({clip.source for clip in gallery.clips}) == 10 and len(gallery.text_vectors) == 2


def test_a_lock_is_waited_for(tmp_path):
    done = []

    def other() -> None:
        with file_lock(tmp_path / "lock", "it"):
            done.append("other")

    with file_lock(tmp_path / "lock", "it"):
        thread = threading.Thread(target=other)
        thread.start()
        thread.join(0.3)
        done.append("first")
    thread.join()
    assert done == ["first", "other"]


def test_a_long_run_is_saved_on_its_way(tmr, motions, monkeypatch):
    monkeypatch.setattr(gallery_encode, "ROUND", 2)
    encode, calls = gallery_encode.encode_places, iter(range(100))
    monkeypatch.setattr(gallery_encode, "encode_places", lambda *arguments: kill() if next(calls) == 2 else encode(*arguments))
    with pytest.raises(Killed):
        encode_folder(tmr)
    sources = {clip.source for clip in Gallery.load(Path("gallery")).clips}
    assert len(sources) == 4
    read = []
    monkeypatch.setattr(gallery_encode, "encode_places", lambda *given: read.extend(given[1]) or encode(*given))
    assert len({clip.source for clip in encode_folder(tmr).clips}) == 5 and len(read) == 1


def test_what_is_gone_does_not_come_back_where_the_first_files_are_bad(tmr, motions, monkeypatch):
    encode_folder(tmr)
    shutil.rmtree(motions)
    motions.mkdir()
    (motions / "a.npy").write_text("no array")
    np.save(motions / "b.npy", walk(44))
    monkeypatch.setattr(gallery_encode, "ROUND", 1)
    with pytest.raises(SystemExit):
        encode_folder(tmr)
    assert names(Gallery.load(Path("gallery"))) == {"b"}


@pytest.mark.parametrize("place, message", [
    ("file/gallery", "file is a file, expected a folder"),
    ("file", "file is a file, expected a folder"),
    ("x" * 300, "no gallery can be written to xxx.*: File name too long"),
    ("dangling", "dangling is a link to a folder that is not there"),
    ("/proc/gallery", "no gallery can be written to /proc/gallery"),
])  # fmt: skip
def test_a_place_for_no_gallery_is_refused_before_anything_is_read(tmr, motions, monkeypatch, place, message):
    Path("file").write_text("x")
    Path("dangling").symlink_to("nowhere")
    monkeypatch.setattr(gallery_encode, "encode_places", lambda *_: pytest.fail("encoded"))
    with pytest.raises(FileError, match=message) as refused:
        encode_folder(tmr, gallery=place)
    assert "partial" not in str(refused.value)


def damage(content: dict) -> dict:
    content["clips"][0][4] = [99]
    return content


@pytest.mark.parametrize("name, change, message", [
    ("gallery.json", lambda _: b"{}", "gallery.json is damaged .missing field version"),
    ("gallery.json", lambda old: old[:100], "gallery.json is damaged"),
    ("gallery.json", lambda old: json.dumps(damage(json.loads(old))).encode(), "gallery.json is damaged .a clip has a caption"),
    ("gallery.json", lambda _: b'{"version": 3}', "of format 3, expected 2"),
    ("motions-*.npy", lambda old: old[:200], r"motions-\w+.npy is damaged"),
    ("motions-*.npy", lambda old: None, r"motions-\w+.npy is missing"),
    ("texts-*.npy", lambda old: old[:20], r"texts-\w+.npy is damaged"),
])  # fmt: skip
def test_damage_is_named_with_what_to_do(tmr, motions, name, change, message):
    encode_folder(tmr)
    (path,) = Path("gallery").glob(name)
    content = change(path.read_bytes())
    path.unlink() if content is None else path.write_bytes(content)
    for command in (["search", "--text", TEXT], ["encode_dataset", "--motions", "motions", "--model_path", str(tmr)]):
        with pytest.raises(FileError, match=f"{message}.*make the gallery again in another folder"):
            main([*command, "--gallery", "gallery"])


def test_galleries_of_the_first_format_are_read_and_brought_up_to_date(tmr, motions):
    gallery = encode_folder(tmr)
    content = json.loads(Path("gallery/gallery.json").read_text())
    for kind, name in content.pop("arrays").items():
        Path("gallery", name).rename(f"gallery/{kind}.npy")
    content["files"] = {file: {"size": 1, "mtime_ns": 1, "mapping": stamp["mapping"], "motion_fps": None, "body_model": None}
                        for file, stamp in content["files"].items()}  # fmt: skip
    Path("gallery/gallery.json").write_text(json.dumps(content | {"version": 1}))
    Path("gallery/manifest.json").unlink()
    assert len(found("--gallery", "gallery", "--text", TEXT, "--html", "--output_dir", "shown")) == len(gallery)
    again = encode_folder(tmr)
    assert again.clips == gallery.clips and not Path("gallery/motions.npy").exists()


def hostile(content: dict) -> dict:
    content["arrays"]["motions"] = "../motions/walk.npy"
    return content


def test_a_gallery_from_elsewhere_removes_nothing_that_is_not_its_own(tmr, motions):
    """Whatever gallery.json or the manifest beside it claims."""
    encode_folder(tmr)
    made = json.loads(Path("gallery/gallery.json").read_text())
    Path("gallery/gallery.json").write_text(json.dumps(hostile(json.loads(json.dumps(made)))))
    with pytest.raises(FileError, match=r"damaged .arrays: motions in '../motions/walk.npy', expected motions-HASH.npy"):
        encode_folder(tmr)
    Path("gallery/gallery.json").write_text(json.dumps(made))
    Path("gallery/thesis.txt").write_text("mine")
    manifest = json.loads(Path("gallery/manifest.json").read_text())
    manifest["files"].append("thesis.txt")
    Path("gallery/manifest.json").write_text(json.dumps(manifest))
    np.save(motions / "new.npy", walk(44))
    assert "new" in names(encode_folder(tmr)) and Path("gallery/thesis.txt").read_text() == "mine"
    manifest["files"] = ["../motions/walk.npy"]
    Path("gallery/manifest.json").write_text(json.dumps(manifest))
    np.save(motions / "newer.npy", walk(44))
    with pytest.raises(ValueError, match="leads out of its folder"):
        encode_folder(tmr)
    assert (motions / "walk.npy").is_file()


def test_a_gallery_of_a_version_without_manifests_is_ours_if_nothing_else_lies_there(tmr, motions):
    gallery = encode_folder(tmr)
    Path("gallery/manifest.json").unlink()
    np.save(motions / "new.npy", walk(44))
    assert len(encode_folder(tmr)) == len(gallery) + 1
    Path("gallery/manifest.json").unlink()
    Path("gallery/notes.txt").write_text("mine")
    np.save(motions / "newer.npy", walk(44))
    with pytest.raises(FileError, match=r"not listed in a manifest.*choose another folder"):
        encode_folder(tmr)
    assert len(found("--gallery", "gallery", "--text", TEXT, "--k", "50")) == len(gallery) + 1  # searched it may be


@pytest.mark.parametrize("change, message", [
    (lambda old: old | {"fps": "20"}, "fps: expected float, got str"),
    (lambda old: old | {"fps": -1.0}, "fps -1, expected frames per second"),
    (lambda old: old | {"clips": {}}, "clips: expected array"),
    (lambda old: old | {"clips": [["walk", "walk.npy", 5.0, 1.0, []]]}, "clip 0 lasts from 5 to 1 s"),
    (lambda old: old | {"clips": [["walk", "walk.npy", 0.0]]}, r"clips\[0\]: expected array of length 5"),
    (lambda old: old | {"files": {"walk.npy": {"motion": {"size": 1}}}}, "files"),
    (lambda old: old | {"texts": [1]}, r"texts\[0\]: expected str, got int"),
    (lambda old: old | {"version": [2]}, "version: expected int, got array"),
    (lambda old: old | {"arrays": {"motions": "/etc/passwd"}}, "arrays: motions in '/etc/passwd'"),
])  # fmt: skip
def test_each_field_of_a_gallery_is_checked(tmr, motions, change, message):
    encode_folder(tmr)
    path = Path("gallery/gallery.json")
    path.write_text(json.dumps(change(json.loads(path.read_text()))))
    with pytest.raises(FileError, match=f"gallery.json is damaged .*{message}"):
        Gallery.load(Path("gallery"))


def test_vectors_must_be_finite_and_one_for_each_clip(tmr, motions):
    encode_folder(tmr)
    (path,) = Path("gallery").glob("motions-*.npy")
    whole = np.load(path)
    for bad, message in ((whole[1:], "expected .7, any"), (whole * np.float16(np.nan), "NaN or infinity"),
                         (whole.astype(np.int8), "floating-point"), (np.array([None]), "pickled")):  # fmt: skip
        np.save(path, bad, allow_pickle=True)
        with pytest.raises(FileError, match=rf"motions-\w+.npy is damaged .*{message}"):
            Gallery.load(Path("gallery"))


def test_default_places_are_told_apart(tmr, folder, small_dataset):
    for place in ("a", "b"):
        write_motions(folder / place / "bvh")
        main(["encode_dataset", "--model_path", str(tmr), "--motions", f"{place}/bvh", "--mapping", "bandai_namco"])
        main(["encode_motion", "--model_path", str(tmr), "--motion", f"{place}/bvh/walk.npy"])
    shutil.copytree(small_dataset, "dataset/bandai_namco")
    main(["encode_dataset", "--model_path", str(tmr), "--dataset", "bandai_namco"])
    made = sorted(path.name for path in Path("outputs").glob("gallery_*"))
    assert len(made) == 3 and made[0] == "gallery_tiny_bandai-namco" and made[1].startswith("gallery_tiny_bvh-")
    for text in ("a person walks", "A person walks!", "a person walks?"):
        main(["encode_text", "--model_path", str(tmr), "--text", text])
    vectors = sorted(path.name for path in Path("outputs/encoded/tiny").glob("*.npy"))
    assert len(vectors) == 5 and "a-person-walks.npy" in vectors
