"""A person's motion as bones that other programs know: their names, a T-pose at rest, how they turn. What BVH, GLB, VRMA, USD and
FBX are written from."""

from dataclasses import dataclass

import numpy as np

from data_loaders.skeleton import Skeleton
from visualize.body import facing
from visualize.formats import Naming
from visualize.joint_rotations import TurnedSkeleton, solve_turns
from visualize.skinned_body import SOLE

MIXAMO_PREFIX = "mixamorig:"  # in scenes; files of one skeleton do without
ROOT_NAMES = {"smpl": "root", "mixamo": "Root", "unity": "Root", "unreal": "root"}
ON_THE_FLOOR = np.array([1.0, 0.0, 1.0])


@dataclass(frozen=True)
class Rig:
    """Bones of one person in metres, Y up. At rest all are turned as the world is and stand in T-pose, facing +Z, their soles on
    the floor.

    names (B,), parents (B,): -1 for the topmost; offsets (B, 3): from the parent at rest; places (T, B, 3): from the parent in
    each frame, as at rest but for the `moving`; turns (T, B, 3, 3): against the parent. The bones from `first` on are the joints
    of a skeleton, `turned` as they are.
    """

    names: tuple[str, ...]
    parents: tuple[int, ...]
    offsets: np.ndarray
    places: np.ndarray
    turns: np.ndarray
    moving: tuple[int, ...]
    turned: TurnedSkeleton
    first: int = 0

    @property
    def rest(self) -> np.ndarray:
        """Where the bones begin at rest (B, 3)."""
        rest = np.array(self.offsets, np.float64)
        for bone, parent in enumerate(self.parents):
            rest[bone] += rest[parent] if parent >= 0 else 0.0
        return rest


def bone_names(skeleton: Skeleton, naming: Naming, prefix: bool = False) -> tuple[str, ...]:
    """The joints' names in a rig; those of the skeleton itself where it does not tell others. prefix: as in Mixamo's scenes."""
    own = {"mixamo": skeleton.mixamo_names, "unity": skeleton.unity_names, "unreal": skeleton.unreal_names}.get(naming)
    names = own or skeleton.joint_names
    return tuple(MIXAMO_PREFIX + name for name in names) if prefix and naming == "mixamo" and own else names


def rig_of(joints: np.ndarray, skeleton: Skeleton, names: tuple[str, ...], root: str | None = None) -> Rig:
    """The bones of joints (T, J, 3) in metres, under these names. root: name of a bone on the floor below the pelvis, from which
    the body faces ahead: it carries way and heading."""
    turned = solve_turns(joints, skeleton)
    parents, turns = skeleton.parents, turned.local
    offsets = turned.offsets.copy()
    offsets[0, 1] = SOLE - turned.rest[:, 1].min()
    places = np.broadcast_to(offsets, (len(turns), *offsets.shape)).copy()
    places[:, 0] = turned.root
    if root is None:
        return Rig(names, parents, offsets, places, turns, (0,), turned)
    ahead = facing(np.asarray(joints, np.float64), skeleton.face_joints)  # (T, 2), x and z
    yaw = np.zeros((len(turns), 3, 3))
    yaw[:, 1, 1] = 1.0
    yaw[:, 0, 0], yaw[:, 0, 2], yaw[:, 2, 0], yaw[:, 2, 2] = ahead[:, 1], ahead[:, 0], -ahead[:, 0], ahead[:, 1]
    below = turned.root * ON_THE_FLOOR
    back = yaw.transpose(0, 2, 1)
    places[:, 0] = np.einsum("tab,tb->ta", back, turned.root - below)
    turns = np.concatenate([yaw[:, None], back[:, None] @ turns[:, :1], turns[:, 1:]], axis=1)
    return Rig(
        (root, *names), (-1, *(parent + 1 for parent in parents)), np.concatenate([np.zeros((1, 3)), offsets]),
        np.concatenate([below[:, None], places], axis=1), turns, (0, 1), turned, first=1,
    )  # fmt: skip
