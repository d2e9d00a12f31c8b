"""Motions as files: what a run of `sample` leaves, and what joints are read back from.

`motions.npz` (and `motions.npy`, the pickled dict that published tools write) holds `motion` (rows, J, 3, T), of several
persons (rows, P, J, 3, T), and says `fps`, `skeleton` and `unit`; NAME.npy holds joints (T, J, 3), of several (P, T, J, 3).
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from data_loaders.corpus import Motion
from data_loaders.features import Features
from data_loaders.mocap import LIKELY_FPS, RUN_JOINTS, finite_joints, require_near
from data_loaders.skeleton import load_skeleton
from protos.files import atomic_file, write_atomically
from protos.pickles import read_plain_pickle
from protos.reading import FileError, read_array, read_arrays

METRES = {"metre": 1.0, "millimetre": 0.001}  # of the units that files name
SKELETONS = {22: "humanml", 21: "kit"}  # by the number of joints, where a file does not say its own
NPY_OF_OBJECTS = b"'|O'"
KEYS = ("motion", "text", "lengths", "num_samples", "num_repetitions", "num_repititions", "fps", "skeleton", "unit")
# Motions of a run that are written beside its results: the same once more.
RUN_COPY = re.compile(r"prompt\d+_rep\d+(_ik)?(_p\d+)?\.(bvh|npz)|.+_smpl(_params)?(_p\d+)?\.np[yz]")
RESULTS = ("motions.npz", "motions.npy", "results.npy")

if TYPE_CHECKING:
    from torch import Tensor


def motion_of(rows: "Tensor | np.ndarray", features: Features, captions: Sequence[str] = ()) -> Motion:
    """Features (T, D) in their units, or the first of their columns, from which joints are read, as joints in metres.
    FeaturesMismatch where they hold rotations only.
    """
    import torch

    x = torch.from_numpy(np.array(rows, np.float32)) if isinstance(rows, np.ndarray) else rows
    joints = features.joints(x[..., : features.read_columns] if features.persons == 1 else x)  # (T, J, 3) or (P, T, J, 3)
    people = joints.numpy()
    return Motion(people if people.ndim == 4 else people[None], features.fps, features.skeleton, tuple(captions))


# ---------------------------------------------------------------------------------------------- results of a sampling run


@dataclass(frozen=True)
class Results:
    """The motions of a sampling run; row = repetition · num_samples + sample."""

    motions: list[Motion]
    num_samples: int
    source: str = ""  # the file that holds them, which errors name

    @property
    def num_repetitions(self) -> int:
        return len(self.motions) // max(self.num_samples, 1)

    def name(self, row: int) -> str:
        """prompt##_rep##."""
        return row_name(row, self.num_samples)

    @property
    def texts(self) -> list[str]:
        return [motion.captions[0] if motion.captions else "" for motion in self.motions]


def row_name(row: int, num_samples: int) -> str:
    """prompt##_rep## of a row of a run: row = repetition · num_samples + sample."""
    return f"prompt{row % num_samples:02d}_rep{row // num_samples:02d}"


def write_results(folder: Path, motions: Sequence[Motion], num_samples: int, reaction: bool = False) -> Path:
    """Writes motions.npz, motions.txt, motions_len.txt, and motions.npy (the dict that published tools read), whose path it
    returns; of two persons also p1.npy and p2.npy, such a dict each. Shorter motions are padded with their last frame. reaction:
    what the first person does, whom the second answers, is also `action_motion` (rows, J, 3, T).

    All are of one skeleton, frame rate and number of persons. Each file is complete or absent.
    """
    first, results = motions[0], Results(list(motions), num_samples)
    lengths = np.array([motion.joints.shape[1] for motion in motions], dtype=np.int64)
    frames = np.minimum(np.arange(lengths.max()), lengths[:, None] - 1)  # (rows, T)
    joints = np.stack([motion.joints[:, chosen] for motion, chosen in zip(motions, frames)]).astype(np.float32)
    people = np.ascontiguousarray(joints.transpose(0, 1, 3, 4, 2))  # (rows, P, J, 3, T)
    persons = people.shape[1]
    content = {
        "motion": people[:, 0] if persons == 1 else people, "text": results.texts, "lengths": lengths, "num_samples": num_samples,
        "num_repetitions": results.num_repetitions, "unit": "metre", "fps": first.fps, "skeleton": first.skeleton,
    }  # fmt: skip
    if reaction:
        content["action_motion"] = np.ascontiguousarray(people[:, 0])
    with atomic_file(folder / "motions.npz") as file:
        np.savez(file, **{**content, "text": np.array(results.texts, dtype=np.str_)})
    write_atomically(folder / "motions.txt", "".join(f"{' '.join(text.split())}\n" for text in results.texts))
    write_atomically(folder / "motions_len.txt", "".join(f"{length}\n" for length in lengths))
    for person in range(persons if persons == 2 else 0):
        write_dict(folder / f"p{person + 1}.npy", {**content, "motion": np.ascontiguousarray(people[:, person])})
    return write_dict(folder / "motions.npy", content)


def write_dict(path: Path, content: dict[str, Any]) -> Path:
    """Writes a dict as published tools do, as .npy of one pickled object, whole or not at all; returns its path."""
    with atomic_file(path) as file:
        np.save(file, np.array(content, dtype=object), allow_pickle=True)
    return path


def write_joints(path: Path, motion: Motion) -> Path:
    """Writes joints (T, J, 3) in metres, of several persons (P, T, J, 3), as .npy."""
    with atomic_file(path) as file:
        np.save(file, motion.joints[0] if len(motion.joints) == 1 else motion.joints)
    return path


def read_results(path: Path, fps: float = LIKELY_FPS) -> Results:
    """Results from a folder, motions.npy or results.npy (also those of the published tools), or motions.npz.

    A pickle may hold arrays, strings and numbers; anything else is refused without being run. The published misspelling
    `num_repititions` is understood. fps: of a file that does not say its own; one that names no unit is in that of its
    skeleton, as published tools write it: KIT's 21 joints in millimetres. FileError says what is wrong.
    """
    path = Path(path)
    if path.is_dir():
        found = [path / name for name in RESULTS if (path / name).is_file()]
        if not found:
            raise FileError(f"{path} holds no {', '.join(RESULTS[:-1])} or {RESULTS[-1]}")
        path = found[0]
    if not path.is_file():
        raise FileError(f"no results file at {path}")
    return _results_of(read_arrays(path, only=KEYS) if path.suffix.lower() == ".npz" else _pickled_dict(path), path, fps)


def _results_of(content: object, path: Path, fps: float) -> Results:
    """Results from the entries of a file. FileError, naming the file, where they are not what they should be."""
    if not isinstance(content, dict) or "motion" not in content:
        raise FileError(f"{path} is not a results file: expected a dict with motion, text, lengths")
    try:
        found = _checked({name: value.item() if isinstance(value, np.ndarray) and value.ndim == 0 else value
                          for name, value in content.items()}, fps)  # fmt: skip
    except FileError as error:
        raise FileError(f"{path}: {error}") from None
    return replace(found, source=str(path))


def _checked(content: dict[str, Any], fps: float) -> Results:
    motion = content["motion"]
    numbers = isinstance(motion, np.ndarray) and motion.dtype.kind in "fiu"
    if not numbers or motion.ndim not in (4, 5) or motion.shape[-2] != 3:
        raise FileError("motion: expected an array of numbers (rows, joints, 3, frames), or (rows, persons, joints, 3, frames)")
    people = motion if motion.ndim == 5 else motion[:, None]  # (rows, P, J, 3, T)
    rows, longest = len(people), people.shape[-1]
    text = content.get("text", [""] * rows)
    if not isinstance(text, (list, tuple, np.ndarray)) or not all(isinstance(each, str) for each in text):
        raise FileError("text: expected a list of texts")
    lengths = np.asarray(content.get("lengths", [longest] * rows))
    if lengths.ndim != 1 or lengths.dtype.kind not in "iuf" or not (np.isfinite(lengths) & (lengths == lengths.round())).all():
        raise FileError("lengths: expected a whole number for each motion")
    if lengths.size and not 1 <= lengths.min() <= lengths.max() <= longest:
        raise FileError(f"lengths from {lengths.min():g} to {lengths.max():g} of motions of {longest} frames")
    content = {name: value for name, value in content.items() if value is not None}
    of_kit = people.shape[2] == load_skeleton("kit").num_joints
    own, scale, skeleton = _stated(content, people.shape[2], fps, "millimetre" if of_kit else "metre")
    repetitions = _whole(content, "num_repititions" if "num_repititions" in content else "num_repetitions", 1)
    samples = _whole(content, "num_samples", rows // max(repetitions, 1))
    if not rows == len(text) == len(lengths) == samples * repetitions:
        raise FileError(f"{rows} motions, {len(text)} texts, {len(lengths)} lengths for {samples} samples x {repetitions} "
                        "repetitions")  # fmt: skip
    with np.errstate(over="ignore"):
        metres = people.transpose(0, 1, 4, 2, 3).astype(np.float32) * scale  # (rows, P, T, J, 3)
    made = zip(metres, lengths.astype(int), text)
    return Results([Motion(joints[:, :n], own, skeleton, (str(words),)) for joints, n, words in made], samples)


def _stated(content: dict[str, Any], num_joints: int, fps: float, unit: str) -> tuple[float, np.float32, str]:
    """Frames per second, metres per unit and skeleton that a file states; fps and unit where it does not. FileError."""
    own, unit = content.get("fps", fps), content.get("unit", unit)
    skeleton = content.get("skeleton", SKELETONS.get(num_joints, ""))
    if isinstance(own, bool) or not isinstance(own, (int, float, np.number)):
        raise FileError(f"fps: expected a number, got {own!r:.40}")
    if not 0.1 <= own <= 10_000:
        raise FileError(f"fps is {own:g}, expected 0.1 to 10000 frames per second")
    if not isinstance(skeleton, str):
        raise FileError(f"skeleton: expected a name, got {skeleton!r:.40}")
    if not isinstance(unit, str) or unit not in METRES:
        raise FileError(f"unit: expected {' or '.join(METRES)}, got {unit!r:.40}")
    return float(own), np.float32(METRES[unit]), skeleton


def _whole(content: dict[str, Any], name: str, otherwise: int) -> int:
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


# ---------------------------------------------------------------------------------------------------- one motion of many


def named_row(path: Path) -> tuple[Path, int | None]:
    """The file, and which of its motions `motions.npz#2` names; None where the name says nothing of the kind."""
    found = re.fullmatch(r"(.+\.np[yz])#(\d{1,9})", path.name, re.IGNORECASE)
    return (path.with_name(found[1]), int(found[2])) if found and not path.exists() else (path, None)


def motions_in(files: Sequence[Path]) -> list[Path]:
    """The files, with each motion of a results file by its name (`motions.npz#0`, …), and no motion of a sampling run twice:
    it writes them to motions.npz, again to motions.npy, and each by itself, without its caption, into joints/, as BVH and npz."""
    counts = {file: len(found.motions) for file in files if (found := _readable_results(file)) is not None}
    runs = {file.parent for file in counts}
    motions: list[Path] = []
    for file in files:
        again = file.suffix.lower() == ".npy" and (
            file.with_suffix(".npz") in counts or (file.stem in ("p1", "p2") and file.with_name(RESULTS[0]) in counts)
        )
        if file in counts and not again:
            motions += [file.with_name(f"{file.name}#{row}") for row in range(counts[file])]
        elif file not in counts and not _again_of_run(file, runs):
            motions.append(file)
    return motions


def _again_of_run(file: Path, runs: set[Path]) -> bool:
    """Whether a file holds a motion of one of the runs, or the same with locked feet, once more."""
    if file.parent.name == "joints" and file.parent.parent in runs:
        return True
    return file.parent in runs and RUN_COPY.fullmatch(file.name) is not None


def _readable_results(path: Path) -> Results | None:
    try:
        return run_results(path)
    except (ValueError, OSError):  # named when it is read
        return None


def run_results(path: Path, fps: float = LIKELY_FPS) -> Results | None:
    """The results of a sampling run in a .npy or .npz file; None where it holds something else. FileError for a damaged file."""
    if path.suffix.lower() not in (".npy", ".npz"):
        return None
    stat = path.stat()
    return _run_results(path, fps, stat.st_size, stat.st_mtime_ns)


@lru_cache(maxsize=1)  # a gallery reads motion after motion of a file
def _run_results(path: Path, fps: float, size: int, changed: int) -> Results | None:
    if path.suffix.lower() == ".npy":
        return None if _objects_begin(path) is None else read_results(path, fps)
    content = read_arrays(path, only=KEYS)
    return _results_of(content, path, fps) if "motion" in content else None


def read_motion(path: Path, fps: float) -> Motion | None:
    """The motion in a file: joints in .npy or .npz, or one of a sampling run's results by its name (`motions.npz#2`). None for
    features, AMASS, BVH.

    fps: where neither the file nor the run in whose `joints/` it lies says its own. FileError for what is no motion.
    """
    file, row = named_row(path)
    results = run_results(file, fps)
    if results is not None:
        return row_of(results, path, row)
    if row is not None:
        raise FileError(f"{path}: {file.name} holds one motion, it needs no #{row}")
    if file.suffix.lower() == ".npz":
        return _motion_of_archive(file, fps)
    if file.suffix.lower() != ".npy":
        return None
    if read_array(file, kinds="fiubUSc", mmap=True).ndim == 2:
        return None
    run = file.absolute().parent.with_name(RESULTS[0])
    told = run_results(run, fps) if file.absolute().parent.name == "joints" and run.is_file() else None
    first = told.motions[0] if told and told.motions else None
    people = read_people_npy(file)
    return Motion(people, first.fps if first else fps, first.skeleton if first else SKELETONS.get(people.shape[2], ""))


def row_of(results: Results, path: Path, row: int | None) -> Motion:
    """The named motion, or the only one."""
    count = len(results.motions)
    if row is None and count != 1:
        raise FileError(f"{path}: the results file of {count} motions: name one, {path.name}#0 to #{count - 1}, or take "
                         f"{RUN_JOINTS}")  # fmt: skip
    if (row or 0) >= count:
        raise FileError(f"{path}: holds {count} motions, #0 to #{count - 1}")
    motion, name = results.motions[row or 0], results.source or str(path)
    people = _people(motion.joints, name)
    for person in people:
        require_near(person, name)
    return replace(motion, joints=people)


def _motion_of_archive(path: Path, fps: float) -> Motion | None:
    """The motion of an .npz with `joints`, perhaps `fps`, `unit`, `skeleton`; None for one of another kind."""
    content = read_arrays(path, only=("joints", "fps", "unit", "skeleton"))
    if "joints" not in content:
        return None
    people = _people(content["joints"], path)
    stated = {key: value.reshape(-1)[0].item() for key, value in content.items() if key != "joints" and value.size}
    try:
        own, scale, skeleton = _stated(stated, people.shape[2], fps, "metre")
    except FileError as error:
        raise FileError(f"{path}: {error}") from None
    return Motion(people * scale, own, skeleton)


def read_people_npy(path: Path) -> np.ndarray:
    """Joints (P, T, J, 3) float32 of a .npy with or without the first axis. FileError for what holds none."""
    return _people(read_array(path), path)


def _people(joints: np.ndarray, path: Path | str) -> np.ndarray:
    """Joints (P, T, J, 3) float32 of joints with or without the first axis."""
    if joints.dtype.kind not in "fiu" or joints.ndim not in (3, 4) or joints.shape[-1] != 3 or 0 in joints.shape:
        raise FileError(f"{path}: joints of shape {joints.shape} of {joints.dtype}, expected (T, J, 3) in metres, "
                         "or (P, T, J, 3) of several persons")  # fmt: skip
    people = joints if joints.ndim == 4 else joints[None]
    return np.stack([finite_joints(np.array(each), str(path)) for each in people])
