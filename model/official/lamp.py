"""LaMP as published (Li et al. 2025): parameters of the Q-Former, its heads, and the motion encoder and tokenizer it carries."""

from collections.abc import Mapping

import torch
from torch import Tensor

from model.lamp_config import QFormerConfig
from model.text_towers import BERT_LAYER, rename_layers

QUERY_LAYER = {
    "query_linear1.": ("intermediate_query.dense.",), "query_linear2.": ("output_query.dense.",),
    "query_norm.": ("output_query.LayerNorm.",),
}  # fmt: skip
READING = {
    "reads.query.": ("crossattention.self.query.",), "reads.out.": ("crossattention.output.dense.",),
    "reads.key_value.": ("crossattention.self.key.", "crossattention.self.value."),
    "norm_reads.": ("crossattention.output.LayerNorm.",),
}  # fmt: skip
HEADS = {
    "motion_projection": "motion_projection", "text_projection": "text_projection", "scale": "temp",
    "text_vector.weight": "text_proj.weight", "text_vector.bias": "text_proj.bias",
    "motion_vector.weight": "motion_proj.weight", "motion_vector.bias": "motion_proj.bias",
    "match.weight": "itm_head.weight", "match.bias": "itm_head.bias", "motion_classes.weight": "motion_cls.weight",
}  # fmt: skip
BERT, WORDS = "Qformer.bert.", "embeddings.word_embeddings.weight"
SAID = "Qformer.cls.predictions."


def qformer_state(state: Mapping[str, Tensor], config: QFormerConfig, saying: bool = True) -> dict[str, Tensor]:
    """A published Q-Former's weights under our names. KeyError names what is absent. saying: whether it has its word head.

    The last row of its words is the word that begins; its sinusoid and tied copies are left.
    """
    bert = {name.removeprefix(BERT): value for name, value in state.items() if name.startswith(BERT)}
    stack = "encoder.layer."
    found = {
        "queries": state["query_tokens"], "words.weight": bert[WORDS][:-1], "begin": bert[WORDS][-1:],
        "positions.weight": bert["embeddings.position_embeddings.weight"], "segment": torch.zeros(config.latent_dim),
        "norm.weight": bert["embeddings.LayerNorm.weight"], "norm.bias": bert["embeddings.LayerNorm.bias"],
        **rename_layers(bert, stack, BERT_LAYER | QUERY_LAYER),
    }  # fmt: skip
    reading = {name: value for name, value in bert.items() if name.startswith(stack)
               and int(name.removeprefix(stack).split(".")[0]) % config.cross_every == 0}  # fmt: skip
    found |= rename_layers(reading, stack, READING)
    if saying:
        head = {name.removeprefix(SAID): value for name, value in state.items() if name.startswith(SAID)}
        found |= {f"saying.{kind}": head[f"transform.dense.{kind}"] for kind in ("weight", "bias")}
        found |= {f"saying_norm.{kind}": head[f"transform.LayerNorm.{kind}"] for kind in ("weight", "bias")}
        found["word_bias"] = head["bias"]
    return found


def heads_state(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The heads' weights under our names."""
    return {ours: state[theirs] for ours, theirs in HEADS.items()}
