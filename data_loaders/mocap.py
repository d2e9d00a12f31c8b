"""Motion capture of any skeleton -> joints (T, J, 3) of ours, in metres, +Y up, facing +Z at zero heading, left = +X.

A mapping file (TOML or JSON, see data_loaders/mappings) says how: which source joints make each target joint, the
scale, the axes, the floor. `retarget` moves joints only; uniform bone lengths come later, from the features (which keep
bone directions and use the skeleton's lengths).
"""

from __future__ import annotations

import difflib
import io
import json
import logging
import tomllib
from collections.abc import Iterable
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

import numpy as np

from data_loaders.bvh import BvhClip, MocapError, read_bvh
from data_loaders.smpl_body import AmassClip, published_stride, read_amass_npz

if TYPE_CHECKING:
    from data_loaders.skeleton import Skeleton
    from data_loaders.sources import SourceClip

__all__ = [
    "AmassClip", "BvhClip", "Mapping", "MocapError", "load_mapping", "nearest", "orientation_problem",
    "published_stride", "read_amass_npz", "read_bvh", "read_joints", "read_joints_npy", "resample", "retarget",
]  # fmt: skip

log = logging.getLogger(__name__)
MAPPINGS = Path(__file__).parent / "mappings"
_SIGNS = {"": 1.0, "+": 1.0, "-": -1.0}
_AXES = {text + axis: (index, sign) for index, axis in enumerate("XYZ") for text, sign in _SIGNS.items()}


@dataclass(frozen=True)
class Mapping:
    """How a source skeleton becomes one of ours.

    joints: target joint -> {source joint: weight}, weights sum to 1 (they may be negative: extrapolation).
    scale: metres per source unit, or "leg_length": whatever gives the target skeleton's leg length.
    up, forward: source axes such as "+Y", "-Z"; handedness of the source axes: "right" or "left".
    floor: "keep" (the source floor is at height 0), "lowest" (the lowest target joint of the clip stands on 0), or the
    height of the source floor in metres. fps: overrides the file's. first_frame: frames before it are dropped.
    """

    name: str
    joints: dict[str, dict[str, float]]
    skeleton: str = "humanml"
    scale: float | str = 1.0
    up: str = "+Y"
    forward: str = "+Z"
    handedness: str = "right"
    floor: float | str = "keep"
    fps: float | None = None
    first_frame: int = 0

    def source_fps(self, clip: BvhClip) -> float:
        """Frames per second of the clip: the mapping's word, or else the file's."""
        return self.fps or clip.fps


def nearest(wrong: str, known: Iterable[str], count: int = 4) -> str:
    """' (near: a, b)' for an error about an unknown name, or '' if nothing is near."""
    by_lower = {name.lower(): name for name in known}
    near = difflib.get_close_matches(wrong.lower(), by_lower, n=count, cutoff=0.5)
    near += [name for name in by_lower if wrong.lower() in name and name not in near]
    return f" (near: {', '.join(by_lower[name] for name in near[:count])})" if near else ""


def load_mapping(source: str | Path | dict) -> Mapping:
    """Mapping from a .toml or .json file, the name of one that ships (bandai_namco, cmu_iclone, …), or its dict."""
    if isinstance(source, dict):
        return _mapping_from(source, str(source.get("name", "mapping")))
    path = Path(source)
    if not path.suffix and not path.is_file():
        shipped = sorted(file.stem for file in MAPPINGS.glob("*.toml"))
        if path.name not in shipped:
            raise MocapError(f"no mapping {path.name!r}: give a .toml or .json file or one of {', '.join(shipped)}")
        path = MAPPINGS / f"{path.name}.toml"
    try:
        text = path.read_text(encoding="utf-8")
        content = json.loads(text) if path.suffix.lower() == ".json" else tomllib.loads(text)
    except OSError as error:
        raise MocapError(f"mapping {path}: {error.strerror}") from None
    except (tomllib.TOMLDecodeError, json.JSONDecodeError, UnicodeDecodeError) as error:
        raise MocapError(f"mapping {path}: not valid {path.suffix[1:].upper() or 'TOML'}: {error}") from None
    if not isinstance(content, dict):
        raise MocapError(f"mapping {path}: expected a table with a [joints] part")
    return _mapping_from({"name": path.stem, **content}, str(path))


def _mapping_from(content: dict, where: str) -> Mapping:
    """Checked Mapping from the parsed content of a mapping file; `where` names the file in errors."""
    from data_loaders.skeleton import load_skeleton

    known = [entry.name for entry in fields(Mapping)]
    for key in content:
        if key not in known:
            raise MocapError(f"mapping {where}: unknown entry {key!r}{nearest(key, known)}; known: {', '.join(known)}")
    mapping = Mapping(**{"name": where, **content, "joints": _joint_weights(content.get("joints"), where)})
    axis = (lambda value: isinstance(value, str) and value in _AXES, "an axis such as '+Y' or '-Z'")
    allowed = {
        "name": (lambda value: isinstance(value, str), "text"),
        "skeleton": (lambda value: isinstance(value, str), "the name of a skeleton"),
        "scale": (lambda value: value == "leg_length" or _is_positive(value), "metres per source unit or 'leg_length'"),
        "up": axis,
        "forward": axis,
        "handedness": (lambda value: value in ("right", "left"), "'right' or 'left'"),
        "floor": (lambda value: value in ("keep", "lowest") or _is_number(value), "'keep', 'lowest' or metres"),
        "fps": (lambda value: value is None or _is_positive(value), "a number above 0"),
        "first_frame": (lambda value: type(value) is int and value >= 0, "a frame number from 0 on"),
    }
    for key, (accepts, expected) in allowed.items():
        if not accepts(getattr(mapping, key)):
            raise MocapError(f"mapping {where}: {key} = {getattr(mapping, key)!r}; expected {expected}")
    if mapping.up[-1] == mapping.forward[-1]:
        raise MocapError(f"mapping {where}: up and forward are the same axis, {mapping.up} and {mapping.forward}")

    targets = load_skeleton(mapping.skeleton).joint_names
    for joint in mapping.joints:
        if joint not in targets:
            raise MocapError(f"mapping {where}: {mapping.skeleton} has no joint {joint!r}{nearest(joint, targets)}")
    missing = [joint for joint in targets if joint not in mapping.joints]
    if missing:
        raise MocapError(f"mapping {where}: [joints] does not say where these come from: {', '.join(missing)}")
    return mapping


def _joint_weights(joints: object, where: str) -> dict[str, dict[str, float]]:
    if not isinstance(joints, dict):
        raise MocapError(f"mapping {where}: expected a [joints] table of lines such as pelvis = \"Hips\"")
    weights = {}
    for target, source in joints.items():
        entry = {source: 1.0} if isinstance(source, str) else source
        if not isinstance(entry, dict) or not entry or not all(_is_number(weight) for weight in entry.values()):
            raise MocapError(f"mapping {where}: joint {target!r} expects a source joint or {{ joint = weight, … }}")
        if abs(sum(entry.values()) - 1) > 1e-3:
            raise MocapError(f"mapping {where}: weights of joint {target!r} sum to {sum(entry.values()):g}, expected 1")
        weights[target] = {name: float(weight) for name, weight in entry.items()}
    return weights


def _is_number(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and bool(np.isfinite(value))


def _is_positive(value: object) -> bool:
    return _is_number(value) and value > 0


# ------------------------------------------------------------------------------------------------------- retargeting


def retarget(
    clip: BvhClip, mapping: Mapping, skeleton: str | None = None, first_frame: int | None = None
) -> np.ndarray:
    """Joints (T, J, 3) float64 of our skeleton in metres, +Y up, at the clip's own frame rate.

    skeleton and first_frame override the mapping's. World position and heading are kept (two people captured together
    stay together); only "lowest" moves the floor. Raises MocapError for a joint that the clip does not have.
    """
    from data_loaders.skeleton import load_skeleton

    target = load_skeleton(skeleton or mapping.skeleton)
    start = mapping.first_frame if first_frame is None else first_frame
    if not 0 <= start < len(clip.joints):
        raise MocapError(f"{clip.name}: the motion should start at frame {start}, the file has {len(clip.joints)}")
    weights = _weight_matrix(clip, mapping, target.joint_names)  # (J, source joints)
    joints = np.einsum("js,tsc->tjc", weights, clip.joints[start:], optimize=True) @ _axes(mapping).T  # (T, J, 3)
    if mapping.scale == "leg_length":
        joints *= _leg_length_scale(joints, target, clip.name)
    else:
        joints *= float(mapping.scale)
    if mapping.floor == "lowest":
        joints[..., 1] -= joints[..., 1].min()
    elif mapping.floor != "keep":
        joints[..., 1] -= float(mapping.floor)
    problem = orientation_problem(joints, target)
    if problem:
        log.warning("%s with mapping %s: %s", clip.name, mapping.name, problem)
    return joints


def orientation_problem(joints: np.ndarray, skeleton: Skeleton) -> str | None:
    """What looks wrong with the axes or sides of joints (T, J, 3), None for a person who stands and walks.

    A hint for whoever writes a mapping, not a proof: handstands and people lying down are odd too.
    """
    right_hip, left_hip, right_shoulder, left_shoulder = (joints[:, joint] for joint in skeleton.face_joints)
    trunk = right_shoulder + left_shoulder - right_hip - left_hip  # (T, 3)
    upright = trunk[:, 1] / np.maximum(np.linalg.norm(trunk, axis=-1), 1e-9)
    if np.median(upright) < 0.3:
        state = "upside down" if np.median(upright) < -0.3 else "lying"
        return f"the body is {state} in most frames; check the up axis"
    facing = np.cross(left_shoulder - right_shoulder + left_hip - right_hip, trunk)
    knee, ankle = skeleton.leg_joints
    bend = joints[:, knee] - 0.5 * (joints[:, skeleton.parents[knee]] + joints[:, ankle])  # knees bend to the front
    toes = sum(joints[:, toe] - joints[:, heel] for heel, toe in (skeleton.left_feet, skeleton.right_feet))
    if np.einsum("tc,tc->t", facing, toes + 2 * bend).mean() < 0:
        return "knees and toes point backwards; check left and right, and the handedness of the axes"
    return None


def _weight_matrix(clip: BvhClip, mapping: Mapping, targets: Iterable[str]) -> np.ndarray:
    index = {name: position for position, name in enumerate(clip.names)}
    targets = list(targets)
    weights = np.zeros((len(targets), len(clip.names)))
    for row, target in enumerate(targets):
        if target not in mapping.joints:
            raise MocapError(f"mapping {mapping.name}: no entry for joint {target!r}{nearest(target, mapping.joints)}")
        for source, weight in mapping.joints[target].items():
            if source not in index:
                raise MocapError(
                    f"{clip.name}: no joint {source!r}, which mapping {mapping.name} needs for {target}"
                    f"{nearest(source, index)}; the file has {len(index)} joints: {_shortened(index)}"
                )
            weights[row, index[source]] += weight
    return weights


def _shortened(names: Iterable[str], limit: int = 200) -> str:
    text = ", ".join(names)
    return text if len(text) <= limit else text[:limit].rsplit(",", 1)[0] + ", …"


def _axes(mapping: Mapping) -> np.ndarray:
    """(3, 3) matrix whose rows are our X (left), Y (up), Z (forward) in source axes; a reflection if left-handed."""
    up, forward = np.zeros(3), np.zeros(3)
    for vector, axis in ((up, mapping.up), (forward, mapping.forward)):
        index, sign = _AXES[axis]
        vector[index] = sign
    left = np.cross(up, forward)
    return np.stack([left if mapping.handedness == "right" else -left, up, forward])


def _leg_length_scale(joints: np.ndarray, target: Skeleton, name: str) -> float:
    """Target over source leg length (median over frames, mean over the joints named as legs)."""
    if target.bone_lengths is None:
        raise MocapError(f"skeleton {target.name} has no bone lengths: give the mapping a scale in metres per unit")
    legs = list(target.leg_joints)
    parents = [target.parents[joint] for joint in legs]
    source = np.median(np.linalg.norm(joints[:, legs] - joints[:, parents], axis=-1), axis=0).sum()
    if source <= 0:
        raise MocapError(f"{name}: legs have no length, cannot scale to a leg length; give the mapping a scale")
    return float(np.asarray(target.bone_lengths)[legs].sum() * target.metres_per_unit / source)


# -------------------------------------------------------------------------------------------------- time, plain arrays


def resample(joints: np.ndarray, source_fps: float, target_fps: float) -> np.ndarray:
    """Joints (T, ...) at source_fps -> (T', ...) at target_fps over the same time: T' = floor((T-1) target/source) + 1.

    Cubic spline through every frame. From 30 to 20 fps every second new frame falls between two old ones; there
    straight lines cut arcs short. CMU takes at 120 fps, thinned to 30 and brought to 20, against every sixth of their
    own frames: mean error 1.5 mm linear, 1.1 mm spline; jerk 0.93 of the truth linear, 1.00 spline; forearm length
    wavers 0.9 mm linear, 0.16 mm spline. Whole ratios (120 to 20) hit source frames and equal a stride.
    """
    if not (source_fps > 0 and target_fps > 0):
        raise MocapError(f"frame rates are {source_fps} and {target_fps}; expected numbers above 0")
    joints = np.asarray(joints)
    ratio = source_fps / target_fps
    count = int(np.floor((len(joints) - 1) / ratio + 1e-6)) + 1
    if abs(ratio - round(ratio)) < 1e-6:
        return joints[:: round(ratio)].copy()
    if len(joints) < 2:
        return joints.copy()
    from scipy.interpolate import CubicSpline

    times = np.minimum(np.arange(count) * ratio, len(joints) - 1)
    return CubicSpline(np.arange(len(joints)), joints, axis=0)(times).astype(joints.dtype, copy=False)


def read_joints_npy(
    source: str | Path | BinaryIO | bytes, num_joints: int | None = None, name: str | None = None
) -> np.ndarray:
    """Joints (T, J, 3) float32 in metres from a .npy file; the file has no frame rate, the caller states it."""
    path = name or (str(source) if isinstance(source, (str, Path)) else "joints .npy")
    try:
        joints = np.load(io.BytesIO(source) if isinstance(source, bytes) else source, allow_pickle=False)
    except FileNotFoundError:
        raise MocapError(f"{path}: no such file") from None
    except (ValueError, EOFError, OSError) as error:
        reason = str(error).partition(". ")[0]  # what follows may advise to unpickle it
        raise MocapError(f"{path}: not a readable .npy array of joints (T, J, 3): {reason}") from None
    expected = f"(T, {num_joints or 'J'}, 3)"
    if not isinstance(joints, np.ndarray) or joints.ndim != 3 or joints.shape[2] != 3 or 0 in joints.shape:
        raise MocapError(f"{path}: shape {getattr(joints, 'shape', 'unknown')}, expected joints {expected} in metres")
    if num_joints is not None and joints.shape[1] != num_joints:
        raise MocapError(f"{path}: {joints.shape[1]} joints, expected {expected}")
    if joints.dtype.kind not in "fiu":
        raise MocapError(f"{path}: dtype {joints.dtype}, expected numbers")
    bad = ~np.isfinite(joints)
    if bad.any():
        frame, joint, _ = np.argwhere(bad)[0]
        raise MocapError(f"{path}: NaN or infinity in frame {frame}, joint {joint}; expected finite numbers")
    return joints.astype(np.float32, copy=False)


def read_joints(
    clip: SourceClip,
    fps: float,
    body_model: Path | None = None,
    mapping: Mapping | None = None,
    published: bool = False,
) -> np.ndarray:
    """Joints (T, 22, 3) in metres at `fps` of one raw recording of any kind (bvh, amass, joints).

    mapping: already loaded, else the clip's. published: AMASS frames by integer stride as HumanML3D took them, which
    keeps another frame rate where the ratio is not whole; otherwise everything is interpolated.
    """
    name = str(clip.data) if isinstance(clip.data, Path) else clip.name
    if clip.kind == "bvh":
        if mapping is None and clip.mapping is None:
            raise MocapError(f"{name}: a BVH file needs a mapping to our joints: a file, or the name of a shipped one")
        mapping = mapping or load_mapping(clip.mapping)
        bvh = read_bvh(clip.data, name=name)
        joints, source_fps = retarget(bvh, mapping, first_frame=clip.first_frame or None), mapping.source_fps(bvh)
    elif clip.kind == "amass":
        amass = read_amass_npz(clip.data, body_model, name=name)
        if published:
            return published_stride(amass.joints, clip.fps or amass.fps, fps)[clip.first_frame :]
        joints, source_fps = amass.joints[clip.first_frame :], amass.fps
    elif clip.kind == "joints":
        joints, source_fps = read_joints_npy(clip.data, name=name)[clip.first_frame :], fps
    else:
        raise MocapError(f"{name}: unknown kind of recording {clip.kind!r}; expected bvh, amass or joints")
    if len(joints) == 0:
        raise MocapError(f"{name}: the motion should start at frame {clip.first_frame}, but the file is shorter")
    return resample(joints, clip.fps or source_fps, fps)
