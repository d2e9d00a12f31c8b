"""InterGen, in2IN, its one-person prior and DualMDM as published: state dicts, plain or of Lightning, told apart by their keys.

Weights do not show the number of attention heads, dropout and guidance; those of the published configurations stand here. The
files carry CLIP's text tower, with which their texts are read.
"""

import hashlib
import logging
import re
from functools import partial
from pathlib import Path
from typing import Literal

from torch import Tensor

from data_loaders.features import Statistics
from model.dualmdm import PUBLISHED, DualMDM
from model.in2in import In2IN
from model.in2in_config import ONE_PERSON, TWO_PEOPLE, In2INConfig
from model.model import made_for
from model.official.weights import first_match, load_renamed, read_state_dict, read_training_checkpoint, torch_layer_name
from model.registry import in2in_file
from model.text_encoders import TextEncoder, Tower
from protos.reading import FileError

log = logging.getLogger(__name__)
Kind = Literal["intergen", "interaction", "individual"]
NETWORKS: dict[Kind, str] = {"intergen": "net", "interaction": "net_interaction", "individual": "net_individual"}
READERS: dict[Kind, str] = {"intergen": "", "interaction": "_interaction", "individual": "_individual"}
# Our name -> the published one. Order matters: first match.
NAMES = (
    (r"input_projection\.", "motion_embed."),
    (r"output_projection\.", "out.linear."),
    (r"time_mlp\.", "embed_timestep.time_embed."),
    (r"text_projection\.", "text_embed."),
)
LAYER_NAMES = (
    (r"norm_self\.projection\.", "sa_block.norm.emb_layers.1."),
    (r"norm_cross\.projection\.", "ca_block.norm.emb_layers.1."),
    (r"norm_partner\.projection\.", "ca_block.xf_norm.emb_layers.1."),
    (r"norm_ff\.projection\.", "ffn.norm.emb_layers.1."),
    (r"self_attention\.qkv\.", "sa_block.attention.in_proj_"),
    (r"self_attention\.out\.", "sa_block.attention.out_proj."),
    (r"cross_attention\.qkv\.", "ca_block.attention.in_proj_"),
    (r"cross_attention\.out\.", "ca_block.attention.out_proj."),
    (r"linear", "ffn.linear"),
)
TOWER = ("token_embedding.", "positional_embedding", "clip_transformer.", "ln_final.")
# Tables of sinusoids, copies of the denoisers that sampling leaves, the frozen tower
NOT_LOADED = (r"\.pe$", r"^decoder\.cfg_model\.", *(f"^{re.escape(name)}" for name in TOWER))
UNUSED = r"^decoder\.net_individual\.blocks\.\d+\.ca_block\."  # of one person, who has no partner
CONTEXT = 77  # tokens that every text has


def in2in_name(name: str, kind: Kind) -> str:
    """The published name of our parameter `name`."""
    network, _, rest = name.partition(".")
    if network == "text_reader":
        if rest.startswith("norm."):
            return f"clip_ln{READERS[kind]}.{rest.removeprefix('norm.')}"
        return f"clipTransEncoder{READERS[kind]}.{torch_layer_name(rest, 'trans_enc').partition('.')[2]}"
    if rest.startswith("layers."):
        _, number, rest = rest.split(".", 2)
        return f"decoder.{NETWORKS[kind]}.blocks.{number}.{first_match(rest, LAYER_NAMES)}"
    return f"decoder.{NETWORKS[kind]}.{first_match(rest, NAMES)}"


def kinds_in(state: dict[str, Tensor]) -> list[Kind]:
    """Whose denoisers a state dict holds."""
    return [kind for kind, network in NETWORKS.items() if any(key.startswith(f"decoder.{network}.") for key in state)]


def part_of(state: dict[str, Tensor], kind: Kind) -> dict[str, Tensor]:
    """What of a state dict belongs to one of its models: its denoiser and reader of texts."""
    others = [other for other in NETWORKS if other != kind]
    names = [f"decoder.{NETWORKS[other]}." for other in others]
    names += [f"{name}{READERS[other]}." for other in others for name in ("clipTransEncoder", "clip_ln")]
    return {key: value for key, value in state.items() if not key.startswith(tuple(names))}


def config_from_state(state: dict[str, Tensor], kind: Kind, where: str) -> In2INConfig:
    """Our configuration of a published state dict, its sizes read off the weights. FileError names what is absent."""
    network, reader = f"decoder.{NETWORKS[kind]}.", f"clipTransEncoder{READERS[kind]}."
    try:
        latent_dim, text_dim = state[f"{network}text_embed.weight"].shape
        ff_size = len(state[f"{network}blocks.0.ffn.linear1.weight"])
        text_ff_size = len(state[f"{reader}layers.0.linear1.weight"])
        one = kind == "individual"
        return In2INConfig(
            mode="individual" if one else "interaction", individual_texts=kind == "interaction",
            features=ONE_PERSON if one else TWO_PEOPLE, dataset="humanml" if one else "interhuman",
            latent_dim=latent_dim, ff_size=ff_size, num_layers=count(state, f"{network}blocks."), text_encoder="clip-l14-336",
            text_dim=text_dim, text_padded=True, text_layers=count(state, f"{reader}layers."), text_ff_size=text_ff_size,
        )  # fmt: skip
    except KeyError as error:
        raise FileError(f"{where}: tensor {error.args[0]} is absent: incomplete, or of another model") from None
    except ValueError as error:
        raise FileError(f"{where}: weights of sizes that no such model has ({error})") from None


def count(state: dict[str, Tensor], stack: str) -> int:
    """How many layers lie behind `stack`."""
    return len({key.removeprefix(stack).split(".")[0] for key in state if key.startswith(stack)})


def read_published(path: Path) -> dict[str, Tensor]:
    """State dict under published names of a plain or a training checkpoint, which runs no pickled code."""
    file = in2in_file(path)
    if file is None:
        raise FileError(f"{path} holds no checkpoint of InterGen or in2IN")
    try:
        state = read_state_dict(file) if file.suffix == ".pt" else read_training_checkpoint(file)
    except FileError:
        if file.suffix != ".pt":
            raise
        state = read_training_checkpoint(file)
    return {key.removeprefix("model."): value for key, value in state.items()}


def load_in2in(path: Path, text_encoder: TextEncoder | None = None) -> In2IN | DualMDM:
    """The model of a published checkpoint, or the blend where one file holds both. FileError says what is wrong."""
    state, where = read_published(path), str(in2in_file(path))
    encoder = text_encoder or (carried_encoder(state, where) if "token_embedding.weight" in state else None)
    models = {kind: _model(part_of(state, kind), kind, where, encoder) for kind in kinds_in(state)}
    if not models:
        raise FileError(f"{where} holds no denoiser of InterGen or in2IN: expected parameters decoder.net…")
    if len(models) == 2:
        return DualMDM.of(models["interaction"], models["individual"], **PUBLISHED)
    return models.popitem()[1]


def _model(state: dict[str, Tensor], kind: Kind, where: str, encoder: TextEncoder | None) -> In2IN:
    config = config_from_state(state, kind, where)
    statistics = Statistics.published("interhuman_hml3d" if kind == "individual" else "interhuman", config.features)
    with made_for(state, where):
        model = In2IN(config, statistics, text_encoder=encoder)
    load_renamed(model.networks, state, partial(in2in_name, kind=kind), where, (*NOT_LOADED, UNUSED))
    log.info("%s: %s, %d layers of %d channels", where, kind, config.num_layers, config.latent_dim)
    return model


def carried_encoder(state: dict[str, Tensor], where: str) -> TextEncoder:
    """CLIP's text tower as a checkpoint carries it, under the name of the one that it was taken from."""
    tower = {key.replace("clip_transformer.", "transformer.", 1): value for key, value in state.items() if key.startswith(TOWER)}

    def load() -> Tower:
        from model.clip_tower import carried_clip

        return carried_clip(tower, where, CONTEXT)

    def identity() -> str:
        digest = hashlib.sha256()
        for name in sorted(tower):
            digest.update(name.encode() + tower[name].contiguous().numpy().tobytes())
        return f"clip-l14-336-carried-{digest.hexdigest()[:16]}"

    return TextEncoder("clip-l14-336", state["token_embedding.weight"].shape[1], load, identity)
