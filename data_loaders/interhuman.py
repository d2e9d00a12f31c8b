"""The official InterHuman folder, checked clip by clip and packed: both layouts, individual descriptions, splits that overlap.

    annots/ID.txt                               a sentence a line, about both people
    motions_processed/person{1,2}/ID.npy        (T, 492), Z up
    split/{train,val,test}.txt                  in2IN's layout; InterGen's has them and ignore_list.txt in the folder itself
    annots_individual/person{1,2}/ID.txt        in2IN's sentences about each person

Of the 492 columns 0:186 are 62 positions (SMPL-H's joints, then finger tips) and 186:492 the 6D rotations, row by row, of 51
joints against the one before; the root's is not in the files, where a body faces is told by its positions alone. Used are 22
joints, 0:66 and 186:312. Liang et al. 2024 (InterGen).
"""

import logging
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from data_loaders.corpus_writer import NewClip, write_corpus
from data_loaders.features import Features, Statistics
from data_loaders.known_datasets import OfficialPairs
from data_loaders.mocap import FARTHEST
from data_loaders.packed_clips import REPORT
from data_loaders.prepare_report import PROGRESS, Accounts, Record
from data_loaders.text import Caption, written_text
from protos.files import inside, shown
from protos.options import one_line
from protos.outputs import OutputError, Outputs
from protos.reading import FileError, read_array, read_lines, read_names

log = logging.getLogger(__name__)
COLUMNS = 492
POSITIONS, ROTATIONS = slice(0, 66), slice(186, 312)
SPLITS = ("train", "val", "test")
IGNORED = "ignore_list.txt"
PEOPLE = ("person1", "person2")


@dataclass
class Layout:
    """Where the parts of a folder lie, and what its lists say."""

    folder: Path
    motions: Path  # that holds person1 and person2
    splits: dict[str, list[str]]
    ignored: set[str] = field(default_factory=set)

    @property
    def parts(self) -> Path:
        """The folder that annots lie in, beside the motions."""
        return self.motions.parent if (self.motions.parent / "annots").is_dir() else self.folder

    def list_of(self, clip: str) -> str:
        """The first list that names a clip."""
        return next(f"{split}.txt" for split, clips in self.splits.items() if clip in clips)

    def motion(self, clip: str, person: str) -> Path:
        return inside(self.motions, f"{person}/{clip}.npy", reading=True)

    def text(self, clip: str, person: str = "") -> Path:
        """The sentences about a clip, or about a person in it."""
        return inside(self.parts, f"annots_individual/{person}/{clip}.txt" if person else f"annots/{clip}.txt", reading=True)


def find_layout(folder: Path) -> Layout:
    """FileNotFoundError where a part of the layout is missing."""
    found = sorted(path for path in folder.rglob("person1") if path.is_dir() and next(path.glob("*.npy"), None))
    if not found:
        raise FileNotFoundError(f"{folder} holds no folder person1 with .npy files: --input must be the InterHuman folder, "
                                "unpacked (motions_processed/person1, motions_processed/person2, annots, split)")  # fmt: skip
    motions = found[0].parent
    if not (motions / "person2").is_dir():
        raise FileNotFoundError(f"{motions / 'person2'} is missing: both people are needed")
    lists = next((place for place in (folder / "split", folder) if (place / "train.txt").is_file()), None)
    if lists is None:
        raise FileNotFoundError(f"{folder} has no list split/train.txt or train.txt of the clips to train on")
    there = [split for split in SPLITS if (lists / f"{split}.txt").is_file()]
    splits = {split: list(dict.fromkeys(read_names(lists / f"{split}.txt"))) for split in there}
    ignored = set(read_names(lists / IGNORED)) if (lists / IGNORED).is_file() else set()
    layout = Layout(folder, motions, splits, ignored)
    if not (layout.parts / "annots").is_dir():
        raise FileNotFoundError(f"{layout.parts / 'annots'} is missing: the sentences that describe the clips")
    return layout


def pack_interhuman(source: Path, output: Path, name: str, official: OfficialPairs, floor: str = "person") -> Accounts:
    """Packs the official folder into `output/corpus`, beside its split lists and report.txt.

    Reports missing, extra, damaged and short clips, and splits that share clips, of which it warns. Raises FileNotFoundError or
    ValueError saying what of the layout is missing.
    """
    layout = find_layout(source)
    features = Features("humanml", official.fps, "published", "interhuman")
    outputs = Outputs(output, "dataset", going_on=True)
    if PROGRESS in outputs.found_before:
        raise OutputError(f"{output} holds a dataset made of recordings: give another --output")
    listed = list(dict.fromkeys(clip for clips in layout.splits.values() for clip in clips))
    records = {clip: Record(f"{PEOPLE[0]}/{clip}.npy", clip) for clip in listed}
    outputs.claim(REPORT, *(f"{split}.txt" for split in layout.splits))
    statistics = Statistics.published(official.statistics, features)
    write_corpus(output, read_entries(layout, records, features, floor), features, statistics)
    if not any(record.names for record in records.values()):
        raise ValueError(f"{source}: none of the {len(records)} clips that its lists name can be used: "
                         f"{next((record.reason for record in records.values()), 'they are empty')}")  # fmt: skip
    for split, clips in layout.splits.items():
        outputs.write(f"{split}.txt", "".join(f"{clip}\n" for clip in clips))
    shared = overlaps(layout.splits)
    for line in shared:
        log.warning("%s: %s", name, line)
    report = outputs.write(REPORT, report_of(layout, records, shared))
    log.info("%s (%s)", report.read_text(encoding="utf-8").partition("\n")[0], report)
    return Accounts(report, list(records.values()))


def read_entries(layout: Layout, records: dict[str, Record], features: Features, floor: str) -> Iterator[NewClip]:
    """Usable clips one by one; the records of the others get the reason."""
    from tqdm import tqdm

    for clip, record in tqdm(records.items(), desc="clips", unit="clip", disable=None):
        if clip in layout.ignored:
            record.left_out, record.reason = "excluded", f"named in {IGNORED}"
            continue
        try:
            people = [read_motion(layout.motion(clip, person)) for person in PEOPLE]
            captions = read_sentences(layout.text(clip))
            if not captions:
                raise FileError(f"{layout.text(clip)}: no sentence")
            for person, each in enumerate(PEOPLE, start=1):
                if layout.text(clip, each).is_file():
                    captions += read_sentences(layout.text(clip, each), person)
            rows = features_of_pair(*people, features, clip, floor)
        except FileNotFoundError as error:
            reason = f"{error.filename or error} is missing, though {layout.list_of(clip)} names it"
            record.left_out, record.reason = "damaged", reason
        except OSError as error:  # such as a name that no file can have
            reason = f"{shown(clip)}, named in {layout.list_of(clip)}: {error.strerror or error}"
            record.left_out, record.reason = "damaged", one_line(ValueError(reason))
        except ValueError as error:
            record.left_out, record.reason = "damaged", one_line(error)
        else:
            if rows is None:
                record.left_out, record.reason = "too short", f"{clip} has one frame, expected at least 2"
                continue
            record.names[clip] = "as recorded"
            yield NewClip(clip, rows, captions, {"source": clip, "mirrored": False})


def read_motion(path: Path) -> np.ndarray:
    """The used columns (T, 192) float32 of a person's file: 66 of positions, Z up, 126 of rotations. FileError for others."""
    used = used_columns(read_array(path, kinds="f", shape=(None, COLUMNS), finite=True))
    if (far := float(np.abs(used[:, POSITIONS]).max(initial=0))) > FARTHEST:
        raise FileError(f"{path}: a joint is {far:.3g} m from the origin, expected up to {FARTHEST} m")
    return used


def used_columns(content: np.ndarray) -> np.ndarray:
    """(T, 192) float32 of (T, 492)."""
    with np.errstate(over="ignore"):  # what is too large for it is infinite, and refused
        return np.concatenate([content[:, POSITIONS], content[:, ROTATIONS]], axis=1).astype(np.float32)


def joints_and_rotations(used: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Joints (T, 22, 3) in metres, Y up, and rotations (T, 21, 6), row by row, of the used columns (T, 192)."""
    x, y, z = np.moveaxis(used[:, :66].reshape(len(used), 22, 3), -1, 0)
    return np.stack([x, z, -y], axis=-1), used[:, 66:].reshape(len(used), 21, 6)


def features_of_pair(
    first: np.ndarray, second: np.ndarray, features: Features, name: str, floor: str = "person"
) -> np.ndarray | None:
    """Features (T-1, 524) of the used columns (T, 192) of each person; None of a single frame. FileError for unequal lengths."""
    import torch

    from data_loaders.interhuman_features import features_from_clips

    if len(first) != len(second):
        raise FileError(f"{name}: person1 has {len(first)} frames, person2 {len(second)}, expected as many of both")
    if len(first) < 2:
        return None
    joints, rotations = (torch.from_numpy(np.stack(each)) for each in zip(*map(joints_and_rotations, (first, second))))
    return features_from_clips([joints], features.body, features.heading, [rotations], floor)[0].numpy()


def read_sentences(path: Path, person: int = 0) -> list[Caption]:
    """Captions of a file of one sentence a line; blank lines are passed over."""
    return [Caption(text, person=person) for text in map(written_text, read_lines(path)) if text]


def overlaps(splits: dict[str, list[str]]) -> list[str]:
    """A line for every two splits that share clips: whoever trains on them is tested on what was learnt."""
    pairs = [(one, other) for i, one in enumerate(splits) for other in list(splits)[i + 1 :]]
    shared = {(one, other): [clip for clip in splits[one] if clip in set(splits[other])] for one, other in pairs}
    return [
        f"{len(clips)} of {len(splits[one])} clips of {one}.txt are in {other}.txt too ({', '.join(map(shown, clips[:4]))}"
        f"{', ...' if len(clips) > 4 else ''}): a model trained on the one has seen the other"
        for (one, other), clips in shared.items() if clips
    ]  # fmt: skip


def report_of(layout: Layout, records: dict[str, Record], shared: list[str]) -> str:
    """The report: totals, clips that were left out, splits that overlap, files that no list names."""
    left_out = [record for record in records.values() if record.left_out]
    counts = Counter(record.left_out for record in left_out)
    there = {person: {path.stem for path in (layout.motions / person).glob("*.npy")} for person in PEOPLE}
    unlisted = sorted((there["person1"] | there["person2"]) - set(records))
    sizes = ", ".join(f"{len(clips)} {split}" for split, clips in layout.splits.items())
    lines = [f"{len(records)} clips listed, {len(records) - len(left_out)} packed, {len(left_out)} dropped"]
    lines += [f"  dropped: {' + '.join(f'{count} {reason}' for reason, count in counts.items())}"] if counts else []
    lines += [f"  lists: {sizes}", *shared]
    lines += [f"{record.source}: {record.reason}" for record in left_out]
    lines += [f"{name}: in no split list" for name in unlisted]
    return "\n".join(lines) + "\n"
