"""python -m train.train_length_estimator --save_dir save/lengths --dataset humanml: how long does what a text says take?

A classifier of 50 lengths in units of 4 frames (Guo et al. 2022, text2length), for generators that are given no length.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from model.evaluator_config import UNIT_LENGTH, LengthEstimatorConfig
from protos.flags import BATCH_SIZE, STEPS, configured, with_defaults
from protos.options import command, run_command
from train.options import TrainOptions

if TYPE_CHECKING:
    from train.loop import TrainResult


@dataclass(frozen=True, kw_only=True)
@with_defaults(grad_clip=0.5, use_ema=False, save_interval=5_000, eval_interval=5_000, log_interval=100)
class LengthEstimatorOptions(LengthEstimatorConfig, TrainOptions):
    """What is trained, and on what."""

    glove_folder: Path = Path("checkpoints/official/glove")
    """Folder of our_vab_data.npy, our_vab_words.pkl and our_vab_idx.pkl."""

    num_steps: Annotated[int, STEPS] = 100_000
    """Steps in all (published: 300 epochs of 64 texts, 110,000 steps)."""
    batch_size: Annotated[int, BATCH_SIZE] = 64
    """Texts per process and step."""

    def __post_init__(self) -> None:
        TrainOptions.__post_init__(self)
        LengthEstimatorConfig.__post_init__(self)


def run(options: LengthEstimatorOptions) -> "TrainResult":
    """Trains and saves. ValueError or OSError, in a user's words, for what cannot be trained."""
    from data_loaders.corpus import Corpus
    from model.evaluator_words import words_of
    from train.evaluator_recipe import length_recipe, shortest_motion
    from train.loop import train

    corpus = Corpus.open(options.dataset)
    words, read = words_of(corpus, options.words, options.glove_folder)
    config = configured(
        LengthEstimatorConfig, options, features=corpus.features, shortest_units=shortest_motion(corpus) // UNIT_LENGTH,
        **read,
    )  # fmt: skip
    return train(length_recipe(corpus, words, config, options), options)


main = command(LengthEstimatorOptions, run, __doc__)

if __name__ == "__main__":
    run_command(main)
