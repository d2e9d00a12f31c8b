"""Checkpoints: our folders (config.json, model.safetensors, stats.npz, README.md) and those of the published systems.

A folder alone is enough to sample. `from_pretrained` reads either kind.
"""

import importlib
import json
import logging
import re
from collections.abc import Sequence
from dataclasses import asdict, fields
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from data_loaders.corpus import DATASET_ALIASES, DATASET_ROOT, Representation, Statistics
from model.official_names import MDM_NOT_LOADED, CheckpointError, config_from_args, mdm_name, read_published, rename
from protos.files import atomic_folder, write_atomically

if TYPE_CHECKING:
    from model.lsremgm_system import LSReMGM
    from model.text_encoders import TextEncoder

log = logging.getLogger(__name__)

# Where each system's configuration and the function that builds its networks live.
SYSTEMS = {
    "lsremgm": ("model.lsremgm", "LSReMGMConfig", "model.lsremgm_system", "build"),
    "evaluator": ("model.evaluators", "EvaluatorConfig", "model.evaluators", "build_evaluator"),
    "tmr": ("model.tmr", "TMRConfig", "model.tmr", "build"),
    "length_estimator": ("model.evaluators", "LengthEstimatorConfig", "model.evaluators", "build_length_estimator"),
}


def save_pretrained(folder: Path, config: Any, state_dict: dict[str, Tensor], statistics: Statistics | None,
                    card: str = "", *, half: bool = False) -> None:
    """Writes a checkpoint folder, whole or not at all; a checkpoint that is there is replaced, nothing else is.

    `state_dict` is that of the system's networks; `card` becomes README.md; `half` stores float16 weights.
    """
    folder = Path(folder)
    if folder.exists() and not (folder / "config.json").is_file() and (folder.is_file() or any(folder.iterdir())):
        raise CheckpointError(f"{folder} is not a checkpoint and not empty: choose another folder to save to")
    with atomic_folder(folder) as temporary:
        write_files(temporary, config, state_dict, statistics, card, half=half)


def write_files(folder: Path, config: Any, state_dict: dict[str, Tensor], statistics: Statistics | None,
                card: str = "", *, half: bool = False) -> None:
    """The files of `save_pretrained` in a folder that the caller makes complete (a checkpoint being written)."""
    from safetensors.torch import save

    weights = {}
    for name, value in state_dict.items():
        value = value.detach().cpu().contiguous()
        weights[name] = value.half() if half and value.is_floating_point() else value
    too_large = [name for name, value in weights.items() if value.is_floating_point() and not value.isfinite().all()]
    if too_large:
        raise CheckpointError(f"not saved: {too_large[0]} holds values that are not finite"
                              + (" in float16" if half else ""))
    (system,) = (name for name, (_, kind, *_) in SYSTEMS.items() if kind == type(config).__name__)
    write_atomically(folder / "config.json", json.dumps({"system": system, **asdict(config)}, indent=2) + "\n")
    write_atomically(folder / "model.safetensors", save(weights))
    if statistics is not None:
        statistics.save(folder / "stats.npz")
    if card:
        write_atomically(folder / "README.md", card if card.endswith("\n") else card + "\n")


def from_pretrained(path: str | Path, device: torch.device | str = "cpu", *, dataset_folder: str | Path | None = None,
                    text_encoder: "TextEncoder | None" = None, systems: Sequence[str] = ()) -> Any:
    """The networks of a checkpoint folder (or of one `model*.pt` or `.ckpt` in a published one), in eval mode, float32.

    Published folders hold no statistics: those of the dataset are taken from `dataset_folder`, by default
    dataset/HumanML3D or dataset/KIT-ML; runs of TMR and TEMOS have their own. `systems`: the only ones that will do.
    CheckpointError says what is wrong.
    """
    path = Path(path)
    folder = path if path.is_dir() else path.parent
    if not path.exists():
        raise CheckpointError(f"no checkpoint at {path}: expected a folder with config.json and model.safetensors, "
                              "or a published one with args.json and model*.pt")
    if path.name == "model.safetensors" or (path.is_dir() and (folder / "config.json").is_file()):
        if "model" in _read_json(folder / "config.json"):  # a published run of TMR: ours name a system instead
            networks = _from_tmr_run(folder, text_encoder, systems)
        else:
            networks = _from_folder(folder, text_encoder, systems)
    elif path.suffix == ".ckpt" or (folder / "checkpoints" / "last.ckpt").is_file():  # TEMOS as first published
        networks = _from_first_temos(path, text_encoder, systems)
    elif (folder / "args.json").is_file():
        model_file = path if path.is_file() else newest_model(folder)
        networks = _from_published(folder, model_file, dataset_folder, text_encoder)
    else:
        raise CheckpointError(f"{folder} is no checkpoint: it holds neither config.json nor args.json nor checkpoints/last.ckpt")
    return networks.to(device).eval()


def read_config(folder: Path) -> tuple[str, Any]:
    """(system, configuration) of a checkpoint folder."""
    path = Path(folder) / "config.json"
    content = _read_json(path)
    system = content.pop("system", None)
    if system not in SYSTEMS:
        raise CheckpointError(f"{path} names system {system!r}, known here: {', '.join(SYSTEMS)}")
    module, name, *_ = SYSTEMS[system]
    config_type = getattr(importlib.import_module(module), name)
    if unknown := sorted(set(content) - {field.name for field in fields(config_type)}):
        raise CheckpointError(f"{path} has unknown settings ({', '.join(unknown[:4])}): a newer version wrote it")
    try:
        return system, config_type(**content)
    except (TypeError, ValueError) as error:
        raise CheckpointError(f"{path}: {error}") from error


def load_weights(networks: nn.Module, path: Path) -> None:
    """Weights of a safetensors file into networks, as float32. CheckpointError where they do not fit."""
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        state = load_file(path)
    except FileNotFoundError:
        raise CheckpointError(f"{path} is absent: the checkpoint is incomplete") from None
    except (SafetensorError, OSError) as error:
        raise CheckpointError(f"{path} is damaged: {error}") from error
    try:
        networks.load_state_dict(state)
    except RuntimeError as error:
        reason = " ".join(str(error).split())[:200]
        raise CheckpointError(f"{path} does not fit its config.json: {reason}") from error


def newest_model(folder: Path) -> Path:
    """The model*.pt with the highest step."""
    found = [p for p in folder.glob("model*.pt") if re.fullmatch(r"model\d*\.pt", p.name)]
    if not found:
        raise CheckpointError(f"{folder} has an args.json but no model*.pt: put the published file there")
    return max(found, key=lambda p: int("0" + re.sub(r"\D", "", p.stem)))


def _from_folder(folder: Path, text_encoder: "TextEncoder | None", systems: Sequence[str]) -> Any:
    system, config = read_config(folder)
    if systems and system not in systems:
        raise CheckpointError(f"{folder} holds a model of kind {system}, needed is {' or '.join(systems)}")
    stats = folder / "stats.npz"
    if not stats.is_file():
        raise CheckpointError(f"{stats} is absent: the checkpoint is incomplete")
    try:
        statistics = Statistics.load(stats)
    except (OSError, KeyError, ValueError) as error:
        raise CheckpointError(f"{stats} is damaged: {error}") from error
    *_, module, build = SYSTEMS[system]
    networks = getattr(importlib.import_module(module), build)(config, statistics, text_encoder)
    load_weights(networks, folder / "model.safetensors")
    return networks


def _from_tmr_run(folder: Path, text_encoder: "TextEncoder | None", systems: Sequence[str]) -> nn.Module:
    from model.official_tmr import official_tmr

    if systems and "tmr" not in systems:
        raise CheckpointError(f"{folder} holds a model of kind tmr, needed is {' or '.join(systems)}")
    return official_tmr(folder, text_encoder=text_encoder)


def _from_first_temos(path: Path, text_encoder: "TextEncoder | None", systems: Sequence[str]) -> nn.Module:
    from model.temos_original import official_temos

    if systems and "tmr" not in systems:
        raise CheckpointError(f"{path} holds a model of kind tmr, needed is {' or '.join(systems)}")
    return official_temos(path, text_encoder=text_encoder)


def _from_published(folder: Path, model_file: Path, dataset_folder: str | Path | None,
                    text_encoder: "TextEncoder | None") -> "LSReMGM":
    from model.lsremgm_system import build

    args = _read_json(folder / "args.json")
    config = config_from_args(args)
    state = read_published(model_file, use_average=bool(args.get("use_ema", False)))
    statistics = published_statistics(config, dataset_folder) if config.features == "humanml" else None
    networks = build(config, statistics, text_encoder)
    to_published = partial(mdm_name, config=config)
    denoiser = networks.denoiser
    denoiser.load_state_dict(rename(state, denoiser.state_dict(), to_published, MDM_NOT_LOADED, str(model_file)))
    log.info("%s: %s, %s, %d steps%s", model_file.name, config.arch, config.text_encoder, config.diffusion_steps,
             "" if config.mask_frames else f", sampled at {config.max_frames} frames and cut")
    return networks


def published_statistics(config: Any, dataset_folder: str | Path | None = None) -> Statistics:
    """Mean.npy and Std.npy of the dataset a published model was trained on (not those of its evaluator).

    HumanML3D's pair is carried with the code and used where the dataset folder is absent.
    """
    import numpy as np

    alias = DATASET_ALIASES[config.dataset]
    folder = Path(dataset_folder) if dataset_folder else DATASET_ROOT / alias
    files = [folder / "Mean.npy", folder / "Std.npy"]
    if not all(file.is_file() for file in files):
        representation = Representation(config.skeleton, config.fps, config.heading)
        if not dataset_folder and (carried := Statistics.published(alias, representation)):
            return carried
        raise CheckpointError(
            f"published {config.dataset} weights need that dataset's Mean.npy and Std.npy: put them into {folder}, "
            "or name the folder that holds them")
    mean, std = (np.load(file, allow_pickle=False).astype(np.float32) for file in files)
    if mean.shape != (config.num_features,) or std.shape != mean.shape:
        raise CheckpointError(f"{files[0]} has {mean.size} features, "
                              f"{config.dataset} weights need {config.num_features}")
    return Statistics(mean, std, Representation(config.skeleton, config.fps, config.heading))


def _read_json(path: Path) -> dict:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise CheckpointError(f"{path} is absent") from None
    except (UnicodeDecodeError, json.JSONDecodeError) as error:
        raise CheckpointError(f"{path} is not readable JSON: {error}") from error
    if not isinstance(content, dict):
        raise CheckpointError(f"{path} holds no settings: expected a JSON object")
    return content
