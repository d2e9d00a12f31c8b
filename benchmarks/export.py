"""python -m benchmarks.export: a model on one core in torch, and as ONNX in full precision and in eight bits.

Milliseconds of a call of the denoiser (two rows: with and without the prompt) and of a motion, text features given; then the same
prompts and noise in all three: how far their joints lie apart, and whether the probes say the same of them.
"""

import importlib.util
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from types import ModuleType
from typing import Annotated, Any

import numpy as np
import torch

from benchmarks.timing import least
from data_loaders.motion_files import motion_of
from diffusion.samplers import sample_noise
from evaluations.probe_run import Probed
from evaluations.probes import Trial, probes_of
from model.capabilities import Request
from model.checkpoints import from_pretrained
from model.registry import dataset_of
from protos.flags import FRAMES, SEED, Range
from protos.options import command, run_command
from protos.randomness import derive_seed
from sample.generation import STARTER
from train.onnx_files import INT8, write_onnx

PROMPT = "a person walks forward and turns left"
Make = Callable[[Request], np.ndarray]  # joints (T, J, 3) in metres


@dataclass(frozen=True, kw_only=True)
class ExportBenchmark:
    """Time a text-to-motion model as ONNX, and compare what it makes."""

    model_path: Path = STARTER
    """Checkpoint whose networks are written as ONNX."""
    onnx: Path | None = None
    """Folder that train.export --onnx --int8 wrote of it (default: one is written first)."""
    frames: Annotated[int, FRAMES] = 196
    """Frames of the motion that is timed."""
    repeats: Annotated[int, Range(1, 1000)] = 3
    """Runs of each, of which the quickest counts."""
    trials: Annotated[int, Range(1, 100_000)] = 60
    """Questions of the probes, spread over all of one motion."""
    seed: Annotated[int, SEED] = 0
    """Of the motions that the probes judge."""


def opened(folder: Path, suffix: str) -> tuple[ModuleType, Any]:
    """The example in a folder, as a module, and its sampler on one thread."""
    spec = importlib.util.spec_from_file_location("onnx_example", folder / "sample.py")
    example = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(example)
    return example, example.Sampler(folder, suffix, threads=1)


def in_torch(model: Any) -> Make:
    """As the model itself makes it, on as many threads as torch has."""
    return lambda request: motion_of(model.generate([request])[0], model.features, ()).joints[0]


def by_example(folder: Path, suffix: str, rows: dict[str, int], inputs: dict[str, np.ndarray]) -> Make:
    """As the example makes it, of prompts whose features are given, with the noise that torch would draw."""
    example, sampler = opened(folder, suffix)
    sampler.prompts = inputs

    def make(request: Request) -> np.ndarray:
        noise = sample_noise([request.seed])
        made = sampler.features(rows[request.text], request.frames, lambda shape: noise(torch.empty(shape)).numpy())
        return example.joints_of(made, **sampler.settings["body"])

    make.sampler = sampler
    return make


def run(options: ExportBenchmark) -> None:
    """Prints the tables."""
    torch.set_num_threads(1)
    model = from_pretrained(options.model_path)
    with tempfile.TemporaryDirectory() as folder:
        written = options.onnx or Path(folder) / "onnx"
        if options.onnx is None:
            write_onnx(written, model, [PROMPT], int8=True)
        compare(model, written, options)


def compare(model: Any, folder: Path, options: ExportBenchmark) -> None:
    """The table of times, and the one of what is made."""
    probes = probes_of(dataset_of(options.model_path))
    plan = probes.plan(1, model.features.fps, probes.content_probes)
    trials = plan[:: max(1, len(plan) // options.trials)][: options.trials]
    texts = list(dict.fromkeys([PROMPT, *(trial.prompts[0] for trial in trials)]))
    rows = {text: row for row, text in enumerate(texts)}
    inputs = {name: value.numpy() for name, value in model.prompt_inputs(texts).items()}
    ways = {"torch": in_torch(model)}
    ways |= {name: by_example(folder, suffix, rows, inputs) for name, suffix in (("onnx", ""), ("onnx int8", INT8))}
    sizes = {"torch": 4e-6 * model.num_parameters, "onnx": megabytes(folder, False), "onnx int8": megabytes(folder, True)}
    with torch.no_grad():
        timed = least(*(partial(way, Request(PROMPT, options.frames)) for way in ways.values()), rounds=options.repeats)
        calls = least(*call_of_each(model, ways, options.frames), rounds=10 * options.repeats)
    made = {name: [way(request_of(trial, options.seed)) for trial in trials] for name, way in ways.items()}
    print(f"{'':12}{'MB':>7}{'call, ms':>10}{'motion, ms':>12}{'joints, mm':>12}{'probes':>10}{'as in torch':>13}")
    passed = {name: Probed(trials, motions, model.features.fps, probes).passed for name, motions in made.items()}
    for name, motion, call in zip(ways, timed, calls):
        apart = [np.linalg.norm(a - b, axis=-1).mean() for a, b in zip(made[name], made["torch"])]
        equal = sum(a == b for a, b in zip(passed[name], passed["torch"]))
        print(f"{name:12}{sizes[name]:7.1f}{1000 * call.cpu:10.1f}{1000 * motion.cpu:12.0f}{1000 * np.mean(apart):12.3f}"
              f"{sum(passed[name]):6d}/{len(trials)}{equal:10d}/{len(trials)}")  # fmt: skip


def megabytes(folder: Path, int8: bool) -> float:
    """Of the networks in full precision, or in eight bits."""
    return 1e-6 * sum(path.stat().st_size for path in folder.glob("de*.onnx") if path.stem.endswith(INT8) == int8)


def call_of_each(model: Any, ways: dict[str, Make], frames: int) -> list[Callable[[], Any]]:
    """One call of the denoiser in each way, on the same inputs: two rows of the tokens of so many frames."""
    call = model.network_calls()["denoiser"]
    x = torch.zeros(2, -(-frames // model.frames_per_token), model.num_channels)
    text = {name: value.repeat(2, *[1] * (value.dim() - 1)) for name, value in model.prompt_inputs([PROMPT]).items()}
    given = {"x": x, "t": torch.tensor([500, 500]), "mask": torch.ones(x.shape[:2], dtype=torch.bool),
             "drop": torch.tensor([True, False]), **text}  # fmt: skip
    given = {name: value for name, value in given.items() if name in call.inputs}
    plain = {name: value.numpy() for name, value in given.items()}
    return [partial(call.network, **given), *(partial(way.sampler.call, "denoiser", plain) for way in list(ways.values())[1:])]


def request_of(trial: Trial, seed: int) -> Request:
    """The motion of a trial."""
    return Request(trial.prompts[0], trial.frames[0], derive_seed(seed, "probe", trial.probe, trial.wording, trial.repetition))


main = command(ExportBenchmark, run, __doc__)

if __name__ == "__main__":
    run_command(main)
