"""python -m train.train_latent --save_dir save/run --dataset NAME --autoencoder save/autoencoder: text to motion by diffusion in
the latents of a motion autoencoder, the system of the starter weights: what few recordings teach, and fast to sample.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Literal

from model.latent_config import LatentConfig
from model.lsremgm_config import ALIASES
from protos.bounds import SHARE, STEPS, WEIGHT, Range
from protos.flags import configured
from protos.options import command, run_command
from train.options import GeneratorOptions

if TYPE_CHECKING:
    from train.loop import TrainResult


@dataclass(frozen=True, kw_only=True)
class LatentOptions(LatentConfig, GeneratorOptions):
    """What is trained, and on what."""

    dataset: str
    """Dataset folder made by data_loaders.prepare, or a known name."""
    autoencoder: str
    """Checkpoint of train.train_autoencoder, or of a model that has one, whose latents are diffused."""
    balance: Annotated[float, Range(0, 10)] = 0.7
    """How far rare contents are lifted: 0 draws clips as often as they occur, 1 every content equally often."""
    repeat: Annotated[float, SHARE] = 0.35
    """How often a short action on the spot is played several times in a row, for requests longer than recordings."""
    bucket: bool = True
    """With --mask_frames: batches of clips of similar length, which saves the time spent on padding."""

    num_steps: Annotated[int, STEPS] = 16_000
    """Optimiser steps in all."""
    lr: Annotated[float, Range(0, 100, above=True)] = 5e-4
    """Learning rate of AdamW."""
    weight_decay: Annotated[float, Range(0, 1000)] = 0.01
    """Weight decay of AdamW."""
    adam_beta2: Annotated[float, Range(0, 1, below=True)] = 0.99
    """Second beta of AdamW."""
    warmup_steps: Annotated[int, Range(0, 1_000_000_000)] = 500
    """Steps over which the learning rate rises from 0."""
    schedule: Literal["constant", "cosine", "linear"] = "cosine"
    """Course of the learning rate after the warm-up; cosine and linear fall to 0 at the last step."""
    grad_clip: Annotated[float, WEIGHT] = 1.0
    """Largest norm of the gradient; 0 does not clip."""
    precision: Literal["fp32", "bf16"] = "bf16"
    """bf16 computes the forward pass in bfloat16 over float32 weights; about 5x faster on a CPU with AMX."""
    ema_decay: Annotated[float, Range(0, 1, below=True)] = 0.999
    """Decay of the moving average of the weights per step."""
    ema_warmup: bool = True
    """Begin with a shorter average, decay (1+step)/(10+step), so that short runs forget their first weights."""
    save_interval: Annotated[int, STEPS] = 500
    """Steps between checkpoints."""
    eval_interval: Annotated[int, Range(0, 1_000_000_000)] = 500
    """Steps between evaluations on the validation split; the best is kept in save_dir/best. 0: never."""
    log_interval: Annotated[int, STEPS] = 50
    """Steps between lines of the log, which average over them."""

    def __post_init__(self) -> None:
        GeneratorOptions.__post_init__(self)
        LatentConfig.__post_init__(self)


def run(options: LatentOptions) -> "TrainResult":
    """Trains as the options say. ValueError or OSError, in a user's words, for what cannot be trained."""
    from data_loaders.corpus import Corpus
    from model.checkpoints import load_part
    from model.latent import Latent
    from train.generator_recipe import Drawing, generator_recipe
    from train.loop import train

    corpus = Corpus.open(options.dataset_folder or options.dataset)
    parts = {"autoencoder": load_part(options.autoencoder, "autoencoder", "motion_autoencoder")}
    drawing = Drawing(options.balance, options.repeat, options.bucket)
    return train(generator_recipe(Latent, corpus, configured(LatentConfig, options), options, drawing, parts), options)


main = command(LatentOptions, run, __doc__, ALIASES)

if __name__ == "__main__":
    run_command(main)
