"""python -m train.train_vq --save_dir save/tokens --dataset NAME: a motion tokenizer, VQ-VAE with one codebook as in LaMP, or
with residual ones as in MoMask (`--preset momask`).
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Literal

from model.vqvae_config import ALIASES, IGNORED, PRESETS, VQVAEConfig
from protos.flags import Range, configured, with_defaults
from protos.options import command, run_command
from train.options import TrainOptions

if TYPE_CHECKING:
    from train.loop import TrainResult


@dataclass(frozen=True, kw_only=True)
@with_defaults(
    num_steps=75_000, batch_size=256, lr=5e-4, adam_beta2=0.99, warmup_steps=2001, schedule="steps", milestones=(37_500, 62_500),
    gamma=0.05, use_ema=False, save_interval=5000, eval_interval=5000, log_interval=100,
)  # fmt: skip
class VQOptions(VQVAEConfig, TrainOptions):
    """Data and course of the training"""

    preset: Literal["lamp", "momask", "small"] = "lamp"
    """Recipe that sets the defaults of the other flags."""
    dataset: str
    """Dataset folder made by data_loaders.prepare, or a known name."""
    window_size: Annotated[int, Range(4, 100_000)] = 196
    """Frames per training window, whole tokens; shorter clips are padded."""
    balance: Annotated[float, Range(0, 10)] = 0.0
    """How far contents are evened out: 0 draws clips as often as they occur, 1 every content equally often."""
    feature_bias: Annotated[float, Range(0, 1000, above=True)] = 5.0
    """What the std of root and contacts is divided by, twice as in published training; 1 leaves it as the data have it."""

    def __post_init__(self) -> None:
        TrainOptions.__post_init__(self)
        VQVAEConfig.__post_init__(self)
        if self.window_size % self.downsampling:
            raise ValueError(f"--window_size {self.window_size}: expected a multiple of {self.downsampling}, the frames of a "
                             f"token with --num_levels {self.num_levels}")  # fmt: skip


def run(options: VQOptions) -> "TrainResult":
    """Trains as the options say. ValueError or OSError, in a user's words, for what cannot be trained."""
    from data_loaders.corpus import Corpus
    from train.loop import train
    from train.vqvae_recipe import vqvae_recipe

    corpus = Corpus.open(options.dataset)
    config = configured(VQVAEConfig, options, features=corpus.features)
    return train(vqvae_recipe(corpus, config, options, options.window_size, options.balance, options.feature_bias), options)


main = command(VQOptions, run, __doc__, ALIASES, PRESETS, IGNORED)

if __name__ == "__main__":
    run_command(main)
