"""Motions as BVH files for Blender, Maya, Unity, MotionBuilder, Mixamo's characters: a file for each person.

Centimetres, +Y up, in T-pose facing +Z at rest, channels Zrotation Xrotation Yrotation (R = Rz Rx Ry), names as Mixamo has them.
The root's OFFSET is 0, so that programs agree which read its positions in place of it and which add them to it; people of one
motion stay where they are in its world. The published way is `published_bvh.py`.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import numpy as np

from data_loaders.corpus import Motion
from data_loaders.skeleton import Skeleton, load_skeleton
from protos.files import write_atomically
from visualize.bvh_text import BvhSkeleton, bvh_text
from visualize.joint_rotations import continuous, euler_angles, solve_turns

Solver = Literal["own", "published"]
ORDER = "ZXY"
CENTIMETRES = 100.0  # in a metre
END = 0.4  # length of an End Site (fingers, toes, top of the head) over that of the bone before it


def write_bvh(path: Path, motion: Motion, solver: Solver = "own") -> list[Path]:
    """Writes a motion, each file whole or not at all, and returns the files: `path`, of several persons NAME_p1.bvh, NAME_p2.bvh.

    FileError where the published solver is asked for another skeleton than its own.
    """
    return write_people(path, bvh_of(motion, solver))


def write_people(path: Path, texts: Sequence[str]) -> list[Path]:
    """Writes the texts of a motion's files under the names of `write_bvh`."""
    paths = [path] if len(texts) == 1 else [path.with_name(f"{path.stem}_p{i}{path.suffix}") for i in range(1, len(texts) + 1)]
    for file, text in zip(paths, texts, strict=True):
        write_atomically(file, text)
    return paths


def bvh_of(motion: Motion, solver: Solver = "own") -> list[str]:
    """The text of a BVH file for each person. FileError as `write_bvh`."""
    skeleton = load_skeleton(motion.skeleton)
    if solver == "published":
        from visualize.published_bvh import published_bvh, require_published

        require_published(skeleton)
        return [published_bvh(joints, motion.fps).text for joints in motion.joints]
    return [person_bvh(joints, motion.fps, skeleton) for joints in motion.joints]


def person_bvh(joints: np.ndarray, fps: float, skeleton: Skeleton) -> str:
    """The text of a BVH file for joints (T, J, 3) in metres, Y up."""
    turned = solve_turns(joints, skeleton)
    offsets = CENTIMETRES * turned.offsets
    body = BvhSkeleton(skeleton.mixamo_names or skeleton.joint_names, skeleton.parents, offsets, END * offsets, ORDER)
    return bvh_text(body, CENTIMETRES * turned.root, continuous(euler_angles(turned.local, ORDER)), fps)
