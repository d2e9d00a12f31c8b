"""What text to motion over tokens adds to the training loop: captioned motions, validation with fixed noise, videos, judge."""

from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path

from data_loaders.batches import CaptionBatches, TextMotionDataset
from data_loaders.corpus import Corpus
from data_loaders.known_datasets import published_limits
from model.model import Model
from model.token_transformer_config import ResidualConfig, TokenTransformerConfig
from model.token_transformers import OverTokens, ResidualTokenTransformer, TokenTransformer
from train.generator_recipe import Drawing, judging, some_of, validation, validation_data, write_samples
from train.options import GeneratorOptions
from train.recipe import Recipe, kept_parts

KINDS: dict[type, type[OverTokens]] = {TokenTransformerConfig: TokenTransformer, ResidualConfig: ResidualTokenTransformer}


def token_recipe(
    corpus: Corpus, config: TokenTransformerConfig, training: GeneratorOptions, drawing: Drawing, parts: Mapping[str, Model]
) -> Recipe:
    """How a transformer of the kind that its configuration says is trained on the tokens of its parts.

    What these and the data decide is filled in here. ValueError or OSError, in a user's words, for what cannot be trained.
    """
    kind, parts = KINDS[type(config)], kept_parts(parts, training)
    sized = partial(for_parts, parts=parts, corpus=corpus)
    model = kind(sized(config), None, parts)
    tokenizer, reader = model.tokenizer, model.reader()
    tokenizer.features.require(corpus.features, "the tokenizer", f"dataset {corpus.folder}")
    data = captioned(corpus, "train", drawing.repeat)
    config = replace(sized(config), text_encoder=getattr(reader, "name", config.text_encoder),
                     condition_dim=getattr(reader, "dim", 0) or parts["lamp"].config.latent_dim)  # fmt: skip
    encoders, prompts = {"text": reader}, list(training.sample_prompts) or some_of(data.texts)
    judge = judging(corpus, training.seed) if training.eval_during_training else None
    held_out = None
    if training.eval_interval:
        held_out = validation(validation_data(partial(captioned, corpus)), training, encoders)
    batches = CaptionBatches(data, training.batch_size, training.seed, data.weights(drawing.balance) if drawing.balance else None,
                             data.lengths if drawing.bucket and config.key_padding else None)  # fmt: skip

    def fresh() -> OverTokens:
        return kind(config, tokenizer.statistics, parts, text_encoder=reader)

    def evaluate(model: OverTokens, step: int) -> dict[str, float]:
        return held_out(model, step) | (judge(model, step) if judge else {})

    def sample(model: OverTokens, step: int) -> None:
        write_samples(Path(training.save_dir) / "samples" / f"step_{step:09d}", model, prompts, training.seed)

    return Recipe(fresh, batches, evaluate if held_out else None, sample, corpus.stamp, card(config, corpus, kind), data.texts,
                  prompts, encoders=encoders)  # fmt: skip


def for_parts(config: TokenTransformerConfig, parts: Mapping[str, Model], corpus: Corpus) -> TokenTransformerConfig:
    """The configuration with what its parts decide."""
    tokenizer = parts["base"].tokenizer if "base" in parts else parts.get("tokenizer") or parts["lamp"].tokenizer
    codes = tokenizer.config
    if isinstance(config, ResidualConfig) and codes.num_quantizers < 2:
        raise ValueError("a residual transformer needs a tokenizer of several codebooks, this one has a single one: train one "
                         "with train.train_vq --preset momask")  # fmt: skip
    return replace(config, num_codes=codes.num_codes, code_dim=codes.code_dim, num_quantizers=codes.num_quantizers,
                   features=corpus.features)  # fmt: skip


def captioned(corpus: Corpus, split: str, repeat: float = 0.0) -> TextMotionDataset:
    """The captioned motions of a split."""
    limits = published_limits(corpus.features)
    return TextMotionDataset(corpus, split, min_frames=limits and limits[0], repeat=repeat)


def card(config: TokenTransformerConfig, corpus: Corpus, kind: type[OverTokens]) -> str:
    """README.md of a checkpoint folder: what it is, what it was trained on, how to use it."""
    what = "residual transformer" if kind is ResidualTokenTransformer else "masked transformer"
    return f"""# Text to motion over tokens: {what}

Trained by `python -m train.train_t2m_transformer` on `{config.dataset}` ({corpus.skeleton.name} skeleton, {corpus.fps:g} fps),
on the tokens of the parts beside it. The terms of that dataset's licence hold for these weights.

This folder alone is enough to sample:

    python -m sample.sample --model_path THIS_FOLDER --text_prompt "a person walks forward"
"""
