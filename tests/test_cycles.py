"""Cycles close without a jump of any joint or its speed, wherever the body then stands and faces; in place nobody travels."""

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from data_loaders.corpus import Motion
from data_loaders.skeleton import load_skeleton
from tests.acted_motions import HUMANML, bowing, running, walking
from tests.synthetic import raise_hand, synthetic_clip, walk_in_a_curve
from tests.turned_motions import facing
from visualize.body import facing as ahead_of
from visualize.cycles import HOME, cycle, in_place
from visualize.formats import FileSettings
from visualize.joining import turned_about
from visualize.writing import ready

FPS = 20.0
ON_THE_FLOOR = np.array([1.0, 0.0, 1.0])
MOTIONS = {
    "walk": walking(num_frames=75), "curve": walk_in_a_curve(90), "tight_curve": walk_in_a_curve(90, turn=2.5), "run": running(),
    "bow": bowing(), "hand": raise_hand(80)[:55], "odd": synthetic_clip(100, HUMANML, 3),
    "away": facing(walking(num_frames=75), 180),
}  # fmt: skip


def goes_on(joints: np.ndarray, start: np.ndarray, end: np.ndarray) -> np.ndarray:
    """A second round (T, J, 3) that begins where and as the pose `end` (J, 3) stands and faces, instead of `start`."""
    angles = [np.arctan2(*ahead_of(pose, HUMANML.face_joints)) for pose in (start, end)]
    turned = turned_about(joints - start[0] * ON_THE_FLOOR, float(angles[1] - angles[0]))
    return turned + end[0] * ON_THE_FLOOR


def jumps(joints: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The furthest that a joint moves from each frame to the next, and that its step changes."""
    steps = np.diff(joints, axis=0)
    return np.linalg.norm(steps, axis=-1).max(-1), np.linalg.norm(np.diff(steps, axis=0), axis=-1).max(-1)


@pytest.mark.parametrize("name", MOTIONS)
def test_a_cycle_in_place_plays_round_and_round(name):
    made = ready(Motion(MOTIONS[name][None].astype(np.float32), FPS), FileSettings(loop=True, in_place=True)).joints[0]
    assert len(MOTIONS[name]) / 2 <= len(made) < len(MOTIONS[name])
    np.testing.assert_allclose(made[:, 0, [0, 2]], np.broadcast_to(made[0, 0, [0, 2]], (len(made), 2)), atol=1e-5)
    moved, changed = jumps(np.concatenate([made, made]))
    seam = len(made) - 1
    assert moved[seam] <= 1.05 * moved[:seam].max() + 1e-3
    assert changed[seam - 1 : seam + 1].max() <= 1.05 * changed[: seam - 1].max() + 1e-3


@pytest.mark.parametrize("name", MOTIONS)
def test_a_cycle_goes_on_where_it_ends(name):
    motion = MOTIONS[name]
    made = cycle(Motion(motion[None].astype(np.float32), FPS)).joints[0].astype(np.float64)
    # the next round begins where the frame after the last would be: a step like the last but one before it
    last = np.concatenate([made[-1:], made[:1]])
    apart = np.linalg.norm((last[1] - last[0])[0] * ON_THE_FLOOR)
    if apart < HOME / 2:  # it comes back: the seam is in the world
        moved, changed = jumps(np.concatenate([made, made]))
    else:
        step = made[-1, 0] - made[-2, 0]
        next_place = made[-1].copy()
        next_place += step * ON_THE_FLOOR
        moved, changed = jumps(np.concatenate([made, goes_on(made, made[0], next_place)]))
    seam = len(made) - 1
    assert moved[seam] <= 1.05 * moved[:seam].max() + 0.02
    assert changed[seam - 1 : seam + 1].max() <= 1.05 * changed[: seam - 1].max() + 0.03


def test_a_clip_that_is_cut_anywhere_is_no_cycle():
    """What the tests above look for is there where nothing is done about it."""
    for name in ("walk", "hand", "odd"):
        cut = in_place(Motion(MOTIONS[name][None].astype(np.float32), FPS)).joints[0]
        moved, _ = jumps(np.concatenate([cut, cut]))
        assert moved[len(cut) - 1] > 1.3 * moved[: len(cut) - 1].max(), name


def test_bones_keep_their_lengths_and_what_is_not_passed_over_stays():
    walk = walk_in_a_curve(90).astype(np.float64)
    made = cycle(Motion(walk[None], FPS)).joints[0]
    parents = list(HUMANML.parents[1:])
    lengths = np.linalg.norm(made[:, 1:] - made[:, parents], axis=-1)
    np.testing.assert_allclose(lengths, np.broadcast_to(lengths[-1], lengths.shape), atol=1e-6)
    np.testing.assert_array_equal(made[10:], walk[10 : len(made)])


def test_in_place_takes_the_way_and_leaves_the_poses():
    walk = walking()
    made = in_place(Motion(walk[None], FPS)).joints[0]
    np.testing.assert_allclose(made[:, 0] * ON_THE_FLOOR, np.broadcast_to(walk[0, 0] * ON_THE_FLOOR, (len(walk), 3)), atol=1e-9)
    np.testing.assert_allclose(made - made[:, :1], walk - walk[:, :1], atol=1e-9)
    np.testing.assert_array_equal(made[..., 1], walk[..., 1])


def test_two_people_stay_about_each_other():
    pair = np.stack([walking(), walking() + [0.5, 0.0, 1.0 - 0.0]])
    pair[1, :, :, 2] += np.linspace(0, 0.3, pair.shape[1])[:, None]
    made = in_place(Motion(pair, FPS)).joints
    np.testing.assert_allclose(made[1] - made[0], pair[1] - pair[0], atol=1e-9)
    middle = made[:, :, 0].mean(axis=0)[:, [0, 2]]
    np.testing.assert_allclose(middle, np.broadcast_to(middle[0], middle.shape), atol=1e-9)
    round_ = ready(Motion(pair, FPS), FileSettings(loop=True, in_place=True)).joints
    moved, _ = jumps(np.concatenate([round_, round_], axis=1).transpose(1, 0, 2, 3).reshape(2 * round_.shape[1], -1, 3))
    assert moved[round_.shape[1] - 1] <= 1.05 * np.delete(moved, round_.shape[1] - 1).max() + 1e-3


def test_any_frame_rate_lasts_as_long_and_a_short_clip_is_no_cycle():
    walk = walk_in_a_curve(61)
    for fps in (12.5, 30.0, 60.0):
        made = ready(Motion(walk[None], FPS), FileSettings(fps=fps))
        assert made.fps == fps and made.joints.shape[1] == int(60 / FPS * fps + 1e-6) + 1
    short = Motion(walk[None, :10], FPS)
    assert cycle(short) is short


def test_kit_goes_round_too():
    skeleton = load_skeleton("kit")
    clip = np.repeat(0.2 * Rotation.from_euler("y", 20, degrees=True).apply(np.array(skeleton.t_pose))[None], 60, axis=0)
    for joint, parent in enumerate(skeleton.parents[1:], start=1):
        clip[:, joint] += clip[:, parent]
    clip[:, :, 1] += 0.1 * np.sin(np.arange(60) / 7)[:, None]
    made = cycle(Motion(clip[None], FPS, "kit")).joints[0]
    moved, _ = jumps(np.concatenate([made, made]))
    assert moved[len(made) - 1] <= 1.05 * moved.max()
