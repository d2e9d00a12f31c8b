"""python -m protos.fetch NAME ...: brings official weights and data to where this code looks for them.

Names and sources stand in protos/manifest.json; --list shows them with their licences. What is already in an entry's
folder, put there by hand or before, is taken as it is; a downloaded archive put there is unpacked. A folder appears whole
or not at all; checkpoints/fetched.json lists what was fetched, and nothing else is ever replaced.
"""

import logging
import os
import shutil
import sys
import urllib.request
from dataclasses import asdict, dataclass
from datetime import date
from pathlib import Path
from typing import Any

from tyro.conf import Positional

from protos.archives import is_archive, members, unpack
from protos.files import atomic_folder, encode_json, file_digest, inside, shown, write_atomically
from protos.official_files import official_folder, visible
from protos.options import command, run_command
from protos.outputs import files_in
from protos.reading import FileError, convert, first_line, read_json

MANIFEST = Path(__file__).with_name("manifest.json")
RECORD = Path("checkpoints/fetched.json")
TEXT_FILES = ("config.json", "tokenizer.json", "tokenizer_config.json", "vocab.json", "vocab.txt", "merges.txt",
              "special_tokens_map.json")  # fmt: skip

log = logging.getLogger(__name__)


class FetchError(ValueError):
    """A file that cannot be brought, with what to do instead."""


@dataclass(frozen=True)
class Entry:
    """One line of the manifest. `sources` are tried in order; `former` is where earlier versions put it, which still counts."""

    name: str
    what: str
    sources: tuple[dict[str, str], ...]
    place: Path
    licence: str
    note: str = ""
    former: Path | None = None

    @property
    def folder(self) -> Path:
        """Where it lies: its place, or the former one where only that holds it."""
        return official_folder(self.place, self.former) if self.former else self.place

    @property
    def contents(self) -> list[Path]:
        """What lies in the entry's folder, hidden files aside."""
        return visible(self.folder)

    @property
    def archives(self) -> list[Path]:
        """Those of its contents that are to be unpacked, or were."""
        return [path for path in self.contents if path.is_file() and is_archive(path)]

    @property
    def state(self) -> str:
        """One word for --list."""
        if self.contents:
            return "packed" if self.archives == self.contents else "here"
        return "absent" if self.sources else "by hand"


@dataclass(frozen=True)
class Seen:
    """A file in the record of what was fetched; `ours`: this program wrote it."""

    size: int
    sha256: str
    first_seen: str
    ours: bool = False


def read_manifest(path: Path = MANIFEST) -> dict[str, Entry]:
    """What can be brought, by name."""
    lines = read_json(path, dict[str, dict[str, Any]])
    return {name: convert({"name": name, **line}, Entry, f"{path}, {name}") for name, line in lines.items()}


def table(entries: dict[str, Entry]) -> str:
    """Lines of name, state, folder, what it is and its licence."""
    rows = [(e.name, e.state, str(e.folder), e.what, e.licence) for e in entries.values()]
    widths = [max(len(row[i]) for row in rows) for i in range(3)]
    return "\n".join(f"{n:{widths[0]}}  {s:{widths[1]}}  {p:{widths[2]}}  {what} [{licence}]"
                     for n, s, p, what, licence in rows)


def fetch(entry: Entry, force: bool = False) -> None:
    """Brings one entry, whole or not at all, from the first source that answers. FetchError says where to put it by hand."""
    if not force and _unpack_placed(entry):
        return
    if entry.contents and not force:
        _require_whole(entry)
        log.info("%s is already in %s", entry.name, entry.folder)
        _record(entry, {path.name: path for path in entry.contents if path.is_file()})
        return
    _require_fetched(entry)
    log.info("%s: %s. Licence: %s", entry.name, entry.what, entry.licence)
    failures = []
    for source in entry.sources:
        try:
            with atomic_folder(entry.place) as temporary:
                downloaded = DOWNLOADS[source["kind"]](entry, source, temporary)
                _record(entry, {file.name: file for file in downloaded})
                for archive in filter(is_archive, downloaded):
                    _unpack(archive, temporary, entry)
                    archive.unlink()
                _record(entry, {name: temporary / name for name in files_in(temporary)}, ours=True)
        except FetchError as error:
            raise FetchError(f"{error}{_by_hand(entry)}") from None
        except Exception as error:  # networks and their libraries fail in many ways; the next source may answer
            failures.append(f"{_address(source)}: {first_line(error)}")
            continue
        log.info("%s is in %s", entry.name, entry.place)
        return
    reason = "; ".join(failures) if failures else entry.note or "there is no published address"
    raise FetchError(f"{entry.name} was not brought ({reason}){_by_hand(entry)}")


def _unpack_placed(entry: Entry) -> bool:
    """Unpacks archives put into the folder by hand, where nothing else is there yet; they stay beside what was in them."""
    archives = entry.archives
    if not archives or archives != entry.contents:
        return False
    if others := files_in(entry.folder) - {path.name for path in archives}:
        raise FetchError(f"{entry.folder} holds {min(others)} beside its archive: move it away, and fetch again")
    _record(entry, {path.name: path for path in archives})
    with atomic_folder(entry.folder) as temporary:
        for archive in archives:
            _unpack(archive, temporary, entry)
        _record(entry, {name: temporary / name for name in files_in(temporary)}, ours=True)
        for archive in archives:
            _keep(archive, temporary / archive.name)
    for archive in archives:
        log.info("%s unpacked in %s", archive.name, entry.folder)
    return True


def _unpack(archive: Path, folder: Path, entry: Entry) -> None:
    """`protos.archives.unpack` into a folder that is to become the entry's, by whose name errors call it."""
    try:
        unpack(archive, folder)
    except FileError as error:
        raise FileError(f"{archive.name}: {str(error).replace(str(folder), str(entry.folder))}") from None


def _keep(file: Path, target: Path) -> None:
    """The same file at `target` too, without a copy where the file system can."""
    if target.exists():
        raise FetchError(f"{file} holds a file of its own name: unpack it by hand")
    try:
        os.link(file, target)
    except OSError:
        shutil.copy2(file, target)


def _require_whole(entry: Entry) -> None:
    """FetchError where an archive lies beside only a part of what is in it: an earlier run was interrupted."""
    fetched = any(seen.ours for seen in _seen().get(entry.name, {}).values())
    for archive in [] if fetched else entry.archives:
        for member in members(archive):
            file = inside(entry.folder, member.name)
            if not file.is_file() or file.stat().st_size != member.size:
                raise FetchError(f"{entry.folder} holds {archive.name} half unpacked ({shown(member.name)} is missing or cut "
                                 "short): move all but the archive away, and fetch again")


def _require_fetched(entry: Entry) -> None:
    """FetchError where the folder to be replaced holds anything but what was fetched into it, unchanged."""
    seen = _seen().get(entry.name, {})
    for name in sorted(files_in(entry.place)):
        known, path = seen.get(name), entry.place / name
        if known is None or not known.ours or path.stat().st_size != known.size or file_digest(path) != known.sha256:
            raise FetchError(f"{path} was not fetched by this program, or was changed: move it away, and fetch again")


def _drive(entry: Entry, source: dict[str, str], folder: Path) -> list[Path]:
    gdown, quiet = _extra("gdown"), not sys.stderr.isatty()
    if source["kind"] == "gdrive_folder":
        names = gdown.download_folder(id=source["id"], output=str(folder), quiet=quiet)
    else:  # a trailing slash lets it take the file's own name
        names = [gdown.download(id=source["id"], output=f"{folder}/", quiet=quiet)]
    if not names or names[0] is None:
        raise OSError("Google Drive gave nothing")
    return [_checked(Path(name), source) for name in names]


def _hugging_face(entry: Entry, source: dict[str, str], folder: Path) -> list[Path]:
    hub = _extra("huggingface_hub")
    names = set(hub.HfApi().list_repo_files(source["repository"]))
    weights = next((name for name in ("model.safetensors", "pytorch_model.bin") if name in names), None)
    if weights is None:
        raise OSError("the repository holds no weights")
    wanted = [weights, *(name for name in TEXT_FILES if name in names)]
    hub.snapshot_download(source["repository"], allow_patterns=wanted, local_dir=folder)
    return [folder / name for name in wanted]


def _url(entry: Entry, source: dict[str, str], folder: Path) -> list[Path]:
    target = folder / source["url"].rsplit("/", 1)[-1]
    with open(target, "wb") as file, urllib.request.urlopen(source["url"], timeout=60) as answer:
        shutil.copyfileobj(answer, file, 1 << 20)
    return [_checked(target, source)]


def _told(entry: Entry, source: dict[str, str], folder: Path) -> list[Path]:
    then = f"; {source['note']}" if "note" in source else ""
    raise FetchError(f"{entry.name} is a repository: git clone {source['url']}{then}")


DOWNLOADS = {"gdrive": _drive, "gdrive_folder": _drive, "huggingface": _hugging_face, "url": _url, "git": _told}
ADDRESSES = {
    "gdrive": "https://drive.google.com/file/d/{id}", "gdrive_folder": "https://drive.google.com/drive/folders/{id}",
    "huggingface": "https://huggingface.co/{repository}", "url": "{url}", "git": "{url}",
}  # fmt: skip


def _extra(module: str) -> Any:
    import importlib

    try:
        return importlib.import_module(module)
    except ModuleNotFoundError:
        raise FetchError(f"downloading needs the package {module}: pip install {module}") from None


def _checked(path: Path, source: dict[str, str]) -> Path:
    """The file, if it has the published checksum (where one is published)."""
    for kind in ("md5", "sha256"):
        if kind in source and file_digest(path, kind) != source[kind]:
            raise FetchError(f"what {_address(source)} gave is not the published file ({kind} differs)")
    return path


def _seen() -> dict[str, dict[str, Seen]]:
    """The record: by entry, what is known of its files by their names in its folder. FileError where it is damaged."""
    return read_json(RECORD, dict[str, dict[str, Seen]]) if RECORD.is_file() else {}


def _record(entry: Entry, files: dict[str, Path], ours: bool = False) -> None:
    """Notes size and sha256 of files at their first sight, and warns where they differ from that later."""
    known = _seen()
    seen = known.setdefault(entry.name, {})
    for name, file in sorted(files.items()):
        now = Seen(file.stat().st_size, file_digest(file), date.today().isoformat(), ours)
        first = seen.get(name)
        if first and (first.size, first.sha256) != (now.size, now.sha256):
            log.warning("%s of %s differs from the one first seen on %s (%d bytes, sha256 %s): now %d bytes, %s",
                        name, entry.name, first.first_seen, first.size, first.sha256[:12], now.size, now.sha256[:12])
        if first is None or ours:
            seen[name] = now
    content = {name: {file: asdict(each) for file, each in files.items()} for name, files in sorted(known.items())}
    write_atomically(RECORD, encode_json(content, str(RECORD)))


def _by_hand(entry: Entry) -> str:
    addresses = ", ".join(map(_address, entry.sources))
    where = f" from {addresses}" if addresses else ""
    return f". By hand: put it{where} into {entry.place}" if entry.place.parts[0] in ("checkpoints", "dataset") else ""


def _address(source: dict[str, str]) -> str:
    return ADDRESSES[source["kind"]].format(**source)


@dataclass(frozen=True)
class FetchOptions:
    """Which official files to bring."""

    names: Positional[tuple[str, ...]] = ()
    """Entries of the manifest, as --list shows them."""
    list: bool = False
    """Show every entry: whether it is here, where it belongs, its licence."""
    force: bool = False
    """Download again what is already here."""


def run(options: FetchOptions) -> None:
    """Brings the entries asked for, or lists all. FetchError for a name that the manifest has not."""
    entries = read_manifest()
    if unknown := [name for name in options.names if name not in entries]:
        raise FetchError(f"unknown name {unknown[0]!r}: python -m protos.fetch --list shows what there is")
    if options.list or not options.names:
        print(table(entries))
        return
    for name in options.names:
        fetch(entries[name], options.force)


main = command(FetchOptions, run, __doc__)

if __name__ == "__main__":
    run_command(main)
