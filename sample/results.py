"""The results file of a sampling run: `motions.npy`, the pickled dict users' tools read, and plain copies beside it."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from data_loaders.skeleton import load_skeleton
from protos.files import atomic_file, write_atomically
from protos.pickles import read_plain_pickle
from protos.reading import FileError, read_arrays

if TYPE_CHECKING:
    from data_loaders.corpus import Motion

METRES = {"metre": 1.0, "millimetre": 0.001}  # of the units that files name
NPY_OF_OBJECTS = b"'|O'"
KEYS = ("motion", "text", "lengths", "num_samples", "num_repetitions", "num_repititions", "fps", "skeleton", "unit")


@dataclass(frozen=True)
class Results:
    """motion (S·R, J, 3, T) float32 in metres, Y up; row = repetition · num_samples + sample.

    fps and skeleton are None where a file does not say them.
    """

    motion: np.ndarray
    text: list[str]
    lengths: np.ndarray
    num_samples: int
    num_repetitions: int
    fps: float | None = None
    skeleton: str | None = None

    def __post_init__(self):
        rows = self.num_samples * self.num_repetitions
        if self.motion.ndim != 4 or self.motion.shape[2] != 3:
            raise FileError(f"motion has shape {self.motion.shape}, expected (rows, joints, 3, frames)")
        if not len(self.motion) == len(self.text) == len(self.lengths) == rows:
            raise FileError(
                f"{len(self.motion)} motions, {len(self.text)} texts, {len(self.lengths)} lengths for "
                f"{self.num_samples} samples x {self.num_repetitions} repetitions")
        if self.lengths.size and not 1 <= self.lengths.min() <= self.lengths.max() <= self.motion.shape[3]:
            found = f"lengths from {self.lengths.min()} to {self.lengths.max()}"
            raise FileError(f"{found} of motions of {self.motion.shape[3]} frames")
        if self.fps is not None and not 0.1 <= self.fps <= 10_000:
            raise FileError(f"fps is {self.fps:g}, expected 0.1 to 10000 frames per second")

    def joints(self, row: int) -> np.ndarray:
        """Joints (T, J, 3) of one row, cut to its length: what lies beyond is not part of the motion."""
        return self.motion[row].transpose(2, 0, 1)[: self.lengths[row]]

    def row(self, sample: int, repetition: int) -> int:
        return repetition * self.num_samples + sample


def stack(
    clips: list[np.ndarray], texts: list[str], num_samples: int, num_repetitions: int,
    fps: float | None = None, skeleton: str | None = None,
) -> Results:  # fmt: skip
    """Results of clips (T, J, 3) in metres of any lengths, padded by repeating their last frame."""
    lengths = np.array([len(clip) for clip in clips], dtype=np.int64)
    longest = int(lengths.max())
    rows = [np.concatenate([clip, np.repeat(clip[-1:], longest - len(clip), axis=0)]) for clip in clips]
    motion = np.stack(rows).transpose(0, 2, 3, 1).astype(np.float32)  # (S·R, J, 3, T)
    return Results(np.ascontiguousarray(motion), list(texts), lengths, num_samples, num_repetitions, fps, skeleton)


def write_results(folder: Path, results: Results) -> Path:
    """Writes motions.npy (the dict of Results), motions.npz (the same, no pickle), motions.txt, motions_len.txt.

    Beside the published entries both say `unit`, and `fps` and `skeleton` where they are known, so that whoever reads them need
    not be told. Each file is complete or absent. Returns the path of motions.npy.
    """
    folder = Path(folder)
    content = {
        "motion": results.motion,
        "text": list(results.text),
        "lengths": results.lengths,
        "num_samples": results.num_samples,
        "num_repetitions": results.num_repetitions,
        "unit": "metre",
    }
    content |= {name: value for name in ("fps", "skeleton") if (value := getattr(results, name)) is not None}
    with atomic_file(folder / "motions.npz") as file:
        np.savez(file, **{**content, "text": np.array(results.text, dtype=np.str_)})
    lines = [" ".join(text.split()) for text in results.text]
    write_atomically(folder / "motions.txt", "".join(f"{line}\n" for line in lines))
    write_atomically(folder / "motions_len.txt", "".join(f"{int(length)}\n" for length in results.lengths))
    with atomic_file(folder / "motions.npy") as file:
        np.save(file, np.array(content, dtype=object), allow_pickle=True)
    return folder / "motions.npy"


def write_motions(folder: Path, motions: "list[Motion]", texts: list[str], num_samples: int,
                  video: bool, gif: bool, html: bool) -> None:
    """Everything a sampling run leaves behind: its results, and each motion as joints/prompt##_rep##.npy (T, J, 3).

    `motions` in the order of the rows. video: prompt##_rep##.mp4, prompt##.mp4 with the repetitions side by side, prompt##.png
    as a strip; gif: prompt##_rep##.gif beside them; html: prompt##.html, a page to turn and to step through.
    """
    from tqdm import tqdm

    from visualize.video import write_gif, write_strip, write_video
    from visualize.web_viewer import write_viewer

    first, repetitions = motions[0], len(motions) // num_samples
    clips = [motion.joints[0] for motion in motions]
    write_results(folder, stack(clips, texts, num_samples, repetitions, first.fps, first.skeleton))
    names = [f"prompt{row % num_samples:02d}_rep{row // num_samples:02d}" for row in range(len(motions))]
    for name, joints in zip(names, clips):
        with atomic_file(folder / "joints" / f"{name}.npy") as file:
            np.save(file, joints)
    if video:
        bar = tqdm(motions, desc="videos", unit="video", disable=None if len(motions) > 4 else True)
        for name, motion in zip(names, bar):
            write_video(folder / f"{name}.mp4", [motion])
            if gif:
                write_gif(folder / f"{name}.gif", [motion])
    for sample in range(num_samples):
        path, row = folder / f"prompt{sample:02d}", motions[sample::num_samples]
        if video:
            if repetitions > 1:
                write_video(path.with_suffix(".mp4"), row)
            write_strip(path.with_suffix(".png"), row[0])
        if html:
            labels = [f"rep{repetition:02d}" for repetition in range(repetitions)] if repetitions > 1 else None
            write_viewer(path.with_suffix(".html"), row, labels=labels)


def read_results(path: Path) -> Results:
    """Results from a folder, motions.npy or results.npy (also those of the published tools), or motions.npz.

    A pickle may hold arrays, strings and numbers; anything else is refused without being run. The published misspelling
    `num_repititions` is understood. A file that names no unit is in that of its skeleton, as published tools write it: KIT's 21
    joints in millimetres. FileError says what is wrong.
    """
    path = Path(path)
    if path.is_dir():
        found = [path / name for name in ("motions.npz", "motions.npy", "results.npy") if (path / name).is_file()]
        if not found:
            raise FileError(f"{path} holds no motions.npy, results.npy or motions.npz")
        path = found[0]
    if not path.is_file():
        raise FileError(f"no results file at {path}")
    return results_of(read_arrays(path, only=KEYS) if path.suffix.lower() == ".npz" else _pickled_dict(path), path)


def holds_objects(path: Path) -> bool:
    """Whether a file is a .npy of Python objects, as the pickled results are."""
    return _objects_begin(path) is not None


def results_of(content: object, path: Path) -> Results:
    """Results of what a file holds, each entry checked. FileError names file and entry."""
    if not isinstance(content, dict) or "motion" not in content:
        raise FileError(f"{path} is not a results file: expected a dict with motion, text, lengths")
    # a number or text is an array without axes in a .npz
    plain = {name: each.item() if isinstance(each, np.ndarray) and each.ndim == 0 else each for name, each in content.items()}
    try:
        return _checked(plain)
    except FileError as error:
        raise FileError(f"{path}: {error}") from None


def _checked(content: dict) -> Results:
    motion = content["motion"]
    if not isinstance(motion, np.ndarray) or motion.dtype.kind not in "fiu" or motion.ndim != 4:
        raise FileError("motion: expected an array of numbers (rows, joints, 3, frames)")
    rows = len(motion)
    repetitions = _whole(content, "num_repititions" if "num_repititions" in content else "num_repetitions", 1)
    text = content.get("text", [""] * rows)
    if not isinstance(text, (list, tuple, np.ndarray)) or not all(isinstance(each, str) for each in text):
        raise FileError("text: expected a list of texts")
    lengths = np.asarray(content.get("lengths", [motion.shape[3]] * rows))
    if lengths.ndim != 1 or lengths.dtype.kind not in "iuf" or not (np.isfinite(lengths) & (lengths == lengths.round())).all():
        raise FileError("lengths: expected a whole number for each motion")
    fps, skeleton, unit = (content.get(name) for name in ("fps", "skeleton", "unit"))
    if fps is not None and (isinstance(fps, bool) or not isinstance(fps, (int, float, np.number))):
        raise FileError(f"fps: expected a number, got {fps!r:.40}")
    if not isinstance(skeleton, (str, type(None))):
        raise FileError(f"skeleton: expected a name, got {skeleton!r:.40}")
    if unit is None:
        unit = "millimetre" if motion.shape[1] == load_skeleton("kit").num_joints else "metre"
    if not isinstance(unit, str) or unit not in METRES:
        raise FileError(f"unit: expected {' or '.join(METRES)}, got {unit!r:.40}")
    with np.errstate(over="ignore"):
        metres = motion.astype(np.float32) * np.float32(METRES[unit])
    samples = _whole(content, "num_samples", rows // max(repetitions, 1))
    return Results(metres, list(map(str, text)), lengths.astype(np.int64), samples, repetitions,
                   None if fps is None else float(fps), skeleton)  # fmt: skip


def _whole(content: dict, name: str, otherwise: int) -> int:
    value = content.get(name, otherwise)
    if isinstance(value, bool) or not isinstance(value, (int, np.integer)) or not 0 <= value <= 1e9:
        raise FileError(f"{name}: expected a whole number, got {value!r:.60}")
    return int(value)


def _objects_begin(path: Path) -> int | None:
    """Where the pickle of a .npy of Python objects begins; None for a file of another kind."""
    with open(path, "rb") as file:
        start = file.read(12)
        if len(start) < 12 or start[:6] != b"\x93NUMPY":
            return None
        first = 10 if start[6] == 1 else 12  # version 1 has 2 bytes for the size of its header, later ones 4
        size = int.from_bytes(start[8:first], "little")
        file.seek(first)
        return first + size if NPY_OF_OBJECTS in file.read(min(size, 10_000)) else None


def _pickled_dict(path: Path) -> object:
    begin = _objects_begin(path)
    if begin is None:
        raise FileError(f"{path} holds no dict of motions: expected one with motion, text, lengths, as sampling writes it")
    array = read_plain_pickle(path, skip=begin)
    return array.item() if isinstance(array, np.ndarray) and array.size == 1 else array
