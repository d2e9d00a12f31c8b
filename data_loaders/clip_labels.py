"""What people say about their recordings: captions.json in any form that one may write, NAME.txt, split lists, excluded.txt.

Everything is looked up by whatever name a recording goes by: its path in the input folder with or without suffix, the name
its clips get, or its file's name. What is wrong with an entry costs that recording only, and is told with the file's name.
"""

import hashlib
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, make_dataclass
from pathlib import Path, PurePosixPath
from typing import Annotated, Any, Literal

import msgspec

from data_loaders.input_files import SPLITS, Found
from data_loaders.text import Caption, checked_caption, parse_own_caption
from protos.names import shown
from protos.reading import FileError, convert, read_json, read_lines, read_names

CAPTIONS = "captions.json"
EXCLUDED = "excluded.txt"
FORMS = ('expected {"clips": {NAME: {"captions": ["a person walks", ...]}}}, or NAME: "a person walks", or NAME: ["...", ...]; '
         'a caption of a part: {"text": "...", "start": 0.0, "end": 2.5}')  # fmt: skip
Label = str | int | float | bool | None


@dataclass(frozen=True)
class TimedCaption:
    """A caption as an object: what happens from start to end seconds, in all of it where neither is said."""

    text: str | None = None
    caption: str | None = None  # another word for text
    tokens: list[str] = field(default_factory=list)
    start: float | None = None
    end: float | None = None

    def plain(self) -> Caption:
        """The caption; one with a start alone lasts to the end of the recording."""
        end = math.inf if self.end is None and self.start else self.end or 0.0
        return Caption(self.text or self.caption or "", tuple(self.tokens), self.start or 0.0, end)


@dataclass(frozen=True)
class ClipRecord:
    """What captions.json says about a recording; further keys are passed over."""

    captions: str | list[str | TimedCaption] | TimedCaption | None = None
    caption: str | list[str | TimedCaption] | TimedCaption | None = None  # another word for captions
    split: Literal["train", "val", "test"] | None = None
    first_frame: Annotated[int, msgspec.Meta(ge=0, le=1_000_000_000)] | None = None
    labels: dict[str, Label] | None = None


@dataclass(frozen=True)
class Known:
    """What is known about a recording. notes: captions that were left out; problem: why the recording cannot be used."""

    captions: tuple[Caption, ...] = ()
    record: ClipRecord = ClipRecord()
    notes: tuple[str, ...] = ()
    problem: str = ""
    described: bool = False  # whether captions.json names it


class Labels:
    """What a pack says about its recordings."""

    def __init__(self, folder: Path, captions: Path | None = None, keys: Mapping[str, type] | None = None):
        """captions: the JSON file, by default captions.json in the folder; keys: what else a record of this dataset may hold.
        FileError names a file that cannot be used.
        """
        more = [(key, kind | None, None) for key, kind in (keys or {}).items()]
        self.kind = make_dataclass("ClipRecord", more, bases=(ClipRecord,), frozen=True) if more else ClipRecord
        self.folder = folder
        self.files: set[str] = set()  # names of the files that were read
        self.notes: list[str] = []
        self.path = captions or folder / CAPTIONS
        self.clips = self._read_captions(required=captions is not None)
        self.splits = self._read_splits()
        self.excluded = self._read_excluded()
        self.found: dict[str, list[str]] = {}  # keys that were looked up with success, and for which recordings

    def of(self, found: Found, name: str) -> Known:
        """What is known about a recording, whose clips are called `name`."""
        key = self._key(found, name, self.clips)
        if key is not None:
            where = f"{self.path}, clip {shown(key)}"
            try:
                record = _record(self.clips[key], where, self.kind)
            except FileError as error:
                return Known(problem=str(error), described=True)
            given = record.captions if record.captions is not None else record.caption
            captions, notes = _captions(given, where)
            if captions or given:
                return Known(captions, record, notes, described=True)
        else:
            record, notes = ClipRecord(), ()
        try:
            captions, more = self._beside(found)
        except (FileError, OSError) as error:
            return Known((), record, notes, str(error), key is not None)
        return Known(captions, record, (*notes, *more), "", key is not None)

    def split_of(self, found: Found, name: str, record: ClipRecord, block: str = "") -> str:
        """The listed split, else the record's, else one of 80/5/15 % drawn from a hash of the block (default: name)."""
        key = self._key(found, name, self.splits)
        if key is not None:
            return self.splits[key]
        if record.split:
            return record.split
        draw = int(hashlib.sha256((block or name).encode()).hexdigest()[:8], 16) % 100
        return "train" if draw < 80 else "val" if draw < 85 else "test"

    def is_excluded(self, found: Found, name: str) -> bool:
        """Whether excluded.txt names it: a line is a name, alone or followed by a reason."""
        keys = _keys(found, name) if self.excluded else ()
        return any(line == key or line.startswith((f"{key} ", f"{key}\t")) for key in keys for line in self.excluded)

    def unmatched(self) -> list[str]:
        """Lines for the report: entries that describe no recording that is here, and those that describe several."""
        lines = list(self.notes)
        for what, entries in ((str(self.path), self.clips), ("split lists", self.splits)):
            absent = [key for key in entries if key not in self.found]
            if absent:
                lines.append(f"{what}: {len(absent)} of {len(entries)} entries name no recording that is here ({_few(absent)})")
        lines += [f"{shown(key)} names {len(files)} recordings, all of which it was taken for ({_few(files)})"
                  for key, files in self.found.items() if len(files) > 1]  # fmt: skip
        return lines

    def _key(self, found: Found, name: str, among: dict[str, Any]) -> str | None:
        key = next((key for key in _keys(found, name) if key in among), None)
        if key is not None and found.file not in (files := self.found.setdefault(key, [])):
            files.append(found.file)
        return key

    def _read_captions(self, required: bool) -> dict[str, Any]:
        if not (required or self.path.is_file()):
            return {}
        self.files.add(self.path.name)
        content = read_json(self.path)
        clips = content
        if isinstance(content, dict):
            clips = content["clips"] if isinstance(content.get("clips"), (dict, list)) else content
        if not isinstance(clips, dict):
            raise FileError(f"{self.path}: not a caption file, {FORMS}")
        return {key: value for key, value in clips.items() if not key.startswith("_")}

    def _read_splits(self) -> dict[str, str]:
        splits: dict[str, str] = {}
        for split in SPLITS:
            path = self.folder / f"{split}.txt"
            if path.is_file():
                self.files.add(path.name)
                names = read_names(path)
                twice = [name for name in names if splits.get(name, split) != split]
                if twice:
                    self.notes.append(f"{path}: {len(twice)} names are in {splits[twice[0]]}.txt too and were taken for {split} "
                                      f"({_few(twice)})")  # fmt: skip
                splits.update(dict.fromkeys(names, split))
        return splits

    def _read_excluded(self) -> list[str]:
        path = self.folder / EXCLUDED
        return read_names(path) if path.is_file() else []

    def _beside(self, found: Found) -> tuple[tuple[Caption, ...], tuple[str, ...]]:
        """Captions of NAME.txt beside a file. FileError where it is no UTF-8 text."""
        path = found.path.with_suffix(".txt")
        reserved = path.parent == self.folder and path.stem in (*SPLITS, "excluded", "report")
        if found.member or reserved or not path.is_file():
            return (), ()
        self.files.add(path.relative_to(self.folder).as_posix())
        lines = enumerate(read_lines(path), start=1)
        return _parsed((f"{path}, line {number}", line) for number, line in lines if line.strip())


def _keys(found: Found, name: str) -> Sequence[str]:
    """What a recording may be called, the most particular first."""
    path = PurePosixPath(found.file)
    inner = PurePosixPath(*path.parts[1:]) if found.member else path
    keys = (str(path), str(path.with_suffix("")), str(inner), str(inner.with_suffix("")), name, path.name, path.stem)
    return tuple(dict.fromkeys(keys))


def _record(value: Any, where: str, kind: type[ClipRecord]) -> ClipRecord:
    """An entry of captions.json. FileError says which field is wrong and what was expected."""
    if value is None or isinstance(value, (str, list)):
        value = {"captions": value}
    try:
        return convert(value, kind, where)
    except FileError as error:
        said = str(error).removeprefix(where)
        hint = f"; {FORMS}" if "caption" in said or not isinstance(value, dict) else ""
        hint = ", expected train, val or test" if said.startswith(": split") else hint
        raise FileError(f"{error}{hint}") from None


def _captions(given: Any, where: str) -> tuple[tuple[Caption, ...], tuple[str, ...]]:
    """Captions of an entry, and a note on each that cannot be used."""
    listed = [] if given is None else [given] if isinstance(given, (str, TimedCaption)) else given
    return _parsed((f"{where}, caption {number}", each) for number, each in enumerate(listed, start=1))


def _parsed(found: Iterable[tuple[str, str | TimedCaption]]) -> tuple[tuple[Caption, ...], tuple[str, ...]]:
    captions, notes = [], []
    for where, each in found:
        try:
            caption = parse_own_caption(each) if isinstance(each, str) else checked_caption(each.plain())
            captions.append(caption)
        except ValueError as error:
            notes.append(f"{where}: left out, {error}")
            continue
        if "#" in caption.text:
            notes.append(f"{where}: '#' in the text is written as a space")
    return tuple(captions), tuple(notes)


def _few(names: Sequence[str], most: int = 4) -> str:
    return ", ".join(shown(name) for name in names[:most]) + (", …" if len(names) > most else "")
