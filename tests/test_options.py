"""What a user may type, and what a command answers."""

import re
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import pytest

from protos.flags import Range, check_bounds, configured, decided, with_defaults
from protos.options import one_line, parse, run_command
from protos.processes import pick_device


@dataclass(frozen=True)
class Example:
    """Options of an imaginary command."""

    text_prompt: str = ""
    """What the person does."""
    guidance_scale: float = 2.5
    """Strength of the text; 1 is none."""
    motion_length: float = 6.0
    """Seconds."""
    num_repetitions: Annotated[int, Range(1, 100)] = 3
    cuda: bool = True
    use_ema: bool = False
    video: bool = True
    sampler: Literal["ddpm", "ddim"] = "ddpm"
    seed: int | None = None
    mirrored: bool | None = None

    def __post_init__(self) -> None:
        if self.motion_length <= 0:
            raise ValueError(f"--motion_length must be positive, got {self.motion_length}")


def test_defaults_are_used_where_nothing_is_said():
    assert parse(Example, []) == Example()


@pytest.mark.parametrize(
    "typed, field, value",
    [
        ("--guidance_param 7.5", "guidance_scale", 7.5),
        ("--guidance-param=7.5", "guidance_scale", 7.5),
        ("--num-repetitions 2", "num_repetitions", 2),
        ("--cuda False", "cuda", False),
        ("--cuda=0", "cuda", False),
        ("--cuda True", "cuda", True),
        ("--no_cuda", "cuda", False),
        ("--use_ema", "use_ema", True),
        ("--use_ema --seed 3", "use_ema", True),
        ("--use_ema false", "use_ema", False),
        ("--no_video", "video", False),
        ("--no-video", "video", False),
        ("--sampler ddim", "sampler", "ddim"),
        ("--seed 3", "seed", 3),
        ("--mirrored", "mirrored", True),
        ("--mirrored no", "mirrored", False),
        ("--text_prompt -jumps", "text_prompt", "-jumps"),
        ("--text_prompt=--x", "text_prompt", "--x"),
        ("--guidance_scale -1", "guidance_scale", -1.0),
        ("--steps 4", "num_repetitions", 4),
    ],
)
def test_flags_users_type(typed, field, value):
    assert getattr(parse(Example, typed.split(), aliases={"steps": "num_repetitions"}), field) == value


def test_a_prompt_is_taken_as_it_is():
    for prompt in ("", "  ", "a person says \"hi\" / 'ho' ../..", "-", "- walks", "人が歩く", "x" * 2000, "a=b\nc"):
        assert parse(Example, ["--text_prompt", prompt]).text_prompt == prompt


@pytest.mark.parametrize("typed", ["--no_such_flag 1", "--sampler euler", "--seed many", "--text_prompt", "stray"])
def test_a_wrong_flag_ends_with_code_2_and_a_message(typed, capsys):
    with pytest.raises(SystemExit) as end:
        parse(Example, typed.split())
    captured = capsys.readouterr()
    assert end.value.code == 2 and (captured.err + captured.out).strip()


def test_a_path_with_a_zero_byte_is_refused_by_its_flag(capsys):
    @dataclass(frozen=True)
    class Folders:
        models: tuple[Path, ...] = ()

    with pytest.raises(SystemExit) as end:
        parse(Folders, ["--models", "a", "b\0c"])
    assert end.value.code == 2 and "--models 'b\\x00c' holds a zero byte" in capsys.readouterr().err


def test_a_boolean_must_be_one():
    with pytest.raises(ValueError, match="--cuda: expected true or false, got 'maybe'"):
        parse(Example, ["--cuda=maybe"])


def test_a_check_of_the_options_speaks_for_itself(capsys):
    with pytest.raises(SystemExit) as end:
        parse(Example, ["--motion_length", "-2"])
    assert end.value.code == 2 and "--motion_length must be positive, got -2" in capsys.readouterr().err


def test_help_shows_defaults_meanings_and_older_names(capsys):
    with pytest.raises(SystemExit) as end:
        parse(Example, ["--help"], description="An example.")
    text = " ".join(capsys.readouterr().out.replace("│", " ").split())
    assert end.value.code == 0
    for part in ("An example.", "--guidance_scale", "Seconds. (default: 6.0)", "--guidance_param = --guidance_scale"):
        assert part in text


@dataclass(frozen=True)
class Preset:
    folder: str
    preset: Literal["plain", "fast"] = "plain"
    steps: int = 1000
    ema: bool = False

    def __post_init__(self) -> None:
        if self.steps < 1:
            raise ValueError(f"--steps must be at least 1, got {self.steps}")


def with_preset(*typed: str) -> Preset:
    presets = {"fast": {"steps": 50, "ema": True}, "tiny": "python -m train.tiny --dataset small"}
    return parse(Preset, typed, presets=presets)


def test_a_preset_changes_defaults_and_flags_still_win(capsys):
    assert with_preset("--folder", "a") == Preset("a")
    assert with_preset("--preset", "fast", "--folder", "a") == Preset("a", "fast", 50, True)
    assert with_preset("--folder=a", "--preset=fast", "--steps=7", "--no_ema") == Preset("a", "fast", 7, False)
    for wrong in (["--preset", "fast"], ["--folder", "a", "--preset", "slow"], ["--folder", "a", "--steps", "0"]):
        with pytest.raises(SystemExit) as end:
            with_preset(*wrong)
        assert end.value.code == 2
    with pytest.raises(SystemExit):
        with_preset("--preset", "fast", "--help")
    assert "(default: 50)" in " ".join(capsys.readouterr().out.split())


@pytest.mark.parametrize("typed", [["--preset", "tiny"], ["--preset=tiny", "--folder", "a"], ["--help", "--preset", "tiny"]])
def test_a_preset_that_has_become_a_command_is_answered_with_its_line(typed, capsys):
    with pytest.raises(SystemExit) as end:
        with_preset(*typed)
    said = capsys.readouterr()
    assert end.value.code == 2 and not said.out
    assert said.err == "error: --preset tiny is a command of its own now: python -m train.tiny --dataset small\n"


def test_a_preset_sets_what_is_there():
    with pytest.raises(TypeError, match="a preset sets layers, unknown to Preset"):
        parse(Preset, ["--preset", "fast"], presets={"fast": {"layers": 2}})


@dataclass(frozen=True, kw_only=True)
class Network:
    """The denoiser."""

    layers: Annotated[int, Range(1, 64)] = 8
    """Layers of the
    transformer."""
    width: int = decided(263)
    """Columns of a frame, as the data have them."""


@dataclass(frozen=True, kw_only=True)
class LossWeights:
    """What each term of the loss weighs.

    In all of them 0 leaves a term out.
    """

    lambda_vel: float = 0.0
    """Weight of velocities."""


@dataclass(frozen=True, kw_only=True)
class NoiseConfig(Network, LossWeights):
    """A system."""

    dataset: str = "humanml"
    """Its data."""
    mean: tuple[float, ...] = decided(default_factory=tuple)

    def __post_init__(self) -> None:
        check_bounds(self)
        if self.layers % 2:
            raise ValueError(f"layers must be even, got {self.layers}")


@dataclass(frozen=True, kw_only=True)
class NoiseOptions(NoiseConfig, Example):
    """Train it."""

    seed: int | None = 10
    """Seed of the weights."""
    preset: Literal["plain", "deep"] = "plain"
    folder: Path


def test_a_configuration_is_the_flags_of_its_command():
    options = parse(NoiseOptions, ["--folder", "a", "--layers", "4", "--lambda_vel=2", "--seed", "3", "--no_cuda"])
    assert options == NoiseOptions(folder=Path("a"), layers=4, lambda_vel=2.0, seed=3, cuda=False)
    config = configured(NoiseConfig, options, width=251)
    assert config == NoiseConfig(layers=4, lambda_vel=2.0, width=251) and type(config) is NoiseConfig


def test_what_data_decide_is_no_flag(capsys):
    assert parse(NoiseOptions, ["--folder", "a"]).width == 263 and NoiseConfig().mean == ()
    for typed in ("--width 251", "--mean 1"):
        with pytest.raises(SystemExit) as end:
            parse(NoiseOptions, ["--folder", "a", *typed.split()])
        assert end.value.code == 2 and typed.split()[0] in capsys.readouterr().err


def test_a_preset_reaches_every_group():
    deep = {"deep": {"layers": 16, "lambda_vel": 1.0, "motion_length": 2.0, "seed": None}}
    options = parse(NoiseOptions, ["--preset", "deep", "--folder=a", "--lambda_vel", "3"], presets=deep)
    assert (options.layers, options.lambda_vel, options.motion_length, options.seed) == (16, 3.0, 2.0, None)


@pytest.mark.parametrize("typed, said", [
    ("--layers 0", "--layers must be from 1 to 64, got 0"), ("--layers 3", "layers must be even, got 3"),
    ("--lambda_vel nan", "--lambda_vel must be any finite number, got nan"),
])  # fmt: skip
def test_what_a_configuration_refuses_is_one_line(typed, said, capsys):
    with pytest.raises(SystemExit) as end:
        parse(NoiseOptions, ["--folder", "a", *typed.split()])
    assert end.value.code == 2 and capsys.readouterr().err == f"error: {said}\n"


def test_help_groups_flags_by_the_class_that_declares_them(capsys):
    with pytest.raises(SystemExit):
        parse(NoiseOptions, ["--help"])
    text = " ".join(re.sub(r"[│─╭╮╰╯|+-]{2,}|[│|+]", " ", capsys.readouterr().out).replace("  ", " ").split())
    heads = [
        "Noise options A system. dataset STR Its data. (default: humanml) preset",
        "Example options Options of an imaginary command. text_prompt", "seed {None} INT Seed of the weights. (default: 10)",
        "Loss weights options What each term of the loss weighs. lambda_vel FLOAT Weight of velocities.",
        "Network options The denoiser. layers INT Layers of the transformer. (default: 8; from 1 to 64)",
    ]  # fmt: skip
    places = [text.find(head) for head in heads]
    assert places == sorted(places) and -1 not in places, (places, text)


IGNORED = {"train_platform_type": "the log goes to log.jsonl", "old": "no use"}


@pytest.mark.parametrize("typed", ["--train_platform_type NoPlatform --seed 3", "--train-platform-type=Tensor --seed 3",
                                   "--seed 3 --train_platform_type"])  # fmt: skip
def test_flags_of_older_scripts_are_taken_and_said_to_be_ignored(typed, capsys):
    assert parse(Example, typed.split(), ignored=IGNORED) == Example(seed=3)
    assert capsys.readouterr().err == "ignored: --train_platform_type (the log goes to log.jsonl)\n"


def test_ignored_flags_are_said_once_stand_in_help_and_yield_to_a_field(capsys):
    assert parse(Example, ["--old", "1", "--old=2", "--no_video"], ignored=IGNORED) == Example(video=False)
    assert capsys.readouterr().err == "ignored: --old (no use)\n"
    ignored = {**IGNORED, "seed": "never"}
    assert parse(Example, ["--seed", "3"], ignored=ignored).seed == 3
    with pytest.raises(SystemExit):
        parse(Example, ["--help"], ignored=ignored)
    said = " ".join(capsys.readouterr().out.split())
    assert "ignored: --old (no use), --train_platform_type (the log goes to log.jsonl)." in said and "never" not in said


def test_flags_of_published_scripts_are_taken_by_commands_that_have_other_names_for_them(capsys):
    from evaluations.eval_humanml import EvalOptions
    from sample.sample import SampleOptions
    from train.train_lsremgm import LSReMGMOptions

    for typed in ("--cuda False --device 0", "--no_cuda", "--device cpu --cuda True", "--cuda=0 --num_samples 3"):
        assert parse(SampleOptions, typed.split()).device == "cpu"
    assert parse(EvalOptions, ["--cuda", "True", "--device", "1"]).device == "1"
    for kind in (SampleOptions, EvalOptions):
        for older in ("--sampling_steps", "--num_steps", "--time_steps"):
            assert parse(kind, [older, "7"]).sampling_steps == 7
    trained = parse(LSReMGMOptions, ["--save_dir", "a", "--num_steps", "7"])
    assert (trained.num_steps, trained.sampling_steps) == (7, None)
    with pytest.raises(SystemExit):
        parse(SampleOptions, ["--num_steps", "0"])
    assert "--sampling_steps must be" in capsys.readouterr().err


def test_unions_of_dataclasses_are_subcommands(capsys):
    @dataclass
    class Bvh:
        scale: float = 1.0

    @dataclass
    class Amass:
        mirrored: bool = True

    @dataclass
    class Slow(Amass, Bvh):
        """Takes its time."""

        seconds: Annotated[int, Range(1, 9)] = 2

    kinds = Bvh | Amass | Slow
    assert parse(kinds, ["amass", "--mirrored", "False"]) == Amass(mirrored=False)
    assert parse(kinds, ["slow", "--mirrored", "False", "--scale", "2"]) == Slow(mirrored=False, scale=2.0)
    for typed, said in (["--help"], "slow Takes its time."), (["slow", "--help"], "Takes its time."):
        with pytest.raises(SystemExit):
            parse(kinds, typed)
        assert said in " ".join(capsys.readouterr().out.replace("│", " ").split())


@pytest.mark.parametrize(
    "error, code, said",
    [
        (ValueError("kit motions have 251 features,\n  not 263"), 1, "error: kit motions have 251 features, not 263\n"),
        (FileNotFoundError(2, "No such file or directory", "a.npy"), 1, "error: a.npy: No such file or directory\n"),
        (OSError("disk trouble"), 1, "error: disk trouble\n"),
        (KeyboardInterrupt(), 130, ""),
    ],
)
def test_what_a_user_can_put_right_is_one_line(error, code, said, capsys):
    def main():
        raise error

    with pytest.raises(SystemExit) as end:
        run_command(main)
    assert end.value.code == code
    assert capsys.readouterr().err == said


def test_one_line_never_is_empty():
    assert one_line(ValueError()) == "ValueError"


def test_devices():
    import torch

    assert pick_device("cpu").type == "cpu"
    assert pick_device().type == ("cuda" if torch.cuda.is_available() else "cpu")
    with pytest.raises(ValueError, match="--device gpu: unknown device"):
        pick_device("gpu")
    with pytest.raises(ValueError, match=r"--device 99: .*use --device cpu or auto"):
        pick_device("99")


def test_options_that_may_be_left_out_are_parsed_without_typeguard():
    code = (
        "import sys; from sample.sample import SampleOptions; from protos.options import parse\n"
        "parse(SampleOptions, []); print('typeguard' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout.strip() == "False"


def test_reading_options_imports_nothing_heavy():
    code = "import sys, protos.options, protos.randomness; print([m for m in ('torch', 'numpy') if m in sys.modules])"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout.strip() == "[]"


@pytest.mark.parametrize("typed", [
    "--num_repetitions 0", "--num_repetitions 101", "--guidance_scale nan", "--guidance_scale 1e999", "--motion_length -1",
    "--num_repetitions 2.5", "--num_repetitions " + "9" * 5000,
])  # fmt: skip
def test_a_number_out_of_its_range_ends_with_2_and_its_flag(typed, capsys):
    with pytest.raises(SystemExit) as ended:
        parse(Example, typed.split())
    said = capsys.readouterr()
    assert ended.value.code == 2 and typed.split()[0].strip("-") in said.err + said.out


def test_help_says_the_range_of_a_number(capsys):
    with pytest.raises(SystemExit):
        parse(Example, ["--help"])
    assert "default: 3; from 1 to 100" in " ".join(capsys.readouterr().out.split())


def test_a_fault_of_the_program_is_said_to_be_one_and_its_traceback_is_saved(capsys, tmp_path, monkeypatch):
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr("tempfile.tempdir", None)

    def faulty() -> None:
        raise KeyError("layers")

    with pytest.raises(SystemExit) as ended:
        run_command(faulty)
    (saved,) = tmp_path.iterdir()
    said = capsys.readouterr().err
    assert ended.value.code == 70 and said.count("\n") == 1 and "fault of this program" in said and str(saved) in said
    assert "in faulty" in saved.read_text()


@pytest.mark.parametrize("typed, sampler", [
    ("--fast", "ddim"), ("--fast True", "ddim"), ("--fast False", "ddpm"), ("", "ddpm"), ("--fast --sampler ddpm", "ddpm"),
    ("--sampler ddpm --fast", "ddpm"),
])  # fmt: skip
def test_an_older_switch_stands_for_a_setting_unless_that_is_given_too(typed, sampler):
    assert parse(Example, typed.split(), aliases={"fast": "sampler=ddim"}).sampler == sampler


def test_other_defaults_change_the_class_they_are_given_to_alone():
    @dataclass(frozen=True)
    @with_defaults(num_repetitions=7, sampler="ddim")
    class Other(Example):
        """Another command."""

    assert (Other().num_repetitions, Other().sampler, Example().num_repetitions) == (7, "ddim", 3)
    assert parse(Other, ["--seed", "1"]).num_repetitions == 7
    with pytest.raises(SystemExit):  # the range is the field's own
        parse(Other, ["--num_repetitions", "0"])
