"""The four retrieval protocols of TMR (Petrovich et al. 2023, §4.1), over anything that embeds texts and motions, and a report.

Each distinct text is embedded once, so that clips of one caption tie to the last bit, as the published ranks suppose.
"""

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import numpy as np

from data_loaders.clips import LeftOut, mirrored_twins
from data_loaders.corpus import Corpus
from data_loaders.humanml import CaptionedMotion
from data_loaders.text import Caption
from data_loaders.text_similarity import Duplicates, duplicates_rule, meaning_codes, score_to_cosine
from evaluations import retrieval_metrics
from evaluations.metrics import euclidean
from evaluations.protocol import Share, alone
from evaluations.report import Report, checkpoint_stamp, command_line
from model.embedding import TextMotionSpace
from model.text_encoders import SENTENCES, TextEncoder
from model.text_towers import at_hand, load_text_encoder, saved_beside
from protos.reading import read_json, read_names

log = logging.getLogger(__name__)

DISSIMILAR = 100  # items of a dissimilar subset
PUBLISHED_SUBSETS = Path(__file__).with_name("dissimilar_subsets.json")
# Scores above which sentences say the same: published for mpnet. That of minilm is where the pairs it merges agree best
# with those of mpnet, on 1,860 captions: F1 0.91 among pairs of one meaning, 0.60 among all, which is why words decide too.
THRESHOLDS = {"mpnet": retrieval_metrics.THRESHOLD, "minilm": 0.95}
COLUMNS = (*(f"R{k:02d}" for k in retrieval_metrics.TOP_K), "MedR")
HEADINGS = (*(f"R@{k} ↑" for k in retrieval_metrics.TOP_K), "MedR ↓")
WAYS = {"t2m": "text → motion", "m2t": "motion → text"}
Figures = dict[str, float]


def captioned_motions(
    data: Corpus, split: str, frame_limits: tuple[int, int], fold_mirrored: bool = False
) -> tuple[list[CaptionedMotion], LeftOut]:
    """Each clip of a split with its first caption, or the part of it that this describes, in the order of the list; and what was
    left out and why.

    Clips beyond the longest are cut. fold_mirrored: without mirrored clips (M000123) whose original (000123) is there.
    ValueError where nothing is left.
    """
    left_out, found, kept = LeftOut(), [], []
    captioned = {data.names[clip]: (clip, captions) for clip, captions in data.captioned(split).items()}
    for name in data.listed(split):
        if name not in captioned:
            left_out.add(name, "missing: no annotation of a fitting length" if data.of_files else "missing")
            continue
        clip, captions = captioned[name]
        if not captions:
            left_out.add(name, "without caption")
            continue
        try:
            motion = data.cut(clip, captions[0])
        except (ValueError, OSError) as error:
            left_out.add(name, f"unreadable: {error}")
            continue
        if np.isfinite(motion).all():
            found.append(CaptionedMotion(name, motion[: frame_limits[1]], (captions[0],)))
        else:
            left_out.add(name, "with NaN")
    folded = mirrored_twins([each.name for each in found], data.labels_of) if fold_mirrored else set()
    for each in found:
        if each.name in folded:
            left_out.add(each.name, "mirrored")
        elif len(each.motion) < frame_limits[0]:
            left_out.add(each.name, f"too short: {len(each.motion)} frames, {frame_limits[0]} needed")
        else:
            kept.append(each)
    if not kept:
        raise ValueError(f"{data.folder}: no clip of split {split} can be used: {left_out}")
    return kept, left_out


class Sentences:
    """Which texts count as one another's: by sentence embeddings of unit length, and by words where those decide too."""

    def __init__(self, encoder: TextEncoder, threshold: float | None = None, duplicates: Duplicates = "words"):
        """threshold: a score of 0..1 (default: that of the encoder)."""
        self.encoder, self.duplicates, self.name = encoder, duplicates, encoder.name
        self.threshold = THRESHOLDS.get(self.name, retrieval_metrics.THRESHOLD) if threshold is None else threshold

    def embed(self, texts: Sequence[str]) -> np.ndarray:
        """(N, C)."""
        return self.encoder.pooled(texts)

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


def sentences_for(
    data: Corpus, encoder: str | None, threshold: float | None, duplicates: Literal["auto", "words", "published"]
) -> Sentences:
    """How texts of a dataset are compared: by its own embeddings of mpnet where it holds some, else by the encoder.

    That is mpnet, as published, where its files are on this machine, else the minilm that comes with the program.
    """
    saved = saved_beside(data.folder, SENTENCES, "mpnet") if encoder != "minilm" else None
    found = Sentences(saved or load_text_encoder(encoder or at_hand("mpnet", "minilm")), threshold)
    published = data.published is not None
    if published and found.name != "mpnet":
        log.warning("sentences are compared by %s, not by mpnet: the threshold protocol is not that of the published tables "
                    "(python -m protos.fetch mpnet)", found.name)
    found.duplicates = duplicates_rule(duplicates, published, found.name)
    return found


@dataclass(frozen=True)
class Similarities:
    """Motions with the similarities of their texts. `text_index` (N,): which of the distinct texts a motion has."""

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


def similarities_of(motions: Sequence[CaptionedMotion], judge: TextMotionSpace, share: Share = alone) -> Similarities:
    """Embeds each distinct text and each motion once; `share` hands them to several processes."""
    captions = [each.captions[0] for each in motions]
    distinct: dict[str, Caption] = {}
    for caption in captions:
        distinct.setdefault(caption.text, caption)
    place = {text: i for i, text in enumerate(distinct)}
    text = share(lambda own: list(judge.encode_text(own)), list(distinct.values()))
    motion = share(lambda own: list(judge.encode_motion(own)), [each.motion for each in motions])
    compare = retrieval_metrics.cosine if judge.similarity == "cosine" else lambda a, b: -euclidean(a, b)
    return Similarities(tuple(each.name for each in motions), tuple(distinct), np.array([place[each.text] for each in captions]),
                        compare(np.stack(text), np.stack(motion)))  # fmt: skip


PAPER_NAMES = {
    "normal": "all", "threshold": "all, near-duplicates count", "nsim": "dissimilar subset", "guo": "small batches",
}  # fmt: skip


def protocols_of(wanted: str, count: int) -> list[str]:
    """Names in PAPER_NAMES. All of them: those that so many clips allow, with a word on the other."""
    if wanted != "all":
        return [wanted]
    if count >= retrieval_metrics.SMALL_BATCH:
        return list(PAPER_NAMES)
    log.warning("no small batches: they need at least %d motions, there are %d", retrieval_metrics.SMALL_BATCH, count)
    return [name for name in PAPER_NAMES if name != "guo"]


def run_protocol(
    protocol: str, found: Similarities, sentences: Callable[[], Sentences], listed: Sequence[str] = ()
) -> tuple[Figures, Figures]:
    """Figures of normal, threshold, nsim or guo (see PAPER_NAMES), rounded as published, and in one direction those of drawing
    blindly. listed: names of a dissimilar subset. ValueError where there are too few."""
    alike = found.alike(sentences()) if protocol == "threshold" else None
    similarity = found.similarity
    if protocol == "nsim":
        similarity = dissimilar_subset(found, sentences(), listed).similarity
    elif protocol == "guo":
        batches = retrieval_metrics.small_batches(found.names)
        similarity = similarity[batches[:, :, None], batches[:, None, :]]
    return retrieval_metrics.retrieval_metrics(similarity, alike), retrieval_metrics.chance(similarity.shape[-1], alike)


def dissimilar_subset(found: Similarities, sentences: Sentences, listed: Sequence[str] = ()) -> Similarities:
    """The listed clips that are there; without a list, clips whose texts are as far from one another as can be.

    ValueError where none of the listed is there.
    """
    if listed:
        chosen = [i for i, name in enumerate(found.names) if name in set(listed)]
        if not chosen:
            raise ValueError("none of the clips listed as dissimilar is there")
        return found.subset(chosen)
    used, first = np.unique(found.text_index, return_index=True)  # a clip of each text
    used, first = used[np.argsort(first)], np.sort(first)
    return found.subset(first[sentences.dissimilar([found.texts[text] for text in used])])


def subset_list(data: Corpus, split: str) -> list[str]:
    """Names of a dissimilar subset: nsim_<split>.txt of the dataset, or TMR's of the test clips of humanml and kit; else none."""
    for folder in (data.folder, data.folder / "splits"):
        if (path := folder / f"nsim_{split}.txt").is_file():
            return read_names(path)
    return read_json(PUBLISHED_SUBSETS)["subsets"].get(data.published, []) if split == "test" else []


def latex_row(figures: Figures) -> str:
    """A row as TMR prints it: recalls and median rank, first of text to motion."""
    return " ".join(f"& {figures[f'{way}/{name}']:.2f}" for way in retrieval_metrics.DIRECTIONS for name in COLUMNS) + r" \\"


def yaml_text(figures: Figures) -> str:
    """Figures in the form of TMR's files."""
    return "".join(f"{name}: {value}\n" for name, value in figures.items())


def yaml_name(protocol: str, threshold: float = retrieval_metrics.THRESHOLD) -> str:
    return f"threshold_{threshold:g}.yaml" if protocol == "threshold" else f"{protocol}.yaml"


def retrieval_report(
    gallery: Similarities, protocols: Sequence[str], sentences: Callable[[], Sentences], data: Corpus,
    measured: dict[str, Any],
) -> Report:  # fmt: skip
    """The figures of protocols and those of chance. measured: what a reader is to know of the model and the clips of `data`.

    The report has rows for LaTeX, a YAML file per protocol, and ranks.csv with a line per clip.
    """
    listed = subset_list(data, measured["split"])
    both = {name: run_protocol(name, gallery, sentences, listed) for name in protocols}
    figures, chance = ({name: each[i] for name, each in both.items()} for i in (0, 1))
    compared = sentences() if {"threshold", "nsim"} & set(protocols) else None
    facts = {
        **measured, "command": command_line("evaluations.eval_retrieval"), "motions": len(gallery), "texts": len(gallery.texts),
        "sentences": compared and {"encoder": compared.name, "threshold": compared.threshold, "duplicates": compared.duplicates},
        "protocols": figures, "chance": chance,
        "made_from": {"dataset": data.stamp, "model": checkpoint_stamp(measured["what"])},
    }  # fmt: skip
    rows = []
    for name, each in figures.items():
        lines = {label: [each[f"{way}/{c}"] for c in COLUMNS] for way, label in WAYS.items()}
        lines["chance"] = [chance[name][c] for c in COLUMNS]
        rows += [[PAPER_NAMES[name], way, f"{each['t2m/len']:.0f}", *(f"{x:.2f}" for x in line)] for way, line in lines.items()]
    how = "cosine" if measured["similarity"] == "cosine" else "Euclidean distance"
    notes = [f"Compared by {how}; equal places are averaged."]
    if compared:
        rule = ("and only where sides, directions and words of content agree" if compared.duplicates == "words"
                else "as published")  # fmt: skip
        notes.append(f"Texts say the same above a score of {compared.threshold:g} by {compared.name}, {rule}.")
    if measured["fold_mirrored"]:
        notes.append("Mirrored clips whose original is in the split are left out.")
    threshold = compared.threshold if compared else retrieval_metrics.THRESHOLD
    places = [retrieval_metrics.ranks(matrix) + 1 for matrix in (gallery.similarity, gallery.similarity.T)]
    ranks = [[clip, gallery.texts[text], *(f"{place:g}" for place in both)]
             for clip, text, *both in zip(gallery.names, gallery.text_index, *places)]  # fmt: skip
    return Report(
        f"Retrieval: {measured['what']} on {measured['dataset']} ({measured['split']}, {len(gallery)} motions, "
        f"{len(gallery.texts)} distinct texts)",
        facts, ["protocol", "", "N", *HEADINGS], rows, notes,
        appendix="\n".join(["```latex", *(latex_row(each) for each in figures.values()), "```"]),
        texts={yaml_name(name, threshold): yaml_text(each) for name, each in figures.items()},
        lists={"ranks.csv": (["clip", "caption", "place of its motion", "place of its text"], ranks)},
    )  # fmt: skip
