"""python -m train.train_lamp --save_dir save/lamp --dataset NAME --tokenizer save/tokens: language-motion pretraining (LaMP).

Texts and motions are brought into one space by a Q-Former over a tokenizer's latents. `--preset small` stands on the embedded
language model, which it neither changes nor stores.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Literal

from model.lamp_config import PRESETS, LaMPConfig
from protos.flags import Range, configured, with_defaults
from protos.options import command, run_command
from train.options import TrainOptions

if TYPE_CHECKING:
    from train.loop import TrainResult


@dataclass(frozen=True, kw_only=True)
@with_defaults(
    num_steps=75_000, batch_size=64, lr=1e-4, weight_decay=0.05, adam_beta2=0.99, warmup_steps=2000, schedule="cosine",
    use_ema=False, save_interval=5000, eval_interval=2500, log_interval=100,
)  # fmt: skip
class LaMPOptions(LaMPConfig, TrainOptions):
    """What is trained, and on what."""

    preset: Literal["published", "small"] = "published"
    """Recipe that sets the defaults of the other flags."""
    dataset: str
    """Dataset folder made by data_loaders.prepare, or a known name."""
    tokenizer: str
    """Checkpoint of train.train_vq whose latents are read and whose codes are told."""
    balance: Annotated[float, Range(0, 10)] = 0.0
    """How far contents are evened out: 0 draws clips as often as they occur, 1 every content equally often."""
    batch_size: Annotated[int, Range(2, 65_536)] = 64
    """Texts and motions per process and step, at least 2."""


def run(options: LaMPOptions) -> "TrainResult":
    """Trains as the options say. ValueError or OSError, in a user's words, for what cannot be trained."""
    from data_loaders.corpus import Corpus
    from model.checkpoints import load_part
    from train.lamp_recipe import lamp_recipe
    from train.loop import train

    corpus, tokenizer = Corpus.open(options.dataset), load_part(options.tokenizer, "tokenizer", "vqvae")
    return train(lamp_recipe(corpus, configured(LaMPConfig, options), options, tokenizer, options.balance), options)


main = command(LaMPOptions, run, __doc__, {"dataset_name": "dataset", "vq_name": "tokenizer"}, PRESETS)

if __name__ == "__main__":
    run_command(main)
