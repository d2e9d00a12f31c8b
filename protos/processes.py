"""How a command starts on one process or many, and how they share a list of work.

`--processes N` starts N processes on this machine, which meet in a file of a private folder, talk over loopback alone and end
together: one error, one exit code, one Ctrl-C. Started by torchrun, on one machine or several, a command takes its place among
the processes that are there.
"""

import atexit
import logging
import multiprocessing
import os
import pickle
import signal
import subprocess
import sys
import tempfile
import threading
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from datetime import timedelta
from functools import partial
from multiprocessing import connection, resource_tracker
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    import torch

T = TypeVar("T")
R = TypeVar("R")

LONGEST_WAIT = timedelta(days=7)  # of one process for another that encodes, judges or writes; NCCL's own is 10 minutes
LOOPBACK = "lo0" if sys.platform == "darwin" else "lo"

Work = Callable[[int, Path], object]

GRACE = 10.0  # seconds that the others have to end by themselves once one has failed, and again once they are told to
SIGNALS = (signal.SIGINT, signal.SIGTERM)
FAILURE = "failure"  # file of the private folder: what the first that failed has raised


class Processes:
    """The processes of this command: as many as `start` or torchrun started, by default one."""

    def __init__(self, device: str = "auto"):
        """device: as in `pick_device`; with several processes each takes its own GPU, or all the CPU."""
        self.count = int(os.environ.get("WORLD_SIZE", "1"))
        self.rank = int(os.environ.get("RANK", "0"))
        self.device = pick_device(device) if self.count == 1 else _join(device)

    @property
    def main(self) -> bool:
        """Whether this is the process that writes files."""
        return self.rank == 0

    def from_main(self, make: Callable[[], R]) -> R:
        """What `make` gives in the main process, in all of them."""
        if self.count == 1:
            return make()
        from accelerate.utils import broadcast_object_list

        return broadcast_object_list([make() if self.main else None])[0]

    def share(self, work: Callable[[list[T]], list[R]], items: list[T]) -> list[R]:
        """work(items), each process having done its part; the whole list in every process, in the order of the items."""
        if self.count == 1:
            return work(items)
        from accelerate.utils import gather_object

        own = items[self.rank :: self.count]
        parts = gather_object([work(own) if own else []])
        return [parts[i % self.count][i // self.count] for i in range(len(items))]


def setup_logging(main_process: bool = True) -> None:
    """Messages to stderr, one plain line each; the other processes of a parallel run speak only to warn."""
    logging.basicConfig(
        level=logging.INFO if main_process else logging.WARNING,
        format="%(message)s",
        stream=sys.stderr,
        force=True,
    )
    for noisy in ("httpx", "filelock", "matplotlib", "PIL", "transformers", "huggingface_hub", "urllib3", "asyncio"):
        logging.getLogger(noisy).setLevel(logging.WARNING)


def pick_device(name: str = "auto") -> "torch.device":
    """The device to work on. 'auto' is the first GPU, or the CPU where there is none; a bare number is that GPU.

    Raises ValueError for a device this machine has not.
    """
    import torch

    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(f"cuda:{name}" if name.isdigit() else name)
    except RuntimeError:
        raise ValueError(f"--device {name}: unknown device; use auto, cpu, cuda, cuda:1 or mps") from None
    if device.type == "cuda":
        count = torch.cuda.device_count() if torch.cuda.is_available() else 0
        if (device.index or 0) >= count:
            found = f"{count} GPU(s) found" if count else f"no GPU found by torch {torch.__version__}"
            raise ValueError(f"--device {name}: {found}; use --device cpu or auto")
    elif device.type == "mps" and not torch.backends.mps.is_available():
        raise ValueError(f"--device {name}: this machine has no MPS; use --device cpu or auto")
    elif device.type not in ("cpu", "cuda", "mps"):  # meta, xpu, vulkan: torch knows the word, our computations do not run there
        raise ValueError(f"--device {name}: not a device that this program runs on; use auto, cpu, cuda, cuda:1 or mps")
    return device


def multiplies_bf16(device: "torch.device") -> bool:
    """Whether a device multiplies bfloat16 matrices in hardware, so that they are faster than float32."""
    import torch

    if device.type == "cuda":
        return torch.cuda.get_device_capability(device) >= (8, 0)  # Ampere
    return device.type == "cpu" and bool(getattr(torch.cpu, "get_capabilities", dict)().get("amx_bf16"))


def start(run: Callable[[Any], object], options: Any) -> None:
    """run(options) in `options.processes` new processes; without them in this one, alone or with those of torchrun.

    `run` and what it raises: as `run_children` has it.
    """
    count, started = getattr(options, "processes", 1), int(os.environ.get("WORLD_SIZE", "1"))
    setup_logging(main_process=os.environ.get("RANK", "0") == "0")
    if count > 1 and started > 1:
        raise ValueError(f"--processes {count}: torchrun has started {started} processes already; leave out one of the two")
    if count > 1:
        run_children(partial(_one_of, count, run, options), count)
        return
    if started > 1:
        _join(options.device)
    run(options)


def _one_of(count: int, run: Callable[[Any], object], options: Any, rank: int, folder: Path) -> None:
    """What each of the processes that `start` has started does."""
    ranks = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": count, "LOCAL_WORLD_SIZE": count}
    os.environ.update({name: str(value) for name, value in ranks.items()})
    os.environ.update(GLOO_SOCKET_IFNAME=LOOPBACK, NCCL_SOCKET_IFNAME=LOOPBACK)
    setup_logging(main_process=rank == 0)
    _join(options.device, folder / "store")
    run(options)


def _join(device: str, store: Path | None = None) -> "torch.device":
    """The device of this process, which joins the others if it has not: at a store, or where torchrun's environment says."""
    import torch
    from accelerate import PartialState

    if torch.distributed.is_initialized():
        return PartialState().device
    asked, count = pick_device(device), int(os.environ["WORLD_SIZE"])
    on_cpu = asked.type == "cpu" or os.environ.get("ACCELERATE_USE_CPU", "").lower() in ("1", "true", "yes")
    group: dict[str, Any] = {"timeout": LONGEST_WAIT, **({"backend": "gloo"} if on_cpu else {})}
    if store is not None:
        _check_room(asked, count) if not on_cpu else _share_cores(count)
        group |= {"store": torch.distributed.FileStore(str(store), count), "rank": int(os.environ["RANK"]), "world_size": count}
    atexit.register(_leave)
    return PartialState(cpu=on_cpu, **group).device


def _check_room(asked: "torch.device", count: int) -> None:
    """ValueError where `count` processes cannot each have a GPU of this machine."""
    import torch

    if asked.type != "cuda" or asked.index is not None:
        raise ValueError(f"--device {asked}: each of {count} processes takes a GPU of its own; use --device auto or cpu")
    if count > (found := torch.cuda.device_count()):
        raise ValueError(f"--processes {count}: each takes a GPU of its own, and {found} found; use {found}, or --device cpu")


def _share_cores(count: int) -> None:
    """Each process its part of the cores, unless the user says otherwise."""
    import torch

    if "OMP_NUM_THREADS" not in os.environ:
        threads = max(1, (os.cpu_count() or 1) // count)
        os.environ["OMP_NUM_THREADS"] = str(threads)
        torch.set_num_threads(threads)


def _leave() -> None:
    """A process that ends with its group still open may abort, by a thread that is left behind, with all it did lost."""
    import torch

    if torch.distributed.is_initialized():
        torch.distributed.destroy_process_group()


# --------------------------------------------------------------------------------------------------------------------- children


def run_module(name: str, arguments: Sequence[str]) -> int:
    """Exit code of `python -m NAME arguments`, in a process of its own that imports from where this one does: `-m` would look
    into the current folder first, where a `model/` of somebody else's may lie."""
    code = f"import runpy, sys; sys.path[:] = {sys.path!r}; runpy.run_module({name!r}, run_name='__main__', alter_sys=True)"
    return subprocess.run([sys.executable, "-c", code, *arguments]).returncode


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
