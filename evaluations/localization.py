"""Moment retrieval on long motions made of real clips: recordings with captions over time (BABEL) cannot be shipped.

A query is a clip's first caption, the truth the frames of that clip. Chance is what any of the same windows, drawn blindly,
would score: its expectation, not a draw.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from tqdm import tqdm

from data_loaders.corpus import Corpus
from data_loaders.features import Features
from data_loaders.text_similarity import meaning_codes
from evaluations.report import Report, checkpoint_stamp, command_line
from evaluations.retrieval import captioned_motions
from model.embedding import TextMotionSpace
from protos.randomness import derive_seed
from sample.localize import embed_windows, moments, overlap, score_curve
from sample.sliding import Sliding

MOST_FRAMES = 1_000_000_000  # of a clip: all of it
OVERLAPS = (0.3, 0.5, 0.7)
MEASURES = {"mean IoU": "mean IoU ↑", **{f"R@1 IoU {x:g}": f"R@1, IoU ≥ {x:g} ↑" for x in OVERLAPS},
            "R@5 IoU 0.5": "R@5, IoU ≥ 0.5 ↑", "pointing": "maximum inside ↑"}  # fmt: skip


@dataclass(frozen=True)
class LongMotion:
    """Features (T, D) of clips one after the other, with the caption and the frames (first, stop) of each."""

    features: np.ndarray
    texts: list[str]
    spans: list[tuple[int, int]]


def joined(clips: Sequence[np.ndarray], features: Features, gap: int) -> tuple[np.ndarray, list[tuple[int, int]]]:
    """Features (T, D) of clips [(T_i, D)] with `gap` frames between two, and the frames of each.

    A clip goes on where and as the last one ended, since features are relative to the root: between two of them poses
    and speeds change evenly. The whole is then encoded anew, so that its velocities and contacts are true.
    """
    rows, spans, frame = [], [], 0
    for clip in (np.asarray(each, np.float64) for each in clips):
        if rows and gap:
            share = (np.arange(1, gap + 1) / (gap + 1))[:, None]
            rows.append((1 - share) * rows[-1][-1] + share * clip[0])
            frame += gap
        rows.append(clip)
        spans.append((frame, frame + len(clip)))
        frame += len(clip)
    rows.append(rows[-1][-1:])  # encoding loses the last frame
    joints = features.joints(torch.as_tensor(np.concatenate(rows)))
    return features.encode(joints.float()).numpy(), spans


def long_motions(
    corpus: Corpus, split: str, most: int = 50, clips_per_motion: int = 5, transition_seconds: float = 0.5, seed: int = 10
) -> list[LongMotion]:
    """At most so many long motions of clips in random order, each clip in one. ValueError where the split gives none."""
    captioned, _ = captioned_motions(corpus, split, (1, MOST_FRAMES), fold_mirrored=True)
    meanings = meaning_codes([each.captions[0].text for each in captioned])
    waiting = list(np.random.default_rng(derive_seed(seed, "clips")).permutation(len(captioned)))
    gap, made = round(transition_seconds * corpus.fps), []
    while len(made) < most:
        chosen: dict[int, int] = {}  # meaning -> clip
        for i in waiting:
            if len(chosen) < clips_per_motion:
                chosen.setdefault(int(meanings[i]), int(i))
        if len(chosen) < clips_per_motion:
            break
        waiting = [i for i in waiting if i not in set(chosen.values())]
        clips = [captioned[i] for i in chosen.values()]
        features, spans = joined([clip.motion for clip in clips], corpus.features, gap)
        made.append(LongMotion(features, [clip.captions[0].text for clip in clips], spans))
    if not made:
        raise ValueError(f"{corpus.folder}: split {split} has too few clips with captions of different meaning for "
                         f"a motion of {clips_per_motion}: fewer --clips_per_motion")  # fmt: skip
    return made


def measures(first: np.ndarray, five: np.ndarray, inside: np.ndarray) -> dict[str, float]:
    """Of overlaps of first answers and of five with the truth, and whether the curve's maximum lies inside it."""
    return {"mean IoU": float(first.mean()), **{f"R@1 IoU {x:g}": float((first >= x).mean()) for x in OVERLAPS},
            "R@5 IoU 0.5": float((five >= 0.5).any()), "pointing": float(inside.mean())}  # fmt: skip


def localization_report(
    space: TextMotionSpace, what: Path, corpus: Corpus, split: str, motions: Sequence[LongMotion], sliding: Sliding
) -> Report:
    """How well a model, of the checkpoint `what`, finds each clip of long motions by its caption, beside chance."""
    texts = list(dict.fromkeys(text for motion in motions for text in motion.texts))
    vectors = dict(zip(texts, space.encode_text(texts)))
    found: dict[str, list[dict[str, float]]] = {"model": [], "chance": []}
    for motion in tqdm(motions, desc="localizing", unit="motion", disable=None):
        windows = embed_windows(motion.features, space, sliding)
        for text, truth in zip(motion.texts, motion.spans):
            scores = windows.scores(vectors[text])
            best = moments(windows, scores, 5, sliding.refine)
            overlaps = overlap(np.array([[moment.first, moment.stop] for moment in best]), truth)
            peak = int(score_curve(windows, scores).argmax())
            found["model"].append(measures(overlaps[:1], overlaps, np.array([truth[0] <= peak < truth[1]])))
            # expected of windows drawn blindly; five are drawn with replacement, since they overlap anyway
            overlaps = overlap(windows.spans, truth)
            blind = measures(overlaps, overlaps, np.array([(truth[1] - truth[0]) / windows.num_frames]))
            found["chance"].append({**blind, "R@5 IoU 0.5": 1 - (1 - float((overlaps >= 0.5).mean())) ** 5})
    rows = {name: {key: float(np.mean([row[key] for row in each])) for key in MEASURES} for name, each in found.items()}
    queries, clips = len(found["model"]), len(motions[0].texts)
    seconds = float(np.mean([len(motion.features) for motion in motions]) / corpus.fps)
    facts = {
        "what": str(what), "dataset": corpus.folder.name, "split": split, "motions": len(motions), "queries": queries,
        "clips_per_motion": clips, "mean_seconds": seconds, "window_seconds": sliding.window_seconds,
        "stride_seconds": sliding.stride_seconds, "refine": sliding.refine,
        "made_from": {"dataset": corpus.stamp, "model": checkpoint_stamp(what)}, "rows": rows,
        "command": command_line("evaluations.eval_localize"),
    }  # fmt: skip
    return Report(
        f"Moment retrieval: {what} on {corpus.folder.name} ({split})", facts, ["", *MEASURES.values()],
        [[name, *(f"{100 * figures[key]:.1f}" for key in MEASURES)] for name, figures in rows.items()],
        [f"In %. {queries} queries in {len(motions)} motions of {clips} clips, {seconds:.0f} s on average. Chance: what any of "
         "the same windows is expected to score."],
    )  # fmt: skip
