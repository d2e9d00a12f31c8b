"""The metrics: known answers, invariances, and what they refuse."""

import numpy as np
import pytest
from scipy.linalg import sqrtm

from evaluations import metrics


def embeddings(count=96, channels=8, seed=0):
    return np.random.default_rng(seed).normal(size=(count, channels))


def test_texts_on_their_motions_rank_first_and_strangers_by_chance():
    motion = embeddings(6400)
    assert metrics.r_precision(motion, motion).tolist() == [1.0, 1.0, 1.0]
    assert metrics.matching_score(motion, motion) == 0.0
    found = metrics.r_precision(embeddings(6400, seed=1), motion)
    assert found == pytest.approx([1 / 32, 2 / 32, 3 / 32], abs=0.012)


def test_r_precision_looks_at_whole_pools_in_the_order_of_the_rows():
    motion, text = embeddings(40), embeddings(40, seed=1)
    assert metrics.r_precision(text, motion).tolist() == metrics.r_precision(text[:32], motion[:32]).tolist()
    with pytest.raises(ValueError, match="at least 32 motions, there are 31"):
        metrics.r_precision(text[:31], motion[:31])


def test_a_motion_equally_near_that_stands_before_comes_first():
    motion = np.zeros((4, 2))
    assert metrics.places_in_pools(np.zeros((4, 2)), motion, pool=4).tolist() == [0, 1, 2, 3]


def test_any_motion_of_the_right_label_counts_and_chance_is_what_strangers_reach():
    labels = np.arange(6400) % 16  # two of each in a pool
    motion = np.eye(16)[labels] + 0.01 * embeddings(6400, 16)
    found, chance = metrics.label_precision(motion, motion, labels)
    assert found == 1.0 and chance == pytest.approx(1 - 30 * 29 * 28 / (32 * 31 * 30))
    stranger, _ = metrics.label_precision(embeddings(6400, 16, 1), embeddings(6400, 16, 2), labels)
    assert stranger == pytest.approx(chance, abs=0.02)
    everything, certain = metrics.label_precision(embeddings(64, 16, 1), motion[:64], np.zeros(64))
    assert everything == certain == 1.0


def test_ranks_are_those_of_a_stable_sort():
    text, motion = (embeddings(64, 4, seed).round(0) for seed in (0, 1))  # rounding makes ties
    expected = []
    for start in (0, 32):
        gaps = ((text[start : start + 32, None] - motion[None, start : start + 32]) ** 2).sum(-1)
        expected += [list(np.argsort(row, kind="stable")).index(i) for i, row in enumerate(gaps)]
    assert metrics.places_in_pools(text, motion).tolist() == expected


def test_fid_of_a_set_with_itself_is_zero_and_a_shift_costs_its_square():
    a = embeddings(500)
    assert metrics.fid(a, a) == pytest.approx(0, abs=1e-9)
    assert metrics.fid(a, a + 3.0) == pytest.approx(9 * 8, rel=1e-9)
    assert metrics.fid(a, 2 * a) == pytest.approx(
        np.trace(np.cov(a, rowvar=False)) + (a.mean(0) ** 2).sum(), rel=1e-9)  # (2 - 1)² of spread and mean


@pytest.mark.parametrize("count", [300, 12], ids=["full rank", "fewer motions than channels"])
def test_fid_is_that_of_the_matrix_square_root(count):
    a, b = embeddings(count, 16), embeddings(count, 16, seed=1) @ np.diag(np.linspace(0.2, 2, 16))
    covariances = [np.cov(x, rowvar=False) for x in (a, b)]
    root = sqrtm(covariances[0] @ covariances[1]).real
    expected = ((a.mean(0) - b.mean(0)) ** 2).sum() + np.trace(covariances[0] + covariances[1] - 2 * root)
    assert metrics.fid(a, b) == pytest.approx(expected, rel=1e-5)
    assert metrics.fid(a, b) == pytest.approx(metrics.fid(b, a), rel=1e-9)
    assert metrics.fid(metrics.gaussian_of(a), b) == metrics.fid(a, b)


def test_diversity_takes_300_pairs_only_out_of_more_motions():
    rng = np.random.default_rng
    many, few = embeddings(400), embeddings(60)
    assert metrics.diversity(many, rng(0)) == metrics.diversity(many, rng(0), 300)
    assert metrics.diversity(few, rng(0)) == metrics.diversity(few, rng(0), 60)
    assert metrics.diversity(np.ones((50, 4)), rng(0)) == 0.0
    with pytest.raises(ValueError, match="300 different motions cannot be drawn out of 60"):
        metrics.diversity(few, rng(0), 300)


def test_multimodality_is_the_spread_within_a_text_not_between_texts():
    apart = np.broadcast_to(100.0 * np.arange(5)[:, None, None], (5, 30, 4))
    assert metrics.multimodality(apart, np.random.default_rng(0)) == 0.0
    spread = apart + embeddings(150, 4).reshape(5, 30, 4)
    assert 1.0 < metrics.multimodality(spread, np.random.default_rng(0)) < 4.0


def test_mpjpe_moves_roots_together_and_l1_does_not():
    a = np.random.default_rng(0).normal(size=(5, 22, 3))
    assert metrics.mpjpe(a, a + [1.0, 2.0, 3.0]) == pytest.approx(np.zeros(5), abs=1e-12)
    assert metrics.joint_l1(a, a + [1.0, 2.0, 3.0]) == pytest.approx(2.0)
    b = a.copy()
    b[:, 4] += [0, 0, 1.1]
    assert metrics.mpjpe(a, b) == pytest.approx(np.full(5, 1.1 / 22))


def test_an_interval_says_how_far_replications_agree():
    assert metrics.mean_interval([2.0] * 20) == (2.0, 0.0)
    assert str(metrics.mean_interval([1.0, 3.0])) == "2.000 ± 1.386"


@pytest.mark.parametrize("measure", [metrics.r_precision, metrics.matching_score, metrics.fid])
def test_nan_is_refused_instead_of_making_a_wrong_table(measure):
    good, bad = embeddings(64), embeddings(64)
    bad[3, 2] = np.nan
    with pytest.raises(ValueError, match="NaN"):
        measure(good, bad)
    with pytest.raises(ValueError, match="channels"):
        measure(good, embeddings(64, 7))
