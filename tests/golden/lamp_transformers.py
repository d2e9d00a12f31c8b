"""Golden cases of transformers over motion tokens: logits, decoding, editing, training steps, schedules."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from diffusion import token_decoding
from diffusion.token_decoding import TokenSampling, decode_masked, decode_residual, masks_to_train_on, spoilt
from model.evaluator_config import LENGTH_CLASSES
from model.lamp_config import QFormerConfig
from model.official.lamp import qformer_state
from model.official.token_transformers import NOT_LOADED, transformer_name
from model.official.weights import rename
from model.qformer import QFormer
from model.quantizers import gumbel_of
from model.text_encoders import TextFeatures
from model.text_length import HIDDEN, TextLengthConfig, TextLengthEstimator
from model.token_networks import HEAD_EPS, MaskedTransformer, ResidualTransformer
from model.token_transformer_config import TokenTransformerConfig
from model.token_transformers import read_by_queries
from tests.golden.lamp_pretraining import qformer_settings
from tests.golden.runner import Case
from tests.golden.tmr_model import require_ours

OURS = {
    "condition_position_encoded": False, "prefix_position_encoded": False, "norm": "post", "norm_eps": 1e-5,
    "activation": "gelu_erf", "position": "sinusoid_interleaved", "position_base": 10000.0, "head_norm_eps": HEAD_EPS,
    "shared_codebook": False,
}  # fmt: skip


def network_of(case: Case) -> MaskedTransformer | ResidualTransformer:
    """The case's network with its weights, in eval mode."""
    model = case.config["model"]
    require_ours(model, OURS)
    masked = model["type"] == "masked_transformer"
    config = TokenTransformerConfig(
        latent_dim=model["latent_dim"], ff_size=model["ff_size"], num_layers=model["layers"], num_heads=model["heads"],
        dropout=model["dropout"], attention=model.get("attention_bias", "none"), key_padding=model["key_padding"],
        share_weights=model.get("share_weight", True), num_codes=model["num_tokens"], code_dim=model["code_dim"],
        condition_dim=model["cond_dim"], num_quantizers=model.get("num_quantizers", 1),
    )  # fmt: skip
    network = MaskedTransformer(config) if masked else ResidualTransformer(config)
    require_ours({"pad_id": model["pad_id"]}, {"pad_id": network.pad_id})
    not_loaded = (*NOT_LOADED, *(r"^Qformer\.", r"^query_tokens$", r"^text2former\.", r"^clip2qformer\."))
    network.load_state_dict(rename(weights_of(case), network.state_dict(), transformer_name, not_loaded, case.name))
    return network.eval()


def given(case: Case) -> dict[str, Tensor]:
    """The inputs, cut as the case says."""
    values = {name: torch.as_tensor(value) for name, value in case.inputs.items()}
    for name, rule in case.config.get("input_select", {}).items():
        values[name] = values[name].index_select(rule["axis"], torch.tensor(rule["indices"]))
    return {name: value.float() if value.is_floating_point() else value.long() for name, value in values.items()}


def condition_of(case: Case, values: dict[str, Tensor], reader: nn.Linear | None = None) -> Tensor:
    """The condition of each sample, given or of its text."""
    name = next((name for name in ("cond", "cond_vector") if name in values), None)
    if name is not None:
        return values[name]
    text = TextFeatures(None, None, values["attention_mask"] > 0, values["input_ids"])
    return read_by_queries(qformer_of(case), reader or reader_of(case), text)


def weights_of(case: Case) -> dict[str, Tensor]:
    return {name: torch.as_tensor(value).float() for name, value in case.weights.items()}


def qformer_of(case: Case) -> QFormer:
    """The frozen Q-Former."""
    stated = case.config["model"]
    config = QFormerConfig(**qformer_settings(stated["qformer"]), text_tokens=stated["text_tokens"])
    qformer = QFormer(config).requires_grad_(False).eval()
    qformer.load_state_dict(qformer_state(weights_of(case), config))
    return qformer


def reader_of(case: Case) -> nn.Linear | None:
    """What is trained with a transformer to lead texts into the Q-Former; None where none is."""
    if "text2former" not in case.config["model"]:
        return None
    reader, state = nn.Linear(*case.config["model"]["text2former"]), weights_of(case)
    reader.load_state_dict({kind: state[f"text2former.{kind}"] for kind in ("weight", "bias")})
    return reader


def condition(case: Case) -> dict[str, Any]:
    return {"cond_vector": condition_of(case, given(case))}


def below(lengths: Tensor, size: int) -> Tensor:
    return torch.arange(size) < lengths[:, None]


def guided(network: Callable[..., Tensor], scale: float) -> Callable[..., Tensor]:
    """uncond + scale (cond - uncond)."""

    def logits(*args: Tensor, **known: Any) -> Tensor:
        size = len(args[0])
        drop = torch.ones(size, dtype=torch.bool)
        without = network(*args, drop=drop, **known)
        return without + scale * (network(*args, **known) - without)

    return logits


def logits(case: Case) -> dict[str, Any]:
    network, values, scale = network_of(case), given(case), case.config["cond_scale"]
    condition = condition_of(case, values)
    if isinstance(network, ResidualTransformer):
        mask = below(values["lengths"], values["motion_codes"].shape[1])
        layer = values.get("qids", torch.full((len(mask),), case.config.get("layer", 1)))

        def residual(told: Tensor, drop: Tensor | None = None) -> Tensor:
            return network.project(network.hidden(told, layer, condition, mask, drop), layer)

        hidden = network.hidden(values["motion_codes"], layer, condition, mask)
        made = guided(residual, scale)(values["motion_codes"])
        return {"hidden": hidden.mT, "logits": made.mT}
    ids = values["ids"][:, : case.config.get("cut_to_length")]
    mask = below(values["lengths"], ids.shape[1]) if len(values["lengths"]) == len(ids) else None
    drop = torch.ones(len(ids), dtype=torch.bool)
    plain = network(ids, condition, mask).mT
    made = {"logits_cond": plain, "logits_uncond": network(ids, condition, mask, drop).mT,
            "logits_scaled": guided(network, scale)(ids, condition, mask).mT}  # fmt: skip
    return {**made, **{name: plain for name in case.expected if name not in made}}


def noise_of(case: Case, values: dict[str, Tensor]) -> token_decoding.Gumbel | None:
    if "uniform" not in values:
        return None
    noise = gumbel_of(values["uniform"])
    return lambda step, shape: noise[step].reshape(shape)


def sampling_of(case: Case) -> TokenSampling:
    return TokenSampling(case.config["gumbel"]["temperature"], case.config["generation"]["topk_threshold"])


def generate(case: Case) -> dict[str, Any]:
    if case.group == "captioning":
        from tests.golden.lamp_captioning import generate as of_captions

        return of_captions(case)
    network, values, stated = network_of(case), given(case), case.config["generation"]
    condition, lengths = condition_of(case, values), values["lengths"]
    size = case.config["tokens"]
    mask = below(lengths, size)
    if isinstance(network, ResidualTransformer):
        call = guided(network, stated["cond_scale"])

        def residual(layer: int, ids: Tensor) -> Tensor:
            return call(ids, torch.full((len(ids),), layer), condition, mask)

        made = decode_residual(residual, values["base_ids"], mask, network.num_quantizers, sampling_of(case),
                               noise_of(case, values))  # fmt: skip
    else:
        ids = torch.where(mask, network.mask_id, network.pad_id)
        call = guided(network, stated["cond_scale"])
        made = decode_masked(lambda ids: call(ids, condition, mask), ids, mask, network.mask_id, stated["timesteps"],
                             sampling_of(case), noise_of(case, values))  # fmt: skip
        made = made.masked_fill(~mask, stated["final_padding"])
    return {name: made for name in case.expected}


def edit(case: Case) -> dict[str, Any]:
    network, values, stated = network_of(case), given(case), case.config["generation"]
    mask = below(values["lengths"], values["source_ids"].shape[1])
    ids = torch.where(mask, values["source_ids"], network.pad_id)
    call = guided(network, stated["cond_scale"])
    made = decode_masked(lambda ids: call(ids, condition_of(case, values), mask), ids, (values["edit_mask"] > 0) & mask,
                         network.mask_id, stated["timesteps"], sampling_of(case), noise_of(case, values))  # fmt: skip
    return {"edit_ids": made.masked_fill(~mask, stated["final_padding"])}


def train_step(case: Case) -> dict[str, Any]:
    network, values, stated, reader = network_of(case), given(case), case.config["training"], reader_of(case)
    condition = condition_of(case, values, reader)
    if isinstance(network, ResidualTransformer):
        ids = values["train_indices"]
        mask = below(values["lengths"], ids.shape[1])
        layer = token_decoding.layers_to_train(values["train_uniform"], network.num_quantizers)
        found = network(ids, layer, condition, mask)
        wanted = ids[torch.arange(len(ids)), :, layer].masked_fill(~mask, -100)
    else:
        ids = values["train_ids"]
        lengths = values["lengths"]
        mask = below(lengths, ids.shape[1])
        ids = torch.where(mask, ids, network.pad_id)
        masked = masks_to_train_on(lengths, ids.shape[1], values["train_rand_time"], values["train_rand_perm"])
        replaced, hidden = (values[f"train_bern_{name}"] < stated[kind]["probability"]
                            for name, kind in (("rid", "random_replace"), ("mid", "mask_replace")))  # fmt: skip
        seen = spoilt(ids, masked, network.mask_id, replaced, values["train_rand_id"], hidden)
        found, wanted = network(seen, condition, mask), ids.masked_fill(~masked, -100)
    loss = F.cross_entropy(found.flatten(0, 1), wanted.flatten())
    guess, counted = found.argmax(-1), wanted != -100
    loss.backward()
    norms = {transformer_name(name): float(each.grad.norm()) for name, each in network.named_parameters()
             if each.grad is not None}  # fmt: skip
    if reader is not None:
        norms |= {f"text2former.{name}": float(each.grad.norm()) for name, each in reader.named_parameters()}
    accuracy = (guess == wanted)[counted].float().mean()
    return {"train_loss": loss, "train_acc": accuracy, "train_pred_id": guess, "grad_norms": norms}


def length_estimator(case: Case) -> dict[str, Any]:
    stated = case.config["model"]
    require_ours(stated, {"hidden": list(HIDDEN), "output_dim": LENGTH_CLASSES, "norm_eps": 1e-5, "leaky_slope": 0.2})
    model = TextLengthEstimator(TextLengthConfig(text_dim=stated["input_dim"])).eval()
    model.networks.load_state_dict(weights_of(case))
    found = model.logits(torch.as_tensor(case.inputs["text_emb"]).float())
    return {"logits": found, "probs": found.softmax(-1)}


def num_masked(case: Case) -> dict[str, Any]:
    steps, length = case.config["timesteps"], torch.tensor([case.config["length"]])
    return {"num_masked": [int(token_decoding.num_masked(length, t)) for t in token_decoding.steps_of(steps)]}


def top_k_count(case: Case) -> dict[str, Any]:
    return {"kept": token_decoding.num_kept(case.config["threshold"], case.config["classes"])}


HANDLERS = {
    "logits": logits, "generate": generate, "edit": edit, "train_step": train_step, "num_masked": num_masked,
    "top_k_count": top_k_count, "condition": condition,
    "length_estimator": length_estimator,
}  # fmt: skip
