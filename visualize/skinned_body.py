"""A free body over a motion's joints: MakeHuman's mesh and weights (CC0), brought to the motion's proportions and skinned.

Each vertex follows up to four joints by linear blending, with the turns of `joint_rotations`, so every joint of humanml is met.
Joints say nothing of twist: forearms and shins have none against the bone above, hands and heads none against the last bone;
what upper arms and thighs have, because elbows and knees are hinges, is spread along them. docs/bodies.md says what was extracted.
"""

from dataclasses import dataclass, replace
from functools import cached_property, lru_cache
from pathlib import Path

import numpy as np

from data_loaders.corpus import Motion
from data_loaders.skeleton import Skeleton, load_skeleton
from protos.reading import FileError, read_arrays
from visualize.joint_rotations import TurnedSkeleton, solve_turns

FILE = Path(__file__).with_name("free_body.npz")
SKELETON = "humanml"
INFLUENCES = 4  # joints that a vertex follows
SOLE = 0.027  # metres from a toe joint down to the floor, of a body like the mesh
NARROWEST, WIDEST = 0.6, 1.6  # what a part is scaled by at most, so that odd bones leave a person's body


@dataclass(frozen=True)
class Skin:
    """A mesh in T-pose, facing +Z, Y up, in metres, soles on y = 0: vertices (V, 3), faces (F, 3) counter-clockwise from outside,
    joint_indices and joint_weights (V, 4), which add up to 1; joints (J, 3) at rest in the order of humanml, and their parents."""

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


def require_skinned(skeleton: str) -> Skeleton:
    """The skeleton by its name. FileError where its joints are not those that the free body has."""
    own = load_skeleton(skeleton)
    if own.joint_names != load_skeleton(SKELETON).joint_names:
        raise FileError(f"a body is drawn over the joints of {SKELETON}, and these are of {own.name}: leave out --body")
    return own


def fitted(skin: Skin, rest: np.ndarray) -> Skin:
    """The skin with the proportions of a motion, whose joints in T-pose are rest (J, 3), as `TurnedSkeleton.rest` has them.

    Limbs are scaled along their bones, and all across them by the size of the whole body; the trunk from hips to neck is stretched
    as one, since spines are divided otherwise in every skeleton; soles lie where the height of the ankle has them.
    """
    body = load_skeleton(SKELETON)
    old, new = skin.joints, np.asarray(rest, np.float64)
    size = _clamped(_height(new, body) / _height(old, body))
    trunk = _trunk(old, new, size, body)
    parts = np.empty((len(old), *skin.vertices.shape))  # where each joint would have all vertices
    for joint, name in enumerate(body.joint_names):
        children = [child for child, parent in enumerate(body.parents) if parent == joint]
        scale = np.full(3, size)
        if "ankle" in name or "foot" in name:
            ankle = joint if "ankle" in name else body.parents[joint]
            parts[joint] = _foot(skin.vertices, old, new, ankle, size)
        elif name.startswith(("pelvis", "spine")):
            parts[joint] = trunk(skin.vertices)
        elif "collar" in name:
            parts[joint] = trunk(skin.vertices) + new[children[0]] - trunk(old[children[0]])
        else:
            for child in children:
                along = np.abs(old[child] - old[joint])
                share = along / max(np.linalg.norm(along), 1e-9)
                bone = _clamped(np.linalg.norm(new[child] - new[joint]) / max(np.linalg.norm(along), 1e-9))
                scale = size + (bone - size) * share**2
            parts[joint] = new[joint] + scale * (skin.vertices - old[joint])
    vertices = np.einsum("vj,jvc->vc", skin.weights, parts)
    up = np.array([0.0, vertices[:, 1].min(), 0.0])
    return replace(skin, vertices=vertices - up, joints=new - up)


def _clamped(scale: float) -> float:
    return float(np.clip(scale, NARROWEST, WIDEST))


def _height(joints: np.ndarray, body: Skeleton) -> float:
    """Metres from ankles to neck."""
    ankles = joints[list(body.feet[::2]), 1].mean()
    return max(float(joints[body.index("neck"), 1] - ankles), 1e-3)


def _trunk(old: np.ndarray, new: np.ndarray, size: float, body: Skeleton):
    """The function that takes places (..., 3) of the trunk over: in height from hips and neck, in width from hips and shoulders."""
    right_hip, left_hip, right_shoulder, left_shoulder = body.face_joints
    neck = body.index("neck")
    low, high = (np.array([joints[[right_hip, left_hip], 1].mean(), joints[neck, 1]]) for joints in (old, new))
    widths = [_clamped((new[left, 0] - new[right, 0]) / (old[left, 0] - old[right, 0]))
              for left, right in ((left_hip, right_hip), (left_shoulder, right_shoulder))]  # fmt: skip
    heights = [old[left_hip, 1], old[left_shoulder, 1]]
    stretch = _clamped((high[1] - high[0]) / (low[1] - low[0]))

    def taken_over(places: np.ndarray) -> np.ndarray:
        share = np.clip((places[..., 1] - low[0]) / (low[1] - low[0]), 0, 1)[..., None]
        centre = (1 - share) * (new[0] - size * old[0]) + share * (new[neck] - size * old[neck])
        x = places[..., 0] * np.interp(places[..., 1], heights, widths)
        y = high[0] + stretch * (places[..., 1] - low[0])
        return np.stack([x, y, centre[..., 2] + size * places[..., 2]], axis=-1)

    return taken_over


def _foot(places: np.ndarray, old: np.ndarray, new: np.ndarray, ankle: int, size: float) -> np.ndarray:
    """Places (V, 3) of a foot, whose toe joint is the ankle's child: as long as the motion's, its sole where that one's is."""
    toe = ankle + 3
    length = _clamped((new[toe, 2] - new[ankle, 2]) / (old[toe, 2] - old[ankle, 2]))
    above = new[ankle, 1] - new[toe, 1] + SOLE * size  # of the ankle over the sole
    return new[ankle] + (places - old[ankle]) * [size, _clamped(above / old[ankle, 1]), length]


def skinned(skin: Skin, motion: Motion) -> np.ndarray:
    """Vertices (P, T, V, 3) in metres over a motion's joints (P, T, J, 3), each person with their own proportions. FileError as
    `require_skinned`."""
    skeleton = require_skinned(motion.skeleton)
    people = [solve_turns(joints, skeleton) for joints in motion.joints]
    return np.stack([posed(fitted(skin, turned.rest), turned) for turned in people])


def posed(skin: Skin, turned: TurnedSkeleton) -> np.ndarray:
    """Vertices (T, V, 3) of a fitted skin: linear blend skinning as one matrix product over the joints' turns and places."""
    away = skin.vertices[:, None] - skin.joints  # (V, J, 3)
    follows = skin.weights[..., None] * np.concatenate([away, np.ones((*away.shape[:2], 1))], axis=-1)  # (V, J, 4)
    moves = np.concatenate([turned.turns.transpose(0, 1, 3, 2), turned.joints[:, :, None]], axis=2)  # (T, J, 4, 3)
    flat = moves.transpose(1, 2, 0, 3).reshape(follows[0].size, -1).astype(np.float32)
    vertices = follows.reshape(len(away), -1).astype(np.float32) @ flat
    return vertices.reshape(len(away), -1, 3).transpose(1, 0, 2)


def posed_normals(skin: Skin, turned: TurnedSkeleton) -> np.ndarray:
    """Unit normals (T, V, 3) of a fitted skin."""
    follows = (skin.weights[..., None] * skin.normals[:, None]).reshape(len(skin.vertices), -1)  # (V, 3 J)
    flat = turned.turns.transpose(1, 3, 0, 2).reshape(follows.shape[1], -1)
    normals = (follows.astype(np.float32) @ flat.astype(np.float32)).reshape(len(follows), -1, 3).transpose(1, 0, 2)
    return normals / np.maximum(np.linalg.norm(normals, axis=-1, keepdims=True), 1e-6)
