"""The training loop: what a killed, stopped, split or diverging run does to the weights."""

import json
import math
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest
import torch

from protos.options import make_options
from protos.outputs import OutputError
from tests import tiny_training
from tests.tiny_training import TinyDenoiser, TinyOptions, run
from tests.typed import flags
from train import checkpoints
from train.loop import DivergedError, clip_gradients, learning_rate, train, update_average
from train.options import TrainOptions
from train.progress import Meter, Progress
from train.recipe import Recipe

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture
def options(tmp_path) -> TinyOptions:
    return TinyOptions(
        save_dir=str(tmp_path / "run"), num_steps=12, batch_size=8, lr=1e-2, log_interval=1, save_interval=4,
        keep_last=0, ema_decay=0.9, device="cpu",
    )  # fmt: skip


def start(options: TinyOptions) -> subprocess.Popen:
    command = [sys.executable, "-m", "tests.tiny_training", *flags(options)]
    env = {**os.environ, "OMP_NUM_THREADS": "1"}
    return subprocess.Popen(command, cwd=ROOT, env=env, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)


def log(options: TinyOptions) -> list[dict]:
    return [json.loads(line) for line in (Path(options.save_dir) / "log.jsonl").read_text().splitlines()]


def losses(options: TinyOptions) -> list[float]:
    return [line["loss"] for line in log(options) if "loss" in line]


def weights(options: TinyOptions, which: str = "networks") -> torch.Tensor:
    state = checkpoints.read_training_state(checkpoints.complete(Path(options.save_dir))[-1])
    return torch.cat([tensor.flatten() for tensor in state[which].values()])


def wait_until(condition, process: subprocess.Popen, seconds: float = 300) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert process.poll() is None, process.stderr.read()
        assert time.monotonic() < end, "the command did nothing for five minutes"
        time.sleep(0.01)


def test_a_run_killed_with_kill_9_goes_on_as_if_nothing_had_happened(options):
    options = replace(options, num_steps=1_000_000, save_interval=15, log_interval=1, keep_last=2, dropout=0.2)
    process, folder = start(options), Path(options.save_dir)
    wait_until(lambda: len(checkpoints.complete(folder)) == 2, process)
    process.send_signal(signal.SIGKILL)
    process.wait()
    last = int(checkpoints.complete(folder)[-1].name.removeprefix("step_"))
    assert checkpoints.complete(folder)[-1].name == f"step_{last:09d}"

    options = replace(options, num_steps=last + 20)
    resumed = run(options)
    unbroken = replace(options, save_dir=str(folder.with_name("unbroken")))
    run(unbroken)
    assert resumed.step == last + 20
    assert [line["step"] for line in log(options)] == list(range(1, last + 21))
    assert losses(options)[-20:] == losses(unbroken)[-20:]
    for which in ("networks", "average"):
        assert torch.equal(weights(options, which), weights(unbroken, which))


def test_the_averages_of_the_log_survive_a_kill_between_two_lines(options, tmp_path):
    def die(networks, step):
        raise KeyboardInterrupt

    options = replace(options, log_interval=6, sample_interval=10)
    run(replace(options, save_dir=str(tmp_path / "unbroken")))
    with pytest.raises(KeyboardInterrupt):
        run(options, sample=die)
    with open(Path(options.save_dir) / "log.jsonl", "a") as file:
        file.write('{"step": 9, "loss": 1.0}\n{"step": 10, "lo')  # logged after the checkpoint of step 8, then torn
    run(options)
    assert [line["step"] for line in log(options)] == [6, 12]
    assert losses(options) == losses(replace(options, save_dir=str(tmp_path / "unbroken")))


@pytest.mark.parametrize("lines", ["a note\n", "7\n", '{"step": "nine"}\n', "[" * 5000 + "\n", '{"loss": NaN}\n'])
def test_lines_of_a_log_that_are_no_record_stay_and_end_no_run(tmp_path, lines):
    path = tmp_path / "log.jsonl"
    path.write_text('{"step": 1}\n' + lines + '{"step": 5}\n{"st')
    Progress(tmp_path, 4, 10, 1, active=True).close()
    assert path.read_text() == '{"step": 1}\n' + lines


def test_a_log_that_is_no_text_is_named(tmp_path):
    (tmp_path / "log.jsonl").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ValueError, match=r"log\.jsonl: is UTF-16"):
        Progress(tmp_path, 4, 10, 1, active=True)


def test_what_is_not_finite_is_null_in_the_log(tmp_path):
    progress = Progress(tmp_path, 0, 10, 1, active=True)
    progress.write(1, {"grad_norm": float("inf"), "loss": 2.0})
    progress.close()
    (line,) = (tmp_path / "log.jsonl").read_text().splitlines()
    assert json.loads(line, parse_constant=pytest.fail)["grad_norm"] is None


def test_two_processes_train_the_same_model_as_one_with_twice_the_batch(options, tmp_path):
    one = replace(options, batch_size=16)
    two = replace(options, save_dir=str(tmp_path / "two"), processes=2)
    process = start(two)
    run(one)
    _, said = process.communicate(timeout=300)
    assert process.returncode == 0, said
    assert "16 samples per step, fp32 on 2 x cpu" in said
    assert losses(two) == pytest.approx(losses(one), rel=1e-5)
    for which in ("networks", "average"):
        torch.testing.assert_close(weights(two, which), weights(one, which), rtol=0, atol=2e-6)


def test_accumulated_batches_train_the_same_model_as_a_larger_one(options, tmp_path):
    run(replace(options, batch_size=24))
    parts = replace(options, accumulation=3, save_dir=str(tmp_path / "parts"))
    run(parts)
    torch.testing.assert_close(weights(parts), weights(options), rtol=0, atol=2e-6)


@pytest.mark.parametrize("number, code, processes", [(signal.SIGINT, 130, 1), (signal.SIGTERM, 143, 1), (signal.SIGTERM, 143, 2)])
def test_ctrl_c_and_sigterm_save_before_they_end_the_run(options, number, code, processes):
    process = start(replace(options, num_steps=1_000_000, save_interval=1_000_000, processes=processes))
    wait_until(lambda: (Path(options.save_dir) / "log.jsonl").is_file() and len(losses_so_far(options)) > 3, process)
    process.send_signal(number)
    _, said = process.communicate(timeout=300)
    assert process.returncode == code and "Traceback" not in said
    assert f"stopped by {number.name} at step" in said
    saved = checkpoints.complete(Path(options.save_dir))
    assert [int(folder.name[-9:]) for folder in saved] == [log(options)[-1]["step"]]


def losses_so_far(options: TinyOptions) -> list[str]:
    return (Path(options.save_dir) / "log.jsonl").read_text().split("\n")[:-1]


def test_a_run_stops_after_its_minutes_with_a_checkpoint(options):
    result = run(replace(options, num_steps=1_000_000, save_interval=1_000_000, max_minutes=0.005))
    assert 0 < result.step < 1_000_000
    assert result.checkpoint.name == f"step_{result.step:09d}"


def test_checkpoints_are_written_when_time_has_passed(options):
    result = run(replace(options, num_steps=5, save_interval=1000, save_minutes=1e-9))
    assert len(checkpoints.complete(Path(options.save_dir))) == result.step


def test_a_gradient_that_is_not_finite_changes_nothing(options):
    run(replace(options, num_steps=6))
    before, average = weights(options), weights(options, "average")
    run(replace(options, num_steps=7, bad_step=6))
    assert torch.equal(weights(options), before) and torch.equal(weights(options, "average"), average)


def test_the_log_stays_json_where_a_gradient_is_not_finite(options):
    run(replace(options, bad_step=10))
    lines = (Path(options.save_dir) / "log.jsonl").read_text().splitlines()

    def refuse(word: str) -> None:
        raise AssertionError(f"{word} is no JSON")

    norms = [json.loads(line, parse_constant=refuse).get("grad_norm") for line in lines]
    assert norms[-1] is None and norms[0] > 0


def test_a_diverging_run_stops_and_keeps_its_last_good_checkpoint(options):
    options = replace(options, num_steps=100, bad_step=6, save_interval=5)
    with pytest.raises(DivergedError, match=r"20 steps in a row .* last good checkpoint is .*step_0000000\d\d"):
        run(options)
    assert weights(options).isfinite().all()


def test_the_newest_checkpoints_and_the_best_are_kept(options, tmp_path):
    judged = iter([3.0, 1.0, 2.0])
    result = run(
        replace(options, keep_last=2, save_interval=2, eval_interval=4),
        evaluate=lambda model, step: {"loss": next(judged), "training": float(model.networks.training)},
    )
    folder = Path(options.save_dir)
    assert [path.name for path in checkpoints.complete(folder)] == ["step_000000010", "step_000000012"]
    assert result.checkpoint == folder / "step_000000012"
    assert json.loads((folder / "best" / "metrics.json").read_text()) == {"step": 8, "loss": 1.0, "training": 0.0}
    assert (folder / "best" / "model.safetensors").is_file() and not (folder / "best" / "training_state.pt").exists()
    assert [line["eval/loss"] for line in log(options) if "eval/loss" in line] == [3.0, 1.0, 2.0]


def test_the_best_figure_survives_a_resume(options):
    run(replace(options, num_steps=4, eval_interval=4), evaluate=lambda model, step: {"loss": 1.0})
    run(replace(options, num_steps=8, eval_interval=4), evaluate=lambda model, step: {"loss": 2.0})
    assert json.loads((Path(options.save_dir) / "best" / "metrics.json").read_text())["step"] == 4


def test_only_whole_checkpoints_count_and_remains_of_a_killed_write_are_cleared(options):
    run(replace(options, num_steps=4))
    folder = Path(options.save_dir)
    (folder / "step_000000099").mkdir()
    (folder / ".step_000000098.1.partial").mkdir()
    assert run(replace(options, num_steps=5)).step == 5
    assert not (folder / ".step_000000098.1.partial").exists()


def test_overwrite_begins_anew_and_deletes_nothing_that_training_did_not_write(options):
    run(options)
    folder = Path(options.save_dir)
    (folder / "notes.txt").write_text("mine")
    (folder / "step_notes").mkdir()
    run(replace(options, overwrite=True, num_steps=2))
    assert [path.name for path in checkpoints.complete(folder)] == ["step_000000002"]
    assert [line["step"] for line in log(options)] == [1, 2]
    assert (folder / "notes.txt").is_file() and (folder / "step_notes").is_dir()


def test_a_best_folder_of_someone_else_is_not_replaced(options):
    mine = Path(options.save_dir) / "best" / "config.json"
    mine.parent.mkdir(parents=True)
    mine.write_text("mine")
    with pytest.raises(OutputError, match=r"best .*did not write|best holds files"):
        run(replace(options, eval_interval=1), evaluate=lambda model, step: {"loss": 1.0})
    assert mine.read_text() == "mine" and not checkpoints.complete(Path(options.save_dir))


def test_a_checkpoint_of_another_network_is_refused_in_one_line(options):
    run(options)
    with pytest.raises(ValueError, match=r"has shape \(16, 5\), expected \(32, 5\): give the options") as error:
        run(replace(options, width=32, num_steps=20))
    assert "\n" not in str(error.value)


def test_a_damaged_training_state_is_named(options):
    run(options)
    newest = checkpoints.complete(Path(options.save_dir))[-1]
    content = (newest / "training_state.pt").read_bytes()
    (newest / "training_state.pt").write_bytes(content[: len(content) // 2])
    with pytest.raises(ValueError, match=r"training_state\.pt: damaged .* to go on with an older one"):
        run(replace(options, num_steps=20))


def test_two_runs_never_write_the_same_folder(options):
    with checkpoints.alone(Path(options.save_dir)), pytest.raises(OutputError, match=r"another process writes .*--save_dir"):
        run(options)
    run(options)


def test_a_save_dir_that_is_a_file_is_refused(options):
    Path(options.save_dir).write_text("")
    with pytest.raises(ValueError, match="is a file, expected a folder"):
        run(options)


def test_a_named_checkpoint_is_gone_on_with_in_another_folder(options, tmp_path):
    run(options)
    named = checkpoints.complete(Path(options.save_dir))[0]
    other = replace(options, save_dir=str(tmp_path / "other"), resume_checkpoint=str(named))
    run(other)
    assert [line["step"] for line in log(other)] == list(range(5, 13))
    assert torch.equal(weights(other), weights(options))


def test_the_folder_of_a_run_stands_for_its_newest_checkpoint(options, tmp_path):
    run(replace(options, num_steps=8))
    other = replace(options, save_dir=str(tmp_path / "other"), resume_checkpoint=options.save_dir)
    run(other)
    assert [line["step"] for line in log(other)] == [9, 10, 11, 12]


def test_weights_without_a_training_state_are_a_starting_point(options, tmp_path):
    first = run(options)
    (first.checkpoint / "training_state.pt").unlink()
    other = replace(options, save_dir=str(tmp_path / "other"), resume_checkpoint=str(first.checkpoint), lr=1e-12)
    second = run(replace(other, num_steps=1))
    assert second.step == 1
    for a, b in zip(second.model.networks.parameters(), first.model.networks.parameters()):
        torch.testing.assert_close(a, b, rtol=0, atol=1e-6)


def test_a_resume_checkpoint_without_weights_is_refused(options, tmp_path):
    with pytest.raises(ValueError, match=r"no training_state\.pt and no model\.safetensors there"):
        run(replace(options, resume_checkpoint=str(tmp_path)))


def test_a_full_disk_ends_the_run_with_one_line_and_no_half_checkpoint(options):
    folder = Path(options.save_dir)
    command = f'ulimit -f 4; exec "$0" -m tests.tiny_training {" ".join(flags(replace(options, log_interval=12)))}'
    env = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(["bash", "-c", command, sys.executable], cwd=ROOT, env=env, capture_output=True, text=True)
    assert done.returncode == 1, done.stderr
    assert done.stderr.splitlines()[-1].startswith("error: ") and "Traceback" not in done.stderr
    assert not checkpoints.complete(folder) and not list(folder.glob(".step*"))


def test_an_error_in_the_data_reaches_the_user(options):
    def batches(step, part, parts):
        raise ValueError(f"clip 17 has no frames (step {step})")

    with pytest.raises(ValueError, match="clip 17 has no frames"):
        train(Recipe(partial(tiny_training.tiny, options), batches), options)


def test_samples_that_cannot_be_drawn_do_not_end_the_run(options, caplog):
    def sample(networks, step):
        raise OSError("ffmpeg is missing")

    assert run(replace(options, sample_interval=5), sample=sample).step == 12
    assert "step 10: no samples: ffmpeg is missing" in caplog.text


def test_bf16_computes_in_bfloat16_and_keeps_weights_in_float32(options):
    seen = set()

    def watched():
        model = tiny_training.tiny(options)
        model.networks["denoiser"].register_forward_hook(lambda module, given, out: seen.add(out.dtype))
        return model

    result = train(Recipe(watched, tiny_training.TinyData(options)), replace(options, precision="bf16", use_ema=False))
    assert seen == {torch.bfloat16}
    assert {p.dtype for p in result.model.networks.parameters()} == {torch.float32}
    assert weights(options).dtype == torch.float32


def test_training_lowers_the_loss(options):
    options = replace(options, num_steps=150)
    run(options)
    assert sum(losses(options)[-30:]) < 0.7 * sum(losses(options)[:30])


def test_background_threads_change_nothing(options, tmp_path):
    run(replace(options, num_workers=0))
    threaded = replace(options, num_workers=3, save_dir=str(tmp_path / "threads"))
    run(threaded)
    assert losses(threaded) == losses(options)


def test_frozen_weights_stay_and_the_average_is_optional(options):
    model = tiny_training.tiny(options)
    first = model.networks["denoiser"].net[0].requires_grad_(False)
    frozen = first.weight.clone()
    result = train(Recipe(lambda: model, tiny_training.TinyData(options)), replace(options, use_ema=False))
    assert result.model is model and not model.networks.training
    assert torch.equal(first.weight, frozen)


def test_each_network_is_clipped_by_itself_and_so_are_weights_of_no_network():
    networks = torch.nn.Sequential(torch.nn.Linear(3, 2), torch.nn.Linear(2, 2))
    networks.scale = torch.nn.Parameter(torch.ones(4))
    (100 * (networks(torch.ones(1, 3)).sum() + networks.scale.sum())).backward()
    assert clip_gradients(networks, 1.0, each=True) > 200
    for part in (list(networks[0].parameters()), list(networks[1].parameters()), [networks.scale]):
        assert torch.stack([p.grad.norm() for p in part]).norm() == pytest.approx(1.0, rel=1e-4)


def test_a_term_that_some_steps_lack_is_averaged_under_its_own_name():
    meter = Meter()
    for terms in ({"a": 1.0, "c": 5.0}, {"a": 3.0, "b": 7.0}, {"b": 9.0, "c": 7.0}):
        meter.add({name: torch.tensor(value) for name, value in terms.items()})
    assert meter.means() == {"a": 2.0, "b": 8.0, "c": 6.0}
    restored = Meter()
    restored.restore(meter.state(), torch.device("cpu"))
    restored.add({"a": torch.tensor(5.0)})
    assert restored.means() == {"a": 3.0, "b": 8.0, "c": 6.0}
    earlier = Meter()  # as an earlier version wrote it
    earlier.restore({"names": ["a", "b"], "sums": torch.tensor([4.0, 8.0]).double(), "count": 2}, torch.device("cpu"))
    assert earlier.means() == {"a": 2.0, "b": 4.0}


def test_the_average_follows_the_weights():
    average, networks = TinyDenoiser(), TinyDenoiser()
    expected = [0.9 * a + 0.1 * p for a, p in zip(average.parameters(), networks.parameters())]
    update_average(average, networks, 0.9)
    for a, e in zip(average.parameters(), expected):
        torch.testing.assert_close(a, e)


def test_learning_rates():
    options = TrainOptions(save_dir="x", num_steps=100, lr=1.0, warmup_steps=10)
    assert [learning_rate(step, options) for step in (0, 4, 9, 10, 99)] == [0.1, 0.5, 1.0, 1.0, 1.0]
    cosine = replace(options, schedule="cosine")
    assert learning_rate(10, cosine) == 1 and learning_rate(55, cosine) == pytest.approx(0.5)
    assert learning_rate(100, cosine) == pytest.approx(0, abs=1e-12)
    annealed = replace(options, warmup_steps=0, lr_anneal_steps=50)
    assert [learning_rate(step, annealed) for step in (0, 25, 50, 80)] == [1, 0.5, 0, 0]


@pytest.mark.parametrize(
    "wrong", [{"num_steps": 0}, {"lr": math.nan}, {"ema_decay": 1.0}, {"max_minutes": -1}, {"grad_clip": math.nan}]
)
def test_options_that_make_no_sense_are_refused(wrong):
    with pytest.raises(ValueError, match=f"--{next(iter(wrong))}"):
        make_options(TrainOptions, {"save_dir": "x", **wrong})


# ------------------------------------------------------------------------------------------------- whose files are whose


def test_a_run_lists_its_files_and_replaces_no_others(options):
    folder = Path(options.save_dir)
    folder.mkdir()
    (folder / "options.json").write_text('{"theme": "dark"}')  # of some other program
    with pytest.raises(OutputError, match=r"options\.json is there already and was not written by this program"):
        run(options)
    assert (folder / "options.json").read_text() == '{"theme": "dark"}'
    (folder / "options.json").rename(folder / "theme.json")
    first = run(options)
    assert json.loads((folder / "manifest.json").read_text())["files"] == ["log.jsonl", "options.json"]
    listed = json.loads((first.checkpoint / "manifest.json").read_text())["files"]
    assert "training_state.pt" in listed and "model.safetensors" in listed
    run(replace(options, overwrite=True, num_steps=2))
    assert (folder / "theme.json").read_text() == '{"theme": "dark"}'


def test_a_checkpoint_with_files_of_somebody_else_is_never_removed(options, caplog):
    run(options)
    folder = Path(options.save_dir)
    notes = checkpoints.complete(folder)[0] / "notes.txt"
    notes.write_text("mine")
    with pytest.raises(OutputError, match=r"step_000000004 holds files .*notes\.txt"):
        run(replace(options, overwrite=True))
    assert len(checkpoints.complete(folder)) == 3
    with caplog.at_level("INFO"):
        run(replace(options, num_steps=16, keep_last=1))
    assert [path.name for path in checkpoints.complete(folder)] == ["step_000000004", "step_000000016"]
    assert notes.read_text() == "mine" and "kept: " in caplog.text


def test_training_goes_on_where_somebody_put_notes_beside_the_best_weights(options, caplog):
    folder = Path(options.save_dir)

    def judge(networks, step):
        (folder / "best" / "notes.txt").write_text("mine") if step > 4 else None
        return {"loss": 1.0 / step}

    assert run(replace(options, eval_interval=4), evaluate=judge).step == 12
    assert json.loads((folder / "best" / "metrics.json").read_text())["step"] == 4
    assert "the best checkpoint is not kept" in caplog.text and (folder / "best" / "notes.txt").read_text() == "mine"


def test_a_run_of_an_earlier_version_is_gone_on_with(options):
    run(replace(options, num_steps=8, eval_interval=4), evaluate=lambda model, step: {"loss": 1.0 / step})
    folder = Path(options.save_dir)
    for manifest in [*folder.glob("*/manifest.json"), folder / "manifest.json"]:
        manifest.unlink()
    (folder / "notes.txt").write_text("mine")
    assert run(replace(options, eval_interval=4, keep_last=1), evaluate=lambda model, step: {"loss": 1.0 / step}).step == 12
    assert [path.name for path in checkpoints.complete(folder)] == ["step_000000012"]
    assert [line["step"] for line in log(options) if "loss" in line] == list(range(1, 13))
    assert json.loads((folder / "best" / "metrics.json").read_text())["step"] == 12


def test_a_run_killed_between_two_renames_keeps_its_checkpoint(options):
    run(options)
    folder = Path(options.save_dir)
    (folder / "step_000000012").rename(folder / ".step_000000012.77.replaced")
    assert run(replace(options, num_steps=13)).step == 13
    assert [line["step"] for line in log(options) if "loss" in line] == list(range(1, 14))


def test_overwriting_the_run_that_is_to_be_resumed_is_refused(options):
    run(options)
    for named in (options.save_dir, str(checkpoints.complete(Path(options.save_dir))[0])):
        with pytest.raises(ValueError, match="--overwrite would delete"):
            run(replace(options, overwrite=True, resume_checkpoint=named))
    assert len(checkpoints.complete(Path(options.save_dir))) == 3


@pytest.mark.parametrize("change, words", [
    ({"step": "12"}, "step is str"), ({"networks": [1]}, "networks is list"), ({"version": 2}, "format 2, expected 1"),
    ({"networks": {"a": 1}}, "holds no state dict"), ({"optimizer": {"state": 1}}, "optimiser does not fit"),
])  # fmt: skip
def test_a_training_state_that_training_does_not_write_is_named(options, change, words):
    newest = run(options).checkpoint
    file = newest / "training_state.pt"
    torch.save({**torch.load(file, weights_only=True), **change}, file)
    with pytest.raises(ValueError, match=f"step_000000012.*{words}") as caught:
        run(replace(options, num_steps=20))
    assert "\n" not in str(caught.value)
