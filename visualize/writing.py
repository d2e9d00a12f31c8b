"""The one way from motions to files of any format: made ready (frame rate, cycle, in place), then written, many at a time."""

import multiprocessing
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import replace
from pathlib import Path

import numpy as np

from data_loaders.corpus import Motion
from data_loaders.mocap import FARTHEST, require_near, resample
from data_loaders.skeleton import load_skeleton
from protos.reading import FileError
from visualize.amass import require_smpl, write_npz
from visualize.bvh import write_bvh
from visualize.formats import PICTURES, FileSettings
from visualize.video import write_gif, write_strip, write_video
from visualize.web_viewer import write_viewer

ALONE = 8  # files that are written sooner than a second process has started
OWN = FileSettings()

Job = tuple[Path, Motion]


def ready(motion: Motion, settings: FileSettings = OWN) -> Motion:
    """The motion as the settings want it. FileError for a frame rate that it cannot have."""
    if settings.fps is not None and settings.fps != motion.fps:
        people = np.stack([resample(joints, motion.fps, settings.fps) for joints in motion.joints])
        motion = replace(motion, joints=people, fps=settings.fps, rotations=None)
    if settings.in_place or settings.loop:
        from visualize.cycles import cycle, in_place  # torch, which takes seconds

        motion = in_place(motion) if settings.in_place else motion
        motion = cycle(motion, home=settings.in_place) if settings.loop else motion
    return motion


def require_formats(skeleton: str, formats: Sequence[str], body: bool, name: str = "") -> None:
    """FileError, with a file's name before it, where motions of a skeleton cannot be written in one of the formats, or shown with
    a body: asked before anything is written."""
    tree = load_skeleton(skeleton)
    try:
        if body and {*formats} & {*PICTURES}:
            from visualize.skinned_body import require_skinned

            require_skinned(tree)
        if "npz" in formats:
            require_smpl(tree)
        if "vrma" in formats:
            from visualize.vrma import vrm_bones

            vrm_bones(tree)
    except FileError as error:
        raise FileError(f"{name}: {error}" if name else str(error)) from None


def write_motion(path: Path, motion: Motion, formats: Sequence[str], settings: FileSettings = OWN) -> list[Path]:
    """Writes a motion that is `ready`, of any number of persons, as `path` with the suffix of each format, and returns the files.

    bvh, vrma and npz hold one person: of several they are NAME_p1, NAME_p2. Each file is whole or not there. FileError for
    joints that are not finite or kilometres away, ValueError for what a format cannot hold.
    """
    if not np.abs(motion.joints).max(initial=0) <= FARTHEST:
        for person in motion.joints:
            require_near(person, path.name)  # says which joint of which frame
    written: list[Path] = []
    for name in formats:
        made = _writer(name, settings)(path.with_name(f"{path.name}.{name}"), motion)
        written += made if isinstance(made, list) else [made]
    return written


def _writer(name: str, settings: FileSettings) -> Callable[[Path, Motion], Path | list[Path]]:
    """What writes files of a format."""
    names = {"naming": settings.skeleton, "root_bone": settings.root_bone}
    if name in ("mp4", "gif", "html"):
        write = {"mp4": write_video, "gif": write_gif, "html": write_viewer}[name]
        return lambda path, motion: write(path, [motion], body=settings.body)
    if name == "png":
        return lambda path, motion: write_strip(path, motion, body=settings.body)
    if name == "bvh":
        return lambda path, motion: write_bvh(path, motion, **names)
    if name == "glb":
        from visualize.gltf import write_glb

        return lambda path, motion: write_glb(path, motion, **names)
    if name == "vrma":
        from visualize.vrma import write_vrma

        return write_vrma
    if name == "usda":
        from visualize.usd import write_usda

        return lambda path, motion: write_usda(path, motion, **names)
    if name == "fbx":
        from visualize.fbx import write_fbx

        return lambda path, motion: write_fbx(path, motion, **names)
    return write_npz


def write_all(
    jobs: Sequence[Job], formats: Sequence[str], settings: FileSettings = OWN, workers: int = 0
) -> Iterator[list[Path]]:
    """`write_motion` of each job (path, motion), the files of one after the other as they are done, in the order of the jobs.

    workers: processes that write (0: one for each core). What goes wrong in one of them is raised here. OSError where one was
    ended.
    """
    workers = min(workers or available_cores(), len(jobs))
    if workers <= 1 or len(jobs) * len(formats) < ALONE:
        yield from (write_motion(path, motion, formats, settings) for path, motion in jobs)
        return
    context = multiprocessing.get_context("forkserver" if sys.platform != "win32" else "spawn")
    context.set_forkserver_preload([__name__])  # imported once, not by each process
    try:
        with ProcessPoolExecutor(workers, mp_context=context) as pool:
            paths, motions = zip(*jobs)
            count = len(jobs)
            yield from pool.map(write_motion, paths, motions, [formats] * count, [settings] * count, chunksize=1)
    except BrokenProcessPool:
        raise OSError("a process that writes motions was ended (too little memory?): write fewer at once") from None


def available_cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
