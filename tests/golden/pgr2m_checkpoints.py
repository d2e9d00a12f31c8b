"""Golden cases of the sizes of published files of PGR2M and CoMo: names and shapes of all parameters."""

from collections.abc import Callable
from typing import Any

import torch

from model.official.pgr2m import (
    COPIES_OF_SHARED,
    POSES,
    POSES_OF_COMO,
    QKV,
    SHARED,
    base_name,
    pg_tokenizer_name,
    refine_name,
)
from model.pgr2m import PoseTokenizer
from model.pgr2m_config import PGTokenizerConfig
from model.pgr2m_networks import PoseRefiner, PoseTransformer
from model.pgr2m_transformer_config import PoseRefinerConfig, PoseTransformerConfig
from tests.golden.pgr2m_tokenizer import OURS
from tests.golden.runner import Case
from tests.golden.tmr_model import require_ours

Shapes = dict[str, list[int]]


def shapes_of(network: torch.nn.Module, name_of: Callable[[str], str]) -> Shapes:
    """Of all parameters, query, key and value of a layer by themselves."""
    found = {}
    for name, value in network.named_parameters():
        theirs, shape = name_of(name), list(value.shape)
        if ".attn.qkv." in theirs:
            found |= {theirs.replace("qkv", each): [shape[0] // 3, *shape[1:]] for each in QKV}
        else:
            found[theirs] = shape
    return found


def tokenizer_shapes(sizes: dict[str, Any]) -> Shapes:
    require_ours(sizes, {**OURS, "norm": None, "quantizer_type": "soft", "shared_codebook": False})
    config = PGTokenizerConfig(
        width=sizes["width"], code_dim=sizes["code_dim"], depth=sizes["depth"], dilation_growth=sizes["dilation_growth_rate"],
        num_quantizers=sizes.get("num_quantizers", 0), num_codes=sizes.get("rvq_codes", 512),
    )  # fmt: skip
    with torch.device("meta"):
        return shapes_of(PoseTokenizer(config, sizes["motion_dim"]), pg_tokenizer_name)


def como_shapes(sizes: dict[str, Any]) -> Shapes:
    return {POSES_OF_COMO if name == POSES else name: shape for name, shape in tokenizer_shapes(sizes).items()}


def config_of(kind: type, sizes: dict[str, Any], num_layers: int, **more: Any) -> Any:
    return kind(latent_dim=sizes["embed_dim"], ff_size=sizes["ff_rate"] * sizes["embed_dim"], num_layers=num_layers,
                num_heads=sizes["heads"], condition_dim=sizes["clip_dim"], **more)  # fmt: skip


def base_shapes(sizes: dict[str, Any]) -> Shapes:
    require_ours(sizes, {"blocks_base": sizes["blocks_head"]})
    count, block, dim = 2 * sizes["blocks_base"], sizes["block_size"], sizes["embed_dim"]
    with torch.device("meta"):
        network = PoseTransformer(config_of(PoseTransformerConfig, sizes, count))
    found = shapes_of(network, lambda name: base_name(name, count))
    masks = {f"{name.removesuffix('key.weight')}mask": [1, 1, block, block] for name in found if name.endswith("attn.key.weight")}
    return found | masks | {"trans_base.pos_embedding.weight": [block, dim], "trans_base.pos_embed.embed": [block, 1, dim]}


def refine_shapes(sizes: dict[str, Any]) -> Shapes:
    config = config_of(PoseRefinerConfig, sizes, sizes["blocks"], share_weights=sizes["share_weight"], num_codes=sizes["codes"],
                       num_quantizers=sizes["quantizers"])  # fmt: skip
    with torch.device("meta"):
        found = shapes_of(PoseRefiner(config), refine_name)
    found["proc_in.pos_embed.embed"] = [sizes["block_size"], 1, sizes["embed_dim"]]
    if sizes["share_weight"]:
        found |= {name: found[SHARED] for name in COPIES_OF_SHARED}
        found |= {f"{name}_": [1, *found[SHARED][1:]] for name in COPIES_OF_SHARED}
    return found | {f"trans_base.{name}": shape for name, shape in found.items() if name.startswith("proc_in.")}


SHAPES = {"pg_tokenizer": tokenizer_shapes, "como_decoder": como_shapes, "base_transformer": base_shapes,
          "refine_transformer": refine_shapes}  # fmt: skip


def state_dict_shapes(case: Case) -> dict[str, Any]:
    return {"shapes": SHAPES[case.config["model"]](case.config["sizes"])}


HANDLERS = {"state_dict_shapes": state_dict_shapes}
