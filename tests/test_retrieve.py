"""The retrieval tools as a user meets them: files of every kind in, vectors, galleries, hits and moments out."""

from pathlib import Path

import numpy as np
import pytest

from data_loaders.features import Features, Statistics
from data_loaders.mocap import read_joints
from data_loaders.sources import SourceClip
from model.checkpoints import from_pretrained, save_pretrained
from model.evaluator_config import EvaluatorConfig
from model.evaluators import GuoEvaluator
from model.layers import cosines
from protos.reading import FileError
from sample.retrieve import main
from tests.synthetic import bvh_text, walk, write_run
from tests.synthetic_bodies import write_amass, write_body_models
from tests.tiny_retrieval import TEXT, encode_folder, features_of, found

# -------------------------------------------------------------------------------------------------- vectors and scores


def test_a_motion_has_one_vector_whatever_file_holds_it(tmr, folder):
    joints = walk(81)
    np.save("joints.npy", joints)
    np.save("features.npy", features_of(joints))
    np.savez("joints.npz", joints=walk(161, fps=40.0), fps=40)
    Path("take.bvh").write_text(bvh_text(walk(121, fps=30.0)))
    vectors = []
    for file in ("joints.npy", "features.npy", "joints.npz", "take.bvh"):
        main(["encode_motion", "--run_dir", str(tmr), "--npy", file, "--output", f"x/{file}.out.npy"])
        vectors.append(np.load(f"x/{file}.out.npy"))
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
    with pytest.raises(FileError, match="--body_model"):
        main(["encode_motion", "--model_path", str(tmr), "--motion", str(take), "--output", "c.npy"])
    assert not Path("c.npy").exists()


def test_start_and_end_choose_a_part(tmr, folder):
    features = features_of(walk(120))
    np.save("whole.npy", features)
    np.save("part.npy", features[20:60])
    for name, flags in (("whole", ["--start", "1", "--end", "3"]), ("part", [])):
        main(["encode_motion", "--model_path", str(tmr), "--motion", f"{name}.npy", *flags])
    whole, part = (np.load(next(Path("outputs/encoded/tiny").glob(f"{name}-*.npy"))) for name in ("whole", "part"))
    np.testing.assert_allclose(whole, part, atol=1e-6)
    with pytest.raises(ValueError, match=r"lasts 5\.95 s: no frame between --start 9"):
        main(["encode_motion", "--model_path", str(tmr), "--motion", "whole.npy", "--start", "9"])


@pytest.mark.parametrize("text", ["../../etc/passwd", "/tmp/x", "a\\b c:*?", "walk " * 60, "走る", "-walks", "a person\nwalks"])
def test_a_text_never_becomes_a_path(tmr, folder, text):
    main(["encode_text", "--model_path", str(tmr), "--text", text])
    (file,) = (path for path in folder.rglob("*") if path.is_file() and path.name not in ("manifest.json", ".lock"))
    assert file.parent == folder / "outputs" / "encoded" / "tiny" and len(file.name) < 80
    assert set(file.stem) <= set("abcdefghijklmnopqrstuvwxyz0123456789-")


@pytest.mark.parametrize("command", [
    ["encode_text", "--text", TEXT, "--output", "mine.npy"], ["encode_motion", "--motion", "mine.npy", "--output", "mine.npy"],
    ["search", "--gallery", "gallery", "--text", TEXT, "--json", "mine.npy"],
    ["search", "--gallery", "gallery", "--text", TEXT, "--csv", "mine.npy"],
])  # fmt: skip
def test_a_file_that_is_there_is_not_replaced_not_even_by_what_is_made_of_it(tmr, motions, command, monkeypatch):
    np.save("mine.npy", features_of(walk(40)))
    before = Path("mine.npy").read_bytes()
    encode_folder(tmr)
    monkeypatch.setattr("model.embedding.open_space", lambda *_: pytest.fail("worked before it looked"))
    with pytest.raises(ValueError, match=r"mine\.npy is there already and is not replaced: .* another --(output|json|csv)"):
        main([*command, "--model_path", str(tmr)])
    assert Path("mine.npy").read_bytes() == before
    with pytest.raises(ValueError, match="expected two files"):
        main(["search", "--gallery", "gallery", "--text", TEXT, "--json", "hits", "--csv", "hits", "--model_path", str(tmr)])


def test_a_vector_at_its_default_place_is_made_anew_unless_somebody_else_wrote_it(tmr, folder):
    command = ["encode_text", "--model_path", str(tmr), "--text"]
    main([*command, "a person walks"])
    (made,) = Path("outputs/encoded/tiny").glob("*.npy")
    made.write_text("damaged")
    main([*command, "a person walks"])
    assert np.load(made).shape == (16,)
    Path("outputs/encoded/tiny/a-person-bows.npy").write_text("mine")
    with pytest.raises(ValueError, match="was not written by this program"):
        main([*command, "a person bows"])
    assert Path("outputs/encoded/tiny/a-person-bows.npy").read_text() == "mine"


def test_results_of_sampling_go_into_the_tools(tmr, folder, capsys):
    clips, texts = [walk(60), walk(50, 2.0)], ["a person walks", "a person runs"]
    write_run(folder / "run", clips, texts)
    for file in ("motions.npz", "motions.npy"):
        main(["text_motion_sim", "--run_dir", str(tmr), "--text", TEXT, "--motion", f"run/{file}#1"])
        main(["encode_motion", "--run_dir", str(tmr), "--motion", f"run/{file}#1", "--output", f"{file}.npy"])
    np.testing.assert_allclose(np.load("motions.npz.npy"), np.load("motions.npy.npy"), atol=1e-6)
    scores = [line.split()[-1] for line in capsys.readouterr().out.splitlines()]
    assert len(scores) == 2 and len(set(scores)) == 1


def test_texts_that_begin_alike_do_not_share_a_file(tmr, folder):
    for side in ("left", "right"):
        main(["encode_text", "--model_path", str(tmr), "--text", f"{'a person slowly and carefully ' * 3} lifts the {side} hand"])
    assert len(list(folder.rglob("*.npy"))) == 2


def test_a_score_lies_between_0_and_1_and_is_the_models_own(tmr, motions, capsys):
    main(["text_motion_sim", "--run_dir", str(tmr), "--text", TEXT, "--npy", "motions/walk.npy"])
    networks = from_pretrained(tmr)
    vectors = networks.encode_text([TEXT]), networks.encode_motion([features_of(walk(80).astype(np.float32))])
    expected = cosines(*vectors)[0, 0] / 2 + 0.5
    assert capsys.readouterr().out.split()[-1] == f"{float(expected):.3}" and 0 <= expected <= 1


@pytest.mark.parametrize("content, message", [
    (walk(40)[:, :21], "21 joints, expected the 22 of humanml"),
    (np.zeros((40, 251)), r"shape \(40, 251\) of float64, expected \(frames, 263\)"),
    (np.where(np.arange(40)[:, None] == 7, np.nan, np.zeros((40, 263))), "NaN or infinity in frame 7"),
    (np.where(np.arange(40)[:, None, None] == 5, np.inf, walk(40)), "NaN or infinity in frame 5"),
    (np.zeros((0, 263)), "holds no frame"),
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
    (["localize", "--motion", "motions/long.npy", "--input_text", "absent.txt"], "absent.txt: no such file"),
])  # fmt: skip
def test_bad_input_is_an_error_that_says_what_to_do(tmr, motions, arguments, message):
    with pytest.raises((ValueError, OSError), match=message):
        main([*arguments, "--model_path", str(tmr)])


def test_an_evaluator_serves_as_well(tmp_path, motions):
    config = EvaluatorConfig(movement_hidden=8, movement_latent=8, text_hidden=8, motion_hidden=8, embedding=8, words="minilm",
                             word_dim=384, pos_dim=0, features=Features(heading="continuous"))  # fmt: skip
    features = Features("humanml", 20.0, "continuous")
    networks = GuoEvaluator(config, Statistics(np.zeros(263), np.ones(263), features))
    save_pretrained(tmp_path / "evaluator", networks)
    assert encode_folder(tmp_path / "evaluator").vectors.shape[1] == 8
    assert found("--gallery", "gallery", "--motion", "motions/fast.npy")[0]["score"] > 0.999
    with pytest.raises(ValueError, match=r"--longest_seconds 0\.1: 2 frames, this model reads 4 or more: give at least 0\.2"):
        encode_folder(tmp_path / "evaluator", "--longest_seconds", "0.1")
    short = encode_folder(tmp_path / "evaluator", "--longest_seconds", "0.25", gallery="short")
    assert min(clip.end - clip.start for clip in short.clips) + 1e-6 >= 4 / 20
    main(["localize", "--model_path", str(tmp_path / "evaluator"), "--motion", "motions/long.npy", "--text", TEXT])
    with pytest.raises(ValueError, match="499 frames, this model reads 4 to 196"):
        main(["encode_motion", "--model_path", str(tmp_path / "evaluator"), "--motion", "motions/long.npy"])
