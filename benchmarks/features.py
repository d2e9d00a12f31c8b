"""Joints -> features: ours against a plain per-joint-loop numpy reference of the published recipe, timed in one run.

    python -m benchmarks.features [--corpus dataset/bandai_namco] [--threads 1] [--reference_share 0.2]

Joints lie in memory before the clock starts; times are CPU seconds of the process, so extra threads do not flatter. The
reference follows HumanML3D's process_file: inverse kinematics, forward kinematics on the target body, and inverse
kinematics again, joint after joint. A line also says how far the two results are apart.
"""

import ctypes
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Annotated

import numpy as np

from data_loaders.skeleton import Skeleton, load_skeleton
from protos.bounds import Range
from protos.options import parse, run_command

CLIPS_IN_BATCH = 32
PACK_CLIPS, PACK_FRAMES = 3076, 278_000  # the Bandai-Namco pack at 20 fps


def qmul(q: np.ndarray, r: np.ndarray) -> np.ndarray:
    w, x, y, z = q[:, 0], q[:, 1], q[:, 2], q[:, 3]
    a, b, c, d = r[:, 0], r[:, 1], r[:, 2], r[:, 3]
    return np.stack(
        [w * a - x * b - y * c - z * d, w * b + x * a + y * d - z * c,
         w * c - x * d + y * a + z * b, w * d + x * c - y * b + z * a], 1)  # fmt: skip


def qinv(q: np.ndarray) -> np.ndarray:
    return q * np.array([1, -1, -1, -1], np.float32)


def qrot(q: np.ndarray, v: np.ndarray) -> np.ndarray:
    uv = np.cross(q[:, 1:], v)
    return v + 2 * (q[:, :1] * uv + np.cross(q[:, 1:], uv))


def qbetween(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    w = np.sqrt((a * a).sum(1, keepdims=True) * (b * b).sum(1, keepdims=True)) + (a * b).sum(1, keepdims=True)
    q = np.concatenate([w, np.cross(a, b)], 1)
    return q / np.linalg.norm(q, axis=1, keepdims=True)


def sixd(q: np.ndarray) -> np.ndarray:
    w, x, y, z = q[:, 0], q[:, 1], q[:, 2], q[:, 3]
    first = [1 - 2 * (y * y + z * z), 2 * (x * y + w * z), 2 * (x * z - w * y)]
    second = [2 * (x * y - w * z), 1 - 2 * (x * x + z * z), 2 * (y * z + w * x)]
    return np.stack(first + second, 1)


def unit(v: np.ndarray) -> np.ndarray:
    return v / np.sqrt((v * v).sum(-1, keepdims=True))


def reference_ik(joints: np.ndarray, skeleton: Skeleton, smooth: bool) -> np.ndarray:
    from scipy.ndimage import gaussian_filter1d

    frames = len(joints)
    right_hip, left_hip, right_shoulder, left_shoulder = skeleton.face_joints
    across = joints[:, left_hip] - joints[:, right_hip] + joints[:, right_shoulder] - joints[:, left_shoulder]
    forward = np.cross(np.array([[0, 1, 0]], np.float32), unit(across))
    if smooth:
        forward = gaussian_filter1d(forward, 20, axis=0, mode="nearest")
    ahead = np.repeat(np.array([[0, 0, 1]], np.float32), frames, 0)
    root = qbetween(unit(forward), ahead)
    root[0] = [1, 0, 0, 0]
    rotations = np.zeros((frames, skeleton.num_joints, 4), np.float32)
    rotations[:, 0] = root
    for chain in skeleton.chains:
        before = root
        for start, end in pairwise(chain):
            rest = np.repeat(np.array([skeleton.raw_offsets[end]], np.float32), frames, 0)
            world = qbetween(rest, unit(joints[:, end] - joints[:, start]))
            rotations[:, end] = qmul(qinv(before), world)
            before = qmul(before, rotations[:, end])
    return rotations


def reference_fk(rotations: np.ndarray, root: np.ndarray, offsets: np.ndarray, skeleton: Skeleton) -> np.ndarray:
    joints = np.zeros((len(root), skeleton.num_joints, 3), np.float32)
    joints[:, 0] = root
    for chain in skeleton.chains:
        world = rotations[:, 0]
        for start, end in pairwise(chain):
            world = qmul(world, rotations[:, end])
            joints[:, end] = joints[:, start] + qrot(world, np.repeat(offsets[end : end + 1], len(root), 0))
    return joints


def reference_features(joints: np.ndarray, skeleton: Skeleton, target: np.ndarray) -> np.ndarray:
    """Features (T-1, D) of joints (T, J, 3), step by step as process_file takes them."""
    joints, frames, count = joints.astype(np.float32), len(joints), skeleton.num_joints
    source = np.zeros_like(target)
    for joint in range(1, count):
        bone = joints[0, joint] - joints[0, skeleton.parents[joint]]
        source[joint] = np.array(skeleton.raw_offsets[joint], np.float32) * np.sqrt((bone * bone).sum())
    upper, lower = skeleton.leg_joints
    legs_target = np.abs(target[upper]).max() + np.abs(target[lower]).max()
    legs_source = np.abs(source[upper]).max() + np.abs(source[lower]).max()
    rotations = reference_ik(joints, skeleton, smooth=False)
    joints = reference_fk(rotations, joints[:, 0] * (legs_target / legs_source), target, skeleton)

    joints[:, :, 1] -= joints.min(axis=0).min(axis=0)[1]
    joints = joints - joints[0, 0] * np.array([1, 0, 1], np.float32)
    right_hip, left_hip, right_shoulder, left_shoulder = skeleton.face_joints
    across = joints[0, right_hip] - joints[0, left_hip] + joints[0, right_shoulder] - joints[0, left_shoulder]
    forward = unit(np.cross(np.array([[0, 1, 0]], np.float32), unit(across)))
    facing = qbetween(forward, np.array([[0, 0, 1]], np.float32))
    joints = qrot(np.repeat(facing, frames * count, 0), joints.reshape(-1, 3)).reshape(frames, count, 3)

    feet = []
    for foot in skeleton.feet:
        step = joints[1:, foot] - joints[:-1, foot]
        feet.append(((step**2).sum(1) < skeleton.contact_threshold).astype(np.float32))
    rotations = reference_ik(joints, skeleton, smooth=True)
    root = rotations[:, 0]
    root_velocity = qrot(root[1:], joints[1:, 0] - joints[:-1, 0])
    root_yaw = np.arcsin(qmul(root[1:], qinv(root[:-1]))[:, 2])
    local, velocity, rotation_6d = [], [], []
    for joint in range(count):
        about_root = joints[:, joint] - joints[:, 0] * np.array([1, 0, 1], np.float32)
        local.append(qrot(root, about_root))
        velocity.append(qrot(root[:-1], joints[1:, joint] - joints[:-1, joint]))
        if joint:
            rotation_6d.append(sixd(rotations[:, joint]))
    return np.concatenate(
        [root_yaw[:, None], root_velocity[:, [0, 2]], local[0][:-1, 1:2]]
        + [place[:-1] for place in local[1:]] + [turn[:-1] for turn in rotation_6d] + velocity
        + [foot[:, None] for foot in feet], axis=1)  # fmt: skip


def synthetic_clip(frames: int, skeleton: Skeleton, seed: int) -> np.ndarray:
    """A body of its own bone lengths that sways, steps and slowly turns, (T, J, 3) float32."""
    random = np.random.default_rng(seed)
    time_axis = np.arange(frames)[:, None, None] / skeleton.contact_fps
    rest = np.array(skeleton.raw_offsets)[None] + 0.15 * random.standard_normal((1, skeleton.num_joints, 3))
    swing = 0.4 * np.sin(2 * np.pi * random.uniform(0.2, 1.2, (1, skeleton.num_joints, 3)) * time_axis)
    lengths = np.array(skeleton.bone_lengths) * random.uniform(0.9, 1.1)
    bones = unit(rest + swing * random.uniform(0, 1, (1, skeleton.num_joints, 3))) * lengths[None, :, None]
    joints = np.zeros((frames, skeleton.num_joints, 3))
    for joint in range(1, skeleton.num_joints):
        joints[:, joint] = joints[:, skeleton.parents[joint]] + bones[:, joint]
    yaw = random.uniform(-3, 3) + np.cumsum(0.01 * random.standard_normal(frames))
    cos, sin = np.cos(yaw)[:, None], np.sin(yaw)[:, None]
    x, z = joints[..., 0] * cos + joints[..., 2] * sin, joints[..., 2] * cos - joints[..., 0] * sin
    path = np.cumsum(0.03 * random.standard_normal((frames, 3)) * [1, 0.1, 1], 0)
    return (np.stack([x, joints[..., 1], z], -1) + path[:, None]).astype(np.float32)


def synthetic_pack(skeleton: Skeleton, clips: int, frames: int) -> list[np.ndarray]:
    """`clips` clips of `frames` frames in all, most about two to eight seconds long, some much longer."""
    lengths = np.random.default_rng(0).lognormal(0, 0.6, clips)
    lengths = np.maximum((lengths / lengths.sum() * frames).astype(int), 13)
    return [synthetic_clip(int(length), skeleton, seed) for seed, length in enumerate(lengths)]


def read_pack(folder: Path, skeleton: Skeleton) -> list[np.ndarray]:
    """Joints of a prepared folder: new_joints/*.npy."""
    paths = sorted((folder / "new_joints").glob("*.npy"))
    clips = [np.load(path) for path in paths]
    clips = [clip for clip in clips if clip.ndim == 3 and clip.shape[1] == skeleton.num_joints and len(clip) > 1]
    if not clips:
        raise ValueError(f"{folder}: no new_joints/*.npy of {skeleton.num_joints} joints; make it with data_loaders.prepare")
    return clips


def keep_freed_memory() -> None:
    """Let glibc hold on to freed memory, for both sides: fresh pages cost more than the work itself on virtual machines."""
    libc = ctypes.CDLL(None)
    if hasattr(libc, "mallopt"):
        m_trim_threshold, m_mmap_threshold = -1, -3
        libc.mallopt(m_mmap_threshold, 1 << 30)
        libc.mallopt(m_trim_threshold, (1 << 31) - 1)


def fastest(works: list[Callable[[], object]], rounds: int = 25) -> list[float]:
    """CPU seconds of one call of each work: the least of `rounds`, taken in turns so that all meet the same machine."""
    best = [float("inf")] * len(works)
    for _ in range(rounds):
        for number, work in enumerate(works):
            work()  # caches and allocator as in a loop over clips
            start = time.process_time()
            work()
            best[number] = min(best[number], time.process_time() - start)
    return best


@dataclass(frozen=True)
class FeatureBenchmark:
    """Time joints -> features."""

    corpus: Path | None = None
    """Prepared folder whose joints make the pack (default: synthetic)."""
    clips: Annotated[int, Range(1, 100_000)] = PACK_CLIPS
    """Clips of the synthetic pack."""
    frames: Annotated[int, Range(1, 10_000_000)] = PACK_FRAMES
    """Frames of the synthetic pack."""
    lengths: tuple[Annotated[int, Range(2, 100_000)], ...] = (40, 100, 200, 1000)
    """Single clips to time."""
    reference_share: Annotated[float, Range(1e-4, 1)] = 1.0
    """Share of the pack that the reference runs on."""
    threads: Annotated[int, Range(1, 1024)] = 1
    """Threads of torch."""


def main(argv: list[str] | None = None) -> None:
    options = parse(FeatureBenchmark, argv, __doc__)
    import torch

    from data_loaders.humanml_features import features_from_clips

    torch.set_num_threads(options.threads)
    keep_freed_memory()
    skeleton = load_skeleton("humanml")
    target = (np.array(skeleton.raw_offsets) * np.array(skeleton.bone_lengths)[:, None]).astype(np.float32)
    out = sys.stdout
    out.write(f"CPU ms per clip, {options.threads} thread(s)\n")
    out.write(f"{'joints -> features':34}{'reference':>12}{'ours':>10}{'times':>8}{'difference':>12}\n")
    for length in options.lengths:
        clip = synthetic_clip(length, skeleton, seed=length)
        one, many = [torch.from_numpy(clip)], [torch.from_numpy(clip)] * CLIPS_IN_BATCH
        theirs, alone, together = fastest(
            [
                partial(reference_features, clip, skeleton, target),
                partial(features_from_clips, one, skeleton),
                partial(features_from_clips, many, skeleton),
            ]
        )
        apart = _difference(features_from_clips(one, skeleton)[0].numpy(), clip, skeleton, target)
        _line(out, f"{length} frames, one clip a call", theirs, alone, apart)
        _line(out, f"{length} frames, {CLIPS_IN_BATCH} clips a call", theirs, together / CLIPS_IN_BATCH, apart)

    pack = read_pack(options.corpus, skeleton) if options.corpus else synthetic_pack(skeleton, options.clips, options.frames)
    tensors = [torch.from_numpy(np.ascontiguousarray(clip, np.float32)) for clip in pack]
    start = time.process_time()
    features = features_from_clips(tensors, skeleton)
    ours = time.process_time() - start
    sample = list(range(0, len(pack), max(round(1 / options.reference_share), 1)))
    start = time.process_time()
    expected = [reference_features(pack[number], skeleton, target) for number in sample]
    theirs = time.process_time() - start
    frames = sum(map(len, pack))
    theirs *= len(pack) / len(sample)
    apart = max(float(np.abs(features[n].numpy()[:, :67] - e[:, :67]).max()) for n, e in zip(sample, expected))
    _line(out, f"{len(pack)} clips, {frames} frames", theirs, ours, apart)
    if len(sample) < len(pack):
        out.write(f"(reference: {len(sample)} evenly spread clips timed, scaled to all)\n")


def _difference(features: np.ndarray, clip: np.ndarray, skeleton: Skeleton, target: np.ndarray) -> float:
    """Largest difference of the root and joint columns; the 6D of bones near their antipode is not comparable."""
    return float(np.abs(features[:, :67] - reference_features(clip, skeleton, target)[:, :67]).max())


def _line(out, name: str, theirs: float, ours: float, apart: float) -> None:
    out.write(f"{name:34}{1e3 * theirs:12.2f}{1e3 * ours:10.2f}{theirs / ours:7.1f}x{apart:12.1e}\n")
    out.flush()


if __name__ == "__main__":
    run_command(main)
