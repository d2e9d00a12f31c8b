"""python -m train.train_refine_trans --save_dir save/refine --dataset NAME --base save/base: PGR2M's refine transformer, which
adds the ids of the tokenizer's codebooks to the poses that the base makes.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING

from model.pgr2m_transformer_config import ALIASES, IGNORED_OF_REFINE, REFINE_PRESETS, PoseRefinerConfig
from protos.flags import configured, with_defaults
from protos.options import command, run_command
from train.options import OverPosesOptions

if TYPE_CHECKING:
    from train.loop import TrainResult


@dataclass(frozen=True, kw_only=True)
@with_defaults(
    num_steps=150_000, batch_size=64, lr=2e-4, weight_decay=1e-6, adam_beta1=0.5, adam_beta2=0.9, warmup_steps=5000,
    schedule="steps", milestones=(40_000,), gamma=0.5, use_ema=False, save_interval=10_000, eval_interval=5000, balance=0.0,
    repeat=0.0,
)  # fmt: skip
class RefineTransOptions(PoseRefinerConfig, OverPosesOptions):
    """What is trained, and on what."""

    dataset: str
    """Dataset folder made by data_loaders.prepare, or a known name."""
    base: str
    """Checkpoint of train.train_base_trans, whose poses are refined; its tokenizer lies in it."""


def run(options: RefineTransOptions) -> "TrainResult":
    """Trains as the options say. ValueError or OSError, in a user's words, for what cannot be trained."""
    from data_loaders.corpus import Corpus
    from model.checkpoints import load_part
    from model.pgr2m_transformers import PoseTextRefiner
    from train.loop import train
    from train.token_recipe import token_recipe, with_keywords

    corpus = Corpus.open(options.dataset_folder or options.dataset)
    parts = {"base": load_part(options.base, "base", "pg_base")}
    config = configured(PoseRefinerConfig, options)
    keywords = with_keywords(options.keywords_folder, config)
    return train(token_recipe(corpus, PoseTextRefiner, config, options, parts, "train.train_refine_trans", keywords), options)


main = command(RefineTransOptions, run, __doc__, ALIASES, REFINE_PRESETS, IGNORED_OF_REFINE)

if __name__ == "__main__":
    run_command(main)
