"""python -m data_loaders.prepare SOURCE --input FOLDER --output dataset/NAME: raw recordings -> a dataset folder.

Writes the HumanML3D layout (new_joints, new_joint_vecs, texts, Mean.npy, Std.npy, split lists), the packed corpus, and
report.txt, which accounts for every file found. A further run does what is left: an interrupted one goes on, and what was
changed, repaired, captioned or removed since is done again. It ends with 1 where a recording was damaged.
"""

import logging
import os
import subprocess
import sys
from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import tyro

from protos.bounds import Range
from protos.options import one_line, parse, run_command
from protos.processes import setup_logging

if TYPE_CHECKING:
    import numpy as np

    from data_loaders.clip_labels import Labels
    from data_loaders.input_files import Inventory
    from data_loaders.prepare_report import Accounts
    from data_loaders.sources import SourceClip

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
    fps: Annotated[float, Range(0.1, 10_000)] = 20.0
    """Frames per second of the dataset; recordings are interpolated to it."""
    source_fps: Annotated[float, Range(0.1, 10_000)] | None = None
    """joints: frames per second of the .npy files (default: same as --fps)."""
    heading: Literal["continuous", "published"] = "continuous"
    """How the heading is taken; 'published' repeats the HumanML3D recipe with its quirks."""
    mirror: bool = True
    """Add a left-right mirrored copy <name>@mirrored of every clip, with mirrored captions."""
    min_seconds: Annotated[float, Range(0, 1_000_000)] = 1.0
    """Shorter clips are dropped (seconds)."""
    max_frames: Annotated[int, Range(2, 1_000_000)] = 196
    """Longer clips are cut into equal windows <name>@w0, <name>@w1, ... of at most so many frames."""
    workers: Annotated[int, Range(0, 1024)] = max(1, min(8, os.cpu_count() or 1))
    """Processes that read and retarget."""
    preview: Annotated[int, Range(0, 10_000)] = 0
    """Render so many prepared clips with their captions into OUTPUT/preview."""
    overwrite: bool = False
    """Make a dataset of ours anew that was made with another source, --fps or --heading, or of other recordings."""


@dataclass
class Loaded:
    """A recording after reading: joints (T, J, 3) at the dataset's fps, or a word on why not and the reason."""

    clip: "SourceClip"
    joints: "np.ndarray | None" = None
    left_out: str = ""
    reason: str = ""
    notes: tuple[str, ...] = ()


def load_clip(clip: "SourceClip", options: PrepareOptions) -> Loaded:
    """Reads, retargets and resamples one recording. Runs in a worker process; every failure becomes a reason."""
    import numpy as np

    from data_loaders.mocap import read_joints

    warnings: list[str] = []
    bare = replace(clip, data=b"")
    if clip.left_out:
        return Loaded(bare, None, clip.left_out, clip.reason)
    try:
        published = options.heading == "published"
        joints = read_joints(clip, options.fps, options.body_model, published=published, warnings=warnings)
        if joints.shape[1] < NUM_JOINTS:
            raise ValueError(f"{clip.name}: {joints.shape[1]} joints, expected the {NUM_JOINTS} of HumanML3D")
        joints = joints[:, :NUM_JOINTS]
        if not np.isfinite(joints).all():
            frame = int(np.argwhere(~np.isfinite(joints).all((1, 2)))[0, 0])
            raise ValueError(f"frame {frame} holds NaN or infinite joints, expected finite numbers")
        seconds = len(joints) / options.fps
        if len(joints) < max(2, options.min_seconds * options.fps):
            shorter = f"shorter than {options.min_seconds:g} s" if len(joints) > 1 else "a single frame"
            return Loaded(bare, None, "too short", f"{seconds:.2f} s long, {shorter}", tuple(warnings))
        return Loaded(bare, joints.astype(np.float32), notes=tuple(warnings))
    except MemoryError:
        return Loaded(bare, None, "damaged", f"{clip.file or clip.name}: more than fits in memory", tuple(warnings))
    except (ValueError, OSError, KeyError) as error:
        results = "; if it is a results file of sample.sample, take the files of its joints folder"
        pickled = clip.kind == "joints" and "pickled" in str(error)
        return Loaded(bare, None, "damaged", f"{one_line(error)}{results if pickled else ''}", tuple(warnings))
    except Exception as error:  # one recording must not stop a folder, whatever is wrong with it or with us
        reason = f"{clip.file or clip.name}: a fault of this program ({type(error).__name__}: {one_line(error)[:200]})"
        return Loaded(bare, None, "damaged", reason, tuple(warnings))


def read_all(clips: Iterable["SourceClip"], options: PrepareOptions) -> Iterator[Loaded]:
    """Recordings read by a pool of processes, in order, with only a few in flight so that memory stays small.

    Where a process dies (the system ends it when memory is short), those in flight are read again one by one.
    """
    if options.workers <= 1:
        yield from (load_clip(clip, options) for clip in clips)
        return
    clips = iter(clips)
    more = True
    while more:
        waiting: deque = deque()
        with _pool(options.workers) as pool:
            try:
                more = False
                for clip in clips:
                    waiting.append((clip, None))  # before it is handed over, so that it is not lost where that fails
                    waiting[-1] = clip, pool.submit(load_clip, clip, options)
                    if len(waiting) >= 16 * options.workers:
                        yield waiting[0][1].result()
                        waiting.popleft()
                while waiting:
                    yield waiting[0][1].result()
                    waiting.popleft()
                continue
            except BrokenProcessPool:
                more = True
        log.warning("a process that reads recordings died: reading %d again, one by one", len(waiting))
        for clip, _ in waiting:
            yield read_alone(clip, options)


def read_alone(clip: "SourceClip", options: PrepareOptions) -> Loaded:
    """A recording read in a process of its own."""
    with _pool(1) as pool:
        try:
            return pool.submit(load_clip, clip, options).result()
        except BrokenProcessPool:
            reason = f"{clip.file or clip.name}: the process that read it was ended (too little memory?)"
            return Loaded(replace(clip, data=b""), None, "damaged", reason)


def _pool(workers: int) -> ProcessPoolExecutor:
    import multiprocessing

    context = multiprocessing.get_context("forkserver" if sys.platform != "win32" else "spawn")
    return ProcessPoolExecutor(workers, mp_context=context)


def list_source(options: PrepareOptions) -> tuple["Inventory", "Labels", list["SourceClip"]]:
    """Everything that lies in the input folder, what is said about it, and the recordings in the order of their names."""
    from data_loaders import sources
    from data_loaders.clip_labels import Labels
    from data_loaders.input_files import survey
    from data_loaders.mocap import load_mapping

    if options.source == "bvh" and not options.mapping:
        raise ValueError("bvh needs --mapping: a file that says which joint is which (see data_loaders/mappings)")
    if options.mapping:
        load_mapping(options.mapping)  # a wrong one is refused before anything is written
    inventory = survey(options.input, sources.SUFFIXES[options.source], without=[options.output])
    labels = Labels(options.input, options.captions)
    if options.source == "bandai_namco":
        source = sources.bandai_namco(labels)
    elif options.source == "cmu_sample":
        source = sources.cmu_sample(labels)
    else:
        fps = options.source_fps or (options.fps if options.source == "joints" else None)
        source = sources.any_folder(labels, options.source, options.mapping, fps)
    return inventory, labels, sources.listed(inventory, labels, source)


def prepare(options: PrepareOptions) -> "Accounts":
    """Runs the whole preparation; what became of every file. Raises ValueError or OSError with one line that says what to do."""
    if options.source in ("humanml3d", "kit"):
        from data_loaders.official import pack_official

        accounts = pack_official(options.input, options.output, options.source)
    else:
        accounts = _prepare_recordings(options)
    if options.preview:
        # A layer to the right, hence a command of its own.
        flags = ["--dataset", str(options.output), "--num_clips", str(options.preview)]
        if subprocess.run([sys.executable, "-m", "visualize.preview", *flags]).returncode:
            raise ValueError(f"{options.output} is prepared, but its preview could not be rendered (see above)")
    return accounts


def _prepare_recordings(options: PrepareOptions) -> "Accounts":
    from tqdm import tqdm

    from data_loaders.prepare_run import Preparation, require_other_folder
    from data_loaders.sources import with_data

    require_other_folder(options.input, options.output)
    inventory, labels, clips = list_source(options)
    run = Preparation(options, clips)
    todo = run.todo()
    for clip in clips:
        if clip.left_out:
            log.warning("%s dropped: %s", clip.name, clip.reason)
    batch: list[Loaded] = []
    with tqdm(desc="clips", unit="clip", total=len(clips), initial=len(clips) - len(todo), disable=None) as bar:
        for loaded in read_all(with_data(inventory, todo), options):
            for line in (loaded.reason, *loaded.notes):
                if line:
                    log.warning("%s%s: %s", loaded.clip.name, " dropped" if line is loaded.reason else "", line)
            batch.append(loaded)
            bar.update()
            if len(batch) == BATCH:
                run.write(batch)
                batch = []
        run.write(batch)
    return run.finish(inventory, labels)


def main() -> None:
    setup_logging()
    accounts = prepare(parse(PrepareOptions))
    if problem := accounts.problem():
        raise ValueError(problem)


if __name__ == "__main__":
    run_command(main)
