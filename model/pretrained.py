"""Checkpoints: our folders (config.json, model.safetensors, stats.npz, README.md) and those of the published systems.

A folder alone is enough to sample. `from_pretrained` reads either kind, and takes a training run's folder for its best step.
"""

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from data_loaders.corpus import Statistics
from model.known_texts import FILE as KNOWN_TEXTS_FILE
from model.known_texts import KnownTexts
from model.loading import CheckpointError, checkpoint_errors, convert_settings, load_checked, made_for, read_settings
from model.registry import SYSTEMS, is_ours, named, published_at
from model.run_folder import WEIGHTS_FILE, checkpoint_in
from protos.files import encode_json, write_atomically
from protos.names import shown
from protos.outputs import new_folder, written_earlier
from protos.reading import FileError
from protos.weights import read_safetensors

if TYPE_CHECKING:
    from model.text_encoders import TextEncoder

# What an earlier version wrote into a checkpoint folder, which had no manifest.
EARLIER_FILES = ("config.json", WEIGHTS_FILE, "stats.npz", "README.md", "prompts.txt", KNOWN_TEXTS_FILE)
EARLIER_FOLDER = written_earlier(EARLIER_FILES, "config.json", WEIGHTS_FILE)


def save_pretrained(folder: Path, config: Any, state_dict: dict[str, Tensor], statistics: Statistics | None,
                    card: str = "", *, half: bool = False, overwrite: bool = False, prompts: str = "",
                    known_texts: KnownTexts | None = None) -> None:
    """Writes a checkpoint folder, whole or not at all. One that is there is replaced with `overwrite`, if all it holds is ours.

    `state_dict` is that of the system's networks; `card` becomes README.md, `prompts` prompts.txt, `known_texts`
    known_texts.npz; `half` stores float16 weights.
    """
    with new_folder(folder, "checkpoint", overwrite=overwrite, earlier=EARLIER_FOLDER) as temporary:
        write_files(temporary, config, state_dict, statistics, card, half=half)
        if prompts:
            write_atomically(temporary / "prompts.txt", prompts)
        if known_texts is not None:
            known_texts.save(temporary / KNOWN_TEXTS_FILE)


def write_files(folder: Path, config: Any, state_dict: dict[str, Tensor], statistics: Statistics | None,
                card: str = "", *, half: bool = False) -> None:
    """The files of `save_pretrained` in a folder that the caller makes complete (a checkpoint being written)."""
    from safetensors.torch import save

    weights = {}
    for name, value in state_dict.items():
        value = value.detach().cpu().contiguous()
        weights[name] = value.half() if half and value.is_floating_point() else value
    too_large = [name for name, value in weights.items() if value.is_floating_point() and not value.isfinite().all()]
    if too_large:
        raise CheckpointError(f"not saved: {too_large[0]} holds values that are not finite"
                              + (" in float16" if half else ""))
    (system,) = (name for name, system in SYSTEMS.items() if system.config.endswith(f":{type(config).__name__}"))
    write_atomically(folder / "config.json", encode_json({"system": system, **asdict(config)}, "config.json", indent=2))
    write_atomically(folder / WEIGHTS_FILE, save(weights))
    if statistics is not None:
        statistics.save(folder / "stats.npz")
    if card:
        write_atomically(folder / "README.md", card if card.endswith("\n") else card + "\n")


def from_pretrained(path: str | Path, device: torch.device | str = "cpu", *, dataset_folder: str | Path | None = None,
                    text_encoder: "TextEncoder | None" = None, systems: Sequence[str] = ()) -> Any:
    """The networks of a checkpoint folder (or of one `model*.pt` or `.ckpt` in a published one), in eval mode, float32.

    The folder of a training run stands for its best checkpoint, else for its newest. Published folders hold no statistics:
    those of the dataset are taken from `dataset_folder`, by default dataset/HumanML3D or dataset/KIT-ML; runs of TMR and TEMOS
    have their own. `systems`: the only ones that will do. CheckpointError says what is wrong.
    """
    path = checkpoint_in(path)
    folder = path if path.is_dir() else path.parent
    if not path.exists():
        raise CheckpointError(f"no checkpoint at {path}: expected a folder with config.json and model.safetensors, "
                              "or a published one with args.json and model*.pt")
    with checkpoint_errors():
        if is_ours(path):
            networks = _from_folder(folder, text_encoder, systems)
        elif published := published_at(path):
            system, layout = published
            _require(system.name, systems, path)
            given = {"text_encoder": text_encoder, "dataset_folder": dataset_folder}
            networks = named(layout.load)(path, **{name: given[name] for name in layout.takes})
        else:
            raise CheckpointError(f"{folder} is no checkpoint: it holds neither config.json nor args.json nor "
                                  "checkpoints/last.ckpt, nor the steps of a training run")
    return networks.to(device).eval()


def read_config(folder: Path) -> tuple[str, Any]:
    """(system, configuration) of a checkpoint folder, or of the checkpoint that a training run's folder stands for."""
    path = checkpoint_in(folder) / "config.json"
    content = read_settings(path)
    system = content.pop("system", None)
    if not isinstance(system, str) or system not in SYSTEMS:
        raise CheckpointError(f"{path} names system {shown(system)}, known here: {', '.join(SYSTEMS)}")
    with checkpoint_errors():
        return system, convert_settings(content, named(SYSTEMS[system].config), str(path))


def _from_folder(folder: Path, text_encoder: "TextEncoder | None", systems: Sequence[str]) -> Any:
    system, config = read_config(folder)
    _require(system, systems, folder)
    stats = folder / "stats.npz"
    if not stats.is_file():
        raise CheckpointError(f"{stats} is absent: the checkpoint is incomplete")
    statistics = Statistics.load(stats)
    weights_file = folder / WEIGHTS_FILE
    state = read_safetensors(weights_file)
    try:
        with made_for(state, str(weights_file)):
            networks = named(SYSTEMS[system].build)(config, statistics, text_encoder)
    except ValueError as error:  # settings that contradict each other, or the statistics
        raise error if isinstance(error, FileError) else CheckpointError(f"{folder / 'config.json'}: {error}") from None
    load_checked(networks, state, str(weights_file))
    return networks


def _require(system: str, systems: Sequence[str], path: Path) -> None:
    """CheckpointError unless a model of that system will do."""
    if systems and system not in systems:
        raise CheckpointError(f"{path} holds a model of kind {system}, needed is {' or '.join(systems)}")
