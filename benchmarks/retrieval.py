"""python -m benchmarks.retrieval: CPU seconds of retrieval metrics, ours beside the published recipe, and of a search.

The published recipe sorts every row of the matrix and looks where the wanted distance lies in it, once for texts and once
for motions. Both get the same matrix, with and without ties, and have to come to the same numbers.
"""

import argparse
import time

import numpy as np

from benchmarks.evaluation import cpu_seconds
from evaluations import retrieval_metrics
from sample.search import SearchIndex


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


def best_of(repeats: int, work) -> tuple[float, object]:
    """Fewest CPU seconds of some runs, and what the work gives."""
    runs = [cpu_seconds(work) for _ in range(repeats)]
    return min(seconds for seconds, _ in runs), runs[0][1]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.ArgumentDefaultsHelpFormatter)
    parser.add_argument("--count", type=int, default=4384, help="texts and motions: those of HumanML3D's test split")
    parser.add_argument("--gallery", type=int, default=29_000, help="motions to search: HumanML3D")
    parser.add_argument("--channels", type=int, default=256, help="width of the embeddings searched")
    parser.add_argument("--repeats", type=int, default=3, help="runs of each, of which the fastest counts")
    parser.add_argument("--seed", type=int, default=0, help="seed of the matrices")
    arguments = parser.parse_args()

    draw = np.random.default_rng(arguments.seed)
    count = arguments.count
    similarity = draw.uniform(-1, 1, size=(count, count)).astype(np.float32)
    similarity[np.diag_indices(count)] += np.float32(0.95)
    alike = draw.random((count, count)) < 2 / count
    alike |= alike.T | np.eye(count, dtype=bool)
    for what, matrix, own in (
        ("all", similarity, None),
        ("all, with ties", similarity.round(2), None),
        ("near-duplicates count", similarity, alike),
    ):
        ours, mine = best_of(arguments.repeats, lambda m=matrix, o=own: retrieval_metrics.retrieval_metrics(m, o))
        theirs, reference = best_of(arguments.repeats, lambda m=matrix, o=own: reference_metrics(m, o))
        if differing := [name for name, value in reference.items() if mine[name] != value]:
            raise SystemExit(f"{what}: {', '.join(differing)} differ")
        print(f"{what:22} {count} x {count}: ours {ours:.3f}, published {theirs:.3f} CPU s: {theirs / ours:.1f} times as much")

    gallery = draw.normal(size=(arguments.gallery, arguments.channels)).astype(np.float32)
    index = SearchIndex(gallery)
    spent, missed = [], 0
    for query in draw.normal(size=(200, arguments.channels)).astype(np.float32):
        start = time.perf_counter()
        found, _ = index.nearest(query, 10)
        spent.append(1000 * (time.perf_counter() - start))
        missed += set(found) != set(np.argsort(-index.cosines(query))[:10])
    print(f"one query in {len(index)} x {arguments.channels}, top 10: median {np.median(spent):.2f} ms, "
          f"slowest of 200 {max(spent):.2f} ms; {missed} differ from a full sort")


if __name__ == "__main__":
    main()
