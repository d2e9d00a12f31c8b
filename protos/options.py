"""Where dataclasses become command-line flags, and how every command begins and ends.

A command is a leaf: a module that is run with `python -m` and that no other imports. It declares its options as a dataclass,
says what to do with them in a function that imports what is heavy, and ends in

    main = command(SampleOptions, run, __doc__)

    if __name__ == "__main__":
        run_command(main)
"""

import dataclasses
import logging
import os
import re
import sys
import typing
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from types import UnionType
from typing import TYPE_CHECKING, Any, TypeVar

from protos.bounds import Range, bounds_of, check_bounds

if TYPE_CHECKING:
    pass

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
    "gen_during_training": "sample_during_training",
    "dataset_name": "dataset",
    "data_dir": "dataset_folder",
    "out_dir": "output_dir",
    "ext_prompt": "text_prompt",
}
_TRUE, _FALSE = {"true", "yes", "on", "1"}, {"false", "no", "off", "0"}


def parse(
    options_type: type[Options] | Any,
    argv: Sequence[str] | None = None,
    description: str | None = None,
    aliases: Mapping[str, str] | None = None,
    presets: Mapping[str, Mapping[str, Any]] | None = None,
) -> Options:
    """An instance of `options_type` (a dataclass or a union of them) from the command line.

    Flags have underscores; hyphens, the older names of `LEGACY_FLAGS` and `aliases` (old -> field), and real booleans
    (`--cuda False`, `--use_ema`, `--no_video` for a field `video`) are understood. With `presets`, `--preset NAME` (a
    field of the dataclass) replaces defaults, which other flags still override, also in --help. Exits with 0 after
    help, with 2 and a message after a wrong flag, a number out of its `Range`, or a ValueError of `__post_init__`.
    """
    import tyro

    fields = dict(_fields(options_type))
    aliases = {**LEGACY_FLAGS, **(aliases or {})}
    aliases = {old: new for old, new in aliases.items() if new in fields and old not in fields}
    if aliases:
        older = ", ".join(f"--{old} = --{new}" for old, new in sorted(aliases.items()))
        description = f"{(description or '').strip()}\n\nOlder names: {older}."
    arguments = _normalise(list(sys.argv[1:] if argv is None else argv), fields, aliases)
    more = {} if presets is None else {"default": _preset(options_type, arguments, presets)}
    _show_ranges(options_type)
    options = tyro.cli(
        options_type, args=arguments, prog=_program_name(), description=description, use_underscores=True, **more
    )
    try:
        check_bounds(options, "--")
        _check_paths(options)
    except ValueError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)
    return options


def _check_paths(options: Any) -> None:
    """ValueError naming the flag of a path with a zero byte in it, which no system takes."""
    for field in dataclasses.fields(options):
        value = getattr(options, field.name)
        for path in value if isinstance(value, tuple) else (value,):
            if isinstance(path, Path) and "\0" in str(path):
                raise ValueError(f"--{field.name} {str(path)!r:.60} holds a zero byte, which no path does")


def _show_ranges(options_type: Any) -> None:
    """Lets --help say the range of each number beside its default: '(default: 64; at least 1)'."""
    import tyro

    for kind in {kind for each in _dataclasses(options_type) for kind in each.__mro__ if dataclasses.is_dataclass(kind)}:
        if "_ranges_shown" in vars(kind):
            continue
        kind._ranges_shown = True
        hints = typing.get_type_hints(kind, include_extras=True)
        for name, (bounds, _) in bounds_of(kind).items():
            if name in vars(kind).get("__annotations__", {}) and str(bounds) != str(Range()):
                said = tyro.conf.arg(help_behavior_hint=lambda default, bounds=bounds: f"(default: {default}; {bounds})")
                kind.__annotations__[name] = typing.Annotated[hints[name], said]


def _dataclasses(options_type: Any) -> Iterator[type]:
    """The dataclasses in a type: itself, those in a union, those of its fields."""
    origin = typing.get_origin(options_type)
    if origin is typing.Annotated or origin in (typing.Union, UnionType):
        for part in typing.get_args(options_type):
            yield from _dataclasses(part)
    elif dataclasses.is_dataclass(options_type):
        yield options_type
        for hint in typing.get_type_hints(options_type).values():
            yield from _dataclasses(hint)


def _preset(options_type: Any, arguments: Sequence[str], presets: Mapping[str, Mapping[str, Any]]) -> Any:
    """An instance of the dataclass that holds the defaults of the preset named in `arguments`, unchecked."""
    import tyro

    spoken = re.search(r"(?:^|\n)--preset[=\n]([^\n]*)", "\n".join(arguments))
    values = dict(presets.get(spoken[1], {})) if spoken else {}
    defaults = object.__new__(options_type)  # not by __init__: required fields have no value yet
    for field in dataclasses.fields(options_type):
        value = field.default if field.default_factory is dataclasses.MISSING else field.default_factory()
        value = tyro.MISSING if value is dataclasses.MISSING else value
        object.__setattr__(defaults, field.name, values.pop(field.name, value))
    if values:
        raise TypeError(f"preset {spoken[1]} sets {', '.join(values)}, unknown to {options_type.__name__}")
    return defaults


def _fields(options_type: Any) -> Iterator[tuple[str, Any]]:
    """(name, type) of every field of a dataclass, of the dataclasses in it and of those in a union."""
    origin = typing.get_origin(options_type)
    if origin is typing.Annotated or origin in (typing.Union, UnionType):
        for part in typing.get_args(options_type):
            yield from _fields(part)
    elif dataclasses.is_dataclass(options_type):
        hints = typing.get_type_hints(options_type)
        for field in dataclasses.fields(options_type):
            yield field.name, hints[field.name]
            yield from _fields(hints[field.name])


def _normalise(arguments: list[str], fields: Mapping[str, Any], aliases: Mapping[str, str]) -> list[str]:
    """Rewrites older flag names, booleans with a value and texts that begin with a hyphen into what tyro expects."""
    result: list[str] = []
    while arguments:
        token = arguments.pop(0)
        if token == "--":
            return [*result, token, *arguments]
        match = re.fullmatch(r"--([A-Za-z][\w.-]*)(?:=(.*))?", token, flags=re.DOTALL)
        if not match:
            result.append(token)
            continue
        name, value = match[1].replace("-", "_"), match[2]
        name = aliases.get(name, name)
        kind = fields.get(name)
        follows = arguments[0] if arguments else None
        if kind is bool or kind == (bool | None):
            if value is None and follows is not None and follows.lower() in _TRUE | _FALSE:
                value = arguments.pop(0)
            result += _boolean(name, value, optional=kind is not bool)
        elif value is None and kind in (str, str | None) and _is_text_with_hyphen(follows, fields, aliases):
            result.append(f"--{name}={arguments.pop(0)}")
        else:
            result.append(f"--{name}" if value is None else f"--{name}={value}")
    return result


def _boolean(name: str, value: str | None, optional: bool) -> list[str]:
    truth = True if value is None or value.lower() in _TRUE else False if value.lower() in _FALSE else None
    if truth is None:
        raise ValueError(f"--{name}: expected true or false, got '{value}'")
    if optional:
        return [f"--{name}", str(truth)]
    return [f"--{name}" if truth else f"--no_{name}"]


def _is_text_with_hyphen(token: str | None, fields: Mapping[str, Any], aliases: Mapping[str, str]) -> bool:
    """Whether `token` is a value such as '-hello' rather than the next flag, so that it can be a prompt."""
    if token is None or not token.startswith("-") or token in ("-h", "--help"):
        return False
    name = token.lstrip("-").split("=")[0].replace("-", "_")
    return not (token.startswith("--") and (name in fields or name in aliases or name.removeprefix("no_") in fields))


def _program_name() -> str | None:
    """'python -m train.train_lsremgm' for a module that was run so; otherwise tyro's own choice."""
    spec = getattr(sys.modules.get("__main__"), "__spec__", None)
    return f"python -m {spec.name.removesuffix('.__main__')}" if spec is not None else None


def command(
    options_type: type[Options] | Any,
    run: Callable[[Any], object],
    description: str | None,
    aliases: Mapping[str, str] | None = None,
    presets: Mapping[str, Mapping[str, Any]] | None = None,
) -> Callable[..., None]:
    """`main(argv=None)` of a command: `run` with the options of the command line, in as many processes as they ask for.

    The other arguments: as in `parse`. `run` stands at the top of its module, where new processes find it.
    """

    def main(argv: Sequence[str] | None = None) -> None:
        from protos.processes import start

        start(run, parse(options_type, argv, description, aliases, presets))

    return main


def run_command(main: Callable[[], object]) -> None:
    """Runs a command and ends the process: what a user can put right (ValueError, OSError, too little memory) becomes one
    line on stderr and exit code 1, Ctrl-C 130. Any other exception is a fault of ours: one line that says so and where the
    traceback was saved, exit code 70. MOVEO_DEBUG=1 shows the traceback instead.
    """
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
    import tempfile
    import traceback

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
    else:
        text = str(error)
    return " ".join(text.split()) or type(error).__name__
