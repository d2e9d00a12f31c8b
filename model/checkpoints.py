"""Checkpoints: our folders (config.json, model.safetensors, stats.npz, README.md) and those of the published systems.

A folder alone is enough to sample. `from_pretrained` reads either kind, and takes a training run's folder for its best step.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch import Tensor

from data_loaders.features import Statistics
from model.capabilities import AS_MADE, Cleanup
from model.known_texts import FILE as KNOWN_TEXTS_FILE
from model.known_texts import KnownTexts
from model.model import Model, convert_settings, load_checked, made_for, read_safetensors, read_settings
from model.registry import (
    SYSTEMS,
    WEIGHTS_FILE,
    System,
    absent,
    checkpoint_in,
    is_ours,
    named,
    published_at,
    system_of,
)
from protos.files import encode_json, file_digest, shown, write_atomically
from protos.outputs import new_folder, written_earlier
from protos.reading import FileError, convert

if TYPE_CHECKING:
    from model.text_encoders import TextEncoder

PARTS = "parts"  # the folder of those that a model stands on
# What an earlier version wrote into a checkpoint folder, which had no manifest
EARLIER_FILES = ("config.json", WEIGHTS_FILE, "stats.npz", "README.md", "prompts.txt", KNOWN_TEXTS_FILE)


def earlier_files(folder: Path) -> Iterable[str]:
    """Those of `EARLIER_FILES` that may lie in a checkpoint folder of an earlier version."""
    return written_earlier(EARLIER_FILES, "config.json", WEIGHTS_FILE)(folder)


def save_pretrained(folder: Path, model: Model, card: str = "", *, half: bool = False, overwrite: bool = False,
                    prompts: str = "", known_texts: KnownTexts | None = None, shared: bool = False) -> None:
    """Writes a checkpoint folder, whole or not at all. One that is there is replaced with `overwrite`, if all it holds is ours.

    `card` becomes README.md, `prompts` prompts.txt, `known_texts` known_texts.npz; `half` stores float16 weights. shared: parts
    lie beside the folder, by their names, and are not stored again. FileError where one does not, with these weights.
    """
    with new_folder(folder, "checkpoint", overwrite=overwrite, earlier=earlier_files) as temporary:
        write_files(temporary, model, card, half=half, beside=folder.parent if shared else None)
        if prompts:
            write_atomically(temporary / "prompts.txt", prompts)
        if known_texts is not None:
            known_texts.save(temporary / KNOWN_TEXTS_FILE)


def write_files(folder: Path, model: Model, card: str = "", *, half: bool = False, beside: Path | None = None) -> None:
    """The files of `save_pretrained` in a folder that the caller makes complete (a checkpoint being written). beside: where the
    parts lie that are not stored again.
    """
    weights = packed(model, half)
    settings = {"system": system_of(model).name, **asdict(model.config)}
    parts = {}
    for name, part in model.parts.items():
        if beside is None:
            write_files(folder / PARTS / name, part, half=half)
        elif not same_bytes(beside / name / WEIGHTS_FILE, packed(part, half)):
            raise FileError(f"{beside / name} does not hold the {name} that this model stands on, with the same weights: export "
                            "it there first")  # fmt: skip
        parts[name] = file_digest((folder / PARTS if beside is None else beside) / name / WEIGHTS_FILE)
    if parts:
        settings["parts"] = parts
    if model.cleanup != AS_MADE:
        settings["cleanup"] = asdict(model.cleanup)
    write_atomically(folder / "config.json", encode_json(settings, "config.json", indent=2))
    write_atomically(folder / WEIGHTS_FILE, weights)
    if model.statistics is not None:
        model.statistics.save(folder / "stats.npz")
    if card:
        write_atomically(folder / "README.md", card if card.endswith("\n") else card + "\n")


def same_bytes(path: Path, content: bytes) -> bool:
    """Whether a file is there and holds these bytes."""
    return path.is_file() and path.stat().st_size == len(content) and path.read_bytes() == content


def packed(model: Model, half: bool) -> bytes:
    """The file of a model's weights. FileError where one is not finite."""
    from safetensors.torch import save

    weights = {}
    installed = model.installed()
    for name, value in model.networks.state_dict().items():
        if name in installed:
            continue
        value = value.detach().cpu().contiguous()
        weights[name] = value.half() if half and value.is_floating_point() else value
    too_large = [name for name, value in weights.items() if value.is_floating_point() and not value.isfinite().all()]
    if too_large:
        raise FileError(f"not saved: {too_large[0]} holds values that are not finite{' in float16' if half else ''}")
    return save(weights)


def from_pretrained(path: str | Path, device: torch.device | str = "cpu", *, dataset_folder: str | Path | None = None,
                    text_encoder: "TextEncoder | None" = None, systems: Sequence[str] = ()) -> Any:
    """The networks of a checkpoint folder (or of one `model*.pt` or `.ckpt` in a published one), in eval mode, float32.

    The folder of a training run stands for its best checkpoint, else for its newest. Published folders hold no statistics:
    those of the dataset are taken from `dataset_folder`, by default dataset/HumanML3D or dataset/KIT-ML; runs of TMR and TEMOS
    have their own. `systems`: the only ones that will do. FileError says what is wrong.
    """
    path = checkpoint_in(path)
    folder = path if path.is_dir() else path.parent
    if not path.exists():
        raise FileError(f"no checkpoint at {path}: {absent(path)}")
    if is_ours(path):
        model = _from_folder(folder, systems)
        if text_encoder is not None:
            model.text_encoder = text_encoder
    elif published := published_at(path):
        system, layout = published
        _require(system.name, systems, path)
        given = {"text_encoder": text_encoder, "dataset_folder": dataset_folder}
        model = named(layout.load)(path, **{name: given[name] for name in layout.takes})
    else:
        raise FileError(f"{folder} is no checkpoint: it holds neither config.json nor args.json nor "
                        "checkpoints/last.ckpt, nor the steps of a training run")
    return model.to(device).eval()


def load_part(path: str | Path, name: str, system: str) -> Model:
    """A model of `system` from its own checkpoint, or from that of a model that stands on it as its part `name`."""
    model = from_pretrained(path)
    part = model if system_of(model).name == system else model.parts.get(name)
    if part is None:
        raise FileError(f"{path} is not the checkpoint of a model of kind {system}, nor of one that stands on such a model")
    return part


def read_config(path: str | Path) -> tuple[str, Any]:
    """(system, configuration) of a checkpoint, ours or published, without its weights. FileError where there is none, or
    where only the weights tell.
    """
    path = checkpoint_in(path)
    if is_ours(path):
        folder = path if path.is_dir() else path.parent
        if not (folder / WEIGHTS_FILE).is_file():
            raise FileError(f"{folder / WEIGHTS_FILE} is absent: the checkpoint is incomplete")
        settings = _read_settings(folder)
        return settings.system.name, settings.config
    published = published_at(path)
    if published is None or not published[1].config:
        raise FileError(f"{path} is no checkpoint whose settings can be read")
    system, layout = published
    return system.name, named(layout.config)(path)


class _Settings(NamedTuple):
    """What the config.json of a folder of ours says. Of a part the sha256 of its weights, or, where these lie among the model's
    own as an earlier version wrote them, its configuration.
    """

    system: System
    config: Any
    parts: dict[str, Any]
    cleanup: Cleanup


def _read_settings(folder: Path) -> _Settings:
    path = folder / "config.json"
    content = as_of_today(read_settings(path), folder)
    system = content.pop("system", None)
    if not isinstance(system, str) or system not in SYSTEMS:
        raise FileError(f"{path} names system {shown(system)}, known here: {', '.join(SYSTEMS)}")
    system = SYSTEMS[system]
    parts = convert(content.pop("parts", {}), dict[str, str | dict[str, Any]], f"{path}: parts")
    for name, part in parts.items():
        if name not in system.parts:
            raise FileError(f"{path} names a part {shown(name)}, which no model of kind {system.name} has")
        if isinstance(part, dict):
            parts[name] = convert_settings(part, named(SYSTEMS[system.parts[name]].config), f"{path}: {name}")
    cleanup = convert(content.pop("cleanup", {}), Cleanup, f"{path}: cleanup")
    return _Settings(system, convert_settings(content, named(system.config), str(path)), parts, cleanup)


def _from_folder(folder: Path, systems: Sequence[str]) -> Model:
    system, config, named_parts, cleanup = _read_settings(folder)
    _require(system.name, systems, folder)
    stats, weights_file = folder / "stats.npz", folder / WEIGHTS_FILE
    if not stats.is_file():
        raise FileError(f"{stats} is absent: the checkpoint is incomplete")
    statistics = Statistics.load(stats)
    state = weights_of_today(system.name, read_safetensors(weights_file))
    parts = {}
    for name, part in named_parts.items():
        if isinstance(part, str):
            parts[name] = _part(folder, name, system.parts[name], part)
        else:
            own = {key: state.pop(key) for key in list(state) if key.startswith(f"{name}.")}
            parts[name] = _made(SYSTEMS[system.parts[name]], part, statistics, {}, own, weights_file)
    model = _made(system, config, statistics, parts, state, weights_file)
    model.cleanup = cleanup
    return model


def _part(model: Path, name: str, system: str, sha256: str) -> Model:
    """A model that the one in a folder stands on: within it, or beside it where several share one. FileError where it is absent,
    or another than in training.
    """
    folder, shared = model / PARTS / name, model.absolute().parent / name
    if not folder.is_dir():
        if not (shared / WEIGHTS_FILE).is_file():
            raise FileError(f"{folder} is absent, and so is {model.parent / name}: the checkpoint is incomplete")
        folder = shared
    if file_digest(folder / WEIGHTS_FILE) != sha256:
        raise FileError(f"{folder / WEIGHTS_FILE} is not what the model was trained on: take its folder as a whole")
    return _from_folder(folder, (system,))


def _made(system: System, config: Any, statistics: Statistics, parts: Mapping[str, Model], state: dict[str, Tensor],
          where: Path) -> Model:
    try:
        with made_for(state, str(where)):
            model = named(system.model)(config, statistics, parts)
    except FileError:
        raise
    except ValueError as error:  # settings that contradict each other, or the statistics
        raise FileError(f"{where.parent / 'config.json'}: {error}") from None
    try:
        own = model.networks.state_dict()
        load_checked(model.networks, state | {name: own[name] for name in model.installed() - state.keys()}, str(where))
    except FileError as error:  # either file may be the wrong one
        raise FileError(f"{error} (by {where.parent / 'config.json'})") from None
    return model


def _require(system: str, systems: Sequence[str], path: Path) -> None:
    """FileError unless a model of that system will do."""
    if systems and system not in systems:
        raise FileError(f"{path} holds a model of kind {system}, needed is {' or '.join(systems)}")


# -------------------------------------------------------------------------------------- as version 0.1 of this project wrote them

FLAT = ("skeleton", "fps", "heading")  # of the features, which had no record of their own
DROPPED = ("num_features", "num_columns")  # now told by the features
# Settings that LS-ReMGM had and the system `latent` has now, with the value that leaves them out.
OF_LATENT = {
    "norm_first": False, "modulation": False, "output_skip": False, "text_noise": 0.0, "word_drop": 0.0, "min_snr_gamma": 0.0,
    "snr_power": 1.0, "snr_floor": 0.0, "calm_power": 0.0, "smoothing": 0.0,
}  # fmt: skip


def as_of_today(settings: dict[str, Any], folder: Path) -> dict[str, Any]:
    """The settings in a config.json; `parts` holds those of a part whose weights lie among the model's own, as a record."""
    system = settings.get("system")
    if isinstance(settings.get("features"), Mapping) or not isinstance(system, str):
        return settings
    today = {name: value for name, value in settings.items() if name not in (*FLAT, *DROPPED, "features")}
    features = {name: settings[name] for name in FLAT if name in settings}
    if len(features) < len(FLAT) and (folder / "stats.npz").is_file():
        features = asdict(Statistics.load(folder / "stats.npz").features)
    features["kind"] = settings.get("features", "humanml")
    today["features"] = features
    if system == "lsremgm":
        return _lsremgm(today)
    return today


def _lsremgm(today: dict[str, Any]) -> dict[str, Any]:
    today["sampling_steps"] = today.pop("num_steps", None)
    autoencoder = today.pop("autoencoder", None)
    if autoencoder is None and all(today.get(name, plain) == plain for name, plain in OF_LATENT.items()):
        return {name: value for name, value in today.items() if name not in OF_LATENT}
    today["system"] = "latent"
    today = {**OF_LATENT, **today}
    if isinstance(autoencoder, Mapping):
        sizes = {name: value for name, value in autoencoder.items() if name not in DROPPED}
        today["parts"] = {"autoencoder": {**sizes, "features": today["features"], "dataset": today.get("dataset", "")}}
    return today


def weights_of_today(system: str, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """A state dict whose names begin with those of the model's networks."""
    if system == "motion_autoencoder" and not any(name.startswith("autoencoder.") for name in state):
        return {f"autoencoder.{name}": value for name, value in state.items()}
    return dict(state)
