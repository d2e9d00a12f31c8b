"""python -m train.train_autoencoder --save_dir save/autoencoder --dataset NAME: the autoencoder in whose latents
train.train_latent diffuses; a --causal one of two people is that of train.train_reaction --preset online.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

from model.autoencoder_config import AutoencoderConfig
from protos.flags import Range, configured, with_defaults
from protos.options import command, run_command
from train.options import TrainOptions

if TYPE_CHECKING:
    from train.loop import TrainResult


@dataclass(frozen=True, kw_only=True)
@with_defaults(
    num_steps=10_000, batch_size=64, lr=5e-4, warmup_steps=200, schedule="cosine", grad_clip=1.0, precision="auto",
    ema_decay=0.999, ema_warmup=True, save_interval=1000, eval_interval=1000, log_interval=50,
)  # fmt: skip
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
    strangers: str = ""
    """Of two people: dataset of one person (--features interhuman_person), pairs of whose windows, put beside each other, are
    trained on too, since few people were recorded together."""
    strangers_share: Annotated[float, Range(0, 1, below=True)] = 0.75
    """Share of the windows that show such pairs."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.window_size % self.downsampling:
            raise ValueError(f"--window_size {self.window_size}: expected a multiple of {self.downsampling}")
        if self.decoder_only and not self.autoencoder:
            raise ValueError("--decoder_only needs an --autoencoder whose decoder is to be trained")


def run(options: AutoencoderOptions) -> "TrainResult":
    """Trains and saves the autoencoder; the checkpoint folder holds config, weights, statistics and latent spread."""
    from data_loaders.batches import fitting_window
    from data_loaders.corpus import Corpus
    from train.autoencoder_recipe import autoencoder_recipe
    from train.loop import train

    corpus = Corpus.open(options.dataset)
    config = configured(AutoencoderConfig, options, features=corpus.features)
    window = fitting_window(corpus, options.window_size, options.downsampling)
    strangers = Corpus.open(options.strangers) if options.strangers else None
    recipe = autoencoder_recipe(corpus, config, options, window, options.balance, options.autoencoder, options.decoder_only,
                                strangers, options.strangers_share)
    return train(recipe, options)


main = command(AutoencoderOptions, run, __doc__)

if __name__ == "__main__":
    run_command(main)
