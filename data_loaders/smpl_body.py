"""AMASS .npz -> joints, through a licensed body model of the SMPL family (data_loaders/body_models.py).

Joints need no skin: rest joints come from the shape, forward kinematics moves them. That equals the joints of the smplx
package to float precision (tested), without skinning 6,890 vertices a frame and without torch. Loper et al. 2015, §3;
Mahmood et al. 2019 (AMASS).
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import numpy as np

from data_loaders.body_models import NUM_BETAS, BodyModel, find_body_model, load_body_model, numbers
from protos.reading import FileError, name_of, read_arrays

# Z up to Y up as HumanML3D ends up with it: its reflection (x, z, y) followed by its negated x, together a rotation.
TO_Y_UP = np.array([[-1.0, 0.0, 0.0], [0.0, 0.0, 1.0], [0.0, 1.0, 0.0]])
MOTION_ARRAYS = ("poses", "trans", "betas", "gender", "mocap_framerate", "mocap_frame_rate", "motion")


@dataclass(frozen=True)
class AmassClip:
    """joints (T, J, 3) float32 in metres, +Y up, left = +X when facing +Z; fps as recorded; gender of the body used."""

    joints: np.ndarray
    fps: float
    gender: str


def read_amass_npz(
    source: str | Path | BinaryIO | bytes, body_models: str | Path | None, num_joints: int = 22, name: str | None = None
) -> AmassClip:
    """Joints of an AMASS file at its own frame rate; body_models is the folder with the body model of each gender.

    As HumanML3D: the male model for "male", otherwise the female one; 10 betas; no soft-tissue (DMPL) coefficients. The
    first 22 joints are the same in SMPL, SMPL+H and SMPL-X. FileError for a file without motion or frame rate.
    """
    name = name or name_of(source)
    if body_models is None:
        raise FileError(f"{name}: AMASS holds poses, not joints; name the folder of the body model (--body_model)")
    content = read_arrays(source, name=name, only=MOTION_ARRAYS)
    if "poses" not in content or "trans" not in content:
        held = "is a results file of a sampling run, of joints" if "motion" in content else "no poses and trans"
        raise FileError(f"{name}: {held}; expected an AMASS motion file")
    poses, trans = numbers(content, "poses", name), numbers(content, "trans", name)
    betas = numbers(content, "betas", name).reshape(-1) if "betas" in content else np.zeros(NUM_BETAS)
    gender = _gender(content["gender"]) if "gender" in content else "neutral"
    rates = [numbers(content, key, name).reshape(-1) for key in ("mocap_framerate", "mocap_frame_rate") if key in content]
    if not rates or not len(rates[0]) or rates[0][0] == 0:
        raise FileError(f"{name}: no mocap_framerate, so its speed is unknown; HumanML3D skips such files too")
    if not 0.1 <= (rate := float(rates[0][0])) <= 10_000:
        raise FileError(f"{name}: mocap_framerate is {rate:g}, expected 0.1 to 10000 frames per second")
    if poses.ndim != 2 or trans.shape != (len(poses), 3) or poses.shape[1] < 3 * num_joints or len(poses) == 0:
        raise FileError(f"{name}: poses {poses.shape} and trans {trans.shape}; expected (T, {3 * num_joints} or more) and "
                         "(T, 3)")  # fmt: skip
    for key, values in (("poses", poses), ("trans", trans), ("betas", betas[None])):
        if not np.isfinite(values).all():
            frame = int(np.argwhere(~np.isfinite(values))[0, 0])
            raise FileError(f"{name}: NaN or infinity in {key}, frame {frame}; expected finite numbers")
    used = "male" if gender == "male" else "female"
    try:
        file = find_body_model(body_models, used)
    except FileError as error:
        raise FileError(f"{name}, of gender {gender}: {error}") from None
    body = load_body_model(file)
    joints = pose_joints(body, poses[:, : 3 * num_joints], betas) + trans[:, None]
    with np.errstate(over="ignore", invalid="ignore"):  # what does not fit into float32 is infinite, and refused
        joints = (joints @ TO_Y_UP.T).astype(np.float32)
    return AmassClip(joints, rate, used)


def pose_joints(body: BodyModel, poses: np.ndarray, betas: np.ndarray) -> np.ndarray:
    """Joints (T, J, 3) of axis-angle poses (T, 3 J), root first, before translation; loops over joints, not frames."""
    from scipy.spatial.transform import Rotation

    num_frames, num_joints = len(poses), poses.shape[1] // 3
    if num_joints > len(body.parents):
        raise FileError(f"the body model has {len(body.parents)} joints, {num_joints} are asked for")
    rest = body.rest_joints(betas)
    local = Rotation.from_rotvec(poses.reshape(-1, 3)).as_matrix().reshape(num_frames, num_joints, 3, 3)
    world = np.empty_like(local)
    joints = np.empty((num_frames, num_joints, 3))
    for joint, parent in enumerate(body.parents[:num_joints]):
        if parent < 0:
            world[:, joint], joints[:, joint] = local[:, joint], rest[joint]
        else:
            world[:, joint] = world[:, parent] @ local[:, joint]
            joints[:, joint] = joints[:, parent] + world[:, parent] @ (rest[joint] - rest[parent])
    return joints


def published_stride(joints: np.ndarray, fps: float, target_fps: float = 20.0) -> np.ndarray:
    """Every int(fps / target)-th frame, as HumanML3D was built: 59.9 fps gives stride 2, i.e. 30 fps called 20."""
    return joints[:: max(1, int(fps / target_fps))]


def _gender(value: np.ndarray) -> str:
    """AMASS writes it as text or as bytes."""
    item = value.reshape(-1)[0] if value.size else ""
    return (item.decode("latin1") if isinstance(item, bytes) else str(item)).strip().lower()
