"""Golden cases of the diffusion engine: schedules, steps, loops, bounds and errors.

Arrays of the originals are (B, features, 1, T); steps run on them as they are, networks and losses see (B, T, D).
"""

from collections.abc import Callable

import numpy as np
import torch
from einops import rearrange
from torch import Tensor

from diffusion import losses, samplers
from diffusion.gaussian import Diffusion, space_timesteps
from diffusion.guidance import dropped_rows, guided, keep_given, stack_conditions
from tests.golden import likelihood
from tests.golden.runner import Case

PREDICTIONS = {"START_X": "x0", "EPSILON": "eps", "PREVIOUS_X": "previous_x"}


def tensor(array) -> Tensor:
    return torch.from_numpy(np.asarray(array))


def _clipped(x0: Tensor) -> Tensor:
    return x0.clamp(-1, 1)


def frames_first(array) -> Tensor:
    """(B, rows, columns, T) of the originals -> (B, T, rows · columns)."""
    return rearrange(tensor(array), "b j f t -> b t (j f)")


def build_diffusion(config: dict, channel_axis: int = -1) -> Diffusion:
    """The process a case's config names; feature axis 1 in the originals' layout."""
    return Diffusion.create(
        config["schedule"],
        config["T"],
        PREDICTIONS[config.get("mean_type", "START_X")],
        config.get("var_type", "FIXED_SMALL").lower(),
        config["sections"],
        channel_axis=channel_axis,
    )


def stand_in(model: dict, learned_part: dict | None = None) -> Callable[[Tensor, Tensor], Tensor]:
    """A small known function in the place of the network."""

    def denoise(x: Tensor, t: Tensor) -> Tensor:
        steps = t.to(x).reshape(-1, *[1] * (x.dim() - 1))
        mean = model["a"] * x + model["b"] * torch.tanh(x.flip(model["axis"])) + model["c"] * steps
        if learned_part is None:
            return mean
        return torch.cat([mean, torch.sin(learned_part["k"] * x)], dim=learned_part["axis"])

    return denoise


def schedule_tables(case: Case) -> dict:
    diffusion = build_diffusion(case.config)
    return {name: getattr(diffusion, name) for name in case.expected}


def kept_timesteps(case: Case) -> dict:
    return {"kept": space_timesteps(case.config["T"], case.config["sections"])}


def stand_in_model(case: Case) -> dict:
    return {"output": stand_in(case.config["model"])(tensor(case.inputs["x"]), tensor(case.inputs["t"]))}


def forward_process(case: Case) -> dict:
    diffusion = build_diffusion(case.config)
    x0, xt, noise, t = (tensor(case.inputs[name]) for name in ("x0", "xt", "noise", "t"))

    def at(table: str) -> Tensor:
        return diffusion.at(table, t, x0).expand_as(x0)

    return {
        "q_sample": diffusion.q_sample(x0, t, noise),
        "q_mean_variance.mean": at("sqrt_alphas_cumprod") * x0,
        "q_mean_variance.var": 1 - at("alphas_cumprod"),
        "q_mean_variance.logvar": at("log_one_minus_alphas_cumprod"),
        "q_posterior.mean": diffusion.q_posterior_mean(x0, xt, t),
        "q_posterior.var": at("posterior_variance"),
        "q_posterior.logvar": at("posterior_log_variance_clipped"),
        "predict_xstart_from_eps": diffusion.x0_from_eps(xt, t, noise),
        "predict_eps_from_xstart": diffusion.eps_from_x0(xt, t, x0),
    }


def reverse_step(case: Case) -> dict:
    """One step of every kind at a different t per sample."""
    config = case.config
    diffusion = build_diffusion(config, channel_axis=1)
    x, t = tensor(case.inputs["xt"]), tensor(case.inputs["t"])
    edit_x0 = _clipped if config["clip_denoised"] else None
    reverse = diffusion.p_mean_variance(stand_in(config["model"], config["learned_part"]), x, t, edit_x0)
    not_last = (t != 0).to(x).reshape(-1, 1, 1, 1)

    def compute(output: dict):
        kind = output["op"]
        if kind == "p_mean_variance":
            field = {"pred_xstart": "x0"}.get(output["field"], output["field"])
            return torch.as_tensor(getattr(reverse, field)).expand_as(x)
        if kind == "model_timestep":
            return diffusion.original_steps(t, x)
        if kind == "ddim_reverse":
            return samplers.ddim_reverse_update(diffusion, x, reverse.x0, t)
        noise = tensor(case.inputs[output["noise"]])
        if output.get("const_noise"):
            noise = noise[:1].expand_as(noise)
        if kind == "p_sample":
            return samplers.add_noise(reverse.mean, reverse.log_variance, noise * not_last)
        mean, sigma = samplers.ddim_update(diffusion, x, reverse.x0, t, output["eta"])
        return mean + sigma * noise * not_last

    return {name: compute(output) for name, output in config["outputs"].items()}


class RecordedNoise:
    """The draws of the original, in order, in the place of a generator."""

    def __init__(self, draws: Tensor, first: int):
        self.draws, self.next = draws, first

    def __call__(self, x: Tensor) -> Tensor:
        self.next += 1
        return self.draws[self.next - 1].reshape(x.shape)


def sample_loop(case: Case) -> dict:
    """A whole loop over the stand-in, or over a network with guidance and in-painting."""
    config, inputs = case.config, case.inputs
    network = case.weights is not None
    settings = {"sampler": config["sampler"], "order": config["order"], "skip_timesteps": config["skip_timesteps"]}
    if config["eta"] is not None:
        settings["eta"] = config["eta"]
    index = config["noise_index"]
    draws = frames_first_loop(inputs["noise"]) if network else tensor(inputs["noise"]) if "noise" in inputs else None
    if index is not None:
        settings["noise"] = RecordedNoise(draws, index["first_step"])
    start = tensor(inputs["x_T"]) if "x_T" in inputs else draws[index["x_T"]]
    if "init_image" in inputs:
        settings["init"] = tensor(inputs["init_image"])
    edit = _clipped if config["clip_denoised"] else None
    if "inpainted_motion" in inputs:
        given, mask = frames_first(inputs["inpainted_motion"]), frames_first(inputs["inpainting_mask"])
        keep = keep_given(given, mask)
        edit = (lambda x0: _clipped(keep(x0))) if config["clip_denoised"] else keep
    denoise = guided_network(case) if network else stand_in(config["model"], config["learned_part"])
    steps = list(samplers.sample_steps(denoise, start, build_diffusion(config), edit_x0=edit, **settings))
    found = {"first_sample": steps[0].x, "first_pred_xstart": steps[0].x0, "final": steps[-1].x}
    if network:
        found = {name: rearrange(x, "b t (j f) -> b j f t", j=config["shape"][1]) for name, x in found.items()}
    return found


def frames_first_loop(noise) -> Tensor:
    return rearrange(tensor(noise), "n b j f t -> n b t (j f)")


def guided_network(case: Case) -> Callable[[Tensor, Tensor], Tensor]:
    """The case's network behind classifier-free guidance, both passes in one call."""
    from model.text_encoders import TextFeatures
    from tests.golden.lsremgm_model import network_of

    network = network_of(case)
    pooled = tensor(case.inputs["clip_embed"]).reshape(-1, case.config["model"]["text_dim"]).float()  # (B, C)
    batch = pooled.shape[0]
    pooled = stack_conditions(pooled, 2)
    text = TextFeatures(pooled, pooled[:, None], torch.ones(2 * batch, 1, dtype=torch.bool))
    mask = stack_conditions(tensor(case.inputs["mask"]).bool().reshape(batch, -1), 2)
    drop = dropped_rows(batch)

    def denoise(x: Tensor, t: Tensor) -> Tensor:
        return network(x, t, text, mask, drop=drop)

    return guided(denoise, tensor(case.inputs["scale"]).reshape(-1))


def vlb_terms(case: Case) -> dict:
    config = case.config
    diffusion = build_diffusion(config, channel_axis=1)
    x0, x, t = (tensor(case.inputs[name]) for name in ("x0", "xt", "t"))
    edit_x0 = _clipped if config["clip_denoised"] else None
    output, pred = likelihood.vlb_terms(diffusion, stand_in(config["model"], config["learned_part"]), x0, x, t, edit_x0)
    return {"output": output, "pred_xstart": pred, "prior_bpd": likelihood.prior_bpd(diffusion, x0)}


def prior_bpd(case: Case) -> dict:
    return {"prior_bpd": likelihood.prior_bpd(build_diffusion(case.config), tensor(case.inputs["x0"]))}


def masked_l2(case: Case) -> dict:
    a, b = frames_first(case.inputs["a"]), frames_first(case.inputs["b"])
    mask = tensor(case.inputs["mask"]).reshape(a.shape[0], -1)
    return {"masked_l2": losses.masked_l2(a, b, mask)}


def masked_goal_l2(case: Case) -> dict:
    config = case.config
    rows = config["target_rows"]
    valid = torch.zeros(len(config["is_heading"]), len(rows), dtype=torch.bool)
    for sample, names in enumerate(config["target_joint_names"]):
        valid[sample, [rows.index(name) for name in names]] = True
    valid[:, rows.index("heading")] = torch.tensor(config["is_heading"])
    return {"masked_goal_l2": losses.masked_goal_l2(tensor(case.inputs["pred"]), tensor(case.inputs["ref"]), valid)}


HANDLERS = {
    "schedule_tables": schedule_tables,
    "space_timesteps": kept_timesteps,
    "stand_in_model": stand_in_model,
    "forward_process": forward_process,
    "reverse_step": reverse_step,
    "sample_loop": sample_loop,
    "vlb_terms": vlb_terms,
    "prior_bpd": prior_bpd,
    "masked_l2": masked_l2,
    "masked_goal_l2": masked_goal_l2,
}
