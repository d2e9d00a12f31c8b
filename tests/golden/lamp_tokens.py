"""Golden cases of motion tokenizers: encoder, codebooks as they learn, decoder, losses, published names."""

from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor

from model.official.vqvae import PREFIX, codebook_names, of_published, tokenizer_name
from model.quantizers import LEAST_USE, NONE, Codebooks, Quantised, gumbel_of
from model.vqvae import VQVAE
from model.vqvae_config import VQVAEConfig
from model.vqvae_network import Tokenizer
from tests.golden.columns import Columns
from tests.golden.runner import Case
from tests.golden.tmr_model import require_ours

OUR_TOKENIZER = {
    "norm": None, "first_act": "relu", "dilation_order": "reversed", "upsample": "nearest", "quantizer": "ema_reset",
    "stride_t": 2, "shared_codebook": False,
}  # fmt: skip
OUR_CODEBOOK = {
    "count_threshold": LEAST_USE, "reset_rows": "tile(x)[:nb_code], every step", "perplexity_epsilon": 1e-7,
    "dequantise_with": "codebook before the update", "initial_code_count": 1.0, "row_order": "batch,time",
    "tile_noise_std": "0.01/sqrt(code_dim)",
}  # fmt: skip
OUR_LOSS = {"reconstruction": "smooth_l1", "beta": 1.0, "reduction": "mean"}


def config_of(model: dict[str, Any]) -> VQVAEConfig:
    require_ours(model, OUR_TOKENIZER)
    return VQVAEConfig(
        num_codes=model["nb_code"], code_dim=model["code_dim"], width=model["width"], num_levels=model["down_t"],
        depth=model["depth"], dilation_growth=model["growth"], activation=model["act"],
        num_quantizers=model.get("num_quantizers", 1), code_decay=model["mu"],
        features=Columns(skeleton="kit" if model["features"] == 251 else "humanml", count=model["features"]),
    )  # fmt: skip


def model_of(case: Case) -> VQVAE:
    model = VQVAE(config_of(case.config["model"]))
    state = {name.removeprefix(PREFIX): torch.as_tensor(value).float() for name, value in case.weights.items()}
    of_published(state, model.config, model, case.name)
    return model.eval()


def first(x: Tensor) -> Tensor:
    """The original's channels-first axes."""
    return x.transpose(1, 2)


def ids_of(model: VQVAE, ids: Tensor) -> Tensor:
    """(B, n) of a single codebook, (B, n, Q) of several."""
    return ids[..., 0] if model.config.num_quantizers == 1 else ids


def motion(case: Case) -> Tensor:
    return torch.as_tensor(case.inputs["motion"]).float()


def encode(case: Case) -> dict[str, Any]:
    model = model_of(case)
    latents = model.network.encoder(motion(case))
    coded = model.network.codebooks(latents)
    codes = model.network.codebooks.codes
    every = torch.stack([codes[q][coded.ids[..., q]] for q in range(len(codes))])  # (Q, B, n, C)
    return {"encoder_out": first(latents), "code_idx": ids_of(model, coded.ids), "all_codes": every.transpose(2, 3)}


def forward(case: Case) -> dict[str, Any]:
    model = model_of(case)
    coded = model.network.codebooks(model.network.encoder(motion(case)))
    return {"quantized": first(coded.vectors), "recon": model.network.decoder(coded.vectors),
            "commit_loss": coded.commitment, "perplexity": coded.perplexity}  # fmt: skip


def loss_terms(case: Case) -> tuple[VQVAE, dict[str, Tensor]]:
    model, stated = model_of(case), case.config["loss"]
    require_ours(stated, OUR_LOSS)
    x = motion(case)
    coded = model.network.codebooks(model.network.encoder(x))
    made = model.network.decoder(coded.vectors)
    own = model.reconstruction_terms(made, x, x.new_ones(x.shape[:2], dtype=torch.bool))
    weights = stated["weights"]
    terms = {"loss_rec": own["reconstruction"], "loss_explicit": own["positions"] / model.config.lambda_positions,
             "commit_loss": coded.commitment}  # fmt: skip
    terms["loss_total"] = sum(weights[name] * terms[key] for name, key in (
        ("rec", "loss_rec"), ("explicit", "loss_explicit"), ("commit", "commit_loss")))  # fmt: skip
    return model, terms


def loss(case: Case) -> dict[str, Any]:
    return loss_terms(case)[1]


def gradients(case: Case) -> dict[str, Any]:
    if case.group == "pretraining":
        from tests.golden.lamp_pretraining import gradients as of_pretraining

        return of_pretraining(case)
    model, terms = loss_terms(case)
    terms[case.config["of"]].backward()
    levels, prefix = model.config.num_levels, case.config["model"]["parameter_prefix"]
    return {"grad_norms": {prefix + tokenizer_name(name, levels): float(parameter.grad.norm())
                           for name, parameter in model.network.named_parameters()}}  # fmt: skip


def decode_ids(case: Case) -> dict[str, Any]:
    model, config = model_of(case), case.config
    ids = torch.as_tensor(case.inputs[next(iter(case.inputs))]).long()
    ids = ids if ids.dim() == 3 else ids[..., None]
    for rule in config.get("input_select", {}).values():
        ids = ids.index_select(rule["axis"], torch.tensor(rule["indices"]))
    made = model.network.decoder(model.network.codebooks.vectors(ids[..., : config.get("layers", ids.shape[-1])]))
    return {name: made for name in case.expected}


def quantize_dropout(case: Case) -> dict[str, Any]:
    model = model_of(case)
    latents = first(torch.as_tensor(case.inputs["encoder_out"]).float())
    coded = model.network.codebooks(latents, used=case.config["last_layer_used"] + 1)
    require_ours({"skipped_id": case.config["skipped_id"]}, {"skipped_id": NONE})
    return {"quantized": first(coded.vectors), "code_idx": coded.ids, "commit_loss": coded.commitment,
            "perplexity": coded.perplexity}  # fmt: skip


def codebook_of(case: Case) -> Codebooks:
    stated = case.config["quantizer"]
    require_ours(stated, OUR_CODEBOOK)
    return Codebooks(1, stated["nb_code"], stated["code_dim"], stated["mu"])


def outputs(books: Codebooks, coded: Quantised, step: int | str) -> dict[str, Any]:
    found = {"xd": first(coded.vectors), "idx": coded.ids[..., 0], "commit": coded.commitment, "perplexity": coded.perplexity,
             "codebook": books.codes[0], "code_sum": books.sums[0], "code_count": books.counts[0]}  # fmt: skip
    return {f"{name}_{step}": torch.as_tensor(value).clone() for name, value in found.items()}


def ema_reset_steps(case: Case) -> dict[str, Any]:
    books, found = codebook_of(case).train(), {}
    temperature = case.config.get("temperature", 0.0)
    for step in range(case.config["steps"]):
        given = iter(sorted(name for name in case.inputs if name.startswith(f"noise_{step}_")))

        def noise(shape: tuple[int, ...], given=given) -> Tensor:
            return torch.as_tensor(case.inputs[next(given)]).float().reshape(shape)

        x = first(torch.as_tensor(case.inputs[f"x_{step}"]).float())
        gumbel = None
        if temperature:
            uniform = torch.as_tensor(case.inputs[f"uniform_{step}"]).float()
            gumbel = partial(lambda layer, values: values, values=gumbel_of(uniform).unflatten(0, x.shape[:2]))
        coded = books(x, gumbel=gumbel, temperature=temperature, noise=noise)
        books.update(coded.sums, noise)
        found |= outputs(books, coded, step)
    if "x_eval" in case.inputs:
        found |= outputs(books, books.eval()(first(torch.as_tensor(case.inputs["x_eval"]).float())), "eval")
    return found


def ema_reset_repeat(case: Case) -> dict[str, Any]:
    books, found, perplexity = codebook_of(case).train(), {}, []
    x = first(torch.as_tensor(case.inputs["x"]).float())
    for step in range(1, case.config["steps"] + 1):
        coded = books(x)
        books.update(coded.sums, torch.randn)
        perplexity.append(float(coded.perplexity))
        found |= {f"codebook_step{step}": books.codes[0].clone(), f"count_step{step}": books.counts[0].clone()}
    return {**found, "perplexity": np.array(perplexity)}


def tokenizer_shapes(config: dict[str, Any]) -> dict[str, list[int]]:
    """Published names and shapes of a tokenizer as our networks have them."""
    require_ours(config, {"stride_t": 2, "shared_codebook": False})
    sizes = VQVAEConfig(
        num_codes=config["nb_code"], code_dim=config["code_dim"], width=config["width"], num_levels=config["down_t"],
        depth=config["depth"], dilation_growth=config["growth"], num_quantizers=config.get("num_quantizers", 1),
    )  # fmt: skip
    one = config["model"] == "vqvae"
    with torch.device("meta"):
        network = Tokenizer(sizes, config["features"])
    shapes = {tokenizer_name(name, sizes.num_levels): list(value.shape) for name, value in network.named_parameters()}
    shapes |= {name: [sizes.num_codes, sizes.code_dim] for name in codebook_names(sizes.num_quantizers, one)}
    return {f"{PREFIX if one else ''}{name}": shape for name, shape in shapes.items()}


HANDLERS = {
    "encode": encode, "forward": forward, "loss": loss, "decode_ids": decode_ids, "gradients": gradients,
    "quantize_dropout": quantize_dropout, "ema_reset_steps": ema_reset_steps, "ema_reset_gumbel_steps": ema_reset_steps,
    "ema_reset_repeat": ema_reset_repeat,
}  # fmt: skip
