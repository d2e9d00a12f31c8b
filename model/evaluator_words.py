"""What an evaluator reads of a text: GloVe vectors with word classes, as published, or MiniLM's token states.

The published vectors have to be downloaded; MiniLM comes with the installation and needs no part-of-speech tagger.
"""

import logging
from collections.abc import Iterable, Sequence
from functools import cached_property
from pathlib import Path

import numpy as np
import torch

from data_loaders.corpus import Corpus
from data_loaders.glove import POS_CLASSES, WordVectorizer
from data_loaders.text import Caption, Tagger
from model.evaluators import WordSource
from model.text_encoders import TextFeatures
from model.text_towers import load_text_encoder
from protos.official_files import OFFICIAL, official_folder

log = logging.getLogger(__name__)

GLOVE_FOLDER, FORMER_GLOVE_FOLDER = OFFICIAL / "glove", Path("checkpoints/glove")


class GloveWords:
    """The published 300-d vectors and 15 word classes, of 20 words at most."""

    name = "glove"

    def __init__(self, folder: Path = GLOVE_FOLDER, captions: Iterable[Caption] = ()):
        """captions: whose words and parts of speech are known; texts without them are tagged here."""
        self.vectorizer = WordVectorizer(official_folder(folder, FORMER_GLOVE_FOLDER) if folder == GLOVE_FOLDER else folder)
        self.word_dim, self.pos_dim = self.vectorizer.vectors.shape[1], len(POS_CLASSES)
        self._known = {caption.text: caption.tokens for caption in captions if caption.tokens}

    @cached_property
    def tagger(self) -> Tagger:
        return Tagger()

    def encode(self, texts: Sequence[str | Caption]) -> TextFeatures:
        """tokens (B, 22, 300 + 15)."""
        words = [self.vectorizer.encode(self._tokens(text)) for text in texts]
        tokens = torch.from_numpy(np.stack([np.concatenate([each.vectors, each.pos_onehot], axis=1) for each in words]))
        lengths = torch.tensor([each.length for each in words])
        return TextFeatures(None, tokens, torch.arange(tokens.shape[1]) < lengths[:, None])

    def _tokens(self, text: str | Caption) -> tuple[str, ...]:
        tokens, text = (text.tokens, text.text) if isinstance(text, Caption) else ((), text)
        if not tokens and text not in self._known:
            self._known[text] = self.tagger.tag(text)
        return tokens or self._known[text]


class MinilmWords:
    """Token states of the embedded language model, which know the words around them."""

    name, pos_dim = "minilm", 0

    def __init__(self):
        self.encoder = load_text_encoder("minilm")
        self.word_dim = self.encoder.dim

    def encode(self, texts: Sequence[str | Caption]) -> TextFeatures:
        return self.encoder.encode([text if isinstance(text, str) else text.text for text in texts])


def load_words(name: str = "auto", folder: Path = GLOVE_FOLDER, captions: Iterable[Caption] = ()) -> WordSource:
    """The named source of words; `auto` takes GloVe where its files are and MiniLM otherwise, with a note. captions: as in
    `GloveWords`.

    Raises FileNotFoundError where GloVe is asked for and absent, ValueError for an unknown name.
    """
    if name == "auto":
        name = "glove" if (folder / "our_vab_data.npy").is_file() else "minilm"
        if name == "minilm":
            log.info("no word vectors in %s: texts are read through MiniLM", folder)
    if name not in ("glove", "minilm"):
        raise ValueError(f"words '{name}': expected auto, glove or minilm")
    return GloveWords(folder, captions) if name == "glove" else MinilmWords()


def words_of(corpus: Corpus, name: str, folder: Path) -> tuple[WordSource, dict[str, str | int]]:
    """The source of words for the captions of a corpus, and what configurations of networks say of it."""
    captions = (caption for clip in corpus.names for caption in corpus.captions(clip))
    words = load_words(name, folder, captions)
    return words, {"words": words.name, "word_dim": words.word_dim, "pos_dim": words.pos_dim}
