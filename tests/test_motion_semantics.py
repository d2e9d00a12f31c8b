"""What is read from joints: quantised values of a frame, windows of them, atomic actions."""

from math import pi

import numpy as np
import pytest
import torch

from data_loaders import atomic_actions
from data_loaders.atomic_actions import fit_codebook, soft_assignment, window_features
from data_loaders.motion_semantics import (
    KINDS,
    PUBLISHED,
    Scheme,
    body_axes,
    changes,
    descriptors,
    levels,
    normalised,
    semantics,
)
from tests.pairs import turned
from tests.synthetic import raise_hand, standing, synthetic_clip, walk, walk_in_a_curve

FPS = 30.0


def value(joints: np.ndarray, name: str) -> np.ndarray:
    """(T,) of one of the 165, in its unit."""
    values = torch.cat(list(descriptors(joints, FPS).values()), dim=-1)
    return values[:, PUBLISHED.names.index(name)].numpy()


def test_there_are_165_values_of_six_kinds_in_the_order_of_the_paper():
    found = descriptors(walk(5, fps=FPS), FPS)
    assert tuple(found) == KINDS and [each.shape[-1] for each in found.values()] == [63, 36, 12, 9, 27, 18]
    assert len(PUBLISHED.names) == PUBLISHED.width == 165 == len(set(PUBLISHED.names))
    assert [name.split()[0] for name in PUBLISHED.names] == [kind for kind in KINDS for _ in range(PUBLISHED.counts[kind])]


def test_values_are_those_of_a_standing_person():
    still = np.repeat(standing()[None], 3, axis=0)
    assert value(still, "QPT head up")[0] == pytest.approx(standing()[15, 1] - standing()[0, 1])
    assert value(still, "QPT left_wrist right")[0] < 0 < value(still, "QPT right_wrist right")[0]
    assert value(still, "QPDT left_wrist right_wrist")[0] == pytest.approx(np.linalg.norm(standing()[20] - standing()[21]))
    assert value(still, "QLAT left_elbow")[0] == pytest.approx(0, abs=1e-3)
    assert value(still, "QLOT left_shoulder left_elbow up")[0] == pytest.approx(pi, abs=1e-3)  # it hangs down
    assert value(still, "QLOT pelvis neck right")[0] == pytest.approx(pi / 2, abs=0.05)
    assert not descriptors(still, FPS)["QJVT"].any()


def test_velocity_is_along_the_way_the_body_faces_and_the_first_frame_takes_the_step_of_the_second():
    walking = turned(walk(40, 1.2, FPS), 130, 2, 1)
    np.testing.assert_allclose(value(walking, "QJVT pelvis forward"), 1.2, atol=1e-6)
    np.testing.assert_allclose(value(walking, "QJVT pelvis right"), 0, atol=1e-6)
    curve = walk_in_a_curve(20).astype(np.float64)
    moving, step = descriptors(curve, FPS)["QJVT"].numpy(), (curve[1, 0] - curve[0, 0]) * FPS
    for frame in (0, 1):
        np.testing.assert_allclose(moving[frame, :3], body_axes(curve)[frame].numpy() @ step, atol=1e-9)


def test_neither_place_nor_heading_matter_nor_with_whom_a_clip_is_read():
    clips = [synthetic_clip(30, PUBLISHED.body, seed) for seed in (1, 2)]
    own = levels(clips[0].astype(np.float64), FPS)
    moved = levels(turned(clips[0].astype(np.float64), 77, 5, -3), FPS)
    assert (own - moved).abs().max() <= 1 and (own != moved).float().mean() < 1e-3  # rounding at an edge
    both = semantics(torch.from_numpy(np.stack(clips)), FPS)
    assert both.shape == (2, 30, 165) and torch.equal(both[1], semantics(clips[1], FPS))


def test_frames_that_do_not_tell_where_the_body_faces_keep_the_axes_before_them():
    joints = turned(np.repeat(standing()[None], 6, axis=0), 40, 0, 0)
    joints[[0, 1, 4]] = joints[[0, 1, 4], :1]  # all in one point
    right = body_axes(joints)[:, 0].numpy()
    np.testing.assert_allclose(right[[0, 1]], [[-1, 0, 0]] * 2)
    expected = turned(np.array([-1.0, 0, 0]), 40, 0, 0)
    np.testing.assert_allclose(right[2:], np.repeat(expected[None], 4, axis=0), atol=1e-9)
    axes = body_axes(joints).numpy()
    np.testing.assert_allclose(np.cross(axes[:, 1], axes[:, 0]), axes[:, 2], atol=1e-12)  # forward = up x right


def test_levels_divide_the_range_and_what_lies_beyond_has_the_last():
    high = np.repeat(standing()[None], 2, axis=0)
    high[:, 20] += [0, 40, 0]  # a wrist 40 m up
    for count in (2, 8, 512):
        found = levels(high, FPS, Scheme(levels=count))
        assert found.min() >= 0 and found.max() == count - 1
        assert found[0, PUBLISHED.names.index("QPT left_wrist up")] == count - 1
        middle = normalised(torch.arange(count), count)
        np.testing.assert_allclose(middle.numpy(), (2 * np.arange(count) + 1) / count - 1, rtol=1e-6)


def test_changes_are_between_frames_and_none_in_the_first():
    found = levels(walk(20, fps=FPS), FPS)
    assert torch.equal(changes(found)[1:], found.diff(dim=0)) and not changes(found)[0].any()


def test_a_single_frame_stands_still_and_other_joints_are_refused():
    assert not descriptors(standing()[None], FPS)["QJVT"].any()
    for wrong in (standing(), np.zeros((5, 21, 3)), np.zeros((0, 22, 3))):
        with pytest.raises(ValueError, match=r"expected|humanml has \(\.\.\., frames, 22, 3\)"):
            levels(wrong, FPS)


# ---------------------------------------------------------------------------------------------------------------- atomic actions


def windows_by_hand(s: np.ndarray, before: int, after: int) -> np.ndarray:
    rows = []
    for t in range(len(s)):
        window = s[max(t - before, 0) : t + after + 1]
        rows.append(np.concatenate([window.mean(0), window[-1] - window[0]]))
    return np.stack(rows)


def test_windows_are_those_about_a_frame_as_far_as_the_clip_goes():
    s = semantics(walk_in_a_curve(40).astype(np.float64), FPS)
    np.testing.assert_allclose(window_features(s).numpy(), windows_by_hand(s.numpy(), 8, 7), atol=1e-9)
    np.testing.assert_allclose(window_features(s, causal=True).numpy(), windows_by_hand(s.numpy(), 15, 0), atol=1e-9)


def test_a_causal_window_reads_no_later_frame():
    s = semantics(walk_in_a_curve(40), FPS)
    other = s.clone()
    other[25:] = 7.0
    for causal, same in ((True, 25), (False, 18)):  # a window about frame 17 ends at 24
        found = [(window_features(each, causal)[:same], window_features(each, causal)[same]) for each in (s, other)]
        assert torch.equal(found[0][0], found[1][0]) and not torch.equal(found[0][1], found[1][1])


def test_padding_does_not_reach_the_windows_of_a_clip():
    clips = [semantics(walk(frames, fps=FPS), FPS).float() for frames in (40, 23)]
    batch = torch.zeros(2, 40, 165)
    for row, clip in zip(batch, clips):
        row[: len(clip)] = clip
    found = window_features(batch, lengths=torch.tensor([40, 23]))
    for row, clip in zip(found, clips):
        torch.testing.assert_close(row[: len(clip)], window_features(clip))
    assert found.isfinite().all()


@pytest.fixture(scope="module")
def windows() -> torch.Tensor:
    clips = [walk(60, fps=FPS), raise_hand(60, "left"), raise_hand(60, "right"), walk_in_a_curve(60)]
    return torch.cat([window_features(semantics(clip, FPS)) for clip in clips]).float()


def test_atomic_actions_tell_motions_apart_and_a_seed_repeats_them(windows):
    actions = fit_codebook(windows, 8, seed=1)
    assert actions.codebook.shape == (8, 330) and actions.mean.shape == actions.std.shape == (330,)
    vectors = soft_assignment(windows, actions)
    torch.testing.assert_close(vectors.sum(-1), torch.ones(len(windows)))
    strongest = vectors.argmax(-1)
    assert not {*strongest[70:110].tolist()} & {*strongest[130:170].tolist()}  # left arm, right arm
    assert all(torch.equal(a, b) for a, b in zip(actions, fit_codebook(windows, 8, seed=1)))


def test_assignments_are_the_formula(windows):
    actions = fit_codebook(windows, 5)
    rows = ((windows - actions.mean) / actions.std).double().numpy()
    squares = ((rows[:, None] - actions.codebook.double().numpy()) ** 2).sum(-1)
    assert actions.sigma2.item() == pytest.approx(squares.min(1).mean(), rel=1e-4)
    weights = np.exp(-squares / (2 * actions.sigma2.item()))
    np.testing.assert_allclose(soft_assignment(windows, actions).numpy(), weights / weights.sum(1, keepdims=True), atol=1e-4)


def test_of_few_windows_there_are_as_many_actions_and_it_is_said(windows, caplog):
    few = torch.cat([windows[:3], windows[:3]])
    actions = fit_codebook(few, 128)
    assert len(actions.codebook) == 3 and "3 different windows" in caplog.text
    found = soft_assignment(few, actions)
    assert found.isfinite().all() and found[:3].argmax(-1).unique().numel() == 3
    with pytest.raises(ValueError, match="one or more rows of finite features"):
        fit_codebook(few * torch.nan)
    assert atomic_actions.NUM_ACTIONS == 128
