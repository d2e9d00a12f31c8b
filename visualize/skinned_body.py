"""A free body over a motion's joints: MakeHuman's mesh and weights (CC0), brought to the motion's proportions and skinned.

Each vertex follows up to four joints by linear blending, with the turns of `joint_rotations`, so every joint of humanml is met.
Joints say nothing of twist: forearms and shins have none against the bone above, hands and heads none against the last bone;
what upper arms and thighs have, because elbows and knees are hinges, is spread along them. docs/bodies.md: what was extracted.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, lru_cache
from pathlib import Path

import numpy as np

from data_loaders.corpus import Motion
from data_loaders.skeleton import Skeleton, load_skeleton
from protos.reading import FileError, read_arrays
from visualize.joint_rotations import TurnedSkeleton, solve_turns
from visualize.resting_ends import rested
from visualize.two_bones import unit

FILE = Path(__file__).with_name("free_body.npz")
SKELETON = "humanml"
SOLE = 0.027  # metres from a toe joint down to the floor, of a body like the mesh
LIMBS = ((16, 18), (17, 19), (1, 4), (2, 5))  # upper arms and thighs, which are twisted: their joint and that of their end
BASES = (*range(22), *(joint for joint, _ in LIMBS for _ in range(2)))  # joints of a `twisted` skin: those that lie there
UPRIGHT = 0.87  # height of a trunk's direction, from which on somebody stands: within 30 degrees
LEVEL_FEET = (0.0, 0.8)  # sine of the slope of the bone from ankle to toe, between which a foot may be level
NARROWEST, WIDEST = 0.6, 1.6  # what a part is scaled by at most, so that odd bones leave a person's body


@dataclass(frozen=True)
class Skin:
    """A mesh in T-pose, facing +Z, Y up, in metres, lowest at y = 0.

    vertices (V, 3); faces (F, 3), counter-clockwise seen from outside; joint_indices and joint_weights (V, 4), which add up to 1;
    joints (J, 3) in T-pose in the order of humanml, and their parents.
    """

    vertices: np.ndarray
    faces: np.ndarray
    joint_indices: np.ndarray
    joint_weights: np.ndarray
    joints: np.ndarray
    parents: tuple[int, ...]

    @cached_property
    def weights(self) -> np.ndarray:
        """Weights (V, J) of all joints."""
        dense = np.zeros((len(self.vertices), len(self.joints)))
        np.add.at(dense, (np.arange(len(self.vertices))[:, None], self.joint_indices), self.joint_weights)
        return dense

    @cached_property
    def normals(self) -> np.ndarray:
        """Unit normals (V, 3), outwards."""
        corners = self.vertices[self.faces]
        across = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])  # as long as twice the area
        normals = np.zeros_like(self.vertices)
        for corner in self.faces.T:
            np.add.at(normals, corner, across)
        return normals / np.maximum(np.linalg.norm(normals, axis=-1, keepdims=True), 1e-12)


@lru_cache(maxsize=2)
def free_body(fine: bool = False) -> Skin:
    """MakeHuman's body, as much a man's as a woman's: 1,206 vertices that draw fast, or 6,006 that show a face and fingers."""
    level = "fine" if fine else "coarse"
    arrays = read_arrays(FILE, kinds="fiu")
    vertices, faces, indices, weights = (
        arrays[f"{level}_{name}"] for name in ("vertices", "faces", "joint_indices", "joint_weights")
    )
    parents = load_skeleton(SKELETON).parents
    return Skin(vertices * float(arrays["step"]), faces.astype(np.int64), indices.astype(np.int64), weights / 255.0,
                arrays["joints"].astype(np.float64), parents)  # fmt: skip


def require_skinned(skeleton: Skeleton | str | Sequence[int]) -> Skeleton:
    """The skeleton, where its joints are those that the free body has; FileError otherwise."""
    own = load_skeleton(skeleton) if isinstance(skeleton, str) else skeleton
    if getattr(own, "joint_names", None) != load_skeleton(SKELETON).joint_names:
        name = getattr(own, "name", "no known skeleton")
        raise FileError(f"a body is drawn over the joints of {SKELETON}, and these are of {name}: leave out --body")
    return own


def fitted(skin: Skin, turned: TurnedSkeleton) -> Skin:
    """The skin with the proportions of a motion that was solved, its joints those of its T-pose (`turned.rest`).

    Limbs are scaled along their bones, and all across them by the size of the whole body; the trunk from hips to neck is
    stretched as one, since spines are divided otherwise in every skeleton. Collars, neck and feet get their shape as the motion
    holds them (`own_stance`), and the T-pose that follows from it: soles are level where the motion's feet are.
    """
    body, old, rest = turned.skeleton, skin.joints, turned.rest
    stance = own_stance(turned)
    new = replace(turned, root=np.zeros((1, 3)), turns=stance[None]).joints[0]
    size = _clamped(_height(rest, body) / _height(old, body))
    parts = _parts(skin.vertices, old, new, size, body)  # (J, V, 3)
    vertices = np.einsum("vj,jvc->vc", skin.weights, parts)
    # the T-pose from which linear blending leads to these vertices
    turns = np.einsum("vj,jab->vab", skin.weights, stance)
    shifts = skin.weights @ (new - np.einsum("jab,jb->ja", stance, rest))
    vertices = np.linalg.solve(turns, (vertices - shifts)[..., None])[..., 0]
    up = np.array([0.0, vertices[:, 1].min(), 0.0])
    return replace(skin, vertices=vertices - up, joints=rest - up)


def own_stance(turned: TurnedSkeleton) -> np.ndarray:
    """Turns (J, 3, 3) from T-pose of who stands upright, feet level, looking ahead, as the motion has it: recordings differ in
    where they put shoulders, the head and the balls of the feet.

    Collars are as in the mean. Nobody looks up all the time: where a neck stands steeper than in T-pose while the trunk is
    upright, its median looks ahead. Feet are level where ankles are lowest over toes that rest on the floor.
    """
    body, joints = turned.skeleton, turned.joints
    chest, neck, head = (body.index(name) for name in ("spine3", "neck", "head"))
    stance = np.tile(np.eye(3), (len(body.parents), 1, 1))
    for collar in (body.index("left_collar"), body.index("right_collar")):
        stance[collar] = _mean_turn(turned.turns[:, chest].transpose(0, 2, 1) @ turned.turns[:, collar])
    upright = unit(joints[:, neck] - joints[:, 0])[:, 1] > UPRIGHT
    if not upright.any():
        return stance
    ahead = unit(np.cross(unit(turned.turns[upright, 0, :, 0]), [0.0, 1.0, 0.0]))  # (T, 3), level
    along = unit(joints[upright, head] - joints[upright, neck])
    pitch = np.median(np.arctan2(np.einsum("tc,tc->t", along, ahead), along[:, 1]))
    own = np.arctan2(turned.offsets[head, 2], turned.offsets[head, 1])
    stance[[neck, head]] = _about_x(min(pitch - own, 0.0))
    feet = joints[upright][:, list(body.feet)].reshape(-1, 2, 2, 3)  # (T, sides, ankle and toe, 3)
    drop = (feet[:, :, 0] - feet[:, :, 1])[..., 1] / np.linalg.norm(feet[:, :, 0] - feet[:, :, 1], axis=-1)
    rests = feet[:, :, 1, 1] < feet[:, :, 1, 1].min() + 0.02
    slope = np.arcsin(np.clip(np.quantile(drop[rests], 0.1), *LEVEL_FEET))
    for ankle, toe in (body.left_feet, body.right_feet):
        stance[[ankle, toe]] = _about_x(slope - np.arctan2(-turned.offsets[toe, 1], turned.offsets[toe, 2]))
    return stance


def _about_x(angle: float) -> np.ndarray:
    cos, sin = np.cos(angle), np.sin(angle)
    return np.array([[1, 0, 0], [0, cos, -sin], [0, sin, cos]])


def _mean_turn(turns: np.ndarray) -> np.ndarray:
    """The turn (3, 3) nearest to the mean of turns (T, 3, 3)."""
    left, _, right = np.linalg.svd(turns.mean(axis=0))
    left[:, 2] *= np.sign(np.linalg.det(left @ right))
    return left @ right


def _clamped(scale: float) -> float:
    return float(np.clip(scale, NARROWEST, WIDEST))


def _height(joints: np.ndarray, body: Skeleton) -> float:
    """Metres from ankles to neck."""
    ankles = joints[list(body.feet[::2]), 1].mean()
    return max(float(joints[body.index("neck"), 1] - ankles), 1e-3)


def _parts(places: np.ndarray, old: np.ndarray, new: np.ndarray, size: float, body: Skeleton) -> np.ndarray:
    """Where each joint would have all places (V, 3) of a body with joints old (J, 3), for a body with joints new: (J, V, 3)."""
    trunk = _trunk(old, new, size, body)
    parts = np.empty((len(old), *places.shape))
    for joint, name in enumerate(body.joint_names):
        parent = body.parents[joint]
        child = next((child for child, parent in enumerate(body.parents) if parent == joint), joint)
        bone = np.linalg.norm(new[child] - new[joint]) / max(np.linalg.norm(old[child] - old[joint]), 1e-9)
        if name.startswith(("pelvis", "spine")):
            parts[joint] = trunk(places)
        elif "collar" in name:
            parts[joint] = trunk(places) + new[child] - trunk(old[child])
        elif "ankle" in name:
            length = (new[child, 2] - new[joint, 2]) / (old[child, 2] - old[joint, 2])
            above = new[joint, 1] - new[child, 1] + SOLE * size  # of the ankle over the sole
            parts[joint] = new[joint] + (places - old[joint]) * [size, _clamped(above / old[joint, 1]), _clamped(length)]
        elif "foot" in name:
            parts[joint] = parts[parent]
        elif name == "neck":
            neck = np.array([size, np.clip(bone, 0.8 * size, 1.25 * size), size])
            parts[joint] = new[joint] + neck * (places - old[joint])
        elif name == "head":
            parts[joint] = new[parent] + neck * (old[joint] - old[parent]) + size * (places - old[joint])
        else:
            share = unit(old[child] - old[joint]) ** 2  # limbs lie along an axis
            parts[joint] = new[joint] + (size + (_clamped(bone) - size) * share) * (places - old[joint])
    return parts


def _trunk(old: np.ndarray, new: np.ndarray, size: float, body: Skeleton) -> Callable[[np.ndarray], np.ndarray]:
    """What takes places (..., 3) of the trunk over: in height by hips and neck, in width by hips and shoulders."""
    right_hip, left_hip, right_shoulder, left_shoulder = body.face_joints
    hips, neck = [right_hip, left_hip], body.index("neck")
    (low, high), (new_low, new_high) = ((joints[hips, 1].mean(), joints[neck, 1]) for joints in (old, new))
    widths = [_clamped((new[left, 0] - new[right, 0]) / (old[left, 0] - old[right, 0]))
              for left, right in ((left_hip, right_hip), (left_shoulder, right_shoulder))]  # fmt: skip
    heights = old[left_hip, 1], old[left_shoulder, 1]
    stretch, back = _clamped((new_high - new_low) / (high - low)), (new - size * old)[[0, neck], 2]

    def taken_over(places: np.ndarray) -> np.ndarray:
        x = places[..., 0] * np.interp(places[..., 1], heights, widths)
        y = new_low + stretch * (places[..., 1] - low)
        z = np.interp(places[..., 1], (low, high), back) + size * places[..., 2]
        return np.stack([x, y, z], axis=-1)

    return taken_over


@dataclass(frozen=True)
class Pose:
    """Where a skin's joints are and how they turn from its T-pose: places (T, J, 3) in metres, turns (T, J, 3, 3)."""

    places: np.ndarray
    turns: np.ndarray

    def at(self, frames: slice) -> "Pose":
        """Some of its frames."""
        return Pose(self.places[frames], self.turns[frames])


def skinned(skin: Skin, motion: Motion) -> np.ndarray:
    """Vertices (P, T, V, 3) in metres over a motion's joints (P, T, J, 3), each person with their own proportions. FileError as
    `require_skinned`."""
    people = worn(skin, motion.joints, require_skinned(motion.skeleton))
    return np.stack([posed(own, pose) for own, pose in people])


def worn(skin: Skin, joints: np.ndarray, skeleton: Skeleton) -> list[tuple[Skin, Pose]]:
    """The skin on each person of joints (P, T, J, 3), as `twisted` has it, and how it moves."""
    floor = float(joints[..., 1].min()) - SOLE
    bendable, people = twisted(skin), []
    for person in joints:
        turned = solve_turns(person, skeleton)
        own = fitted(skin, turned)
        pose = twisted_pose(rested(turned, ends_of(own), floor))
        people.append((replace(bendable, vertices=own.vertices, joints=own.joints[list(BASES)]), pose))
    return people


def ends_of(skin: Skin) -> dict[int, np.ndarray]:
    """How far hands and toes reach in T-pose (3,), from their joints."""
    body, ends = load_skeleton(SKELETON), {}
    for joint in (body.index("left_wrist"), body.index("right_wrist"), body.left_feet[1], body.right_feet[1]):
        away = (skin.vertices - skin.joints[joint])[skin.weights[:, joint] > 0.5]
        parent = body.parents[joint]
        forearm = unit(skin.joints[joint] - skin.joints[parent])
        along = forearm if joint in (body.index("left_wrist"), body.index("right_wrist")) else np.array([0.0, 0.0, 1.0])
        ends[joint] = away[(away @ along).argmax()]
    return ends


def twisted(skin: Skin) -> Skin:
    """The skin with joints added (BASES says where) that turn upper arms and thighs about themselves by less than their ends do.

    An elbow's hinge says how an upper arm is twisted; at the shoulder it is not. Between them two joints more, of no and of half
    the twist, keep linear blending from wringing the skin.
    """
    weights, added = skin.weights.copy(), []
    for joint, child in LIMBS:
        bone = skin.joints[child] - skin.joints[joint]
        share = np.clip((skin.vertices - skin.joints[joint]) @ bone / (0.9 * bone @ bone), 0, 1)  # of the way to its end
        hats = np.stack([np.clip(1 - 2 * share, 0, 1), 1 - np.abs(2 * share - 1)], axis=-1)
        added.append(weights[:, joint, None] * hats)
        weights[:, joint] *= 1 - hats.sum(axis=-1)
    weights = np.concatenate([weights, *added], axis=1)
    indices = np.argsort(-weights, axis=1)[:, : skin.joint_indices.shape[1]]
    kept = np.take_along_axis(weights, indices, axis=1)
    parents = tuple(skin.parents[base] for base in BASES)
    return Skin(skin.vertices, skin.faces, indices, kept / kept.sum(axis=1, keepdims=True), skin.joints[list(BASES)], parents)


def twisted_pose(turned: TurnedSkeleton) -> Pose:
    """What the joints of a `twisted` skin do."""
    turns = [turned.turns]
    for joint, child in LIMBS:
        above = turned.turns[:, turned.skeleton.parents[joint]]
        turns += [_untwisted(above, turned.turns[:, joint], unit(turned.offsets[child]))]
    return Pose(turned.joints[:, BASES], np.concatenate(turns, axis=1))


def _untwisted(above: np.ndarray, turns: np.ndarray, along: np.ndarray) -> np.ndarray:
    """Turns (T, 3, 3) of a limb that lies along (3,) in T-pose with no and with half of its twist against those above it:
    (T, 2, 3, 3)."""
    from scipy.spatial.transform import Rotation

    local = Rotation.from_matrix(above.transpose(0, 2, 1) @ turns)
    quaternions = local.as_quat()
    twist = 2 * np.arctan2(quaternions[:, :3] @ along, quaternions[:, 3])
    twist = (twist + np.pi) % (2 * np.pi) - np.pi
    back = (Rotation.from_rotvec(-part * twist[:, None] * along) for part in (1.0, 0.5))
    return np.stack([above @ (local * each).as_matrix() for each in back], axis=1)


def posed(skin: Skin, pose: Pose | TurnedSkeleton, frames: slice = slice(None)) -> np.ndarray:
    """Vertices (T, V, 3) of a fitted skin at `frames`: linear blend skinning as one product over the joints' turns and places."""
    pose = pose.at(frames)
    places = pose.places if isinstance(pose, Pose) else pose.joints
    away = skin.vertices[:, None] - skin.joints  # (V, J, 3)
    follows = skin.weights[..., None] * np.concatenate([away, np.ones((*away.shape[:2], 1))], axis=-1)  # (V, J, 4)
    moves = np.concatenate([pose.turns.transpose(0, 1, 3, 2), places[:, :, None]], axis=2)  # (T, J, 4, 3)
    flat = moves.transpose(1, 2, 0, 3).reshape(follows[0].size, -1).astype(np.float32)
    vertices = follows.reshape(len(away), -1).astype(np.float32) @ flat
    return vertices.reshape(len(away), -1, 3).transpose(1, 0, 2)


def posed_normals(skin: Skin, pose: Pose | TurnedSkeleton, frames: slice = slice(None)) -> np.ndarray:
    """Unit normals (T, V, 3) of a fitted skin at `frames`."""
    follows = (skin.weights[..., None] * skin.normals[:, None]).reshape(len(skin.vertices), -1)  # (V, 3 J)
    flat = pose.turns[frames].transpose(1, 3, 0, 2).reshape(follows.shape[1], -1)
    normals = (follows.astype(np.float32) @ flat.astype(np.float32)).reshape(len(follows), -1, 3).transpose(1, 0, 2)
    return normals / np.maximum(np.linalg.norm(normals, axis=-1, keepdims=True), 1e-6)
