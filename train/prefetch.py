"""Batches made ahead of time by background threads, in order, and moved to the device."""

from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import fields, is_dataclass, replace
from typing import Any

import torch
from torch import Tensor

# (step, part, parts) -> the part-th of `parts` equal parts of the step's global batch. Pure: it runs in threads.
Batches = Callable[[int, int, int], Any]


@contextmanager
def prefetched(plan: Iterator[tuple[int, int, int]], batches: Batches, num_workers: int) -> Iterator[Callable[[], Any]]:
    """`next_batch()` for the calls of `plan` in turn; what a call raises, it raises. 0 workers: made when asked for."""
    if num_workers == 0:
        yield lambda: batches(*next(plan))
        return
    pool = ThreadPoolExecutor(num_workers, thread_name_prefix="batches")
    waiting: deque[Future] = deque()

    def next_batch() -> Any:
        while len(waiting) < num_workers + 1 and (following := next(plan, None)) is not None:
            waiting.append(pool.submit(batches, *following))
        return waiting.popleft().result()

    try:
        yield next_batch
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def to_device(record: Any, device: torch.device) -> Any:
    """The tensors of a record (dataclasses, lists, tuples and dicts of them) on `device`, all else as it is."""
    if isinstance(record, Tensor):
        return record.to(device, non_blocking=True)
    if is_dataclass(record) and not isinstance(record, type):
        return replace(record, **{f.name: to_device(getattr(record, f.name), device) for f in fields(record) if f.init})
    if isinstance(record, dict):
        return {key: to_device(value, device) for key, value in record.items()}
    if type(record) in (list, tuple):
        return type(record)(to_device(value, device) for value in record)
    return record
