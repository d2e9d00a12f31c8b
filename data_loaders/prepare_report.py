"""report.txt of a prepared dataset: what became of every file that was found, in numbers that add up and in names."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

from data_loaders.clip_labels import Labels
from data_loaders.input_files import Inventory

PROGRESS = "progress.jsonl"  # what a run made of each recording
# Words on why a recording was left out. "damaged" is what a user would mend: it makes the run end with 1.
LEFT_OUT = ("damaged", "too short", "still", "without caption", "excluded")


SIDES = ("as recorded", "mirrored")  # of clips


@dataclass
class Record:
    """What became of a recording: its clips (name -> 'as recorded' or 'mirrored'), or a word of LEFT_OUT and the reason.

    notes: what was left out of it or looks wrong; partly: whether a part of it could not be used.
    """

    file: str
    source: str  # the name its clips begin with
    stamp: str = ""
    names: dict[str, str] = field(default_factory=dict)
    left_out: str = ""
    reason: str = ""
    notes: list[str] = field(default_factory=list)
    partly: bool = False

    @property
    def title(self) -> str:
        """How the report calls it: by name, with its path where that says more."""
        return self.source if PurePosixPath(self.file).stem == self.source else f"{self.source} ({self.file})"


@dataclass
class Accounts:
    """What became of a folder."""

    report: Path
    records: Sequence[Record] = ()
    unreadable: dict[str, str] = field(default_factory=dict)  # archives, folders

    def problem(self) -> str | None:
        """One line on what was damaged; None where nothing was."""
        damaged = [record.reason or record.title for record in self.records if record.left_out == "damaged" or record.partly]
        damaged += self.unreadable.values()
        if not damaged:
            return None
        more = f", and {len(damaged) - 1} more" if len(damaged) > 1 else ""
        return f"{len(damaged)} damaged file(s) left out, all else is prepared: {damaged[0]}{more}; see {self.report}"


def report_text(records: Sequence[Record], inventory: Inventory, labels: Labels) -> str:
    """The report: totals first, then a line for each recording left out, each note, and the files that were not used."""
    records = sorted(records, key=lambda record: record.source)
    left_out = [record for record in records if record.left_out]
    clips = Counter(side for record in records for side in record.names.values())
    reasons = Counter(record.left_out for record in left_out)
    used = sorted(labels.files & set(inventory.others))
    others = sorted(set(inventory.others) - labels.files)
    alone = len(inventory.recordings)
    found = alone + len(inventory.archives) + len(inventory.duplicates) + len(inventory.others)
    recordings = f"{alone} recordings" if alone == len(records) else f"{alone} recordings of one person each"
    lines = [
        f"{len(records)} recordings, {clips.total()} clips written, {len(left_out)} recordings dropped",
        f"  written: {_sum({side: clips[side] for side in SIDES})}, of {len(records) - len(left_out)} recordings",
        f"  dropped: {_sum({reason: reasons[reason] for reason in LEFT_OUT})}",
        f"{found} files found: {recordings}, {len(inventory.duplicates)} duplicates in archives, "
        f"{len(inventory.archives)} archives, {len(used)} files of captions and splits, {len(others)} others",
    ]
    lines += [_line(record.title, record.reason) for record in left_out]
    lines += [f"{name}: unreadable, {reason}" for name, reason in sorted(inventory.unreadable.items())]
    lines += [f"{name}: the same as {other}, taken once" for name, other in sorted(inventory.duplicates.items())]
    notes = [_line(record.title, note) for record in records for note in record.notes] + labels.unmatched()
    lines += ["", "Notes:", *notes] if notes else []
    lines += ["", "Not used:", *others] if others else []
    return "\n".join(lines) + "\n"


def _sum(parts: dict[str, int]) -> str:
    """'3 = 2 too short + 1 damaged'; '0' where there is nothing."""
    named = " + ".join(f"{count} {what}" for what, count in parts.items() if count)
    return f"{sum(parts.values())} = {named}" if named else "0"


def _line(title: str, text: str) -> str:
    """One line that begins with what it is about."""
    text = " ".join(text.split())
    return text if text.startswith((f"{title}:", f"{title}@")) else f"{title}: {text}"
