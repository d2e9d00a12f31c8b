"""The retrieval tools as a user meets them: files of every kind in, vectors, galleries, hits and moments out."""

import csv
import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from data_loaders.clips import original_name
from data_loaders.corpus import Corpus, Representation, Statistics
from data_loaders.mocap import MocapError, read_joints
from data_loaders.sources import SourceClip
from model.embedding import open_space
from model.evaluators import EvaluatorConfig, GuoEvaluator
from model.pretrained import from_pretrained, save_pretrained
from model.tmr import scores
from sample import gallery as galleries
from sample.gallery import Clip, Gallery, GalleryError, GallerySearch
from sample.retrieve import main
from tests.synthetic import bvh_text, raise_hand, walk
from tests.synthetic_bodies import write_amass, write_body_models
from tests.tiny_retrieval import TEXT, features_of, saved_tmr

ROOT = Path(__file__).resolve().parents[1]
@pytest.fixture(scope="module")
def tmr(tmp_path_factory):
    return saved_tmr(tmp_path_factory.mktemp("models") / "tiny")


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """An empty folder to work in."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def motions(folder):
    """Walks, hands, a long walk, a take of 30 fps in a BVH file."""
    (folder / "motions" / "more").mkdir(parents=True)
    made = {"walk": walk(80), "fast": walk(60, 2.0), "more/hand": raise_hand(60), "long": walk(500, 1.3)}
    for name, joints in made.items():
        np.save(folder / "motions" / f"{name}.npy", joints.astype(np.float32))
    (folder / "motions" / "more" / "hand.txt").write_text("a person raises the left hand\nlifting one arm\n")
    (folder / "motions" / "take.bvh").write_text(bvh_text(walk(90, fps=30.0)))
    return folder / "motions"


def encode_folder(tmr, *more, motions="motions", gallery="gallery"):
    main(["encode_dataset", "--model_path", str(tmr), "--motions", str(motions), "--mapping", "bandai_namco",
          "--gallery", gallery, *more])  # fmt: skip
    return Gallery.load(Path(gallery))


def found(*arguments):
    """Hits of a search as its JSON tells them."""
    main(["search", *map(str, arguments), "--json", "found.json"])
    return json.loads(Path("found.json").read_text())["hits"]


# -------------------------------------------------------------------------------------------------- vectors and scores


def test_a_motion_has_one_vector_whatever_file_holds_it(tmr, folder):
    joints = walk(81)
    np.save("joints.npy", joints)
    np.save("features.npy", features_of(joints))
    np.savez("joints.npz", joints=walk(161, fps=40.0), fps=40)
    Path("take.bvh").write_text(bvh_text(walk(121, fps=30.0)))
    vectors = []
    for file in ("joints.npy", "features.npy", "joints.npz", "take.bvh"):
        main(["encode_motion", "--run_dir", str(tmr), "--npy", file, "--output", "x/out.npy"])
        vectors.append(np.load("x/out.npy"))
    assert vectors[0].shape == (16,) and vectors[0].dtype == np.float32
    networks = from_pretrained(tmr)
    np.testing.assert_allclose(vectors[0], networks.encode_motion([features_of(joints)])[0], atol=1e-5)
    np.testing.assert_allclose(vectors[1], vectors[0], atol=1e-5)
    np.testing.assert_allclose(vectors[2], vectors[0], atol=1e-3)
    np.testing.assert_allclose(vectors[3], vectors[0], atol=5e-2)  # 30 fps brought to 20, through a text of few digits


def test_an_amass_file_is_read_through_its_body_model(tmr, folder):
    bodies, take = write_body_models(folder / "bodies"), write_amass(folder / "take.npz")
    main(["encode_motion", "--model_path", str(tmr), "--motion", str(take), "--body_model", str(bodies), "--output", "a.npy"])
    np.savez(folder / "joints.npz", joints=read_joints(SourceClip("take", take, "amass"), 20.0, bodies), fps=20.0)
    main(["encode_motion", "--model_path", str(tmr), "--motion", "joints.npz", "--output", "b.npy"])
    np.testing.assert_allclose(np.load("a.npy"), np.load("b.npy"), atol=1e-4)
    with pytest.raises(MocapError, match="--body_model"):
        main(["encode_motion", "--model_path", str(tmr), "--motion", str(take), "--output", "c.npy"])
    assert not Path("c.npy").exists()


def test_start_and_end_choose_a_part(tmr, folder):
    features = features_of(walk(120))
    np.save("whole.npy", features)
    np.save("part.npy", features[20:60])
    for name, flags in (("whole", ["--start", "1", "--end", "3"]), ("part", [])):
        main(["encode_motion", "--model_path", str(tmr), "--motion", f"{name}.npy", *flags])
    whole, part = (np.load(f"outputs/encoded/tiny/{name}.npy") for name in ("whole", "part"))
    np.testing.assert_allclose(whole, part, atol=1e-6)
    with pytest.raises(ValueError, match=r"lasts 5\.95 s: no frame between --start 9"):
        main(["encode_motion", "--model_path", str(tmr), "--motion", "whole.npy", "--start", "9"])


@pytest.mark.parametrize("text", ["../../etc/passwd", "/tmp/x", "a\\b c:*?", "walk " * 60, "走る", "-walks", "a person\nwalks"])
def test_a_text_never_becomes_a_path(tmr, folder, text):
    main(["encode_text", "--model_path", str(tmr), "--text", text])
    (file,) = (path for path in folder.rglob("*") if path.is_file())
    assert file.parent == folder / "outputs" / "encoded" / "tiny" and len(file.name) < 80
    assert set(file.stem) <= set("abcdefghijklmnopqrstuvwxyz0123456789-")


def test_texts_that_begin_alike_do_not_share_a_file(tmr, folder):
    for side in ("left", "right"):
        main(["encode_text", "--model_path", str(tmr), "--text", f"{'a person slowly and carefully ' * 3} lifts the {side} hand"])
    assert len(list(folder.rglob("*.npy"))) == 2


def test_a_score_lies_between_0_and_1_and_is_the_models_own(tmr, motions, capsys):
    main(["text_motion_sim", "--run_dir", str(tmr), "--text", TEXT, "--npy", "motions/walk.npy"])
    networks = from_pretrained(tmr)
    expected = scores(networks.encode_text([TEXT])[0], networks.encode_motion([features_of(walk(80).astype(np.float32))])[0])
    assert capsys.readouterr().out.split()[-1] == f"{float(expected):.3}" and 0 <= expected <= 1


@pytest.mark.parametrize("content, message", [
    (walk(40)[:, :21], "21 joints, this model reads the 22 of humanml"),
    (np.zeros((40, 251)), r"shape \(40, 251\) of float64, expected \(frames, 263\)"),
    (np.where(np.arange(40)[:, None] == 7, np.nan, np.zeros((40, 263))), "NaN or infinity in frame 7"),
    (np.where(np.arange(40)[:, None, None] == 5, np.inf, walk(40)), "NaN or infinity in frame 5"),
    (np.zeros((0, 263)), "expected"),
    (walk(1), "1 frames"),
    (np.zeros(5), r"expected joints \(T, J, 3\)|shape"),
])  # fmt: skip
def test_a_motion_that_cannot_be_read_is_named(tmr, folder, content, message):
    np.save("bad.npy", content)
    with pytest.raises(ValueError, match=message):
        main(["encode_motion", "--model_path", str(tmr), "--motion", "bad.npy"])
    assert not Path("outputs").exists()


@pytest.mark.parametrize("arguments, message", [
    (["encode_text", "--text", " "], "the prompt is empty"),
    (["encode_motion", "--motion", "absent.npy"], "absent.npy: no such file"),
    (["encode_motion", "--motion", "motions"], "expected a motion file"),
    (["encode_motion", "--motion", "motions/take.bvh", "--mapping", "cmu_salsa"], "no joint .hip., which mapping cmu_salsa"),
    (["encode_dataset", "--motions", "empty"], "no motion file"),
    (["encode_dataset", "--motions", "motions", "--gallery", "motions"], "no gallery and not empty"),
    (["encode_dataset", "--dataset", "nowhere"], "dataset 'nowhere' not found"),
    (["localize", "--motion", "motions/long.npy", "--input_text", "absent.txt"], "no such prompt file"),
])  # fmt: skip
def test_bad_input_is_an_error_that_says_what_to_do(tmr, motions, arguments, message):
    with pytest.raises((ValueError, OSError), match=message):
        main([*arguments, "--model_path", str(tmr)])


# ----------------------------------------------------------------------------------------------------------- galleries


def test_a_bad_file_is_left_out_and_listed_and_the_command_fails(tmr, motions, capsys):
    np.save(motions / "bad.npy", walk(40) * np.nan)
    (motions / "worse.npy").write_text("no array")
    with pytest.raises(SystemExit) as stopped:
        encode_folder(tmr)
    assert stopped.value.code == 1
    said = capsys.readouterr().err
    assert "bad.npy: NaN or infinity" in said and "worse.npy: not a readable" in said and "2 left out" in said
    gallery = Gallery.load(Path("gallery"))
    assert {clip.name for clip in gallery.clips} == {"walk", "fast", "more/hand", "long", "take"}
    assert np.isfinite(gallery.vectors).all() and gallery.vectors.dtype == np.float16
    np.testing.assert_allclose(np.linalg.norm(gallery.vectors.astype(np.float32), axis=1), 1, atol=2e-3)


def test_a_long_file_becomes_equal_parts_without_a_gap(tmr, motions):
    clips = [clip for clip in encode_folder(tmr).clips if clip.name == "long"]
    assert [clip.end for clip in clips[:-1]] == [clip.start for clip in clips[1:]]
    assert clips[0].start == 0 and clips[-1].end == pytest.approx(499 / 20)
    assert len(clips) == 3 and max(clip.end - clip.start for clip in clips) <= 10
    one = encode_folder(tmr, "--longest_seconds", "60", gallery="other")
    assert sum(clip.name == "long" for clip in one.clips) == 1


def test_only_new_and_changed_files_are_encoded_again(tmr, motions, capsys):
    before = encode_folder(tmr)
    old = {clip: row for clip, row in zip(before.clips, np.array(before.vectors))}
    capsys.readouterr()
    assert encode_folder(tmr).clips == before.clips and "nothing new" in capsys.readouterr().err
    np.save(motions / "new.npy", walk(44))
    np.save(motions / "walk.npy", walk(90, 0.4))
    after = encode_folder(tmr)
    assert "2 files or clips new" in capsys.readouterr().err
    rows = dict(zip(after.clips, np.array(after.vectors)))
    assert {clip.name for clip in after.clips} == {"walk", "fast", "more/hand", "long", "take", "new"}
    assert len(after) == len(before) + 1
    for clip, row in old.items():
        assert (clip.name == "walk") != (clip in rows and np.array_equal(row, rows[clip]))
    assert after.texts == before.texts and np.array_equal(after.text_vectors, before.text_vectors)


def test_a_gallery_of_another_model_is_neither_extended_nor_searched(tmr, motions, tmp_path):
    encode_folder(tmr)
    other = saved_tmr(tmp_path / "other", seed=1)
    for arguments in (["encode_dataset", "--motions", "motions"], ["search", "--text", TEXT]):
        with pytest.raises(GalleryError, match=r"was made with .*tiny, whose weights"):
            main([*arguments, "--gallery", "gallery", "--model_path", str(other)])
    with pytest.raises(GalleryError, match="nowhere holds no gallery"):
        main(["search", "--gallery", "nowhere", "--text", TEXT])
    Path("gallery/gallery.json").write_text("{}")
    with pytest.raises(GalleryError, match="damaged"):
        main(["search", "--gallery", "gallery", "--text", TEXT])


def test_a_folder_without_a_readable_motion_leaves_no_gallery(tmr, folder):
    Path("broken").mkdir()
    np.save("broken/a.npy", walk(40) * np.nan)
    with pytest.raises(ValueError, match="no motion that this model can read, 1 left out"):
        encode_folder(tmr, motions="broken")
    assert not Path("gallery").exists()


@pytest.mark.parametrize("batch_size", ["1", "3"])
def test_the_batch_size_changes_no_hit(tmr, motions, batch_size):
    one, other = encode_folder(tmr), encode_folder(tmr, "--batch_size", batch_size, gallery="other")
    assert one.clips == other.clips and one.texts == other.texts
    np.testing.assert_allclose(one.vectors.astype(float), other.vectors.astype(float), atol=2e-3)
    hits = [found("--gallery", name, "--text", TEXT) for name in ("gallery", "other")]
    assert [hit["name"] for hit in hits[0]] == [hit["name"] for hit in hits[1]]


@pytest.mark.slow
def test_two_processes_make_the_same_gallery(tmr, motions):
    alone = encode_folder(tmr)
    launch = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2", "-m", "sample.retrieve"]
    flags = ["--model_path", str(tmr), "--motions", "motions", "--mapping", "bandai_namco", "--gallery", "two", "--device", "cpu"]
    environment = {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "PATH": ""}
    subprocess.run([*launch, "encode_dataset", *flags], check=True, env=environment, capture_output=True, timeout=300)
    two = Gallery.load(Path("two"))
    assert two.clips == alone.clips and two.files == alone.files and np.array_equal(two.vectors, alone.vectors)


# -------------------------------------------------------------------------------------------------------------- search


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
    with pytest.raises(GalleryError, match=r"no motion 'wal' in this gallery \(near: walk"):
        found("--gallery", "gallery", "--like", "wal")


def test_texts_are_found_by_motions_and_not_where_there_are_none(tmr, motions):
    encode_folder(tmr)
    hits = found("--gallery", "gallery", "--motion", "motions/more/hand.npy", "--to", "text")
    assert {hit["caption"] for hit in hits} == {"a person raises the left hand", "lifting one arm"}
    space = open_space(tmr)
    expected = scores(*map(torch.from_numpy, (space.encode_motion([features_of(raise_hand(60).astype(np.float32))])[0],
                                              space.encode_text([hits[0]["caption"]])[0])))  # fmt: skip
    assert hits[0]["score"] == pytest.approx(float(expected), abs=1e-3)
    encode_folder(tmr, "--no_texts", gallery="bare")
    with pytest.raises(GalleryError, match="holds no captions to find"):
        found("--gallery", "bare", "--motion", "motions/walk.npy", "--to", "text")


def test_names_of_mirrored_clips():
    names = {"M000123": "000123", "M/KIT/3/kick": "KIT/3/kick", "a/M001": "a/001", "x_mirrored": "x", "walk": None}
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
        best.setdefault(hit["name"].removeprefix("M"), hit["name"])
    assert [hit["name"] for hit in folded] == list(best.values())
    alone = [hit["name"] for hit in found("--gallery", "gallery", "--like", corpus.names[0], "--k", 50)]
    assert len(alone) == len(folded) - 1 and corpus.names[0] not in alone and f"M{corpus.names[0]}" not in alone
    assert all(hit["caption"] == corpus.captions(hit["name"])[0].text for hit in every)


def test_a_dataset_of_another_representation_is_refused(tmp_path, folder, small_dataset):
    published = saved_tmr(tmp_path / "published", heading="published")
    with pytest.raises(ValueError, match="heading"):
        main(["encode_dataset", "--model_path", str(published), "--dataset", str(small_dataset)])


def test_an_evaluator_serves_as_well(tmp_path, motions):
    config = EvaluatorConfig(movement_hidden=8, movement_latent=8, text_hidden=8, motion_hidden=8, embedding=8, words="minilm",
                             word_dim=384, pos_dim=0, heading="continuous")  # fmt: skip
    representation = Representation("humanml", 20.0, "continuous")
    networks = GuoEvaluator(config, Statistics(np.zeros(263), np.ones(263), representation))
    save_pretrained(tmp_path / "evaluator", config, networks.state_dict(), networks.statistics)
    assert encode_folder(tmp_path / "evaluator").vectors.shape[1] == 8
    assert found("--gallery", "gallery", "--motion", "motions/fast.npy")[0]["score"] > 0.999
    main(["localize", "--model_path", str(tmp_path / "evaluator"), "--motion", "motions/long.npy", "--text", TEXT])
    with pytest.raises(ValueError, match="499 frames, this model reads 4 to 196"):
        main(["encode_motion", "--model_path", str(tmp_path / "evaluator"), "--motion", "motions/long.npy"])


def many(count, folder):
    vectors = np.random.default_rng(0).normal(size=(count, 32)).astype(np.float32)
    clips = [Clip(f"{i}", "x", 0.0, 1.0) for i in range(count)]
    empty = Gallery("m", "f", 20.0, np.zeros((0, 32), np.float16))
    empty.extended(clips, [()] * count, vectors, {}).save(folder)
    return Gallery.load(folder), vectors


def test_a_gallery_too_large_for_exact_search_asks_for_usearch(tmp_path, monkeypatch):
    gallery, vectors = many(300, tmp_path / "large")
    monkeypatch.setattr(galleries, "EXACT_LIMIT", 200)
    monkeypatch.setitem(sys.modules, "usearch.index", None)
    with pytest.raises(GalleryError, match=r"pip install usearch .* --exact"):
        GallerySearch(gallery)
    assert GallerySearch(gallery, exact=True).motions(vectors[7], 1)[0].name == "7"


def test_usearch_finds_what_exact_search_finds(tmp_path, monkeypatch):
    pytest.importorskip("usearch.index", reason="usearch is not installed: pip install usearch")
    gallery, vectors = many(2000, tmp_path / "large")
    exact = GallerySearch(gallery).motions(vectors[7], 5)
    monkeypatch.setattr(galleries, "EXACT_LIMIT", 200)
    for _ in range(2):  # built, then read
        near = GallerySearch(gallery).motions(vectors[7], 5)
        assert [hit.name for hit in near] == [hit.name for hit in exact]
        assert near[0].score == pytest.approx(exact[0].score, abs=2e-3)
    shutil.rmtree(tmp_path / "large")
