"""python -m train.train_t2m_transformer --save_dir save/run --dataset NAME --tokenizer save/tokens: text to motion over tokens.

With --lamp the texts are read by LaMP's Q-Former; with --base the residual transformer of that model is trained, which adds the
codes of the further codebooks.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, Literal

from model.token_transformer_config import PRESETS, ResidualConfig, TokenTransformerConfig
from protos.flags import Range, configured, with_defaults
from protos.options import command, run_command
from train.options import OverTokensOptions

if TYPE_CHECKING:
    from train.loop import TrainResult


@dataclass(frozen=True, kw_only=True)
@with_defaults(
    num_steps=300_000, batch_size=64, lr=2e-4, weight_decay=1e-5, adam_beta2=0.99, warmup_steps=2000, schedule="steps",
    milestones=(50_000,), use_ema=False, save_interval=10_000, eval_interval=5000, balance=0.0, repeat=0.0,
)  # fmt: skip
class T2MTransformerOptions(TokenTransformerConfig, OverTokensOptions):
    """What is trained, and on what."""

    preset: Literal["momask", "lamp", "small"] = "momask"
    """Recipe that sets the defaults of the other flags."""
    dataset: str
    """Dataset folder made by data_loaders.prepare, or a known name."""
    tokenizer: str = ""
    """Checkpoint of train.train_vq whose codes are made; LaMP has one, and so has --base."""
    lamp: str = ""
    """Checkpoint of train.train_lamp that reads the texts."""
    base: str = ""
    """Checkpoint of this command whose codes a residual transformer adds to."""
    cond_mask_prob: Annotated[float, Range(0, 1)] | None = None
    """How often the condition is left out in training, for classifier-free guidance (default: 0.1; with --base 0.2)."""
    guidance_scale: Annotated[float, Range(-1000, 1000)] | None = None
    """Strength of classifier-free guidance (default: 4; with --base 5)."""

    def __post_init__(self) -> None:
        super().__post_init__()
        given = [name for name in ("tokenizer", "lamp", "base") if getattr(self, name)]
        if not given or ("base" in given and len(given) > 1):
            raise ValueError("give a --tokenizer, or --lamp, which has one, or the --base that a residual transformer adds to")


def run(options: T2MTransformerOptions) -> "TrainResult":
    """Trains as the options say. ValueError or OSError, in a user's words, for what cannot be trained."""
    from data_loaders.corpus import Corpus
    from model.checkpoints import load_part
    from model.residual_transformer import ResidualTokenTransformer
    from model.token_transformers import TokenTransformer
    from train.loop import train
    from train.token_recipe import token_recipe

    corpus = Corpus.open(options.dataset_folder or options.dataset)
    systems = {"tokenizer": "vqvae", "lamp": "lamp", "base": "t2m_transformer"}
    parts = {name: load_part(getattr(options, name), name, system) for name, system in systems.items() if getattr(options, name)}
    kind, of = (ResidualTokenTransformer, ResidualConfig) if options.base else (TokenTransformer, TokenTransformerConfig)
    own: dict[str, Any] = {name: getattr(of, name) for name in ("cond_mask_prob", "guidance_scale")
                           if getattr(options, name) is None}  # fmt: skip
    config = configured(of, options, **own)
    return train(token_recipe(corpus, kind, config, options, parts, "train.train_t2m_transformer"), options)


main = command(T2MTransformerOptions, run, __doc__, {"dataset_name": "dataset", "vq_name": "tokenizer"}, PRESETS)

if __name__ == "__main__":
    run_command(main)
