"""Raw recordings become a dataset: what is kept, cut, mirrored, dropped, and what happens when a run is interrupted."""

import json
import shutil
import subprocess
import sys
import tarfile
from pathlib import Path

import numpy as np
import pytest

from data_loaders.clips import windows
from data_loaders.corpus import Corpus
from data_loaders.features import Features, FeaturesMismatch, Statistics
from data_loaders.preparation import prepare
from data_loaders.read_recordings import PreparationSettings
from data_loaders.text import Tagger, default_tagger
from tests.shared import shared
from tests.synthetic import bvh_text, raise_hand, walk, write_recordings

ROOT = Path(__file__).resolve().parents[1]


def options(source: Path, output: Path, **changes) -> PreparationSettings:
    return PreparationSettings(changes.pop("kind", "bandai_namco"), source, output, workers=1, **changes)


def report(folder: Path) -> str:
    return (folder / "report.txt").read_text()


def test_the_layout_is_that_of_humanml3d(small_dataset):
    names = Corpus.open(small_dataset).names
    assert len(names) == 16  # 8 recordings and their mirrored twins
    for name in names:
        features = np.load(small_dataset / "new_joint_vecs" / f"{name}.npy")
        assert features.shape[1] == 263 and features.dtype == np.float32
        assert np.load(small_dataset / "new_joints" / f"{name}.npy").shape == (len(features), 22, 3)
        assert all("#" in line for line in (small_dataset / "texts" / f"{name}.txt").read_text().splitlines())
    assert np.load(small_dataset / "Mean.npy").shape == np.load(small_dataset / "Std.npy").shape == (263,)
    assert (small_dataset / "test.txt").read_text().split() == [
        "dataset-2_raise-up-left-hand_normal_004", "dataset-2_raise-up-left-hand_normal_004@mirrored",
        "dataset-2_walk_normal_004", "dataset-2_walk_normal_004@mirrored",
    ]  # fmt: skip


def test_corpus_and_single_files_agree(small_dataset):
    corpus = Corpus.open(small_dataset)
    for i, name in enumerate(corpus.names):
        np.testing.assert_array_equal(corpus[i], np.load(small_dataset / "new_joint_vecs" / f"{name}.npy"))
        np.testing.assert_allclose(corpus.joints(i), np.load(small_dataset / "new_joints" / f"{name}.npy"), atol=1e-6)


def test_a_walk_still_walks_at_its_speed(small_dataset):
    corpus = Corpus.open(small_dataset)
    root = corpus.joints("dataset-2_walk_normal_001")[:, 0]
    speed = np.linalg.norm(np.diff(root[:, [0, 2]], axis=0), axis=1).mean() * corpus.fps
    assert speed == pytest.approx(0.9, rel=0.1)
    assert root[-1, 2] > 1.5 and abs(root[-1, 0]) < 0.1  # along +Z


def test_mirrored_twins_swap_sides_in_motion_caption_and_label(small_dataset):
    corpus = Corpus.open(small_dataset)
    skeleton = corpus.skeleton
    left, right = skeleton.index("left_wrist"), skeleton.index("right_wrist")
    joints, twin = (corpus.joints("dataset-2_raise-up-left-hand_normal_001" + m) for m in ("", "@mirrored"))
    assert joints[:, left, 1].max() > joints[:, right, 1].max() + 0.3
    assert twin[:, right, 1].max() > twin[:, left, 1].max() + 0.3
    assert corpus.captions("dataset-2_raise-up-left-hand_normal_001@mirrored")[0].text == "a person raises the right hand"
    label = corpus.labels[corpus.position("dataset-2_raise-up-left-hand_normal_001@mirrored")]
    assert (label["content"], label["mirrored"]) == ("raise-up-right-hand", True)


def test_captions_carry_word_and_pos_tokens(small_dataset):
    caption = Corpus.open(small_dataset).captions("dataset-2_walk_normal_001")[0]
    assert caption.text == "a person walks forward"
    assert "walk/VERB" in caption.tokens and "person/NOUN" in caption.tokens


def test_a_dataset_says_who_made_its_tokens_unless_some_are_the_recordings_own(small_dataset, tmp_path):
    corpus = Corpus.open(small_dataset)
    assert corpus.tagger == default_tagger()
    tagger = Tagger(corpus.tagger)
    captions = [caption for name in corpus.names for caption in corpus.captions(name)]
    assert all(caption.tagger == corpus.tagger and list(caption.tokens) == tagger.tag(caption.text) for caption in captions)
    write_recordings(tmp_path / "raw", copies=3)
    about = json.loads((tmp_path / "raw" / "captions.json").read_text())
    about["clips"]["dataset-2_walk_normal_001"]["captions"].append({"text": "he walks", "tokens": ["he/PRON", "walk/VERB"]})
    (tmp_path / "raw" / "captions.json").write_text(json.dumps(about))
    prepare(options(tmp_path / "raw", tmp_path / "out"))
    corpus = Corpus.open(tmp_path / "out")
    assert corpus.tagger == "" and ("he/PRON", "walk/VERB") in [c.tokens for c in corpus.captions("dataset-2_walk_normal_001")]


def test_statistics_come_from_the_train_split(small_dataset):
    corpus = Corpus.open(small_dataset)
    train = np.concatenate([corpus[i] for i in corpus.split("train")])
    np.testing.assert_allclose(corpus.mean, train.mean(0), atol=1e-5)
    assert np.unique(corpus.std[4:67]).size == 1  # averaged inside each block


def test_windows_cover_a_long_clip_and_share_one_frame():
    assert windows(100, 196) == [(0, 100)]
    spans = windows(500, 196)
    assert [stop - start - 1 <= 196 for start, stop in spans] == [True] * 3
    assert [stop - 1 for _, stop in spans[:-1]] == [start for start, _ in spans[1:]]
    assert (spans[0][0], spans[-1][1]) == (0, 500)


def test_long_clips_are_cut_and_short_ones_dropped_with_the_reason(tmp_path):
    folder = tmp_path / "raw"
    folder.mkdir()
    for name, frames in (("long", 700), ("short", 20), ("uncaptioned", 60)):
        (folder / f"{name}.bvh").write_text(bvh_text(walk(frames, fps=30.0)))
    (folder / "long.txt").write_text("a person walks\n")
    (folder / "short.txt").write_text("a person walks\n")
    (folder / "train.txt").write_text("long\n")
    prepare(options(folder, tmp_path / "out", kind="bvh", mapping="bandai_namco"))
    corpus = Corpus.open(tmp_path / "out")
    assert sorted(corpus.names) == sorted(f"long@w{k}{m}" for m in ("", "@mirrored") for k in range(3))
    assert corpus.lengths.max() <= 196
    assert "short: 0.65 s long, shorter than 1 s" in report(tmp_path / "out")
    assert "uncaptioned: no caption" in report(tmp_path / "out")


def test_bad_files_are_reported_and_the_rest_goes_on(tmp_path):
    folder = tmp_path / "raw"
    write_recordings(folder, copies=2)
    good = (folder / "dataset-2_walk_normal_001.bvh").read_text()
    (folder / "dataset-2_walk_normal_001.bvh").write_text(good[: len(good) // 2])
    broken = (folder / "dataset-2_walk_normal_002.bvh").read_text().replace("JOINT Head", "JOINT Hat")
    (folder / "dataset-2_walk_normal_002.bvh").write_text(broken)
    clip = raise_hand(60)
    clip[10] = np.nan
    (folder / "dataset-2_raise-up-left-hand_normal_001.bvh").write_text(bvh_text(clip))
    (folder / "train.txt").write_text("dataset-2_raise-up-left-hand_normal_002\n")
    (folder / "test.txt").write_text("")
    prepare(options(folder, tmp_path / "out"))
    lines = report(tmp_path / "out").splitlines()
    assert len(Corpus.open(tmp_path / "out")) == 2
    assert sum("dataset-2_walk_normal_001" in line for line in lines) == 1
    assert any("Head" in line and "dataset-2_walk_normal_002" in line for line in lines)
    assert any("dataset-2_raise-up-left-hand_normal_001" in line for line in lines)


def test_archives_are_read_in_place(tmp_path, recordings):
    folder = tmp_path / "packed"
    folder.mkdir()
    with tarfile.open(folder / "all.tar.xz", "w:xz") as archive:
        for path in sorted(recordings.glob("*.bvh")):
            archive.add(path, arcname=f"pack/{path.name}")
    for name in ("captions.json", "train.txt", "val.txt", "test.txt"):
        shutil.copy(recordings / name, folder)
    prepare(options(folder, tmp_path / "out"))
    assert len(Corpus.open(tmp_path / "out")) == 16
    assert [p.name for p in folder.iterdir() if p.suffix == ".bvh"] == []


def test_an_interrupted_run_goes_on_and_ends_the_same(tmp_path, recordings, small_dataset, monkeypatch):
    import data_loaders.mocap as module

    monkeypatch.setattr("data_loaders.preparation.BATCH", 2)
    read, calls = module.read_joints, []

    def stop_after_five(clip, *settings, **more):
        calls.append(clip.name)
        if len(calls) == 6:
            raise KeyboardInterrupt
        return read(clip, *settings, **more)

    monkeypatch.setattr(module, "read_joints", stop_after_five)
    with pytest.raises(KeyboardInterrupt):
        prepare(options(recordings, tmp_path / "out"))
    calls.clear()
    monkeypatch.setattr(module, "read_joints", lambda clip, *a, **k: calls.append(clip.name) or read(clip, *a, **k))
    prepare(options(recordings, tmp_path / "out"))
    assert len(calls) == 4  # four of eight were done before
    ours, whole = Corpus.open(tmp_path / "out"), Corpus.open(small_dataset)
    assert ours.names == whole.names
    np.testing.assert_array_equal(ours.frames, whole.frames)
    np.testing.assert_array_equal(ours.std, whole.std)


def test_other_settings_do_not_go_into_a_folder_that_was_begun(tmp_path, recordings, small_dataset):
    with pytest.raises(ValueError, match="other settings"):
        prepare(options(recordings, small_dataset, heading="published"))


def test_headings_do_not_mix(tmp_path, recordings, small_dataset):
    prepare(options(recordings, tmp_path / "out", heading="published"))
    ours, other = Corpus.open(small_dataset), Corpus.open(tmp_path / "out")
    assert (ours.heading, other.heading) == ("continuous", "published")
    with pytest.raises(FeaturesMismatch, match=r"continuous.*published"):
        ours.features.require(other.features, "one", "the other")
    shutil.copy(small_dataset / "corpus" / "stats.npz", tmp_path / "out" / "corpus" / "stats.npz")
    with pytest.raises(FeaturesMismatch, match="heading"):
        Corpus.open(tmp_path / "out").mean  # noqa: B018


def test_statistics_survive_the_disk(tmp_path):
    statistics = Statistics(np.arange(3.0), np.ones(3), Features("kit", 12.5, "published"))
    statistics.save(tmp_path / "stats.npz")
    assert Statistics.load(tmp_path / "stats.npz").features == statistics.features


def test_a_clone_without_captions_gets_them_from_its_file_names(tmp_path, recordings):
    folder = tmp_path / "clone" / "dataset" / "data"
    folder.mkdir(parents=True)
    for path in recordings.glob("*.bvh"):
        shutil.copy(path, folder)
    prepare(options(tmp_path / "clone", tmp_path / "out"))
    captions = {c.text for c in Corpus.open(tmp_path / "out").captions("dataset-2_raise-up-left-hand_normal_001")}
    assert "a person raises the left hand" in captions


def official_folder(folder: Path, small: Path, bad: dict[str, np.ndarray]) -> Path:
    """A folder in the official layout from the small dataset, with some clips replaced."""
    for part in ("new_joint_vecs", "texts"):
        shutil.copytree(small / part, folder / part)
    for name in ("Mean.npy", "Std.npy", "train.txt", "val.txt", "test.txt"):
        shutil.copy(small / name, folder)
    for name, features in bad.items():
        np.save(folder / "new_joint_vecs" / f"{name}.npy", features)
        (folder / "texts" / f"{name}.txt").write_text("a person walks#a/DET person/NOUN walk/VERB#0.0#0.0\n")
        with open(folder / "test.txt", "a") as file:
            file.write(f"{name}\n")
    return folder


def test_official_folders_are_checked_and_packed(tmp_path, small_dataset, caplog):
    bad = {"one_frame": np.zeros((1, 263)), "nan": np.full((50, 263), np.nan), "narrow": np.zeros((50, 251))}
    folder = official_folder(tmp_path / "HumanML3D", small_dataset, bad)
    (folder / "texts" / "dataset-2_walk_normal_001.txt").unlink()
    prepare(options(folder, folder, kind="humanml3d"))
    corpus = Corpus.open(folder)
    assert (len(corpus), corpus.heading) == (15, "published")
    for name, reason in (("one_frame", "1 frame"), ("nan", "NaN"), ("narrow", "(50, 251)")):
        assert any(line.startswith(name) and reason in line for line in report(folder).splitlines())
    assert "the published one 4384" in caplog.text


def test_an_official_folder_of_the_other_dataset_is_refused(tmp_path, small_dataset):
    folder = official_folder(tmp_path / "KIT-ML", small_dataset, {})
    with pytest.raises(ValueError, match=r"Mean.npy.*expected \(251,\) for kit"):
        prepare(options(folder, folder, kind="kit"))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["bandai_namco", "--input", "nowhere", "--output", "out"], "nowhere: no such folder"),
        (["bvh", "--input", ".", "--output", "out"], "--mapping"),
        (["bvh", "--input", ".", "--output", "out", "--mapping", "nobody"], "no mapping 'nobody'"),
        (["humanml3d", "--input", ".", "--output", "out"], "is missing"),
    ],
)
def test_the_command_says_in_one_line_what_is_wrong(tmp_path, arguments, message):
    command = [sys.executable, "-m", "data_loaders.prepare", *arguments]
    done = subprocess.run(command, cwd=tmp_path, env={"PYTHONPATH": str(ROOT), "PATH": ""}, capture_output=True, text=True)
    assert done.returncode == 1
    assert message in done.stderr.splitlines()[-1] and "Traceback" not in done.stderr


def test_a_caption_file_that_is_not_one_is_named(tmp_path, recordings):
    folder = tmp_path / "raw"
    shutil.copytree(recordings, folder)
    (folder / "captions.json").write_text("walk")
    with pytest.raises(ValueError, match=r"captions.json: not readable JSON"):
        prepare(options(folder, tmp_path / "out"))


def test_real_recordings_decode_to_themselves(tmp_path):
    """Bandai-Namco clips through features and back: below 1e-5 m, spins and turns included."""
    import torch

    from data_loaders import mocap
    from data_loaders.humanml_features import features_from_clips, joints_from_features
    from data_loaders.skeleton import load_skeleton
    from tests.published_rotations import canonical_joints

    skeleton, mapping = load_skeleton("humanml"), mocap.load_mapping("bandai_namco")
    clips = []
    for path in sorted(shared("data", "bandai_namco", "sample").glob("*.bvh")):
        recording = mocap.read_bvh(path)
        clips.append(torch.from_numpy(mocap.resample(mocap.retarget(recording, mapping), recording.fps, 20.0)).float())
    features = features_from_clips(clips, skeleton, heading="continuous")
    for rows, joints in zip(features, canonical_joints(clips, skeleton, heading="continuous")):
        assert (joints_from_features(rows, skeleton) - joints[:-1]).abs().max() < 1e-5


def test_progress_lines_name_every_recording(small_dataset, recordings):
    lines = (small_dataset / "progress.jsonl").read_text().splitlines()[1:]
    assert {json.loads(line)["source"] for line in lines} == {path.stem for path in recordings.glob("*.bvh")}


def test_still_ends_and_still_windows_of_a_cut_take_are_left_out(tmp_path):
    """Captions of a long take say what happens in it somewhere: 8 s of standing at each end tell nothing of a walk."""
    raw = tmp_path / "raw"
    raw.mkdir()
    moving = walk(60, fps=20.0)
    pause = np.repeat(moving[-1:], 300, axis=0)
    still = np.repeat(moving[:1], 160, axis=0)
    joints = np.concatenate([still, moving, pause, moving + moving[-1:, :1] * [0, 0, 1] - moving[:1, :1] * [0, 0, 1],
                             np.repeat(moving[-1:] + moving[-1:, :1] * [0, 0, 1], 160, axis=0)])  # fmt: skip
    np.save(raw / "take.npy", joints)
    (raw / "take.txt").write_text("a person walks, waits and walks on\n")
    (raw / "train.txt").write_text("take\n")
    prepare(options(raw, tmp_path / "out", kind="joints", mirror=False, max_frames=100))
    corpus = Corpus.open(tmp_path / "out")
    assert 2 <= len(corpus.names) < 8 and "hardly anything moves" in report(tmp_path / "out")
    speeds = [np.linalg.norm(np.diff(corpus.joints(i)[:, 0], axis=0), axis=-1).max() * 20 for i in range(len(corpus))]
    assert min(speeds) > 0.5
    prepare(options(raw, tmp_path / "all", kind="joints", mirror=False, max_frames=100, still_speed=0.0))
    assert sum(Corpus.open(tmp_path / "all").lengths) == len(joints) - 1  # nothing is left out
