"""python -m benchmarks.video: CPU seconds of a stick-figure video, ours beside the usual recipe, drawing and encoding apart.

The usual recipe is what text-to-motion repositories do: a 3D axes cleared and filled anew for every frame, saved by
matplotlib's FuncAnimation. Both write 480 x 480 at 20 fps with floor, trail and caption in one process and its ffmpeg child
(user + system time). The motion is made here: somebody who walks in a curve, so that camera and floor move throughout.
"""

import resource
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import numpy as np

from protos.bounds import Range
from protos.options import parse, run_command

CAPTION = "a person walks in a wide curve to the left, swinging both arms"
SIZE, FPS = 480, 20


def walking(frames: int, speed: float = 1.2, turn: float = 0.4) -> np.ndarray:
    """Joints (T, 22, 3) in metres of a made-up walk; 0 for both numbers walks on the spot."""
    from data_loaders.skeleton import load_skeleton

    skeleton = load_skeleton("humanml")
    offsets = np.array(skeleton.raw_offsets) * np.array(skeleton.bone_lengths)[:, None]
    time_ = np.arange(frames) / FPS
    swing = np.sin(2 * np.pi * 0.9 * time_)
    bend = {1: 0.5 * swing, 2: -0.5 * swing, 4: 0.5 - 0.4 * swing, 5: 0.5 + 0.4 * swing}
    bend |= {16: -0.5 * swing, 17: 0.5 * swing, 18: -0.3 + 0 * swing, 19: -0.3 + 0 * swing}
    joints, angle = np.zeros((frames, 22, 3)), np.zeros((frames, 22))
    joints[:, 0, 1] = 0.93 + 0.02 * np.abs(swing)
    for joint, parent in list(enumerate(skeleton.parents))[1:]:
        angle[:, joint] = angle[:, parent] + bend.get(parent, 0 * swing)  # about the hip axis, inherited
        cos, sin = np.cos(angle[:, joint]), np.sin(angle[:, joint])
        x, y, z = offsets[joint]
        joints[:, joint] = joints[:, parent] + np.stack([x + 0 * cos, cos * y - sin * z, sin * y + cos * z], axis=1)
    heading = turn * time_
    cos, sin = np.cos(heading), np.sin(heading)
    x, z = joints[..., 0].copy(), joints[..., 2].copy()
    joints[..., 0], joints[..., 2] = cos[:, None] * x + sin[:, None] * z, cos[:, None] * z - sin[:, None] * x
    joints[..., 0] += (np.cumsum(sin) * speed / FPS)[:, None]
    joints[..., 2] += (np.cumsum(cos) * speed / FPS)[:, None]
    joints[..., 1] -= joints[..., 1].min()
    return joints.astype(np.float32)


def usual_recipe(path: Path | None, joints: np.ndarray, title: str) -> None:
    """The published way of drawing; with no path the frames are drawn but go nowhere."""
    from textwrap import wrap

    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt
    from matplotlib.animation import FuncAnimation
    from mpl_toolkits.mplot3d.art3d import Poly3DCollection

    from data_loaders.skeleton import load_skeleton
    from visualize.encoder import find_ffmpeg

    matplotlib.rcParams["animation.ffmpeg_path"] = find_ffmpeg()
    chains = load_skeleton("humanml").chains
    colours = ["#DD5A37", "#D69E00", "#B75A39", "#FF6D00", "#DDB50E"]
    radius = 3
    figure = plt.figure(figsize=(SIZE / 100, SIZE / 100), dpi=100)
    axes = figure.add_subplot(projection="3d")
    data = joints * 1.3
    data[..., 1] -= data[..., 1].min()
    low, high = data.min(axis=(0, 1)), data.max(axis=(0, 1))
    path_ = data[:, 0, [0, 2]].copy()
    data[..., 0] -= data[:, 0:1, 0]
    data[..., 2] -= data[:, 0:1, 2]

    def update(frame: int) -> None:
        axes.clear()
        axes.set_xlim3d([-radius / 2, radius / 2])
        axes.set_ylim3d([0, radius])
        axes.set_zlim3d([-radius / 3.0, radius * 2 / 3.0])
        figure.suptitle("\n".join(wrap(title, 20)), fontsize=10)
        axes.grid(False)
        axes.axis("off")
        axes.view_init(elev=120, azim=-90)
        x, z = path_[frame]
        corners = [[low[0] - x, 0, low[2] - z], [low[0] - x, 0, high[2] - z]]
        corners += [[high[0] - x, 0, high[2] - z], [high[0] - x, 0, low[2] - z]]
        floor = Poly3DCollection([corners])
        floor.set_facecolor((0.5, 0.5, 0.5, 0.5))
        axes.add_collection3d(floor)
        if frame > 1:
            trail = path_[:frame] - path_[frame]
            axes.plot3D(trail[:, 0], np.zeros(frame), trail[:, 1], linewidth=1.0, color="blue")
        for chain, colour in zip(chains, colours):
            axes.plot3D(*data[frame, chain].T, linewidth=4.0, color=colour)

    if path is None:
        for frame in range(len(data)):
            update(frame)
            figure.canvas.draw()
    else:
        FuncAnimation(figure, update, frames=len(data), interval=1000 / FPS, repeat=False).save(path, fps=FPS)
    plt.close(figure)


def ours(path: Path | None, joints: np.ndarray, title: str) -> None:
    from visualize.sheet import Sheet
    from visualize.video import write_video

    if path is None:
        for _ in Sheet(joints, None, [title], SIZE, True, None, 1).planes():
            pass
    else:
        write_video(path, joints, captions=[title], size=SIZE)


def cpu_seconds(work, *arguments, repeats: int) -> tuple[float, float, float]:
    """Least (this process, children, wall) seconds of several runs: what the machine does besides only adds."""
    best = (np.inf, np.inf, np.inf)
    for _ in range(repeats):
        before, start = _usage(), time.perf_counter()
        work(*arguments)
        after, wall = _usage(), time.perf_counter() - start
        own, child = after[0] - before[0], after[1] - before[1]
        if own + child < best[0] + best[1]:
            best = (own, child, wall)
    return best


def _usage() -> tuple[float, float]:
    return tuple(
        usage.ru_utime + usage.ru_stime
        for usage in (resource.getrusage(resource.RUSAGE_SELF), resource.getrusage(resource.RUSAGE_CHILDREN))
    )


@dataclass(frozen=True)
class VideoBenchmark:
    """Time stick-figure videos."""

    frames: tuple[Annotated[int, Range(2, 10_000)], ...] = (120, 196)
    """Frames of each video."""
    repeats: Annotated[int, Range(1, 1000)] = 3
    """Videos of each kind, of which the quickest counts."""


def main(argv: list[str] | None = None) -> None:
    options = parse(VideoBenchmark, argv, __doc__)
    print(f"{'':24}{'frames':>7}{'drawing':>9}{'python':>8}{'ffmpeg':>8}{'all CPU s':>11}{'wall s':>8}{'file KB':>9}{'ratio':>7}")
    with tempfile.TemporaryDirectory() as folder:
        for warm in (usual_recipe, ours):  # fonts and imports, for both
            warm(Path(folder) / "warm.mp4", walking(4), CAPTION)
        for frames in options.frames:
            reference = None
            rows = [("usual recipe", usual_recipe, walking(frames), 1), ("ours, walking", ours, walking(frames), 2)]
            rows += [("ours, on the spot", ours, walking(frames, 0, 0), 2)]
            for name, work, joints, factor in rows:
                path = Path(folder) / "video.mp4"
                drawing = cpu_seconds(work, None, joints, CAPTION, repeats=max(options.repeats * factor // 2, 1))[0]
                own, child, wall = cpu_seconds(work, path, joints, CAPTION, repeats=options.repeats * factor)
                reference = reference or own + child
                print(
                    f"{name:24}{frames:7d}{drawing:9.3f}{own:8.3f}{child:8.3f}{own + child:11.3f}{wall:8.2f}"
                    f"{path.stat().st_size / 1024:9.0f}{reference / (own + child):7.1f}",
                    flush=True,
                )


if __name__ == "__main__":
    run_command(main)
