"""Text features in TMR's files: NAME.npy, NAME_index.json (text -> row) and, of word features, NAME_slice.npy.

Texts are looked up as they are written: case, dots and spaces count.
"""

import json
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np

from model.text_encoders import TextEncoder, TextFeatures
from model.text_towers import TOWERS, load_text_encoder
from protos.files import atomic_file, write_atomically
from protos.names import shown
from protos.reading import FileError, read_array, read_json

WORDS, SENTENCES = "token_embeddings", "sent_embeddings"  # folders beside annotations.json that hold them


class SavedTextFeatures:
    """Stands in for a text encoder: saved features first, then the encoder itself, if there is one. A name will do for it:
    it is loaded when a text has to be read.

    Word features: rows of text i are slices[i, 0] to slices[i, 1] of `array` (all words, C). Without `slices`, row i of
    `array` (N, C) is the text as a whole.
    """

    def __init__(self, array: np.ndarray, index: dict[str, int], slices: np.ndarray | None = None,
                 encoder: TextEncoder | str | None = None, name: str = "saved text features"):
        self.name = name  # in errors
        self.array, self.index, self.slices, self._encoder = array, index, slices, encoder

    @property
    def encoder(self) -> TextEncoder | None:
        """TextEncoderError where it is not on this machine."""
        if isinstance(self._encoder, str):
            self._encoder = load_text_encoder(self._encoder)
        return self._encoder

    def __contains__(self, text: str) -> bool:
        return text in self.index

    def __deepcopy__(self, memo: dict) -> "SavedTextFeatures":
        return self  # never changes

    def row(self, text: str) -> np.ndarray:
        """Words (L, C) of a text, or the text as a whole (1, C). KeyError where it is not saved."""
        i = self.index[text]
        begin, end = (i, i + 1) if self.slices is None else self.slices[i]
        words = np.asarray(self.array[begin:end], np.float32)
        if not len(words) or not np.isfinite(words).all():  # looked at here: the files are gigabytes and mapped
            raise FileError(f"{self.name}: the features of {shown(text)} are empty, NaN or infinite: have them computed again")
        return words

    def encode(self, texts: Sequence[str]) -> TextFeatures:
        """Features of the texts in float32 on the CPU. KeyError for a text that is not saved and that nobody can read."""
        rows = []
        missing = [text for text in dict.fromkeys(texts) if text not in self]
        if missing and self.encoder is None:
            raise KeyError(f"no saved features of {missing[0]!r}, and no text encoder to read it")
        fresh = self.encoder.encode(missing) if missing else None
        if fresh is not None and fresh.tokens.shape[-1] != self.array.shape[1]:
            raise FileError(f"{self.name}: features of width {self.array.shape[1]}, the encoder's have {fresh.tokens.shape[-1]}: "
                            f"{shown(missing[0])} is not among them and cannot be put beside them")
        place = {text: i for i, text in enumerate(missing)}
        for text in texts:
            if text in self:
                words = self.row(text)
                rows.append((words.mean(0), words))
            else:
                i = place[text]
                whole, words = fresh.pooled[i].numpy(), fresh.tokens[i, fresh.mask[i]].numpy()
                rows.append((whole, words if self.slices is not None else whole[None]))
        return TextFeatures.collate(rows)

    def save(self, path: Path) -> None:
        """Writes the files of `path`, which has no suffix."""
        for suffix, array in (("", self.array), ("_slice", self.slices)):
            if array is not None:
                with atomic_file(_file(path, f"{suffix}.npy")) as stream:
                    np.save(stream, array)
        write_atomically(_file(path, "_index.json"), json.dumps(self.index, indent=4))

    @staticmethod
    def load(path: Path, encoder: TextEncoder | str | None = None) -> "SavedTextFeatures":
        """The files of `path`, the array memory-mapped. FileNotFoundError or FileError names the one that will not do."""
        index_file, array_file, slice_file = (_file(path, suffix) for suffix in ("_index.json", ".npy", "_slice.npy"))
        index = read_json(index_file, dict[str, int])
        array = read_array(array_file, shape=(None, None), kinds="f", mmap=True)
        slices = read_array(slice_file, shape=(None, 2), kinds="iu") if slice_file.is_file() else None
        rows = len(array) if slices is None else len(slices)
        for row in (max(index.values(), default=0), min(index.values(), default=0)) if index else ():
            if not 0 <= row < rows:
                raise FileError(f"{index_file} names row {row}, there are {rows}")
        if slices is not None and len(slices):
            slices = slices.astype(np.int64)
            if not ((slices[:, 0] >= 0) & (slices[:, 0] <= slices[:, 1]) & (slices[:, 1] <= len(array))).all():
                raise FileError(f"{slice_file}: expected rows (begin, end) of {array_file.name}, which has {len(array)}")
        return SavedTextFeatures(array, index, slices, encoder, str(array_file))

    @staticmethod
    def are_at(path: Path) -> bool:
        return _file(path, "_index.json").is_file()

    @staticmethod
    def of(texts: Iterable[str], encoder: TextEncoder, *, words: bool) -> "SavedTextFeatures":
        """Features of the distinct texts: of every word, marks of start and end included, or of each text as a whole."""
        distinct = list(dict.fromkeys(texts))
        features, index = encoder.encode(distinct), {text: i for i, text in enumerate(distinct)}
        if not words:
            return SavedTextFeatures(features.pooled.numpy(), index, None, encoder)
        rows = [row[mask].numpy() for row, mask in zip(features.tokens, features.mask)]
        ends = np.cumsum([len(row) for row in rows])
        slices = np.stack([np.concatenate([[0], ends[:-1]]), ends], axis=1).astype(np.int64)
        return SavedTextFeatures(np.concatenate(rows), index, slices, encoder)


def features_beside(annotations: Path, kind: str, encoder: str) -> SavedTextFeatures | None:
    """Features saved in a folder with annotations.json: WORDS or SENTENCES, of an encoder by our name; None where none are.

    Texts that are not among them are read by that encoder, once there is one.
    """
    path = Path(annotations) / kind / TOWERS[encoder].repository
    if not SavedTextFeatures.are_at(path):
        return None
    found = SavedTextFeatures.load(path, encoder)
    if kind == WORDS and found.slices is None:
        raise FileError(f"{_file(path, '_slice.npy')} is absent: it says which rows of {path.name}.npy are a text's words")
    return found


def _file(path: Path, suffix: str) -> Path:
    return Path(path).with_name(Path(path).name + suffix)
