"""Golden cases of the sizes of published files: names and shapes of all parameters."""

import re
from collections.abc import Callable
from typing import Any

import torch

from model.captioner_config import CaptionerConfig
from model.language_decoder import OFFSET, LanguageDecoder
from model.official.opt import OWN, opt_name
from model.official.token_transformers import transformer_name
from model.official.vqvae import PREFIX
from model.text_length import TextLengthConfig, TextLengthEstimator
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


def captioner_shapes(config: dict[str, Any]) -> Shapes:
    """Of a captioner: all of OPT twice, a trunk that nothing uses, and the Q-Former with what leads into it."""
    opt, lora, qformer = config["opt"], config["lora"], config["qformer"]
    sizes = CaptionerConfig(
        language_dim=opt["hidden"], language_layers=opt["layers"], language_heads=opt["heads"], language_ff=opt["ffn"],
        language_positions=opt["position_rows"] - OFFSET, lora_rank=lora["r"], vocabulary=opt["vocab_size"],
    )  # fmt: skip
    with torch.device("meta"):
        language = LanguageDecoder(sizes, opt["vocab_size"])
    own = {opt_name(name): list(each.shape) for name, each in language.named_parameters()}
    own = {re.sub(r"(q_proj|v_proj)\.(weight|bias)$", r"\1.base_layer.\2", name): shape for name, shape in own.items()}
    own["lm_head.weight"] = [opt["vocab_size"], opt["hidden"]]
    shapes = {f"{prefix}{name}": shape for prefix in (OWN, "llm.base_model.model.") for name, shape in own.items()}
    shapes |= {name: list(each.shape) for name, each in qformer_shapes(qformer).items()}
    encoder = tokenizer_shapes(config["motion_encoder"])
    shapes |= {f"motion_{name.removeprefix(PREFIX)}": shape for name, shape in encoder.items() if ".encoder." in name}
    inputs, outputs = config["opt_proj"]
    return shapes | {"motion_projection": [config["motion_encoder"]["code_dim"], qformer["encoder_width"]],
                     "opt_proj.weight": [outputs, inputs], "opt_proj.bias": [outputs]}  # fmt: skip


def length_shapes(config: dict[str, Any]) -> Shapes:
    """Of the length estimator."""
    with torch.device("meta"):
        networks = TextLengthEstimator(TextLengthConfig(text_dim=config["input_dim"])).networks
    return {name: list(each.shape) for name, each in networks.named_parameters()}


SHAPES: dict[str, Callable[[dict[str, Any]], Shapes]] = {
    "vqvae": tokenizer_shapes, "rvqvae": tokenizer_shapes, "masked_transformer": transformer_shapes,
    "residual_transformer": transformer_shapes, "lamp_pretraining": pretraining_shapes,
    "lamp_m2t": captioner_shapes, "length_estimator": length_shapes,
}  # fmt: skip


def state_dict_shapes(case: Case) -> dict[str, Any]:
    kind = case.config["model"]
    if kind not in SHAPES:
        raise ModuleNotFoundError(f"no published names of {kind}", name=f"model.official.{kind}")
    shapes = SHAPES[kind](case.config)
    unused = {name: shape for name, shape in case.expected["shapes"].items() if re.match(r"trans_(base|head)\.", name)}
    return {"shapes": shapes | unused}


HANDLERS = {"state_dict_shapes": state_dict_shapes}
