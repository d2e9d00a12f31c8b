"""python -m benchmarks.output: what files of motions cost, beside the usual recipes, and how many clips use many cores.

Videos are beside what text-to-motion repositories do: a 3D axes cleared and filled anew for every frame, saved by matplotlib's
FuncAnimation. Both write 480 x 480 at 20 fps with floor, trail and caption in one process and its ffmpeg child (user + system
time). Files of bones are beside rotations found for a bone of a frame at a time, and BVH beside MoMask's sweeps. The motion is
made up: somebody who walks in a curve, so that camera and floor move throughout.
"""

import tempfile
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Annotated

import numpy as np

from benchmarks.timing import cost, least
from data_loaders.corpus import Motion
from data_loaders.skeleton import load_skeleton
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


def ours(path: Path | None, joints: np.ndarray, title: str, body: bool = False) -> None:
    from visualize.video import Sheet, write_video

    if path is None:
        for _ in Sheet(joints, None, [title], SIZE, True, None, 1, body=body).planes():
            pass
    else:
        write_video(path, joints, captions=[title], size=SIZE, body=body)


def a_bone_at_a_time(joints: np.ndarray) -> list[list[np.ndarray]]:
    """Quaternions of the shortest turns of each bone of each frame of joints (T, 22, 3), as plain exporters find them."""
    from scipy.spatial.transform import Rotation

    from visualize.joint_rotations import t_pose

    skeleton = load_skeleton("humanml")
    rest = t_pose(skeleton)
    found = []
    for frame in joints:
        world, own = [Rotation.identity()], []
        for joint, parent in list(enumerate(skeleton.parents))[1:]:
            turn, _ = Rotation.align_vectors([frame[joint] - frame[parent]], [rest[joint]])
            world.append(turn)
            own.append((world[parent].inv() * turn).as_quat())
        found.append(own)
    return found


@dataclass(frozen=True)
class OutputBenchmark:
    """Time videos and files for other programs."""

    frames: tuple[Annotated[int, Range(2, 10_000)], ...] = (120, 196)
    """Frames of each video; files are of the last."""
    repeats: Annotated[int, Range(1, 1000)] = 3
    """Files of each kind, of which the quickest counts."""
    clips: Annotated[int, Range(0, 10_000)] = 64
    """Clips that are written as mp4, by one process and by one for each core."""


def run(options: OutputBenchmark) -> None:
    with tempfile.TemporaryDirectory() as folder:
        videos(Path(folder) / "video.mp4", options)
        files(Path(folder) / "walk", options)
        if options.clips:
            many(Path(folder), options.clips, options.frames[-1])


def videos(path: Path, options: OutputBenchmark) -> None:
    """A table of drawing and encoding."""
    print(f"{'':24}{'frames':>7}{'drawing':>9}{'python':>8}{'ffmpeg':>8}{'all CPU s':>11}{'wall s':>8}{'file KB':>9}{'ratio':>7}")
    for warm in (usual_recipe, ours, partial(ours, body=True)):  # fonts and imports, for all
        warm(path, walk_in_a_curve(4), CAPTION)
    for frames in options.frames:
        usual = None
        for name, draw, joints in (("usual recipe", usual_recipe, walk_in_a_curve(frames)),
                                   ("ours, walking", ours, walk_in_a_curve(frames)),
                                   ("ours, on the spot", ours, walk_in_a_curve(frames, 0, 0)),
                                   ("ours, walking, bodies", partial(ours, body=True), walk_in_a_curve(frames))):  # fmt: skip
            drawn, written = least(partial(draw, None, joints, CAPTION), partial(draw, path, joints, CAPTION),
                                   rounds=options.repeats)  # fmt: skip
            usual = usual or written.cpu
            print(f"{name:24}{frames:7d}{drawn.own:9.3f}{written.own:8.3f}{written.children:8.3f}{written.cpu:11.3f}"
                  f"{written.wall:8.2f}{path.stat().st_size / 1024:9.0f}{usual / written.cpu:7.1f}", flush=True)  # fmt: skip


def files(path: Path, options: OutputBenchmark) -> None:
    """A table of files of the last number of frames, and of what plain programs take for the rotations alone."""
    from visualize.formats import FORMATS, missing
    from visualize.published_bvh import published_bvh
    from visualize.writing import write_motion

    joints = walk_in_a_curve(options.frames[-1])
    motion = Motion(joints[None], FPS, captions=(CAPTION,))
    print(f"\n{'a file of ' + str(len(joints)) + ' frames':32}{'CPU s':>8}{'wall s':>8}{'file KB':>9}")
    plain = {"MoMask's 100 sweeps": lambda: published_bvh(joints.astype(np.float64)).text,
             "a bone of a frame at a time": lambda: a_bone_at_a_time(joints)}  # fmt: skip
    for name, work in plain.items():
        (done,) = least(work, rounds=1)
        print(f"{name:32}{done.cpu:8.3f}{done.wall:8.3f}", flush=True)
    for name in (each for each in FORMATS if each != "fbx" and not missing(each)):
        write_motion(path, motion, (name,))  # imports
        (done,) = least(partial(write_motion, path, motion, (name,)), rounds=options.repeats)
        size = sum(file.stat().st_size for file in done.result)
        print(f"{name:32}{done.cpu:8.3f}{done.wall:8.3f}{size / 1024:9.0f}", flush=True)


def many(folder: Path, count: int, frames: int) -> None:
    """How much sooner many clips are there with all cores."""
    from visualize.writing import available_cores, write_all

    jobs = [(folder / f"clip{i}", Motion(walk_in_a_curve(frames, turn=0.1 * i)[None], FPS)) for i in range(count)]
    alone, together = (cost(lambda workers=workers: list(write_all(jobs, ("mp4",), workers=workers))) for workers in (1, 0))
    print(f"\n{count} clips: {alone.wall:.1f} s by one process, {together.wall:.1f} s by {available_cores()}, "
          f"{alone.wall / together.wall:.2f} times as fast, {alone.cpu / together.wall:.2f} cores' worth of the first's work")


main = command(OutputBenchmark, run, __doc__)

if __name__ == "__main__":
    run_command(main)
