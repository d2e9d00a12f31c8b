"""Evaluators ready to judge: networks with the words they read, texts and motions in, numpy embeddings out."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch

from data_loaders.corpus import Representation
from data_loaders.text import Caption
from evaluations.protocol import Motions
from model.evaluator_words import GLOVE_FOLDER, WordSource, load_words
from model.evaluators import GuoEvaluator

TEXTS_AT_ONCE = 256


class GuoJudge:
    """A Guo evaluator and its words behind the interface that protocols ask for."""

    def __init__(self, networks: GuoEvaluator, words: WordSource):
        if words.name != networks.config.words:
            raise ValueError(f"this evaluator reads {networks.config.words} words, not {words.name}")
        self.networks, self.words = networks.eval(), words

    def require(self, representation: Representation, what: str) -> None:
        self.networks.require(representation, what)

    @torch.no_grad()
    def encode_texts(self, captions: Sequence[Caption]) -> np.ndarray:
        """Embeddings (N, C)."""
        starts = range(0, len(captions), TEXTS_AT_ONCE)
        parts = [self.networks.encode_words(self.words.encode(captions[i : i + TEXTS_AT_ONCE])) for i in starts]
        return torch.cat(parts).numpy() if parts else np.zeros((0, self.networks.config.embedding), np.float32)

    def encode_motions(self, motions: Motions) -> np.ndarray:
        """Embeddings (N, C) of features [(T, D)] in their units."""
        return self.networks.encode_motions(motions).numpy()


def load_judge(path: Path, dataset: str = "humanml", glove_folder: Path = GLOVE_FOLDER, device: str = "cpu") -> GuoJudge:
    """The judge in a folder: one of ours, or the published evaluator of humanml or kit.

    Raises CheckpointError, or FileNotFoundError where its word vectors are absent.
    """
    from model.official_evaluators import official_evaluator
    from model.pretrained import from_pretrained

    if (path / "config.json").is_file():
        networks = from_pretrained(path, device, systems=("evaluator",))
    else:
        networks = official_evaluator(path, dataset).to(device)
    return GuoJudge(networks, load_words(networks.config.words, glove_folder))
