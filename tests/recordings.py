"""Folders of recordings, and what becomes of them."""

import io
from pathlib import Path

import numpy as np

from data_loaders.read_recordings import PreparationSettings
from tests.synthetic import walk


def options(source: Path, output: Path, **changes) -> PreparationSettings:
    return PreparationSettings(changes.pop("kind", "joints"), source, output, workers=changes.pop("workers", 1), **changes)


def record(folder: Path, name: str, text: str | None = "a person walks", frames: int = 40, speed: float = 1.0) -> None:
    """A recording with a caption beside it."""
    path = folder / f"{name}.npy"
    path.parent.mkdir(parents=True, exist_ok=True)
    np.save(path, walk(frames, speed).astype(np.float32))
    if text is not None:
        path.with_suffix(".txt").write_text(text + "\n", encoding="utf-8")


def npy(joints: np.ndarray) -> bytes:
    stream = io.BytesIO()
    np.save(stream, joints.astype(np.float32))
    return stream.getvalue()


def train_on(folder: Path, *names: str) -> None:
    (folder / "train.txt").write_text("".join(f"{name}\n" for name in names))


def report(folder: Path) -> list[str]:
    return (folder / "report.txt").read_text(encoding="utf-8").splitlines()


def contents(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def two_recordings(folder: Path) -> Path:
    """Two recordings in the train split."""
    record(folder, "one")
    record(folder, "two", speed=0.5)
    train_on(folder, "one", "two")
    return folder
