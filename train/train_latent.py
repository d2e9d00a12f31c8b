"""python -m train.train_latent --save_dir save/run --dataset NAME --autoencoder save/autoencoder: text to motion by diffusion in
the latents of a motion autoencoder, the system of the starter weights: what few recordings teach, and fast to sample.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING

from model.lsremgm_config import ALIASES, LatentConfig
from protos.flags import configured, with_defaults
from protos.options import command, run_command
from train.options import DrawingOptions, GeneratorOptions

if TYPE_CHECKING:
    from train.loop import TrainResult


@dataclass(frozen=True, kw_only=True)
@with_defaults(
    num_steps=18_000, batch_size=32, lr=5e-4, weight_decay=0.01, adam_beta2=0.99, warmup_steps=500, schedule="cosine",
    grad_clip=1.0, precision="auto", ema_decay=0.999, ema_warmup=True, save_interval=500, eval_interval=500, log_interval=50,
)  # fmt: skip
class LatentOptions(LatentConfig, DrawingOptions, GeneratorOptions):
    """What is trained, and on what."""

    dataset: str
    """Dataset folder made by data_loaders.prepare, or a known name."""
    autoencoder: str
    """Checkpoint of train.train_autoencoder, or of a model that has one, whose latents are diffused."""

    def __post_init__(self) -> None:
        GeneratorOptions.__post_init__(self)
        LatentConfig.__post_init__(self)


def run(options: LatentOptions) -> "TrainResult":
    """Trains as the options say. ValueError or OSError, in a user's words, for what cannot be trained."""
    from data_loaders.corpus import Corpus
    from model.checkpoints import load_part
    from model.lsremgm import Latent
    from train.generator_recipe import Drawing, generator_recipe
    from train.loop import train

    corpus = Corpus.open(options.dataset_folder or options.dataset)
    parts = {"autoencoder": load_part(options.autoencoder, "autoencoder", "motion_autoencoder")}
    drawing = Drawing(options.balance, options.repeat, options.bucket)
    return train(generator_recipe(Latent, corpus, configured(LatentConfig, options), options, drawing, parts), options)


main = command(LatentOptions, run, __doc__, ALIASES)

if __name__ == "__main__":
    run_command(main)
