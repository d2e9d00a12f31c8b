"""python -m train.train_m2t --save_dir save/captioner --dataset NAME --lamp save/lamp: motion to text, the captioner of LaMP.

As published on OPT-2.7b with low-rank additions; `--preset small` trains a small decoder in the words of the language model that
LaMP stands on, which needs nothing that is not here.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Literal

from model.captioner_config import PRESETS, CaptionerConfig
from protos.flags import Range, configured, with_defaults
from protos.options import command, run_command
from train.options import TrainOptions

if TYPE_CHECKING:
    from train.loop import TrainResult


@dataclass(frozen=True, kw_only=True)
@with_defaults(
    num_steps=150_000, batch_size=80, lr=5e-5, weight_decay=1e-6, adam_beta1=0.5, adam_beta2=0.9, schedule="steps",
    milestones=(75_000,), gamma=0.05, use_ema=False, save_interval=5000, eval_interval=5000, log_interval=100,
)  # fmt: skip
class M2TOptions(CaptionerConfig, TrainOptions):
    """What is trained, and on what."""

    preset: Literal["published", "small"] = "published"
    """Recipe that sets the defaults of the other flags."""
    dataset: str
    """Dataset folder made by data_loaders.prepare, or a known name."""
    lamp: str
    """Checkpoint of train.train_lamp through which motion is read."""
    balance: Annotated[float, Range(0, 10)] = 0.0
    """How far contents are evened out: 0 draws clips as often as they occur, 1 every content equally often."""

    def __post_init__(self) -> None:
        TrainOptions.__post_init__(self)
        CaptionerConfig.__post_init__(self)


def run(options: M2TOptions) -> "TrainResult":
    """Trains as the options say. ValueError or OSError, in a user's words, for what cannot be trained."""
    from data_loaders.corpus import Corpus
    from model.checkpoints import load_part
    from train.captioner_recipe import captioner_recipe
    from train.loop import train

    corpus, lamp = Corpus.open(options.dataset), load_part(options.lamp, "lamp", "lamp")
    return train(captioner_recipe(corpus, configured(CaptionerConfig, options), options, lamp, options.balance), options)


main = command(M2TOptions, run, __doc__, {"dataset_name": "dataset"}, PRESETS)

if __name__ == "__main__":
    run_command(main)
