"""The commands that train TMR and TEMOS, on small made-up datasets."""

import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from data_loaders.batch_plan import Drawn
from data_loaders.corpus import Batch, Corpus
from data_loaders.corpus_writer import NewClip, write_corpus
from data_loaders.feature_statistics import feature_mean_std
from data_loaders.features import Features, Statistics
from data_loaders.humanml_features import features_from_joints
from data_loaders.skeleton import load_skeleton
from data_loaders.text import Caption
from evaluations.motion_sources import ModelSource
from model import tmr_losses
from model.capabilities import Decoding, Request
from model.checkpoints import from_pretrained
from model.embedding import open_space
from model.layers import cosines
from model.text_encoders import with_text_features
from model.tmr import TMR
from model.tmr_config import PRESETS, TMRConfig
from sample.generation import features_for, generate
from tests.synthetic import CONTENTS, raise_hand, random_corpus, walk
from tests.tiny_training_tmr import SECONDS, small
from tests.typed import flags
from train import train_temos, train_tmr
from train.checkpoints import complete, read_training_state
from train.export import ExportOptions
from train.export import run as export
from train.recipe import draws_of
from train.tmr_options import run
from train.tmr_recipe import RECALLS, batch_recalls, statistics_of, training_motions, validation

ROOT = Path(__file__).resolve().parents[1]
FEATURES = Features("humanml", 20.0, "continuous")
KINDS = {
    "left": ("a person raises the left hand", lambda frames: raise_hand(frames, "left")),
    "right": ("a person raises the right hand", lambda frames: raise_hand(frames, "right")),
    "walk": ("someone walks forward", walk),
}


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    return random_corpus(tmp_path_factory.mktemp("dataset"))


@pytest.fixture(scope="module")
def actions(tmp_path_factory):
    """8 clips of each of three kinds, two of them for validation: the hands differ in nothing but their side."""
    folder, skeleton = tmp_path_factory.mktemp("actions"), load_skeleton("humanml")
    entries = [
        NewClip(f"{kind}{i}", features_from_joints(torch.from_numpy(make(25 + 4 * i)), skeleton, "continuous").numpy(),
              [Caption(text)], {"content": kind})
        for kind, (text, make) in KINDS.items() for i in range(8)
    ]  # fmt: skip
    write_corpus(folder, entries, FEATURES, Statistics(np.zeros(263), np.ones(263), FEATURES))
    (folder / "train.txt").write_text("\n".join(entry.name for entry in entries if int(entry.name[-1]) < 6))
    (folder / "val.txt").write_text("\n".join(entry.name for entry in entries if int(entry.name[-1]) >= 6))
    return folder


def logged(folder, name):
    lines = (json.loads(line) for line in (Path(folder) / "log.jsonl").read_text().splitlines())
    return [line[name] for line in lines if name in line]


# ---------------------------------------------------------------------------------------------------------- training


def test_training_finds_the_motions_of_texts_also_by_their_side(actions, tmp_path):
    options = small(actions, tmp_path, latent_dim=32, num_steps=80, batch_size=12, lr=3e-3, dropout=0.0, frames_per_token=4,
                    log_variance_shift=-4.0, lambda_contrastive=1.0, eval_interval=40, save_interval=1000)  # fmt: skip
    model = run(options).model
    losses = logged(tmp_path, "loss")
    assert np.mean(losses[-5:]) < 0.6 * np.mean(losses[:5])
    corpus = Corpus.open(actions)
    held_out = corpus.split("val")
    text = model.encode_text([text for text, _ in KINDS.values()])
    found = cosines(text, model.encode_motion([corpus[i] for i in held_out])).argmax(0)
    kinds = [list(KINDS)[i] for i in found]
    assert np.mean([corpus.labels[i]["content"] == kind for i, kind in zip(held_out, kinds)]) > 0.8  # by chance: a third
    assert logged(tmp_path, "eval/t2m_R01")[-1] > 80
    best = json.loads((tmp_path / "best" / "metrics.json").read_text())
    assert best["rank_by"] == min(logged(tmp_path, "eval/rank_by"))


def test_a_stopped_run_goes_on_by_the_same_command(dataset, tmp_path):
    options = small(dataset, tmp_path / "whole", balance=0.5, precision="bf16")
    run(options)
    run(replace(options, save_dir=str(tmp_path / "parts"), num_steps=3))
    run(replace(options, save_dir=str(tmp_path / "parts")))
    assert logged(tmp_path / "parts", "loss") == logged(tmp_path / "whole", "loss")
    assert logged(tmp_path / "parts", "eval/loss") == logged(tmp_path / "whole", "eval/loss")


@pytest.mark.slow
def test_two_processes_contrast_and_train_like_one_with_twice_the_batch(dataset, tmp_path):
    one, two = tmp_path / "one", tmp_path / "two"
    options = small(dataset, two, dropout=0.0, num_steps=4, lambda_contrastive=1.0, processes=2)
    done = subprocess.run([sys.executable, "-m", "train.train_tmr", *flags(options)], cwd=ROOT, capture_output=True, text=True,
                          env={**os.environ, "OMP_NUM_THREADS": "1"})  # fmt: skip
    assert done.returncode == 0, done.stderr
    run(replace(options, save_dir=str(one), batch_size=8))
    for name in ("loss", "contrastive", "recons"):
        assert logged(two, name) == pytest.approx(logged(one, name), rel=1e-4)
    a, b = (read_training_state(complete(folder)[-1])["networks"] for folder in (one, two))
    for name in a.keys() - {name for name in a if name.endswith("qkv.bias")}:  # that of keys has no gradient but rounding
        torch.testing.assert_close(a[name], b[name], rtol=0, atol=1e-5, msg=name)


def test_the_commands_take_flags_and_refuse_what_cannot_be_trained(dataset, tmp_path, capsys):
    for command, contrast in ((train_tmr, 0.1), (train_temos, 0.0)):
        folder = tmp_path / command.__name__
        command.main(["--save_dir", str(folder), "--preset", "small", "--dataset", str(dataset), "--num_steps", "1",
                      "--batch_size", "2", "--eval_interval", "1", "--device", "cpu", "--temperature", "0.3",
                      "--contrast", "hard_negatives"])  # fmt: skip
        config = from_pretrained(complete(folder)[-1]).config
        assert (config.latent_dim, config.lambda_contrastive) == (PRESETS["small"]["latent_dim"], contrast)
        assert (config.temperature, config.contrast) == (0.3, "hard_negatives")
        assert ("contrastive" in json.loads((folder / "log.jsonl").read_text().splitlines()[0])) == bool(contrast)
    for flag, value, message in (("--batch_size", "1", "from 2 to 65536"), ("--min_seconds", "11", "more than --max_seconds 10"),
                                 ("--latent_dim", "30", "a multiple of num_heads"), ("--temperature", "0", "must be from 0.0001"),
                                 ("--false_negative_threshold", "2", "from 0 to 1, got 2")):
        with pytest.raises(SystemExit):
            train_tmr.main(["--save_dir", str(tmp_path), flag, value])
        assert message in " ".join(capsys.readouterr().err.split())


@pytest.mark.parametrize(
    "wrong, said",
    [
        ({"dataset": "no_such"}, "dataset 'no_such' not found"),
        ({"min_seconds": 5.0}, "nothing in split 'train' can be trained on"),
        ({"motions": Path("x")}, "--motions belongs to a folder with annotations.json"),
        ({"text_encoder": "distilbert"}, r"protos\.fetch"),
        ({"max_seconds": 300.0}, "--max_seconds 300: 6000 frames at 20 fps, these networks read at most 4998"),
    ],
)
def test_what_cannot_be_trained_is_said_in_one_line(dataset, tmp_path, wrong, said):
    with pytest.raises((ValueError, OSError), match=said) as error:
        run(replace(small(dataset, tmp_path), **wrong))
    assert "\n" not in str(error.value)


# -------------------------------------------------------------------------------------------------------------- loss


def test_captions_that_differ_in_a_side_stay_negatives_and_a_clip_is_none_of_its_own(dataset, tmp_path):
    model = run(small(dataset, tmp_path, num_steps=1, eval_interval=0)).model
    assert model.config.duplicates == "words"
    texts = ["a person raises the left hand", "a person raises the right hand", "the man is raising his left hand", "x", "y"]
    batch = Batch(torch.zeros(5, 1, 1), torch.ones(5), torch.ones(5, 1), texts, [], torch.tensor([0, 1, 2, 7, 7]))
    batch = with_text_features(batch, {"sentences": model.text_encoder})
    assert tmr_losses.false_negatives(batch.text_features["sentences"].pooled, 0.8)[0, 1]  # what the score alone would say
    found = model.captions_of(batch).false_negatives(0.8)
    assert found.nonzero().tolist() == [[0, 2], [2, 0], [3, 4], [4, 3]]


def test_groups_of_like_length_change_nothing_but_the_time(dataset, tmp_path, monkeypatch):
    corpus = Corpus.open(dataset)
    options = small(dataset, tmp_path, num_steps=1, eval_interval=0, frames_per_token=4)
    model = run(options).model
    motions = training_motions(corpus, "train", SECONDS)
    encoders = dict.fromkeys(("words", "sentences"), model.text_encoder)
    batch = with_text_features(motions.batch([Drawn(i, i) for i in (0, 19, 7, 12, 3)]), encoders)
    found = []
    for rows in (2, 64):
        monkeypatch.setitem(tmr_losses.GROUP_ROWS, "cpu", rows)
        model.networks.zero_grad()
        terms = model.loss(batch, draws_of(0, range(5)))
        found.append({name: float(value.detach()) for name, value in terms.items()})
    assert found[0] == pytest.approx(found[1], rel=1e-4)


def recall_at_1(model, batch, encoders):
    return batch_recalls(model, with_text_features(batch, encoders))["t2m_R01"]


def test_validation_is_the_same_each_time_and_knows_chance(dataset, tmp_path):
    options = small(dataset, tmp_path, num_steps=1, eval_interval=1)
    model = run(options).model
    encoders = dict.fromkeys(("words", "sentences"), model.text_encoder)
    evaluate = validation(training_motions(Corpus.open(dataset), "val", SECONDS), options.seed, encoders)
    assert evaluate(model, 1) == evaluate(model, 2)
    batch = training_motions(Corpus.open(dataset), "train", SECONDS).batch([Drawn(i, i) for i in range(20)])
    found = evaluate(model, 1)
    assert found["rank_by"] == pytest.approx(-np.mean([found[name] for name in RECALLS]))  # the least is kept as the best
    same = replace(batch, texts=["a person walks", "somebody is walking"] * 10)  # of one meaning: any is a hit
    assert recall_at_1(model, same, encoders) == 100 > recall_at_1(model, batch, encoders)


def test_statistics_are_those_of_every_feature_by_itself(dataset):
    corpus = Corpus.open(dataset)
    statistics = statistics_of(training_motions(corpus, "train", SECONDS), corpus)
    frames = np.concatenate([corpus[i] for i in corpus.split("train")])
    np.testing.assert_allclose(statistics.std, frames.std(0, ddof=1), rtol=1e-4)
    np.testing.assert_allclose(statistics.mean, frames.mean(0), rtol=1e-3, atol=1e-3)
    constant = feature_mean_std([np.ones((4, 263))], corpus.features)
    assert (constant[0] == 1).all() and (constant[1] == 1).all()


# --------------------------------------------------------------------------------------------------------------- use


def test_an_exported_model_is_small_judges_and_makes_motions(dataset, tmp_path):
    run(small(dataset, tmp_path / "run", num_steps=1, eval_interval=0))
    export(ExportOptions(checkpoint=tmp_path / "run", output=tmp_path / "shared"))
    assert {path.name for path in (tmp_path / "shared").iterdir()} == {
        "config.json", "model.safetensors", "stats.npz", "README.md", "known_texts.npz", "manifest.json"}
    corpus = Corpus.open(dataset)
    judge = open_space(tmp_path / "shared", data=corpus)
    judge.require(corpus.features, "the dataset")
    assert judge.encode_text([Caption("a person bows")]).shape == (1, 16)
    assert judge.encode_motion([corpus[0], corpus[1]]).shape == (2, 16)


def test_the_small_preset_takes_no_more_than_8_megabytes():
    names = ("latent_dim", "ff_size", "num_layers", "frames_per_token")
    model = TMR(TMRConfig(text_dim=384, **{name: PRESETS["small"][name] for name in names}))
    assert 2 * sum(p.numel() for p in model.networks.parameters()) < 8e6


def test_a_temos_checkpoint_samples_and_is_evaluated_as_any_other(dataset, tmp_path):
    result = run(small(dataset, tmp_path, lambda_contrastive=0.0, sentence_encoder="mpnet", num_steps=3))
    texts = list(CONTENTS.values())
    motions = generate(texts, [20, 33, 41], str(result.checkpoint), seeds=[3, 4, 5], device="cpu")
    assert [motion.joints.shape for motion in motions] == [(1, n, 22, 3) for n in (20, 33, 41)]
    assert all(np.isfinite(motion.joints).all() for motion in motions)
    (alone,) = generate(texts[1:2], [33], str(result.checkpoint), seeds=[4], device="cpu")
    far = max(1.0, np.abs(alone.joints).max())  # an untrained model may wander off
    np.testing.assert_allclose(alone.joints, motions[1].joints, atol=1e-4 * far)
    model = from_pretrained(result.checkpoint)
    source = ModelSource(model, Corpus.open(dataset), progress=False)
    made = source([Caption(text) for text in texts], [24, 40, 900], [0, 1, 2])
    assert [each.shape for each in made] == [(24, 263), (40, 263), (200, 263)]
    requests = [Request(text, 20) for text in texts]
    with pytest.raises(ValueError, match="without diffusion"):
        features_for(model, requests, Decoding(guidance_scale=2.0))
    for name, value in {"eta": 0.5, "order": 2, "smoothing": 1.0}.items():
        with pytest.raises(ValueError, match=f"{name}: this model .* does not take it"):
            features_for(model, requests, Decoding(**{name: value}))
