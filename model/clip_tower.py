"""CLIP's text tower (Radford et al. 2021) on our own layers, from a Hugging Face folder or OpenAI's own .pt file."""

import gzip
import zlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from model.layers import TransformerLayer, quick_gelu
from model.model import as_state, read_torch
from model.text_encoders import TextFeatures, Tower, sha256_of
from model.text_towers import TOWERS, cut, filled, frozen, read_tokenizer, read_tower_weights, rename_layers, renamed
from protos.reading import FileError, decode_text, read_json, read_lines, refuse_other_formats

BPE_FILE = "bpe_simple_vocab_16e6.txt.gz"
CARRIED_MERGES = Path(__file__).with_name("clip_merges.txt.gz")  # of it, those that CLIP reads
VOCABULARY = 49408
MOST_MERGES = 32 << 20  # bytes of it, unpacked: the published one has 3.2 MB
START, END = "<|startoftext|>", "<|endoftext|>"
# OpenAI's files are TorchScript archives; only these, known by their sha256, are opened as such.
OPENAI_SHA256 = {
    "ViT-B-32.pt": "40d365715913c9da98579312b702a82c18be219cc2a73407c4526f58eba950af",
    "ViT-L-14-336px.pt": "3035c92b350959924f9f00213499208652fc7ea050643e8b385c2dac08641f02",
}


class ClipTower(nn.Module):
    """(pooled (B, P), tokens (B, L, C)) of token ids (B, L), the end mark being the highest; nothing is normalised.

    Attention is causal, so what pads a text after its end mark in the original has no influence on the tokens up to it.
    """

    def __init__(self, vocabulary: int, positions: int, dim: int, num_heads: int, num_layers: int, pooled: int | None):
        """pooled: P; None for a tower without projection, whose end mark is taken as it is."""
        super().__init__()
        self.words = nn.Embedding(vocabulary, dim)
        self.positions = nn.Parameter(torch.zeros(positions, dim))
        self.layers = nn.ModuleList(
            TransformerLayer(dim, num_heads, 4 * dim, 0.0, norm_first=True, causal=True, activation=quick_gelu)
            for _ in range(num_layers))
        self.norm = nn.LayerNorm(dim)
        self.projection = nn.Identity() if pooled is None else nn.Linear(dim, pooled, bias=False)

    def forward(self, ids: Tensor) -> tuple[Tensor, Tensor]:
        x = self.words(ids) + self.positions[: ids.shape[1]]  # (B, L, C)
        for layer in self.layers:
            x = layer(x)
        x = self.norm(x)
        return self.projection(x[torch.arange(len(x)), ids.argmax(-1)]), x


OPENAI_LAYER = {
    "self_attention.qkv.": ("attn.in_proj_",), "self_attention.out.": ("attn.out_proj.",), "norm_self.": ("ln_1.",),
    "linear1.": ("mlp.c_fc.",), "linear2.": ("mlp.c_proj.",), "norm_ff.": ("ln_2.",),
}  # fmt: skip
HUGGING_FACE_LAYER = {
    "self_attention.qkv.": ("self_attn.q_proj.", "self_attn.k_proj.", "self_attn.v_proj."),
    "self_attention.out.": ("self_attn.out_proj.",), "norm_self.": ("layer_norm1.",),
    "linear1.": ("mlp.fc1.",), "linear2.": ("mlp.fc2.",), "norm_ff.": ("layer_norm2.",),
}  # fmt: skip
OPENAI_NAMES = {"words.weight": "token_embedding.weight", "positions": "positional_embedding",
                "norm.weight": "ln_final.weight", "norm.bias": "ln_final.bias"}  # fmt: skip
HUGGING_FACE_NAMES = {
    "words.weight": "text_model.embeddings.token_embedding.weight",
    "positions": "text_model.embeddings.position_embedding.weight",
    "norm.weight": "text_model.final_layer_norm.weight", "norm.bias": "text_model.final_layer_norm.bias",
}  # fmt: skip


def rename_clip(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Our names from OpenAI's or Hugging Face's; vision weights are left out."""
    if "token_embedding.weight" in state:
        names, projection = OPENAI_NAMES, state["text_projection"].T if "text_projection" in state else None
        layers = rename_layers(state, "transformer.resblocks.", OPENAI_LAYER)
    else:
        names, projection = HUGGING_FACE_NAMES, state["text_projection.weight"]
        layers = rename_layers(state, "text_model.encoder.layers.", HUGGING_FACE_LAYER)
    ours = {**{new: state[old] for new, old in names.items()}, **layers}
    if projection is not None:
        ours["projection.weight"] = projection
    return {name: value.float().contiguous() for name, value in ours.items()}


def read_openai(path: Path) -> dict[str, Tensor]:
    """State dict of OpenAI's .pt, or of a plain state dict saved from it. FileError for an unknown archive."""
    try:
        state = read_torch(path)
    except FileError as error:
        if "TorchScript" not in str(error):
            raise
        if sha256_of(path) not in OPENAI_SHA256.values():
            raise FileError(f"{path} is a TorchScript archive but not one OpenAI published (sha256 differs): "
                            "it is not opened") from None
        state = torch.jit.load(str(path), map_location="cpu").state_dict()
    inner = state.get("state_dict") if isinstance(state, dict) else None
    return as_state(state if inner is None else inner, path)


def load_clip(folder: Path, max_tokens: int) -> Tower:
    """Tower of a folder with Hugging Face's files, or OpenAI's .pt beside a tokenizer."""
    openai = [folder / name for name in OPENAI_SHA256 if (folder / name).is_file()]
    weights = read_openai(openai[0]) if openai else read_tower_weights(folder)
    state, layers = renamed(rename_clip, weights, folder, "words.weight", "positions", "projection.weight")
    (vocabulary, dim), positions, pooled = state["words.weight"].shape, len(state["positions"]), len(state["projection.weight"])
    if dim % 64:
        raise FileError(f"{folder}: weights of width {dim}, expected a multiple of 64: no text tower of CLIP")
    network = frozen(lambda: ClipTower(vocabulary, positions, dim, dim // 64, layers, pooled), state, str(folder))
    tokenizer = read_tokenizer(folder, vocabulary, **TOKENIZERS)
    return Tower(tokenize_by(tokenizer, vocabulary, min(max_tokens, positions)), network)


def carried_clip(state: dict[str, Tensor], where: str, max_tokens: int) -> Tower:
    """Tower, `filled`, of weights under OpenAI's names, which other networks carry without the projection."""
    state, layers = renamed(rename_clip, state, Path(where), "words.weight", "positions")
    (vocabulary, dim), positions = state["words.weight"].shape, len(state["positions"])
    network = frozen(lambda: ClipTower(vocabulary, positions, dim, dim // 64, layers, None), state, where)
    limit = min(max_tokens, positions)
    return filled(Tower(tokenize_by(carried_tokenizer(), vocabulary, limit), network), limit)


class ClipTokens:
    """CLIP's tokenizer alone: ids and mask of texts, their marks of start and end included, cut to what CLIP reads."""

    def __init__(self, tokenize: Callable[[str], tuple[list[int], int]]):
        self._tokenize = tokenize

    def encode(self, texts: Sequence[str]) -> TextFeatures:
        """ids (B, L), zero beyond each end, and mask (B, L)."""
        rows = [torch.tensor(self._tokenize(text)[0]) for text in texts]
        pad = nn.utils.rnn.pad_sequence
        return TextFeatures(None, None, pad([torch.ones_like(row, dtype=torch.bool) for row in rows], True), pad(rows, True))


def load_tokenizer(name: str) -> ClipTokens:
    """The tokenizer of CLIP under a name of TOWERS: all have one vocabulary, which comes with the code."""
    return ClipTokens(tokenize_by(carried_tokenizer(), VOCABULARY, TOWERS[name].max_tokens))


def carried_tokenizer() -> Any:
    """CLIP's own, whose vocabulary comes with the code."""
    return _from_merges(CARRIED_MERGES)


def tokenize_by(tokenizer: Any, vocabulary: int, max_tokens: int) -> Callable[[str], tuple[list[int], int]]:
    """text -> ids between the marks of start and end, and how many were cut."""
    start, end = vocabulary - 2, vocabulary - 1
    return lambda text: cut([start, *tokenizer.encode(text, add_special_tokens=False).ids, end], max_tokens)


def _from_words_and_merges(file: Path) -> Any:
    words, merges = read_json(file, dict[str, int]), file.with_name("merges.txt")
    return clip_tokenizer(_pairs([line for line in read_lines(merges) if line and not line.startswith("#")], merges), words)


def _from_merges(file: Path) -> Any:
    return clip_tokenizer(_pairs(_unzipped(file).splitlines()[1 : 49152 - 256 - 2 + 1], file))  # as CLIP's simple_tokenizer.py


TOKENIZERS = {"vocab.json": _from_words_and_merges, BPE_FILE: _from_merges}


def _pairs(lines: list[str], file: Path) -> list[tuple[str, str]]:
    """Merges of two pieces each."""
    pairs = [tuple(line.split()) for line in lines]
    if wrong := [line for line, pair in zip(lines, pairs) if len(pair) != 2]:
        raise FileError(f"{file}: expected two pieces a line, got {wrong[0][:40]!r}")
    return pairs


def _unzipped(file: Path) -> str:
    """Text of a .gz file of at most MOST_MERGES bytes."""
    refuse_other_formats(file)
    try:
        with gzip.open(file) as stream:
            data = stream.read(MOST_MERGES + 1)
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise FileError(f"{file}: a damaged .gz file ({error})") from None
    if len(data) > MOST_MERGES:
        raise FileError(f"{file}: unpacks to more than such a file can need")
    return decode_text(data, str(file))


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
