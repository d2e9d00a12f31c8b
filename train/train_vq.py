"""python -m train.train_vq --save_dir save/tokens --dataset NAME: a motion tokenizer, VQ-VAE with one codebook as in LaMP, or
with residual ones as in MoMask (`--preset momask`).
"""

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal

from model.vqvae_config import ALIASES, IGNORED, PRESETS, VQVAEConfig
from protos.flags import configured, with_defaults
from protos.options import command, run_command
from train.options import TokenizerOptions

if TYPE_CHECKING:
    from train.loop import TrainResult


@dataclass(frozen=True, kw_only=True)
@with_defaults(
    num_steps=75_000, batch_size=256, lr=5e-4, adam_beta2=0.99, warmup_steps=2001, schedule="steps", milestones=(37_500, 62_500),
    gamma=0.05, use_ema=False, save_interval=5000, eval_interval=5000, log_interval=100, window_size=196,
)  # fmt: skip
class VQOptions(VQVAEConfig, TokenizerOptions):
    """Data and course of the training"""

    preset: Literal["lamp", "momask", "small"] = "lamp"
    """Recipe that sets the defaults of the other flags."""
    dataset: str
    """Dataset folder made by data_loaders.prepare, or a known name."""


def run(options: VQOptions) -> "TrainResult":
    """Trains as the options say. ValueError or OSError, in a user's words, for what cannot be trained."""
    from data_loaders.batches import fitting_window
    from data_loaders.corpus import Corpus
    from model.vqvae import VQVAE
    from train.loop import train
    from train.vqvae_recipe import vqvae_recipe

    corpus = Corpus.open(options.dataset)
    config = configured(VQVAEConfig, options, features=corpus.features)
    options = replace(options, window_size=fitting_window(corpus, options.window_size, config.downsampling))
    return train(vqvae_recipe(corpus, VQVAE, config, options, "train.train_vq"), options)


main = command(VQOptions, run, __doc__, ALIASES, PRESETS, IGNORED)

if __name__ == "__main__":
    run_command(main)
