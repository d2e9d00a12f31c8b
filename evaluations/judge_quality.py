"""How far an evaluator can be trusted: whether it finds real motions by their own captions and by wordings it never read."""

import numpy as np

from data_loaders.corpus import Corpus
from data_loaders.humanml import UNIT_LENGTH
from data_loaders.text import Caption
from evaluations import metrics
from evaluations.evaluation_set import EvaluationSet, SetEmbeddings, embed_motion, embed_text, real_set
from evaluations.probes import Probes, contents_of, probes_found
from model.embedding import TextMotionSpace
from protos.randomness import derive_seed

Rates = dict[str, tuple[float, float]]  # {metric: (of the evaluator, by chance)}


def judge_evaluator(judge: TextMotionSpace, corpus: Corpus, split: str = "test", replications: int = 20, seed: int = 10) -> Rates:
    """Means over the replications, each one pass over the split. ValueError where the clips have no content label."""
    data, probes, content = real_set(corpus, split), probes_found(corpus), contents_of(corpus)
    labels = np.array([content.get(entry.clip, "") for entry in data.entries])
    if not all(labels):
        raise ValueError(f"{corpus.folder}: its clips have no content label to compare")
    embeddings = SetEmbeddings(data, judge)
    rows = []
    for number in range(replications):
        drawn = data.draw(np.random.default_rng(derive_seed(seed, "replication", number)))
        text, motion = embeddings.texts(drawn), embeddings.motions(drawn)
        by_chance = [k / metrics.POOL for k in metrics.TOP_K]
        own = list(zip(metrics.r_precision(text, motion), by_chance))
        rows.append([*own, metrics.label_precision(text, motion, labels[drawn.entry])])
    names = [*(f"R@{k}" for k in metrics.TOP_K), "content and side in the top 3"]
    found = {name: (float(own), float(chance)) for name, (own, chance) in zip(names, np.mean(rows, axis=0))}
    if asked := unseen_wordings(probes, set(labels)) if probes else []:
        found[f"unseen wordings ({len(asked)}): content and side first"] = first_hits(judge, data, labels, asked)
    return found


def unseen_wordings(probes: Probes, contents: set[str]) -> list[tuple[str, set[str]]]:
    """(wording, contents that are right) of the probes for contents that occur; a clip that does it too is right as well."""
    occurring = [probe for probe in probes.content_probes if probe.content in contents]
    return [(prompt, {probe.content, *probe.implied_by}) for probe in occurring for prompt in probe.prompts]


def first_hits(
    judge: TextMotionSpace, data: EvaluationSet, labels: np.ndarray, asked: list[tuple[str, set[str]]]
) -> tuple[float, float]:
    """Share of wordings whose nearest motion of the whole set has a right label, and that share by chance."""
    whole = [data.motion(i, 0, int(frames) // UNIT_LENGTH * UNIT_LENGTH) for i, frames in enumerate(data.lengths)]
    gaps = metrics.euclidean(embed_text(judge, [Caption(text) for text, _ in asked]), embed_motion(judge, whole))
    right = np.array([np.isin(labels, list(contents)) for _, contents in asked])  # (wordings, motions)
    nearest = gaps.argmin(axis=1)
    return float(right[np.arange(len(asked)), nearest].mean()), float(right.mean())
