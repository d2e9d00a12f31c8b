"""Where dataclasses become command-line flags, and how every command begins and ends.

A command is a leaf: a module that is run with `python -m` and that no other imports. It declares its options as a dataclass,
says what to do with them in a function that imports what is heavy, and ends in

    main = command(SampleOptions, run, __doc__)

    if __name__ == "__main__":
        run_command(main)

A system's configuration is its command's flags: `class LSReMGMOptions(LSReMGMConfig, TrainOptions)` has those of both
(see `protos.flags`).
"""

import logging
import os
import re
import sys
import tempfile
import traceback
import typing
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

from protos.files import FULL
from protos.flags import bounds_of, dataclasses_in, flags_of, registry_of

Options = TypeVar("Options")
logger = logging.getLogger(__name__)

# Older spellings users have in their scripts -> the field they mean. Each applies only to a command that has the field.
LEGACY_FLAGS: Mapping[str, str] = {
    "guidance_param": "guidance_scale",
    "gen_guidance_param": "guidance_scale",
    "num_repititions": "num_repetitions",
    "repetition_num": "repetition",
    "avg_model_beta": "ema_decay",
    "opt_beta2": "adam_beta2",
    "max_grad_norm": "grad_clip",
    "gradient_accumulation_steps": "accumulation",
    "dataset_name": "dataset",
    "data_dir": "dataset_folder",
    "out_dir": "output_dir",
    "ext_prompt": "text_prompt",
    "num_steps": "sampling_steps",  # where no optimiser has steps
    "time_steps": "sampling_steps",
}
# What published scripts for sampling and evaluation take and do not heed: for `ignored` of such a command.
KNOWN_BY_CHECKPOINT: Mapping[str, str] = dict.fromkeys(
    ("arch", "emb_trans_dec", "layers", "latent_dim", "cond_mask_prob", "lambda_rcxyz", "lambda_vel", "lambda_fc", "data_dir",
     "noise_schedule", "diffusion_steps", "sigma_small", "text_encoder_type", "mask_frames", "unconstrained"),
    "the checkpoint says it",
)  # fmt: skip
_TRUE, _FALSE = {"true", "yes", "on", "1"}, {"false", "no", "off", "0"}


def parse(
    options_type: type[Options] | Any,
    argv: Sequence[str] | None = None,
    description: str | None = None,
    aliases: Mapping[str, str] | None = None,
    presets: Mapping[str, Mapping[str, Any] | str] | None = None,
    ignored: Mapping[str, str] | None = None,
    moved: Mapping[str, str] | None = None,
) -> Options:
    """An instance of `options_type` (a dataclass or a union of them, which are subcommands) from the command line.

    Flags have underscores; hyphens, the older names of `LEGACY_FLAGS` and `aliases` (old -> field), and real booleans
    (`--cuda False`, `--use_ema`, `--no_video` for a field `video`) are understood. An alias for "field=value" is a switch that
    stands for that setting, unless the field's own flag is given beside it. `ignored` (name -> why) are flags of older
    scripts that are taken with their value, said on stderr and left. With `presets`, `--preset NAME` (a field of the dataclass)
    replaces defaults, which other flags still override, also in --help; in place of a preset that has become another command
    stands the line that replaces it, as `moved` ("flag=value" -> line) has it for other settings. --help shows the fields of each
    class that options inherit from as a group of their own. Exits with 0 after help, with 2 and a message after a wrong flag, a
    number out of its `Range`, or a ValueError of `__post_init__`.
    """
    import tyro

    kinds = dataclasses_in(options_type)
    fields = {field.name: typing.get_type_hints(kind)[field.name] for kind in kinds for field in flags_of(kind)}
    aliases = {**LEGACY_FLAGS, **(aliases or {})}
    aliases = {old: new for old, new in aliases.items() if new.partition("=")[0] in fields and old not in fields}
    ignored = {name: why for name, why in (ignored or {}).items() if name not in fields}
    by_device = "device" in fields and "cuda" not in fields  # then --cuda False is --device cpu
    known = {**fields, "cuda": bool} if by_device else fields
    _refuse_moved(sys.argv[1:] if argv is None else argv, moved or {})
    arguments, left = _normalise(list(sys.argv[1:] if argv is None else argv), known, aliases, ignored)
    if by_device:
        cpu = ["--device=cpu"] if "--no_cuda" in arguments else []
        arguments = [each for each in arguments if each not in ("--cuda", "--no_cuda")] + cpu
    if left:
        print(f"ignored: {_said(left)}", file=sys.stderr)
    older = {**aliases, **({"cuda False": "device cpu"} if by_device else {})}
    make = tyro.cli(
        options_type, args=arguments, prog=_program_name(), description=_described(description, older, ignored),
        use_underscores=True, registry=registry_of(kinds, _preset(arguments, presets or {}), make_options),
    )  # fmt: skip
    try:
        return make()
    except ValueError as error:
        sys.exit(_refused(str(error)))


def _refused(why: str) -> int:
    print(f"error: {why}", file=sys.stderr)
    return 2


def _said(ignored: Mapping[str, str]) -> str:
    return ", ".join(f"--{name} ({why})" for name, why in sorted(ignored.items()))


def _described(description: str | None, aliases: Mapping[str, str], ignored: Mapping[str, str]) -> str:
    """What --help says before it comes to the flags."""
    said = [(description or "").strip()]
    if aliases:
        said.append("Older names: " + ", ".join(f"--{old} = --{new}" for old, new in sorted(aliases.items())) + ".")
    if ignored:
        said.append(f"Taken from older scripts and ignored: {_said(ignored)}.")
    return "\n\n".join(said)


def _preset(arguments: Sequence[str], presets: Mapping[str, Mapping[str, Any] | str]) -> Mapping[str, Any]:
    """The defaults that the preset named in `arguments` sets. Exits with 2 and the line that replaces it where it has moved."""
    spoken = re.search(r"(?:^|\n)--preset[=\n]([^\n]*)", "\n".join(arguments))
    values = presets.get(spoken[1], {}) if spoken else {}
    if isinstance(values, str):
        sys.exit(_gone(f"--preset {spoken[1]}", values))
    return values


def _refuse_moved(arguments: Sequence[str], moved: Mapping[str, str]) -> None:
    """Exits with 2 and the line that replaces a setting which has become another command."""
    spoken = "\n".join(arguments)
    for setting, line in moved.items():
        name, _, value = setting.partition("=")
        if re.search(rf"(?:^|\n)--{name}[=\n]{value}(?:\n|$)", spoken):
            sys.exit(_gone(f"--{name} {value}", line))


def _gone(setting: str, line: str) -> int:
    return _refused(f"{setting} is a command of its own now: {line}")


def make_options(kind: type, values: Mapping[str, Any]) -> Any:
    """Options of these values, by the names of their flags. ValueError names the flag of a number out of its range, or of a path
    with a zero byte in it."""
    for name, (bounds, _) in bounds_of(kind).items():
        if name in values and (problem := bounds.problem(values[name])):
            raise ValueError(f"--{name} {problem}")
    for name, value in values.items():
        for path in value if isinstance(value, tuple) else (value,):
            if isinstance(path, Path) and "\0" in str(path):
                raise ValueError(f"--{name} {str(path)!r:.60} holds a zero byte, which no path does")
    return kind(**values)


def _normalise(
    arguments: list[str], fields: Mapping[str, Any], aliases: Mapping[str, str], ignored: Mapping[str, str]
) -> tuple[list[str], dict[str, str]]:
    """The arguments as tyro expects them, without older names, booleans with a value and texts that begin with a hyphen.

    Those of `ignored` are taken out, and returned beside.
    """
    switches: list[str] = []
    result: list[str] = []
    left: dict[str, str] = {}
    known = {*fields, *aliases, *ignored}
    while arguments:
        token = arguments.pop(0)
        if token == "--":
            return [*switches, *result, token, *arguments], left
        match = re.fullmatch(r"--([A-Za-z][\w.-]*)(?:=(.*))?", token, flags=re.DOTALL)
        if not match:
            result.append(token)
            continue
        name, value = match[1].replace("-", "_"), match[2]
        name = aliases.get(name, name)
        kind = fields.get(name)
        follows = arguments[0] if arguments else None
        if name in ignored:
            left[name] = ignored[name]
            if value is None and follows is not None and not follows.startswith("--"):
                arguments.pop(0)
        elif "=" in name or kind is bool or kind == (bool | None):
            if value is None and follows is not None and follows.lower() in _TRUE | _FALSE:
                value = arguments.pop(0)
            if "=" in name:
                switches += [f"--{name}"] * (_boolean(match[1], value, optional=True)[1] == "True")
                continue
            result += _boolean(name, value, optional=kind is not bool)
        elif value is None and kind in (str, str | None) and _is_text_with_hyphen(follows, known):
            result.append(f"--{name}={arguments.pop(0)}")
        else:
            result.append(f"--{name}" if value is None else f"--{name}={value}")
    return [*switches, *result], left

def _boolean(name: str, value: str | None, optional: bool) -> list[str]:
    truth = True if value is None or value.lower() in _TRUE else False if value.lower() in _FALSE else None
    if truth is None:
        raise ValueError(f"--{name}: expected true or false, got '{value}'")
    if optional:
        return [f"--{name}", str(truth)]
    return [f"--{name}" if truth else f"--no_{name}"]


def _is_text_with_hyphen(token: str | None, known: set[str]) -> bool:
    """Whether `token` is a value such as '-hello' rather than the next flag, so that it can be a prompt."""
    if token is None or not token.startswith("-") or token in ("-h", "--help"):
        return False
    name = token.lstrip("-").split("=")[0].replace("-", "_")
    return not (token.startswith("--") and (name in known or name.removeprefix("no_") in known))


def _program_name() -> str | None:
    """'python -m train.train_lsremgm' for a module that was run so, 'moveo train_lsremgm' by moveo/__main__.py; otherwise tyro's
    own choice."""
    if sys.argv[0].startswith("moveo "):
        return sys.argv[0]
    spec = getattr(sys.modules.get("__main__"), "__spec__", None)
    return f"python -m {spec.name.removesuffix('.__main__')}" if spec is not None else None


def command(
    options_type: type[Options] | Any,
    run: Callable[[Any], object],
    description: str | None,
    aliases: Mapping[str, str] | None = None,
    presets: Mapping[str, Mapping[str, Any] | str] | None = None,
    ignored: Mapping[str, str] | None = None,
    moved: Mapping[str, str] | None = None,
) -> Callable[..., None]:
    """`main(argv=None)` of a command: `run` with the options of the command line, in as many processes as they ask for.

    The other arguments: as in `parse`. `run` stands at the top of its module, where new processes find it.
    """

    def main(argv: Sequence[str] | None = None) -> None:
        options = parse(options_type, argv, description, aliases, presets, ignored, moved)
        from protos.processes import start

        start(run, options)

    return main


def run_command(main: Callable[[], object]) -> None:
    """Runs a command and ends the process: what a user can put right (ValueError, OSError, too little memory) becomes one
    line on stderr and exit code 1, Ctrl-C 130. Any other exception is a fault of ours: one line that says so and where the
    traceback was saved, exit code 70. MOVEO_DEBUG=1 shows the traceback instead.
    """
    if hasattr(sys.stdout, "reconfigure"):  # a letter that the terminal's encoding, or UTF-8, lacks is told by its number
        sys.stdout.reconfigure(errors="backslashreplace")
    if os.environ.get("MOVEO_DEBUG", "0") not in ("", "0"):
        main()
        return
    try:
        main()
    except KeyboardInterrupt:
        sys.exit(130)
    except BrokenPipeError:  # the reader of our output has gone, as with `| head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(141)
    except (ValueError, OSError) as error:
        print(f"error: {one_line(error)}", file=sys.stderr)
        sys.exit(1)
    except Exception as error:
        if _out_of_memory(error):
            print(f"error: not enough memory ({one_line(error)[:120]}): try smaller batches or shorter motions", file=sys.stderr)
            sys.exit(1)
        print(f"error: a fault of this program, not of your input ({type(error).__name__}: {one_line(error)[:200]}); "
              f"please report it with {_save_traceback(error)}", file=sys.stderr)  # fmt: skip
        sys.exit(70)


def _out_of_memory(error: Exception) -> bool:
    return isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError" or "can't allocate memory" in str(error)


def _save_traceback(error: Exception) -> str:
    """Writes the traceback to a new file in the temporary folder and returns its path; no prompts or options go into it."""
    try:
        with tempfile.NamedTemporaryFile("w", encoding="utf-8", prefix="moveo-fault-", suffix=".txt", delete=False) as file:
            file.write("".join(traceback.format_exception(error)))
        return file.name
    except OSError:
        return "MOVEO_DEBUG=1, which shows where (it could not be saved)"


def one_line(error: BaseException) -> str:
    """What went wrong, in one line: 'dataset/x: No such file or directory' rather than '[Errno 2] ...'."""
    if isinstance(error, OSError) and error.strerror:
        text = f"{error.filename}: {error.strerror}" if error.filename is not None else error.strerror
        text += ": make room there and give the same command again" if error.errno in FULL else ""
    else:
        text = str(error)
    return " ".join(text.split()) or type(error).__name__
