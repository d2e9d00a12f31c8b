"""Motions as files to look at: mp4, gif, and a strip of poses as png.

Frames go raw into the pipe of an ffmpeg process. For mp4 they are drawn in the video's own colour space: see `sheet`.
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

from protos.files import atomic_path
from visualize.lettering import wrap, write_text
from visualize.sheet import Clip, PictureError, Sheet, checked
from visualize.stick_figure import QUIET_TEXT, TEXT, Panel, caption_font, plain, studio

GIF_FPS = 20.0  # gif delays are whole hundredths of a second: 5
GIF_COLOURS = 128
# said of what goes in and of what comes out: ffmpeg converts colours where the two differ
BT709 = {"colorspace": "bt709", "color_primaries": "bt709", "color_trc": "bt709", "color_range": "tv"}


def write_video(path: str | Path, motions: Clip | Sequence[Clip], qp: int = 24, **sheet: Any) -> Path:
    """Writes an H.264 mp4 of motions side by side, each `size` (480) pixels square; returns its path.

    sheet: fps, captions, labels, size, trail, columns, as `Sheet` takes them. `qp` is H.264's constant quantiser: pictures this
    plain need no rate control, which would cost a quarter more. The same input gives the same bytes. PictureError for what
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
) -> Path:
    """Writes a png with `num_poses` poses of a motion in a row, evenly spread over its time; returns its path.

    `caption` replaces the motion's own; `fps` is the rate of bare joints.
    """
    import matplotlib.image

    if num_poses < 1:
        raise PictureError(f"num_poses is {num_poses}; expected at least 1")
    if not 64 <= height <= 4096:
        raise PictureError(f"height is {height}; expected 64 to 4096 pixels")
    joints, skeleton, rate, captions = checked(motion, 0, fps)
    chosen = np.linspace(0, joints.shape[1] - 1, min(num_poses, joints.shape[1])).round().astype(int)
    words = caption if caption is not None else captions[0] if captions else ""
    picture = draw_strip(joints[:, chosen], skeleton, chosen / rate, words, int(height))
    with atomic_path(Path(path)) as temporary:
        matplotlib.image.imsave(temporary, picture, format="png", metadata={"Software": None})
    return Path(path)


def draw_strip(joints: np.ndarray, skeleton, times: np.ndarray, caption: str, height: int) -> np.ndarray:
    """Picture (height, W, 3) uint8 of every frame of joints (P, N, J, 3) beside the last, with its time in seconds."""
    font = caption_font(height)
    panel = Panel(joints, skeleton, 1.0, (4 * height, height))
    middle = joints[:, :, 0].mean(axis=0)  # (N, 3): each pose stands in the middle of its place
    panel.camera = replace(panel.camera, target=np.stack([middle[:, 0], np.full(len(middle), panel.floor), middle[:, 2]], axis=1))
    camera = panel.framed(2.6 * font, height - (3.0 if caption else 1.0) * font)
    panel.start(camera)
    columns = [panel.coloured(frame)[1] for frame in range(len(times))]
    reach = max(max(camera.centre[0] - 2 * c.start, 2 * c.stop - camera.centre[0]) for c in columns)
    pitch = max(2 * reach + 0.05 * height, 0.3 * height)
    width = int(np.ceil(pitch * len(times) + 0.1 * height))
    panel = Panel(joints, skeleton, 1.0, (width, height))
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
