"""python -m benchmarks.retrieval: CPU seconds of TMR and of retrieval, ours beside the published recipe, on one core.

Encoding and a training step have the official size, in float32, on motions of 40 to 196 frames in batches of 32: the
published recipe pads each batch to its longest motion and runs torch's transformer layers. Metrics: it sorts every row of the
matrix and looks where the wanted distance lies in it, once for texts and once for motions. Both sides have the same weights,
motions and matrices, and have to come to the same numbers.
"""

import time
import warnings
from dataclasses import dataclass
from functools import partial
from typing import Annotated

import numpy as np
import torch
from torch import nn

from benchmarks.padded_tmr import PaddedTMR
from benchmarks.timing import Cost, least
from data_loaders.corpus import Batch
from data_loaders.features import Statistics
from evaluations import retrieval_metrics
from model.embedder import lengths_to_mask
from model.layers import Posterior
from model.text_encoders import SavedTexts, TextEncoder, with_text_features
from model.text_towers import load_text_encoder
from model.tmr import TMR
from model.tmr_config import TMRConfig
from model.tmr_losses import Captions, LatentNoise, loss_terms
from protos.flags import CHANNELS, SEED, Range
from protos.options import command, run_command
from protos.randomness import sample_generators
from sample.search import SearchIndex

BATCH = 32


def reference_ranks(similarity: np.ndarray, alike: np.ndarray | None) -> np.ndarray:
    """Places (N,) of the wanted distances in the sorted rows; the mean of the places of equal distances."""
    distances = -similarity
    in_order = np.sort(distances, axis=1)
    if alike is None:
        wanted = np.diagonal(distances)[:, None]
    else:
        wanted = np.array([[row[own].min()] for row, own in zip(distances, alike)])
    rows, columns = np.where(in_order - wanted == 0)
    return np.bincount(rows, weights=columns) / np.bincount(rows)


def reference_metrics(similarity: np.ndarray, alike: np.ndarray | None = None) -> dict[str, float]:
    figures = {}
    for way, matrix in (("t2m", similarity), ("m2t", similarity.T)):
        places = reference_ranks(matrix, alike)
        for k in (1, 2, 3, 5, 10):
            figures[f"{way}/R{k:02d}"] = round(100 * float((places < k).sum()) / len(places), 2)
        figures[f"{way}/MedR"] = round(float(np.median(places)) + 1, 2)
    return figures


def random_motions(count: int, draw: np.random.Generator) -> list[np.ndarray]:
    """Features [(T, 263)], T from 40 to 196: what HumanML3D has."""
    return [draw.normal(size=(frames, 263)).astype(np.float32) for frames in draw.integers(40, 197, size=count)]


def random_model(draw: np.random.Generator, texts: list[str]) -> tuple[TMR, dict[str, TextEncoder]]:
    """Official size, fresh weights, and what it reads texts by; these, of 8 to 30 words, have features of their own."""
    config = TMRConfig(false_negative_threshold=0.8, duplicates="published")
    ends = np.cumsum(draw.integers(8, 31, size=len(texts)))
    words = draw.normal(size=(ends[-1], config.text_dim)).astype(np.float32)
    index = {text: i for i, text in enumerate(texts)}
    slices = np.stack([np.concatenate([[0], ends[:-1]]), ends], axis=1)
    sentences = draw.normal(size=(len(texts), 768)).astype(np.float32)
    statistics = Statistics(np.zeros(263, np.float32), np.ones(263, np.float32), config.features)
    words, sentences = (TextEncoder("made up", 768, load_text_encoder, saved=SavedTexts(*each))
                        for each in ((words, index, slices), (sentences, index)))  # fmt: skip
    return TMR(config, statistics, None, words), {"words": words, "sentences": sentences}


def padded(motions: list[np.ndarray]) -> tuple[torch.Tensor, torch.Tensor]:
    """Motion (B, T, D) and mask (B, T)."""
    mask = lengths_to_mask(torch.tensor([len(each) for each in motions]))
    return nn.utils.rnn.pad_sequence([torch.from_numpy(each) for each in motions], batch_first=True), mask


def compare(what: str, ours: Cost, theirs: Cost, apart: float, allowed: float = 1e-3) -> None:
    """Prints what both cost; ends where their results are further apart than that."""
    if not apart <= allowed:
        raise SystemExit(f"{what}: the results are {apart:.2g} apart")
    print(f"{what:54} ours {ours.cpu:.3f}, published {theirs.cpu:.3f} CPU s: {theirs.cpu / ours.cpu:.1f} times as much; "
          f"apart by {apart:.1g}")  # fmt: skip


def benchmark_encoding(rounds: int, count: int, draw: np.random.Generator) -> None:
    ours = random_model(draw, ["a text"])[0].eval()
    reference, motions = PaddedTMR(ours).eval(), random_motions(count, draw)

    @torch.no_grad()
    def in_padded_batches() -> np.ndarray:
        batches = (padded(motions[start : start + BATCH]) for start in range(0, count, BATCH))
        return np.concatenate([reference.motion_encoder(motion, mask)[:, 0].numpy() for motion, mask in batches])

    for fused in (True, False):
        torch.backends.mha.set_fastpath_enabled(fused)
        mine, theirs = least(lambda: ours.encode_motion(motions).numpy(), in_padded_batches, rounds=rounds)
        what = f"encoding {count} motions" + (", torch's fused inference" if fused else "")
        compare(what, mine, theirs, np.abs(mine.result - theirs.result).max())
    torch.backends.mha.set_fastpath_enabled(True)


def benchmark_training(rounds: int, draw: np.random.Generator) -> None:
    texts = [f"text {i}" for i in range(BATCH)]
    ours, encoders = random_model(draw, texts)
    reference = PaddedTMR(ours)
    motion, mask = padded(random_motions(BATCH, draw))
    batch = with_text_features(Batch(motion=motion, lengths=mask.sum(1), mask=mask, texts=texts), encoders)
    words, sentences = (batch.text_features[role] for role in ("words", "sentences"))
    captions = Captions(nn.functional.normalize(sentences.pooled, dim=-1))
    optimizers = {networks: torch.optim.AdamW(networks.parameters(), lr=1e-4) for networks in (ours.networks, reference)}

    def our_step() -> float:
        return step(ours.networks, ours.loss_terms(batch, sample_generators(0, range(BATCH)))["loss"])

    def their_step() -> float:
        outputs = reference.text_encoder(words.tokens, words.mask), reference.motion_encoder(motion, mask)
        text, moved = (Posterior(each[:, 0], each[:, 1]) for each in outputs)
        noise = LatentNoise.draw(text.mean, sample_generators(0, range(BATCH)))
        terms = loss_terms(text, moved, noise, lambda z: reference.motion_decoder(z, mask), motion, ours.config, captions)
        return step(reference, terms["loss"])

    def step(networks: nn.Module, value: torch.Tensor) -> float:
        optimizers[networks].zero_grad()
        value.backward()
        optimizers[networks].step()
        return value.item()

    ours.eval(), reference.eval()  # no dropout: the same loss, the same step, the same loss after it
    apart = max(abs(our_step() - their_step()) for _ in range(2))
    ours.train(), reference.train()
    compare(f"training step, batch of {BATCH}", *least(our_step, their_step, rounds=rounds), apart)


def benchmark_metrics(rounds: int, count: int, draw: np.random.Generator) -> None:
    similarity = draw.uniform(-1, 1, size=(count, count)).astype(np.float32)
    similarity[np.diag_indices(count)] += np.float32(0.95)
    alike = draw.random((count, count)) < 2 / count
    alike |= alike.T | np.eye(count, dtype=bool)
    for what, given in (("all", (similarity,)), ("all, with ties", (similarity.round(2),)),
                        ("near-duplicates count", (similarity, alike))):  # fmt: skip
        ours, theirs = least(partial(retrieval_metrics.retrieval_metrics, *given), partial(reference_metrics, *given),
                             rounds=rounds)  # fmt: skip
        apart = max(abs(ours.result[name] - value) for name, value in theirs.result.items())
        compare(f"metrics, {count} x {count}, {what}", ours, theirs, apart, allowed=0)


def benchmark_query(size: int, channels: int, draw: np.random.Generator) -> None:
    index = SearchIndex(draw.normal(size=(size, channels)).astype(np.float32))
    spent, missed = [], 0
    for query in draw.normal(size=(200, channels)).astype(np.float32):
        start = time.perf_counter()
        found, _ = index.nearest(query, 10)
        spent.append(1000 * (time.perf_counter() - start))
        missed += set(found) != set(np.argsort(-index.cosines(query))[:10])
    print(f"one query in {size} x {channels}, top 10: median {np.median(spent):.2f} ms, "
          f"slowest of 200 {max(spent):.2f} ms; {missed} differ from a full sort")


@dataclass(frozen=True)
class RetrievalBenchmark:
    """Time TMR, its metrics and a search."""

    motions: Annotated[int, Range(1, 100_000)] = 256
    """Motions to encode."""
    count: Annotated[int, Range(32, 30_000)] = 4384
    """Texts and motions of the matrices: by default those of HumanML3D's test split."""
    gallery: Annotated[int, Range(10, 1_000_000)] = 29_000
    """Motions to search: by default as many as HumanML3D has."""
    channels: Annotated[int, CHANNELS] = 256
    """Width of the embeddings searched."""
    repeats: Annotated[int, Range(1, 1000)] = 3
    """Runs of each, of which the fastest counts."""
    seed: Annotated[int, SEED] = 0
    """Seed of motions, weights and matrices."""


def run(options: RetrievalBenchmark) -> None:
    warnings.filterwarnings("ignore", message="The PyTorch API of nested tensors")
    torch.set_num_threads(1)
    torch.manual_seed(options.seed)

    draw = np.random.default_rng(abs(options.seed))
    benchmark_query(options.gallery, options.channels, draw)
    benchmark_metrics(options.repeats, options.count, draw)
    benchmark_encoding(options.repeats, options.motions, draw)
    benchmark_training(options.repeats, draw)


main = command(RetrievalBenchmark, run, __doc__)

if __name__ == "__main__":
    run_command(main)
