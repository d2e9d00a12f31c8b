"""What a loss needs of the other processes of a training run. Every process must call these alike; one alone goes without.

Gradients flow through: a loss that all processes compute of everybody's rows has, averaged over them as data-parallel
training does, the gradient that one process with the whole batch would find.
"""

import torch
from torch import Tensor, distributed


def _several() -> bool:
    return distributed.is_available() and distributed.is_initialized() and distributed.get_world_size() > 1


class _Sum(torch.autograd.Function):
    """The sum over the processes; its gradient is the sum of theirs."""

    @staticmethod
    def forward(_, x: Tensor) -> Tensor:
        x = x.clone()
        distributed.all_reduce(x)
        return x

    @staticmethod
    def backward(_, gradient: Tensor) -> Tensor:
        gradient = gradient.clone()
        distributed.all_reduce(gradient)
        return gradient


def total(x: Tensor) -> Tensor:
    """Sum of the processes' tensors."""
    return _Sum.apply(x) if _several() else x


def all_rows(x: Tensor) -> Tensor:
    """The rows (B, ...) of all processes (P B, ...), in the order of their ranks; as many of each."""
    if not _several():
        return x
    rank, world = distributed.get_rank(), distributed.get_world_size()
    before, after = (x.new_zeros(count * len(x), *x.shape[1:]) for count in (rank, world - 1 - rank))
    return total(torch.cat([before, x, after]))


def largest(number: int) -> int:
    """The largest of the processes' numbers."""
    if not _several():
        return number
    device = "cuda" if distributed.get_backend() == "nccl" else "cpu"
    found = torch.tensor(number, device=device)
    distributed.all_reduce(found, op=distributed.ReduceOp.MAX)
    return int(found)
