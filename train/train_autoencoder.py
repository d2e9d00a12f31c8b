"""python -m train.train_autoencoder --save_dir save/autoencoder --dataset NAME: the autoencoder in whose latents
train.train_latent diffuses.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Literal

from model.autoencoder_config import AutoencoderConfig
from protos.bounds import BATCH_SIZE, STEPS, WEIGHT, Range
from protos.flags import configured
from protos.options import command, run_command
from train.options import TrainOptions

if TYPE_CHECKING:
    from train.loop import TrainResult


@dataclass(frozen=True, kw_only=True)
class AutoencoderOptions(AutoencoderConfig, TrainOptions):
    """Data and course of the training"""

    dataset: str
    """Dataset folder made by data_loaders.prepare, or a known name."""
    autoencoder: str = ""
    """Checkpoint of an autoencoder, or of a model that has one, to begin from; its sizes then count, not the flags'
    (--kl_weight and --latent_noise do)."""
    decoder_only: bool = False
    """Train only the decoder of --autoencoder: its latents stay what they are, and so do models trained on them."""
    window_size: Annotated[int, Range(8, 100_000)] = 64
    """Frames per training window, a multiple of --downsampling."""
    balance: Annotated[float, Range(0, 10)] = 0.5
    """How far contents are evened out: 0 draws clips as often as they occur, 1 every content equally often."""

    num_steps: Annotated[int, STEPS] = 8000
    """Optimiser steps in all."""
    batch_size: Annotated[int, BATCH_SIZE] = 128
    """Windows per process and step."""
    lr: Annotated[float, Range(0, 100, above=True)] = 5e-4
    """Learning rate of AdamW."""
    warmup_steps: Annotated[int, Range(0, 1_000_000_000)] = 200
    """Steps over which the learning rate rises from 0."""
    schedule: Literal["constant", "cosine", "linear"] = "cosine"
    """Course of the learning rate after the warm-up."""
    grad_clip: Annotated[float, WEIGHT] = 1.0
    """Largest norm of the gradient; 0 does not clip."""
    precision: Literal["fp32", "bf16"] = "bf16"
    """bf16 computes the forward pass in bfloat16 over float32 weights."""
    ema_decay: Annotated[float, Range(0, 1, below=True)] = 0.999
    """Decay of the moving average of the weights per step."""
    ema_warmup: bool = True
    """Begin with a shorter average."""
    save_interval: Annotated[int, STEPS] = 1000
    """Steps between checkpoints."""
    eval_interval: Annotated[int, Range(0, 1_000_000_000)] = 1000
    """Steps between evaluations on the validation split."""
    log_interval: Annotated[int, STEPS] = 50
    """Steps between lines of the log."""

    def __post_init__(self) -> None:
        TrainOptions.__post_init__(self)
        AutoencoderConfig.__post_init__(self)
        if self.window_size % self.downsampling:
            raise ValueError(f"--window_size {self.window_size}: expected a multiple of {self.downsampling}")
        if self.decoder_only and not self.autoencoder:
            raise ValueError("--decoder_only needs an --autoencoder whose decoder is to be trained")


def run(options: AutoencoderOptions) -> "TrainResult":
    """Trains and saves the autoencoder; the checkpoint folder holds config, weights, statistics and latent spread."""
    from data_loaders.corpus import Corpus
    from train.autoencoder_recipe import autoencoder_recipe
    from train.loop import train

    corpus = Corpus.open(options.dataset)
    config = configured(AutoencoderConfig, options, features=corpus.features)
    recipe = autoencoder_recipe(
        corpus, config, options, options.window_size, options.balance, options.autoencoder, options.decoder_only
    )
    return train(recipe, options)


main = command(AutoencoderOptions, run, __doc__)

if __name__ == "__main__":
    run_command(main)
