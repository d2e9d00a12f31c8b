"""BERTScore (Zhang et al. 2020) of captions: by roberta-large as published where it is at hand, else by the embedded MiniLM.

As in the published evaluation tokens weigh by their inverse frequency among the references, and of several references the best
counts. roberta-large's is rescaled by its published baseline; MiniLM has none, so that what unrelated captions reach stands
beside it as a row of its own.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Literal

import numpy as np

from evaluations.language_metrics import References, Tokens, greedy_matching, inverse_frequencies
from model.text_encoders import TextEncoder, sha256_of
from model.text_towers import MINILM_SHA256, TowerSpec, find_folder, load_text_encoder
from protos.reading import FileError

PAIRS_AT_ONCE = 256
ROBERTA = TowerSpec("FacebookAI/roberta-large", 1024, 512, "")
ROBERTA_LAYER = 17  # of 24, whose states agree best with people (bert_score's table)
INSTALL = 'pip install -e ".[caption]", and the files of FacebookAI/roberta-large in checkpoints/official/roberta-large'


@dataclass(frozen=True)
class BertScorer:
    """`f1(captions, references)` is F1 (N,) of N captions by the encoder `name`, whose weights have this `sha256`."""

    name: str
    sha256: str
    f1: Callable[[Sequence[str], References], np.ndarray]

    def __str__(self) -> str:
        return f"{self.name} {self.sha256[:8]}"


def bert_scorer(encoder: Literal["auto", "minilm", "roberta-large"] = "auto") -> BertScorer:
    """auto: roberta-large where it and the package bert_score are on this machine, else MiniLM. FileError where one that is asked
    for is not."""
    if encoder != "minilm":
        folder = roberta_folder()
        if folder is not None and find_spec("bert_score"):
            weights = next(folder / name for name in ROBERTA.weights if (folder / name).is_file())
            return BertScorer("roberta-large", sha256_of(weights), partial(published_f1, folder))
        if encoder == "roberta-large":
            raise FileError(f"BERTScore by roberta-large needs {INSTALL}")
    return BertScorer("MiniLM", MINILM_SHA256, partial(token_f1, load_text_encoder("minilm")))


def roberta_folder() -> Path | None:
    """Where roberta-large lies on this machine."""
    try:
        return find_folder("roberta-large", ROBERTA)
    except FileError:
        return None


def token_f1(encoder: TextEncoder, captions: Sequence[str], references: References) -> np.ndarray:
    """F1 (N,) by the token states of an encoder, in float64."""
    every = [text for texts in references for text in texts]
    known, unknown = inverse_frequencies(ids for start in range(0, len(every), PAIRS_AT_ONCE)
                                         for ids in _ids(encoder, every[start : start + PAIRS_AT_ONCE]))  # fmt: skip

    def tokens(texts: Sequence[str]) -> Tokens:
        features = encoder.encode(texts)
        mask = features.mask.numpy()
        weights = np.array([[known.get(token, unknown) for token in row] for row in features.ids.tolist()]) * mask
        # marks of start and end are in every text and weigh nothing; where nothing else does, all words weigh the same
        even = mask & (np.arange(mask.shape[1]) > 0) & (np.arange(mask.shape[1]) < mask.sum(1, keepdims=True) - 1)
        weights = np.where(weights.any(1, keepdims=True), weights, even)
        return Tokens(features.tokens.double().numpy(), mask, weights)

    pairs = [(text, other) for text, others in zip(captions, references, strict=True) for other in others]
    owner = np.repeat(np.arange(len(captions)), [len(others) for others in references])
    best = np.full(len(captions), -np.inf)
    for start in range(0, len(pairs), PAIRS_AT_ONCE):
        texts, others = zip(*pairs[start : start + PAIRS_AT_ONCE])
        np.maximum.at(best, owner[start : start + PAIRS_AT_ONCE], greedy_matching(tokens(texts), tokens(others)).f1)
    return best


def _ids(encoder: TextEncoder, texts: Sequence[str]) -> list[list[int]]:
    features = encoder.encode(texts)
    return [row[:length] for row, length in zip(features.ids.tolist(), features.lengths.tolist())]


def published_f1(folder: Path, captions: Sequence[str], references: References, layer: int = ROBERTA_LAYER) -> np.ndarray:
    """F1 (N,) by the package bert_score, rescaled by its baseline of English, weighed by frequency in the references."""
    import bert_score

    baseline = Path(bert_score.__file__).parent / "rescale_baseline" / "en" / "roberta-large.tsv"
    every = [text for texts in references for text in texts]
    scorer = bert_score.BERTScorer(str(folder), layer, lang="en", idf=True, idf_sents=every, rescale_with_baseline=True,
                                   baseline_path=str(baseline))  # fmt: skip
    return scorer.score(list(captions), [list(texts) for texts in references])[2].double().numpy()
