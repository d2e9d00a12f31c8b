"""Captions of motion: whose there are, what they are compared with, and how far they are right.

Reference captions count in two forms, of which each row says its own, since one model scores very differently beside them: `raw`,
as people wrote them, and `tokens`, the words of their word/POS tokens, nouns and verbs by their dictionary form (TM2T); captions
are then brought into that form too.
"""

import logging
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from data_loaders.corpus import Corpus
from data_loaders.humanml import UNIT_LENGTH
from data_loaders.text import Caption, Tagger, TaggerName
from evaluations import language_metrics, metrics
from evaluations.bert_score import BertScorer, bert_scorer
from evaluations.caption_words import Named, Shown
from evaluations.evaluation_set import EvaluationSet, embed_motion, embed_text
from model.capabilities import CAPTIONING, Captioning, Describes
from model.embedding import TextMotionSpace
from protos.files import shown
from protos.randomness import derive_seed
from protos.reading import FileError, read_json, read_lines

log = logging.getLogger(__name__)
RAW, TOKENS = FORMS = ("raw", "tokens")
PEOPLE, FREQUENT, SHUFFLED = "people", "most frequent caption of the training split", "people, of other motions"
RESAMPLES = 1000  # of the motions, for the intervals of metrics of language
LANGUAGE = ("BLEU@1", "BLEU@4", "ROUGE-L", "CIDEr", "BERTScore")
Metrics = dict[str, metrics.Interval]


@dataclass(frozen=True)
class Captions:
    """A caption of each of a set's motions `chosen` (M,), and the references that it is compared with."""

    name: str
    chosen: np.ndarray
    texts: list[str]
    references: list[list[Caption]]


# ----------------------------------------------------------------------------------------------------------------- whose captions


def described(model: Describes, motions: Sequence[np.ndarray], decoding: Captioning = CAPTIONING) -> list[str]:
    """The model's caption of each of the motions [(T, D)], in feature units. ValueError where it gives anything else."""
    made: list[str] = []
    with tqdm(total=len(motions), desc="describing", unit="motion", leave=False, disable=None) as bar:
        for start in range(0, len(motions), decoding.batch_size):
            part = motions[start : start + decoding.batch_size]
            texts = model.describe(part, decoding)
            if len(texts) != len(part) or not all(isinstance(text, str) for text in texts):
                raise ValueError(f"the model gave {len(texts)} captions for {len(part)} motions: expected a text for each")
            made += (text.strip() for text in texts)
            bar.update(len(part))
    if empty := made.count(""):
        log.warning("%d of %d captions are empty", empty, len(made))
    return made


def motion_bertscore(
    model: Describes, motions: Sequence[np.ndarray], prompts: Sequence[str], scorer: BertScorer | None = None,
    decoding: Captioning = CAPTIONING,
) -> np.ndarray:  # fmt: skip
    """How well motions [(T, D)] made for prompts show them (N,): BERTScore of what a model sees in each and its prompt.

    LaMP-BertScore (Li et al. 2025, §4) where the model is LaMP-M2T; `scorer` by default that of `bert_scorer`.
    """
    scorer = scorer or bert_scorer()
    return scorer.f1(described(model, motions, decoding), [[prompt] for prompt in prompts])


def caption_set(data: EvaluationSet, most: int | None, seed: int) -> EvaluationSet:
    """At most so many motions, drawn at random, in the order of the set."""
    if most is None or most >= len(data):
        return data
    drawn = np.random.default_rng(derive_seed(seed, "motions")).permutation(len(data))[:most]
    return EvaluationSet([data.entries[i] for i in sorted(drawn)], data.features, data.cropped)


def whole_motions(data: EvaluationSet) -> list[np.ndarray]:
    """All whole units (T, D) of every motion."""
    return [data.motion(i, 0, int(frames) // UNIT_LENGTH * UNIT_LENGTH) for i, frames in enumerate(data.lengths)]


def of_all(name: str, texts: list[str], data: EvaluationSet) -> Captions:
    """A caption of every motion, beside all of its references."""
    return Captions(name, np.arange(len(data)), texts, [list(entry.captions) for entry in data.entries])


def people(data: EvaluationSet, seed: int) -> list[Captions]:
    """What people say: of each motion one of its captions, beside the others that it has; and the same of other motions.

    The latter are dealt out so that none comes back to its own motion, where there are two.
    """
    rng = np.random.default_rng(derive_seed(seed, "people"))
    held = rng.integers(data.num_captions)
    texts = [entry.captions[k].text for entry, k in zip(data.entries, held)]
    others = [[each for i, each in enumerate(entry.captions) if i != k] for entry, k in zip(data.entries, held)]
    order = rng.permutation(len(data))
    dealt = dict(zip(order.tolist(), np.roll(order, 1).tolist()))
    return [Captions(PEOPLE, np.arange(len(data)), texts, others),
            of_all(SHUFFLED, [texts[dealt[i]] for i in range(len(data))], data)]  # fmt: skip


def most_frequent(corpus: Corpus, data: EvaluationSet) -> list[Captions]:
    """For every motion the caption that most clips of the training split have; nothing where there is no such split."""
    try:
        clips = corpus.captioned("train").values()
    except FileNotFoundError:
        return []
    often = Counter(caption.text for captions in clips for caption in captions)
    return [of_all(FREQUENT, [often.most_common(1)[0][0]] * len(data), data)] if often else []


def given(path: Path, data: EvaluationSet) -> Captions:
    """Captions by the names of motions, of a JSON object or of lines NAME, a tab, caption.

    FileError for an empty one, for a name that the set has not, and where none is given.
    """
    texts = read_json(path, dict[str, str]) if path.suffix.lower() == ".json" else dict(_lines(path))
    place = {entry.name: i for i, entry in enumerate(data.entries)}
    for name, text in texts.items():
        if not text.strip():
            raise FileError(f"{path}: the caption of {shown(name)} is empty")
        if name not in place:
            raise FileError(f"{path}: {shown(name)} is none of the {len(data)} motions that are judged, of which the first is "
                            f"{shown(data.entries[0].name)}")  # fmt: skip
    if not texts:
        raise FileError(f"{path}: no caption, expected them by the names of motions")
    if len(texts) < len(data):
        log.warning("%s: %d of %d motions have a caption; its row is about these", path, len(texts), len(data))
    chosen = np.array(sorted(place[name] for name in texts))
    entries = [data.entries[i] for i in chosen]
    return Captions(path.name, chosen, [texts[each.name].strip() for each in entries], [list(each.captions) for each in entries])


def _lines(path: Path) -> Iterable[tuple[str, str]]:
    known: set[str] = set()
    for number, line in enumerate(read_lines(path), start=1):
        name, tab, text = line.partition("\t")
        if not line.strip():
            continue
        if not tab:
            raise FileError(f"{path}, line {number}: no tab, expected NAME, a tab and its caption")
        if name in known:
            raise FileError(f"{path}, line {number}: a second caption of {shown(name)}")
        known.add(name)
        yield name, text


# ------------------------------------------------------------------------------------------------------------- how right they are


class Wordings:
    """Texts in the two forms; `tagger` tells the tokens of those that do not come with any."""

    def __init__(self, captions: Iterable[Caption], tagger: TaggerName = ""):
        self.known = {caption.text: caption.tokens for caption in captions if caption.tokens}
        self.tagger = tagger

    def of(self, texts: Sequence[str], form: str) -> list[str]:
        """In their order."""
        if form == RAW:
            return list(texts)
        if new := [text for text in dict.fromkeys(texts) if text not in self.known]:
            self.known.update(zip(new, map(tuple, Tagger(self.tagger).tag_all(new))))
        return [" ".join(token.rpartition("/")[0] for token in self.known[text]) for text in texts]


@dataclass(frozen=True)
class Judged:
    """What is known of a row: metrics of language by the form of references, for the `motions` that have some; of an evaluator,
    and of named words, for all `captions`."""

    captions: int
    motions: int
    language: dict[str, Metrics]
    evaluator: Metrics = field(default_factory=dict)
    named: Named | None = None

    def facts(self) -> dict[str, Any]:
        """For programs."""
        named = self.named._asdict() if self.named else {}
        return {**vars(self), "named": {what: share._asdict() for what, share in named.items() if share}}


def language_figures(texts: Sequence[str], references: language_metrics.References, scorer: BertScorer, seed: int) -> Metrics:
    """LANGUAGE of N captions, times 100, with 95 % intervals by drawing the motions anew RESAMPLES times (bootstrap)."""
    count = len(texts)
    drawn = np.random.default_rng(derive_seed(seed, "bootstrap")).multinomial(count, [1 / count] * count, RESAMPLES)
    counts = language_metrics.bleu_counts(texts, references)
    each = {"ROUGE-L": language_metrics.rouge_l(texts, references), "CIDEr": language_metrics.cider(texts, references),
            "BERTScore": scorer.f1(texts, references)}  # fmt: skip

    def interval(of: Callable[[np.ndarray], np.ndarray]) -> metrics.Interval:
        return metrics.Interval(100 * float(of(np.ones((1, count), np.int64))[0]), 100 * 1.96 * float(of(drawn).std()))

    def bleu(order: int) -> Callable[[np.ndarray], np.ndarray]:
        return lambda often: language_metrics.bleu(counts.summed(often), order).score

    return {
        **{f"BLEU@{order}": interval(bleu(order)) for order in (1, 4)},
        **{name: interval(lambda often, values=values: often @ values / count) for name, values in each.items()},
    }


def evaluator_figures(
    judge: TextMotionSpace, texts: Sequence[str], motion: np.ndarray, replications: int, seed: int
) -> Metrics:
    """R-precision and MM-Dist of captions of embedded motions (N, C), in pools drawn anew in every replication; nothing for fewer
    motions than a pool."""
    pools = len(motion) // metrics.POOL * metrics.POOL
    if not pools:
        return {}
    distinct, place = np.unique(texts, return_inverse=True)
    text = embed_text(judge, [Caption(str(each)) for each in distinct])[place]
    rows = []
    for number in range(replications):
        order = np.random.default_rng(derive_seed(seed, "replication", number)).permutation(len(motion))[:pools]
        shares = metrics.r_precision(text[order], motion[order])
        rows.append({**{f"R@{k}": share for k, share in zip(metrics.TOP_K, shares)},
                     "MM-Dist": metrics.matching_score(text[order], motion[order])})  # fmt: skip
    return {name: metrics.mean_interval([row[name] for row in rows]) for name in rows[0]}


class CaptionEvaluation:
    """What captions of a set are judged by: references in two forms and BERTScore; an evaluator and words of the dataset, where
    there are such."""

    def __init__(
        self, data: EvaluationSet, scorer: BertScorer, tagger: TaggerName = "", judge: TextMotionSpace | None = None,
        shown: Shown | None = None, replications: int = metrics.REPLICATIONS, seed: int = 10,
    ):  # fmt: skip
        """tagger: whose the tokens of the captions are. Raises FeaturesMismatch where judge and set differ."""
        if judge is not None:
            judge.require(data.features, "the motions")
        self.data, self.scorer, self.judge, self.shown = data, scorer, judge, shown
        self.replications, self.seed = replications, seed
        self.wordings = Wordings((caption for entry in data.entries for caption in entry.captions), tagger)
        self.motion = None if judge is None else embed_motion(judge, whole_motions(data))  # (N, C)

    def judged(self, row: Captions) -> Judged:
        """All there is to know about a row."""
        compared = [i for i, references in enumerate(row.references) if references]
        language = {}
        for form in FORMS if compared else ():
            texts = self.wordings.of([row.texts[i] for i in compared], form)
            references = [self.wordings.of([caption.text for caption in row.references[i]], form) for i in compared]
            language[form] = language_figures(texts, references, self.scorer, self.seed)
        evaluator = {}
        if self.judge is not None:
            evaluator = evaluator_figures(self.judge, row.texts, self.motion[row.chosen], self.replications, self.seed)
        names = [self.data.entries[i].clip for i in row.chosen]
        named = self.shown.named(names, row.texts) if self.shown else None
        return Judged(len(row.texts), len(compared), language, evaluator, named)
