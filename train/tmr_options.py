"""The options of TMR and TEMOS, and what their commands do with them."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from model.tmr_config import TMRConfig
from protos.flags import BATCH_SIZE, STEPS, Range, configured, with_defaults
from train.options import TrainOptions

if TYPE_CHECKING:
    from train.loop import TrainResult


@dataclass(frozen=True, kw_only=True)
@with_defaults(weight_decay=0.01, use_ema=False, save_interval=10_000)
class TMROptions(TMRConfig, TrainOptions):
    """Text and motion encoders with a common space, and a decoder out of it: what is trained, and on what."""

    preset: Literal["published", "small"] = "published"
    """Recipe that sets the defaults of the other flags."""
    dataset: str = "humanml"
    """humanml, kit, a folder made by data_loaders.prepare, or one with TMR's annotations.json."""
    motions: Path | None = None
    """Feature files of a folder with annotations.json (default: motions/guoh3dfeats, two folders above it)."""
    min_seconds: Annotated[float, Range(0, 1_000_000, above=True)] = 2.0
    """Shortest motion to train on."""
    max_seconds: Annotated[float, Range(0, 1_000_000, above=True)] = 10.0
    """Longest; longer annotated parts are left out, longer clips of a prepared dataset give a random part of that length."""
    balance: Annotated[float, Range(0, 10)] = 0.0
    """How far rare contents are lifted: 0 draws clips as often as they occur, 1 every content equally often."""

    num_steps: Annotated[int, STEPS] = 360_000
    """Optimiser steps in all; 500 epochs, as published, are about that on HumanML3D and 60,000 on KIT-ML."""
    batch_size: Annotated[int, Range(2, 65_536)] = 32
    """Texts and motions per process and step, at least 2."""
    accumulation: Annotated[int, BATCH_SIZE] = 1
    """Forward passes per optimiser step, each with a contrast of its own: no substitute for a larger batch."""
    eval_interval: Annotated[int, Range(0, 1_000_000_000)] = 2_000
    """Steps between evaluations on the validation split, by losses and by retrieval in pools of 32; the best is kept in
    save_dir/best: that which finds most (TMR), that with the lowest loss (TEMOS). 0: never."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.min_seconds > self.max_seconds:
            raise ValueError(f"--min_seconds {self.min_seconds:g} is more than --max_seconds {self.max_seconds:g}")


def run(options: TMROptions) -> "TrainResult":
    """Trains as the options say. Raises ValueError or OSError, in a user's words, for what cannot be trained."""
    from data_loaders.corpus import Corpus
    from train.loop import train
    from train.tmr_recipe import tmr_recipe

    data = Corpus.open(options.dataset, options.motions)
    seconds = options.min_seconds, options.max_seconds
    return train(tmr_recipe(data, configured(TMRConfig, options), options, seconds, options.balance), options)
