"""What a result was made from: stamps that change with data, weights and motions, so that no old result passes for a new one."""

import hashlib
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np

from evaluations.evaluation_set import EvaluationSet
from model.run_folder import checkpoint_in
from protos.outputs import MANIFEST

# What decides a network's output lies in files of these kinds; logs, cards and prompts do not.
DECIDING = (".safetensors", ".pt", ".tar", ".ckpt", ".json", ".npz", ".npy", ".yaml", ".yml")
ASIDE = (MANIFEST, "training_state.pt")


def checkpoint_stamp(path: str | Path) -> str:
    """16 characters that change with the weights, statistics or settings of a checkpoint: of all such files of a folder, or of
    a weight file and the settings beside it."""
    path = checkpoint_in(path)
    if path.is_file():
        return _stamp([path, *(each for each in path.parent.iterdir() if each.suffix in (".json", ".npy"))], path.parent)
    return _stamp((each for each in path.rglob("*") if each.suffix in DECIDING), path)


def _stamp(files: Iterable[Path], folder: Path) -> str:
    found = hashlib.sha256()
    for file in sorted({each for each in files if each.is_file() and each.name not in ASIDE}):
        with file.open("rb") as opened:
            found.update(file.relative_to(folder).as_posix().encode() + hashlib.file_digest(opened, "sha256").digest())
    return found.hexdigest()[:16]


def motions_stamp(given: EvaluationSet) -> str:
    """16 characters that change with the names, captions or frames of given motions."""
    found = hashlib.sha256()
    for entry in given.entries:
        captions = [(caption.text, caption.start, caption.end) for caption in entry.captions]
        found.update(repr((entry.name, captions, entry.motion.shape)).encode())
        found.update(entry.motion.tobytes())
    return found.hexdigest()[:16]


def joints_stamp(motions: Sequence[np.ndarray]) -> str:
    """The same for motions that are judged by their joints alone."""
    found = hashlib.sha256()
    for joints in motions:
        found.update(repr(joints.shape).encode() + np.ascontiguousarray(joints).tobytes())
    return found.hexdigest()[:16]


def spoken(made_from: dict[str, str | None]) -> str:
    """'dataset 0123456789abcdef, evaluator …', as reports have it."""
    return ", ".join(f"{name} {stamp}" for name, stamp in made_from.items() if stamp)
