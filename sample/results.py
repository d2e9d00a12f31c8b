"""The results file of a sampling run: `motions.npy`, the pickled dict users' tools read, and plain copies beside it."""

import io
import pickle
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from protos.files import atomic_file, write_atomically

# All that a pickled dict of arrays, strings and numbers needs, under numpy 1 and 2.
_ALLOWED = {
    *((f"numpy.{core}.multiarray", name) for core in ("core", "_core") for name in ("_reconstruct", "scalar")),
    *((f"numpy.{core}.numeric", "_frombuffer") for core in ("core", "_core")),
    ("numpy", "ndarray"), ("numpy", "dtype"), ("_codecs", "encode"),
}  # fmt: skip


class ResultsError(ValueError):
    """A results file is absent, damaged, or holds something else."""


@dataclass(frozen=True)
class Results:
    """motion (S·R, J, 3, T) float32 in the dataset's unit, Y up; row = repetition · num_samples + sample."""

    motion: np.ndarray
    text: list[str]
    lengths: np.ndarray
    num_samples: int
    num_repetitions: int

    def __post_init__(self):
        rows = self.num_samples * self.num_repetitions
        if self.motion.ndim != 4 or self.motion.shape[2] != 3:
            raise ResultsError(f"motion has shape {self.motion.shape}, expected (rows, joints, 3, frames)")
        if not len(self.motion) == len(self.text) == len(self.lengths) == rows:
            raise ResultsError(
                f"{len(self.motion)} motions, {len(self.text)} texts, {len(self.lengths)} lengths for "
                f"{self.num_samples} samples x {self.num_repetitions} repetitions")
        if self.lengths.size and self.lengths.max() > self.motion.shape[3]:
            raise ResultsError(f"length {self.lengths.max()} of a motion of {self.motion.shape[3]} frames")

    def joints(self, row: int) -> np.ndarray:
        """Joints (T, J, 3) of one row, cut to its length: what lies beyond is not part of the motion."""
        return self.motion[row].transpose(2, 0, 1)[: self.lengths[row]]

    def row(self, sample: int, repetition: int) -> int:
        return repetition * self.num_samples + sample


def stack(clips: list[np.ndarray], texts: list[str], num_samples: int, num_repetitions: int) -> Results:
    """Results of clips (T, J, 3) of any lengths, padded by repeating their last frame."""
    lengths = np.array([len(clip) for clip in clips], dtype=np.int64)
    longest = int(lengths.max())
    rows = [np.concatenate([clip, np.repeat(clip[-1:], longest - len(clip), axis=0)]) for clip in clips]
    motion = np.stack(rows).transpose(0, 2, 3, 1).astype(np.float32)  # (S·R, J, 3, T)
    return Results(np.ascontiguousarray(motion), list(texts), lengths, num_samples, num_repetitions)


def write_results(folder: Path, results: Results) -> Path:
    """Writes motions.npy (the dict of Results), motions.npz (the same, no pickle), motions.txt, motions_len.txt.

    Each file is complete or absent. Returns the path of motions.npy.
    """
    folder = Path(folder)
    content = {
        "motion": results.motion,
        "text": list(results.text),
        "lengths": results.lengths,
        "num_samples": results.num_samples,
        "num_repetitions": results.num_repetitions,
    }
    with atomic_file(folder / "motions.npz") as file:
        np.savez(file, **{**content, "text": np.array(results.text, dtype=np.str_)})
    lines = [" ".join(text.split()) for text in results.text]
    write_atomically(folder / "motions.txt", "".join(f"{line}\n" for line in lines))
    write_atomically(folder / "motions_len.txt", "".join(f"{int(length)}\n" for length in results.lengths))
    with atomic_file(folder / "motions.npy") as file:
        np.save(file, np.array(content, dtype=object), allow_pickle=True)
    return folder / "motions.npy"


def read_results(path: Path) -> Results:
    """Results from a folder, motions.npy or results.npy (also those of the published tools), or motions.npz.

    A pickle may hold arrays, strings and numbers; anything else is refused without being run. The published misspelling
    `num_repititions` is understood.
    """
    path = Path(path)
    if path.is_dir():
        found = [path / name for name in ("motions.npy", "results.npy", "motions.npz") if (path / name).is_file()]
        if not found:
            raise ResultsError(f"{path} holds no motions.npy, results.npy or motions.npz")
        path = found[0]
    if not path.is_file():
        raise ResultsError(f"no results file at {path}")
    content = _read_npz(path) if path.suffix == ".npz" else _read_pickled_npy(path)
    if not isinstance(content, dict) or "motion" not in content:
        raise ResultsError(f"{path} is not a results file: expected a dict with motion, text, lengths")
    motion = np.asarray(content["motion"], dtype=np.float32)
    rows = len(motion)
    repetitions = int(content.get("num_repetitions", content.get("num_repititions", 1)))
    try:
        return Results(
            motion=motion,
            text=[str(text) for text in content.get("text", [""] * rows)],
            lengths=np.asarray(content.get("lengths", [motion.shape[-1]] * rows)).astype(np.int64),
            num_samples=int(content.get("num_samples", rows // max(repetitions, 1))),
            num_repetitions=repetitions,
        )
    except ResultsError as error:
        raise ResultsError(f"{path}: {error}") from None


class _ArrayUnpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str):
        if (module, name) not in _ALLOWED:
            raise pickle.UnpicklingError(f"it holds {module}.{name}, only arrays, strings and numbers are read")
        return super().find_class(module, name)


def _read_pickled_npy(path: Path) -> object:
    try:
        with open(path, "rb") as file:
            version = np.lib.format.read_magic(file)
            header = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}
            _, _, dtype = header[version](file)
            if dtype.kind != "O":
                raise ResultsError(f"{path} holds a plain {dtype} array: expected a dict with motion, text, lengths")
            array = _ArrayUnpickler(io.BytesIO(file.read())).load()
    except ResultsError:
        raise
    except Exception as error:  # a damaged pickle fails in any way it likes
        raise ResultsError(f"{path} cannot be read: {error}") from error
    return array.item() if isinstance(array, np.ndarray) and array.size == 1 else array


def _read_npz(path: Path) -> dict:
    try:
        with np.load(path, allow_pickle=False) as file:
            return {name: file[name] for name in file.files}
    except Exception as error:  # a damaged archive fails in any way it likes
        raise ResultsError(f"{path} cannot be read: {error}") from error
