"""What lies in a folder of recordings: every file is found, told apart and accounted for before anything is read."""

import hashlib
import os
import re
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import NamedTuple

from protos.archives import is_archive, members, read_member
from protos.files import file_digest, safe_name, short_hash
from protos.reading import FileError

MOST_RECORDING = 1 << 30  # bytes of a recording in an archive
SPLITS = ("train", "val", "test")
# Files beside recordings that have the suffix of one and are none: bodies and shapes of AMASS, what macOS leaves in archives.
NO_RECORDING = re.compile(r"\._.*|(.*_)?(shape|stagei|beta[s]?)\.npz", re.IGNORECASE | re.DOTALL)


class RecordingFile(NamedTuple):
    """A recording: its path in the input folder (in an archive: the archive's and then its own), which is its identity."""

    file: str
    path: Path  # the file, or the archive it is in
    member: str = ""  # its name in the archive
    stamp: str = ""  # changes when the file does
    problem: str = ""  # why it cannot be read

    @property
    def stem(self) -> str:
        """Its name without folders and suffix."""
        return PurePosixPath(self.file).stem


@dataclass
class Inventory:
    """All files of a folder: recordings, archives, files that are none of these, what cannot be read, what is there twice."""

    folder: Path
    suffixes: tuple[str, ...]  # of recordings
    recordings: list[RecordingFile] = field(default_factory=list)
    archives: list[str] = field(default_factory=list)
    others: list[str] = field(default_factory=list)
    unreadable: dict[str, str] = field(default_factory=dict)  # archives and folders, with the reason
    duplicates: dict[str, str] = field(default_factory=dict)  # recordings in archives, with the file that holds the same

    def name_of(self, path: Path) -> str:
        """A path in the folder as text of one line."""
        return _text(path.relative_to(self.folder).as_posix() if path.is_relative_to(self.folder) else str(path))

    def has_recording(self, name: str) -> bool:
        """Whether a file of this name is a recording."""
        return PurePosixPath(name).suffix.lower() in self.suffixes and not NO_RECORDING.fullmatch(name)


def survey(folder: Path, suffixes: tuple[str, ...], without: Collection[Path] = ()) -> Inventory:
    """Looks through a folder and the archives that lie in it. FileNotFoundError where there is no recording.

    without: folders that are passed over, such as an output within the input. Links to folders are not followed.
    """
    if not folder.is_dir():
        raise FileNotFoundError(f"{folder}: no such folder (--input)")
    inventory = Inventory(folder, suffixes)
    archives: list[Path] = []
    for path in _walk({each.resolve() for each in without}, inventory):
        if inventory.has_recording(path.name):
            inventory.recordings.append(_loose(path, inventory.name_of(path)))
        elif is_archive(path) and path.parent == folder:
            archives.append(path)
        else:
            inventory.others.append(inventory.name_of(path))
    inventory.archives = list(map(inventory.name_of, archives))
    for path in archives:
        try:
            _look_into(path, inventory)
        except FileError as error:
            inventory.unreadable[path.name] = str(error)
    inventory.recordings.sort()
    if not inventory.recordings:
        damage = "".join(f"; {reason}" for reason in inventory.unreadable.values())
        raise FileNotFoundError(f"{folder}: holds neither {'/'.join(suffixes)} files nor archives of them{damage}")
    return inventory


def _walk(without: Collection[Path], inventory: Inventory) -> Iterator[Path]:
    """Every file below the folder, in the order of their names."""

    def failed(error: OSError) -> None:
        place = Path(error.filename or inventory.folder)
        inventory.unreadable[inventory.name_of(place)] = f"{place}: {error.strerror or error}"

    for place, folders, files in os.walk(inventory.folder, onerror=failed):
        here = Path(place)
        folders[:] = sorted(each for each in folders if each != ".git" and (here / each).resolve() not in without)
        linked = [inventory.name_of(here / each) for each in folders if (here / each).is_symlink()]
        inventory.others += [f"{name} (a link to a folder, not followed)" for name in linked]
        yield from (here / name for name in sorted(files))


def _text(name: str) -> str:
    """A path as text of one line: bytes that are not UTF-8 and control characters are written as escapes."""
    return re.sub(r"[\x00-\x1f\x7f]", lambda match: f"\\x{ord(match[0]):02x}", name.encode("utf-8", "backslashreplace").decode())


def _loose(path: Path, name: str) -> RecordingFile:
    try:
        facts = path.stat()
    except OSError as error:
        return RecordingFile(name, path, problem=f"{path}: {error.strerror}")
    if not path.is_file():
        return RecordingFile(name, path, problem=f"{path}: not a regular file")
    return RecordingFile(name, path, stamp=f"{facts.st_size} {facts.st_mtime_ns}")


def _look_into(archive: Path, inventory: Inventory) -> None:
    """Adds the recordings of an archive, but for those whose bytes are there already under the same name."""
    known: dict[str, list[RecordingFile]] = {}
    for each in inventory.recordings:
        known.setdefault(PurePosixPath(each.file).name, []).append(each)
    counts: Counter[str] = Counter()
    for member in members(archive):
        file = _text(f"{archive.name}/{PurePosixPath(member.name.lstrip('/'))}")
        name = PurePosixPath(member.name).name
        counts[file] += 1
        if not inventory.has_recording(name):
            inventory.others.append(file)
        elif counts[file] > 1:  # an archive may hold a name twice
            inventory.duplicates[f"{file} (copy {counts[file]})"] = file
        else:
            try:
                stamp = hashlib.sha256(read_member(member, archive, MOST_RECORDING)).hexdigest()
            except FileError as error:
                inventory.recordings.append(RecordingFile(file, archive, member.name, problem=str(error)))
            else:
                same = next((each.file for each in known.get(name, ()) if _holds(each, stamp, member.size)), None)
                if same is None:
                    inventory.recordings.append(RecordingFile(file, archive, member.name, stamp))
                else:
                    inventory.duplicates[file] = same


def _holds(recording: RecordingFile, content: str, size: int) -> bool:
    """Whether a recording has the bytes of this hash and size."""
    if recording.member or recording.problem or recording.path.stat().st_size != size:
        return recording.stamp == content
    return file_digest(recording.path) == content


def contents(recordings: Iterable[RecordingFile]) -> Iterator[tuple[RecordingFile, bytes | Path | str]]:
    """(recording, its bytes or path, or why there are none as text): archives are read once, in their order."""
    archived: dict[Path, dict[str, RecordingFile]] = {}
    for recording in recordings:
        if recording.member:
            archived.setdefault(recording.path, {})[recording.member] = recording
        else:
            yield recording, recording.path
    for path, wanted in archived.items():
        problem = None
        try:
            for member in members(path):
                if (recording := wanted.pop(member.name, None)) is not None:
                    try:
                        yield recording, read_member(member, path, MOST_RECORDING)
                    except FileError as error:
                        yield recording, str(error)
                if not wanted:
                    break
        except FileError as error:
            problem = str(error)
        yield from ((each, problem or f"{path}: {each.member} is no longer in it") for each in wanted.values())


def recording_names(files: Sequence[str]) -> dict[str, str]:
    """A name for each recording, by its path: the file's own where no other has it, else that with its folders.

    Names are safe as file names, differ also where the case of letters does not count, and never hold "@", which marks what
    clips are made of a recording. They depend on all files together, not on their order.
    """
    with_folders = {file: "_".join(PurePosixPath(file).with_suffix("").parts) for file in files}
    names: dict[str, str] = {}
    for candidates in ({file: PurePosixPath(file).stem for file in files}, with_folders):
        left = {file: name for file, name in candidates.items() if file not in names}
        counts = Counter(name.casefold() for name in (*left.values(), *names.values()))
        names |= {file: name for file, name in left.items() if counts[name.casefold()] == 1}
    for file in files:
        name = names.get(file, f"{with_folders[file]}-{short_hash(file)}")
        safe = safe_name(name.replace("@", "-"))
        names[file] = f"{safe}-{short_hash(file)}" if "@" in name else safe
    return names
