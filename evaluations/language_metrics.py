"""Metrics of captions beside reference captions, as the field computes them: BLEU, ROUGE-L, CIDEr, BERTScore's greedy matching.

Pure functions of texts and arrays. `predictions` are N texts, `references` for each of them one or several. All scores are shares
of 1 but CIDEr's, which goes to 10; tables of captioning show them times 100, CIDEr times 100 as well.
"""

import math
import re
import string
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Literal, NamedTuple

import numpy as np

ORDERS = 4  # n-grams of one to four words
SIGMA = 6.0  # of CIDEr's penalty for another length
_BLANKS = str.maketrans({character: " " for character in string.punctuation})
Words = Callable[[str], list[str]]
References = Sequence[Sequence[str]]


def bleu_words(text: str) -> list[str]:
    """Lower case, every ASCII punctuation character a blank, split on blanks."""
    return text.translate(_BLANKS).lower().split()


def rouge_words(text: str) -> list[str]:
    """Lower case, runs of a-z and 0-9 (rouge_score without its stemmer)."""
    return re.findall("[a-z0-9]+", text.lower())


def ngrams(words: Sequence[str], order: int) -> Counter[tuple[str, ...]]:
    """How often each run of `order` words occurs."""
    return Counter(zip(*(words[i:] for i in range(order))))


def _checked(predictions: Sequence[str], references: References) -> None:
    if len(predictions) != len(references) or not len(predictions):
        raise ValueError(f"{len(predictions)} captions for {len(references)} sets of references: expected a set for each, and "
                         "at least one")  # fmt: skip
    if not all(len(each) and not isinstance(each, str) for each in references):
        raise ValueError("references are a list of texts for each caption, of one or more")


# ------------------------------------------------------------------------------------------------------------------------- BLEU


class BleuCounts(NamedTuple):
    """What BLEU sums over a corpus, of each caption: n-grams that a reference has too, and all of them, (..., orders); words of
    the caption, and of its shortest reference (...)."""

    matches: np.ndarray
    possible: np.ndarray
    length: np.ndarray
    reference_length: np.ndarray

    def summed(self, often: np.ndarray) -> "BleuCounts":
        """Of corpora (..., N) that have each of the N captions so often."""
        return BleuCounts(*(often @ column for column in self))


class Bleu(NamedTuple):
    """The score (...) with what it is made of: precisions (..., orders), brevity penalty, lengths and their ratio (...)."""

    score: np.ndarray
    precisions: np.ndarray
    brevity_penalty: np.ndarray
    length_ratio: np.ndarray
    translation_length: np.ndarray
    reference_length: np.ndarray


def bleu_counts(predictions: Sequence[str], references: References, words: Words = bleu_words) -> BleuCounts:
    """Of N captions, (N, 4) and (N,). An n-gram matches as often as the reference that has it most (Papineni et al. 2002)."""
    _checked(predictions, references)
    rows = []
    for text, others in zip(predictions, references):
        own, known = words(text), [words(other) for other in others]
        matches, possible = [], []
        for order in range(1, ORDERS + 1):
            most: Counter[tuple[str, ...]] = Counter()
            for other in known:
                most |= ngrams(other, order)
            matches.append((ngrams(own, order) & most).total())
            possible.append(max(len(own) - order + 1, 0))
        rows.append((matches, possible, len(own), min(map(len, known))))
    return BleuCounts(*(np.array(column, np.int64) for column in zip(*rows)))


def bleu(counts: BleuCounts, max_order: int = ORDERS) -> Bleu:
    """BLEU of corpora: counts are sums over each, (..., 4) and (...).

    Geometric mean of the precisions of 1 to `max_order` words, 0 where one is 0 (no smoothing), times exp(1 - 1/ratio) for a
    corpus shorter than its shortest references.
    """
    if not 1 <= max_order <= ORDERS:
        raise ValueError(f"BLEU@{max_order}: n-grams of up to {ORDERS} words are counted")
    matches, possible = (each[..., :max_order].astype(np.float64) for each in counts[:2])
    length, reference_length = (each.astype(np.float64) for each in counts[2:])
    precisions = np.divide(matches, possible, out=np.zeros_like(matches), where=possible > 0)
    brevity = np.minimum(1.0, np.exp(1 - reference_length / np.maximum(length, 1e-9)))
    with np.errstate(divide="ignore", invalid="ignore"):
        score = brevity * np.exp(np.log(precisions).mean(-1))
        return Bleu(score, precisions, brevity, length / reference_length, counts.length, counts.reference_length)


def corpus_bleu(
    predictions: Sequence[str], references: References, max_order: int = ORDERS, words: Words = bleu_words
) -> Bleu:
    """BLEU of all captions as one corpus."""
    return bleu(bleu_counts(predictions, references, words).summed(np.ones(len(predictions), np.int64)), max_order)


# ---------------------------------------------------------------------------------------------------------------------- ROUGE-L


def longest_common(a: Sequence[str], b: Sequence[str]) -> int:
    """Length of the longest common subsequence; a row of its table is the bits of one number (Hyyrö 2004)."""
    places: dict[str, int] = {}
    for i, word in enumerate(a):
        places[word] = places.get(word, 0) | 1 << i
    whole = row = (1 << len(a)) - 1
    for word in b:
        found = row & places.get(word, 0)
        row = (row + found | row - found) & whole
    return len(a) - row.bit_count()


def rouge_l(
    predictions: Sequence[str], references: References, over: Literal["max", "mean", "first"] = "max", words: Words = rouge_words
) -> np.ndarray:
    """F1 (N,) of the longest common subsequence of words, over a caption's references (Lin 2004). A corpus' is the mean."""
    _checked(predictions, references)
    rows = []
    for text, others in zip(predictions, references):
        own, known = words(text), [words(other) for other in (others[:1] if over == "first" else others)]
        shared = [2 * longest_common(own, other) / max(len(own) + len(other), 1) for other in known]
        rows.append(max(shared) if over == "max" else sum(shared) / len(shared))
    return np.array(rows)


# ------------------------------------------------------------------------------------------------------------------------- CIDEr


class _Weighted(NamedTuple):
    """TF-IDF weights of the n-grams of a text, by order, their lengths, and the number of bigrams."""

    weights: list[dict[tuple[str, ...], float]]
    norms: list[float]
    bigrams: int


def cider(predictions: Sequence[str], references: References, words: Words = str.split) -> np.ndarray:
    """CIDEr-D (N,) of each caption, 0 to 10 (Vedantam et al. 2015, Eq. 4-6). A corpus' is the mean.

    A document is the references of one caption. As published, texts are only split on blanks, so that case and dots count
    (`bleu_words` cleans them), the penalty for another length counts bigrams, and for a single caption log N is 1.
    """
    _checked(predictions, references)
    known = [[words(text) for text in others] for others in references]
    documents: Counter[tuple[str, ...]] = Counter()
    for others in known:
        documents.update({gram for text in others for order in range(1, ORDERS + 1) for gram in ngrams(text, order)})
    log_count = math.log(len(known)) if len(known) > 1 else 1.0

    def weighted(text: Sequence[str]) -> _Weighted:
        counted = (ngrams(text, order).items() for order in range(1, ORDERS + 1))
        weights = [{gram: often * (log_count - math.log(max(1, documents[gram]))) for gram, often in each} for each in counted]
        return _Weighted(weights, [sum(x * x for x in each.values()) ** 0.5 for each in weights], max(len(text) - 1, 0))

    scores = []
    for text, others in zip(predictions, known):
        own = weighted(words(text))
        scores.append(10 * sum(_likeness(own, weighted(other)) for other in others) / len(others))
    return np.array(scores)


def _likeness(own: _Weighted, other: _Weighted) -> float:
    """Mean over the orders of the cosine of weights, none of the text's above those of the reference, times the penalty."""
    total = 0.0
    for a, b, norm_a, norm_b in zip(own.weights, other.weights, own.norms, other.norms):
        if norm_a and norm_b:
            total += sum(min(weight, b[gram]) * b[gram] for gram, weight in a.items() if gram in b) / (norm_a * norm_b)
    return total / ORDERS * math.exp(-((own.bigrams - other.bigrams) ** 2) / (2 * SIGMA**2))


# ---------------------------------------------------------------------------------------------------------------------- BERTScore


class Tokens(NamedTuple):
    """Token states (B, L, C) of texts with mask (B, L), True at real tokens, and weights (B, L), 0 where one does not count."""

    states: np.ndarray
    mask: np.ndarray
    weights: np.ndarray


class Matching(NamedTuple):
    """Precision, recall and F1 (B,)."""

    precision: np.ndarray
    recall: np.ndarray
    f1: np.ndarray


def greedy_matching(texts: Tokens, references: Tokens) -> Matching:
    """BERTScore of B texts and references (Zhang et al. 2020, §3): every token meets the most similar one of the other side.

    Similarity is cosine, 0 at padding; a side is the mean of its tokens by their weights, 0 where none counts.
    """
    own, other = (_unit(each.states) for each in (texts, references))
    alike = own @ other.swapaxes(1, 2) * texts.mask[:, :, None] * references.mask[:, None, :]
    precision, recall = _mean(alike.max(2), texts.weights), _mean(alike.max(1), references.weights)
    both = precision + recall
    return Matching(precision, recall, np.divide(2 * precision * recall, both, out=np.zeros_like(both), where=both != 0))


def _unit(states: np.ndarray) -> np.ndarray:
    norms = np.linalg.norm(states, axis=-1, keepdims=True)
    return np.divide(states, norms, out=np.zeros_like(states), where=norms > 0)


def _mean(values: np.ndarray, weights: np.ndarray) -> np.ndarray:
    total = weights.sum(1)
    return np.divide((values * weights).sum(1), total, out=np.zeros_like(total), where=total > 0)


def inverse_frequencies(documents: Iterable[Iterable[int]]) -> tuple[Mapping[int, float], float]:
    """log((M + 1) / (df + 1)) of every token that occurs in M documents of ids, and that of one which occurs in none."""
    documents = [set(each) for each in documents]
    often = Counter(token for each in documents for token in each)
    count = len(documents) + 1
    return {token: math.log(count / (df + 1)) for token, df in often.items()}, math.log(count)
