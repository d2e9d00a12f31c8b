"""Which joints of a foreign skeleton make ours: mapping files (TOML or JSON, see data_loaders/mappings)."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from data_loaders.bvh import BvhClip
from data_loaders.motion_checks import bone_problem, bone_vectors
from data_loaders.skeleton import Skeleton, load_skeleton
from protos.reading import FileError, read_json, read_toml

MAPPINGS = Path(__file__).parent / "mappings"
_SIGNS = {"": 1.0, "+": 1.0, "-": -1.0}
AXES = {text + axis: sign * np.eye(3)[index] for index, axis in enumerate("XYZ") for text, sign in _SIGNS.items()}


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

    @property
    def sources(self) -> set[str]:
        """The joints of the source that it uses."""
        return {joint for sources in self.joints.values() for joint in sources}

    def fits(self, names: Iterable[str]) -> bool:
        """Whether every joint of the source that it uses is among the names."""
        return self.sources <= set(names)


def nearest(wrong: str, known: Iterable[str], count: int = 4) -> str:
    """' (near: a, b)' for an error about an unknown name, or '' if nothing is near."""
    by_lower = {name.lower(): name for name in known}
    near = difflib.get_close_matches(wrong.lower(), by_lower, n=count, cutoff=0.5)
    near += [name for name in by_lower if wrong.lower() in name and name not in near]
    return f" (near: {', '.join(by_lower[name] for name in near[:count])})" if near else ""


def shipped_mappings() -> list[str]:
    """Names of the mappings that come with the code."""
    return sorted(file.stem for file in MAPPINGS.glob("*.toml"))


def fitting_mapping(clip: BvhClip) -> Mapping:
    """The shipped mapping whose joints the clip has and that makes a person of them; of several the one that uses most.

    Names alone do not tell: Xsens has all joints of CMU's skeleton, in other units. FileError where there is none.
    """
    known = [mapping for mapping in map(load_mapping, shipped_mappings()) if mapping.fits(clip.names)]
    some = slice(None, None, max(1, len(clip.joints) // 20))
    problems = []
    for mapping in sorted(known, key=lambda mapping: -len(mapping.sources)):
        problem = bone_problem(place_joints(clip, mapping, some), load_skeleton(mapping.skeleton))
        if problem is None:
            return mapping
        problems.append(f"its joints are named as in {mapping.name}, but read so {problem}")
    if problems:
        raise FileError(f"{clip.name}: {problems[0]} Give a mapping with its scale (--mapping FILE)")
    raise FileError(f"{clip.name}: its joints are not named as in any skeleton known here ({', '.join(shipped_mappings())}): "
                     "give a mapping that says which joint is which (--mapping FILE)")  # fmt: skip


def retarget(clip: BvhClip, mapping: Mapping, first_frame: int | None = None) -> np.ndarray:
    """Joints (T, J, 3) float64 of the mapping's skeleton in metres, +Y up, at the clip's own frame rate.

    first_frame overrides the mapping's. World position and heading are kept (two people captured together stay together);
    only "lowest" moves the floor. Raises FileError for a joint that the clip does not have.
    """
    start = mapping.first_frame if first_frame is None else first_frame
    if not 0 <= start < len(clip.joints):
        raise FileError(f"{clip.name}: the motion should start at frame {start}, the file has {len(clip.joints)}")
    joints = place_joints(clip, mapping, slice(start, None))  # (T, J, 3)
    if mapping.floor != "keep":
        joints[..., 1] -= joints[..., 1].min() if mapping.floor == "lowest" else float(mapping.floor)
    return joints


def place_joints(clip: BvhClip, mapping: Mapping, frames: slice) -> np.ndarray:
    """Joints (T, J, 3) of the mapping's skeleton in metres, in our axes, the floor where the file has it.

    FileError for a joint that the clip does not have.
    """
    target = load_skeleton(mapping.skeleton)
    weights = _weight_matrix(clip, mapping, target.joint_names)  # (J, source joints)
    joints = np.einsum("js,tsc->tjc", weights, clip.joints[frames], optimize=True) @ _axes(mapping).T  # (T, J, 3)
    return joints * (_leg_length_scale(joints, target, clip.name) if mapping.scale == "leg_length" else float(mapping.scale))


def common_scale(clips: Sequence[BvhClip], mapping: Mapping) -> float:
    """Metres per source unit for all of the clips: the mapping's, or the mean of what gives each the target's leg length."""
    if mapping.scale != "leg_length":
        return float(mapping.scale)
    target, unscaled = load_skeleton(mapping.skeleton), replace(mapping, scale=1.0)
    return float(np.mean([_leg_length_scale(place_joints(clip, unscaled, slice(None)), target, clip.name) for clip in clips]))


def _weight_matrix(clip: BvhClip, mapping: Mapping, targets: Sequence[str]) -> np.ndarray:
    """(target joints, source joints)."""
    index = {name: position for position, name in enumerate(clip.names)}
    weights = np.zeros((len(targets), len(clip.names)))
    for row, target in enumerate(targets):
        for source, weight in mapping.joints[target].items():
            if source not in index:
                raise FileError(f"{clip.name}: no joint {source!r}, which mapping {mapping.name} needs for {target}"
                                 f"{nearest(source, index)}; the file has {len(index)} joints: {_shortened(index)}")  # fmt: skip
            weights[row, index[source]] += weight
    return weights


def _shortened(names: Iterable[str], limit: int = 200) -> str:
    text = ", ".join(names)
    return text if len(text) <= limit else text[:limit].rsplit(",", 1)[0] + ", …"


def _axes(mapping: Mapping) -> np.ndarray:
    """(3, 3) matrix whose rows are our X (left), Y (up), Z (forward) in source axes; a reflection if left-handed."""
    up, forward = AXES[mapping.up], AXES[mapping.forward]
    left = np.cross(up, forward)
    return np.stack([left if mapping.handedness == "right" else -left, up, forward])


def _leg_length_scale(joints: np.ndarray, target: Skeleton, name: str) -> float:
    """Target over source leg length (median over frames, mean over the joints named as legs)."""
    if target.bone_lengths is None:
        raise FileError(f"skeleton {target.name} has no bone lengths: give the mapping a scale in metres per unit")
    legs = list(target.leg_joints)
    source = np.median(np.linalg.norm(bone_vectors(joints, target)[:, legs], axis=-1), axis=0).sum()
    if source <= 0:
        raise FileError(f"{name}: legs have no length, cannot scale to a leg length; give the mapping a scale")
    return float(np.asarray(target.bone_lengths)[legs].sum() * target.metres_per_unit / source)


def load_mapping(source: str | Path | dict) -> Mapping:
    """Mapping from a .toml or .json file, the name of one that ships (bandai_namco, cmu_iclone, …), or its dict. FileError
    names the entry that cannot be used, and what was expected."""
    if isinstance(source, dict):
        return _mapping_from(source, str(source.get("name", "mapping")))
    path = Path(source)
    if not path.suffix and not path.is_file():
        if path.name not in shipped_mappings():
            raise FileError(f"no mapping {path.name!r}: give a .toml or .json file or one of {', '.join(shipped_mappings())}")
        path = MAPPINGS / f"{path.name}.toml"
    try:
        content = (read_json if path.suffix.lower() == ".json" else read_toml)(path, dict[str, Any], name=f"mapping {path}")
    except OSError as error:
        raise FileError(f"mapping {path}: {error.strerror}") from None
    return _mapping_from({"name": path.stem, **content}, str(path))


def _is_number(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and abs(value) < 1e300  # no NaN, nothing infinite


def _is_positive(value: object) -> bool:
    return _is_number(value) and value > 0


_EXPECTED = {  # what each entry may be, and how that is called
    "name": (lambda value: isinstance(value, str), "text"),
    "skeleton": (lambda value: isinstance(value, str), "the name of a skeleton"),
    "scale": (lambda value: value == "leg_length" or _is_positive(value), "metres per source unit or 'leg_length'"),
    "up": (lambda value: isinstance(value, str) and value in AXES, "an axis such as '+Y' or '-Z'"),
    "forward": (lambda value: isinstance(value, str) and value in AXES, "an axis such as '+Y' or '-Z'"),
    "handedness": (lambda value: value in ("right", "left"), "'right' or 'left'"),
    "floor": (lambda value: value in ("keep", "lowest") or _is_number(value), "'keep', 'lowest' or metres"),
    "fps": (lambda value: value is None or _is_positive(value), "a number above 0"),
    "first_frame": (lambda value: type(value) is int and value >= 0, "a frame number from 0 on"),
}


def _mapping_from(content: dict[str, Any], where: str) -> Mapping:
    """Checked Mapping from the parsed content of a mapping file; `where` names the file in errors."""
    known = ("joints", *_EXPECTED)
    for key in content:
        if key not in known:
            raise FileError(f"mapping {where}: unknown entry {key!r}{nearest(key, known)}; known: {', '.join(known)}")
    mapping = Mapping(**{"name": where, **content, "joints": _joint_weights(content.get("joints"), where)})
    for key, (accepts, expected) in _EXPECTED.items():
        if not accepts(getattr(mapping, key)):
            raise FileError(f"mapping {where}: {key} = {getattr(mapping, key)!r}; expected {expected}")
    if mapping.up[-1] == mapping.forward[-1]:
        raise FileError(f"mapping {where}: up and forward are the same axis, {mapping.up} and {mapping.forward}")
    targets = load_skeleton(mapping.skeleton).joint_names
    for joint in mapping.joints:
        if joint not in targets:
            raise FileError(f"mapping {where}: {mapping.skeleton} has no joint {joint!r}{nearest(joint, targets)}")
    if missing := [joint for joint in targets if joint not in mapping.joints]:
        raise FileError(f"mapping {where}: [joints] does not say where these come from: {', '.join(missing)}")
    return mapping


def _joint_weights(joints: object, where: str) -> dict[str, dict[str, float]]:
    if not isinstance(joints, dict):
        raise FileError(f"mapping {where}: expected a [joints] table of lines such as pelvis = \"Hips\"")
    weights = {}
    for target, source in joints.items():
        entry = {source: 1.0} if isinstance(source, str) else source
        if not isinstance(entry, dict) or not entry or not all(_is_number(weight) for weight in entry.values()):
            raise FileError(f"mapping {where}: joint {target!r} expects a source joint or {{ joint = weight, … }}")
        if abs(sum(entry.values()) - 1) > 1e-3:
            raise FileError(f"mapping {where}: weights of joint {target!r} sum to {sum(entry.values()):g}, expected 1")
        weights[target] = {name: float(weight) for name, weight in entry.items()}
    return weights
