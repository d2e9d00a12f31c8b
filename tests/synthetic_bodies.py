"""Made-up SMPL+H bodies and AMASS recordings in the real file formats."""

import pickle
import sys
import types
from pathlib import Path
from unittest import mock

import numpy as np
from scipy.interpolate import CubicSpline

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


def smpl_arrays(per_joint: int = 6, seed: int = 3) -> dict[str, np.ndarray]:
    """A body of SMPL's 24 joints under the names of its files: around each joint a closed double pyramid (of six points, or of
    more), whose points are the joint in the mean; each beta moves each joint by about a centimetre."""
    random = np.random.default_rng(seed)
    parents = np.array([*HUMANML.parents, 20, 21])
    places = rest_pose()[:24].copy()
    places[22:] = places[20:22] + np.array([[0.08, 0, 0], [-0.08, 0, 0]])
    ring = 2 * np.pi * np.arange(per_joint - 2) / (per_joint - 2)
    points = 0.05 * np.concatenate([np.stack([np.cos(ring), 0 * ring, -np.sin(ring)], axis=1), [[0, 1, 0], [0, -1, 0]]])
    sides = [(i, (i + 1) % len(ring)) for i in range(len(ring))]
    faces = np.array([*((a, b, len(ring)) for a, b in sides), *((b, a, len(ring) + 1) for a, b in sides)])
    joints, vertices = len(places), len(places) * per_joint
    moved = np.repeat(0.01 * random.normal(size=(joints, 3, 10)), per_joint, axis=0)
    return {
        "v_template": (places[:, None] + points).reshape(vertices, 3),
        "shapedirs": moved,
        "posedirs": 1e-3 * random.normal(size=(vertices, 3, 9 * (joints - 1))),
        "J_regressor": np.kron(np.eye(joints), np.full((1, per_joint), 1 / per_joint)),
        "weights": np.repeat(np.eye(joints), per_joint, axis=0),
        "kintree_table": np.stack([parents.astype(np.uint32), np.arange(joints, dtype=np.uint32)]),
        "f": np.concatenate([faces + per_joint * joint for joint in range(joints)]).astype(np.uint32),
    }


def write_smpl(path: Path, **shape: int) -> Path:
    """A body of `smpl_arrays` as .npz."""
    path.parent.mkdir(parents=True, exist_ok=True)
    np.savez(path, **smpl_arrays(**shape))
    return path


def write_old_pickle(path: Path, protocol: int = 2, **changes: object) -> Path:
    """The same as the pickle of 2015: objects of chumpy, a library that is not installed, and a sparse regressor."""
    from scipy.sparse import csc_matrix

    def old_class(module: str, name: str) -> type:
        made = type(name, (), {"__module__": module, "__qualname__": name})
        modules[module] = types.ModuleType(module)
        setattr(modules[module], name, made)
        return made

    def made(kind: type, **state: object) -> object:
        value = kind()
        value.__dict__.update(state)
        return value

    modules: dict[str, types.ModuleType] = {"chumpy": types.ModuleType("chumpy")}
    ch, select, product = (old_class(*names) for names in (
        ("chumpy.ch", "Ch"), ("chumpy.reordering", "Select"), ("chumpy.ch_ops", "MatVecMult")))
    arrays = smpl_arrays()
    shapes = arrays["shapedirs"]
    more = np.concatenate([shapes, shapes], axis=-1)  # of which the first ten are selected
    chosen = np.arange(more.size).reshape(more.shape)[..., :10].ravel()
    content = {
        **arrays, "J_regressor": csc_matrix(arrays["J_regressor"]), "bs_style": "lbs", "bs_type": "lrotmin",
        "v_template": made(ch, x=arrays["v_template"], _dirty_vars={"x"}, _itr=None),
        "shapedirs": made(select, a=made(ch, x=more), idxs=chosen, preferred_shape=shapes.shape),
        "J": made(product, mtx=None), **changes,
    }  # fmt: skip
    path.parent.mkdir(parents=True, exist_ok=True)
    with mock.patch.dict(sys.modules, modules):
        path.write_bytes(pickle.dumps(content, protocol))
    return path


def smooth_poses(frames: int, seed: int = 5) -> np.ndarray:
    """Axis-angle poses (T, 72) of somebody who moves all joints, turns round, and bends knees and elbows as hinges do."""
    random = np.random.default_rng(seed)
    keys = random.normal(size=(2 + frames // 10, 24, 3)) * 0.35
    times = np.linspace(0, len(keys) - 1, frames)
    poses = CubicSpline(np.arange(len(keys)), keys)(times)
    for joint, axis, sign in ((4, 0, 1), (5, 0, 1), (18, 1, -1), (19, 1, 1)):
        bend = np.abs(poses[:, joint, axis]) + 0.2
        poses[:, joint] = 0.0
        poses[:, joint, axis] = sign * bend
    poses[:, 0] = [0.1, 0, 0] + np.linspace(0, 7, frames)[:, None] * [0, 1, 0]
    poses[:, [10, 11, 15, 20, 21, 22, 23]] = 0.0  # of which joints say nothing
    return poses.reshape(frames, 72)
