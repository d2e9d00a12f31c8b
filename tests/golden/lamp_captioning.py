"""Golden cases of LaMP's captioner: what it reads of motion, its loss, what it says."""

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from model.captioner import Captioner
from model.captioner_config import CaptionerConfig
from model.lamp import LaMP
from model.lamp_config import LaMPConfig
from model.language_decoder import OFFSET
from model.official.lamp import qformer_state
from model.official.opt import NOT_LOADED, OWN, opt_name, plainly_named
from model.official.vqvae import tokenizer_name
from model.official.weights import load_renamed
from tests.golden.columns import Columns
from tests.golden.lamp_pretraining import qformer_settings, tokenizer_of
from tests.golden.runner import Case
from tests.golden.tmr_model import require_ours

OUR_LANGUAGE = {"norm": "pre", "activation": "relu", "layer_norm_eps": 1e-5, "tied_lm_head": True, "position_offset": OFFSET}


def model_of(case: Case) -> Captioner:
    stated = case.config["model"]
    opt, lora, encoder = stated["opt"], stated["lora"], stated["motion_encoder"]
    require_ours(opt, OUR_LANGUAGE)
    require_ours(lora, {"bias": "none", "targets": ["q_proj", "v_proj"], "scale": lora["alpha"] / lora["r"]})
    state = plainly_named({name: torch.as_tensor(value).float() for name, value in case.weights.items()})
    tokenizer = tokenizer_of({**encoder, "nb_code": 8, "code_dim": encoder["output_emb_width"]})
    features = Columns(count=encoder["features"])
    lamp = LaMP(LaMPConfig(**qformer_settings(stated["qformer"]), motion_dim=encoder["output_emb_width"], own_encoder=True,
                           duplicates="published", features=features), None, {"tokenizer": tokenizer})  # fmt: skip
    lamp.qformer.load_state_dict(qformer_state(state, lamp.config))
    lamp.heads.motion_projection.data.copy_(state["motion_projection"])
    own, levels = lamp.networks["motion_encoder"], tokenizer.config.num_levels
    own.load_state_dict({name: state["motion_" + tokenizer_name(f"encoder.{name}", levels)] for name in own.state_dict()})
    config = CaptionerConfig(
        language_dim=opt["hidden"], language_layers=opt["layers"], language_heads=opt["heads"], language_ff=opt["ffn"],
        language_positions=opt["max_positions"], vocabulary=opt["vocab_size"], lora_rank=lora["r"], lora_alpha=lora["alpha"],
        own_qformer=False, features=features,
    )  # fmt: skip
    model = Captioner(config, None, {"lamp": lamp})
    load_renamed(model.language, state, lambda name: OWN + opt_name(name), case.name, NOT_LOADED)
    model.networks["projection"].load_state_dict({kind: state[f"opt_proj.{kind}"] for kind in ("weight", "bias")})
    return model.eval()


def prefix_of(case: Case, model: Captioner) -> tuple[Tensor, Tensor]:
    motion = torch.as_tensor(case.inputs["motion"]).float()
    hidden = model.read(motion, motion.new_ones(motion.shape[:2], dtype=torch.bool))
    return hidden, model.networks["projection"](hidden)


def prefix(case: Case) -> dict[str, Any]:
    hidden, made = prefix_of(case, model_of(case))
    return {"query_hidden_first8": hidden, "opt_prefix_first8": made}


def caption_loss(case: Case) -> dict[str, Any]:
    model = model_of(case)
    _, made = prefix_of(case, model)
    ids, mask = torch.as_tensor(case.inputs["opt_input_ids"]).long(), torch.as_tensor(case.inputs["opt_attention_mask"]) > 0
    logits = model.logits(model.hidden_of(made, ids, mask))
    return {"loss": model.caption_loss(made, ids, mask), "logits_text": logits[:, slice(*case.config["logits_text_rows"])],
            "logits_last_prefix": logits[:, case.config["logits_last_prefix_row"]]}  # fmt: skip


def generate(case: Case) -> dict[str, Any]:
    """Ids that follow the prompt, the stop behind each, padded as the case has them."""
    model, stated = model_of(case), case.config["generation"]
    require_ours(stated, {"do_sample": False, "length_penalty": 1.0, "repetition_penalty": 1.0, "min_new_tokens": 0})
    prompts = torch.as_tensor(case.inputs[stated["prompt_ids"]]).long().tolist()
    _, made = prefix_of(case, model)
    said = [ids for row, prompt in zip(made.split(1), prompts, strict=True)
            for ids in model.go_on(row, prompt, stated["stop_id"], stated["max_new_tokens"], stated["num_beams"])]  # fmt: skip
    (name, expected), = case.expected.items()
    width = expected.shape[1]
    rows = [torch.tensor([*ids, stated["stop_id"]][:width]) for ids in said]
    return {name: torch.stack([F.pad(row, (0, width - len(row)), value=stated["pad_token_id"]) for row in rows])}


HANDLERS = {"prefix": prefix, "caption_loss": caption_loss}
