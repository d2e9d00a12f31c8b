"""Which joints of a foreign skeleton make ours: mapping files (TOML or JSON, see data_loaders/mappings)."""

from __future__ import annotations

import difflib
import json
import tomllib
from collections.abc import Iterable
from dataclasses import dataclass, fields
from pathlib import Path

import numpy as np

from data_loaders.bvh import BvhClip, MocapError
from data_loaders.skeleton import load_skeleton

MAPPINGS = Path(__file__).parent / "mappings"
_SIGNS = {"": 1.0, "+": 1.0, "-": -1.0}
AXES = {text + axis: (index, sign) for index, axis in enumerate("XYZ") for text, sign in _SIGNS.items()}


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

    def fits(self, names: Iterable[str]) -> bool:
        """Whether every source joint is among the names."""
        return {joint for sources in self.joints.values() for joint in sources} <= set(names)


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
    """The shipped mapping whose joints the clip has. MocapError where there is none."""
    for mapping in map(load_mapping, shipped_mappings()):
        if mapping.fits(clip.names):
            return mapping
    raise MocapError(f"{clip.name}: its joints are not named as in any skeleton known here ({', '.join(shipped_mappings())}): "
                     "give a mapping that says which joint is which (--mapping FILE)")


def load_mapping(source: str | Path | dict) -> Mapping:
    """Mapping from a .toml or .json file, the name of one that ships (bandai_namco, cmu_iclone, …), or its dict."""
    if isinstance(source, dict):
        return _mapping_from(source, str(source.get("name", "mapping")))
    path = Path(source)
    if not path.suffix and not path.is_file():
        if path.name not in shipped_mappings():
            raise MocapError(f"no mapping {path.name!r}: give a .toml or .json file or one of {', '.join(shipped_mappings())}")
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
    known = [entry.name for entry in fields(Mapping)]
    for key in content:
        if key not in known:
            raise MocapError(f"mapping {where}: unknown entry {key!r}{nearest(key, known)}; known: {', '.join(known)}")
    mapping = Mapping(**{"name": where, **content, "joints": _joint_weights(content.get("joints"), where)})
    axis = (lambda value: isinstance(value, str) and value in AXES, "an axis such as '+Y' or '-Z'")
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
