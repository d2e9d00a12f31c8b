"""Golden cases of TMR's retrieval metrics: ranks, recalls and median ranks of stored similarity matrices."""

from typing import Any

from evaluations import retrieval_metrics
from tests.golden.runner import Case

TIES = {"average": "average", "first": "optimistic"}


def metrics(case: Case) -> dict[str, Any]:
    config, similarity = case.config, case.inputs["sims"]
    if "batch_size" in config:
        seed = config["permutation"]["seed"]
        found = retrieval_metrics.small_batch_metrics(
            similarity, case.inputs["keyids"], config["batch_size"], seed, config["rounding"])
        return {"metrics_rounded": found, "order": retrieval_metrics.small_batches(config["n"], config["batch_size"], seed)}
    ties, alike = TIES[config["ties"]], None
    if config["threshold"] is not None:
        alike = retrieval_metrics.similar_sentences(case.inputs["sent_emb"], config["threshold"])

    def figures(rounding: int | None) -> dict[str, float]:
        found = retrieval_metrics.retrieval_metrics(similarity, alike, ties, rounding)
        if config.get("key_prefix", True):
            return found
        (way,) = config["directions"]
        recalls = {name.removeprefix(f"{way}/"): value for name, value in found.items() if name.startswith(f"{way}/")}
        return {name: value for name, value in recalls.items() if name != "len"}

    return {
        "metrics_rounded": figures(config["rounding"]),
        "metrics_unrounded": figures(None),
        "t2m_ranks": retrieval_metrics.ranks(similarity, alike, ties),
        "m2t_ranks": retrieval_metrics.ranks(similarity.T, alike, ties),
    }


HANDLERS = {"metrics": metrics}
