"""Archives: what is in a zip or tar, read or unpacked within bounds, and never outside the folder it is unpacked to."""

import lzma
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO, NamedTuple

from protos.files import inside, shown
from protos.reading import FileError, first_line, refuse_other_formats, size

SUFFIXES = (".zip", ".tar", ".tar.gz", ".tgz", ".tar.xz", ".txz", ".tar.bz2")
MOST_MEMBERS = 500_000
MOST_BYTES = 64 << 30  # unpacked; HumanML3D with its joints takes 7 GB
MOST_MEMBER = 8 << 30
_DAMAGE = (zipfile.BadZipFile, tarfile.TarError, zlib.error, lzma.LZMAError, EOFError, NotImplementedError, RuntimeError, OSError)


class Member(NamedTuple):
    """A file in an archive: its name as written there, its size unpacked, and how to open it."""

    name: str
    size: int
    open: Callable[[], BinaryIO]


def is_archive(path: str | Path) -> bool:
    """Whether a file's name says that it is an archive that can be unpacked here."""
    return Path(path).name.lower().endswith(SUFFIXES)


@contextmanager
def explained(path: Path) -> Iterator[None]:
    """Damage to the archive, however its library puts it, as a FileError that names the archive."""
    try:
        yield
    except _DAMAGE as error:
        if getattr(error, "filename", None) is not None or getattr(error, "errno", None) is not None:
            raise  # of the file system
        raise FileError(f"{path}: a damaged or incomplete archive ({first_line(error)}): get it again") from error


def members(path: Path, most: int = MOST_BYTES) -> Iterator[Member]:
    """The files in an archive in its order, to be opened while the iteration stands at them; links and devices are passed over.

    FileError for damage, for more members or bytes than can be meant, and for one that is larger than it says.
    """
    path = Path(path)
    refuse_other_formats(path)
    total = 0
    with explained(path):
        for count, member in enumerate(_zip_members(path) if path.suffix.lower() == ".zip" else _tar_members(path)):
            total += member.size
            if count >= MOST_MEMBERS or total > most or member.size > MOST_MEMBER:
                raise FileError(f"{path}: unpacks to more than {MOST_MEMBERS} files or {size(most)}: refused")
            yield member


def read_member(member: Member, archive: Path, most: int) -> bytes:
    """The bytes of a file in an archive, at most `most`."""
    if member.size > most:
        raise FileError(f"{archive}, {shown(member.name)}: {size(member.size)}, more than the {size(most)} expected")
    with explained(archive), member.open() as file:
        data = file.read(most + 1)
    if len(data) != member.size:
        raise FileError(f"{archive}, {shown(member.name)}: holds another size than it states: a damaged archive")
    return data


def unpack(path: Path, folder: Path, most: int = MOST_BYTES) -> list[Path]:
    """Unpacks an archive into `folder`, where nothing that exists is replaced; the paths written. FileError as in `members`."""
    written = []
    for member in members(path, most):
        target = inside(folder, member.name)
        target.parent.mkdir(parents=True, exist_ok=True)
        if target.exists():
            raise FileError(f"{path}: {target} is there already: not replaced")
        left = member.size
        with explained(path), member.open() as file, open(target, "xb") as out:
            while part := file.read(1 << 20):
                left -= len(part)
                if left < 0:
                    break
                out.write(part)
        if left:
            raise FileError(f"{path}, {shown(member.name)}: holds another size than it states: a damaged archive")
        written.append(target)
    return written


def _zip_members(path: Path) -> Iterator[Member]:
    with zipfile.ZipFile(path) as archive:
        for info in archive.infolist():
            kind = info.external_attr >> 28  # Unix: 0xA is a link
            if not info.is_dir() and kind != 0xA:
                yield Member(info.filename, info.file_size, lambda info=info: archive.open(info))


def _tar_members(path: Path) -> Iterator[Member]:
    with tarfile.open(path) as archive:
        for info in archive:
            if info.isfile():
                yield Member(info.name, info.size, lambda info=info: archive.extractfile(info))
