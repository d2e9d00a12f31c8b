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

LIMIT_SECONDS = 20  # of computing; of waiting six times as much, since other tests may keep the machine busy
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


def run(module: str, arguments: list[str], folder: Path, limited: bool = True) -> Ending:
    """`python -m module arguments` in `folder`, without the start of an interpreter; `limited` in time and memory."""
    err, before = io.StringIO(), (os.getcwd(), sys.argv, os.environ.get("MOVEO_DEBUG"))
    os.environ.pop("MOVEO_DEBUG", None)
    os.chdir(folder)
    sys.argv = [module, *arguments]
    code: int | None = 0
    escaped = ""
    try:
        with (
            limits() if limited else contextlib.nullcontext(), contextlib.redirect_stderr(err),
            contextlib.redirect_stdout(io.StringIO()), warnings.catch_warnings(),
        ):  # fmt: skip
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
    old = {number: signal.signal(number, late) for number in (signal.SIGALRM, signal.SIGPROF)}
    signal.setitimer(signal.ITIMER_PROF, LIMIT_SECONDS)
    signal.setitimer(signal.ITIMER_REAL, 6 * LIMIT_SECONDS)
    if used := in_use():
        resource.setrlimit(resource.RLIMIT_AS, (used + LIMIT_BYTES, hard))
    try:
        yield
    finally:
        for timer in (signal.ITIMER_PROF, signal.ITIMER_REAL):
            signal.setitimer(timer, 0)
        for number, handler in old.items():
            signal.signal(number, handler)
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
