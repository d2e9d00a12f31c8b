"""python -m benchmarks.pose_codes: joints -> pose codes, beside a plain reference that goes frame by frame and group by group.

Joints lie in memory before the clock starts; times are CPU seconds of the process, so extra threads do not flatter. A line also
says how many codes the two set differently: rounding at the edge of a bin. """

import math
from dataclasses import dataclass
from typing import Annotated

import numpy as np

from benchmarks.timing import least
from data_loaders.pose_code_table import STRIDE, pose_code_table
from data_loaders.skeleton import load_skeleton
from protos.flags import Range
from protos.options import command, run_command
from tests.synthetic import synthetic_clip

ROUNDS = 5


def reference_codes(joints: np.ndarray) -> np.ndarray:
    """Codes (T, 392) of joints (T, 22, 3): each group of each frame, one after the other."""
    table = pose_code_table()
    place = {name: k for k, name in enumerate(table.file.joints)}
    rows = np.zeros((len(joints), table.width), bool)

    def unit(v: np.ndarray) -> np.ndarray:
        return v / max(np.linalg.norm(v), 1e-12)

    def degrees(cosine: float) -> float:
        return math.degrees(math.acos(min(max(cosine, -1.0), 1.0)))

    for row, pose in zip(rows, joints * np.array([-1.0, 1.0, -1.0])):
        middle = [pose[20 + k] + 0.1367 * unit(pose[20 + k] - pose[18 + k]) for k in (0, 1)]
        hands = [(pose[20 + k] + middle[k]) / 2 for k in (0, 1)]
        body = np.stack([*pose, *middle, *hands, (pose[0] + pose[12] + pose[9]) / 3])
        for group in table.groups:
            points = [body[place[name]] for name in group.joints]
            if group.kind.name == "angle":
                value = degrees(float(unit(points[2] - points[1]) @ unit(points[0] - points[1])))
            elif group.kind.name == "distance":
                value = float(np.linalg.norm(points[0] - points[1]))
            elif group.kind.name == "relV":
                value = degrees(abs(float(unit(points[0] - points[1])[1])))
            elif group.kind.name == "ground":
                value = points[0][1] - body[:, 1].min()
            else:
                axis = "XYZ".index(group.kind.name[-1])
                value = points[0][axis] - points[1][axis]
            row[group.first + sum(value > bound for bound in group.kind.thresholds)] = True
    return rows


@dataclass(frozen=True)
class PoseCodeBenchmark:
    """Time joints -> pose codes."""

    lengths: tuple[Annotated[int, Range(4, 100_000)], ...] = (64, 196, 2000)
    """Frames of the clips to time."""
    batch_size: Annotated[int, Range(1, 4096)] = 32
    """Clips that are read at once."""
    threads: Annotated[int, Range(1, 1024)] = 1
    """Threads of torch."""


def run(options: PoseCodeBenchmark) -> None:
    import torch

    from data_loaders.pose_codes import pose_codes, token_codes

    torch.set_num_threads(options.threads)
    body = load_skeleton("humanml")
    print(f"CPU frames per second, {options.threads} thread(s), {options.batch_size} clips at once")
    print(f"{'':24}{'reference':>12}{'every frame':>13}{f'1 of {STRIDE}':>13}{'times':>9}{'other codes':>14}")
    for length in options.lengths:
        clips = np.stack([synthetic_clip(length, body, seed) for seed in range(options.batch_size)])
        (plain,) = least(lambda clips=clips: reference_codes(clips[0]), rounds=1)
        works = (lambda clips=clips: pose_codes(clips)), (lambda clips=clips: token_codes(clips))
        whole, tokens = least(*works, rounds=ROUNDS, warm=True)
        apart = (whole.result[0].numpy() != plain.result).sum() / 2 / (length * len(pose_code_table().groups))
        frames = clips.shape[0] * length
        speeds = [length / plain.cpu, frames / whole.cpu, frames / tokens.cpu]
        print(f"{f'clips of {length} frames':24}{speeds[0]:12.0f}{speeds[1]:13.0f}{speeds[2]:13.0f}{speeds[1] / speeds[0]:8.0f}x"
              f"{apart:14.1e}", flush=True)  # fmt: skip


main = command(PoseCodeBenchmark, run, __doc__)

if __name__ == "__main__":
    run_command(main)
