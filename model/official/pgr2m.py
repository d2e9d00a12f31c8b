"""PGR2M and CoMo as published: tokenizer, base and refine transformers in a folder each, `net_best_fid.pth` and arguments.yaml.

Files are told by the names of their parameters. A refine transformer finds its base, and this its tokenizer, beside it, in one
folder or in folders of one. Weights do not show the number of heads; those of the published options stand here.
"""

import re
from pathlib import Path

import torch
from torch import Tensor

from model.model import made_for, read_torch
from model.official.token_transformers import dataset_of
from model.official.vqvae import features_of, state_of, statistics_beside, tokenizer_name
from model.official.weights import first_match, load_renamed
from model.pgr2m import PGTokenizer
from model.pgr2m_config import PGTokenizerConfig
from model.registry import token_file
from protos.reading import FileError

# Our name of a part of a codebook -> the published one
CODEBOOK_NAMES = (
    (r"codebooks\.started$", "rvq.started"),
    (r"codebooks\.layers\.(\d+)\.codes$", r"rvq.layers.\1.codebook"),
    (r"codebooks\.layers\.(\d+)\.query\.", r"rvq.layers.\1.attn.to_q."),
    (r"codebooks\.layers\.(\d+)\.key\.", r"rvq.layers.\1.attn.to_k."),
    (r"codebooks\.layers\.(\d+)\.value\.", r"rvq.layers.\1.attn.to_v."),
    (r"codebooks\.layers\.(\d+)\.norm_query\.", r"rvq.layers.\1.attn.norm_q."),
    (r"codebooks\.layers\.(\d+)\.norm_key\.", r"rvq.layers.\1.attn.norm_k."),
)
POSES, POSES_OF_COMO = "pc_encoder.codebook.weight", "codebook.weight"


def pg_tokenizer_name(name: str, num_levels: int = 2) -> str:
    """The published name of a parameter of our `PoseTokenizer`."""
    if name == "pose_codebook":
        return POSES
    if name.startswith("codebooks."):
        return first_match(name, CODEBOOK_NAMES)
    return tokenizer_name(name, num_levels)


def tokenizer_config(state: dict[str, Tensor], where: str) -> PGTokenizerConfig:
    """Our configuration of published weights. FileError names what is absent."""
    try:
        width, code_dim, _ = state["decoder.model.0.weight"].shape
        num_features = len(state["decoder.model.6.weight"])
        blocks = {name.split(".")[5] for name in state if name.startswith("decoder.model.2.0.model.")}
        stages = {name.split(".")[2] for name in state if name.startswith("rvq.layers.")}
        num_codes = len(state["rvq.layers.0.codebook"]) if stages else 512
    except (KeyError, IndexError, ValueError) as error:
        raise FileError(f"{where}: no tokenizer of PGR2M or CoMo, or incomplete ({error} is absent)") from None
    try:
        features = features_of(num_features, where)
        return PGTokenizerConfig(
            num_codes=num_codes, code_dim=code_dim, width=width, depth=len(blocks), num_quantizers=len(stages), features=features,
            dataset="kit" if features.skeleton == "kit" else "humanml",
        )  # fmt: skip
    except ValueError as error:
        raise FileError(f"{where}: weights of sizes that no tokenizer has ({error})") from None


def tokenizer_of(state: dict[str, Tensor], model: PGTokenizer, where: str) -> None:
    """Puts published weights into a model's network. FileError where they do not fit."""
    state = dict(state)
    if POSES_OF_COMO in state:
        state[POSES] = state.pop(POSES_OF_COMO)
    if model.config.num_quantizers:  # files do not say that codebooks have begun
        state["rvq.started"] = torch.ones(model.config.num_quantizers, dtype=torch.bool)
    load_renamed(model.network, state, pg_tokenizer_name, where)


def load_pg_tokenizer(path: Path) -> PGTokenizer:
    """The tokenizer of PGR2M, or CoMo's decoder, that a file or a folder holds. FileError says what is wrong or absent."""
    file = token_file(path, "pg_tokenizer") or token_file(path, "como_decoder")
    if file is None:
        raise FileError(f"{path} holds no tokenizer of PGR2M, nor a decoder of CoMo")
    state = state_of(read_torch(file), ("net",), file)
    config = tokenizer_config(state, str(file))
    with made_for(state, str(file)):
        model = PGTokenizer(config, statistics_beside(file, config.features))
    tokenizer_of(state, model, str(file))
    return model.eval()
