"""python -m benchmarks.evaluation: CPU seconds of 20 replications over real motion, ours beside the published recipe.

The published recipe loads the split anew for every pass of every replication, in batches of 32 padded to 196 frames,
embeds all of it again, and takes the square root of a product of covariances for FID. Both draw the same captions and
crops and have to come to the same numbers. Word vectors are at hand for both, as GloVe's are in the published code.
"""

import resource
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import numpy as np
import torch

from data_loaders.corpus import Corpus
from data_loaders.humanml import MAX_FRAMES
from evaluations import metrics
from evaluations.evaluation_set import EvaluationSet, Pass, real_set
from evaluations.judges import default_evaluator, load_judge
from evaluations.protocol import PROTOCOLS, REAL, Evaluation, Figures
from model.embedding import TextMotionSpace
from protos.bounds import REPLICATIONS, SEED
from protos.options import command, run_command
from protos.randomness import derive_seed


def cpu_seconds(work: Callable[[], object]) -> tuple[float, object]:
    """User and system seconds of this process, all threads, and what the work gives."""
    before = resource.getrusage(resource.RUSAGE_SELF)
    result = work()
    after = resource.getrusage(resource.RUSAGE_SELF)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime, result


@torch.no_grad()
def reference_pass(data: EvaluationSet, judge: TextMotionSpace, drawn: Pass) -> list[tuple[np.ndarray, np.ndarray]]:
    """Embeddings of texts and motions, batch by batch of 32."""
    networks, batches = judge.networks, []
    captions = data.captions(drawn)
    mean, std = networks.mean.numpy(), networks.std.numpy()
    for start in range(0, len(captions), metrics.POOL):
        items = []
        for i in range(start, start + metrics.POOL):
            words = judge.words.encode([captions[i]])
            features = data.motion(int(drawn.entry[i]), int(drawn.start[i]), int(drawn.length[i]))
            padded = np.zeros((MAX_FRAMES, features.shape[1]), np.float32)
            padded[: len(features)] = (features - mean) / std
            items.append((i - start, words, padded, int(drawn.length[i])))
        items.sort(key=lambda item: -int(item[1].lengths[0]))
        words = judge.words.encode([captions[start + item[0]] for item in items])
        text = networks.text_encoder(words).numpy()
        motion = torch.from_numpy(np.stack([item[2] for item in items]))
        lengths = torch.tensor([item[3] for item in items])
        by_length = torch.argsort(lengths, descending=True)
        embedded = networks.embed_motion(motion[by_length], lengths[by_length])
        embedded = embedded[torch.argsort(by_length)].numpy()
        back = np.argsort([item[0] for item in items])
        batches.append((text[back], embedded[back]))
    return batches


def reference_fid(a: metrics.Gaussian, b: metrics.Gaussian) -> float:
    from scipy.linalg import sqrtm

    root = sqrtm(a.covariance @ b.covariance)
    gap = a.mean - b.mean
    return float(gap @ gap + np.trace(a.covariance) + np.trace(b.covariance) - 2 * np.trace(root.real))


def reference_replication(data: EvaluationSet, judge: TextMotionSpace, seed: int, number: int) -> Figures:
    """The real row, as published code computes it."""
    rng = np.random.default_rng(derive_seed(seed, "replication", number))
    judged = data.draw(rng)
    other = data.draw(rng)
    real = np.concatenate([motion for _, motion in reference_pass(data, judge, other)])
    distance, hits, motions = 0.0, np.zeros(3), []
    for text, motion in reference_pass(data, judge, judged):
        gaps = np.sqrt(np.maximum(-2 * text @ motion.T + (text**2).sum(1)[:, None] + (motion**2).sum(1), 0))
        distance += np.trace(gaps)
        order = np.argsort(gaps, axis=1)
        for k in range(3):
            hits[k] += (order[:, : k + 1] == np.arange(len(text))[:, None]).any(1).sum()
        motions.append(motion)
    motions = np.concatenate(motions).astype(np.float64)
    count = len(motions)
    return {
        **{f"top{k + 1}": hits[k] / count for k in range(3)},
        "fid": reference_fid(metrics.gaussian_of(motions), metrics.gaussian_of(real)),
        "mm_dist": distance / count,
        "diversity": metrics.diversity(motions, rng),
    }


@dataclass(frozen=True)
class EvaluationBenchmark:
    """Time the replications of an evaluation."""

    dataset: str = "bandai_namco"
    """Prepared dataset: folder or known name."""
    evaluator: Path | None = None
    """Evaluator (default: that of the dataset)."""
    replications: Annotated[int, REPLICATIONS] = 20
    """Replications of each."""
    seed: Annotated[int, SEED] = 10
    """Seed of the draws."""


def run(options: EvaluationBenchmark) -> None:
    corpus = Corpus.open(options.dataset)
    data = real_set(corpus)
    judge = load_judge(options.evaluator or default_evaluator(corpus), corpus)
    judge.words.encode([caption for entry in data.entries for caption in entry.captions])  # word vectors at hand
    numbers = range(options.replications)
    protocol = PROTOCOLS["t2m"]

    def ours() -> list[Figures]:
        evaluation = Evaluation(data, judge, protocol, options.seed, multimodality=False)
        return [evaluation.replicate(number).rows[REAL] for number in numbers]

    def theirs() -> list[Figures]:
        return [reference_replication(data, judge, options.seed, number) for number in numbers]

    our_seconds, mine = cpu_seconds(ours)
    their_seconds, reference = cpu_seconds(theirs)
    apart = {name: max(abs(a[name] - b[name]) for a, b in zip(mine, reference)) for name in mine[0]}
    print(f"{len(data)} motions, {options.replications} replications, {torch.get_num_threads()} threads")
    print(f"ours       {our_seconds:7.1f} CPU s")
    print(f"published  {their_seconds:7.1f} CPU s: {their_seconds / our_seconds:.1f} times as much")
    print("largest difference: " + ", ".join(f"{name} {gap:.1g}" for name, gap in apart.items()))

    drawn = data.draw(np.random.default_rng(abs(options.seed)))
    draw = np.random.default_rng(0)
    for width in (judge.networks.config.embedding, 512):
        mix = draw.normal(size=(width, width)) / np.sqrt(width)
        samples = (draw.normal(size=(max(len(drawn.entry), 2 * width), width)) @ mix for _ in range(2))
        a, b = (metrics.gaussian_of(each) for each in samples)
        fast, value = cpu_seconds(lambda a=a, b=b: [metrics.fid(a, b) for _ in range(20)][-1])
        slow, expected = cpu_seconds(lambda a=a, b=b: [reference_fid(a, b) for _ in range(20)][-1])
        print(f"FID of {width} channels: ours {fast / 20:.4f}, sqrtm {slow / 20:.4f} CPU s: {slow / fast:.1f} times as much; "
              f"apart by {abs(value - expected) / expected:.1g} of it")


main = command(EvaluationBenchmark, run, __doc__)

if __name__ == "__main__":
    run_command(main)
