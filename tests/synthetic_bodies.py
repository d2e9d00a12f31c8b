"""Made-up SMPL+H bodies and AMASS recordings in the real file formats."""

from pathlib import Path

import numpy as np

from data_loaders.skeleton import load_skeleton

HUMANML = load_skeleton("humanml")
BETAS = 16


def smplh_parents() -> np.ndarray:
    """52 joints of SMPL+H: 22 of the body, then 5 fingers of 3 joints on each wrist."""
    fingers = [wrist if i % 3 == 0 else first + i - 1 for wrist, first in ((20, 22), (21, 37)) for i in range(15)]
    return np.array([*HUMANML.parents, *fingers])


def rest_pose() -> np.ndarray:
    """A T-pose of about human size in SMPL's axes (Y up, facing +Z, left = +X): (52, 3)."""
    outwards = {13: 1, 16: 1, 18: 1, 20: 1, 14: -1, 17: -1, 19: -1, 21: -1}
    joints, parents = np.zeros((52, 3)), smplh_parents()
    for joint in range(1, 52):
        direction, length = np.array([1.0 if parents[joint] in (20, 22) or 22 <= joint < 37 else -1.0, 0, 0]), 0.03
        if joint < 22:
            length = HUMANML.bone_lengths[joint]
            direction = np.array(HUMANML.raw_offsets[joint], dtype=float)
            if joint in outwards:
                direction = np.array([outwards[joint], 0, 0], dtype=float)
        joints[joint] = joints[parents[joint]] + direction * length
    return joints


def write_body_models(folder: Path) -> Path:
    """male/model.npz and female/model.npz in the layout of the AMASS body model download."""
    random = np.random.default_rng(1)
    vertices = 208  # four around each joint
    regressor = np.kron(np.eye(52), np.full((1, 4), 0.25))
    for gender, size in (("male", 1.05), ("female", 0.95)):
        spread = random.normal(size=(52, 4, 3)) * 0.02
        template = (rest_pose()[:, None] * size + spread - spread.mean(1, keepdims=True)).reshape(vertices, 3)
        (folder / gender).mkdir(parents=True)
        np.savez(
            folder / gender / "model.npz",
            v_template=template,
            shapedirs=random.normal(size=(vertices, 3, BETAS)) * 0.01,
            posedirs=random.normal(size=(vertices, 3, 9 * 51)) * 1e-3,
            J_regressor=regressor,
            weights=regressor.T * 4,
            kintree_table=np.stack([smplh_parents().astype(np.uint32), np.arange(52, dtype=np.uint32)]),
            f=random.integers(0, vertices, (100, 3)).astype(np.uint32),
            hands_componentsl=np.eye(45), hands_componentsr=np.eye(45),
            hands_meanl=np.zeros(45), hands_meanr=np.zeros(45),
        )  # fmt: skip
    return folder


def amass(**changes) -> dict:
    """Arrays of an AMASS file: somebody who stands upright in its Z-up world, facing -Y, and moves at random."""
    random = np.random.default_rng(2)
    poses = random.normal(size=(30, 156)) * 0.1
    poses[:, :3] = [np.pi / 2, 0, 0]  # Y up to Z up
    poses[:, 12:18:3] = 0.4  # knees bend backwards
    content = {
        "poses": poses, "trans": random.normal(size=(30, 3)), "betas": random.normal(size=BETAS), "gender": "male",
        "mocap_framerate": 120.0, "dmpls": np.zeros((30, 8)),
    }  # fmt: skip
    content |= changes
    return {key: value for key, value in content.items() if value is not None}


def write_amass(path: Path, **changes) -> Path:
    np.savez(path, **amass(**changes))
    return path
