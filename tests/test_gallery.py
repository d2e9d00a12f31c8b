"""Galleries as they are made and kept: files that come, change and go, and folders that hold more than a gallery."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from sample.gallery import Gallery, GalleryError
from sample.retrieve import main
from tests.synthetic import walk
from tests.tiny_retrieval import TEXT, encode_folder, found, saved_tmr, write_motions

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
    return write_motions(folder / "motions")


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


