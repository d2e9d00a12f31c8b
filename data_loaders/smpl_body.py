"""AMASS .npz -> joints, through a licensed SMPL-family body model (SMPL, SMPL+H, SMPL-X in .npz form).

Joints need no skin: rest joints come from the shape, forward kinematics moves them. That equals the joints of the smplx
package to float precision (tested), without skinning 6,890 vertices a frame and without torch. Loper et al. 2015, §3;
Mahmood et al. 2019 (AMASS).
"""

from __future__ import annotations

import io
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import BinaryIO

import numpy as np

from data_loaders.bvh import MocapError

# Z up to Y up as HumanML3D ends up with it: its reflection (x, z, y) followed by its negated x, together a rotation.
_TO_Y_UP = np.array([[-1.0, 0.0, 0.0], [0.0, 0.0, 1.0], [0.0, 1.0, 0.0]])
_FILE_PATTERNS = ("{g}/model.npz", "*/{g}/model.npz", "SMPL*_{G}.npz", "*/SMPL*_{G}.npz", "*{g}*.npz", "*/*{g}*.npz")
NUM_BETAS = 10  # as published, although AMASS gives 16


@dataclass(frozen=True)
class AmassClip:
    """joints (T, J, 3) float32 in metres, +Y up, left = +X when facing +Z; fps as recorded; gender of the body used."""

    name: str
    joints: np.ndarray
    fps: float
    gender: str


@dataclass(frozen=True)
class BodyModel:
    """What joints need of a body model: template (V, 3), shape directions (V, 3, B), regressor (J, V), parents (J,)."""

    template: np.ndarray
    shape_directions: np.ndarray
    regressor: np.ndarray
    parents: tuple[int, ...]

    def rest_joints(self, betas: np.ndarray) -> np.ndarray:
        """Joints (J, 3) of the body of this shape in the zero pose; betas beyond the model's are ignored."""
        count = min(len(betas), self.shape_directions.shape[-1], NUM_BETAS)
        return self.regressor @ (self.template + self.shape_directions[..., :count] @ betas[:count])


def read_amass_npz(
    source: str | Path | BinaryIO | bytes, body_models: str | Path | None, num_joints: int = 22, name: str | None = None
) -> AmassClip:
    """Joints of an AMASS file at its own frame rate; body_models is the folder with the body model of each gender.

    As HumanML3D: the male model for "male", otherwise the female one; 10 betas; no soft-tissue (DMPL) coefficients. The
    first 22 joints are the same in SMPL, SMPL+H and SMPL-X. MocapError for a file without motion or frame rate.
    """
    name = name or (str(source) if isinstance(source, (str, Path)) else "AMASS file")
    if body_models is None:
        raise MocapError(f"{name}: AMASS holds poses, not joints; name the folder of the body model (--body_model)")
    with _open_npz(source, name) as content:
        if "poses" not in content or "trans" not in content:
            held = ", ".join(content)[:80]
            raise MocapError(f"{name}: no poses and trans, only {held}; expected an AMASS motion file")
        poses = np.asarray(content["poses"], dtype=np.float64)
        trans = np.asarray(content["trans"], dtype=np.float64)
        betas = np.zeros(NUM_BETAS)
        if "betas" in content:
            betas = np.asarray(content["betas"], dtype=np.float64).reshape(-1)
        gender = _gender(content["gender"]) if "gender" in content else "neutral"
        rate = next((content[key] for key in ("mocap_framerate", "mocap_frame_rate") if key in content), None)
    if rate is None or not np.asarray(rate, dtype=np.float64).reshape(-1)[0] > 0:
        raise MocapError(f"{name}: no mocap_framerate, so its speed is unknown; HumanML3D skips such files too")
    if poses.ndim != 2 or trans.shape != (len(poses), 3) or poses.shape[1] < 3 * num_joints or len(poses) == 0:
        raise MocapError(
            f"{name}: poses {poses.shape} and trans {trans.shape}; expected (T, {3 * num_joints} or more) and (T, 3)"
        )
    for key, values in (("poses", poses), ("trans", trans), ("betas", betas[None])):
        if not np.isfinite(values).all():
            frame = int(np.argwhere(~np.isfinite(values))[0, 0])
            raise MocapError(f"{name}: NaN or infinity in {key}, frame {frame}; expected finite numbers")
    used = "male" if gender == "male" else "female"
    body = load_body_model(find_body_model(body_models, used))
    joints = pose_joints(body, poses[:, : 3 * num_joints], betas) + trans[:, None]
    return AmassClip(name, (joints @ _TO_Y_UP.T).astype(np.float32), float(np.asarray(rate).reshape(-1)[0]), used)


def pose_joints(body: BodyModel, poses: np.ndarray, betas: np.ndarray) -> np.ndarray:
    """Joints (T, J, 3) of axis-angle poses (T, 3 J), root first, before translation; loops over joints, not frames."""
    from scipy.spatial.transform import Rotation

    num_frames, num_joints = len(poses), poses.shape[1] // 3
    if num_joints > len(body.parents):
        raise MocapError(f"the body model has {len(body.parents)} joints, {num_joints} are asked for")
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


def find_body_model(folder: str | Path, gender: str) -> Path:
    """File of that gender: GENDER/model.npz (AMASS download) or SMPL*_GENDER.npz, in the folder or one below it."""
    folder = Path(folder)
    if folder.is_file():
        return folder
    if not folder.is_dir():
        raise MocapError(f"{folder}: no such folder; expected {gender}/model.npz or SMPLH_{gender.upper()}.npz in it")
    for pattern in _FILE_PATTERNS:
        found = sorted(folder.glob(pattern.format(g=gender, G=gender.upper())))
        # "male" also matches inside "female"
        found = [path for path in found if gender == "female" or "female" not in str(path.relative_to(folder)).lower()]
        if found:
            return found[0]
    pickled = sorted(folder.rglob("*.pkl"))
    hint = f"; {pickled[0].name} is a pickle that runs code when read: take the .npz download" if pickled else ""
    raise MocapError(
        f"{folder}: no {gender} body model; expected {gender}/model.npz or SMPLH_{gender.upper()}.npz, "
        f"licensed at https://mano.is.tue.mpg.de{hint}"
    )


@lru_cache(maxsize=4)
def load_body_model(path: str | Path) -> BodyModel:
    """The joint-related part of an SMPL-family .npz. MocapError where a part is missing or shapes disagree."""
    with _open_npz(path, str(path)) as content:
        missing = [key for key in ("v_template", "shapedirs", "J_regressor", "kintree_table") if key not in content]
        if missing:
            raise MocapError(f"{path}: no {', '.join(missing)}; expected an SMPL, SMPL+H or SMPL-X model in .npz form")
        template, shape, regressor = (
            np.asarray(content[key], dtype=np.float64) for key in ("v_template", "shapedirs", "J_regressor")
        )
        parents = np.asarray(content["kintree_table"])[0].astype(np.int64)
    count = len(template)
    if template.shape != (count, 3) or shape.shape[:2] != (count, 3) or regressor.shape != (len(parents), count):
        raise MocapError(
            f"{path}: v_template {template.shape}, shapedirs {shape.shape}, J_regressor {regressor.shape} and "
            f"{len(parents)} joints do not belong together"
        )
    parents[0] = -1  # written as 4294967295
    return BodyModel(template, shape, regressor, tuple(parents.tolist()))


@contextmanager
def _open_npz(source: str | Path | BinaryIO | bytes, name: str) -> Iterator[np.lib.npyio.NpzFile]:
    """The opened archive without pickles; whatever is wrong with the file becomes a MocapError with its name."""
    try:
        content = np.load(io.BytesIO(source) if isinstance(source, bytes) else source, allow_pickle=False)
        if not isinstance(content, np.lib.npyio.NpzFile):
            raise MocapError(f"{name}: a single array, expected an .npz archive")
        with content:
            yield content
    except MocapError:
        raise
    except FileNotFoundError:
        raise MocapError(f"{name}: no such file") from None
    except (ValueError, OSError, EOFError, KeyError, zipfile.BadZipFile) as error:
        raise MocapError(f"{name}: not a readable .npz file: {error}") from None


def _gender(value: np.ndarray) -> str:
    """AMASS writes it as text or as bytes."""
    item = np.asarray(value).reshape(-1)[0]
    return (item.decode() if isinstance(item, bytes) else str(item)).strip().lower()
