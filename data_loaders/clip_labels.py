"""What people say about their recordings: captions.json in any form that one may write, NAME.txt, split lists, excluded.txt.

Everything is looked up by whatever name a recording goes by: its path in the input folder with or without suffix, the name
its clips get, or its file's name. What is wrong with an entry costs that recording only, and is told with the file's name.
"""

import hashlib
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Annotated, Any, Literal

import msgspec

from data_loaders.input_files import SPLITS, Inventory, RecordingFile, recording_names
from data_loaders.known_datasets import Recordings
from data_loaders.sources import Placement, SourceClip, kind_of
from data_loaders.text import Caption, checked_caption, parse_own_caption
from protos.files import shown
from protos.reading import FileError, convert, read_json, read_lines, read_names

CAPTIONS = "captions.json"
PAIRS = "pairs.json"
Split = Literal["train", "val", "test"]
EXCLUDED = "excluded.txt"
FORMS = ('expected {"clips": {NAME: {"captions": ["a person walks", ...]}}}, or NAME: "a person walks", or NAME: ["...", ...]; '
         'a caption of a part: {"text": "...", "start": 0.0, "end": 2.5}')  # fmt: skip


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
    """What captions.json says about a recording of any dataset; further keys are passed over."""

    captions: str | list[str | TimedCaption] | TimedCaption | None = None
    split: Split | None = None
    first_frame: Annotated[int, msgspec.Meta(ge=0, le=1_000_000_000)] | None = None
    labels: dict[str, str | int | float | bool | None] | None = None


@dataclass(frozen=True)
class Segment:
    """A part of a take of several persons, in seconds, and what each of them does in it."""

    start_s: float
    end_s: float
    captions: dict[str, list[str]] = field(default_factory=dict)


@dataclass(frozen=True)
class Take:
    """Recordings of several persons that belong together, and what is said about all of them (`interaction`) and each."""

    files: tuple[str, ...] = ()  # of each person; '' where none is named
    captions: dict[str, list[str]] = field(default_factory=dict)
    segments: list[Segment] = field(default_factory=list)
    split: Split | None = None
    splits: list[Split] = field(default_factory=list)  # of each person's recording
    placement: Placement | None = None


@dataclass
class Known:
    """What is said about a recording. notes: captions that were left out; problem: why the recording cannot be used."""

    described: bool  # whether captions.json names it
    record: ClipRecord = ClipRecord()
    facts: dict[str, Any] = field(default_factory=dict)  # labels that the dataset's own keys tell
    captions: list[Caption] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    problem: str = ""

    def add(self, found: Iterable[tuple[str, str | TimedCaption]]) -> None:
        """Takes captions, each with the place where it stands; one that cannot be used costs itself."""
        for where, each in found:
            try:
                caption = parse_own_caption(each) if isinstance(each, str) else checked_caption(each.plain())
            except ValueError as error:
                self.notes.append(f"{where}: left out, {error}")
                continue
            self.captions.append(caption)
            if "#" in caption.text:
                self.notes.append(f"{where}: '#' in the text is written as a space")


class Labels:
    """What a pack says about its recordings."""

    def __init__(self, folder: Path, captions: Path | None, dataset: Recordings):
        """captions: the JSON file, by default captions.json in the folder. FileError names a file that cannot be used."""
        self.folder, self.dataset = folder, dataset
        self.files: set[str] = set()  # names of the files that were read
        self.notes: list[str] = []
        self.path = captions or folder / CAPTIONS
        if not captions and not self.path.is_file() and dataset.persons and (folder / PAIRS).is_file():
            self.path = folder / PAIRS
        self.takes: dict[str, Take] = {}  # of several persons
        self.calls: dict[str, list[str]] = {}  # whatever a recording may be called -> the files that are called so
        self.clips = self._read_captions() if captions or self.path.is_file() else {}
        self.splits = self._read_splits()
        excluded = folder / EXCLUDED
        self.excluded = read_names(excluded) if dataset.exclusions and excluded.is_file() else []
        self.found: dict[str, list[str]] = {}  # keys that were looked up with success, and for which recordings

    def recordings(self, inventory: Inventory, fps: float | None = None) -> list[SourceClip]:
        """Every recording of a folder, in the order of their names, those that are left out with the reason.

        fps: frames per second of files that do not tell their own.
        """
        names = recording_names([each.file for each in inventory.recordings])
        for each in inventory.recordings:
            for key in _keys(each, names[each.file]):
                self.calls.setdefault(key, []).append(each.file)
        clips = (self._recording(each, names[each.file], fps) for each in inventory.recordings)
        return sorted(clips, key=lambda clip: clip.name)

    def named(self, key: str) -> list[str]:
        """The files of recordings that go by this name; `recordings` told them apart."""
        return self.calls.get(key, [])

    def _recording(self, found: RecordingFile, name: str, fps: float | None) -> SourceClip:
        """What is known about a recording: what captions.json says, and what that leaves open by the name of its file."""
        known, dataset = self._known(found, name), self.dataset
        told, captions = dataset.told_by(found.stem)
        facts = told | known.facts | (known.record.labels or {})
        if dataset.contents and (content := dataset.content_of(str(facts.get("description", "")))):
            facts["content"] = content
        captions = tuple(known.captions) if known.captions or known.described else tuple(map(Caption, captions))
        left_out, reason = "", ""
        if problem := found.problem or known.problem:
            left_out, reason = "damaged", problem
        elif self._is_excluded(found, name):
            left_out, reason = "excluded", f"named in {EXCLUDED}"
        elif not captions:
            why = f"{self.path} names it, and gives none" if known.described else "captions.json or NAME.txt beside the clip"
            left_out, reason = "without caption", f"no caption ({known.notes[0] if known.notes else why})"
        return SourceClip(
            name, b"", kind_of(dataset.files, found.file), dataset.mapping_of(found.stem, facts), captions,
            self._split_of(found, name, known.record, dataset.block(facts)), facts,
            known.record.first_frame or dataset.first_frame, fps or dataset.source_fps, found.file, found.stamp,
            tuple(known.notes), left_out, reason,
        )  # fmt: skip

    def _known(self, found: RecordingFile, name: str) -> Known:
        """What captions.json says about a recording, or a NAME.txt beside it where that gives no caption."""
        key = self._key(found, name, self.clips)
        known = Known(key is not None)
        try:
            if key is not None:
                where = f"{self.path}, clip {shown(key)}"
                known.record, known.facts = self._record(self.clips[key], where)
                given = known.record.captions
                listed = [given] if isinstance(given, (str, TimedCaption)) else given or []
                known.add((f"{where}, caption {number}", each) for number, each in enumerate(listed, start=1))
                if known.captions or given:
                    return known
            path = found.path.with_suffix(".txt")
            reserved = path.parent == self.folder and path.stem in (*SPLITS, "excluded", "report")
            if not found.member and not reserved and path.is_file():
                self.files.add(path.relative_to(self.folder).as_posix())
                lines = enumerate(read_lines(path), start=1)
                known.add((f"{path}, line {number}", line) for number, line in lines if line.strip())
        except (FileError, OSError) as error:
            known.problem = str(error)
        return known

    def _record(self, value: Any, where: str) -> tuple[ClipRecord, dict[str, Any]]:
        """An entry of captions.json, and the labels that keys of this dataset tell. FileError says which field is wrong and
        what was expected."""
        dataset = self.dataset
        if value is None or isinstance(value, (str, list)):
            value = {"captions": value}
        elif isinstance(value, dict):
            given = [value[key] for key in dataset.caption_keys if value.get(key) is not None]
            listed = [text for each in given for text in (each if isinstance(each, list) else [each])]
            value = {**value, "captions": listed or None}
        try:
            record = convert(value, ClipRecord, where)
            keys = [(label, key, str) for label, key in dataset.labels.items()]
            keys += [(label, key, int) for label, key in dataset.numbers.items()]
            facts = {label: convert(value.get(key), kind | None, f"{where}: {key}") for label, key, kind in keys}
        except FileError as error:
            said = str(error).removeprefix(where)
            hint = f"; {FORMS}" if "caption" in said or not isinstance(value, dict) else ""
            hint = ", expected train, val or test" if said.startswith(": split") else hint
            raise FileError(f"{error}{hint}") from None
        return record, {label: fact for label, fact in facts.items() if fact not in (None, "")}

    def _split_of(self, found: RecordingFile, name: str, record: ClipRecord, block: str) -> str:
        """The listed split, else the record's, else one of 80/5/15 % drawn from a hash of the block (default: name)."""
        key = self._key(found, name, self.splits)
        if key is not None or record.split:
            return self.splits[key] if key is not None else record.split
        draw = int(hashlib.sha256((block or name).encode()).hexdigest()[:8], 16) % 100
        return "train" if draw < 80 else "val" if draw < 85 else "test"

    def _is_excluded(self, found: RecordingFile, name: str) -> bool:
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

    def _key(self, found: RecordingFile, name: str, among: Mapping[str, Any]) -> str | None:
        key = next((key for key in _keys(found, name) if key in among), None)
        if key is not None and found.file not in (files := self.found.setdefault(key, [])):
            files.append(found.file)
        return key

    def _read_captions(self) -> dict[str, Any]:
        self.files.add(self.path.name)
        clips = read_json(self.path)
        if isinstance(clips, dict) and isinstance(clips.get("clips"), (dict, list)):
            clips = clips["clips"]
        if self.dataset.persons and isinstance(clips, dict) and (takes := self._read_takes(clips)):
            self.takes = takes
            clips = {name: record for take in takes.values() for name, record in self._of_persons(take) if name}
        if not isinstance(clips, dict):
            raise FileError(f"{self.path}: not a caption file, {FORMS}")
        return {key: value for key, value in clips.items() if not key.startswith("_")}

    def _read_takes(self, content: dict[str, Any]) -> dict[str, Take]:
        """The takes of several persons by name; `pairs` have none but their two files'."""
        takes, pairs = content.get("takes"), content.get("pairs")
        if isinstance(takes, dict):
            return {key: self._take(take, f"{self.path}, take {shown(key)}") for key, take in takes.items()}
        found: dict[str, Take] = {}
        for number, pair in enumerate(pairs if isinstance(pairs, list) else (), start=1):
            take = self._take(pair, f"{self.path}, pair {number}")
            name = "__".join(PurePosixPath(file).stem for file in take.files)
            found[name if name not in found else f"{name}__{number}"] = take
        return found

    def _take(self, entry: Any, where: str) -> Take:
        entry = convert(entry, dict[str, Any], where)
        files = tuple(convert(entry.get(person), str | None, f"{where}: {person}") or "" for person in self.dataset.persons)
        return convert({**entry, "files": files}, Take, where)

    def _of_persons(self, take: Take) -> Iterator[tuple[str, dict[str, Any]]]:
        """The files of a take of several persons, each with what is said about that person in the take and its segments."""
        for person, name in zip(self.dataset.persons, take.files):
            timed = [{"text": text, "start": part.start_s, "end": part.end_s}
                     for part in take.segments for text in part.captions.get(person, [])]  # fmt: skip
            yield name, {"captions": timed or take.captions.get(person, []), "split": take.split}

    def _read_splits(self) -> dict[str, str]:
        splits: dict[str, str] = {}
        for split in SPLITS:
            path = self.folder / f"{split}.txt"
            if path.is_file():
                self.files.add(path.name)
                names = read_names(path)
                if twice := [name for name in names if splits.get(name, split) != split]:
                    self.notes.append(f"{path}: {len(twice)} names are in {splits[twice[0]]}.txt too and were taken for {split} "
                                      f"({_few(twice)})")  # fmt: skip
                splits.update(dict.fromkeys(names, split))
        return splits


def _keys(found: RecordingFile, name: str) -> Sequence[str]:
    """What a recording may be called, the most particular first."""
    path = PurePosixPath(found.file)
    inner = PurePosixPath(*path.parts[1:]) if found.member else path
    keys = (str(path), str(path.with_suffix("")), str(inner), str(inner.with_suffix("")), name, path.name, path.stem)
    return tuple(dict.fromkeys(keys))


def _few(names: Sequence[str], most: int = 4) -> str:
    return ", ".join(shown(name) for name in names[:most]) + (", …" if len(names) > most else "")
