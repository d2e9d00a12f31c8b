"""python -m benchmarks.evaluation: CPU seconds of 20 replications over real motion, ours beside the published recipe.

The published recipe loads the split anew for every pass of every replication, in batches of 32 padded to 196 frames,
embeds all of it again, and takes the square root of a product of covariances for FID. Both draw the same captions and
crops and have to come to the same numbers. Word vectors are at hand for both, as GloVe's are in the published code.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import numpy as np
import torch

from benchmarks.timing import cost
from data_loaders.corpus import Corpus
from data_loaders.humanml import MAX_FRAMES
from evaluations import metrics
from evaluations.evaluation_set import EvaluationSet, Pass, real_set
from evaluations.protocol import PROTOCOLS, REAL, Evaluation, Figures
from evaluations.settings import chosen_dataset
from model.embedding import TextMotionSpace, default_evaluator, open_space
from protos.flags import REPLICATIONS, SEED
from protos.options import command, run_command
from protos.randomness import derive_seed


@torch.no_grad()
def reference_pass(data: EvaluationSet, judge: TextMotionSpace, drawn: Pass) -> list[tuple[np.ndarray, np.ndarray]]:
    """Embeddings of texts and motions, batch by batch of 32, by falling number of words and of frames, padded to 196 frames."""
    model, batches, captions = judge.model, [], data.captions(drawn)
    mean, std = model.mean.numpy(), model.std.numpy()
    for start in range(0, len(captions), metrics.POOL):
        rows = np.arange(start, start + metrics.POOL)
        lengths = drawn.length[rows]
        padded = np.zeros((len(rows), MAX_FRAMES, len(mean)), np.float32)
        for row, frames, place in zip(padded, lengths, rows):
            row[:frames] = (data.motion(int(drawn.entry[place]), int(drawn.start[place]), int(frames)) - mean) / std
        by_words = np.argsort([-int(judge.model.words.encode([captions[i]]).lengths[0]) for i in rows], kind="stable")
        by_frames = np.argsort(-lengths, kind="stable")
        text, motion = np.empty((2, len(rows), judge.dim), np.float32)
        text[by_words] = model.embed_texts([captions[i] for i in rows[by_words]]).numpy()
        motion[by_frames] = model.embed_motion(torch.from_numpy(padded[by_frames]), torch.tensor(lengths[by_frames])).numpy()
        batches.append((text, motion))
    return batches


def reference_fid(a: metrics.Gaussian, b: metrics.Gaussian) -> float:
    from scipy.linalg import sqrtm

    root = sqrtm(a.covariance @ b.covariance)
    gap = a.mean - b.mean
    return float(gap @ gap + np.trace(a.covariance) + np.trace(b.covariance) - 2 * np.trace(root.real))


def reference_replication(data: EvaluationSet, judge: TextMotionSpace, seed: int, number: int) -> Figures:
    """The real row, as published code computes it."""
    rng = np.random.default_rng(derive_seed(seed, "replication", number))
    judged, other = data.draw(rng), data.draw(rng)
    real = np.concatenate([motion for _, motion in reference_pass(data, judge, other)])
    distance, hits, motions = 0.0, np.zeros(3), []
    for text, motion in reference_pass(data, judge, judged):
        gaps = np.sqrt(np.maximum(-2 * text @ motion.T + (text**2).sum(1)[:, None] + (motion**2).sum(1), 0))
        distance += np.trace(gaps)
        own = np.argsort(gaps, axis=1) == np.arange(len(text))[:, None]
        hits += [own[:, : k + 1].any(1).sum() for k in range(3)]
        motions.append(motion)
    motions = np.concatenate(motions).astype(np.float64)
    return {
        **{f"top{k + 1}": hits[k] / len(motions) for k in range(3)},
        "fid": reference_fid(metrics.gaussian_of(motions), metrics.gaussian_of(real)),
        "mm_dist": distance / len(motions),
        "diversity": metrics.diversity(motions, rng),
    }


@dataclass(frozen=True)
class EvaluationBenchmark:
    """Time the replications of an evaluation."""

    dataset: str | None = None
    """Prepared dataset: folder or known name (default: that of the weights that come with the code)."""
    evaluator: Path | None = None
    """Evaluator (default: that of the dataset)."""
    replications: Annotated[int, REPLICATIONS] = 20
    """Replications of each."""
    seed: Annotated[int, SEED] = 10
    """Seed of the draws."""


def run(options: EvaluationBenchmark) -> None:
    corpus = Corpus.open(chosen_dataset(options.dataset, options.evaluator))
    data = real_set(corpus)
    judge = open_space(options.evaluator or default_evaluator(corpus), data=corpus)
    judge.model.words.encode([caption for entry in data.entries for caption in entry.captions])  # word vectors at hand
    numbers = range(options.replications)
    evaluation = Evaluation(data, judge, PROTOCOLS["t2m"], options.seed, multimodality=False)
    ours = cost(lambda: [evaluation.replicate(number).rows[REAL] for number in numbers])
    theirs = cost(lambda: [reference_replication(data, judge, options.seed, number) for number in numbers])
    apart = {name: max(abs(a[name] - b[name]) for a, b in zip(ours.result, theirs.result)) for name in ours.result[0]}
    print(f"{len(data)} motions, {options.replications} replications, {torch.get_num_threads()} threads")
    print(f"ours       {ours.cpu:7.1f} CPU s")
    print(f"published  {theirs.cpu:7.1f} CPU s: {theirs.cpu / ours.cpu:.1f} times as much")
    print("largest difference: " + ", ".join(f"{name} {gap:.1g}" for name, gap in apart.items()))

    draw = np.random.default_rng(0)
    for width in (judge.dim, 512):
        mix = draw.normal(size=(width, width)) / np.sqrt(width)
        a, b = (metrics.gaussian_of(draw.normal(size=(max(len(data), 2 * width), width)) @ mix) for _ in range(2))
        fast, slow = (cost(lambda fid=fid, a=a, b=b: [fid(a, b) for _ in range(20)][-1]) for fid in (metrics.fid, reference_fid))
        print(f"FID of {width} channels: ours {fast.cpu / 20:.4f}, sqrtm {slow.cpu / 20:.4f} CPU s: "
              f"{slow.cpu / fast.cpu:.1f} times as much; apart by {abs(fast.result - slow.result) / slow.result:.1g} of it")


main = command(EvaluationBenchmark, run, __doc__)

if __name__ == "__main__":
    run_command(main)
