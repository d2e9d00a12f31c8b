"""What the page of `web_viewer` knows of bodies: one mesh for all, and for each person its vertices in T-pose and its turns."""

import base64

import numpy as np
from scipy.spatial.transform import Rotation

from data_loaders.skeleton import Skeleton, load_skeleton
from visualize.joint_rotations import solve_turns
from visualize.shaded_figure import AMBIENT, LAMP, PALE, SUN
from visualize.skinned_body import SKELETON, fitted, free_body

SKIN_STEP = 0.0001  # metres per unit of a packed vertex: 3.2 m fit into int16


def page_mesh() -> dict:
    """Faces, the joints that vertices follow and how much, and which turn each joint has: those without children their parent's."""
    skin, parents = free_body(), load_skeleton(SKELETON).parents
    turn = _turning(parents)
    return {
        "faces": packed(skin.faces.astype("<u2")),
        "joints": packed(skin.joint_indices.astype(np.uint8)),
        "weights": packed(np.rint(255 * skin.joint_weights).astype(np.uint8)),
        "turning": [turn.index(joint if joint in turn else parents[joint]) for joint in range(len(parents))],
        "lights": [AMBIENT, SUN, LAMP],
        "pale": [PALE[side] for side in sorted(PALE)],
    }


def page_skin(joints: np.ndarray, skeleton: Skeleton) -> dict:
    """The body of a person with joints (T, J, 3)."""
    turned = solve_turns(joints, skeleton)
    skin = fitted(free_body(), turned)
    step = max(SKIN_STEP, float(np.abs(skin.vertices).max()) / 32000)
    turns = turned.turns[:, _turning(skeleton.parents)]
    quaternions = Rotation.from_matrix(turns.reshape(-1, 3, 3)).as_quat()  # x, y, z, w
    return {
        "vertices": packed(np.rint(skin.vertices / step).astype("<i2")),
        "step": step,
        "rest": skin.joints.round(5).tolist(),
        "turns": packed(np.rint(32767 * quaternions).astype("<i2")),
    }


def _turning(parents: tuple[int, ...]) -> list[int]:
    """The joints that have children."""
    return sorted(set(parents) - {-1})


def packed(*arrays: np.ndarray) -> str:
    """Arrays as base64."""
    return base64.b64encode(b"".join(array.tobytes() for array in arrays)).decode()
