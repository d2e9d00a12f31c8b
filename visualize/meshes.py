"""A motion's persons as meshes: SMPL bodies with their parameters, or free bodies; an .obj for each frame, or one video."""

import logging
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np
import torch

from data_loaders.body_models import BODY_JOINTS, Gender, load_body_model, load_surface
from data_loaders.corpus import Motion
from data_loaders.mocap import checked_joints, report_warnings
from data_loaders.skeleton import ALIASES, load_skeleton
from protos.outputs import Outputs
from protos.reading import FileError
from visualize.mesh_files import people_of, write_amass, write_objs, write_params
from visualize.posed_body import PosedBody, PosedSurface
from visualize.shaded_figure import MeshPanel
from visualize.skinned_body import free_body, skinned
from visualize.smpl import SKELETON, fit
from visualize.stick_figure import Panel
from visualize.video import write_video

log = logging.getLogger(__name__)


def of_a_person(motion: Motion, path: Path) -> Motion:
    """The motion, of the 22 joints that all bodies share, checked. FileError where it has others, or they are no person's."""
    count = motion.joints.shape[2]
    named = ALIASES.get(motion.skeleton.lower(), motion.skeleton) or SKELETON
    if named != SKELETON or count < BODY_JOINTS:
        raise FileError(f"{path}: {count} joints of {motion.skeleton[:40] or 'no known skeleton'}; bodies are fitted to the "
                        f"{BODY_JOINTS} of {SKELETON}")  # fmt: skip
    told: list[str] = []
    people = [checked_joints(person, load_skeleton(SKELETON), str(path), told) for person in motion.joints]
    report_warnings(str(path), told, None)
    return replace(motion, joints=np.stack(people), skeleton=SKELETON)


@dataclass(frozen=True)
class MeshNames:
    """Names of a motion's files, as published tools call them: NAME_…; of two people of a folder's repetition p1_0_…, p2_0_….

    Of several people of a file the person comes last, NAME_smpl_p1.npz: somebody alone in NAME_p1.npy has NAME_p1_smpl.npz.
    """

    name: str
    persons: int
    repetition: int | None

    @property
    def _published_pair(self) -> bool:
        return self.repetition is not None and self.persons > 1

    def of_each(self, kind: str, suffix: str) -> list[str]:
        """Each person's file of a kind: NAME_KIND.SUFFIX."""
        numbers = range(1, self.persons + 1)
        if self._published_pair:
            return [f"p{i}_{self.repetition}_{kind}{suffix}" for i in numbers]
        return [f"{self.name}_{kind}{suffix}"] if self.persons == 1 else [f"{self.name}_{kind}_p{i}{suffix}" for i in numbers]

    @property
    def video(self) -> str:
        return f"mesh_{self.repetition}.mp4" if self._published_pair else f"{self.name}_mesh.mp4"

    @property
    def objs(self) -> str:
        """Folder of the meshes."""
        return f"objs_{self.repetition}" if self._published_pair else f"{self.name}_obj"

    def frames(self, person: int, count: int) -> list[str]:
        """The .obj of each frame."""
        before = "" if self.persons == 1 else f"p{person + 1}/p{person + 1}_"
        return [f"{self.objs}/{before}frame{frame:03d}.obj" for frame in range(count)]


def write_smpl(
    outputs: Outputs, names: MeshNames, motion: Motion, model: Path, gender: Gender, video: bool, steps: int, device: torch.device
) -> list[Path]:
    """Parameters of each person of a motion, fitted in so many steps to a body model, and the meshes. FileError for the model."""
    body, surface = load_body_model(model), load_surface(model)
    made = fit(body, motion.joints, device, steps)
    log.info("%s: joints within %.1f mm in the mean, %.0f mm at most", model, 1e3 * made.errors.mean(), 1e3 * made.errors.max())
    posed = PosedBody(body, device)
    vertices = PosedSurface(posed, surface).vertices(made.poses)
    text = motion.captions[0] if motion.captions else ""
    written = []
    files = zip(names.of_each("smpl_params", ".npy"), names.of_each("smpl", ".npz"), strict=True)
    for person, mesh, (params, amass) in zip(people_of(posed, made.poses), vertices, files):
        written.append(write_params(outputs.path(params), person, mesh, surface.faces, text, fps=motion.fps, gender=gender))
        written.append(write_amass(outputs.path(amass), person, motion.fps, gender))
    weights = body_weights(surface.weights, posed.turning, BODY_JOINTS)
    panel = partial(MeshPanel, surface=(vertices, surface.faces, weights))
    written += write_meshes(outputs, names, motion, vertices, surface.faces, panel if video else False)
    return written


def body_weights(weights: np.ndarray, turning: list[int], count: int) -> np.ndarray:
    """Skinning weights (V, 22) by the body's joints, of weights (V, J) where joint j turns as `turning[j]`."""
    return np.stack([weights[:, [own == joint for own in turning]].sum(axis=1) for joint in range(count)], axis=1)


def write_free(outputs: Outputs, names: MeshNames, motion: Motion, video: bool) -> list[Path]:
    """Meshes of the free body."""
    skin = free_body(fine=not video)
    return write_meshes(outputs, names, motion, None if video else skinned(skin, motion), skin.faces, video)


def write_meshes(outputs: Outputs, names: MeshNames, motion: Motion, vertices: np.ndarray | None, faces: np.ndarray,
                 panel: bool | Callable[..., Panel] = False) -> list[Path]:  # fmt: skip
    """One mp4 where a panel is given, as `Sheet` takes it; else an .obj for each frame of each person: vertices (P, T, V, 3)."""
    if panel:
        return [write_video(outputs.path(names.video), [motion], body=panel)]
    written = []
    every = [names.frames(person, vertices.shape[1]) for person in range(len(vertices))]
    fresh = {name for one in every for name in one}
    outputs.claim(*sorted(fresh))
    outputs.remove(*(name for name in outputs.listed - fresh if name.startswith(f"{names.objs}/")))
    for one, mesh in zip(every, vertices):
        paths = [outputs.folder / name for name in one]
        write_objs(paths, mesh, faces)
        written.append(paths[0].parent)
    log.info("%d meshes in %s", len(fresh), outputs.folder / names.objs)
    return written
