"""Golden cases of the reaction model: its losses on latents."""

from typing import Any

from diffusion.reaction_losses import alike, discrimination, gaussian_kl
from tests.golden.runner import Case
from tests.golden.tmr_model import given, require_ours


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


HANDLERS = {"gaussian_kl": latent_kl, "infonce": infonce}
