"""The evaluation command: from a checkpoint, real motion or files of another program to a table, a CSV and a board."""

import csv
import json
import logging
import shutil
import subprocess
import sys
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pytest
import torch

from data_loaders.corpus import Corpus
from data_loaders.features import Features
from data_loaders.humanml_features import joints_from_features
from data_loaders.physics import physics_of, physics_table
from data_loaders.preparation import prepare
from data_loaders.read_recordings import PreparationSettings
from data_loaders.skeleton import load_skeleton
from evaluations import board, text_to_motion
from evaluations.eval_humanml import EvalOptions, main
from evaluations.eval_humanml import run as evaluate
from evaluations.judge_quality import judge_evaluator, unseen_wordings
from evaluations.metrics import Interval
from evaluations.metrics_report import Measured, board_report, entrants_of_board, gap_to_published, published_rows
from evaluations.motion_sources import given_set
from evaluations.probes import probes_of
from evaluations.report import read_report
from evaluations.settings import chosen_dataset
from model import embedding
from model.embedding import default_evaluator, open_space
from protos.options import run_command
from protos.outputs import OutputError, Outputs
from protos.reading import FileError
from sample.generation import STARTER
from tests.synthetic import pool_motion, write_run
from train.generator_recipe import judging
from train.train_lsremgm import LSReMGMOptions
from train.train_lsremgm import run as train_lsremgm

ROOT = Path(__file__).resolve().parents[1]
SKELETON = load_skeleton("humanml")


@pytest.fixture
def dataset(pool_dataset):
    return pool_dataset


@pytest.fixture
def evaluator(tiny_evaluator):
    return tiny_evaluator


@pytest.fixture
def options(dataset, evaluator, tmp_path):
    def make(**changes):
        settings = {"dataset": str(dataset), "evaluator": evaluator, "replications": 2, "output_dir": tmp_path / "out",
                    "sampling_steps": 2, "device": "cpu", **changes}  # fmt: skip
        return EvalOptions(**settings)

    return make


def test_a_model_is_judged_beside_real_motion_and_every_motion_is_on_record(options, tmp_path):
    report = evaluate(options(controls=True, physics_clips=4))
    nearest = "training motion of the nearest caption"
    assert list(report.rows) == ["real motion", "generated", nearest, "real motion, shuffled captions", "noise"]
    assert report.rows[nearest]["fid"][0] < report.rows["noise"]["fid"][0]
    assert report.physics["generated"]["clips"] == report.physics["real motion"]["clips"] == 4
    assert report.parameters > 1e6 and report.seconds_per_motion > 0
    lines = list(csv.DictReader((tmp_path / "out" / "motions.csv").open()))
    assert len(lines) == 2 * (32 + 32 + 32)  # real, generated and played back
    made = [line for line in lines if line["row"] == "generated"]
    assert len({line["seed"] for line in made}) == 64 and all(line["caption"] for line in made)
    text = (tmp_path / "out" / "report.md").read_text()
    assert text.index("| real motion ") < text.index("| generated ") and "2 replications" in text
    first = next(csv.DictReader((tmp_path / "out" / "report.csv").open()))
    assert (float(first["FID ↓"]), float(first["FID ↓ ±"])) == report.rows["real motion"]["fid"]
    again = stored_report(tmp_path / "out")
    assert again.rows["generated"]["fid"] == report.rows["generated"]["fid"]


def test_an_interrupted_evaluation_goes_on_and_ends_where_a_whole_one_does(options, tmp_path, monkeypatch):
    whole = evaluate(options(output_dir=tmp_path / "whole", replications=3))
    evaluate(options(replications=1))
    counted = []
    replicate = text_to_motion.Evaluation.replicate

    def counting(self, number, *arguments):
        counted.append(number)
        return replicate(self, number, *arguments)

    monkeypatch.setattr(text_to_motion.Evaluation, "replicate", counting)
    gone_on = evaluate(options(replications=3))
    assert counted == [1, 2]
    assert gone_on.physics == whole.physics
    for own, theirs in zip(gone_on.values, whole.values):  # embedded in other batches: equal but for rounding
        assert all(own[row] == pytest.approx(theirs[row], rel=1e-4) for row in theirs)


def test_a_model_is_judged_on_the_dataset_that_it_was_trained_on_which_the_log_says(tmp_path, caplog):
    with caplog.at_level(logging.INFO):
        assert chosen_dataset(None, STARTER) == chosen_dataset(None, None) == "bandai_cmu"
    assert f"dataset bandai_cmu: {STARTER} was trained on it" in caplog.text
    assert chosen_dataset("mine", STARTER) == "mine"
    with pytest.raises(ValueError, match="does not say which dataset it was trained on: give --dataset"):
        chosen_dataset(None, tmp_path)


def stored_report(path: Path) -> Measured:
    return read_report(path, Measured, "evaluations.eval_humanml")


def seed_of(folder: Path) -> int:
    return json.loads((folder / "settings.json").read_text())["seed"]


def test_another_seed_or_model_does_not_mix_with_what_a_folder_holds(options, tmp_path, monkeypatch):
    evaluate(options(model_path="real", replications=1))
    with pytest.raises(OutputError, match="out holds an evaluation of other seed: add --overwrite"):
        evaluate(options(model_path="real", replications=1, seed=3))
    assert seed_of(tmp_path / "out") == 10
    evaluate(options(model_path="real", replications=1, seed=3, overwrite=True))
    assert seed_of(tmp_path / "out") == 3
    monkeypatch.chdir(tmp_path)
    for seed in (10, 3, 10):
        evaluate(options(model_path="real", replications=1, seed=seed, output_dir=None))
    assert sorted(map(seed_of, (tmp_path / "outputs").iterdir())) == [3, 10]


def test_data_that_have_changed_are_judged_anew_and_the_report_says_what_it_was_made_from(options, dataset, tmp_path):
    changed = tmp_path / "changed"
    shutil.copytree(dataset, changed)
    first = evaluate(options(model_path="real", replications=1, dataset=str(changed)))
    again = evaluate(options(model_path="real", replications=1, dataset=str(changed)))
    assert again.values == first.values
    features = np.load(changed / "corpus" / "features.npy")
    np.save(changed / "corpus" / "features.npy", features + np.float32(0.5))
    index = json.loads((changed / "corpus" / "index.json").read_text())
    (changed / "corpus" / "index.json").write_text(json.dumps(index | {"frames": "other"}))
    with pytest.raises(OutputError, match=r"evaluation of other dataset \(it has changed since\)"):
        evaluate(options(model_path="real", replications=1, dataset=str(changed)))
    other = evaluate(options(model_path="real", replications=1, dataset=str(changed), overwrite=True))
    assert other.values != first.values
    stamp = Corpus.open(changed).stamp
    assert other.made_from["dataset"] == stamp != first.made_from["dataset"]
    assert f"Made from dataset {stamp}, evaluator " in (tmp_path / "out" / "report.md").read_text()


def test_files_of_somebody_else_in_the_folder_stop_an_evaluation_before_it_begins(options, tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "report.md").write_text("mine")
    for overwrite in (False, True):
        with pytest.raises(OutputError, match=r"report\.md is there already"):
            evaluate(options(model_path="real", replications=1, overwrite=overwrite))
    assert [each.name for each in (tmp_path / "out").iterdir()] == ["report.md"]


def write_given(folder: Path, count: int, fps_ratio: int = 1) -> Path:
    folder.mkdir()
    for i in range(count):
        joints, text = pool_motion(i)
        dense = np.repeat(joints, fps_ratio, axis=0)
        np.save(folder / f"clip{i:02d}.npy", dense.astype(np.float32))
        (folder / f"clip{i:02d}.txt").write_text(f"{text}\n\nsomebody there: {text}\n")
    return folder


def test_motions_of_another_program_that_are_the_real_ones_are_judged_like_them(options, tmp_path):
    report = evaluate(options(motions=write_given(tmp_path / "theirs", 40, 3), fps=60.0, replications=3))
    real, given = report.rows["real motion"], report.rows["given"]
    assert given["mm_dist"].mean == pytest.approx(real["mm_dist"].mean, rel=0.02)
    assert report.physics["given"]["bone_length_deviation"] < 1


def test_what_cannot_be_judged_is_named_and_the_rest_is(dataset, tmp_path, caplog):
    folder = write_given(tmp_path / "theirs", 6)
    broken = np.load(folder / "clip00.npy")
    broken[3, 4, 1] = np.nan
    np.save(folder / "clip00.npy", broken)
    np.save(folder / "clip01.npy", broken[:, :21] * 0)
    np.save(folder / "clip02.npy", np.load(folder / "clip02.npy")[:3])
    (folder / "clip03.txt").unlink()
    corpus = Corpus.open(dataset)
    with caplog.at_level(logging.WARNING):
        found, report = given_set(folder, 20.0, corpus)
    assert [entry.name for entry in found.entries] == ["clip04", "clip05"]
    for words in ("NaN or infinity in frame 3", "21 joints", "too short: 3 frames", "clip03.txt"):
        assert words in caplog.text
    assert len(report.skipped) == 4
    with pytest.raises(FileNotFoundError, match=r"expected NAME\.npy with joints and NAME\.txt"):
        given_set(tmp_path, 20.0, corpus)


def test_an_unreadable_motion_is_named_in_the_report_and_by_the_exit_code(dataset, evaluator, tmp_path, capsys):
    folder = write_given(tmp_path / "theirs", 34)
    (folder / "clip07.npy").write_bytes((folder / "clip07.npy").read_bytes()[:200])
    with pytest.raises(SystemExit) as stopped:
        run_command(lambda: main(["--dataset", str(dataset), "--evaluator", str(evaluator), "--replications", "1",
                                  "--motions", str(folder), "--output_dir", str(tmp_path / "out")]))  # fmt: skip
    said = capsys.readouterr()
    assert stopped.value.code == 1 and "1 of the motions could not be read (clip07)" in said.err and "| given " in said.out
    assert list(stored_report(tmp_path / "out").unreadable) == ["clip07"]


def test_results_of_sampling_are_judged_at_their_own_frame_rate(dataset, tmp_path):
    corpus = Corpus.open(dataset)
    clips = [np.repeat(pool_motion(i)[0], 3, axis=0).astype(np.float32) for i in range(4)]
    clips[1] = clips[1] * np.float32("nan")
    write_run(tmp_path / "run", clips, ["walk", "run", " ", "jump"], fps=60.0)
    for where in (tmp_path / "run", tmp_path / "run" / "motions.npz"):
        found, report = given_set(where, None, corpus)
        assert [entry.name for entry in found.entries] == ["0000", "0003"]
        assert len(found.entries[0].motion) == len(pool_motion(0)[0]) - 1
        assert report.skipped == {"0001": "unreadable: NaN or infinity in its joints, expected finite numbers",
                                  "0002": "without caption"}


def test_given_motions_with_another_caption_or_frame_are_others(dataset, tmp_path):
    folder, corpus = write_given(tmp_path / "theirs", 6), Corpus.open(dataset)
    stamps = [given_set(folder, 20.0, corpus)[0].stamp]
    (folder / "clip01.txt").write_text("somebody sneezes\n")
    stamps.append(given_set(folder, 20.0, corpus)[0].stamp)
    np.save(folder / "clip02.npy", np.load(folder / "clip02.npy") + np.float32(0.25))
    stamps.append(given_set(folder, 20.0, corpus)[0].stamp)
    assert len(set(stamps)) == 3


def test_own_recordings_with_the_heading_of_humanml3d_are_not_humanml3d(recordings, tmp_path):
    prepare(PreparationSettings("bandai_namco", recordings, tmp_path / "own", workers=1, heading="published"))
    own = Corpus.open(tmp_path / "own")
    assert (own.heading, own.skeleton.name) == ("published", "humanml")
    assert own.published is None and default_evaluator(own).name == "own"


def test_what_motions_are_too_short_to_tell_is_said_and_no_nan_is_written(tmp_path):
    figures = physics_of([np.zeros((2, 22, 3))], 20.0, SKELETON)
    assert figures["jerk"] is None and "too short" in physics_table({"real motion": figures})
    outputs = Outputs(tmp_path, "evaluation")
    outputs.write_json("report.json", {"physics": figures, "clips": np.int64(2), "folder": tmp_path})
    with pytest.raises(ValueError, match=r"bad\.json: not written, it would hold NaN"):
        outputs.write_json("bad.json", {"fid": np.float32("nan")})
    assert not (tmp_path / "bad.json").exists()


def test_features_that_a_model_does_not_make_follow_from_those_it_makes(dataset):
    """Root, positions and contacts of a real clip, the rest left to be worked out."""
    corpus = Corpus.open(dataset)
    whole = np.array(corpus[4])
    columns = [*range(67), *range(259, 263)]
    found = Features("humanml", 20.0, "continuous").completed(torch.as_tensor(whole[:, columns]), columns).numpy()
    assert found.shape == whole.shape and (found[:, columns] == whole[:, columns]).all()
    np.testing.assert_allclose(found[:-1], whole[:-1], atol=2e-3)
    joints = [joints_from_features(torch.as_tensor(rows), SKELETON) for rows in (found, whole)]
    torch.testing.assert_close(*joints)


@pytest.mark.parametrize("flags, message", [
    (["--replications", "0"], "--replications must be from 1 to 10000"),
    (["--fps", "30"], "--fps says how fast --motions run"),
    (["--dataset", "nowhere"], "dataset 'nowhere' not found"),
    (["--model_path", "nowhere"], "no checkpoint at nowhere"),
    (["--evaluator", "nowhere"], "no evaluator of made_up; train one"),
    (["--motions", "nowhere"], "nowhere: no motions"),
])  # fmt: skip
def test_bad_input_is_one_line(flags, message, dataset, evaluator, tmp_path, capsys):
    given = ["--dataset", str(dataset), "--evaluator", str(evaluator), "--output_dir", str(tmp_path / "out"), *flags]
    with pytest.raises(SystemExit) as stopped:
        run_command(lambda: main(given))
    assert stopped.value.code
    error = capsys.readouterr().err
    assert message in error and "Traceback" not in error and not (tmp_path / "out").exists()


def report_of(what: str, top3: float, published: str | None = None, **changes) -> Measured:
    figures = {"top1": 0.5, "top2": 0.7, "top3": top3, "fid": 0.1, "mm_dist": 3.0, "diversity": 9.5}
    intervals = {name: Interval(value, 0.01) for name, value in figures.items()}
    settings = {
        "what": what, "dataset": "d", "split": "test", "protocol": "mdm", "whose": "w", "evaluator": "e", "replications": 5,
        "seed": 10, "published": published, "physics": {}, "seconds_per_motion": 0.01, "parameters": 2_000_000, "values": [],
        "rows": {"real motion": intervals, "generated": intervals, "noise": intervals},
    }  # fmt: skip
    return Measured(**settings | changes)


def test_a_board_has_real_motion_once_and_first_and_each_model_by_its_name(tmp_path):
    made = [report_of("save/a", 0.7), report_of("other/a", 0.6), report_of("save/b", 0.8)]
    assert list(entrants_of_board(made)) == ["real motion", "a", "a_2", "b", "noise"]
    assert board_report(made, "c").markdown().count("| real motion ") == 1
    with pytest.raises(ValueError, match="the dataset has changed between their evaluations"):
        board_report([report_of(name, 0.7, made_from={"dataset": name}) for name in ("a", "b")], "c")
    with pytest.raises(ValueError, match="protocol is mdm of one and t2m of the other"):
        board_report([report_of("a", 0.7), report_of("b", 0.7, protocol="t2m")], "c")


def test_what_is_no_report_is_refused_by_name(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"report\.json: no such report; python -m evaluations\.eval_humanml"):
        stored_report(tmp_path)
    (tmp_path / "report.json").write_text("{}")
    with pytest.raises(ValueError, match="not a report of evaluations"):
        stored_report(tmp_path)


@pytest.mark.parametrize("spoil, words", [
    (lambda r: r.pop("protocol"), "missing field protocol"), (lambda r: r.update(rows=[]), "rows: expected object, got array"),
    (lambda r: r["rows"].pop("real motion"), "no row 'real motion'"),
    (lambda r: r["rows"]["noise"].pop("fid"), "fid of row 'noise'"),
    (lambda r: r["rows"]["noise"].update(fid=["a", 1]), r"rows\[\.\.\.\]\[\.\.\.\]\[0\]: expected float, got str"),
    (lambda r: r.update(replications=2.5), "replications: expected int, got float"),
])  # fmt: skip
def test_a_report_with_a_wrong_field_names_it_and_one_of_an_earlier_version_is_read(tmp_path, spoil, words):
    report = json.loads(json.dumps(asdict(report_of("a", 0.7))))
    for name in ("published", "made_from", "unreadable"):  # as earlier versions had it
        report.pop(name, None)
    (tmp_path / "report.json").write_text(json.dumps(report))
    assert board_report([stored_report(tmp_path)], "c").markdown()
    spoil(report)
    (tmp_path / "report.json").write_text(json.dumps(report))
    with pytest.raises(FileError, match=rf"report\.json: {words}"):
        stored_report(tmp_path)


def test_a_replication_that_is_damaged_is_named_with_the_remedy(options, tmp_path):
    evaluate(options(model_path="real", replications=1))
    (tmp_path / "out" / "replications" / "00.json").write_text('{"rows": {}, "motions": [], "seconds": null, "physics": {}}')
    with pytest.raises(FileError, match=r"00\.json: expected a row 'real motion'.*: remove the file"):
        evaluate(options(model_path="real", replications=1))


def test_a_real_row_off_the_published_one_is_warned_of():
    assert published_rows("humanml")["real motion"]["top3"] == (0.797, 0.003 - 0.001)
    off = report_of("x", 0.7, "humanml")
    assert "R@3 0.700 for 0.797" in gap_to_published(off)[0]
    good = {name: Interval(value.mean, 0.002) for name, value in published_rows("humanml")["real motion"].items()}
    assert gap_to_published(replace(off, rows={"real motion": good})) == []
    assert gap_to_published(replace(off, published=None)) == []


def test_the_board_command_writes_table_and_chart(dataset, evaluator, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    main(["--dataset", str(dataset), "--evaluator", str(evaluator), "--replications", "2", "--model_path", "real",
          "--motions", str(write_given(tmp_path / "theirs", 36))])  # fmt: skip
    (done,) = (tmp_path / "outputs").glob("eval_*")
    board.main(["--reports", str(done), "--model_paths"])
    (folder,) = (tmp_path / "outputs").glob("board_*")
    assert "| theirs " in (folder / "board.md").read_text()
    from matplotlib.image import imread

    chart = imread(folder / "board.png")
    assert chart.shape[1] > 800 and chart[..., :3].std() > 0.05


def test_a_judge_is_judged_beside_chance(dataset, evaluator, tmp_path):
    corpus = Corpus.open(dataset)
    found = judge_evaluator(open_space(evaluator, data=corpus), corpus, replications=2)
    assert found["R@3"][1] == pytest.approx(3 / 32)
    share, chance = found["unseen wordings (6): content and side first"]  # of its contents, one is that of a probe
    assert chance == 0.5 and 0 <= share <= 1
    assert found["content and side in the top 3"][1] > 0.8  # two contents


def test_wordings_are_asked_of_contents_that_occur_and_clips_that_do_it_too_are_right():
    asked = dict(unseen_wordings(probes_of("bandai_namco"), {"wave-right-hand", "sit"}))
    assert len(asked) == 6 and set(map(frozenset, asked.values())) == {frozenset({"wave-right-hand", "bye"})}
    assert all("right" in text for text in asked)


def test_training_judges_motions_for_captions_of_the_val_split(dataset, evaluator, tmp_path, monkeypatch):
    monkeypatch.setattr(embedding, "CHECKPOINTS", tmp_path)
    (tmp_path / "evaluators").mkdir()
    (tmp_path / "evaluators" / dataset.name).symlink_to(evaluator)
    options = LSReMGMOptions(
        save_dir=str(tmp_path / "run"), dataset=str(dataset), num_layers=1, latent_dim=16, num_heads=1, ff_size=16,
        mask_frames=True, diffusion_steps=2, num_steps=2, batch_size=4, save_interval=2, eval_during_training=True, device="cpu",
    )  # fmt: skip
    train_lsremgm(options)
    lines = [json.loads(line) for line in (tmp_path / "run" / "log.jsonl").read_text().splitlines()]
    (found,) = (line for line in lines if "eval/top3" in line)
    assert 0 <= found["eval/top1"] <= found["eval/top3"] <= 1 and found["eval/fid"] > 0 and found["eval/loss"] > 0


def test_training_without_an_evaluator_of_its_dataset_says_so(dataset, caplog):
    assert judging(Corpus.open(dataset), seed=10) is None
    assert "no evaluator of made_up" in caplog.text


def test_two_processes_come_to_the_numbers_of_one(dataset, evaluator, tmp_path):
    flags = ["--dataset", str(dataset), "--evaluator", str(evaluator), "--replications", "1", "--sampling_steps", "2",
             "--physics_clips", "3", "--device", "cpu"]  # fmt: skip
    two = ["--output_dir", str(tmp_path / "two"), "--processes", "2"]
    command = [sys.executable, "-m", "evaluations.eval_humanml", *flags, *two]
    process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    main([*flags, "--output_dir", str(tmp_path / "one")])
    said, _ = process.communicate(timeout=300)
    assert process.returncode == 0, said
    one, two = (stored_report(tmp_path / name) for name in ("one", "two"))
    for row, figures in one.values[0].items():
        assert two.values[0][row] == pytest.approx(figures, rel=1e-3, abs=1e-6)
    assert two.physics["generated"]["clips"] == 3
    assert said.count("R@1") == 1  # one process speaks
