"""python -m train.train_evaluator --save_dir save/evaluator --dataset humanml: the text-motion evaluator (Guo et al. 2022).

First the movement autoencoder (save_dir/movement), then text and motion encoder over its frozen encoder
(save_dir/matching), whose checkpoints are what evaluations load.
"""

import logging
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from model.evaluator_config import EvaluatorConfig
from protos.flags import BATCH_SIZE, STEPS, WEIGHT, Range, configured, with_defaults
from protos.options import command, run_command
from train.options import TrainOptions

if TYPE_CHECKING:
    from train.loop import TrainResult

logger = logging.getLogger(__name__)

PRESETS: dict[str, dict[str, Any]] = {
    "published": {},
    "small": {
        "words": "minilm", "movement_hidden": 192, "movement_latent": 192, "text_hidden": 192,
        "motion_hidden": 256, "embedding": 256, "movement_steps": 3000, "movement_lr": 1e-3, "num_steps": 3000,
        "batch_size": 64, "lr": 5e-4, "warmup_steps": 100, "schedule": "cosine", "balance": 0.5,
        "use_ema": True, "ema_decay": 0.999, "ema_warmup": True,
        "save_interval": 500, "eval_interval": 500, "log_interval": 50,
    },
}  # fmt: skip


@dataclass(frozen=True, kw_only=True)
@with_defaults(lr=1e-4, use_ema=False, save_interval=10_000)
class EvaluatorOptions(EvaluatorConfig, TrainOptions):
    """What is trained, and on what. The shared flags speak of the second stage, matching."""

    preset: Literal["published", "small"] = "published"
    """Recipe that sets the defaults of the other flags."""
    glove_folder: Path = Path("checkpoints/official/glove")
    """Folder of our_vab_data.npy, our_vab_words.pkl and our_vab_idx.pkl."""
    feat_bias: Annotated[float, Range(0, 1_000_000, above=True)] = 5.0
    """What the std of root and contacts is divided by, twice, as in every published evaluator: they weigh more then."""
    balance: Annotated[float, Range(0, 10)] = 0.0
    """How far rare contents are lifted: 0 draws clips as often as they occur, 1 every content equally often."""

    window_size: Annotated[int, Range(8, 100_000)] = 24
    """Frames per window of the movement autoencoder, a multiple of 4."""
    movement_steps: Annotated[int, STEPS] = 300_000
    """Steps of the movement autoencoder (published: 270 epochs over all windows, some millions)."""
    movement_batch_size: Annotated[int, BATCH_SIZE] = 128
    """Windows per process and step."""
    movement_lr: Annotated[float, Range(0, 100, above=True)] = 1e-4
    """Learning rate of the movement autoencoder."""

    num_steps: Annotated[int, STEPS] = 300_000
    """Steps of the matching (published: 300 epochs, 877,000 steps of 8 motions)."""
    batch_size: Annotated[int, Range(2, 65_536)] = 32
    """Texts and motions per process and step, at least 2."""
    grad_clip: Annotated[float, WEIGHT] = 0.5
    """Largest norm of the gradient of each network in matching; 0 does not clip."""
    clip_each: bool = True
    """Clip the gradient of text and motion encoder apart."""
    eval_interval: Annotated[int, Range(0, 1_000_000_000)] = 10_000
    """Steps between evaluations on the validation split; the best is kept in save_dir/matching/best."""

    def __post_init__(self) -> None:
        TrainOptions.__post_init__(self)
        EvaluatorConfig.__post_init__(self)
        if self.window_size % 4:
            raise ValueError(f"--window_size {self.window_size}: expected a multiple of 4")


def run(options: EvaluatorOptions) -> "TrainResult":
    """Trains both stages, each gone on with where it was left. ValueError or OSError, in a user's words."""
    from data_loaders.batches import fitting_window
    from data_loaders.corpus import Corpus
    from data_loaders.feature_statistics import with_feature_bias
    from data_loaders.features import Statistics
    from model.evaluator_words import words_of
    from train.evaluator_recipe import Settings, matching_recipe, movement_recipe
    from train.loop import train

    corpus = Corpus.open(options.dataset)
    words, read = words_of(corpus, options.words, options.glove_folder)
    config = configured(EvaluatorConfig, options, features=corpus.features, **read)
    std = with_feature_bias(corpus.std, corpus.features, options.feat_bias, times=2)
    statistics = Statistics(corpus.mean, std, corpus.features)
    settings = Settings(fitting_window(corpus, options.window_size, 4), options.balance)
    first = replace(
        options, save_dir=str(Path(options.save_dir) / "movement"), num_steps=options.movement_steps, resume_checkpoint="",
        batch_size=options.movement_batch_size, lr=options.movement_lr, grad_clip=0.0, clip_each=False,
    )  # fmt: skip
    logger.info("movement autoencoder: %d steps", first.num_steps)
    movement = train(movement_recipe(corpus, config, first, statistics, settings), first).model
    second = replace(options, save_dir=str(Path(options.save_dir) / "matching"))
    logger.info("matching: %d steps", second.num_steps)
    return train(matching_recipe(corpus, words, config, second, statistics, movement, settings), second)


main = command(EvaluatorOptions, run, __doc__, presets=PRESETS)

if __name__ == "__main__":
    run_command(main)
