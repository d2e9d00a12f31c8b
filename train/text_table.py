"""Text features of a whole caption set, computed by one process and memory-mapped from the cache folder by all."""

import hashlib
import logging
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
from tqdm import tqdm

from model.feature_cache import cache_folder
from model.text_encoders import TextEncoder, TextFeatures
from model.text_towers import load_text_encoder
from protos.files import atomic_folder, file_lock
from protos.processes import Processes

logger = logging.getLogger(__name__)

CHUNK = 1024


class TextTable:
    """Stands in for a text encoder during training; texts outside the table go to the encoder itself.

    `pooled` (N, C) float32 and `tokens` (all tokens, C) float16, those of text i from offsets[i] to offsets[i + 1].
    """

    def __init__(
        self, encoder: TextEncoder, texts: Sequence[str], pooled: np.ndarray, tokens: np.ndarray, offsets: np.ndarray
    ):
        self.encoder, self.pooled, self.tokens, self.offsets = encoder, pooled, tokens, offsets
        self.row = {text: i for i, text in enumerate(texts)}

    @property
    def name(self) -> str:
        return self.encoder.name

    @property
    def dim(self) -> int:
        return self.encoder.dim

    def encode(self, texts: Sequence[str]) -> TextFeatures:
        """Features of the texts in float32 on the CPU."""
        if not all(text in self.row for text in texts):
            return self.encoder.encode(texts)
        rows = [self.row[text] for text in texts]
        spans = [slice(self.offsets[i], self.offsets[i + 1]) for i in rows]
        return TextFeatures.collate([(self.pooled[i], self.tokens[s].astype(np.float32)) for i, s in zip(rows, spans)])

    def __deepcopy__(self, memo: dict) -> "TextTable":
        return self  # never changes: the average of the networks shares it


def text_table(name: str, texts: Iterable[str], with_tokens: bool = True) -> TextTable:
    """The features of `texts` by the encoder of that name, from the cache folder or computed now.

    Without `with_tokens` only pooled features are kept. Raises TextEncoderError where the encoder is not on this disk.
    """
    encoder, texts = load_text_encoder(name), sorted(set(texts))
    folder = cache_folder() / "text_tables" / f"{encoder.identity}-{_fingerprint(texts)}{'' if with_tokens else '-pooled'}"
    try:
        with Processes().main_first():
            folder.parent.mkdir(parents=True, exist_ok=True)
            with file_lock(folder.with_suffix(".lock"), f"text features by {name}"):  # another command may want the same
                if not (folder / "offsets.npy").is_file():
                    logger.info("text features of %d captions by %s", len(texts), name)
                    with atomic_folder(folder) as partial_folder:
                        _write(partial_folder, name, texts, with_tokens)
        pooled = np.load(folder / "pooled.npy", mmap_mode="r")
        tokens, offsets = np.load(folder / "tokens.npy", mmap_mode="r"), np.load(folder / "offsets.npy")
    except OSError as error:
        logger.warning("text feature table %s is not usable (%s): texts are encoded as they come", folder, error)
        return TextTable(encoder, [], np.zeros((0, encoder.dim)), np.zeros((0, encoder.dim)), np.zeros(1, np.int64))
    return TextTable(encoder, texts, pooled, tokens, offsets)


def _fingerprint(texts: list[str]) -> str:
    return hashlib.sha256("\n".join(texts).encode("utf-8", "surrogatepass")).hexdigest()[:24]


def _write(folder: Path, name: str, texts: list[str], with_tokens: bool) -> None:
    encoder = load_text_encoder(name, disk_cache=False)  # one copy on the disk is enough
    pooled = np.zeros((len(texts), encoder.dim), np.float32)
    counts = np.zeros(len(texts), np.int64)
    pieces: dict[int, np.ndarray] = {}
    by_length = sorted(range(len(texts)), key=lambda i: len(texts[i]))  # texts of one length make quicker batches
    chunks = range(0, len(texts), CHUNK)
    for start in tqdm(chunks, desc="text features", unit_scale=CHUNK, unit="text", disable=None):
        rows = by_length[start : start + CHUNK]
        features = encoder.encode([texts[i] for i in rows])
        for i, vector, tokens, mask in zip(rows, features.pooled, features.tokens, features.mask):
            pooled[i] = vector
            if with_tokens:
                pieces[i] = tokens[mask].numpy().astype(np.float16)
                counts[i] = len(pieces[i])
    empty = np.zeros((0, encoder.dim), np.float16)
    arrays = {
        "pooled": pooled,
        "tokens": np.concatenate([pieces.get(i, empty) for i in range(len(texts))]) if texts else empty,
        "offsets": np.concatenate([[0], counts.cumsum()]),
    }
    for each, array in arrays.items():
        np.save(folder / f"{each}.npy", array)
