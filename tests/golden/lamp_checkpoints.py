"""Golden cases of the sizes of published files: names and shapes of all parameters."""

from collections.abc import Callable
from typing import Any

import torch

from model.official.token_transformers import transformer_name
from model.token_networks import MaskedTransformer, ResidualTransformer
from model.token_transformer_config import TokenTransformerConfig
from tests.golden.lamp_pretraining import pretraining_shapes, qformer_shapes
from tests.golden.lamp_tokens import tokenizer_shapes
from tests.golden.runner import Case

Shapes = dict[str, list[int]]


def transformer_shapes(config: dict[str, Any]) -> Shapes:
    """Of a masked or residual transformer, with LaMP's reader of texts where it has that."""
    sizes = TokenTransformerConfig(
        latent_dim=config["latent_dim"], ff_size=config["ff_size"], num_layers=config["layers"], num_heads=config["heads"],
        num_codes=config["num_tokens"], code_dim=config["code_dim"], condition_dim=config["cond_dim"],
        num_quantizers=config.get("num_quantizers", 1), share_weights=config.get("share_weight", True),
    )  # fmt: skip
    with torch.device("meta"):
        network = (MaskedTransformer if config["model"] == "masked_transformer" else ResidualTransformer)(sizes)
    shapes = {transformer_name(name): list(each.shape) for name, each in network.named_parameters()}
    shapes["position_enc.pe"] = [sizes.max_positions, 1, sizes.latent_dim]
    if "qformer" in config:
        shapes |= {name: list(each.shape) for name, each in qformer_shapes(config["qformer"]).items()}
        for name in ("text2former", "clip2qformer"):
            inputs, outputs = config[name]
            shapes |= {f"{name}.weight": [outputs, inputs], f"{name}.bias": [outputs]}
    return shapes


SHAPES: dict[str, Callable[[dict[str, Any]], Shapes]] = {
    "vqvae": tokenizer_shapes, "rvqvae": tokenizer_shapes, "masked_transformer": transformer_shapes,
    "residual_transformer": transformer_shapes, "lamp_pretraining": pretraining_shapes,
}  # fmt: skip


def state_dict_shapes(case: Case) -> dict[str, Any]:
    kind = case.config["model"]
    if kind not in SHAPES:
        raise ModuleNotFoundError(f"no published names of {kind}", name=f"model.official.{kind}")
    return {"shapes": SHAPES[kind](case.config)}


HANDLERS = {"state_dict_shapes": state_dict_shapes}
