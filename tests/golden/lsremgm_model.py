"""Golden cases of the LS-ReMGM network: denoisers, checkpoints, training steps, autoregression, editing, files."""

from copy import deepcopy
from functools import partial

import numpy as np
import torch
from torch import Tensor

from data_loaders.edit_masks import TargetLocation, feature_mask, in_between_mask, target_location, target_rows
from data_loaders.features import Features
from diffusion.gaussian import Diffusion
from diffusion.guidance import dropped_rows, guided
from diffusion.losses import LossWeights, MotionTerms, training_loss
from diffusion.samplers import sample
from model.lsremgm_config import LSReMGMConfig
from model.lsremgm_network import MotionDenoiser
from model.lsremgm_sampling import autoregress
from model.official.mdm import NOT_LOADED, mdm_name, read_args
from model.official.weights import rename
from model.text_encoders import TextFeatures
from tests.golden.runner import Case

HUMANML = Features("humanml", 20.0, "published")


def config_of(model: dict) -> LSReMGMConfig:
    """Our configuration from the original constructor's arguments."""
    text = "text" in model["cond_mode"]
    words = text and model["text_encoder_type"] == "bert"
    return LSReMGMConfig(
        arch=model["arch"],
        latent_dim=model["latent_dim"],
        ff_size=model["ff_size"],
        num_layers=model["num_layers"],
        num_heads=model["num_heads"],
        dropout=model["dropout"],
        max_positions=model["pos_embed_max_len"],
        gru_over="batch",
        condition="text" if text else "action" if "action" in model["cond_mode"] else "none",
        num_actions=model["num_actions"],
        text_encoder="distilbert" if words else "clip-b32",
        text_dim=model["text_dim"] or 0,
        text_memory="tokens" if words else "pooled",
        decoder_token=model.get("decoder_token", "none") if model["emb_trans_dec"] else "none",
        mask_frames=model["mask_frames"],
        context_len=model["context_len"],
        pred_len=model["pred_len"],
        target_encoder=model["multi_encoder_type"] if model["multi_target_cond"] else "none",
        target_layers=model["target_enc_layers"],
        cond_mask_prob=model["cond_mask_prob"],
    )


def width_of(model: dict) -> int:
    return model["njoints"] * model["nfeats"]


def network_of(case: Case) -> MotionDenoiser:
    """The case's network with its weights, in eval mode."""
    config = config_of(case.config["model"])
    network = MotionDenoiser(config, width_of(case.config["model"]))
    to_published = partial(mdm_name, config=config)
    network.load_state_dict(rename(case.weights, network.state_dict(), to_published, NOT_LOADED, case.name))
    return network.eval()


def motion_of(x: np.ndarray) -> Tensor:
    """(B, T, D) from the original's (B, joints, features, T)."""
    return torch.from_numpy(x).flatten(1, 2).transpose(1, 2)


def original_axes(x: Tensor, model: dict) -> Tensor:
    """The original's (B, joints, features, T) from (B, T, D)."""
    return x.transpose(1, 2).unflatten(1, (model["njoints"], model["nfeats"]))


def mask_of(mask: np.ndarray, frames: int) -> Tensor:
    """(B, T); the original's mask of width 1 means that every frame is real."""
    return torch.from_numpy(mask)[:, 0, 0].bool().expand(-1, frames)


def text_of(inputs: dict) -> TextFeatures | None:
    """Text features from CLIP's (1, B, 512) or BERT's (L, B, 768) with its padding mask."""
    if "bert_embed" in inputs:
        tokens = torch.from_numpy(inputs["bert_embed"]).transpose(0, 1)  # (B, L, C)
        return TextFeatures(tokens.mean(1), tokens, ~torch.from_numpy(inputs["bert_pad_mask"]))
    if "clip_embed" in inputs:
        pooled = torch.from_numpy(inputs["clip_embed"])[0]  # (B, C)
        return TextFeatures(pooled, pooled[:, None], torch.ones(len(pooled), 1, dtype=torch.bool))
    return None


def target_of(case: Case) -> TargetLocation | None:
    if "target_cond" not in case.inputs:
        return None
    valid = target_rows(case.config["target_joint_names"], case.config["is_heading"])
    return TargetLocation(torch.from_numpy(case.inputs["target_cond"]), valid)


@torch.no_grad()
def denoise(case: Case) -> dict:
    network, model, inputs = network_of(case), case.config["model"], case.inputs
    x, t = motion_of(inputs["x"]), torch.from_numpy(inputs["t"])
    prefix = motion_of(inputs["prefix"]) if "prefix" in inputs else None
    action = torch.from_numpy(inputs["action"]).flatten().long() if "action" in inputs else None
    everyone = torch.ones(len(x), dtype=torch.bool)

    def run(condition: bool, with_target: bool) -> Tensor:
        return network(x, t, text_of(inputs), mask_of(inputs["mask"], x.shape[1]), action=action, prefix=prefix,
                       target=target_of(case), drop=None if condition else everyone,
                       drop_target=None if with_target else everyone)

    outputs = {}
    for name, how in case.config["outputs"].items():
        if how["guided"]:
            scale = torch.from_numpy(inputs["scale"]).view(-1, 1, 1)
            unconditional = run(False, how["target"])
            y = unconditional + scale * (run(True, how["target"]) - unconditional)
        else:
            y = run(how["condition"], how["target"])
        outputs[name] = original_axes(y, model)
    return outputs


@torch.no_grad()
def denoise_internals(case: Case) -> dict:
    network, inputs = network_of(case), case.inputs
    x, t = motion_of(inputs["x"]), torch.from_numpy(inputs["t"])
    time = network.time_mlp(network.positions[t])
    text = network.text_projection(text_of(inputs).pooled)
    frames = network.input_projection(x)
    placed = network.place(torch.cat([(time + text)[:, None], frames], dim=1))
    return {
        "time_emb": time[None],
        "text_emb": text[None],
        "input_process": frames.transpose(0, 1),
        "after_pos": placed.transpose(0, 1),
        "after_layer0": network.layers[0](placed).transpose(0, 1),
    }


def positional_encoding(case: Case) -> dict:
    """The table. CPUs differ in the last bit of exp(), hence of a frequency: what that bit is worth at a row is granted."""
    from model.layers import sinusoidal_table

    rows, dim, base = case.config["rows"], case.config["d"], case.config["base"]
    table = sinusoidal_table(max(rows) + 1, dim, base)[rows].numpy()  # (rows, d)
    frequency = (base ** (-np.arange(0, dim, 2) / dim)).astype(np.float32)
    granted = np.outer(rows, np.spacing(frequency)).repeat(2, axis=1)
    return {"pe": table + np.clip(case.expected["pe"] - table, -granted, granted)}


def state_dict_shapes(case: Case) -> dict:
    """Published names and shapes of our full-size network; fixed tables (`ignore_suffix`) are no parameters of ours."""
    config = config_of(case.config["model"])
    with torch.device("meta"):
        network = MotionDenoiser(config, width_of(case.config["model"]))
    keys = {mdm_name(name, config): list(value.shape) for name, value in network.state_dict().items()}
    fixed = tuple(case.config["ignore_suffix"])
    keys |= {key: shape for key, shape in case.expected["keys"].items() if key.endswith(fixed)}
    count = sum(parameter.numel() for parameter in network.parameters())
    return {"keys": keys, "trainable_parameters": count}


def published_args(case: Case) -> dict:
    return read_args(case.inputs["args"])


def feature_masks(case: Case) -> dict:
    from data_loaders.edit_masks import lower_body_joints

    masks = {edit: feature_mask(edit, HUMANML) for edit in ("lower_body", "upper_body", "root", "root_horizontal")}
    return {**masks, "lower_joints": np.array(lower_body_joints(HUMANML.body))}


def in_between(case: Case) -> dict:
    config = case.config
    lengths = torch.tensor(config["lengths"])
    mask = in_between_mask(lengths, config["frames"], config["prefix_end"], config["suffix_start"])  # (B, T)
    return {"mask": mask[:, None, None].expand(-1, config["features"], 1, -1)}


def end_location(case: Case) -> dict:
    inputs = case.inputs
    features = motion_of(inputs["motion"] * inputs["std"] + inputs["mean"])  # (B, T, D)
    valid = target_rows(case.config["target_joint_names"], inputs["is_heading"])
    target = target_location(features, torch.tensor(case.config["lengths"]), valid, HUMANML)
    return {"target_loc": target.values, "joints": HUMANML.joints(features)[:, None]}


def results_file(case: Case) -> dict:
    from data_loaders.motion_files import read_results

    results = read_results(case.path("file"))
    found = {
        "motion": np.stack([motion.joints[0].transpose(1, 2, 0) for motion in results.motions]), "text": results.texts,
        "lengths": np.array([motion.joints.shape[1] for motion in results.motions]), "num_samples": results.num_samples,
        "num_repetitions": results.num_repetitions,
    }  # fmt: skip
    return {name: found[name] for name in case.expected}


def motion_terms(case: Case) -> MotionTerms:
    """Joints of rotation data by the case's stand-in for a body model, a linear map of 25 x 6 values to 24 x 3."""
    if "linear_smpl" not in case.inputs:
        return MotionTerms()
    matrix = torch.from_numpy(case.inputs["linear_smpl"])
    return MotionTerms(
        joints=lambda x: (x @ matrix.T).unflatten(-1, (24, 3)),
        velocity_columns=-case.config["model"]["nfeats"],
        foot_joints=tuple(case.config["foot_joints"]),
        foot_speed=case.config["foot_speed_threshold"],
    )


def loss_terms(case: Case, network: MotionDenoiser, inputs: dict) -> dict:
    """Terms (B,) of `training_loss` for x_start, noise and t of `inputs`, under our names."""
    config = case.config
    prediction = {"START_X": "x0", "EPSILON": "eps"}[config["mean_type"]]
    diffusion = Diffusion.create(config["schedule"], config["T"], prediction)
    x0, noise = motion_of(inputs["x_start"]), motion_of(inputs["noise"])
    mask = mask_of(inputs["mask"], x0.shape[1])
    action = torch.from_numpy(inputs["action"]).flatten().long() if "action" in inputs else None
    weights = LossWeights(
        velocity=config["lambda_vel"], joints=config["lambda_rcxyz"], joint_velocity=config["lambda_vel_rcxyz"],
        foot_contact=config["lambda_fc"], goal=config["lambda_target_loc"])
    denoise = partial(network, text=text_of(inputs), mask=mask, action=action)
    t = torch.from_numpy(inputs["t"])
    return training_loss(denoise, x0, t, noise, mask, diffusion, weights, motion_terms(case))


@torch.no_grad()
def training_losses(case: Case) -> dict:
    terms = loss_terms(case, network_of(case), case.inputs)
    names = {"denoising": "rot_mse", "velocity": "vel_mse", "joints": "rcxyz_mse", "foot_contact": "fc",
             "joint_velocity": "vel_xyz_mse"}
    return {names.get(name, name): value for name, value in terms.items()}


def train_steps(case: Case) -> dict:
    """Some steps of our loss, AdamW and averaging on given data, noise and steps."""
    from train.loop import update_average

    network, settings = network_of(case), case.config["optimizer"]
    average = deepcopy(network)
    optimizer = torch.optim.AdamW(network.parameters(), lr=settings["lr"], betas=tuple(settings["betas"]),
                                  eps=settings["eps"], weight_decay=settings["weight_decay"])
    outputs: dict = {"loss": [], "grad_norm": []}
    for step in range(case.config["steps"]):
        given = {name: case.inputs[f"step{step}.{name}"] for name in ("x_start", "noise", "t")}
        loss = loss_terms(case, network, {**case.inputs, **given})["loss"].mean()
        optimizer.zero_grad()
        loss.backward()
        outputs["grad_norm"].append(torch.nn.utils.get_total_norm([p.grad for p in network.parameters()]).item())
        outputs["loss"].append(loss.item())
        optimizer.step()
        update_average(average, network, case.config["ema"]["decay"])
    for prefix, model in (("after3", network), ("ema3", average)):
        outputs |= {f"{prefix}/{mdm_name(name, network.config)}": value for name, value in model.state_dict().items()}
    return outputs


def moving_average(case: Case) -> dict:
    from train.loop import update_average

    average, network = torch.nn.Linear(1, 1, bias=False), torch.nn.Linear(1, 1, bias=False)
    average.weight.data = torch.from_numpy(case.inputs["initial"]).clone()
    for weights in case.inputs["params"]:
        network.weight.data = torch.from_numpy(weights)
        update_average(average, network, case.config["decay"])
    return {"average": average.weight}


@torch.no_grad()
def autoregressive_loop(case: Case) -> dict:
    """Prefix completion piece by piece, with the case's own noise: `draws_per_call` draws for each piece."""
    network, config, inputs = network_of(case), case.config, case.inputs
    diffusion = Diffusion.create(config["schedule"], config["T"])
    prefix, text = motion_of(inputs["prefix"]), text_of(inputs)
    batch, draws = len(prefix), config["draws_per_call"]
    mask = mask_of(inputs["mask"], config["pred_len"])
    scale = torch.from_numpy(inputs["scale"]).flatten()

    def next_frames(given: Tensor, call: int) -> Tensor:
        numbers = iter(inputs["noise"][call * draws : (call + 1) * draws])
        both = torch.arange(2 * batch) % batch
        denoise = partial(network, text=text[both], mask=mask[both], prefix=given[both], drop=dropped_rows(batch))
        shape = (batch, config["pred_len"], given.shape[-1])
        return sample(guided(denoise, scale), shape, diffusion, sampler=config["sampler"],
                      noise=lambda x: motion_of(next(numbers)))

    frames = config["required_frames"]
    made = autoregress(next_frames, prefix, frames, config["pred_len"])
    both = torch.cat([prefix, made], dim=1)[:, :frames]
    return {
        name: original_axes(both if how["include_prefix"] else made, config["model"])
        for name, how in config["outputs"].items()
    }


HANDLERS = {
    "denoise": denoise,
    "denoise_internals": denoise_internals,
    "positional_encoding": positional_encoding,
    "state_dict_shapes": state_dict_shapes,
    "read_args": published_args,
    "read_results": results_file,
    "training_losses": training_losses,
    "train_steps": train_steps,
    "ema": moving_average,
    "autoregressive_loop": autoregressive_loop,
    "feature_masks": feature_masks,
    "in_between_mask": in_between,
    "target_location": end_location,
}
