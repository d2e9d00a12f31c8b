"""Checkpoint folders of a run: written whole or not at all, found again, and pruned.

    save_dir/step_000050000/   config.json, model.safetensors, stats.npz, README.md: enough to sample
                               training_state.pt: enough to go on exactly
    save_dir/best/             the sampling files of the best evaluation, and metrics.json
"""

import json
import logging
import re
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import nn

from protos.files import atomic_folder, write_atomically

STATE_FILE = "training_state.pt"
WEIGHTS_FILE = "model.safetensors"
OPTIONS_FILE = "options.json"
LOG_FILE = "log.jsonl"
METRICS_FILE = "metrics.json"
STATE_VERSION = 1

# Writes what sampling needs (configuration, weights, statistics, card) of the given networks into an empty folder.
SaveNetworks = Callable[[Path, nn.Module], None]

logger = logging.getLogger(__name__)


def complete(save_dir: Path) -> list[Path]:
    """The complete checkpoint folders of a run, oldest first."""
    found = [p for p in save_dir.glob("step_*") if re.fullmatch(r"step_\d{9,}", p.name) and (p / STATE_FILE).is_file()]
    return sorted(found, key=lambda path: int(path.name.removeprefix("step_")))


def begin_run(save_dir: Path, overwrite: bool) -> None:
    """Makes save_dir and clears what a killed run left half-written; with `overwrite` also the run itself.

    Only names that a run writes are ever deleted. Raises ValueError where a file is in the way.
    """
    if save_dir.exists() and not save_dir.is_dir():
        raise ValueError(f"--save_dir {save_dir}: is a file, expected a folder")
    save_dir.mkdir(parents=True, exist_ok=True)
    for leftover in (*save_dir.glob(".step_*.partial"), *save_dir.glob(".best.*.partial")):
        shutil.rmtree(leftover, ignore_errors=True)
    for replaced in save_dir.glob(".best.*.replaced"):  # killed between two renames: the old one is still good
        if (save_dir / "best").exists():
            shutil.rmtree(replaced)
        else:
            replaced.rename(save_dir / "best")
    if overwrite:
        for folder in complete(save_dir):
            shutil.rmtree(folder)
        if (save_dir / "best" / METRICS_FILE).is_file():
            shutil.rmtree(save_dir / "best")
        for name in (OPTIONS_FILE, LOG_FILE):
            (save_dir / name).unlink(missing_ok=True)


def write_checkpoint(save_dir: Path, step: int, networks: nn.Module, save: SaveNetworks, state: dict[str, Any]) -> Path:
    """Writes save_dir/step_#########: the sampling files of `networks` and the training state."""
    path = save_dir / f"step_{step:09d}"
    with _explained(path), atomic_folder(path) as folder:
        save(folder, networks)
        torch.save({**state, "version": STATE_VERSION}, folder / STATE_FILE)
    return path


def write_best(save_dir: Path, networks: nn.Module, save: SaveNetworks, metrics: dict[str, float]) -> Path:
    """Replaces save_dir/best by the sampling files of `networks` with the figures that made them best."""
    path = save_dir / "best"
    if path.exists() and not (path / METRICS_FILE).is_file():
        raise ValueError(f"{path} was not written by training: move it away")
    with _explained(path), atomic_folder(path) as folder:
        save(folder, networks)
        write_atomically(folder / METRICS_FILE, json.dumps(metrics, indent=1))
    return path


def prune(save_dir: Path, keep_last: int) -> None:
    """Deletes all but the newest `keep_last` checkpoints; 0 keeps all."""
    if keep_last:
        for folder in complete(save_dir)[:-keep_last]:
            shutil.rmtree(folder)


def read_state(folder: Path) -> dict[str, Any]:
    """The training state of a checkpoint folder, on the CPU. Raises ValueError where it is damaged."""
    path = folder / STATE_FILE
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except (FileNotFoundError, PermissionError):
        raise
    except Exception as error:  # a torn archive raises almost anything: RuntimeError, OSError, EOFError, KeyError
        raise ValueError(f"{path} is damaged ({type(error).__name__}): delete {folder} to use an older one") from error
    if state.get("version") != STATE_VERSION:
        raise ValueError(f"{path}: format {state.get('version')}, expected {STATE_VERSION}")
    return state


def load_weights(networks: nn.Module, weights: dict[str, torch.Tensor], origin: Path) -> None:
    """`networks.load_state_dict`, with one line instead of a page where the shapes or names differ."""
    own = networks.state_dict()
    wrong = [
        f"{name} {tuple(weights[name].shape) if name in weights else 'absent'}, expected {tuple(tensor.shape)}"
        for name, tensor in own.items()
        if name not in weights or weights[name].shape != tensor.shape
    ] + [f"{name} unexpected" for name in weights if name not in own]
    if wrong:
        raise ValueError(
            f"{origin} holds other networks than these options make ({wrong[0]}; {len(wrong)} differences): "
            f"give the options it was trained with, another --save_dir, or --overwrite"
        )
    networks.load_state_dict(weights)


def load_initial_weights(networks: nn.Module, folder: Path) -> None:
    """Weights of a sampling checkpoint (model.safetensors) as a starting point."""
    from safetensors.torch import load_file

    path = folder / WEIGHTS_FILE if folder.is_dir() else folder
    if not path.is_file():
        raise ValueError(f"--resume_checkpoint {folder}: no {STATE_FILE} and no {WEIGHTS_FILE} there")
    load_weights(networks, {name: value.float() for name, value in load_file(path).items()}, path)


def remember_options(save_dir: Path, options: dict[str, Any]) -> None:
    """Writes options.json; says what has changed since the run began."""
    path = save_dir / OPTIONS_FILE
    if path.is_file():
        before, now = json.loads(path.read_text()), json.loads(json.dumps(options, default=str))  # tuples become lists
        changed = [f"{k} {before[k]} -> {v}" for k, v in now.items() if k in before and before[k] != v]
        changed = [line for line in changed if not line.startswith(("save_dir ", "overwrite ", "resume_checkpoint "))]
        if changed:
            logger.warning("options changed since the run began: %s", ", ".join(changed))
    write_atomically(path, json.dumps(options, indent=1, default=str))


@contextmanager
def _explained(path: Path) -> Iterator[None]:
    """Turns torch's and safetensors' own words for a full disk into an OSError that names the path."""
    try:
        yield
    except Exception as error:
        words = str(error)
        full = isinstance(error, RuntimeError) and ("PytorchStreamWriter" in words or "iostream" in words)
        if full or type(error).__name__ == "SafetensorError":
            raise OSError(f"{path} could not be written (is the disk full?): {words}") from error
        raise
