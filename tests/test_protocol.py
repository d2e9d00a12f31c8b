"""Protocols: what passes draw, what replications repeat, and that reuse changes no number."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from data_loaders.features import Features, FeaturesMismatch, Statistics
from data_loaders.humanml import CaptionedMotion
from data_loaders.text import Caption
from evaluations import metrics
from evaluations.evaluation_set import EvaluationSet, SetEmbeddings
from evaluations.protocol import GENERATED, GIVEN, NOISE, PROTOCOLS, REAL, SHUFFLED, Entrants, Evaluation, evaluate, summary
from model.embedding import TextMotionSpace
from model.evaluator_config import EvaluatorConfig
from model.evaluator_words import MinilmWords
from model.evaluators import GuoEvaluator

FEATURES = Features("humanml", 20.0, "continuous")
SIZES = dict(movement_hidden=8, movement_latent=8, text_hidden=8, motion_hidden=8, embedding=8)


@pytest.fixture(scope="module")
def judge():
    torch.manual_seed(0)
    config = EvaluatorConfig(**SIZES, words="minilm", word_dim=384, pos_dim=0, features=Features(heading="continuous"))
    model = GuoEvaluator(config, Statistics(np.zeros(263), np.ones(263), FEATURES))
    model.read_through(MinilmWords())
    return TextMotionSpace(model)


@pytest.fixture(scope="module")
def data():
    draw = np.random.default_rng(0)
    entries = [
        CaptionedMotion(f"{i:03d}", draw.normal(size=(20 + i, 263)).astype(np.float32),
              tuple(Caption(f"a person does thing {i} for the {k}. time") for k in range(1 + i % 3)))
        for i in range(70)
    ]  # fmt: skip
    return EvaluationSet(entries, FEATURES)


def repeat_real(data):
    """A generator that plays back the first frames of the motion whose caption it is given."""
    by_text = {caption.text: entry.motion for entry in data.entries for caption in entry.captions}
    return lambda captions, lengths, seeds: [by_text[c.text][:n] for c, n in zip(captions, lengths)]


def test_a_pass_is_whole_pools_of_different_motions_cut_in_whole_units(data):
    drawn = data.draw(np.random.default_rng(0))
    assert len(drawn.entry) == 64 and len(set(drawn.entry)) == 64
    whole = data.lengths[drawn.entry] // 4 * 4
    assert set(np.unique(whole - drawn.length)) == {0, 4}
    assert (drawn.start >= 0).all() and (drawn.start + drawn.length <= data.lengths[drawn.entry]).all()
    many = [data.draw(np.random.default_rng(seed)) for seed in range(60)]
    shorter = np.mean([(data.lengths[each.entry] // 4 * 4 != each.length).mean() for each in many])
    assert shorter == pytest.approx(1 / 3, abs=0.02)


def test_lamp_takes_first_captions_in_the_order_of_the_set(data, judge):
    drawn = Evaluation(data, judge, PROTOCOLS["lamp"])._draw(data, np.random.default_rng(0))
    assert drawn.entry.tolist() == list(range(64)) and not drawn.caption.any()
    assert PROTOCOLS["lamp"].replications == 1


def test_too_few_motions_for_a_pool_are_said_to_be_too_few(data):
    with pytest.raises(ValueError, match="31 motions do not fill a pool of 32"):
        EvaluationSet(data.entries[:31], FEATURES).draw(np.random.default_rng(0))


def test_reuse_changes_no_number(data, judge):
    """Each replication alone, everything encoded anew in pools of 32, as published code does."""
    evaluation = Evaluation(data, judge, PROTOCOLS["t2m"], seed=3)
    together = [evaluation.replicate(k).rows[REAL] for k in range(3)]
    for k, figures in enumerate(together):
        alone = Evaluation(data, judge, PROTOCOLS["t2m"], seed=3)
        assert alone.replicate(k).rows[REAL] == pytest.approx(figures, rel=1e-4)
    drawn = data.draw(np.random.default_rng(5))
    pools = [
        judge.encode_motion([data.motion(*key) for key in list(zip(drawn.entry, drawn.start, drawn.length))[i : i + 32]])
        for i in (0, 32)
    ]
    np.testing.assert_allclose(SetEmbeddings(data, judge).motions(drawn), np.concatenate(pools), rtol=1e-4, atol=1e-6)


def test_what_was_drawn_before_is_not_encoded_again(data, judge):
    counted = []

    class Counting(TextMotionSpace):
        def encode_motion(self, motions):
            counted.append(len(motions))
            return super().encode_motion(motions)

    evaluation = Evaluation(data, Counting(judge.model), seed=0)
    for k in range(20):
        evaluation.replicate(k)
    assert sum(counted) < 20 * 2 * 64 / 3


def test_a_replication_follows_from_seed_and_number_alone(data, judge):
    a, b, c = (Evaluation(data, judge, seed=seed).replicate(7).rows[REAL] for seed in (1, 1, 2))
    assert a == b and a != c


def test_played_back_motion_is_judged_like_real_motion(data, judge):
    protocol = replace(PROTOCOLS["momask"], multimodality_repeats=12)
    found = Evaluation(data, judge, protocol).replicate(0, Entrants(repeat_real(data)))
    assert found.rows[REAL]["fid"] == pytest.approx(0, abs=1e-8)  # compared with itself
    generated = found.rows[GENERATED]
    assert generated["fid"] < 0.1 and generated["mm_dist"] == pytest.approx(found.rows[REAL]["mm_dist"], rel=0.05)
    assert generated["multimodality"] == pytest.approx(0, abs=1e-5)  # always the same motion
    assert "multimodality" not in found.rows[REAL]


def test_every_judged_motion_is_accounted_for(data, judge):
    found = Evaluation(data, judge, multimodality=False).replicate(0, Entrants(repeat_real(data)), keep=5)
    for row in (REAL, GENERATED):
        motions = [each for each in found.motions if each.row == row]
        assert len(motions) == 64 and len(found.kept[row]) == 5
        assert np.mean([each.place < 3 for each in motions]) == pytest.approx(found.rows[row]["top3"])
        assert np.mean([each.distance for each in motions]) == pytest.approx(found.rows[row]["mm_dist"])
    names = {entry.name: {c.text for c in entry.captions} for entry in data.entries}
    assert all(each.caption in names[each.clip] for each in found.motions)
    seeds = [each.seed for each in found.motions]
    assert set(seeds[:64]) == {None} and len(set(seeds[64:])) == 64


def test_given_motions_are_judged_whole_against_the_real_ones(data, judge):
    half = EvaluationSet(data.entries[:40], FEATURES, cropped=False)
    found = Evaluation(data, judge).replicate(0, Entrants(given=half))
    given = [each for each in found.motions if each.row == GIVEN]
    assert len(given) == 32 and list(found.rows) == [REAL, GIVEN]
    frames = {entry.name: len(entry.motion) // 4 * 4 for entry in half.entries}
    assert all(each.frames == frames[each.clip] for each in given)


def test_controls_are_told_from_real_motion(data, judge):
    """Even an untrained evaluator sees that noise is no motion; shuffled captions leave the motions what they are."""
    still = [np.cumsum(np.ones_like(entry.motion) * 0.01, axis=0) for entry in data.entries]
    calm = EvaluationSet([replace(e, motion=m) for e, m in zip(data.entries, still)], FEATURES)

    def noise(motions, rng):
        return [rng.standard_normal(motion.shape).astype(np.float32) * 9 for motion in motions]

    rows = Evaluation(calm, judge).replicate(0, Entrants(controls={NOISE: noise})).rows
    assert list(rows) == [REAL, SHUFFLED, NOISE]
    assert rows[NOISE]["fid"] > 10 * rows[REAL]["fid"] and rows[SHUFFLED]["fid"] == rows[REAL]["fid"]


def test_processes_that_share_the_generation_change_no_number(data, judge):
    def two(work, items):
        parts = [work(items[0::2]), work(items[1::2])]
        return [parts[i % 2][i // 2] for i in range(len(items))]

    alone, shared = (
        Evaluation(data, judge, replace(PROTOCOLS["momask"], multimodality_repeats=10), share=share)
        .replicate(1, Entrants(repeat_real(data))).rows[GENERATED]
        for share in (lambda work, items: work(items), two)
    )  # fmt: skip
    assert shared == pytest.approx(alone, rel=1e-5, abs=1e-6)


@pytest.mark.parametrize("name, texts, enough", [("t2m", 100, 64), ("mdm", 100, 64), ("t2mgpt", None, 64), ("momask", 96, 64)])
def test_protocols_differ_in_how_many_motions_they_ask_for(data, judge, name, texts, enough):
    asked = []

    def generate(captions, lengths, seeds):
        asked.extend(zip((c.text for c in captions), seeds))
        return repeat_real(data)(captions, lengths, seeds)

    protocol = replace(PROTOCOLS[name], multimodality_repeats=10)
    Evaluation(data, judge, protocol).replicate(0, Entrants(generate))
    several = min(texts or enough, enough)
    assert len(asked) == enough - several + 10 * several and len(set(asked)) == len(asked)
    asked.clear()
    Evaluation(data, judge, replace(protocol, enough=20), multimodality=False).replicate(0, Entrants(generate))
    assert len(asked) == 32  # the pool that reaches 20


def test_other_features_are_refused_before_anything_is_made(data, judge):
    other = EvaluationSet(data.entries, Features("humanml", 20.0, "published"))
    with pytest.raises(FeaturesMismatch, match="the real motions"):
        Evaluation(other, judge)
    with pytest.raises(ValueError, match="reads minilm words, not glove"):
        words = MinilmWords()
        words.name = "glove"
        judge.model.read_through(words)


def test_a_table_of_a_protocol_is_one_call(data, judge):
    rows = evaluate(repeat_real(data), data, judge, PROTOCOLS["lamp"])
    assert list(rows) == [REAL, GENERATED] and rows[REAL]["fid"].half_width == 0  # one replication, as published
    several = evaluate(None, data, judge, PROTOCOLS["t2m"], replications=3)
    assert list(several) == [REAL] and several[REAL]["diversity"].half_width > 0


def test_a_motion_that_is_not_finite_ends_an_evaluation_in_words(data, judge):
    def diverged(captions, lengths, seeds):
        return [np.full((n, 263), np.nan, np.float32) for n in lengths]

    with pytest.raises(ValueError, match="motion 0 holds NaN or infinite values"):
        evaluate(diverged, data, judge, PROTOCOLS["lamp"])


def test_one_caption_a_motion_is_enough(data, judge):
    single = EvaluationSet([replace(entry, captions=entry.captions[:1]) for entry in data.entries], FEATURES)
    assert 0 <= evaluate(None, single, judge, PROTOCOLS["t2m"], replications=1)[REAL]["top3"].mean <= 1


def test_a_summary_has_an_interval_per_metric():
    rows = [{"top1": 0.5, "fid": 1.0}, {"top1": 0.7, "fid": 1.0, "multimodality": 2.0}]
    found = summary(rows)
    assert list(found) == ["top1", "fid", "multimodality"]
    assert found["top1"].mean == pytest.approx(0.6) and found["fid"] == (1.0, 0.0) and found["multimodality"].mean == 2.0
    assert metrics.REPLICATIONS == PROTOCOLS["t2m"].replications == 20
