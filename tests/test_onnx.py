"""Networks as ONNX: sampled by numpy and onnxruntime alone they make the motions that torch makes."""

import importlib.util
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from data_loaders.motion_files import motion_of
from diffusion.gaussian import Diffusion
from diffusion.linear_steps import linear_steps
from diffusion.samplers import sample, sample_noise
from model.capabilities import Request
from model.checkpoints import from_pretrained, save_pretrained
from protos.outputs import require_replaceable
from protos.reading import FileError
from sample.generation import STARTER
from tests.test_compose import latent_of, lsremgm_of
from tests.tiny_retrieval import saved_tmr
from train.export import ExportOptions, run
from train.onnx_files import ONNX

PROMPTS = ("a person walks forward", "someone slowly raises the right hand above the head")
needs_onnx = pytest.mark.skipif(
    not all(importlib.util.find_spec(name) for name in ("onnx", "onnxscript", "onnxruntime")),
    reason='onnx, onnxscript or onnxruntime is not installed: pip install -e ".[export]"',
)


def exported(model, folder: Path, prompts=PROMPTS, **options):
    """The example beside a model's networks, as a module, and its sampler on one thread."""
    save_pretrained(folder / "model", model)
    (folder / "prompts.txt").write_text("\n".join(prompts) + "\n")
    run(ExportOptions(checkpoint=folder / "model", onnx=folder / "onnx", prompts=folder / "prompts.txt", **options))
    return opened(folder / "onnx")


def opened(folder: Path, suffix: str = ""):
    spec = importlib.util.spec_from_file_location("onnx_example", folder / "sample.py")
    example = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(example)
    return example, example.Sampler(folder, suffix, threads=1)


def draws_of(seed: int, *context: int):
    """draw(shape): the noise that torch's sampling draws with that seed."""
    noise = sample_noise([seed], *context)
    return lambda shape: noise(torch.empty(shape)).numpy()


def largest_difference(model, example, sampler, row: int, request: Request) -> float:
    """Metres between the joints that torch and the example make."""
    theirs = example.joints_of(sampler.features(row, request.frames, draws_of(request.seed)), **sampler.settings["body"])
    ours = motion_of(model.generate([request])[0], model.features, ()).joints[0]
    assert ours.shape == theirs.shape and np.ptp(ours) > 0.1
    return float(np.abs(ours - theirs).max())


@pytest.mark.parametrize("prediction", ["x0", "eps", "v"])
@pytest.mark.parametrize("sampler", ["ddpm", "ddim", "dpmpp", "consistency"])
def test_a_sampler_is_a_few_weights_a_step(sampler, prediction):
    diffusion = Diffusion.create("linear", 40, prediction)
    numbers = linear_steps(diffusion, sampler, 7)
    noise, x = sample_noise([3]), torch.randn(1, 5, 3, dtype=torch.float64)

    def network(x, t):
        return (x + t[0] / 40).sin()

    torch_made = sample(network, x, diffusion, sampler=sampler, sampling_steps=7, noise=sample_noise([3]))
    before = torch.zeros_like(x)
    for i, t in enumerate(numbers["timesteps"]):
        w = {name: float(values[i]) for name, values in numbers.items()}
        x0 = w["x0_of_x"] * x + w["x0_of_output"] * network(x, torch.tensor([t]))
        x = w["next_of_x"] * x + w["next_of_x0"] * x0 + w["next_of_previous"] * before
        x, before = x + (w["next_of_noise"] * noise(x) if w["next_of_noise"] else 0), x0
    torch.testing.assert_close(x, torch_made, atol=1e-8, rtol=1e-8)


def test_a_sampler_that_looks_back_further_is_refused():
    with pytest.raises(ValueError, match=r"plms looks back further .* use ddim"):
        linear_steps(Diffusion.create("cosine", 20), "plms")


@needs_onnx
def test_a_model_in_latents_is_sampled_by_numpy_alone_at_any_length(tmp_path):
    model = latent_of(smoothing=1.2)
    example, sampler = exported(model, tmp_path, int8=True)
    assert sorted(path.name for path in (tmp_path / "onnx").iterdir()) == [
        "decoder.int8.onnx", "decoder.onnx", "denoiser.int8.onnx", "denoiser.onnx", "loop.npz", "manifest.json", "prompts.npz",
        "sample.py", "settings.json", "text_encoder.int8.onnx", "text_encoder.onnx", "vocab.txt",
    ]  # fmt: skip
    for row, frames, seed in ((0, 48, 0), (1, 5, 9), (1, 4, 2)):
        assert largest_difference(model, example, sampler, row, Request(PROMPTS[row], frames, seed)) < 1e-4
    whole = sampler.features(0, 40, draws_of(0))
    assert np.abs(whole - sampler.features(1, 40, draws_of(0))).max() > 1e-4  # the prompt tells
    texts = ["A man, who's *very* tired;\tjumps!", "übermäßig naïve ΣΑΣ 左手 supercalifragilistic", "x" * 101 + " \u2603",
             "a " * 300]  # fmt: skip
    expected = model.encode_text(texts)
    for i, text in enumerate(texts):  # which are no prompts
        read = sampler.read(text)
        length = read["tokens"].shape[1]
        assert length == expected.mask[i].sum()
        np.testing.assert_allclose(read["tokens"][0], expected.tokens[i, :length], atol=1e-4)
        np.testing.assert_allclose(read["pooled"][0], expected.pooled[i], atol=1e-5)
    assert np.abs(sampler.features(PROMPTS[0], 40, draws_of(0)) - whole).max() < 1e-4
    example, rounded = opened(tmp_path / "onnx", ".int8")
    closeness = (rounded.read(PROMPTS[1])["pooled"] * sampler.read(PROMPTS[1])["pooled"]).sum()
    assert 0.98 < closeness < 1
    difference = np.abs(rounded.features(0, 40, draws_of(0)) - whole)[:, 4:67]
    assert 0 < difference.max() < 0.2


@needs_onnx
@pytest.mark.parametrize("changes", [
    {"sampler": "ddpm", "arch": "trans_enc", "mask_frames": False, "prediction": "v"},
    {"sampler": "ddim", "text_memory": "pooled", "guidance_scale": 1.0},
], ids=["at full length", "without guidance"])  # fmt: skip
def test_a_model_of_frames_is_sampled_by_numpy_alone(tmp_path, changes):
    model = lsremgm_of(**changes)
    example, sampler = exported(model, tmp_path)
    assert largest_difference(model, example, sampler, 1, Request(PROMPTS[1], 30, 4)) < 1e-4


@needs_onnx
def test_a_model_that_goes_on_from_what_it_made_is_called_piece_by_piece(tmp_path):
    model = lsremgm_of(context_len=4, pred_len=8)
    _, sampler = exported(model, tmp_path)
    calls = iter(range(9))
    draws = {}

    def draw(shape):
        if len(draws.get("now", ())) % 4 == 0:  # a piece has four draws: the start, and the noise of all steps but the last
            draws["noise"], draws["now"] = sample_noise([5], next(calls)), []
        draws["now"].append(1)
        return draws["noise"](torch.empty(shape)).numpy()

    theirs = sampler.features(0, 20, draw)
    ours = model.generate([Request(PROMPTS[0], 20, 5)])[0].numpy()
    np.testing.assert_allclose(theirs, ours, atol=1e-4)


@needs_onnx
def test_the_encoders_of_tmr_are_called_alone(tmp_path):
    from onnxruntime import InferenceSession

    model = from_pretrained(saved_tmr(tmp_path / "tmr"))
    run(ExportOptions(checkpoint=tmp_path / "tmr", onnx=tmp_path / "onnx"))
    text = model.word_features(PROMPTS)
    clips = [torch.randn(length, 263) for length in (30, 44)]
    motion = torch.nn.utils.rnn.pad_sequence(clips, batch_first=True)
    mask = torch.arange(44) < torch.tensor([30, 44])[:, None]
    with torch.no_grad():
        expected = {"text_encoder": model.text_posterior(text).mean, "motion_encoder": model.motion_posterior(motion, mask).mean}
    given = {"text_encoder": (text.tokens, text.mask), "motion_encoder": (motion, mask)}
    for name, (x, keep) in given.items():
        found = InferenceSession(tmp_path / "onnx" / f"{name}.onnx").run(None, {"x": x.numpy(), "mask": keep.numpy()})[0]
        np.testing.assert_allclose(found[:, 0], expected[name].numpy(), atol=1e-4)
    stats = np.load(tmp_path / "onnx" / "stats.npz")
    np.testing.assert_allclose((clips[0].numpy() - stats["mean"]) / stats["std"], model.normalise(clips[0]).numpy(), atol=1e-4)
    assert not (tmp_path / "onnx" / "sample.py").exists()


@pytest.mark.slow
@needs_onnx
def test_the_example_runs_as_a_command_and_the_starter_moves_as_in_torch(tmp_path):
    run(ExportOptions(checkpoint=STARTER, onnx=tmp_path / "onnx", sampling_steps=5))
    told = subprocess.run([sys.executable, "sample.py", "--prompt", "1", "--seconds", "3"], cwd=tmp_path / "onnx",
                          capture_output=True, text=True, env={"PATH": ""})  # fmt: skip
    assert told.returncode == 0 and "raises the right hand" in told.stdout, told.stderr
    assert np.load(tmp_path / "onnx" / "joints.npy").shape == (60, 22, 3)
    for flags in (["--prompt", "99"], ["--prompt", "-1"], ["--seconds", "nan"], ["--seconds", "0"], ["--seed", "-1"]):
        told = subprocess.run([sys.executable, "sample.py", *flags], cwd=tmp_path / "onnx", capture_output=True, text=True,
                              env={"PATH": ""})  # fmt: skip
        assert told.returncode == 2 and "error: " in told.stderr and "Traceback" not in told.stderr
    require_replaceable(tmp_path / "onnx", ONNX, overwrite=True)  # what the example wrote is ours too
    model = from_pretrained(STARTER)
    model.config = replace(model.config, sampling_steps=5)
    example, sampler = opened(tmp_path / "onnx")
    assert largest_difference(model, example, sampler, 2, Request(str(sampler.prompts["texts"][2]), 61, 7)) < 1e-3


@needs_onnx
def test_what_cannot_be_written_is_said_in_a_line(tmp_path):
    save_pretrained(tmp_path / "model", latent_of())
    with pytest.raises(ValueError, match="nothing to write: give --output"):
        run(ExportOptions(checkpoint=tmp_path / "model"))
    with pytest.raises(ValueError, match="no prompts of its own: give --prompts"):
        run(ExportOptions(checkpoint=tmp_path / "model", onnx=tmp_path / "onnx", output=tmp_path / "out"))
    assert not (tmp_path / "out").exists()
    for inner in ("out", "out/onnx"):
        with pytest.raises(ValueError, match=r"--onnx .* are one inside the other: give each its own"):
            run(ExportOptions(checkpoint=tmp_path / "model", output=tmp_path / "out", onnx=tmp_path / inner))
    with pytest.raises(ValueError, match="--int8 is about the networks of --onnx"):
        ExportOptions(checkpoint=tmp_path / "model", output=tmp_path / "out", int8=True)
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "notes.txt").write_text("mine")
    with pytest.raises(ValueError, match=r"notes\.txt"):
        run(ExportOptions(checkpoint=tmp_path / "model", onnx=tmp_path / "mine", overwrite=True))
    with pytest.raises(FileError, match=r"one inside the other.*give another --onnx"):
        run(ExportOptions(checkpoint=tmp_path / "model", onnx=tmp_path / "model" / "onnx"))
    save_pretrained(tmp_path / "autoencoder", latent_of().autoencoder)
    with pytest.raises(FileError, match=r"--output .* and --autoencoder .* one inside the other"):
        run(ExportOptions(checkpoint=tmp_path / "model", output=tmp_path / "autoencoder", overwrite=True,
                          autoencoder=tmp_path / "autoencoder"))  # fmt: skip
    with pytest.raises(ValueError, match="motion_autoencoder has no network that is one call"):
        run(ExportOptions(checkpoint=tmp_path / "autoencoder", onnx=tmp_path / "onnx"))
