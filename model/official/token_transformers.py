"""MoMask's masked and residual transformers as published (Guo et al. 2024): names of parameters, which LaMP's masked one has too,
and files, told by these.

A folder may hold the runs of all of them, or the files themselves; a run finds its tokenizer, and a residual one its base, beside
it. Weights do not show the number of heads; those of the published options stand here.
"""

import logging
from pathlib import Path

from torch import Tensor

from data_loaders.features import HUMANML3D
from model.model import made_for, read_torch
from model.official.vqvae import KIT, load_vqvae, state_of
from model.official.weights import first_match, load_renamed, torch_layer_name
from model.registry import token_file
from model.residual_transformer import ResidualTokenTransformer
from model.text_encoders import TextEncoder
from model.text_length import TextLengthConfig, TextLengthEstimator
from model.token_transformer_config import ResidualConfig, TokenTransformerConfig
from model.token_transformers import TokenTransformer
from model.vqvae import VQVAE
from protos.reading import FileError

log = logging.getLogger(__name__)
HEAD_SIZE = 64  # channels of an attention head of all published files
STATES = {"masked": ("t2m_transformer", "trans"), "lamp_t2m": ("t2m_transformer", "trans"), "residual": ("res_transformer",),
          "length": ("estimator",)}  # fmt: skip
WHAT = {
    "tokenizer": "tokenizer", "masked": "masked transformer", "residual": "residual transformer", "lamp": "LaMP's Q-Former",
    "lamp_t2m": "LaMP's masked transformer", "length": "length estimator",
}  # fmt: skip

# Our name -> the published one. Order matters: first match.
NAMES = (
    (r"embedding\.", "token_emb."),
    (r"trunk\.input_projection\.", "input_process.poseEmbedding."),
    (r"trunk\.condition_projection\.", "cond_emb."),
    (r"trunk\.head\.", "output_process.dense."),
    (r"trunk\.head_norm\.", "output_process.LayerNorm."),
    (r"trunk\.output_projection\.", "output_process.poseFinal."),
    (r"quantizer_projection\.", "quant_emb."),
    (r"shared$", "embed_proj_shared_weight"),
    (r"first_embedding$", "token_embed_weight_"),
    (r"last_projection$", "output_proj_weight_"),
    (r"embeddings$", "token_embed_weight"),
    (r"projections$", "output_proj_weight"),
    (r"projection_bias$", "output_proj_bias"),
)
NOT_LOADED = (r"^position_enc\.pe$",)  # a table of sinusoids


def transformer_name(name: str) -> str:
    """The published name of a parameter of `MaskedTransformer` or `ResidualTransformer`."""
    if name.startswith("trunk.layers."):
        return torch_layer_name(name.removeprefix("trunk."), "trans_enc")
    return first_match(name, NAMES)


def beside(path: Path, kind: str) -> Path:
    """The file of a kind in a folder, or in those around a file or a run. FileError where there is none."""
    around = (path, path.parent, path.parent.parent, path.parent.parent.parent)
    found = next(filter(None, (token_file(folder, kind) for folder in around if folder.is_dir())), None)
    if found is None:
        raise FileError(f"{path}: no {WHAT[kind]} lies beside it, on which it stands")
    return found


def read_state(path: Path, kind: str) -> tuple[dict[str, Tensor], Path]:
    """State dict of the file of a kind that a path stands for, and that file."""
    file = token_file(path, kind)
    if file is None:
        raise FileError(f"{path} holds no {WHAT[kind]}")
    state = state_of(read_torch(file), STATES[kind], file)
    return {name: value for name, value in state.items() if not name.startswith("clip_model.")}, file


def sizes_of(state: dict[str, Tensor], tokenizer: VQVAE, where: str) -> dict[str, object]:
    """Settings that published weights show. FileError where they are not those of the tokenizer, which names both."""
    codes = tokenizer.config
    try:
        latent_dim, condition_dim = state["cond_emb.weight"].shape
        code_dim = state["input_process.poseEmbedding.weight"].shape[1]
        ff_size = len(state["seqTransEncoder.layers.0.linear1.weight"])
    except (KeyError, ValueError, IndexError) as error:
        raise FileError(f"{where}: incomplete, or of another model ({error})") from None
    rows = next((state[name].shape[-2] - (2 if name == "token_emb.weight" else 1)
                 for name in ("token_emb.weight", "embed_proj_shared_weight", "token_embed_weight")
                 if name in state and state[name].dim() > 1), None)  # fmt: skip
    if rows not in (None, codes.num_codes):
        raise FileError(f"{where}: made for {rows} codes, its tokenizer has {codes.num_codes}")
    if code_dim != codes.code_dim:
        raise FileError(f"{where}: codes of {code_dim} channels, its tokenizer has codes of {codes.code_dim}")
    layers = {name.split(".")[2] for name in state if name.startswith("seqTransEncoder.layers.")}
    return {
        "latent_dim": latent_dim, "condition_dim": condition_dim, "ff_size": ff_size, "num_layers": len(layers),
        "num_heads": max(latent_dim // HEAD_SIZE, 1), "num_codes": codes.num_codes, "code_dim": code_dim,
        "num_quantizers": codes.num_quantizers, "features": codes.features, "dataset": dataset_of(tokenizer),
    }  # fmt: skip


def dataset_of(tokenizer: VQVAE) -> str:
    """The known dataset that published files are for."""
    return "kit" if tokenizer.features.skeleton == "kit" else "humanml"


def tokenizer_beside(path: Path) -> VQVAE:
    """The tokenizer that a run stands on. FileError for one whose tokens are not of 4 frames."""
    tokenizer = load_vqvae(beside(path, "tokenizer"))
    if tokenizer.config.downsampling != 4:
        raise FileError(f"{beside(path, 'tokenizer')}: a token of {tokenizer.config.downsampling} frames, expected 4: this "
                        "tokenizer is of another pipeline")  # fmt: skip
    return tokenizer


def load_length_estimator(path: Path, text_encoder: TextEncoder | None = None) -> TextLengthEstimator:
    """MoMask's estimator of lengths. FileError says what is wrong."""
    state, file = read_state(path, "length")
    kit, first = "kit" in file.parts, state.get("output.0.weight")
    if first is None or first.dim() != 2:
        raise FileError(f"{file}: no tensor output.0.weight of two axes: incomplete, or of another model")
    config = TextLengthConfig(text_dim=first.shape[1], shortest_units=6 if kit else 10,
                              features=KIT if kit else HUMANML3D, dataset="kit" if kit else "humanml")  # fmt: skip
    with made_for(state, str(file)):
        model = TextLengthEstimator(config, text_encoder=text_encoder)
    load_renamed(model.networks, state, lambda name: name, str(file))
    return model.eval()


def load_masked(path: Path, text_encoder: TextEncoder | None = None) -> TokenTransformer:
    """MoMask's masked transformer with its tokenizer. FileError says what is wrong or absent."""
    state, file = read_state(path, "masked")
    tokenizer = tokenizer_beside(file)
    guidance = 2.0 if tokenizer.features.skeleton == "kit" else 4.0
    config = TokenTransformerConfig(**sizes_of(state, tokenizer, str(file)), text_encoder="clip-b32", guidance_scale=guidance)
    with made_for(state, str(file)):
        model = TokenTransformer(config, tokenizer.statistics, {"tokenizer": tokenizer}, text_encoder)
    load_renamed(model.transformer, state, transformer_name, str(file), NOT_LOADED)
    log.info("%s: masked transformer, %d layers of %d channels", file, config.num_layers, config.latent_dim)
    return model.eval()


def load_residual(path: Path, text_encoder: TextEncoder | None = None) -> ResidualTokenTransformer:
    """MoMask as a whole: the residual transformer, its base and their tokenizer. FileError says what is wrong or absent."""
    state, file = read_state(path, "residual")
    base = load_masked(beside(path if path.is_dir() else file, "masked"), text_encoder)
    sizes = sizes_of(state, base.tokenizer, str(file))
    config = ResidualConfig(**sizes, text_encoder="clip-b32", share_weights="embed_proj_shared_weight" in state)
    with made_for(state, str(file)):
        model = ResidualTokenTransformer(config, base.statistics, {"base": base}, text_encoder)
    load_renamed(model.transformer, state, transformer_name, str(file), NOT_LOADED)
    return model.eval()
