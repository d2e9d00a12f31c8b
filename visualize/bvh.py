"""Motions as BVH files for Blender, Maya, Unity, MotionBuilder, Mixamo's characters: a file for each person.

Centimetres, +Y up, in T-pose facing +Z at rest, channels Zrotation Xrotation Yrotation (R = Rz Rx Ry), names as Mixamo has them,
or others. The root's OFFSET is 0, so that programs agree which read its positions in place of it and which add them to it; people
of one motion stay where they are in its world. The published way is `published_bvh.py`.
"""

from pathlib import Path
from typing import Literal

import numpy as np

from data_loaders.corpus import Motion
from data_loaders.skeleton import Skeleton, load_skeleton
from visualize.bvh_text import BvhSkeleton, bvh_text
from visualize.formats import Naming, write_people
from visualize.joint_rotations import continuous, euler_angles
from visualize.rigs import ROOT_NAMES, bone_names, rig_of

Solver = Literal["own", "published"]
ORDER = "ZXY"
CENTIMETRES = 100.0  # in a metre
END = 0.4  # length of an End Site (fingers, toes, top of the head) over that of the bone before it


def write_bvh(
    path: Path, motion: Motion, solver: Solver = "own", naming: Naming = "mixamo", root_bone: bool = False
) -> list[Path]:
    """Writes a motion, each file whole or not at all, and returns the files: `path`, of several persons NAME_p1.bvh, NAME_p2.bvh.

    root_bone: as in `rig_of`. FileError where the published solver is asked for another skeleton than its own.
    """
    return write_people(path, bvh_of(motion, solver, naming, root_bone))


def bvh_of(motion: Motion, solver: Solver = "own", naming: Naming = "mixamo", root_bone: bool = False) -> list[str]:
    """The text of a BVH file for each person. FileError as `write_bvh`."""
    skeleton = load_skeleton(motion.skeleton)
    if solver == "published":
        from visualize.published_bvh import published_bvh, require_published

        require_published(skeleton)
        return [published_bvh(joints, motion.fps).text for joints in motion.joints]
    return [person_bvh(joints, motion.fps, skeleton, naming, root_bone) for joints in motion.joints]


def person_bvh(joints: np.ndarray, fps: float, skeleton: Skeleton, naming: Naming = "mixamo", root_bone: bool = False) -> str:
    """The text of a BVH file for joints (T, J, 3) in metres, Y up."""
    rig = rig_of(joints, skeleton, bone_names(skeleton, naming), ROOT_NAMES[naming] if root_bone else None)
    moving = list(rig.moving)
    offsets = CENTIMETRES * rig.offsets
    offsets[moving] = 0.0
    body = BvhSkeleton(rig.names, rig.parents, offsets, END * offsets, ORDER, placed=len(moving))
    return bvh_text(body, CENTIMETRES * rig.places[:, moving], continuous(euler_angles(rig.turns, ORDER)), fps)
