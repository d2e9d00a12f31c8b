"""Words to vectors and part-of-speech classes: the text input of the published evaluator (Guo et al. 2022).

A vocabulary is three files, `our_vab_data.npy` (N, 300), `our_vab_words.pkl` and `our_vab_idx.pkl`, downloaded with the
evaluators; `python -m protos.fetch --list` says from where.
"""

from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from data_loaders.text import word_lists
from protos.pickles import read_plain_pickle
from protos.reading import FileError, convert, read_array

VOCABULARY = "our_vab"
VECTOR_DIM = 300
MAX_TEXT_LEN = 20
START, END, UNKNOWN = "sos/OTHER", "eos/OTHER", "unk/OTHER"

POS_CLASSES = (
    "VERB", "NOUN", "DET", "ADP", "NUM", "AUX", "PRON", "ADJ", "ADV",
    "Loc_VIP", "Body_VIP", "Obj_VIP", "Act_VIP", "Desc_VIP", "OTHER",
)  # fmt: skip
POS_INDEX = {name: index for index, name in enumerate(POS_CLASSES)}


class Words(NamedTuple):
    """A caption as the evaluator takes it: `vectors` (22, 300), `pos_onehot` (22, 15), both float32; the first `length`
    of the 22 `tokens` are the caption with its start and end mark, the rest is padding.
    """

    vectors: np.ndarray
    pos_onehot: np.ndarray
    length: int
    tokens: tuple[str, ...]


@cache
def _vip_class() -> dict[str, str]:
    return {word: name for name, words in reversed(word_lists()["evaluator"].items()) for word in words}


def pos_class(word: str, tag: str) -> int:
    """Class of a word that is in the vocabulary: its VIP list's, else its tag's, else OTHER."""
    return POS_INDEX[_vip_class().get(word, tag if tag in POS_INDEX else "OTHER")]


def padded_tokens(tokens: Sequence[str]) -> tuple[tuple[str, ...], int]:
    """(22 tokens, length): cut to 20, with start and end mark, filled up with unk/OTHER."""
    marked = (START, *tokens[:MAX_TEXT_LEN], END)
    return marked + (UNKNOWN,) * (MAX_TEXT_LEN + 2 - len(marked)), len(marked)


class WordVectorizer:
    """Looks up `word/POS` tokens. A word that is not in the vocabulary counts as 'unk' of class OTHER."""

    def __init__(self, folder: str | Path, name: str = VOCABULARY):
        """Raises FileNotFoundError naming the missing file, FileError where the files do not fit together."""
        folder = Path(folder)
        data, words, index = (folder / f"{name}_{part}" for part in ("data.npy", "words.pkl", "idx.pkl"))
        for path in (data, words, index):
            if not path.is_file():
                raise FileNotFoundError(f"{path} is missing: the word vectors come with the evaluators (python -m protos.fetch "
                                        "--list)")  # fmt: skip
        self.vectors = read_array(data, kinds="f", finite=True)  # (N, 300)
        self.words = convert(read_plain_pickle(words), list[str], str(words))
        rows = convert(read_plain_pickle(index), dict[str, Any], str(index)).items()
        rows = {word: row.item() if isinstance(row, np.integer) else row for word, row in rows}
        self.row = convert(rows, dict[str, int], str(index))
        if self.vectors.ndim != 2 or len(self.vectors) != len(self.words):
            raise FileError(f"{data}: shape {self.vectors.shape}, expected {len(self.words)} rows as in {words.name}")
        if any(self.row.get(word) != row for row, word in enumerate(self.words)):
            raise FileError(f"{index}: rows differ from the order of the words in {words.name}")
        if missing := [word for word in ("sos", "eos", "unk") if word not in self.row]:
            raise FileError(f"{words}: no entry '{missing[0]}', expected sos, eos and unk")

    def lookup(self, token: str) -> tuple[np.ndarray, int]:
        """(vector (300,), index of the class) of a token `word/POS`. Raises ValueError on any other form."""
        word, slash, tag = token.rpartition("/")
        if not slash:
            raise ValueError(f"token '{token}', expected word/POS")
        if word not in self.row:
            return self.vectors[self.row["unk"]], POS_INDEX["OTHER"]
        return self.vectors[self.row[word]], pos_class(word, tag)

    def encode(self, tokens: Sequence[str]) -> Words:
        """A caption's tokens, marked and padded, as vectors and classes."""
        padded, length = padded_tokens(tokens)
        vectors, classes = zip(*(self.lookup(token) for token in padded))
        onehot = np.eye(len(POS_CLASSES), dtype=np.float32)[list(classes)]
        return Words(np.stack(vectors).astype(np.float32, copy=False), onehot, length, padded)
