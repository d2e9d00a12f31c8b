"""python -m train.train_interclip --save_dir save/interclip --dataset interhuman: the judge of two people (Liang et al. 2024).

Texts and motions of two people are brought into one space, by which evaluations.eval_interhuman goes. On several processes every
text is contrasted with the motions of all of them. `--preset small` reads texts through the embedded MiniLM.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Literal

from model.interclip_config import PRESETS, InterCLIPConfig
from protos.flags import BATCH_SIZE, STEPS, Range, configured, with_defaults
from protos.options import command, run_command
from train.options import TrainOptions

if TYPE_CHECKING:
    from train.loop import TrainResult


@dataclass(frozen=True, kw_only=True)
@with_defaults(weight_decay=2e-5, use_ema=False, save_interval=10_000)
class InterCLIPOptions(InterCLIPConfig, TrainOptions):
    """What is trained, and on what."""

    preset: Literal["published", "small"] = "published"
    """Recipe that sets the defaults of the other flags."""
    dataset: str = "interhuman"
    """interhuman, or a folder of two people made by data_loaders.prepare."""
    balance: Annotated[float, Range(0, 10)] = 0.0
    """How far rare contents are lifted: 0 draws motions as often as they occur, 1 every content equally often."""

    num_steps: Annotated[int, STEPS] = 100_000
    """Optimiser steps in all; none are published."""
    batch_size: Annotated[int, Range(2, 65_536)] = 64
    """Texts and motions per process and step, at least 2."""
    accumulation: Annotated[int, BATCH_SIZE] = 1
    """Forward passes per optimiser step, each with a contrast of its own: no substitute for a larger batch."""
    eval_interval: Annotated[int, Range(0, 1_000_000_000)] = 2_000
    """Steps between evaluations on the validation split, by loss and by how often the text of a motion is found; the one with the
    lowest loss is kept in save_dir/best. 0: never."""


def run(options: InterCLIPOptions) -> "TrainResult":
    """Trains as the options say. Raises ValueError or OSError, in a user's words, for what cannot be trained."""
    from data_loaders.corpus import Corpus
    from train.interclip_recipe import interclip_recipe
    from train.loop import train

    corpus = Corpus.open(options.dataset)
    return train(interclip_recipe(corpus, configured(InterCLIPConfig, options), options, options.balance), options)


main = command(InterCLIPOptions, run, __doc__, presets=PRESETS)

if __name__ == "__main__":
    run_command(main)
