"""What is done to joints that a model has made: jitter is filtered out, planted feet are held; of long motions bit by bit."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from itertools import chain, pairwise

import numpy as np

from data_loaders.corpus import Motion
from data_loaders.kinematics import low_passed
from data_loaders.motion_checks import bone_vectors
from data_loaders.skeleton import load_skeleton
from model.capabilities import AS_MADE, Cleanup
from visualize.foot_lock import lock_feet
from visualize.joining import built
from visualize.two_bones import unit

MARGIN = 2.0  # seconds of what lies beside a stretch that it is cleaned with
FADE = 0.5  # seconds on either side of where two stretches meet, in which the one passes over into the other


def cleaned(motion: Motion, cleanup: Cleanup) -> Motion:
    """The motion without jitter and with its planted feet held, as far as that is asked for; then without rotations, which it had
    for other joints."""
    if cleanup == AS_MADE:
        return motion
    if cleanup.jitter_filter:
        calm = [calmed(joints, motion.fps, motion.skeleton, cleanup.jitter_filter) for joints in motion.joints]
        motion = replace(motion, joints=np.stack(calm).astype(motion.joints.dtype), rotations=None)
    return lock_feet(motion) if cleanup.foot_lock else motion


def calmed(joints: np.ndarray, fps: float, skeleton: str, cutoff: float) -> np.ndarray:
    """Joints (T, J, 3) in which what is faster than `cutoff` Hz is gone from the way of the root and from how bones turn; their
    lengths are low-passed too, and not shortened where they turn fast."""
    body, joints = load_skeleton(skeleton), np.asarray(joints, np.float64)
    bones = bone_vectors(joints, body)
    lengths = low_passed(np.linalg.norm(bones, axis=-1, keepdims=True), fps, cutoff)
    return built(low_passed(joints[:, 0], fps, cutoff), lengths * unit(low_passed(bones, fps, cutoff)), body)


def cleaned_pieces(pieces: Iterable[np.ndarray], fps: float, skeleton: str, cleanup: Cleanup) -> Iterator[np.ndarray]:
    """The same of joints (n, J, 3) of a long motion that come piece by piece, of which two and what lies around are held."""
    if cleanup == AS_MADE:
        return iter(pieces)

    def clean(joints: np.ndarray) -> np.ndarray:
        return cleaned(Motion(joints[None], fps, skeleton), cleanup).joints[0]

    return in_stretches(pieces, clean, round(MARGIN * fps), round(FADE * fps))


def in_stretches(
    pieces: Iterable[np.ndarray], clean: Callable[[np.ndarray], np.ndarray], margin: int, fade: int
) -> Iterator[np.ndarray]:
    """Pieces (n, J, 3) made clean with `margin` frames of what lies before and after. Where two of them meet, `fade` frames on
    either side pass over from the one's to the other's."""
    left, open_end = None, None  # frames before the piece; what the one before made of the frames where they meet
    for piece, following in pairwise(chain(at_least(pieces, 2 * margin), [None])):
        parts = [part for part in (left, piece, None if following is None else following[:margin]) if part is not None]
        made = clean(np.concatenate(parts))
        start = 0 if left is None else len(left)
        stop = start + len(piece)
        if open_end is not None:
            share = (np.arange(1, 2 * fade + 1) / (2 * fade + 1))[:, None, None]
            made[start - fade : start + fade] = (1 - share) * open_end + share * made[start - fade : start + fade]
        open_end = made[stop - fade : stop + fade].copy()
        left = piece[-margin:]
        yield made[max(start - fade, 0) : stop if following is None else stop - fade]


def at_least(pieces: Iterable[np.ndarray], least: int) -> Iterator[np.ndarray]:
    """Pieces (n, ...) put together so that each, unless they all have fewer, has at least so many frames."""
    ready, gathered = None, []
    for piece in pieces:
        gathered.append(piece)
        if sum(map(len, gathered)) >= least:
            if ready is not None:
                yield ready
            ready, gathered = np.concatenate(gathered), []
    rest = [*([] if ready is None else [ready]), *gathered]
    if rest:
        yield np.concatenate(rest)
