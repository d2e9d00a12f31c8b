"""PGR2M and CoMo as published: tokenizer, base and refine transformers in a folder each, `net_best_fid.pth` and arguments.yaml.

Files are told by the names of their parameters. A refine transformer finds its base, and this its tokenizer, beside it, in one
folder or in folders of one. Weights do not show heads and activation: arguments.yaml says them, JSON whatever its name; without
it those of the published options stand here.
"""

import re
from dataclasses import fields
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from model.model import made_for, read_torch
from model.official.token_transformers import dataset_of
from model.official.vqvae import features_of, state_of, statistics_beside, tokenizer_name
from model.official.weights import first_match, load_renamed
from model.pgr2m import PGTokenizer
from model.pgr2m_config import PGTokenizerConfig
from model.pgr2m_networks import MOST_TOKENS, PoseRefiner, PoseTransformer
from model.pgr2m_transformer_config import KEYWORD_SLOTS, PoseRefinerConfig, PoseTransformerConfig
from model.pgr2m_transformers import PoseTextRefiner, PoseTextTransformer
from model.registry import MOST_SETTINGS, token_file
from model.text_encoders import TextEncoder
from model.token_transformer_config import TransformerSizes
from protos.reading import FileError, read_json

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
# Our name of a part of a layer -> the published one
LAYER_NAMES = (
    (r"norm_self\.", "ln1."),
    (r"norm_ff\.", "ln2."),
    (r"self_attention\.qkv\.", "attn.qkv."),  # three of theirs: query, key and value
    (r"self_attention\.out\.", "attn.proj."),
    (r"linear1\.", "mlp.0."),
    (r"linear2\.", "mlp.2."),
)
BASE_NAMES = (
    (r"embedding\.", "trans_base.tok_emb."),
    (r"condition_projection\.", "trans_base.cond_emb."),
    (r"norm\.", "trans_head.ln_f."),
    (r"head\.", "trans_head.head."),
)
REFINE_NAMES = (
    (r"embedding\.", "proc_in.pose_tok_emb."),
    (r"condition_projection\.", "proc_in.cond_emb."),
    (r"quantizer_projection\.", "proc_in.quant_emb."),
    (r"shared$", "embed_proj_shared_weight"),
    (r"embeddings$", "proc_in.token_embed_weight"),
    (r"projections$", "proc_out.output_proj_weight"),
    (r"projection_bias$", "proc_out.output_proj_bias"),
)
QKV = ("query", "key", "value")
# Tables of sinusoids, causal masks, a learned table and tables that no code reads
NOT_LOADED = (r"pos_embed\.embed$", r"attn\.mask$", r"pos_embedding\.weight$", r"_weight_$")
COPIES = (r"^trans_base\.proc_in\.",)  # the same tensors a second time
SHARED = "embed_proj_shared_weight"
COPIES_OF_SHARED = ("proc_in.token_embed_weight", "proc_out.output_proj_weight")
HEADS = {"pg_base": 16, "pg_refine": 8}
WHAT = {"pg_tokenizer": "tokenizer", "pg_base": "base transformer", "pg_refine": "refine transformer"}
ARGUMENTS: dict[str, tuple[str, type]] = {  # what weights do not show: published name -> ours
    "vq_act": ("activation", str), "dilation_growth_rate": ("dilation_growth", int), "detach_p_latent": ("hold_pose", bool),
    "rvq_residual_ratio": ("residual_ratio", float), "n_head_gpt": ("num_heads", int),
}  # fmt: skip
POSES, POSES_OF_COMO = "pc_encoder.codebook.weight", "codebook.weight"


def pg_tokenizer_name(name: str, num_levels: int = 2) -> str:
    """The published name of a parameter of our `PoseTokenizer`."""
    if name == "pose_codebook":
        return POSES
    if name.startswith("codebooks."):
        return first_match(name, CODEBOOK_NAMES)
    return tokenizer_name(name, num_levels)


def arguments_beside(file: Path) -> dict[str, Any]:
    """The arguments beside a published file, {} where there are none. FileError where they are not readable."""
    path = file.parent / "arguments.yaml"
    return read_json(path, dict[str, Any], MOST_SETTINGS) if path.is_file() else {}


def settings_beside(file: Path, kind: type) -> dict[str, Any]:
    """What the arguments beside a published file say of the settings of a configuration."""
    content, names = arguments_beside(file), {field.name for field in fields(kind)}
    return {ours: content[theirs] for theirs, (ours, of) in ARGUMENTS.items()
            if ours in names and type(content.get(theirs)) is of}  # fmt: skip


def tokenizer_config(state: dict[str, Tensor], file: Path) -> PGTokenizerConfig:
    """Our configuration of published weights. FileError names what is absent."""
    where = str(file)
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
            dataset="kit" if features.skeleton == "kit" else "humanml", **settings_beside(file, PGTokenizerConfig),
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
    config = tokenizer_config(state, file)
    with made_for(state, str(file)):
        model = PGTokenizer(config, statistics_beside(file, config.features))
    tokenizer_of(state, model, str(file))
    return model.eval()


# ------------------------------------------------------------------------------------------------------------------ transformers


def layer_name(name: str, stack: str, number: int) -> str:
    """The published name of `layers.<i>.<rest>` of ours, the number-th of a stack."""
    return f"{stack}.blocks.{number}.{first_match(name.split('.', 2)[2], LAYER_NAMES)}"


def base_name(name: str, before: int) -> str:
    """The published name of a parameter of our `PoseTransformer`: layers after the first `before` are the head's."""
    if name.startswith("layers."):
        number = int(name.split(".")[1])
        return layer_name(name, *(("trans_base", number) if number < before else ("trans_head", number - before)))
    return first_match(name, BASE_NAMES)


def refine_name(name: str) -> str:
    """The published name of a parameter of our `PoseRefiner`."""
    if name.startswith("layers."):
        return layer_name(name, "trans_base", int(name.split(".")[1]))
    return first_match(name, REFINE_NAMES)


def packed(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Published weights with query, key and value of each layer in one."""
    found = dict(state)
    for name in [name for name in state if re.search(r"\.attn\.query\.(weight|bias)$", name)]:
        names = [name.replace("query", each) for each in QKV]
        if all(each in state for each in names):
            found[name.replace("query", "qkv")] = torch.cat([found.pop(each) for each in names])
    return found


def without_copies(state: dict[str, Tensor], where: str) -> dict[str, Tensor]:
    """A refine transformer's weights, each once. FileError where copies of a tensor differ."""
    found = {name: value for name, value in state.items() if not re.match(COPIES[0], name)}
    pairs = [(name, name.removeprefix("trans_base.")) for name in state if re.match(COPIES[0], name)]
    if SHARED in state:
        pairs += [(name, SHARED) for name in COPIES_OF_SHARED if name in state]
        found = {name: value for name, value in found.items() if name not in COPIES_OF_SHARED}
    for copy, own in pairs:
        if own in state and not torch.equal(state[copy], state[own]):
            raise FileError(f"{where}: {copy} differs from {own}, expected the same tensor: damaged, or of another program")
    return found


def base_of(state: dict[str, Tensor], network: PoseTransformer, where: str) -> None:
    """Puts published weights into a network. FileError where they do not fit."""
    before = sum(name.startswith("trans_base.") and name.endswith(".ln1.weight") for name in state)
    load_renamed(network, packed(state), lambda name: base_name(name, before), where, NOT_LOADED)


def refine_of(state: dict[str, Tensor], network: PoseRefiner, where: str) -> None:
    """As `base_of`."""
    load_renamed(network, packed(without_copies(state, where)), refine_name, where, NOT_LOADED)


def sizes_of(state: dict[str, Tensor], kind: str, file: Path) -> dict[str, Any]:
    """Settings that published weights, and the arguments beside them, show. FileError names what is absent."""
    try:
        latent_dim, condition_dim = state["trans_base.cond_emb.weight" if kind == "pg_base" else "proc_in.cond_emb.weight"].shape
        ff_size = len(state["trans_base.blocks.0.mlp.0.weight"])
    except (KeyError, ValueError) as error:
        raise FileError(f"{file}: incomplete, or of another model ({error})") from None
    layers = {name.rpartition(".ln1.")[0] for name in state if name.endswith(".ln1.weight")}
    return {"latent_dim": latent_dim, "condition_dim": condition_dim, "ff_size": ff_size, "num_layers": len(layers),
            "num_heads": HEADS[kind], "text_encoder": "clip-b32", **settings_beside(file, TransformerSizes)}  # fmt: skip


def read_kind(path: Path, kind: str) -> tuple[dict[str, Tensor], Path]:
    """State dict of the file of a kind that lies at a path, or in the folders around it, and that file."""
    around = (path, path.parent, path.parent.parent)
    file = next(filter(None, (token_file(folder, kind) for folder in around if folder.is_dir() or folder == path)), None)
    if file is None:
        raise FileError(f"{path}: no {WHAT[kind]} of PGR2M lies there or beside it")
    return state_of(read_torch(file), ("r_trans", "trans"), file), file


def load_pg_base(path: Path, text_encoder: TextEncoder | None = None) -> PoseTextTransformer:
    """The base transformer of PGR2M or CoMo, with the tokenizer beside it. FileError says what is wrong or absent."""
    state, file = read_kind(path, "pg_base")
    tokenizer = load_pg_tokenizer(tokenizer_place(path, file))
    places = state.get("trans_base.pos_embedding.weight")  # of condition and tokens
    keywords = KEYWORD_SLOTS if places is None else len(places) - 1 - MOST_TOKENS
    keywords = 0 if arguments_beside(file).get("use_keywords") is False else keywords
    try:
        config = PoseTransformerConfig(**sizes_of(state, "pg_base", file), num_keywords=keywords,
                                       features=tokenizer.features, dataset=dataset_of(tokenizer))  # fmt: skip
    except ValueError as error:
        raise FileError(f"{file}: weights of sizes that no base transformer has ({error})") from None
    with made_for(state, str(file)):
        model = PoseTextTransformer(config, tokenizer.statistics, {"tokenizer": tokenizer}, text_encoder)
    base_of(state, model.transformer, str(file))
    return model.eval()


def tokenizer_place(path: Path, file: Path) -> Path:
    """Where the tokenizer of a base transformer lies: in the same folder, or in one beside. FileError where there is none."""
    around = (path, file.parent, file.parent.parent)
    for folder in around:
        for kind in ("pg_tokenizer", "como_decoder"):
            if folder.is_dir() and (found := token_file(folder, kind)):
                return found
    raise FileError(f"{file}: no tokenizer lies beside it, on which it stands")


def load_pg_refine(path: Path, text_encoder: TextEncoder | None = None) -> PoseTextRefiner:
    """PGR2M as a whole: the refine transformer, its base and their tokenizer. FileError says what is wrong or absent."""
    state, file = read_kind(path, "pg_refine")
    base = load_pg_base(path if path.is_dir() else file, text_encoder)
    table = next((state[name] for name in (SHARED, "proc_out.output_proj_weight") if name in state), None)
    if table is None or table.dim() != 3:
        raise FileError(f"{file}: {SHARED} is absent: incomplete")
    codes = base.tokenizer.config
    if (len(table), table.shape[1] - 2) != (codes.num_quantizers, codes.num_codes):
        raise FileError(f"{file}: made for {len(table)} x {table.shape[1] - 2} codes, its tokenizer has {codes.num_quantizers} x "
                        f"{codes.num_codes}")  # fmt: skip
    try:
        config = PoseRefinerConfig(
            **sizes_of(state, "pg_refine", file), num_keywords=base.config.num_keywords, share_weights=SHARED in state,
            num_codes=codes.num_codes, num_quantizers=codes.num_quantizers, features=base.features, dataset=base.config.dataset,
        )  # fmt: skip
    except ValueError as error:
        raise FileError(f"{file}: weights of sizes that no refine transformer has ({error})") from None
    with made_for(state, str(file)):
        model = PoseTextRefiner(config, base.statistics, {"base": base}, text_encoder)
    refine_of(state, model.transformer, str(file))
    return model.eval()
