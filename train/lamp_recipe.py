"""What LaMP's pretraining adds to the training loop: captioned motions, a Q-Former that begins as a language model, validation by
retrieval.
"""

from dataclasses import replace

import numpy as np
import torch

from data_loaders.batches import CaptionBatches, TextMotionDataset
from data_loaders.corpus import Corpus
from evaluations.protocol import finding_texts
from model.lamp import LaMP
from model.lamp_config import LaMPConfig
from model.text_towers import WordPieces, tower_sizes, tower_weights
from model.vqvae import VQVAE
from train.generator_recipe import validation, validation_data
from train.options import TrainOptions
from train.recipe import Evaluate, Recipe, kept_parts
from train.token_recipe import captioned, require_tokens, words_in

POOL, VALIDATION_MOTIONS = 32, 256


def lamp_recipe(corpus: Corpus, config: LaMPConfig, training: TrainOptions, tokenizer: VQVAE, balance: float = 0.0) -> Recipe:
    """How a Q-Former is trained on a tokenizer's latents; rare contents are lifted by `balance`.

    ValueError or OSError, in a user's words, for what cannot be trained.
    """
    parts = kept_parts({"tokenizer": tokenizer}, training)
    tokenizer = parts["tokenizer"]
    tokenizer.features.require(corpus.features, "the tokenizer", f"dataset {corpus.folder}")
    data, codes = captioned(corpus, "train"), tokenizer.config
    require_tokens(data, tokenizer)
    config = replace(config, features=corpus.features, motion_classes=codes.num_codes, motion_dim=codes.code_dim,
                     **tower_sizes(config.text_tower))  # fmt: skip
    if config.frozen_text:
        config = replace(config, text_weights=tower_weights(config.text_tower)[1])
    if (longest := config.num_queries * codes.downsampling) < int(data.lengths.max()):
        raise ValueError(f"--num_queries {config.num_queries}: motions of {int(data.lengths.max())} frames have more tokens than "
                         f"that, of {codes.downsampling} frames each ({longest} frames)")  # fmt: skip
    reader = WordPieces(config.text_tower, config.text_tokens, plainly=True)
    encoders = {"text": reader}

    def fresh() -> LaMP:
        model = LaMP(config, tokenizer.statistics, parts, text_encoder=reader)
        if not config.frozen_text:
            model.begin_from_tower()
        if config.told_words == "captions":
            model.said_words = words_in(data.texts, reader)
        return model

    held_out = None
    if training.eval_interval:
        motions = validation_data(lambda split: captioned(corpus, split))
        losses, found = validation(motions, training, encoders), retrieval(motions, training.seed)

        def held_out(model: LaMP, step: int) -> dict[str, float]:
            return losses(model, step) | found(model, step)

    batches = CaptionBatches(data, training.batch_size, training.seed, data.weights(balance) if balance else None,
                             data.lengths if config.mask_queries else None)  # fmt: skip
    return Recipe(fresh, batches, held_out, stamp=corpus.stamp, card=card(config, corpus), captions=data.texts, encoders=encoders)


def retrieval(motions: TextMotionDataset, seed: int) -> Evaluate:
    """evaluate(model, step) -> how often the text of a motion is found among those of its pool, by which the best is chosen."""
    count = min(len(motions), VALIDATION_MOTIONS)
    items = [motions.item(int(i), 0, seed) for i in np.linspace(0, len(motions) - 1, count)]
    pool = min(POOL, count)
    items = [items[i] for i in np.random.default_rng(seed).permutation(count)[: count // pool * pool]]

    @torch.no_grad()
    def evaluate(model: LaMP, step: int) -> dict[str, float]:
        texts = [item.text for item in items]
        vectors = model.encode_text(texts), model.encode_motion([item.motion for item in items])
        text, motion = (torch.nn.functional.normalize(each, dim=-1).numpy() for each in vectors)
        figures = finding_texts(text, motion, texts, pool)
        return figures | {"rank_by": -figures["top1"]}

    return evaluate


def card(config: LaMPConfig, corpus: Corpus) -> str:
    """README.md of a checkpoint folder: what it is, what it was trained on, how to use it."""
    told = f"Its language model, {config.text_tower}, is read from this machine, not stored." if config.frozen_text else ""
    return f"""# LaMP: texts and motions in one space

A Q-Former over motion tokens, trained by `python -m train.train_lamp` on `{config.dataset}` ({corpus.skeleton.name} skeleton,
{corpus.fps:g} fps). {told} The terms of that dataset's licence hold for these weights.

    python -m sample.retrieve search --model_path THIS_FOLDER --gallery outputs/gallery --text "a person waves"
    python -m train.train_t2m_transformer --lamp THIS_FOLDER --dataset {config.dataset} --save_dir save/masked
"""
