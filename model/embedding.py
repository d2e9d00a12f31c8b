"""Any checkpoint that brings texts and motions into one space, behind one interface: TMR, a published run of it, an evaluator."""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import astuple
from functools import cached_property
from pathlib import Path

import numpy as np
import torch

from data_loaders.corpus import Corpus
from data_loaders.features import Features
from data_loaders.text import Caption
from model.capabilities import Embeds, ReadsWords
from model.checkpoints import from_pretrained
from model.evaluator_words import GLOVE_FOLDER, load_words
from model.interclip_config import TWO_PEOPLE
from model.official.evaluators import load_evaluator
from model.official.tmr import saved_words
from model.registry import CHECKPOINTS, able, checkpoint_in, here_or_carried, published_at
from protos.official_files import OFFICIAL, official_folder
from protos.reading import FileError, read_json

FORMER_NAMES = {"humanml": "t2m", "kit": "kit"}  # of the published ones, below checkpoints/evaluators


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

    def __init__(self, model: Embeds, settings: str = ""):
        """settings: what stands in the checkpoint's config.json, for the fingerprint."""
        self.model, self.settings = model.eval(), settings
        self.made_by, self.dim, self.frame_limits, self.similarity = astuple(model.space())
        self.features: Features = model.features
        self.longest_trained: int = model.config.max_frames

    def require(self, features: Features, what: str) -> None:
        """FeaturesMismatch unless `what` has the features that this model was trained on."""
        self.features.require(features, self.made_by, what)

    def encode_text(self, texts: Sequence[str | Caption]) -> np.ndarray:
        """(N, C), not of unit length. Equal texts have equal rows. Captions may come with their words and parts of speech."""
        return self.model.encode_text(texts).numpy()

    def encode_motion(self, motions: Sequence[np.ndarray], batch_size: int | None = None) -> np.ndarray:
        """(N, C), not of unit length, of features [(T, D)] in their units. ValueError names a motion that cannot be read,
        NoVectorError those whose vectors, or their lengths, are not finite.

        batch_size: how many at once (default: the model's own).
        """
        vectors = self.model.encode_motion(motions, batch_size).numpy()
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
        state = self.model.networks.state_dict() | {name: getattr(self.model, name) for name in ("mean", "std")}
        for name in sorted(state):
            digest.update(name.encode())
            digest.update(state[name].detach().cpu().contiguous().numpy().tobytes())
        return digest.hexdigest()[:32]


def open_space(path: str | Path, device: torch.device | str = "cpu", data: Corpus | None = None,
               glove_folder: Path = GLOVE_FOLDER) -> TextMotionSpace:
    """The space of a checkpoint folder: TMR, a published run of TMR, or an evaluator, ours or as published (t2m, kit).

    data: the dataset that is to be judged, which says what published evaluator is taken where a folder holds both, and may hold
    the word features that a published run reads. FileError, FileNotFoundError where it or its word vectors are absent, or
    FeaturesMismatch where it reads other features than those of `data`.
    """
    path, published = checkpoint_in(path), data.published if data else None
    config = path / "config.json"
    if data and not (published or config.is_file() or published_at(path)):
        command = "train_evaluator" if data.features.persons == 1 else "train_interclip"
        raise FileNotFoundError(f"{path}: no evaluator of {data.folder.name}; train one with "
                                f"python -m train.{command} --dataset {data.folder.name}, or give another evaluator")
    if published and not config.is_file():
        model = load_evaluator(path, published).to(device)
    else:
        encoder = saved_words(path, data.folder if data else None)
        model = from_pretrained(path, device, systems=able(Embeds), text_encoder=encoder)
    if isinstance(model, ReadsWords):
        try:
            model.read_through(load_words(model.config.words, glove_folder, tagger=model.config.tagger))
        except ValueError as error:
            raise error if isinstance(error, FileError) else FileError(f"{config}: {error}") from None
    # in one order and spelling
    space = TextMotionSpace(model, json.dumps(read_json(config), sort_keys=True) if config.is_file() else "")
    if data:
        space.require(data.features, f"dataset {data.folder}")
    return space


def default_evaluator(data: Corpus) -> Path:
    """Where the evaluator of a dataset lies: the published ones of humanml, kit and InterHuman, that of other data of two people,
    others by the dataset's name."""
    if data.features == TWO_PEOPLE:
        return official_folder(OFFICIAL / "interclip", Path("checkpoints/intergen/evaluator"))
    if data.features.persons > 1:
        return here_or_carried(CHECKPOINTS / "interclip")
    if data.published is None:
        return here_or_carried(CHECKPOINTS / "evaluators" / data.folder.name)
    former = Path("checkpoints/evaluators") / FORMER_NAMES[data.published]
    return official_folder(OFFICIAL / f"t2m-evaluators-{data.published}", former)
