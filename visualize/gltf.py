"""Motions as GLB, the binary file of glTF 2.0: for each person a skinned body in T-pose, and one animation that moves them all.

Metres, +Y up, facing +Z at rest; bones are nodes that at rest are turned as the world is, with the names of a rig. Everybody has
a node above the bones, `person1`, `person2`, and stands where the motion has them. Khronos Group, glTF 2.0 specification.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

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

UNSIGNED_BYTE, UNSIGNED_SHORT, UNSIGNED_INT, FLOAT = 5121, 5123, 5125, 5126  # glTF's numbers of component types
COMPONENTS = {np.dtype(np.uint8): UNSIGNED_BYTE, np.dtype(np.uint16): UNSIGNED_SHORT, np.dtype(np.uint32): UNSIGNED_INT,
              np.dtype(np.float32): FLOAT}  # fmt: skip
ARRAY_BUFFER, ELEMENT_ARRAY_BUFFER = 34962, 34963
SHAPES = {(): "SCALAR", (3,): "VEC3", (4,): "VEC4", (4, 4): "MAT4"}
MADE_BY = "moveo"


def write_glb(path: Path, motion: Motion, naming: Naming = "mixamo", root_bone: bool = False) -> Path:
    """Writes a motion of any number of persons, and returns the path. root_bone: as in `rig_of`."""
    write_atomically(path, glb_of(motion, naming, root_bone))
    return path


def glb_of(motion: Motion, naming: Naming = "mixamo", root_bone: bool = False) -> bytes:
    """What stands in the file of `write_glb`."""
    skeleton = load_skeleton(motion.skeleton)
    names, root = bone_names(skeleton, naming, prefix=True), ROOT_NAMES[naming] if root_bone else None
    floor = float(motion.joints[..., 1].min()) - SOLE
    scene = Scene(motion.fps, motion.joints.shape[1], motion.captions[0] if motion.captions else "motion")
    for person, joints in enumerate(motion.joints):
        rig, skin = dressed(rig_of(joints, skeleton, names, root), skeleton, floor)
        bones = scene.add_bones(rig, f"person{person + 1}")
        scene.add_body(rig, bones, skin, f"body{person + 1}", PERSON_COLOURS[person % len(PERSON_COLOURS)][0])
    return scene.content()


class Scene:
    """A glTF document that is built up: nodes, the numbers behind them in one buffer, one animation of all."""

    def __init__(self, fps: float, frames: int, title: str):
        """title: the name of the animation."""
        import pygltflib

        self.library = pygltflib
        self.document = pygltflib.GLTF2(asset=pygltflib.Asset(version="2.0", generator=MADE_BY), scene=0)
        self.document.scenes = [pygltflib.Scene(nodes=[])]
        self.animation = pygltflib.Animation(name=" ".join(title.split())[:60], channels=[], samplers=[])
        self.document.animations = [self.animation]
        self.buffer = bytearray()
        self.times = self.numbers((np.arange(frames) / fps).astype(np.float32), bounds=True)

    def numbers(self, array: np.ndarray, target: int | None = None, bounds: bool = False) -> int:
        """The accessor of an array (N, ...) of the shapes and types that glTF knows. target: what of a mesh it is; bounds:
        whether its least and largest values are told."""
        library, document = self.library, self.document
        self.buffer += bytes(-len(self.buffer) % 4)
        view = library.BufferView(buffer=0, byteOffset=len(self.buffer), byteLength=array.nbytes, target=target)
        self.buffer += np.ascontiguousarray(array).tobytes()
        document.bufferViews.append(view)
        low, high = (np.atleast_1d(edge(axis=0)).tolist() if bounds else None for edge in (array.min, array.max))
        document.accessors.append(library.Accessor(
            bufferView=len(document.bufferViews) - 1, componentType=COMPONENTS[array.dtype], count=len(array),
            type=SHAPES[array.shape[1:]], min=low, max=high,
        ))  # fmt: skip
        return len(document.accessors) - 1

    def node(self, **settings: Any) -> int:
        """The number of a new node."""
        self.document.nodes.append(self.library.Node(**settings))
        return len(self.document.nodes) - 1

    def add_bones(self, rig: Rig, above: str | None) -> list[int]:
        """The nodes of a rig's bones, which the animation moves, below a node of that name, or at the top."""
        bones = [self.node(name=name, translation=place.tolist()) for name, place in zip(rig.names, rig.offsets, strict=True)]
        for bone, parent in enumerate(rig.parents):
            if parent >= 0:
                self.document.nodes[bones[parent]].children.append(bones[bone])
        top = bones[0] if above is None else self.node(name=above, children=[bones[0]])
        self.document.scenes[0].nodes.append(top)
        turns = quaternions(rig.turns).astype(np.float32)  # (T, B, 4)
        for bone in range(len(bones)):
            self._animate(bones[bone], "rotation", turns[:, bone])
        for bone in rig.moving:
            self._animate(bones[bone], "translation", rig.places[:, bone].astype(np.float32))
        return bones

    def _animate(self, node: int, path: str, values: np.ndarray) -> None:
        library = self.library
        self.animation.samplers.append(library.AnimationSampler(input=self.times, output=self.numbers(values)))
        target = library.AnimationChannelTarget(node=node, path=path)
        self.animation.channels.append(library.AnimationChannel(sampler=len(self.animation.samplers) - 1, target=target))

    def add_body(self, rig: Rig, bones: list[int], skin: Skin, name: str, colour: np.ndarray) -> None:
        """A body that these bones carry; its joints are the rig's from the first joint on. colour: RGB from 0 to 1."""
        library, document = self.library, self.document
        weights = skin.joint_weights.astype(np.float32)
        weights /= weights.sum(axis=1, keepdims=True)
        indices = np.where(weights > 0, skin.joint_indices + rig.first, 0).astype(np.uint8)
        faces = skin.faces.reshape(-1).astype(np.uint16 if len(skin.vertices) < 65_535 else np.uint32)
        attributes = library.Attributes(
            POSITION=self.numbers(skin.vertices.astype(np.float32), ARRAY_BUFFER, bounds=True),
            NORMAL=self.numbers(skin.normals.astype(np.float32), ARRAY_BUFFER),
            JOINTS_0=self.numbers(indices, ARRAY_BUFFER), WEIGHTS_0=self.numbers(weights, ARRAY_BUFFER),
        )  # fmt: skip
        paint = [*map(float, colour), 1.0]
        surface = library.PbrMetallicRoughness(baseColorFactor=paint, metallicFactor=0.0, roughnessFactor=0.8)
        document.materials.append(library.Material(name=name, pbrMetallicRoughness=surface))
        primitive = library.Primitive(attributes=attributes, material=len(document.materials) - 1,
                                      indices=self.numbers(faces, ELEMENT_ARRAY_BUFFER))  # fmt: skip
        document.meshes.append(library.Mesh(name=name, primitives=[primitive]))
        unbound = np.tile(np.eye(4, dtype=np.float32), (len(bones), 1, 1))
        unbound[:, 3, :3] = -rig.rest  # a matrix is told column by column
        document.skins.append(library.Skin(joints=bones, skeleton=bones[0], inverseBindMatrices=self.numbers(unbound)))
        body = self.node(name=name, mesh=len(document.meshes) - 1, skin=len(document.skins) - 1)
        document.scenes[0].nodes.append(body)

    def content(self) -> bytes:
        """The file."""
        self.buffer += bytes(-len(self.buffer) % 4)
        self.document.buffers = [self.library.Buffer(byteLength=len(self.buffer))]
        self.document.set_binary_blob(bytes(self.buffer))
        return b"".join(self.document.save_to_bytes())
