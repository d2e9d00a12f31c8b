"""BERT-like towers on our own layers and the `tokenizers` library: importing transformers takes seconds.

Their numbers are those of transformers (tests/test_text_encoders.py).
"""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import torch
from torch import Tensor, nn

from model.layers import TransformerLayer
from model.loading import as_state, load_checked, made_for, read_safetensors, read_torch
from model.text_encoders import TextEncoderError, Tower
from protos.bounds import Range, check_bounds
from protos.reading import FileError, read_json, read_text


@dataclass(frozen=True)
class BertConfig:
    """What the config.json of a Hugging Face BERT or DistilBERT says that its weights do not show."""

    model_type: str = "bert"
    num_attention_heads: Annotated[int, Range(1, 256)] | None = None
    n_heads: Annotated[int, Range(1, 256)] | None = None  # DistilBERT's word for it
    layer_norm_eps: Annotated[float, Range(0, 1)] = 1e-12

    def __post_init__(self):
        check_bounds(self)
        if self.num_heads is None:
            raise ValueError("names no number of attention heads")

    @property
    def num_heads(self) -> int | None:
        return self.n_heads if self.model_type == "distilbert" else self.num_attention_heads


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
    "self_attention.qkv.": ("attention.self.query.", "attention.self.key.", "attention.self.value."),
    "self_attention.out.": ("attention.output.dense.",), "norm_self.": ("attention.output.LayerNorm.",),
    "linear1.": ("intermediate.dense.",), "linear2.": ("output.dense.",), "norm_ff.": ("output.LayerNorm.",),
}  # fmt: skip
DISTILBERT_LAYER = {
    "self_attention.qkv.": ("attention.q_lin.", "attention.k_lin.", "attention.v_lin."),
    "self_attention.out.": ("attention.out_lin.",), "norm_self.": ("sa_layer_norm.",),
    "linear1.": ("ffn.lin1.",), "linear2.": ("ffn.lin2.",), "norm_ff.": ("output_layer_norm.",),
}  # fmt: skip
State = dict[str, Tensor]
PROBE = "a person walks \u2603"  # a sentence, and a sign that no vocabulary has: some damage shows only then


def rename_bert(state: State) -> State:
    """Our names from those of a Hugging Face BERT or DistilBERT, whatever heads come with it."""
    old = {".gamma": ".weight", ".beta": ".bias"}  # of files from TensorFlow
    for suffix, new in old.items():
        state = {key.removesuffix(suffix) + new if key.endswith(suffix) else key: value for key, value in state.items()}
    state = {key.removeprefix("bert.").removeprefix("distilbert."): value for key, value in state.items()}
    distilled = any(key.startswith("transformer.layer.") for key in state)
    words = state["embeddings.word_embeddings.weight"]
    segments = state.get("embeddings.token_type_embeddings.weight")
    return {
        "words.weight": words,
        "positions.weight": state["embeddings.position_embeddings.weight"],
        "segment": words.new_zeros(words.shape[1]) if segments is None else segments[0],
        "norm.weight": state["embeddings.LayerNorm.weight"],
        "norm.bias": state["embeddings.LayerNorm.bias"],
        **rename_layers(state, *(("transformer.layer.", DISTILBERT_LAYER) if distilled else ("encoder.layer.", BERT_LAYER))),
    }


def rename_layers(state: State, stack: str, table: Mapping[str, tuple[str, ...]]) -> State:
    """Weights and biases of the layers behind `stack` under our names, those of several parts packed into one."""
    numbers = sorted({int(key.removeprefix(stack).split(".")[0]) for key in state if key.startswith(stack)})
    return {f"layers.{i}.{new}{kind}": torch.cat([state[f"{stack}{i}.{part}{kind}"] for part in parts])
            for i in numbers for new, parts in table.items() for kind in ("weight", "bias")}  # fmt: skip


def read_tower_weights(folder: Path) -> State:
    """Weights of a Hugging Face folder, safetensors or pickled tensors (read without running code). FileError names the file."""
    if (folder / "model.safetensors").is_file():
        return read_safetensors(folder / "model.safetensors")
    return as_state(read_torch(folder / "pytorch_model.bin"), folder / "pytorch_model.bin")


def renamed(rename: Callable[[State], State], state: State, folder: Path, *tables: str) -> tuple[State, int]:
    """The weights under our names, and how many layers they have. TextEncoderError where they are none of this kind of model,
    or one of `tables` has not two axes.
    """
    try:
        ours = rename(state)
    except KeyError as error:
        raise TextEncoderError(f"{folder}: the weights lack {error.args[0]}: incomplete, or of another kind of model") from None
    except (ValueError, IndexError, RuntimeError) as error:
        raise TextEncoderError(f"{folder}: the weights have other shapes than this kind of model has ({error})") from None
    layers = sum(name.endswith(".norm_ff.weight") for name in ours)
    if not layers:
        raise TextEncoderError(f"{folder}: the weights have no layers: incomplete, or of another kind of model")
    for name in tables:
        if ours[name].ndim != 2:
            raise TextEncoderError(f"{folder}: {name} has shape {tuple(ours[name].shape)}, expected rows and columns")
    return ours, layers


def frozen(build: Callable[[], nn.Module], state: State, where: str) -> nn.Module:
    """The network with these weights, in eval mode. It is made without values first, which draws no random numbers."""
    with made_for(state, where), torch.device("meta"):
        network = build()
    network = network.to_empty(device="cpu")
    load_checked(network, state, where)
    return network.eval().requires_grad_(False)


def load_bert(folder: Path, max_tokens: int, *, sentence: bool) -> Tower:
    """Tower of a Hugging Face folder. `pooled` is the mean of the tokens, for a sentence model scaled to length 1."""
    config = read_json(folder / "config.json", BertConfig)
    tables = ("words.weight", "positions.weight", "layers.0.linear1.weight")
    state, layers = renamed(rename_bert, read_tower_weights(folder), folder, *tables)
    (vocabulary, dim), (positions, _), (ff_size, _) = (state[name].shape for name in tables)
    if dim % config.num_heads:
        raise TextEncoderError(f"{folder}: weights of width {dim} and {config.num_heads} attention heads in config.json do not "
                               "belong together")
    network = frozen(lambda: BertTower(vocabulary, positions, dim, config.num_heads, ff_size, layers, config.layer_norm_eps),
                     state, str(folder))
    tokenizer = read_tokenizer(folder, vocabulary)

    def run(ids: Tensor) -> tuple[Tensor, Tensor]:
        tokens = network(ids)  # (B, L, C)
        pooled = tokens.mean(1)
        return nn.functional.normalize(pooled, dim=-1) if sentence else pooled, tokens

    return Tower(lambda text: cut(tokenizer.encode(text).ids, min(max_tokens, positions)), run)


def cut(ids: list[int], max_tokens: int) -> tuple[list[int], int]:
    """ids no longer than max_tokens, the closing mark kept, and how many were lost."""
    if len(ids) <= max_tokens:
        return ids, 0
    return ids[: max_tokens - 1] + ids[-1:], len(ids) - max_tokens


def word_pieces(file: Path) -> Any:
    from tokenizers.implementations import BertWordPieceTokenizer

    read_text(file)  # says what is wrong with it
    return BertWordPieceTokenizer(str(file), lowercase=True)


def read_tokenizer(folder: Path, vocabulary: int, **others: Callable[[Path], Any]) -> Any:
    """The tokenizer of a folder, without padding and cutting, from tokenizer.json or, in older ones, from one of the `others`,
    by default vocab.txt. TextEncoderError names what is damaged, or knows pieces beyond the `vocabulary` rows of the weights.
    """
    from tokenizers import Tokenizer

    readers = {"tokenizer.json": lambda file: Tokenizer.from_str(read_text(file)), **(others or {"vocab.txt": word_pieces})}
    file = next((folder / name for name in readers if (folder / name).is_file()), None)
    if file is None:
        raise TextEncoderError(f"{folder} holds no tokenizer: expected {' or '.join(readers)}")
    with tokenizer_errors(file):
        tokenizer = readers[file.name](file)
    highest = max(tokenizer.get_vocab(with_added_tokens=True).values(), default=-1)
    if not 0 <= highest < vocabulary:
        raise TextEncoderError(f"{file}: its vocabulary goes up to {highest}, the weights have {vocabulary} rows: files of two "
                               "models?")
    with tokenizer_errors(file):
        tokenizer.no_padding()
        tokenizer.no_truncation()
        ids = tokenizer.encode(PROBE).ids
    if not ids or max(ids) >= vocabulary:
        raise TextEncoderError(f"{file}: makes the tokens {ids[:8]} of a sentence, the weights have {vocabulary} rows")
    return tokenizer


@contextmanager
def tokenizer_errors(file: Path) -> Iterator[None]:
    """Whatever the library of tokenizers says of a file, as a TextEncoderError that names it: it raises plain Exceptions."""
    try:
        yield
    except (FileError, OSError):
        raise
    except BaseException as error:
        if not isinstance(error, Exception) and type(error).__name__ != "PanicException":  # what the library's Rust code raises
            raise
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise TextEncoderError(f"{file}: damaged, no tokenizer can be made of it ({reason[:160]})") from None
