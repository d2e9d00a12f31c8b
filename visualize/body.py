"""A body as flat shapes: joints and a camera in, polygons with depth and colour out, for many frames at once."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from data_loaders.skeleton import Skeleton
from visualize.camera import Camera, facing

# left, right, middle of each person: pairs that colour-blind viewers tell apart
PERSON_COLOURS = np.array(
    [
        [[0.13, 0.42, 0.76], [0.90, 0.40, 0.12], [0.23, 0.25, 0.30]],
        [[0.05, 0.56, 0.47], [0.78, 0.25, 0.55], [0.45, 0.38, 0.32]],
        [[0.45, 0.36, 0.78], [0.80, 0.60, 0.06], [0.33, 0.36, 0.33]],
        [[0.20, 0.62, 0.80], [0.74, 0.21, 0.20], [0.40, 0.36, 0.45]],
    ]
)
LEFT, RIGHT, MIDDLE = 0, 1, 2
LIGHT = np.array([0.25, 0.18])  # how far shadows lean, metres per metre of height
HAZE = 0.38  # how much paler the far side of a body is than the near one


class Body:
    """What a picture needs to know of people (P, T, J, 3): bones, sides, thicknesses, the head."""

    def __init__(self, joints: np.ndarray, skeleton: Skeleton | Sequence[int]):
        parents = np.asarray(getattr(skeleton, "parents", skeleton))
        self.bones = np.array([(parent, joint) for joint, parent in enumerate(parents) if parent >= 0], int).reshape(-1, 2)
        self.side = np.full(len(parents), MIDDLE)
        self.side[list(getattr(skeleton, "left_joints", ()))] = LEFT
        self.side[list(getattr(skeleton, "right_joints", ()))] = RIGHT
        self.has_sides = bool(np.any(self.side != MIDDLE))
        start, end = self.side[self.bones].T
        limbs = self.bones[(start == end) & (end != MIDDLE)]
        self.limbs = limbs if self.has_sides else self.bones  # arms and legs: drawn clear of what they cross
        self.face_joints = getattr(skeleton, "face_joints", None)
        bones = joints[:, :, self.bones[:, 1]] - joints[:, :, self.bones[:, 0]]
        reach = np.zeros(len(parents))  # way along the bones from the root
        for (parent, joint), length in zip(self.bones, np.linalg.norm(bones, axis=-1).mean(axis=(0, 1))):
            reach[joint] = reach[parent] + length
        leaves = [joint for joint in range(len(parents)) if joint not in parents]
        self.size = float(np.median(reach[leaves])) or 1.0  # about root to toes, metres
        self.radii = self.size * (0.046 - 0.020 * reach / max(reach.max(), 1e-9))
        middle = [joint for joint in leaves if self.side[joint] == MIDDLE] or leaves
        self.head = max(middle, key=lambda joint: joints[:, :, joint, 1].mean())
        self.neck = max(parents[self.head], 0)
        self.head_radius = 0.105 * self.size

    def skull(self, joints: np.ndarray) -> np.ndarray:
        """Centre of the head (..., 3) of joints (..., J, 3): the head joint lies at the base of the skull."""
        head = joints[..., self.head, :]
        up = head - joints[..., self.neck, :] + self.size * np.array([0.0, 0.08, 0.0])
        return head + 0.085 * self.size * up / np.maximum(np.linalg.norm(up, axis=-1, keepdims=True), 1e-6)

    def extremes(self, joints: np.ndarray, camera: Camera) -> tuple[np.ndarray, np.ndarray]:
        """Lowest and highest pixels (2,) that joints (P, T, J, 3) and their heads reach over the whole clip."""
        low, high = np.full(2, np.inf), np.full(2, -np.inf)
        for person in np.concatenate([joints, self.skull(joints)[:, :, None]], axis=2):
            pixels, depth = camera.project(person)
            margin = (self.head_radius * camera.focal / depth)[..., None]
            low = np.minimum(low, (pixels - margin).min(axis=(0, 1)))
            high = np.maximum(high, (pixels + margin).max(axis=(0, 1)))
        return low, high

    def shapes(
        self, joints: np.ndarray, person: int, camera: Camera, frames: slice, gap: float, backdrop: np.ndarray
    ) -> tuple[list[np.ndarray], np.ndarray, np.ndarray]:
        """Polygons [(T, N, corners, 2)] of joints (T, J, 3), depths (T, sum N) and colours (T, sum N, 3).

        `gap` pixels around arms and legs are cleared to the colour `backdrop`, towards which far shapes fade.
        """
        pixels, depth = camera.project(joints, frames)
        radius = self.radii * camera.focal / depth
        a, b = self.bones.T
        c, d = self.limbs.T
        skull = self.skull(joints)
        spot, away = camera.project(skull, frames)
        disc = self.head_radius * camera.focal / away
        rounding = 5 if camera.pixels_per_metre * self.size < 300 else 9
        polygons = [
            clearances(pixels[:, c], pixels[:, d], radius[:, c], radius[:, d], gap),
            capsules(pixels[:, a], pixels[:, b], radius[:, a], radius[:, b], rounding),
            capsules(spot, spot, disc, disc, 12 if rounding == 5 else 20)[:, None],
        ]
        depths = [(depth[:, c] + depth[:, d]) / 2 + 1e-6, (depth[:, a] + depth[:, b]) / 2, away[:, None]]
        palette = PERSON_COLOURS[person % len(PERSON_COLOURS)]
        paint = [palette[self.side[b]], palette[[MIDDLE]]]
        if self.face_joints is not None:  # a nose, so that one sees where the head points, and a chest
            forward = np.insert(facing(joints, self.face_joints), 1, -0.1, axis=-1)
            tip, tip_away = camera.project(skull + 1.45 * self.head_radius * forward, frames)
            chest = np.array(self.face_joints)[[3, 2, 0, 1, 3]]  # left and right shoulder, right and left hip
            polygons += [capsules(spot, tip, 0.5 * disc, 0.16 * disc, rounding)[:, None], pixels[:, None, chest]]
            depths += [tip_away[:, None], depth[:, chest[:4]].mean(axis=1)[:, None] + 0.1 * self.size]
            paint += [palette[[MIDDLE]], palette[[MIDDLE]] * 0.38 + backdrop * 0.62]
        base = np.concatenate(paint)
        far = np.clip((np.concatenate(depths[1:], axis=1) - camera.distance) / self.size + 0.35, 0, 1)[..., None]
        cleared = np.broadcast_to(0.985 * backdrop, (*depths[0].shape, 3))
        colours = np.concatenate([cleared, base + (backdrop - base) * HAZE * far], axis=1)
        return polygons, np.concatenate(depths, axis=1), colours

    def shadow(self, joints: np.ndarray, floor: float, camera: Camera, frames: slice) -> np.ndarray:
        """Polygons (T, B, corners, 2): every bone of joints (T, J, 3) slid along the light down to the floor."""
        height = np.maximum(joints[..., 1] - floor, 0)
        ground = joints[..., [0, 2]] - height[..., None] * LIGHT
        a, b = self.bones.T
        flat = capsules(ground[:, a], ground[:, b], 1.2 * self.radii[a], 1.2 * self.radii[b], 2)
        return camera.project(np.insert(flat, 1, floor, axis=-1), frames)[0]


def capsules(a, b, radius_a, radius_b, rounding: int) -> np.ndarray:
    """Outlines (..., 2 rounding + 1, 2) of limbs from a to b (..., 2) with a rounded end of its own radius at each."""
    along = np.arctan2(b[..., 1] - a[..., 1], b[..., 0] - a[..., 0])[..., None]
    turn = along + ((np.arange(rounding) + 0.5) / rounding - 0.5) * np.pi
    tip = np.stack([np.cos(turn), np.sin(turn)], axis=-1)
    end_b = b[..., None, :] + tip * np.asarray(radius_b)[..., None, None]
    end_a = a[..., None, :] - tip * np.asarray(radius_a)[..., None, None]
    return np.concatenate([end_b, end_a, end_b[..., :1, :]], axis=-2)


def clearances(a, b, radius_a, radius_b, gap: float) -> np.ndarray:
    """The strip (..., 5, 2) a limb clears around itself, so that what it crosses stands back; not at its ends."""
    span = b - a
    length = np.maximum(np.linalg.norm(span, axis=-1, keepdims=True), 1e-6)
    unit = span / length
    normal = np.stack([-unit[..., 1], unit[..., 0]], axis=-1)
    start = a + unit * np.minimum(1.1 * radius_a[..., None], length / 2)
    stop = b - unit * np.minimum(1.1 * radius_b[..., None], length / 2)
    wide_a, wide_b = normal * (radius_a[..., None] + gap), normal * (radius_b[..., None] + gap)
    return np.stack([start + wide_a, stop + wide_b, stop - wide_b, start - wide_a, start + wide_a], axis=-2)
