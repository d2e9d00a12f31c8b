"""The recordings of a folder, listed as `SourceClip`s with captions, split and the mapping that retargets them.

Reading and converting happen in `read_recordings`, recording by recording, in worker processes.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

from data_loaders.clip_labels import Labels
from data_loaders.input_files import Found, Inventory, contents, recording_names
from data_loaders.known_datasets import Recordings
from data_loaders.text import Caption

SUFFIXES = {"bvh": (".bvh",), "amass": (".npz",), "joints": (".npy",)}


@dataclass(frozen=True)
class SourceClip:
    """One raw recording: its bytes or path, how to read it (`kind`) and what is known about it."""

    name: str
    data: bytes | Path
    kind: str  # bvh | amass | joints
    mapping: str | None = None
    captions: tuple[Caption, ...] = ()
    split: str = "train"
    labels: dict = field(default_factory=dict)
    first_frame: int = 0
    fps: float | None = None
    file: str = ""  # its path in the input folder, which is its identity
    stamp: str = ""  # changes when the file does
    notes: tuple[str, ...] = ()  # what the report says about it beside
    left_out: str = ""  # why it is not read at all: a word of `LEFT_OUT`
    reason: str = ""  # the same in words


def listed(
    inventory: Inventory, labels: Labels, dataset: Recordings, fps: float | None = None
) -> list[SourceClip]:
    """Every recording of a folder, in the order of their names, those that are left out with the reason.

    fps: frames per second of files that do not tell their own.
    """
    names = recording_names([found.file for found in inventory.recordings])
    return sorted((_clip(found, names[found.file], labels, dataset, fps) for found in inventory.recordings),
                  key=lambda clip: clip.name)  # fmt: skip


def _clip(found: Found, name: str, labels: Labels, dataset: Recordings, fps: float | None) -> SourceClip:
    """What is known about a recording: what captions.json says, and what that leaves open by the name of its file."""
    known = labels.of(found, name)
    told, captions = dataset.told_by(found.stem)
    said = {label: getattr(known.record, key, None) for label, key in (*dataset.labels.items(), *dataset.numbers.items())}
    facts = told | {label: value for label, value in said.items() if value not in (None, "")} | (known.record.labels or {})
    captions = known.captions if known.captions or known.described else tuple(map(Caption, captions))
    mapping = next((mapping for start, mapping in dataset.mappings.items() if found.stem.startswith(start)), dataset.mapping)
    split = labels.split_of(found, name, known.record, dataset.block(facts))
    left_out, reason = "", ""
    if problem := found.problem or known.problem:
        left_out, reason = "damaged", problem
    elif dataset.exclusions and labels.is_excluded(found, name):
        left_out, reason = "excluded", "named in excluded.txt"
    elif not captions:
        why = "captions.json or NAME.txt beside the clip"
        why = f"{labels.path} names it, and gives none" if known.described else why
        left_out, reason = "without caption", f"no caption ({known.notes[0] if known.notes else why})"
    return SourceClip(name, b"", dataset.files, mapping, captions, split, facts, known.record.first_frame or 0, fps,
                      found.file, found.stamp, known.notes, left_out, reason)  # fmt: skip


def with_data(inventory: Inventory, clips: list[SourceClip]) -> Iterator[SourceClip]:
    """The recordings with their bytes or path; those that turn out to be unreadable say so."""
    by_file = {clip.file: clip for clip in clips}
    for found, data in contents(found for found in inventory.recordings if found.file in by_file):
        clip = by_file[found.file]
        yield replace(clip, left_out="damaged", reason=data) if isinstance(data, str) else replace(clip, data=data)
