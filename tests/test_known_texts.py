"""What weights do not know is told: prompts of actions that the data lack, and not other wordings of what they show."""

import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from data_loaders.corpus import Corpus
from evaluations.eval_known_texts import prompts
from model.known_texts import FILE, THRESHOLD, KnownTexts, clauses, everyday_actions
from protos.reading import FileError
from sample.demo_maker import Maker, motion_checkpoints
from sample.generation import STARTER, unknown_prompts

ROOT = Path(__file__).resolve().parents[1]
PUDDLE = "someone jumps over a puddle and sits down on a chair"
CAPTIONS = ["a person walks forward", "a man walks and turns left", "someone waves the right hand", "a woman bows, then waves"]


@pytest.fixture(scope="module")
def sketch() -> KnownTexts:
    return KnownTexts.load(STARTER / FILE)


def warned_of(sketch: KnownTexts, texts: list[str]) -> float:
    return float(np.mean([verdict.outside for verdict in sketch.judge(texts)]))


@pytest.mark.slow
def test_wordings_of_what_the_data_show_pass_and_actions_that_they_lack_are_told(bandai_namco):
    captioned = Corpus.open(bandai_namco).captioned("train").values()
    sketch = KnownTexts.make([caption.text for captions in captioned for caption in captions])
    for asked in prompts("bandai_namco").values():
        assert len(asked.known) >= 100 and len(asked.lacking) >= 60
        assert warned_of(sketch, asked.known) <= 0.02
        assert warned_of(sketch, asked.lacking) >= 0.9


@pytest.mark.parametrize("part", ["calibration", "test"])
def test_the_more_data_show_the_fewer_actions_that_they_lack_are_told(sketch, part):
    """The weights that come with the code know jumps, kicks, dances and more: more of what they lack is near something."""
    asked = prompts("bandai_cmu")[part]
    assert len(asked.known) >= 100 and len(asked.lacking) >= 40
    assert warned_of(sketch, asked.known) <= 0.02
    assert warned_of(sketch, asked.lacking) >= 0.75


def test_no_prompt_of_the_test_part_was_calibrated_on():
    calibration, test = prompts("bandai_cmu").values()
    assert not {*calibration.known, *calibration.lacking} & {*test.known, *test.lacking}
    assert not set(prompts("bandai_namco")["test"].lacking) & set(everyday_actions())


def test_what_merged_data_show_beside_their_base_is_no_longer_asked_as_lacking():
    base, merged = prompts("bandai_namco")["test"], prompts("bandai_cmu")["test"]
    assert "the climber climbs a rock" in base.lacking and "the climber climbs a rock" not in merged.lacking
    assert set(base.known) < set(merged.known) and set(merged.lacking) < set(base.lacking)


def test_the_part_that_is_unknown_is_named_with_what_is_known_nearest(sketch):
    verdict, known = sketch.judge(["a person walks forward and then sits down on a chair",
                                   "a person walks forward and then waves the right hand"])  # fmt: skip
    assert verdict.outside and verdict.part == "a person sits down on a chair"
    assert len(set(verdict.nearest)) == 3 and all(text.startswith("a person ") for text in verdict.nearest)
    assert not known.outside and not known.nearest


@pytest.mark.parametrize(
    "text, parts",
    [
        ("someone jumps over a puddle and sits down", ["a person jumps over a puddle", "a person sits down"]),
        ("she raises the left and right hand", ["a person raises the left and right hand"]),
        ("he walks away, looking back", ["a person walks away , looking back"]),
        ("bow", ["a person bow"]),
        ("...", ["..."]),
    ],
)
def test_a_text_is_read_action_by_action_without_its_subject(text, parts):
    assert clauses(text) == parts


def test_a_long_text_is_read_in_no_time():
    start = time.process_time()
    assert clauses("a person" + " " * 200_000 + "walks" + " and then jumps," * 10_000)[0] == "a person walks"
    assert time.process_time() - start < 5


def test_a_sketch_is_small_and_the_same_however_often_it_is_made(tmp_path, sketch):
    assert (STARTER / FILE).stat().st_size <= 200_000
    for name in ("a", "b"):
        KnownTexts.make(list(reversed(CAPTIONS)) if name == "b" else CAPTIONS).save(tmp_path / name)
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()
    sketch.save(tmp_path / "again")
    assert (tmp_path / "again").read_bytes() == (STARTER / FILE).read_bytes()


def test_a_sketch_too_small_for_its_captions_warns_of_few_of_them():
    captions = [f"a person {action.removeprefix('a person ')} {manner}" for action in everyday_actions()
                for manner in ("slowly", "with a friend", "in the garden at night")]  # fmt: skip
    made = KnownTexts.make(captions)
    assert made.threshold >= THRESHOLD and warned_of(made, captions) <= 0.02


def test_captions_that_show_an_action_make_it_known():
    assert KnownTexts.make(CAPTIONS).judge(["a man sits down on a chair"])[0].outside
    assert not KnownTexts.make([*CAPTIONS, "a person sits down on a chair"]).judge(["a man sits down on a chair"])[0].outside


def test_judging_costs_a_prompt_milliseconds(sketch):
    texts = [f"a person walks {count} steps and kneels down" for count in range(3, 23)]
    sketch.judge(["a person waves"])
    start = time.process_time()
    for text in texts:
        sketch.judge([text])
    assert (time.process_time() - start) / len(texts) < 0.1


def damaged(case: str) -> dict:
    rows = np.ones((3, 384), np.int8)
    good = {"known": rows, "lacking": rows, "words": np.frombuffer(b"walk", np.uint8),
            "texts": np.frombuffer(b"a person walks", np.uint8), "threshold": np.float32(0)}  # fmt: skip
    return {
        "array of objects": {**good, "texts": np.array([{}], object)},
        "width": {**good, "known": rows[:, :5]},
        "absent": {name: value for name, value in good.items() if name != "lacking"},
        "not finite": {**good, "threshold": np.float32("nan")},
        "too many texts": {**good, "texts": np.frombuffer(b"a\nb\nc\nd", np.uint8)},
        "not bytes": {**good, "texts": np.array([300, -1, 10**6])},
        "no captions": {**good, "known": rows[:0], "texts": np.frombuffer(b"", np.uint8)},
        "bomb": {**good, "known": np.zeros((20_000, 384), np.int8)},
    }[case]


@pytest.mark.parametrize(
    "case", ["array of objects", "width", "absent", "not finite", "too many texts", "not bytes", "no captions", "bomb"])
def test_a_damaged_sketch_is_named_in_one_line(tmp_path, case):
    np.savez_compressed(tmp_path / FILE, **damaged(case))
    with pytest.raises(FileError, match=rf"^.*{FILE}.*$"):
        KnownTexts.load(tmp_path / FILE)


def sample(*arguments: str, folder: Path) -> str:
    """What `python -m sample.sample` says."""
    command = [sys.executable, "-m", "sample.sample", "--sampling_steps", "2", "--no_video", "--num_repetitions", "1",
               "--motion_length", "1", "--output_dir", str(folder), *arguments]  # fmt: skip
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    assert (folder / "motions.npz").is_file()
    return done.stderr + done.stdout


def test_the_sample_command_says_in_one_line_what_lies_outside(tmp_path):
    (tmp_path / "prompts.txt").write_text(f"{PUDDLE}\na person bows\n{PUDDLE}\n")
    told = [line for line in sample("--input_text", str(tmp_path / "prompts.txt"), folder=tmp_path / "made").splitlines()
            if "lies outside" in line]  # fmt: skip
    assert len(told) == 1 and PUDDLE in told[0] and told[0].count("; ") == 3 and "a person " in told[0]


def test_a_damaged_sketch_costs_the_warning_only_and_is_named(tmp_path):
    weights = tmp_path / "weights"
    weights.mkdir()
    for name in ("config.json", "model.safetensors", "stats.npz", "parts"):
        (weights / name).symlink_to(STARTER / name)
    (weights / FILE).write_bytes((STARTER / FILE).read_bytes()[:1000])
    said = sample("--model_path", str(weights), "--text_prompt", PUDDLE, folder=tmp_path / "made").splitlines()
    told = [line for line in said if FILE in line]
    assert len(told) == 1 and "not a readable" in told[0] and not any("lies outside" in line for line in said)


def test_the_demo_says_it_above_the_motion_and_weights_without_a_sketch_say_nothing(tmp_path):
    maker = Maker({"starter": motion_checkpoints([])["starter"]}, "cpu")
    assert maker.outside("a person waves with both hands") == ""
    line = maker.outside(PUDDLE)
    assert "\n" not in line and "lies outside what these weights know" in line
    networks = maker._open(maker.checkpoints["starter"])
    assert [line] == unknown_prompts(STARTER, [PUDDLE, PUDDLE], networks)
    assert unknown_prompts(tmp_path, [PUDDLE], networks) == []


def test_a_sketch_is_added_to_weights_that_have_none_and_replaced_only_when_asked(tmp_path, small_dataset):
    from train.known_texts import main

    (tmp_path / "config.json").write_text("{}")
    asked = ["--checkpoint", str(tmp_path), "--dataset", str(small_dataset)]
    main(asked)
    assert not KnownTexts.load(tmp_path / FILE).judge(["a person walks forward"])[0].outside
    with pytest.raises(FileError, match="--overwrite"):
        main(asked)
    main([*asked, "--overwrite"])
