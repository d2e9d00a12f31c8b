"""The four retrieval protocols of TMR (Petrovich et al. 2023, §4.1), over anything that embeds texts and motions.

Each distinct text is embedded once, so that clips of one caption tie to the last bit, as the published ranks suppose.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import numpy as np

from data_loaders.text_similarity import Duplicates, meaning_codes, score_to_cosine
from evaluations import retrieval_metrics
from evaluations.evaluation_set import Evaluator
from evaluations.metrics import euclidean
from evaluations.protocol import Share, alone
from evaluations.retrieval_data import Item
from model.saved_text_features import SavedTextFeatures
from model.text_encoders import TextEncoder
from model.text_towers import at_hand, load_text_encoder
from protos.reading import read_json

DISSIMILAR = 100  # items of a dissimilar subset
PUBLISHED_SUBSETS = Path(__file__).with_name("dissimilar_subsets.json")
# Scores above which sentences say the same: published for mpnet. That of minilm is where the pairs it merges agree best
# with those of mpnet, on 1,860 captions: F1 0.91 among pairs of one meaning, 0.60 among all, which is why words decide too.
THRESHOLDS = {"mpnet": retrieval_metrics.THRESHOLD, "minilm": 0.95}


class Sentences:
    """Which texts count as one another's: by sentence embeddings of unit length, and by words where those decide too."""

    def __init__(
        self, encoder: TextEncoder | SavedTextFeatures, threshold: float | None = None, duplicates: Duplicates = "words",
        name: str = "",
    ):  # fmt: skip
        """threshold: a score of 0..1 (default: that of the encoder). name: of the encoder whose features were saved."""
        self.encoder, self.duplicates, self.name = encoder, duplicates, name or encoder.name
        self.threshold = THRESHOLDS.get(self.name, retrieval_metrics.THRESHOLD) if threshold is None else threshold

    def embed(self, texts: Sequence[str]) -> np.ndarray:
        """(N, C)."""
        return self.encoder.encode(texts).pooled.numpy()

    def alike(self, texts: Sequence[str]) -> np.ndarray:
        """(N, N), True also where two texts are the same."""
        similar = retrieval_metrics.similar_sentences(self.embed(texts), self.threshold)
        if self.duplicates == "words":
            codes = meaning_codes(texts)
            similar &= codes[:, None] == codes[None, :]
        return similar

    def dissimilar(self, texts: Sequence[str], count: int = DISSIMILAR) -> np.ndarray:
        """Indices, rising, of up to `count` texts of which no two are alike: the first, then always the one farthest from all."""
        sentences = self.embed(texts)
        highest = score_to_cosine(self.threshold)
        chosen, nearest = [], np.full(len(texts), -np.inf)  # cosine to the nearest that is chosen
        while len(chosen) < count and nearest.min() <= highest:
            chosen.append(int(nearest.argmin()))
            nearest = np.maximum(nearest, retrieval_metrics.cosine(sentences, sentences[chosen[-1:]])[:, 0])
            nearest[chosen] = np.inf
        return np.sort(chosen)


def default_sentences(threshold: float | None = None, duplicates: Duplicates = "words", encoder: str | None = None) -> Sentences:
    """By MPNet, as published, where its files are on this machine; otherwise by the MiniLM that comes with the program."""
    encoder = encoder or at_hand("mpnet", "minilm")
    return Sentences(load_text_encoder(encoder), threshold, duplicates)


@dataclass(frozen=True)
class Similarities:
    """Items with the similarities of their texts. `text_index` (N,): which of the distinct texts an item has."""

    names: tuple[str, ...]
    texts: tuple[str, ...]
    text_index: np.ndarray
    by_text: np.ndarray  # (distinct texts, N)

    def __len__(self) -> int:
        return len(self.names)

    @cached_property
    def similarity(self) -> np.ndarray:
        """(N, N), texts by motions; rows of one text are equal to the bit."""
        return self.by_text[self.text_index]

    def alike(self, sentences: Sentences) -> np.ndarray:
        """(N, N)."""
        return sentences.alike(self.texts)[np.ix_(self.text_index, self.text_index)]

    def subset(self, chosen: Sequence[int]) -> "Similarities":
        chosen = np.asarray(chosen)
        names = tuple(self.names[i] for i in chosen)
        return replace(self, names=names, text_index=self.text_index[chosen], by_text=self.by_text[:, chosen])


def similarities_of(items: Sequence[Item], judge: Evaluator, share: Share = alone) -> Similarities:
    """Embeds each distinct text and each motion once; `share` hands them to several processes."""
    captions = {}
    for item in items:
        captions.setdefault(item.caption.text, item.caption)
    place = {text: i for i, text in enumerate(captions)}
    text = share(lambda own: list(judge.encode_text(own)), list(captions.values()))
    motion = share(lambda own: list(judge.encode_motion(own)), [item.motion for item in items])
    compare = retrieval_metrics.cosine if judge.similarity == "cosine" else lambda a, b: -euclidean(a, b)
    return Similarities(
        names=tuple(item.name for item in items),
        texts=tuple(captions),
        text_index=np.array([place[item.caption.text] for item in items]),
        by_text=compare(np.stack(text), np.stack(motion)),
    )


@dataclass(frozen=True)
class PublishedSubsets:
    """What the file of dissimilar subsets holds."""

    about: str
    subsets: dict[str, list[str]]


def published_subset(dataset: str | None) -> list[str]:
    """Names of TMR's dissimilar test clips of humanml or kit; none for other data."""
    return read_json(PUBLISHED_SUBSETS, PublishedSubsets).subsets.get(dataset, []) if dataset else []


Figures = dict[str, float]


def dissimilar_subset(found: Similarities, sentences: Sentences, listed: Sequence[str] = ()) -> Similarities:
    """The listed clips that are there; without a list, clips whose texts are as far from one another as can be.

    ValueError where none of the listed is there.
    """
    if listed:
        wanted = set(listed)
        chosen = [i for i, name in enumerate(found.names) if name in wanted]
        if not chosen:
            raise ValueError("none of the clips listed as dissimilar is there")
        return found.subset(chosen)
    first = {int(text): i for i, text in reversed(list(enumerate(found.text_index)))}  # a clip of each text
    used = sorted(first, key=first.__getitem__)
    chosen = sentences.dissimilar([found.texts[text] for text in used])
    return found.subset([first[used[i]] for i in chosen])


def chance_of(protocol: str, found: Similarities, sentences: Callable[[], Sentences], listed: Sequence[str] = ()) -> Figures:
    """What drawing blindly gives by a protocol of `run_protocol`, in either direction."""
    if protocol == "threshold":
        return retrieval_metrics.chance(len(found), found.alike(sentences()))
    if protocol == "nsim":
        return retrieval_metrics.chance(len(dissimilar_subset(found, sentences(), listed)))
    return retrieval_metrics.chance(retrieval_metrics.SMALL_BATCH if protocol == "guo" else len(found))


PAPER_NAMES = {
    "normal": "all", "threshold": "all, near-duplicates count", "nsim": "dissimilar subset", "guo": "small batches",
}  # fmt: skip


def run_protocol(protocol: str, found: Similarities, sentences: Callable[[], Sentences], listed: Sequence[str] = ()) -> Figures:
    """Figures of normal, threshold, nsim or guo (see PAPER_NAMES), rounded as published. ValueError where there are too few."""
    if protocol == "normal":
        return retrieval_metrics.retrieval_metrics(found.similarity)
    if protocol == "threshold":
        return retrieval_metrics.retrieval_metrics(found.similarity, found.alike(sentences()))
    if protocol == "nsim":
        return retrieval_metrics.retrieval_metrics(dissimilar_subset(found, sentences(), listed).similarity)
    if protocol == "guo":
        return retrieval_metrics.small_batch_metrics(found.similarity, found.names)
    raise ValueError(f"protocol {protocol!r}: expected one of {', '.join(PAPER_NAMES)}")
