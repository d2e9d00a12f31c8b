"""Golden cases of what judges two people: InterCLIP's vectors and loss, metrics by the published protocol, optimal transport."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from evaluations import metrics
from evaluations.protocol import EvaluationProtocol
from evaluations.transport import SETTLED, assignment_cost, transport_cost
from model.interclip import InterCLIP, contrast
from model.interclip_config import InterCLIPConfig
from model.official.interclip import NOT_LOADED, interclip_name
from model.official.weights import rename
from model.text_encoders import TextFeatures
from tests.golden.columns import Columns
from tests.golden.runner import Case
from tests.golden.tmr_model import require_ours

OUR_MOTION = {"query_token": "first", "post_norm": True, "activation": "gelu_erf", "padding_mask": True, "mode": "eval"}
OUR_TEXT = {"post_norm": True, "activation": "gelu_erf", "mask": None, "pick": "end_of_text", "mode": "eval"}


@dataclass(frozen=True)
class PeopleColumns(Columns):
    """Features of several people that are only counted."""

    people: int = 2

    @property
    def persons(self) -> int:
        return self.people


def network(case: Case, name: str, config: InterCLIPConfig) -> InterCLIP:
    """The model with the weights of one of its encoders, and the common scale."""
    model = InterCLIP(config).eval()
    parts = {key: value for key, value in model.networks.state_dict().items() if key.startswith((f"{name}.", "sphere."))}
    wanted = {interclip_name(key) for key in parts}
    found = rename({key: value for key, value in case.weights.items() if key in wanted}, parts, interclip_name, NOT_LOADED,
                   case.name)  # fmt: skip
    model.networks.load_state_dict(found, strict=False)
    return model


@torch.no_grad()
def motion_embedding(case: Case) -> dict[str, Any]:
    stated = case.config["motion_encoder"]
    require_ours(stated, OUR_MOTION)
    features = PeopleColumns(count=stated["columns_per_person"], people=stated["people"])
    config = InterCLIPConfig(
        features=features, latent_dim=stated["latent"], ff_size=stated["ff"], num_heads=stated["heads"],
        num_layers=stated["layers"], max_positions=stated["pe_rows"], embedding=stated["out"],
    )  # fmt: skip
    motion, lengths = (torch.as_tensor(case.inputs[name]) for name in ("motions", "lengths"))
    model = network(case, "motion_encoder", config)
    clips = [row[: int(length)].numpy() for row, length in zip(motion, lengths)]
    return {"embedding": model.encode_motion(clips)}


@torch.no_grad()
def text_embedding(case: Case) -> dict[str, Any]:
    stated = case.config["text_encoder"]
    require_ours(stated, OUR_TEXT)
    config = InterCLIPConfig(
        text_encoder="clip-l14-336", text_width=stated["width"], text_dim=stated["width"], ff_size=stated["ff"],
        text_heads=stated["heads"], text_layers=stated["layers"], embedding=stated["out"],
        features=PeopleColumns(count=262), latent_dim=8, num_heads=1, num_layers=1,
    )  # fmt: skip
    ids = torch.as_tensor(case.inputs["tokens"]).long()
    mask = torch.arange(ids.shape[1]) <= ids.argmax(1, keepdim=True)
    return {"embedding": network(case, "text_encoder", config).text_vectors(TextFeatures(None, None, mask, ids))}


def contrastive_loss(case: Case) -> dict[str, Any]:
    text, motion = (torch.as_tensor(case.inputs[f"{name}_embedding"]) for name in ("text", "motion"))
    scale = float(case.config["latent_scale"])
    on_sphere: list[Tensor] = [scale * torch.nn.functional.normalize(each, dim=-1) for each in (text, motion)]
    found = contrast(*on_sphere)
    return {"total": found["loss"], "text_ce_from_d": found["text_to_motion"], "text_ce_from_motion": found["motion_to_text"],
            "text_mixed_ce": found["loss"]}  # fmt: skip


def r_precision(case: Case) -> dict[str, Any]:
    samples, pool = case.config["samples"], case.config["pool"]
    require_ours(case.config, {"pool_order": "stored", "rows": "text", "columns": "motion", "distance": "euclidean",
                               "divide_by": samples // pool * pool})  # fmt: skip
    return {"r_precision": metrics.r_precision(case.inputs["text"], case.inputs["motion"], case.config["top_k"], pool)}


def random_pairs(case: Case, count: int) -> dict[str, Any]:
    first, second = metrics.pairs(count, case.config["pairs"], np.random.RandomState(case.config["seed"]))
    return {"index1": first, "index2": second}


def diversity(case: Case) -> dict[str, Any]:
    config, motion = case.config, case.inputs["motion"]
    rule = EvaluationProtocol("", "", embedding_scale=config["scale"], diversity_divisor=config["divide_difference_by"])
    found = rule.diversity(motion, np.random.RandomState(config["seed"]), config["pairs"])
    return {"diversity": found, **random_pairs(case, len(motion))}


def scaled(case: Case, name: str = "motion") -> np.ndarray:
    return case.config["scale"] * np.asarray(case.inputs[name], np.float64)


def activation_statistics(case: Case) -> dict[str, Any]:
    mean, covariance = metrics.gaussian_of(scaled(case))
    return {"mu": mean, "cov": covariance}


def fid(case: Case) -> dict[str, Any]:
    return {"fid": metrics.fid(scaled(case, "reference"), scaled(case, "generated"))}


def multimodality(case: Case) -> dict[str, Any]:
    config, motion = case.config, scaled(case)
    found = metrics.multimodality(motion, np.random.RandomState(config["seed"]), config["pairs"])
    return {"multimodality": found, **random_pairs(case, motion.shape[1])}


def entropic_ot(case: Case) -> dict[str, Any]:
    config = case.config
    require_ours(config, {"cost": "euclidean", "weights": "uniform", "stop": SETTLED, "domain": "log", "u0": 0.0,
                          "v0": "eps*log(1/n)", "value": "sum(P*cost)"})  # fmt: skip
    sets = (torch.as_tensor(case.inputs[name]) for name in ("a", "b"))
    return {"eid": transport_cost(*sets, config["eps"], config["max_iterations"])}


def assignment_ot(case: Case) -> dict[str, Any]:
    require_ours(case.config, {"cost": "euclidean", "value": "mean of the optimal assignment"})
    return {"eid": assignment_cost(*(torch.as_tensor(case.inputs[name]) for name in ("a", "b")))}


def replication_summary(case: Case) -> dict[str, Any]:
    require_ours(case.config, {"ddof": 0, "factor": 1.96, "divide_by": "sqrt(n)"})
    values = np.asarray(case.inputs["values"])
    found = [metrics.mean_interval(column) for column in values.reshape(len(values), -1).T]
    mean, interval = (np.reshape(each, values.shape[1:]) for each in zip(*found))
    return {"mean": mean, "interval": interval}


HANDLERS = {
    "motion_embedding": motion_embedding, "text_embedding": text_embedding, "contrastive_loss": contrastive_loss,
    "r_precision": r_precision, "diversity": diversity, "activation_statistics": activation_statistics, "fid": fid,
    "multimodality": multimodality, "entropic_ot": entropic_ot, "assignment_ot": assignment_ot,
    "mm_dist": lambda case: {"mm_dist": metrics.matching_score(case.inputs["text"], case.inputs["motion"])},
    "replication_summary": replication_summary,
}  # fmt: skip
