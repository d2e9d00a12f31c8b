"""What a captioner adds to the training loop: captioned motions, a language model that begins as it was, its loss on others."""

from dataclasses import replace
from functools import partial

from data_loaders.batches import CaptionBatches
from data_loaders.corpus import Corpus
from model.caption_words import words_of
from model.captioner import Captioner, CaptionTexts
from model.captioner_config import CaptionerConfig
from model.lamp import LaMP
from model.official.opt import begin_from_opt, opt_sizes
from train.generator_recipe import validation, validation_data
from train.options import TrainOptions
from train.recipe import Recipe, kept_parts
from train.token_recipe import captioned, words_in

MOST_SAID = 128  # tokens, those of a prompt counted, of a captioner in LaMP's words


def captioner_recipe(
    corpus: Corpus, config: CaptionerConfig, training: TrainOptions, lamp: LaMP, balance: float = 0.0
) -> Recipe:
    """How a captioner is trained on what LaMP reads of motion; rare contents are lifted by `balance`.

    ValueError or OSError, in a user's words, for what cannot be trained.
    """
    parts = kept_parts({"lamp": lamp}, training)
    lamp = parts["lamp"]
    lamp.features.require(corpus.features, "LaMP", f"dataset {corpus.folder}")
    of_opt = config.words == "opt"
    own = {"vocabulary": lamp.config.vocabulary, "language_positions": lamp.config.num_queries + MOST_SAID}
    config = replace(config, features=corpus.features, **(opt_sizes() if of_opt else own))
    words, data = words_of(config.words, lamp.config.text_tower), captioned(corpus, "train")
    encoders = {"text": CaptionTexts(words, config.text_tokens)}

    def fresh() -> Captioner:
        model = Captioner(config, lamp.statistics, parts, words)
        if of_opt:
            begin_from_opt(model)
        if config.told_words == "captions":
            model.language.said[words_in(data.texts, encoders["text"])] = True
        return model

    held_out = None
    if training.eval_interval:
        held_out = validation(validation_data(partial(captioned, corpus)), training, encoders)
    batches = CaptionBatches(data, training.batch_size, training.seed, data.weights(balance) if balance else None,
                             data.lengths if lamp.config.mask_queries else None)  # fmt: skip
    return Recipe(fresh, batches, held_out, stamp=corpus.stamp, card=card(config, corpus), encoders=encoders)


def card(config: CaptionerConfig, corpus: Corpus) -> str:
    """README.md of a checkpoint folder: what it is, what it was trained on, how to use it."""
    return f"""# Motion to text

A captioner (LaMP-M2T), trained by `python -m train.train_m2t` on `{config.dataset}` ({corpus.skeleton.name} skeleton,
{corpus.fps:g} fps), through LaMP, which lies beside it. The terms of that dataset's licence hold for these weights.

    python -m sample.caption motion.npy --model_path THIS_FOLDER
    python -m evaluations.eval_m2t --model_path THIS_FOLDER
"""
