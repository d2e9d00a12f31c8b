"""Checkpoint folders of a run: written whole or not at all, found again, and pruned.

    save_dir/step_000050000/   config.json, model.safetensors, stats.npz, README.md: enough to sample
                               training_state.pt: enough to go on exactly
    save_dir/best/             the sampling files of the best evaluation, and metrics.json

Each of these folders and the run itself hold a manifest.json: what is not listed there belongs to somebody else and stays.
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

from model.checkpoints import EARLIER_FILES, from_pretrained
from model.model import Model, as_state, load_checked, read_safetensors, read_torch
from model.registry import WEIGHTS_FILE, is_ours, steps
from protos.files import InUse, encode_json, file_lock, naming, recover_folder, write_atomically
from protos.outputs import MANIFEST, OutputError, Outputs, new_folder, remove_folder, require_replaceable, written_earlier
from protos.reading import FileError, decode_json, read_bytes, read_json

STATE_FILE = "training_state.pt"
OPTIONS_FILE = "options.json"
LOG_FILE = "log.jsonl"
METRICS_FILE = "metrics.json"
STATE_VERSION = 1
RUN, CHECKPOINT = "training run", "training checkpoint"  # what the folders are, in their manifests
STEP_FILES = written_earlier((*EARLIER_FILES, STATE_FILE), WEIGHTS_FILE, STATE_FILE)  # by an earlier version
BEST_FILES = written_earlier((*EARLIER_FILES, METRICS_FILE), WEIGHTS_FILE, METRICS_FILE)

STATE_KINDS = {  # what a training state holds, of what type
    "step": int, "best": (int, float), "meter": dict, "networks": dict, "optimizer": dict, "average": (dict, type(None)),
}  # fmt: skip

# Writes what sampling needs (configuration, weights, statistics, card) of a model into an empty folder.
SaveModel = Callable[[Path, Model], None]

logger = logging.getLogger(__name__)


def complete(save_dir: Path) -> list[Path]:
    """The complete checkpoint folders of a run, oldest first."""
    return steps(save_dir, STATE_FILE)


@contextmanager
def alone(save_dir: Path) -> Iterator[None]:
    """Keeps other processes from training into the same folder, which is made. OutputError where one does."""
    _run(save_dir)
    save_dir.mkdir(parents=True, exist_ok=True)
    try:
        with file_lock(save_dir, str(save_dir), wait=False):
            yield
    except InUse as error:
        raise OutputError(f"{error}: wait for it, or give another --save_dir") from None


def begin_run(save_dir: Path, overwrite: bool) -> None:
    """Makes save_dir and clears what a killed run left half-written; with `overwrite` also the run itself.

    Raises OutputError, before anything is removed, where files that training did not write are in the way; others stay.
    """
    run = _run(save_dir)
    for leftover in save_dir.glob(".*.partial"):
        if re.fullmatch(r"\.(step_\d{9,}|best)\.\d+\.partial", leftover.name):
            shutil.rmtree(leftover, ignore_errors=True)
    for replaced in save_dir.glob(".*.replaced"):
        if match := re.fullmatch(r"\.(step_\d{9,}|best)\.\d+\.replaced", replaced.name):
            recover_folder(save_dir / match[1])
    best = save_dir / "best"
    require_replaceable(best, CHECKPOINT, overwrite=True, earlier=BEST_FILES, flag="--save_dir")
    if overwrite:
        for folder in complete(save_dir):
            require_replaceable(folder, CHECKPOINT, overwrite=True, earlier=STEP_FILES, flag="--save_dir")
        for folder in complete(save_dir):
            remove_folder(folder, CHECKPOINT, STEP_FILES)
        if (best / METRICS_FILE).is_file():
            remove_folder(best, CHECKPOINT, BEST_FILES)
        run.remove(OPTIONS_FILE, LOG_FILE)
    run.claim(OPTIONS_FILE, LOG_FILE)


def _run(save_dir: Path) -> Outputs:
    """The files of a run's folder. One that an earlier version began is known by what its options.json and log.jsonl hold."""
    run = Outputs(save_dir, RUN, going_on=True, flag="--save_dir")
    if not (save_dir / MANIFEST).is_file():
        found = {OPTIONS_FILE: ("save_dir", "num_steps"), LOG_FILE: ("step", "time")}
        if ours := [name for name, keys in found.items() if _has_keys(save_dir / name, keys)]:
            run.adopt(*ours)
    return run


def _has_keys(path: Path, keys: tuple[str, ...]) -> bool:
    """Whether a file, or its first line, is a JSON object with these keys."""
    try:
        data = read_bytes(path)
        content = decode_json(data if path.suffix == ".json" else data.split(b"\n", 1)[0], Any, str(path))
    except (FileError, OSError):
        return False
    return isinstance(content, dict) and all(key in content for key in keys)


def write_checkpoint(save_dir: Path, step: int, model: Model, save: SaveModel, state: dict[str, Any]) -> Path:
    """Writes save_dir/step_#########: the sampling files of `model` and the training state."""
    path = save_dir / f"step_{step:09d}"
    with new_folder(path, CHECKPOINT, overwrite=True, earlier=STEP_FILES, flag="--save_dir") as folder:
        save(folder, model)
        with naming(path / STATE_FILE):
            torch.save({**state, "version": STATE_VERSION}, folder / STATE_FILE)
    return path


def write_best(save_dir: Path, model: Model, save: SaveModel, metrics: dict[str, float]) -> Path:
    """Replaces save_dir/best by the sampling files of `model` with the figures that made them best.

    Where somebody has put files of their own into it, it stays as it is, with a warning: training goes on.
    """
    path = save_dir / "best"
    try:
        require_replaceable(path, CHECKPOINT, overwrite=True, earlier=BEST_FILES, flag="--save_dir")
    except OutputError as error:
        logger.warning("the best checkpoint is not kept: %s", error)
        return path
    with new_folder(path, CHECKPOINT, overwrite=True, earlier=BEST_FILES, flag="--save_dir") as folder:
        save(folder, model)
        write_atomically(folder / METRICS_FILE, encode_json(metrics, str(path / METRICS_FILE)))
    return path


def prune(save_dir: Path, keep_last: int) -> None:
    """Deletes all but the newest `keep_last` checkpoints; 0 keeps all. One that holds files of somebody else stays."""
    for folder in complete(save_dir)[:-keep_last] if keep_last else []:
        try:
            remove_folder(folder, CHECKPOINT, STEP_FILES)
        except OutputError as error:
            logger.info("kept: %s", error)


def read_training_state(folder: Path) -> dict[str, Any]:
    """The training state of a checkpoint folder, on the CPU. Raises ValueError where it is damaged."""
    path = folder / STATE_FILE
    remedy = f"move {folder} away to go on with an older one"
    try:
        state = read_torch(path)
    except FileError as error:
        raise FileError(f"{error}: {remedy}") from None
    if not isinstance(state, dict) or state.get("version") != STATE_VERSION:
        version = state.get("version") if isinstance(state, dict) else None
        raise FileError(f"{path}: format {str(version)[:40]}, expected {STATE_VERSION}: {remedy}")
    for name, kind in STATE_KINDS.items():
        if not isinstance(state.get(name), kind):
            raise FileError(f"{path}: {name} is {type(state.get(name)).__name__}, which training does not write: {remedy}")
    if not all(tensor.isfinite().all() for tensor in _tensors(state) if tensor.is_floating_point()):
        raise FileError(f"{path}: holds NaN or infinite values, which training does not write: {remedy}")
    return state


def _tensors(content: Any) -> Iterator[torch.Tensor]:
    """All tensors in dicts, lists and tuples."""
    if isinstance(content, torch.Tensor):
        yield content
    elif isinstance(content, (dict, list, tuple)):
        for part in content.values() if isinstance(content, dict) else content:
            yield from _tensors(part)


def load_weights(networks: nn.Module, weights: Any, origin: Path) -> None:
    """`networks.load_state_dict` of weights that are checked. FileError, in a line, where they are those of other networks."""
    try:
        load_checked(networks, as_state(weights, origin), str(origin))
    except FileError as error:
        raise FileError(f"{error}: give the options it was trained with, another --save_dir, or --overwrite") from None


def stored_weights(model: Model) -> dict[str, torch.Tensor]:
    """Those that a training state holds: all but those that come with the installation."""
    installed = model.installed()
    return {name: value for name, value in model.networks.state_dict().items() if name not in installed}


def load_stored(model: Model, weights: Any, origin: Path) -> None:
    """As `load_weights`, of a training state: weights that come with the installation may be absent, and stay as they are."""
    own = model.networks.state_dict()
    load_weights(model.networks, {name: own[name] for name in model.installed()} | as_state(weights, origin), origin)


def load_optimizer(optimizer: torch.optim.Optimizer, state: dict[str, Any], origin: Path) -> None:
    """`optimizer.load_state_dict`. ValueError where the state is of other weights, or none at all."""
    try:
        optimizer.load_state_dict(state)
    except (ValueError, KeyError, TypeError, AttributeError, RuntimeError) as error:
        raise FileError(f"{origin / STATE_FILE}: the state of the optimiser does not fit these networks ({error})") from None


def load_initial_weights(networks: nn.Module, folder: Path, published: dict[str, torch.Tensor] | None = None) -> None:
    """Weights of a sampling checkpoint (model.safetensors), or those read of a published one, as a starting point."""
    path = folder / WEIGHTS_FILE if folder.is_dir() and published is None else folder
    if published is None and not path.is_file():
        raise ValueError(f"--resume_checkpoint {folder}: no {STATE_FILE} and no {WEIGHTS_FILE} there")
    if published is None:
        published = read_safetensors(path)
        if published.keys() != networks.state_dict().keys() and (folder / "config.json").is_file() and is_ours(folder):
            published = from_pretrained(folder).networks.state_dict()  # an earlier version's are brought to today's names
    load_weights(networks, published, path)


def remember_options(save_dir: Path, options: dict[str, Any]) -> None:
    """Writes options.json; says what has changed since the run began."""
    path = save_dir / OPTIONS_FILE
    if path.is_file():
        before, now = read_json(path, dict[str, Any]), json.loads(json.dumps(options, default=str))  # tuples become lists
        changed = [f"{k} {before[k]} -> {v}" for k, v in now.items() if k in before and before[k] != v]
        changed = [line for line in changed if not line.startswith(("save_dir ", "overwrite ", "resume_checkpoint "))]
        if changed:
            logger.warning("options changed since the run began: %s", ", ".join(changed))
    write_atomically(path, json.dumps(options, indent=1, default=str))
