"""Opens a checkpoint that estimates lengths, with what it reads texts by."""

from pathlib import Path

from data_loaders.features import Features
from model.capabilities import EstimatesLength, ReadsWords
from model.checkpoints import from_pretrained
from model.evaluator_words import GLOVE_FOLDER, load_words
from model.registry import able


def open_length_estimator(path: Path, features: Features) -> EstimatesLength:
    """An estimator of a checkpoint for motions of these features. FileError where it is none, FeaturesMismatch where it is for
    others.
    """
    model = from_pretrained(path, systems=able(EstimatesLength))
    model.features.require(features, "the length estimator", "the model")
    if isinstance(model, ReadsWords):
        model.read_through(load_words(model.config.words, GLOVE_FOLDER, tagger=model.config.tagger))
    return model
