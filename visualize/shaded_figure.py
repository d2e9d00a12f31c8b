"""Shaded bodies in place of stick figures: skinned triangles, lit per vertex, drawn from far to near by Agg in one call a frame.

Left limbs are bluish, right ones reddish, as those of stick figures. What a body is and how it moves is in `skinned_body`.
"""

from collections.abc import Sequence

import numpy as np
from matplotlib.transforms import Transform

from data_loaders.skeleton import Skeleton
from visualize.body import BACKDROP, LEFT, LIGHT, MIDDLE, PERSON_COLOURS, RIGHT
from visualize.skinned_body import free_body, posed, posed_normals, require_skinned, worn
from visualize.stick_figure import BLOCK, Panel

PALE = {LEFT: 0.30, RIGHT: 0.30, MIDDLE: 0.62}  # share of the backdrop in a colour: large areas want less of it than thin limbs
AMBIENT, SUN, LAMP = 0.52, 0.30, 0.26  # light from all sides, from where shadows come from, from the camera


class BodyPanel(Panel):
    """A `Panel` whose people (P, T, 22, 3) have bodies. FileError where the skeleton is not humanml."""

    SHADOW_WIDTH = 2.0

    def __init__(self, joints: np.ndarray, skeleton: Skeleton | Sequence[int], fps: float, size: tuple[int, int]):
        body = require_skinned(skeleton)
        super().__init__(joints, body, fps, size)
        self.people = worn(free_body(), self.joints, body)
        self.faces = np.concatenate([skin.faces + i * len(skin.vertices) for i, (skin, _) in enumerate(self.people)])
        weights = free_body().weights
        self.tints = np.concatenate([weights @ tints(person)[self.body.side] for person in range(len(self.people))])

    def extremes(self) -> tuple[np.ndarray, np.ndarray]:
        low, high = np.full(2, np.inf), np.full(2, -np.inf)
        for start in range(0, self.num_frames, BLOCK):
            frames = slice(start, start + BLOCK)
            pixels, _ = self.camera.project(self.vertices(frames), frames)
            low, high = np.minimum(low, pixels.min(axis=(0, 1))), np.maximum(high, pixels.max(axis=(0, 1)))
        return low, high

    def vertices(self, frames: slice) -> np.ndarray:
        """(T, P V, 3) in metres of all people."""
        return np.concatenate([posed(skin, pose, frames) for skin, pose in self.people], axis=1)

    def normals(self, frames: slice) -> np.ndarray:
        """Unit normals (T, P V, 3) of all people."""
        return np.concatenate([posed_normals(skin, pose, frames) for skin, pose in self.people], axis=1)

    def prepare_figures(self, frames: slice) -> np.ndarray:
        self.seen, depth = self.camera.project(self.vertices(frames), frames)  # (T, P V, 2), (T, P V)
        light = lit(self.normals(frames), self.camera.axes[2])
        colours = self.ink(np.minimum(self.tints * light[..., None], 1.0))
        self.lit = np.concatenate([colours, np.ones((*light.shape, 1))], axis=-1)
        a, b, c = (self.seen[:, corner] for corner in self.faces.T)
        area = (b[..., 0] - a[..., 0]) * (c[..., 1] - a[..., 1]) - (b[..., 1] - a[..., 1]) * (c[..., 0] - a[..., 0])  # (T, F)
        away = np.where(area > 0, sum(depth[:, corner] for corner in self.faces.T), -1.0)  # what looks away is not drawn
        self.far_first = np.argsort(-away, axis=1)
        self.visible = (area > 0).sum(axis=1)
        return self.seen

    def draw_figures(self, t: int, place: Transform) -> None:
        corners = self.faces[self.far_first[t, : self.visible[t]]]
        self.renderer.draw_gouraud_triangles(self.filling, self.seen[t][corners], self.lit[t][corners], place)


class MeshPanel(BodyPanel):
    """A `Panel` whose people have surfaces of their own: vertices (P, T, V, 3) in metres, faces (F, 3) counter-clockwise from
    outside, and weights (V, J) by which they follow joints (P, T, J, 3), which say what is left and right."""

    def __init__(self, joints: np.ndarray, skeleton: Skeleton | Sequence[int], fps: float, size: tuple[int, int],
                 surface: tuple[np.ndarray, np.ndarray, np.ndarray]):  # fmt: skip
        Panel.__init__(self, joints, skeleton, fps, size)
        self.surfaces, faces, weights = surface
        people, _, count, _ = self.surfaces.shape
        self.faces = np.concatenate([faces + i * count for i in range(people)])
        self.tints = np.concatenate([weights @ tints(person)[self.body.side] for person in range(people)])

    def vertices(self, frames: slice) -> np.ndarray:
        people = self.surfaces[:, frames]
        return people.transpose(1, 0, 2, 3).reshape(people.shape[1], -1, 3)

    def normals(self, frames: slice) -> np.ndarray:
        from scipy.sparse import csr_matrix

        vertices = self.vertices(frames)
        a, b, c = (vertices[:, corner] for corner in self.faces.T)
        across = np.cross(b - a, c - a)  # (T, F, 3), as long as twice the area
        rows, places = self.faces.ravel(), np.arange(self.faces.size) // 3
        sums = csr_matrix((np.ones(len(rows), vertices.dtype), (rows, places)), (vertices.shape[1], len(self.faces)))
        total = (sums @ across.transpose(1, 0, 2).reshape(len(self.faces), -1)).reshape(vertices.shape[1], -1, 3)
        total /= np.maximum(np.linalg.norm(total, axis=-1, keepdims=True), 1e-12)
        return total.transpose(1, 0, 2)


def tints(person: int) -> np.ndarray:
    """Colours (3, 3) of a person's left side, right side and trunk."""
    palette = PERSON_COLOURS[person % len(PERSON_COLOURS)]
    return np.stack([colour + PALE[side] * (BACKDROP - colour) for side, colour in enumerate(palette)])


def lit(normals: np.ndarray, towards: np.ndarray) -> np.ndarray:
    """How bright surfaces with normals (..., 3) are, seen from the direction `towards` (3,): Lambert's law for two lights."""
    sun = np.array([LIGHT[0], 1.0, LIGHT[1]])
    sun /= np.linalg.norm(sun)
    return AMBIENT + SUN * np.maximum(normals @ sun, 0.0) + LAMP * np.maximum(normals @ towards, 0.0)
