"""Runs of commands that make motion: requests with the seeds of their repetitions, and files. Loads without torch."""

import logging
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from model.capabilities import Decoding, Generates, Request
from protos.files import file_name, numbered_folder
from protos.randomness import derive_seed
from sample.exports import require_writable, write_exports
from sample.generation import NotFiniteError, motions_for
from sample.settings import RunSettings

if TYPE_CHECKING:
    from data_loaders.corpus import Motion

log = logging.getLogger(__name__)


def row_names(count: int, num_samples: int) -> list[str]:
    """prompt##_rep## of each row of a run: row = repetition · num_samples + sample."""
    return [f"prompt{row % num_samples:02d}_rep{row // num_samples:02d}" for row in range(count)]


def write_motions(
    folder: Path, motions: "Sequence[Motion]", num_samples: int, video: bool, gif: bool, html: bool, reaction: bool = False
) -> None:
    """Everything a sampling run leaves behind: its results, and each motion as joints/prompt##_rep##.npy.

    `motions` in the order of the rows. video: prompt##_rep##.mp4, prompt##.mp4 with the repetitions side by side, prompt##.png
    as a strip; gif: prompt##_rep##.gif beside them; html: prompt##.html, a page to turn and to step through. reaction: whether
    the second of two people answers the first.
    """
    from tqdm import tqdm

    from data_loaders.motion_files import write_joints, write_results
    from visualize.video import write_gif, write_strip, write_video
    from visualize.web_viewer import write_viewer

    write_results(folder, motions, num_samples, reaction)
    names = row_names(len(motions), num_samples)
    for name, motion in zip(names, motions, strict=True):
        write_joints(folder / "joints" / f"{name}.npy", motion)
    if video:
        bar = tqdm(motions, desc="videos", unit="video", disable=None if len(motions) > 4 else True)
        for name, motion in zip(names, bar):
            write_video(folder / f"{name}.mp4", [motion])
            if gif:
                write_gif(folder / f"{name}.gif", [motion])
    for sample in range(num_samples):
        path, row = folder / f"prompt{sample:02d}", motions[sample::num_samples]
        if video:
            if len(row) > 1:
                write_video(path.with_suffix(".mp4"), row)
            write_strip(path.with_suffix(".png"), row[0])
        if html:
            labels = [f"rep{repetition:02d}" for repetition in range(len(row))] if len(row) > 1 else None
            write_viewer(path.with_suffix(".html"), row, labels=labels)


def write_run(model: Generates, requests: Sequence[Request], settings: RunSettings, decoding: Decoding, checkpoint: Path,
              what: str) -> Path:
    """Makes the requests as the settings say and writes everything, as `write_made`."""
    skeleton = model.features.skeleton
    return write_made(lambda rows: motions_for(model, rows, decoding), requests, settings, checkpoint, what, skeleton)


def write_made(
    make: "Callable[[Sequence[Request]], Sequence[Motion]]", requests: Sequence[Request], settings: RunSettings, checkpoint: Path,
    what: str, skeleton: str, reaction: bool = False,
) -> Path:  # fmt: skip
    """Writes the motions of a skeleton that `make` makes of the requests, with seeds and repetitions as the settings say, into a
    folder named after the checkpoint and after `what` is made. A run that fails leaves no folder. reaction: as `write_motions`
    takes it."""
    exporting = settings.bvh or settings.foot_lock or settings.solver != "own"
    if exporting:
        require_writable(settings, skeleton)
    name = file_name(checkpoint.name if checkpoint.is_dir() else checkpoint.parent.name)
    folder = numbered_folder(settings.output_dir or Path("outputs") / f"{name}_{file_name(what)}_seed{settings.seed}")
    rows = [replace(request, seed=derive_seed(settings.seed, "sample", sample, repetition))
            for repetition in range(settings.num_repetitions) for sample, request in enumerate(requests)]  # fmt: skip
    try:
        motions = make(rows)
    except BaseException as error:
        folder.rmdir()  # ours, and still empty
        if isinstance(error, NotFiniteError):
            raise NotFiniteError(f"{checkpoint}: {error}") from None
        raise
    write_motions(folder, motions, len(requests), settings.video, settings.gif, settings.html, reaction)
    if exporting:
        write_exports(folder, row_names(len(motions), len(requests)), motions, settings, settings.video)
    log.info("%d motions in %s", len(motions), folder)
    return folder
