"""Motions as FBX, written by Blender (`pip install bpy`) out of the GLB, which it imports and exports in a process of its own."""

import multiprocessing
import os
import tempfile
from pathlib import Path

from data_loaders.corpus import Motion
from protos.files import atomic_path
from visualize.formats import Naming
from visualize.gltf import write_glb

SECONDS = 300.0  # that Blender gets for a file


def write_fbx(path: Path, motion: Motion, naming: Naming = "mixamo", root_bone: bool = False) -> Path:
    """Writes a motion of any number of persons, and returns the path. OSError where Blender fails."""
    with atomic_path(path) as temporary, tempfile.TemporaryDirectory() as folder:
        scene = write_glb(Path(folder) / "scene.glb", motion, naming, root_bone)
        last = motion.joints.shape[1] - 1
        blender = multiprocessing.get_context("spawn").Process(target=_convert, args=(scene, temporary, motion.fps, last))
        blender.start()
        blender.join(SECONDS)
        if blender.is_alive():
            blender.kill()
            blender.join()
        if blender.exitcode != 0 or not temporary.is_file():
            raise OSError(f"{path}: Blender could not write it (exit code {blender.exitcode}); MOVEO_DEBUG=1 shows what it says")
    return path


def _convert(scene: Path, path: Path, fps: float, last: int) -> None:
    """Reads a GLB and writes an FBX, in a process that does nothing else: Blender's state is one for a process."""
    if os.environ.get("MOVEO_DEBUG", "0") in ("", "0"):
        for stream in (1, 2):
            os.dup2(os.open(os.devnull, os.O_WRONLY), stream)
    import bpy

    bpy.ops.wm.read_factory_settings(use_empty=True)
    render = bpy.context.scene.render
    render.fps = max(1, round(fps))
    render.fps_base = render.fps / fps
    bpy.ops.import_scene.gltf(filepath=str(scene))
    bpy.context.scene.frame_start, bpy.context.scene.frame_end = 0, max(last, 1)
    bpy.ops.export_scene.fbx(
        filepath=str(path), object_types={"ARMATURE", "MESH"}, add_leaf_bones=False, bake_anim_use_nla_strips=False,
        bake_anim_use_all_actions=False, bake_anim_simplify_factor=0.0,
    )  # fmt: skip
