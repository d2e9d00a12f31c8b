"""Checkpoints of MDM (Tevet et al. 2023), DiP and LS-ReMGM as published: args.json and model*.pt."""

import logging
import re
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal

from torch import Tensor

from data_loaders.edit_masks import TARGET_ROWS
from data_loaders.features import Features, Statistics
from data_loaders.known_datasets import DATASET_ROOT, dataset_named
from model.lsremgm import LSReMGM
from model.lsremgm_config import LSReMGMConfig
from model.model import as_state, made_for, read_settings, read_torch
from model.official.weights import first_match, load_renamed, torch_layer_name
from model.text_encoders import TextEncoder
from protos.files import shown
from protos.reading import FileError, convert, read_array

log = logging.getLogger(__name__)

# Our name -> the published one (MDM, Tevet et al. 2023; LS-ReMGM's weights are MDM's). Order matters: first match.
NAMES = (
    (r"input_projection\.", "input_process.poseEmbedding."),
    (r"output_projection\.", "output_process.poseFinal."),
    (r"time_mlp\.", "embed_timestep.time_embed."),
    (r"text_projection\.", "embed_text."),
    (r"action_table$", "embed_action.action_embedding"),
    (r"gru\.", "gru."),
)
NOT_LOADED = (r"(^|\.)pe$", r"^clip_model\.")  # fixed sinusoids; the frozen text encoder


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
    return first_match(name, NAMES)


def read_published(path: Path, *, use_average: bool) -> dict[str, Tensor]:
    """State dict of an official `model*.pt`: flat, or `model` and `model_avg` (the EMA); runs no pickled code."""
    if not path.is_file():
        raise FileError(f"no checkpoint at {path}")
    content = read_torch(path)
    if isinstance(content, dict) and "model_avg" in content:
        content = content.get("model_avg" if use_average else "model")
    elif isinstance(content, dict) and isinstance(content.get("model"), dict):
        content = content["model"]
    return as_state(content, path)


# What a published dataset name implies for a frame, and how long a sample may be.
ROTATIONS = Features(kind="smpl_rot6d", skeleton="smpl")
DATASETS: dict[str, dict[str, Any]] = {
    "humanml": {"features": Features(), "max_frames": 196},
    "kit": {"features": Features(skeleton="kit", fps=12.5), "max_frames": 196},
    "humanact12": {"features": ROTATIONS, "max_frames": 60},
    "uestc": {"features": ROTATIONS, "max_frames": 60},
}


@dataclass(frozen=True)
class MDMArgs:
    """The data, model and diffusion fields of a published args.json, and what stands for a missing one."""

    dataset: str = "humanml"
    arch: Literal["trans_enc", "trans_dec", "gru"] = "trans_enc"
    text_encoder_type: str = "clip"
    emb_trans_dec: bool = False
    layers: int = 8
    latent_dim: int = 512
    cond_mask_prob: float = 0.1
    mask_frames: bool = False
    unconstrained: bool = False
    pos_embed_max_len: int = 5000
    use_ema: bool = False
    context_len: int = 0
    pred_len: int = 0
    noise_schedule: Literal["cosine", "linear"] = "cosine"
    diffusion_steps: int = 1000
    sigma_small: bool = True
    lambda_rcxyz: float = 0.0
    lambda_vel: float = 0.0
    lambda_fc: float = 0.0
    lambda_target_loc: float = 0.0
    multi_target_cond: bool = False
    multi_encoder_type: Literal["single", "split", "multi"] = "single"
    target_enc_layers: int = 1


TEXT_ENCODERS = {"clip": ("clip-b32", 512, "pooled"), "bert": ("distilbert", 768, "tokens")}
NUM_ACTIONS = {"humanact12": 12, "uestc": 40}


def read_args(args: dict, where: str = "args.json") -> dict[str, Any]:
    """The data, model and diffusion fields of a published args.json, defaults in place of missing ones.

    Spec of the originals: `num_layers` is their `layers`; a `cond_mode` of no_cond in very old files means
    unconstrained; pred_len 0 means context_len; a target loss implies target conditioning. Unknown keys are ignored.
    FileError names a value of a wrong type.
    """
    fields = asdict(convert(args, MDMArgs, where))
    fields["dataset"] = {"t2m": "humanml"}.get(fields["dataset"], fields["dataset"])
    if fields["dataset"] not in DATASETS:
        raise FileError(f"{where} names dataset {shown(fields['dataset'])}, known: {', '.join(DATASETS)}")
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
    if fields["text_encoder_type"] not in TEXT_ENCODERS:
        raise FileError(f"{where} names text encoder {shown(fields['text_encoder_type'])}, known: clip, bert")
    encoder, text_dim, memory = TEXT_ENCODERS[fields["text_encoder_type"]]
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
            **DATASETS[dataset],
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
        raise FileError(f"{where}: {error}") from None


def config_at(path: Path) -> LSReMGMConfig:
    """Our configuration of a published folder, or of one model*.pt in it."""
    args_file = (newest_model(path) if path.is_dir() else path).with_name("args.json")
    return config_from_args(read_settings(args_file), str(args_file))


def newest_model(folder: Path) -> Path:
    """The model*.pt with the highest step."""
    found = [p for p in folder.glob("model*.pt") if re.fullmatch(r"model\d*\.pt", p.name)]
    if not found:
        raise FileError(f"{folder} has an args.json but no model*.pt: put the published file there")
    return max(found, key=lambda p: int("0" + re.sub(r"\D", "", p.stem)))


def load_mdm(path: Path, text_encoder: TextEncoder | None = None, dataset_folder: str | Path | None = None) -> LSReMGM:
    """The model of a published folder, by its newest model*.pt, or of one such file. FileError says what is wrong.

    `dataset_folder`: as in `published_statistics`.
    """
    folder = path if path.is_dir() else path.parent
    model_file = path if path.is_file() else newest_model(folder)
    args_file = folder / "args.json"
    args = read_settings(args_file)
    config = config_from_args(args, str(args_file))
    state = read_published(model_file, use_average=bool(args.get("use_ema", False)))
    statistics = published_statistics(config, dataset_folder) if config.features.kind == "humanml" else None
    with made_for(state, str(model_file)):
        model = LSReMGM(config, statistics, text_encoder=text_encoder)
    load_renamed(model.denoiser, state, partial(mdm_name, config=config), str(model_file), NOT_LOADED)
    log.info("%s: %s, %s, %d steps%s", model_file.name, config.arch, config.text_encoder, config.diffusion_steps,
             "" if config.mask_frames else f", sampled at {config.max_frames} frames and cut")
    return model


def published_statistics(config: Any, dataset_folder: str | Path | None = None) -> Statistics:
    """Mean.npy and Std.npy of the dataset a published model was trained on (not those of its evaluator).

    HumanML3D's pair is carried with the code and used where the dataset folder is absent.
    """
    alias = dataset_named(config.dataset).folder
    folder = Path(dataset_folder) if dataset_folder else DATASET_ROOT / alias
    files = [folder / "Mean.npy", folder / "Std.npy"]
    if not all(file.is_file() for file in files):
        if not dataset_folder and (carried := Statistics.published(alias, config.features)):
            return carried
        raise FileError(
            f"published {config.dataset} weights need that dataset's Mean.npy and Std.npy: put them into {folder}, "
            "or name the folder that holds them")
    mean, std = (read_array(file, kinds="f", shape=(config.features.width,), finite=True).astype("float32") for file in files)
    return Statistics(mean, std, config.features)
