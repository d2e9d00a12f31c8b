"""The commands that make folders in TMR's layout: annotations of HumanML3D, BABEL and our datasets, features, weights."""

import json

import numpy as np
import pytest
import torch

from data_loaders import annotations, guoh3dfeats
from data_loaders.annotation_builders import file_seconds, sanitised
from data_loaders.corpus import Corpus
from protos.outputs import OutputError
from protos.reading import FileError
from tests.synthetic import random_corpus, walk
from train import extract

# Joint frames of the files in pose_data, at 20 frames per second.
FILES = {"KIT/3/walk_poses": 120, "Eyes_Japan_Dataset/hamada/a_poses": 160, "humanact12/humanact12/P01": 60}
INDEX = """source_path,start_frame,end_frame,new_name
./pose_data/KIT/3/walk_poses.npy,20,100,000001.npy
./pose_data/Eyes_Japan_Dataset/hamada/a_poses.npy,10,110,000002.npy
./pose_data/humanact12/P01.npy,0,-1,000003.npy
./pose_data/CMU/75/gone_poses.npy,0,40,000004.npy
./pose_data/KIT/3/walk_poses.npy,0,60,000005.npy
"""
# Lines of a clip of the seconds 1 to 5 of its file, and the seconds of the file that they describe.
LINES = {
    "walks on#walk/VERB#0.0#0.0": (1.0, 5.0),
    "walks  far#walk/VERB#nan#nan": (1.0, 5.0),
    "walks first#walk/VERB#nan#2.0": (1.0, 3.0),
    "walks backwards in time#walk/VERB#3.0#1.0": (2.0, 4.0),
    "walks at once#walk/VERB#2.0#2.0": (1.0, 5.0),
    "walks a part#walk/VERB#0.5#2.2504": (1.5, 3.25),
    "walks beyond#walk/VERB#3.0#9.0": (4.0, 5.0),
    "is gone#be/VERB#4.5#6.0": None,
    "stops#stop/VERB#3.5#4.0": (4.5, 5.0),
}


@pytest.fixture
def pose_data(tmp_path):
    folder = tmp_path / "datasets" / "motions" / "pose_data"
    for path, frames in FILES.items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        np.save(folder / f"{path}.npy", walk(frames))
    return folder


@pytest.fixture
def features(pose_data):
    folder = pose_data.with_name("guoh3dfeats")
    guoh3dfeats.main(["--input", str(pose_data), "--output", str(folder)])
    return folder


@pytest.fixture
def humanml3d(tmp_path):
    folder = tmp_path / "HumanML3D"
    (folder / "texts").mkdir(parents=True)
    (folder / "index.csv").write_text(INDEX)
    texts = {"000001": "\n".join(LINES), "M000001": "walks mirrored#walk/VERB#0.0#0.0", "000002": "turns#turn/VERB#0.0#0.0",
             "000003": "jumps#jump/VERB#0.0#0.0", "M000003": "jumps, mirrored##1.0#2.5", "000005": "no caption"}  # fmt: skip
    for name, text in texts.items():
        (folder / "texts" / f"{name}.txt").write_text(text + "\n")
    for split, names in (("train", "000001 M000001"), ("val", "000002"), ("test", "000003 000004"), ("all", "000001")):
        (folder / f"{split}.txt").write_text("\n".join(names.split()))
    return folder


def built(output):
    return json.loads((output / "annotations.json").read_text())


def build_humanml3d(humanml3d, tmp_path, *more):
    output = tmp_path / "datasets" / "annotations" / "humanml3d"
    annotations.main(["humanml3d", "--input", str(humanml3d), "--output", str(output), "--overwrite", *more])
    return output


# ---------------------------------------------------------------------------------------------------------- HumanML3D


def test_captions_of_clips_become_seconds_of_whole_files(humanml3d, pose_data, tmp_path, capsys):
    content = built(build_humanml3d(humanml3d, tmp_path, "--motions", str(pose_data)))
    assert {key: (entry["path"], entry["duration"]) for key, entry in content.items()} == {
        "000001": ("KIT/3/walk_poses", 6.0), "M000001": ("M/KIT/3/walk_poses", 6.0),
        "000002": ("Eyes_Japan_Dataset/hamada/a_poses", 8.0),
        "000003": ("humanact12/humanact12/P01", 3.0), "M000003": ("M/humanact12/humanact12/P01", 3.0)}  # fmt: skip
    spans = {key: [(a["start"], a["end"]) for a in entry["annotations"]] for key, entry in content.items()}
    assert spans["000001"] == [span for span in LINES.values() if span]
    assert spans["M000001"] == [(1.0, 5.0)] and spans["000002"] == [(3.5, 8.0)]  # 3 s dropped before; 8.5 is beyond the file
    assert spans["000003"] == [(0.0, 3.0)] and spans["M000003"] == [(1.0, 2.5)]
    assert [a["seg_id"] for a in content["000001"]["annotations"]] == [f"000001_{i}" for i in (0, 1, 2, 3, 4, 5, 6, 8)]
    assert content["M000001"]["annotations"][0]["text"] == "walks mirrored"
    said = capsys.readouterr().err
    assert "12 captions of 5 clips" in said and "1 without a motion file (000004)" in said
    assert "1 outside the file (000001_7)" in said and "1 with unreadable captions (000005)" in said
    assert "2 without captions (M000002, M000005)" in said


def test_features_tell_the_same_durations_as_the_joints_they_come_from(humanml3d, pose_data, features, tmp_path):
    by_features = built(build_humanml3d(humanml3d, tmp_path))  # their folder is the default
    assert by_features == built(build_humanml3d(humanml3d, tmp_path, "--motions", str(pose_data)))


def test_captions_cut_their_frames_out_of_the_features(humanml3d, features, tmp_path):
    data = Corpus(build_humanml3d(humanml3d, tmp_path))
    assert {split: data.listed(split) for split in ("train", "val", "test", "all")} == {
        "train": ["000001", "M000001"], "val": ["000002"], "test": ["000003", "000004"], "all": ["000001"]}  # fmt: skip
    assert [data.names[clip] for clip in data.captioned("test")] == ["000003"]
    clip, mirrored, cut, whole = ([data.cut(data.position(key), caption) for caption in data.captions(key)]
                                  for key in ("000001", "M000001", "000002", "000003"))  # fmt: skip
    assert [len(rows) for rows in clip] == [80, 80, 40, 40, 80, 35, 20, 10]
    assert np.array_equal(clip[5], np.load(features / "KIT/3/walk_poses.npy")[30:65])
    assert np.array_equal(mirrored[0], np.load(features / "M/KIT/3/walk_poses.npy")[20:100])
    assert len(cut[0]) == 89  # frames 70 to 159, of which there are no features beyond 158
    assert len(whole[0]) == 59


def test_the_index_may_lie_above_as_in_the_repository_and_tmrs_own_list_is_taken_along(humanml3d, features, tmp_path):
    (humanml3d / "index.csv").rename(tmp_path / "index.csv")
    (humanml3d / "nsim_test.txt").write_text("000003\n")
    assert Corpus(build_humanml3d(humanml3d, tmp_path)).listed("nsim_test") == ["000003"]


@pytest.mark.parametrize("source, seconds", [
    ("TotalCapture/s1/a", (2.0, 3.0)), ("MPI_Limits/a", (2.0, 3.0)), ("MPI_HDM05/bd/a", (4.0, 5.0)),
    ("Transitions_mocap/a", (1.5, 2.5)), ("CMU/Eyes_Japan_Dataset/a", (1.0, 2.0))])  # fmt: skip
def test_sources_whose_beginning_was_dropped_start_later(humanml3d, pose_data, tmp_path, source, seconds):
    (humanml3d / "index.csv").write_text(INDEX.splitlines()[0] + f"\n./pose_data/{source}.npy,20,40,000002.npy\n")
    (pose_data / source).parent.mkdir(parents=True, exist_ok=True)
    np.save(pose_data / f"{source}.npy", walk(200))
    found = built(build_humanml3d(humanml3d, tmp_path, "--motions", str(pose_data)))["000002"]["annotations"][0]
    assert (found["start"], found["end"]) == seconds


def test_a_folder_that_is_none_of_humanml3d_is_one_clear_line(humanml3d, pose_data, tmp_path):
    def fails(error, message, *motions):
        with pytest.raises(error, match=message):
            build_humanml3d(humanml3d, tmp_path, *(motions or ("--motions", str(pose_data))))

    fails(FileNotFoundError, "python -m data_loaders.guoh3dfeats", "--motions", str(tmp_path / "nowhere"))
    (tmp_path / "empty").mkdir()
    fails(ValueError, "5 without a motion file", "--motions", str(tmp_path / "empty"))
    (humanml3d / "index.csv").write_text(INDEX.replace("end_frame", "stop"))
    fails(ValueError, "index.csv, line 2: .*end_frame.*; expected source_path,start_frame,end_frame,new_name")
    (humanml3d / "index.csv").write_text(INDEX.replace("20,100", "20,x"))
    fails(ValueError, "index.csv, line 2: .*'x'")
    (humanml3d / "index.csv").unlink()
    fails(FileNotFoundError, "index.csv is absent: take it from HumanML3D's repository")
    (humanml3d / "texts").rename(humanml3d / "texts.unpacked")
    fails(FileNotFoundError, "texts.zip unpacked")
    for split in ("train", "val", "test", "all"):
        (humanml3d / f"{split}.txt").unlink()
    fails(FileNotFoundError, "has no train.txt")
    assert not (tmp_path / "datasets" / "annotations").exists()


def test_only_arrays_of_motion_have_a_duration(tmp_path):
    for name, shape in (("joints", (40, 22, 3)), ("features", (39, 263)), ("single", (1, 22, 3)), ("flat", (40,))):
        np.save(tmp_path / f"{name}.npy", np.zeros(shape, np.float32))
    (tmp_path / "broken.npy").write_bytes(b"no array")
    assert file_seconds(tmp_path, "joints") == file_seconds(tmp_path, "features") == 2.0
    for name, message in (("single", "one frame"), ("flat", "expected joints"), ("broken", "no readable .npy")):
        with pytest.raises(ValueError, match=message):
            file_seconds(tmp_path, name)


# -------------------------------------------------------------------------------------------------------------- BABEL


def label(text, seg_id="", **times):
    return {"raw_label": text, "proc_label": text.lower(), "seg_id": seg_id, "act_cat": None, **times}


@pytest.fixture
def babel(tmp_path):
    folder = tmp_path / "BABEL"
    folder.mkdir()
    walking, turning = "KIT/KIT/3/walk_poses.npz", "EyesJapanDataset/Eyes_Japan_Dataset/hamada/a_poses.npz"
    parts = [label("tpose", "u1", start_t=0, end_t=1.0004), label("walk", "u2", start_t=1.0, end_t=6.1),
             label(" ", start_t=1.0, end_t=2.0), label("vanish", start_t=6.1, end_t=7.0)]  # fmt: skip
    train = {
        "7": {"babel_sid": 7, "feat_p": walking, "dur": 6.1234, "seq_ann": {"labels": [label("walk in  a\ttpose ", "u0")]},
              "frame_ann": {"labels": parts}},
        "12": {"babel_sid": 12, "feat_p": turning, "dur": 9.0, "seq_ann": {"labels": [label("turn 90° left")]},
               "frame_ann": None},
        "14": {"babel_sid": 14, "feat_p": walking, "dur": 6.0, "seq_ann": None, "frame_ann": None},
    }  # fmt: skip
    val = {"21": {"babel_sid": 21, "feat_p": "CMU/CMU/75/gone_poses.npz", "dur": 4.0, "seq_ann": {"labels": [label("jump")]},
                  "frame_ann": {"labels": [label("jump up", start_t=0.5, end_t=2.5)]}}}  # fmt: skip
    for split, content in (("train", train), ("val", val)):
        (folder / f"{split}.json").write_text(json.dumps(content))
    return folder


def build_babel(babel, tmp_path, *more):
    output = tmp_path / "datasets" / "annotations" / "babel"
    annotations.main(["babel", "--input", str(babel), "--output", str(output), "--overwrite", *more])
    return output


def test_labels_of_sequences_and_of_their_parts_become_spans(babel, tmp_path, capsys):
    output = build_babel(babel, tmp_path)
    content = built(output)
    assert {key: (entry["path"], entry["duration"]) for key, entry in content.items()} == {
        "00007": ("KIT/3/walk_poses", 6.123), "00012": ("Eyes_Japan_Dataset/hamada/a_poses", 9.0),
        "00021": ("CMU/75/gone_poses", 4.0)}  # fmt: skip
    assert content["00007"]["annotations"] == [
        {"seg_id": "00007_seq_0", "babel_id": "u0", "text": "walk in a t-pose", "start": 0.0, "end": 6.123},
        {"seg_id": "00007_seg_0", "babel_id": "u1", "text": "t-pose", "start": 0.0, "end": 1.0},
        {"seg_id": "00007_seg_1", "babel_id": "u2", "text": "walk", "start": 1.0, "end": 6.1},
        {"seg_id": "00007_seg_3", "babel_id": "", "text": "vanish", "start": 6.1, "end": 6.123},
    ]
    assert content["00012"]["annotations"][0]["text"] == "turn 90 degree left"
    lists = {path.stem: path.read_text().split() for path in (output / "splits").iterdir()}
    assert lists == {"train": ["00007", "00012"], "val": ["00021"], "all": ["00007", "00012", "00021"]}
    said = capsys.readouterr().err
    assert "1 without labels (00014)" in said and "1 without text (00007_seg_2)" in said


def test_either_kind_of_label_can_be_had_alone(babel, tmp_path):
    ids = {mode: [a["seg_id"] for entry in built(build_babel(babel, tmp_path, "--mode", mode)).values()
                  for a in entry["annotations"]] for mode in ("all", "seq", "seg")}  # fmt: skip
    assert ids["seq"] == ["00007_seq_0", "00012_seq_0", "00021_seq_0"]
    assert ids["seg"] == ["00007_seg_0", "00007_seg_1", "00007_seg_3", "00021_seg_0"]
    assert sorted(ids["all"]) == sorted(ids["seq"] + ids["seg"])


def test_motion_files_tell_the_duration_unless_they_are_others_than_labelled(babel, features, tmp_path, capsys):
    data = Corpus(build_babel(babel, tmp_path, "--motions", str(features)))
    assert data.names == ["00007"] and data.clips.annotated[0].duration == 6.0
    assert [(a.start, a.end) for a in data.captions(0)] == [(0.0, 6.0), (0.0, 1.0), (1.0, 6.0)]
    assert [len(data.cut(0, a)) for a in data.captions(0)] == [119, 20, 99]
    said = capsys.readouterr().err
    for reason in ("of another duration (00012)", "without a motion file (00021)", "outside the file (00007_seg_3)"):
        assert f"1 {reason}" in said


def test_a_quarter_of_a_second_is_near_enough(babel, pose_data, tmp_path):
    found = {}
    for seconds in (5.74, 5.75, 6.25, 6.26):
        content = {"7": {"feat_p": "KIT/KIT/3/walk_poses.npz", "dur": seconds, "seq_ann": {"labels": [label("walk")]}}}
        (babel / "train.json").write_text(json.dumps(content))
        try:
            found[seconds] = list(built(build_babel(babel, tmp_path, "--motions", str(pose_data))))
        except ValueError as error:
            found[seconds] = "another duration" in str(error)
    assert found == {5.74: True, 5.75: ["00007"], 6.25: ["00007"], 6.26: True}


def test_a_folder_that_is_none_of_babel_is_one_clear_line(babel, tmp_path):
    content = json.loads((babel / "train.json").read_text())
    cases = {r"train\.json, sequence '7': missing field dur": {"7": {"feat_p": "KIT/KIT/a.npz"}},
             r"train\.json, sequence '7': frame_ann\.labels\[0\]: missing field start_t": {
                 "7": {**content["7"], "frame_ann": {"labels": [label("walk")]}}},
             "val.json: sequence 21 is in both splits": {"21": content["7"]}}  # fmt: skip
    for message, wrong in cases.items():
        (babel / "train.json").write_text(json.dumps(wrong))
        with pytest.raises(ValueError, match=message):
            build_babel(babel, tmp_path)
    (babel / "train.json").write_text("{")
    with pytest.raises(ValueError, match=r"train\.json: not readable JSON"):
        build_babel(babel, tmp_path)
    (babel / "train.json").unlink()
    with pytest.raises(FileNotFoundError, match=r"train\.json is absent: --input must be"):
        build_babel(babel, tmp_path)


def test_only_whole_words_of_a_label_are_put_right():
    assert sanitised(" stand  in\ntpose") == "stand in t-pose"
    assert sanitised("atposed t-pose") == "atposed t-pose"
    assert sanitised("turn 180°") == "turn 180 degree" and sanitised("90 ° turn") == "90 degree turn"


# ------------------------------------------------------------------------------------------------------- our datasets


def test_a_dataset_of_ours_is_written_with_its_features(tmp_path, capsys):
    corpus = Corpus.open(random_corpus(tmp_path / "mine"))
    output = tmp_path / "datasets" / "annotations" / "mine"
    annotations.main(["dataset", "--dataset", str(corpus.folder), "--output", str(output)])
    assert "48 captions of 24 clips" in capsys.readouterr().err
    data = Corpus(output)
    assert data.listed("val") == [corpus.names[i] for i in corpus.split("val")] and data.heading == "continuous"
    for i, name in enumerate(data.names):
        assert [a.text for a in data.captions(i)] == [caption.text for caption in corpus.captions(name)]
        assert all(np.array_equal(data.cut(i, annotation), corpus[i]) for annotation in data.captions(i))


def test_without_a_subcommand_they_are_named(capsys):
    with pytest.raises(SystemExit) as end:
        annotations.main(["--dataset", "bandai_namco", "--output", "x"])
    assert end.value.code == 2
    said = capsys.readouterr().err
    assert all(name in said for name in ("dataset", "humanml3d", "babel"))


# ------------------------------------------------------------------------------------------- features of whole files


def test_features_are_written_once_and_again_on_demand(pose_data, tmp_path, capsys):
    output = tmp_path / "features"
    np.save(pose_data / "KIT/3/still_poses.npy", walk(1))
    np.save(pose_data / "KIT/3/few_poses.npy", walk(30)[:, :20])
    (pose_data / "KIT/3/broken_poses.npy").write_bytes(b"no array")

    def counts(*more):
        with pytest.raises(ValueError, match=r"1 unreadable file\(s\) left out, all else is written: KIT/3/broken_poses\.npy"):
            guoh3dfeats.main(["--input", str(pose_data), "--output", str(output), *more])
        said = capsys.readouterr().err
        for reason in ("of one frame (KIT/3/still_poses.npy)", "of too few joints (KIT/3/few_poses.npy)",
                       "unreadable (KIT/3/broken_poses.npy)"):  # fmt: skip
            assert f"1 {reason}" in said
        line = next(line for line in said.splitlines() if "files written" in line)
        return int(line.split(" files")[0]), int(line.split("; ")[1].split(" were")[0])

    assert counts() == (6, 0)
    assert {path.relative_to(output).as_posix() for path in output.rglob("*.npy")} == {
        f"{below}{path}.npy" for below in ("", "M/") for path in FILES}  # fmt: skip
    one, other = output / "KIT/3/walk_poses.npy", output / "M/KIT/3/walk_poses.npy"
    made = np.load(one)
    assert made.shape == (119, 263)
    np.save(one, np.zeros(3))
    other.unlink()
    assert counts() == (1, 5) and other.is_file() and np.load(one).shape == (3,)
    assert counts("--force_redo") == (6, 0) and np.array_equal(np.load(one), made)


def test_features_of_somebody_else_are_not_replaced(pose_data, tmp_path):
    theirs = tmp_path / "features" / "KIT/3/walk_poses.npy"
    theirs.parent.mkdir(parents=True)
    theirs.write_bytes(b"mine")
    (tmp_path / "features" / "notes.txt").write_text("mine")
    with pytest.raises(OutputError, match=r"walk_poses\.npy is there already"):
        guoh3dfeats.main(["--input", str(pose_data), "--output", str(tmp_path / "features"), "--force_redo"])
    guoh3dfeats.main(["--input", str(pose_data), "--output", str(tmp_path / "features")])
    assert theirs.read_bytes() == b"mine"
    with pytest.raises(OutputError, match="is the folder of the joints"):
        guoh3dfeats.main(["--input", str(pose_data), "--output", str(pose_data)])


def test_annotations_of_somebody_else_are_not_replaced(tmp_path):
    corpus = random_corpus(tmp_path / "mine")
    output = tmp_path / "datasets" / "annotations" / "mine"
    output.mkdir(parents=True)
    (output / "annotations.json").write_text("{}")
    arguments = ["dataset", "--dataset", str(corpus), "--output", str(output)]
    with pytest.raises(OutputError, match=r"annotations\.json is there already"):
        annotations.main([*arguments, "--overwrite"])
    assert (output / "annotations.json").read_text() == "{}" and not (tmp_path / "datasets" / "motions").exists()
    (output / "annotations.json").unlink()
    annotations.main(arguments)
    with pytest.raises(OutputError, match="--overwrite"):
        annotations.main(arguments)
    annotations.main([*arguments, "--overwrite"])


def test_a_folder_without_joints_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"holds no \.npy file: --input must be the pose_data folder"):
        guoh3dfeats.main(["--input", str(tmp_path), "--output", str(tmp_path / "features")])


# ------------------------------------------------------------------------------------------------------------ weights


def test_weights_are_taken_out_of_a_training_checkpoint(tmp_path, capsys):
    checkpoints = tmp_path / "run" / "logs" / "checkpoints"
    checkpoints.mkdir(parents=True)
    state = {f"{module}.{name}": torch.randn(3) for module in ("motion_encoder", "text_encoder", "motion_decoder")
             for name in ("tokens", "layers.0.weight")}  # fmt: skip
    torch.save({"state_dict": state, "epoch": 7}, checkpoints / "latest-epoch=7.ckpt")
    torch.save({"epoch": 7}, checkpoints / "last.ckpt")
    extract.main(["--run_dir", str(tmp_path / "run"), "--ckpt", "latest-epoch=7"])
    folder = tmp_path / "run" / "latest-epoch=7_weights"
    assert str(folder) in capsys.readouterr().err
    found = {f"{file.stem}.{name}": value for file in folder.iterdir() for name, value in torch.load(file).items()}
    assert found.keys() == state.keys() and all(torch.equal(found[name], state[name]) for name in state)
    with pytest.raises(FileError, match=r"last\.ckpt holds no state_dict"):
        extract.main(["--run_dir", str(tmp_path / "run")])
    with pytest.raises(FileNotFoundError, match=r"best\.ckpt is absent; checkpoints of this run: last, latest-epoch=7"):
        extract.main(["--run_dir", str(tmp_path / "run"), "--ckpt", "best"])
