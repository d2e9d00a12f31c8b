"""python -m train.train_pg_tokenizer --save_dir save/poses --dataset NAME: PGR2M's motion tokenizer, pose codes and codebooks for
what they leave; without codebooks as in CoMo (`--preset como`).
"""

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal

from model.pgr2m_config import ALIASES, IGNORED, PRESETS, PGTokenizerConfig
from protos.flags import configured, with_defaults
from protos.options import command, run_command
from train.options import TokenizerOptions

if TYPE_CHECKING:
    from train.loop import TrainResult


@dataclass(frozen=True, kw_only=True)
@with_defaults(
    num_steps=300_000, batch_size=256, lr=1e-4, adam_beta2=0.99, warmup_steps=1000, schedule="steps", milestones=(200_000,),
    gamma=0.05, use_ema=False, save_interval=5000, eval_interval=5000, log_interval=200,
)  # fmt: skip
class PGTokenizerOptions(PGTokenizerConfig, TokenizerOptions):
    """Data and course of the training"""

    preset: Literal["published", "como", "small"] = "published"
    """Recipe that sets the defaults of the other flags."""
    dataset: str
    """Dataset folder made by data_loaders.prepare, or a known name."""


def run(options: PGTokenizerOptions) -> "TrainResult":
    """Trains as the options say. ValueError or OSError, in a user's words, for what cannot be trained."""
    from data_loaders.batches import fitting_window
    from data_loaders.corpus import Corpus
    from model.pgr2m import PGTokenizer
    from train.loop import train
    from train.vqvae_recipe import vqvae_recipe

    corpus = Corpus.open(options.dataset)
    config = configured(PGTokenizerConfig, options, features=corpus.features)
    options = replace(options, window_size=fitting_window(corpus, options.window_size, config.downsampling))
    return train(vqvae_recipe(corpus, PGTokenizer, config, options, "train.train_pg_tokenizer"), options)


main = command(PGTokenizerOptions, run, __doc__, ALIASES, PRESETS, IGNORED)

if __name__ == "__main__":
    run_command(main)
