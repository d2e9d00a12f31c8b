"""Published folders of TMR and TEMOS: read as they are, without running what they pickled; what is wrong is one line."""

import json
import pickle
from collections import defaultdict
from dataclasses import asdict

import numpy as np
import pytest
import torch

from data_loaders.features import Features, Statistics
from data_loaders.motion_files import motion_of
from model.checkpoints import from_pretrained
from model.embedder import lengths_to_mask
from model.official import temos as official
from model.official.tmr import MODULES, config_from_run, extract, load_tmr, tmr_name
from model.tmr import TMR
from model.tmr_config import TMRConfig
from protos.outputs import OutputError
from protos.reading import FileError

SIZES = dict(latent_dim=16, ff_size=24, num_layers=2, num_heads=2, dropout=0.1)
CONFIG = TMRConfig(**SIZES, dataset="humanml3d", text_encoder="distilbert", sentence_encoder="mpnet",
                   false_negative_threshold=0.8, duplicates="published")  # fmt: skip
SEQUENCE = torch.randn(2, 12, 263, generator=torch.Generator().manual_seed(0))
MASK = lengths_to_mask(torch.tensor([12, 7]))


def run_settings():
    """The configuration a published run saves."""
    sizes = {"vae": True, "activation": "gelu", **SIZES}
    hub = "sentence-transformers/all-mpnet-base-v2"
    normalizer = {"base_dir": "stats/humanml3d/guoh3dfeats", "eps": 1e-12}
    return {
        "model": {
            "_target_": "src.model.TMR", "vae": True, "temperature": 0.1, "threshold_selfsim": 0.8,
            "motion_encoder": {"nfeats": 263, **sizes}, "text_encoder": {"nfeats": 768, **sizes},
            "motion_decoder": {"nfeats": 263, **sizes},
            "lmd": {"recons": 1.0, "latent": 1e-5, "kl": 1e-5, "contrastive": 0.1},
        },
        "data": {
            "path": "datasets/annotations/humanml3d", "motion_loader": {"fps": 20.0, "normalizer": normalizer},
            "text_to_token_emb": {"modelname": "distilbert-base-uncased"}, "text_to_sent_emb": {"modelname": hub},
        },
    }  # fmt: skip


@pytest.fixture(scope="module")
def model():
    torch.manual_seed(0)
    draw = np.random.default_rng(0)
    mean, std = draw.normal(size=263).astype(np.float32), draw.uniform(0.5, 2, 263).astype(np.float32)
    return TMR(CONFIG, Statistics(mean, std, CONFIG.features)).eval()


@pytest.fixture
def run(tmp_path, model):
    """A published run with statistics where its configuration says, weights per module and its last checkpoint."""
    folder = tmp_path / "models" / "run"
    (folder / "last_weights").mkdir(parents=True)
    (folder / "logs" / "checkpoints").mkdir(parents=True)
    (folder / "config.json").write_text(json.dumps(run_settings(), indent=4))
    whole = {tmr_name(name): value for name, value in model.networks.state_dict().items()}
    for module in MODULES:
        part = {name.removeprefix(f"{module}."): value for name, value in whole.items() if name.startswith(module)}
        torch.save(part, folder / "last_weights" / f"{module}.pt")
    torch.save({"state_dict": whole, "epoch": 499, "callbacks": {"x": {}}}, folder / "logs" / "checkpoints" / "last.ckpt")
    stats = tmp_path / "stats" / "humanml3d" / "guoh3dfeats"
    stats.mkdir(parents=True)
    for name in ("mean", "std"):
        torch.save(torch.from_numpy(getattr(model.statistics, name)), stats / f"{name}.pt")
    return folder


def same(a, b) -> bool:
    return torch.equal(a.motion_posterior(SEQUENCE, MASK).mean, b.motion_posterior(SEQUENCE, MASK).mean)


def test_a_run_folder_loads_with_the_statistics_beside_it(run, model):
    loaded = from_pretrained(run, systems=("tmr",))
    assert loaded.config == CONFIG and not loaded.networks.training
    assert same(loaded, model) and torch.equal(loaded.mean, model.mean) and torch.equal(loaded.std, model.std)
    assert all(torch.equal(a, b) for a, b in zip(loaded.networks.state_dict().values(), model.networks.state_dict().values()))
    with pytest.raises(FileError, match="kind tmr"):
        from_pretrained(run, systems=("lsremgm",))


def test_statistics_in_the_run_folder_come_first(run):
    (run / "stats").mkdir()
    for name in ("mean", "std"):
        torch.save(torch.full((263,), 3.0), run / "stats" / f"{name}.pt")
    assert (load_tmr(run).std == 3).all()


def test_the_published_pair_stands_in_where_a_run_came_without_statistics(run, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path / "models")
    dataset = tmp_path / "models" / "dataset" / "HumanML3D"
    dataset.mkdir(parents=True)
    for name in ("Mean", "Std"):
        np.save(dataset / f"{name}.npy", np.full(263, 7.0))
    for file in (tmp_path / "stats").rglob("*.pt"):
        file.unlink()
    loaded = load_tmr(run)
    assert (loaded.std != 7).all() and len(set(loaded.std[4:67].tolist())) > 50  # one per feature, not one per block
    settings = run_settings()
    settings["data"]["motion_loader"]["normalizer"]["base_dir"] = "stats/mine/guoh3dfeats"
    (run / "config.json").write_text(json.dumps(settings))
    with pytest.raises(FileError, match=r"no mean\.pt and std\.pt of its training.*HumanML3D dataset will not do"):
        load_tmr(run)


def test_weights_come_from_the_training_checkpoint_too(run, model):
    for module in MODULES:
        (run / "last_weights" / f"{module}.pt").unlink()
    (run / "last_weights").rmdir()
    assert same(load_tmr(run), model)
    assert not (run / "last_weights").exists()  # loading writes nothing
    assert sorted(file.name for file in extract(run).glob("*.pt")) == sorted(f"{module}.pt" for module in MODULES)
    assert same(load_tmr(run), model)
    with pytest.raises(OutputError, match="add --overwrite"):  # they may be the published ones
        extract(run)
    extract(run, overwrite=True)
    (run / "last_weights" / "notes.txt").write_text("mine")
    with pytest.raises(OutputError, match=r"did not write \(notes\.txt"):
        extract(run, overwrite=True)
    with pytest.raises(FileError, match=r"epoch=9_weights nor logs/checkpoints/epoch=9\.ckpt"):
        load_tmr(run, "epoch=9")


ran = []


class Settings:
    """What a checkpoint may have pickled beside its weights: an object that runs a function when it is read."""

    def __reduce__(self):
        return _remember, ("ran",), {"kept": defaultdict(list, {"a": [1]})}


def _remember(value):
    ran.append(value)
    return Settings()


def test_what_a_checkpoint_pickled_beside_its_weights_is_not_run(run, model):
    path = run / "logs" / "checkpoints" / "last.ckpt"
    content = torch.load(path, weights_only=True)
    torch.save({**content, "hyper_parameters": Settings()}, path)
    ran.clear()
    extract(run, overwrite=True)
    assert same(load_tmr(run), model) and not ran
    torch.load(path, weights_only=False)
    assert ran == ["ran"]  # it would have been


def test_damaged_and_incomplete_files_are_one_clear_line(run, model):
    file = run / "last_weights" / "text_encoder.pt"
    whole = file.read_bytes()
    other = torch.load(file, weights_only=True)
    other["tokens"] = other["tokens"][:, :8].clone()
    cases = {
        "damaged or not a file of torch.save": whole[: len(whole) // 2],
        "no state dict": {"tokens": [1, 2]},
        "missing": {"tokens": torch.zeros(2, 16)},
        "has shape": other,
        "absent": None,
    }
    for message, content in cases.items():
        if content is None:
            file.unlink()
        elif isinstance(content, bytes):
            file.write_bytes(content)
        else:
            torch.save(content, file)
        with pytest.raises(FileError, match=message) as caught:
            load_tmr(run)
        assert "\n" not in str(caught.value) and "text_encoder" in str(caught.value)
    file.write_bytes(pickle.dumps(Settings(), protocol=2))
    ran.clear()
    with pytest.raises(FileError, match="holds more than tensors and plain values"):
        load_tmr(run)
    assert not ran


@pytest.mark.parametrize("path, value, message", [
    (("model", "_target_"), "src.model.Other", "names the model 'Other', known: TMR, TEMOS"),
    (("model", "text_encoder", "latent_dim"), 8, "latent_dim differs"),
    (("model", "motion_decoder", "activation"), "relu", "activation"),
    (("model", "lmd"), None, "no configuration of TMR"),
    (("model", "temperature"), -1.0, r"json: temperature must be from 0.0001 to 1000, got -1\.0"),
    (("data", "text_to_token_emb", "modelname"), "gpt", "names text encoder 'gpt'"),
    (("data", "motion_loader", "normalizer", "eps"), 0.1, "normalizer eps 0.1"),
])  # fmt: skip
def test_a_configuration_that_is_not_tmrs_is_named(path, value, message):
    settings = run_settings()
    place = settings
    for key in path[:-1]:
        place = place[key]
    place[path[-1]] = value
    with pytest.raises(FileError, match=message):
        config_from_run(settings)


def test_a_run_of_temos_has_no_contrast():
    settings = run_settings()
    settings["model"]["_target_"] = "src.model.TEMOS"
    assert config_from_run(settings).lambda_contrastive == 0
    settings["model"]["motion_encoder"]["vae"] = False
    with pytest.raises(FileError, match="vae differs"):
        config_from_run(settings)
    assert config_from_run(run_settings()) == CONFIG


# ------------------------------------------------------------------------------------------ TEMOS as first published


def first_published(model):
    """The state that the first release of TEMOS would save for this model."""
    state = {official.temos_name(name): value for name, value in model.networks.state_dict().items()}
    for module in ("textencoder", "motionencoder"):
        state[f"{module}.mu_token"], state[f"{module}.logvar_token"] = state.pop(f"{module}.tokens")
        state[f"{module}.sequence_pos_encoding.pe"] = torch.zeros(5000, 1, 16)
    state["_losses.losses_train.total"] = torch.zeros(())
    state["textencoder.text_model.embeddings.position_ids"] = torch.arange(512)[None]
    return state


@pytest.fixture(scope="module")
def temos():
    torch.manual_seed(0)
    sizes = {**SIZES, "num_heads": 4}
    return TMR(TMRConfig(**sizes, text_relu=True, lambda_contrastive=0.0, dataset="kit", false_negative_threshold=0.0,
                         features=Features("kit", 12.5, kind="rifke"), duplicates="published",
                         min_frames=10, max_frames=500)).eval()  # fmt: skip


def test_the_first_release_of_temos_loads_without_its_configuration(temos, tmp_path):
    (tmp_path / "checkpoints").mkdir()
    torch.save({"state_dict": first_published(temos), "hyper_parameters": Settings()}, tmp_path / "checkpoints" / "last.ckpt")
    with pytest.raises(FileError, match=r"no jfeats_mean\.pt"):
        official.load_temos(tmp_path)
    for name in ("mean", "std"):
        torch.save(torch.ones(64), tmp_path / f"jfeats_{name}.pt")
    loaded = official.load_temos(tmp_path)
    assert asdict(loaded.config) == asdict(temos.config)
    assert same_weights(loaded, temos) and (loaded.std == 1).all()
    motion = motion_of(torch.zeros(12, 64), loaded.features, ["a person stands"])
    assert motion.joints.shape == (1, 12, 21, 3) and motion.fps == 12.5
    for path in (tmp_path, tmp_path / "checkpoints" / "last.ckpt"):  # as --model_path of every command
        assert same_weights(from_pretrained(path, systems=("lsremgm", "tmr")), temos)
    with pytest.raises(FileError, match="kind tmr, needed is evaluator"):
        from_pretrained(tmp_path, systems=("evaluator",))


def same_weights(a, b) -> bool:
    return all(torch.equal(x, y) for x, y in zip(a.networks.state_dict().values(), b.networks.state_dict().values(), strict=True))


def test_what_weights_of_the_first_release_do_not_show_comes_from_a_configuration_and_misspelt_keys_from_nowhere():
    torch.manual_seed(1)
    sizes = dict(latent_dim=24, ff_size=16, num_layers=1, text_relu=True, features=Features("kit", 12.5, kind="rifke"))
    model = TMR(TMRConfig(**sizes, num_heads=3, activation="relu", dropout=0.2)).eval()
    state, motion, mask = first_published(model), torch.randn(2, 9, 64), torch.ones(2, 9, dtype=torch.bool)
    stated = {"num_heads": 3, "activation": "relu", "dropout": 0.2, "nfeats": 64}
    made = official.from_state(state, unseen=stated)
    assert torch.equal(made.motion_posterior(motion, mask).mean, model.motion_posterior(motion, mask).mean)
    assert made.networks["motion_encoder"].dropout.p == 0.2
    misspelt = official.from_state(state, unseen={"num_head": 6, "droupout": 0.5})
    assert (misspelt.config.num_heads, misspelt.config.dropout, misspelt.config.activation) == (4, 0.1, "gelu")
    assert not torch.allclose(misspelt.motion_posterior(motion, mask).mean, model.motion_posterior(motion, mask).mean)
    with pytest.raises(FileError, match="latent_dim 24 must be even and a multiple of num_heads 5"):
        official.from_state(state, unseen={"num_heads": 5})


def test_words_that_no_rectifier_lets_pass_leave_the_text_of_the_first_release_unchanged(temos):
    words = torch.randn(1, 4, 768, generator=torch.Generator().manual_seed(0))
    mask = torch.ones(1, 4, dtype=torch.bool)
    lower = torch.where(words < 0, words - 1, words)
    text_encoder, motion_encoder = temos.networks["text_encoder"], temos.networks["motion_encoder"]
    torch.testing.assert_close(text_encoder(words, mask), text_encoder(lower, mask))
    assert (motion_encoder(words[..., :64], mask) != motion_encoder(lower[..., :64], mask)).any()


def test_a_checkpoint_of_another_model_is_no_temos():
    with pytest.raises(FileError, match="holds no weights of TEMOS"):
        official.from_state({"encoder.weight": torch.zeros(2, 2)})
