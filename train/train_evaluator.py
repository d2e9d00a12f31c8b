"""python -m train.train_evaluator --save_dir save/evaluator --dataset humanml: the text-motion evaluator (Guo et al. 2022).

First the movement autoencoder (save_dir/movement), then text and motion encoder over its frozen encoder
(save_dir/matching), whose checkpoints are what evaluations load.
"""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any, Literal

from protos.bounds import BATCH_SIZE, CHANNELS, STEPS, WEIGHT, Range
from protos.options import parse, run_command
from protos.processes import start
from train.options import TrainOptions

PRESETS: dict[str, dict[str, Any]] = {
    "published": {},
    "small": {
        "dataset": "bandai_namco", "words": "minilm", "movement_hidden": 192, "movement_latent": 192, "text_hidden": 192,
        "motion_hidden": 256, "embedding": 256, "movement_steps": 3000, "movement_lr": 1e-3, "num_steps": 3000,
        "batch_size": 64, "lr": 5e-4, "warmup_steps": 100, "schedule": "cosine", "balance": 0.5,
        "use_ema": True, "ema_decay": 0.999, "ema_warmup": True,
        "save_interval": 500, "eval_interval": 500, "log_interval": 50,
    },
}  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class EvaluatorOptions(TrainOptions):
    """Train an evaluator on a prepared dataset. The shared flags speak of the second stage, matching."""

    preset: Literal["published", "small"] = "published"
    """Recipe that sets the defaults of the other flags."""
    dataset: str = "humanml"
    """humanml, kit, bandai_namco, or a folder made by data_loaders.prepare."""
    words: Literal["auto", "glove", "minilm"] = "auto"
    """What is read of texts: the published word vectors, or MiniLM's; auto takes the former where they are."""
    glove_folder: Path = Path("checkpoints/official/glove")
    """Folder of our_vab_data.npy, our_vab_words.pkl and our_vab_idx.pkl."""
    feat_bias: Annotated[float, Range(0, 1_000_000, above=True)] = 5.0
    """What the std of root and contacts is divided by, twice, as in every published evaluator: they weigh more then."""
    balance: Annotated[float, Range(0, 10)] = 0.0
    """How far rare contents are lifted: 0 draws clips as often as they occur, 1 every content equally often."""

    movement_hidden: Annotated[int, CHANNELS] = 512
    """Channels inside the movement autoencoder."""
    movement_latent: Annotated[int, CHANNELS] = 512
    """Channels of a movement latent (4 frames)."""
    text_hidden: Annotated[int, CHANNELS] = 512
    """Channels of the text encoder's GRU, in each direction."""
    motion_hidden: Annotated[int, CHANNELS] = 1024
    """Channels of the motion encoder's GRU, in each direction."""
    embedding: Annotated[int, CHANNELS] = 512
    """Channels of the common space."""

    window_size: Annotated[int, Range(8, 100_000)] = 24
    """Frames per window of the movement autoencoder, a multiple of 4."""
    movement_steps: Annotated[int, STEPS] = 300_000
    """Steps of the movement autoencoder (published: 270 epochs over all windows, some millions)."""
    movement_batch_size: Annotated[int, BATCH_SIZE] = 128
    """Windows per process and step."""
    movement_lr: Annotated[float, Range(0, 100, above=True)] = 1e-4
    """Learning rate of the movement autoencoder."""

    negative_margin: Annotated[float, Range(0, 1_000_000, above=True)] = 10.0
    """Distance that motions of other texts are pushed to."""
    num_steps: Annotated[int, STEPS] = 300_000
    """Steps of the matching (published: 300 epochs, 877,000 steps of 8 motions)."""
    batch_size: Annotated[int, Range(2, 65_536)] = 32
    """Texts and motions per process and step, at least 2."""
    lr: Annotated[float, Range(0, 100, above=True)] = 1e-4
    """Learning rate of the matching."""
    grad_clip: Annotated[float, WEIGHT] = 0.5
    """Largest norm of the gradient of each network in matching; 0 does not clip."""
    clip_each: bool = True
    """Clip the gradient of text and motion encoder apart."""
    use_ema: bool = False
    """Judge and save the moving average of the weights."""
    save_interval: Annotated[int, STEPS] = 10_000
    """Steps between checkpoints."""
    eval_interval: Annotated[int, Range(0, 1_000_000_000)] = 10_000
    """Steps between evaluations on the validation split; the best is kept in save_dir/matching/best."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.window_size % 4:
            raise ValueError(f"--window_size {self.window_size}: expected a multiple of 4")

    def of_movement(self) -> "EvaluatorOptions":
        """The options as the loop reads them in the first stage."""
        return replace(
            self, save_dir=str(Path(self.save_dir) / "movement"), num_steps=self.movement_steps, resume_checkpoint="",
            batch_size=self.movement_batch_size, lr=self.movement_lr, grad_clip=0.0, clip_each=False,
        )  # fmt: skip

    def of_matching(self) -> "EvaluatorOptions":
        return replace(self, save_dir=str(Path(self.save_dir) / "matching"))


def main(argv: list[str] | None = None) -> None:
    options = parse(EvaluatorOptions, argv, __doc__, presets=PRESETS)
    start(run, options)


def run(options: EvaluatorOptions) -> None:
    from train.train_evaluator_setup import train_evaluator

    train_evaluator(options)


if __name__ == "__main__":
    run_command(main)
