"""What work costs: CPU seconds, user and system time of all threads, so that extra threads flatter nobody."""

import resource
import time
from collections.abc import Callable
from typing import Any, NamedTuple


class Cost(NamedTuple):
    """Seconds of one run: of this process, of the processes that it started, by the clock; and what the work gave."""

    own: float
    children: float
    wall: float
    result: Any

    @property
    def cpu(self) -> float:
        return self.own + self.children


def cost(work: Callable[[], object]) -> Cost:
    """Of one run."""
    before, start = _cpu(), time.perf_counter()
    result = work()
    own, children = (after - earlier for after, earlier in zip(_cpu(), before))
    return Cost(own, children, time.perf_counter() - start, result)


def least(*works: Callable[[], object], rounds: int, warm: bool = False) -> list[Cost]:
    """Of each work the run that cost least, taken in turns so that all meet the same machine: what it does besides only adds.

    warm: each run follows another of the same work, so that caches and allocator are as in a loop.
    """
    runs: list[list[Cost]] = [[] for _ in works]
    for _ in range(rounds):
        for work, own in zip(works, runs):
            own += [cost(work) for _ in range(1 + warm)][-1:]
    return [min(own, key=lambda run: run.cpu) for own in runs]


def _cpu() -> list[float]:
    usages = (resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return [usage.ru_utime + usage.ru_stime for usage in usages]
