"""Stick figures drawn with Agg: limbs that taper and hide each other, a floor that moves below, shadow and trail; and words.

Shapes are projected for many frames at once; per frame only ready polygons go to one Agg renderer, through paths and
graphics contexts that are made once. Left is blue, right is orange (green and magenta for a second person), the middle
of the body is dark; what is far is paler. Captions are wrapped to a width in pixels and drawn as they are.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import lru_cache

import numpy as np
from matplotlib.backends.backend_agg import RendererAgg
from matplotlib.font_manager import FontProperties, fontManager
from matplotlib.path import Path
from matplotlib.transforms import Affine2D, Bbox, IdentityTransform, Transform

from data_loaders.skeleton import Skeleton
from protos.files import printable
from visualize.body import (
    BACKDROP,
    FLOOR,
    LEFT,
    PERSON_COLOURS,
    RIGHT,
    Body,
    Camera,
    Ink,
    choose_camera,
    facing,
    frame_all,
    plain,
    studio,
)  # fmt: skip

LINES = np.array([0.790, 0.786, 0.772])
TRAIL = np.array([0.520, 0.510, 0.490])
SHADOW = np.array([0.24, 0.24, 0.27])
SHADE = 0.17  # opacity of the shadow
TEXT = np.array([0.17, 0.19, 0.23])
QUIET_TEXT = np.array([0.49, 0.50, 0.52])
TRAIL_SECONDS = 4.0  # the way of the last seconds is drawn strongly, what lies before it faintly
BLOCK = 128  # frames projected at a time: bounds memory for long clips

PIXELS = IdentityTransform()
# what draw_path_collection wants besides paths and colours: no transforms and offsets of their own, no outlines
_AS_THEY_ARE = (np.empty((0, 3, 3)), np.zeros((1, 2)), PIXELS)
_UNSTROKED = (np.empty((0, 4)), [0.0], [(0, None)], [True], [None], "screen")

# asked in this order for letters that DejaVu Sans, which comes with matplotlib, does not have
OTHER_FONTS = (
    "Noto Sans CJK SC", "Noto Sans CJK JP", "Noto Sans SC", "WenQuanYi Zen Hei", "Microsoft YaHei", "PingFang SC",
    "Hiragino Sans", "Malgun Gothic", "Noto Sans Devanagari", "Noto Sans Thai", "Arial Unicode MS",
)  # fmt: skip
CAPTION_LINES = 3
LONGEST_CAPTION = 10_000  # letters that are looked at; no picture has place for more
SHARES = {"left": 0.0, "center": 0.5, "right": 1.0}  # of a line's width that lie left of its place


class Panel:
    """One clip as a picture of its own: joints (P, T, J, 3) in metres, Y up, finite; size (width, height) in pixels.

    `framed` proposes a camera, `start` renders what stays, `draw` a frame.
    """

    SHADOW_WIDTH = 1.2  # over the radii of the bones

    def __init__(self, joints: np.ndarray, skeleton: Skeleton | Sequence[int], fps: float, size: tuple[int, int]):
        self.joints = np.asarray(joints, dtype=np.float64)
        self.size = size
        self.body = Body(self.joints, skeleton)
        self.trail_frames = round(TRAIL_SECONDS * fps)
        lowest = self.joints[..., 1].min()
        self.floor = lowest if abs(lowest) > 0.3 * self.body.size else 0.0
        self.floor -= self.body.radii.min()  # toes rest on the floor with their skin, not with their middle
        heading = facing(self.joints[0, 0], self.body.face_joints)
        self.camera = choose_camera(self.joints, heading, self.floor, self.body.size, fps, size)

    @property
    def num_frames(self) -> int:
        """T."""
        return self.joints.shape[1]

    def framed(self, bottom: float, top: float) -> Camera:
        """The camera that keeps the whole clip between `bottom` and `top` (pixels from below)."""
        margin = 0.02 * self.size[0]
        low, high = self.extremes()
        return frame_all(self.camera, low, high, margin, self.size[0] - margin, bottom, top)

    def extremes(self) -> tuple[np.ndarray, np.ndarray]:
        """Lowest and highest pixels (2,) of the whole clip as the proposed camera sees it."""
        return self.body.extremes(self.joints, self.camera)

    def start(
        self, camera: Camera, ink: Ink = plain, trail: bool = True, caption: Sequence[str] = (), label: str = ""
    ) -> None:
        """Sets the stage: renders backdrop and lettering once, and makes what `draw` reuses. `caption` is lines."""
        self.camera, self.ink, self.trail = camera, ink, trail
        width, height = self.size
        self.renderer = RendererAgg(width, height, 72)  # at 72 dpi a point is a pixel
        self.pixels = np.asarray(self.renderer.buffer_rgba())  # (H, W, 4), what Agg draws on
        self.pixels[...] = studio(camera, self.size, ink)
        self.footer = self._write(caption, label)
        self.plate = self.pixels.copy()  # without the grid
        self.stage, self.stage_is_set = self.plate.copy(), False  # with it, while the camera rests
        self.rests = np.append((np.diff(camera.target, axis=0) == 0).all(axis=1), True)  # until the next frame
        self.block, self.drawn = -1, -1
        visible = 0.5 * width / camera.pixels_per_metre  # metres from the middle to the edge of the picture
        self.radius, self.spacing = 1.7 * visible, round_length(visible / 1.2)
        thin = max(0.0022 * height, 1.0)
        self.grid_pens = self._pen(0.5 * LINES + 0.5 * FLOOR, thin), self._pen(LINES, thin)
        self.trail_pens = self._pen(0.45 * TRAIL + 0.55 * FLOOR, 1.2 * thin), self._pen(TRAIL, 1.7 * thin)
        self.filling = self.renderer.new_gc()
        self.filling.set_linewidth(0)
        self.shadow_ink = (*ink(SHADOW), SHADE)
        self.ground = self.joints[:, :, 0] * [1, 0, 1] + [0, self.floor, 0]  # (P, T, 3) below the root
        steps = np.linalg.norm(np.diff(self.ground, axis=1), axis=-1).cumsum(axis=1) // (0.08 * self.body.size)
        self.footmarks = [np.append(0, 1 + np.flatnonzero(np.diff(way, prepend=0))) for way in steps]

    def _write(self, caption: Sequence[str], label: str) -> float:
        """Caption above, legend and label below; returns the height up to which no line may run through words."""
        width, height = self.size
        font, renderer, ink = caption_font(height), self.renderer, self.ink
        for row, line in enumerate(caption):
            write_text(renderer, width / 2, height - (1.6 + 1.3 * row) * font, line, font, ink(TEXT), "center")
        rows = self.write_legend(0.7 * font)
        taken = 3.6 * font + text_width("● right", 0.8 * font) if rows else 0.0  # by the legend
        for line in wrap(label, 0.97 * width - taken - 0.8 * font, 0.85 * font, max_lines=1):
            write_text(renderer, 0.97 * width, 0.7 * font, line, 0.85 * font, ink(QUIET_TEXT), "right")
        return (0.4 + 1.3 * max(rows, 1 if label else 0)) * font

    def write_legend(self, y: float) -> int:
        """What the colours mean, a line per person (of two at most) on `y` and above; returns the number of lines."""
        font, people = caption_font(self.size[1]), min(len(self.joints), 2) if self.body.has_sides else 0
        for row, palette in enumerate(PERSON_COLOURS[:people][::-1]):
            for side, name, x in ((LEFT, "● left", 0.6 * font), (RIGHT, "● right", 3.6 * font)):
                write_text(self.renderer, x, y + 1.15 * row * font, name, 0.8 * font, self.ink(palette[side]))
        return people

    def _pen(self, colour: np.ndarray, width: float):
        pen = self.renderer.new_gc()
        pen.set_linewidth(width)
        pen.set_foreground((*self.ink(colour), 1.0), isRGBA=True)
        pen.set_clip_rectangle(Bbox([[0, self.footer], self.size]))
        return pen

    def draw(self, frame: int) -> np.ndarray:
        """Pixels (H, W, 4) uint8 of a frame, in the ink's colours. The same array every time: copy to keep.

        A clip that is over holds its last frame.
        """
        frame = min(frame, self.num_frames - 1)
        if frame == self.drawn:
            return self.pixels
        t = self._ready(frame)
        if self.stage_is_set and frame == self.drawn + 1 and self.rests[self.drawn]:
            np.copyto(self.pixels, self.stage)
        else:
            np.copyto(self.pixels, self.plate)
            for pen, path, buffer, lines in zip(self.grid_pens, self.grid_paths, self.grid_buffers, self.grid):
                np.copyto(buffer, lines[t])
                self.renderer.draw_path(pen, path, PIXELS, None)
            self.stage_is_set = bool(self.rests[frame])
            if self.stage_is_set:
                np.copyto(self.stage, self.pixels)
        self.drawn = frame
        if self.trail:
            self._draw_trail(t)
        self.draw_people(frame)
        return self.pixels

    def coloured(self, frame: int) -> tuple[slice, slice]:
        """Rows and columns, in steps of two pixels, of the box in which a frame has other colours than its stage."""
        t = self._ready(frame)
        top, bottom, left, right = self.boxes[t]
        return slice(top, bottom), slice(left, right)

    def draw_people(self, frame: int, shift: float = 0.0) -> None:
        """Shadow and figures of a frame onto the present picture, `shift` pixels to the right."""
        t = self._ready(frame)
        place = Affine2D().translate(shift, 0.0) if shift else PIXELS
        np.copyto(self.shadow_buffer, self.shadow[t])
        self.renderer.draw_path(self.filling, self.shadow_path, place, self.shadow_ink)
        self.draw_figures(t, place)

    def draw_figures(self, t: int, place: Transform) -> None:
        """The figures of a frame of the prepared block."""
        for buffer, shape in zip(self.buffers, self.shapes):
            np.copyto(buffer, shape[t])
        paths = [self.paths[i] for i in self.order[t]]
        self.renderer.draw_path_collection(self.filling, place, paths, *_AS_THEY_ARE, self.colours[t], *_UNSTROKED)

    def _draw_trail(self, t: int) -> None:
        for way, shown, recent, now in self.ways:
            start, stop = recent[t], now[t] + 1
            if start:
                self._draw_way(self.trail_pens[0], way[t, : start + 1], shown[t, : start + 1])
            self._draw_way(self.trail_pens[1], way[t, start:stop], shown[t, start:stop])

    def _draw_way(self, pen, points: np.ndarray, shown: np.ndarray) -> None:
        codes = None
        if not shown.all():  # the way leaves the lit floor, perhaps more than once
            codes = np.where(np.append(False, shown[:-1])[shown], Path.LINETO, Path.MOVETO).astype(np.uint8)
            points = points[shown]
        if len(points) > 1:
            self.renderer.draw_path(pen, Path(points, codes), PIXELS, None)

    def _ready(self, frame: int) -> int:
        """Index of a frame within the block of frames that is projected, projecting its block when it is not."""
        first = frame - frame % BLOCK
        if self.block != first:
            self._prepare(slice(first, min(first + BLOCK, self.num_frames)))
            self.block = first
        return frame - first

    def _prepare(self, frames: slice) -> None:
        """What a block of frames draws, projected at once."""
        camera, joints, (width, height) = self.camera, self.joints[:, frames], self.size
        corners = self.prepare_figures(frames)
        shadows = [self.body.shadow(one, self.floor, camera, frames, self.SHADOW_WIDTH) for one in joints]
        self.shadow = np.concatenate(shadows, axis=1)
        self.shadow_buffer = np.empty(self.shadow.shape[1:])
        self.shadow_path = _compound(self.shadow_buffer, _closed(self.shadow.shape[2]))
        self.ways = self._ways(frames) if self.trail else []
        self.grid = self._grid(camera.target[frames])
        self.grid_buffers = [np.empty(lines.shape[1:]) for lines in self.grid]
        self.grid_paths = [_compound(buffer, [Path.MOVETO, Path.LINETO]) for buffer in self.grid_buffers]
        (left, low), (right, high) = corners.min(axis=1).T, corners.max(axis=1).T
        boxes = np.stack([height - high, height - low, left, right], axis=1) // 2 + [-1, 2, -1, 2]
        self.boxes = np.clip(boxes, 0, np.array([height, height, width, width]) // 2).astype(int).tolist()

    def prepare_figures(self, frames: slice) -> np.ndarray:
        """Polygons, colours and drawing order of a block of frames: what is far is drawn first. Returns pixels (T, N, 2) that
        the figures reach."""
        camera, joints, height = self.camera, self.joints[:, frames], self.size[1]
        people = [self.body.shapes(one, i, camera, frames, 0.005 * height, BACKDROP) for i, one in enumerate(joints)]
        polygons = [shape for shapes, _, _ in people for shape in shapes]  # each (T, N, corners, 2)
        order = np.argsort(-np.concatenate([depth for _, depth, _ in people], axis=1), axis=1, kind="stable")
        colours = self.ink(np.concatenate([colours for _, _, colours in people], axis=1))
        colours = np.take_along_axis(colours, order[..., None], axis=1)
        self.order, self.colours = order.tolist(), np.concatenate([colours, np.ones((*order.shape, 1))], axis=2)
        self.shapes = polygons
        self.buffers = [np.empty(shape.shape[1:]) for shape in self.shapes]
        self.paths = [Path(outline, _closed(len(outline))) for outlines in self.buffers for outline in outlines]
        return np.concatenate([shape.reshape(len(shape), -1, 2) for shape in polygons], axis=1)

    def _ways(self, frames: slice) -> list[tuple]:
        """Per person the trail as each frame sees it: pixels (T, M, 2), which of them lie on the lit floor (T, M), and
        (T,) from which of them on it is recent and at which of them the person stands now."""
        ways, rows = [], np.arange(frames.stop - frames.start)
        target = self.camera.target[frames]
        for ground, marks in zip(self.ground, self.footmarks):
            now = np.searchsorted(marks, rows + frames.start)
            recent = np.searchsorted(marks, rows + frames.start - self.trail_frames)
            points = np.append(ground[marks[: now[-1]]], ground[:1], axis=0) - target[:, None]  # (T, M, 3)
            points[rows, now] = ground[frames] - target
            shown = points[..., 0] ** 2 + points[..., 2] ** 2 < (0.9 * self.radius) ** 2
            ways.append((self.camera.project_local(points)[0], shown, recent.tolist(), now.tolist()))
        return ways

    def _grid(self, target: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Floor lines (T, N, 2, 2) in a disc around targets (T, 3): the pale ends of the lines, and their middles."""
        pale, full = [], []
        for lines, share in ((pale, 1.0), (full, 0.62)):
            reach = int(share * self.radius / self.spacing)
            steps = np.arange(-reach, reach + 2) * self.spacing
            for axis in (0, 2):
                across = steps - target[:, axis, None] % self.spacing  # (T, N)
                outer, inner = (np.sqrt(np.maximum((s * self.radius) ** 2 - across**2, 0)) for s in (1.0, 0.62))
                for start, stop in ((-outer, -inner), (inner, outer)) if lines is pale else ((-inner, inner),):
                    ends = np.zeros((*across.shape, 2, 3))
                    ends[..., axis] = across[..., None]
                    ends[..., 0, 2 - axis], ends[..., 1, 2 - axis] = start, stop
                    lines.append(self.camera.project_local(ends)[0])
        return np.concatenate(pale, axis=1), np.concatenate(full, axis=1)


def _closed(corners: int) -> np.ndarray:
    return np.array([Path.MOVETO] + [Path.LINETO] * (corners - 2) + [Path.CLOSEPOLY], np.uint8)


def _compound(buffer: np.ndarray, codes: Sequence[int]) -> Path:
    """One path of many pieces, which follows what is written into `buffer` (N, corners, 2)."""
    return Path(buffer.reshape(-1, 2), np.tile(np.asarray(codes, np.uint8), len(buffer)))


def round_length(length: float) -> float:
    """The number 1, 2 or 5 times a power of ten nearest below, so that grid squares mean something."""
    power = 10.0 ** np.floor(np.log10(length))
    return float(max(step for step in (1, 2, 5) if step * power <= length * 1.0001) * power)


# ------------------------------------------------------------------------------------------------------------------------- words


def caption_font(height: int) -> float:
    """Letter size in pixels for a picture of that height."""
    return max(0.034 * height, 11.0)


def write_text(
    renderer: RendererAgg, x: float, y: float, line: str, size: float, colour: np.ndarray, align: str = "left"
) -> None:
    """Draws a line of text, standing on `y` at `x` pixels from the lower left corner of a 72 dpi renderer."""
    if not line:
        return
    context = renderer.new_gc()
    context.set_foreground((*colour, 1.0), isRGBA=True)
    with quiet():
        x -= SHARES[align] * text_width(line, size)
        renderer.draw_text(context, round(x), round(renderer.height - y), line, _font(size), 0.0)


def wrap(caption: str, width: float, size: float, max_lines: int = CAPTION_LINES) -> list[str]:
    """The caption in at most `max_lines` lines of `width` pixels at letter size `size`; what is cut ends in an ellipsis."""
    lines, line = [], ""
    for word in printable(caption[:LONGEST_CAPTION]).split():
        while word and len(lines) <= max_lines:
            longer = f"{line} {word}" if line else word
            if text_width(longer, size) <= width:
                line, word = longer, ""
            elif line:
                lines.append(line)
                line = ""
            else:  # a word wider than the picture
                fits = _letters_that_fit(word, width, size)
                lines.append(word[:fits])
                word = word[fits:]
    lines += [line] if line else []
    if len(lines) > max_lines:
        last = lines[max_lines - 1]
        while last and text_width(last + " …", size) > width:
            last = last[:-1]
        lines = [*lines[: max_lines - 1], last.rstrip() + " …"]
    return lines


def _letters_that_fit(word: str, width: float, size: float) -> int:
    """How many letters of a word `width` pixels hold; at least one."""
    return max(1, int((np.cumsum([_advance(letter, size) for letter in word]) <= width).sum()))


def text_width(line: str, size: float) -> float:
    """Width of a line in pixels, letter by letter: kerning would make it a trifle narrower."""
    return sum(_advance(letter, size) for letter in line)


@lru_cache(maxsize=4096)
def _advance(letter: str, size: float) -> float:
    with quiet():
        between, without = (
            _ruler().get_text_width_height_descent(sample, _font(size), False)[0] for sample in (f"n{letter}n", "nn")
        )
    return between - without


@lru_cache(maxsize=1)
def _ruler() -> RendererAgg:
    return RendererAgg(1, 1, 72)


@lru_cache(maxsize=16)
def _font(size: float) -> FontProperties:
    installed = set(fontManager.get_font_names())
    return FontProperties(family=["DejaVu Sans", *(name for name in OTHER_FONTS if name in installed)], size=size)


@contextmanager
def quiet() -> Iterator[None]:
    """Letters that no installed font has are drawn as boxes; matplotlib would warn for each of them."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph .* missing")
        warnings.filterwarnings("ignore", message="constrained_layout not applied")  # signs that pile up above a letter
        yield
