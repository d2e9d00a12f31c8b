"""Golden cases of PGR2M's tokenizer: pose codes as vectors, soft and hard codebooks, decoder, losses, a training step."""

from typing import Any

import torch
from torch import Tensor, nn

from data_loaders.features import HUMANML3D
from data_loaders.pose_codes import indices_from_codes
from model.official.pgr2m import CODEBOOK_NAMES, pg_tokenizer_name, tokenizer_of
from model.official.vqvae import KIT
from model.official.weights import first_match
from model.pgr2m import NUM_CODES, PGTokenizer, frame_distances, weighted_again
from model.pgr2m_config import PGTokenizerConfig
from model.quantizers import LEAST_USE, PERPLEXITY_EPS, Codebooks
from model.soft_quantizer import ENTROPY_EPS, RMS_EPS, TEMPERATURE, SoftCodebook
from tests.golden.runner import Case
from tests.golden.tmr_model import require_ours

OURS = {"pose_codes": NUM_CODES, "upsample": "nearest", "down_t": 2, "stride_t": 2}
OUR_CODEBOOKS = {
    "type": "soft", "shared_codebook": False, "norm": "rms", "rms_eps": RMS_EPS, "entropy_temperature": TEMPERATURE,
    "entropy_sample_weight": 1, "entropy_batch_weight": 1, "entropy_eps": ENTROPY_EPS, "perplexity_eps": PERPLEXITY_EPS,
    "loss_reduction": "mean over active stages",
}  # fmt: skip
VELOCITIES = {"v1": "positions", "v2": "velocities", "v3": "differences"}


def given(case: Case, name: str) -> Tensor:
    value = torch.as_tensor(case.inputs[name])
    value = value.long() if value.dtype in (torch.int32, torch.int64) else value.float()
    return value if case.config.get("batch_axis_in_codes", True) else value[None]


def model_of(case: Case) -> PGTokenizer:
    stated, rvq = case.config, case.config["rvq"]
    require_ours(stated, OURS)
    require_ours(rvq, {**OUR_CODEBOOKS, "attention_dim": stated["code_dim"]})
    config = PGTokenizerConfig(
        width=stated["width"], code_dim=stated["code_dim"], depth=stated["depth"], dilation_growth=stated["dilation_growth_rate"],
        num_quantizers=rvq["num_quantizers"], num_codes=rvq["codes"], value_beta=rvq["beta"],
        quantizer_drop=rvq["quantize_dropout_prob"], quantizer_cutoff=rvq["quantize_dropout_cutoff_index"],
        activation=stated["activation"], residual_ratio=stated["residual_ratio"], hold_pose=stated["detach_pose_latent"],
        features=HUMANML3D if stated["motion_dim"] == 263 else KIT,
    )  # fmt: skip
    model = PGTokenizer(config)
    tokenizer_of({name: torch.as_tensor(value).float() for name, value in case.weights.items()}, model, case.name)
    return model.train(stated.get("mode") == "train")


# ---------------------------------------------------------------------------------------------------------------------- codebooks


def codebook_of(case: Case) -> SoftCodebook:
    stated = case.config
    require_ours(stated, {**OUR_CODEBOOKS, "attention_dim": stated["code_dim"], "logit_scale": "1/sqrt(attention_dim)"})
    book = SoftCodebook(stated["codes"], stated["code_dim"])
    book.load_state_dict({name: torch.as_tensor(case.weights[codebook_name(name)]).float() for name in book.state_dict()})
    return book


def codebook_name(name: str) -> str:
    return first_match(f"codebooks.layers.0.{name}", CODEBOOK_NAMES).removeprefix("rvq.layers.0.")


def soft_quantize(case: Case) -> dict[str, Any]:
    x = given(case, "x").mT  # (B, N, C)
    chosen = codebook_of(case)(x.flatten(0, 1), case.config["beta"])
    back = (x.flatten(0, 1) + (chosen.soft - x.flatten(0, 1)).detach()).view_as(x).mT
    return {
        "x_d": back, "code_idx": shaped(chosen.ids, case), "vq_loss": chosen.loss, "perplexity": chosen.perplexity,
        "sample_entropy": chosen.sample_entropy, "avg_entropy": chosen.batch_entropy,
        "ent_loss": chosen.sample_entropy - chosen.batch_entropy, "logits": shaped(chosen.logits, case, "logits"),
        "z_q": shaped(chosen.soft, case, "z_q"), "z_q_hard": shaped(chosen.hard, case, "z_q_hard"), "value_emb": chosen.values,
    }  # fmt: skip


def shaped(value: Tensor, case: Case, name: str = "code_idx") -> Tensor:
    return value.reshape(case.expected[name].shape)


def soft_quantize_backward(case: Case) -> dict[str, Any]:
    x, book = given(case, "x").requires_grad_(), codebook_of(case)
    rows = x.mT.flatten(0, 1)
    chosen = book(rows, case.config["beta"])
    back = (rows + (chosen.soft - rows).detach()).view_as(x.mT).mT
    values = {"sum(x_d*probe)": (back * given(case, "probe")).sum(), "vq_loss": chosen.loss,
              "ent_loss": chosen.sample_entropy - chosen.batch_entropy}  # fmt: skip
    sum(term["weight"] * values[term["term"]] for term in case.config["objective"]).backward()
    found = {f"grad.{codebook_name(name)}": parameter.grad for name, parameter in book.named_parameters()}
    return {case.config["input_gradient_key"]: x.grad, **found}


def hard_codebook(case: Case) -> Codebooks:
    stated = case.config
    require_ours(stated, {"type": "hard_ema_reset", "distance": "squared_euclidean", "perplexity_eps": PERPLEXITY_EPS})
    books = Codebooks(1, stated["codes"], stated["code_dim"], stated.get("mu", 0.99))
    books.start(0, given(case, "codebook"))
    return books


def hard_quantize(case: Case) -> dict[str, Any]:
    coded = hard_codebook(case).eval()(given(case, "x").mT)
    return {"x_d": coded.vectors.mT, "code_idx": shaped(coded.ids, case), "commit_loss": coded.commitment,
            "perplexity": coded.perplexity}  # fmt: skip


def hard_quantizer_ema_update(case: Case) -> dict[str, Any]:
    require_ours(case.config, {"reset_if_count_below": LEAST_USE, "code_count_before": 1})
    books = hard_codebook(case).train()
    coded = books(given(case, "x").mT)
    books.update(coded.sums, torch.randn)
    found = {"code_sum_after": books.sums[0], "code_count_after": books.counts[0], "codebook_after": books.codes[0]}
    return {**found, "codebook_after_reset_rows": books.codes[0]}


# ---------------------------------------------------------------------------------------------------------------------- tokenizer


def told(model: PGTokenizer, case: Case) -> tuple[Tensor, Any]:
    """Vectors of pose codes, and what codebooks make of the rest."""
    pose, last = model.network.pose(given(case, "codes")), case.config.get("force_dropout_index")
    rest = model.residual(given(case, "motion"), pose, None)
    return pose, model.network.codebooks(rest, used=None if last is None else last + 1)


def tokenizer_latents(case: Case) -> dict[str, Any]:
    model = model_of(case)
    return {"p_latent": model.network.pose(given(case, "codes")), "z_latent": model.network.encoder(given(case, "motion"))}


def tokenizer_forward(case: Case) -> dict[str, Any]:
    model = model_of(case)
    if case.config["drop_residual"]:
        return {"recon": model.network.decoder(model.network.pose(given(case, "codes")))}
    pose, coded = told(model, case)
    return {
        "recon": model.network.decoder(pose + model.config.residual_ratio * coded.vectors), "quantized_out": coded.vectors.mT,
        "indices": coded.ids, "vq_loss": coded.commitment, "perplexity": coded.perplexity, "ent_sample": coded.sample_entropy,
        "ent_avg": coded.batch_entropy, "ent_loss": coded.entropy,
    }  # fmt: skip


def tokenizer_tokenize(case: Case) -> dict[str, Any]:
    return {"indices": told(model_of(case), case)[1].ids}


def sum_residual_features(case: Case) -> dict[str, Any]:
    return {"features": model_of(case).network.codebooks.vectors(given(case, "indices")).mT}


def tokenizer_inference(case: Case) -> dict[str, Any]:
    model, codes = model_of(case), given(case, "codes")[..., :NUM_CODES]
    if not case.config.get("one_code_per_group", True):  # which no ids tell
        return {"motion": model.network.decoder(model.network.pose(codes))}
    ids = indices_from_codes(codes)
    if not case.config["drop_residual"]:
        ids = torch.cat([ids, given(case, "indices")], dim=-1)
    return {"motion": model.network.decoder(model.vectors(ids))}


# ------------------------------------------------------------------------------------------------------------------------- losses


def reconstruction_loss(case: Case) -> dict[str, Any]:
    stated = case.config
    features = HUMANML3D if stated["joints"] == 22 else KIT
    made, wanted = given(case, "prediction"), given(case, "target")
    if stated["term"] == "velocity":
        made, wanted = (weighted_again(each, features, VELOCITIES[stated["velocity_mode"]]) for each in (made, wanted))
    each = frame_distances(made, wanted, stated["kind"])  # (B, T)
    if stated["masked"]:
        each = each * given(case, "mask").reshape(len(each), -1)[:, : each.shape[1]]
    by_sample = stated["reduction"][-1] == "mean over frames"
    return {"loss": each.mean(1) if by_sample else each.mean()}


def trained(case: Case) -> tuple[PGTokenizer, dict[str, Tensor]]:
    model, stated = model_of(case), case.config
    require_ours(stated["reconstruction"], {"beta": 1, "masked": False})
    if not stated.get("codebooks_initialised", True):
        model.network.codebooks.started.fill_(False)
    pose, coded = told(model, case)
    made, x = model.network.decoder(pose + model.config.residual_ratio * coded.vectors), given(case, "motion")
    terms = model.reconstruction_terms(made, x, x.new_ones(x.shape[:2]))
    found = {"recons": terms["reconstruction"], "vel": terms["positions"] / model.config.lambda_positions,
             "vq_loss": coded.commitment, "ent_loss": coded.entropy}  # fmt: skip
    total = sum(term["weight"] * found[term["term"]] for term in stated["objective"])
    return model, {**found, "total": total, "recon": made}


def tokenizer_train_forward(case: Case) -> dict[str, Any]:
    return trained(case)[1]


def tokenizer_train_backward(case: Case) -> dict[str, Any]:
    model, found = trained(case)
    found["total"].backward()
    gradients = {pg_tokenizer_name(name): parameter.grad for name, parameter in model.network.named_parameters()}
    wanted = case.config.get("gradient_norm_parameters")
    if wanted:
        return {"gradient_norms": torch.stack([gradients[name].norm() for name in wanted])}
    return {f"grad.{name}": value for name, value in gradients.items()}


def tokenizer_codebook_init(case: Case) -> dict[str, Any]:
    model = model_of(case)
    model.network.codebooks.started.fill_(False)
    _, coded = told(model, case)
    books: nn.ModuleList = model.network.codebooks.layers
    return {"codebooks": torch.stack([book.codes for book in books]), "indices": coded.ids, "vq_loss": coded.commitment}


HANDLERS = {
    "soft_quantize": soft_quantize, "soft_quantize_backward": soft_quantize_backward, "hard_quantize": hard_quantize,
    "hard_quantizer_ema_update": hard_quantizer_ema_update, "tokenizer_latents": tokenizer_latents,
    "tokenizer_forward": tokenizer_forward, "tokenizer_tokenize": tokenizer_tokenize,
    "sum_residual_features": sum_residual_features, "tokenizer_inference": tokenizer_inference,
    "reconstruction_loss": reconstruction_loss, "tokenizer_train_forward": tokenizer_train_forward,
    "tokenizer_train_backward": tokenizer_train_backward, "tokenizer_codebook_init": tokenizer_codebook_init,
}  # fmt: skip
