"""The sample command as a user meets it: files, seeds, prompts of every kind, and what goes wrong."""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from data_loaders.corpus import Motion
from data_loaders.motion_files import Results, read_results
from model.capabilities import Request
from protos.files import file_name, numbered_folder
from sample import generation
from sample import sample as command
from sample.exports import ExportSettings
from sample.generation import STARTER, PromptError, clean_prompt, frames_of, load, requests_of, write_motions
from sample.prompt_files import read_prompt_file, requests_for
from sample.sample import SampleOptions
from tests.synthetic import walk
from train.train_length_estimator import LengthEstimatorOptions
from train.train_length_estimator import run as train_length_estimator

ROOT = Path(__file__).resolve().parents[1]
FAST = ("--sampling_steps", "2", "--no_video")


@pytest.fixture(scope="module")
def starter():
    return generation.load()


@pytest.fixture
def run(tmp_path, monkeypatch):
    """Runs the command in an empty folder; returns the folder it was run in."""

    def run_in_folder(*arguments: str) -> Path:
        monkeypatch.chdir(tmp_path)
        monkeypatch.setattr(sys, "argv", ["sample", *arguments])
        command.main()
        return tmp_path

    return run_in_folder


def result_of(folder: Path) -> Results:
    (output,) = (folder / "outputs").iterdir()
    return read_results(output)


def test_the_command_writes_everything_it_promises(run):
    folder = run("--text_prompt", "a person waves", "--motion_length", "2", "--num_repetitions", "2", *FAST[:2], "--gif")
    output = folder / "outputs" / "starter_a-person-waves_seed10"
    assert {path.name for path in output.iterdir()} == {
        "motions.npy", "motions.npz", "motions.txt", "motions_len.txt", "joints", "prompt00.mp4", "prompt00.png",
        "prompt00_rep00.mp4", "prompt00_rep01.mp4", "prompt00_rep00.gif", "prompt00_rep01.gif",
    }  # fmt: skip
    assert (output / "prompt00_rep00.mp4").read_bytes()[4:8] == b"ftyp"
    assert (output / "prompt00.png").read_bytes()[:4] == b"\x89PNG"
    content = np.load(output / "motions.npy", allow_pickle=True).item()  # as users' scripts read it
    assert content["motion"].shape == (2, 22, 3, 40) and content["motion"].dtype == np.float32
    assert list(content["lengths"]) == [40, 40] and content["text"] == ["a person waves"] * 2
    assert (content["num_samples"], content["num_repetitions"]) == (1, 2)
    joints = np.load(output / "joints" / "prompt00_rep01.npy")
    np.testing.assert_array_equal(joints, content["motion"][1].transpose(2, 0, 1))


def test_html_writes_a_page_per_prompt_with_the_repetitions_side_by_side(run, tmp_path):
    (tmp_path / "prompts.txt").write_text("a person bows#40\na person </script> walks#44\n")
    folder = run(*FAST, "--input_text", "prompts.txt", "--num_repetitions", "2", "--html", "--output_dir", "mine") / "mine"
    assert sorted(path.name for path in folder.glob("*.html")) == ["prompt00.html", "prompt01.html"]
    assert not list(folder.glob("*.mp4"))
    page = (folder / "prompt01.html").read_text()
    content = json.loads(re.search(r'<script type="application/json"[^>]*>(.*?)</script>', page, re.S)[1])
    assert [clip["label"] for clip in content["clips"]] == ["rep00", "rep01"]
    assert (content["sharedCaption"], content["fps"], content["frames"]) == ("a person </script> walks", 20.0, 44)


def test_files_for_other_programs_are_written_when_asked_for(run):
    asked = ("--text_prompt", "a person walks", "--motion_length", "1", "--num_repetitions", "2", "--output_dir", "mine")
    folder = run(*FAST, *asked, "--bvh", "--foot_lock") / "mine"
    names = {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.suffix in (".bvh", ".npy")}
    assert names == {"motions.npy"} | {
        f"{name}{suffix}" for row in (0, 1) for name, suffix in (
            (f"prompt00_rep0{row}", ".bvh"), (f"prompt00_rep0{row}", "_ik.bvh"), (f"joints/prompt00_rep0{row}", ".npy"),
            (f"joints/prompt00_rep0{row}", "_ik.npy"))
    }  # fmt: skip
    with pytest.raises(ValueError, match="add --bvh"):
        run(*FAST, *asked[:-1], "other", "--solver", "published")
    assert not (folder.parent / "other").exists()


def test_without_a_prompt_the_checkpoint_has_its_own(run):
    results = result_of(run(*FAST, "--num_repetitions", "1"))
    own = [line.split("#")[0] for line in (STARTER / "prompts.txt").read_text().splitlines()]
    assert results.texts == own


def test_prompt_files_give_lengths_in_frames(run, tmp_path):
    (tmp_path / "prompts.txt").write_text("a person bows#60\n\nsomeone runs # fast#44\na person walks\n")
    results = result_of(run(*FAST, "--input_text", "prompts.txt", "--num_repetitions", "2", "--motion_length", "3"))
    assert results.texts == ["a person bows", "someone runs # fast", "a person walks"] * 2
    assert [motion.joints.shape for motion in results.motions] == [(1, n, 22, 3) for n in (60, 44, 60)] * 2


def test_num_samples_repeats_the_prompt(run):
    results = result_of(run(*FAST, "--text_prompt", "a person bows", "--num_samples", "3", "--num_repetitions", "1"))
    first, second, _ = results.motions
    assert np.abs(first.joints - second.joints).max() > 1e-3


def test_prompts_from_the_test_split(run, small_dataset):
    results = result_of(run(*FAST, "--dataset", str(small_dataset), "--num_repetitions", "1", "--num_samples", "2"))
    assert len(results.texts) == 2
    assert set(results.texts) <= {"a person walks forward", "a person raises the left hand", "a person raises the right hand"}


def test_a_dataset_of_other_features_is_refused(run, recordings, tmp_path):
    from data_loaders.features import FeaturesMismatch
    from data_loaders.preparation import prepare
    from data_loaders.read_recordings import PreparationSettings

    prepare(PreparationSettings("bandai_namco", recordings, tmp_path / "published", workers=1, heading="published"))
    with pytest.raises(FeaturesMismatch, match="heading"):
        run(*FAST, "--dataset", str(tmp_path / "published"))


def test_the_same_seed_gives_the_same_bytes_and_another_seed_does_not(run, monkeypatch):
    arguments = ("--text_prompt", "a person kicks", "--motion_length", "2", "--num_repetitions", "1", "--sampling_steps", "2")
    folder = run(*arguments, "--output_dir", "one")
    run(*arguments, "--output_dir", "two")
    run(*arguments, "--output_dir", "three", "--seed", "11")
    for name in ("motions.npy", "prompt00_rep00.mp4", "prompt00.png", "joints/prompt00_rep00.npy"):
        assert (folder / "one" / name).read_bytes() == (folder / "two" / name).read_bytes()
    assert (folder / "one" / "motions.npy").read_bytes() != (folder / "three" / "motions.npy").read_bytes()


@pytest.mark.parametrize("what", ["weight", "statistics"])
def test_a_motion_that_is_not_finite_is_an_error_and_leaves_nothing(run, starter, tmp_path, monkeypatch, what):
    with pytest.raises(ValueError, match=r"'a person walks' came out with NaN .*guidance scale is too large \(1e\+30;"):
        generation.generate(["a person walks"], [20], starter, sampling_steps=2, guidance_scale=1e30)
    model = generation.load()
    if what == "weight":
        next(iter(model.denoiser.parameters())).data.view(-1)[0] = float("nan")
    else:
        model.autoencoder.std[0] = float("nan")
    monkeypatch.setattr(generation, "load", lambda *_: model)
    with pytest.raises(ValueError, match=r"'a person walks' came out with NaN or infinite values.*guidance scale.*weights"):
        run(*FAST, "--text_prompt", "a person walks", "--motion_length", "1", "--output_dir", "made")
    assert not (tmp_path / "made").exists()


def test_as_many_motions_are_made_at_once_as_asked(starter, monkeypatch):
    sizes = []
    hook = starter.denoiser.register_forward_pre_hook(lambda _, args: sizes.append(len(args[0])))
    generation.generate(["a person bows"] * 70, [8] * 70, starter, sampling_steps=2, guidance_scale=1.0, batch_size=70)
    hook.remove()
    assert set(sizes) == {70}


def test_an_empty_test_split_is_one_line_and_leaves_no_folder(run, small_dataset, tmp_path):
    shutil.copytree(small_dataset, tmp_path / "own")
    (tmp_path / "own" / "test.txt").write_text("")
    with pytest.raises(PromptError, match=r"the test split of .*own is empty: no prompt .*--text_prompt"):
        run(*FAST, "--dataset", str(tmp_path / "own"), "--output_dir", "made")
    assert not (tmp_path / "made").exists()


def test_a_model_without_texts_says_that_it_reads_none(starter, caplog):
    from model.lsremgm import LSReMGM
    from model.lsremgm_config import LSReMGMConfig

    config = LSReMGMConfig(condition="none", latent_dim=16, ff_size=16, num_layers=1, num_heads=2, diffusion_steps=2)
    assert requests_of(LSReMGM(config), "a person waves", 40) and "this model reads no text" in caplog.text
    caplog.clear()
    requests_of(starter, "a person waves", 40)
    assert "reads no text" not in caplog.text


def test_a_motion_does_not_depend_on_its_neighbours(starter):
    prompts = ["a person walks forward", "someone raises the right hand", "a man bows", "a person runs"]
    lengths, seeds = [60, 40, 52, 30], [5, 6, 7, 8]
    together = generation.generate(prompts, lengths, starter, seeds, sampling_steps=4)
    in_pairs = generation.generate(prompts, lengths, starter, seeds, sampling_steps=4, batch_size=2)
    alone = generation.generate(prompts[2:3], lengths[2:3], starter, seeds[2:3], sampling_steps=4)[0]
    for a, b, frames in zip(together, in_pairs, lengths):
        assert a.joints.shape == (1, frames, 22, 3)
        assert np.abs(a.joints - b.joints).max() < 1e-4
    assert np.abs(alone.joints - together[2].joints).max() < 1e-4


@pytest.mark.parametrize("prompt", ["", "   ", "\t\n", "...", "'\"/"])
def test_a_prompt_without_words_is_an_error(run, prompt):
    with pytest.raises(PromptError, match="the prompt is empty"):
        run(*FAST, "--text_prompt", prompt)


@pytest.mark.parametrize(
    "prompt", ["../../etc/passwd", "a/b\\c 'd' \"e\" ..", "walk; rm -rf / $(id)", "a person\nwalks\x07\x1b[31m"]
)
def test_a_prompt_never_becomes_a_path(run, prompt):
    folder = run(*FAST, "--text_prompt", prompt, "--num_repetitions", "1", "--motion_length", "1")
    (output,) = (folder / "outputs").iterdir()
    assert output.parent == folder / "outputs" and set(output.name) <= set("abcdefghijklmnopqrstuvwxyz0123456789-_")
    assert len((output / "motions.txt").read_text().splitlines()) == 1


def test_a_very_long_prompt_is_cut_by_the_text_encoder_with_a_word(run, capsys):
    folder = run(*FAST, "--text_prompt", "someone walks then waves " * 80, "--num_repetitions", "1")
    (output,) = (folder / "outputs").iterdir()
    assert len(output.name) < 80
    assert "tokens are ignored" in capsys.readouterr().err


def test_a_prompt_in_another_language_is_made_with_a_warning(run, capsys):
    results = result_of(run(*FAST, "--text_prompt", "人が左手を上げる", "--num_repetitions", "1"))
    assert results.texts == ["人が左手を上げる"]
    assert "English" in capsys.readouterr().err


@pytest.mark.parametrize("seconds", ["0", "-3", "nan", "inf"])
def test_a_length_that_is_no_length_is_an_error(run, seconds, capsys):
    with pytest.raises(SystemExit) as stopped:
        run(*FAST, "--text_prompt", "a person walks", "--motion_length", seconds)
    assert stopped.value.code == 2 and "--motion_length must be above 0, at most 86400" in capsys.readouterr().err
    with pytest.raises(PromptError, match="seconds above 0"):
        frames_of(float(seconds), 20.0, 196)


def test_a_length_beyond_the_model_is_cut_and_said(run, capsys):
    results = result_of(run(*FAST, "--text_prompt", "a person walks", "--motion_length", "60", "--num_repetitions", "1"))
    assert [motion.joints.shape[1] for motion in results.motions] == [196]
    assert "cut to 9.8 s" in capsys.readouterr().err


def test_more_steps_than_the_model_was_trained_with_are_refused_and_leave_no_folder(run, tmp_path):
    with pytest.raises(ValueError, match="5000"):
        run("--text_prompt", "a person walks", "--sampling_steps", "5000", "--output_dir", "mine")
    assert not (tmp_path / "mine").exists()


def test_an_unknown_checkpoint_names_what_was_expected(run):
    with pytest.raises(ValueError, match=r"nowhere.*config.json"):
        run(*FAST, "--model_path", "nowhere", "--text_prompt", "a person walks")


def test_an_existing_folder_is_kept(run, tmp_path):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "notes.txt").write_text("dear")
    run(*FAST, "--text_prompt", "a person walks", "--num_repetitions", "1", "--output_dir", "mine")
    assert [path.name for path in (tmp_path / "mine").iterdir()] == ["notes.txt"]
    assert (tmp_path / "mine_2" / "motions.npy").is_file()


def test_an_output_path_below_a_file_is_an_error(run, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(NotADirectoryError, match="is a file, not a folder"):
        run(*FAST, "--text_prompt", "a person walks", "--output_dir", "file/below")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs a device that is always full")
def test_a_full_disk_is_an_error_and_leaves_nothing_half_written(tmp_path):
    from protos.files import atomic_path

    with pytest.raises(OSError, match="No space left"), atomic_path(tmp_path / "a.npy") as path:
        path.symlink_to("/dev/full")
        path.write_bytes(b"0" * 100_000)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--text_prompt", " "], "the prompt is empty"),
        (["--text_prompt", "walk", "--model_path", "nowhere"], "no checkpoint at nowhere"),
        (["--text_prompt", "walk", "--output_dir", "/dev/null/x"], "is a file, not a folder"),
        (["--input_text", "absent.txt"], "absent.txt: no such file"),
        (["--text_prompt", "walk", "--input_text", "x.txt"], "give one of"),
        (["--text_prompt", "walk", "--device", "abacus"], "unknown device"),
        (["--text_prompt", "walk", "--device", "meta"], "--device meta: not a device that this program runs on"),
        (["--text_prompt", "walk", "--device", "xpu"], "--device xpu"),
        (["--text_prompt", "walk", "--num_samples", "1000000", "--num_repetitions", "100000"], "one run makes at most 5,000,000"),
    ],
)
def test_errors_are_one_line_and_a_non_zero_exit(tmp_path, arguments, message):
    command_line = [sys.executable, "-m", "sample.sample", *arguments]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(command_line, cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert done.returncode == 1
    lines = done.stderr.strip().splitlines()
    assert len(lines) == 1 and lines[0].startswith("error: ") and message in lines[0]
    assert list(tmp_path.iterdir()) == []


def test_prompt_files_are_checked_line_by_line(tmp_path, caplog):
    path = tmp_path / "p.txt"
    for content, message in (
        ("walk#soon\n", "line 1: after '#' a number of frames"),
        (f"walk\nwalk#{'9' * 400}\n", "line 2: after '#' a number of frames or NA is expected, not '9999"),
        (f"bow\n{'walk ' * 5000}\n", "line 2: the prompt has .* characters, at most 10,000"),
        ("walk\0#60\n", "p.txt: holds zero bytes"),
        ("walk\n...\n", "line 2: the prompt is empty"),
        ("\n \n", "holds no prompt"),
    ):
        path.write_text(content)
        with pytest.raises(ValueError, match=message):
            read_prompt_file(path, 120, 20.0, 196)
    for content, message in (
        (b"\xff\xfe\x00w", "UTF-16 text, expected UTF-8"),
        ("walk\nqué".encode("latin-1"), r"p\.txt, line 2: not UTF-8 text .*Latin-1"),
    ):
        path.write_bytes(content)
        with pytest.raises(ValueError, match=message):
            read_prompt_file(path, 120, 20.0, 196)
    with pytest.raises(PromptError, match="is a folder, expected a text file"):
        read_prompt_file(tmp_path, 120, 20.0, 196)
    path.write_bytes("\ufeffwalk\x0b\x1b[31m up\u2028down#60\rbow".encode())
    requests = read_prompt_file(path, 120, 20.0, 196)
    assert [(each.text, each.frames) for each in requests] == [("walk [31m up down", 60), ("bow", 120)]
    assert "p.txt: line 2 says no length behind a '#', as others do: taking the default" in caplog.text


def test_names_and_numbers():
    assert file_name("A person — très vite — walks!") == "a-person-tres-vite-walks"
    assert file_name("人") == "prompt"
    assert clean_prompt("  a \n person\twalks ") == "a person walks"
    assert frames_of(6.0, 20.0, 196) == 120
    assert frames_of(6.0, 12.5, 196) == 75


def test_new_folders_count_up(tmp_path):
    assert [numbered_folder(tmp_path / "run").name for _ in range(3)] == ["run", "run_2", "run_3"]


def test_two_persons_are_written_as_one_is(tmp_path):
    pair = np.stack([walk(20), walk(20) + [1.0, 0.0, 0.0]]).astype(np.float32)
    settings = ExportSettings(html=True)
    write_motions(tmp_path, [Motion(pair, 20.0, captions=("two people walk",))], 1, settings)
    names = {path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*") if path.is_file()}
    assert names == {"motions.npy", "motions.npz", "motions.txt", "motions_len.txt", "p1.npy", "p2.npy", "prompt00.html",
                     "prompt00.png", "prompt00_rep00.mp4", "joints/prompt00_rep00.npy"}  # fmt: skip
    assert np.load(tmp_path / "joints" / "prompt00_rep00.npy").shape == (2, 20, 22, 3)
    assert np.array_equal(read_results(tmp_path).motions[0].joints, pair)


def test_lengths_that_a_file_leaves_open_are_estimated_by_text_and_place(tmp_path, small_dataset):
    lengths = tmp_path / "lengths"
    options = LengthEstimatorOptions(save_dir=str(lengths), dataset=str(small_dataset), num_steps=2, batch_size=2, hidden=8,
                                     words="minilm", eval_interval=0, save_interval=2, device="cpu")  # fmt: skip
    train_length_estimator(options)
    prompts = tmp_path / "prompts.txt"
    prompts.write_text("a person walks#NA\na person bows#40\na person walks#NA\na person waves # na\n")
    model = load()
    found = requests_for(model, input_text=prompts, length_estimator=lengths)
    assert [request.text for request in found] == ["a person walks", "a person bows", "a person walks", "a person waves"]
    assert found[1].frames == 40 and all(8 <= request.frames <= model.config.max_frames for request in found)
    assert [request.frames for request in requests_for(model, input_text=prompts, length_estimator=lengths)] == [
        request.frames for request in found]
    with pytest.raises(PromptError, match="give a --length_estimator"):
        requests_for(model, input_text=prompts)
    prompts.write_text("a person walks#soon\n")
    with pytest.raises(PromptError, match=r"line 1: after '#' a number of frames or NA is expected, not 'soon'"):
        requests_for(model, input_text=prompts)


@pytest.mark.parametrize("metres", [1e39, 1e30, 1e5])
def test_whatever_made_them_motions_that_no_file_can_hold_are_refused_and_leave_nothing(tmp_path, metres):
    """What is farther away than files are read back from is not written either."""
    def huge(rows):
        return [Motion(np.where(np.arange(22)[:, None] == 3, metres, walk(10))[None], 20.0, "humanml") for _ in rows]

    settings = SampleOptions(output_dir=tmp_path / "made", video=False)
    with pytest.raises(ValueError, match="starter: the motion for 'walk' came out with NaN or infinite values"):
        generation.write_made(huge, [Request("walk", 10)], settings, STARTER, "walk", "humanml")
    assert not (tmp_path / "made").exists()


def test_a_letter_that_the_terminal_lacks_ends_no_run(tmp_path):
    said = "from protos.options import run_command\nrun_command(lambda: print('FID \\u2193 \\udcff'))\n"
    (tmp_path / "says.py").write_text(said)
    places = {"PYTHONIOENCODING": "ascii", "PYTHONPATH": str(Path(__file__).parents[1])}
    told = subprocess.run([sys.executable, "says.py"], cwd=tmp_path, capture_output=True, text=True, env={**os.environ, **places})
    assert (told.returncode, told.stdout) == (0, "FID \\u2193 \\udcff\n"), told.stderr
