"""Golden cases of the evaluator: networks, their training steps, the keys of the published files."""

from functools import partial
from typing import Any

import numpy as np
import torch

from model import evaluator_losses as losses
from model.evaluator_config import UNIT_LENGTH, EvaluatorConfig, LengthEstimatorConfig
from model.evaluator_networks import CaptionEncoder, MotionEncoder, MovementDecoder
from model.evaluators import LengthEstimator, movement_encoder
from model.official import evaluators as official
from model.official.weights import load_renamed
from tests.golden.columns import Columns
from tests.golden.runner import Case


def config_of(dims: dict[str, int]) -> EvaluatorConfig:
    return EvaluatorConfig(
        features=Columns(count=dims["pose"]), movement_hidden=dims["movement_hidden"], movement_latent=dims["movement_latent"],
        text_hidden=dims["text_hidden"], motion_hidden=dims["motion_hidden"], embedding=dims["co_embedding"],
        word_dim=dims["word"], pos_dim=dims["pos"],
    )  # fmt: skip


def network(kind: str, dims: dict[str, int]) -> torch.nn.Module:
    if kind == "length_estimator":
        hidden = dims.get("length_hidden", dims.get("hidden"))
        return LengthEstimator(LengthEstimatorConfig(hidden=hidden, word_dim=dims["word"], pos_dim=dims["pos"])).networks
    c = config_of(dims)
    if kind == "movement_encoder":
        return movement_encoder(c)
    if kind == "movement_decoder":
        hidden = dims["decoder"][1] if "decoder" in dims else dims["decoder_hidden"]
        return MovementDecoder(c.movement_latent, hidden, c.features.width)
    if kind == "text_encoder":
        return CaptionEncoder(c.word_dim, c.pos_dim, c.text_hidden, c.embedding)
    return MotionEncoder(c.movement_latent, c.motion_hidden, c.embedding)


OURS = {"movement_dec": "movement_decoder", "movement_enc": "movement_encoder", "estimator": "length_estimator"}


def loaded(case: Case, published: str) -> torch.nn.Module:
    """The network of the case whose weights lie behind the prefix of its published name, in eval mode."""
    kind, prefix = OURS.get(published, published), case.config["prefixes"][published]
    state = {name.removeprefix(prefix): torch.as_tensor(value) for name, value in case.weights.items() if name.startswith(prefix)}
    made = network(kind, case.config["dims"])
    load_renamed(made, state, partial(official.evaluator_name, network=kind), case.name)
    return made.eval()


def words_of(case: Case) -> tuple[torch.Tensor, torch.Tensor]:
    """Vectors and classes of words (B, L, C + K), and how many each text has."""
    vectors, pos, lengths = (torch.as_tensor(case.inputs[name]) for name in ("word_embs", "pos_onehot", "cap_lens"))
    return torch.cat([vectors, pos], dim=-1).float(), lengths.long()


def motion_of(case: Case) -> tuple[torch.Tensor, torch.Tensor]:
    return torch.as_tensor(case.inputs["motions"]), torch.as_tensor(case.inputs["m_lens"]).long()


@torch.no_grad()
def movement_encode(case: Case) -> dict[str, Any]:
    motion = torch.as_tensor(case.inputs["motions"])
    return {"movement_latents": loaded(case, "movement_encoder")(motion[..., : -case.config["contact_dims_dropped"]])}


@torch.no_grad()
def co_embeddings(case: Case) -> dict[str, Any]:
    motion, lengths = motion_of(case)
    latents = loaded(case, "movement_encoder")(motion[..., :-4])
    return {
        "text_embedding": loaded(case, "text_encoder")(*words_of(case)),
        "motion_embedding": loaded(case, "motion_encoder")(latents, lengths // UNIT_LENGTH),
    }


@torch.no_grad()
def autoencoder_decode(case: Case) -> dict[str, Any]:
    return {"movement_decoded": loaded(case, "movement_dec")(torch.as_tensor(case.inputs["movement_latents"]))}


@torch.no_grad()
def autoencoder_loss(case: Case) -> dict[str, Any]:
    rows, frames = (slice(*case.config[name]) for name in ("batch_slice", "frame_slice"))
    motion = torch.as_tensor(case.inputs["motions"])[rows, frames]
    terms = losses.movement_loss(loaded(case, "movement_encoder"), loaded(case, "movement_dec"), motion)
    return {
        "loss_rec": terms["reconstruction"],
        "loss_sparsity": terms["sparsity"] / losses.SPARSITY,
        "loss_smooth": terms["smoothness"] / losses.SMOOTHNESS,
        "loss": sum(terms.values()),
    }


def matching_steps(case: Case) -> dict[str, Any]:
    """Steps of training as published: its shifts, and its order of the rows, in which the negatives are rolled."""
    config, draws = case.config, np.random.RandomState(case.config["shift_draws"]["seed"])
    nets = {name: loaded(case, name) for name in ("text_encoder", "motion_encoder")}
    order = torch.as_tensor(case.inputs["align_idx"].copy()).long()
    motion, lengths = motion_of(case)
    with torch.no_grad():
        latents = loaded(case, "movement_encoder")(motion[..., :-4])
    optimisers = {
        name: torch.optim.Adam(nets[name].train().parameters(), lr=setting["lr"], betas=setting["betas"], eps=setting["eps"])
        for name, setting in config["optimisers"].items()
    }
    got: dict[str, Any] = {"match_shifts": []}
    for step in range(config["steps"]):
        text = nets["text_encoder"](*words_of(case))[order]
        moved = nets["motion_encoder"](latents, lengths // UNIT_LENGTH)[order]
        shift = int(draws.randint(*config["shift_draws"]["args"]))
        got["match_shifts"].append(shift)
        terms = losses.matching_loss(text, moved, shift, config["loss"]["margin"])
        loss = terms["positive"] + terms["negative"]
        for optimiser in optimisers.values():
            optimiser.zero_grad()
        loss.backward()
        got |= {
            f"match_step{step}_loss": loss, f"match_step{step}_loss_pos": terms["positive"],
            f"match_step{step}_loss_neg": terms["negative"],
        }  # fmt: skip
        for name, net in nets.items():
            torch.nn.utils.clip_grad_norm_(net.parameters(), config["clip_grad_norm"]["max_norm"])
            total = torch.stack([p.grad.norm() for p in net.parameters()]).norm()
            got[f"match_step{step}_grad_norm_{name.split('_')[0]}_after_clip"] = total
            optimisers[name].step()
    got["text_encoder.output_net.3.bias"] = nets["text_encoder"].output[-1].bias
    kept = slice(*config["after_steps"]["motion_encoder.hidden"]["slice"])
    got["motion_encoder.hidden"] = nets["motion_encoder"].reader.hidden.flatten()[kept]
    return got


def contrastive_loss(case: Case) -> dict[str, Any]:
    a, b = (torch.as_tensor(case.inputs[name]) for name in ("a", "b"))
    return {"loss": losses.push(a, b, case.config["margin"]) if case.config["label"] else losses.pull(a, b)}


@torch.no_grad()
def length_logits(case: Case) -> dict[str, Any]:
    networks = loaded(case, "estimator")
    return {"length_logits": networks["output"](networks["words"](*words_of(case)))}


def state_dict_shapes(case: Case) -> dict[str, Any]:
    """Shapes of full-size networks under their published names, and what else a file may hold."""
    shapes = {}
    for published in case.config["networks"]:
        kind = OURS.get(published, published)
        state = network(kind, case.config["dims"]).state_dict()
        shapes[published] = {official.evaluator_name(name, kind): list(value.shape) for name, value in state.items()}
    (others,) = (names for file, names in official.NOT_LOADED.items() if case.config["checkpoint"].endswith(file))
    return {"shapes": shapes, "other_top_level_keys": list(others)}


HANDLERS = {
    "movement_encode": movement_encode,
    "co_embeddings": co_embeddings,
    "autoencoder_decode": autoencoder_decode,
    "autoencoder_loss": autoencoder_loss,
    "matching_steps": matching_steps,
    "contrastive_loss": contrastive_loss,
    "length_logits": length_logits,
    "state_dict_shapes": state_dict_shapes,
}
