"""OPT (Zhang et al. 2022) and LaMP's captioner on it, as published: names of parameters, with or without low-rank additions."""

import logging
from collections.abc import Mapping
from functools import partial
from pathlib import Path

from torch import Tensor

from model.captioner import Captioner
from model.captioner_config import CaptionerConfig
from model.lamp import LaMP
from model.lamp_config import LaMPConfig
from model.language_decoder import OFFSET
from model.model import made_for, read_torch
from model.official.lamp import OWN_ENCODER, loaded, own_or_carried_tokenizer, qformer_sizes, qformer_state
from model.official.token_transformers import dataset_of
from model.official.vqvae import state_of, tokenizer_name
from model.official.weights import first_match, load_renamed
from model.registry import token_file
from model.text_towers import TEXT_FOLDER, read_tower_weights
from protos.reading import FileError

log = logging.getLogger(__name__)
FOLDER = TEXT_FOLDER / "opt-2.7b"
HEAD_SIZE = 80  # channels of an attention head of OPT-2.7b
DECODER = "model.decoder."
# Our name of a part of a layer -> the published one; the first match counts.
LAYER = (
    (r"more_query\.down\.", "self_attn.q_proj.lora_A.default."), (r"more_query\.up\.", "self_attn.q_proj.lora_B.default."),
    (r"more_value\.down\.", "self_attn.v_proj.lora_A.default."), (r"more_value\.up\.", "self_attn.v_proj.lora_B.default."),
    (r"query\.", "self_attn.q_proj."), (r"key\.", "self_attn.k_proj."), (r"value\.", "self_attn.v_proj."),
    (r"out\.", "self_attn.out_proj."), (r"norm_self\.", "self_attn_layer_norm."), (r"norm_ff\.", "final_layer_norm."),
    (r"linear1\.", "fc1."), (r"linear2\.", "fc2."),
)  # fmt: skip
NAMES = ((r"words\.", "embed_tokens."), (r"positions\.", "embed_positions."), (r"norm\.", "final_layer_norm."))
OWN = "opt_model."  # of a captioner's file, which holds all of it twice, and a trunk that nothing uses
NOT_LOADED = (
    r"^llm\.", r"^trans_base\.", r"^trans_head\.", r"lm_head\.weight$", r"^Qformer\.", r"^query_tokens$", r"^opt_proj\.",
    r"^motion_", r"^text_", r"^temp$", r"^itm_head\.", r"^vq_model\.",
)  # fmt: skip


def opt_name(name: str) -> str:
    """The published name of a parameter of `LanguageDecoder`."""
    if name.startswith("layers."):
        _, number, rest = name.split(".", 2)
        return f"{DECODER}layers.{number}.{first_match(rest, LAYER)}"
    return DECODER + first_match(name, NAMES)


def plainly_named(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Weights whose projections with additions are called as those without, as older versions of the library do."""
    return {name.replace(".base_layer.", "."): value for name, value in state.items()}


def sizes_in(state: Mapping[str, Tensor], where: str, prefix: str = "") -> dict[str, int]:
    """Settings of the language model that its weights show. FileError names what is absent."""
    try:
        vocabulary, dim = state[f"{prefix}{DECODER}embed_tokens.weight"].shape
        return {
            "vocabulary": vocabulary, "language_dim": dim, "language_heads": max(dim // HEAD_SIZE, 1),
            "language_positions": len(state[f"{prefix}{DECODER}embed_positions.weight"]) - OFFSET,
            "language_ff": len(state[f"{prefix}{DECODER}layers.0.fc1.weight"]),
            "language_layers": sum(name.startswith(f"{prefix}{DECODER}layers.") and name.endswith(".fc1.bias") for name in state),
        }  # fmt: skip
    except (KeyError, ValueError) as error:
        raise FileError(f"{where}: no OPT, or incomplete ({error})") from None


def opt_weights() -> tuple[dict[str, Tensor], str]:
    """Weights of facebook/opt-2.7b on this machine. FileError where it is absent."""
    if not FOLDER.is_dir():
        raise FileError(f"OPT is not on this machine: put the files of facebook/opt-2.7b into {FOLDER}, or take --preset small, "
                        "which needs none")  # fmt: skip
    state = read_tower_weights(FOLDER)
    return {name if name.startswith("model.") else f"model.{name}": value for name, value in state.items()}, str(FOLDER)


def opt_sizes() -> dict[str, int]:
    """Settings of facebook/opt-2.7b as it lies on this machine. FileError where it is absent."""
    return sizes_in(*opt_weights())


def begin_from_opt(model: Captioner) -> None:
    """Puts OPT's weights into a captioner's language model; what is added to them stays. FileError where it is absent."""
    state, where = opt_weights()
    added = {opt_name(name): value for name, value in model.language.state_dict().items() if ".more_" in name}
    load_renamed(model.language, {**state, **added}, opt_name, where, (r"lm_head\.weight$", r"project_(in|out)\."))


def load_m2t(path: Path) -> Captioner:
    """LaMP's captioner, with the Q-Former and motion encoder that its file carries, and the tokenizer that lies beside it.

    FileError says what is wrong or absent.
    """
    file = token_file(path, "m2t")
    if file is None:
        raise FileError(f"{path} holds no captioner of LaMP")
    state, where = plainly_named(state_of(read_torch(file), ("trans",), file)), str(file)
    tokenizer = own_or_carried_tokenizer(file)
    settings = {"features": tokenizer.features, "dataset": dataset_of(tokenizer)}
    lamp = LaMP(
        LaMPConfig(**qformer_sizes(state, where), text_tower="minilm", duplicates="published", plain_texts=False,
                   own_encoder=True, motion_dim=tokenizer.config.code_dim, motion_classes=tokenizer.config.num_codes, **settings),
        tokenizer.statistics, {"tokenizer": tokenizer},
    )  # fmt: skip
    loaded(lamp.qformer, partial(qformer_state, config=lamp.config), state, where)
    loaded(lamp.heads, lambda state: lamp.heads.state_dict() | {"motion_projection": state["motion_projection"]}, state, where)
    encoder, levels = lamp.networks["motion_encoder"], tokenizer.config.num_levels
    published = {name: value for name, value in state.items() if name.startswith(OWN_ENCODER)}
    load_renamed(encoder, published, lambda name: f"motion_{tokenizer_name(f'encoder.{name}', levels)}", where)
    rank = next((len(value) for name, value in state.items() if "lora_A" in name), 0)
    config = CaptionerConfig(**sizes_in(state, where, OWN), **settings, own_qformer=False, lora_rank=rank, lora_alpha=2.0 * rank)
    with made_for(state, where):
        model = Captioner(config, tokenizer.statistics, {"lamp": lamp})
    load_renamed(model.language, state, lambda name: OWN + opt_name(name), where, NOT_LOADED)
    projection = model.networks["projection"]
    loaded(projection, lambda state: {kind: state[f"opt_proj.{kind}"] for kind in ("weight", "bias")}, state, where)
    return model.eval()
