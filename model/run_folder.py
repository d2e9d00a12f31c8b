"""A training run's folder wherever a checkpoint is asked for: it stands for its best step, or else for its newest."""

import logging
import re
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from protos.archives import is_archive
from protos.reading import read_json

WEIGHTS_FILE = "model.safetensors"
OF_ONE_CHECKPOINT = ("config.json", "args.json", "checkpoints/last.ckpt")  # ours or a published run of TMR, MDM's, TEMOS's

LAST_STAGE = "matching"  # of a run of train.train_evaluator, within its folder

log = logging.getLogger(__name__)


def steps(run: Path, file: str = WEIGHTS_FILE) -> list[Path]:
    """The step folders of a run in which `file` lies, oldest first: they are written whole or not at all."""
    found = [p for p in run.glob("step_*") if re.fullmatch(r"step_\d{9,18}", p.name) and (p / file).is_file()]
    return sorted(found, key=lambda path: int(path.name.removeprefix("step_")))


def _is_checkpoint(folder: Path) -> bool:
    return any((folder / name).is_file() for name in OF_ONE_CHECKPOINT)


def checkpoint_in(path: str | Path) -> Path:
    """The checkpoint that a path stands for: of a training run's folder its `best`, else its newest step; else itself.

    A folder in which nothing but a checkpoint's folder lies, as unpacked archives make it, stands for that one.
    """
    path = Path(path)
    if not path.is_dir() or _is_checkpoint(path):
        return path
    within = [each for each in path.iterdir() if not each.name.startswith(".") and not is_archive(each)]
    if len(within) == 1 and _is_checkpoint(within[0]):
        return within[0]
    for run in (path, path / LAST_STAGE):
        best = run / "best"
        if found := [best] if (best / WEIGHTS_FILE).is_file() else steps(run)[-1:]:
            _say(path, found[0].relative_to(path).as_posix())
            return found[0]
    return path


@dataclass(frozen=True)
class _TrainedOn:
    dataset: str | None = None


def dataset_of(path: str | Path) -> str:
    """Name of the dataset that a checkpoint of ours was trained on. ValueError where the checkpoint does not say."""
    config = checkpoint_in(path) / "config.json"
    name = read_json(config, _TrainedOn).dataset if config.is_file() else None
    if name is None:
        raise ValueError(f"{path} does not say which dataset it was trained on: give --dataset")
    return name


@cache
def _say(run: Path, taken: str) -> None:
    """Once a process: a command asks several times."""
    log.info("%s is the folder of a training run: taking its %s", run, taken)
