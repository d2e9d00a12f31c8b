"""Joints -> BVH as MoMask and LaMP do it (momask-codes, visualization/joints2bvh.py), for comparison; ours is `bvh.py`.

Differs from ours in what users complain of: bone lengths of a template, metres, rotations found by repeated sweeps from a pose
that faces +Z, so that the limbs of people who face away may be twisted; feet pinned flat to the floor while the root stays.
"""

from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np

from data_loaders.skeleton import Skeleton, load_skeleton
from protos.reading import FileError, read_json
from visualize.bvh_text import BvhSkeleton, bvh_text

ITERATIONS = 100  # sweeps, as the published scripts ask for
GUARD = 1e-10  # what the original adds to what it divides by
FEET = (3, 4, 7, 8)  # of the template: left ankle and toe, right ankle and toe
CONTACT_STEP = np.array([0.05, 0.2, 0.05, 0.2])  # squared metres to the next frame
CONTACT_HEIGHT = np.array([0.06, 0.03, 0.06, 0.03])  # metres
HIGHEST_FLOOR = 0.5  # metres: what lies above is none
BLEND = 5  # frames before and after a contact


@dataclass(frozen=True)
class Template:
    """The published skeleton; order: which joint of HumanML3D each of its joints is."""

    names: tuple[str, ...]
    parents: tuple[int, ...]
    order: tuple[int, ...]
    offsets: tuple[tuple[float, float, float], ...]
    source: str

    @property
    def back(self) -> np.ndarray:
        """Which joint of the template each joint of HumanML3D is."""
        return np.argsort(self.order)


@dataclass(frozen=True)
class PublishedBvh:
    """rotations (T, J, 4): w, x, y, z of each joint of the template against its parent; joints (T, J, 3) in metres of the
    template's body, in the order of HumanML3D; text: the file."""

    rotations: np.ndarray
    joints: np.ndarray
    text: str


@lru_cache(maxsize=1)
def template() -> Template:
    """The published template."""
    return read_json(Path(__file__).with_name("momask_skeleton.json"), Template)


def require_published(skeleton: Skeleton) -> None:
    """FileError for a skeleton that the template does not fit."""
    if skeleton.joint_names != load_skeleton("humanml").joint_names:
        raise FileError(f"the published BVH solver knows the 22 joints of HumanML3D, not those of {skeleton.name}: "
                        "leave --solver published out")  # fmt: skip


def published_bvh(joints: np.ndarray, fps: float = 20.0, iterations: int = ITERATIONS, foot_ik: bool = False) -> PublishedBvh:
    """Joints (T, 22, 3) in metres on the published body. foot_ik: with its foot cleaning, which leaves the root uncleaned."""
    body = template()
    targets = np.asarray(joints, np.float64)[:, list(body.order)]  # (T, J, 3)
    root = targets[:, 0].copy()
    if foot_ik:
        targets = clean_feet(targets)
    rotations, places = _swept(root, targets, iterations)
    offsets = np.array(body.offsets)
    skeleton = BvhSkeleton(body.names, body.parents, offsets, np.zeros_like(offsets), "ZYX")
    text = bvh_text(skeleton, root, _euler_zyx(rotations), fps)
    return PublishedBvh(rotations, places[:, body.back], text)


def clean_feet(joints: np.ndarray) -> np.ndarray:
    """Joints (T, J, 3) in the template's order, floor at 0, feet at the mean place of each contact and height 0, blended in and
    out. Frames beside contacts depend on these alone, so they need no order."""
    frames = len(joints)
    feet = joints[:, FEET]  # (T, 4, 3)
    if frames < 2:
        return joints.copy()
    steps = np.square(np.diff(feet, axis=0)).sum(-1)
    planted = (steps < CONTACT_STEP) & (feet[:-1, :, 1] < CONTACT_HEIGHT)
    planted = np.concatenate([planted, planted[-1:]])  # (T, 4)
    lowest = np.sort(feet[..., 1].min(axis=1))[int(0.25 * frames) : int(0.5 * frames)]
    floor = lowest.mean()
    cleaned = joints.copy()
    cleaned[..., 1] -= 0.0 if floor > HIGHEST_FLOOR else floor
    for foot, fixed in zip(FEET, planted.T):
        cleaned[:, foot] = _blended(_pinned(cleaned[:, foot], fixed), fixed)
    return cleaned


def _pinned(path: np.ndarray, fixed: np.ndarray) -> np.ndarray:
    """Path (T, 3) with the mean of every run of fixed frames in its place, at height 0."""
    starts = fixed & ~np.concatenate([[False], fixed[:-1]])
    run = np.cumsum(starts)[fixed] - 1  # of each fixed frame
    pinned = path.copy()
    if len(run):
        sums = np.stack([np.bincount(run, path[fixed, axis]) for axis in range(3)], axis=-1)
        means = sums / np.bincount(run)[:, None] * [1.0, 0.0, 1.0]
        pinned[fixed] = means[run]
    return pinned


def _blended(path: np.ndarray, fixed: np.ndarray) -> np.ndarray:
    """Path (T, 3) drawn to the nearest fixed frame before and after, where within BLEND frames."""
    frames = np.arange(len(path))
    before = np.maximum.accumulate(np.where(fixed, frames, -len(path)))
    after = np.minimum.accumulate(np.where(fixed, frames, 2 * len(path))[::-1])[::-1]
    left, right = frames - before, after - frames
    near_left, near_right = (~fixed & (gap <= BLEND) for gap in (left, right))

    def drawn(near: np.ndarray, gap: np.ndarray, to: np.ndarray) -> np.ndarray:
        weight = _ease((gap + 1) / (BLEND + 1))[:, None]
        return np.where(near[:, None], (1 - weight) * path + weight * path[np.where(near, to, 0)], path)

    from_left, from_right = drawn(near_left, left, before), drawn(near_right, right, after)
    share = _ease((left + 1) / (after - before + 1))[:, None]
    both = (1 - share) * from_right + share * from_left
    return np.where((near_left & near_right)[:, None], both, np.where(near_left[:, None], from_left, from_right))


def _ease(t: np.ndarray) -> np.ndarray:
    """1 at 0, 0 at 1, level at both."""
    return 2 * t**3 - 3 * t**2 + 1


def _swept(root: np.ndarray, targets: np.ndarray, iterations: int) -> tuple[np.ndarray, np.ndarray]:
    """Local rotations (T, J, 4) and places (T, J, 3) after so many sweeps over the joints, parents first, all frames at once.

    A sweep turns each joint so that its children, seen from where it is, lie as the targets do; several children are heeded by
    the mean of the logarithms. Joints come before their children, so one pass places and turns each. What the original divides
    by is a little too large (GUARD), so that a joint which is right already is turned too far, about an axis that rounding and
    the turns before decide: arithmetic follows the original's, order of terms and detour over matrices included.
    """
    body = template()
    wanted = targets.transpose(1, 0, 2)  # (J, T, 3)
    count, frames = len(body.parents), len(root)
    children = [[j for j, parent in enumerate(body.parents) if parent == joint] for joint in range(count)]
    local = np.zeros((count, frames, 4))
    local[..., 0] = 1.0
    here, world = np.zeros((2, count, frames, 4, 4))  # against the parent, and in the world
    here[..., :3, :3], here[..., :3, 3], here[..., 3, 3] = np.eye(3), np.array(body.offsets)[:, None], 1.0
    here[0, :, :3, 3] = root
    for sweep in range(iterations + 1):  # the last one only places
        for joint, own in enumerate(children):
            world[joint] = here[joint] if joint == 0 else world[body.parents[joint]] @ here[joint]
            if not own or sweep == iterations:
                continue
            place = world[joint, :, None, :3, 3]  # (T, 1, 3)
            reached = np.stack([(world[joint] @ here[child])[:, :3, 3] for child in own], axis=1)  # (T, C, 3)
            turn = _mean_turn(reached - place, wanted[own].transpose(1, 0, 2) - place, _quaternion(world[joint]))
            local[joint] = _product(local[joint], turn)
            here[joint, :, :3, :3] = _matrix(local[joint])
            world[joint] = here[joint] if joint == 0 else world[body.parents[joint]] @ here[joint]
    return local.transpose(1, 0, 2), world[..., :3, 3].transpose(1, 0, 2)


def _mean_turn(before: np.ndarray, after: np.ndarray, turned: np.ndarray) -> np.ndarray:
    """Quaternion (T, 4) of the turns that lead vectors (T, C, 3) to others, the mean of C; seen from what is turned (T, 4)."""
    before, after = before / (_length(before) + GUARD), after / (_length(after) + GUARD)
    angle = np.arccos((before * after).sum(-1).clip(-1, 1))[..., None]  # (T, C, 1)
    axis = _product(_conjugate(turned)[:, None], _product(_pure(np.cross(before, after)), turned[:, None]))[..., 1:]
    axis = axis / (_length(axis) + GUARD)
    turns = np.concatenate([np.cos(angle / 2), axis * np.sin(angle / 2)], axis=-1)  # (T, C, 4)
    if turns.shape[1] == 1:
        return turns[:, 0]
    turns = turns / _length(turns)
    imaginary = turns[..., 1:]
    length = _length(imaginary)
    logarithm = (imaginary * (np.arctan2(length, turns[..., :1]) / (length + GUARD))).mean(axis=1)  # (T, 3)
    half = np.maximum(_length(logarithm), 1e-300)
    mean = np.concatenate([np.cos(half), logarithm * (np.sin(half) / half)], axis=-1)
    return mean / _length(mean)


def _length(vectors: np.ndarray) -> np.ndarray:
    return np.sqrt((vectors**2).sum(-1, keepdims=True))


def _pure(vectors: np.ndarray) -> np.ndarray:
    return np.concatenate([np.zeros_like(vectors[..., :1]), vectors], axis=-1)


def _conjugate(q: np.ndarray) -> np.ndarray:
    return q * [1.0, -1.0, -1.0, -1.0]


def _product(q: np.ndarray, r: np.ndarray) -> np.ndarray:
    """Hamilton product (..., 4): first r, then q."""
    (a, b, c, d), (w, x, y, z) = np.moveaxis(q, -1, 0), np.moveaxis(r, -1, 0)
    return np.stack([w * a - x * b - y * c - z * d, w * b + x * a - y * d + z * c,
                     w * c + x * d + y * a - z * b, w * d - x * c + y * b + z * a], axis=-1)  # fmt: skip


def _matrix(q: np.ndarray) -> np.ndarray:
    """Rotation matrices (T, 3, 3) of quaternions (T, 4)."""
    w, x, y, z = q.T
    x2, y2, z2 = x + x, y + y, z + z
    rows = (1 - (y * y2 + z * z2), x * y2 - w * z2, x * z2 + w * y2,
            x * y2 + w * z2, 1 - (x * x2 + z * z2), y * z2 - w * x2,
            x * z2 - w * y2, y * z2 + w * x2, 1 - (x * x2 + y * y2))  # fmt: skip
    return np.stack(rows, axis=-1).reshape(-1, 3, 3)


def _quaternion(matrix: np.ndarray) -> np.ndarray:
    """Quaternions (T, 4) of matrices (T, >= 3, >= 3): sizes by the diagonal, signs against the largest."""
    m = matrix
    xx, yy, zz = m[:, 0, 0], m[:, 1, 1], m[:, 2, 2]
    squares = np.stack([xx + yy + zz + 1, xx - yy - zz + 1, -xx + yy - zz + 1, -xx - yy + zz + 1], axis=-1) / 4
    sizes = np.sqrt(squares.clip(0, None))
    wx, wy, wz = m[:, 2, 1] - m[:, 1, 2], m[:, 0, 2] - m[:, 2, 0], m[:, 1, 0] - m[:, 0, 1]
    xy, xz, yz = m[:, 1, 0] + m[:, 0, 1], m[:, 0, 2] + m[:, 2, 0], m[:, 2, 1] + m[:, 1, 2]
    one = np.ones_like(xx)
    rows = np.stack([np.stack(row, axis=-1) for row in ((one, wx, wy, wz), (wx, one, xy, xz), (wy, xy, one, yz),
                                                        (wz, xz, yz, one))])  # (4, T, 4)  # fmt: skip
    return sizes * np.sign(rows[sizes.argmax(-1), np.arange(len(m))])


def _euler_zyx(rotations: np.ndarray) -> np.ndarray:
    """Degrees (T, J, 3) z, y, x of quaternions (T, J, 4): R = Rz Ry Rx."""
    w, x, y, z = np.moveaxis(rotations, -1, 0)
    about_x = np.arctan2(2 * (w * x + y * z), 1 - 2 * (x * x + y * y))
    about_y = np.arcsin((2 * (w * y - z * x)).clip(-1, 1))
    about_z = np.arctan2(2 * (w * z + x * y), 1 - 2 * (y * y + z * z))
    return np.rad2deg(np.stack([about_z, about_y, about_x], axis=-1))
