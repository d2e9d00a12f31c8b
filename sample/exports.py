"""What a sampling run writes for other programs, and its motions with locked feet beside them. Loads without torch."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from data_loaders.corpus import Motion


@dataclass(frozen=True, kw_only=True)
class ExportSettings:
    """How people look, and files for other programs."""

    body: bool = False
    """Show people with bodies in place of stick figures, in videos, strips and pages: a free mesh, fitted to their bones."""
    bvh: bool = False
    """Also write each motion as BVH, a file per person, in centimetres: for Blender, Maya, Unity, Mixamo's characters."""
    foot_lock: bool = False
    """Also write each motion with its planted feet held still: joints/NAME_ik.npy, NAME_ik.mp4, with --bvh NAME_ik.bvh."""
    solver: Literal["own", "published"] = "own"
    """How rotations are found for --bvh; published: MoMask's 100 sweeps on its skeleton in metres, for --foot_lock with its foot
    cleaning."""


def require_writable(settings: ExportSettings, skeleton: str) -> None:
    """ValueError or FileError where motions of that skeleton cannot be shown or written so: asked before any is made."""
    if settings.body:
        from visualize.skinned_body import require_skinned

        require_skinned(skeleton)
    if settings.solver == "published":
        if not settings.bvh:
            raise ValueError("--solver published is a way to write BVH files: add --bvh")
        from data_loaders.skeleton import load_skeleton
        from visualize.published_bvh import require_published

        require_published(load_skeleton(skeleton))


def write_exports(folder: Path, names: Sequence[str], motions: "Sequence[Motion]", settings: ExportSettings, video: bool) -> None:
    """Beside the files of a run, for each of its motions by name: NAME.bvh, and with locked feet joints/NAME_ik.npy, NAME_ik.bvh
    and, with `video`, NAME_ik.mp4."""
    from data_loaders.motion_files import write_joints
    from visualize.bvh import write_people
    from visualize.video import write_video

    for name, motion in zip(names, motions, strict=True):
        for suffix, made, texts in _versions(motion, settings):
            if settings.bvh:
                write_people(folder / f"{name}{suffix}.bvh", texts)
            if suffix:
                write_joints(folder / "joints" / f"{name}{suffix}.npy", made)
            if suffix and video:
                write_video(folder / f"{name}{suffix}.mp4", [made], body=settings.body)


def _versions(motion: "Motion", settings: ExportSettings) -> "Iterator[tuple[str, Motion, list[str]]]":
    """What a name gets, the motion, and the text of its BVH files where asked for: as made, and with locked feet."""
    import numpy as np

    from visualize.bvh import bvh_of
    from visualize.foot_lock import lock_feet
    from visualize.published_bvh import published_bvh

    if settings.bvh:
        yield "", motion, bvh_of(motion, settings.solver)
    if settings.foot_lock and settings.solver == "published":
        people = [published_bvh(joints, motion.fps, foot_ik=True) for joints in motion.joints]
        joints = np.stack([person.joints for person in people]).astype(motion.joints.dtype)
        yield "_ik", replace(motion, joints=joints, rotations=None), [person.text for person in people]
    elif settings.foot_lock:
        locked = lock_feet(motion)
        yield "_ik", locked, bvh_of(locked) if settings.bvh else []
