"""The manifest of official files, and bringing them: hand-placed files, archives, changed files, failing addresses."""

import logging
import tarfile
import zipfile

import pytest

from protos import fetch
from protos.fetch import DOWNLOADS, Entry, FetchError, read_manifest, table


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
    assert "checkpoints/smpl" in table(entries)


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
    with pytest.raises(FetchError):
        fetch.fetch(item)
    assert not list(here.rglob("escaped.pt"))


def test_repositories_and_commands_are_named(here):
    with pytest.raises(FetchError, match=r"git clone https://example\.org/data"):
        fetch.fetch(entry(here, {"kind": "git", "url": "https://example.org/data"}))
    with pytest.raises(FetchError, match="python -m spacy download"):
        fetch.fetch(read_manifest()["spacy-english"])


def test_missing_download_library_is_named(here, monkeypatch):
    import importlib

    def absent(name):
        raise ModuleNotFoundError(name)

    monkeypatch.setattr(importlib, "import_module", absent)
    with pytest.raises(FetchError, match=r"pip install gdown.*checkpoints/glove"):
        fetch.fetch(read_manifest()["glove"])


def test_list_prints_a_line_per_entry(here, capsys):
    fetch.main(["--list"])
    assert len(capsys.readouterr().out.splitlines()) == len(read_manifest())
    with pytest.raises(FetchError, match="--list"):
        fetch.main(["nonsense"])
