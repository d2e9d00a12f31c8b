"""Atomic writing: a file is either whole or not there, and a failed write leaves the old one. Locks between processes."""

import hashlib
import logging
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

log = logging.getLogger(__name__)


@contextmanager
def atomic_path(path: Path) -> Iterator[Path]:
    """A temporary path beside `path`, renamed to it on success and removed on failure. Makes the parent folders."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.stem}.{os.getpid()}.partial{path.suffix}")
    try:
        yield temporary
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


@contextmanager
def atomic_file(path: Path) -> Iterator[BinaryIO]:
    """As `atomic_path`, opened for binary writing and flushed to disk before the rename."""
    with atomic_path(path) as temporary, open(temporary, "wb") as file:
        yield file
        file.flush()
        os.fsync(file.fileno())


def write_atomically(path: Path, content: str | bytes) -> None:
    with atomic_file(path) as file:
        file.write(content.encode() if isinstance(content, str) else content)


@contextmanager
def atomic_folder(path: Path) -> Iterator[Path]:
    """An empty temporary folder beside `path`, renamed to it on success and removed on failure.

    A folder that is already at `path` is replaced: the caller vouches that the program made it.
    """
    path = Path(path)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.partial")
    replaced = path.with_name(f".{path.name}.{os.getpid()}.replaced")
    shutil.rmtree(temporary, ignore_errors=True)
    temporary.mkdir(parents=True)
    try:
        yield temporary
        for file in filter(Path.is_file, temporary.rglob("*")):
            with open(file, "rb") as handle:
                os.fsync(handle.fileno())
        if path.exists():
            os.replace(path, replaced)
        os.replace(temporary, path)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
        shutil.rmtree(replaced, ignore_errors=True)


@contextmanager
def file_lock(path: Path, what: str) -> Iterator[None]:
    """Keeps other processes from what holds the same lock; waits for them, and says so. `path` stays behind, empty.

    The system gives the lock back when its process ends, however that ends. Where locks are not to be had there is none.
    """
    try:
        import fcntl
    except ImportError:  # not on Windows
        yield
        return
    with open(path, "ab") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            log.info("waiting for another process that writes %s", what)
            fcntl.flock(file, fcntl.LOCK_EX)
        except OSError as error:  # some network file systems
            log.warning("%s cannot be locked here (%s): let one process at a time write it", what, error.strerror)
        yield


def short_hash(text: str) -> str:
    """Eight characters that tell apart files whose names would be the same."""
    return hashlib.sha256(text.encode()).hexdigest()[:8]
