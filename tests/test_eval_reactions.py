"""Reactions judged beside recorded ones: segments of either order, answers that need no model, the report."""

import csv
import json
from dataclasses import replace

import numpy as np
import pytest
import torch

from data_loaders.corpus import Corpus
from data_loaders.features import Statistics
from evaluations.eval_interhuman import EvalInterhumanOptions
from evaluations.eval_interhuman import main as eval_interhuman
from evaluations.eval_interhuman import run as evaluate
from evaluations.interaction_measures import facing, pelvis_distance
from evaluations.interaction_set import interaction_set
from evaluations.metrics_report import published_rows
from evaluations.reaction_set import (
    MEAN_POSE,
    MIRROR,
    NEAREST,
    ORDERS,
    SHUFFLED,
    TrainingPairs,
    reaction_segments,
    reactions_of_others,
)
from evaluations.reactions import MADE, TRUTH, Reactions, answers_of, errors_of
from evaluations.report import read_report
from model.capabilities import Reacts, Request
from model.checkpoints import save_pretrained
from model.reaction import Reaction
from model.reaction_config import ReactionConfig
from protos.options import run_command
from tests.pairs import PAIR, pair_corpus
from tests.tiny_people import REACTION_SIZES, tiny_in2in, tiny_reaction

WIDTH = 262
ALL_ROWS = [TRUTH, MADE, SHUFFLED, MEAN_POSE, NEAREST, MIRROR]


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    return Corpus.open(pair_corpus(tmp_path_factory.mktemp("pairs") / "made_up", train=6, held_out=3))


@pytest.fixture(scope="module")
def data(corpus):
    return interaction_set(corpus)


@pytest.fixture(scope="module")
def segments(data):
    return reaction_segments(data, data.longest)


@pytest.fixture(scope="module")
def pairs(corpus, data):
    return TrainingPairs(corpus, data.floor)


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return tiny_reaction(tmp_path_factory.mktemp("models") / "reacts")


@pytest.fixture
def options(corpus, judge, tmp_path):
    def make(**changes):
        settings = {"task": "reaction", "dataset": str(corpus.folder), "evaluator": judge, "samples": 3, "device": "cpu",
                    "output_dir": tmp_path / "out", "sampling_steps": 2, "physics_clips": 2, **changes}  # fmt: skip
        return EvalInterhumanOptions(**settings)

    return make


# ----------------------------------------------------------------------------------------------------------------- what is asked


def test_either_person_acts_and_starts_at_the_origin_facing_z(segments, data):
    assert len(segments) == 2 * len(data) and [each.order for each in segments[:4]] == [0, 1, 0, 1]
    for first, second in zip(segments[::2], segments[1::2]):
        assert first.clip == second.clip and len(first) == len(second)
        for each in (first, second):
            start = each.joints[0, 0]
            assert np.abs(start[0, [0, 2]]).max() < 1e-5 and start[2, 0] < start[1, 0] and abs(start[2, 2] - start[1, 2]) < 1e-5
        np.testing.assert_allclose(pelvis_distance(first.joints), pelvis_distance(second.joints), atol=1e-4)
        assert np.abs(first.joints[1] - second.joints[1]).max() > 0.3  # other people


def test_the_recorded_reaction_has_no_error_and_one_moved_has_that_way(segments):
    segment = segments[3]
    assert errors_of(segment, segment.reaction) == (0, 0, 1)
    moved = segment.reaction.clone()
    moved[:, :66:3] += 0.2
    assert errors_of(segment, moved).mpjpe == pytest.approx(200, abs=0.01)
    assert errors_of(segment, moved[:20]).mpjpe == pytest.approx(200, abs=0.01)  # a shorter one over what it has


# ---------------------------------------------------------------------------------------------------- answers without a model


def test_reactions_of_others_are_never_ones_own_and_stand_as_they_did_to_their_actor(segments):
    made = reactions_of_others(segments, 4, np.random.default_rng(0))
    for own, answers in zip(segments, made):
        assert 1 <= len(answers) <= 4
        for answer in answers:
            sources = {each.clip for each in segments if each.order == own.order and len(each) >= len(answer)
                       and torch.equal(each.reaction[: len(answer)], answer)}  # fmt: skip
            assert sources - {own.clip} and len(answer) <= len(own)  # some people stand alike in several
    alone = [each for each in segments if each.clip == 0]
    assert reactions_of_others(alone, 4, np.random.default_rng(0)) == [[], []]


def test_the_mean_pose_stands_ahead_of_the_actor_and_faces_the_actor(segments, pairs):
    for segment in segments[:6]:
        joints = PAIR.joints(segment.answered(pairs.mean_pose(segment))).numpy()
        np.testing.assert_allclose(np.linalg.norm((joints[0] - joints[1])[:, 0, [0, 2]], axis=-1), pairs.distance, atol=1e-3)
        assert facing(joints, PAIR.fps).max() < 3
        lengths = np.linalg.norm(joints[1][:, 1:] - joints[1][:, :1], axis=-1)
        assert np.ptp(lengths, axis=0).max() < 1e-4  # one pose throughout
    assert 0.5 < pairs.distance < 3.5


def test_the_mirror_image_raises_the_other_hand_of_a_person_face_to_face(segments, pairs):
    segment = next(each for each in segments if "raise a hand" in each.text and each.order == 0)  # acts with the right one
    image = segment.reaction_joints(pairs.mirror(segment))
    lift = np.ptp(image[:, :, 1], axis=0)
    assert lift[20] > 0.5 and lift[21] < 0.01  # of its left hand
    np.testing.assert_allclose(image[:, 15, 2], pairs.distance - segment.joints[0, :, 15, 2], atol=1e-5)
    both = np.stack([segment.joints[0], image])
    assert facing(both, PAIR.fps).max() < 3


def test_the_nearest_training_action_of_a_training_segment_is_itself(corpus, pairs, data):
    train = interaction_set(corpus, "train")
    for segment in reaction_segments(train, 60)[:6]:
        made = pairs.nearest(segment)
        assert len(made) == len(segment) and errors_of(segment, made).mpjpe < 1


def test_the_nearest_training_segment_is_moved_along_with_the_actor(segments, pairs):
    segment = segments[5]
    made = segment.reaction_joints(pairs.nearest(segment))
    assert made.shape == segment.joints[1].shape
    apart = [np.linalg.norm(each[0, 0, [0, 2]]) for each in (made, segment.joints[1])]
    assert abs(apart[0] - apart[1]) < 1.5  # not where it was recorded


def test_a_training_split_that_is_shorter_answers_as_far_as_it_goes(corpus, data, pairs):
    long = np.concatenate([data.motion(0, 0, 60)] * 2)
    segment = replace(reaction_segments(data, 60)[0], rows=torch.from_numpy(long))
    assert len(pairs.nearest(segment)) == max(corpus.lengths[corpus.split("train")]) < 120


# ------------------------------------------------------------------------------------------------------------------ the command


def test_reactions_of_a_model_stand_beside_answers_that_need_none(options, model, tmp_path, capsys):
    found = evaluate(options(model_path=str(model)))
    assert list(found.rows) == ALL_ROWS and set(found.orders) == set(ORDERS) and found.segments == 3
    truth = found.rows[TRUTH]
    assert truth["mpjpe"] == truth["mpjve"] == (0, 0) and truth["contacts"] == (1, 0) and abs(truth["fid"].mean) < 1e-3
    made = found.rows[MADE]
    assert 0 < made["best_mpjpe"].mean < made["mpjpe"].mean and made["mpjpe"].half_width > 0 and made["multimodality"].mean > 0
    assert "best_mpjpe" not in found.rows[NEAREST] and "multimodality" not in truth
    assert found.rows[SHUFFLED]["mpjpe"].mean > 100
    assert set(found.beside) == set(ALL_ROWS) - {TRUTH, MADE}
    for row, gap in found.beside.items():
        assert gap.mean == pytest.approx(found.rows[row]["mpjpe"].mean - made["mpjpe"].mean, abs=1e-6)
    for name in ("mpjpe", "contacts"):  # both orders have as many segments
        each = [found.orders[order][MIRROR][name].mean for order in ORDERS]
        assert np.mean(each) == pytest.approx(found.rows[MIRROR][name].mean)
    assert found.alignment["chance"] == pytest.approx(1 / 3) and 0 <= found.alignment["share"] <= 1
    assert set(found.physics) == set(ALL_ROWS) and found.physics[MADE]["clips"] == 2
    assert found.physics[MEAN_POSE]["facing"] < 3
    text = (tmp_path / "out" / "report.md").read_text()
    assert capsys.readouterr().out.strip() in text and "Person 2 acts" in text and "Measured elsewhere" in text
    assert found.untouched == 6 and "holds of 6 of the 6 recorded ones" in text  # these people never touch
    assert "33.846" in text and "best of 3" in text
    lines = list(csv.DictReader((tmp_path / "out" / "motions.csv").open()))
    assert sum(line["row"] == MADE for line in lines) == 3 * 2 * 3 and sum(line["row"] == MIRROR for line in lines) == 6
    assert read_report(tmp_path / "out", Reactions, "evaluations.eval_interhuman").rows[MADE]["mpjpe"] == pytest.approx(
        made["mpjpe"])  # fmt: skip


def test_the_same_seed_gives_the_same_figures_and_recorded_reactions_need_no_model(options, model, tmp_path):
    first = evaluate(options(model_path=str(model), controls=False, samples=2))
    again = evaluate(options(model_path=str(model), controls=False, samples=2, output_dir=tmp_path / "again"))
    assert first.rows == again.rows and list(first.rows) == [TRUTH, MADE]
    real = evaluate(options(output_dir=tmp_path / "real"))
    assert list(real.rows) == [each for each in ALL_ROWS if each != MADE]
    assert real.alignment is None and not real.beside and real.rows[MIRROR]["mpjpe"].mean > 0


def test_without_a_judge_the_errors_are_told(options, tmp_path, monkeypatch, caplog):
    monkeypatch.setattr("evaluations.reactions.default_evaluator", lambda corpus: tmp_path / "none")
    found = evaluate(options(evaluator=None, samples=1))
    assert "no judge of two people" in caplog.text and found.evaluator is None
    assert set(found.rows[MIRROR]) == {"mpjpe", "mpjve", "contacts"} and found.rows[SHUFFLED]["mpjpe"].mean > 100


class Copies:
    """A model that answers with what the actor does a metre ahead, more so for another seed."""

    config = type("Config", (), {"own_guidance": None})()

    def react(self, requests: list[Request], decoding):
        made = [each.actor.clone() for each in requests]
        for each, request in zip(made, requests):
            assert request.text == "" and request.frames == len(each)
            each[:, 2:66:3] += 1 + (request.seed % 7) / 100
        return made

    def stream(self, actor, request, decoding):
        yield from actor

    def embed_reactions(self, actors, reactions):
        return torch.zeros(len(actors), 2), torch.zeros(len(actors), 2)


def test_a_model_is_asked_by_what_it_can_do_with_a_seed_for_each_sample(segments):
    assert isinstance(Copies(), Reacts)
    made = answers_of(Copies(), segments, 3, seed=0, progress=False)
    assert [len(each) for each in made] == [3] * len(segments)
    for segment, each in zip(segments, made):
        assert torch.allclose(each[0][:, :66:3], segment.actor[:, :66:3])
    seeds = {round(float(one[0, 2] - segment.actor[0, 2]), 2) for segment, each in zip(segments, made) for one in each}
    assert len(seeds) > 3


def test_published_rows_of_reactions_are_those_of_the_paper():
    rows = published_rows("interhuman, reactions")
    assert rows["LS-ReMGM"]["mpjpe"] == (33.846, 0.006) and rows["LS-ReMGM"]["contacts"] == (0.844, 0.022)
    assert rows["ReGenNet"]["mpjve"].mean == 9.285 and "mpjpe" not in rows["ground truth"]
    assert published_rows("humanml")["MDM"]["fid"].mean == 0.489  # of rows without these columns


def test_what_is_wrong_is_said_in_a_line(corpus, small_dataset, judge, model, tmp_path, capsys, monkeypatch):
    in2in = tiny_in2in(tmp_path / "in2in", corpus)
    dataset = ["--dataset", str(corpus.folder), "--evaluator", str(judge)]
    (tmp_path / "taken").mkdir()
    (tmp_path / "taken" / "report.json").write_text(json.dumps({"mine": 1}))
    for arguments, said in (
        ([*dataset, "--model_path", str(in2in)], "needed is reaction"),
        ([*dataset, "--replications", "3"], "--replications belongs to --task text"),
        ([*dataset, "--motions", str(tmp_path)], "--motions belongs to --task text"),
        (["--dataset", str(small_dataset), "--evaluator", str(judge)], "expected interhuman"),
        ([*dataset, "--output_dir", str(tmp_path / "taken")], "not written by this program"),
    ):
        monkeypatch.setattr("sys.argv", ["eval_interhuman", "--task", "reaction", "--samples", "1", "--device", "cpu",
                                         "--output_dir", str(tmp_path / "out"), *arguments])  # fmt: skip
        with pytest.raises(SystemExit) as stopped:
            run_command(eval_interhuman)
        error = capsys.readouterr().err.strip().splitlines()
        assert stopped.value.code and said in error[-1] and "Traceback" not in "".join(error), error


def test_a_model_of_other_features_is_refused(options, corpus, tmp_path):
    other = replace(PAIR, fps=20.0)
    config = ReactionConfig(**REACTION_SIZES, features=other, condition="none")
    save_pretrained(tmp_path / "other", Reaction(config, Statistics(corpus.mean, corpus.std, other)))
    with pytest.raises(ValueError, match="runs at fps"):
        evaluate(options(model_path=str(tmp_path / "other")))
