"""Motions as VRMA (VRM animation 1.0), which moves any VRM avatar: a GLB without a body whose bones are told by VRM's names.

T-pose at rest, facing +Z, in metres; every bone turns, the hips alone also move, nothing is scaled. A file for each person. VRM
Consortium, VRMC_vrm_animation 1.0.
"""

from pathlib import Path

import numpy as np

from data_loaders.corpus import Motion
from data_loaders.skeleton import Skeleton, load_skeleton
from protos.reading import FileError
from visualize.formats import write_people
from visualize.gltf import Scene
from visualize.rigs import bone_names, rig_of

EXTENSION = "VRMC_vrm_animation"
REQUIRED = ("hips", "spine", "head", *(
    f"{side}{bone}" for side in ("left", "right") for bone in ("UpperLeg", "LowerLeg", "Foot", "UpperArm", "LowerArm", "Hand")
))  # fmt: skip
OPTIONAL = ("chest", "upperChest", "neck", *(f"{side}{bone}" for side in ("left", "right") for bone in ("Toes", "Shoulder")))


def write_vrma(path: Path, motion: Motion) -> list[Path]:
    """Writes a motion and returns the files, one a person. FileError for a skeleton without the bones that VRM asks for."""
    skeleton = load_skeleton(motion.skeleton)
    title = motion.captions[0] if motion.captions else "motion"
    return write_people(path, [vrma_of(joints, motion.fps, skeleton, title) for joints in motion.joints])


def vrma_of(joints: np.ndarray, fps: float, skeleton: Skeleton, title: str = "motion") -> bytes:
    """The file of joints (T, J, 3) in metres, Y up. FileError as `write_vrma`."""
    humanoid = vrm_bones(skeleton)
    scene = Scene(fps, len(joints), title)
    nodes = scene.add_bones(rig_of(joints, skeleton, bone_names(skeleton, "unity")), None)
    bones = {name: {"node": nodes[joint]} for joint, name in humanoid.items()}
    scene.document.extensionsUsed = [EXTENSION]
    scene.document.extensions = {EXTENSION: {"specVersion": "1.0", "humanoid": {"humanBones": bones}}}
    return scene.content()


def vrm_bones(skeleton: Skeleton) -> dict[int, str]:
    """VRM's names by joint, of those that have one. FileError as `write_vrma`."""
    humanoid = {joint: name for joint, name in enumerate(vrm_names(skeleton)) if name}
    if lack := [name for name in REQUIRED if name not in humanoid.values()]:
        raise FileError(f"VRM avatars need bones that the skeleton {skeleton.name} does not tell: {', '.join(lack)}")
    return humanoid


def vrm_names(skeleton: Skeleton) -> list[str]:
    """VRM's name of each joint: Unity's with a small letter; empty where VRM knows no such bone."""
    names = [name[:1].lower() + name[1:] for name in skeleton.unity_names or ()]
    return [name if name in REQUIRED + OPTIONAL else "" for name in names]
