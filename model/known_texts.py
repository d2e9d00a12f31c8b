"""What a checkpoint's training captions speak of, as a small sketch beside its weights, so that a prompt beyond it is told.

A network answers any text with something it knows: asked to sit down, weights that never saw anybody sit walk on. Whole
sentences are too alike to tell ("a person walks", "a person jumps"), so texts are compared clause by clause, without their
subject. A clause lies outside where it is far from every clause of the captions, the more so the nearer it is to an everyday
action that the captions lack (`everyday_actions.txt`), and where its verb or a noun occurs in no caption.

Features are always those of minilm, which is installed with the code, whatever encoder the weights read.
"""

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from data_loaders.lexicon_tagger import analyse
from protos.files import atomic_file
from protos.reading import FileError, check_array, read_arrays, read_lines

if TYPE_CHECKING:
    from model.text_encoders import TextEncoder

FILE = "known_texts.npz"
ENCODER, WIDTH = "minilm", 384
MOST_CLAUSES = 370  # of captions in a sketch: 384 bytes each
MOST_READ = 20_000  # clauses of captions that a sketch is chosen from
MOST_BYTES = 1 << 20  # of a sketch in memory
FORM = (("known", "int8", (None, WIDTH)), ("lacking", "int8", (None, WIDTH)), ("words", "uint8", (None,)),
        ("texts", "uint8", (None,)), ("threshold", "float32", ()))  # fmt: skip
MOST_WORDS = 4000
NEAR = 0.8  # cosine from which an everyday action is one of the captions'
WEIGHT = 0.4  # of the nearest everyday action that the captions lack, beside the nearest clause of theirs
NEW_VERB, NEW_NOUN = 0.06, 0.1  # as much farther is a clause whose verb, or one of whose nouns, is in no caption
THRESHOLD = -0.30  # chosen by `evaluations.eval_known_texts` on the calibration part of its prompts
OWN_WARNED = 0.01  # share of the captions' own clauses that may lie outside where a sketch is too small for them
SHOWN, SHOWN_APART = 3, 0.7  # clauses that are named, and the cosine that two of them stay below
LONGEST = 40  # words of a clause that are read
CLAUSES_READ = 24  # of a prompt

_BETWEEN = re.compile(r"\s*([,;.:!?]|\b(?:and|then|while|before|after|but)\b)\s*")
_SAY_LITTLE = frozenset(("person", "be", "do", "have", "something", "someone", "somebody"))
_NEXT = {"and", "then", "but"}  # after these a participle is an action of its own: "walking and waving"


@dataclass(frozen=True)
class Verdict:
    """Whether a prompt lies outside. `part`: its clause that lies farthest; `nearest`: what captions say near it, best first."""

    outside: bool
    score: float
    part: str
    nearest: tuple[str, ...]


def clauses(text: str) -> list[str]:
    """'a person' with each action of a text and what goes with it; what tells of no further one stays with the one before."""
    pieces = _BETWEEN.split(" ".join(text.lower().split()))  # one blank each: a run of them would cost its square
    parts, mark = [pieces[0]], ""
    for between, piece in zip(pieces[1::2], pieces[2::2], strict=True):
        mark = between if between in _NEXT or not mark else mark
        if not piece:
            continue
        if _acts(piece, own=mark in _NEXT) or not parts[-1]:
            parts.append(piece)
        else:
            parts[-1] += f" {between} {piece}"
        mark = ""
    return list(dict.fromkeys(_without_subject(part) for part in parts[:CLAUSES_READ] if part)) or [text.lower()]


def _acts(piece: str, own: bool) -> bool:
    """Whether a piece has a verb, or a word that may be one; a participle only with `own`."""
    words = analyse(piece)
    acts = [word for word, pos, _ in words if pos == "VERB" or (pos == "X" and word.endswith(("s", "ed", "ing")))]
    return bool(acts) and (own or not acts[0].endswith("ing"))


def _without_subject(clause: str) -> str:
    words = analyse(clause)
    verb = next((i for i, (_, pos, _) in enumerate(words) if pos == "VERB"), None)
    said = clause.split() if verb is None else ["a person", *(word for word, _, _ in words[verb:])]
    return " ".join(said[:LONGEST])


def _tells(clause: str) -> bool:
    """Whether a clause tells by itself what somebody does: a finite verb, and nothing named before."""
    words = clause.split()
    return clause.startswith("a person ") and words[2].endswith("s") and len(words) <= 9 and not {"it", "them", ","} & set(words)


def _lemmas(text: str) -> dict[str, str]:
    """Dictionary form -> class of the verbs, the nouns and the words that the lexicon lacks, in their order."""
    found = {lemma: pos for word, pos, lemma in analyse(text) if pos in ("VERB", "NOUN", "X") and word.isalpha()}
    return {lemma: pos for lemma, pos in found.items() if lemma not in _SAY_LITTLE}


@dataclass(frozen=True)
class KnownTexts:
    """The sketch: unit vectors of clauses of the captions (N, C) and of everyday actions that they lack (M, C), their words.

    texts: the first of those clauses in words, of which a reader learns what is known. A clause lies outside where its score is
    above the threshold.
    """

    known: np.ndarray
    lacking: np.ndarray
    words: frozenset[str]
    texts: tuple[str, ...]
    threshold: float

    @classmethod
    def make(cls, captions: Sequence[str]) -> "KnownTexts":
        """The sketch of the captions of a training set; the same captions give the same sketch."""
        found = {clause for caption in set(captions) for clause in clauses(caption)}
        if not found:
            raise ValueError("no captions: nothing to make a sketch of known texts from")
        ordered = sorted(found, key=lambda clause: (len(clause), clause))
        ordered = ordered[:: -(-len(ordered) // MOST_READ)]
        vectors, actions = _vectors(ordered), _vectors(everyday_actions())
        chosen = _spread(vectors, MOST_CLAUSES)
        chosen.sort(key=lambda i: not _tells(ordered[i]))
        known = vectors[chosen]
        count = Counter(word for clause in ordered for word in set(_lemmas(clause)) | set(clause.split()))
        words = frozenset(sorted(count, key=lambda word: (-count[word], word))[:MOST_WORDS])
        strange = np.array([bool(set(_lemmas(action)) - words) for action in everyday_actions()])
        lacking = actions[strange & ((actions @ known.T).max(1) < NEAR)]
        texts = tuple(ordered[i] for i in chosen if _tells(ordered[i]))
        sketch = cls(_unit(_bytes(known)), _unit(_bytes(lacking)), words, texts, THRESHOLD)
        own = float(np.quantile(sketch.scores(ordered, vectors), 1 - OWN_WARNED))
        return replace(sketch, threshold=max(THRESHOLD, own))

    def scores(self, parts: Sequence[str], vectors: np.ndarray) -> np.ndarray:
        """How far clauses lie outside, (N,), from their vectors (N, C)."""
        lacking = (vectors @ self.lacking.T).max(1) if len(self.lacking) else np.zeros(len(vectors))
        return WEIGHT * lacking - (vectors @ self.known.T).max(1) + np.array([self._strangeness(part) for part in parts])

    def _strangeness(self, clause: str) -> float:
        kinds = _lemmas(clause)
        verb = next((word for word, pos in kinds.items() if pos != "NOUN"), None)
        noun = any(pos == "NOUN" and word not in self.words for word, pos in kinds.items())
        return NEW_VERB * (verb is not None and verb not in self.words) + NEW_NOUN * noun

    def judge(self, texts: Sequence[str]) -> list[Verdict]:
        """A verdict for each text."""
        parts = [clauses(text) for text in texts]
        distinct = list(dict.fromkeys(part for each in parts for part in each))
        vectors = dict(zip(distinct, _vectors(distinct), strict=True)) if distinct else {}
        return [self._verdict(each, np.stack([vectors[part] for part in each])) for each in parts]

    def _verdict(self, parts: Sequence[str], vectors: np.ndarray) -> Verdict:
        scores = self.scores(parts, vectors)
        worst = int(scores.argmax())
        outside = bool(scores[worst] > self.threshold)
        return Verdict(outside, float(scores[worst]), parts[worst], self._nearest(vectors[worst]) if outside else ())

    def _nearest(self, vector: np.ndarray) -> tuple[str, ...]:
        """Clauses of captions that are nearest to one, of which no two say nearly the same."""
        shown: list[int] = []
        for i in np.argsort(-(self.known[: len(self.texts)] @ vector), kind="stable"):
            if len(shown) < SHOWN and all(self.known[i] @ self.known[j] < SHOWN_APART for j in shown):
                shown.append(int(i))
        return tuple(self.texts[i] for i in shown)

    def save(self, path: Path) -> None:
        """One byte a number: the directions of the vectors are all that counts."""
        words, texts = (np.frombuffer("\n".join(lines).encode("utf-8", "replace"), np.uint8)
                        for lines in (sorted(self.words), self.texts))  # fmt: skip
        with atomic_file(path) as file:
            np.savez_compressed(file, known=_bytes(self.known), lacking=_bytes(self.lacking), words=words, texts=texts,
                                threshold=np.float32(self.threshold))  # fmt: skip

    @classmethod
    def beside(cls, checkpoint: Path) -> "KnownTexts | None":
        """The sketch in a checkpoint's folder, None where there is none. FileError where it is damaged."""
        path = (checkpoint if checkpoint.is_dir() else checkpoint.parent) / FILE
        return cls.load(path) if path.is_file() else None

    @classmethod
    def load(cls, path: Path) -> "KnownTexts":
        """FileError where the file is not a sketch, or damaged."""
        arrays = read_arrays(path, kinds="fiu", finite=True, most=MOST_BYTES)
        for name, kind, shape in FORM:
            if name not in arrays or arrays[name].dtype != kind:
                raise FileError(f"{path}: expected an array {name} of {kind}, as train.known_texts writes it")
            check_array(arrays[name], f"{path}, array {name}", shape=shape)
        words, texts = (arrays[name].tobytes().decode("utf-8", "replace").split("\n") for name in ("words", "texts"))
        texts = [text for text in texts if text]
        if not max(1, len(texts)) <= len(arrays["known"]):
            raise FileError(f"{path}: {len(texts)} texts for {len(arrays['known'])} vectors, expected at least one vector a text")
        return cls(_unit(arrays["known"]), _unit(arrays["lacking"]), frozenset(words), tuple(texts), float(arrays["threshold"]))


@cache
def everyday_actions() -> list[str]:
    return read_lines(Path(__file__).with_name("everyday_actions.txt"))


@cache
def _encoder() -> "TextEncoder":
    from model.text_towers import load_text_encoder

    return load_text_encoder(ENCODER)


def _vectors(texts: Sequence[str]) -> np.ndarray:
    """Unit vectors (N, C) float32 of texts."""
    return _unit(_encoder().pooled(texts))


def _spread(vectors: np.ndarray, most: int) -> list[int]:
    """Rows, at most `most`, that leave none of the unit vectors (N, C) farther from the nearest of them than need be.

    Each row not yet near to a chosen one is chosen, first rows first; how near is found by halving.
    """
    low, high, found = -1.0, 1.0, [0]
    for _ in range(9):
        near = (low + high) / 2
        open_rows, chosen = np.ones(len(vectors), bool), []
        while open_rows.any() and len(chosen) <= most:
            chosen.append(int(open_rows.argmax()))
            open_rows &= vectors @ vectors[chosen[-1]] < near
        if len(chosen) <= most:
            low, found = near, chosen
        else:
            high = near
    return found


def _unit(vectors: np.ndarray) -> np.ndarray:
    vectors = vectors.astype(np.float32)
    return vectors / np.maximum(np.linalg.norm(vectors, axis=-1, keepdims=True), 1e-12)


def _bytes(vectors: np.ndarray) -> np.ndarray:
    """Unit vectors (N, C) as int8, the largest number of each being 127."""
    largest = np.abs(vectors).max(axis=-1, keepdims=True)
    return np.round(vectors * (127 / np.maximum(largest, 1e-12))).astype(np.int8)
