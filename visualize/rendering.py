"""Motion files and folders of them, read one by one, and written under names of their own."""

import logging
from collections.abc import Sequence
from pathlib import Path

from tqdm import tqdm

from data_loaders.corpus import Motion
from data_loaders.motion_features import SUFFIXES, motion_files, read_whole
from data_loaders.motion_files import motions_in, named_row
from data_loaders.sources import Reading
from protos.files import safe_name
from protos.options import one_line
from protos.reading import FileError
from visualize.formats import FileSettings
from visualize.writing import ready, require_formats, write_all

log = logging.getLogger(__name__)


def found_motions(places: Sequence[Path]) -> dict[Path, str]:
    """Each motion of files and folders (`motions.npz#0`, …) once, with a name for what it becomes. FileError where a place holds
    none."""
    names: dict[Path, str] = {}
    for place in places:
        unreadable: dict[str, str] = {}
        found = motions_in(motion_files(place, unreadable) if place.is_dir() else [place] if place.is_file() else []) or [place]
        for folder, why in unreadable.items():
            log.warning("%s is left out: %s", folder, why)
        if found == [place] and place.is_dir():
            raise FileError(f"{place}: no motion file; expected {', '.join(SUFFIXES)}")
        for path in found:
            file, row = named_row(path)
            inner = file.relative_to(place).with_suffix("").parts if place.is_dir() else (file.stem,)
            name = "_".join(inner) + ("" if row is None else f"_{row}")
            names.setdefault(path, safe_name(name, [other.lower() for other in names.values()]))
    return names


def read_all(motions: dict[Path, str], reading: Reading, formats: Sequence[str], settings: FileSettings) -> dict[str, Motion]:
    """The motions by their names, `ready` to be written in these formats; of several those that cannot be are named and left out.
    ValueError or OSError where none can."""
    found: dict[str, Motion] = {}
    problems: list[ValueError | OSError] = []
    for path, name in motions.items():
        try:
            motion = read_whole(path, reading)
            require_formats(motion.skeleton, formats, settings.body, str(path))
            found[name] = ready(motion, settings)
        except (ValueError, OSError) as error:
            problems.append(error)
    if not found:
        raise problems[0]
    for error in problems:
        log.warning("left out: %s", one_line(error))
    if problems:
        log.warning("%d of %d motions are left out", len(problems), len(motions))
    return found


def apart(motions: dict[str, Motion]) -> dict[str, Motion]:
    """The motions by names whose files do not meet: those of several people are also NAME_p1, NAME_p2, which may be the name of
    another."""
    named: dict[str, Motion] = {}
    taken: set[str] = set()
    for name, motion in motions.items():
        number, own = 1, name
        while taken & (files := {own.lower(), *(f"{own}_p{i}".lower() for i in range(1, len(motion.joints) + 1))}):
            number += 1
            own = f"{name}-{number}"
        taken |= files if len(motion.joints) > 1 else {own.lower()}
        named[own] = motion
    return named


def write_named(folder: Path, motions: dict[str, Motion], formats: Sequence[str], settings: FileSettings,
                workers: int = 0) -> list[Path]:  # fmt: skip
    """Writes each motion, which is `ready`, into a folder as the settings want it, and returns the files."""
    jobs = [(folder / name, motion) for name, motion in apart(motions).items()]
    bar = tqdm(write_all(jobs, formats, settings, workers), total=len(jobs), desc="writing", unit="motion",
               disable=None if len(jobs) > 4 else True)  # fmt: skip
    return [file for written in bar for file in written]
