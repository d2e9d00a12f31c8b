"""Golden cases of the sizes of published files of PGR2M and CoMo: names and shapes of all parameters."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

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


def as_published(network: nn.Module, name_of: Callable[[str], str]) -> dict[str, Tensor]:
    """All parameters under published names, query, key and value of a layer by themselves."""
    found = {}
    for name, value in network.named_parameters():
        theirs = name_of(name)
        if ".attn.qkv." in theirs:
            found |= {theirs.replace("qkv", each): part for each, part in zip(QKV, value.detach().chunk(3), strict=True)}
        else:
            found[theirs] = value.detach()
    return found


def base_as_published(network: PoseTransformer) -> dict[str, Tensor]:
    """With the tables and masks that files have; half of the layers are the head's."""
    found = as_published(network, lambda name: base_name(name, len(network.layers) // 2))
    block, dim = network.positions.shape
    mask = torch.ones(block, block).tril()[None, None]
    masks = {f"{name.removesuffix('key.weight')}mask": mask for name in found if name.endswith("attn.key.weight")}
    tables = {"trans_base.pos_embedding.weight": torch.zeros(block, dim),
              "trans_base.pos_embed.embed": network.positions[:, None]}  # fmt: skip
    return found | masks | tables


def refine_as_published(network: PoseRefiner, block: int) -> dict[str, Tensor]:
    """With the copies and unused tables that files have; block: the longest sequence of its base."""
    found = as_published(network, refine_name)
    found["proc_in.pos_embed.embed"] = torch.zeros(block, 1, network.positions.shape[1])
    if SHARED in found:
        found |= {name: found[SHARED] for name in COPIES_OF_SHARED}
        found |= {f"{name}_": found[SHARED][:1] for name in COPIES_OF_SHARED}
    return found | {f"trans_base.{name}": value for name, value in found.items() if name.startswith("proc_in.")}


def shapes_of(state: dict[str, Tensor]) -> Shapes:
    return {name: list(value.shape) for name, value in state.items()}


def tokenizer_shapes(sizes: dict[str, Any]) -> Shapes:
    require_ours(sizes, {**OURS, "norm": None, "quantizer_type": "soft", "shared_codebook": False})
    config = PGTokenizerConfig(
        width=sizes["width"], code_dim=sizes["code_dim"], depth=sizes["depth"], dilation_growth=sizes["dilation_growth_rate"],
        num_quantizers=sizes.get("num_quantizers", 0), num_codes=sizes.get("rvq_codes", 512),
    )  # fmt: skip
    with torch.device("meta"):
        return shapes_of(as_published(PoseTokenizer(config, sizes["motion_dim"]), pg_tokenizer_name))


def como_shapes(sizes: dict[str, Any]) -> Shapes:
    return {POSES_OF_COMO if name == POSES else name: shape for name, shape in tokenizer_shapes(sizes).items()}


def config_of(kind: type, sizes: dict[str, Any], num_layers: int, **more: Any) -> Any:
    return kind(latent_dim=sizes["embed_dim"], ff_size=sizes["ff_rate"] * sizes["embed_dim"], num_layers=num_layers,
                num_heads=sizes["heads"], condition_dim=sizes["clip_dim"], **more)  # fmt: skip


def base_shapes(sizes: dict[str, Any]) -> Shapes:
    require_ours(sizes, {"blocks_base": sizes["blocks_head"]})
    with torch.device("meta"):
        network = PoseTransformer(config_of(PoseTransformerConfig, sizes, 2 * sizes["blocks_base"]))
        require_ours(sizes, {"block_size": len(network.positions)})
        return shapes_of(base_as_published(network))


def refine_shapes(sizes: dict[str, Any]) -> Shapes:
    config = config_of(PoseRefinerConfig, sizes, sizes["blocks"], share_weights=sizes["share_weight"], num_codes=sizes["codes"],
                       num_quantizers=sizes["quantizers"])  # fmt: skip
    with torch.device("meta"):
        return shapes_of(refine_as_published(PoseRefiner(config), sizes["block_size"]))


SHAPES = {"pg_tokenizer": tokenizer_shapes, "como_decoder": como_shapes, "base_transformer": base_shapes,
          "refine_transformer": refine_shapes}  # fmt: skip


def state_dict_shapes(case: Case) -> dict[str, Any]:
    return {"shapes": SHAPES[case.config["model"]](case.config["sizes"])}


HANDLERS = {"state_dict_shapes": state_dict_shapes}
