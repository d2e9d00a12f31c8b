"""Golden cases of TEMOS as first published: networks, losses, rifke features, APE and AVE, frame rates."""

from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from data_loaders import rifke
from data_loaders.features import Features, Statistics
from data_loaders.smpl_body import published_stride
from evaluations.ape_ave import ape_ave
from model import tmr_losses as losses
from model.embedder import lengths_to_mask
from model.layers import EPS, Posterior
from model.official.temos import from_state
from model.text_encoders import TextEncoder
from model.text_towers import load_bert
from model.tmr import TMR
from model.tmr_config import TMRConfig
from tests.golden import references
from tests.golden.runner import Case
from tests.golden.tmr_model import OUR_NETWORKS, given, require_ours

OUR_RIFKE = {
    "joint_names": list(rifke.MMM_JOINTS),
    "forward": {"across": [["RK", "LK"], ["RE", "LE"]], "across_index": [list(pair) for pair in rifke.ACROSS]},
    "floor": {"joints": ["LMrot", "LF", "RMrot", "RF"], "softness": rifke.FLOOR_SOFTNESS},
    "forward_filter": False, "angle_unwrap": False, "eps": EPS, "variance_divisor": "T-1", "sequences_per_call": 1,
}  # fmt: skip


def model_of(case: Case) -> TMR:
    require_ours(case.config, OUR_NETWORKS)
    return from_state(case.weights, where=case.name, unseen=case.config)


@torch.no_grad()
def encode_text(case: Case) -> dict[str, Any]:
    tower = case.config["text_model"]
    folder = references.path_of(case.folder, tower["folder"])
    encoder = TextEncoder("distilbert", tower["hidden"], lambda: load_bert(folder, 512, sentence=False))
    model, text = model_of(case), encoder.encode(list(case.inputs["texts"]))
    posterior = model.text_posterior(text)
    return {
        "text_hidden": text.tokens, "text_mask": text.mask, "text_mu": posterior.mean,
        "text_std": (posterior.log_variance / 2).exp(),
    }  # fmt: skip


@torch.no_grad()
def encode_motion(case: Case) -> dict[str, Any]:
    values = given(case)
    posterior = model_of(case).motion_posterior(values["features"], lengths_to_mask(values["lengths"]))
    return {"motion_mu": posterior.mean, "motion_std": (posterior.log_variance / 2).exp()}


def recorded(values: dict[str, Tensor]) -> dict[str, Posterior]:
    return {name: Posterior(values[f"{name}_mu"], 2 * values[f"{name}_std"].log()) for name in ("text", "motion")}


@torch.no_grad()
def sample_decode(case: Case) -> dict[str, Any]:
    model, values, got = model_of(case), given(case), {}
    mask = lengths_to_mask(values["lengths"])
    for name, posterior in recorded(values).items():
        z = posterior.sample(values[f"eps_{name}"])
        got |= {f"z_{name}": z, f"decoded_{name}": model.decode(z, mask)}
    return got


def recorded_losses(case: Case) -> dict[str, Any]:
    """The terms of recorded latents and motions, under the names of the original."""
    values, weights = given(case), case.config["weights"]
    if len({weight for name, weight in weights.items() if name.startswith("kl")}) > 1:
        raise ValueError("the case weighs the four KL terms differently, the code cannot")
    posterior = recorded(values)
    config = TMRConfig(lambda_recons=weights["recons_text2jfeats"], lambda_kl=weights["kl_text"],
                       lambda_latent=weights["latent_manifold"], lambda_contrastive=0.0)
    terms = losses.kl_terms(posterior["text"], posterior["motion"])
    terms = {name.replace("_to_", "2"): value for name, value in terms.items()}
    got = terms | {
        "recons_jfeats2jfeats": losses.reconstruction(values["decoded_motion"], values["features"]),
        "recons_text2jfeats": losses.reconstruction(values["decoded_text"], values["features"]),
        "latent_manifold": F.smooth_l1_loss(values["z_text"], values["z_motion"]),
    }
    total = losses.weighted_sum({
        "recons": got["recons_jfeats2jfeats"] + got["recons_text2jfeats"], "kl": sum(terms.values()),
        "latent": got["latent_manifold"],
    }, config)  # fmt: skip
    return {**got, "total": total, "weighted_total": total}


def rifke_forward(case: Case) -> dict[str, Any]:
    require_ours(case.config, OUR_RIFKE)
    values = given(case)
    features = rifke.rifke_from_joints(values["joints"])
    if not case.config["normalise"]:
        return {"features": features}
    config = TMRConfig(features=Features("kit", rifke.FPS, kind="rifke"), latent_dim=4, num_layers=1, num_heads=1,
                       max_positions=8)
    statistics = Statistics(values["mean"].numpy(), values["std"].numpy(), config.features)
    return {"features": TMR(config, statistics).normalise(features)}


def rifke_inverse(case: Case) -> dict[str, Any]:
    require_ours(case.config, OUR_RIFKE)
    return {"joints": rifke.joints_from_features(given(case)["features"])}


def errors(case: Case) -> dict[str, Any]:
    require_ours(case.config, OUR_RIFKE)
    values, select = given(case), case.config["select"]
    pairs = []
    for call in case.config["calls"]:
        motions = [values[name][: call["length"]] for name in (call["ref"], *call["pred"])]
        pairs.append((motions[0], motions[1:]))
    return {"metrics": ape_ave(pairs, {"smallest": "best", "largest": "worst"}[select["take"]] if select else "first")}


def subsample(case: Case) -> dict[str, Any]:
    config = case.config
    return {"frames": published_stride(np.arange(config["num_frames"]), config["fps_in"], config["fps_out"])}


TEMOS = {
    "encode_text": encode_text,
    "encode_motion": encode_motion,
    "sample_decode": sample_decode,
    "losses": recorded_losses,
    "rifke_forward": rifke_forward,
    "rifke_inverse": rifke_inverse,
    "rifke_normalised": rifke_forward,
    "ape_ave_one_sample": errors,
    "ape_ave_best_of_two": errors,
    "ape_ave_worst_of_two": errors,
    "subsample": subsample,
    "upsample": lambda case: {"motion": rifke.upsampled(given(case)["motion"], case.config["factor"])},
}
HANDLERS = {"temos": lambda case: TEMOS[case.name.rpartition("/")[2]](case)}
