"""Random numbers that belong to a sample, not to a batch: each sample draws from its own seeded generator.

So a sample gets the same noise whatever the batch size, the padding, the number of processes and the samples beside it.
"""

import hashlib
import math
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    Generators = torch.Generator | Sequence[torch.Generator]

_WORTH_THREADS = 1 << 17  # numbers from which on threads draw their rows faster than one does
_GAMMA = 0x9E3779B97F4A7C15 - (1 << 64)  # SplitMix64's constants, as int64
_SPLITMIX = ((30, 0xBF58476D1CE4E5B9 - (1 << 64)), (27, 0x94D049BB133111EB - (1 << 64)))
_BLOCK = 16  # torch fills normals on the CPU in blocks of 16; whole blocks make a shorter draw a prefix of a longer one


def derive_seed(*parts: int | str) -> int:
    """One well-mixed seed in [0, 2^63) from several numbers or words, the same on every machine."""
    text = "/".join(str(part) for part in parts).encode()
    return int.from_bytes(hashlib.blake2b(text, digest_size=8).digest(), "little") >> 1


def sample_generators(
    seed: int, indices: Iterable[int], *context: int | str, device: "torch.device | str" = "cpu"
) -> "list[torch.Generator]":
    """A generator per sample, seeded by (seed, context..., index); a training step gives its number as context."""
    import torch

    return [torch.Generator(device).manual_seed(derive_seed(seed, *context, int(index))) for index in indices]


def randn(
    generators: "Generators", shape: Sequence[int], device: "torch.device | str | None" = None, dtype: "torch.dtype | None" = None
) -> "Tensor":
    """Normal noise of `shape` (B, ...): row b from generator b, or all of it from a single generator.

    On the CPU the first frames of a row do not depend on how far the row is padded.
    """
    import torch

    if isinstance(generators, torch.Generator):
        return torch.randn(*shape, generator=generators, device=generators.device, dtype=dtype).to(device)
    size = _row_size(generators, shape)
    padded = -(-size // _BLOCK) * _BLOCK
    noise = torch.empty(len(generators), padded, device=generators[0].device, dtype=dtype)
    for row, generator in zip(noise, generators):
        row.normal_(generator=generator)
    return noise[:, :size].reshape(*shape).to(device)


def seeded_randn(seeds: Sequence[int], shape: Sequence[int], device: "torch.device | str" = "cpu") -> "Tensor":
    """Normal noise of `shape` (B, ...) made on `device`, row b from seeds[b]: for sampling, which draws at every step.

    A number depends on its seed and on its place in the row alone, not on the batch, nor on how far the row is padded.
    The CPU and accelerators draw other numbers: each those it is quick at.
    """
    import torch

    device = torch.device(device)
    size = _row_size(seeds, shape)
    if device.type != "cpu":
        return hashed_randn(seeds, size, device).reshape(*shape)
    noise = torch.empty(len(seeds), -(-size // _BLOCK) * _BLOCK)

    def fill(row: int) -> None:
        noise[row].normal_(generator=torch.Generator().manual_seed(seeds[row]))

    if noise.numel() >= _WORTH_THREADS:  # torch draws numbers in one thread, and leaves Python's lock while it does
        with ThreadPoolExecutor(min(torch.get_num_threads(), len(seeds))) as pool:
            list(pool.map(fill, range(len(seeds))))
    else:
        list(map(fill, range(len(seeds))))
    return noise[:, :size].reshape(*shape)


def hashed_randn(seeds: Sequence[int], size: int, device: "torch.device | str") -> "Tensor":
    """Normal noise (B, size) whose pairs of numbers come from the outputs of SplitMix64 seeded with seeds[b].

    The i-th output of that generator is a hash of seed + i * GAMMA, so the whole batch is made at once, in a few passes on
    the device. Steele et al. 2014; Box & Muller 1958.
    """
    import torch

    pairs = -(-size // 2)
    start = torch.tensor(seeds, dtype=torch.int64, device=device)[:, None]
    z = start + torch.arange(1, pairs + 1, device=device) * _GAMMA  # (B, pairs); int64 wraps around, as it should
    for shift, factor in _SPLITMIX:
        z = (z ^ _shifted(z, shift)) * factor
    z = z ^ _shifted(z, 31)
    radius = (-2 * ((_shifted(z, 40).float() + 0.5) / 2**24).log()).sqrt()  # of 24 bits, never 0
    angle = (z & 0xFFFFFF).float() * (2 * math.pi / 2**24)  # of 24 others
    return torch.stack([radius * angle.cos(), radius * angle.sin()], dim=-1).flatten(1)[:, :size]


def _shifted(z: "Tensor", bits: int) -> "Tensor":
    """int64 as unsigned numbers, shifted to the right."""
    return (z >> bits) & ((1 << (64 - bits)) - 1)


def rand(generators: "Generators", shape: Sequence[int], device: "torch.device | str | None" = None) -> "Tensor":
    """Uniform numbers in [0, 1) of `shape` (B, ...), row b from generator b."""
    import torch

    return _by_rows(lambda size, source: torch.rand(size, generator=source, device=source.device), generators, shape, device)


def randint(
    generators: "Generators", high: int, shape: Sequence[int], low: int = 0, device: "torch.device | str | None" = None
) -> "Tensor":
    """Whole numbers in [low, high) of `shape` (B, ...), int64, row b from generator b."""
    import torch

    def draw(size: tuple[int, ...], generator: "torch.Generator") -> "Tensor":
        return torch.randint(low, high, size, generator=generator, device=generator.device)

    return _by_rows(draw, generators, shape, device)


def _by_rows(draw: "Callable[..., Tensor]", generators: "Generators", shape: Sequence[int], device: Any) -> "Tensor":
    import torch

    if isinstance(generators, torch.Generator):
        return draw(tuple(shape), generators).to(device)
    size = _row_size(generators, shape)
    return torch.stack([draw((size,), generator) for generator in generators]).reshape(*shape).to(device)


def _row_size(generators: "Sequence[torch.Generator] | Sequence[int]", shape: Sequence[int]) -> int:
    if len(generators) != shape[0]:
        raise ValueError(f"{len(generators)} generators cannot fill {shape[0]} samples: one generator per sample")
    return math.prod(shape[1:])


def seed_everything(seed: int) -> None:
    """Seeds Python's, numpy's and torch's global generators: weights' initial values and dropout."""
    import random

    import numpy as np
    import torch

    random.seed(seed)
    np.random.seed(seed % 2**32)
    torch.manual_seed(seed)
