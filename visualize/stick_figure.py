"""Stick figures drawn with Agg: limbs that taper and hide each other, a floor that moves below, shadow and trail.

Shapes are projected for many frames at once; per frame only ready polygons go to one Agg renderer, through paths and
graphics contexts that are made once. Left is blue, right is orange (green and magenta for a second person), the middle
of the body is dark; what is far is paler.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
from matplotlib.backends.backend_agg import RendererAgg
from matplotlib.path import Path
from matplotlib.transforms import Affine2D, IdentityTransform

from data_loaders.skeleton import Skeleton
from visualize.camera import Camera, choose_camera, facing, frame_all
from visualize.lettering import write_text

BACKDROP = np.array([0.976, 0.973, 0.965])
FLOOR = np.array([0.906, 0.902, 0.890])
LINES = np.array([0.790, 0.786, 0.772])
TRAIL = np.array([0.520, 0.510, 0.490])
SHADOW = np.array([0.24, 0.24, 0.27])
SHADE = 0.17  # opacity of the shadow
LIGHT = np.array([0.25, 0.18])  # how far shadows lean, metres per metre of height
TEXT = np.array([0.17, 0.19, 0.23])
QUIET_TEXT = np.array([0.49, 0.50, 0.52])
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
BLOCK = 128  # frames projected at a time: bounds memory for long clips
PIXELS = IdentityTransform()

Ink = Callable[[np.ndarray], np.ndarray]


def plain(colours: np.ndarray) -> np.ndarray:
    """RGB as it is. A video passes its own colour space instead, and Agg then blends in that: see `video`."""
    return colours


class Body:
    """What a picture needs to know of people (P, T, J, 3): bones, sides, thicknesses, the head."""

    def __init__(self, joints: np.ndarray, skeleton: Skeleton | Sequence[int]):
        parents = np.asarray(getattr(skeleton, "parents", skeleton))
        self.bones = np.array([(parent, joint) for joint, parent in enumerate(parents) if parent >= 0]).reshape(-1, 2)
        self.side = np.full(len(parents), MIDDLE)
        self.side[list(getattr(skeleton, "left_joints", ()))] = LEFT
        self.side[list(getattr(skeleton, "right_joints", ()))] = RIGHT
        one_side = (self.side[self.bones] == self.side[self.bones[:, 1:]]).all(axis=1) & (self.side[self.bones[:, 1]] != MIDDLE)
        self.limbs = self.bones[one_side] if one_side.any() else self.bones  # arms and legs: drawn clear of what they cross
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
        up = joints[..., self.head, :] - joints[..., self.neck, :] + self.size * np.array([0.0, 0.08, 0.0])
        return joints[..., self.head, :] + 0.085 * self.size * up / np.maximum(np.linalg.norm(up, axis=-1, keepdims=True), 1e-6)


class Panel:
    """One clip as a picture of its own: joints (P, T, J, 3) in metres, Y up, finite; size (width, height) in pixels.

    `framed` proposes a camera, `start` renders what stays, `draw` a frame.
    """

    def __init__(self, joints: np.ndarray, skeleton: Skeleton | Sequence[int], fps: float, size: tuple[int, int]):
        self.joints = np.asarray(joints, dtype=np.float64)
        self.size = size
        self.body = Body(self.joints, skeleton)
        lowest = self.joints[..., 1].min()
        self.floor = lowest if abs(lowest) > 0.3 * self.body.size else 0.0
        self.floor -= self.body.radii.min()  # toes rest on the floor with their skin, not with their middle
        heading = facing(self.joints[0, 0], self.body.face_joints)
        self.camera = choose_camera(self.joints, heading, self.floor, self.body.size, fps, size)
        self.rounding = 6 if max(size) <= 640 else 10  # vertices of a limb's rounded end

    @property
    def num_frames(self) -> int:
        return self.joints.shape[1]

    def framed(self, bottom: float, top: float) -> Camera:
        """The camera that keeps the whole clip between `bottom` and `top` (pixels from below)."""
        low, high = np.full(2, np.inf), np.full(2, -np.inf)
        for person in np.concatenate([self.joints, self.body.skull(self.joints)[:, :, None]], axis=2):
            pixels, depth = self.camera.project(person)
            margin = (self.body.head_radius * self.camera.focal / depth)[..., None]
            low = np.minimum(low, (pixels - margin).min(axis=(0, 1)))
            high = np.maximum(high, (pixels + margin).max(axis=(0, 1)))
        margin = 0.02 * self.size[0]
        return frame_all(self.camera, low, high, margin, self.size[0] - margin, bottom, top)

    def start(self, camera: Camera, ink: Ink = plain, trail: bool = True, caption: Sequence[str] = (), label: str = "") -> None:
        """Sets the stage: renders backdrop and lettering once, and what `draw` reuses. `caption` is lines."""
        self.camera, self.ink, self.trail = camera, ink, trail
        width, height = self.size
        self.renderer = RendererAgg(width, height, 72)  # at 72 dpi a point is a pixel
        self.pixels = np.asarray(self.renderer.buffer_rgba())  # (H, W, 4), what Agg draws on
        self.pixels[...] = studio(camera, self.size, ink)
        font = caption_font(height)
        for row, line in enumerate(caption):
            write_text(self.renderer, width / 2, height - (0.7 + 1.3 * row) * font, line, font, ink(TEXT), "center", "top")
        write_text(self.renderer, 0.97 * width, 0.5 * font, label, 0.85 * font, ink(QUIET_TEXT), "right", "bottom")
        if np.any(self.body.side != MIDDLE):
            for row, palette in enumerate(PERSON_COLOURS[: min(len(self.joints), 2)][::-1]):
                for side, name, x in ((LEFT, "● left", 0.6 * font), (RIGHT, "● right", 3.6 * font)):
                    y = (0.5 + 1.15 * row) * font
                    write_text(self.renderer, x, y, name, 0.8 * font, ink(palette[side]), "left", "bottom")
        self.plate = self.pixels.copy()  # without the grid
        self.stage, self.stage_target = self.plate, None  # with it, while the camera rests
        self.block, self.drawn = -1, -1
        visible = 0.5 * width * camera.distance / camera.focal  # metres from the middle to the edge of the picture
        self.radius, self.spacing = 1.7 * visible, round_length(visible / 1.2)
        thin = max(0.0022 * height, 1.0)
        self.grid_pens = self._pen(0.5 * LINES + 0.5 * FLOOR, thin), self._pen(LINES, thin)
        self.trail_pen = self._pen(TRAIL, 1.7 * thin)
        self.filling = self.renderer.new_gc()
        self.filling.set_linewidth(0)
        self.shadow_ink = (*ink(SHADOW), SHADE)
        root = self.joints[:, :, 0]
        self.ground = np.stack([root[..., 0], np.full(root.shape[:2], self.floor), root[..., 2]], axis=-1)  # (P, T, 3)
        steps = np.linalg.norm(np.diff(self.ground, axis=1), axis=-1).cumsum(axis=1) // (0.05 * self.body.size)
        self.footmarks = [np.append(0, 1 + np.flatnonzero(np.diff(way, prepend=0))) for way in steps]

    def _pen(self, colour: np.ndarray, width: float):
        pen = self.renderer.new_gc()
        pen.set_linewidth(width)
        pen.set_foreground((*self.ink(colour), 1.0), isRGBA=True)
        return pen

    def draw(self, frame: int) -> np.ndarray:
        """Pixels (H, W, 4) uint8 of a frame, in the ink's colours. The same array every time: copy to keep.

        A clip that is over holds its last frame.
        """
        frame = min(frame, self.num_frames - 1)
        if frame == self.drawn:
            return self.pixels
        self.drawn = frame
        t = self._ready(frame)
        target = self.camera.target[frame]
        if self.stage_target is None or np.any(target != self.stage_target):
            np.copyto(self.pixels, self.plate)
            for pen, lines in zip(self.grid_pens, self.grid):
                codes = np.resize(np.array([Path.MOVETO, Path.LINETO], np.uint8), len(lines[t]))
                self.renderer.draw_path(pen, Path(lines[t], codes), PIXELS, None)
            if np.array_equal(target, self.camera.target[min(frame + 1, self.num_frames - 1)]):  # the camera rests
                self.stage, self.stage_target = self.pixels.copy(), target
        else:
            np.copyto(self.pixels, self.stage)
        if self.trail:
            self._draw_trail(frame)
        self.draw_people(frame)
        return self.pixels

    def coloured(self, frame: int) -> tuple[slice, slice]:
        """Rows and columns, in steps of two pixels, of the box in which a frame has other colours than its stage."""
        width, height = self.size
        left, low, right, high = self.extent[self._ready(frame)]
        rows = slice(max(int((height - high) // 2) - 1, 0), min(int((height - low) // 2) + 2, height // 2))
        return rows, slice(max(int(left // 2) - 1, 0), min(int(right // 2) + 2, width // 2))

    def draw_people(self, frame: int, shift: float = 0.0) -> None:
        """Shadow and figures of a frame onto the present picture, `shift` pixels to the right."""
        t = self._ready(frame)
        place = Affine2D().translate(shift, 0.0) if shift else PIXELS
        draw_path, filling = self.renderer.draw_path, self.filling
        draw_path(filling, Path(self.shadows[t], self.shadow_codes), place, self.shadow_ink)
        for outline, shape in zip(self.outlines, self.shapes):
            np.copyto(outline, shape[t])
        colours = self.colours[t].tolist()
        for i in self.order[t].tolist():
            draw_path(filling, self.paths[i], place, colours[i])

    def _draw_trail(self, frame: int) -> None:
        for ground, marks in zip(self.ground, self.footmarks):
            way = np.append(marks[: np.searchsorted(marks, frame)], frame)
            points = ground[way] - self.camera.target[frame]
            shown = np.hypot(points[:, 0], points[:, 2]) < 0.9 * self.radius
            if shown.sum() < 2:
                continue
            codes = np.where(np.append(False, shown[:-1])[shown], Path.LINETO, Path.MOVETO).astype(np.uint8)
            self.renderer.draw_path(self.trail_pen, Path(self.camera.project_local(points[shown])[0], codes), PIXELS, None)

    def _ready(self, frame: int) -> int:
        """Index of a frame within the block of frames that is projected, projecting its block when it is not."""
        first = frame - frame % BLOCK
        if self.block != first:
            self._prepare(slice(first, min(first + BLOCK, self.num_frames)))
            self.block = first
        return frame - first

    def _prepare(self, frames: slice) -> None:
        """Polygons, colours and drawing order of a block of frames: what is far is drawn first."""
        joints = self.joints[:, frames]
        people = [self._person(person, index, frames) for index, person in enumerate(joints)]
        self.shapes = [shape for shapes, _, _ in people for shape in shapes]  # each (T, N, corners, 2)
        self.order = np.argsort(-np.concatenate([depth for _, depth, _ in people], axis=1), axis=1, kind="stable")
        self.colours = self.ink(np.concatenate([colours for _, _, colours in people], axis=1))
        self.outlines = [np.empty(shape.shape[1:]) for shape in self.shapes]
        self.paths = [Path(outline, _closed(len(outline))) for outlines in self.outlines for outline in outlines]
        shadow = np.concatenate([self._shadow(person, frames) for person in joints], axis=1)
        self.shadows = shadow.reshape(len(shadow), -1, 2)
        self.shadow_codes = np.tile(_closed(shadow.shape[2]), shadow.shape[1])
        corners = np.concatenate([shape.reshape(len(shape), -1, 2) for shape in self.shapes], axis=1)
        self.extent = np.concatenate([corners.min(axis=1), corners.max(axis=1)], axis=1)  # (T, 4)
        self.grid = [lines.reshape(len(lines), -1, 2) for lines in self._grid(self.camera.target[frames])]

    def _person(self, joints: np.ndarray, index: int, frames: slice):
        """Shapes [(T, N, corners, 2)] of joints (T, J, 3), depth (T, sum N) and colour (T, sum N, 3) of each."""
        body, camera = self.body, self.camera
        pixels, depth = camera.project(joints, frames)
        radius = body.radii * camera.focal / depth
        a, b = body.bones.T
        c, d = body.limbs.T
        skull = body.skull(joints)
        spot, away = camera.project(skull, frames)
        disc = body.head_radius * camera.focal / away
        shapes = [
            _clearance(pixels[:, c], pixels[:, d], radius[:, c], radius[:, d], 0.005 * self.size[1]),
            capsules(pixels[:, a], pixels[:, b], radius[:, a], radius[:, b], self.rounding),
            capsules(spot, spot, disc, disc, 16)[:, None],
        ]
        depths = [(depth[:, c] + depth[:, d]) / 2 + 1e-6, (depth[:, a] + depth[:, b]) / 2, away[:, None]]
        palette = PERSON_COLOURS[index % len(PERSON_COLOURS)]
        paint = [palette[body.side[b]], palette[[MIDDLE]]]
        if body.face_joints is not None:  # a nose, so that one sees where the head points, and a chest
            forward = np.insert(facing(joints, body.face_joints), 1, -0.1, axis=-1)
            tip, tip_away = camera.project(skull + 1.45 * body.head_radius * forward, frames)
            corners = np.array(body.face_joints)[[3, 2, 0, 1, 3]]  # around the chest
            shapes += [capsules(spot, tip, 0.5 * disc, 0.16 * disc, self.rounding)[:, None], pixels[:, None, corners]]
            depths += [tip_away[:, None], depth[:, corners[:4]].mean(axis=1)[:, None] + 0.1 * body.size]
            paint += [palette[[MIDDLE]], palette[[MIDDLE]] * 0.38 + BACKDROP * 0.62]
        base = np.concatenate(paint)
        far = np.clip((np.concatenate(depths[1:], axis=1) - camera.distance) / body.size + 0.35, 0, 1)[..., None]
        halo = np.broadcast_to(0.985 * BACKDROP, (*depths[0].shape, 3))
        colours = np.concatenate([halo, base + (BACKDROP - base) * 0.38 * far], axis=1)
        return shapes, np.concatenate(depths, axis=1), colours

    def _shadow(self, joints: np.ndarray, frames: slice) -> np.ndarray:
        """Polygons (T, B, corners, 2): every bone slid along the light down to the floor."""
        height = np.maximum(joints[..., 1] - self.floor, 0)
        ground = joints[..., [0, 2]] - height[..., None] * LIGHT
        a, b = self.body.bones.T
        flat = capsules(ground[:, a], ground[:, b], 1.2 * self.body.radii[a], 1.2 * self.body.radii[b], 4)
        return self.camera.project(np.insert(flat, 1, self.floor, axis=-1), frames)[0]

    def _grid(self, target: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Floor lines (T, N, 2, 2) in a disc around targets (T, 3): the pale ends of the lines, and their middles."""
        reach = int(np.ceil(self.radius / self.spacing))
        steps = np.arange(-reach, reach + 1) * self.spacing
        pale, full = [], []
        for axis in (0, 2):
            across = steps - target[:, axis, None] % self.spacing  # (T, N)
            outer, inner = (np.sqrt(np.maximum((s * self.radius) ** 2 - across**2, 0)) for s in (1.0, 0.62))
            for start, stop, lines in ((-outer, -inner, pale), (inner, outer, pale), (-inner, inner, full)):
                ends = np.zeros((*across.shape, 2, 3))
                ends[..., axis] = across[..., None]
                ends[..., 0, 2 - axis], ends[..., 1, 2 - axis] = start, stop
                lines.append(self.camera.project_local(ends)[0])
        return np.concatenate(pale, axis=1), np.concatenate(full, axis=1)


def draw(
    joints: np.ndarray, skeleton: Skeleton | Sequence[int], frame: int = 0, size: int = 480, fps: float = 20.0
) -> np.ndarray:
    """Picture (size, size, 3) uint8 of one frame of joints (T, J, 3) or (P, T, J, 3) in metres, Y up."""
    joints = np.asarray(joints)
    panel = Panel(joints if joints.ndim == 4 else joints[None], skeleton, fps, (size, size))
    panel.start(panel.framed(0.08 * size, 0.95 * size))
    return panel.draw(frame)[..., :3].copy()


def share_scale(cameras: Sequence[Camera]) -> list[Camera]:
    """The cameras with one scale, pixels per metre, so that people side by side compare."""
    scale = min(camera.focal / camera.distance for camera in cameras)
    return [replace(camera, focal=scale * camera.distance) for camera in cameras]


def capsules(a, b, radius_a, radius_b, rounding: int) -> np.ndarray:
    """Outlines (..., 2 rounding + 1, 2) of limbs from a to b (..., 2) with a rounded end of its own radius at each."""
    along = np.arctan2(b[..., 1] - a[..., 1], b[..., 0] - a[..., 0])[..., None]
    turn = along + ((np.arange(rounding) + 0.5) / rounding - 0.5) * np.pi
    tip = np.stack([np.cos(turn), np.sin(turn)], axis=-1)
    end_b = b[..., None, :] + tip * np.asarray(radius_b)[..., None, None]
    end_a = a[..., None, :] - tip * np.asarray(radius_a)[..., None, None]
    return np.concatenate([end_b, end_a, end_b[..., :1, :]], axis=-2)


def _clearance(a, b, radius_a, radius_b, gap: float) -> np.ndarray:
    """The strip (..., 5, 2) a limb clears around itself, so that what it crosses stands back; not at its ends."""
    span = b - a
    length = np.maximum(np.linalg.norm(span, axis=-1, keepdims=True), 1e-6)
    unit = span / length
    normal = np.stack([-unit[..., 1], unit[..., 0]], axis=-1)
    start = a + unit * np.minimum(1.1 * radius_a[..., None], length / 2)
    stop = b - unit * np.minimum(1.1 * radius_b[..., None], length / 2)
    wide_a, wide_b = normal * (radius_a[..., None] + gap), normal * (radius_b[..., None] + gap)
    return np.stack([start + wide_a, stop + wide_b, stop - wide_b, start - wide_a, start + wide_a], axis=-2)


def _closed(corners: int) -> np.ndarray:
    return np.array([Path.MOVETO] + [Path.LINETO] * (corners - 2) + [Path.CLOSEPOLY], np.uint8)


def round_length(length: float) -> float:
    """The number 1, 2 or 5 times a power of ten nearest below, so that grid squares mean something."""
    power = 10.0 ** np.floor(np.log10(length))
    return float(max(step for step in (1, 2, 5) if step * power <= length * 1.0001) * power)


def caption_font(height: int) -> float:
    """Letter size in pixels for a picture of that height."""
    return max(0.034 * height, 11.0)


def studio(camera: Camera, size: tuple[int, int], ink: Ink, spread: float = 1.0) -> np.ndarray:
    """Backdrop (H, W, 4) uint8: a lit floor around the target, `spread` times wider than deep, that fades away."""
    width, height = size
    x = (np.arange(width) + 0.5 - camera.centre[0]) / camera.focal
    y = (height - np.arange(height) - 0.5 - camera.centre[1]) / camera.focal
    back = camera.axes[2]
    rays = x[:, None] / spread * camera.axes[0] + (y[:, None, None] * camera.axes[1] - back)  # (H, W, 3)
    eye = camera.distance * back
    hit = eye - rays * (eye[1] / np.minimum(rays[..., 1:2], -1e-6))
    away = np.hypot(hit[..., 0], hit[..., 2]) / (0.5 * width / spread * camera.distance / camera.focal)
    lit = np.where(rays[..., 1] < 0, np.clip((2.4 - away) / 2.0, 0, 1), 0)
    lit = (lit * lit * (3 - 2 * lit))[..., None]
    colour = ink(BACKDROP + (FLOOR - BACKDROP) * lit)
    return np.concatenate([np.round(255 * colour), np.full((height, width, 1), 255)], axis=2).astype(np.uint8)
