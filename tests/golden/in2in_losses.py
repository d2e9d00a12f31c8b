"""Golden cases of the losses of two people: between them, of each body, of the one-person prior, and a whole training loss."""

from functools import partial
from typing import Any

import torch
from torch import Tensor

from data_loaders.interhuman_features import CONTACT_HEIGHTS, CONTACT_STEP
from data_loaders.skeleton import load_skeleton
from diffusion import interaction_losses as losses
from tests.golden.runner import Case
from tests.golden.tmr_model import require_ours

OUR_RULES = {"eps": losses.EPS, "joints": 22, "timestep_active": "t <= T_BAR", "velocity_mask": "mask at the earlier frame"}
PAIRS = {"DM": "distance_map", "JA": "joint_affinity", "RO": "orientation"}
BODIES = {"VEL": "velocity", "BL": "bone_length", "FC": "foot_contact"}


def given(case: Case) -> dict[str, Tensor]:
    return {name: torch.as_tensor(value) for name, value in case.inputs.items()}


def joints_of(x: Tensor, mean: Tensor, std: Tensor) -> Tensor:
    """Joints (B, 2, T, 22, 3) of normalised features (B, T, 524)."""
    people = x.unflatten(-1, (2, -1)) * std.float() + mean.float()  # (B, T, 2, 262)
    return people[..., :66].unflatten(-1, (22, 3)).transpose(1, 2)


def weights_of(config: dict[str, Any]) -> losses.InteractionWeights:
    require_ours(config, OUR_RULES)
    stated = {**config["weights"], **config.get("geometric", {}).get("weights", {})}
    names = {"simple": "denoising", **PAIRS, **BODIES}
    return losses.InteractionWeights(**{names[name]: value for name, value in stated.items()}, latest_step=config["T_BAR"])


def step_of(active: Tensor, config: dict[str, Any]) -> Tensor:
    """Steps at which the samples count, or do not, as the case has them."""
    return torch.where(active > 0, config["T_BAR"], config["T_BAR"] + 1)


def all_terms(case: Case) -> tuple[dict[str, Tensor], losses.InteractionWeights]:
    """Every term under the published name, its weight included."""
    values, weights = given(case), weights_of(case.config)
    joints = partial(joints_of, mean=values["mean"], std=values["std"])
    t = step_of(values["timestep_mask"], case.config)
    mask = values["mask"][..., 0] > 0
    return weighted(losses.interaction_loss(values["pred"].flatten(2), values["target"].flatten(2), joints, t, mask, weights),
                    weights), weights  # fmt: skip


def weighted(found: dict[str, Tensor], weights: losses.InteractionWeights) -> dict[str, Tensor]:
    terms = {"simple": weights.denoising * found["denoising"], "loss": found["loss"]}
    terms |= {name: getattr(weights, ours) * found[ours] for name, ours in PAIRS.items()}
    for person, letter in enumerate("AB", start=1):
        each = {name: getattr(weights, ours) * found[f"{ours}_{person}"] for name, ours in BODIES.items()}
        terms |= {f"{name}_{letter}": term for name, term in each.items()} | {letter: sum(each.values())}
    return terms


def interaction(case: Case) -> dict[str, Any]:
    require_ours(case.config["DM"], {"predicted_distance_below_m": losses.NEAR})
    require_ours(case.config["JA"], {"target_distance_below_m": losses.TOUCHING})
    terms, _ = all_terms(case)
    return {**terms, "total": sum(terms[name] for name in ("simple", *PAIRS))}


def geometric(case: Case) -> dict[str, Any]:
    feet, skeleton = case.config["feet"], load_skeleton("humanml")
    require_ours(feet, {"joints": list(skeleton.feet), "squared_displacement_below": CONTACT_STEP,
                        "height_below": list(CONTACT_HEIGHTS), "of": "prediction"})  # fmt: skip
    terms, _ = all_terms(case)
    letter = "AB"[case.config["person"]]
    return {**{name: terms[f"{name}_{letter}"] for name in BODIES}, "sum": terms[letter]}


def individual(case: Case) -> dict[str, Any]:
    values, config = given(case), case.config
    mask = values["mask"][..., config["mask_person"]] > 0
    simple = config["weights"]["simple"] * losses.pooled_squared_error(values["pred"], values["target"], mask)
    return {"simple": simple, "total": simple}


HANDLERS = {"interaction_loss": interaction, "geometric_loss": geometric, "individual_loss": individual}
