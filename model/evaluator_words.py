"""What an evaluator reads of a text: GloVe vectors with word classes, as published, or MiniLM's token states.

The published vectors have to be downloaded; MiniLM comes with the installation and needs no part-of-speech tagger. Word classes
are those of one tagger, the one of the training: tokens that another made are not read, their texts are tagged anew.
"""

import logging
from collections.abc import Iterable, Sequence
from functools import cached_property
from pathlib import Path

import numpy as np
import torch

from data_loaders.corpus import Corpus
from data_loaders.glove import POS_CLASSES, WordVectorizer
from data_loaders.text import Caption, Tagger, TaggerName, default_tagger
from model.evaluators import WordSource
from model.text_encoders import TextFeatures
from model.text_towers import load_text_encoder
from protos.official_files import OFFICIAL, official_folder

log = logging.getLogger(__name__)

GLOVE_FOLDER, FORMER_GLOVE_FOLDER = OFFICIAL / "glove", Path("checkpoints/glove")


class GloveWords:
    """The published 300-d vectors and 15 word classes, of 20 words at most."""

    name = "glove"

    def __init__(self, folder: Path = GLOVE_FOLDER, captions: Iterable[Caption] = (), tagger: TaggerName = ""):
        """captions: whose words and parts of speech are known; texts without them are tagged here, by `tagger` ('': the
        default).
        """
        self.tagger = tagger or default_tagger()
        self.vectorizer = WordVectorizer(official_folder(folder, FORMER_GLOVE_FOLDER) if folder == GLOVE_FOLDER else folder)
        self.word_dim, self.pos_dim = self.vectorizer.vectors.shape[1], len(POS_CLASSES)
        self._known = {caption.text: caption.tokens for caption in captions if self._reads(caption)}

    @cached_property
    def _tagger(self) -> Tagger:
        return Tagger(self.tagger)

    def encode(self, texts: Sequence[str | Caption]) -> TextFeatures:
        """tokens (B, 22, 300 + 15). ValueError where a text has to be tagged and the tagger is not installed."""
        words = [self.vectorizer.encode(tokens) for tokens in self._tokens(texts)]
        tokens = torch.from_numpy(np.stack([np.concatenate([each.vectors, each.pos_onehot], axis=1) for each in words]))
        lengths = torch.tensor([each.length for each in words])
        return TextFeatures(None, tokens, torch.arange(tokens.shape[1]) < lengths[:, None])

    def _reads(self, caption: Caption) -> bool:
        """Whether its tokens are of this tagger, as far as is known: those of published texts are taken as they are."""
        return bool(caption.tokens) and caption.tagger in ("", self.tagger)

    def _tokens(self, texts: Sequence[str | Caption]) -> list[Sequence[str]]:
        """Of each text its own tokens, else those that are known of its words, else the tagger's."""
        captions = [Caption(text) if isinstance(text, str) else text for text in texts]
        tokens = [each.tokens if self._reads(each) else self._known.get(each.text) for each in captions]
        bare = [each.text for each, found in zip(captions, tokens) if found is None]
        tagged = iter(self._tagger.tag_all(bare) if bare else ())
        return [next(tagged) if found is None else found for found in tokens]


class MinilmWords:
    """Token states of the embedded language model, which know the words around them."""

    name, pos_dim, tagger = "minilm", 0, ""

    def __init__(self):
        self.encoder = load_text_encoder("minilm")
        self.word_dim = self.encoder.dim

    def encode(self, texts: Sequence[str | Caption]) -> TextFeatures:
        return self.encoder.encode([text if isinstance(text, str) else text.text for text in texts])


def load_words(name: str = "auto", folder: Path = GLOVE_FOLDER, captions: Iterable[Caption] = (),
               tagger: TaggerName = "") -> WordSource:
    """The named source of words; `auto` takes GloVe where its files are and MiniLM otherwise, with a note. captions, tagger: as
    in `GloveWords`.

    Raises FileNotFoundError where GloVe is asked for and absent, ValueError for an unknown name.
    """
    if name == "auto":
        name = "glove" if (folder / "our_vab_data.npy").is_file() else "minilm"
        if name == "minilm":
            log.info("no word vectors in %s: texts are read through MiniLM", folder)
    if name not in ("glove", "minilm"):
        raise ValueError(f"words '{name}': expected auto, glove or minilm")
    return GloveWords(folder, captions, tagger) if name == "glove" else MinilmWords()


def words_of(corpus: Corpus, name: str, folder: Path) -> tuple[WordSource, dict[str, str | int]]:
    """The source of words for the captions of a corpus, tagged by its tagger, and what configurations of networks say of it."""
    captions = (caption for clip in corpus.names for caption in corpus.captions(clip))
    words = load_words(name, folder, captions, corpus.tagger)
    return words, {"words": words.name, "word_dim": words.word_dim, "pos_dim": words.pos_dim, "tagger": words.tagger}
