"""Motions side by side at one frame rate and one scale: checks them, lays them out, yields frames."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from data_loaders.corpus import Motion
from data_loaders.skeleton import Skeleton, load_skeleton
from visualize.lettering import wrap
from visualize.stick_figure import Panel, caption_font, plain, share_scale

COLUMNS = 4  # clips side by side before a new row begins
MAX_FPS = 1000.0
DEFAULT_FPS = 20.0  # of bare arrays, as in HumanML3D
SKELETONS_BY_JOINTS = {22: "humanml", 21: "kit"}

Clip = Motion | np.ndarray


class PictureError(ValueError):
    """A motion that cannot be drawn, or a picture that cannot be laid out, in one line."""


class Sheet:
    """Motions laid out in rows of panels of `size` pixels, at one frame rate and one scale."""

    def __init__(
        self, motions: Clip | Sequence[Clip], fps: float | None = None, captions: str | Sequence[str] | None = None,
        size: int = 480, trail: bool = True, labels: Sequence[str] | None = None, columns: int = COLUMNS,
        fps_limit: float = MAX_FPS,
    ):  # fmt: skip
        """Motions are `Motion`s, or joints (T, J, 3) / (P, T, J, 3) in metres, Y up. The longest lasts, the others hold their
        last frame. `fps` is that of the pictures, by default the highest of the motions, to which all are resampled; for bare
        joints it is also their own. `captions` replace the motions' own, `labels` stand small in the corner; `trail`: the way
        of the root on the floor. PictureError for what cannot be drawn.
        """
        if not (size == int(size) and 64 <= size <= 4096):
            raise PictureError(f"size is {size}; expected 64 to 4096 pixels")
        if columns < 1:
            raise PictureError(f"columns is {columns}; expected at least 1")
        size = int(size) + int(size) % 2  # H.264 halves the colours, so sides are even
        ready, captions, self.labels = checked_clips(motions, fps, captions, labels)
        self.trail = trail
        self.fps = min(fps or max(rate for *_, rate in ready), fps_limit)
        self.lines = [wrap(caption, 0.94 * size, caption_font(size)) for caption in captions]
        self.columns = min(columns, len(ready))
        rows = -(-len(ready) // self.columns)
        self.size, self.width, self.height = size, self.columns * size, rows * size
        self.panels = [Panel(_at_rate(joints, rate, self.fps), tree, self.fps, (size, size)) for joints, tree, rate in ready]
        self.num_frames = max(panel.num_frames for panel in self.panels)
        font = caption_font(size)
        top = size - (1.2 + 1.3 * max(len(lines) for lines in self.lines)) * font
        self.cameras = share_scale([panel.framed(2.4 * font, top) for panel in self.panels])

    @property
    def shape(self) -> tuple[int, int]:
        """Width and height in pixels."""
        return self.width, self.height

    def _start(self, ink) -> None:
        for panel, camera, lines, label in zip(self.panels, self.cameras, self.lines, self.labels):
            panel.start(camera, ink, self.trail, lines, label)

    def _places(self) -> list[tuple[slice, slice]]:
        size = self.size
        corners = [(i // self.columns * size, i % self.columns * size) for i in range(len(self.panels))]
        return [(slice(y, y + size), slice(x, x + size)) for y, x in corners]

    def pictures(self) -> Iterator[np.ndarray]:
        """Frames (H, W, 3) uint8 RGB."""
        self._start(plain)
        for frame in range(self.num_frames):
            picture = np.full((self.height, self.width, 3), 249, np.uint8)
            for panel, (rows, columns) in zip(self.panels, self._places()):
                pixels = panel.draw(frame)
                for channel in range(3):  # three strided copies are quicker than one of triples
                    picture[rows, columns, channel] = pixels[..., channel]
            yield picture

    def planes(self) -> Iterator[np.ndarray]:
        """Frames as yuv420p: 1.5 H W bytes, brightness at full and two colours at half resolution. One array, reused.

        They are drawn in the video's own colours: Agg blends each channel linearly and the colour transform is linear,
        so turning the few colours once replaces turning every pixel, and half the bytes travel.
        """
        self._start(video_ink)
        width, height = self.width, self.height
        frame_bytes = np.empty(width * height * 3 // 2, np.uint8)
        luma, blue, red = np.split(frame_bytes, [width * height, width * height * 5 // 4])
        luma, blue, red = luma.reshape(height, width), blue.reshape(height // 2, -1), red.reshape(height // 2, -1)
        luma[:], blue[:], red[:] = 229, 128, 128  # places without a panel
        places = self._places()
        half = [(slice(r.start // 2, r.stop // 2), slice(c.start // 2, c.stop // 2)) for r, c in places]
        boxes = [(slice(None), slice(None))] * len(places)  # of the figures in the frame before
        plates = [_chroma(panel.plate) for panel in self.panels]
        for frame in range(self.num_frames):
            for i, (panel, whole, part, plate) in enumerate(zip(self.panels, places, half, plates)):
                if frame >= panel.num_frames:
                    continue  # its last frame stands in the buffer
                pixels = panel.draw(frame)
                luma[whole] = pixels[..., 1]
                # grid, trail and shadow have the colour of the floor: only the figures bring colours of their own
                box = boxes[i]
                blue[part][box], red[part][box] = plate[0][box], plate[1][box]
                rows, columns = box = boxes[i] = panel.coloured(frame)
                colours = _chroma(pixels[2 * rows.start : 2 * rows.stop, 2 * columns.start : 2 * columns.stop])
                blue[part][box], red[part][box] = colours
            yield frame_bytes


def video_ink(colours: np.ndarray) -> np.ndarray:
    """RGB (..., 3) in 0..1 -> (Cb, Y', Cr) in 0..1 of BT.709 in the video range (ITU-R BT.709-6, §3)."""
    red, green, blue = np.moveaxis(np.asarray(colours, dtype=float), -1, 0)
    luma = 0.2126 * red + 0.7152 * green + 0.0722 * blue
    return np.stack([128 + 224 * (blue - luma) / 1.8556, 16 + 219 * luma, 128 + 224 * (red - luma) / 1.5748], axis=-1) / 255


def _chroma(pixels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Cb and Cr (H/2, W/2) uint8, each the mean of four pixels, from (H, W, 4) in `video_ink`.

    Both at once: they are bytes 0 and 2 of a 32-bit word, with room for a sum of four above each.
    """
    words = pixels.view("<u4")[..., 0] & 0x00FF00FF  # (H, W)
    pairs = words[0::2] + words[1::2]
    mean = (pairs[:, 0::2] + pairs[:, 1::2] + 0x00020002) >> 2
    channels = mean.astype("<u4", copy=False).view(np.uint8).reshape(*mean.shape, 4)
    return channels[..., 0], channels[..., 2]


def checked(clip: Clip, index: int, fps: float | None) -> tuple[np.ndarray, Skeleton | Sequence[int], float, tuple]:
    """Joints (P, T, J, 3), skeleton or parents, frame rate and captions of a clip. PictureError if it cannot be drawn."""
    if fps is not None and not 0 < fps <= MAX_FPS:
        raise PictureError(f"fps is {fps}; expected a number above 0")
    name = f"motion {index}"
    if isinstance(clip, Motion):
        joints, rate, tree, captions = np.asarray(clip.joints), clip.fps, clip.skeleton, clip.captions
        if not 0 < rate <= MAX_FPS:
            raise PictureError(f"{name} has {rate} frames per second; expected a number above 0")
    else:
        joints, rate, tree, captions = np.asarray(clip), fps or DEFAULT_FPS, None, ()
    if joints.ndim == 3:
        joints = joints[None]
    if joints.ndim != 4 or joints.shape[-1] != 3 or joints.dtype.kind not in "fiu":
        raise PictureError(f"{name} has shape {joints.shape}; expected joints (T, J, 3) or (P, T, J, 3)")
    if not joints.size:
        raise PictureError(f"{name} is empty: its shape is {joints.shape}")
    tree = SKELETONS_BY_JOINTS.get(joints.shape[2]) if tree is None else tree
    if tree is None:
        raise PictureError(
            f"{name} has {joints.shape[2]} joints, of no known skeleton: pass Motion(joints, fps, skeleton=NAME or parents)"
        )
    tree = load_skeleton(tree) if isinstance(tree, str) else tree
    parents = getattr(tree, "parents", tree)
    if len(parents) != joints.shape[2]:
        raise PictureError(f"{name} has {joints.shape[2]} joints, its skeleton {len(parents)}")
    if any(not (-1 <= parent < joint) for joint, parent in enumerate(parents)):
        raise PictureError(f"parents of {name} must come before their children: {list(parents)}")
    broken = np.argwhere(~np.isfinite(joints))
    if len(broken):
        person, frame, joint, _ = broken[0]
        who = f" of person {person}" if len(joints) > 1 else ""
        raise PictureError(f"{name}: joint {joint}{who} is not a finite number in frame {frame}")
    return joints, tree, float(rate), captions


def checked_clips(
    motions: Clip | Sequence[Clip], fps: float | None, captions: str | Sequence[str] | None, labels: Sequence[str] | None
) -> tuple[list[tuple[np.ndarray, Skeleton | Sequence[int], float]], list[str], list[str]]:
    """[(joints (P, T, J, 3), skeleton or parents, fps)] of motions to draw, and a caption and a label for each."""
    clips = [motions] if isinstance(motions, Motion) or hasattr(motions, "shape") else list(motions)
    if not clips:
        raise PictureError("no motions to draw: expected at least one")
    ready = [checked(clip, i, fps) for i, clip in enumerate(clips)]
    captions = _one_each(captions, [texts[0] if texts else "" for *_, texts in ready], "captions")
    return [clip[:3] for clip in ready], captions, _one_each(labels, [""] * len(clips), "labels")


def _one_each(given: Sequence[str] | None, default: list[str], what: str) -> list[str]:
    given = [given] if isinstance(given, str) else default if given is None else list(given)
    if len(given) != len(default):
        raise PictureError(f"{len(given)} {what} for {len(default)} motions; expected one each")
    return given


def _at_rate(joints: np.ndarray, rate: float, target: float) -> np.ndarray:
    """Joints (P, T, J, 3) at another frame rate, over the same time."""
    if abs(rate - target) < 1e-9:
        return joints
    from data_loaders.mocap import resample

    return np.moveaxis(resample(np.moveaxis(joints, 1, 0), rate, target), 0, 1)
