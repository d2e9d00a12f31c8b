"""The official HumanML3D and KIT-ML folders, checked clip by clip and packed as they are (heading `published`), HumanML3D also in
the 262 columns of InterHuman, as the individual prior of in2IN reads it."""

import logging
import re
from collections import Counter
from collections.abc import Collection, Iterable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np

from data_loaders.corpus_writer import NewClip, write_corpus
from data_loaders.features import Features, Statistics
from data_loaders.known_datasets import Official
from data_loaders.packed_clips import EARLIER_FILES, REPORT, read_split
from data_loaders.prepare_report import PROGRESS, Accounts, Record
from data_loaders.text import read_caption_file
from protos.files import inside
from protos.options import one_line
from protos.outputs import OutputError, Outputs, files_in
from protos.reading import FileError, read_array, read_lines

log = logging.getLogger(__name__)
SPLITS = ("train", "val", "test", "train_val", "all")
PRIOR_STATISTICS = "interhuman_hml3d"  # of published_statistics.json


def pack_official(source: Path, output: Path, name: str, official: Official, kind: str = "humanml") -> Accounts:
    """Packs an official dataset folder into `output/corpus`; the folder itself may be the output, of which no file is replaced.

    kind: of the features; with `interhuman_person` they become the 262 columns, of another folder.

    Reports missing, NaN, short and caption-less clips in report.txt and warns where counts differ from the published ones.
    Raises FileNotFoundError or ValueError saying what of the layout is missing.
    """
    features = Features(official.skeleton, official.fps, "published")
    made = replace(features, kind=kind)
    if kind != "humanml" and (kind != "interhuman_person" or official.skeleton != "humanml"):
        raise ValueError(f"{name} cannot be prepared with --features {kind}: only humanml3d has other columns, interhuman_person")
    for part in ("new_joint_vecs", "texts", "Mean.npy", "Std.npy", "train.txt", "test.txt"):
        if not (source / part).exists():
            raise FileNotFoundError(f"{source / part} is missing: --input must be the official {name} folder, unpacked")
    in_place = output.exists() and output.samefile(source)
    if in_place and made != features:
        raise OutputError(f"{output} is the official folder: give another --output for its {made.width} columns")
    outputs = Outputs(output, "dataset", going_on=True, earlier=lambda folder: earlier_files(folder, in_place))
    if PROGRESS in outputs.found_before:
        raise OutputError(f"{output} holds a dataset made of recordings: give another --output")
    if in_place and is_our_report(output / REPORT):
        outputs.listed.add(REPORT)  # written beside the official files by a version that listed nothing
    width = (features.width,)
    mean, std = (read_array(source / file, finite=True).astype(np.float32) for file in ("Mean.npy", "Std.npy"))
    for file, array in (("Mean.npy", mean), ("Std.npy", std)):
        if array.shape != width:
            raise FileError(f"{source / file}: shape {array.shape}, expected {width} for {name}")
    if not (std > 0).all():
        raise FileError(f"{source / 'Std.npy'}: holds a std of 0 or below: not the official file")
    splits = {s: read_split(source, s) for s in SPLITS if (source / f"{s}.txt").is_file()}
    names = list(dict.fromkeys(clip for listing in splits.values() for clip in listing))
    outputs.claim(REPORT, *(() if in_place else (f"{split}.txt" for split in splits)))
    records = {clip: Record(f"{clip}.npy", clip) for clip in names}
    entries = read_entries(source, records, features.width, official.gaps)
    statistics = Statistics(mean, std, features)
    if made != features:
        entries, statistics = in_world(source, entries, records), Statistics.published(PRIOR_STATISTICS, made)
    write_corpus(output, entries, made, statistics)
    if not in_place:
        for split, listing in splits.items():
            outputs.write(f"{split}.txt", "".join(f"{clip}\n" for clip in listing))
    for split, expected in official.clips.items():
        found = len(splits.get(split, ()))
        if found != expected:
            log.warning("%s lists %d clips, the published one %d", split, found, expected)
    text = report_of(source, records)
    report = outputs.write(REPORT, text)
    log.info("%s (%s)", text.partition("\n")[0], report)
    return Accounts(report, list(records.values()))


def read_entries(source: Path, records: dict[str, Record], width: int, gaps: Collection[str]) -> Iterator[NewClip]:
    """Usable clips one by one; the records of the others get the reason."""
    from tqdm import tqdm

    for name, record in tqdm(records.items(), desc="clips", unit="clip", disable=None):
        try:
            path = inside(source, f"new_joint_vecs/{name}.npy", reading=True)
            features = read_array(path, kinds="f")
            captions = read_caption_file(inside(source, f"texts/{name}.txt", reading=True), problems=record.notes)
        except FileNotFoundError as error:
            record.left_out, record.reason = "damaged", f"{error.filename or error} is missing"
        except (ValueError, OSError) as error:
            record.left_out, record.reason = "damaged", one_line(error)
        else:
            if features.ndim != 2 or features.shape[1] != width:
                expected = f"expected (T, {width})"
                record.left_out, record.reason = "damaged", f"{path} has shape {features.shape}, {expected}"
            elif len(features) < 2:
                record.left_out, record.reason = "too short", f"{path} has {len(features)} frame(s), expected at least 2"
            elif not np.isfinite(features).all():
                record.left_out, record.reason = "damaged", f"{path} holds NaN"
            else:
                record.names[name] = "as recorded"
                yield NewClip(name, features, captions)
        if record.left_out and name in gaps:
            record.left_out = "known gap"


def in_world(source: Path, clips: Iterable[NewClip], records: dict[str, Record]) -> Iterator[NewClip]:
    """Clips of HumanML3D in 262 columns: from the files of `joints/`, where the folder has them, else from the features alone.
    The records of those that cannot be used get the reason."""
    import torch

    from data_loaders.interhuman_features import features_from_humanml3d

    features = Features()
    for clip in clips:
        record, rows = records[clip.name], torch.from_numpy(np.array(clip.features, np.float32))
        try:
            path = inside(source, f"joints/{clip.name}.npy", reading=True)
            joints = features.joints(rows)
            if path.is_file():
                joints = torch.from_numpy(read_array(path, shape=(None, 22, 3), finite=True).astype(np.float32))
                if len(joints) < len(rows):
                    raise FileError(f"{path}: {len(joints)} frames, its features have {len(rows)}")
            if len(rows) < 3:
                raise FileError(f"{clip.name}: {len(rows)} frames, expected at least 3")
        except (ValueError, OSError) as error:
            record.names.clear()
            record.left_out, record.reason = "damaged", one_line(error)
            continue
        made = features_from_humanml3d(joints, rows, features.body).numpy()
        yield NewClip(clip.name, made, clip.captions, clip.labels)


def report_of(source: Path, records: dict[str, Record]) -> str:
    """The report: totals, clips that were left out, captions that were, and files that no split lists."""
    left_out = [record for record in records.values() if record.left_out]
    counts = Counter(record.left_out for record in left_out)
    there = {path.name for path in (source / "new_joint_vecs").iterdir() if path.suffix == ".npy"}
    unlisted = sorted(there - {record.file for record in records.values()})
    lines = [f"{len(records)} clips listed, {len(records) - len(left_out)} packed, {len(left_out)} dropped"]
    lines += [f"  dropped: {' + '.join(f'{count} {reason}' for reason, count in counts.items())}"] if counts else []
    lines += [f"{len(there)} files in {source / 'new_joint_vecs'}, {len(unlisted)} of them in no split list"]
    lines += sorted(f"{record.source}: {record.reason}" for record in left_out)
    lines += [f"{record.source}: {note}" for record in records.values() for note in record.notes]
    lines += [f"{name}: in no split list" for name in unlisted]
    return "\n".join(lines) + "\n"


def earlier_files(folder: Path, in_place: bool) -> set[str]:
    """Names of the files that a version without manifests wrote into a folder of its own."""
    if in_place or not is_our_report(folder / REPORT):
        return set()
    previews = {name for name in files_in(folder) if name.startswith("preview/") and name.endswith((".mp4", ".png"))}
    return {REPORT, *(f"{split}.txt" for split in SPLITS), *(f"corpus/{name}" for name in EARLIER_FILES), *previews}


def is_our_report(path: Path) -> bool:
    """Whether a report.txt is one of ours, by its first line."""
    try:
        first = next(iter(read_lines(path)), "")
    except (OSError, FileError):
        return False
    return re.fullmatch(r"\d+ clips listed, \d+ packed, \d+ dropped", first) is not None
