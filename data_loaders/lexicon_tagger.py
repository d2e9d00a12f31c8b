"""A small part-of-speech tagger for motion captions: a list of words with their forms, and rules on neighbours.

It stands in for spaCy where that is not installed. Words it does not know get the tag X (adverbs in -ly excepted).
"""

import re
from functools import cache
from pathlib import Path
from typing import NamedTuple

from protos.reading import read_lines

LEXICON = Path(__file__).with_name("pos_lexicon.txt")
_PIECES = re.compile(r"[^\W\d_]+?(?=n't\b)|n't\b|'\w+|[^\W\d_]+|\d+|[^\w\s]|_")
# What follows these is a noun unless it can only be something else.
_OPENS_NOUN = {"DET", "ADJ", "NUM", "ADP"}
_PARTICLES = {"up", "down", "off", "out", "over"}  # ADP with or without an object, as in the published texts
_ESTIMATES = {"about", "around", "over"}  # "about ten steps"


class WordForm(NamedTuple):
    """One way to read a word: class, dictionary form, and which form of it this is (base, s, ing, ed)."""

    pos: str
    lemma: str
    form: str = "base"


def analyse(text: str) -> list[tuple[str, str, str]]:
    """(text, pos, lemma) of every word, number and punctuation mark."""
    pieces = _PIECES.findall(text.replace("’", "'"))
    readings = [_readings(piece) for piece in pieces]
    chosen: list[WordForm] = []
    for i, piece in enumerate(pieces):
        if piece.lower() == "'s" and chosen and chosen[-1].pos == "PRON":  # "he's running"
            chosen.append(WordForm("AUX", "be"))
        elif len(readings[i]) == 1:
            chosen.append(next(iter(readings[i].values())))
        else:
            chosen.append(readings[i][_settle(i, pieces, readings, chosen)])
    return [(piece, reading.pos, reading.lemma) for piece, reading in zip(pieces, chosen)]


def _readings(piece: str) -> dict[str, WordForm]:
    """Readings by class, never empty."""
    word = piece.lower()
    if word in lexicon():
        return lexicon()[word]
    if word.isdigit():
        pos = "NUM"
    elif word in ("n't", "'s"):
        pos = "PART"
    elif not word.isalpha():
        pos = "AUX" if word[0] == "'" and len(word) > 1 else "PUNCT"
    else:
        pos = "ADV" if word.endswith("ly") and len(word) > 4 else "X"
    return {pos: WordForm(pos, word)}


def _settle(i: int, pieces: list[str], readings: list[dict[str, WordForm]], chosen: list[WordForm]) -> str:
    """The class of an ambiguous word, from what was chosen before it and what can come after it."""
    options, word = readings[i], pieces[i].lower()
    before = _class_before(chosen)
    following = readings[i + 1] if i + 1 < len(pieces) else {}
    subject_before = before in ("NOUN", "PRON") and following.get("VERB", WordForm("", "")).form == "s"
    noun_follows = "NOUN" in following and not subject_before  # "sideways jumps" after "a man" are no noun
    phrase_follows = bool({"NOUN", "DET", "PRON", "NUM", "X"} & following.keys())

    if word == "to":
        return "PART" if _infinitive_at(i + 1, readings) else "ADP"
    if "AUX" in options:  # has done, has a ball
        return "VERB" if phrase_follows or "ADJ" in following else "AUX"
    if word == "as":
        return "ADP" if set(following) <= {"DET", "NOUN", "ADJ"} else "SCONJ"
    if "SCONJ" in options:
        return "SCONJ" if {"PRON", "AUX"} & following.keys() or "ADP" not in options else "ADP"
    if word in _PARTICLES:
        return "ADV" if word in _ESTIMATES and set(following) == {"NUM"} else "ADP"
    if "ADP" in options:
        estimate = word in _ESTIMATES and set(following) == {"NUM"}
        phrase_follows = phrase_follows or ("ADJ" in following and "ADV" not in following)
        return "ADP" if phrase_follows and not estimate and not subject_before else "ADV" if "ADV" in options else "ADP"
    if "VERB" in options and _reads_as_verb(options, before, following, phrase_follows, chosen):
        return "VERB"
    adjective_follows = set(following) == {"ADJ"} and before in _OPENS_NOUN
    if "ADJ" in options and (noun_follows or adjective_follows or before == "AUX"):
        return "ADJ"
    if "NOUN" in options and (before in _OPENS_NOUN or not {"ADV", "ADJ"} & options.keys()):
        return "NOUN"
    return next(pos for pos in ("ADV", "ADJ", *options) if pos in options)


def _class_before(chosen: list[WordForm]) -> str:
    if not chosen:
        return "START"
    last = chosen[-1]
    if last.pos == "PART" and last.lemma == "'s":  # "the person's"
        return "DET"
    if last.pos == "ADJ" and len(chosen) > 1 and chosen[-2].pos == "PRON":  # "someone elderly"
        return "PRON"
    return last.pos


def _infinitive_at(i: int, readings: list[dict[str, WordForm]]) -> bool:
    """Whether a verb in its base form starts at i: 'to walk', but not 'to start position' or 'to left and right'."""
    if i >= len(readings):
        return False
    if "VERB" not in readings[i] or readings[i]["VERB"].form != "base":
        return "AUX" in readings[i]
    compound = i + 1 < len(readings) and set(readings[i + 1]) == {"NOUN"} and readings[i + 1]["NOUN"].form == "base"
    return not ("NOUN" in readings[i] and compound)


def _reads_as_verb(
    options: dict[str, WordForm], before: str, following: dict[str, WordForm], phrase_follows: bool, chosen: list[WordForm]
) -> bool:
    form = options["VERB"].form
    if form == "ing":
        return "NOUN" not in options or before not in ("DET", "ADJ") or "NOUN" in following
    if form == "ed":  # "a bent arm" and "looks tired", but "arms crossed" and "he left the room"
        if before in ("NOUN", "PRON") and ({"DET", "PRON"} & following.keys() or {"ADJ", "VERB"} == options.keys()):
            return True
        return not {"ADJ", "ADV", "NOUN"} & options.keys()
    if before == "PART":
        return True
    if {"ADJ", "ADV"} & options.keys():  # back, clear, lower, open: the verb has an object or the ending
        return form == "s" or (phrase_follows and before in ("START", "NOUN", "PRON", "CCONJ", "ADV", "PUNCT"))
    if before in ("PRON", "AUX", "START"):
        return True
    if before in _OPENS_NOUN:
        return False
    if before == "VERB":
        return "NOUN" not in options
    if before == "CCONJ":  # "walk and turn", "hands and wave", but "body and head"
        return form == "s" or phrase_follows or len(chosen) < 2 or chosen[-2].pos != "NOUN" or chosen[-2].form == "s"
    if before == "NOUN":  # "a person circles", "people walk", but "does arm circles", "a side kick"
        object_before = len(chosen) > 1 and chosen[-2].pos == "VERB" and not _describes(chosen[:-1])
        return (form == "s" or chosen[-1].form == "s") and not object_before
    return True  # after while, then, slowly, a comma


def _describes(chosen: list[WordForm]) -> bool:
    """Whether the last word is a participle within a noun phrase: 'the standing (person)'."""
    return chosen[-1].form == "ing" and len(chosen) > 1 and chosen[-2].pos == "DET"


@cache
def lexicon() -> dict[str, dict[str, WordForm]]:
    """Word -> class -> form, of every word in the list."""
    entries: dict[str, dict[str, WordForm]] = {}
    for line in read_lines(LEXICON):
        if not line.startswith("#"):
            pos, lemma, *forms = line.split()
            for form, _, word in (each.partition(":") for each in forms):
                entries.setdefault(word, {})[pos] = WordForm(pos, lemma, form)
    return entries
