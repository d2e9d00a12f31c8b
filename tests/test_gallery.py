"""Galleries as they are made and kept: files that come, change and go, and folders that hold more than a gallery."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from data_loaders.joint_mapping import MAPPINGS
from model.embedding import open_space
from protos.reading import FileError
from sample.gallery import Gallery
from sample.gallery_sources import clip_motions
from sample.retrieve import main
from tests.synthetic import raise_hand, walk, write_run
from tests.tiny_retrieval import TEXT, encode_folder, features_of, found, saved_tmr, write_motions

ROOT = Path(__file__).resolve().parents[1]


def test_a_bad_file_is_left_out_and_listed_and_the_command_fails(tmr, motions, capsys):
    np.save(motions / "bad.npy", walk(40) * np.nan)
    (motions / "worse.npy").write_text("no array")
    with pytest.raises(SystemExit) as stopped:
        encode_folder(tmr)
    assert stopped.value.code == 1
    said = capsys.readouterr().err
    assert "bad.npy: NaN or infinity" in said and "worse.npy: not a .npy array" in said and "2 left out" in said
    gallery = Gallery.load(Path("gallery"))
    assert {clip.name for clip in gallery.clips} == {"walk", "fast", "more/hand", "long", "take"}
    assert np.isfinite(gallery.vectors).all() and gallery.vectors.dtype == np.float16
    np.testing.assert_allclose(np.linalg.norm(gallery.vectors.astype(np.float32), axis=1), 1, atol=2e-3)


def test_a_folder_that_cannot_be_opened_is_named_and_what_is_known_of_it_stays(tmr, motions, monkeypatch, capsys):
    encode_folder(tmr)
    look = os.scandir

    def scandir(path):
        if Path(path).name == "more":
            raise PermissionError(13, "Permission denied", str(path))
        return look(path)

    monkeypatch.setattr(os, "scandir", scandir)
    with pytest.raises(SystemExit):
        encode_folder(tmr)
    assert "motions/more: Permission denied" in capsys.readouterr().err
    assert "more/hand" in names(Gallery.load(Path("gallery")))


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
        with pytest.raises(FileError, match=r"was made with .*tiny, whose weights"):
            main([*arguments, "--gallery", "gallery", "--model_path", str(other)])
    with pytest.raises(FileError, match="nowhere holds no gallery"):
        main(["search", "--gallery", "nowhere", "--text", TEXT])
    Path("gallery/gallery.json").write_text("{}")
    with pytest.raises(FileError, match="damaged"):
        main(["search", "--gallery", "gallery", "--text", TEXT])


def test_a_model_is_known_by_its_weights_and_settings(tmr, tmp_path):
    space, settings = open_space(tmr), tmr / "config.json"
    assert space.fingerprint == open_space(tmr).fingerprint
    copy = shutil.copytree(tmr, tmp_path / "copy")
    (copy / "config.json").write_text(json.dumps(json.loads(settings.read_text()), indent=7, sort_keys=True))
    assert open_space(copy).fingerprint == space.fingerprint  # what it says counts, not how it is written
    (copy / "config.json").write_text(json.dumps(json.loads(settings.read_text()) | {"num_heads": 1}))
    assert open_space(copy).fingerprint != space.fingerprint


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
    words = [sys.executable, "-m", "sample.retrieve", "encode_dataset", "--processes", "2"]
    flags = ["--model_path", str(tmr), "--motions", "motions", "--mapping", "bandai_namco", "--gallery", "two", "--device", "cpu"]
    environment = {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "PATH": ""}
    subprocess.run([*words, *flags], check=True, env=environment, capture_output=True, timeout=300)
    two = Gallery.load(Path("two"))
    assert two.clips == alone.clips and two.files == alone.files and np.array_equal(two.vectors, alone.vectors)




# ------------------------------------------------------------------------------------------------------ kept up to date


def names(gallery) -> set[str]:
    return {clip.name for clip in gallery.clips}


def test_a_file_that_is_gone_leaves_and_one_that_is_renamed_is_found_by_its_new_name(tmr, motions, capsys):
    elsewhere = write_motions(motions.parent / "elsewhere")
    encode_folder(tmr, motions=elsewhere)
    encode_folder(tmr)
    (motions / "fast.npy").unlink()
    (motions / "walk.npy").rename(motions / "stroll.npy")
    capsys.readouterr()
    gallery = encode_folder(tmr)
    assert "2 motions of the gallery are gone" in capsys.readouterr().err
    here = {clip.name for clip in gallery.clips if Path(clip.source).is_relative_to(motions)}
    assert here == {"stroll", "more/hand", "long", "take"}
    assert sum(clip.name == "walk" for clip in gallery.clips) == 1  # that of elsewhere
    assert gallery.texts == ["a person raises the left hand", "lifting one arm"]
    shutil.rmtree(motions / "more")
    shutil.rmtree(elsewhere / "more")
    encode_folder(tmr, motions=elsewhere)
    gallery = encode_folder(tmr)
    assert not gallery.texts and len(gallery.text_vectors) == 0 and not any("hand" in source for source in gallery.files)


def test_what_is_said_of_a_motion_and_how_it_is_cut_and_read_may_change(tmr, motions, capsys):
    mapping = shutil.copy(MAPPINGS / "bandai_namco.toml", "mine.toml")
    flags = ["encode_dataset", "--model_path", str(tmr), "--motions", "motions", "--gallery", "gallery", "--mapping", mapping]
    main(flags)

    def again(*more) -> Gallery:
        main([*flags, *more])
        said = capsys.readouterr().err
        main([*flags, *more])
        assert "nothing new" in capsys.readouterr().err
        return said, Gallery.load(Path("gallery"))

    (motions / "walk.txt").write_text("a person strolls\n")
    said, gallery = again()
    assert "1 files or clips new" in said and gallery.clips[gallery.row("walk")].captions == ("a person strolls",)
    (motions / "walk.txt").write_text("a person ambles\n")
    said, gallery = again()
    assert gallery.clips[gallery.row("walk")].captions == ("a person ambles",) and "a person strolls" not in gallery.texts
    assert len(gallery.texts) == len(gallery.text_vectors) == 3
    said, gallery = again("--longest_seconds", "60")
    assert sum(clip.name == "long" for clip in gallery.clips) == 1
    Path(mapping).write_text(Path(mapping).read_text() + "\n# another one\n")
    said, _ = again("--longest_seconds", "60")
    assert "5 files or clips new" in said


def test_a_dataset_that_was_prepared_again_is_encoded_again(tmr, folder, small_dataset, capsys):
    data = shutil.copytree(small_dataset, "data")
    flags = ["encode_dataset", "--model_path", str(tmr), "--dataset", data, "--gallery", "gallery"]
    main(flags)
    before = np.array(Gallery.load(Path("gallery")).vectors)
    packed = np.load(Path(data, "corpus/features.npy"))
    np.save(Path(data, "corpus/features.npy"), packed * np.float32(1.3))
    capsys.readouterr()
    main(flags)
    assert "16 files or clips new" in capsys.readouterr().err
    gallery = Gallery.load(Path("gallery"))
    assert len(gallery) == len(before) and not np.allclose(gallery.vectors, before, atol=2e-3)
    main(flags)
    assert "nothing new" in capsys.readouterr().err


def test_an_annotated_dataset_of_which_a_file_has_changed_is_encoded_again(tmr, folder, capsys):
    motions, annotations = folder / "datasets/motions/guoh3dfeats", folder / "datasets/annotations/made_up"
    (annotations / "splits").mkdir(parents=True)
    motions.mkdir(parents=True)
    for number in (1, 2):
        np.save(motions / f"{number}.npy", features_of(walk(100, number)))
    spans = [{"seg_id": "s", "text": TEXT, "start": 0.0, "end": 3.0}, {"seg_id": "t", "text": "late", "start": 60.0, "end": 63.0}]
    content = {f"k{i}": {"path": str(i), "duration": 5.0, "annotations": spans} for i in (1, 2)}
    (annotations / "annotations.json").write_text(json.dumps(content))
    (annotations / "representation.json").write_text(json.dumps({"skeleton": "humanml", "fps": 20.0, "heading": "continuous"}))
    (annotations / "splits/all.txt").write_text("k1\nk2\n")
    flags = ["encode_dataset", "--model_path", str(tmr), "--dataset", str(annotations), "--gallery", "gallery"]
    with pytest.raises(SystemExit):
        main(flags)
    assert capsys.readouterr().err.count("60 to 63 s") == 2
    before = Gallery.load(Path("gallery"))
    assert [(clip.name, clip.start, clip.end) for clip in before.clips] == [("k1", 0, 3), ("k2", 0, 3)]
    main(flags)
    assert "nothing new" in capsys.readouterr().err
    np.save(motions / "2.npy", features_of(walk(90, 0.5)))
    space = open_space(tmr)
    assert list(clip_motions(before, [0, 1], space)) == []
    with pytest.raises(SystemExit):
        main(flags)
    assert "2 files or clips new" in capsys.readouterr().err
    after = Gallery.load(Path("gallery"))
    np.testing.assert_allclose(after.vectors[0], before.vectors[0], atol=2e-3)
    assert not np.allclose(after.vectors[1], before.vectors[1], atol=2e-3)
    assert list(clip_motions(after, [0, 1], space)) == [0, 1]
    (motions / "2.npy").unlink()
    content.pop("k1")
    (annotations / "annotations.json").write_text(json.dumps(content))
    with pytest.raises(ValueError, match="no motion that this model can read"):
        main(flags)


def test_a_bad_caption_span_costs_that_span_alone(tmr, folder, small_dataset, capsys):
    data = Path(shutil.copytree(small_dataset, "data"))
    captions = json.loads((data / "corpus/captions.json").read_text())
    name = next(iter(captions))
    captions[name] += [["behind the end", [], 900.0, 901.0], ["before it all", [], -2.0, -1.0],
                       ["its first half second", [], 0, 0.5]]  # fmt: skip
    (data / "corpus/captions.json").write_text(json.dumps(captions))
    with pytest.raises(SystemExit):
        main(["encode_dataset", "--model_path", str(tmr), "--dataset", "data", "--gallery", "gallery"])
    said = capsys.readouterr().err
    assert f"{name}: 900 to 901 s: too short" in said and "-2 to -1 s: no time before" in said
    gallery = Gallery.load(Path("gallery"))
    assert [(clip.start, clip.end) for clip in gallery.clips if clip.name == name][1:] == [(0.0, 0.5)]
    assert "its first half second" in gallery.texts and not {"behind the end", "before it all"} & set(gallery.texts)


def test_a_motion_without_a_finite_vector_is_left_out_alone(tmr, motions, capsys):
    before = encode_folder(tmr)
    np.save(motions / "wild.npy", np.full((40, 263), 1e38, np.float32))
    features = features_of(walk(500))
    features[:150] = 1e38
    np.save(motions / "half.npy", features)
    with pytest.raises(SystemExit):
        encode_folder(tmr)
    said = capsys.readouterr().err
    assert "wild.npy: 0.00 to 2.00 s: no finite vector" in said and "half.npy: 0.00 to 8.3" in said
    gallery = Gallery.load(Path("gallery"))
    assert names(gallery) == names(before) | {"half"} and [c.start > 0 for c in gallery.clips if c.name == "half"] == [True] * 2
    assert np.isfinite(gallery.vectors).all() and len(found("--gallery", "gallery", "--text", TEXT, "--k", 50)) == len(gallery)
    with pytest.raises(ValueError, match=r"wild.npy: motion 0 of 1 has no finite vector"):
        main(["encode_motion", "--model_path", str(tmr), "--motion", "motions/wild.npy"])


def test_a_bad_file_that_comes_back_as_it_was_is_found_again(tmr, motions):
    file, old = motions / "walk.npy", (motions / "walk.npy").read_bytes()
    times = file.stat().st_atime_ns, file.stat().st_mtime_ns
    encode_folder(tmr)
    file.write_text("no array")
    with pytest.raises(SystemExit):
        encode_folder(tmr)
    assert "walk" not in names(Gallery.load(Path("gallery")))
    file.write_bytes(old)
    os.utime(file, ns=times)
    assert "walk" in names(encode_folder(tmr))


def test_a_caption_with_times_is_of_the_parts_that_it_describes(tmr, motions):
    lines = ["the whole of it##0#0", "at the start##0.5#1.5", "most of the second part##9#16", "into the third##12#21.5"]
    (motions / "long.txt").write_text("\n".join(lines))
    gallery = encode_folder(tmr)
    parts = [list(clip.captions) for clip in gallery.clips if clip.name == "long"]  # of 8.3 s
    assert parts == [["the whole of it", "at the start"],
                     ["the whole of it", "most of the second part", "into the third"],
                     ["the whole of it", "into the third"]]  # fmt: skip


def test_links_are_read_as_what_they_are_called(tmr, folder):
    write_motions(folder / "store")
    (folder / "store/walk.npy").rename(folder / "store/blob-1f3a")
    (folder / "motions").mkdir()
    (folder / "motions/linked.npy").symlink_to(folder / "store/blob-1f3a")
    (folder / "motions/linked.txt").write_text("a person walks by name\n")
    gallery = encode_folder(tmr)
    assert names(gallery) == {"linked"} and gallery.texts == ["a person walks by name"]
    assert found("--gallery", "gallery", "--text", TEXT, "--html", "--output_dir", "shown")
    assert Path("shown/hits.html").is_file()


def test_galleries_and_hidden_folders_are_no_motions(tmr, motions):
    shutil.copytree(motions / "more", motions / ".trash")
    once = encode_folder(tmr, gallery="motions/gallery")
    again = encode_folder(tmr, gallery="motions/gallery")
    assert names(once) == names(again) == {"walk", "fast", "more/hand", "long", "take"}


def test_the_folder_of_a_sampling_run_gives_each_motion_once_with_its_text(tmr, folder):
    clips = [walk(40), raise_hand(60)]
    write_run(folder / "run", clips, ["somebody walks", "a hand goes up"])
    (folder / "run/joints").mkdir()
    for number, clip in enumerate(clips):
        np.save(folder / f"run/joints/prompt0{number}_rep00.npy", clip)
    main(["encode_dataset", "--model_path", str(tmr), "--motions", "run", "--gallery", "gallery"])
    gallery = Gallery.load(Path("gallery"))
    assert [(clip.name, clip.captions) for clip in gallery.clips] == [
        ("motions#0", ("somebody walks",)), ("motions#1", ("a hand goes up",))
    ]  # fmt: skip
    shown = clip_motions(gallery, [1], open_space(tmr))
    assert shown[1].joints.shape[1] == 59
    main(["encode_dataset", "--model_path", str(tmr), "--motions", "run/motions.npy#1", "--gallery", "one"])
    assert [clip.name for clip in Gallery.load(Path("one")).clips] == ["motions#1"]
