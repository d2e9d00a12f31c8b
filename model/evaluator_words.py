"""What an evaluator reads of a text: GloVe vectors with word classes, as published, or MiniLM's token states.

The published vectors have to be downloaded; MiniLM comes with the installation and needs no part-of-speech tagger.
"""

import logging
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path

import numpy as np
import torch

from data_loaders.glove import POS_CLASSES, WordVectorizer
from data_loaders.text import Caption, Tagger
from model.evaluators import WordFeatures, WordSource
from model.text_towers import load_text_encoder
from protos.official_files import OFFICIAL, official_folder

log = logging.getLogger(__name__)

GLOVE_FOLDER, FORMER_GLOVE_FOLDER = OFFICIAL / "glove", Path("checkpoints/glove")


class GloveWords:
    """The published 300-d vectors and 15 word classes, of 20 words at most. Captions without tokens are tagged here."""

    name = "glove"

    def __init__(self, folder: Path = GLOVE_FOLDER):
        self.vectorizer = WordVectorizer(official_folder(folder, FORMER_GLOVE_FOLDER) if folder == GLOVE_FOLDER else folder)
        self.word_dim, self.pos_dim = self.vectorizer.vectors.shape[1], len(POS_CLASSES)

    @cached_property
    def tagger(self) -> Tagger:
        return Tagger()

    def encode(self, captions: Sequence[Caption]) -> WordFeatures:
        words = [self.vectorizer.encode(caption.tokens or self.tagger.tag(caption.text)) for caption in captions]
        vectors = torch.from_numpy(np.stack([each.vectors for each in words]))  # (B, 22, 300)
        pos = torch.from_numpy(np.stack([each.pos_onehot for each in words]))  # (B, 22, 15)
        return WordFeatures(vectors, torch.tensor([each.length for each in words]), pos)


class MinilmWords:
    """Token states of the embedded language model, which know the words around them."""

    name, pos_dim = "minilm", 0

    def __init__(self):
        self.encoder = load_text_encoder("minilm")
        self.word_dim = self.encoder.dim

    def encode(self, captions: Sequence[Caption]) -> WordFeatures:
        features = self.encoder.encode([caption.text for caption in captions])
        return WordFeatures(features.tokens.float(), features.mask.sum(1))


def load_words(name: str = "auto", folder: Path = GLOVE_FOLDER) -> WordSource:
    """The named source of words; `auto` takes GloVe where its files are and MiniLM otherwise, with a note.

    Raises FileNotFoundError where GloVe is asked for and absent, ValueError for an unknown name.
    """
    if name == "auto":
        name = "glove" if (folder / "our_vab_data.npy").is_file() else "minilm"
        if name == "minilm":
            log.info("no word vectors in %s: texts are read through MiniLM", folder)
    if name not in ("glove", "minilm"):
        raise ValueError(f"words '{name}': expected auto, glove or minilm")
    return GloveWords(folder) if name == "glove" else MinilmWords()
