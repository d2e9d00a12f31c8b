"""The camera of the stick-figure pictures: where it stands, what it follows, how a metre becomes pixels."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

PITCH = np.radians(17.0)  # slightly above, so that the floor is seen and feet can be judged
AZIMUTH = np.radians(30.0)  # three-quarter view: a frontal one would hide strides, a profile one arm behind the other
DISTANCE = 5.6  # body lengths (root to toes) between camera and figure: some perspective, no distortion
FIGURE_HEIGHT = 0.62  # of the picture, for somebody standing
STILL_RADIUS = 0.6  # body lengths: a clip that stays within it is filmed from a tripod
LEASH = 0.3  # body lengths the root may wander before a following camera moves
SMOOTHING = 0.4  # seconds (sigma) over which the camera speeds up and slows down


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
