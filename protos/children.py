"""The same work in several new processes of this machine, which end together: one error, one exit code, one Ctrl-C."""

import multiprocessing
import os
import pickle
import signal
import sys
import tempfile
import threading
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from multiprocessing import connection, resource_tracker
from multiprocessing.process import BaseProcess
from pathlib import Path

Work = Callable[[int, Path], object]

GRACE = 10.0  # seconds that the others have to end by themselves once one has failed, and again once they are told to
SIGNALS = (signal.SIGINT, signal.SIGTERM)
FAILURE = "failure"  # file of the private folder: what the first that failed has raised


def run_children(work: Work, count: int) -> None:
    """work(number, folder) in `count` processes, with a private folder that lasts as long as they do.

    `work` stands at the top of a module, or is a `functools.partial` of what does: the processes import it. When one fails
    all end, and what it raised is raised here. Where it was killed, that is said and the exit code is the one a shell gives.
    """
    context = multiprocessing.get_context("spawn")
    with tempfile.TemporaryDirectory(prefix="moveo_") as name:
        folder = Path(name)
        children = [context.Process(target=_child, args=(work, number, folder)) for number in range(count)]
        with _running(children) as signals:
            fallen = _wait(children, folder / FAILURE, signals)
        if fallen is not None:
            code = children[fallen].exitcode
            cause = f"exit code {code}" if code > 0 else signal.Signals(-code).name
            print(f"error: process {fallen + 1} of {count} ended by {cause}, and the others with it", file=sys.stderr)
            raise SystemExit(_shell_code(code))
        if (folder / FAILURE).is_file():
            raise pickle.loads((folder / FAILURE).read_bytes())  # of our own processes, in a folder of this user alone
        if codes := [child.exitcode for child in children if child.exitcode]:
            raise SystemExit(_shell_code(codes[0]))


def _shell_code(code: int) -> int:
    return code if code > 0 else 128 - code


@contextmanager
def _running(children: list[BaseProcess]) -> Iterator[list[int]]:
    """Starts the children; none outlives the block. Gives the list of the signals that come meanwhile, passed on to them."""
    signals: list[int] = []

    def pass_on(number: int, frame: object) -> None:
        signals.append(number)
        for child in children:
            if child.is_alive():
                os.kill(child.pid, number)

    previous = {}
    try:
        resource_tracker.ensure_running()  # before the next line, which it would undo
        signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)  # in the children too, until they can report
        try:
            for child in children:
                child.start()
            if threading.current_thread() is threading.main_thread():
                previous = {number: signal.signal(number, pass_on) for number in SIGNALS}
        finally:
            signal.pthread_sigmask(signal.SIG_UNBLOCK, SIGNALS)
        yield signals
    finally:
        for child in children:
            if child.pid is not None:
                child.kill()
                child.join()
        for number, handler in previous.items():
            signal.signal(number, handler)


def _wait(children: list[BaseProcess], failure: Path, signals: list[int]) -> int | None:
    """Waits for all to end, and ends those that go on when one has failed. The number of one that fell without a word."""
    running, fallen, failed, means = list(children), None, False, [signal.SIGTERM, signal.SIGKILL]
    while running:
        ended = connection.wait([child.sentinel for child in running], GRACE if failed else None)
        if not ended:
            for child in running:
                os.kill(child.pid, means[0])
            means = means[1:] or means
        for child in [child for child in running if child.sentinel in ended]:
            child.join()
            running.remove(child)
            failed = failed or child.exitcode != 0
            told = child.exitcode >= 0 and (child.exitcode == 0 or failure.exists())
            if fallen is None and not told and not signals and len(means) == 2:
                fallen = children.index(child)
    return fallen


def _child(work: Work, number: int, folder: Path) -> None:
    """What each process does."""
    try:
        os.setpgid(0, 0)  # a terminal's Ctrl-C reaches the parent alone, which passes it on once
        signal.pthread_sigmask(signal.SIG_UNBLOCK, SIGNALS)
        threading.Thread(target=_end_with_parent, daemon=True).start()
        work(number, folder)
    except BaseException as error:
        if not (isinstance(error, SystemExit) and not error.code):
            _report(error, number, folder)
            sys.exit(1)


def _end_with_parent() -> None:
    """However the parent ends, this process does not go on without it."""
    multiprocessing.parent_process().join()
    os.kill(os.getpid(), signal.SIGTERM)


def _report(error: BaseException, number: int, folder: Path) -> None:
    """Leaves the error, with its traceback as a note, to the parent, unless another process has failed before."""
    error.add_note(f"In process {number + 1}:\n{traceback.format_exc()}")
    try:
        content = pickle.dumps(error)
        pickle.loads(content)
    except Exception:  # an exception whose arguments are not those of its class
        told = (ValueError if isinstance(error, ValueError | OSError) else RuntimeError)(f"{type(error).__name__}: {error}")
        told.__notes__ = error.__notes__
        content = pickle.dumps(told)
    own = folder / f"{FAILURE}.{number}"
    own.write_bytes(content)
    with suppress(FileExistsError):
        os.link(own, folder / FAILURE)
