"""Options as they are typed, and what is said to those that will not do."""

from collections.abc import Callable, Sequence
from typing import Any

import pytest

from protos.flags import flags_of
from protos.options import run_command


def flags(options: Any) -> list[str]:
    """The command line of a dataclass of options; what is empty is left out."""
    values = {field.name: getattr(options, field.name) for field in flags_of(type(options))}
    return [word for name, value in values.items() if value not in ("", (), None)
            for word in (f"--{name}", *map(str, value if isinstance(value, tuple) else [value]))]  # fmt: skip


def refusal(main: Callable[..., None], arguments: Sequence[str], capsys: pytest.CaptureFixture[str]) -> str:
    """What a command says to arguments that it refuses: without a traceback, and with an exit code of its own."""
    with pytest.raises(SystemExit) as stopped:
        run_command(lambda: main(arguments))
    assert stopped.value.code
    said = capsys.readouterr().err
    assert "Traceback" not in said
    return said
