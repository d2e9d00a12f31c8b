"""Names and files. Names that come from files or people are data, never paths: here a text becomes a file name. Files are written
atomically: one is either whole or not there, and a failed write leaves the old one. Locks between processes.

Whether something may be replaced at all is decided in protos/outputs.py.
"""

import csv
import ctypes
import errno
import glob
import hashlib
import io
import json
import logging
import os
import re
import shutil
import time
import unicodedata
from collections.abc import Container, Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

from protos.reading import FileError

log = logging.getLogger(__name__)

_PARTIAL = re.compile(r"\..+\.\d+\.partial(\.\w+)?")
FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)  # no room for a file: on the disk, in a quota, under a limit of its size
TORCH_FULL = ("PytorchStreamWriter", "iostream error", "inline_container")  # torch's words for what it could not write
LONGEST = 120  # characters: with a suffix and a temporary prefix it stays below the 255 bytes of every file system
# Names that Windows keeps for devices, whatever their suffix.
_DEVICES = {"con", "prn", "aux", "nul", *(f"{device}{n}" for device in ("com", "lpt") for n in range(1, 10))}


def short_hash(text: str) -> str:
    """Eight characters that tell apart files whose names would be the same."""
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:8]


def safe_name(text: str, taken: Container[str] = (), longest: int = LONGEST) -> str:
    """A file name (no folder, no suffix) for any text, unlike those in `taken`, whatever the case of their letters.

    A name that is safe as it stands is kept: letters of any language, digits, `_`, `-`, `.`, `+`, `(`, `)`, `,`, `=`, `@` and
    single spaces within. Of others the safe part is kept and a hash added, so that two of them never become the same.
    """
    plain = unicodedata.normalize("NFC", text)
    kept = re.sub(r"[^\w\-.+(),=@ ]", "-", plain)
    kept = re.sub(r" +", " ", kept).strip(" .-") if kept != text or kept != kept.strip(" .") else kept
    kept = kept.encode("utf-8", "ignore").decode().lstrip(".-")
    if len(kept.encode()) > longest:
        kept = kept.encode()[: longest - 9].decode("utf-8", "ignore").rstrip(" .")
    name = kept or "unnamed"
    if name != text or name.split(".")[0].lower() in _DEVICES:
        name = f"{name}-{short_hash(text)}"
    number = 2
    unique = name
    while unique.lower() in taken or unique in taken:
        unique, number = f"{name}-{number}", number + 1
    return unique


def file_name(text: str, longest: int = 48) -> str:
    """A short file name for a text of people: lower-case words joined by '-', never a path; other texts may have the same."""
    plain = unicodedata.normalize("NFKD", text).encode("ascii", "ignore").decode().lower()
    name = ""
    for word in re.findall(r"[a-z0-9]+", plain):
        if name and len(name) + 1 + len(word) > longest:
            break
        name = f"{name}-{word[:longest]}" if name else word[:longest]
    return name or "prompt"


def inside(folder: Path, name: str, reading: bool = False) -> Path:
    """The path of `name` (it may have `/` in it) inside `folder`, links followed. FileError where it leads out of it.

    reading: links are not followed, since those in a folder that is only read are its owner's (datasets kept as links).
    """
    folder = Path(folder)
    path = folder / name
    # Lexically first: on a name such as "a/../../b" the folder a need not exist.
    if leads_out(name) or not (reading or _is_within(os.path.realpath(path), os.path.realpath(folder))):
        raise FileError(f"{folder}: the name {shown(name)} leads out of this folder: not used")
    return path


def _is_within(path: str, folder: str) -> bool:
    return path.startswith(folder.rstrip(os.sep) + os.sep)


def leads_out(name: str) -> bool:
    """Whether a name, by itself, leads out of any folder or is none of a file; `inside` also follows links."""
    lexical = os.path.normpath(name)
    return bool(
        not name or lexical == "." or lexical.split(os.sep)[0] == ".." or os.path.isabs(name)
        or re.match(r"[A-Za-z]:|\\", name) or "\0" in name
    )  # fmt: skip


def printable(text: str) -> str:
    """A text from a file as it may be printed: a space for each line end, control character and half of a pair."""
    return "".join(letter if letter.isprintable() else " " for letter in text)


def shown(text: object, longest: int = 60) -> str:
    """A text from a file as errors show it: quoted, control characters escaped, cut."""
    quoted = repr(str(text))
    return quoted if len(quoted) <= longest else f"{quoted[: longest - 2]}…'"


# ------------------------------------------------------------------------------------------------------------ whole or not there


def file_digest(path: str | Path, kind: str = "sha256") -> str:
    """Hexadecimal sha256, or another digest that hashlib knows, of a file's bytes."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, kind).hexdigest()


def is_partial(name: str) -> bool:
    """Whether a file or folder of this name is one that we were writing; a killed process leaves it behind."""
    return _PARTIAL.fullmatch(name) is not None


@contextmanager
def naming(path: Path, temporary: Path | None = None) -> Iterator[None]:
    """Says in an error of a full disk which file it is: the system does not, numpy and torch not even what is wrong.

    temporary: a name by which others know what becomes `path`.
    """
    try:
        yield
    except OSError as error:
        if error.errno is None and "requested and" in str(error):  # numpy's, of an array
            raise no_room(path) from error
        if error.filename is None and error.errno in FULL:
            error.filename = str(path)
        elif temporary is not None and str(error.filename).startswith(str(temporary)):
            error.filename = f"{path}{str(error.filename).removeprefix(str(temporary))}"
        raise
    except RuntimeError as error:
        if any(word in str(error) for word in TORCH_FULL):
            raise no_room(path) from error
        raise


def no_room(path: Path) -> OSError:
    """What is raised where a file could not be written whole, for whoever is told no more than that."""
    return OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))


@contextmanager
def atomic_path(path: Path) -> Iterator[Path]:
    """A temporary path beside `path`, renamed to it on success and removed on failure. Makes the parent folders."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.stem}.{os.getpid()}.partial{path.suffix}")
    _note_written(path.parent)
    try:
        with naming(path, temporary):
            yield temporary
            os.replace(temporary, path)
        _note_written(path)
    finally:
        temporary.unlink(missing_ok=True)


_runs: list[list[Path]] = []  # of every run_folder that is being filled, what has been written since


def _note_written(path: Path) -> None:
    for written in _runs:
        written.append(path)


@contextmanager
def atomic_file(path: Path) -> Iterator[BinaryIO]:
    """As `atomic_path`, opened for binary writing and flushed to disk before the rename."""
    with atomic_path(path) as temporary, open(temporary, "wb") as file:
        yield file
        file.flush()
        os.fsync(file.fileno())


def write_atomically(path: Path, content: str | bytes) -> None:
    """Writes text or bytes to a file, whole or not at all; its folders are made. Text becomes UTF-8: bytes of file names that are
    none are told as \\udcff."""
    with atomic_file(path) as file:
        file.write(content.encode("utf-8", "backslashreplace") if isinstance(content, str) else content)


def encode_csv(columns: Iterable[str], rows: Iterable[Iterable[object]]) -> str:
    """Comma-separated text, a line of names first."""
    text = io.StringIO()
    csv.writer(text).writerows([columns, *rows])
    return text.getvalue()


def encode_json(content: object, name: str, indent: int | None = 1) -> str:
    """JSON text with a final line end; numbers of numpy and paths are made plain.

    ValueError naming the file where a number is NaN or infinite: JSON has none.
    """
    try:
        separators = (",", ":") if indent is None else None
        return json.dumps(content, indent=indent, allow_nan=False, separators=separators, default=_plain) + "\n"
    except ValueError:
        raise ValueError(f"{name}: not written, it would hold NaN or infinite numbers") from None


def _plain(value: object) -> object:
    if hasattr(value, "item"):  # of numpy
        return value.item()
    if isinstance(value, Path):
        return str(value)
    raise TypeError(f"{type(value).__name__} cannot be written as JSON")


def numbered_folder(wanted: Path) -> Path:
    """Makes and returns `wanted`, or `wanted_2`, `wanted_3`, ... where it exists: nothing is ever overwritten.

    Raises NotADirectoryError when a part of the path is a file, OSError when it cannot be made.
    """
    for parent in wanted.parents:
        if parent.exists() and not parent.is_dir():
            raise NotADirectoryError(f"{wanted}: {parent} is a file, not a folder; give another --output_dir")
    folder, number = wanted, 1
    while True:
        try:
            folder.mkdir(parents=True)
        except FileExistsError:
            number += 1
            folder = wanted.with_name(f"{wanted.name}_{number}")
        else:
            if number > 1:
                log.info("%s exists: writing to %s", wanted, folder)
            return folder


@contextmanager
def run_folder(wanted: Path) -> Iterator[Path]:
    """`numbered_folder`, which is removed again where the run fails, with the files that `atomic_path` has written there. What
    somebody else has put into it meanwhile stays, and the folder with it."""
    folder = numbered_folder(wanted)
    written = [folder]
    _runs.append(written)
    try:
        yield folder
    except BaseException:
        for path in reversed(written):
            if path == folder or path.is_relative_to(folder):
                with suppress(OSError):  # a folder that others' files lie in, or that is gone already
                    path.rmdir() if path.is_dir() else path.unlink()
        raise
    finally:
        _runs.remove(written)


@contextmanager
def atomic_folder(path: Path) -> Iterator[Path]:
    """An empty temporary folder beside `path`, renamed to it on success and removed on failure.

    A folder that is already at `path` is replaced: the caller has made sure that it is ours (protos/outputs.py). At every
    moment, also of a kill, the old folder or the new one is there, whole; `recover_folder` undoes a kill between two renames
    on systems that cannot exchange two folders.
    """
    path = Path(path)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.partial")
    shutil.rmtree(temporary, ignore_errors=True)
    recover_folder(path)
    _remove_unfinished(path)
    temporary.mkdir(parents=True)
    try:
        with naming(path, temporary):
            yield temporary
            for file in filter(Path.is_file, temporary.rglob("*")):
                with open(file, "rb") as handle:
                    os.fsync(handle.fileno())
            if not path.exists():
                os.replace(temporary, path)
            elif not _exchange(temporary, path):
                _swap(temporary, path)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)  # the unfinished folder, or the one that was replaced


def _remove_unfinished(path: Path) -> None:
    """Removes unfinished folders for `path` that no process of this machine writes and that were left over an hour ago."""
    for left in path.parent.glob(f".{glob.escape(path.name)}.*.partial"):
        process = left.name.split(".")[-2]
        newest = max((each.stat().st_mtime for each in (left, *left.rglob("*"))), default=0.0)
        if is_partial(left.name) and time.time() - newest > 3600 and not Path(f"/proc/{process}").exists():
            shutil.rmtree(left, ignore_errors=True)


def recover_folder(path: Path) -> None:
    """Puts back the folder that a killed process had moved aside, where its replacement never came."""
    for aside in sorted(path.parent.glob(f".{glob.escape(path.name)}.*.replaced")):
        if path.exists():
            shutil.rmtree(aside, ignore_errors=True)
        else:
            os.rename(aside, path)


def _exchange(one: Path, other: Path) -> bool:
    """Exchanges two folders in one step (Linux). False where the system or its file system cannot."""
    try:
        renameat2 = ctypes.CDLL(None, use_errno=True).renameat2
    except (OSError, AttributeError, TypeError):
        return False
    here, exchange = -100, 2  # AT_FDCWD, RENAME_EXCHANGE
    return renameat2(here, os.fsencode(one), here, os.fsencode(other), exchange) == 0


def _swap(new: Path, old: Path) -> None:
    """The same in three steps, each of which is undone where the next one fails."""
    aside = old.with_name(f".{old.name}.{os.getpid()}.replaced")
    os.rename(old, aside)
    try:
        os.rename(new, old)
    except BaseException:
        os.rename(aside, old)
        raise
    os.rename(aside, new)


class InUse(RuntimeError):
    """Another process holds a lock."""


@contextmanager
def file_lock(path: Path, what: str, *, wait: bool = True) -> Iterator[None]:
    """Keeps other processes from what holds the same lock: a folder, or a file, which stays behind, empty.

    Waits for them, and says so; without `wait` raises InUse. The system gives the lock back when its process ends, however that
    ends. Where locks are not to be had there is none.
    """
    try:
        import fcntl
    except ImportError:  # not on Windows
        yield
        return
    held = os.open(path, os.O_RDONLY) if path.is_dir() else os.open(path, os.O_WRONLY | os.O_CREAT, 0o666)
    try:
        try:
            fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if not wait:
                raise InUse(f"another process writes {what}") from None
            log.info("waiting for another process that writes %s", what)
            fcntl.flock(held, fcntl.LOCK_EX)
        except OSError as error:  # some network file systems
            log.warning("%s cannot be locked here (%s): let one process at a time write it", what, error.strerror)
        yield
    finally:
        os.close(held)
