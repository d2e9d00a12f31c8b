"""The body that a scene shows over a rig: the free one, or where a skeleton is not that of it octahedra, one for each bone."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from data_loaders.skeleton import Skeleton, load_skeleton
from visualize.rigs import Rig
from visualize.skinned_body import SKELETON, Skin, fitted, free_body

WIDTH = 0.12  # of an octahedron, over its length
WIDEST = 0.05  # metres
END = 0.4  # length beyond a joint without children, over that of the bone before it
FACES = np.array([(0, 2, 1), (0, 3, 2), (0, 4, 3), (0, 1, 4), (5, 1, 2), (5, 2, 3), (5, 3, 4), (5, 4, 1)])


def body_over(rig: Rig, skeleton: Skeleton) -> Skin:
    """A body whose joints lie where those of a rig do at rest."""
    joints = rig.rest[rig.first :]
    if skeleton.joint_names != load_skeleton(SKELETON).joint_names:
        return octahedra(joints, skeleton.parents)
    body = fitted(free_body(fine=True), joints)
    return replace(body, vertices=body.vertices + joints[0] - body.joints[0], joints=joints)


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
