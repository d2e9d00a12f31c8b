"""Every setting of every kind of checkpoint, set to what it cannot be: an error that names the file, or a model; nothing else."""

import json
import math
import time
from dataclasses import fields, is_dataclass

import numpy as np
import pytest
import torch

from data_loaders.features import Features, Statistics
from model.autoencoder import MotionAutoencoder
from model.autoencoder_config import AutoencoderConfig
from model.checkpoints import from_pretrained, save_pretrained
from model.evaluator_config import EvaluatorConfig, LengthEstimatorConfig
from model.evaluators import GuoEvaluator, LengthEstimator
from model.lsremgm import Latent, LSReMGM
from model.lsremgm_config import LatentConfig, LSReMGMConfig
from model.tmr import TMR
from model.tmr_config import TMRConfig
from protos.reading import FileError
from tests.published_weights import ARGS, published
from tests.test_official_tmr import run_settings

VALUES = [
    None, "", "x", "../../x", -1, 0, 0.5, 10**9, 10**30, 1e308, -1e308, True, False, [], {}, [1], {"a": {"a": [None]}},
    "y\n\x1b[31m" * 900,
]  # fmt: skip
SIZES = AutoencoderConfig(latent_channels=8, width=8, num_blocks=1, fine_width=8, num_fine_blocks=1)


def statistics(width=263) -> Statistics:
    return Statistics(np.zeros(width, np.float32), np.ones(width, np.float32), Features("humanml", 20.0, "published"))


def small(system):
    """A small model of a system."""
    torch.manual_seed(0)
    sizes = dict(latent_dim=8, ff_size=8, num_layers=1, num_heads=2, text_dim=8)
    if system == "tmr":
        return TMR(TMRConfig(**sizes, max_positions=200), statistics())
    if system == "evaluator":
        config = EvaluatorConfig(movement_hidden=8, movement_latent=8, text_hidden=8, motion_hidden=8, embedding=8)
        return GuoEvaluator(config, statistics())
    if system == "length_estimator":
        return LengthEstimator(LengthEstimatorConfig(hidden=8), statistics())
    autoencoder = MotionAutoencoder(SIZES, statistics())
    if system == "motion_autoencoder":
        return autoencoder
    if system == "latent":
        return Latent(LatentConfig(**sizes), statistics(), {"autoencoder": autoencoder})
    return LSReMGM(LSReMGMConfig(**sizes, max_positions=1000), statistics())


def saved(system, folder):
    save_pretrained(folder, small(system))
    return folder


def loads_or_names(folder) -> bool:
    """Whether the checkpoint loads; if not, its error is one line that names a file in it, given within a second or two."""
    began = time.monotonic()
    try:
        from_pretrained(folder)
    except FileError as error:
        assert str(folder) in str(error) and len(str(error).splitlines()) == 1 and len(str(error)) < 1000
        loaded = False
    else:
        loaded = True
    assert time.monotonic() - began < 10
    return loaded


@pytest.mark.parametrize("system", ["lsremgm", "latent", "tmr", "evaluator", "length_estimator", "motion_autoencoder"])
def test_settings_that_cannot_be_are_named(system, tmp_path):
    file = saved(system, tmp_path / "model") / "config.json"
    settings = json.loads(file.read_text())
    assert loads_or_names(tmp_path / "model")
    refused = 0
    for within in (None, "features", "parts"):
        inner = settings if within is None else settings.get(within, {})
        for name in inner:
            for value in VALUES:
                changed = {**inner, name: value}
                file.write_text(json.dumps(changed if within is None else {**settings, within: changed}))
                refused += not loads_or_names(tmp_path / "model")
    assert refused > 10 * len(settings)  # of 18 values each


@pytest.mark.parametrize("text", [
    "", "[]", "3", "null", '"a"', "{", "[" * 100_000, '{"system": ' * 100_000, "{}", '{"a": 1e999}', '{"num_layers": NaN}',
    "\x00", "\xff", "<html>", "version https://git-lfs.github.com/spec/v1",
])  # fmt: skip
def test_a_file_of_settings_that_is_none_is_named(text, tmp_path):
    saved("tmr", tmp_path / "model")
    for name in ("config.json", "args.json"):
        (tmp_path / "model" / "config.json").unlink(missing_ok=True)
        (tmp_path / "model" / name).write_bytes(text.encode("latin1"))
        assert not loads_or_names(tmp_path / "model")


def test_published_settings_that_cannot_be_are_named(tmp_path):
    published(tmp_path / "p", ARGS)
    file = tmp_path / "p" / "args.json"
    names = {**ARGS, "context_len": 0, "pred_len": 0, "lambda_target_loc": 0.0, "multi_encoder_type": "single", "use_ema": False,
             "pos_embed_max_len": 5000, "target_enc_layers": 1, "text_encoder_type": "clip", "cond_mode": "text"}  # fmt: skip
    refused = 0
    for name in names:
        for value in VALUES:
            file.write_text(json.dumps({**names, name: value}))
            refused += not loads_or_names(tmp_path / "p")
    assert refused > 9 * len(names)


def test_settings_of_a_published_run_of_tmr_that_cannot_be_are_named(tmp_path):
    (tmp_path / "run").mkdir()
    file = tmp_path / "run" / "config.json"

    def change(tree):
        """All settings with one value changed, at every depth."""
        for name, inner in tree.items():
            yield from ({**tree, name: value} for value in VALUES)
            if isinstance(inner, dict):
                yield from ({**tree, name: each} for each in change(inner))

    for settings in change(run_settings()):
        file.write_text(json.dumps(settings))
        assert not loads_or_names(tmp_path / "run")  # it has no weights


def test_networks_far_larger_than_the_weights_are_refused_before_they_are_made(tmp_path):
    for system, sizes in (("lsremgm", {"latent_dim": 16384, "ff_size": 65536, "num_layers": 64, "num_heads": 1}),
                          ("tmr", {"latent_dim": 16384, "ff_size": 65536, "num_layers": 64, "num_heads": 1}),
                          ("evaluator", {"motion_hidden": 16384, "embedding": 16384})):  # fmt: skip
        saved(system, tmp_path / system)
        file = tmp_path / system / "config.json"
        file.write_text(json.dumps({**json.loads(file.read_text()), **sizes}))
        with pytest.raises(FileError, match="far larger than"):
            from_pretrained(tmp_path / system)


def test_every_number_of_a_configuration_has_an_end():
    from protos.flags import bounds_of

    for kind in (LSReMGMConfig, LatentConfig, TMRConfig, EvaluatorConfig, LengthEstimatorConfig, AutoencoderConfig):
        assert is_dataclass(kind) and fields(kind)
        for name, (bounds, _) in bounds_of(kind).items():
            assert bounds.low is not None and (bounds.high is not None or name == "temperature"), (kind, name)
            assert math.inf not in bounds


def nan(weights, name):
    return {**weights, name: torch.full_like(weights[name], torch.nan)}


DAMAGES = {
    "NaN": nan, "int64": lambda w, name: {**w, name: w[name].long()}, "bool": lambda w, name: {**w, name: w[name] > 0},
    "complex64": lambda w, name: {**w, name: w[name].to(torch.complex64)},
    "shape": lambda w, name: {**w, name: w[name][:1].clone()},
    "absent": lambda w, name: {key: value for key, value in w.items() if key != name},
    "unexpected": lambda w, name: {**w, "more.weight": torch.zeros(1)},
}  # fmt: skip


@pytest.mark.parametrize("system", ["lsremgm", "tmr", "evaluator", "motion_autoencoder"])
def test_weights_that_cannot_be_are_named(system, tmp_path):
    from safetensors.torch import load_file, save_file

    folder = saved(system, tmp_path / "model")
    file = folder / "model.safetensors"
    weights = load_file(file)
    name = next(key for key, value in weights.items() if value.ndim == 2)
    for words, damage in DAMAGES.items():
        save_file(damage(weights, name), file)
        with pytest.raises(FileError, match=rf"model\.safetensors: .*{words}"):
            from_pretrained(folder)
    whole = file.read_bytes()
    for words, content in (("empty", b""), ("git-LFS pointer", b"version https://git-lfs.github.com/spec/v1\noid sha256:1\n"),
                           ("HTML page", b"<!DOCTYPE html><html>"), ("damaged", whole[:-9]), ("damaged", b"\xff" * 99),
                           ("damaged", b"\xff\xff\xff\xff\xff\xff\xff\x7f{}"), ("absent", None)):  # fmt: skip
        file.unlink() if content is None else file.write_bytes(content)
        with pytest.raises(FileError, match=rf"model\.safetensors.*{words}"):
            from_pretrained(folder)


@pytest.mark.parametrize("change, words", [
    ({"std": np.zeros(263)}, "above 0"), ({"std": np.full(263, -1.0)}, "above 0"), ({"mean": np.full(263, np.nan)}, "finite"),
    ({"mean": np.zeros(5)}, "mean .5,. and std .263,."), ({"mean": np.zeros(5), "std": np.ones(5)}, "5 features"),
    ({"skeleton": "none"}, "skeleton"), ({"heading": "x"}, "heading"), ({"fps": np.nan}, "fps"), ({"fps": "20"}, "fps"),
    ({"std": None}, "std"), ({"mean": np.zeros(263, complex)}, "mean"), ({"std": np.full(263, 1e300)}, "float32"),
    ({"std": np.full(263, 1e-320)}, "float32"),
])  # fmt: skip
def test_statistics_that_cannot_be_are_named(change, words, tmp_path):
    saved("tmr", tmp_path / "model")
    file = tmp_path / "model" / "stats.npz"
    with np.load(file) as arrays:
        arrays = {**arrays, **change}
    np.savez(file, **{name: array for name, array in arrays.items() if array is not None})
    with pytest.raises(FileError, match=words) as caught:
        from_pretrained(tmp_path / "model")
    assert str(tmp_path / "model") in str(caught.value)
