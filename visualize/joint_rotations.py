"""Joints -> how each joint turns from a T-pose: what BVH and every other skinned format needs.

Each frame is solved by itself, from the root outwards, so that neither the heading nor its speed matters: a joint with several
children (pelvis, chest) turns as one stiff piece that fits them best, any other aims its bone at where the next joint is to be.
Knees and elbows lie where the limb's end is met best, and say how the bone above turns about itself: by the plane they bend in.
Features describe bones otherwise (`data_loaders/bone_rotations.py`): without twist, and the two hips apart from each other.
"""

from dataclasses import dataclass, replace

import numpy as np

from data_loaders.motion_checks import bone_vectors
from data_loaders.skeleton import Skeleton
from visualize.two_bones import SHORTEST, bend_limb, natural_reach, unit

NUDGE = 1e-9  # of the parent's turn in a fit: decides where the children lie in one line
STRAIGHT = 0.2  # sine of the bend up to which an elbow follows the shortest turn rather than the plane it bends in
ENDS = 2.0  # weight of hands and feet against knees and elbows, where bones of one length cannot meet both
NEARLY_OPPOSITE = 1e-8  # |before + after|² of unit vectors


@dataclass(frozen=True)
class TurnedSkeleton:
    """A body in T-pose, facing +Z, and how it moves. offsets (J, 3): of each joint from its parent, in metres, 0 for the root;
    root (T, 3): where it is; turns (T, J, 3, 3): of each joint in the world, from the T-pose."""

    skeleton: Skeleton
    offsets: np.ndarray
    root: np.ndarray
    turns: np.ndarray

    @property
    def local(self) -> np.ndarray:
        """Turns (T, J, 3, 3) of each joint against its parent."""
        parents = list(self.skeleton.parents[1:])
        below = self.turns[:, parents].transpose(0, 1, 3, 2) @ self.turns[:, 1:]
        return np.concatenate([self.turns[:, :1], below], axis=1)

    def at(self, frames: slice) -> "TurnedSkeleton":
        """Some of its frames."""
        return replace(self, root=self.root[frames], turns=self.turns[frames])

    @property
    def rest(self) -> np.ndarray:
        """Joints (J, 3) in T-pose, the root at 0."""
        joints = np.zeros_like(self.offsets)
        for joint, parent in enumerate(self.skeleton.parents[1:], start=1):
            joints[joint] = joints[parent] + self.offsets[joint]
        return joints

    @property
    def joints(self) -> np.ndarray:
        """Joints (T, J, 3) in metres: forward kinematics."""
        joints = np.empty((*self.turns.shape[:2], 3))
        joints[:, 0] = self.root
        for joint, parent in enumerate(self.skeleton.parents[1:], start=1):
            joints[:, joint] = joints[:, parent] + self.turns[:, parent] @ self.offsets[joint]
        return joints


def solve_turns(joints: np.ndarray, skeleton: Skeleton, body: np.ndarray | None = None) -> TurnedSkeleton:
    """How joints (T, J, 3) in metres turn, with the mean lengths of their own bones.

    Limbs point as in a T-pose at rest; how hips and collars lie about the pelvis and the chest is the clip's own. The joints of
    what is returned are the given ones but for what bones change their lengths. Joints without children do not turn. body: the
    offsets (J, 3) in T-pose of another body, which is to come as near to the joints as its bones allow.
    """
    places = np.ascontiguousarray(np.asarray(joints, np.float64).transpose(1, 0, 2))  # (J, T, 3)
    if body is None:
        lengths = np.linalg.norm(bone_vectors(np.asarray(joints, np.float64), skeleton), axis=-1).mean(axis=0)  # (J,)
        directions = t_pose(skeleton)
    else:
        lengths, directions = np.linalg.norm(body, axis=-1), unit(np.asarray(body, np.float64))
    offsets = lengths[:, None] * directions
    children = [[j for j, parent in enumerate(skeleton.parents) if parent == joint] for joint in range(skeleton.num_joints)]
    reached, turns = np.empty_like(places), np.empty((len(places), places.shape[1], 3, 3))
    reached[0] = places[0]
    for joint, own in enumerate(children):
        parent = skeleton.parents[joint]
        above = turns[parent] if joint else np.broadcast_to(np.eye(3), turns.shape[1:])
        if joint:
            reached[joint] = reached[parent] + above @ offsets[joint]
        if len(own) > 1 and body is None:
            turns[joint], offsets[own] = _fitted(above, offsets[own], places[own] - reached[joint])
        elif len(own) > 1:
            turns[joint] = _kabsch(above, offsets[own], places[own] - reached[joint])
        elif own:
            middle, bent = places[own[0]], np.zeros_like(places[0])  # (T, 3)
            hinge = skeleton.hinges.get(skeleton.joint_names[own[0]])
            if hinge and children[own[0]]:
                end = children[own[0]][0]
                limb = places[[joint, own[0], end]].transpose(1, 0, 2)
                middle = _middle(limb, reached[joint], (lengths[own[0]], lengths[end]))
                bent = np.cross(unit(middle - reached[joint]), unit(places[end] - middle))
            wanted = middle - reached[joint]
            turns[joint] = _aimed(above, directions[own[0]], wanted, hinge, bent)
        else:
            turns[joint] = above
    return TurnedSkeleton(skeleton, offsets, places[0], np.ascontiguousarray(turns.transpose(1, 0, 2, 3)))


def t_pose(skeleton: Skeleton) -> np.ndarray:
    """Unit directions (J, 3) of the bones of a T-pose that faces +Z; 0 for the root. A skeleton that does not say rests as its
    file has it."""
    return unit(np.array(skeleton.t_pose or skeleton.raw_offsets, dtype=np.float64))


def _fitted(above: np.ndarray, rest: np.ndarray, wanted: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Turns (T, 3, 3) that fit rest (K, 3) to vectors (K, T, 3), and their mean shape (K, 3), which is fitted in the end.

    Kabsch 1976, twice: the shape is what the vectors are when the first fit is undone, with their mean lengths.
    """
    turns = _kabsch(above, rest, wanted)
    shape = np.einsum("tba,ktb->ka", turns, wanted)
    shape = unit(shape) * np.linalg.norm(wanted, axis=-1).mean(axis=1)[:, None]
    return _kabsch(above, shape, wanted), shape


def _middle(limb: np.ndarray, start: np.ndarray, lengths: tuple[float, float]) -> np.ndarray:
    """Where the middle (T, 3) of limbs (T, 3, 3) from start (T, 3) is to be for the end to be met with bones of these lengths, a
    nearly straight limb staying so: least squares of both, the distance of the ends being what gives way."""
    natural, stiffness = natural_reach(limb, lengths)
    along = limb[:, 2] - start
    wanted = np.linalg.norm(along, axis=-1)
    distance = (ENDS * wanted + stiffness * natural) / (ENDS + stiffness)
    return bend_limb(limb, start, start + distance[:, None] * unit(along), lengths)[0]


def _kabsch(above: np.ndarray, rest: np.ndarray, wanted: np.ndarray) -> np.ndarray:
    fit = np.einsum("kta,kb->tab", wanted, rest) + NUDGE * max(float((rest**2).sum()), SHORTEST**2) * above
    left, _, right = np.linalg.svd(fit)
    left[:, :, 2] *= np.sign(np.linalg.det(left) * np.linalg.det(right))[:, None]  # a turn, no reflection
    return left @ right


def _aimed(
    above: np.ndarray, along: np.ndarray, wanted: np.ndarray, hinge: tuple[float, ...] | None, bent: np.ndarray
) -> np.ndarray:
    """Turns (T, 3, 3) that aim a bone, along (3,) in T-pose, at wanted (T, 3), from those above it by the shortest way; where the
    next joint bends about `bent` (T, 3), as long as the sine of the bend, so that this is its hinge."""
    before = above @ along  # (T, 3)
    length = np.linalg.norm(wanted, axis=-1, keepdims=True)
    after = np.where(length > SHORTEST, wanted / np.maximum(length, SHORTEST), before)
    aside = np.eye(3)[np.abs(along).argmin()] if hinge is None else np.array(hinge)
    across = unit(aside - (aside @ along) * along)
    turned = above @ across
    between = before + after
    squared = np.einsum("tc,tc->t", between, between)
    shift = 2 * np.einsum("tc,tc->t", between, turned) / np.maximum(squared, NEARLY_OPPOSITE)
    turned -= np.where(squared > NEARLY_OPPOSITE, shift, 0.0)[:, None] * between  # opposite: half a turn about it
    turned = STRAIGHT * turned + bent
    turned = unit(turned - np.einsum("tc,tc->t", turned, after)[:, None] * after)
    axes = np.stack([after, turned, np.cross(after, turned)], axis=-1)
    return axes @ np.stack([along, across, np.cross(along, across)])


def quaternions(turns: np.ndarray) -> np.ndarray:
    """Quaternions (T, J, 4), x y z w, of turns (T, J, 3, 3); of two signs each frame has the one nearer to the frame before."""
    from scipy.spatial.transform import Rotation

    found = Rotation.from_matrix(turns.reshape(-1, 3, 3)).as_quat(canonical=True).reshape(*turns.shape[:2], 4)
    flips = np.where((found[1:] * found[:-1]).sum(-1) < 0, -1.0, 1.0)
    found[1:] *= np.cumprod(flips, axis=0)[..., None]
    return found


def euler_angles(turns: np.ndarray, order: str) -> np.ndarray:
    """Degrees (T, J, 3) in the order of the name of turns (T, J, 3, 3): "ZXY" are Rz Rx Ry, as BVH reads channels Z, X, Y."""
    i, j, k = ("XYZ".index(axis) for axis in order)
    sign = 1.0 if (j - i) % 3 == 1 else -1.0  # even or odd permutation
    sine = sign * turns[..., i, k]
    cosine = np.hypot(turns[..., i, i], turns[..., i, j])
    lost = cosine < 1e-7  # the first and the third turn about one axis: all is given to the first
    first = np.where(lost, np.arctan2(sign * turns[..., k, j], turns[..., j, j]),
                     np.arctan2(-sign * turns[..., j, k], turns[..., k, k]))  # fmt: skip
    third = np.where(lost, 0.0, np.arctan2(-sign * turns[..., i, j], turns[..., i, i]))
    return np.rad2deg(np.stack([first, np.arctan2(sine, cosine), third], axis=-1))


def continuous(angles: np.ndarray) -> np.ndarray:
    """The same rotations with angles (T, J, 3) in degrees that go on from frame to frame: any rotation has two triples of Euler
    angles, (a, b, c) and (a + 180, 180 - b, c + 180), each with whole turns added at will."""
    other = np.array([180.0, 180.0, 180.0]) + angles * np.array([1.0, -1.0, 1.0])
    stays, changes = (np.abs((each[1:] - angles[:-1] + 180) % 360 - 180).sum(-1) for each in (angles, other))
    odd = np.zeros((*angles.shape[:-1], 1), dtype=bool)
    odd[1:, :, 0] = np.cumsum(changes < stays, axis=0) % 2 == 1  # which of the two is nearer is the same seen from either
    return np.unwrap(np.where(odd, other, angles), period=360.0, axis=0)
