"""Golden cases of LaMP's pretraining: passes of the Q-Former, the four objectives, gradients, vectors for retrieval."""

from typing import Any

import torch
from torch import Tensor

from model import lamp_losses
from model.lamp import Heads, LaMP
from model.lamp_config import LaMPConfig, QFormerConfig
from model.official.lamp import BERT, HEADS, QUERY_LAYER, READING, SAID, WORDS, heads_state, qformer_state
from model.official.vqvae import PREFIX, of_published, tokenizer_name
from model.qformer import QFormer
from model.text_towers import BERT_LAYER
from model.vqvae import VQVAE
from model.vqvae_config import VQVAEConfig
from tests.golden.columns import Columns
from tests.golden.lamp_tokens import OUR_TOKENIZER, tokenizer_shapes
from tests.golden.runner import Case
from tests.golden.tmr_model import require_ours

OURS = {"activation": "gelu_erf", "layer_norm_eps": 1e-12, "query_position_encoded": False, "pad_token_id": 0}
TOKENIZER = "vq_model.vqvae."


def tokenizer_of(vq: dict[str, Any]) -> VQVAE:
    require_ours(vq, OUR_TOKENIZER)
    return VQVAE(VQVAEConfig(
        num_codes=vq["nb_code"], code_dim=vq["code_dim"], width=vq["width"], num_levels=vq["down_t"], depth=vq["depth"],
        dilation_growth=vq["growth"], activation=vq["act"], features=Columns(count=vq["features"]),
    ))  # fmt: skip


def qformer_settings(stated: dict[str, Any]) -> dict[str, Any]:
    require_ours(stated, OURS)
    require_ours({"bos": stated["bos_token_id"]}, {"bos": stated["base_vocab_size"]})
    return {
        "num_layers": stated["layers"], "cross_every": stated["cross_attention_every"], "num_queries": stated["queries"],
        "memory_dim": stated["encoder_width"], "latent_dim": stated["hidden"], "num_heads": stated["heads"],
        "ff_size": stated["intermediate"], "vocabulary": stated["base_vocab_size"], "max_positions": stated["max_positions"],
        "dropout": stated["dropout"],
    }  # fmt: skip


def model_of(case: Case) -> LaMP:
    stated = case.config["model"]
    state = {name: torch.as_tensor(value).float() for name, value in case.weights.items()}
    tokenizer = tokenizer_of(stated["vq"])
    own = {name.removeprefix(TOKENIZER): value for name, value in state.items() if name.startswith(TOKENIZER)}
    of_published(own, tokenizer.config, tokenizer, case.name)
    config = LaMPConfig(
        **qformer_settings(stated["qformer"]), embedding=stated["embed_dim"], motion_classes=stated["motion_classes"],
        motion_dim=stated["motion_encoder"]["output_emb_width"], text_tokens=stated["text_tokens"], own_encoder=True,
        duplicates="published", features=Columns(count=stated["motion_encoder"]["features"]),
    )  # fmt: skip
    model = LaMP(config, None, {"tokenizer": tokenizer})
    model.qformer.load_state_dict(qformer_state(state, config))
    model.heads.load_state_dict(heads_state(state))
    levels = tokenizer.config.num_levels
    encoder = model.networks["motion_encoder"]
    encoder.load_state_dict({name: state["motion_" + tokenizer_name(f"encoder.{name}", levels)] for name in encoder.state_dict()})
    return model.eval()


def given(case: Case) -> dict[str, Any]:
    values = {name: torch.as_tensor(value) for name, value in case.inputs.items()}
    found = {name: value.float() if value.is_floating_point() else value.long() for name, value in values.items()}
    return found | ({"attention_mask": found["attention_mask"] > 0} if "attention_mask" in found else {})


def latents_of(model: LaMP, motion: Tensor) -> tuple[Tensor, Tensor | None, Tensor]:
    return model.latents(motion, motion.new_ones(motion.shape[:2], dtype=torch.bool))


def motion_encoder(case: Case) -> dict[str, Any]:
    latents, _, ids = latents_of(model_of(case), given(case)["motion"])
    return {"motion_encoder_out": latents.mT, "motion_targets": ids}


def query_pass(case: Case) -> dict[str, Any]:
    model = model_of(case)
    latents, keep, _ = latents_of(model, given(case)["motion"])
    hidden = model.read_motion(latents, keep)
    queries, _ = model.unit_vectors(hidden, hidden)
    return {"bert_motion_queries": hidden, "motion_query_feats": queries,
            "motion_feat_retrieval": torch.nn.functional.normalize(queries.mean(1), dim=-1)}  # fmt: skip


def text_pass(case: Case) -> dict[str, Any]:
    model, values = model_of(case), given(case)
    hidden = model.read_text(values["input_ids"], values["attention_mask"])
    return {"bert_text": hidden, "text_feat": model.unit_vectors(hidden, hidden)[1]}


def similarity(model: LaMP, values: dict[str, Tensor]) -> Tensor:
    latents, keep, _ = latents_of(model, values["motion"])
    said = model.read_text(values["input_ids"], values["attention_mask"])
    return lamp_losses.similarities(*model.unit_vectors(model.read_motion(latents, keep), said), model.heads.scale)


def contrastive(case: Case) -> dict[str, Any]:
    model = model_of(case)
    scores = similarity(model, given(case))
    found = lamp_losses.contrast(scores, case.config["label_smoothing"])
    both = case.config["combine"] * (found["motion_to_text"] + found["text_to_motion"])
    return {"sim_p2t_max": scores, "sim_t2p_max": scores.T, "loss_p2t": found["motion_to_text"],
            "loss_t2p": found["text_to_motion"], "loss_ptc": both}  # fmt: skip


def negative_weights(case: Case) -> dict[str, Any]:
    require_ours(case.config, {"diagonal_masked": False})
    return {"neg_weights": torch.cat(lamp_losses.negative_weights(similarity(model_of(case), given(case))))}


def terms_of(model: LaMP, values: dict[str, Tensor]) -> dict[str, Tensor]:
    """All terms under the published names, with the recorded draws of wrong texts and motions."""
    latents, keep, codes = latents_of(model, values["motion"])
    size = len(latents)
    draws = values["neg_draws"][:size], values["neg_draws"][size:]
    terms = model.objectives(values["input_ids"], values["attention_mask"], latents, keep, codes, lambda scores: draws)
    return {"loss": sum(terms.values()), "loss_ptc": terms["motion_to_text"] + terms["text_to_motion"],
            "loss_ptm": terms["matching"], "loss_lm": terms["captioning"], "loss_gen": terms["generation"]}  # fmt: skip


def total_loss(case: Case) -> dict[str, Any]:
    return terms_of(model_of(case), given(case))


def matching(case: Case) -> dict[str, Any]:
    model, values = model_of(case), given(case)
    latents, keep, _ = latents_of(model, values["motion"])
    ids, mask, size = values["input_ids"], values["attention_mask"], len(latents)
    motions, texts = values["neg_draws"][:size], values["neg_draws"][size:]
    own = torch.arange(size)
    of_text, of_motion = torch.cat([own, own, texts]), torch.cat([own, motions, own])
    logits, hidden = model.matching(ids[of_text], mask[of_text], latents[of_motion], keep)
    return {"bert_match": hidden, "itm_logits": logits, "loss_ptm": terms_of(model, values)["loss_ptm"]}


def motion_to_text(case: Case) -> dict[str, Any]:
    model, values = model_of(case), given(case)
    ids, mask = values["input_ids"], values["attention_mask"]
    latents, keep, _ = latents_of(model, values["motion"])
    _, hidden = model.saying(ids, mask, latents, keep)
    logits = model.qformer.word_logits(hidden)
    loss = lamp_losses.captioning(model.qformer.word_logits, hidden[:, :-1], ids[:, 1:], mask[:, 1:],
                                  case.config["label_smoothing"])  # fmt: skip
    return {"bert_lm": hidden, "lm_logits": logits, "loss_lm": loss}


def text_to_motion(case: Case) -> dict[str, Any]:
    model, values = model_of(case), given(case)
    _, _, codes = latents_of(model, values["motion"])
    hidden = model.telling(values["input_ids"], values["attention_mask"])
    logits = model.heads.motion_classes(hidden)
    return {"bert_text2motion": hidden, "text2motion_logits": logits, "motion_targets": codes,
            "loss_gen": lamp_losses.generation(logits, codes, case.config["label_smoothing"])}  # fmt: skip


def retrieval_embeddings(case: Case) -> dict[str, Any]:
    model, values = model_of(case), given(case)
    latents, keep, _ = latents_of(model, values["motion"])
    text = model.heads.text_vector(model.read_text(values["input_ids"], values["attention_mask"])[:, 0])
    motion = model.heads.motion_vector(model.read_motion(latents, keep)).mean(1)
    return {"eval_text_embedding": text, "eval_motion_embedding": motion}


def gradients(case: Case) -> dict[str, Any]:
    """Norms under the published names, a tied tensor's under both of its own."""
    model, values = model_of(case), given(case)
    terms_of(model, values)[case.config["of"]].backward()
    found = as_published({name: each.grad for name, each in model.qformer.named_parameters() if each.grad is not None})
    found |= {HEADS[name]: each.grad for name, each in model.heads.named_parameters() if each.grad is not None}
    return {"grad_norms": {name: float(grad.norm()) for name, grad in found.items() if name in case.expected["grad_norms"]}}


def as_published(own: dict[str, Tensor]) -> dict[str, Tensor]:
    """Tensors of a Q-Former under their published names."""
    words, bias = torch.cat([own["words.weight"], own["begin"]]), own["word_bias"]
    found = {
        "query_tokens": own["queries"], f"{BERT}{WORDS}": words, f"{SAID}decoder.weight": words, f"{SAID}bias": bias,
        f"{SAID}decoder.bias": bias, f"{BERT}embeddings.position_embeddings.weight": own["positions.weight"],
    }  # fmt: skip
    for kind in ("weight", "bias"):
        found |= {f"{BERT}embeddings.LayerNorm.{kind}": own[f"norm.{kind}"],
                  f"{SAID}transform.dense.{kind}": own[f"saying.{kind}"],
                  f"{SAID}transform.LayerNorm.{kind}": own[f"saying_norm.{kind}"]}  # fmt: skip
    for name, tensor in own.items():
        if name.startswith("layers."):
            _, number, rest = name.split(".", 2)
            part, _, kind = rest.rpartition(".")
            theirs = (BERT_LAYER | QUERY_LAYER | READING)[f"{part}."]
            found |= {f"{BERT}encoder.layer.{number}.{each}{kind}": piece
                      for each, piece in zip(theirs, tensor.chunk(len(theirs)), strict=True)}  # fmt: skip
    return found


def qformer_shapes(stated: dict[str, Any]) -> dict[str, Tensor]:
    """Tensors without values of a Q-Former of the stated sizes, under their published names, the table of places among them."""
    sizes = {"layers": stated["layers"], **stated}
    config = QFormerConfig(
        num_layers=sizes["layers"], cross_every=sizes["cross_attention_every"], num_queries=sizes["queries"],
        memory_dim=sizes["encoder_width"], latent_dim=sizes["hidden"], num_heads=sizes["heads"], ff_size=sizes["intermediate"],
        vocabulary=sizes["base_vocab_size"], max_positions=sizes["max_positions"],
    )  # fmt: skip
    with torch.device("meta"):
        named = dict(QFormer(config).named_parameters())
        places = torch.empty(1, config.max_positions)
    return {**as_published(named), f"{BERT}embeddings.position_ids": places}


def pretraining_shapes(config: dict[str, Any]) -> dict[str, list[int]]:
    """Published names and shapes of the pretraining model as our networks have them."""
    qformer = config["qformer"]
    with torch.device("meta"):
        heads = Heads(LaMPConfig(embedding=config["embed_dim"], motion_classes=config["motion_classes"],
                                 latent_dim=qformer["hidden"], memory_dim=qformer["encoder_width"],
                                 motion_dim=config["vq"]["code_dim"]))  # fmt: skip
    shapes = {name: list(each.shape) for name, each in qformer_shapes(qformer).items()}
    shapes |= {HEADS[name]: list(each.shape) for name, each in heads.named_parameters()}
    shapes |= {f"vq_model.{name}": shape for name, shape in tokenizer_shapes(config["vq"]).items()}
    encoder = tokenizer_shapes(config["motion_encoder"])
    return shapes | {f"motion_{name.removeprefix(PREFIX)}": shape for name, shape in encoder.items() if ".encoder." in name}


HANDLERS = {
    "motion_encoder": motion_encoder, "query_pass": query_pass, "text_pass": text_pass, "contrastive": contrastive,
    "negative_weights": negative_weights, "matching": matching, "motion_to_text": motion_to_text,
    "text_to_motion": text_to_motion, "total_loss": total_loss, "retrieval_embeddings": retrieval_embeddings,
}  # fmt: skip
