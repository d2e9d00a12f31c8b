"""Stretches of motion joined to one: frames in another order, a motion led to where a given one goes on, a body's own bones.

Arrays are joints (T, J, 3) in metres, Y up, of a skeleton with humanml's names.
"""

import numpy as np

from data_loaders.motion_checks import bone_vectors
from data_loaders.skeleton import Skeleton
from visualize.edited_body import body_turns
from visualize.two_bones import unit


def facings(joints: np.ndarray) -> np.ndarray:
    """Where a body faces (T,), in radians about Y from +Z."""
    forward = body_turns(joints)[:, 2]
    return np.arctan2(forward[:, 0], forward[:, 2])


def turned_about(joints: np.ndarray, angles: np.ndarray | float) -> np.ndarray:
    """Joints (T, ..., 3) turned about Y by angles (T,), or one, in radians."""
    angles = np.broadcast_to(angles, len(joints)).reshape(-1, *[1] * (joints.ndim - 2))
    cos, sin, (x, y, z) = np.cos(angles), np.sin(angles), np.moveaxis(joints, -1, 0)
    return np.stack([cos * x + sin * z, y, cos * z - sin * x], axis=-1)


def blended(joints: np.ndarray, other: np.ndarray, share: np.ndarray, skeleton: Skeleton) -> np.ndarray:
    """Between joints (T, J, 3) and others, of which a share (T,) is taken: the pelvis lies between both, bones point between both
    and keep the length that is between both."""
    share = share[:, None, None]
    bones, others = bone_vectors(joints, skeleton), bone_vectors(other, skeleton)
    lengths = (1 - share) * np.linalg.norm(bones, axis=-1, keepdims=True) + share * np.linalg.norm(others, axis=-1, keepdims=True)
    root = (1 - share[:, 0]) * joints[:, 0] + share[:, 0] * other[:, 0]
    return built(root, lengths * unit((1 - share) * bones + share * others), skeleton)


def built(root: np.ndarray, bones: np.ndarray, skeleton: Skeleton) -> np.ndarray:
    """Joints (T, J, 3) of the way of the root (T, 3) and the bones (T, J, 3) that end at the others."""
    joints = np.empty_like(bones)
    joints[:, 0] = root
    for joint, parent in enumerate(skeleton.parents[1:], start=1):
        joints[:, joint] = joints[:, parent] + bones[:, joint]
    return joints


def in_order(joints: np.ndarray, order: np.ndarray, skeleton: Skeleton, fade: int) -> np.ndarray:
    """Joints (M, J, 3) of places in a motion of several frames, (M,), that may lie between these. Where these go back,
    somebody goes on from where the body then is and faces, and passes over `fade` frames from what would have come to what comes.
    """
    if len(order) == len(joints) and (order == np.arange(len(joints))).all():
        return joints
    from scipy.interpolate import CubicSpline

    at = CubicSpline(np.arange(len(joints)), joints)
    frames = at(order)
    for jump in np.flatnonzero(np.diff(order) < 0) + 1:
        count = min(fade, len(order) - jump)
        coming = at(np.minimum(order[jump - 1] + np.arange(count + 1), len(joints) - 1))  # the last that came, and its following
        coming = placed(coming, coming[0], frames[jump - 1])
        frames[jump:] = placed(frames[jump:], frames[jump], coming[1])
        share = np.arange(1, count + 1) / (count + 1)
        frames[jump : jump + count] = blended(coming[1:], frames[jump : jump + count], share, skeleton)
    return frames


def placed(joints: np.ndarray, start: np.ndarray, there: np.ndarray) -> np.ndarray:
    """Joints (T, J, 3) turned about Y and moved over the floor as the pose `start` (J, 3) would have to be, to stand and face as
    that `there`."""
    angle = float(facings(there[None])[0] - facings(start[None])[0])
    level = np.array((1.0, 0.0, 1.0))
    return turned_about(joints - start[0] * level, angle) + there[0] * level


def going_on(joints: np.ndarray, there: np.ndarray) -> np.ndarray:
    """Joints (T, J, 3) turned about Y and moved so that the first pose, which is that `there` (J, 3) elsewhere, lies on it."""
    x, z = (joints[0] - joints[0].mean(axis=0))[:, [0, 2]].T
    there_x, there_z = (there - there.mean(axis=0))[:, [0, 2]].T
    turned = turned_about(joints, float(np.arctan2((z * there_x - x * there_z).sum(), (x * there_x + z * there_z).sum())))
    return turned + (there.mean(axis=0) - turned[0].mean(axis=0))


def led_to(joints: np.ndarray, first: int, there: np.ndarray) -> np.ndarray:
    """Joints (T, J, 3) whose frames from `first` on, and the last of all most of all, are turned and moved so that the last has
    the place and heading of the pose `there` (J, 3): steps are turned by more and more, and what then is left of the way is
    spread over all of them."""
    count = len(joints) - first
    share = np.zeros(len(joints))
    share[first:] = np.arange(1, count + 1) / count
    share = share * share * (3 - 2 * share)  # begins and ends gently
    angle = facings(there[None])[0] - facings(joints[-1:])[0]
    angles = share * ((angle + np.pi) % (2 * np.pi) - np.pi)
    root = joints[:, 0]
    steps = turned_about(np.diff(root, axis=0), angles[1:])
    way = np.concatenate([root[:1], root[:1] + np.cumsum(steps, axis=0)])
    left = (there[0] - way[-1]) * np.array((1.0, 0.0, 1.0))
    way = way + share[:, None] * left
    way[:, 1] = root[:, 1]
    return turned_about(joints - root[:, None], angles) + way[:, None]


def on_own_bones(joints: np.ndarray, told: np.ndarray, given: np.ndarray, skeleton: Skeleton) -> np.ndarray:
    """Joints (M, J, 3) of a codec's body, brought to the body and into the world of a `given` motion (T, J, 3), which the codec
    tells as `told` (T, J, 3): bones are as long as in the mean of the given, it begins where that does, and
    faces as that does all in all."""
    lengths = np.linalg.norm(bone_vectors(given, skeleton), axis=-1).mean(axis=0)  # (J,)
    legs = list(skeleton.leg_joints)
    scale = lengths[legs].sum() / np.linalg.norm(bone_vectors(told[:1], skeleton)[0, legs], axis=-1).sum()
    angle = float(np.angle(np.exp(1j * (facings(given) - facings(told))).mean()))
    bones = turned_about(bone_vectors(joints, skeleton), angle)
    root = turned_about(scale * (joints[:, 0] - told[0, 0]), angle) + given[0, 0]
    return built(root, lengths[:, None] * unit(bones), skeleton)
