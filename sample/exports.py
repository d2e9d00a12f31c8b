"""What a sampling run makes and writes: its settings, and files of each of its motions, to look at, for other programs, and with
locked feet. Loads without torch.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from model.capabilities import Cleanup, Generates, Precision
from protos.flags import BATCH_SIZE, SEED, Range
from visualize.formats import FileSettings, formats_of

if TYPE_CHECKING:
    from data_loaders.corpus import Motion

JITTER_CUTOFF = 6.0  # Hz, unless a checkpoint says otherwise: people move below it


@dataclass(frozen=True, kw_only=True)
class ExportSettings(FileSettings):
    """Files to look at and for other programs."""

    video: bool = True
    """Write mp4 videos and a PNG strip (--no_video: without, but for those that --format names)."""
    gif: bool = False
    """Also write an animated GIF per motion, as --format gif does."""
    html: bool = False
    """Also write a page per prompt that plays its motions in 3D in any browser, without a network."""
    bvh: bool = False
    """Also write each motion as BVH, a file per person, in centimetres: for Blender, Maya, Unity, Mixamo's characters."""
    foot_lock: bool = False
    """Also write each motion with its planted feet held still, as NAME_ik: joints/NAME_ik.npy, and its files."""
    solver: Literal["own", "published"] = "own"
    """How rotations are found for --bvh; published: MoMask's 100 sweeps on its skeleton in metres, for --foot_lock with its foot
    cleaning."""

    def wanted(self) -> tuple[str, ...]:
        """The formats of each motion, by --format and the flags for one. ValueError as `formats_of`."""
        flags = {"mp4": self.video, "png": self.video, "gif": self.video and self.gif, "html": self.html, "bvh": self.bvh}
        return tuple(dict.fromkeys((*(name for name, on in flags.items() if on), *(formats_of(self) if self.format else ()))))


@dataclass(frozen=True, kw_only=True)
class RunSettings(ExportSettings):
    """What a run makes and writes."""

    num_repetitions: Annotated[int, Range(1, 100_000)] = 3
    """Motions per sample, each from its own noise."""
    seed: Annotated[int, SEED] = 10
    """Seed; the same seed gives the same motions, whatever the batch size."""
    batch_size: Annotated[int, BATCH_SIZE] = 64
    """Motions made at once."""
    device: str = "auto"
    """auto, cpu, cuda, cuda:1 or 1."""
    precision: Precision = "fp32"
    """Numbers of the networks' linear layers: bf16 halves their memory, and is faster where the hardware multiplies such numbers;
    int8 quarters it, on a CPU alone, and is faster for a few motions of a large model that decodes tokens. Motions change a
    little."""
    output_dir: Path | None = None
    """Folder for the files (default: outputs/<checkpoint>_<prompt>_seed<seed>); an existing one is kept, `_2` is added."""
    report: bool = False
    """Print the physics of each motion: how fast planted feet slide, jerk, the lowest joint, how bones waver."""


@dataclass(frozen=True, kw_only=True)
class CleanupSettings:
    """What is done to motions once they are made"""

    cleanup: Literal["own", "none", "jitter", "feet", "all"] = "own"
    """Filter jitter out, hold planted feet still, or both (all); own: as the checkpoint says."""

    def cleanup_of(self, model: Generates) -> Cleanup:
        """What is done to motions of a model."""
        if self.cleanup == "own":
            return model.cleanup
        cutoff = model.cleanup.jitter_filter or JITTER_CUTOFF
        return Cleanup(cutoff if self.cleanup in ("jitter", "all") else 0.0, self.cleanup in ("feet", "all"))


def require_writable(settings: ExportSettings, skeleton: str) -> None:
    """ValueError or FileError where motions of that skeleton cannot be shown or written so: asked before any is made."""
    wanted = settings.wanted()
    if settings.body:
        from visualize.skinned_body import require_skinned

        require_skinned(skeleton)
    if settings.solver == "published":
        if "bvh" not in wanted:
            raise ValueError("--solver published is a way to write BVH files: add --bvh")
        if settings.root_bone or settings.skeleton != "mixamo":
            raise ValueError("--solver published writes its own bones: leave out --root_bone and --skeleton")
        from data_loaders.skeleton import load_skeleton
        from visualize.published_bvh import require_published

        require_published(load_skeleton(skeleton))
    if {"npz", "vrma"} & {*wanted}:
        from visualize.writing import require_formats

        require_formats(skeleton, wanted, settings.body)


def row_names(count: int, num_samples: int) -> list[str]:
    """prompt##_rep## of each row of a run: row = repetition · num_samples + sample."""
    from data_loaders.motion_files import row_name

    return [row_name(row, num_samples) for row in range(count)]


def write_motions(folder: Path, motions: "Sequence[Motion]", num_samples: int, reaction: bool = False) -> None:
    """What a sampling run has made: its results, and each motion as joints/prompt##_rep##.npy. `motions` in the order of the
    rows; reaction: whether the second of two people answers the first."""
    from data_loaders.motion_files import write_joints, write_results

    write_results(folder, motions, num_samples, reaction)
    for name, motion in zip(row_names(len(motions), num_samples), motions, strict=True):
        write_joints(folder / "joints" / f"{name}.npy", motion)


def write_views(folder: Path, motions: "Sequence[Motion]", num_samples: int, settings: ExportSettings) -> None:
    """The same to look at, as the settings want it: prompt##_rep##.FORMAT, prompt##.mp4 with the repetitions side by side,
    prompt##.png as a strip, prompt##.html, a page to turn and to step through."""
    from visualize.video import write_strip, write_video
    from visualize.web_viewer import write_viewer
    from visualize.writing import ready

    names, wanted = row_names(len(motions), num_samples), settings.wanted()
    shown = [ready(motion, settings) for motion in motions]
    write_each(folder, names, shown, settings)
    for sample in range(num_samples):
        path, row = folder / f"prompt{sample:02d}", shown[sample::num_samples]
        if "mp4" in wanted and len(row) > 1:
            write_video(path.with_suffix(".mp4"), row, body=settings.body)
        if "png" in wanted:
            write_strip(path.with_suffix(".png"), row[0], body=settings.body)
        if "html" in wanted:
            labels = [f"rep{repetition:02d}" for repetition in range(len(row))] if len(row) > 1 else None
            write_viewer(path.with_suffix(".html"), row, labels=labels, body=settings.body)


def write_each(folder: Path, names: Sequence[str], motions: "Sequence[Motion]", settings: ExportSettings) -> None:
    """Of each motion of a run, which is `ready`, by its name NAME.FORMAT, pages and strips excepted, which are of a prompt; with
    locked feet joints/NAME_ik.npy and NAME_ik.FORMAT."""
    from tqdm import tqdm

    from data_loaders.motion_files import write_joints
    from visualize.formats import write_people
    from visualize.writing import write_all

    jobs, published = [], settings.solver == "published"
    for name, motion in zip(names, motions, strict=True):
        for suffix, made, texts in _published(motion, settings) if published else _versions(motion, settings):
            path = folder / f"{name}{suffix}"
            jobs.append((path, made))
            if suffix:
                write_joints(folder / "joints" / f"{path.name}.npy", made)
            if texts:
                write_people(path.with_name(f"{path.name}.bvh"), texts)
    formats = [each for each in settings.wanted() if each not in ("png", "html") and not (published and each == "bvh")]
    done = write_all(jobs, formats, settings)
    for _ in tqdm(done, total=len(jobs), desc="files", unit="motion", disable=None if len(jobs) > 4 else True):
        pass


def _versions(motion: "Motion", settings: ExportSettings) -> "Iterator[tuple[str, Motion, list[str]]]":
    """What a name gets, the motion, and the text of its BVH files where that is not the usual one: as made, with locked feet."""
    yield "", motion, []
    if settings.foot_lock:
        from visualize.foot_lock import lock_feet

        yield "_ik", lock_feet(motion), []


def _published(motion: "Motion", settings: ExportSettings) -> "Iterator[tuple[str, Motion, list[str]]]":
    """The same with MoMask's rotations and its foot cleaning."""
    import numpy as np

    from visualize.bvh import bvh_of
    from visualize.published_bvh import published_bvh

    yield "", motion, bvh_of(motion, "published")
    if settings.foot_lock:
        people = [published_bvh(joints, motion.fps, foot_ik=True) for joints in motion.joints]
        joints = np.stack([person.joints for person in people]).astype(motion.joints.dtype)
        yield "_ik", replace(motion, joints=joints, rotations=None), [person.text for person in people]
