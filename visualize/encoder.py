"""Raw frames into an ffmpeg process, and what it says when it fails."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from fractions import Fraction
from functools import lru_cache
from pathlib import Path

import numpy as np


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
