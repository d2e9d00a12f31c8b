"""What text to motion over tokens adds to the training loop: captioned motions, validation with fixed noise, videos, judge."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

import torch
from torch import Tensor

from data_loaders.batches import CaptionBatches, TextMotionDataset
from data_loaders.corpus import Batch, Corpus
from data_loaders.keyword_files import KeywordFiles
from data_loaders.known_datasets import published_limits
from model.embedder import TEXTS_AT_ONCE
from model.model import Model
from model.pgr2m_transformer_config import ALTERNATIVES, OverPosesConfig
from model.pgr2m_transformers import KEYWORDS
from model.text_encoders import EncodesTexts
from model.token_transformer_config import OverTokensConfig
from model.token_transformers import OverTokens
from model.vqvae import VQVAE
from train.generator_recipe import judging, some_of, validation, validation_data, write_samples
from train.options import OverTokensOptions
from train.recipe import Recipe, kept_parts


def token_recipe(
    corpus: Corpus, kind: type[OverTokens], config: OverTokensConfig, training: OverTokensOptions, parts: Mapping[str, Model],
    command: str, prepare: Callable[[Batch], Batch] = lambda batch: batch,
) -> Recipe:  # fmt: skip
    """How a transformer of a kind is trained on the tokens of its parts by a command.

    What these and the data decide is filled in here. prepare: what is done to a batch before its texts are read. ValueError or
    OSError, in a user's words, for what cannot be trained.
    """
    parts = kept_parts(parts, training)
    tokenizer = tokenizer_of(parts)
    config = config.fitted(tokenizer.config, corpus.features)
    reader = kind(config, None, parts).reader()
    tokenizer.features.require(corpus.features, "the tokenizer", f"dataset {corpus.folder}")
    data = captioned(corpus, "train", training.repeat)
    require_tokens(data, tokenizer)
    config = replace(config, text_encoder=getattr(reader, "name", config.text_encoder),
                     condition_dim=getattr(reader, "dim", 0) or parts["lamp"].config.latent_dim)  # fmt: skip
    encoders, prompts = {"text": reader}, list(training.sample_prompts) or some_of(data.texts)
    judge = judging(corpus, training.seed) if training.eval_during_training else None
    held_out = None
    if training.eval_interval:
        held_out = validation(validation_data(partial(captioned, corpus)), training, encoders, prepare=prepare)
    weights = data.weights(training.balance) if training.balance else None
    lengths = data.lengths if training.bucket and config.key_padding else None
    batches = CaptionBatches(data, training.batch_size, training.seed, weights, lengths)

    def fresh() -> OverTokens:
        return kind(config, tokenizer.statistics, parts, text_encoder=reader)

    def evaluate(model: OverTokens, step: int) -> dict[str, float]:
        return held_out(model, step) | (judge(model, step) if judge else {})

    def sample(model: OverTokens, step: int) -> None:
        write_samples(Path(training.save_dir) / "samples" / f"step_{step:09d}", model, prompts, training.seed)

    def prepared(step: int, part: int, parts: int) -> Batch:
        return prepare(batches(step, part, parts))

    return Recipe(fresh, prepared, evaluate if held_out else None, sample, corpus.stamp, card(config, corpus, kind.what, command),
                  data.texts, prompts, encoders=encoders)  # fmt: skip


def tokenizer_of(parts: Mapping[str, Model]) -> VQVAE:
    """The one among the models that a transformer stands on, or that one of these stands on."""
    return parts["tokenizer"] if "tokenizer" in parts else next(iter(parts.values())).tokenizer


def captioned(corpus: Corpus, split: str, repeat: float = 0.0) -> TextMotionDataset:
    """The captioned motions of a split."""
    limits = published_limits(corpus.features)
    return TextMotionDataset(corpus, split, min_frames=limits and limits[0], repeat=repeat)


def require_tokens(data: TextMotionDataset, tokenizer: VQVAE) -> None:
    """ValueError where a motion is shorter than a token."""
    if (shortest := int(data.lengths.min())) < (frames := tokenizer.config.downsampling):
        raise ValueError(f"a token of this tokenizer is {frames} frames, the shortest motion of {data.corpus.folder} has "
                         f"{shortest}: train one of fewer --num_levels")  # fmt: skip


def words_in(texts: Sequence[str], reader: EncodesTexts) -> Tensor:
    """Ids (K,) of the words that texts are made of, each once."""
    found = [reader.encode(texts[start : start + TEXTS_AT_ONCE]) for start in range(0, len(texts), TEXTS_AT_ONCE)]
    return torch.cat([each.ids[each.mask].unique() for each in found]).unique()


def with_keywords(folder: str, config: OverPosesConfig) -> Callable[[Batch], Batch]:
    """What adds features of keywords from files of a folder to a batch whose motions all have some; '' for none."""
    if not folder:
        return lambda batch: batch
    files = KeywordFiles(Path(folder), config.num_keywords * ALTERNATIVES)

    def prepare(batch: Batch) -> Batch:
        found = files.read(batch.names)
        return batch if found is None else replace(batch, text_features=batch.text_features | {KEYWORDS: torch.from_numpy(found)})

    return prepare


def card(config: OverTokensConfig, corpus: Corpus, what: str, command: str) -> str:
    """README.md of a checkpoint folder: what it is, what it was trained on, how to use it."""
    return f"""# Text to motion over tokens: {what}

Trained by `python -m {command}` on `{config.dataset}` ({corpus.skeleton.name} skeleton, {corpus.fps:g} fps),
on the tokens of the parts beside it. The terms of that dataset's licence hold for these weights.

This folder alone is enough to sample:

    python -m sample.sample --model_path THIS_FOLDER --text_prompt "a person walks forward"
"""
