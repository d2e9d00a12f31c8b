"""Meshes and SMPL parameters as files: what MDM's and LS-ReMGM's render_mesh leave, an .npz as AMASS has it, and .obj.

Published files hold the pose without the shape, and the mesh moved so that the first frame's pelvis is at 0. Here the mesh stays
where the motion has it, two people beside each other, and `betas`, `fps` and `gender` stand beside what was there.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from data_loaders.body_models import BODY_JOINTS
from data_loaders.motion_files import write_dict
from data_loaders.smpl_body import TO_Y_UP
from protos.files import atomic_file, atomic_path
from visualize.posed_body import PosedBody, Poses

SMPL_JOINTS = 24  # of the published file: the body's, then two hands, which do not turn
AMASS_JOINTS = 52  # of SMPL+H, or more of SMPL-X; SMPL's are written as those of SMPL+H, whose hands rest


@dataclass(frozen=True)
class Person:
    """One person of a fitted motion, in metres, Y up: betas (S,), turns (T, 22, 3, 3) of joints in the world, root (T, 3), and
    where joint 0 is at rest (3,)."""

    betas: np.ndarray
    turns: np.ndarray
    root: np.ndarray
    rest_root: np.ndarray
    parents: tuple[int, ...]

    @property
    def local(self) -> np.ndarray:
        """Turns (T, 22, 3, 3) of joints against their parents, of the root in the world: SMPL's pose."""
        above = self.turns[:, list(self.parents[1:BODY_JOINTS])].transpose(0, 1, 3, 2)
        return np.concatenate([self.turns[:, :1], above @ self.turns[:, 1:]], axis=1)


def people_of(body: PosedBody, poses: Poses) -> list[Person]:
    """The persons of a batch of poses."""
    rest = body.rest(poses.betas)[:, 0]
    parts = zip(*(part.cpu().numpy() for part in (poses.betas, poses.turns, poses.roots, rest)))
    return [Person(*part, body.model.parents) for part in parts]


def write_params(path: Path, person: Person, vertices: np.ndarray, faces: np.ndarray, text: str, **more: object) -> Path:
    """NAME_smpl_params.npy, a dict: thetas (24, 6, T), each joint's rotation as the first two rows of its matrix;
    root_translation (3, T), where the pelvis is; motion (25, 6, T), both; vertices (V, 3, T) and faces (F, 3); text; length; and
    what published files lack, betas and `more`."""
    frames = len(person.root)
    turns = np.tile(np.eye(3, dtype=np.float32), (frames, SMPL_JOINTS, 1, 1))
    turns[:, :BODY_JOINTS] = person.local
    thetas = turns[:, :, :2].reshape(frames, SMPL_JOINTS, 6).transpose(1, 2, 0)
    root = person.root.T.astype(np.float32)
    motion = np.concatenate([thetas, np.concatenate([root, np.zeros_like(root)])[None]])
    content = {
        "motion": motion, "thetas": np.ascontiguousarray(thetas), "root_translation": np.ascontiguousarray(root),
        "faces": faces, "vertices": np.ascontiguousarray(vertices.transpose(1, 2, 0)), "text": text, "length": frames,
        "betas": person.betas, **more,
    }  # fmt: skip
    return write_dict(path, content)


def write_amass(path: Path, person: Person, fps: float, gender: str) -> Path:
    """NAME_smpl.npz as AMASS has it, Z up, for Blender's SMPL add-ons and `read_amass_npz`: poses (T, 3 J) in axis-angle, trans
    (T, 3), betas, gender, frame rate under both of its names."""
    from scipy.spatial.transform import Rotation

    local = person.local.astype(np.float64)
    local[:, 0] = TO_Y_UP.T @ local[:, 0]
    poses = np.zeros((len(local), 3 * max(AMASS_JOINTS, len(person.parents))))
    poses[:, : 3 * BODY_JOINTS] = Rotation.from_matrix(local.reshape(-1, 3, 3)).as_rotvec().reshape(len(local), -1)
    trans = person.root @ TO_Y_UP - person.rest_root
    with atomic_file(path) as file:
        np.savez(file, poses=poses, trans=trans, betas=person.betas.astype(np.float64), gender=gender,
                 mocap_framerate=float(fps), mocap_frame_rate=float(fps))  # fmt: skip
    return path


def write_objs(paths: Sequence[Path], vertices: np.ndarray, faces: np.ndarray) -> None:
    """Vertices (T, V, 3) in metres as an .obj for each frame, faces (F, 3), each file whole or not at all."""
    face_lines = "f %d %d %d\n" * len(faces) % tuple((faces + 1).ravel().tolist())
    vertex_lines = "v %.5f %.5f %.5f\n" * vertices.shape[1]
    for path, frame in zip(paths, vertices, strict=True):
        with atomic_path(path) as temporary:
            temporary.write_text(vertex_lines % tuple(frame.ravel().tolist()) + face_lines, encoding="ascii")
