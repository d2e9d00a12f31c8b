"""What a body does otherwise in one motion than in another, done in a third: edits made where a decoder's detail is not wanted.

Bones turn, each in the frame of its body's hips and shoulders, and keep their lengths; what is not to change stays as it is to
the last bit. Arrays are joints (T, J, 3) in metres, Y up, of a skeleton with humanml's names.
"""

import numpy as np

from data_loaders.humanml_features import mirror_joints
from data_loaders.motion_checks import bone_vectors
from data_loaders.motion_semantics import body_axes
from data_loaders.skeleton import Skeleton
from visualize.two_bones import SHORTEST, bend_limb, unit


def body_turns(joints: np.ndarray) -> np.ndarray:
    """Turns (T, 3, 3) whose rows are the body's left, up and forward in the world."""
    axes = body_axes(np.asarray(joints, np.float64)).numpy().copy()
    axes[:, 0] *= -1
    return axes


def carried_over(joints: np.ndarray, before: np.ndarray, after: np.ndarray, weights: np.ndarray,
                 skeleton: Skeleton) -> np.ndarray:  # fmt: skip
    """Joints (T, J, 3) in which bones turn as those of `before` would have to, to be those of `after`.

    weights (T, J): how far, from 0 to 1, the bone that ends at a joint does; that of the pelvis is of its height. Legs without a
    weight bend so that their feet stay where they are; where legs have one, the body sinks or rises so that the lowest foot keeps
    its height.
    """
    joints = np.asarray(joints, np.float64)
    three = (joints, before, after)
    own, old, new = (np.einsum("tij,tnj->tni", body_turns(each), bone_vectors(each, skeleton)) for each in three)
    more = np.einsum("tji,tnj->tni", body_turns(joints), turned_as(own, old, new, weights) - own)  # nothing where nothing turns
    moved = np.zeros_like(joints)  # how far each joint is
    moved[:, 0, 1] = weights[:, 0] * (after[:, 0, 1] - before[:, 0, 1])
    for joint, parent in enumerate(skeleton.parents[1:], start=1):
        moved[:, joint] = moved[:, parent] + more[:, joint]
    for foot in skeleton.feet[::2]:
        _stand(joints, moved, next(chain for chain in skeleton.chains if foot in chain)[1:], weights)
    feet = list(skeleton.feet)
    sunk = joints[:, feet, 1].min(axis=1) - (joints + moved)[:, feet, 1].min(axis=1)
    moved[..., 1] += np.where(weights[:, feet].max(axis=1) > 0, sunk, 0.0)[:, None]
    return joints + moved


def _stand(joints: np.ndarray, moved: np.ndarray, leg: tuple[int, ...], weights: np.ndarray) -> None:
    """Changes `moved` (T, J, 3) of a leg (hip, knee, ankle, foot joints) so that its foot does not follow the hip, as far as
    the leg has no weight of its own."""
    hip, knee, ankle, *below = leg
    free = 1 - weights[:, [knee, ankle, *below]].max(axis=1)
    back = free[:, None] * moved[:, hip]
    at = np.flatnonzero(np.abs(back).max(axis=1) > 0)
    if not len(at):
        return
    limb = (joints + moved)[at][:, [hip, knee, ankle]]
    upper, lower = (float(np.linalg.norm(limb[:, k + 1] - limb[:, k], axis=-1).mean()) for k in (0, 1))
    toes = joints[at][:, below[-1]] - joints[at][:, ankle] if below else None
    bent = bend_limb(limb, limb[:, 0], limb[:, 2] - back[at], (upper, lower), toes)
    for joint, place in zip((knee, ankle), bent):
        moved[at, joint] = place - joints[at, joint]
    for joint in below:
        moved[at, joint] = moved[at, joint] - (limb[:, 2] - joints[at, ankle]) + moved[at, ankle]


def turned_as(vectors: np.ndarray, before: np.ndarray, after: np.ndarray, share: np.ndarray) -> np.ndarray:
    """Vectors (..., 3) turned by a share (...) of the shortest turn that leads from the direction `before` to that `after`."""
    a, b = unit(before), unit(after)
    across = np.cross(a, b)
    angle = share * np.arctan2(np.linalg.norm(across, axis=-1), (a * b).sum(-1))
    aside = np.cross(a, np.eye(3)[np.abs(a).argmin(axis=-1)])  # half a turn is about any axis across
    axis = np.where(np.linalg.norm(across, axis=-1, keepdims=True) > SHORTEST, unit(across), unit(aside))
    cos, sin = np.cos(angle)[..., None], np.sin(angle)[..., None]
    return vectors * cos + np.cross(axis, vectors) * sin + axis * (axis * vectors).sum(-1, keepdims=True) * (1 - cos)


def mirrored(joints: np.ndarray, weights: np.ndarray, skeleton: Skeleton) -> np.ndarray:
    """Joints (T, J, 3) with left and right exchanged, as far as weights (T, J) say: all of a motion about the plane in which it
    begins, its way too; less of it pose by pose, where the body is."""
    joints = np.asarray(joints, np.float64)
    turns = body_turns(joints)
    whole = bool((weights == 1).all())
    frame, start = (turns[:1], joints[:1, :1]) if whole else (turns, joints[:, :1])
    other = np.einsum("tij,tnj->tni", np.broadcast_to(frame, turns.shape), joints - start)
    exchanged = _mirror(other, skeleton)
    poses = np.einsum("tji,tnj->tni", np.broadcast_to(frame, turns.shape), exchanged) + start
    return poses if whole else carried_over(joints, joints, poses, weights, skeleton)


def _mirror(joints: np.ndarray, skeleton: Skeleton) -> np.ndarray:
    import torch

    return mirror_joints(torch.from_numpy(np.ascontiguousarray(joints)), skeleton).numpy()
