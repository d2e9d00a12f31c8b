"""python -m train.train_base_trans --save_dir save/base --dataset NAME --tokenizer save/poses: text to pose codes, the base
transformer of PGR2M and CoMo.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING

from model.pgr2m_transformer_config import ALIASES, BASE_PRESETS, IGNORED, PoseTransformerConfig
from protos.flags import configured, with_defaults
from protos.options import command, run_command
from train.options import OverPosesOptions

if TYPE_CHECKING:
    from train.loop import TrainResult


@dataclass(frozen=True, kw_only=True)
@with_defaults(
    num_steps=300_000, batch_size=64, lr=1e-4, weight_decay=1e-6, adam_beta1=0.5, adam_beta2=0.9, schedule="steps",
    milestones=(150_000,), gamma=0.05, use_ema=False, save_interval=10_000, eval_interval=5000, balance=0.0, repeat=0.0,
)  # fmt: skip
class BaseTransOptions(PoseTransformerConfig, OverPosesOptions):
    """What is trained, and on what."""

    dataset: str
    """Dataset folder made by data_loaders.prepare, or a known name."""
    tokenizer: str
    """Checkpoint of train.train_pg_tokenizer, whose pose codes are made."""


def run(options: BaseTransOptions) -> "TrainResult":
    """Trains as the options say. ValueError or OSError, in a user's words, for what cannot be trained."""
    from data_loaders.corpus import Corpus
    from model.checkpoints import load_part
    from model.pgr2m_transformers import PoseTextTransformer
    from train.loop import train
    from train.token_recipe import token_recipe, with_keywords

    corpus = Corpus.open(options.dataset_folder or options.dataset)
    parts = {"tokenizer": load_part(options.tokenizer, "tokenizer", "pg_tokenizer")}
    config = configured(PoseTransformerConfig, options)
    keywords = with_keywords(options.keywords_folder, config)
    return train(token_recipe(corpus, PoseTextTransformer, config, options, parts, "train.train_base_trans", keywords), options)


main = command(BaseTransOptions, run, __doc__, ALIASES, BASE_PRESETS, IGNORED)

if __name__ == "__main__":
    run_command(main)
