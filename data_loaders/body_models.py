"""Body-model files of the SMPL family (SMPL, SMPL+H, SMPL-X): found under their many names, read from .npz and from old pickles.

The downloads are licensed to each user and come as GENDER/model.npz, SMPL_NEUTRAL.pkl, SMPLH_MALE.npz or
basicModel_neutral_lbs_10_207_0_v1.0.0.pkl. Pickles of 2015 hold objects of chumpy, a library that no longer installs, and sparse
matrices of scipy: of those the numbers are read (protos/pickles.py), and nothing is run. Loper et al. 2015, §3.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal

import numpy as np

from protos.official_files import official_folder
from protos.pickles import read_plain_pickle
from protos.reading import FileError, read_arrays

Gender = Literal["neutral", "male", "female"]
Family = Literal["smpl", "smplh", "smplx"]
# Where a body model is looked for that no flag names, in the order of the search: ours, and the folders of published scripts.
PLACES = ("checkpoints/official/smpl", "checkpoints/smpl", "body_models")
JOINT_ARRAYS = ("v_template", "shapedirs", "J_regressor", "kintree_table")
SURFACE_ARRAYS = ("posedirs", "weights", "f")
NUM_BETAS = 10  # as published, although AMASS gives 16
BODY_JOINTS = 22  # the same in all of the family; what follows is hands, jaw and eyes
DEEPEST = 4  # folders below the one that is searched
_LETTERS = {"f": "female", "m": "male", "n": "neutral"}
HOW_TO_GET = "protos/smpl_files.sh says where to get one and where it is looked for"


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


@dataclass(frozen=True)
class Surface:
    """What the skin needs besides: pose directions (V, 3, 9 · 21) of the body's joints, weights (V, J), triangles (F, 3)."""

    pose_directions: np.ndarray
    weights: np.ndarray
    faces: np.ndarray


# ------------------------------------------------------------------------------------------------------------------ finding


def default_body_model(gender: Gender) -> Path | None:
    """File of that gender in one of the places where body models are looked for; None where none holds any body model."""
    first, former, other = map(Path, PLACES)
    folders = [folder for folder in (official_folder(first, former), other) if folder.is_dir() and _candidates(folder)]
    return find_body_model(folders[0], gender, "smpl") if folders else None


def find_body_model(folder: str | Path, gender: str, family: Family = "smplh") -> Path:
    """File of a gender in a folder or below it, under any of the names of its download; a file is taken as it is.

    Where several fit: one of `family` first, .npz before a pickle, the nearest. FileError says what is there instead.
    """
    folder = Path(folder)
    if folder.is_file():
        return folder
    if not folder.is_dir():
        raise FileError(f"{folder}: no such folder; expected {gender}/model.npz or SMPLH_{gender.upper()}.npz in it")
    candidates = _candidates(folder)
    fitting = [path for path, found in candidates.items() if found == gender]
    if fitting:
        def rank(path: Path) -> tuple:
            inner = path.relative_to(folder)
            return _family(inner) != family, path.suffix.lower() != ".npz", len(inner.parts), str(inner).lower()

        return min(fitting, key=rank)
    others = ", ".join(sorted({f"{found} ({path.name})" for path, found in candidates.items()}))
    raise FileError(f"{folder}: no {gender} body model; expected {gender}/model.npz, SMPLH_{gender.upper()}.npz, "
                    f"SMPL_{gender.upper()}.pkl or basicModel_…_lbs_10_207_0_v1.0.0.pkl"
                    f"{f'; there is {others}' if others else ''}; {HOW_TO_GET}")


def _candidates(folder: Path) -> dict[Path, str]:
    """Files that are named as body models are, and whose gender each is."""
    found = {}
    for depth in range(DEEPEST):
        for path in sorted(folder.glob("*/" * depth + "*.*")):
            if path.suffix.lower() in (".npz", ".pkl") and path.is_file() and (gender := _gender_in(path)):
                found[path] = gender
    return found


def _gender_in(path: Path) -> str | None:
    """The gender that a file's name says, or for model.npz its folder's."""
    stem = path.stem.lower()
    if short := re.match(r"basicmodel_([fmn])_", stem):
        return _LETTERS[short[1]]
    found = re.search(r"female|male|neutral", path.parent.name.lower() if stem == "model" else stem)
    return found[0] if found else None


def _family(path: Path) -> Family:
    """GENDER/model.npz alone is the download of SMPL+H that AMASS names."""
    words = str(path).lower()
    return "smplx" if "smplx" in words else "smpl" if re.search(r"smpl(?!h)|basicmodel", words) else "smplh"


# ------------------------------------------------------------------------------------------------------------------ reading


@lru_cache(maxsize=4)
def load_body_model(path: str | Path) -> BodyModel:
    """The joint-related part of an SMPL-family file. FileError where a part is missing or shapes disagree."""
    template, shape, regressor, tree = _arrays(path, JOINT_ARRAYS)
    parents = tree.reshape(len(tree), -1)[0].astype(np.int64) if tree.size else np.zeros(0, np.int64)
    count = len(template)
    fits = template.shape == (count, 3) and shape.ndim == 3 and shape.shape[:2] == (count, 3)
    if not fits or regressor.shape != (len(parents), count):
        raise FileError(f"{path}: v_template {template.shape}, shapedirs {shape.shape}, J_regressor {regressor.shape} and "
                         f"{len(parents)} joints do not belong together")  # fmt: skip
    if not len(parents) or ((parents[1:] < 0) | (parents[1:] >= np.arange(1, len(parents)))).any():
        raise FileError(f"{path}: kintree_table names parents that come after their children")
    parents[0] = -1  # written as 4294967295
    return BodyModel(template, shape, regressor, tuple(parents.tolist()))


def load_surface(path: str | Path) -> Surface:
    """The skin of an SMPL-family file. FileError where a part is missing or shapes disagree."""
    body = load_body_model(path)
    directions, weights, faces = _arrays(path, SURFACE_ARRAYS)
    count, joints = len(body.template), len(body.parents)
    used = 9 * (min(joints, BODY_JOINTS) - 1)
    fits = directions.ndim == 3 and directions.shape[:2] == (count, 3) and directions.shape[2] >= used
    if not fits or weights.shape != (count, joints) or faces.ndim != 2 or faces.shape[1] != 3:
        raise FileError(f"{path}: posedirs {directions.shape}, weights {weights.shape} and f {faces.shape} do not belong to "
                        f"{count} vertices and {joints} joints")
    if faces.size and not 0 <= faces.min() <= faces.max() < count:
        raise FileError(f"{path}: f names vertices from {faces.min():g} to {faces.max():g}, there are {count}")
    return Surface(directions[..., :used], weights, faces.astype(np.int64))


def _arrays(path: str | Path, names: tuple[str, ...]) -> list[np.ndarray]:
    """The named arrays in float64. FileError where one is missing, holds no numbers or one that is not finite."""
    path = Path(path)
    if path.suffix.lower() == ".pkl":
        content = read_plain_pickle(path, shells=_known_class)
        if not isinstance(content, dict):
            raise FileError(f"{path}: a pickle of {type(content).__name__}, expected the dict of an SMPL body model")
        content = {key: value for key, value in content.items() if isinstance(value, np.ndarray)}
    else:
        content = read_arrays(path, only=names)
    missing = [key for key in names if key not in content]
    if missing:
        raise FileError(f"{path}: no {', '.join(missing)}; expected an SMPL, SMPL+H or SMPL-X body model")
    arrays = [numbers(content, key, str(path)) for key in names]
    for key, array in zip(names, arrays):
        if not np.isfinite(array).all():
            raise FileError(f"{path}: NaN or infinity in {key}; expected finite numbers")
    return arrays


def numbers(content: dict[str, np.ndarray], key: str, name: str) -> np.ndarray:
    """An entry in float64. FileError where it holds no numbers."""
    if content[key].dtype.kind not in "fiu":
        raise FileError(f"{name}: {key} holds {content[key].dtype}, expected numbers")
    return content[key].astype(np.float64)


# ----------------------------------------------------------------------------------------------------- objects of old pickles


def _known_class(name: str) -> Callable[[Callable[[str], Any]], Any] | None:
    """What makes an array of an object of that class; of classes that only accompany them nothing."""
    if sparse := re.fullmatch(r"scipy\.sparse\._?(csc|csr|coo)\.\1_(matrix|array)", name):
        return _dense_of(sparse[1])
    if name == "chumpy.ch.Ch":
        return lambda entry: entry("x")
    if name == "chumpy.reordering.Select":
        return _selected
    accompanying = name.startswith("chumpy.") or name in ("__builtin__.object", "__builtin__.set", "builtins.object",
                                                          "builtins.set", "collections.OrderedDict")
    return (lambda entry: None) if accompanying else None


def _selected(entry: Callable[[str], Any]) -> np.ndarray:
    """chumpy's Select: some numbers of an array, perhaps in a shape of their own."""
    values = np.asarray(entry("a")).reshape(-1)[np.asarray(entry("idxs")).reshape(-1).astype(np.int64)]
    shape = entry("preferred_shape")
    return values if shape is None else values.reshape(shape)


def _dense_of(kind: str) -> Callable[[Callable[[str], Any]], np.ndarray]:
    """What makes an array of the state of a sparse matrix."""

    def dense(entry: Callable[[str], Any]) -> np.ndarray:
        shape = entry("_shape") or entry("shape")
        if not isinstance(shape, tuple) or len(shape) != 2 or not all(0 <= int(n) <= 1_000_000 for n in shape):
            raise ValueError(f"a sparse matrix of shape {shape}")
        if int(shape[0]) * int(shape[1]) > 100_000_000:  # SMPL-X: 55 joints, 10,475 vertices
            raise ValueError(f"a sparse matrix of {shape[0]} x {shape[1]} numbers")
        array, values = np.zeros(tuple(map(int, shape))), np.asarray(entry("data"))
        if kind == "coo":
            rows, columns = np.asarray(entry("row")), np.asarray(entry("col"))
        else:
            counts, inner = np.diff(np.asarray(entry("indptr"))), np.asarray(entry("indices"))
            if (counts < 0).any() or counts.sum() != inner.size:
                raise ValueError("a sparse matrix whose places do not belong together")
            outer = np.repeat(np.arange(counts.size), counts)
            rows, columns = (inner, outer) if kind == "csc" else (outer, inner)
        np.add.at(array, (rows, columns), values)
        return array

    return dense
