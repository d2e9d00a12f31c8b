"""What lies in a folder of recordings: every file is found, told apart and accounted for before anything is read."""

import hashlib
import os
import re
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import NamedTuple

from protos.archives import Member, is_archive, members, read_member
from protos.names import safe_name, short_hash
from protos.reading import FileError

MOST_RECORDING = 1 << 30  # bytes of a recording in an archive
SPLITS = ("train", "val", "test")
# Files beside recordings that have the suffix of one and are none: bodies and shapes of AMASS, what macOS leaves in archives.
NO_RECORDINGS = {".npz": re.compile(r"(.*_)?(shape|stagei|beta[s]?)\.npz", re.IGNORECASE)}


class Found(NamedTuple):
    """A recording: its path in the input folder (in an archive: the archive's and then its own), which is its identity."""

    file: str
    path: Path  # the file, or the archive it is in
    member: str = ""  # its name in the archive
    stamp: str = ""  # changes when the file does
    problem: str = ""  # why it cannot be read

    @property
    def stem(self) -> str:
        return PurePosixPath(self.file).stem


@dataclass
class Inventory:
    """All files of a folder: recordings, archives, files that are none of these, what cannot be read, what is there twice."""

    recordings: list[Found] = field(default_factory=list)
    archives: list[str] = field(default_factory=list)
    others: list[str] = field(default_factory=list)
    unreadable: dict[str, str] = field(default_factory=dict)  # archives and folders, with the reason
    duplicates: dict[str, str] = field(default_factory=dict)  # recordings in archives, with the file that holds the same


def survey(folder: Path, suffixes: tuple[str, ...], without: Collection[Path] = ()) -> Inventory:
    """Looks through a folder and the archives that lie in it. FileNotFoundError where there is no recording.

    without: folders that are passed over, such as an output within the input. Links to folders are not followed.
    """
    if not folder.is_dir():
        raise FileNotFoundError(f"{folder}: no such folder (--input)")
    inventory = Inventory()
    archives: list[Path] = []
    for path in _walk(folder, {each.resolve() for each in without}, inventory):
        name = _text(path.relative_to(folder).as_posix())
        if path.suffix.lower() in suffixes and not _no_recording(path.name):
            inventory.recordings.append(_loose(path, name))
        elif is_archive(path) and path.parent == folder:
            archives.append(path)
            inventory.archives.append(name)
        else:
            inventory.others.append(name)
    for path in archives:
        _look_into(path, suffixes, inventory)
    inventory.recordings.sort()
    if not inventory.recordings:
        damage = "".join(f"; {reason}" for reason in inventory.unreadable.values())
        raise FileNotFoundError(f"{folder}: holds neither {'/'.join(suffixes)} files nor archives of them{damage}")
    return inventory


def _walk(folder: Path, without: Collection[Path], inventory: Inventory) -> Iterator[Path]:
    """Every file below a folder, in the order of their names."""

    def failed(error: OSError) -> None:
        place = Path(error.filename or folder)
        name = _text(place.relative_to(folder).as_posix() if place.is_relative_to(folder) else str(place))
        inventory.unreadable[name] = f"{place}: {error.strerror or error}"

    for place, folders, files in os.walk(folder, onerror=failed):
        here = Path(place)
        folders[:] = sorted(each for each in folders if each != ".git" and (here / each).resolve() not in without)
        linked = [_text((here / each).relative_to(folder).as_posix()) for each in folders if (here / each).is_symlink()]
        inventory.others += [f"{name} (a link to a folder, not followed)" for name in linked]
        yield from (here / name for name in sorted(files))


def _text(name: str) -> str:
    """A path as text of one line: bytes that are not UTF-8 and control characters are written as escapes."""
    return re.sub(r"[\x00-\x1f\x7f]", lambda match: f"\\x{ord(match[0]):02x}", name.encode("utf-8", "backslashreplace").decode())


def _no_recording(name: str) -> bool:
    rule = NO_RECORDINGS.get(PurePosixPath(name).suffix.lower())
    return name.startswith("._") or bool(rule and rule.fullmatch(name))


def _loose(path: Path, name: str) -> Found:
    try:
        facts = path.stat()
    except OSError as error:
        return Found(name, path, problem=f"{path}: {error.strerror}")
    if not path.is_file():
        return Found(name, path, problem=f"{path}: not a regular file")
    return Found(name, path, stamp=f"{facts.st_size} {facts.st_mtime_ns}")


def _look_into(path: Path, suffixes: tuple[str, ...], inventory: Inventory) -> None:
    """Adds the recordings of an archive, but for those whose bytes are there already under the same name."""
    known: dict[str, list[Found]] = {}
    for found in inventory.recordings:
        known.setdefault(PurePosixPath(found.file).name, []).append(found)
    counts: Counter[str] = Counter()
    try:
        for member in members(path):
            file = _text(f"{path.name}/{PurePosixPath(member.name.lstrip('/'))}")
            name = PurePosixPath(member.name).name
            if PurePosixPath(name).suffix.lower() not in suffixes or _no_recording(name):
                inventory.others.append(file)
                continue
            counts[file] += 1
            if counts[file] > 1:  # an archive may hold a name twice
                inventory.duplicates[f"{file} (copy {counts[file]})"] = file
                continue
            found, same = _member(path, file, member, known.get(name, ()))
            if same:
                inventory.duplicates[file] = same
            else:
                inventory.recordings.append(found)
    except FileError as error:
        inventory.unreadable[path.name] = str(error)


def _member(archive: Path, file: str, member: Member, namesakes: Sequence[Found]) -> tuple[Found, str]:
    """A recording in an archive, and the file that holds the same bytes."""
    try:
        content = hashlib.sha256(read_member(member, archive, MOST_RECORDING)).hexdigest()
    except FileError as error:
        return Found(file, archive, member.name, problem=str(error)), ""
    for other in namesakes:
        if other.stamp == content or (not other.member and not other.problem and other.path.stat().st_size == member.size
                                      and _hash_of_file(other.path) == content):  # fmt: skip
            return Found(file, archive, member.name, content), other.file
    return Found(file, archive, member.name, content), ""


def _hash_of_file(path: Path) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def contents(recordings: Iterable[Found]) -> Iterator[tuple[Found, bytes | Path | str]]:
    """(recording, its bytes or path, or why there are none as text): archives are read once, in their order."""
    archived: dict[Path, dict[str, Found]] = {}
    for found in recordings:
        if found.member:
            archived.setdefault(found.path, {})[found.member] = found
        else:
            yield found, found.path
    for path, wanted in archived.items():
        try:
            for member in members(path):
                if (found := wanted.pop(member.name, None)) is not None:
                    try:
                        yield found, read_member(member, path, MOST_RECORDING)
                    except FileError as error:
                        yield found, str(error)
                if not wanted:
                    break
        except FileError as error:
            yield from ((found, str(error)) for found in wanted.values())
            continue
        yield from ((found, f"{path}: {found.member} is no longer in it") for found in wanted.values())


def recording_names(files: Sequence[str]) -> dict[str, str]:
    """A name for each recording, by its path: the file's own where no other has it, else that with its folders.

    Names are safe as file names, differ also where the case of letters does not count, and never hold "@", which marks what
    clips are made of a recording. They depend on all files together, not on their order.
    """
    stems = {file: PurePosixPath(file).stem for file in files}
    names = _unlike(stems, {})
    with_folders = {file: "_".join(PurePosixPath(file).with_suffix("").parts) for file in files if file not in names}
    names |= _unlike(with_folders, names)
    for file in files:
        if file not in names:
            names[file] = f"{with_folders[file]}-{short_hash(file)}"
    return {file: _safe(name, file) for file, name in names.items()}


def _unlike(candidates: dict[str, str], taken: dict[str, str]) -> dict[str, str]:
    """Those of the names that no other has, whatever the case of letters."""
    counts = Counter(name.casefold() for name in (*candidates.values(), *taken.values()))
    return {file: name for file, name in candidates.items() if counts[name.casefold()] == 1}


def _safe(name: str, file: str) -> str:
    plain = name.replace("@", "-")
    return safe_name(plain) if plain == name else f"{safe_name(plain)}-{short_hash(file)}"
