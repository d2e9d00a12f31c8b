"""python -m data_loaders.prepare SOURCE --input FOLDER --output dataset/NAME: raw recordings -> a dataset folder.

Writes the HumanML3D layout (new_joints, new_joint_vecs, texts, Mean.npy, Std.npy, split lists), the packed corpus, and
report.txt with every clip that was dropped and why. An interrupted run goes on where it stopped.
"""

import json
import logging
import os
import subprocess
import sys
from collections import deque
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass, replace
from itertools import pairwise
from pathlib import Path
from typing import Annotated, Literal

import tyro

from protos.files import atomic_path, write_atomically
from protos.options import parse, run_command, setup_logging

log = logging.getLogger(__name__)
NUM_JOINTS = 22
BATCH = 128  # clips per feature batch: enough to vectorise, a few MB


@dataclass(frozen=True)
class PrepareOptions:
    """Turn raw motion capture (or an official HumanML3D / KIT-ML folder) into a dataset folder."""

    source: Annotated[
        Literal["bandai_namco", "cmu_sample", "bvh", "amass", "joints", "humanml3d", "kit"], tyro.conf.Positional
    ]
    """What the input is."""
    input: Path
    """Folder of the raw files; .tar.xz archives in it are read in place."""
    output: Path
    """Folder to write, usually dataset/NAME."""
    mapping: str | None = None
    """bvh: TOML/JSON file (or shipped name) that maps the file's joints to ours."""
    captions: Path | None = None
    """JSON file {"clips": {NAME: {"captions": [...]}}}; default: captions.json in the input folder."""
    body_model: Path | None = None
    """amass: folder of the licensed SMPL+H / SMPL body model files."""
    fps: float = 20.0
    """Frames per second of the dataset; recordings are interpolated to it."""
    source_fps: float | None = None
    """joints: frames per second of the .npy files (default: same as --fps)."""
    heading: Literal["continuous", "published"] = "continuous"
    """How the heading is taken; 'published' repeats the HumanML3D recipe with its quirks."""
    mirror: bool = True
    """Add a left-right mirrored copy M<name> of every clip, with mirrored captions."""
    min_seconds: float = 1.0
    """Shorter clips are dropped (seconds)."""
    max_frames: int = 196
    """Longer clips are cut into equal windows of at most so many frames."""
    workers: int = max(1, min(8, os.cpu_count() or 1))
    """Processes that read and retarget."""
    preview: int = 0
    """Render so many prepared clips with their captions into OUTPUT/preview."""


@dataclass
class Loaded:
    """A source clip after reading: joints (T, J, 3) at the dataset's fps, or the reason why not."""

    clip: object
    joints: object = None
    problem: str | None = None


def load_clip(clip, options: PrepareOptions) -> Loaded:
    """Reads, retargets and resamples one clip. Runs in a worker process; every failure becomes a reason."""
    import numpy as np

    from data_loaders.mocap import read_joints

    try:
        joints = read_joints(clip, options.fps, options.body_model, published=options.heading == "published")
        if joints.shape[1] < NUM_JOINTS:
            raise ValueError(f"{clip.name}: {joints.shape[1]} joints, expected the {NUM_JOINTS} of HumanML3D")
        joints = joints[:, :NUM_JOINTS]
        if not np.isfinite(joints).all():
            frame = int(np.argwhere(~np.isfinite(joints).all((1, 2)))[0, 0])
            raise ValueError(f"frame {frame} holds NaN or infinite joints, expected finite numbers")
        problem = None
        if len(joints) < options.min_seconds * options.fps:
            problem = f"{len(joints) / options.fps:.2f} s long, shorter than {options.min_seconds:g} s"
        elif not clip.captions:
            problem = "no caption (captions.json or NAME.txt beside the clip)"
        return Loaded(replace(clip, data=b""), None if problem else joints.astype(np.float32), problem)
    except (ValueError, OSError, KeyError) as error:
        return Loaded(replace(clip, data=b""), None, str(error))


def read_all(clips: Iterator, options: PrepareOptions) -> Iterator[Loaded]:
    """Clips read by a pool of processes, in order, with only a few in flight so that memory stays small."""
    if options.workers <= 1:
        yield from (load_clip(clip, options) for clip in clips)
        return
    import multiprocessing

    context = multiprocessing.get_context("forkserver" if sys.platform != "win32" else "spawn")
    with ProcessPoolExecutor(options.workers, mp_context=context) as pool:
        waiting: deque = deque()
        for clip in clips:
            waiting.append(pool.submit(load_clip, clip, options))
            if len(waiting) >= 16 * options.workers:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()


def windows(num_frames: int, longest: int) -> list[tuple[int, int]]:
    """Equal windows [start, stop) over joint frames; neighbours share a frame, since n + 1 joints give n feature rows."""
    rows = num_frames - 1
    count = -(-rows // longest)
    edges = [round(i * rows / count) for i in range(count + 1)]
    return [(start, stop + 1) for start, stop in pairwise(edges)]


class Preparation:
    """The state of one run: what is done (progress.jsonl in the output folder) and how a batch of clips is written."""

    def __init__(self, options: PrepareOptions):
        from data_loaders.corpus import Representation
        from data_loaders.skeleton import load_skeleton
        from data_loaders.text import Tagger

        self.options = options
        self.folder = options.output
        self.skeleton = load_skeleton("humanml")
        self.representation = Representation("humanml", options.fps, options.heading)
        self.tagger = Tagger()
        self.progress_file = self.folder / "progress.jsonl"
        self.done: dict[str, dict] = {}
        for name in ("new_joints", "new_joint_vecs", "texts"):
            (self.folder / name).mkdir(parents=True, exist_ok=True)
        self._read_progress()

    def _read_progress(self) -> None:
        keep = ("source", "fps", "heading", "mirror", "min_seconds", "max_frames", "mapping")
        settings = {name: value for name, value in asdict(self.options).items() if name in keep}
        if self.progress_file.is_file():
            first, *rest = self.progress_file.read_text().splitlines() or ["{}"]
            if json.loads(first) != settings:
                raise ValueError(
                    f"{self.folder} was begun with other settings ({first}); give another --output or the same settings"
                )
            for line in rest:
                try:
                    record = json.loads(line)
                except json.JSONDecodeError:  # the line that a killed run was writing
                    continue
                self.done[record["source"]] = record
            log.info("%d clips were prepared before: going on", len(self.done))
        write_atomically(
            self.progress_file, "".join(json.dumps(row) + "\n" for row in [settings, *self.done.values()])
        )

    def record(self, records: list[dict]) -> None:
        self.done.update({record["source"]: record for record in records})
        with open(self.progress_file, "a") as file:
            file.write("".join(json.dumps(record) + "\n" for record in records))

    def write(self, batch: list[Loaded]) -> None:
        """Windows, mirrored twins, features, texts of a batch of clips; then their lines in progress.jsonl."""
        import torch

        from data_loaders.humanml_features import features_from_clips, joints_from_features, mirror_joints

        names, joints, records = [], [], []
        texts: dict[str, list[str]] = {}
        for loaded in batch:
            clip = loaded.clip
            record = {"source": clip.name, "split": clip.split, "labels": clip.labels, "names": {}, "dropped": loaded.problem}
            records.append(record)
            if loaded.problem:
                continue
            spans = windows(len(loaded.joints), self.options.max_frames)
            for k, (start, stop) in enumerate(spans):
                name = clip.name if len(spans) == 1 else f"{clip.name}_w{k}"
                piece = torch.from_numpy(loaded.joints[start:stop])
                for twin in (False, True) if self.options.mirror else (False,):
                    names.append(("M" if twin else "") + name)
                    joints.append(mirror_joints(piece, self.skeleton) if twin else piece)
                    texts[names[-1]] = self.caption_lines(clip.captions, twin)
                    record["names"][names[-1]] = "mirrored" if twin else "as recorded"
        features = features_from_clips(joints, self.skeleton, heading=self.options.heading) if joints else []
        for name, rows in zip(names, features):
            if not torch.isfinite(rows).all():
                self._drop(records, name, "its features hold NaN (degenerate pose?)")
                continue
            save_array(self.folder / "new_joint_vecs" / f"{name}.npy", rows.numpy())
            save_array(self.folder / "new_joints" / f"{name}.npy", joints_from_features(rows, self.skeleton).numpy())
            with atomic_path(self.folder / "texts" / f"{name}.txt") as path:
                path.write_text("\n".join(texts[name]) + "\n")
        self.record(records)

    def caption_lines(self, captions: tuple[str, ...], mirrored: bool) -> list[str]:
        from data_loaders.text import Caption, format_caption, mirror_text

        captions = tuple(mirror_text(text) for text in captions) if mirrored else captions
        return [format_caption(Caption(text, tuple(self.tagger.tag(text)))) for text in captions]

    @staticmethod
    def _drop(records: list[dict], name: str, reason: str) -> None:
        for record in records:
            if name in record["names"]:
                del record["names"][name]
                record["dropped"] = f"{name}: {reason}"

    def entries(self) -> Iterator:
        import numpy as np

        from data_loaders.corpus import Entry
        from data_loaders.text import mirror_text, read_caption_file

        for record in sorted(self.done.values(), key=lambda row: row["source"]):
            for name, side in record["names"].items():
                labels = dict(record["labels"])
                if side == "mirrored":
                    labels = {key: mirror_text(v) if isinstance(v, str) else v for key, v in labels.items()}
                labels |= {"source": record["source"], "mirrored": side == "mirrored"}
                features = np.load(self.folder / "new_joint_vecs" / f"{name}.npy")
                yield Entry(name, features, read_caption_file(self.folder / "texts" / f"{name}.txt"), labels)

    def finish(self) -> None:
        """Split lists, statistics of the train split, packed corpus and report."""
        import numpy as np

        from data_loaders.corpus import Statistics, write_corpus
        from data_loaders.humanml_features import mean_std

        splits: dict[str, list[str]] = {"train": [], "val": [], "test": []}
        for record in sorted(self.done.values(), key=lambda row: row["source"]):
            splits[record["split"]].extend(record["names"])
        if not splits["train"]:
            raise ValueError(f"no clip of the train split could be prepared: see {self.write_report()}")
        for split, names in splits.items():
            write_atomically(self.folder / f"{split}.txt", "".join(f"{name}\n" for name in names))
        train = (np.load(self.folder / "new_joint_vecs" / f"{name}.npy") for name in splits["train"])
        mean, std = (np.asarray(a, np.float32) for a in mean_std(train, self.skeleton))
        save_array(self.folder / "Mean.npy", mean)
        save_array(self.folder / "Std.npy", std)
        write_corpus(self.folder, self.entries(), self.representation, Statistics(mean, std, self.representation))
        log.info("%s", self.write_report())

    def write_report(self) -> Path:
        dropped = [(row["source"], row["dropped"]) for row in self.done.values() if row["dropped"]]
        kept = sum(len(row["names"]) for row in self.done.values())
        lines = [f"{len(self.done)} recordings, {kept} clips written, {len(dropped)} recordings dropped"]
        lines += [reason if reason.startswith(name) else f"{name}: {reason}" for name, reason in sorted(dropped)]
        path = self.folder / "report.txt"
        write_atomically(path, "\n".join(lines) + "\n")
        log.info("%s", lines[0])
        return path


def save_array(path: Path, array) -> None:
    import numpy as np

    with atomic_path(path) as temporary:
        np.save(temporary, array)


def list_source(options: PrepareOptions) -> Iterator:
    from data_loaders import sources
    from data_loaders.mocap import load_mapping

    labels = sources.Labels.read(options.input, options.captions)
    if options.source == "bandai_namco":
        return sources.bandai_namco(options.input, labels)
    if options.source == "cmu_sample":
        return sources.cmu_sample(options.input, labels)
    if options.source == "bvh":
        if not options.mapping:
            raise ValueError("bvh needs --mapping: a file that says which joint is which (data_loaders/mappings has four)")
        load_mapping(options.mapping)  # a wrong one is refused before anything is written
    fps = options.source_fps or (options.fps if options.source == "joints" else None)
    return sources.any_folder(options.input, labels, options.source, options.mapping, fps)


def prepare(options: PrepareOptions) -> None:
    """Runs the whole preparation. Raises ValueError or OSError with one line that says what to do."""
    if options.source in ("humanml3d", "kit"):
        from data_loaders.official import pack_official

        pack_official(options.input, options.output, options.source)
    else:
        from tqdm import tqdm

        clips = list_source(options)
        run = Preparation(options)
        todo = (clip for clip in clips if clip.name not in run.done)
        batch: list[Loaded] = []
        with tqdm(desc="clips", unit="clip", initial=len(run.done), disable=None) as bar:
            for loaded in read_all(todo, options):
                if loaded.problem:
                    log.warning("%s dropped: %s", loaded.clip.name, loaded.problem)
                batch.append(loaded)
                bar.update()
                if len(batch) == BATCH:
                    run.write(batch)
                    batch = []
            run.write(batch)
        run.finish()
    if options.preview:
        # A layer to the right, hence a command of its own.
        flags = ["--dataset", str(options.output), "--num_clips", str(options.preview)]
        subprocess.run([sys.executable, "-m", "visualize.preview", *flags], check=True)


def main() -> None:
    setup_logging()
    prepare(parse(PrepareOptions))


if __name__ == "__main__":
    run_command(main)
