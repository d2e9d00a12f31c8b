"""Motions that go round: seamless cycles for games and walks, and motions in place.

A cycle closes where the body stands and faces: when the next round begins there, no joint jumps and none changes its speed. The
way over the floor goes on from round to round, unless it comes back to nearly where it began: then it comes back to there.
"""

from dataclasses import replace

import numpy as np

from data_loaders.corpus import Motion
from data_loaders.skeleton import Skeleton, load_skeleton
from visualize.body import facing
from visualize.joining import blended, turned_about
from visualize.rigs import ON_THE_FLOOR

FADE = 0.3  # seconds in which the end passes over into the beginning
SHORTEST = 0.5  # of a clip that a cycle has at least
SPEED = 0.2  # seconds: how much a difference of speed counts in the choice of an end beside one of place
HOME = 0.4  # metres from where it began: a cycle that ends nearer ends there
SMALLEST = 4  # frames to pass over in, else a motion is left as it is


def in_place(motion: Motion) -> Motion:
    """The motion with the pelvis, of several persons the middle of theirs, always over the point of the floor where it begins."""
    middle = motion.joints[:, :, 0].mean(axis=0, dtype=np.float64)  # (T, 3)
    moved = motion.joints - ((middle - middle[0]) * ON_THE_FLOOR)[:, None]
    return replace(motion, joints=moved.astype(motion.joints.dtype), rotations=None)


def cycle(motion: Motion, home: bool = False) -> Motion:
    """The motion as a cycle: it ends where that goes on best as it began, and its first 0.3 s are passed over to from what came
    after. A clip too short for that is left as it is. home: it ends where and as it began to face, whatever its way."""
    skeleton, frames = load_skeleton(motion.skeleton), motion.joints.shape[1]
    fade = min(round(FADE * motion.fps), frames // 4)
    if fade < SMALLEST:
        return motion
    people = np.asarray(motion.joints, np.float64)
    own = _about_itself(people, skeleton)
    end = _best_end(own, fade, motion.fps)
    begins = people[:, : fade + 1]
    follows = _moved(people[:, end : end + fade + 1], people[:, end], people[:, 0], skeleton)
    share = 1 - np.arange(fade + 1) / (fade + 1)
    share = share * share * (3 - 2 * share)  # no share changes at either end, so that no speed does
    started = np.stack([blended(first, other, share, skeleton) for first, other in zip(begins, follows)])
    made = np.concatenate([started, people[:, fade + 1 : end + 1]], axis=1)  # the last frame is the first of the next round
    where, back = _stands(made[:, -1:], skeleton), _stands(made[:, :1], skeleton)
    if home or np.linalg.norm(where[0] - back[0]) < HOME:
        made = _led_home(made, skeleton)
    return replace(motion, joints=made[:, :-1].astype(motion.joints.dtype), rotations=None)


def _stands(people: np.ndarray, skeleton: Skeleton) -> tuple[np.ndarray, np.ndarray]:
    """Where on the floor people (P, T, J, 3) are (T, 3), and where they face (T,), in radians about Y from +Z; several together
    face nowhere."""
    middle = people[:, :, 0].mean(axis=0) * ON_THE_FLOOR
    if len(people) > 1:
        return middle, np.zeros(len(middle))
    ahead = facing(people[0], skeleton.face_joints)
    return middle, np.arctan2(ahead[:, 0], ahead[:, 1])


def _about_itself(people: np.ndarray, skeleton: Skeleton) -> np.ndarray:
    """People (P, T, J, 3) as seen from where they stand and face."""
    middle, angles = _stands(people, skeleton)
    return np.stack([turned_about(person - middle[:, None], -angles) for person in people])


def _moved(people: np.ndarray, start: np.ndarray, there: np.ndarray, skeleton: Skeleton) -> np.ndarray:
    """People (P, T, J, 3) moved over the floor as poses `start` (P, J, 3) would have to be to stand and face as those `there`."""
    (place, angle), (wanted, faced) = (_stands(poses[:, None], skeleton) for poses in (start, there))
    turn = float(faced[0] - angle[0])
    return np.stack([turned_about(person - place[:, None], turn) + wanted[:, None] for person in people])


def _best_end(own: np.ndarray, fade: int, fps: float) -> int:
    """The frame in the later part of people about themselves (P, T, J, 3) that is most like the first, in place and speed of all
    joints, with `fade` frames after it."""
    frames = own.shape[1]
    speeds = np.diff(own, axis=1) * fps
    ends = np.arange(max(int(SHORTEST * frames), fade + 1), frames - fade)
    apart = np.linalg.norm(own[:, ends] - own[:, :1], axis=-1).mean(axis=(0, 2))
    apart += SPEED * np.linalg.norm(speeds[:, ends] - speeds[:, :1], axis=-1).mean(axis=(0, 2))
    return int(ends[apart.argmin()])


def _led_home(people: np.ndarray, skeleton: Skeleton) -> np.ndarray:
    """People (P, T, J, 3) turned and moved more and more, so that the last frame stands and faces as the first."""
    middle, angles = _stands(people, skeleton)
    share = np.arange(len(middle)) / (len(middle) - 1)
    turn = -share * ((angles[-1] - angles[0] + np.pi) % (2 * np.pi) - np.pi)
    turned = np.stack([turned_about(person - middle[:, None], turn) for person in people])
    steps = turned_about(np.diff(middle, axis=0)[:, None], turn[1:])[:, 0]
    way = np.concatenate([middle[:1], middle[:1] + np.cumsum(steps, axis=0)])
    way -= share[:, None] * (way[-1] - way[0])
    return turned + way[:, None]
