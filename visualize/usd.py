"""Motions as USDA, the text of Universal Scene Description: people as UsdSkel skeletons with a skinned body.

Metres, +Y up, facing +Z at rest; a time code is a frame. /People/person1 is a SkelRoot with a Skeleton, its SkelAnimation and a
Mesh. Pixar, UsdSkel schemas.
"""

import re
from collections.abc import Iterable
from pathlib import Path

import numpy as np

from data_loaders.corpus import Motion
from data_loaders.skeleton import load_skeleton
from protos.files import write_atomically
from visualize.body import PERSON_COLOURS
from visualize.formats import Naming
from visualize.joint_rotations import quaternions
from visualize.rig_body import dressed
from visualize.rigs import ROOT_NAMES, Rig, bone_names, rig_of
from visualize.skinned_body import SOLE, Skin


def write_usda(path: Path, motion: Motion, naming: Naming = "mixamo", root_bone: bool = False) -> Path:
    """Writes a motion of any number of persons, and returns the path. root_bone: as in `rig_of`."""
    write_atomically(path, usda_of(motion, naming, root_bone))
    return path


def usda_of(motion: Motion, naming: Naming = "mixamo", root_bone: bool = False) -> str:
    """The text of the file of `write_usda`."""
    skeleton = load_skeleton(motion.skeleton)
    names = tuple(re.sub(r"\W", "_", name) for name in bone_names(skeleton, naming))  # a path has no other letters
    root = ROOT_NAMES[naming] if root_bone else None
    floor = float(motion.joints[..., 1].min()) - SOLE
    rigs = [dressed(rig_of(joints, skeleton, names, root), skeleton, floor) for joints in motion.joints]
    people = [_person(rig, body, i) for i, (rig, body) in enumerate(rigs)]
    return HEAD.format(fps=f"{motion.fps:g}", last=motion.joints.shape[1] - 1, people="\n".join(people))


HEAD = """#usda 1.0
(
    defaultPrim = "People"
    metersPerUnit = 1
    upAxis = "Y"
    startTimeCode = 0
    endTimeCode = {last}
    timeCodesPerSecond = {fps}
    framesPerSecond = {fps}
)

def Xform "People"
{{
{people}
}}
"""
PERSON = """    def SkelRoot "{name}" (
        prepend apiSchemas = ["SkelBindingAPI"]
    )
    {{
        def Skeleton "skeleton" (
            prepend apiSchemas = ["SkelBindingAPI"]
        )
        {{
            uniform token[] joints = {joints}
            uniform matrix4d[] bindTransforms = {bind}
            uniform matrix4d[] restTransforms = {rest}
            rel skel:animationSource = </People/{name}/animation>
        }}

        def SkelAnimation "animation"
        {{
            uniform token[] joints = {joints}
            float3[] translations.timeSamples = {{
{translations}
            }}
            quatf[] rotations.timeSamples = {{
{rotations}
            }}
            half3[] scales = {scales}
        }}

        def Mesh "body" (
            prepend apiSchemas = ["SkelBindingAPI"]
        )
        {{
            uniform token subdivisionScheme = "none"
            float3[] extent = {extent}
            int[] faceVertexCounts = {counts}
            int[] faceVertexIndices = {faces}
            point3f[] points = {points}
            color3f[] primvars:displayColor = [{colour}]
            matrix4d primvars:skel:geomBindTransform = ( (1, 0, 0, 0), (0, 1, 0, 0), (0, 0, 1, 0), (0, 0, 0, 1) )
            int[] primvars:skel:jointIndices = {indices} (
                elementSize = 4
                interpolation = "vertex"
            )
            float[] primvars:skel:jointWeights = {weights} (
                elementSize = 4
                interpolation = "vertex"
            )
            rel skel:skeleton = </People/{name}/skeleton>
        }}
    }}"""


def _person(rig: Rig, skin: Skin, person: int) -> str:
    turns = np.roll(quaternions(rig.turns), 1, axis=-1)  # w x y z
    return PERSON.format(
        name=f"person{person + 1}", joints=_list(f'"{path}"' for path in _paths(rig)), bind=_shifts(rig.rest),
        rest=_shifts(rig.offsets), translations=_samples(rig.places), rotations=_samples(turns),
        scales=_list(["(1, 1, 1)"] * len(rig.names)), colour=_tuples(PERSON_COLOURS[person % len(PERSON_COLOURS)][:1])[0],
        **_mesh(skin, rig.first),
    )  # fmt: skip


def _mesh(skin: Skin, first: int) -> dict[str, str]:
    weights = skin.joint_weights / skin.joint_weights.sum(axis=1, keepdims=True)
    indices = np.where(weights > 0, skin.joint_indices + first, 0)
    return {
        "extent": _list(_tuples(np.stack([skin.vertices.min(axis=0), skin.vertices.max(axis=0)]))),
        "counts": _list(["3"] * len(skin.faces)), "faces": _list(map(str, skin.faces.ravel().tolist())),
        "points": _list(_tuples(skin.vertices)), "indices": _list(map(str, indices.ravel().tolist())),
        "weights": _list(f"{weight:.6g}" for weight in weights.ravel().tolist()),
    }  # fmt: skip


def _paths(rig: Rig) -> list[str]:
    """Each bone with those above it: hips/spine/neck."""
    paths: list[str] = []
    for name, parent in zip(rig.names, rig.parents, strict=True):
        paths.append(f"{paths[parent]}/{name}" if parent >= 0 else name)
    return paths


def _list(texts: Iterable[str]) -> str:
    return f"[{', '.join(texts)}]"


def _tuples(rows: np.ndarray) -> list[str]:
    """(N, C) as N texts; six digits after the point."""
    line = f"({', '.join(['%.6f'] * rows.shape[-1])})"
    return [line % tuple(row) for row in rows.tolist()]


def _samples(values: np.ndarray) -> str:
    """(T, B, C) as a line for each frame."""
    return "\n".join(f"                {frame}: {_list(_tuples(rows))}," for frame, rows in enumerate(values))


def _shifts(places: np.ndarray) -> str:
    """Matrices that move to places (N, 3), row by row."""
    return _list(f"( (1, 0, 0, 0), (0, 1, 0, 0), (0, 0, 1, 0), {place[:-1]}, 1) )" for place in _tuples(places))
