"""What the page of `web_viewer` knows of bodies: one mesh for all, and for each person its vertices in T-pose and its turns."""

import base64

import numpy as np
from scipy.spatial.transform import Rotation

from data_loaders.skeleton import Skeleton
from visualize.shaded_figure import AMBIENT, LAMP, PALE, SUN
from visualize.skinned_body import BASES, free_body, twisted, worn

SKIN_STEP = 0.0001  # metres per unit of a packed vertex: 3.2 m fit into int16


def page_mesh() -> dict:
    """Faces, the joints that vertices follow and how much, and the joints of humanml in whose places those are."""
    skin = twisted(free_body())
    return {
        "faces": packed(skin.faces.astype("<u2")),
        "joints": packed(skin.joint_indices.astype(np.uint8)),
        "weights": packed(np.rint(255 * skin.joint_weights).astype(np.uint8)),
        "bases": list(BASES),
        "lights": [AMBIENT, SUN, LAMP],
        "pale": [PALE[side] for side in sorted(PALE)],
    }


def page_skins(joints: np.ndarray, skeleton: Skeleton) -> list[dict]:
    """The bodies of persons with joints (P, T, J, 3). Turns are packed as x, y, z of the unit quaternions with w >= 0."""
    skins = []
    for skin, pose in worn(free_body(), joints, skeleton):
        step = max(SKIN_STEP, float(np.abs(skin.vertices).max()) / 32000)
        quaternions = Rotation.from_matrix(pose.turns.reshape(-1, 3, 3)).as_quat(canonical=True)
        skins.append({
            "vertices": packed(np.rint(skin.vertices / step).astype("<i2")),
            "step": step,
            "rest": skin.joints.round(5).tolist(),
            "turns": packed(np.rint(32767 * quaternions[:, :3]).astype("<i2")),
        })  # fmt: skip
    return skins


def packed(*arrays: np.ndarray) -> str:
    """Arrays as base64."""
    return base64.b64encode(b"".join(array.tobytes() for array in arrays)).decode()
