"""python -m benchmarks.bvh: joints -> BVH rotations, ours beside MoMask's 100 sweeps, CPU seconds and how far the joints are off.

Both solve the same clips in one process, ours on the clip's own bone lengths, the published way on its template (part of its
error: joints of other bodies are out of its reach). The published way is `visualize/published_bvh.py`, which places each joint
once a sweep; the original places the whole body anew for each joint and costs more. Clips: people made up to walk in curves,
facing all ways, or a folder of joints (NAME.npy, (T, 22, 3) in metres).
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import numpy as np

from benchmarks.timing import least
from protos.flags import Range
from protos.options import command, run_command
from tests.synthetic import walk_in_a_curve


@dataclass(frozen=True)
class BvhBenchmark:
    """Time the solvers of BVH rotations."""

    motions: Path | None = None
    """Folder of joints (default: made up)."""
    clips: Annotated[int, Range(1, 10_000)] = 4
    """Clips."""
    frames: Annotated[int, Range(1, 100_000)] = 120
    """Frames of each made-up clip, and at most so many of one in a folder."""
    iterations: Annotated[int, Range(1, 10_000)] = 100
    """Sweeps of the published solver."""
    repeats: Annotated[int, Range(1, 1000)] = 3
    """Rounds, of which the cheapest counts."""


def clips_of(options: BvhBenchmark) -> list[np.ndarray]:
    """Joints (T, 22, 3) float64 of each clip."""
    if options.motions is None:
        return [walk_in_a_curve(options.frames, turn=0.4 + i).astype(np.float64) for i in range(options.clips)]
    found = [np.load(path) for path in sorted(options.motions.glob("*.npy"))[: options.clips]]
    return [joints[: options.frames].astype(np.float64) for joints in found if joints.ndim == 3 and joints.shape[1:] == (22, 3)]


def run(options: BvhBenchmark) -> None:
    from data_loaders.skeleton import load_skeleton
    from visualize.joint_rotations import solve_turns
    from visualize.published_bvh import published_bvh

    clips, body = clips_of(options), load_skeleton("humanml")
    if not clips:
        raise ValueError(f"{options.motions} holds no NAME.npy of joints (T, 22, 3)")

    def ours() -> list[np.ndarray]:
        return [solve_turns(joints, body).joints for joints in clips]

    def published() -> list[np.ndarray]:
        return [published_bvh(joints, iterations=options.iterations).joints for joints in clips]

    ours(), published_bvh(clips[0], iterations=1)
    rows = least(published, ours, rounds=options.repeats)
    frames = sum(map(len, clips))
    print(f"{len(clips)} clips, {frames} frames{'CPU s':>14}{'ms a frame':>12}{'mean error mm':>15}{'largest':>9}{'ratio':>7}")
    for name, cost in zip((f"published, {options.iterations} sweeps", "ours"), rows):
        errors = np.concatenate([np.linalg.norm(made - joints, axis=-1).ravel() for made, joints in zip(cost.result, clips)])
        print(f"{name:24}{cost.cpu:12.3f}{1e3 * cost.cpu / frames:12.3f}{1e3 * errors.mean():15.3f}{1e3 * errors.max():9.2f}"
              f"{rows[0].cpu / cost.cpu:7.0f}", flush=True)  # fmt: skip


main = command(BvhBenchmark, run, __doc__)

if __name__ == "__main__":
    run_command(main)
