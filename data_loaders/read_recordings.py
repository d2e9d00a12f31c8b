"""Recordings read, retargeted and resampled by a pool of processes, as the settings of a preparation say."""

import logging
import multiprocessing
import os
import sys
from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from dataclasses import replace as changed
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal, NamedTuple

import tyro
from msgspec.structs import replace

from data_loaders.input_files import Inventory, contents
from data_loaders.known_datasets import Recordings, known_datasets, read_description
from data_loaders.prepare_report import Record
from data_loaders.sources import SUFFIXES, SourceClip
from protos.files import shown
from protos.flags import Range
from protos.options import one_line
from protos.reading import FileError

if TYPE_CHECKING:
    import numpy as np

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class PreparationSettings:
    """Turn raw motion capture (or an official HumanML3D / KIT-ML folder) into a dataset folder."""

    source: Annotated[str, tyro.conf.Positional]
    """What the input is: bvh, amass or joints files, two_person for pairs of such, the official humanml3d, kit or interhuman
    folder, a dataset that data_loaders/datasets describes (bandai_namco, cmu_more, ...), or a .toml file that describes one of
    your own in that form; merge makes one dataset of prepared ones."""
    input: Path | None = None
    """Folder of the raw files; .tar.xz archives in it are read in place."""
    output: Path | None = None
    """Folder to write, usually dataset/NAME."""
    mapping: str | None = None
    """bvh: TOML/JSON file (or shipped name) that maps the file's joints to ours (default: that of the described dataset)."""
    captions: Path | None = None
    """JSON file {"clips": {NAME: {"captions": [...]}}}; default: captions.json in the input folder."""
    body_model: Path | None = None
    """amass: folder of the licensed SMPL+H / SMPL body model files."""
    features: Literal["humanml", "interhuman_person", "interhuman"] | None = None
    """What clips become: the 263 columns of humanml, the 262 of one person in a world, or those of two people recorded together
    (default: interhuman for two_person and interhuman, else humanml)."""
    fps: Annotated[float, Range(0.1, 10_000)] | None = None
    """Frames per second of the dataset; recordings are interpolated to it (default: 20, of two people 30)."""
    source_fps: Annotated[float, Range(0.1, 10_000)] | None = None
    """Frames per second of the recordings, where their files do not tell it or are wrong (joints default: same as --fps)."""
    heading: Literal["continuous", "published"] = "continuous"
    """How the heading is taken; 'published' repeats the HumanML3D recipe with its quirks."""
    floor: Literal["person", "shared"] = "person"
    """Of two people: whether each stands on the floor, as InterGen takes it, or heights against each other stay as recorded (one
    who is lifted stays in the air)."""
    mirror: bool = True
    """Add a left-right mirrored copy <name>@mirrored of every clip, with mirrored captions (of two people training makes it)."""
    min_seconds: Annotated[float, Range(0, 1_000_000)] = 1.0
    """Shorter clips are dropped (seconds)."""
    max_frames: Annotated[int, Range(2, 1_000_000)] | None = None
    """Longer clips are cut into equal windows <name>@w0, <name>@w1, ... of at most so many frames (default: 196, of two people
    360, whose takes are cut where their captions begin and end)."""
    still_speed: Annotated[float, Range(0, 100)] = 0.25
    """Recordings that are cut lose the stillness at their ends, and windows in which three quarters of the frames have no joint
    faster than this (m/s); 0 keeps all."""
    workers: Annotated[int, Range(0, 1024)] = max(1, min(8, os.cpu_count() or 1))
    """Processes that read and retarget."""
    preview: Annotated[int, Range(0, 10_000)] = 0
    """Render so many prepared clips with their captions into OUTPUT/preview."""
    overwrite: bool = False
    """Make a dataset of ours anew that was made with another source, --fps or --heading, or of other recordings."""
    datasets: Annotated[tuple[str, ...], tyro.conf.Positional] = ()
    """merge: folders (or names) of prepared datasets; a recording that several of them have comes from the first."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "features", self.features or told_features(self.source))
        for name, of_one, of_two in (("fps", 20.0, 30.0), ("max_frames", 196, 360)):
            default = of_two if self.features == "interhuman" else of_one
            object.__setattr__(self, name, default if getattr(self, name) is None else getattr(self, name))
        if self.output is None:
            raise ValueError("--output must name the folder to write, such as dataset/NAME")
        if self.source == "merge" and (self.input is not None or len(self.datasets) < 2):
            raise ValueError("merge takes two or more prepared datasets and no --input: merge dataset/A dataset/B --output "
                             "dataset/C")  # fmt: skip
        if self.source != "merge" and (self.input is None or self.datasets):
            more = f", and no dataset beside it ({self.datasets[0]})" if self.datasets else ""
            raise ValueError(f"--input must name the folder of the recordings{more}")

    def recordings(self) -> Recordings:
        """How the input is read. ValueError for a source that is neither known nor described by a file."""
        if self.source in SUFFIXES and self.features != "interhuman":
            return Recordings(self.source, self.mapping)
        known = (*SUFFIXES, *known_datasets())
        if self.source in SUFFIXES:
            raise FileError(f"{self.source} files are read one person each: --features interhuman needs SOURCE two_person")
        if self.source not in known and not self.source.endswith(".toml"):
            raise ValueError(f"SOURCE {shown(self.source)}: expected one of {', '.join(known)}, or a .toml file like those in "
                             "data_loaders/datasets")  # fmt: skip
        described = known_datasets().get(self.source) or read_description(Path(self.source))
        if described.recordings is None:
            raise FileError(f"{self.source}: describes no recordings, expected a [recordings] part")
        if self.features == "interhuman" and len(described.recordings.persons) != 2:
            raise FileError(f"{self.source}: tells of no two people recorded together, which --features interhuman needs: SOURCE "
                            "two_person reads pairs")  # fmt: skip
        if self.mapping:
            return replace(described.recordings, mapping=self.mapping, mappings={})
        return described.recordings


def told_features(source: str) -> str:
    """What the clips of a source become where nobody says it."""
    try:
        described = known_datasets().get(source) or (read_description(Path(source)) if source.endswith(".toml") else None)
    except (ValueError, OSError):  # said where the source is read
        return "humanml"
    if described and described.pairs:
        return "interhuman"
    return described.recordings.features if described and described.recordings else "humanml"


class Loaded(NamedTuple):
    """A recording after reading: what became of it so far, and joints (T, J, 3), of two people (2, T, J, 3), at the dataset's fps
    where it can be used."""

    record: Record
    joints: "np.ndarray | None" = None


def read_recording(clip: SourceClip, settings: PreparationSettings) -> Loaded:
    """Reads, retargets and resamples one recording. Runs in a worker process; every failure becomes a reason."""
    import numpy as np

    from data_loaders.mocap import read_joints
    from data_loaders.pairs import read_pair

    record = Record(clip.file, clip.name, left_out=clip.left_out, reason=clip.reason)
    if record.left_out:
        return Loaded(record)
    record.left_out = "damaged"
    try:
        if clip.people:
            joints = read_pair(clip, settings.fps, settings.body_model, record.notes)
        else:
            joints = read_joints(clip, settings.fps, settings.body_model, published=settings.heading == "published",
                                 warnings=record.notes)  # fmt: skip
        frames = joints.shape[-3]
        if frames >= max(2, settings.min_seconds * settings.fps):
            record.left_out = ""
            return Loaded(record, joints.astype(np.float32))
        shorter = f"shorter than {settings.min_seconds:g} s" if frames > 1 else "a single frame"
        record.left_out, record.reason = "too short", f"{frames / settings.fps:.2f} s long, {shorter}"
    except MemoryError:
        record.reason = f"{clip.file or clip.name}: more than fits in memory"
    except (ValueError, OSError, KeyError) as error:
        record.reason = one_line(error)
    except Exception as error:  # one recording must not stop a folder, whatever is wrong with it or with us
        fault = f"a fault of this program ({type(error).__name__}: {one_line(error)[:200]})"
        record.reason = f"{clip.file or clip.name}: {fault}"
    return Loaded(record)


def with_contents(clips: Sequence[SourceClip], inventory: Inventory) -> Iterator[SourceClip]:
    """Recordings with their bytes or paths, each as soon as all of its files were read, which happens once."""
    waiting: dict[str, list[SourceClip]] = {}
    for clip in clips:
        for file in dict.fromkeys(clip.files):
            waiting.setdefault(file, []).append(clip)
    there: dict[str, bytes | Path | str] = {}
    for found, data in contents(each for each in inventory.recordings if each.file in waiting):
        there[found.file] = data
        for clip in [each for each in waiting[found.file] if all(file in there for file in each.files)]:
            yield _with_data(clip, there)
            for file in dict.fromkeys(clip.files):
                waiting[file].remove(clip)
                if not waiting[file] and file != found.file:
                    del there[file]
        if not waiting[found.file]:
            del there[found.file]


def _with_data(clip: SourceClip, there: Mapping[str, "bytes | Path | str"]) -> SourceClip:
    """The recording with what its files hold; text says why one cannot be read."""
    if damage := next((there[file] for file in clip.files if isinstance(there[file], str)), ""):
        return changed(clip, left_out="damaged", reason=damage)
    if clip.people:
        return changed(clip, people=tuple(changed(each, data=there[each.file]) for each in clip.people))
    return changed(clip, data=there[clip.file])


def read_all(clips: Iterable[SourceClip], settings: PreparationSettings) -> Iterator[Loaded]:
    """Recordings read by a pool of processes, in order, with only a few in flight so that memory stays small.

    Where a process dies (the system ends it when memory is short), those in flight are read again one by one.
    """
    if settings.workers <= 1:
        yield from (read_recording(clip, settings) for clip in clips)
        return
    pool = _pool(settings.workers)
    waiting: deque[tuple[SourceClip, Future[Loaded]]] = deque()
    try:
        for clip in clips:
            try:
                future = pool.submit(read_recording, clip, settings)
            except BrokenProcessPool:
                pool = _pool(settings.workers)
                future = pool.submit(read_recording, clip, settings)
            waiting.append((clip, future))
            if len(waiting) >= 16 * settings.workers:
                yield _result(*waiting.popleft(), settings)
        while waiting:
            yield _result(*waiting.popleft(), settings)
    finally:
        pool.shutdown(cancel_futures=True)


def _result(clip: SourceClip, future: Future[Loaded], settings: PreparationSettings) -> Loaded:
    """What a process read; where one died that read it or another, the recording read in a process of its own."""
    try:
        return future.result()
    except BrokenProcessPool:
        log.warning("a process that reads recordings died: reading %s again, by itself", clip.name)
    with _pool(1) as pool:
        try:
            return pool.submit(read_recording, clip, settings).result()
        except BrokenProcessPool:
            reason = f"{clip.file or clip.name}: the process that read it was ended (too little memory?)"
            return Loaded(Record(clip.file, clip.name, left_out="damaged", reason=reason))


def _pool(workers: int) -> ProcessPoolExecutor:
    context = multiprocessing.get_context("forkserver" if sys.platform != "win32" else "spawn")
    return ProcessPoolExecutor(workers, mp_context=context)
