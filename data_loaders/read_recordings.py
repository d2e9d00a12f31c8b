"""Recordings read, retargeted and resampled by a pool of processes, as the settings of a preparation say."""

import logging
import os
import sys
from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import tyro

from data_loaders.known_datasets import Recordings, known_datasets, read_description
from protos.bounds import Range
from protos.names import shown
from protos.options import one_line
from protos.reading import FileError

if TYPE_CHECKING:
    import numpy as np

    from data_loaders.sources import SourceClip

log = logging.getLogger(__name__)
FILES = ("bvh", "amass", "joints")


@dataclass(frozen=True)
class PreparationSettings:
    """What a dataset folder is made of, and how."""

    source: Annotated[str, tyro.conf.Positional]
    """What the input is: bvh, amass or joints files, the official humanml3d or kit folder, a dataset that data_loaders/datasets
    describes (bandai_namco, cmu_sample), or a .toml file that describes one of your own in that form."""
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
    overwrite: bool = False
    """Make a dataset of ours anew that was made with another source, --fps or --heading, or of other recordings."""

    def recordings(self) -> Recordings:
        """How the input is read. ValueError for a source that is neither known nor described by a file."""
        if self.source in FILES:
            return Recordings(self.source, self.mapping)
        known = (*FILES, *known_datasets())
        if self.source not in known and not self.source.endswith(".toml"):
            raise ValueError(f"SOURCE {shown(self.source)}: expected one of {', '.join(known)}, or a .toml file like those in "
                             "data_loaders/datasets")  # fmt: skip
        described = known_datasets().get(self.source) or read_description(Path(self.source))
        if described.recordings is None:
            raise FileError(f"{self.source}: describes no recordings, expected a [recordings] part")
        return described.recordings


@dataclass
class Loaded:
    """A recording after reading: joints (T, J, 3) at the dataset's fps, or a word on why not and the reason."""

    clip: "SourceClip"
    joints: "np.ndarray | None" = None
    left_out: str = ""
    reason: str = ""
    notes: tuple[str, ...] = ()


def load_clip(clip: "SourceClip", settings: PreparationSettings) -> Loaded:
    """Reads, retargets and resamples one recording. Runs in a worker process; every failure becomes a reason."""
    import numpy as np

    from data_loaders.mocap import read_joints

    warnings: list[str] = []
    bare = replace(clip, data=b"")
    if clip.left_out:
        return Loaded(bare, None, clip.left_out, clip.reason)
    try:
        published = settings.heading == "published"
        joints = read_joints(clip, settings.fps, settings.body_model, published=published, warnings=warnings)
        seconds = len(joints) / settings.fps
        if len(joints) < max(2, settings.min_seconds * settings.fps):
            shorter = f"shorter than {settings.min_seconds:g} s" if len(joints) > 1 else "a single frame"
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


def read_all(clips: Iterable["SourceClip"], settings: PreparationSettings) -> Iterator[Loaded]:
    """Recordings read by a pool of processes, in order, with only a few in flight so that memory stays small.

    Where a process dies (the system ends it when memory is short), those in flight are read again one by one.
    """
    if settings.workers <= 1:
        yield from (load_clip(clip, settings) for clip in clips)
        return
    clips = iter(clips)
    more = True
    while more:
        waiting: deque = deque()
        with _pool(settings.workers) as pool:
            try:
                more = False
                for clip in clips:
                    waiting.append((clip, None))  # before it is handed over, so that it is not lost where that fails
                    waiting[-1] = clip, pool.submit(load_clip, clip, settings)
                    if len(waiting) >= 16 * settings.workers:
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
            yield read_alone(clip, settings)


def read_alone(clip: "SourceClip", settings: PreparationSettings) -> Loaded:
    """A recording read in a process of its own."""
    with _pool(1) as pool:
        try:
            return pool.submit(load_clip, clip, settings).result()
        except BrokenProcessPool:
            reason = f"{clip.file or clip.name}: the process that read it was ended (too little memory?)"
            return Loaded(replace(clip, data=b""), None, "damaged", reason)


def _pool(workers: int) -> ProcessPoolExecutor:
    import multiprocessing

    context = multiprocessing.get_context("forkserver" if sys.platform != "win32" else "spawn")
    return ProcessPoolExecutor(workers, mp_context=context)
