"""Do two people do what they are told: rules on joints, true of real segments that say so."""

import json
from dataclasses import replace

import numpy as np
import pytest

from data_loaders.corpus import Corpus
from data_loaders.preparation import PreparationSettings, prepare
from evaluations.eval_probes import EvalProbesOptions, run
from evaluations.interaction_set import PLAYED_BACK
from evaluations.motion_measures import HEAD, L_WRIST
from evaluations.pair_physics import GENERATED, INDEPENDENT, REAL, TRAINED_ON
from evaluations.pair_probes import Asked, Heeded, PairProbe, describe_pair, pair_probes_of, real_segments
from evaluations.probes import plain_words
from tests.pairs import pair_corpus, pair_motion, turned
from tests.shared import shared
from tests.synthetic import standing, walk
from tests.tiny_people import tiny_in2in

FPS = 30.0
PROBES = {probe.name: probe for probe in pair_probes_of("two_person")}


def shows(joints: np.ndarray) -> set[str]:
    return {name for name, probe in PROBES.items() if probe.shown(describe_pair(joints, FPS))}


def still(frames: int) -> np.ndarray:
    return np.repeat(standing()[None], frames, axis=0)


def spinning(frames: int, degrees: float) -> np.ndarray:
    return np.stack([turned(standing(), angle, 0, 0) for angle in np.linspace(0, degrees, frames)])


def test_people_who_stand_show_nothing():
    assert shows(np.stack([still(120), turned(still(120), 180, 0, 1.0)])) == set()


def test_each_probe_is_shown_by_what_it_names():
    beside = turned(still(90), 180, 0, 1.0)
    assert shows(np.stack([spinning(90, 400), beside])) == {"spin"}
    assert shows(np.stack([spinning(90, 200), beside])) == set()
    hand_up = still(90)
    hand_up[:, L_WRIST] = hand_up[:, HEAD] + [0, 0.2, 0]
    assert shows(np.stack([hand_up, beside])) == {"arm over the head"}
    toward = turned(walk(90, 1.0, FPS), 180, 0, 3.5)
    assert shows(np.stack([still(90), toward])) == {"come together"}
    assert shows(np.stack([still(90), toward[::-1]])) == {"step apart"}
    assert shows(np.stack([still(90), beside - [0, 0.6, 0]])) == {"go down low"}


def test_the_order_of_the_people_does_not_matter():
    for number in range(3):
        joints = pair_motion(number, 90)[0]
        assert shows(joints) == shows(joints[::-1])


def test_a_motion_that_is_short_or_not_finite_shows_nothing():
    joints = np.stack([spinning(90, 400), still(90)])
    assert describe_pair(joints[:, :20], FPS) is None
    joints[1, 5] = np.nan
    assert shows(joints) == set()


def test_a_text_is_heeded_where_it_is_shown_more_often_when_it_was_asked_for():
    probe = PROBES["spin"]
    does, does_not = dict.fromkeys(probe.within, 400.0), dict.fromkeys(probe.within, 0.0)
    obeyed = Heeded(probe, [Asked("spin", ("",), does)] * 20 + [Asked("step apart", ("",), does_not)] * 20, [])
    ignored = Heeded(probe, [Asked("spin", ("",), does)] * 20 + [Asked("step apart", ("",), does)] * 20, [])
    assert (obeyed.heeded, ignored.heeded) == ("yes", "no")
    assert obeyed.asked.mean == 100 and obeyed.asked_else.mean == 0 and obeyed.named is None


@pytest.mark.parametrize("change", [{"within": {"spun": (0, 1)}}, {"named": "("}])
def test_a_probe_that_makes_no_sense_is_refused(change):
    with pytest.raises(ValueError, match="probe 'x'"):
        PairProbe(**({"name": "x", "named": "x", "within": {"turned": (0, 1)}, "prompts": ()} | change))


def test_a_dataset_without_probes_is_told():
    with pytest.raises(ValueError, match="only for two_person"):
        pair_probes_of("interhuman")


def test_the_command_judges_a_model_of_two_people(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    corpus = Corpus(pair_corpus(tmp_path / "dataset" / "two_person"))
    tiny_in2in(tmp_path / "model", corpus)
    options = EvalProbesOptions(
        model_path=tmp_path / "model", dataset=str(tmp_path / "dataset" / "two_person"), seeds=1, sampling_steps=2,
        device="cpu", output_dir=tmp_path / "report",
    )  # fmt: skip
    run(replace(options, save_motions=True, physics_clips=3))
    found = json.loads((tmp_path / "report" / "report.json").read_text())
    saved = np.load(tmp_path / "report" / "motions.npz")["motion"]
    assert len(saved) == sum(len(probe.prompts) for probe in PROBES.values()) and saved.shape[1:4] == (2, 22, 3)
    physics = found["physics"]
    assert list(physics) == [REAL, GENERATED, TRAINED_ON, INDEPENDENT, PLAYED_BACK] and physics[GENERATED]["clips"] == 3
    assert physics[REAL]["facing_gap"] == 0 < physics[GENERATED]["facing_gap"] and physics[INDEPENDENT]["pelvis_distance_gap"] > 0
    assert set(found["probes"]) == set(PROBES) and found["made_from"]["dataset"] == corpus.stamp
    row = found["probes"]["come together"]
    assert row["asked for it"] is not None and row["real, not named"][0] == pytest.approx(33.3, abs=1)  # one walks to the other


def test_the_probes_of_two_people_are_validated_without_a_model(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    pair_corpus(tmp_path / "dataset" / "two_person")
    options = EvalProbesOptions(validate=True, dataset="dataset/two_person", output_dir=tmp_path / "validity")
    with pytest.raises(SystemExit) as ended:  # these people do not dance, so that no probe can be shown to be valid
        run(options)
    assert ended.value.code == 1
    text = (tmp_path / "validity" / "validity.md").read_text()
    assert "INVALID" in text and "mean pose" in text
    with pytest.raises(ValueError, match="--motions judges motions of one person"):
        run(replace(options, validate=False, motions="real"))


def test_a_probe_is_valid_where_it_tells_what_its_captions_name():
    probe = PROBES["spin"]
    turns, rests = dict.fromkeys(probe.within, 400.0), dict.fromkeys(probe.within, 0.0)
    named, other = Asked("", ("one turns",), turns, "test"), Asked("", ("they stand",), rests, "train")
    assert Heeded(probe, [], [named] * 20 + [other] * 20, rests).valid
    assert Heeded(probe, [], [named, other]).held_out.mean == 100
    assert not Heeded(probe, [], [replace(named, measures=rests)] * 20 + [other] * 20).valid
    assert not Heeded(probe, [], [named] * 20 + [replace(other, measures=turns)] * 20).valid
    assert not Heeded(probe, [], [named] * 20 + [other] * 20, turns).valid
    assert not Heeded(probe, [], [other]).valid


@pytest.mark.slow
def test_real_segments_show_what_their_captions_name_and_few_others_do(tmp_path):
    raw = shared("data/two_person")
    prepare(PreparationSettings("two_person", raw, tmp_path / "two_person", workers=1))
    corpus = Corpus(tmp_path / "two_person")
    real = real_segments(corpus)
    assert len(real) == 47
    known = {plain_words(text) for segment in real for text in segment.texts}
    for probe in PROBES.values():
        found = Heeded(probe, [], real)
        assert found.valid and found.named.mean >= 97 and found.unnamed.mean <= 25, probe.name
        assert not {plain_words(prompt) for prompt in probe.prompts} & known
