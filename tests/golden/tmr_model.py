"""Golden cases of TMR and TEMOS as rewritten: encoders, decoder, latents, similarities, losses, a step, published keys."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from model import tmr_losses as losses
from model.embedder import lengths_to_mask
from model.layers import Posterior, cosines
from model.official.tmr import MODULES, tmr_name
from model.official.weights import rename
from model.text_encoders import TextFeatures
from model.tmr import TMR
from model.tmr_config import TMRConfig
from sample.search import score
from tests.golden.columns import Columns
from tests.golden.runner import Case

OUR_NETWORKS = {  # what cases may state of the networks beyond their sizes
    "gelu": "erf", "norm_first": False, "layer_norm_eps": 1e-5, "batch_first": True,
    "dropout_active": False,
}  # fmt: skip
OUR_CONTRAST = {"mask_strict": True, "mask_diagonal": False, "mask_value": "-inf", "normalize_eps": 1e-12}


def require_ours(stated: dict[str, Any], ours: dict[str, Any]) -> None:
    """A case that states another rule than ours must not pass by accident."""
    for name, value in ours.items():
        if stated.get(name, value) != value:
            raise ValueError(f"the case has {name} {stated[name]}, the code {value}")


def config_of(model: dict[str, Any], loss: dict[str, Any] | None = None) -> TMRConfig:
    require_ours(model, OUR_NETWORKS)
    loss = loss or {}
    weights, contrastive = loss.get("lmd", {}), loss.get("contrastive") or {}
    require_ours(contrastive, OUR_CONTRAST)
    return TMRConfig(
        features=Columns(count=model["nfeats_motion"]), text_dim=model["nfeats_text"], vae=model["vae"],
        activation=model.get("activation", "gelu"),
        **{name: model[name] for name in ("latent_dim", "ff_size", "num_layers", "num_heads", "dropout")},
        **{f"lambda_{name}": weights.get(name, 0.0) for name in ("recons", "kl", "latent", "contrastive")},
        temperature=contrastive.get("temperature", 0.1),
        false_negative_threshold=contrastive.get("threshold_selfsim") or 0.0, duplicates="published",
    )  # fmt: skip


def model_of(case: Case) -> TMR:
    model = TMR(config_of(case.config["model"], case.config.get("loss")))
    model.networks.load_state_dict(rename(case.weights, model.networks.state_dict(), tmr_name, (), case.name))
    return model.eval()


def given(case: Case) -> dict[str, Tensor]:
    return {name: torch.as_tensor(value) for name, value in case.inputs.items()}


def text_of(values: dict[str, Tensor]) -> TextFeatures:
    tokens = values["text_x"]
    return TextFeatures(tokens.mean(1), tokens, values["text_mask"])


def posteriors(model: TMR, values: dict[str, Tensor]) -> dict[str, Posterior]:
    return {
        "text": model.text_posterior(text_of(values)),
        "motion": model.motion_posterior(values["motion_x"], values["motion_mask"]),
    }


@torch.no_grad()
def encoder(case: Case) -> dict[str, Any]:
    model, values, config = model_of(case), given(case), case.config
    if "rows" in config:
        motion = values["motion_x"][config["rows"], : config["frames"]]
        alone = model.motion_posterior(motion, torch.ones(motion.shape[:2], dtype=torch.bool))
        return {"motion0_alone_latent_mean": alone.mean}
    found = posteriors(model, values)
    return {
        "motion_tokens": model.networks["motion_encoder"](values["motion_x"], values["motion_mask"]),
        "text_tokens": model.networks["text_encoder"](values["text_x"], values["text_mask"]),
        "motion_latent_mean": found["motion"].mean,
        "text_latent_mean": found["text"].mean,
    }


def noise_of(case: Case, values: dict[str, Tensor]) -> dict[str, Tensor | float]:
    """The recorded noise; without a VAE there is none to add."""
    if case.config.get("sample_mean") or case.config["noise"]["source"] == "none":
        return {"text": torch.zeros(()), "motion": torch.zeros(())}
    return {name: values[key] for name, key in case.config["noise"]["eps"].items()}


@torch.no_grad()
def latent(case: Case) -> dict[str, Any]:
    values = given(case)
    found, noise = posteriors(model_of(case), values), noise_of(case, values)
    return {
        name: found[name.partition("_")[0]].sample(scale * noise[name.partition("_")[0]])
        for name, scale in case.config["fact"].items()
    }


@torch.no_grad()
def decoder(case: Case) -> dict[str, Any]:
    model, values = model_of(case), given(case)
    found, noise = posteriors(model, values), noise_of(case, values)
    masks = {"motion_mask": values["motion_mask"], "motion_len": lengths_to_mask(values["motion_len"])}
    return {
        name: model.decode(found[source].sample(noise[source]), masks[case.config["length_source"][name]])
        for name, source in case.config["latent_source"].items()
    }


def similarity(case: Case) -> dict[str, Any]:
    require_ours(case.config, {"normalize_eps": 1e-12, "score": {"scale": 0.5, "offset": 0.5}, "zero_latent_cosine": 0.0})
    text, motion = given(case).values()
    one_by_one = [[score(cosines(a[None], b[None]).numpy())[0, 0] for b in motion] for a in text]
    got = {
        "cosine": cosines(text, motion),
        "score_matrix": torch.from_numpy(score(cosines(text, motion).numpy())),
        "score_one_by_one": [[float(each) for each in row] for row in one_by_one],
        "printed": [[f"{float(each):.3}" for each in row] for row in one_by_one],
    }
    return got | {"sim_matrix_mean": got["cosine"], "score_matrix_mean": got["score_matrix"]}


def training_terms(case: Case, model: TMR) -> dict[str, Tensor]:
    values = given(case)
    found, noise = posteriors(model, values), noise_of(case, values)
    shape = found["text"].mean.shape
    drawn = losses.LatentNoise(noise["text"].expand(shape), noise["motion"].expand(shape))

    def decode(z: Tensor) -> Tensor:
        return model.decode(z, values["motion_mask"])

    captions = losses.Captions(values["sent_emb"]) if "sent_emb" in values else None
    return losses.loss_terms(found["text"], found["motion"], drawn, decode, values["motion_x"], model.config, captions)


@torch.no_grad()
def system_loss(case: Case) -> dict[str, Any]:
    model, values = model_of(case), given(case)
    terms = training_terms(case, model)
    names = {"recons": "loss_recons", "kl": "loss_kl", "latent": "loss_latent", "contrastive": "loss_contrastive",
             "loss": "loss_loss"}
    got = {names.get(name, name): value for name, value in terms.items()}
    if "sent_emb" in values:
        config, noise = model.config, noise_of(case, values)
        z = {name: p.sample(noise[name]) for name, p in posteriors(model, values).items()}
        logits = losses.contrast_logits(z["text"], z["motion"], config.temperature)
        got |= {
            "contrastive_logits_unmasked": logits,
            "contrastive_nofilter": losses.info_nce(logits),
            "sent_selfsim": values["sent_emb"] @ values["sent_emb"].T,
            "contrastive_mask": losses.false_negatives(values["sent_emb"], config.false_negative_threshold),
        }
    return got


def contrast(case: Case) -> dict[str, Any]:
    """InfoNCE alone, with the gradients of its inputs."""
    require_ours(case.config, OUR_CONTRAST)
    values, config = given(case), case.config
    x, y = values["x"].requires_grad_(), values["y"].requires_grad_()
    sentences = values.get("sent_emb")
    captions = None if sentences is None else losses.Captions(sentences)
    loss = losses.info_nce(losses.contrast_logits(x, y, config["temperature"], captions, config["threshold_selfsim"]))
    loss.backward()
    got = {"loss": loss, "grad_x": x.grad, "grad_y": y.grad}
    if sentences is not None:
        got |= {
            "sent_selfsim": sentences @ sentences.T,
            "mask": losses.false_negatives(sentences, config["threshold_selfsim"]),
        }
    return got


def divergence(case: Case) -> dict[str, Any]:
    values, config = given(case), case.config
    q = Posterior(*(values[name] for name in config["q"]))
    p = None if config["p"] == "standard_normal" else Posterior(*(values[name] for name in config["p"]))
    return {"kl": losses.gaussian_kl(q, p)}


def loss(case: Case) -> dict[str, Any]:
    kind: Callable = system_loss if "model" in case.config else contrast if "temperature" in case.config else divergence
    return kind(case)


def train_step(case: Case) -> dict[str, Any]:
    """One AdamW step on the weighted sum, dropout off, with the norms of its gradients."""
    model, settings = model_of(case), case.config["optimizer"]
    optimizer = torch.optim.AdamW(model.networks.parameters(), settings["lr"], tuple(settings["betas"]), settings["eps"],
                                  settings["weight_decay"], settings["amsgrad"])
    training_terms(case, model)["loss"].backward()
    gradients = {tmr_name(name): p.grad for name, p in model.networks.named_parameters()}
    norms = {name: float(gradient.norm()) for name, gradient in gradients.items() if gradient is not None}
    optimizer.step()
    after = {f"after_step/{tmr_name(name)}": p.detach() for name, p in model.networks.named_parameters()}
    return {
        **after,
        "grad_norm": norms,
        "total": float(torch.tensor(list(norms.values())).norm()),
        "no_grad": [name for name, gradient in gradients.items() if gradient is None],
    }


def checkpoint(case: Case) -> dict[str, Any]:
    """Published names and shapes of the networks at their published size, per file and in the training checkpoint."""
    with torch.device("meta"):
        model = TMR(config_of(case.config))
    whole = {tmr_name(name): list(value.shape) for name, value in model.networks.state_dict().items()}
    files = {
        f"{module}.pt": {name.removeprefix(f"{module}."): shape for name, shape in whole.items() if name.startswith(module)}
        for module in MODULES
    }
    return {"shapes": {**files, "last.ckpt/state_dict": whole}}


HANDLERS = {
    "encoder": encoder,
    "decoder": decoder,
    "latent": latent,
    "similarity": similarity,
    "loss": loss,
    "train_step": train_step,
    "checkpoint": checkpoint,
}
