"""A motion of a sampling run, named as people point at it: by its video, or by the folder of the run."""

import re
from dataclasses import replace
from pathlib import Path

import numpy as np

from data_loaders.corpus import Motion
from data_loaders.motion_files import LIKELY_FPS, RESULTS, Results, named_row, read_motion, read_results, row_of
from protos.reading import FileError

RUN_VIDEO = re.compile(r"(?:prompt|sample|row)(\d{1,6})_(?:rep|col)(\d{1,6})\.(?:mp4|gif|png|html)", re.IGNORECASE)
PEOPLE_FPS = 30.0  # of two people in p1.npy and p2.npy that do not say theirs


def motion_shown(path: Path, repetition: int = 0, fps: float = LIKELY_FPS) -> tuple[Motion, str]:
    """A motion, and its name, of a run: by the video that shows it (prompt##_rep##.mp4, MDM's sample##_rep##.mp4), by the run's
    folder and a repetition of its first prompt (also the folder of p1.npy and p2.npy), or in a file as `read_motion` takes it.

    fps: of what does not say its own. FileError for what is no motion.
    """
    path, row = Path(path), None
    found = RUN_VIDEO.fullmatch(path.name)
    if path.is_dir():
        results = _people_of_folder(path) or read_results(path, fps)
        row = repetition * results.num_samples
    elif found:
        results = read_results(path.parent, fps)
        row = int(found[2]) * results.num_samples + int(found[1])
        if int(found[1]) >= results.num_samples:
            raise FileError(f"{path}: its run has prompts 00 to {results.num_samples - 1:02d}")
    elif path.suffix.lower() in (".mp4", ".gif"):
        raise FileError(f"{path}: expected a video named prompt##_rep## beside the results of its run, or joints as .npy")
    if row is not None:
        return row_of(results, path, row), path.stem if found else results.name(row)
    file, row = named_row(path)
    if not file.is_file():
        raise FileError(f"{path}: no such file")
    motion = read_motion(path, fps)
    if motion is None:
        raise FileError(f"{path}: expected joints (T, J, 3) as .npy or .npz, or the results of a run")
    return motion, file.stem if row is None else read_results(file, fps).name(row)


def _people_of_folder(folder: Path) -> Results | None:
    """Two people of p1.npy and p2.npy, as the published tool leaves them; None where there are none, or a file of both."""
    files = [folder / name for name in ("p1.npy", "p2.npy")]
    if any((folder / name).is_file() for name in RESULTS) or not all(map(Path.is_file, files)):
        return None
    one, other = (read_results(file, PEOPLE_FPS) for file in files)
    shapes = [[motion.joints.shape for motion in results.motions] for results in (one, other)]
    if shapes[0] != shapes[1]:
        raise FileError(f"{folder}: p1.npy and p2.npy hold motions of different lengths")
    pairs = zip(one.motions, other.motions)
    both = [replace(a, joints=np.concatenate([a.joints, b.joints])) for a, b in pairs]
    return Results(both, one.num_samples, f"{files[0]} or {files[1].name}")
