"""LaMP as published (Li et al. 2025): the Q-Former, its heads, the motion encoder and tokenizer that its file carries, and the
masked transformer that has a Q-Former of its own.

Texts are read by the pieces of bert-base-uncased, which MiniLM has too, so that nothing else need be at hand.
"""

import logging
from collections.abc import Mapping
from functools import partial
from pathlib import Path

import torch
from torch import Tensor, nn

from model.lamp import LaMP
from model.lamp_config import LaMPConfig, QFormerConfig
from model.model import load_checked, made_for, read_torch
from model.official.token_transformers import (
    NOT_LOADED,
    WHAT,
    beside,
    dataset_of,
    read_state,
    sizes_of,
    tokenizer_beside,
    transformer_name,
)
from model.official.vqvae import (
    PREFIX,
    config_from_state,
    of_published,
    state_of,
    statistics_beside,
    tokenizer_name,
)
from model.official.weights import load_renamed
from model.registry import token_file
from model.text_towers import BERT_LAYER, rename_layers
from model.token_transformer_config import LAMP, TokenTransformerConfig
from model.token_transformers import TokenTransformer
from model.vqvae import VQVAE
from protos.reading import FileError

log = logging.getLogger(__name__)

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


HEAD_SIZE = 64  # channels of an attention head of BERT
OWN_TOKENIZER, OWN_ENCODER = "vq_model.", "motion_encoder."
OF_QFORMER = (r"^Qformer\.", r"^query_tokens$", r"^text2former\.", r"^clip2qformer\.")


def qformer_sizes(state: Mapping[str, Tensor], where: str) -> dict[str, int]:
    """Settings of a Q-Former that its weights show. FileError names what is absent."""
    layer = f"{BERT}encoder.layer."
    try:
        vocabulary, dim = state[f"{BERT}{WORDS}"].shape
        positions = len(state[f"{BERT}embeddings.position_embeddings.weight"])
        numbers = {int(name.removeprefix(layer).split(".")[0]) for name in state if name.startswith(layer)}
        reading = sorted(number for number in numbers if f"{layer}{number}.crossattention.self.query.weight" in state)
        return {
            "latent_dim": dim, "vocabulary": vocabulary - 1, "max_positions": positions, "num_layers": len(numbers),
            "num_heads": max(dim // HEAD_SIZE, 1), "ff_size": len(state[f"{layer}0.intermediate.dense.weight"]),
            "num_queries": state["query_tokens"].shape[1],
            "cross_every": reading[1] - reading[0] if len(reading) > 1 else len(numbers),
            "query_ff_size": len(state[f"{layer}0.intermediate_query.dense.weight"]),
            "memory_dim": state[f"{layer}0.crossattention.self.key.weight"].shape[1],
        }  # fmt: skip
    except (KeyError, ValueError, IndexError) as error:
        raise FileError(f"{where}: no Q-Former, or incomplete ({error})") from None


def load_lamp(path: Path) -> LaMP:
    """The pretrained model of a file, or of a folder with it, on the tokenizer that it carries. FileError says what is wrong."""
    file = token_file(path, "lamp")
    if file is None:
        raise FileError(f"{path} holds no {WHAT['lamp']}")
    state, where = state_of(read_torch(file), ("motion_qformer",), file), str(file)
    tokenizer = carried_tokenizer(state, file)
    try:
        sizes = (len(state[name]) for name in ("text_proj.weight", "motion_cls.weight", "motion_projection"))
        embedding, classes, motion_dim = sizes
    except KeyError as error:
        raise FileError(f"{where}: tensor {error.args[0]} is absent: incomplete") from None
    config = LaMPConfig(
        **qformer_sizes(state, where), text_tower="minilm", embedding=embedding, motion_classes=classes, motion_dim=motion_dim,
        own_encoder=True, plain_texts=False, duplicates="published", features=tokenizer.features, dataset=dataset_of(tokenizer),
    )  # fmt: skip
    with made_for(state, where):
        model = LaMP(config, tokenizer.statistics, {"tokenizer": tokenizer})
    encoder, levels = model.networks["motion_encoder"], tokenizer.config.num_levels
    published = {name: value for name, value in state.items() if name.startswith(OWN_ENCODER)}
    load_renamed(encoder, published, lambda name: f"motion_{tokenizer_name(f'encoder.{name}', levels)}", where)
    for network, found in ((model.qformer, partial(qformer_state, config=config)), (model.heads, heads_state)):
        loaded(network, found, state, where)
    log.info("%s: LaMP, %d layers of %d channels", file, config.num_layers, config.latent_dim)
    return model.eval()


def loaded(network: nn.Module, found, state: Mapping[str, Tensor], where: str) -> None:
    """found(state), weights under our names, put into a network. FileError names what is absent or does not fit."""
    try:
        load_checked(network, found(state), where)
    except KeyError as error:
        raise FileError(f"{where}: tensor {error.args[0]} is absent: incomplete") from None


def carried_tokenizer(state: Mapping[str, Tensor], file: Path) -> VQVAE:
    """The tokenizer that a file of LaMP carries."""
    own = {name.removeprefix(OWN_TOKENIZER).removeprefix(PREFIX): value for name, value in state.items()
           if name.startswith(OWN_TOKENIZER)}  # fmt: skip
    config = config_from_state(own, str(file))
    tokenizer = VQVAE(config, statistics_beside(file, config.features))
    of_published(own, config, tokenizer, str(file))
    return tokenizer.eval()


def own_or_carried_tokenizer(file: Path) -> VQVAE:
    """The tokenizer that lies beside a file, else the one that LaMP's pretraining beside it carries. FileError for neither."""
    try:
        return tokenizer_beside(file)
    except FileError:
        carrying = beside(file, "lamp")
        return carried_tokenizer(state_of(read_torch(carrying), ("motion_qformer",), carrying), carrying)


def load_lamp_t2m(path: Path) -> TokenTransformer:
    """LaMP's masked transformer with the Q-Former that it carries, and the tokenizer that lies beside it, else that of LaMP's
    pretraining, which is its own. FileError says what is wrong or absent.
    """
    state, file = read_state(path, "lamp_t2m")
    where = str(file)
    tokenizer = own_or_carried_tokenizer(file)
    sizes = qformer_sizes(state, where)
    lamp = LaMP(
        LaMPConfig(**sizes, text_tower="minilm", motion_dim=tokenizer.config.code_dim, duplicates="published", plain_texts=False,
                   motion_classes=tokenizer.config.num_codes, features=tokenizer.features, dataset=dataset_of(tokenizer)),
        tokenizer.statistics, {"tokenizer": tokenizer},
    )  # fmt: skip
    loaded(lamp.qformer, partial(qformer_state, config=lamp.config), state, where)
    own = {name: LAMP[name] for name in ("attention", "key_padding")}
    guidance = 2.0 if tokenizer.features.skeleton == "kit" else 4.0
    config = TokenTransformerConfig(**sizes_of(state, tokenizer, where), **own, text_encoder="minilm", guidance_scale=guidance)
    with made_for(state, where):
        model = TokenTransformer(config, tokenizer.statistics, {"lamp": lamp})
    reader = model.networks["text_reader"]
    loaded(reader, lambda state: {kind: state[f"text2former.{kind}"] for kind in ("weight", "bias")}, state, where)
    load_renamed(model.transformer, state, transformer_name, where, (*NOT_LOADED, *OF_QFORMER))
    return model.eval()
