"""Motions as npz with AMASS's names: SMPL's rotations of 22 joints as they follow from joints alone, without a body model.

A file for each person. As in AMASS, Z up: `poses` (T, 156) are axis angles of SMPL-H, hands at rest; `trans` (T, 3) in metres
moves SMPL's mean body, betas 0. Beside it, Y up, what this project and plain forward kinematics read: `joints` (T, J, 3), `fps`,
`skeleton`, `unit`; `joint_names`, `parents`, and `offsets` (J, 3) of the T-pose that the rotations turn. What a body model adds
(SMPL's own rest pose, shapes) is the work of a fit. Mahmood et al. 2019.
"""

import io
from pathlib import Path

import numpy as np

from data_loaders.corpus import Motion
from data_loaders.skeleton import Skeleton, load_skeleton
from protos.reading import FileError
from visualize.formats import write_people
from visualize.joint_rotations import solve_turns

PELVIS = np.array([-0.001795, -0.223333, 0.028219])  # of SMPL's mean body, from the body's origin
UPRIGHT = np.array([[-1.0, 0.0, 0.0], [0.0, 0.0, 1.0], [0.0, 1.0, 0.0]])  # Y up to Z up, as HumanML3D reads AMASS
HANDS = 90  # columns of fingers


def write_npz(path: Path, motion: Motion) -> list[Path]:
    """Writes a motion and returns the files, one a person. FileError for another skeleton than SMPL's 22 joints."""
    skeleton = load_skeleton(motion.skeleton)
    require_smpl(skeleton)
    return write_people(path, [npz_of(joints, motion.fps, skeleton) for joints in motion.joints])


def require_smpl(skeleton: Skeleton) -> None:
    """FileError for another skeleton than SMPL's 22 joints."""
    if skeleton.name != "humanml":
        raise FileError(f"npz holds rotations of SMPL's 22 joints (humanml), not those of {skeleton.name}: write bvh or glb")


def npz_of(joints: np.ndarray, fps: float, skeleton: Skeleton) -> bytes:
    """The file of joints (T, 22, 3) in metres, Y up."""
    from scipy.spatial.transform import Rotation

    turned = solve_turns(joints, skeleton)
    local = turned.local
    local[:, 0] = UPRIGHT @ local[:, 0]
    angles = Rotation.from_matrix(local.reshape(-1, 3, 3)).as_rotvec().reshape(len(local), -1)
    file = io.BytesIO()
    np.savez(
        file, poses=np.concatenate([angles, np.zeros((len(local), HANDS))], axis=1), trans=turned.root @ UPRIGHT.T - PELVIS,
        betas=np.zeros(16), gender=np.array("neutral"), mocap_framerate=np.array(float(fps)),
        joints=np.asarray(joints, np.float32), fps=np.array(float(fps)), skeleton=np.array(skeleton.name),
        unit=np.array("metre"), joint_names=np.array(skeleton.joint_names), parents=np.array(skeleton.parents),
        offsets=turned.offsets,
    )  # fmt: skip
    return file.getvalue()
