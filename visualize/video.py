"""Motions as files to look at: mp4, gif, and a strip of poses as png. Side by side at one frame rate and one scale (`Sheet`).

Frames go raw into the pipe of an ffmpeg process. For mp4 they are drawn in the video's own colour space.
"""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from fractions import Fraction
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from data_loaders.corpus import Motion
from data_loaders.skeleton import Skeleton, load_skeleton
from protos.files import atomic_path
from visualize.body import plain, share_scale, studio
from visualize.shaded_figure import BodyPanel
from visualize.stick_figure import QUIET_TEXT, TEXT, Panel, caption_font, wrap, write_text

COLUMNS = 4  # clips side by side before a new row begins
MAX_FPS = 1000.0
DEFAULT_FPS = 20.0  # of bare arrays, as in HumanML3D
SKELETONS_BY_JOINTS = {22: "humanml", 21: "kit"}

Clip = Motion | np.ndarray
GIF_FPS = 20.0  # gif delays are whole hundredths of a second: 5
GIF_COLOURS = 128
# said of what goes in and of what comes out: ffmpeg converts colours where the two differ
BT709 = {"colorspace": "bt709", "color_primaries": "bt709", "color_trc": "bt709", "color_range": "tv"}


def write_video(path: str | Path, motions: Clip | Sequence[Clip], qp: int = 24, **sheet: Any) -> Path:
    """Writes an H.264 mp4 of motions side by side, each `size` (480) pixels square; returns its path.

    sheet: fps, captions, labels, size, trail, columns, body, as `Sheet` takes them. `qp` is H.264's constant quantiser: pictures
    this plain need no rate control, which would cost a quarter more. The same input gives the same bytes. PictureError for what
    cannot be drawn; OSError for what cannot be written, or no ffmpeg.
    """
    pictures = Sheet(motions, **sheet)
    if qp != int(qp) or not 0 <= qp <= 51:
        raise PictureError(f"qp is {qp}; expected a whole number from 0 (large file) to 51 (poor picture)")
    settings = {"vcodec": "libx264", "preset": "ultrafast", "qp": int(qp), "pix_fmt": "yuv420p", "threads": 1}
    settings |= {"x264-params": "nr=100", "movflags": "+faststart", "format": "mp4", **BT709}
    return _encode(path, pictures, pictures.planes(), {"pix_fmt": "yuv420p", **BT709}, settings)


def write_gif(path: str | Path, motions: Clip | Sequence[Clip], size: int = 320, **sheet: Any) -> Path:
    """Writes a looping gif, as `write_video` but at most 20 frames per second; returns its path."""
    pictures = Sheet(motions, size=size, fps_limit=GIF_FPS, **sheet)
    chain = (
        f"[0:v]split[pictures][sample];[sample]palettegen=max_colors={GIF_COLOURS}[palette];"
        "[pictures][palette]paletteuse=dither=none:diff_mode=rectangle"
    )
    settings = {"filter_complex": chain, "loop": 0, "format": "gif"}
    return _encode(path, pictures, pictures.pictures(), {"pix_fmt": "rgb24"}, settings)


def _encode(path: str | Path, sheet: Sheet, frames: Iterator[np.ndarray], given: dict, settings: dict) -> Path:
    with atomic_path(Path(path)) as temporary, encoder(temporary, sheet.shape, sheet.fps, given, settings) as write:
        for frame in frames:
            write(frame)
    return Path(path)


def write_strip(
    path: str | Path,
    motion: Clip,
    num_poses: int = 8,
    caption: str | None = None,
    height: int = 400,
    fps: float | None = None,
    body: bool = False,
) -> Path:
    """Writes a png with `num_poses` poses of a motion in a row, evenly spread over its time; returns its path.

    `caption` replaces the motion's own; `fps` is the rate of bare joints; `body`: a body in place of a stick figure.
    """
    import matplotlib.image

    if num_poses < 1:
        raise PictureError(f"num_poses is {num_poses}; expected at least 1")
    if not 64 <= height <= 4096:
        raise PictureError(f"height is {height}; expected 64 to 4096 pixels")
    joints, skeleton, rate, captions = checked(motion, 0, fps)
    chosen = np.linspace(0, joints.shape[1] - 1, min(num_poses, joints.shape[1])).round().astype(int)
    words = caption if caption is not None else captions[0] if captions else ""
    picture = draw_strip(joints[:, chosen], skeleton, chosen / rate, words, int(height), BodyPanel if body else Panel)
    with atomic_path(Path(path)) as temporary:
        matplotlib.image.imsave(temporary, picture, format="png", metadata={"Software": None})
    return Path(path)


def draw_strip(
    joints: np.ndarray, skeleton, times: np.ndarray, caption: str, height: int, kind: type[Panel] = Panel
) -> np.ndarray:
    """Picture (height, W, 3) uint8 of every frame of joints (P, N, J, 3) beside the last, with its time in seconds."""
    font = caption_font(height)
    panel = kind(joints, skeleton, 1.0, (4 * height, height))
    middle = joints[:, :, 0].mean(axis=0)  # (N, 3): each pose stands in the middle of its place
    panel.camera = replace(panel.camera, target=np.stack([middle[:, 0], np.full(len(middle), panel.floor), middle[:, 2]], axis=1))
    camera = panel.framed(2.6 * font, height - (3.0 if caption else 1.0) * font)
    panel.start(camera)
    columns = [panel.coloured(frame)[1] for frame in range(len(times))]
    reach = max(max(camera.centre[0] - 2 * c.start, 2 * c.stop - camera.centre[0]) for c in columns)
    pitch = max(2 * reach + 0.05 * height, 0.3 * height)
    width = int(np.ceil(pitch * len(times) + 0.1 * height))
    panel = kind(joints, skeleton, 1.0, (width, height))
    first = (width - pitch * (len(times) - 1)) / 2
    panel.start(replace(camera, centre=(width / 2, camera.centre[1])))
    panel.pixels[...] = studio(panel.camera, panel.size, plain, spread=max(width / height, 1.0))
    panel.write_legend(height - (0.6 + 1.15 * min(len(joints), 2)) * font)
    lines = wrap(caption, 0.94 * width, 1.15 * font, 1)
    for line in lines:
        write_text(panel.renderer, width / 2, height - 1.8 * font, line, 1.15 * font, TEXT, "center")
    for frame, time in enumerate(times):
        place = first + frame * pitch
        panel.draw_people(frame, place - width / 2)
        write_text(panel.renderer, place, 0.9 * font, f"{time:.1f} s", 0.85 * font, QUIET_TEXT, "center")
    return panel.pixels[..., :3].copy()


@lru_cache(maxsize=1)
def find_ffmpeg() -> str:
    """An ffmpeg with an H.264 encoder: the system's, else the one of imageio-ffmpeg. FileNotFoundError without one."""
    system = shutil.which("ffmpeg")
    if system:
        listed = subprocess.run([system, "-hide_banner", "-encoders"], capture_output=True, text=True)
        if "libx264" in listed.stdout:
            return system
    try:
        import imageio_ffmpeg

        return imageio_ffmpeg.get_ffmpeg_exe()
    except (ImportError, RuntimeError) as error:
        raise FileNotFoundError("no ffmpeg with H.264 found: pip install imageio-ffmpeg, or install ffmpeg") from error


@contextmanager
def encoder(
    path: Path, size: tuple[int, int], fps: float, given: dict, settings: dict
) -> Iterator[Callable[[np.ndarray], None]]:
    """A function that takes raw frames of `size` (width, height); at the end the file at `path` is complete.

    `given` says what the frames are (pix_fmt, colours), `settings` what the file is to be. OSError, in one line, if it
    cannot be written. The same frames give the same bytes: no time, version or count of threads gets into the file.
    """
    import ffmpeg

    rate = str(Fraction(fps).limit_denominator(1001))
    source = ffmpeg.input("pipe:", format="rawvideo", s=f"{size[0]}x{size[1]}", framerate=rate, **given)
    # "file:" keeps ffmpeg from reading a protocol into names with a colon
    target = ffmpeg.output(source, f"file:{path}", fflags="+bitexact", map_metadata=-1, **{"flags:v": "+bitexact"}, **settings)
    target = target.global_args("-loglevel", "error", "-filter_threads", "1")
    command = ffmpeg.compile(target, cmd=find_ffmpeg(), overwrite_output=True)
    path.touch()  # says "permission denied" in Python's own words
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, bufsize=0)
    finished = False
    try:
        yield lambda frame: _write_all(process.stdin, frame)
        finished = True
    except BrokenPipeError:
        finished = True  # ffmpeg stopped reading: what it said is the reason
    finally:
        if not finished:
            process.kill()
        process.stdin.close()
        said = process.stderr.read().decode(errors="replace")
        process.stderr.close()
        process.wait()
    if process.returncode:
        lines = [line.strip() for line in said.splitlines() if line.strip()]
        full = [line for line in lines if "No space left" in line]
        reason = "no space left on the disk" if full else lines[-1] if lines else f"exit status {process.returncode}"
        raise OSError(f"ffmpeg could not write the video: {reason}")


def _write_all(pipe, frame: np.ndarray) -> None:
    rest = memoryview(np.ascontiguousarray(frame)).cast("B")
    while rest:
        rest = rest[pipe.write(rest) :]


# ------------------------------------------------------------------------------------------------------------------------- sheet


class PictureError(ValueError):
    """A motion that cannot be drawn, or a picture that cannot be laid out, in one line."""


class Sheet:
    """Motions laid out in rows of panels of `size` pixels, at one frame rate and one scale."""

    def __init__(
        self, motions: Clip | Sequence[Clip], fps: float | None = None, captions: str | Sequence[str] | None = None,
        size: int = 480, trail: bool = True, labels: Sequence[str] | None = None, columns: int = COLUMNS,
        fps_limit: float = MAX_FPS, body: bool | Callable[..., Panel] = False,
    ):  # fmt: skip
        """Motions are `Motion`s, or joints (T, J, 3) / (P, T, J, 3) in metres, Y up. The longest lasts, the others hold their
        last frame. `fps` is that of the pictures, by default the highest of the motions, to which all are resampled; for bare
        joints it is also their own. `captions` replace the motions' own, `labels` stand small in the corner; `trail`: the way
        of the root on the floor; `body`: bodies in place of stick figures, or what makes the panel. PictureError for what cannot
        be drawn.
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
        kind = BodyPanel if body is True else body or Panel
        self.panels = [kind(_at_rate(joints, rate, self.fps), tree, self.fps, (size, size)) for joints, tree, rate in ready]
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
