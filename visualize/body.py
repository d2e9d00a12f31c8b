"""A body as flat shapes, the camera that sees it and the lit floor below: joints in, polygons with depth and colour out, for many
frames at once.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from data_loaders.skeleton import Skeleton

PITCH = np.radians(17.0)  # slightly above, so that the floor is seen and feet can be judged
AZIMUTH = np.radians(30.0)  # three-quarter view: a frontal one would hide strides, a profile one arm behind the other
DISTANCE = 5.6  # body lengths (root to toes) between camera and figure: some perspective, no distortion
FIGURE_HEIGHT = 0.62  # of the picture, for somebody standing
STILL_RADIUS = 0.6  # body lengths: a clip that stays within it is filmed from a tripod
LEASH = 0.3  # body lengths the root may wander before a following camera moves
SMOOTHING = 0.4  # seconds (sigma) over which the camera speeds up and slows down
BACKDROP = np.array([0.976, 0.973, 0.965])
FLOOR = np.array([0.906, 0.902, 0.890])

Ink = Callable[[np.ndarray], np.ndarray]


def plain(colours: np.ndarray) -> np.ndarray:
    """RGB as it is. A video passes its own colour space instead, and Agg then blends in that: see `visualize/video.py`."""
    return colours


@dataclass(frozen=True)
class Camera:
    """A pin-hole camera that keeps its direction and moves with `target`, a path (T, 3) on the floor in metres."""

    target: np.ndarray
    axes: np.ndarray  # (3, 3) rows: right, up, towards the camera
    distance: float  # metres from the target
    focal: float  # pixels
    centre: tuple[float, float]  # pixels from the lower left corner where the target appears

    @property
    def pixels_per_metre(self) -> float:
        """At the target."""
        return self.focal / self.distance

    def project(self, points: np.ndarray, frames: slice = slice(None)) -> tuple[np.ndarray, np.ndarray]:
        """Pixels (T, ..., 2), y up, and depth (T, ...) in metres of world points (T, ..., 3) at `frames`."""
        target = self.target[frames]
        return self.project_local(points - target.reshape(len(target), *[1] * (points.ndim - 2), 3))

    def project_local(self, points: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The same for points (..., 3) relative to the target: what moves with the camera is projected once."""
        seen = points @ self.axes.T
        depth = np.maximum(self.distance - seen[..., 2], 0.05 * self.distance)
        return seen[..., :2] * (self.focal / depth)[..., None] + self.centre, depth


def facing(joints: np.ndarray, face_joints: tuple[int, int, int, int] | None) -> np.ndarray:
    """Horizontal unit vectors (..., 2) as (x, z) in which bodies (..., J, 3) face; +Z where it cannot be told."""
    ahead = np.zeros((*joints.shape[:-2], 2))
    ahead[..., 1] = 1.0
    if face_joints is None:
        return ahead
    r_hip, l_hip, r_shoulder, l_shoulder = (joints[..., j, :] for j in face_joints)
    across = (r_hip - l_hip) + (r_shoulder - l_shoulder)
    forward = np.stack([across[..., 2], -across[..., 0]], axis=-1)  # Y x across
    length = np.linalg.norm(forward, axis=-1, keepdims=True)
    return np.where(length > 1e-6, forward / np.maximum(length, 1e-6), ahead)


def follow(root: np.ndarray, fps: float, body: float) -> np.ndarray:
    """Camera path (T, 2) for a root path (T, 2): still while the figure stays about its place, smooth when it travels.

    A leash is pulled through the clip forwards and backwards; the mean neither lags nor leads on a steady walk.
    """
    middle = (root.min(axis=0) + root.max(axis=0)) / 2
    if np.linalg.norm(root - middle, axis=1).max() < STILL_RADIUS * body:
        return np.tile(middle, (len(root), 1))
    path = (_leash(root, LEASH * body) + _leash(root[::-1], LEASH * body)[::-1]) / 2
    sigma = max(SMOOTHING * fps, 1e-3)
    reach = int(np.ceil(3 * sigma))
    kernel = np.exp(-0.5 * (np.arange(-reach, reach + 1) / sigma) ** 2)
    padded = np.pad(path, ((reach, reach), (0, 0)), mode="edge")
    smooth = [np.convolve(padded[:, i], kernel / kernel.sum(), mode="valid") for i in range(2)]
    grain = 1e-4 * body
    return (np.stack(smooth, axis=1) / grain).round() * grain  # a resting camera rests exactly


def _leash(root: np.ndarray, length: float) -> np.ndarray:
    held, path = root[0], np.empty_like(root)
    for t, point in enumerate(root):
        pull = point - held
        taut = float(np.hypot(*pull))
        if taut > length:
            held = held + pull * (1 - length / taut)
        path[t] = held
    return path


def choose_camera(
    joints: np.ndarray, heading: np.ndarray, floor: float, body: float, fps: float, size: tuple[int, int]
) -> Camera:
    """Three-quarter view, slightly above, for joints (P, T, J, 3): beside one person, across the line between several.

    `heading` (2,) is where the first person faces at the start. Not yet framed: see `frame_all`.
    """
    root = joints[:, :, 0][..., [0, 2]]  # (P, T, 2)
    turn = AZIMUTH
    if len(joints) > 1:
        between = (root[-1] - root[0]).mean(axis=0)
        if np.linalg.norm(between) > 0.2 * body:
            heading, turn = between / np.linalg.norm(between), np.radians(75.0)
    cos, sin = np.cos(turn), np.sin(turn)
    towards = np.array([cos * heading[0] + sin * heading[1], cos * heading[1] - sin * heading[0]])
    back = np.array([np.cos(PITCH) * towards[0], np.sin(PITCH), np.cos(PITCH) * towards[1]])
    right = np.array([towards[1], 0.0, -towards[0]])  # Y x towards
    path = follow(root.mean(axis=0), fps, body)
    target = np.stack([path[:, 0], np.full(len(path), floor), path[:, 1]], axis=1)
    spread = np.abs(joints - target[:, None]).max() if joints.size else 0.0
    distance = max(DISTANCE * body, 2.6 * float(spread))
    height, width = size[1], size[0]
    focal = FIGURE_HEIGHT * height * distance / (1.62 * body)
    return Camera(target, np.stack([right, np.cross(back, right), back]), distance, focal, (width / 2, height * 0.14))


def frame_all(
    camera: Camera, low: np.ndarray, high: np.ndarray, left: float, right: float, bottom: float, top: float
) -> Camera:
    """The camera zoomed out as far as needed, and shifted, so that everything ever drawn lies in the given box.

    `low` and `high` (2,) are the extreme pixels of the whole clip as this camera sees them.
    """
    low, high = (low - camera.centre) / camera.focal, (high - camera.centre) / camera.focal
    reach = max(-low[0], high[0], 1e-6)
    focal = min(camera.focal, (right - left) / 2 / reach, (top - bottom) / max(high[1] - low[1], 1e-6))
    return replace(camera, focal=focal, centre=((left + right) / 2, bottom - focal * low[1]))


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

    def shadow(self, joints: np.ndarray, floor: float, camera: Camera, frames: slice, width: float) -> np.ndarray:
        """Polygons (T, B, corners, 2): every bone of joints (T, J, 3), `width` radii thick, slid along the light to the floor."""
        height = np.maximum(joints[..., 1] - floor, 0)
        ground = joints[..., [0, 2]] - height[..., None] * LIGHT
        a, b = self.bones.T
        flat = capsules(ground[:, a], ground[:, b], width * self.radii[a], width * self.radii[b], 2)
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


def share_scale(cameras: Sequence[Camera]) -> list[Camera]:
    """The cameras with one scale, so that people side by side compare; as they are where that would dwarf somebody."""
    scales = [camera.pixels_per_metre for camera in cameras]
    scale = min(scales)
    if max(scales) > 1.6 * scale:
        return list(cameras)
    return [replace(camera, focal=scale * camera.distance) for camera in cameras]


def studio(camera: Camera, size: tuple[int, int], ink: Ink, spread: float = 1.0) -> np.ndarray:
    """Backdrop (H, W, 4) uint8: a lit floor around the target, `spread` times wider than deep, that fades away."""
    width, height = size
    _, sin, cos = camera.axes[:, 1]  # heights of the camera's axes: right is level, up, towards the camera
    right = (np.arange(width) + 0.5 - camera.centre[0]) / camera.focal / spread
    up = (height - np.arange(height) - 0.5 - camera.centre[1]) / camera.focal
    fall = np.maximum(cos - sin * up, 1e-6)  # of each row's rays; they meet the floor after `way`
    way = camera.distance * cos / fall
    beyond = camera.distance * sin - way * (cos * up + sin)  # level distance from the target, towards the camera
    reach = 1.2 * width / spread * camera.distance / camera.focal  # where the light ends
    floor = np.flatnonzero(np.abs(beyond) < reach)  # rows; those above the horizon are far beyond
    away = (way[floor, None] / reach * right).astype(np.float32) ** 2
    away += ((beyond[floor, None] / reach) ** 2).astype(np.float32)  # square of the distance, 1 at the end of the light
    share = np.clip(1.2 * (1 - np.sqrt(np.linspace(0, 1, 1024))), 0, 1)[:, None]
    shades = BACKDROP + (FLOOR - BACKDROP) * share**2 * (3 - 2 * share)
    palette = np.concatenate([np.round(255 * ink(shades)), np.full((1024, 1), 255)], axis=1).astype(np.uint8)
    picture = np.empty((height, width, 4), np.uint8)
    picture[:] = palette[-1]
    away *= 1023
    picture[floor] = palette[np.minimum(away, 1023, out=away).astype(np.uint16)]
    return picture
