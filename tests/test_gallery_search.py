"""Searches in galleries: what is found, folded, shown and exported."""

import csv
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from data_loaders.clips import original_name
from data_loaders.corpus import Corpus
from model.embedding import open_space
from model.layers import cosines
from protos.reading import FileError
from sample import gallery_search, gallery_sources
from sample.findings import listed
from sample.gallery import Clip, Gallery
from sample.gallery_search import GallerySearch, Hit
from sample.gallery_sources import clip_motions, missing_line
from sample.retrieve import main
from tests.synthetic import raise_hand, walk
from tests.tiny_retrieval import TEXT, encode_folder, features_of, found, saved_tmr, write_motions


def test_a_search_prints_and_exports_its_hits_and_shows_them(tmr, motions, capsys):
    encode_folder(tmr)
    capsys.readouterr()
    hits = found("--gallery", "gallery", "--text", "../x lifts", "--k", "3", "--csv", "hits.csv", "--video", "--html")
    assert len(hits) == 3 and [hit["rank"] for hit in hits] == [1, 2, 3]
    assert hits == sorted(hits, key=lambda hit: -hit["score"]) and all(0 <= hit["score"] <= 1 for hit in hits)
    printed = capsys.readouterr().out.splitlines()
    assert len(printed) == 3 and all(hit["name"] in line for hit, line in zip(hits, printed))
    with open("hits.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["name"] for row in rows] == [hit["name"] for hit in hits] and {*rows[0]} == {*hits[0]}
    output = Path("outputs/search_x-lifts")
    assert (output / "hits.html").is_file() and len(list(output.glob("*.mp4"))) == 3
    assert all(file.read_bytes()[4:8] == b"ftyp" for file in output.glob("*.mp4"))


def test_more_like_this_leaves_out_the_motion_itself_and_a_file_finds_itself(tmr, motions):
    encode_folder(tmr)
    assert "walk" not in [hit["name"] for hit in found("--gallery", "gallery", "--like", "walk")]
    first = found("--gallery", "gallery", "--motion", "motions/more/hand.npy")[0]
    assert (first["name"], first["caption"]) == ("more/hand", "a person raises the left hand") and first["score"] > 0.999
    with pytest.raises(FileError, match=r"no motion 'wal' in this gallery \(near: walk"):
        found("--gallery", "gallery", "--like", "wal")


def test_texts_are_found_by_motions_and_not_where_there_are_none(tmr, motions):
    encode_folder(tmr)
    hits = found("--gallery", "gallery", "--motion", "motions/more/hand.npy", "--to", "text")
    assert {hit["caption"] for hit in hits} == {"a person raises the left hand", "lifting one arm"}
    space = open_space(tmr)
    vectors = space.encode_motion([features_of(raise_hand(60).astype(np.float32))]), space.encode_text([hits[0]["caption"]])
    expected = cosines(*map(torch.from_numpy, vectors))[0, 0] / 2 + 0.5
    assert hits[0]["score"] == pytest.approx(float(expected), abs=1e-3)
    encode_folder(tmr, "--no_texts", gallery="bare")
    with pytest.raises(FileError, match="holds no captions to find"):
        found("--gallery", "bare", "--motion", "motions/walk.npy", "--to", "text")


def test_names_of_mirrored_clips():
    names = {"M000123": "000123", "M/KIT/3/kick": "KIT/3/kick", "a/M001": "a/001", "x_mirrored": "x", "walk": None,
             "walk@mirrored": "walk", "walk@w2@mirrored": "walk@w2"}  # fmt: skip
    assert {name: original_name(name) for name in names} == names


def test_of_mirrored_twins_only_the_better_is_shown(tmr, folder, small_dataset):
    main(["encode_dataset", "--model_path", str(tmr), "--data", str(small_dataset), "--gallery", "gallery"])
    corpus = Corpus(small_dataset)
    assert {clip.name for clip in Gallery.load(Path("gallery")).clips} == set(corpus.names)
    folded = found("--gallery", "gallery", "--text", TEXT, "--k", 50)
    every = found("--gallery", "gallery", "--text", TEXT, "--k", 50, "--no_fold_mirrored")
    assert len(every) == len(corpus) == 2 * len(folded)
    best = {}
    for hit in every:
        best.setdefault(hit["name"].removesuffix("@mirrored"), hit["name"])
    assert [hit["name"] for hit in folded] == list(best.values())
    alone = [hit["name"] for hit in found("--gallery", "gallery", "--like", corpus.names[0], "--k", 50)]
    assert len(alone) == len(folded) - 1 and corpus.names[0] not in alone and f"{corpus.names[0]}@mirrored" not in alone
    assert all(hit["caption"] == corpus.captions(hit["name"])[0].text for hit in every)


def test_a_dataset_of_other_features_is_refused(tmp_path, folder, small_dataset):
    published = saved_tmr(tmp_path / "published", heading="published")
    with pytest.raises(ValueError, match="heading"):
        main(["encode_dataset", "--model_path", str(published), "--dataset", str(small_dataset)])


def test_nothing_found_is_said_and_writes_no_page(tmr, folder, capsys):
    write_motions(folder / "motions")
    for name in ("fast.npy", "long.npy", "take.bvh", "more/hand.npy"):
        (folder / "motions" / name).unlink()
    encode_folder(tmr)
    capsys.readouterr()
    assert found("--gallery", "gallery", "--like", "walk", "--csv", "hits.csv", "--html", "--output_dir", "shown") == []
    said = capsys.readouterr()
    assert said.out == "" and "nothing found: no video or page is written" in said.err and not Path("shown").exists()
    assert Path("hits.csv").read_text().split() == ["rank,name,start,end,caption,score"]


def test_hits_that_are_gone_are_named_and_the_others_shown(tmr, motions, capsys):
    encode_folder(tmr)
    (motions / "walk.npy").unlink()
    np.save(motions / "fast.npy", walk(50))
    (motions / "more/hand.txt").write_text("another word for it\n")  # the motion is the same
    assert len(found("--gallery", "gallery", "--text", TEXT, "--k", 50, "--html", "--video", "--output_dir", "shown")) == 7
    said = capsys.readouterr().err
    assert any(f"not shown: {names} have changed or gone since, run encode_dataset again" in said
               for names in ("walk, fast", "fast, walk"))  # fmt: skip
    assert "5 motions in shown" in said and len(list(Path("shown").glob("*.mp4"))) == 5
    shutil.rmtree(motions)
    assert found("--gallery", "gallery", "--text", TEXT, "--html", "--output_dir", "nothing")
    assert "no video or page is written" in capsys.readouterr().err and not Path("nothing").exists()


def test_a_dataset_that_was_made_again_is_not_shown_as_it_was(tmr, folder, small_dataset, capsys):
    data = Path(shutil.copytree(small_dataset, "data"))
    main(["encode_dataset", "--model_path", str(tmr), "--data", "data", "--gallery", "gallery"])
    gallery, space = Gallery.load(Path("gallery")), open_space(tmr)
    assert len(clip_motions(gallery, range(len(gallery)), space)) == len(gallery)
    np.save(data / "corpus/features.npy", np.array(Corpus(data).features))
    motions = clip_motions(gallery, [0, 1], space)
    assert not motions and missing_line(gallery, [0], motions).startswith(f"{gallery.clips[0].name} has changed or gone")


def test_a_file_is_read_once_for_all_its_parts(tmr, motions, monkeypatch):
    gallery, read = encode_folder(tmr), []
    features = gallery_sources.read_features
    monkeypatch.setattr(gallery_sources, "read_features", lambda path, *more: read.append(path.name) or features(path, *more))
    rows = list(range(len(gallery)))[::-1]
    shown = clip_motions(gallery, rows, open_space(tmr))
    assert list(shown) == rows and sorted(read) == ["fast.npy", "hand.npy", "long.npy", "take.bvh", "walk.npy"]
    for row, motion in shown.items():
        clip = gallery.clips[row]
        assert motion.joints.shape[1] / motion.fps == pytest.approx(clip.end - clip.start, abs=0.06)


def gallery_of(*clips, files=()) -> GallerySearch:
    vectors = np.random.default_rng(0).normal(size=(len(clips), 8)).astype(np.float32)
    empty = Gallery("m", "f", 20.0, [], np.zeros((0, 8)), [], np.zeros((0, 8)), {})
    return GallerySearch(empty.updated(set(), clips, vectors, {file: {"motion_fps": None} for file in files}))


def folded(*clips, files=()) -> list[int]:
    search = gallery_of(*clips, files=files)
    return [search.twin(row) for row in range(len(clips))]


def test_only_a_mirror_image_is_folded():
    def file(name, start=0.0, end=2.0, folder="/a"):
        return Clip(name, f"{folder}/{name}.npy", start, end)

    def twins(*clips):
        return folded(*clips, files=[clip.source for clip in clips])

    assert twins(file("000123"), file("M000123")) == [0, 0]
    assert twins(file("M000123"), file("000123")) == [1, 1]
    assert twins(file("sub/01"), file("sub/M01"), file("x_mirrored"), file("x")) == [0, 0, 3, 3]
    assert twins(file("KIT/3/x"), file("M/KIT/3/x")) == [0, 0]
    for strangers in (
        (file("000123"), file("M000123", end=3.0)),  # other spans
        (file("000123", 0, 2), file("000123", 2, 4)),  # two parts of one
        (file("walk"), file("walk", folder="/b"), Clip("walk", "/a/walk.bvh", 0.0, 2.0)),  # of one name
        (file("000123"), file("M000123", folder="/b")),  # of two folders
        (file("ia"), file("Mia"), file("M/ia")),  # a name that begins with M
    ):
        assert twins(*strangers) == list(range(len(strangers)))
    assert folded(Clip("dataset-1_bow", "/d", 0.0, 2.0), Clip("Mdataset-1_bow", "/d", 0.0, 2.0),
                  Clip("Mdataset-1_bow", "/e", 0.0, 2.0), Clip("dataset-1_bow", "/d", 0.0, 1.0)) == [0, 0, 2, 3]  # fmt: skip
    assert folded(*(Clip(name, "/d", 0.0, 2.0) for name in ("ike", "ike@mirrored", "Mike", "Mike@mirrored"))) == [0, 0, 2, 2]


def test_two_spans_of_a_clip_and_files_of_one_name_are_all_found(tmr, folder):
    for place in ("a", "b"):
        write_motions(folder / place)
        encode_folder(tmr, motions=place)
    hits = found("--gallery", "gallery", "--text", TEXT, "--k", 50)
    assert len(hits) == len(Gallery.load(Path("gallery"))) == 14


def test_a_name_that_stands_for_several_says_which_was_taken(tmr, folder, capsys):
    for place in ("a", "b"):
        write_motions(folder / place)
        encode_folder(tmr, motions=place)
    np.save(folder / "b/walk.npy", raise_hand(90).astype(np.float32))
    encode_folder(tmr, motions="b")
    capsys.readouterr()
    by_name = found("--gallery", "gallery", "--like", "walk")
    assert f"walk stands for 2 motions or parts here: taken is {folder}/a/walk.npy from 0.00 to" in capsys.readouterr().err
    assert by_name == found("--gallery", "gallery", "--like", "a/walk.npy")
    assert by_name != found("--gallery", "gallery", "--like", "b/walk.npy")
    assert "stands for" not in capsys.readouterr().err


def many(count, folder):
    vectors = np.random.default_rng(0).normal(size=(count, 32)).astype(np.float32)
    clips = [Clip(f"{i}", "x", 0.0, 1.0) for i in range(count)]
    empty = Gallery("m", "f", 20.0, [], np.zeros((0, 32), np.float16), [], np.zeros((0, 32)), {})
    empty.updated(set(), clips, vectors, {}).save(folder)
    return Gallery.load(folder), vectors


def test_names_and_captions_never_steer_a_terminal():
    line = listed([Hit("a\x1b[2Jb\nc", 0.0, 1.0, "walks\r\x07away\ud800", 0.5, 0)])
    assert line == "  1  0.500  a [2Jb c     0.00 -   1.00 s  walks  away"


def test_a_gallery_too_large_for_exact_search_asks_for_usearch(tmp_path, monkeypatch):
    gallery, vectors = many(300, tmp_path / "large")
    monkeypatch.setattr(gallery_search, "EXACT_LIMIT", 200)
    monkeypatch.setitem(sys.modules, "usearch.index", None)
    with pytest.raises(FileError, match=r"pip install usearch .* --exact"):
        GallerySearch(gallery)
    assert GallerySearch(gallery, exact=True).motions(vectors[7], 1)[0].name == "7"


def test_usearch_finds_what_exact_search_finds(tmp_path, monkeypatch):
    pytest.importorskip("usearch.index", reason="usearch is not installed: pip install usearch")
    gallery, vectors = many(2000, tmp_path / "large")
    exact = GallerySearch(gallery).motions(vectors[7], 5)
    monkeypatch.setattr(gallery_search, "EXACT_LIMIT", 200)
    near = GallerySearch(gallery).motions(vectors[7], 5)
    assert [hit.name for hit in near] == [hit.name for hit in exact]
    assert near[0].score == pytest.approx(exact[0].score, abs=2e-3)
    everything = GallerySearch(gallery).motions(vectors[7], 3000)
    assert {hit.name for hit in everything} == {clip.name for clip in gallery.clips}
