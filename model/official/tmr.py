"""Run folders of TMR as published (Petrovich et al. 2023): config.json, last_weights/*.pt or logs/checkpoints/last.ckpt.

The statistics are the run's own mean.pt and std.pt. Those of HumanML3D (Mean.npy, Std.npy) have another std and silently
ruin every score, so nothing here reads them.
"""

import logging
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from data_loaders.features import Statistics
from model.layers import EPS
from model.model import made_for, read_settings
from model.official.weights import load_renamed, read_state_dict, read_tensor, read_training_checkpoint, torch_layer_name
from model.text_encoders import WORDS, TextEncoder
from model.text_towers import TOWERS, saved_beside
from model.tmr import TMR
from model.tmr_config import TMRConfig
from protos.files import atomic_folder, shown
from protos.outputs import require_replaceable
from protos.reading import FileError, convert

log = logging.getLogger(__name__)

MODULES = ("motion_encoder", "text_encoder", "motion_decoder")
KINDS = ("TMR", "TEMOS")
SKELETONS = {263: "humanml", 251: "kit"}  # by the width of the features
SIZES = ("latent_dim", "ff_size", "num_layers", "num_heads", "dropout")


def tmr_name(name: str) -> str:
    """The name in the published `last.ckpt` of our parameter `name`; without its module, the one in `<module>.pt`."""
    module, _, rest = name.partition(".")
    if rest.startswith("layers."):
        rest = torch_layer_name(rest, "trans_dec" if module == "motion_decoder" else "trans_enc")
    return f"{module}.{re.sub(r'^output[.]', 'final_layer.', rest)}"


def load_tmr(folder: Path, ckpt: str = "last", *, text_encoder: TextEncoder | None = None) -> TMR:
    """The model of a published run folder, in eval mode. FileError says in a line what is absent or wrong.

    Weights come from `<ckpt>_weights`, or from the training checkpoint where that folder is not there.
    """
    folder = Path(folder)
    settings = read_run_config(folder)
    config = config_from_run(settings, str(folder / "config.json"))
    statistics = run_statistics(folder, settings, config)
    state, where = read_weights(folder, ckpt)
    with made_for(state, where):
        model = TMR(config, statistics, text_encoder=text_encoder)
    load_renamed(model.networks, state, tmr_name, where)
    return model.eval()


def config_at(folder: Path) -> TMRConfig:
    """Our configuration of a published run."""
    return config_from_run(read_run_config(folder), str(folder / "config.json"))


def read_run_config(folder: Path) -> dict[str, Any]:
    """The config.json of a published run."""
    path = folder / "config.json"
    settings = read_settings(path)
    if not isinstance(settings.get("model"), dict):
        raise FileError(f"{path} is no configuration of TMR: it names no model")
    return settings


def config_from_run(settings: Mapping[str, Any], where: str = "config.json") -> TMRConfig:
    """Our configuration of a published one. The classes that it names are looked up by their last word, never imported."""
    try:
        return _config_from_run(settings, where)
    except KeyError as error:
        raise FileError(f"{where} is no configuration of TMR: it names no {error.args[0]}") from None
    except (TypeError, AttributeError) as error:
        raise FileError(f"{where} is no configuration of TMR: {error}") from None
    except FileError:
        raise
    except (ValueError, OverflowError) as error:
        raise FileError(f"{where}: {error}") from None


def _config_from_run(settings: Mapping[str, Any], where: str) -> TMRConfig:
    model = settings["model"]
    kind = str(model.get("_target_", "")).rpartition(".")[2]
    if kind not in KINDS:
        raise FileError(f"{where} names the model {shown(kind)}, known: {', '.join(KINDS)}")
    motion, text, decoder = (model[name] for name in MODULES)
    for name in SIZES:
        if not motion[name] == text[name] == decoder[name]:
            raise FileError(f"{where}: {name} differs between encoders and decoder, which no published model has")
    vae = bool(model["vae"])
    if not vae == bool(motion.get("vae", vae)) == bool(text.get("vae", vae)):
        raise FileError(f"{where}: vae differs between the model and its encoders")
    if model.get("fact") not in (None, 1, 1.0) or model.get("sample_mean"):
        log.warning("%s: fact and sample_mean are not taken over: motions are made with the full noise of their latents", where)
    activations = {str(part.get("activation", "gelu")) for part in (motion, text, decoder)}
    if len(activations) > 1:
        raise FileError(f"{where}: activation differs between encoders and decoder, which no published model has")
    weights, data = model["lmd"], settings["data"]
    loader, annotations = data["motion_loader"], str(data["path"])
    skeleton = SKELETONS.get(int(motion["nfeats"]))
    if skeleton is None:
        raise FileError(f"{where} reads {motion['nfeats']} features, known: {', '.join(map(str, SKELETONS))}")
    if loader["normalizer"].get("eps", EPS) != EPS:
        raise FileError(f"{where}: normalizer eps {str(loader['normalizer']['eps'])[:40]}, known: {EPS}")
    return convert({
        "features": {"skeleton": skeleton, "fps": float(loader["fps"])},
        "text_dim": int(text["nfeats"]),
        **{name: motion[name] for name in SIZES},
        "activation": activations.pop(),
        "vae": vae,
        "text_encoder": _tower(data.get("text_to_token_emb"), "distilbert", where),
        "sentence_encoder": _tower(data.get("text_to_sent_emb"), "mpnet", where),
        "lambda_recons": weights.get("recons", 0.0),
        "lambda_kl": weights.get("kl", 0.0),
        "lambda_latent": weights.get("latent", 0.0),
        "lambda_contrastive": weights.get("contrastive", 0.0) if kind == "TMR" else 0.0,
        "temperature": model.get("temperature", 0.7),  # what the published class takes where nothing is said
        "false_negative_threshold": model.get("threshold_selfsim") or 0.0,
        "dataset": annotations.rstrip("/").rpartition("/")[2],
        "duplicates": "published",
    }, TMRConfig, where)  # fmt: skip


def _tower(settings: Mapping[str, Any] | None, default: str, where: str) -> str:
    """Our name of a text encoder that is named as on the model hub."""
    if not settings:
        return default
    by_repository = {spec.repository: name for name, spec in TOWERS.items()}
    wanted = settings["modelname"]
    if wanted not in by_repository:
        raise FileError(f"{where} names text encoder {shown(wanted)}, known: {', '.join(by_repository)}")
    return by_repository[wanted]


def saved_words(folder: Path, annotations: Path | None = None) -> TextEncoder | None:
    """The encoder of a run with the word features saved with its data: in `annotations`, or where the run's configuration says,
    seen from beside the run, from above it, or from here. None where there are none, or no such run.
    """
    try:
        named = read_run_config(folder)["data"]["text_to_token_emb"]
        repository, path = str(named["modelname"]), Path(str(named["path"]))
    except (FileError, KeyError, TypeError):  # loading says what is wrong
        return None
    encoder = next((name for name, spec in TOWERS.items() if spec.repository == repository), None)
    places = [] if annotations is None else [annotations]
    places += [above / path for above in (*folder.resolve().parents[:3], Path())]
    found = (saved_beside(place, WORDS, encoder) for place in places if encoder)
    return next((each for each in found if each), None)


def run_statistics(folder: Path, settings: Mapping[str, Any], config: TMRConfig) -> Statistics:
    """mean.pt and std.pt of the run, looked for beside its folder and above, then where the command was started.

    The published pairs are carried with the code for runs that come without them.
    """
    named = Path(str(settings["data"]["motion_loader"]["normalizer"].get("base_dir", "stats")))
    places = [folder / "stats", *(place / named for place in (folder, *folder.resolve().parents[:3], Path()))]
    for place in places:
        if os.path.isfile(place / "mean.pt") and os.path.isfile(place / "std.pt"):  # a name out of the file may be none at all
            mean, std = (read_tensor(place / f"{name}.pt") for name in ("mean", "std"))
            log.info("normalisation of %s", place)
            return _statistics(mean, std, config, str(place))
    name = "/".join(named.parts[-2:])
    if carried := Statistics.published(name, config.features):
        log.info("normalisation of %s as published, carried with the code", name)
        return _statistics(carried.mean, carried.std, config, f"{folder / 'config.json'}, {name}")
    raise FileError(f"{folder} has no mean.pt and std.pt of its training: put them into {places[1]} "
                    "(those of the HumanML3D dataset will not do)")


def _statistics(mean: np.ndarray, std: np.ndarray, config: TMRConfig, where: str) -> Statistics:
    if mean.shape != (config.features.width,) or std.shape != mean.shape:
        raise FileError(f"{where}: mean and std of {mean.size} features, the weights read {config.features.width}")
    if not (np.isfinite(mean).all() and np.isfinite(std).all() and (std >= 0).all()):
        raise FileError(f"{where}: mean and std hold NaN, infinite or negative values")
    return Statistics(mean, std, config.features)


def read_weights(folder: Path, ckpt: str = "last") -> tuple[dict[str, Tensor], str]:
    """(state under published names with their modules, where it was read)."""
    split = folder / f"{ckpt}_weights"
    if not split.is_dir():
        whole = checkpoint_file(folder, ckpt)
        if not whole.is_file():
            raise FileError(f"{folder} has neither {split.name} nor logs/checkpoints/{ckpt}.ckpt: nothing to load")
        return read_training_checkpoint(whole), str(whole)
    state = {}
    for module in MODULES:
        state |= {f"{module}.{name}": value for name, value in read_state_dict(split / f"{module}.pt").items()}
    return state, str(split)


def extract(folder: Path, ckpt: str = "last", *, overwrite: bool = False) -> Path:
    """Writes `<ckpt>_weights/<module>.pt` of a training checkpoint, as the published command does; the new folder.

    Weights that are there are replaced with `overwrite` only: they may be the published ones. OutputError otherwise.
    """
    state = read_training_checkpoint(checkpoint_file(folder, ckpt))
    output = Path(folder) / f"{ckpt}_weights"
    parts: dict[str, dict[str, Tensor]] = {}
    for name, value in state.items():
        module, _, rest = name.partition(".")
        parts.setdefault(module, {})[rest] = value.detach().cpu().clone()
    if missing := [module for module in MODULES if module not in parts]:
        raise FileError(f"{checkpoint_file(folder, ckpt)} holds no {missing[0]}: is it a checkpoint of TMR?")
    files = [f"{module}.pt" for module in MODULES]
    require_replaceable(output, "folder of weights", overwrite=overwrite, earlier=files, flag="--ckpt")
    with atomic_folder(output) as temporary:  # whole: networks of two epochs must not meet; as TMR's own tools expect it
        for module in MODULES:
            torch.save(parts[module], temporary / f"{module}.pt")
    return output


def checkpoint_file(folder: Path, ckpt: str) -> Path:
    return Path(folder) / "logs" / "checkpoints" / f"{ckpt}.ckpt"
