"""The body that a scene shows over a rig: the free one, or where a skeleton is not that of it octahedra, one for each bone."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from data_loaders.skeleton import Skeleton, load_skeleton
from visualize.resting_ends import rested
from visualize.rigs import Rig
from visualize.skinned_body import BASES, SKELETON, Skin, ends_of, fitted, free_body, twisted, twisted_pose

WIDTH = 0.12  # of an octahedron, over its length
WIDEST = 0.05  # metres
END = 0.4  # length beyond a joint without children, over that of the bone before it
FACES = np.array([(0, 2, 1), (0, 3, 2), (0, 4, 3), (0, 1, 4), (5, 1, 2), (5, 2, 3), (5, 3, 4), (5, 4, 1)])


def dressed(rig: Rig, skeleton: Skeleton, floor: float) -> tuple[Rig, Skin]:
    """The rig with what a body takes beside its bones, and the body, whose joints lie where those of the rig do at rest, from
    `first` on. floor: its height in metres, on which hands and toes rest.

    Upper arms and thighs get two bones more, which twist less than their ends do.
    """
    rest = rig.rest[rig.first :]
    if skeleton.joint_names != load_skeleton(SKELETON).joint_names:
        return rig, octahedra(rest, skeleton.parents)
    skin = free_body(fine=True)
    own = fitted(skin, rig.turned)
    pose = twisted_pose(rested(rig.turned, ends_of(own), floor))
    body = replace(twisted(skin), vertices=own.vertices, joints=own.joints[list(BASES)])
    offsets = rig.offsets.copy()
    offsets[rig.first] = own.joints[0]  # soles on the floor
    parents = [skeleton.parents[base] for base in BASES[1:]]
    turns = rig.turns[:, : rig.first + 1]  # down to the pelvis; what lies below is turned against bones that do as before
    turns = np.concatenate([turns, pose.turns[:, parents].transpose(0, 1, 3, 2) @ pose.turns[:, 1:]], axis=1)
    added = [base + rig.first for base in BASES[len(rest) :]]
    more = tuple(twist_name(rig.names[bone], 1 + i % 2) for i, bone in enumerate(added))
    wider = replace(
        rig, names=rig.names + more, parents=(*rig.parents, *(rig.parents[bone] for bone in added)), turns=turns,
        offsets=np.concatenate([offsets, offsets[added]]),
        places=np.concatenate([rig.places, rig.places[:, added]], axis=1),
    )  # fmt: skip
    return wider, body


def twist_name(name: str, number: int) -> str:
    """Of a bone that twists another: LeftArmTwist1; upperarm_twist_01_l, as Unreal has it."""
    limb, side = name[:-2], name[-2:]
    return f"{limb}_twist_{number:02d}{side}" if side in ("_l", "_r") else f"{name}Twist{number}"


def octahedra(joints: np.ndarray, parents: Sequence[int]) -> Skin:
    """Octahedra along the bones between joints (J, 3), and beyond those without children; each moves with the joint where it
    begins."""
    bones = [(parent, joints[parent], joints[joint]) for joint, parent in enumerate(parents) if parent >= 0]
    ends = [joint for joint in range(len(parents)) if joint not in parents and parents[joint] >= 0]
    bones += [(joint, joints[joint], joints[joint] + END * (joints[joint] - joints[parents[joint]])) for joint in ends]
    vertices = np.concatenate([_octahedron(start, end) for _, start, end in bones])
    faces = np.concatenate([FACES + 6 * i for i in range(len(bones))])
    indices = np.zeros((len(vertices), 4), int)
    indices[:, 0] = np.repeat([joint for joint, *_ in bones], 6)
    weights = np.zeros((len(vertices), 4))
    weights[:, 0] = 1.0
    return Skin(vertices, faces, indices, weights, joints, tuple(parents))


def _octahedron(start: np.ndarray, end: np.ndarray) -> np.ndarray:
    """Its corners (6, 3): start, four around, end."""
    along = end - start
    length = float(np.linalg.norm(along))
    direction = along / length if length > 1e-6 else np.array([0.0, 1.0, 0.0])
    across = np.cross(direction, np.eye(3)[np.abs(direction).argmin()])
    across /= np.linalg.norm(across)
    other, wide = np.cross(direction, across), min(WIDTH * length, WIDEST)
    waist = start + 0.25 * along
    return np.stack([start, *(waist + wide * side for side in (across, other, -across, -other)), end])
