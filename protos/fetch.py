"""python -m protos.fetch NAME ...: brings official weights and data to where this code looks for them.

Names and sources stand in protos/manifest.json; --list shows them with their licences. What is already in an entry's
folder, put there by hand or before, is taken as it is; a downloaded archive put there is unpacked.
"""

import hashlib
import json
import logging
import shutil
import sys
import tarfile
import urllib.request
import zipfile
from dataclasses import dataclass, field
from datetime import date
from pathlib import Path
from typing import Any

from tyro.conf import Positional

from protos.files import atomic_path, write_atomically
from protos.options import parse, run_command, setup_logging

MANIFEST = Path(__file__).with_name("manifest.json")
RECORD = Path("checkpoints/fetched.json")
ARCHIVES = (".zip", ".tar", ".tar.gz", ".tgz", ".tar.xz", ".tar.bz2")
TEXT_FILES = ("config.json", "tokenizer.json", "tokenizer_config.json", "vocab.json", "vocab.txt", "merges.txt",
              "special_tokens_map.json")  # fmt: skip

log = logging.getLogger(__name__)


class FetchError(ValueError):
    """A file that cannot be brought, with what to do instead."""


@dataclass(frozen=True)
class FetchOptions:
    """Which official files to bring."""

    names: Positional[tuple[str, ...]] = ()
    """Entries of the manifest, as --list shows them."""
    list: bool = False
    """Show every entry: whether it is here, where it belongs, its licence."""
    force: bool = False
    """Download again what is already here."""


@dataclass(frozen=True)
class Entry:
    """One line of the manifest. `sources` are tried in order."""

    name: str
    what: str
    sources: tuple[dict[str, str], ...]
    place: Path
    licence: str
    note: str = field(default="")

    @property
    def contents(self) -> list[Path]:
        """What lies in the entry's folder, hidden files aside."""
        return sorted(p for p in self.place.glob("*") if not p.name.startswith(".")) if self.place.is_dir() else []

    @property
    def state(self) -> str:
        if self.sources and self.sources[0]["kind"] == "command":
            return "by command"
        return "here" if self.contents else "absent" if self.sources else "by hand"


def read_manifest(path: Path = MANIFEST) -> dict[str, Entry]:
    content = json.loads(path.read_text(encoding="utf-8"))
    return {
        name: Entry(name, value["what"], tuple(value["sources"]), Path(value["place"]), value["licence"],
                    value.get("note", ""))
        for name, value in content.items()
    }


def table(entries: dict[str, Entry]) -> str:
    """Lines of name, state, folder, what it is and its licence."""
    rows = [(e.name, e.state, str(e.place), e.what, e.licence) for e in entries.values()]
    widths = [max(len(row[i]) for row in rows) for i in range(3)]
    return "\n".join(f"{n:{widths[0]}}  {s:{widths[1]}}  {p:{widths[2]}}  {what} [{licence}]"
                     for n, s, p, what, licence in rows)


def fetch(entry: Entry, force: bool = False) -> None:
    """Brings one entry, from the first source that answers. FetchError says where to put it by hand."""
    if not force and _unpack_placed(entry):
        return
    if entry.contents and not force:
        log.info("%s is already in %s", entry.name, entry.place)
        _record(entry, entry.contents)
        return
    log.info("%s: %s. Licence: %s", entry.name, entry.what, entry.licence)
    failures = []
    for source in entry.sources:
        try:
            files = DOWNLOADS[source["kind"]](entry, source)
        except FetchError as error:
            raise FetchError(f"{error}{_by_hand(entry)}") from None
        except Exception as error:  # networks and their libraries fail in many ways; the next source may answer
            failures.append(f"{_address(source)}: {_first_line(error)}")
            continue
        _record(entry, files)
        for file in files:
            if _is_archive(file):
                unpack(file, entry.place)
                file.unlink()
        log.info("%s is in %s", entry.name, entry.place)
        return
    reason = "; ".join(failures) if failures else entry.note or "there is no published address"
    raise FetchError(f"{entry.name} was not brought ({reason}){_by_hand(entry)}")


def unpack(archive: Path, folder: Path) -> None:
    """Unpacks a tar or zip; names that lead out of the folder, links and devices are refused."""
    try:
        if archive.suffix == ".zip":
            with zipfile.ZipFile(archive) as file:
                root = folder.resolve()
                for name in file.namelist():
                    if not (root / name).resolve().is_relative_to(root):
                        raise FetchError(f"{archive} holds {name}, which leads out of {folder}: not unpacked")
                file.extractall(folder)
        else:
            with tarfile.open(archive) as file:
                file.extractall(folder, filter="data")
    except (zipfile.BadZipFile, tarfile.TarError, EOFError) as error:
        raise FetchError(f"{archive} cannot be unpacked: {_first_line(error)}") from error


def _unpack_placed(entry: Entry) -> bool:
    """Unpacks archives put into the folder by hand, where nothing else is there yet."""
    archives = [path for path in entry.contents if _is_archive(path)]
    if not archives or len(archives) < len(entry.contents):
        return False
    _record(entry, archives)
    for archive in archives:
        unpack(archive, entry.place)
        log.info("%s unpacked in %s", archive.name, entry.place)
    return True


def _drive(entry: Entry, source: dict[str, str]) -> list[Path]:
    gdown = _extra("gdown")
    entry.place.mkdir(parents=True, exist_ok=True)
    partial = entry.place / ".partial"
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir()
    try:  # a trailing slash lets gdown take the file's own name
        name = gdown.download(id=source["id"], output=f"{partial}/", quiet=not sys.stderr.isatty())
        if name is None:
            raise OSError("Google Drive did not give the file")
        return [_checked(Path(name), source).rename(entry.place / Path(name).name)]
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def _drive_folder(entry: Entry, source: dict[str, str]) -> list[Path]:
    gdown = _extra("gdown")
    entry.place.mkdir(parents=True, exist_ok=True)
    names = gdown.download_folder(id=source["id"], output=str(entry.place), quiet=not sys.stderr.isatty())
    if not names:
        raise OSError("Google Drive did not list the folder")
    return [Path(name) for name in names]


def _hugging_face(entry: Entry, source: dict[str, str]) -> list[Path]:
    hub = _extra("huggingface_hub")
    names = set(hub.HfApi().list_repo_files(source["repository"]))
    weights = next((name for name in ("model.safetensors", "pytorch_model.bin") if name in names), None)
    if weights is None:
        raise OSError("the repository holds no weights")
    wanted = [weights, *(name for name in TEXT_FILES if name in names)]
    hub.snapshot_download(source["repository"], allow_patterns=wanted, local_dir=entry.place)
    return [entry.place / name for name in wanted]


def _url(entry: Entry, source: dict[str, str]) -> list[Path]:
    target = entry.place / source["url"].rsplit("/", 1)[-1]
    with atomic_path(target) as temporary, open(temporary, "wb") as file:
        with urllib.request.urlopen(source["url"], timeout=60) as answer:
            shutil.copyfileobj(answer, file, 1 << 20)
        file.flush()
        _checked(temporary, source)
    return [target]


def _command(entry: Entry, source: dict[str, str]) -> list[Path]:
    raise FetchError(f"{entry.name} comes with a command of its own: {source['command']}")


def _git(entry: Entry, source: dict[str, str]) -> list[Path]:
    then = f"; {source['note']}" if "note" in source else ""
    raise FetchError(f"{entry.name} is a repository: git clone {source['url']}{then}")


DOWNLOADS = {"gdrive": _drive, "gdrive_folder": _drive_folder, "huggingface": _hugging_face, "url": _url,
             "command": _command, "git": _git}  # fmt: skip


def _extra(module: str) -> Any:
    import importlib

    try:
        return importlib.import_module(module)
    except ModuleNotFoundError:
        raise FetchError(f"downloading needs the package {module}: pip install {module}") from None


def _checked(path: Path, source: dict[str, str]) -> Path:
    """The file, if it has the published checksum (where one is published)."""
    for kind in ("md5", "sha256"):
        if kind in source and _digest(path, kind) != source[kind]:
            raise FetchError(f"what {_address(source)} gave is not the published file ({kind} differs)")
    return path


def _digest(path: Path, kind: str = "sha256") -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, kind).hexdigest()


def _record(entry: Entry, files: list[Path]) -> None:
    """Notes size and sha256 of files at their first sight, and warns where they differ from that later."""
    known = json.loads(RECORD.read_text(encoding="utf-8")) if RECORD.is_file() else {}
    seen = known.setdefault(entry.name, {})
    for file in files:
        if not file.is_file():
            continue
        now = {"size": file.stat().st_size, "sha256": _digest(file)}
        first = seen.setdefault(file.name, {**now, "first_seen": date.today().isoformat()})
        if (first["size"], first["sha256"]) != (now["size"], now["sha256"]):
            log.warning("%s of %s differs from the one first seen on %s (%d bytes, sha256 %s): now %d bytes, %s",
                        file.name, entry.name, first["first_seen"], first["size"], first["sha256"][:12],
                        now["size"], now["sha256"][:12])
    write_atomically(RECORD, json.dumps(known, indent=1, sort_keys=True) + "\n")


def _by_hand(entry: Entry) -> str:
    addresses = ", ".join(_address(source) for source in entry.sources if source["kind"] != "command")
    where = f" from {addresses}" if addresses else ""
    return f". By hand: put it{where} into {entry.place}" if entry.place.parts[0] in ("checkpoints", "dataset") else ""


def _address(source: dict[str, str]) -> str:
    kind = source["kind"]
    if kind == "gdrive":
        return f"https://drive.google.com/file/d/{source['id']}"
    if kind == "gdrive_folder":
        return f"https://drive.google.com/drive/folders/{source['id']}"
    if kind == "huggingface":
        return f"https://huggingface.co/{source['repository']}"
    return source.get("url") or source["command"]


def _is_archive(path: Path) -> bool:
    return path.name.lower().endswith(ARCHIVES)


def _first_line(error: BaseException) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:200]


def main(argv: list[str] | None = None) -> None:
    options = parse(FetchOptions, argv, description=__doc__)
    setup_logging()
    entries = read_manifest()
    if unknown := [name for name in options.names if name not in entries]:
        raise FetchError(f"unknown name {unknown[0]!r}: python -m protos.fetch --list shows what there is")
    if options.list or not options.names:
        print(table(entries))
        return
    for name in options.names:
        fetch(entries[name], options.force)


if __name__ == "__main__":
    run_command(main)
