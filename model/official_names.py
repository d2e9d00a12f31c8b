"""Tables that rename parameters of published checkpoints to ours, and the reading of their files."""

import re
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, Literal, TypedDict

from torch import Tensor

from data_loaders.edit_masks import TARGET_ROWS
from model.loading import CheckpointError, as_state, checkpoint_errors
from model.lsremgm import LSReMGMConfig
from protos.names import shown
from protos.reading import convert
from protos.weights import read_torch

# Our name -> the published one (MDM, Tevet et al. 2023; LS-ReMGM's weights are MDM's). Order matters: first match.
MDM_NAMES = (
    (r"input_projection\.", "input_process.poseEmbedding."),
    (r"output_projection\.", "output_process.poseFinal."),
    (r"time_mlp\.", "embed_timestep.time_embed."),
    (r"text_projection\.", "embed_text."),
    (r"action_table$", "embed_action.action_embedding"),
    (r"gru\.", "gru."),
)
MDM_LAYER_NAMES = (
    (r"self_attention\.qkv\.", "self_attn.in_proj_"),
    (r"self_attention\.out\.", "self_attn.out_proj."),
    (r"cross_attention\.qkv\.", "multihead_attn.in_proj_"),
    (r"cross_attention\.out\.", "multihead_attn.out_proj."),
    (r"linear", "linear"),
)
MDM_NORMS = {
    "trans_enc": {"norm_self": "norm1", "norm_ff": "norm2"},
    "trans_dec": {"norm_self": "norm1", "norm_cross": "norm2", "norm_ff": "norm3"},
}
MDM_STACK = {"trans_enc": "seqTransEncoder", "trans_dec": "seqTransDecoder"}
MDM_NOT_LOADED = (r"(^|\.)pe$", r"^clip_model\.")  # fixed sinusoids; the frozen text encoder


def torch_layer_name(name: str, arch: str) -> str:
    """The name that `layers.<i>.<rest>` of ours has in a torch.nn.TransformerEncoder or Decoder, by `arch`."""
    _, index, rest = name.split(".", 2)
    stack = f"{MDM_STACK[arch]}.layers.{index}."
    norm, _, kind = rest.partition(".")
    if norm in MDM_NORMS[arch]:
        return f"{stack}{MDM_NORMS[arch][norm]}.{kind}"
    return stack + _first_match(rest, MDM_LAYER_NAMES)


def mdm_name(name: str, config: LSReMGMConfig) -> str:
    """The published name of our parameter `name`."""
    if name.startswith("layers."):
        return torch_layer_name(name, config.arch)
    if name == "target_encoder.row_weights":
        return "embed_target_cond.target_all_loc_emb.weights"
    if match := re.fullmatch(r"target_encoder\.networks\.(\d+)\.(.+)", name):
        part = {"single": "mlp", "split": f"mini_mlps.{match[1]}",
                "multi": f"target_loc_emb.{TARGET_ROWS[int(match[1])]}"}[config.target_encoder]
        return f"embed_target_cond.{part}.{match[2]}"
    return _first_match(name, MDM_NAMES)


def _first_match(name: str, table: Iterable[tuple[str, str]]) -> str:
    for ours, theirs in table:
        if re.match(ours, name):
            return re.sub(ours, theirs, name, count=1)
    raise KeyError(f"no published name for {name}")


def rename(published: dict[str, Tensor], ours: dict[str, Tensor], to_published: Callable[[str], str],
           not_loaded: Iterable[str], where: str) -> dict[str, Tensor]:
    """A published state dict under our names. CheckpointError names what is missing, unexpected or of another shape."""
    pairs = {name: to_published(name) for name in ours}
    given = {key for key in published if not any(re.search(pattern, key) for pattern in not_loaded)}
    missing, unexpected = sorted(set(pairs.values()) - given), sorted(given - set(pairs.values()))
    if missing or unexpected:
        lists = [f"{len(keys)} {kind} ({', '.join(keys[:3])}{', …' if len(keys) > 3 else ''})"
                 for kind, keys in (("missing", missing), ("unexpected", unexpected)) if keys]
        raise CheckpointError(f"{where} does not hold the weights its configuration asks for: {'; '.join(lists)}")
    for name, theirs in pairs.items():
        if published[theirs].shape != ours[name].shape:
            raise CheckpointError(f"{where}: {theirs} has shape {tuple(published[theirs].shape)}, "
                                  f"its configuration asks for {tuple(ours[name].shape)}")
    return {name: published[theirs] for name, theirs in pairs.items()}


def read_published(path: Path, *, use_average: bool) -> dict[str, Tensor]:
    """State dict of an official `model*.pt`: flat, or `model` and `model_avg` (the EMA); runs no pickled code."""
    if not path.is_file():
        raise CheckpointError(f"no checkpoint at {path}")
    with checkpoint_errors():
        content = read_torch(path)
    if isinstance(content, dict) and "model_avg" in content:
        content = content.get("model_avg" if use_average else "model")
    elif isinstance(content, dict) and isinstance(content.get("model"), dict):
        content = content["model"]
    return as_state(content, path)


# What a published dataset name implies for a frame, and how long a sample may be.
MDM_DATASETS = {
    "humanml": {"num_features": 263, "skeleton": "humanml", "fps": 20.0, "features": "humanml", "max_frames": 196},
    "kit": {"num_features": 251, "skeleton": "kit", "fps": 12.5, "features": "humanml", "max_frames": 196},
    "humanact12": {"num_features": 150, "skeleton": "smpl", "fps": 20.0, "features": "smpl_rot6d", "max_frames": 60},
    "uestc": {"num_features": 150, "skeleton": "smpl", "fps": 20.0, "features": "smpl_rot6d", "max_frames": 60},
}


class MDMArgs(TypedDict):
    """The data, model and diffusion fields of a published args.json."""

    dataset: str
    arch: Literal["trans_enc", "trans_dec", "gru"]
    text_encoder_type: str
    emb_trans_dec: bool
    layers: int
    latent_dim: int
    cond_mask_prob: float
    mask_frames: bool
    unconstrained: bool
    pos_embed_max_len: int
    use_ema: bool
    context_len: int
    pred_len: int
    noise_schedule: Literal["cosine", "linear"]
    diffusion_steps: int
    sigma_small: bool
    lambda_rcxyz: float
    lambda_vel: float
    lambda_fc: float
    lambda_target_loc: float
    multi_target_cond: bool
    multi_encoder_type: Literal["single", "split", "multi"]
    target_enc_layers: int


MDM_DEFAULTS: MDMArgs = {
    "dataset": "humanml", "arch": "trans_enc", "text_encoder_type": "clip", "emb_trans_dec": False, "layers": 8,
    "latent_dim": 512, "cond_mask_prob": 0.1, "mask_frames": False, "unconstrained": False,
    "pos_embed_max_len": 5000, "use_ema": False, "context_len": 0, "pred_len": 0, "noise_schedule": "cosine",
    "diffusion_steps": 1000, "sigma_small": True, "lambda_rcxyz": 0.0, "lambda_vel": 0.0, "lambda_fc": 0.0,
    "lambda_target_loc": 0.0, "multi_target_cond": False, "multi_encoder_type": "single", "target_enc_layers": 1,
}  # fmt: skip
MDM_TEXT_ENCODERS = {"clip": ("clip-b32", 512, "pooled"), "bert": ("distilbert", 768, "tokens")}
NUM_ACTIONS = {"humanact12": 12, "uestc": 40}


def read_args(args: dict, where: str = "args.json") -> dict[str, Any]:
    """The data, model and diffusion fields of a published args.json, defaults in place of missing ones.

    Spec of the originals: `num_layers` is their `layers`; a `cond_mode` of no_cond in very old files means
    unconstrained; pred_len 0 means context_len; a target loss implies target conditioning. Unknown keys are ignored.
    CheckpointError names a value of a wrong type.
    """
    with checkpoint_errors():
        fields = convert({name: args.get(name, default) for name, default in MDM_DEFAULTS.items()}, MDMArgs, where)
    fields["dataset"] = {"t2m": "humanml"}.get(fields["dataset"], fields["dataset"])
    if fields["dataset"] not in MDM_DATASETS:
        raise CheckpointError(f"{where} names dataset {shown(fields['dataset'])}, known: {', '.join(MDM_DATASETS)}")
    fields["num_layers"] = fields.pop("layers")
    fields["unconstrained"] = bool(fields["unconstrained"] or args.get("cond_mode") == "no_cond")
    fields["pred_len"] = fields["pred_len"] or fields["context_len"]
    fields["multi_target_cond"] = bool(fields["multi_target_cond"] or fields["lambda_target_loc"] > 0)
    return fields


def config_from_args(args: dict, where: str = "args.json") -> LSReMGMConfig:
    """Our configuration of a published model from its args.json."""
    fields = read_args(args, where)
    dataset = fields["dataset"]
    condition = "none" if fields["unconstrained"] else "action" if dataset in NUM_ACTIONS else "text"
    if fields["text_encoder_type"] not in MDM_TEXT_ENCODERS:
        raise CheckpointError(f"{where} names text encoder {shown(fields['text_encoder_type'])}, known: clip, bert")
    encoder, text_dim, memory = MDM_TEXT_ENCODERS[fields["text_encoder_type"]]
    if condition != "text":
        encoder, text_dim, memory = "none", 0, "pooled"
    # Only the newer code knows text_encoder_type without emb_before_mask; the older adds the text to the token.
    newer = "text_encoder_type" in args and "emb_before_mask" not in args
    token = ("time" if newer else "time+text") if fields["emb_trans_dec"] and fields["arch"] == "trans_dec" else "none"
    taken = ("arch", "num_layers", "latent_dim", "cond_mask_prob", "mask_frames", "context_len", "pred_len",
             "noise_schedule", "diffusion_steps", "sigma_small", "lambda_rcxyz", "lambda_vel", "lambda_fc",
             "lambda_target_loc")
    try:
        return LSReMGMConfig(
            **{name: fields[name] for name in taken},
            **MDM_DATASETS[dataset],
            dataset=dataset,
            max_positions=fields["pos_embed_max_len"],
            condition=condition,
            num_actions=NUM_ACTIONS[dataset] if condition == "action" else 0,
            text_encoder=encoder,
            text_dim=text_dim,
            text_memory=memory,
            text_max_tokens=22 if encoder == "clip-b32" else 0,
            decoder_token=token,
            target_encoder=fields["multi_encoder_type"] if fields["multi_target_cond"] else "none",
            target_layers=fields["target_enc_layers"],
            gru_over="batch",
            guidance_scale=7.5 if fields["context_len"] else 2.5,
        )
    except ValueError as error:
        raise CheckpointError(f"{where}: {error}") from None
