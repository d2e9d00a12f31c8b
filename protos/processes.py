"""How a command starts on one process or many, and how they share a list of work."""

import atexit
import logging
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from protos.options import setup_logging

if TYPE_CHECKING:
    import torch

logger = logging.getLogger(__name__)
T = TypeVar("T")
R = TypeVar("R")


class Processes:
    """The processes of this command: as many as `accelerate launch` or torchrun started, by default one."""

    def __init__(self, device: str = "auto"):
        """device: as in `pick_device`; with several processes each takes its own, or all the CPU."""
        from protos.options import pick_device

        self.count = int(os.environ.get("WORLD_SIZE", "1"))
        self.rank = int(os.environ.get("RANK", "0"))
        self.device: torch.device
        if self.count == 1:
            self.device = pick_device(device)
        else:
            from accelerate import PartialState

            on_cpu = device == "cpu" or os.environ.get("ACCELERATE_USE_CPU", "").lower() in ("1", "true", "yes")
            self.device = PartialState(cpu=on_cpu).device

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

        parts = gather_object([work(items[self.rank :: self.count])])
        return [parts[i % self.count][i // self.count] for i in range(len(items))]


def begin_command() -> None:
    """To be called once the options are read: starts the processes that `accelerate launch` was asked for, and logging.

    `accelerate launch --num_processes 2 --cpu` starts a single process unless MPI is installed, and says nothing; here
    that process becomes the launcher (torch's, over gloo) of the number asked for.
    """
    count = _processes_asked_for()
    if count > 1:
        os.execv(sys.executable, [sys.executable, *_launcher(count), *_this_command()])
    atexit.register(_leave_the_others)
    setup_logging(main_process=os.environ.get("RANK", "0") == "0")


def _leave_the_others() -> None:
    """A process that ends with its group still open may abort, by a thread that is left behind, with all it did lost."""
    if (torch := sys.modules.get("torch")) and torch.distributed.is_available() and torch.distributed.is_initialized():
        torch.distributed.destroy_process_group()


def _processes_asked_for() -> int:
    """The --num_processes of an `accelerate launch --cpu` that left us alone; otherwise 1."""
    alone = not any(name in os.environ for name in ("WORLD_SIZE", "RANK", "OMPI_COMM_WORLD_SIZE", "PMI_SIZE"))
    on_cpu = os.environ.get("ACCELERATE_USE_CPU", "").lower() in ("1", "true", "yes")
    if not (alone and on_cpu and "MASTER_PORT" in os.environ):
        return 1
    import psutil

    try:
        words = psutil.Process(os.getppid()).cmdline()
    except psutil.Error:
        return 1
    return _num_processes(words[: len(words) - len(sys.argv) + 1])


def _num_processes(words: list[str]) -> int:
    """Value of --num_processes (or --num-processes, with = or a space) in a command line of accelerate."""
    if not any("accelerate" in Path(word).name or word.startswith("accelerate.") for word in words):
        return 1
    for word, following in zip(words, [*words[1:], ""]):
        flag, _, value = word.replace("-", "_").partition("=")
        value = value or following
        if flag == "__num_processes" and value.isdigit():
            return int(value)
    return 1


def _launcher(count: int) -> list[str]:
    return ["-m", "torch.distributed.run", "--standalone", "--nproc_per_node", str(count)]


def _this_command() -> list[str]:
    spec = getattr(sys.modules["__main__"], "__spec__", None)
    if spec is None:
        return sys.argv
    return ["-m", spec.name.removesuffix(".__main__"), *sys.argv[1:]]
