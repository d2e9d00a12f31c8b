"""Evaluators ready to judge: networks with the words they read, texts and motions in, numpy embeddings out."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np
import torch

from data_loaders.corpus import Corpus, Representation
from data_loaders.text import Caption
from evaluations.evaluation_set import Motions
from model.evaluator_words import GLOVE_FOLDER, WordSource, load_words
from model.evaluators import UNIT_LENGTH, GuoEvaluator
from sample.search import unit_rows

if TYPE_CHECKING:
    from data_loaders.amass_dataset import AmassDataset
    from model.saved_text_features import SavedTextFeatures
    from model.text_encoders import TextEncoder
    from model.tmr import TMR

TEXTS_AT_ONCE = 256
EVALUATORS = Path(__file__).resolve().parents[1] / "checkpoints" / "evaluators"


class GuoJudge:
    """A Guo evaluator and its words behind the interface that protocols ask for."""

    similarity: Literal["cosine", "euclidean"] = "euclidean"  # what its training brings together

    def __init__(self, networks: GuoEvaluator, words: WordSource):
        if words.name != networks.config.words:
            raise ValueError(f"this evaluator reads {networks.config.words} words, not {words.name}")
        self.networks, self.words = networks.eval(), words
        self.frame_limits = (UNIT_LENGTH, networks.config.max_frames)

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


class TmrJudge:
    """A TMR model behind the same interface. Embeddings are its mean latents at length one, as distances between them need."""

    similarity: Literal["cosine", "euclidean"] = "cosine"

    def __init__(self, networks: "TMR"):
        self.networks = networks.eval()
        self.frame_limits = (1, networks.config.max_positions - networks.config.num_tokens)

    def require(self, representation: Representation, what: str) -> None:
        self.networks.config.representation.require(representation, "the TMR model", what)

    def encode_texts(self, captions: Sequence[Caption]) -> np.ndarray:
        """Embeddings (N, C)."""
        return unit_rows(self.networks.encode_text([caption.text for caption in captions]).numpy())

    def encode_motions(self, motions: Motions) -> np.ndarray:
        """Embeddings (N, C) of features [(T, D)] in their units."""
        return unit_rows(self.networks.encode_motion(motions).numpy())


def published_name(corpus: "Corpus | AmassDataset") -> str | None:
    """Which published evaluator a dataset is judged by: humanml, kit, or None for data of another kind."""
    if corpus.heading != "published":
        return None
    return corpus.skeleton.name if corpus.skeleton.name in ("humanml", "kit") else None


def default_evaluator(corpus: "Corpus | AmassDataset") -> Path:
    """Where the evaluator of a dataset lies: the published ones of humanml and kit, others by the dataset's name."""
    return EVALUATORS / {"humanml": "t2m", "kit": "kit", None: corpus.folder.name}[published_name(corpus)]


def load_judge(
    path: Path, corpus: "Corpus | AmassDataset", glove_folder: Path = GLOVE_FOLDER, device: str = "cpu",
    text_encoder: "TextEncoder | SavedTextFeatures | None" = None,
) -> GuoJudge | TmrJudge:
    """The judge in a folder: an evaluator or a TMR model, ours or published. `text_encoder` replaces the one TMR names.

    Raises CheckpointError, or FileNotFoundError where it or its word vectors are absent.
    """
    from model.official_evaluators import official_evaluator
    from model.pretrained import from_pretrained

    name = published_name(corpus)
    if (path / "config.json").is_file():
        networks = from_pretrained(path, device, systems=("evaluator", "tmr"), text_encoder=text_encoder)
        if not isinstance(networks, GuoEvaluator):
            return TmrJudge(networks)
    elif name is None:
        raise FileNotFoundError(f"{path}: no evaluator of {corpus.folder.name}; train one with "
                                f"python -m train.train_evaluator --dataset {corpus.folder.name}, or give --evaluator")
    else:
        networks = official_evaluator(path, name).to(device)
    return GuoJudge(networks, load_words(networks.config.words, glove_folder))
