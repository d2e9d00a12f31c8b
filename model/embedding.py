"""Any checkpoint that brings texts and motions into one space, behind one interface: TMR, a published run of it, an evaluator."""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import astuple
from functools import cached_property
from pathlib import Path

import numpy as np
import torch

from data_loaders.features import Features
from data_loaders.text import Caption
from model.capabilities import Embeds, ReadsWords
from model.checkpoints import from_pretrained
from model.evaluator_words import GLOVE_FOLDER, WordSource, load_words
from model.official.evaluators import load_evaluator
from model.official.tmr import saved_words
from model.registry import able
from model.run_folder import checkpoint_in
from model.text_encoders import TextEncoder
from protos.reading import read_json


class NoVectorError(ValueError):
    """Motions whose vectors are not finite: `rows` of `vectors` (N, C)."""

    def __init__(self, rows: Sequence[int], vectors: np.ndarray):
        first = f"motion {rows[0]}" if len(rows) == 1 else f"{len(rows)} motions, the first is motion {rows[0]},"
        super().__init__(f"{first} of {len(vectors)} has no finite vector: are its features far beyond those of any motion?")
        self.rows, self.vectors = rows, vectors


class TextMotionSpace:
    """Texts and motions as vectors (N, C), float32 on the CPU. Made by `open_space`.

    Searches and scores compare them by cosine, so that they mean the same whatever the model. `similarity` is what its
    training brought together, by which evaluations go: cosine for TMR, Euclidean distance for evaluators.
    """

    def __init__(self, networks: Embeds, words: WordSource | None = None, settings: str = ""):
        """words: for a model that reads them; settings: what stands in the checkpoint's config.json, for the fingerprint."""
        if words is not None:
            networks.read_through(words)
        self.networks, self.words, self.settings = networks.eval(), words, settings
        space, config = networks.space(), networks.config
        self.made_by, self.dim, self.frame_limits, self.similarity = astuple(space)
        self.features: Features = networks.features
        self.longest_trained: int = config.max_frames

    def require(self, features: Features, what: str) -> None:
        """FeaturesMismatch unless `what` has the features that this model was trained on."""
        self.features.require(features, self.made_by, what)

    def encode_text(self, texts: Sequence[str | Caption]) -> np.ndarray:
        """(N, C), not of unit length. Equal texts have equal rows. Captions may come with their words and parts of speech."""
        return self.networks.encode_text(texts).numpy()

    def encode_motion(self, motions: Sequence[np.ndarray], batch_size: int | None = None) -> np.ndarray:
        """(N, C), not of unit length, of features [(T, D)] in their units. ValueError names a motion that cannot be read,
        NoVectorError those whose vectors, or their lengths, are not finite.

        batch_size: how many at once (default: the model's own).
        """
        vectors = self.networks.encode_motion(motions, batch_size).numpy()
        with np.errstate(all="ignore"):
            bad = np.flatnonzero(~np.isfinite(np.linalg.norm(vectors, axis=1)))
        if len(bad):
            raise NoVectorError(bad.tolist(), vectors)
        return vectors

    @cached_property
    def fingerprint(self) -> str:
        """Changes with any weight, mean, std or setting of the checkpoint, not with versions of this program: vectors of two
        models must not meet in one gallery."""
        digest = hashlib.sha256(self.settings.encode())
        state = self.networks.networks.state_dict() | {name: getattr(self.networks, name) for name in ("mean", "std")}
        for name in sorted(state):
            digest.update(name.encode())
            digest.update(state[name].detach().cpu().contiguous().numpy().tobytes())
        return digest.hexdigest()[:32]


def settings_of(folder: Path) -> str:
    """The settings in a checkpoint's config.json, in one order and spelling; nothing where there is none."""
    path = folder / "config.json"
    return json.dumps(read_json(path), sort_keys=True) if path.is_file() else ""


def open_space(
    path: str | Path, device: torch.device | str = "cpu", *, text_encoder: TextEncoder | None = None,
    glove_folder: Path = GLOVE_FOLDER, dataset: str | None = None, annotations: Path | None = None,
) -> TextMotionSpace:
    """The space of a checkpoint folder: TMR, a published run of TMR, or an evaluator, ours or as published (t2m, kit).

    `text_encoder` replaces the one TMR names; `annotations`: a folder of TMR's layout whose saved word features a published
    run reads; `dataset`, humanml or kit: which published evaluator, where a folder holds both. CheckpointError, or
    FileNotFoundError where word vectors are absent.
    """
    path = checkpoint_in(path)
    if dataset and not (path / "config.json").is_file():
        networks = load_evaluator(path, dataset).to(device)
    else:
        encoder = text_encoder or saved_words(path, annotations)
        networks = from_pretrained(path, device, systems=able(Embeds), text_encoder=encoder)
    words = load_words(networks.config.words, glove_folder) if isinstance(networks, ReadsWords) else None
    return TextMotionSpace(networks, words, settings_of(path))
