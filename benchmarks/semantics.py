"""python -m benchmarks.semantics: joints -> semantics and atomic actions, beside a plain reference that goes frame by frame.

Joints lie in memory before the clock starts; times are CPU seconds of the process, so extra threads do not flatter. A line also
says how many values the two quantise differently: rounding at the edge of a level.
"""

import math
from dataclasses import dataclass
from typing import Annotated

import numpy as np

from benchmarks.timing import least
from data_loaders.motion_semantics import BENDS, LIMBS, MOVING, PAIRS, Scheme
from data_loaders.skeleton import load_skeleton
from protos.flags import FPS, Range
from protos.options import command, run_command
from tests.synthetic import synthetic_clip

ROUNDS = 5


def reference_levels(joints: np.ndarray, fps: float, scheme: Scheme) -> np.ndarray:
    """Levels (T, 165) of joints (T, 22, 3): each value of each frame, one after the other."""
    place = {name: k for k, name in enumerate(load_skeleton("humanml").joint_names)}
    right, rows = np.array([-1.0, 0.0, 0.0]), []

    def angle(a: np.ndarray, b: np.ndarray) -> float:
        lengths = max(np.linalg.norm(a), 1e-8) * max(np.linalg.norm(b), 1e-8)
        return math.acos(min(max(float(a @ b) / lengths, -1.0), 1.0))

    for t, pose in enumerate(joints):
        across = (pose[2] - pose[1] + pose[17] - pose[16]) * [1, 0, 1]
        right = across / np.linalg.norm(across) if np.linalg.norm(across) >= 1e-8 else right
        axes = right, np.array([0.0, 1.0, 0.0]), np.cross([0.0, 1.0, 0.0], right)
        pairs = [pose[place[b]] - pose[place[a]] for a, b in PAIRS]
        moved = (joints[max(t, 1)] - joints[max(t, 1) - 1]) * fps
        kinds = [
            [float((pose[j] - pose[0]) @ axis) for j in range(1, 22) for axis in axes],
            [float(v @ axis) for v in pairs for axis in axes],
            [float(np.linalg.norm(v)) for v in pairs],
            [angle(pose[place[b]] - pose[place[a]], pose[place[c]] - pose[place[b]]) for a, b, c in BENDS],
            [angle(pose[place[b]] - pose[place[a]], axis) for a, b in LIMBS for axis in axes],
            [float(moved[place[name]] @ axis) for name in MOVING for axis in axes],
        ]
        rows.append([
            min(max(math.floor((v - low) / (high - low) * scheme.levels), 0), scheme.levels - 1)
            for own, (low, high) in zip(kinds, scheme.ranges) for v in own
        ])  # fmt: skip
    return np.array(rows)


@dataclass(frozen=True)
class SemanticsBenchmark:
    """Time joints -> semantics."""

    lengths: tuple[Annotated[int, Range(2, 100_000)], ...] = (60, 300, 3000)
    """Frames of the clips to time."""
    fps: Annotated[float, FPS] = 30.0
    """Frames per second of them."""
    threads: Annotated[int, Range(1, 1024)] = 1
    """Threads of torch."""


def run(options: SemanticsBenchmark) -> None:
    import torch

    from data_loaders.atomic_actions import fit_codebook, soft_assignment, window_features
    from data_loaders.motion_semantics import PUBLISHED, levels, normalised, semantics

    torch.set_num_threads(options.threads)
    fps, body = options.fps, load_skeleton("humanml")
    windows = [window_features(semantics(synthetic_clip(300, body, seed), fps)) for seed in range(4)]
    actions = fit_codebook(torch.cat(windows))
    print(f"CPU frames per second, {options.threads} thread(s)")
    print(f"{'':30}{'reference':>12}{'semantics':>12}{'and actions':>13}{'times':>9}{'other levels':>14}")
    for length in options.lengths:
        clip = synthetic_clip(length, body, seed=length)

        def ours(clip: np.ndarray = clip) -> np.ndarray:
            return normalised(levels(clip, fps), PUBLISHED.levels)

        def both(clip: np.ndarray = clip) -> torch.Tensor:
            return soft_assignment(window_features(semantics(clip, fps)), actions)

        (plain,) = least(lambda clip=clip: reference_levels(clip, fps, PUBLISHED), rounds=1)
        mine, whole = least(ours, both, rounds=ROUNDS, warm=True)
        apart = (levels(clip, fps).numpy() != plain.result).mean()
        speeds = [length / each.cpu for each in (plain, mine, whole)]
        print(f"{f'a clip of {length} frames':30}{speeds[0]:12.0f}{speeds[1]:12.0f}{speeds[2]:13.0f}{speeds[1] / speeds[0]:8.0f}x"
              f"{apart:14.1e}", flush=True)  # fmt: skip


main = command(SemanticsBenchmark, run, __doc__)

if __name__ == "__main__":
    run_command(main)
