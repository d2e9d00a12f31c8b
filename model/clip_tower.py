"""CLIP's text tower (Radford et al. 2021) on our own layers, from a Hugging Face folder or OpenAI's own .pt file."""

import gzip
import json
from pathlib import Path

import torch
from torch import Tensor, nn

from model.bert_tower import cut, read_state
from model.layers import TransformerLayer, quick_gelu
from model.text_encoders import TextEncoderError, Tower, file_sha256

BPE_FILE = "bpe_simple_vocab_16e6.txt.gz"
START, END = "<|startoftext|>", "<|endoftext|>"
# OpenAI's files are TorchScript archives; only these, known by their sha256, are opened as such.
OPENAI_SHA256 = {
    "ViT-B-32.pt": "40d365715913c9da98579312b702a82c18be219cc2a73407c4526f58eba950af",
    "ViT-L-14-336px.pt": "3035c92b350959924f9f00213499208652fc7ea050643e8b385c2dac08641f02",
}


class ClipTower(nn.Module):
    """(pooled (B, P), tokens (B, L, C)) of token ids (B, L) that end with the end mark; nothing is normalised.

    Attention is causal, so what pads a text after its end mark in the original has no influence.
    """

    def __init__(self, vocabulary: int, positions: int, dim: int, num_heads: int, num_layers: int, pooled: int):
        super().__init__()
        self.words = nn.Embedding(vocabulary, dim)
        self.positions = nn.Parameter(torch.zeros(positions, dim))
        self.layers = nn.ModuleList(
            TransformerLayer(dim, num_heads, 4 * dim, 0.0, norm_first=True, causal=True, activation=quick_gelu)
            for _ in range(num_layers))
        self.norm = nn.LayerNorm(dim)
        self.projection = nn.Linear(dim, pooled, bias=False)

    def forward(self, ids: Tensor) -> tuple[Tensor, Tensor]:
        x = self.words(ids) + self.positions[: ids.shape[1]]  # (B, L, C)
        for layer in self.layers:
            x = layer(x)
        x = self.norm(x)
        return self.projection(x[:, -1]), x


OPENAI_LAYER = {
    "self_attention.qkv.": "attn.in_proj_", "self_attention.out.": "attn.out_proj.", "norm_self.": "ln_1.",
    "linear1.": "mlp.c_fc.", "linear2.": "mlp.c_proj.", "norm_ff.": "ln_2.",
}  # fmt: skip
HUGGING_FACE_LAYER = {
    "self_attention.qkv.": ("self_attn.q_proj.", "self_attn.k_proj.", "self_attn.v_proj."),
    "self_attention.out.": "self_attn.out_proj.", "norm_self.": "layer_norm1.",
    "linear1.": "mlp.fc1.", "linear2.": "mlp.fc2.", "norm_ff.": "layer_norm2.",
}  # fmt: skip


def rename_clip(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Our names from OpenAI's or Hugging Face's; vision weights are left out."""
    openai = "token_embedding.weight" in state
    stack, table = (("transformer.resblocks.", OPENAI_LAYER) if openai
                    else ("text_model.encoder.layers.", HUGGING_FACE_LAYER))
    if openai:
        ours = {"words.weight": state["token_embedding.weight"], "positions": state["positional_embedding"],
                "projection.weight": state["text_projection"].T,
                "norm.weight": state["ln_final.weight"], "norm.bias": state["ln_final.bias"]}
    else:
        ours = {"words.weight": state["text_model.embeddings.token_embedding.weight"],
                "positions": state["text_model.embeddings.position_embedding.weight"],
                "projection.weight": state["text_projection.weight"],
                "norm.weight": state["text_model.final_layer_norm.weight"],
                "norm.bias": state["text_model.final_layer_norm.bias"]}
    for i in sorted({int(key.removeprefix(stack).split(".")[0]) for key in state if key.startswith(stack)}):
        for new, parts in table.items():
            parts = (parts,) if isinstance(parts, str) else parts
            for kind in ("weight", "bias"):
                ours[f"layers.{i}.{new}{kind}"] = torch.cat([state[f"{stack}{i}.{part}{kind}"] for part in parts])
    return {name: value.float().contiguous() for name, value in ours.items()}


def read_openai(path: Path) -> dict[str, Tensor]:
    """State dict of OpenAI's .pt, or of a plain state dict saved from it. TextEncoderError for an unknown archive."""
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except RuntimeError as error:
        if "TorchScript" not in str(error):
            raise TextEncoderError(f"{path} cannot be read: {str(error).splitlines()[0]}") from error
        if file_sha256(path) not in OPENAI_SHA256.values():
            raise TextEncoderError(f"{path} is a TorchScript archive but not one OpenAI published (sha256 differs): "
                                   "it is not opened") from None
        state = torch.jit.load(str(path), map_location="cpu").state_dict()
    return state.get("state_dict", state)


def load_clip(folder: Path, openai_file: str, weights_id: str, max_tokens: int) -> Tower:
    """Tower of a folder with Hugging Face's files, or OpenAI's .pt beside a tokenizer."""
    openai = folder / openai_file
    state = rename_clip(read_openai(openai) if openai.is_file() else read_state(folder))
    vocabulary, dim = state["words.weight"].shape
    num_layers = 1 + max(int(name.split(".")[1]) for name in state if name.startswith("layers."))
    pooled = len(state["projection.weight"])
    network = ClipTower(vocabulary, len(state["positions"]), dim, dim // 64, num_layers, pooled)
    network.load_state_dict(state)
    network.eval().requires_grad_(False)
    tokenizer = read_clip_tokenizer(folder)
    start, end = vocabulary - 2, vocabulary - 1

    def tokenize(text: str) -> tuple[list[int], int]:
        return cut([start, *tokenizer.encode(text, add_special_tokens=False).ids, end], max_tokens)

    return Tower(tokenize, network, pooled, max_tokens, weights_id)


def read_clip_tokenizer(folder: Path):
    """CLIP's byte-pair tokenizer from tokenizer.json, vocab.json + merges.txt, or OpenAI's bpe file."""
    from tokenizers import Tokenizer

    if (folder / "tokenizer.json").is_file():
        tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
        tokenizer.no_padding()
        tokenizer.no_truncation()
        return tokenizer
    if (folder / "vocab.json").is_file() and (folder / "merges.txt").is_file():
        vocabulary = json.loads((folder / "vocab.json").read_text(encoding="utf-8"))
        lines = (folder / "merges.txt").read_text(encoding="utf-8").splitlines()
        return clip_tokenizer([tuple(line.split()) for line in lines if line and not line.startswith("#")], vocabulary)
    if (folder / BPE_FILE).is_file():
        with gzip.open(folder / BPE_FILE, "rt", encoding="utf-8") as file:
            lines = file.read().splitlines()[1 : 49152 - 256 - 2 + 1]  # as in CLIP's simple_tokenizer.py
        return clip_tokenizer([tuple(line.split()) for line in lines])
    raise TextEncoderError(f"{folder} holds no tokenizer: put tokenizer.json there, or {BPE_FILE}")


def clip_tokenizer(merges: list[tuple[str, str]], vocabulary: dict[str, int] | None = None):
    """Lower-casing byte-level BPE with `</w>` at word ends; the vocabulary follows from the merges."""
    from tokenizers import Regex, Tokenizer, models, normalizers, pre_tokenizers

    if vocabulary is None:
        characters = byte_characters()
        words = [*characters, *(c + "</w>" for c in characters), *("".join(pair) for pair in merges), START, END]
        vocabulary = {word: i for i, word in enumerate(words)}
    tokenizer = Tokenizer(models.BPE(vocabulary, merges, end_of_word_suffix="</w>", unk_token=END))
    tokenizer.normalizer = normalizers.Sequence(
        [normalizers.NFC(), normalizers.Replace(Regex(r"\s+"), " "), normalizers.Lowercase()])
    pattern = Regex(r"'s|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+")
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Split(pattern, behavior="removed", invert=True),
         pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)])
    return tokenizer


def byte_characters() -> list[str]:
    """The 256 printable stand-ins of bytes, in the order of GPT-2's and CLIP's vocabularies."""
    printable = [*range(ord("!"), ord("~") + 1), *range(ord("¡"), ord("¬") + 1), *range(ord("®"), ord("ÿ") + 1)]
    return [*map(chr, printable), *(chr(256 + i) for i in range(256 - len(printable)))]
