"""What is done to motions once they are made: jitter goes, movement stays; a checkpoint says whether; its worth is measured."""

import json

import numpy as np
import pytest
import torch

from data_loaders.corpus import Corpus, Motion
from data_loaders.kinematics import jerk, low_passed, planted_foot_speed
from data_loaders.motion_checks import bone_vectors
from data_loaders.physics import sample_table
from data_loaders.skeleton import load_skeleton
from evaluations.cleaned_motions import recoded
from evaluations.eval_cleanup import AS_IT_IS, best_of, main
from model.capabilities import AS_MADE, Cleanup, Request
from model.checkpoints import from_pretrained, save_pretrained
from model.lsremgm import LSReMGM
from model.lsremgm_config import LSReMGMConfig
from sample.generation import motions_for
from sample.sample import SampleOptions
from tests.acted_motions import walking
from tests.test_foot_lock import slipping
from train.export import ExportOptions
from train.export import run as export
from visualize.cleanup import calmed, cleaned
from visualize.foot_lock import resting_speed

HUMANML = load_skeleton("humanml")
FPS = 20.0


def swing(hertz: float, fps: float = FPS, seconds: float = 10.0) -> np.ndarray:
    return np.sin(2 * np.pi * hertz * np.arange(int(seconds * fps)) / fps)


@pytest.mark.parametrize("fps", [20.0, 30.0, 60.0])
def test_what_is_slow_stays_where_it_is_and_what_is_fast_goes(fps):
    slow, fast = swing(1.0, fps), swing(9.5, fps)
    inner = slice(int(fps), -int(fps))
    np.testing.assert_allclose(low_passed(slow, fps, 6.0)[inner], slow[inner], atol=0.02)
    assert np.abs(low_passed(fast, fps, 6.0)[inner]).max() < 0.3
    at_cutoff = low_passed(swing(5.0, fps), fps, 5.0)[inner]
    assert np.sqrt(2 * np.mean(at_cutoff**2)) == pytest.approx(np.sqrt(0.5), abs=0.02)  # half the power


def test_nothing_is_filtered_that_frames_cannot_show():
    values = swing(3.0)
    assert low_passed(values, FPS, 12.0) is values and low_passed(values[:1], FPS, 6.0) is not None
    assert len(low_passed(values[:3], FPS, 6.0)) == 3


def test_jitter_goes_and_bones_keep_their_lengths():
    joints = walking(num_frames=160)
    shaken = joints + np.random.default_rng(0).normal(scale=0.004, size=joints.shape)
    calm = calmed(shaken, FPS, "humanml", 5.0)
    assert jerk(calm, FPS) < 0.5 * jerk(shaken, FPS)
    assert np.linalg.norm(calm - joints, axis=-1).mean() < np.linalg.norm(shaken - joints, axis=-1).mean()
    own, kept = (np.linalg.norm(bone_vectors(each, HUMANML), axis=-1)[:, 1:].mean(0) for each in (calm, shaken))
    np.testing.assert_allclose(own, kept, rtol=0.01)


def test_cleaning_is_what_is_asked_for():
    motion = Motion(slipping().astype(np.float32)[None], FPS)
    assert cleaned(motion, AS_MADE) is motion
    held = cleaned(motion, Cleanup(foot_lock=True)).joints[0]
    assert planted_foot_speed(held, FPS, HUMANML) < 0.2 * planted_foot_speed(motion.joints[0], FPS, HUMANML)
    assert not np.array_equal(cleaned(motion, Cleanup(2.0)).joints, motion.joints)


def test_feet_are_followed_while_they_rest_in_the_motion_as_it_was_made():
    made = slipping()
    moved = made + np.linspace(0, 1, len(made))[:, None, None] * np.array([1.0, 0, 0])  # all of it at one speed
    own, shifted = (resting_speed([made], [each], FPS, HUMANML) for each in (made, moved))
    assert 0 < own < 0.3 and shifted != own
    assert resting_speed([made + [0, 1.0, 0]], [made], FPS, HUMANML) is None  # in the air
    still = np.repeat(made[:1], len(made), axis=0)
    assert resting_speed([made], [still], FPS, HUMANML) == 0


def test_physics_of_each_motion_and_person_stand_in_a_table():
    one, two = Motion(slipping()[None], FPS), Motion(np.stack([walking(), walking() + 1.0]), FPS)
    lines = sample_table({"a": one, "b": two}).splitlines()
    assert lines[0].startswith("| ") and "jerk, m/s³" in lines[0] and len(lines) == 5
    assert "b, person 2" in lines[4] and "–" not in lines[2]


def test_the_best_way_of_cleaning_harms_nothing():
    made = {"probes": 0.95, "fid": 0.05, "jerk": 60.0, "resting_foot_speed": 0.22}
    rows = {
        AS_IT_IS: made, "jitter filter": {**made, "jerk": 50.0, "resting_foot_speed": 0.21},
        "foot lock": {**made, "fid": 0.08, "resting_foot_speed": 0.10},
        "both": {**made, "jerk": 55.0, "resting_foot_speed": 0.12, "probes": 0.90},
    }  # fmt: skip
    assert best_of(rows) == "jitter filter"
    assert best_of({name: {**row, "fid": None} for name, row in rows.items()}) == "foot lock"
    assert best_of({AS_IT_IS: made, "foot lock": {**made, "jerk": 70.0, "resting_foot_speed": 0.1}}) == AS_IT_IS
    floating = {name: {**row, "resting_foot_speed": None, "jerk": None} for name, row in rows.items()}
    assert best_of(floating) == AS_IT_IS  # no foot ever rests: nothing can be told


@pytest.fixture(scope="module")
def checkpoint(pool_dataset, tmp_path_factory):
    torch.manual_seed(0)
    corpus = Corpus.open(pool_dataset)
    config = LSReMGMConfig(latent_dim=16, ff_size=16, num_layers=1, num_heads=2, diffusion_steps=4, arch="trans_dec",
                           text_dim=384, mask_frames=True, features=corpus.features)  # fmt: skip
    folder = tmp_path_factory.mktemp("model") / "tiny"
    save_pretrained(folder, LSReMGM(config, corpus.statistics))
    return folder


def test_an_export_says_what_is_done_and_a_flag_says_otherwise(checkpoint, tmp_path):
    export(ExportOptions(checkpoint=checkpoint, output=tmp_path / "clean", jitter_filter=4.0, foot_lock=True))
    model = from_pretrained(tmp_path / "clean")
    assert model.cleanup == Cleanup(4.0, foot_lock=True)
    assert "cleanup" not in json.loads((checkpoint / "config.json").read_text())
    request = [Request("a person walks", 40, 1)]
    own, made = motions_for(model, request)[0], motions_for(model, request, cleanup=AS_MADE)[0]
    np.testing.assert_array_equal(own.joints, cleaned(made, model.cleanup).joints)
    assert not np.array_equal(own.joints, made.joints)
    ways = {"own": model.cleanup, "none": AS_MADE, "jitter": Cleanup(4.0), "feet": Cleanup(0.0, True), "all": model.cleanup}
    assert {way: SampleOptions(cleanup=way).cleanup_of(model) for way in ways} == ways
    assert SampleOptions(cleanup="jitter").cleanup_of(from_pretrained(checkpoint)) == Cleanup(6.0)


def test_features_of_motions_that_are_not_cleaned_are_told_again(pool_dataset):
    corpus = Corpus.open(pool_dataset)
    rows = np.array(corpus[0], np.float32)
    np.testing.assert_allclose(recoded(rows, AS_MADE, corpus.features)[:-2, :67], rows[:-2, :67], atol=2e-3)
    assert len(recoded(rows, Cleanup(6.0, True), corpus.features)) == len(rows)


def test_each_way_of_cleaning_has_a_row_below_real_motion(pool_dataset, tiny_evaluator, checkpoint, tmp_path, capsys):
    main([
        "--model_path", str(checkpoint), "--dataset", str(pool_dataset), "--evaluator", str(tiny_evaluator),
        "--num_motions", "32", "--only", "bow", "--probe_seeds", "1", "--device", "cpu", "--output_dir", str(tmp_path / "report"),
    ])  # fmt: skip
    report = json.loads((tmp_path / "report" / "report.json").read_text())
    assert [*report["rows"]] == [AS_IT_IS, "jitter filter", "foot lock", "both"] and report["best"] in report["rows"]
    assert report["rows"]["jitter filter"]["jerk"] < report["rows"][AS_IT_IS]["jerk"]
    assert report["real"]["fid"] < report["rows"][AS_IT_IS]["fid"]
    said = capsys.readouterr().out
    assert "real motion" in said and "python -m train.export --checkpoint" in said
