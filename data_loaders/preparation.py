"""A dataset folder made of recordings: what is left to do, how a batch becomes clips, and what the folder holds at the end.

progress.jsonl tells the runs of a folder apart: its first line says what the dataset is, each other what a recording became,
with a stamp of all that this depended on. A recording whose stamp is another is done again.
"""

import hashlib
import json
import logging
import math
from collections.abc import Iterator, Sequence
from dataclasses import asdict, replace
from itertools import islice
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from tqdm import tqdm

from data_loaders.clip_labels import Labels
from data_loaders.clips import clip_name, moving_frames, moving_windows, window_captions, windows
from data_loaders.corpus_writer import NewClip, write_corpus
from data_loaders.features import Features, Statistics
from data_loaders.input_files import SPLITS, Inventory, survey
from data_loaders.interhuman import pack_interhuman
from data_loaders.joint_mapping import load_mapping
from data_loaders.known_datasets import known_datasets
from data_loaders.official import pack_official
from data_loaders.packed_clips import EARLIER_FILES, REPORT
from data_loaders.pairs import paired, segments
from data_loaders.prepare_report import PROGRESS, Accounts, Record, report_text
from data_loaders.read_recordings import Loaded, PreparationSettings, read_all, with_contents
from data_loaders.sources import SourceClip, suffixes_of
from data_loaders.text import Caption, Tagger, mirror_caption, mirror_text, read_caption_file, write_caption_file
from protos.files import atomic_path, is_partial, write_atomically
from protos.options import one_line
from protos.outputs import OutputError, Outputs, files_in, require_replaceable
from protos.reading import FileError, convert, read_array, read_json_lines

if TYPE_CHECKING:
    from torch import Tensor

log = logging.getLogger(__name__)
BATCH = 128  # clips per feature batch: enough to vectorise, a few MB
RECIPE = 3  # what is made of the same recording changed with it
FIXED_FILES = (PROGRESS, REPORT, *(f"{split}.txt" for split in SPLITS), "Mean.npy", "Std.npy")
CLIP_FILES = ("new_joint_vecs/{}.npy", "new_joints/{}.npy", "texts/{}.txt")
IDENTITY = {"source": None, "fps": None, "heading": None, "features": "humanml"}  # settings that make another dataset


def prepare(settings: PreparationSettings) -> Accounts:
    """Makes a dataset folder; what became of every file. Raises ValueError or OSError with one line that says what to do."""
    source, output = settings.input, settings.output
    if (known := known_datasets().get(settings.source)) and known.official:
        return pack_official(source, output, settings.source, known.official, settings.features)
    if source.exists() and output.exists() and source.samefile(output):
        raise OutputError(f"--output {output} is the folder of the recordings: give another one, such as dataset/{source.name}")
    if known and known.pairs:
        if settings.features != "interhuman":
            raise ValueError(f"{settings.source} is of two people: --features {settings.features} cannot be made of it")
        return pack_interhuman(source, output, settings.source, known.pairs, settings.floor)
    if settings.source == "bvh" and not settings.mapping:
        raise ValueError("bvh needs --mapping: a file that says which joint is which (see data_loaders/mappings)")
    dataset = settings.recordings()
    for mapping in filter(None, (settings.mapping, dataset.mapping, *dataset.mappings.values())):
        load_mapping(mapping)  # a wrong one is refused before anything is written
    inventory = survey(source, suffixes_of(dataset.files), without=[output])
    labels = Labels(source, settings.captions, dataset)
    fps = settings.source_fps or (settings.fps if dataset.files == "joints" else None)
    told = paired if settings.features == "interhuman" else Labels.recordings
    clips = told(labels, inventory, fps)
    run = Preparation(settings, clips)
    todo = [clip for clip in clips if clip.file not in run.done and not clip.left_out]
    for clip in clips:
        if clip.left_out:
            log.warning("%s dropped: %s", clip.name, clip.reason)

    read = read_all(with_contents(todo, inventory), settings)
    with tqdm(read, desc="clips", unit="clip", total=len(clips), initial=len(clips) - len(todo), disable=None) as bar:
        every = iter(bar)
        while batch := list(islice(every, BATCH)):
            run.write(batch)
    return run.finish(inventory, labels)


def earlier_files(folder: Path) -> set[str]:
    """Names of the files that a version without manifests wrote into a dataset folder, as its progress.jsonl tells them."""
    try:
        first, *rows = read_json_lines(folder / PROGRESS, dict[str, Any])
    except (OSError, ValueError):
        return set()
    if not {"source", "fps", "heading"} <= set(first):
        return set()
    clips = [name for row in rows if isinstance(row.get("names"), dict) for name in row["names"]]
    previews = {f"preview/{name}.{suffix}" for name in clips for suffix in ("mp4", "png")}
    return {*FIXED_FILES, *(f"corpus/{name}" for name in EARLIER_FILES), *files_of(clips), *previews}


def files_of(clips: Sequence[str]) -> list[str]:
    """Files of clips in the dataset folder."""
    return [form.format(name) for name in clips for form in CLIP_FILES]


class Piece(NamedTuple):
    """A clip in the making: what becomes of its recording, joints (T, 22, 3) in metres, what describes it."""

    name: str
    record: Record
    mirrored: bool
    joints: "Tensor"  # of two people (2, T, 22, 3)
    captions: list[Caption]


class Preparation:
    """The state of one run: what is done, and the files of the folder that are ours."""

    def __init__(self, settings: PreparationSettings, clips: Sequence[SourceClip]):
        """OutputError or ValueError, before anything is written, where the folder is not for this dataset."""
        self.settings, self.folder = settings, settings.output
        self.clips = {clip.file: clip for clip in clips}
        self.features = Features("humanml", settings.fps, settings.heading, settings.features)
        self.outputs = Outputs(self.folder, "dataset", overwrite=settings.overwrite, going_on=True, earlier=earlier_files)
        if self.outputs.found_before and PROGRESS not in self.outputs.found_before and not settings.overwrite:
            raise OutputError(f"{self.folder} holds a dataset that was not made of recordings: give another --output, or "
                              "--overwrite to make it anew")  # fmt: skip
        self.identity = {name: getattr(settings, name) for name in IDENTITY} | {"recipe": RECIPE}
        self.tagger = Tagger()
        self.mappings: dict[str | None, str] = {}
        self.done = self._read_progress()
        self._require_room()
        self.outputs.claim(*FIXED_FILES)
        rows = [self.identity, *(asdict(record) for record in self.done.values())]
        write_atomically(self.folder / PROGRESS, "".join(json.dumps(row) + "\n" for row in rows))

    def _read_progress(self) -> dict[str, Record]:
        """What earlier runs made of recordings that are as they were."""
        path = self.folder / PROGRESS
        if not path.is_file() or PROGRESS not in self.outputs.listed or self.settings.overwrite:
            return {}
        try:
            first, *rows = list(read_json_lines(path, dict[str, Any])) or [self.identity]
            records = [convert(row, Record, str(path)) for row in rows if "file" in row]  # earlier versions had no file
        except FileError as error:
            raise FileError(f"{error}; --overwrite makes the dataset anew") from None
        if any(first.get(name, default) != self.identity[name] for name, default in IDENTITY.items()):
            raise ValueError(f"{self.folder} was begun with other settings ({json.dumps(first)}); give another --output or the "
                             "same settings, or --overwrite to make it anew")  # fmt: skip
        before = {row.get("file", row.get("source")) for row in rows}
        here = set(self.clips) | {PurePosixPath(file).stem for file in self.clips}
        if before and not before & here:
            raise ValueError(f"{self.folder} was made of other recordings, none of which is in {self.settings.input}: give "
                             "another --output, or --overwrite to make it anew")  # fmt: skip
        kept = {record.file: record for record in records if self._is_done(record)}
        if before:
            log.info("%d of %d recordings are as an earlier run found them: going on", len(kept), len(self.clips))
        return kept

    def _is_done(self, record: Record) -> bool:
        clip = self.clips.get(record.file)
        return (
            clip is not None and not clip.left_out and record.left_out != "damaged"  # which may read well the next time
            and record.source == clip.name and record.stamp == self.stamp(clip)
            and all((self.folder / name).is_file() for name in files_of(list(record.names)))
        )  # fmt: skip

    def _require_room(self) -> None:
        """OutputError where a folder that is to hold our clips holds files of somebody else, or the recordings are our clips."""
        source, here = self.settings.input.resolve(), self.folder.resolve()
        if source.is_relative_to(here):
            ours = {here / name for name in self.outputs.listed}
            if any(source / file in ours for file in self.clips):
                raise OutputError(f"{self.settings.input} holds the clips of {self.folder} itself: give another --output")
        for place in ("new_joint_vecs", "new_joints", "texts", "corpus"):
            path = self.folder / place
            if path.is_symlink() or (path.exists() and not path.is_dir()):
                raise OutputError(f"{path} is not a folder of this dataset: give another --output")
            if place == "corpus":
                require_replaceable(path, "corpus", overwrite=True, earlier=EARLIER_FILES)
            elif (others := {f"{place}/{name}" for name in files_in(path)} - self.outputs.listed):
                raise OutputError(f"{path} holds files that this program did not write ({min(others)}): move them away or give "
                                  "another --output")  # fmt: skip

    def stamp(self, clip: SourceClip) -> str:
        """Changes when anything does that the clips made of a recording depend on."""
        settings = self.settings
        if clip.mapping not in self.mappings:
            self.mappings[clip.mapping] = repr(load_mapping(clip.mapping)) if clip.mapping else ""
        facts = (RECIPE, clip.stamp, clip.name, clip.captions, clip.first_frame, clip.fps, self.mappings[clip.mapping],
                 settings.fps, settings.heading, settings.mirror, settings.min_seconds, settings.max_frames,
                 settings.still_speed, str(settings.body_model), self.tagger.name)  # fmt: skip
        facts += (settings.floor,) if settings.floor != "person" else ()
        return hashlib.sha256(repr(facts).encode("utf-8", "backslashreplace")).hexdigest()[:16]

    # ------------------------------------------------------------------------------------------------------ a batch

    def write(self, batch: Sequence[Loaded]) -> None:
        """Windows, mirrored twins, features, texts of a batch of recordings; then their lines in progress.jsonl."""
        records, pieces = [], []
        for record, joints in batch:
            record.stamp = self.stamp(self.clips[record.file])
            if record.reason:
                log.warning("%s dropped: %s", record.source, record.reason)
            for line in record.notes:
                log.warning("%s: %s", record.source, line)
            records.append(record)
            pieces += self._pieces(record, joints) if joints is not None else ()
        self.outputs.claim(*files_of([piece.name for piece in pieces]))
        pieces = self._tagged(pieces)
        for piece, rows in zip(pieces, self._features([piece.joints for piece in pieces]), strict=True):
            name, record = piece.name, piece.record
            if isinstance(rows, str):
                record.notes.append(f"{name}: {rows}")
                record.partly = True
                continue
            record.names[name] = "mirrored" if piece.mirrored else "as recorded"
            save_array(self.folder / f"new_joint_vecs/{name}.npy", rows.numpy())
            save_array(self.folder / f"new_joints/{name}.npy", self.features.joints(rows).numpy())
            write_caption_file(self.folder / f"texts/{name}.txt", piece.captions)
        for record in records:
            if not record.names and not record.left_out:
                record.left_out, record.reason = "damaged", record.notes[-1]
        self.done.update({record.file: record for record in records})
        with open(self.folder / PROGRESS, "a", encoding="utf-8") as file:
            file.write("".join(json.dumps(asdict(record)) + "\n" for record in records))

    def _pieces(self, record: Record, joints: np.ndarray) -> Iterator[Piece]:
        """The clips that are made of a recording, mirrored twins included; the record gets what is left out."""
        import torch

        from data_loaders.humanml_features import mirror_joints

        fps, said = self.settings.fps, self.clips[record.file].captions
        duration = (joints.shape[-3] - 1) / fps
        for caption in said:
            beyond = "left out" if caption.start >= duration else "cut" if duration + 0.5 < caption.end < math.inf else ""
            if not caption.whole and beyond:
                record.notes.append(f"caption {caption.text[:60]!r} {beyond}: it goes from {caption.start:g} to {caption.end:g} "
                                    f"s, the recording ends at {duration:g} s")  # fmt: skip
        described, spans = False, list(self._spans(joints, said))
        for k, (start, stop, moves, captions) in enumerate(spans):
            window = k if len(spans) > 1 else None
            if not moves:
                name = clip_name(record.source, window)
                record.notes.append(f"{name} left out: hardly anything moves from {start / fps:g} to {(stop - 1) / fps:g} s")
            elif captions:
                described = True
                part = torch.from_numpy(joints[..., start:stop, :, :])
                yield Piece(clip_name(record.source, window), record, False, part, captions)
                if self.settings.mirror and self.features.persons == 1:
                    twin = mirror_joints(part, self.features.body)
                    yield Piece(clip_name(record.source, window, True), record, True, twin, list(map(mirror_caption, captions)))
            elif window is not None:
                name = clip_name(record.source, window)
                record.notes.append(f"{name} left out: no caption of {start / fps:g} to {(stop - 1) / fps:g} s")
        if not any(moves for _, _, moves, _ in spans):
            record.left_out, record.reason = "still", "hardly anything moves"
        elif not described:
            record.left_out, record.reason = "without caption", "no caption describes a part of it"

    def _spans(self, joints: np.ndarray, said: Sequence[Caption]) -> Iterator[tuple[int, int, bool, list[Caption]]]:
        """What is made of a recording's joints: (start, stop, whether it moves, captions), all of it where it is short enough; of
        two people what their captions describe."""
        settings, fps, frames = self.settings, self.settings.fps, joints.shape[-3]
        duration = (frames - 1) / fps
        if self.features.persons > 1:
            for begin, end, captions in segments(said, duration):
                first, last = round(begin * fps), min(round(end * fps), frames - 1)
                for start, stop in windows(last - first + 1, settings.max_frames) if last > first else ():
                    yield first + start, first + stop, True, captions
            return
        if frames - 1 <= settings.max_frames or not settings.still_speed:
            spans = [(*span, True) for span in windows(frames, settings.max_frames)]
        else:
            spans = moving_windows(moving_frames(joints, fps, settings.still_speed), fps, settings.max_frames)
        for start, stop, moves in spans:
            yield start, stop, moves, window_captions(said, start / fps, (stop - 1) / fps, duration)

    def _features(self, joints: list["Tensor"]) -> list["Tensor | str"]:
        """Features of each clip, or what is wrong with it."""
        if not joints:
            return []
        try:
            found: list[Any] = self.features.encode(joints) if self.settings.floor == "person" else self._on_one_floor(joints)
        except (ValueError, RuntimeError, MemoryError) as error:
            if len(joints) == 1:
                return [one_line(error)]
            return [each for clip in joints for each in self._features([clip])]
        return [rows if rows.isfinite().all() else "its features hold NaN (degenerate pose?)" for rows in found]

    def _on_one_floor(self, joints: list["Tensor"]) -> list["Tensor"]:
        from data_loaders.interhuman_features import features_from_clips

        return features_from_clips(joints, self.features.body, self.features.heading, floor="shared")

    def _tagged(self, pieces: Sequence[Piece]) -> list[Piece]:
        """The pieces, their captions with word/POS tokens, their own where they have some."""
        texts = [caption.text for piece in pieces for caption in piece.captions if not caption.tokens]
        tokens = dict(zip(texts, map(tuple, self.tagger.tag_all(texts))))

        def tagged(caption: Caption) -> Caption:
            return caption if caption.tokens else replace(caption, tokens=tokens[caption.text])

        return [piece._replace(captions=list(map(tagged, piece.captions))) for piece in pieces]

    # ------------------------------------------------------------------------------------------------------ the end

    def finish(self, inventory: Inventory, labels: Labels) -> Accounts:
        """Split lists, statistics of the train split, packed corpus, report; what is no longer part of the dataset goes."""
        from data_loaders.feature_statistics import mean_std

        records = [self._record_of(clip) for clip in self.clips.values()]
        report = self.outputs.write(REPORT, report_text(records, inventory, labels))
        splits: dict[str, list[str]] = {split: [] for split in SPLITS}
        for record in records:
            splits[self.clips[record.file].split].extend(record.names)
        if not splits["train"]:
            why = next((f": {record.reason}" for record in records if record.left_out), "")
            raise ValueError(f"no clip of the train split could be prepared: see {report}{why}")
        train = (read_array(self.folder / f"new_joint_vecs/{name}.npy") for name in splits["train"])
        mean, std = (np.asarray(each, np.float32) for each in mean_std(train, self.features))
        own = any(caption.tokens for clip in self.clips.values() for caption in clip.captions)
        write_corpus(self.folder, self.entries(records), self.features, Statistics(mean, std, self.features),
                     "" if own else self.tagger.name)
        save_array(self.outputs.path("Mean.npy"), mean)
        save_array(self.outputs.path("Std.npy"), std)
        for split, names in splits.items():
            self.outputs.write(f"{split}.txt", "".join(f"{name}\n" for name in names))
        current = {*FIXED_FILES, *files_of([name for record in records for name in record.names])}
        self.outputs.remove(*(name for name in self.outputs.listed - current if name.startswith(("new_joint", "texts/"))))
        for path in self.folder.glob("*/.*"):  # what killed runs left half-written
            if is_partial(path.name):
                path.unlink()
        log.info("%s (%s)", report.read_text(encoding="utf-8").partition("\n")[0], report)
        return Accounts(report, records, inventory.unreadable)

    def _record_of(self, clip: SourceClip) -> Record:
        """What became of a recording in this run or before."""
        unread = Record(clip.file, clip.name, left_out=clip.left_out or "damaged", reason=clip.reason or "was not read")
        record = self.done.get(clip.file, unread)
        return replace(record, notes=[*clip.notes, *record.notes])

    def entries(self, records: Sequence[Record]) -> Iterator[NewClip]:
        """Clips for the corpus, in the order of their recordings' names."""
        for record in records:
            clip = self.clips[record.file]
            for name, side in record.names.items():
                facts = dict(clip.labels)
                if side == "mirrored":
                    facts = {key: mirror_text(value) if isinstance(value, str) else value for key, value in facts.items()}
                facts |= {"source": record.source, "file": record.file, "mirrored": side == "mirrored"}
                features = read_array(self.folder / f"new_joint_vecs/{name}.npy")
                yield NewClip(name, features, read_caption_file(self.folder / f"texts/{name}.txt"), facts)


def save_array(path: Path, array: np.ndarray) -> None:
    """Writes a .npy file, whole or not at all."""
    with atomic_path(path) as temporary:
        np.save(temporary, array)
