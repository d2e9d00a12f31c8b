"""When two captions ask for the same motion: what sentence encoders blur is compared word by word.

A sentence encoder finds "raises the left hand" and "raises the right hand" as alike as two wordings of one motion. Here
captions count as alike only where sides, directions, actions in their order and all other words of content agree, so
that of the wording only the person, the grammar and the small words may differ.
"""

import re
from collections.abc import Sequence
from functools import cache, lru_cache
from typing import Literal, NamedTuple

import numpy as np

from data_loaders.lexicon_tagger import analyse
from data_loaders.text import word_lists
from protos.randomness import derive_seed

_COUNTER = re.compile(r"\b(?:counter|anti)[ -]?clockwise\b")
_SIDE = re.compile(r"(left|right)(?:s|y|wards?|most|hand|handed|sided?|arm|leg|foot)?")

Duplicates = Literal["words", "published"]


def score_to_cosine(score: float) -> float:
    """Thresholds are scores of TMR, between 0 and 1: cosine / 2 + 0.5."""
    return 2 * score - 1


def duplicates_rule(asked: Literal["auto", "words", "published"], published: bool, encoder: str) -> Duplicates:
    """What `auto` means: published data compared by mpnet go by the score alone, as their tables do; others by words too."""
    if asked != "auto":
        return asked
    return "published" if published and encoder == "mpnet" else "words"


class Meaning(NamedTuple):
    """What must agree: sides with the word each belongs to, and directions, in order; verbs in order; other words."""

    directions: tuple[str, ...]
    actions: tuple[str, ...]
    content: frozenset[str]


@cache
def _directions() -> dict[str, str]:
    """Word -> the direction it stands for."""
    lists = word_lists()
    named = {word: direction for direction, words in lists["directions"].items() for word in words}
    return {word: word for word in lists["plain_directions"]["words"]} | named


@cache
def _passed_over() -> frozenset[str]:
    return frozenset(word for words in word_lists()["passed_over"].values() for word in words)


def meaning(text: str) -> Meaning:
    """Verbs by their dictionary form, since "walks" and "is walking" agree; nouns as they stand, since "hands" are two."""
    words = [
        (word, lemma if pos == "VERB" else word, pos)
        for word, pos, lemma in analyse(_COUNTER.sub("counterclockwise", text.lower()))
        if (word.isalnum() or word == "n't") and word not in _passed_over()
    ]
    directions, actions, content = [], [], set()
    for i, (word, form, pos) in enumerate(words):
        if side := _SIDE.fullmatch(word):
            owner = words[i + 1][1] if i + 1 < len(words) else ""
            directions.append(f"{side[1]} {owner}".rstrip())
        elif word in _directions():
            directions.append(_directions()[word])
        else:
            content.add(form)
            if pos == "VERB":
                actions.append(form)
    return Meaning(tuple(directions), tuple(actions), frozenset(content))


def meaning_codes(texts: Sequence[str]) -> np.ndarray:
    """Integers (N,), equal for texts that may be wordings of one motion."""
    known: dict[Meaning, int] = {}
    return np.array([known.setdefault(meaning(text), len(known)) for text in texts], dtype=np.int64)


@lru_cache(maxsize=100_000)
def meaning_key(text: str) -> int:
    """As `meaning_codes`, but of a text by itself: the same number in every process and run."""
    found = meaning(text)
    return derive_seed(*found.directions, "/", *found.actions, "/", *sorted(found.content))
