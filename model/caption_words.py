"""Captions as ids and back, in the words of a language model."""

from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any, Protocol

from data_loaders.text import plain_caption
from model.text_towers import TEXT_FOLDER, read_tokenizer, tokenizer_of
from protos.reading import FileError

VOCABULARY = 50_272  # rows of OPT's words


class Words(Protocol):
    """What turns captions into ids. `stop_id` ends one."""

    stop_id: int

    def begin(self, prompt: str) -> list[int]:
        """Ids with which a caption begins, the mark of a beginning first."""

    def whole(self, text: str, most: int) -> list[int]:
        """Ids of a caption with its marks, at most so many."""

    def text(self, ids: Sequence[int]) -> str:
        """What ids say, without marks."""


class Pieces:
    """Word pieces of a BERT-like tower, in small letters."""

    def __init__(self, tower: str):
        self.tokenizer = tokenizer_of(tower)
        self.start_id, self.stop_id = (self.tokenizer.token_to_id(mark) for mark in ("[CLS]", "[SEP]"))

    def begin(self, prompt: str) -> list[int]:
        return [self.start_id, *self.tokenizer.encode(prompt, add_special_tokens=False).ids]

    def whole(self, text: str, most: int) -> list[int]:
        ids = self.tokenizer.encode(plain_caption(text), add_special_tokens=False).ids
        return [self.start_id, *ids[: most - 2], self.stop_id]

    def text(self, ids: Sequence[int]) -> str:
        return self.tokenizer.decode(list(ids), skip_special_tokens=True).strip()


class OptWords:
    """OPT's byte pairs (Radford et al. 2019); captions begin with </s> and end with a line break, as LaMP trains them."""

    START, STOP = 2, 50_118

    def __init__(self, folder: Path):
        self.tokenizer, self.stop_id = opt_tokenizer(folder), self.STOP

    def begin(self, prompt: str) -> list[int]:
        return [self.START, *self.tokenizer.encode(prompt, add_special_tokens=False).ids]

    def whole(self, text: str, most: int) -> list[int]:
        return [self.START, *self.tokenizer.encode(text, add_special_tokens=False).ids][: most - 1] + [self.STOP]

    def text(self, ids: Sequence[int]) -> str:
        return self.tokenizer.decode([each for each in ids if each not in (self.START, self.STOP)]).strip()


@cache
def opt_tokenizer(folder: Path) -> Any:
    """The tokenizer in a folder of facebook/opt-2.7b: tokenizer.json, or vocab.json and merges.txt. FileError for neither."""
    from tokenizers.implementations import ByteLevelBPETokenizer

    def of_pairs(file: Path) -> Any:
        return ByteLevelBPETokenizer(str(file), str(file.with_name("merges.txt")))

    return read_tokenizer(folder, VOCABULARY, **{"vocab.json": of_pairs})


def words_of(kind: str, tower: str) -> Words:
    """Those of OPT, or of the tower that LaMP stands on. FileError where its files are not on this disk."""
    if kind == "lamp":
        return Pieces(tower)
    folder = TEXT_FOLDER / "opt-2.7b"
    if not folder.is_dir():
        raise FileError("the words of OPT are not on this machine: put vocab.json and merges.txt of facebook/opt-2.7b into "
                        f"{folder}")  # fmt: skip
    return OptWords(folder)
