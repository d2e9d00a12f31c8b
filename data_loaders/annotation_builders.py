"""annotations.json of HumanML3D and BABEL, from what these datasets publish and the length of the motion files."""

import csv
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Generic, Literal, TypeVar

from tqdm import tqdm

from data_loaders.annotation_folder import Span, caption_span, file_entry
from data_loaders.clips import LeftOut
from data_loaders.known_datasets import humanml3d_sources
from data_loaders.text import read_caption_file
from protos.files import inside, shown
from protos.reading import FileError, convert, read_array, read_json, read_lines, read_names

FPS = 20.0
LONGEST_DISAGREEMENT = 0.25  # seconds between a motion file and the duration that BABEL states
SPELLINGS = {"tpose": "t-pose"}  # whole words of BABEL's labels

L = TypeVar("L")
Content = dict[str, dict[str, Any]]


def file_seconds(motions: Path, path: str) -> float:
    """Seconds of a whole file at 20 frames per second, from the array in motions/<path>.npy.

    Joints of pose_data (T, J, 3) last T / 20. Features of guoh3dfeats (rows, 263) are one row fewer than the file has
    frames, so they last (rows + 1) / 20. FileNotFoundError, or ValueError for another array or a single frame.
    """
    where = inside(Path(motions), f"{path}.npy", reading=True)
    try:
        shape = read_array(where, mmap=True).shape
    except FileError as error:
        raise ValueError(f"{where} is no readable .npy: {error}") from None
    if len(shape) not in (2, 3):
        raise ValueError(f"{where} has shape {shape}, expected joints (T, J, 3) or features (T - 1, 263)")
    frames = shape[0] + (len(shape) == 2)
    if frames < 2:
        raise ValueError(f"{where} has one frame, of which there are no features")
    return round(frames / FPS, 3)


def _seconds_of(motions: Path, path: str, name: str, left_out: LeftOut) -> float | None:
    """Seconds of the file of a clip; None, told in `left_out`, where there is no usable one."""
    try:
        return file_seconds(motions, path)
    except FileNotFoundError:
        return left_out.add(name, f"without a motion file: {path}")
    except ValueError as error:
        return left_out.add(name, f"without a usable motion file: {error}")


# ---------------------------------------------------------------------------------------------------------- HumanML3D


@dataclass(frozen=True)
class IndexRow:
    """A line of index.csv: a clip, and the frames start to stop of the source it was cut from (stop -1: the whole file)."""

    name: str
    path: str
    start: int
    stop: int

    def seconds(self, duration: float) -> tuple[float, float]:
        """Start and end of the clip in its file."""
        if self.stop < 0:
            return 0.0, duration
        dropped = humanml3d_sources().dropped_seconds.get(self.path.partition("/")[0], 0.0)
        return self.start / FPS + dropped, self.stop / FPS + dropped


def read_index(folder: Path) -> list[IndexRow]:
    """The rows of HumanML3D's index.csv in `folder`, or above it as in its repository. FileNotFoundError or ValueError."""
    path = next((place / "index.csv" for place in (folder, folder.resolve().parent) if (place / "index.csv").is_file()), None)
    if path is None:
        raise FileNotFoundError(f"{folder / 'index.csv'} is absent: take it from HumanML3D's repository")
    reader = csv.DictReader(read_lines(path))
    try:
        rows = [_index_row(row) for row in reader]
    except (KeyError, TypeError, ValueError, AttributeError, csv.Error) as error:
        raise FileError(f"{path}, line {reader.line_num}: {type(error).__name__} {error}; expected "
                        "source_path,start_frame,end_frame,new_name") from None  # fmt: skip
    if not rows:
        raise FileError(f"{path} has no line that names a clip; expected source_path,start_frame,end_frame,new_name")
    return rows


def _index_row(row: Mapping[str, str]) -> IndexRow:
    path = row["source_path"].removeprefix("./").removeprefix("pose_data/").removesuffix(".npy")
    if (whole := humanml3d_sources().whole) in path:
        path = f"{whole}/{whole}/{path.rpartition('/')[2]}"
    return IndexRow(row["new_name"].removesuffix(".npy"), path, int(row["start_frame"]), int(row["end_frame"]))


def humanml3d_splits(folder: Path) -> dict[str, list[str]]:
    """The split lists there are. FileNotFoundError where there is none."""
    found = {split: folder / f"{split}.txt" for split in humanml3d_sources().splits if (folder / f"{split}.txt").is_file()}
    if not found:
        raise FileNotFoundError(f"{folder} has no train.txt, val.txt, test.txt or all.txt: --input must be HumanML3D's folder")
    return {split: read_names(path) for split, path in found.items()}


def humanml3d_annotations(folder: Path, motions: Path, left_out: LeftOut) -> Content:
    """Clips of index.csv by name, each followed by its mirrored one M<name>, which lies below M/ and has its own captions.

    `motions` holds pose_data or the features of guoh3dfeats, see `file_seconds`; mirrored files last as long as the others.
    `left_out` gets rows without a motion file, clips without captions, and captions outside the file.
    """
    folder, content = Path(folder), {}
    if not (folder / "texts").is_dir():
        raise FileNotFoundError(f"{folder / 'texts'} is absent: --input must be HumanML3D's folder, its texts.zip unpacked")
    for row in tqdm(read_index(folder), desc="clips", unit="clip", disable=None):
        duration = _seconds_of(motions, row.path, row.name, left_out)
        for name, path in ((row.name, row.path), (f"M{row.name}", f"M/{row.path}")) if duration else ():
            try:
                captions = read_caption_file(inside(folder, f"texts/{name}.txt", reading=True), problems=(problems := []))
            except FileNotFoundError:
                left_out.add(name, "without captions: no such file in texts")
                continue
            except FileError as error:
                left_out.add(name, f"with unreadable captions: {error}")
                continue
            for problem in problems:
                left_out.add(f"{name}, {len(left_out.skipped)}", f"with an unreadable caption: {problem}")
            spans = [Span(f"{name}_{i}", caption.text, *caption_span(caption, *row.seconds(duration)))
                     for i, caption in enumerate(captions)]  # fmt: skip
            if entry := file_entry(path, duration, spans, left_out):
                content[name] = entry
    return content


# -------------------------------------------------------------------------------------------------------------- BABEL


@dataclass(frozen=True)
class Label:
    """A label of BABEL; what else it says is passed over."""

    raw_label: str | None
    seg_id: str | None = None


@dataclass(frozen=True)
class PartLabel(Label):
    """A label of the seconds from start_t to end_t."""

    start_t: float = field(kw_only=True)
    end_t: float = field(kw_only=True)


@dataclass(frozen=True)
class Labelled(Generic[L]):
    """Labels of a kind."""

    labels: list[L] | None = None


@dataclass(frozen=True)
class BabelSequence:
    """A sequence of BABEL: its file in AMASS, the seconds it lasts, labels of all of it and of its parts; either may be null."""

    feat_p: str
    dur: float
    seq_ann: Labelled[Label] | None = None
    frame_ann: Labelled[PartLabel] | None = None


def babel_annotations(
    folder: Path, mode: Literal["all", "seq", "seg"], motions: Path | None, left_out: LeftOut
) -> tuple[Content, dict[str, list[str]]]:
    """(sequences by id of five digits, split lists) of train.json and val.json, with labels of whole sequences and of frames.

    Durations are those of the motion files, or without `motions` what BABEL states. `left_out` gets sequences without a
    motion file or with one of another duration, those without a label of `mode`, and labels without text or outside the file.
    """
    content: Content = {}
    splits: dict[str, list[str]] = {}
    for split in ("train", "val"):
        path = Path(folder) / f"{split}.json"
        if not path.is_file():
            raise FileNotFoundError(f"{path} is absent: --input must be the folder of BABEL's train.json and val.json")
        splits[split] = []
        for key, record in read_json(path, dict[str, Any]).items():
            sequence = convert(record, BabelSequence, f"{path}, sequence {shown(key)}")
            name = key.zfill(5)
            if name in content:
                raise FileError(f"{path}: sequence {key} is in {'both splits' if name not in splits[split] else 'it twice'}")
            if entry := _babel_entry(name, sequence, mode, motions, left_out):
                content[name] = entry
                splits[split].append(name)
    return content, {**splits, "all": list(content)}


def _babel_entry(name: str, sequence: BabelSequence, mode: str, motions: Path | None, left_out: LeftOut) -> dict | None:
    path = sequence.feat_p.partition("/")[2].removesuffix(".npz")
    stated = duration = round(sequence.dur, 3)
    if motions:
        duration = _seconds_of(motions, path, name, left_out)
        if duration is None:
            return None
        if abs(duration - stated) > LONGEST_DISAGREEMENT:
            return left_out.add(name, f"of another duration: {path} lasts {duration:g} s, BABEL says {stated:g} s")
    spans = list(_babel_spans(name, sequence, mode, duration))
    return file_entry(path, duration, spans, left_out) if spans else left_out.add(name, f"without labels: mode {mode}")


def _babel_spans(name: str, sequence: BabelSequence, mode: str, duration: float) -> Iterator[Span]:
    for kind, labelled in (("seq", sequence.seq_ann), ("seg", sequence.frame_ann)):
        for i, label in enumerate((labelled.labels if labelled and mode in ("all", kind) else None) or ()):
            start, end = (label.start_t, label.end_t) if kind == "seg" else (0.0, duration)
            yield Span(f"{name}_{kind}_{i}", sanitised(label.raw_label or ""), start, end, {"babel_id": label.seg_id})


def sanitised(text: str) -> str:
    """A label with single spaces, degrees in words, and the words of SPELLINGS put right."""
    words = re.sub("[°º]", " degree ", text).split()
    return " ".join(SPELLINGS.get(word, word) for word in words)
