"""Probes: rules say what a motion shows, wordings are new to a model, and validation exposes a rule that is wrong."""

import csv
import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from data_loaders.corpus import Corpus
from data_loaders.features import Features
from data_loaders.text import mirror_text
from evaluations import motion_measures as measures
from evaluations.eval_probes import EvalProbesOptions, main
from evaluations.nearest_motion import MotionBank
from evaluations.probe_run import Probed, probe_folder, validate_on
from evaluations.probe_validation import control_motions, real_clips, validate
from evaluations.probes import DATASETS, Probe, Probes, Rule, Side, plain_words, probes_for, probes_of, read_probes
from protos.options import make_options
from protos.reading import FileError
from tests.acted_motions import both, bowing, mirrored, round_the_corner, running, walking, waving
from tests.synthetic import raise_hand, standing, write_run

FPS = 20.0
ROOT = Path(__file__).resolve().parents[1]
PROBES = probes_of("bandai_namco")


def passing(joints: np.ndarray) -> set[str]:
    """Names of the content probes that a motion passes."""
    description = measures.describe(joints, FPS)
    return {probe.name for probe in PROBES.content_probes if PROBES.passes(probe, description)}


def passes(name: str, *motions: np.ndarray, probes: Probes = PROBES) -> bool:
    return probes.passes(probes[name], *(measures.describe(joints, FPS) for joints in motions))


# ---------------------------------------------------------------------------------------- rules on motions


def test_directions_of_travel_are_told_apart():
    assert passing(walking()) == {"walk forward"}
    assert passing(walking()[::-1]) == {"walk backward"}
    assert passing(running()) == {"run"}
    assert passing(round_the_corner(walking(num_frames=120), 90)) == {"turn left"}
    assert passing(round_the_corner(walking(num_frames=120), -90)) == {"turn right"}


def test_a_body_that_glides_does_not_walk():
    glide = np.repeat(standing()[None], 80, axis=0)
    glide[..., 2] += np.linspace(0, 4, 80)[:, None]
    assert passing(glide) == set()


def test_hands_are_told_apart_and_a_wave_is_a_raised_hand_that_swings():
    assert passing(raise_hand(60, "left")) == {"raise left hand"}
    assert passing(raise_hand(60, "right")) == {"raise right hand"}
    assert passing(both(raise_hand, num_frames=60)) == {"raise both hands"}
    lifting = np.concatenate([raise_hand(40, "left")[:20], waving("left")])
    assert passing(lifting) == {"raise left hand", "wave left hand"}
    assert passing(waving("right")) == {"wave right hand"}  # already up when the clip begins: not raised in it
    assert passing(both(waving)) == {"wave both hands"}
    assert passing(waving("left", swing=0.005)) == set()


def test_bow_goes_down_and_up_again():
    assert passing(bowing()) == {"bow"}
    assert passing(bowing(10)) == set()
    assert passing(bowing()[:45]) == set()  # stays down


def test_standing_broken_and_very_short_motions_show_nothing():
    still = np.repeat(standing()[None], 60, axis=0)
    assert passing(still) == set()
    broken = walking()
    broken[10, 3, 1] = np.nan
    assert measures.describe(broken, FPS) is None and passing(broken) == set()
    assert measures.describe(walking()[:5], FPS) is None
    with pytest.raises(ValueError, match=r"expect \(frames, 22, 3\)"):
        measures.describe(np.zeros((30, 21, 3)), FPS)


@pytest.mark.parametrize("motion", [walking(), raise_hand(60), waving("right"), bowing()])
def test_place_and_heading_do_not_matter(motion):
    turned = motion @ np.array([[0.6, 0, 0.8], [0, 1, 0], [-0.8, 0, 0.6]]) + np.array([3.0, 0.0, -7.0])
    before, after = measures.describe(motion, FPS), measures.describe(turned, FPS)
    assert list(before) == list(measures.MEASURES)
    for name in before:
        np.testing.assert_allclose(after[name], before[name], atol=1e-6, err_msg=name)


def swapped(names: set[str]) -> set[str]:
    return {mirror_text(name) for name in names}


def test_mirroring_swaps_left_and_right_and_nothing_else():
    for motion in (walking(), round_the_corner(walking(num_frames=120), 90), raise_hand(60), waving("left"), bowing()):
        assert passing(mirrored(motion)) == swapped(passing(motion)) != set()


def test_reversals_count_only_what_exceeds_the_amplitude():
    time = np.arange(200) / 20
    wave = np.sin(2 * np.pi * time)  # 10 s of 1 Hz: turns twice a second
    assert measures.reversals(wave, 0.1) == pytest.approx(20, abs=1)
    assert measures.reversals(0.04 * wave, 0.1) == 0
    assert measures.reversals(wave + 0.03 * np.sin(60 * time), 0.1) == measures.reversals(wave, 0.1)
    assert measures.reversals(time, 0.1) == 0


def test_a_pair_needs_both_contents_and_the_difference_in_speed():
    name = "walk, elderly slower than active"
    slow, fast = walking(0.8), walking(1.4)
    assert passes(name, slow, fast)
    assert not passes(name, fast, slow)
    assert not passes(name, slow, walking(0.9))
    assert not passes(name, slow, running())
    assert passes("sprint", running(2.4), running(3.2))
    assert not passes("sprint", running(2.4), running(2.5))


# ---------------------------------------------------------------------------------------- wordings


def texts_of(probe: Probe) -> list[str]:
    return [text for wording in probe.wordings for text in wording]


def test_every_wording_belongs_to_one_probe_and_its_default_is_ten_seeds():
    texts = [plain_words(text) for text in PROBES.texts()]
    every = [plain_words(text) for text in probes_of("bandai_cmu").texts()]
    assert len(every) == len(set(every)) and set(texts) < set(every)
    assert EvalProbesOptions().seeds >= 10
    prompts = [prompt for trial in PROBES.plan(10) for prompt in trial.prompts]
    assert len(prompts) == 10 * len(texts)
    assert all(prompts.count(text) == 10 for text in texts_of(PROBES.probes[0]))


def test_probes_cover_what_the_corpus_can_show():
    contents = {p.content for p in PROBES.content_probes}
    assert len(contents) == len(PROBES.content_probes) == 14
    sides = {name for name in (p.name for p in PROBES.content_probes) if "left" in name or "right" in name}
    assert swapped(sides) == sides


def test_a_new_content_is_a_few_lines_of_the_file_and_slips_in_it_are_named(tmp_path):
    text = (DATASETS / "bandai_namco" / "probes.toml").read_text()
    lines = """name = "kick high"\ngroup = "actions"\nsides = [{ content = "high-kick", rule = "kicks high" }]\nframes = [40]
prompts = ["kick as high as you can"]\n"""
    file = tmp_path / "probes.toml"

    def read(rule: str, content: str = lines) -> Probes:
        file.write_text(text.replace("[rules]\n", f"[rules]\n{rule}\n") + f"\n[[probes]]\n{content}")
        return read_probes(file)

    rule = '"kicks high" = { none_of = [], within = { kick = [1.2, inf] } }'
    added = read(rule)
    assert len(added.probes) == len(PROBES.probes) + 1 and not passes("kick high", bowing(), probes=added)
    with pytest.raises(FileError, match="rule 'kicks high' bounds 'kcik', expected one of seconds, speed"):
        read(rule.replace("kick =", "kcik ="))
    with pytest.raises(FileError, match="rule 'kicks high' names 'kicks high', which does not stand above it"):
        read(rule.replace("[]", '["kicks high"]'))
    with pytest.raises(FileError, match="probe 'kick high' has rule 'kicks high', expected one of"):
        read("")
    with pytest.raises(FileError, match="group 'legs', expected one of locomotion"):
        read(rule, lines.replace('"actions"', '"legs"'))
    with pytest.raises(FileError, match="probe 'kick high' has 2 sides: expected one, or two with pairs of prompts"):
        read(rule, lines.replace("[{", '[{ content = "kick", rule = "kicks" }, {'))


def test_a_dataset_has_its_own_probes_or_those_of_one_that_shows_the_same(small_dataset):
    corpus = Corpus.open(small_dataset)
    assert probes_for(corpus) == PROBES
    corpus.labels = [{"content": "juggling"} for _ in corpus.labels]
    with pytest.raises(ValueError, match="nothing that probes ask for; there are probes for bandai_cmu, bandai_namco"):
        probes_for(corpus)
    with pytest.raises(ValueError, match="no probes for dataset juggling"):
        probes_of("juggling")


# ---------------------------------------------------------------------------------------- judging, validation


def test_the_two_motions_of_a_pair_are_judged_together():
    trials = PROBES.plan(2, chosen=PROBES.chosen("walk, elderly"))
    assert {len(trial.prompts) for trial in trials} == {2}
    motions = [walking(speed) for _ in trials for speed in (0.7, 1.5)]
    assert all(Probed(trials, motions, FPS, PROBES).passed)
    assert not any(Probed(trials, motions[::-1], FPS, PROBES).passed)
    assert Probed(trials, [motions[0][:5], *motions[1:]], FPS, PROBES).passed.count(False) == 1


@pytest.fixture(scope="module")
def clips(small_dataset):
    corpus = Corpus.open(small_dataset)
    return real_clips(corpus, PROBES), control_motions(corpus, PROBES, count=20)


def test_validation_exposes_rules_that_are_too_lenient_or_too_strict(clips):
    real, controls = clips
    names = {"good": "raises left hand", "lenient": "kicks", "strict": "raises right hand"}
    content = PROBES["raise left hand"].content
    made = [replace(PROBES["raise left hand"], name=name, sides=(Side(content, rule),)) for name, rule in names.items()]
    judging = replace(PROBES, rules={**PROBES.rules, "kicks": Rule({"kick": (-1, np.inf)})}, probes=tuple(made))
    good, lenient, strict = validate(real, controls, judging)
    assert good.valid and good.own == 1.0 and good.worst_other[1] == 0.0 and good.reasons == ()
    assert set(good.controls) == {"noise", "smooth noise", "mean pose", "shuffled prompts"}
    assert not lenient.valid and lenient.others["walk"] == 1.0 and lenient.controls["noise"] == 1.0
    assert not strict.valid and strict.own == 0.0


def test_an_implied_content_may_pass(clips):
    (row,) = validate(clips[0], {}, PROBES, [replace(PROBES["raise left hand"], implied_by=("walk",))])
    assert "walk" not in row.others


def test_real_clips_are_the_recordings_themselves(small_dataset, clips):
    corpus = Corpus.open(small_dataset)
    recorded = {label["source"] for label in corpus.labels}
    assert {clip.name for clip in clips[0]} == recorded and len(corpus) == 2 * len(recorded)
    clip = clips[0][0]
    whole = corpus.joints(clip.name)
    np.testing.assert_allclose(clip.joints, whole, atol=1e-6)


def test_a_corpus_without_contents_cannot_validate(small_dataset):
    corpus = Corpus.open(small_dataset)
    corpus.labels = [{} for _ in corpus.labels]
    with pytest.raises(ValueError, match="no content labels"):
        real_clips(corpus, PROBES)


def test_the_nearest_training_clip_is_found_wherever_it_stands_and_however_fast():
    motions = [walking(), waving("left"), raise_hand(60), bowing()]
    bank = MotionBank(motions, ["walk", "wave", "raise", "bow"], FPS)
    moved = raise_hand(90) @ np.array([[0.0, 0, 1], [0, 1, 0], [-1, 0, 0]]) + 2.0
    moved[..., 1] -= 2.0
    part = bowing()[22:67]
    broken = np.full((30, 22, 3), np.nan)
    found = bank.nearest([moved, part, mirrored(waving("left")), broken])
    assert found[0][1] == "raise" and found[0][0] < 0.005
    assert found[1][1] == "bow" and found[1][0] < 0.005
    assert found[2][0] > 0.03
    assert np.isnan(found[3][0])


# ---------------------------------------------------------------------------------------- command


def evaluate(command: list[str]) -> dict:
    """What the command writes into report.json; its last argument is the folder."""
    main(command)
    return json.loads((Path(command[-1]) / "report.json").read_text())


def test_real_clips_take_the_place_of_a_model(small_dataset, tmp_path, capsys):
    command = ["--dataset", str(small_dataset), "--motions", "real", "--output_dir", str(tmp_path / "report")]
    report = evaluate(command)
    assert report["summary"]["probes"]["raise left hand"]["rate"] == 1.0
    assert report["physics"]["real test clips"]["nan_count"] == 0
    with open(tmp_path / "report" / "samples.csv") as file:
        rows = list(csv.DictReader(file))
    assert {row["probe"] for row in rows} == {"walk forward", "raise left hand"}
    assert {row["passed"] for row in rows} <= {"0", "1"} and float(rows[0]["nearest_m"]) >= 0
    assert "raise left hand" in (tmp_path / "report" / "report.md").read_text()
    assert "raise left hand" in capsys.readouterr().out
    main(command)
    assert (tmp_path / "report_2" / "report.json").is_file()


def test_motions_of_a_sampling_run_are_matched_by_their_text(small_dataset, tmp_path):
    probe = PROBES["raise left hand"]
    texts = [probe.prompts[0], probe.prompts[1].upper(), "something else", probe.prompts[0]]
    motions = [raise_hand(60, "left"), raise_hand(50, "right"), walking(), raise_hand(40, "left")]
    write_run(tmp_path / "run", motions, texts)
    judged = probe_folder(tmp_path / "run", PROBES, FPS)
    assert [(trial.wording, trial.repetition) for trial in judged.trials] == [(0, 0), (0, 1), (1, 0)]
    assert [len(joints) for joints in judged.motions] == [60, 40, 50]
    common = ["--dataset", str(small_dataset), "--motions", str(tmp_path / "run")]
    report = evaluate([*common, "--output_dir", str(tmp_path / "report")])
    wordings = report["summary"]["probes"]["raise left hand"]["wordings"]
    assert list(wordings.values()) == [1.0, 0.0]
    write_run(tmp_path / "other", [walking()], ["something else"])
    with pytest.raises(ValueError, match="wording of a probe"):
        probe_folder(tmp_path / "other", PROBES, FPS)


def test_a_model_is_judged_from_its_checkpoint(small_dataset, tmp_path):
    from model.checkpoints import save_pretrained
    from model.lsremgm import LSReMGM
    from model.lsremgm_config import LSReMGMConfig
    from model.text_towers import load_text_encoder

    torch.manual_seed(0)
    config = LSReMGMConfig(
        latent_dim=32, ff_size=48, num_layers=1, diffusion_steps=2, arch="trans_dec", text_encoder="minilm",
        text_dim=384, text_memory="tokens", mask_frames=True, features=Features(heading="continuous"),
    )  # fmt: skip
    statistics = Corpus.open(small_dataset).statistics
    nets = LSReMGM(config, statistics, text_encoder=load_text_encoder("minilm", disk_cache=False))
    save_pretrained(tmp_path / "model", nets, "# Untrained")
    report = evaluate([
        "--model_path", str(tmp_path / "model"), "--dataset", str(small_dataset), "--seeds", "1", "--physics_clips", "2",
        "--only", "raise left", "--save_motions", "--device", "cpu", "--output_dir", str(tmp_path / "report"),
    ])  # fmt: skip
    probe = report["summary"]["probes"]["raise left hand"]
    assert probe["judged"] == 6 and probe["rate"] == 0.0
    physics = report["physics"]
    assert physics["generated test captions"]["clips"] == 2 == physics["the same real clips"]["clips"]
    assert report["memorisation"]["generated test captions"]["median"] > 0
    common = ["--dataset", str(small_dataset), "--motions", str(tmp_path / "report")]
    again = evaluate([*common, "--output_dir", str(tmp_path / "again")])
    assert again["summary"]["probes"]["raise left hand"]["rate"] == probe["rate"]


def test_validate_fails_when_a_probe_is_not_valid(small_dataset, tmp_path):
    command = [
        sys.executable, "-m", "evaluations.eval_probes", "--validate", "--dataset", str(small_dataset),
        "--output_dir", str(tmp_path / "validity"),
    ]  # fmt: skip
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 1 and "INVALID: no real clip of its content" in done.stdout, done.stderr
    rows = {row["probe"]: row for row in json.loads((tmp_path / "validity" / "validity.json").read_text())["probes"]}
    assert len(rows) == len(PROBES.probes) and rows["raise left hand"]["valid"] and not rows["bow"]["valid"]
    assert "| raise left hand" in (tmp_path / "validity" / "validity.md").read_text()


def test_wrong_requests_are_named():
    with pytest.raises(ValueError, match="--only jump: no such probe; there are locomotion, hands"):
        PROBES.chosen("jump")
    with pytest.raises(ValueError, match="--seeds must be from 1"):
        make_options(EvalProbesOptions, {"seeds": 0})
    assert {p.group for p in PROBES.chosen("hands")} == {"hands"}


@pytest.mark.slow
def test_every_probe_is_valid_on_the_recordings(bandai_namco):
    _, rows = validate_on(Corpus.open(bandai_namco), PROBES)
    assert all(row.valid for row in rows) and {row.probe for row in rows if row.rare} == {"punch", "kick"}


@pytest.mark.slow
def test_mirrored_recordings_show_the_mirrored_content(bandai_namco):
    real = real_clips(Corpus.open(bandai_namco), PROBES)
    for clip in real[::40]:
        assert passing(mirrored(clip.joints)) == swapped(passing(clip.joints)), clip.name
