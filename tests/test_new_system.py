"""A system made up here, registered by one line, is trained, resumed, sampled, judged and offered like those that come with
the code: the one of docs/new_system.md.
"""

import ast
import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import numpy as np
import pytest
import torch
from torch import nn

from data_loaders.features import HUMANML3D, Features
from model.capabilities import OWN
from model.checkpoints import from_pretrained
from model.model import Model
from model.registry import SYSTEMS, System
from protos.flags import FRAMES, WEIGHT, Bounded, configured, decided
from protos.options import command
from protos.randomness import seeded_randn
from train.options import TrainOptions


@dataclass(frozen=True, kw_only=True)
class MeanConfig(Bounded):
    """Network of the mean motion"""

    swing_weight: Annotated[float, WEIGHT] = 1.0
    """Weight of the loss on the swing."""
    features: Features = decided(HUMANML3D)
    dataset: str = decided("")
    max_frames: Annotated[int, FRAMES] = decided(196)
    reads_text = True
    own_guidance = None


class Swing(nn.Module):
    """A frame (..., D) of unit noise, scaled."""

    def __init__(self, width: int):
        super().__init__()
        self.scale = nn.Parameter(torch.zeros(width))

    def forward(self, noise):
        return noise * self.scale.exp()  # (..., D)


class Mean(Model):
    """The mean motion of its training data, in which every feature swings by an amount that it learns."""

    def __init__(self, config: MeanConfig, statistics=None, parts=None):
        super().__init__(config, statistics, {"swing": Swing(config.features.width)})

    def loss(self, batch, draws):
        motion, mask = self.masked(batch)  # (B, T, D) normalised, (B, T)
        spread = (motion.square() * mask[..., None]).sum((0, 1)) / mask.sum()  # (D,)
        swing = self.networks["swing"](torch.ones_like(spread))
        return {"swing": self.config.swing_weight * (swing - spread.sqrt()).square().mean()}

    @torch.no_grad()
    def generate(self, requests, decoding=OWN):
        made = []
        for request in requests:
            noise = seeded_randn([request.seed], (1, 1, self.features.width), self.device)[0]  # (1, D)
            made.append(self.denormalise(self.networks["swing"](noise)).expand(request.frames, -1))
        return made


@dataclass(frozen=True, kw_only=True)
class MeanOptions(MeanConfig, TrainOptions):
    """What is trained, and on what."""

    dataset: str
    """Dataset folder made by data_loaders.prepare, or a known name."""


def run(options: MeanOptions):
    """Trains as the options say."""
    from data_loaders.batches import CaptionBatches, TextMotionDataset
    from data_loaders.corpus import Corpus
    from train.loop import train
    from train.recipe import Recipe

    corpus = Corpus.open(options.dataset)
    config = configured(MeanConfig, options, features=corpus.features)
    data = TextMotionDataset(corpus, "train")
    batches = CaptionBatches(data, options.batch_size, options.seed)
    return train(Recipe(lambda: Mean(config, corpus.statistics), batches, stamp=corpus.stamp, captions=data.texts), options)


main = command(MeanOptions, run, __doc__)


@pytest.fixture(scope="module")
def registered():
    SYSTEMS["mean"] = System("mean", f"{__name__}:MeanConfig", f"{__name__}:Mean")
    yield
    del SYSTEMS["mean"]


def flags(folder: Path, dataset: Path, steps: int) -> list[str]:
    return [
        "--save_dir", str(folder), "--dataset", str(dataset), "--num_steps", str(steps), "--batch_size", "4", "--lr", "0.05",
        "--log_interval", "1", "--save_interval", "2", "--keep_last", "0", "--device", "cpu", "--swing_weight", "2",
    ]  # fmt: skip


def losses(folder: Path) -> list[float]:
    return [json.loads(line)["loss"] for line in (folder / "log.jsonl").read_text().splitlines()]


@pytest.fixture(scope="module")
def trained(registered, pool_dataset, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("mean") / "run"
    main(flags(folder, pool_dataset, 3))
    main(flags(folder, pool_dataset, 8))  # goes on
    return folder


def definitions(code: str) -> dict[str, str]:
    """Classes and functions by name, without what they import."""
    tree = ast.parse(code)
    for node in ast.walk(tree):
        if isinstance(getattr(node, "body", None), list):
            node.body = [each for each in node.body if not isinstance(each, ast.ImportFrom)]
    return {node.name: ast.unparse(node) for node in tree.body if isinstance(node, (ast.ClassDef, ast.FunctionDef))}


def test_it_is_the_one_of_the_document():
    document = (Path(__file__).parents[1] / "docs" / "new_system.md").read_text(encoding="utf-8")
    told = {}
    for block in re.findall(r"```python\n(.*?)```", document, re.DOTALL):
        told |= {} if block.startswith("System(") else definitions(block)
    here = definitions(Path(__file__).read_text(encoding="utf-8"))
    assert set(told) == {"MeanConfig", "Swing", "Mean", "MeanOptions", "run"}
    assert told == {name: here[name] for name in told}


def test_it_trains_and_goes_on_as_if_it_had_never_stopped(trained, pool_dataset, tmp_path):
    main(flags(tmp_path / "unbroken", pool_dataset, 8))
    assert losses(trained) == losses(tmp_path / "unbroken") and losses(trained)[-1] < losses(trained)[0]
    model = from_pretrained(trained)
    assert isinstance(model, Mean) and model.config.swing_weight == 2 and model.features.heading == "continuous"


def test_it_samples_to_video(trained, tmp_path):
    from sample.sample import main as sample

    sample(["--model_path", str(trained), "--text_prompt", "a person walks", "--motion_length", "1", "--num_repetitions", "1",
            "--device", "cpu", "--output_dir", str(tmp_path / "made")])  # fmt: skip
    joints = np.load(tmp_path / "made" / "joints" / "prompt00_rep00.npy")
    assert joints.shape == (20, 22, 3) and np.isfinite(joints).all()
    assert (tmp_path / "made" / "prompt00_rep00.mp4").stat().st_size > 1000


def test_it_stands_on_the_board(trained, pool_dataset, tiny_evaluator, tmp_path, capsys):
    from evaluations.board import main as board

    board(["--model_paths", str(trained), "--dataset", str(pool_dataset), "--evaluator", str(tiny_evaluator),
           "--num_motions", "32", "--replications", "2", "--probe_seeds", "0", "--device", "cpu",
           "--output_dir", str(tmp_path / "board")])  # fmt: skip
    table = (tmp_path / "board" / "board.md").read_text()
    assert "run" in table and (tmp_path / "board" / "board.png").is_file()


def test_it_is_offered_by_the_demo_and_makes_motion_there(trained):
    from sample.demo_maker import Maker, motion_checkpoints

    offered = motion_checkpoints([trained])
    assert {Path(name).name for name in offered} >= {"step_000000002", "step_000000008"}
    name = next(name for name in offered if name.endswith("step_000000008"))
    assert offered[name].seconds == pytest.approx(9.8) and offered[name].guidance is None
    (motion,) = Maker(offered, "cpu").make("a person walks", seconds=1, checkpoint=name)
    assert motion.joints.shape == (1, 20, 22, 3)


def test_it_is_shared_as_float16(trained, tmp_path):
    from train.export import main as export

    export(["--checkpoint", str(trained), "--output", str(tmp_path / "shared")])
    assert from_pretrained(tmp_path / "shared").config == from_pretrained(trained).config
    half = (tmp_path / "shared" / "model.safetensors").stat().st_size
    assert half < (trained / "step_000000008" / "model.safetensors").stat().st_size
