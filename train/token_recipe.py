"""What text to motion over tokens adds to the training loop: captioned motions, validation with fixed noise, videos, judge."""

from collections.abc import Callable, Mapping
from dataclasses import fields, replace
from functools import partial
from pathlib import Path

import torch

from data_loaders.batches import CaptionBatches, TextMotionDataset
from data_loaders.corpus import Batch, Corpus
from data_loaders.keyword_files import KeywordFiles
from data_loaders.known_datasets import published_limits
from model.model import Model
from model.pgr2m_transformer_config import ALTERNATIVES, PoseRefinerConfig, PoseTransformerConfig
from model.pgr2m_transformers import KEYWORDS, PoseTextRefiner, PoseTextTransformer
from model.token_transformer_config import ResidualConfig, TokenTransformerConfig
from model.token_transformers import OverTokens, ResidualTokenTransformer, TokenTransformer
from train.generator_recipe import Drawing, judging, some_of, validation, validation_data, write_samples
from train.options import GeneratorOptions
from train.recipe import Recipe, kept_parts

Config = TokenTransformerConfig | PoseTransformerConfig | PoseRefinerConfig
KINDS: dict[type, type[OverTokens]] = {
    TokenTransformerConfig: TokenTransformer, ResidualConfig: ResidualTokenTransformer,
    PoseTransformerConfig: PoseTextTransformer, PoseRefinerConfig: PoseTextRefiner,
}  # fmt: skip
TOLD: dict[type[OverTokens], tuple[str, str]] = {  # what it is, and the command that trains it
    TokenTransformer: ("masked transformer", "train.train_t2m_transformer"),
    ResidualTokenTransformer: ("residual transformer", "train.train_t2m_transformer"),
    PoseTextTransformer: ("base transformer over pose codes", "train.train_base_trans"),
    PoseTextRefiner: ("refine transformer over pose codes", "train.train_refine_trans"),
}
NEED_RESIDUALS = {
    ResidualConfig: "a residual transformer needs a tokenizer of several codebooks, this one has a single one: train one with "
    "train.train_vq --preset momask",
    PoseRefinerConfig: "a refine transformer needs a tokenizer with codebooks, this one has pose codes alone: train one with "
    "train.train_pg_tokenizer",
}


def token_recipe(
    corpus: Corpus, config: Config, training: GeneratorOptions, drawing: Drawing, parts: Mapping[str, Model],
    prepare: Callable[[Batch], Batch] = lambda batch: batch,
) -> Recipe:  # fmt: skip
    """How a transformer of the kind that its configuration says is trained on the tokens of its parts.

    What these and the data decide is filled in here. prepare: what is done to a batch before its texts are read. ValueError or
    OSError, in a user's words, for what cannot be trained.
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
        held_out = validation(validation_data(partial(captioned, corpus)), training, encoders, prepare=prepare)
    batches = CaptionBatches(data, training.batch_size, training.seed, data.weights(drawing.balance) if drawing.balance else None,
                             data.lengths if drawing.bucket and config.key_padding else None)  # fmt: skip

    def fresh() -> OverTokens:
        return kind(config, tokenizer.statistics, parts, text_encoder=reader)

    def evaluate(model: OverTokens, step: int) -> dict[str, float]:
        return held_out(model, step) | (judge(model, step) if judge else {})

    def sample(model: OverTokens, step: int) -> None:
        write_samples(Path(training.save_dir) / "samples" / f"step_{step:09d}", model, prompts, training.seed)

    def prepared(step: int, part: int, parts: int) -> Batch:
        return prepare(batches(step, part, parts))

    return Recipe(fresh, prepared, evaluate if held_out else None, sample, corpus.stamp, card(config, corpus, kind), data.texts,
                  prompts, encoders=encoders)  # fmt: skip


def for_parts(config: Config, parts: Mapping[str, Model], corpus: Corpus) -> Config:
    """The configuration with what its parts decide."""
    tokenizer = parts["base"].tokenizer if "base" in parts else parts.get("tokenizer") or parts["lamp"].tokenizer
    codes, names = tokenizer.config, {field.name for field in fields(config)}
    if type(config) in NEED_RESIDUALS and codes.num_quantizers < (2 if isinstance(config, ResidualConfig) else 1):
        raise ValueError(NEED_RESIDUALS[type(config)])
    own = {name: getattr(codes, name) for name in ("num_codes", "code_dim", "num_quantizers") if name in names}
    return replace(config, **own, features=corpus.features)


def captioned(corpus: Corpus, split: str, repeat: float = 0.0) -> TextMotionDataset:
    """The captioned motions of a split."""
    limits = published_limits(corpus.features)
    return TextMotionDataset(corpus, split, min_frames=limits and limits[0], repeat=repeat)


def with_keywords(folder: str, config: PoseTransformerConfig | PoseRefinerConfig) -> Callable[[Batch], Batch]:
    """What adds features of keywords from files of a folder to a batch whose motions all have some; '' for none."""
    if not folder:
        return lambda batch: batch
    files = KeywordFiles(Path(folder), config.num_keywords * ALTERNATIVES)

    def prepare(batch: Batch) -> Batch:
        found = files.read(batch.names)
        return batch if found is None else replace(batch, text_features=batch.text_features | {KEYWORDS: torch.from_numpy(found)})

    return prepare


def card(config: Config, corpus: Corpus, kind: type[OverTokens]) -> str:
    """README.md of a checkpoint folder: what it is, what it was trained on, how to use it."""
    what, command = TOLD[kind]
    return f"""# Text to motion over tokens: {what}

Trained by `python -m {command}` on `{config.dataset}` ({corpus.skeleton.name} skeleton, {corpus.fps:g} fps),
on the tokens of the parts beside it. The terms of that dataset's licence hold for these weights.

This folder alone is enough to sample:

    python -m sample.sample --model_path THIS_FOLDER --text_prompt "a person walks forward"
"""
