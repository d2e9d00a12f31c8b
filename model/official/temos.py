"""TEMOS as first published (Petrovich et al. 2022): its checkpoints, on the KIT motions at 12.5 frames per second.

The networks are those of `model/tmr.py`, but for a ReLU before the projection of words. Sizes are read off the weights, which
do not show heads, dropout and activation: the published configuration misspells the first two (`num_head: 6`, `droupout`),
both of which were then ignored, so that what it published has 4 heads and a dropout of 0.1.
"""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from data_loaders.features import Features, Statistics
from model.model import made_for
from model.official.tmr import tmr_name
from model.official.weights import load_renamed, read_tensor, read_training_checkpoint
from model.text_encoders import TextEncoder
from model.tmr import TMR
from model.tmr_config import TMRConfig
from protos.reading import FileError

EFFECTIVE = {"num_heads": 4, "dropout": 0.1, "activation": "gelu"}  # of what was published, whatever its files say
FPS = 12.5
FEATURES = {  # of kit-mmm-xyz and kit-amass-xyz, and of kit-amass-rot, by their width
    each.width: each for each in (Features("kit", FPS, kind="rifke"), Features("humanml", FPS, kind="rotations"))
}
NOT_LOADED = (r"^_losses\.", r"sequence_pos_encoding\.pe$", r"^textencoder\.text_model\.")  # counters, sinusoids, DistilBERT
PROJECTIONS = {"textencoder": "projection.1.", "motionencoder": "skel_embedding."}


def temos_name(name: str) -> str:
    """The published name of our parameter `name`, after `joined_tokens`."""
    module, _, rest = tmr_name(name).partition(".")
    module = module.replace("_", "")
    return f"{module}.{re.sub(r'^projection[.]', PROJECTIONS.get(module, ''), rest)}"


def joined_tokens(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """The state with the tokens of each encoder, published one by one, as one matrix `tokens` (2 or 1, C)."""
    state = dict(state)
    for module in PROJECTIONS:
        parts = [state.pop(f"{module}.{name}", None) for name in ("mu_token", "logvar_token", "emb_token")]
        if found := [part for part in parts if part is not None]:
            if len({part.shape for part in found}) > 1:
                raise FileError(f"the tokens of {module} differ in shape: damaged weights of TEMOS")
            state[f"{module}.tokens"] = torch.stack(found)
    return state


def config_from_state(state: dict[str, Tensor], where: str = "the checkpoint",
                      unseen: Mapping[str, Any] = EFFECTIVE) -> TMRConfig:
    """Our configuration of a published state dict, after `joined_tokens`. unseen: what weights do not show, by default that of
    the published ones; of its keys those of `EFFECTIVE` are read, others are ignored."""
    unseen = {name: unseen.get(name, value) for name, value in EFFECTIVE.items()}
    try:
        latent_dim, num_features = state["motionencoder.skel_embedding.weight"].shape
        num_tokens = len(state["motionencoder.tokens"])
        ff_size = len(state["motionencoder.seqTransEncoder.layers.0.linear1.weight"])
        text_dim = state["textencoder.projection.1.weight"].shape[1]
    except KeyError as error:
        raise FileError(f"{where} holds no weights of TEMOS: {error.args[0]} is missing") from error
    except (ValueError, TypeError, IndexError):
        raise FileError(f"{where} holds weights of other shapes than those of TEMOS") from None
    if num_features not in FEATURES:
        raise FileError(f"{where} reads {num_features} features, known: {', '.join(map(str, FEATURES))}")
    layers = {match[1] for name in state if (match := re.match(r"motionencoder\.seqTransEncoder\.layers\.(\d+)\.", name))}
    try:
        return TMRConfig(
            features=FEATURES[num_features], text_dim=text_dim, latent_dim=latent_dim, ff_size=ff_size, num_layers=len(layers),
            **unseen, vae=num_tokens == 2, text_relu=True, lambda_contrastive=0.0, dataset="kit",
            false_negative_threshold=0.0, duplicates="published", min_frames=10, max_frames=500)  # fmt: skip
    except ValueError as error:
        raise FileError(f"{where}: {error}") from None


def from_state(state: dict[str, Tensor], statistics: Statistics | None = None, text_encoder: TextEncoder | None = None,
               where: str = "the checkpoint", unseen: Mapping[str, Any] = EFFECTIVE) -> TMR:
    """The model of a published state dict, in eval mode; unseen as in `config_from_state`. FileError names what does not
    fit."""
    state = joined_tokens(state)
    with made_for(state, where):
        model = TMR(config_from_state(state, where, unseen), statistics, text_encoder=text_encoder)
    load_renamed(model.networks, state, temos_name, where, NOT_LOADED)
    return model.eval()


def load_temos(folder: Path, text_encoder: TextEncoder | None = None) -> TMR:
    """The model of a published run folder (checkpoints/last.ckpt) or of one .ckpt file, in eval mode.

    Its normalisation (jfeats_mean.pt and jfeats_std.pt, or rfeats_*) is looked for in the run and its folder stats.
    """
    folder = Path(folder)
    path = folder if folder.suffix == ".ckpt" else folder / "checkpoints" / "last.ckpt"
    state = read_training_checkpoint(path)
    config = config_from_state(joined_tokens(state), str(path))
    run = folder if folder.is_dir() else folder.parent.parent if folder.parent.name == "checkpoints" else folder.parent
    kind = "jfeats" if config.features.kind == "rifke" else "rfeats"
    for place in (run, run / "stats"):
        files = [place / f"{kind}_{name}.pt" for name in ("mean", "std")]
        if all(file.is_file() for file in files):
            mean, std = (read_tensor(file) for file in files)
            return from_state(state, Statistics(mean, std, config.features), text_encoder, str(path))
    raise FileError(f"{run} has no {kind}_mean.pt and {kind}_std.pt: copy those of its data from the folder deps of "
                    "TEMOS")
