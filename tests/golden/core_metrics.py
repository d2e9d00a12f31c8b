"""Golden cases of the metrics: published numbers of fixed embeddings, drawn with numpy's global generator."""

from typing import Any

import numpy as np

from evaluations import metrics
from tests.golden.runner import Case


def drawn(case: Case) -> np.random.RandomState:
    """The state of numpy's global generator after `np.random.seed(seed)`."""
    return np.random.RandomState(case.config["seed"])


def r_precision(case: Case) -> dict[str, Any]:
    config = case.config
    found = metrics.r_precision(case.inputs["text"], case.inputs["motion"], config["top_k"], config["batch"])
    return {"r_precision": found}


def matching_score(case: Case) -> dict[str, Any]:
    text, motion = (np.asarray(case.inputs[name], np.float64) for name in ("text", "motion"))
    size = case.config["batch"]
    diagonals = [np.diagonal(metrics.euclidean(text[i : i + size], motion[i : i + size])) for i in range(0, len(text), size)]
    return {
        "matching_score": float(np.concatenate(diagonals).mean()),
        "matching_score_direct": metrics.matching_score(text, motion),
    }


def diversity(case: Case) -> dict[str, Any]:
    activations, times = case.inputs["activations"], case.config["diversity_times"]
    first, second = metrics.pairs(len(activations), times, drawn(case))
    kept = slice(case.config.get("indices_kept", 0))
    return {
        "diversity": metrics.diversity(activations, drawn(case), times),
        "first_indices": first[kept],
        "second_indices": second[kept],
    }


def multimodality(case: Case) -> dict[str, Any]:
    activations, times = case.inputs["activations"], case.config["multimodality_times"]
    first, second = metrics.pairs(activations.shape[1], times, drawn(case))
    return {
        "multimodality": metrics.multimodality(activations, drawn(case), times),
        "first_indices": first,
        "second_indices": second,
    }


def mean_ci95(case: Case) -> dict[str, Any]:
    mean, half_width = metrics.mean_interval(case.inputs["values"])
    return {"mean": mean, "ci95": half_width}


HANDLERS = {
    "r_precision": r_precision,
    "matching_score": matching_score,
    "diversity": diversity,
    "multimodality": multimodality,
    "fid": lambda case: {"fid": metrics.fid(case.inputs["a"], case.inputs["b"])},
    "mpjpe": lambda case: {"mpjpe_per_pose": metrics.mpjpe(case.inputs["a"], case.inputs["b"], case.config["root_joint"])},
    "l1": lambda case: {"l1": metrics.joint_l1(case.inputs["a"], case.inputs["b"])},
    "mean_ci95": mean_ci95,
}
