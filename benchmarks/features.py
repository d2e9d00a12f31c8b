"""Joints -> features: ours against a plain per-joint-loop numpy reference of the published recipe, timed in one run.

    python -m benchmarks.features [--corpus dataset/bandai_namco] [--threads 1] [--reference_share 0.2]

Joints lie in memory before the clock starts; times are CPU seconds of the process, so extra threads do not flatter. The
reference follows HumanML3D's process_file: inverse kinematics, forward kinematics on the target body, and inverse
kinematics again, joint after joint. A line also says how far the two results are apart.
"""

import ctypes
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Annotated

import numpy as np

from benchmarks.timing import cost, least
from data_loaders.skeleton import Skeleton, load_skeleton
from protos.flags import Range
from protos.options import command, run_command
from tests.synthetic import synthetic_clip

CLIPS_IN_BATCH, ROUNDS = 32, 25
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


def joints_of(options: "FeatureBenchmark", skeleton: Skeleton) -> list[np.ndarray]:
    """Clips (T, J, 3) in metres: of a prepared folder, or made up, most about two to eight seconds long, some much longer."""
    if options.corpus is None:
        lengths = np.random.default_rng(0).lognormal(0, 0.6, options.clips)
        lengths = np.maximum((lengths / lengths.sum() * options.frames).astype(int), 13)
        return [synthetic_clip(int(length), skeleton, seed) for seed, length in enumerate(lengths)]
    clips = [np.load(path) for path in sorted((options.corpus / "new_joints").glob("*.npy"))]
    clips = [clip for clip in clips if clip.ndim == 3 and clip.shape[1] == skeleton.num_joints and len(clip) > 1]
    if not clips:
        raise ValueError(f"{options.corpus}: no new_joints/*.npy of {skeleton.num_joints} joints; "
                         "make it with data_loaders.prepare")  # fmt: skip
    return clips


def keep_freed_memory() -> None:
    """Let glibc hold on to freed memory, for both sides: fresh pages cost more than the work itself on virtual machines."""
    libc = ctypes.CDLL(None)
    if hasattr(libc, "mallopt"):
        m_trim_threshold, m_mmap_threshold = -1, -3
        libc.mallopt(m_mmap_threshold, 1 << 30)
        libc.mallopt(m_trim_threshold, (1 << 31) - 1)


@dataclass(frozen=True)
class FeatureBenchmark:
    """Time joints -> features."""

    corpus: Path | None = None
    """Prepared folder whose joints make the pack (default: made up)."""
    clips: Annotated[int, Range(1, 100_000)] = PACK_CLIPS
    """Clips of the made-up pack."""
    frames: Annotated[int, Range(1, 10_000_000)] = PACK_FRAMES
    """Frames of the made-up pack."""
    lengths: tuple[Annotated[int, Range(2, 100_000)], ...] = (40, 100, 200, 1000)
    """Single clips to time."""
    reference_share: Annotated[float, Range(1e-4, 1)] = 1.0
    """Share of the pack that the reference runs on."""
    threads: Annotated[int, Range(1, 1024)] = 1
    """Threads of torch."""


def run(options: FeatureBenchmark) -> None:
    import torch

    from data_loaders.humanml_features import features_from_clips

    torch.set_num_threads(options.threads)
    keep_freed_memory()
    skeleton = load_skeleton("humanml")
    target = (np.array(skeleton.raw_offsets) * np.array(skeleton.bone_lengths)[:, None]).astype(np.float32)

    def ours(clips: list[np.ndarray]) -> list[np.ndarray]:
        return [features.numpy() for features in features_from_clips([torch.from_numpy(clip) for clip in clips], skeleton)]

    def reference(clips: list[np.ndarray]) -> list[np.ndarray]:
        return [reference_features(clip, skeleton, target) for clip in clips]

    def show(what: str, theirs: float, mine: float, found: list[np.ndarray], expected: list[np.ndarray]) -> None:
        # the root and joint columns; the 6D of bones near their antipode is not comparable
        apart = max(float(np.abs(a[:, :67] - b[:, :67]).max()) for a, b in zip(found, expected))
        print(f"{what:34}{1e3 * theirs:12.2f}{1e3 * mine:10.2f}{theirs / mine:7.1f}x{apart:12.1e}", flush=True)

    print(f"CPU ms per clip, {options.threads} thread(s)")
    print(f"{'joints -> features':34}{'reference':>12}{'ours':>10}{'times':>8}{'difference':>12}")
    for length in options.lengths:
        one = [synthetic_clip(length, skeleton, seed=length)]
        many = one * CLIPS_IN_BATCH
        theirs, alone, together = least(lambda one=one: reference(one), lambda one=one: ours(one), lambda many=many: ours(many),
                                        rounds=ROUNDS, warm=True)  # fmt: skip
        show(f"{length} frames, one clip a call", theirs.cpu, alone.cpu, alone.result, theirs.result)
        show(f"{length} frames, {len(many)} clips a call", theirs.cpu, together.cpu / len(many), together.result, theirs.result)

    pack = [np.ascontiguousarray(clip, np.float32) for clip in joints_of(options, skeleton)]
    sample = slice(None, None, max(round(1 / options.reference_share), 1))
    mine, theirs = cost(lambda: ours(pack)), cost(lambda: reference(pack[sample]))
    share = len(theirs.result) / len(pack)
    show(f"{len(pack)} clips, {sum(map(len, pack))} frames", theirs.cpu / share, mine.cpu, mine.result[sample], theirs.result)
    if share < 1:
        print(f"(reference: {len(theirs.result)} evenly spread clips timed, scaled to all)")


main = command(FeatureBenchmark, run, __doc__)

if __name__ == "__main__":
    run_command(main)
