"""What may be written, replaced or removed: the one place that decides it.

A folder that a command writes holds `manifest.json`, which lists each file that we wrote there. What is in a folder and not
listed belongs to somebody else: it is never replaced and never removed. What is listed may be, by the run that goes on with
the folder, or with --overwrite. A file is listed before it is written, so that a killed run leaves nothing unclaimed.
"""

import logging
import os
import shutil
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import BinaryIO

from protos.files import atomic_file, atomic_folder, encode_json, inside, is_partial, leads_out, shown, write_atomically
from protos.reading import FileError, read_json

MANIFEST = "manifest.json"
VERSION = 1

# Names that an earlier version, without manifests, wrote into such a folder, or what tells them for one folder.
Earlier = Iterable[str] | Callable[[Path], Iterable[str]]

log = logging.getLogger(__name__)


def written_earlier(names: Iterable[str], *always: str) -> Callable[[Path], Iterable[str]]:
    """For `earlier`: the names that a version without manifests wrote, in folders where those that it `always` wrote lie."""
    return lambda folder: names if all((folder / name).is_file() for name in always) else ()


class OutputError(FileError):
    """Something is in the way that this run did not write; the message says what and what to do."""


@dataclass(frozen=True)
class Manifest:
    """The files that we wrote into a folder, by their names in it, and what they are together ('dataset', 'checkpoint', …)."""

    what: str
    files: tuple[str, ...]
    made_by: str = "moveo"
    version: int = VERSION


class Outputs:
    """The files of a folder that this run may write, under their names in it ('new_joints/a.npy')."""

    def __init__(
        self,
        folder: str | Path,
        what: str,
        *,
        overwrite: bool = False,
        going_on: bool = False,
        earlier: Earlier = (),
        flag: str = "--output",
    ):
        """what: what the folder becomes, in a word. going_on: its listed files may be replaced without --overwrite.

        earlier: names of the files that a version without manifests wrote into such a folder; they are ours if the folder holds
        nothing else. OutputError where the folder holds an earlier result that may not be replaced, or is a file.
        """
        self.folder, self.what, self.flag = Path(folder), what, flag
        for parent in (self.folder, *self.folder.parents):
            if parent.exists() and not parent.is_dir():
                raise OutputError(f"{parent} is a file, expected a folder: give another {flag}")
        self.earlier: set[str] = set()
        self.listed = self._owned(earlier)
        there = [name for name in sorted(self.listed) if os.path.lexists(self.folder / name)]
        if there and not (overwrite or going_on):
            raise OutputError(f"{self.folder} holds a {what} of an earlier run ({there[0]}, …): add --overwrite to replace it, "
                              f"or give another {flag}")
        self.found_before = frozenset(there)

    def _owned(self, earlier: Earlier) -> set[str]:
        path = self.folder / MANIFEST
        self._seen = _stamp(path)
        if path.is_file():
            manifest = read_manifest(path)
            if manifest is None:
                raise OutputError(f"{path} was not written by this program: give another {self.flag}")
            if manifest.what != self.what:
                raise OutputError(f"{self.folder} holds a {manifest.what}, not a {self.what} ({MANIFEST}): "
                                  f"give another {self.flag}")
            return set(manifest.files)
        self.earlier = names = set(earlier(self.folder) if callable(earlier) else earlier)
        found = files_in(self.folder)
        return found if found and found <= names else set()

    def claim(self, *names: str) -> list[Path]:
        """Paths of files about to be written, after they were listed. OutputError where one is there and not ours."""
        paths = [inside(self.folder, name) for name in names]
        self.listed |= self._listed_since()
        new = [name for name in dict.fromkeys(names) if name not in self.listed]
        for name in new:
            if os.path.lexists(self.folder / name):
                raise OutputError(f"{self.folder / name} is there already and was not written by this program: "
                                  f"move it away or give another {self.flag}")
        if new or not (self.folder / MANIFEST).is_file():
            self.listed.update(new)
            self._save()
        return paths

    def path(self, name: str) -> Path:
        """Path of a file of ours, for a writer that is atomic by itself; its folder is made."""
        (path,) = self.claim(name)
        path.parent.mkdir(parents=True, exist_ok=True)
        return path

    @contextmanager
    def file(self, name: str) -> Iterator[BinaryIO]:
        """A file of ours opened for binary writing: whole or not there."""
        with atomic_file(self.path(name)) as file:
            yield file

    def write(self, name: str, content: str | bytes) -> Path:
        """Writes a file of ours, whole or not at all."""
        path = self.path(name)
        write_atomically(path, content)
        return path

    def write_json(self, name: str, content: object, indent: int | None = 1) -> Path:
        """Writes a JSON file of ours. ValueError where it would hold NaN or infinity, which JSON cannot say."""
        return self.write(name, encode_json(content, str(self.folder / name), indent))

    def remove(self, *names: str) -> None:
        """Removes files of ours, and folders that this leaves empty. Names that are not listed are left alone."""
        gone = [name for name in names if name in self.listed]
        for name in gone:
            path = inside(self.folder, name)
            path.unlink(missing_ok=True)
            _remove_empty(path.parent, self.folder)
        if gone:
            self.listed.difference_update(gone)
            self._save(gone)

    def clear(self) -> None:
        """Removes all that earlier runs of ours listed: what --overwrite asks for."""
        self.remove(*self.listed)

    def adopt(self, *names: str) -> None:
        """Lists files that an earlier version wrote among others: the caller has seen by what they hold that they are ours."""
        self.listed.update(names)
        self._save()

    def _save(self, gone: Iterable[str] = ()) -> None:
        self.listed |= self._listed_since() - {*gone}
        write_manifest(self.folder, self.what, self.listed)
        self._seen = _stamp(self.folder / MANIFEST)

    def _listed_since(self) -> set[str]:
        """Names that another run has listed since this one looked: two may write different files of one folder."""
        path, seen = self.folder / MANIFEST, self._seen
        self._seen = _stamp(path)
        if self._seen in (None, seen):
            return set()
        manifest = read_manifest(path)
        return set(manifest.files) if manifest and manifest.what == self.what else set()


def _stamp(path: Path) -> tuple[int, int] | None:
    """What differs after a file was written anew; None where there is none."""
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_ino, found.st_mtime_ns


def write_manifest(folder: Path, what: str, names: Iterable[str]) -> None:
    """Says in a folder which of its files are ours, and what they are together."""
    write_atomically(folder / MANIFEST, encode_json(asdict(Manifest(what, tuple(sorted(names)))), MANIFEST))


def read_manifest(path: Path) -> Manifest | None:
    """The manifest in a file; None for a file of that name that is somebody else's. FileError where it is ours and damaged."""
    content = read_json(path)
    if not isinstance(content, dict) or content.get("made_by") != "moveo":
        return None
    manifest = read_json(path, Manifest)
    if manifest.version > VERSION:
        raise FileError(f"{path}: written by a newer version of this program")
    for name in manifest.files:
        if leads_out(name):  # links are looked at when a file is written or removed
            raise FileError(f"{path}: the name {shown(name)} leads out of its folder: not used")
    return manifest


def files_in(folder: Path) -> set[str]:
    """Names of all files in a folder and its folders (links are not followed); those we make while writing are left out."""
    found = set()
    for place, folders, names in os.walk(folder):
        folders[:] = [name for name in folders if not is_partial(name)]
        for name in (*names, *(name for name in folders if os.path.islink(os.path.join(place, name)))):
            if not is_partial(name):
                found.add((Path(place) / name).relative_to(folder).as_posix())
    return found


@contextmanager
def new_folder(
    path: str | Path, what: str, *, overwrite: bool = False, earlier: Earlier = (), flag: str = "--output",
    later: Iterable[str] = (),
) -> Iterator[Path]:  # fmt: skip
    """A temporary folder that becomes `path`, with a manifest of the files in it: whole, or not there. later: names of files that
    a program in it writes there when it is run, which are ours too.

    A folder at `path` is replaced only with `overwrite` and where all it holds is listed by its manifest (or, without one, is
    among `earlier`, the names that an earlier version wrote); OutputError otherwise.
    """
    path = Path(path)
    require_replaceable(path, what, overwrite=overwrite, earlier=earlier, flag=flag)
    with atomic_folder(path) as temporary:
        yield temporary
        write_manifest(temporary, what, {*files_in(temporary), *later} - {MANIFEST})


def require_replaceable(path: Path, what: str, *, overwrite: bool = False, earlier: Earlier = (), flag: str = "--output") -> None:
    """OutputError unless a whole folder may be written at `path`: it is absent, empty, or wholly ours and to be replaced."""
    if not path.exists() or (path.is_dir() and not any(path.iterdir())):
        return
    owner = Outputs(path, what, overwrite=overwrite, earlier=earlier, flag=flag)
    if others := sorted(files_in(path) - owner.listed - {MANIFEST}):
        strange = next((name for name in others if name not in owner.earlier), others[0])
        raise OutputError(f"{path} holds files that this program did not write ({strange}"
                          f"{', …' if len(others) > 1 else ''}): nothing is replaced; give another {flag}")


def remove_folder(path: Path, what: str, earlier: Earlier = (), flag: str = "--output") -> None:
    """Removes a folder of ours. OutputError where it holds anything that this program did not write: then nothing is removed."""
    require_replaceable(path, what, overwrite=True, earlier=earlier, flag=flag)
    shutil.rmtree(path)


def require_new(path: str | Path | None, flag: str = "--output") -> None:
    """OutputError where a single file that a command would write is there already: whose it is cannot be known."""
    if path is not None and os.path.lexists(path):
        raise OutputError(f"{path} is there already and is not replaced: remove it or give another {flag}")


def write_new(path: Path, content: str | bytes, flag: str = "--output") -> None:
    """Writes a single file, whole or not at all; its folders are made. OutputError where there is one by now, which stays: two
    runs may have been given the same name."""
    temporary = path.with_name(f".{path.stem}.{os.getpid()}.partial{path.suffix}")
    try:
        write_atomically(temporary, content)
        try:
            os.link(temporary, path)  # which, unlike a rename, replaces nothing
        except OSError:  # that, or a file system without such links
            require_new(path, flag)
            os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def _remove_empty(folder: Path, top: Path) -> None:
    """Removes a folder and those above it, up to `top` itself, as far as they are empty."""
    while folder != top and folder.is_relative_to(top):
        try:
            folder.rmdir()
        except OSError:
            return
        folder = folder.parent
