"""BERT-like towers on our own layers and the `tokenizers` library: importing transformers takes seconds.

Their numbers are those of transformers (tests/test_text_encoders.py).
"""

import json
from pathlib import Path

import torch
from torch import Tensor, nn

from model.layers import TransformerLayer
from model.text_encoders import TextEncoderError, Tower


class BertTower(nn.Module):
    """BERT's encoder (Devlin et al. 2019) on our layers: last hidden states (B, L, C) of token ids (B, L)."""

    def __init__(self, vocabulary: int, positions: int, dim: int, num_heads: int, ff_size: int, num_layers: int,
                 eps: float = 1e-12):
        super().__init__()
        self.words = nn.Embedding(vocabulary, dim)
        self.positions = nn.Embedding(positions, dim)
        self.segment = nn.Parameter(torch.zeros(dim))  # of the first and only sentence
        self.norm = nn.LayerNorm(dim, eps)
        self.layers = nn.ModuleList(
            TransformerLayer(dim, num_heads, ff_size, 0.0, eps=eps) for _ in range(num_layers))

    def forward(self, ids: Tensor) -> Tensor:
        x = self.norm(self.words(ids) + self.positions.weight[: ids.shape[1]] + self.segment)  # (B, L, C)
        for layer in self.layers:
            x = layer(x)
        return x


# Our names of a layer's parts -> those of Hugging Face's BERT and DistilBERT; `qkv` is packed out of three.
BERT_LAYER = {
    "self_attention.qkv": ("attention.self.query", "attention.self.key", "attention.self.value"),
    "self_attention.out": "attention.output.dense", "norm_self": "attention.output.LayerNorm",
    "linear1": "intermediate.dense", "linear2": "output.dense", "norm_ff": "output.LayerNorm",
}  # fmt: skip
DISTILBERT_LAYER = {
    "self_attention.qkv": ("attention.q_lin", "attention.k_lin", "attention.v_lin"),
    "self_attention.out": "attention.out_lin", "norm_self": "sa_layer_norm",
    "linear1": "ffn.lin1", "linear2": "ffn.lin2", "norm_ff": "output_layer_norm",
}  # fmt: skip


def rename_bert(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Our names from those of a Hugging Face BERT or DistilBERT, whatever heads come with it."""
    old = {".gamma": ".weight", ".beta": ".bias"}  # of files from TensorFlow
    for suffix, new in old.items():
        state = {key.removesuffix(suffix) + new if key.endswith(suffix) else key: value for key, value in state.items()}
    state = {key.removeprefix("bert.").removeprefix("distilbert."): value for key, value in state.items()}
    distilled = any(key.startswith("transformer.layer.") for key in state)
    stack, table = ("transformer.layer.", DISTILBERT_LAYER) if distilled else ("encoder.layer.", BERT_LAYER)
    words = state["embeddings.word_embeddings.weight"]
    segments = state.get("embeddings.token_type_embeddings.weight")
    ours = {
        "words.weight": words,
        "positions.weight": state["embeddings.position_embeddings.weight"],
        "segment": words.new_zeros(words.shape[1]) if segments is None else segments[0],
        "norm.weight": state["embeddings.LayerNorm.weight"],
        "norm.bias": state["embeddings.LayerNorm.bias"],
    }
    for i in sorted({int(key.removeprefix(stack).split(".")[0]) for key in state if key.startswith(stack)}):
        for new, parts in table.items():
            parts = (parts,) if isinstance(parts, str) else parts
            for kind in ("weight", "bias"):
                ours[f"layers.{i}.{new}.{kind}"] = torch.cat([state[f"{stack}{i}.{part}.{kind}"] for part in parts])
    return ours


def read_state(folder: Path) -> dict[str, Tensor]:
    """Weights of a Hugging Face folder, safetensors or pickled tensors (read without running code)."""
    if (folder / "model.safetensors").is_file():
        from safetensors.torch import load_file

        return load_file(folder / "model.safetensors")
    return torch.load(folder / "pytorch_model.bin", map_location="cpu", weights_only=True)


def load_bert(folder: Path, weights_id: str, max_tokens: int, *, sentence: bool) -> Tower:
    """Tower of a Hugging Face folder. `pooled` is the mean of the tokens, for a sentence model scaled to length 1."""
    c = json.loads((folder / "config.json").read_text())
    state = rename_bert(read_state(folder))
    distilled = c.get("model_type") == "distilbert"
    network = BertTower(
        *state["words.weight"].shape[:1], *state["positions.weight"].shape,
        num_heads=c["n_heads" if distilled else "num_attention_heads"],
        ff_size=c["hidden_dim" if distilled else "intermediate_size"],
        num_layers=c["n_layers" if distilled else "num_hidden_layers"],
        eps=c.get("layer_norm_eps", 1e-12))
    network.load_state_dict({name: value.float() for name, value in state.items()})
    network.eval().requires_grad_(False)
    tokenizer = read_tokenizer(folder)

    def tokenize(text: str) -> tuple[list[int], int]:
        ids = tokenizer.encode(text).ids
        return cut(ids, max_tokens)

    def run(ids: Tensor) -> tuple[Tensor, Tensor]:
        tokens = network(ids)  # (B, L, C)
        pooled = tokens.mean(1)
        return nn.functional.normalize(pooled, dim=-1) if sentence else pooled, tokens

    return Tower(tokenize, run, network.words.embedding_dim, max_tokens, weights_id)


def cut(ids: list[int], max_tokens: int) -> tuple[list[int], int]:
    """ids no longer than max_tokens, the closing mark kept, and how many were lost."""
    if len(ids) <= max_tokens:
        return ids, 0
    return ids[: max_tokens - 1] + ids[-1:], len(ids) - max_tokens


def read_tokenizer(folder: Path):
    """The tokenizer of a BERT folder, from tokenizer.json or, in older ones, vocab.txt."""
    from tokenizers import Tokenizer
    from tokenizers.implementations import BertWordPieceTokenizer

    if (folder / "tokenizer.json").is_file():
        tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    elif (folder / "vocab.txt").is_file():
        tokenizer = BertWordPieceTokenizer(str(folder / "vocab.txt"), lowercase=True)
    else:
        raise TextEncoderError(f"{folder} holds neither tokenizer.json nor vocab.txt")
    tokenizer.no_padding()
    tokenizer.no_truncation()
    return tokenizer
