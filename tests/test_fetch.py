"""The manifest of official files, and bringing them: hand-placed files, archives, changed files, failing addresses."""

import logging
import shutil
import tarfile
import zipfile

import pytest

from protos import fetch
from protos.fetch import DOWNLOADS, Entry, FetchError, read_manifest, table
from protos.reading import FileError

ROOT = fetch.Path(__file__).resolve().parents[1]


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


def entry(here, *sources):
    return Entry("thing", "a thing", sources, here / "checkpoints" / "thing", "MIT")


def make_archive(path, **files):
    path.parent.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return path


def test_every_entry_says_where_it_belongs_and_under_which_licence():
    entries = read_manifest()
    for item in entries.values():
        assert item.what and item.licence and item.place.parts
        assert all(source["kind"] in DOWNLOADS for source in item.sources)
        assert item.sources or item.note
    ids = [s["id"] for e in entries.values() for s in e.sources if "id" in s]
    assert all(len(identity) == 33 for identity in ids)
    assert "checkpoints/official/smpl" in table(entries)


def test_every_text_encoder_can_be_fetched_to_where_it_is_looked_for():
    from model.text_towers import TEXT_FOLDER, TOWERS

    entries = read_manifest()
    for name, tower in TOWERS.items():
        if name != "minilm":  # comes with the installation
            assert entries[name].place == TEXT_FOLDER / name
            assert entries[name].sources[0]["repository"] == tower.repository


def test_a_file_is_brought_recorded_and_not_brought_twice(here, caplog):
    archive = make_archive(here / "server" / "weights.zip", **{"model.pt": "weights"})
    item = entry(here, {"kind": "url", "url": archive.as_uri()})
    fetch.fetch(item)
    assert (item.place / "model.pt").read_text() == "weights" and not (item.place / "weights.zip").exists()
    archive.unlink()
    with caplog.at_level(logging.INFO):
        fetch.fetch(item)
    assert "already in" in caplog.text and item.state == "here"


def test_a_changed_file_is_warned_about(here, caplog):
    archive = make_archive(here / "server" / "weights.zip", **{"model.pt": "weights"})
    item = entry(here, {"kind": "url", "url": archive.as_uri()})
    fetch.fetch(item)
    make_archive(archive, **{"model.pt": "other weights"})
    assert "differs" not in caplog.text
    fetch.fetch(item, force=True)
    assert "differs from the one first seen" in caplog.text


def test_the_next_address_is_asked_where_one_fails(here):
    archive = make_archive(here / "server" / "weights.zip", **{"model.pt": "weights"})
    absent = {"kind": "url", "url": (here / "server" / "gone.zip").as_uri()}
    fetch.fetch(entry(here, absent, {"kind": "url", "url": archive.as_uri()}))
    with pytest.raises(FetchError, match=r"gone\.zip.*By hand: put it"):
        fetch.fetch(Entry("other", "", (absent,), fetch.Path("checkpoints/other"), "MIT"))
    assert not list((here / "checkpoints" / "other").glob("*"))


def test_an_archive_put_there_by_hand_is_unpacked(here):
    item = entry(here)
    make_archive(item.place / "weights.zip", **{"folder/model.pt": "weights"})
    fetch.fetch(item)
    assert (item.place / "folder" / "model.pt").is_file()


def test_a_file_that_is_not_the_published_one_is_not_kept(here):
    archive = make_archive(here / "server" / "weights.zip", **{"model.pt": "weights"})
    with pytest.raises(FetchError, match="not the published file"):
        fetch.fetch(entry(here, {"kind": "url", "url": archive.as_uri(), "md5": "0" * 32}))
    assert not entry(here).contents


@pytest.mark.parametrize("kind", ["zip", "tar"])
def test_archives_that_lead_out_of_their_folder_are_refused(here, kind):
    item = entry(here)
    archive = item.place / f"weights.{kind}"
    if kind == "zip":
        make_archive(archive, **{"../../escaped.pt": "weights"})
    else:
        (here / "file").write_text("weights")
        item.place.mkdir(parents=True)
        with tarfile.open(archive, "w") as file:
            file.add(here / "file", arcname="../../escaped.pt")
    with pytest.raises(FileError, match=r"weights.*escaped\.pt' leads out of this folder"):
        fetch.fetch(item)
    assert not list(here.rglob("escaped.pt")) and [path.name for path in item.contents] == [archive.name]


def test_the_repositorys_own_tmr_is_not_taken_for_the_published_one(here):
    item = read_manifest()["tmr"]
    shutil.copytree(ROOT / "checkpoints" / "tmr", "checkpoints/tmr")
    assert item.place == fetch.Path("checkpoints/official/tmr") and item.state == "absent" and not item.contents


@pytest.mark.parametrize("name, former", [
    ("glove", "checkpoints/glove"), ("mdm-kit-encoder-512", "checkpoints/mdm/kit-encoder-512"), ("tmr", "checkpoints/tmr"),
])  # fmt: skip
def test_what_an_earlier_version_fetched_is_found_where_it_lies(here, name, former, caplog):
    (here / former).mkdir(parents=True)
    (here / former / "file").write_text("weights")
    item = read_manifest()[name]
    assert item.state == "here" and item.folder == fetch.Path(former)
    with caplog.at_level(logging.INFO):
        fetch.fetch(item)
    assert f"already in {former}" in caplog.text


def test_a_killed_or_failed_fetch_leaves_nothing_that_counts_as_here(here, monkeypatch):
    archive = make_archive(here / "server" / "weights.zip", **{"a.pt": "weights", "b.pt": "weights"})
    item = entry(here, {"kind": "url", "url": archive.as_uri()})

    def killed(path, folder):
        (folder / "a.pt").write_text("wei")
        raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(fetch, "unpack", killed)
        fetch.fetch(item)
    assert item.state == "absent" and [path.name for path in item.place.parent.iterdir()] == ["fetched.json"]
    archive.write_bytes(archive.read_bytes()[:60])
    with pytest.raises(FetchError, match=r"weights\.zip: .*damaged"):
        fetch.fetch(item)
    assert item.state == "absent"


def test_an_archive_that_an_earlier_version_left_half_unpacked_is_named(here):
    item = entry(here)
    make_archive(item.place / "weights.zip", **{"a.pt": "weights", "b.pt": "weights"})
    (item.place / "a.pt").write_text("weights")
    with pytest.raises(FetchError, match=r"half unpacked \('b\.pt' is missing"):
        fetch.fetch(item)
    (item.place / "b.pt").write_text("weights")
    fetch.fetch(item)


def test_fetching_again_replaces_only_what_was_fetched(here):
    archive = make_archive(here / "server" / "weights.zip", **{"model.pt": "weights"})
    item = entry(here, {"kind": "url", "url": archive.as_uri()})
    fetch.fetch(item)
    make_archive(archive, **{"model.pt": "newer weights"})
    fetch.fetch(item, force=True)
    assert (item.place / "model.pt").read_text() == "newer weights"
    for name, content in (("notes.txt", "mine"), ("model.pt", "my own weights")):
        (item.place / name).write_text(content)
        with pytest.raises(FetchError, match=f"{name} was not fetched by this program, or was changed"):
            fetch.fetch(item, force=True)
        assert (item.place / name).read_text() == content
        (item.place / name).write_text("newer weights") if name == "model.pt" else (item.place / name).unlink()


@pytest.mark.parametrize("content, words", [
    ("{", "JSON"), ("[]", "expected object"), ('{"thing": {"a": 1}}', "expected object"),
    ('{"thing": {"a": {"size": "1"}}}', "size|missing"),
])  # fmt: skip
def test_a_damaged_record_is_named(here, content, words):
    archive = make_archive(here / "server" / "weights.zip", **{"model.pt": "weights"})
    fetch.RECORD.parent.mkdir()
    fetch.RECORD.write_text(content)
    with pytest.raises(FileError, match=f"fetched.json.*({words})"):
        fetch.fetch(entry(here, {"kind": "url", "url": archive.as_uri()}))
    assert fetch.RECORD.read_text() == content


def test_repositories_are_named(here):
    with pytest.raises(FetchError, match=r"git clone https://example\.org/data"):
        fetch.fetch(entry(here, {"kind": "git", "url": "https://example.org/data"}))


def test_missing_download_library_is_named(here, monkeypatch):
    import importlib

    def absent(name):
        raise ModuleNotFoundError(name)

    monkeypatch.setattr(importlib, "import_module", absent)
    with pytest.raises(FetchError, match=r"pip install gdown.*checkpoints/official/glove"):
        fetch.fetch(read_manifest()["glove"])


def test_list_prints_a_line_per_entry(here, capsys):
    fetch.main(["--list"])
    assert len(capsys.readouterr().out.splitlines()) == len(read_manifest())
    with pytest.raises(FetchError, match="--list"):
        fetch.main(["nonsense"])
