"""Runs a command in this process as a user would, within limits of time and memory, and says how it ended."""

import contextlib
import hashlib
import io
import os
import resource
import runpy
import signal
import sys
import traceback
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

LIMIT_SECONDS = 20
LIMIT_BYTES = 6 << 30  # beyond what the process holds already


@dataclass(frozen=True)
class Ending:
    """Exit code of a command (None: it did not end by itself), what it said on stderr, and an escaped traceback."""

    code: int | None
    said: str
    escaped: str = ""

    @property
    def errors(self) -> list[str]:
        return [line for line in self.said.splitlines() if line.startswith("error: ")]


def run(module: str, arguments: list[str], folder: Path) -> Ending:
    """`python -m module arguments` in `folder`, without the start of an interpreter."""
    err, before = io.StringIO(), (os.getcwd(), sys.argv, os.environ.get("MOVEO_DEBUG"))
    os.environ.pop("MOVEO_DEBUG", None)
    os.chdir(folder)
    sys.argv = [module, *arguments]
    code: int | None = 0
    escaped = ""
    try:
        with limits(), contextlib.redirect_stderr(err), contextlib.redirect_stdout(io.StringIO()), warnings.catch_warnings():
            warnings.filterwarnings("ignore", "'.*' found in sys.modules", RuntimeWarning)  # by runpy: other tests imported it
            runpy.run_module(module, run_name="__main__", alter_sys=True)
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else 0 if end.code is None else 1
    except TookTooLong:
        code, escaped = None, f"no answer within {LIMIT_SECONDS} s"
    except BaseException as error:
        code, escaped = None, "".join(traceback.format_exception(error)[-3:])
    finally:
        os.chdir(before[0])
        sys.argv = before[1]
        if before[2] is not None:
            os.environ["MOVEO_DEBUG"] = before[2]
    return Ending(code, err.getvalue(), escaped)


class TookTooLong(BaseException):
    """Raised in the command by the alarm; no handler of exceptions catches it."""


@contextlib.contextmanager
def limits() -> Iterator[None]:
    def late(*_: object) -> None:
        raise TookTooLong

    def in_use() -> int:
        return int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize() if sys.platform == "linux" else 0

    soft, hard = resource.getrlimit(resource.RLIMIT_AS)
    old = signal.signal(signal.SIGALRM, late)
    signal.setitimer(signal.ITIMER_REAL, LIMIT_SECONDS)
    if used := in_use():
        resource.setrlimit(resource.RLIMIT_AS, (used + LIMIT_BYTES, hard))
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, old)
        resource.setrlimit(resource.RLIMIT_AS, (soft, hard))


def contents(folder: Path) -> dict[str, str]:
    """Hash of every file below a folder, links as where they lead to."""
    found = {}
    for place, folders, names in os.walk(folder):
        for name in (*folders, *names):
            path = Path(place) / name
            if path.is_symlink():
                found[str(path.relative_to(folder))] = f"-> {os.readlink(path)}"
            elif path.is_file():
                found[str(path.relative_to(folder))] = hashlib.sha256(path.read_bytes()).hexdigest()
    return found
