"""Golden cases of PGR2M's transformers: logits, losses, what training spoils, decoding."""

from typing import Any

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from data_loaders.pose_codes import indices_from_codes
from diffusion.pose_decoding import LIKELIEST, decode_poses, spoilt_poses
from model.official.pgr2m import base_of, refine_of
from model.pgr2m import NUM_CODES, NUM_GROUPS
from model.pgr2m_networks import BITS, END, MOST_TOKENS, PAD, PoseRefiner, PoseTransformer
from model.pgr2m_transformer_config import PoseRefinerConfig, PoseTransformerConfig
from model.pgr2m_transformers import add_residuals, advancing, bits_loss, group_sizes, poses_of
from model.token_transformers import IGNORED, cross_entropy
from tests.golden.runner import Case
from tests.golden.tmr_model import require_ours

OURS = {
    "pose_codes": NUM_CODES, "groups": NUM_GROUPS, "token_dim": BITS, "end_index": END, "pad_index": PAD, "gelu": "erf",
    "layer_norm_eps": 1e-5, "norm_placement": "pre", "stage_tokens": 1, "shared_codebook": False,
}  # fmt: skip
OUR_DECODING = {"selection": "greedy", "group_rule": "argmax, first of ties", "residual_selection": "greedy",
                "end_pad_bits_after_base": 0, "max_steps": MOST_TOKENS + 1}  # fmt: skip


def config_of(kind: type, stated: dict[str, Any], num_layers: int, **more: Any) -> Any:
    require_ours(stated, OURS)
    require_ours(stated["position"], {"type": "sincos", "base": 10000, "first_row": 0})
    require_ours(stated, {"block_size": stated["condition_tokens"] + MOST_TOKENS, "mode": "eval"})
    return kind(
        latent_dim=stated["embed_dim"], ff_size=stated["ff_rate"] * stated["embed_dim"], num_layers=num_layers,
        num_heads=stated["heads"], condition_dim=stated["clip_dim"], num_keywords=stated["condition_tokens"] - 1, **more,
    )  # fmt: skip


def tensors(weights: dict[str, Any]) -> dict[str, Tensor]:
    return {name: torch.as_tensor(value).float() for name, value in weights.items()}


def base_network(stated: dict[str, Any], weights: dict[str, Any], where: str) -> PoseTransformer:
    require_ours(stated, {"causal": True})
    network = PoseTransformer(config_of(PoseTransformerConfig, stated, stated["blocks_base"] + stated["blocks_head"]))
    base_of(tensors(weights), network, where)
    return network.eval()


def refine_network(stated: dict[str, Any], weights: dict[str, Any], where: str) -> PoseRefiner:
    shared = stated["share_weight"]
    require_ours(stated, {"causal": False, "hidden_logit_factor": 1 if shared else 2, "output_bias": not shared,
                          "input_stages": stated["quantizers"] - (not shared), "classes": stated["codes"] + 2})  # fmt: skip
    network = PoseRefiner(config_of(PoseRefinerConfig, stated, stated["blocks"], share_weights=shared, num_codes=stated["codes"],
                                    num_quantizers=stated["quantizers"]))  # fmt: skip
    refine_of(tensors(weights), network, where)
    return network.eval()


def given(case: Case, name: str) -> Tensor:
    value = torch.as_tensor(case.inputs[name])
    return value.float() if value.is_floating_point() or value.dtype == torch.bool else value.long()


# --------------------------------------------------------------------------------------------------------------------------- base


def base_logits(case: Case) -> dict[str, Any]:
    network, condition = base_network(case.config, case.weights, case.name), given(case, "cond")
    tokens = given(case, "tokens").float() if "tokens" in case.inputs else condition.new_zeros(len(condition), 0, BITS)
    rows = slice(*case.config["rows_returned"])
    return {"logits": network.every_row(tokens, condition)[:, rows]}


def base_loss(case: Case) -> dict[str, Any]:
    require_ours(case.config, {"kind": "bce_with_logits", "rows_per_sample": "token_len + 1"})
    network = base_network(case.config, case.weights, case.name)
    logits = network(given(case, "input_tokens").float(), given(case, "cond"))
    return {"loss": bits_loss(logits, given(case, "target_tokens").float(), given(case, "token_len").long()).mean()}


def corrupt_tokens(case: Case) -> dict[str, Any]:
    kept = given(case, "keep_mask") > 0
    return {"tokens": spoilt_poses(given(case, "tokens").float(), kept, given(case, "noise"), group_sizes())}


def poses(network: PoseTransformer, condition: Tensor) -> list[Tensor]:
    """Bits [(N, 394)] up to the end that the network sets."""
    first, past = network.first(condition)
    count = torch.ones(len(condition), dtype=torch.long)
    return decode_poses(first, advancing(network, past), group_sizes(), 0 * count, MOST_TOKENS * count)


def filled(rows: list[Tensor], value: float = 0) -> Tensor:
    """(B, 50, ...) of [(N, ...)]."""
    longest = rows[0].new_full((MOST_TOKENS, *rows[0].shape[1:]), value)
    return pad_sequence([*rows, longest], batch_first=True, padding_value=value)[:-1]


def base_sample(case: Case) -> dict[str, Any]:
    require_ours(case.config, OUR_DECODING)
    return {"tokens": poses(base_network(case.config, case.weights, case.name), given(case, "cond"))[0][None]}


def base_sample_fast(case: Case) -> dict[str, Any]:
    require_ours(case.config, {**OUR_DECODING, "length_without_end": MOST_TOKENS})
    made = poses(base_network(case.config, case.weights, case.name), given(case, "cond"))
    # Theirs counts none where the first token ends the motion, which then has that one
    return {"tokens": filled(made), "lengths": torch.tensor([len(each) - int(each[0, END]) for each in made])}


# ------------------------------------------------------------------------------------------------------------------------- refine


def refine_rows(case: Case) -> tuple[PoseRefiner, Tensor]:
    """The network, and its logits behind condition and stage."""
    stated, network = case.config, refine_network(case.config, case.weights, case.name)
    before = stated["condition_tokens"] + 1
    require_ours(stated, {"rows_returned": [before, before + stated["tokens"]]})
    pose_tokens = given(case, "pose_tokens").float()
    if "res_indices" in case.inputs:
        ids = given(case, "res_indices").long()
    else:
        ids = torch.zeros(*pose_tokens.shape[:2], 0, dtype=torch.long)
    mask = given(case, "pad_mask")[:, before:] > 0 if "pad_mask" in case.inputs else None
    return network, network(pose_tokens, ids, torch.tensor(stated["active_stage"]), given(case, "cond"), mask)


def refine_logits(case: Case) -> dict[str, Any]:
    return {"logits": refine_rows(case)[1]}


def refine_loss(case: Case) -> dict[str, Any]:
    stated, (network, logits) = case.config, refine_rows(case)
    require_ours(stated, {"kind": "cross_entropy", "ignored_class": stated["pad_class"], "pad_class": network.num_codes + 1})
    ids, stage = given(case, "res_indices").long(), torch.tensor(stated["active_stage"])
    real = torch.arange(ids.shape[1]) < given(case, "token_len").long()[:, None]
    wanted = ids.take_along_dim(stage[:, None, None], dim=2)[..., 0]
    loss = cross_entropy(logits, wanted.masked_fill(~real, IGNORED)).terms["loss"]
    return {"target": wanted.masked_fill(~real, stated["pad_class"]), "loss": loss}


def refined(case: Case) -> tuple[list[Tensor], Tensor]:
    """Pose codes [(N, 70)], and ids (B, longest, Q) of codebooks."""
    require_ours(case.config, OUR_DECODING)
    condition = given(case, "cond")
    base = base_network(case.config["base"], case.weights["base"], case.name)
    network = refine_network(case.config["refine"], case.weights["refine"], case.name)
    require_ours(case.config, {"residual_classes_used": network.num_codes, "stages": network.num_quantizers})
    made = [indices_from_codes(bits[:, :NUM_CODES]) for bits in poses(base, condition)]
    return made, add_residuals(network, pad_sequence(made, batch_first=True, padding_value=-1), condition, LIKELIEST)


def refine_sample(case: Case) -> dict[str, Any]:
    made, ids = refined(case)
    return {"pose_codes": poses_of(made[0][None]), "residual_idx": ids}


def refine_sample_fast(case: Case) -> dict[str, Any]:
    made, ids = refined(case)
    return {"pose_codes": poses_of(filled(made, -1)), "residual_idx": filled(list(ids), -1),
            "lengths": torch.tensor([len(each) for each in made])}  # fmt: skip


HANDLERS = {
    "base_logits": base_logits, "base_loss": base_loss, "corrupt_tokens": corrupt_tokens, "base_sample": base_sample,
    "base_sample_fast": base_sample_fast, "refine_logits": refine_logits, "refine_loss": refine_loss,
    "refine_sample": refine_sample, "refine_sample_fast": refine_sample_fast,
}  # fmt: skip
