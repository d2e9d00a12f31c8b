"""Any checkpoint that brings texts and motions into one space, behind one interface: TMR, a published run of it, an evaluator."""

import hashlib
import logging
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path

import numpy as np
import torch

from data_loaders.corpus import Representation
from data_loaders.skeleton import Skeleton, load_skeleton
from data_loaders.text import Caption
from model.evaluator_words import GLOVE_FOLDER, WordSource, load_words
from model.evaluators import UNIT_LENGTH, GuoEvaluator
from model.official_evaluators import MATCHING, official_evaluator
from model.official_names import CheckpointError
from model.official_tmr import read_run_config
from model.pretrained import from_pretrained
from model.saved_text_features import SavedTextFeatures
from model.text_encoders import TextEncoder, TextFeatures, load_text_encoder
from model.tmr import TMR

log = logging.getLogger(__name__)
WORDS = "token_embeddings"  # folder of saved word features beside annotations.json, in TMR's layout
TEXTS_AT_ONCE = 256


class TextMotionSpace:
    """Texts and motions as vectors (N, C), float32 on the CPU, compared by their cosine.

    Published evaluators are trained by Euclidean distance; here their vectors are compared by cosine as well, so that a
    score means the same whatever the model. Made by `open_space`.
    """

    def __init__(self, networks: TMR | GuoEvaluator, words: WordSource | None = None):
        self.networks, self.words = networks.eval(), words
        config = networks.config
        self.representation: Representation = config.representation
        self.skeleton: Skeleton = load_skeleton(config.skeleton)
        self.num_features: int = config.num_features
        self.reads_joints = getattr(config, "features", "humanml") == "humanml"
        self.longest_trained: int = config.max_frames
        if isinstance(networks, TMR):
            self.dim, self.frame_limits = config.latent_dim, (1, config.max_positions - config.num_tokens)
        else:
            self.dim, self.frame_limits = config.embedding, (UNIT_LENGTH, config.max_frames)

    @property
    def fps(self) -> float:
        return self.representation.fps

    def encode_text(self, texts: Sequence[str]) -> np.ndarray:
        """(N, C), not of unit length. Equal texts have equal rows."""
        if isinstance(self.networks, TMR):
            return self.networks.encode_text(texts).numpy()
        distinct = list(dict.fromkeys(texts))
        starts = range(0, len(distinct), TEXTS_AT_ONCE)
        captions = [[Caption(text) for text in distinct[start : start + TEXTS_AT_ONCE]] for start in starts]
        parts = [self.networks.encode_words(self.words.encode(part)).numpy() for part in captions]
        row = {text: i for i, text in enumerate(distinct)}
        return np.concatenate(parts)[[row[text] for text in texts]] if parts else np.zeros((0, self.dim), np.float32)

    def encode_motion(self, motions: Sequence[np.ndarray], batch_size: int = 64) -> np.ndarray:
        """(N, C), not of unit length, of features [(T, D)] in their units. ValueError names a motion that cannot be read."""
        encode = self.networks.encode_motion if isinstance(self.networks, TMR) else self.networks.encode_motions
        return encode(motions, batch_size).numpy()

    @cached_property
    def fingerprint(self) -> str:
        """Changes with any weight, mean, std or setting: vectors of two models must not meet in one gallery."""
        digest = hashlib.sha256(repr(self.networks.config).encode())
        state = self.networks.state_dict() | {name: getattr(self.networks, name) for name in ("mean", "std")}
        for name in sorted(state):
            digest.update(name.encode())
            digest.update(state[name].detach().cpu().contiguous().numpy().tobytes())
        return digest.hexdigest()[:32]


class _WhenNeeded:
    """A text encoder that is looked for when a text has to be read, since saved features may do."""

    def __init__(self, name: str):
        self.name = name

    def encode(self, texts: Sequence[str]) -> TextFeatures:
        return self.encoder.encode(texts)

    @cached_property
    def encoder(self) -> TextEncoder:
        return load_text_encoder(self.name)


def open_space(
    path: str | Path, device: torch.device | str = "cpu", *, text_encoder: "TextEncoder | SavedTextFeatures | None" = None,
    glove_folder: Path = GLOVE_FOLDER,
) -> TextMotionSpace:
    """The space of a checkpoint folder: TMR, a published run of TMR, or an evaluator, ours or as published (t2m, kit).

    `text_encoder` replaces the one TMR names. CheckpointError, or FileNotFoundError where word vectors are absent.
    """
    path = Path(path)
    if not (path / "config.json").is_file() and (dataset := published_evaluator(path)):
        networks = official_evaluator(path, dataset).to(device)
    else:
        encoder = text_encoder or saved_run_words(path)
        networks = from_pretrained(path, device, systems=("tmr", "evaluator"), text_encoder=encoder)
        if not isinstance(networks, TMR | GuoEvaluator):  # what other published folders hold
            raise CheckpointError(f"{path} holds no model that embeds texts and motions: expected TMR or an evaluator")
        if isinstance(networks, TMR):
            return TextMotionSpace(networks)
    return TextMotionSpace(networks, load_words(networks.config.words, glove_folder))


def published_evaluator(path: Path) -> str | None:
    """Which published evaluator lies in a folder; None where none does."""
    for dataset, name in (("humanml", "t2m"), ("kit", "kit")):
        if (path / name / MATCHING).is_file():
            return dataset
    if (path / MATCHING).is_file():
        return "kit" if path.resolve().name == "kit" else "humanml"
    return None


def saved_run_words(folder: Path) -> SavedTextFeatures | None:
    """Word features saved with the data of a published run, looked for beside its folder and above; None where there are none.

    Texts that are not among them are read by the text encoder of the run, once there is one.
    """
    try:
        named = read_run_config(folder)["data"]["text_to_token_emb"]
        repository, annotations = str(named["modelname"]), Path(str(named["path"]))
    except (CheckpointError, KeyError, TypeError):  # no published run, or one without; loading says what is wrong
        return None
    from model.text_towers import TOWERS

    known = [name for name, spec in TOWERS.items() if spec.repository == repository]
    for place in (*folder.resolve().parents[:3], Path()):
        path = place / annotations / WORDS / repository
        if known and path.with_name(f"{path.name}_index.json").is_file():
            log.info("word features of %s", path)
            return SavedTextFeatures.load(path, _WhenNeeded(known[0]))
    return None
