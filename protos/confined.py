"""Work on files from strangers in a warm process of its own, with limits of time and memory: what breaks is that process."""

import logging
import multiprocessing
import os
import queue
import shutil
import signal
import sys
import traceback
from collections.abc import Callable
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from protos.options import one_line

STARTING = 300.0  # seconds that a process may take to import what it needs
log = logging.getLogger(__name__)


class LimitError(ValueError):
    """Work that was ended because it took too much time or memory."""


class Confined:
    """Calls `work(*arguments)` in one of `count` processes, as many at once; further calls wait.

    `work` is a function of a module, its arguments and what it returns are plain data. Its ValueErrors and OSErrors come back
    as ValueError with their words; LimitError where a limit ends it, after which a new process takes the place.
    """

    def __init__(self, work: Callable[..., Any], seconds: float, megabytes: int, count: int = 1, scratch: Path | None = None):
        """megabytes: beyond what the process takes once it is warm. scratch: a folder that goes with the caller, also where
        that is killed."""
        self.work, self.seconds, self.megabytes, self.scratch = work, seconds, megabytes, scratch
        self._idle: queue.LifoQueue[_Helper | None] = queue.LifoQueue()  # the one used last, which is warm, comes first
        for _ in range(count):
            self._idle.put(None)

    def warm(self) -> None:
        """Starts a process that the first call will find ready, and does not wait for it."""
        helper = self._idle.get()
        self._idle.put(helper or self._start())

    def __call__(self, *arguments: Any) -> Any:
        helper = self._idle.get()
        try:
            helper = helper or self._start()
            kind, content = helper.ask(arguments, self.seconds)
        except (EOFError, BrokenPipeError, ConnectionError):
            kind, content = "memory", ""
        except BaseException:
            self._idle.put(helper.end() if helper else None)
            raise
        self._put_back(helper, usable=kind in ("done", "refused", "fault"))
        if kind == "done":
            return content
        if kind == "refused":
            raise ValueError(content)
        if kind == "time":
            raise LimitError(f"it takes more than {self.seconds:g} s to read here: send a shorter one")
        if kind == "memory":
            raise LimitError(f"it takes more than {self.megabytes:,} MB of memory to read: send a shorter one")
        log.error("%s", content)
        raise RuntimeError("a fault while a file was read; its traceback is in the log")

    def _put_back(self, helper: "_Helper | None", usable: bool) -> None:
        """One that was ended is replaced now, so that the next call finds it warm."""
        fresh = helper if usable else None
        try:
            if not usable and helper:
                helper.end()
                log.info("a process that reads files was ended (exit code %s)", helper.process.exitcode)
                fresh = self._start()
        finally:
            self._idle.put(fresh)

    def close(self) -> None:
        """Ends the processes that nobody uses now."""
        while not self._idle.empty():
            if helper := self._idle.get_nowait():
                helper.end()

    def _start(self) -> "_Helper":
        return _Helper(self.work, self.seconds, self.megabytes, self.scratch)


class _Helper:
    """A process that does the work of one call after another."""

    def __init__(self, work: Callable[..., Any], seconds: float, megabytes: int, scratch: Path | None):
        context = multiprocessing.get_context("spawn")
        self.pipe, theirs = context.Pipe()
        self.ready = False
        self.process = context.Process(target=_serve, args=(theirs, work, seconds, megabytes, scratch), daemon=True)
        self.process.start()
        theirs.close()

    def ask(self, arguments: tuple, seconds: float) -> tuple[str, Any]:
        """(what became of it, the result or words)."""
        if not self.ready:
            if not self.pipe.poll(STARTING):
                return "time", ""
            self.pipe.recv()
            self.ready = True
        self.pipe.send(arguments)
        return self.pipe.recv() if self.pipe.poll(seconds) else ("time", "")

    def end(self) -> None:
        self.process.kill()
        self.process.join()
        self.pipe.close()


def _serve(pipe: Connection, work: Callable[..., Any], seconds: float, megabytes: int, scratch: Path | None) -> None:
    """What the process does until its caller is gone. All that `work` imports is here by now."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the caller, who then ends this process
    if torch := sys.modules.get("torch"):
        torch.set_num_threads(1)  # each thread reserves memory of its own, which the limit would count
    _limit_memory(megabytes)
    try:
        pipe.send("ready")
        while True:
            arguments = pipe.recv()
            _limit_processor_time(seconds)
            answer = _answer(work, arguments)
            pipe.send(answer)
            if answer[0] == "memory":
                return  # what it holds may never be given back
    except (EOFError, BrokenPipeError, ConnectionError):  # the caller has ended, or was killed
        if scratch is not None:
            shutil.rmtree(scratch, ignore_errors=True)


def _answer(work: Callable[..., Any], arguments: tuple) -> tuple[str, Any]:
    try:
        return "done", work(*arguments)
    except (ValueError, OSError) as error:
        return "refused", one_line(error)
    except Exception as error:
        if isinstance(error, MemoryError) or "can't allocate memory" in str(error):
            return "memory", ""
        return "fault", traceback.format_exc()


def _limit_memory(megabytes: int) -> None:
    """Beyond the address space that is in use now; where the system does not tell it (not Linux) there is no limit."""
    try:
        import resource

        pages = int(Path("/proc/self/statm").read_text().split()[0])
    except (ImportError, OSError):
        return
    most = pages * os.sysconf("SC_PAGE_SIZE") + (megabytes << 20)
    resource.setrlimit(resource.RLIMIT_AS, (most, most))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def _limit_processor_time(seconds: float) -> None:
    """The caller ends what takes too long; this ends it where the caller was killed meanwhile."""
    try:
        import resource
    except ImportError:
        return
    used = resource.getrusage(resource.RUSAGE_SELF)
    _, hard = resource.getrlimit(resource.RLIMIT_CPU)
    resource.setrlimit(resource.RLIMIT_CPU, (int(used.ru_utime + used.ru_stime + 2 * seconds) + 2, hard))
