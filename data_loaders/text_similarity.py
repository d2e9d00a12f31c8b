"""When two captions ask for the same motion: what sentence encoders blur is compared word by word.

A sentence encoder finds "raises the left hand" and "raises the right hand" as alike as two wordings of one motion. Here
captions count as alike only where sides, directions, actions in their order and all other words of content agree, so
that of the wording only the person, the grammar and the small words may differ.
"""

import re
from collections.abc import Sequence
from functools import lru_cache
from typing import Literal, NamedTuple

import numpy as np

from data_loaders.lexicon_tagger import analyse
from protos.randomness import derive_seed

_COUNTER = re.compile(r"\b(?:counter|anti)[ -]?clockwise\b")
_SIDE = re.compile(r"(left|right)(?:s|y|wards?|most|hand|handed|sided?|arm|leg|foot)?")

# Whoever moves, moves alike; "woman", "child" or "robot" may say how, and stay.
_PERSONS = "person persons people somebody someone anybody human humans man men guy figure character individual subject"
_SMALL_WORDS = """
    a an the this that these those his her hers their theirs its my your our he she they it him them himself herself
    themselves themself itself who which whose is are was were be been being am has have had having does do did doing
    to of with at by for in on as and while then so there s
"""
_PASSED_OVER = frozenset(f"{_PERSONS} {_SMALL_WORDS}".split())

_ONE_WORD_DIRECTIONS = """
    clockwise counterclockwise back front behind away from out into onto off over under above below beneath through
    across around past along between before after north south east west diagonal diagonally
"""
DIRECTIONS = {
    **{word: word for word in _ONE_WORD_DIRECTIONS.split()},
    **dict.fromkeys(("forward", "forwards", "ahead", "onward", "onwards", "frontward", "frontwards"), "forward"),
    **dict.fromkeys(("backward", "backwards", "rearward", "rearwards"), "backward"),
    **dict.fromkeys(("up", "upward", "upwards"), "up"),
    **dict.fromkeys(("down", "downward", "downwards"), "down"),
    **dict.fromkeys(("sideways", "sideway", "sidewards", "laterally"), "sideways"),
    **dict.fromkeys(("inward", "inwards"), "inward"),
    **dict.fromkeys(("outward", "outwards"), "outward"),
    **dict.fromkeys(("toward", "towards"), "toward"),
}

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


def meaning(text: str) -> Meaning:
    """Verbs by their dictionary form, since "walks" and "is walking" agree; nouns as they stand, since "hands" are two."""
    words = [
        (word, lemma if pos == "VERB" else word, pos)
        for word, pos, lemma in analyse(_COUNTER.sub("counterclockwise", text.lower()))
        if (word.isalnum() or word == "n't") and word not in _PASSED_OVER
    ]
    directions, actions, content = [], [], set()
    for i, (word, form, pos) in enumerate(words):
        if side := _SIDE.fullmatch(word):
            owner = words[i + 1][1] if i + 1 < len(words) else ""
            directions.append(f"{side[1]} {owner}".rstrip())
        elif word in DIRECTIONS:
            directions.append(DIRECTIONS[word])
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
