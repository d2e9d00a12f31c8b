"""The files that a motion can become, and how they are asked for. Loads without torch or numpy."""

import importlib.util
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

from protos.files import write_atomically
from protos.flags import FPS
from protos.reading import FileError

Naming = Literal["smpl", "mixamo", "unity", "unreal"]
PICTURES = ("mp4", "gif", "png", "html")
FOR_PROGRAMS = ("bvh", "glb", "vrma", "npz", "usda", "fbx")
FORMATS = (*PICTURES, *FOR_PROGRAMS)
LIBRARIES = {  # format -> the package that it takes beside the core, and the line that brings it
    "glb": ("pygltflib", 'pip install -e ".[export]"'),
    "vrma": ("pygltflib", 'pip install -e ".[export]"'),
    "fbx": ("bpy", "pip install bpy, which is Blender as a Python package, in one of the releases made for this Python"),
}


@dataclass(frozen=True, kw_only=True)
class FileSettings:
    """Files to look at and for other programs."""

    format: str = ""
    """Files to write of each motion, with commas between: mp4, gif, png (a strip of poses), html (a page that plays it); bvh, glb
    (a skinned body that moves), vrma (for VRM avatars), npz (SMPL's rotations, by AMASS's names), usda, fbx (needs bpy)."""
    body: bool = False
    """Show people with bodies in place of stick figures, in videos, strips and pages: a free mesh, fitted to their bones."""
    skeleton: Naming = "mixamo"
    """Whose names bones get in bvh, glb, usda and fbx."""
    fps: Annotated[float, FPS] | None = None
    """Frames per second of these files, by splines through the frames (default: the motion's)."""
    loop: bool = False
    """Make a seamless cycle: the best end is found, and passes over into the beginning."""
    in_place: bool = False
    """Take the way over the floor out."""
    root_bone: bool = False
    """In bvh, glb, usda and fbx a bone on the floor carries way and heading (root motion of Unreal and Unity)."""


def formats_of(settings: FileSettings) -> tuple[str, ...]:
    """The formats that --format names, each once. ValueError for one that there is not, FileError where its library is not
    installed."""
    names = tuple(dict.fromkeys(name.strip().lower().lstrip(".") for name in settings.format.split(",") if name.strip()))
    for name in names:
        if name not in FORMATS:
            raise ValueError(f"--format {name}: expected some of {','.join(FORMATS)}")
        if lack := missing(name):
            raise FileError(lack)
    return names


def missing(name: str) -> str:
    """What is to be installed before a format can be written, in one line; empty where nothing is."""
    package, line = LIBRARIES.get(name, ("", ""))
    return "" if not package or importlib.util.find_spec(package) else f"{name} files need {package}: {line}"


def write_people(path: Path, contents: Sequence[str | bytes]) -> list[Path]:
    """Writes what stands in a motion's files, one a person, each whole or not at all, and returns them: `path`, of several
    NAME_p1, NAME_p2."""
    paths = [path] if len(contents) == 1 else [path.with_name(f"{path.stem}_p{i + 1}{path.suffix}") for i in range(len(contents))]
    for file, content in zip(paths, contents, strict=True):
        write_atomically(file, content)
    return paths
