"""python -m benchmarks.video: CPU seconds of a stick-figure video, ours beside the usual recipe, drawing and encoding apart.

The usual recipe is what text-to-motion repositories do: a 3D axes cleared and filled anew for every frame, saved by
matplotlib's FuncAnimation. Both write 480 x 480 at 20 fps with floor, trail and caption in one process and its ffmpeg child
(user + system time). The motion is made up: somebody who walks in a curve, so that camera and floor move throughout.
"""

import tempfile
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Annotated

import numpy as np

from benchmarks.timing import least
from protos.flags import Range
from protos.options import command, run_command
from tests.synthetic import walk_in_a_curve

CAPTION = "a person walks in a wide curve to the left, swinging both arms"
SIZE, FPS = 480, 20


def usual_recipe(path: Path | None, joints: np.ndarray, title: str) -> None:
    """The published way of drawing; with no path the frames are drawn but go nowhere."""
    from textwrap import wrap

    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt
    from matplotlib.animation import FuncAnimation
    from mpl_toolkits.mplot3d.art3d import Poly3DCollection

    from data_loaders.skeleton import load_skeleton
    from visualize.video import find_ffmpeg

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
    from visualize.video import Sheet, write_video

    if path is None:
        for _ in Sheet(joints, None, [title], SIZE, True, None, 1).planes():
            pass
    else:
        write_video(path, joints, captions=[title], size=SIZE)


@dataclass(frozen=True)
class VideoBenchmark:
    """Time stick-figure videos."""

    frames: tuple[Annotated[int, Range(2, 10_000)], ...] = (120, 196)
    """Frames of each video."""
    repeats: Annotated[int, Range(1, 1000)] = 3
    """Videos of each kind, of which the quickest counts."""


def run(options: VideoBenchmark) -> None:
    print(f"{'':24}{'frames':>7}{'drawing':>9}{'python':>8}{'ffmpeg':>8}{'all CPU s':>11}{'wall s':>8}{'file KB':>9}{'ratio':>7}")
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "video.mp4"
        for warm in (usual_recipe, ours):  # fonts and imports, for both
            warm(path, walk_in_a_curve(4), CAPTION)
        for frames in options.frames:
            usual = None
            for name, draw, joints in (("usual recipe", usual_recipe, walk_in_a_curve(frames)),
                                       ("ours, walking", ours, walk_in_a_curve(frames)),
                                       ("ours, on the spot", ours, walk_in_a_curve(frames, 0, 0))):  # fmt: skip
                drawn, written = least(partial(draw, None, joints, CAPTION), partial(draw, path, joints, CAPTION),
                                       rounds=options.repeats)  # fmt: skip
                usual = usual or written.cpu
                print(f"{name:24}{frames:7d}{drawn.own:9.3f}{written.own:8.3f}{written.children:8.3f}{written.cpu:11.3f}"
                      f"{written.wall:8.2f}{path.stat().st_size / 1024:9.0f}{usual / written.cpu:7.1f}", flush=True)  # fmt: skip


main = command(VideoBenchmark, run, __doc__)

if __name__ == "__main__":
    run_command(main)
