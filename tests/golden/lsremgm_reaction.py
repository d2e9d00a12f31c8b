"""Golden cases of the reaction mode: what is read from joints, and losses on latents."""

from typing import Any

import torch

from data_loaders import motion_semantics as ours
from data_loaders.skeleton import load_skeleton
from diffusion.reaction_losses import alike, discrimination, gaussian_kl
from tests.golden.runner import Case
from tests.golden.tmr_model import given, require_ours

OUR_RULES = {
    "unit": "m", "axes_order": list(ours.AXES), "kinds": list(ours.KINDS), "up": [0.0, 1.0, 0.0], "forward": "cross(up, right)",
    "first_velocity": "copy_of_frame_1", "norm_floor": ours.SHORTEST,
    "level_formula": "clamp(floor((v-lo)/(hi-lo)*levels),0,levels-1)", "normalised_formula": "(2*level+1)/levels-1",
}  # fmt: skip
OUR_ACROSS = {"zeroed_axis": 1, "min_length": ours.SHORTEST, "initial_right": list(ours.FIRST_RIGHT)}


def scheme_of(config: dict[str, Any]) -> ours.Scheme:
    """What a case reads, by the names of its joints."""
    require_ours(config, OUR_RULES)
    across, body = config["across"], load_skeleton("humanml").joint_names
    require_ours(across, OUR_ACROSS)

    def named(groups: list) -> tuple:
        return tuple(tuple(body[joint] for joint in group) for group in groups)

    (moving,) = named([config["velocity_joints"]])
    scheme = ours.Scheme(
        config["levels"], tuple(tuple(config["range"][kind]) for kind in ours.KINDS), named(config["pairs"]),
        named(config["bends"]), named(config["limbs"]), moving, named(list(zip(across["from"], across["to"]))),
    )  # fmt: skip
    require_ours({"counts": config["counts"]}, {"counts": scheme.counts})
    return scheme


def descriptors(case: Case) -> dict[str, Any]:
    joints = torch.as_tensor(case.inputs["joints"]).to(getattr(torch, case.config.get("dtype", "float64")))
    scheme, fps = scheme_of(case.config), case.config["fps"]
    levels = ours.levels(joints, fps, scheme)
    return {
        "axes_ruf": ours.body_axes(joints, scheme), "levels": levels, "changes": ours.changes(levels),
        "normalised": ours.normalised(levels, scheme.levels, joints.dtype),
        **{f"raw.{kind}": values for kind, values in ours.descriptors(joints, fps, scheme).items()},
    }  # fmt: skip


def latent_kl(case: Case) -> dict[str, Any]:
    require_ours(case.config, {"reduction": "mean_over_latent", "per": "sample"})
    values = given(case)
    sides = {name: (values[f"mu_{name}"], values[f"logvar_{name}"]) for name in "ar"} | {"standard_normal": ()}
    return {name: gaussian_kl(*sides[one], *sides[other]) for name, (one, other) in case.config["outputs"].items()}


def infonce(case: Case) -> dict[str, Any]:
    config, values = case.config, given(case)
    require_ours(config, {"similarity": "cosine", "exclude_diagonal": False, "symmetric": "0.5*(rows+columns)",
                          "batch_reduction": "mean"})  # fmt: skip
    excluded = alike(values["S"], config["exclude_semantic_cosine_above"])
    return {"excluded": excluded, "infonce": discrimination(values["mu_a"], values["mu_r"], excluded, config["temperature"])}


HANDLERS = {"descriptors": descriptors, "gaussian_kl": latent_kl, "infonce": infonce}
