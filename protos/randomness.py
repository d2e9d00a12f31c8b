"""Random numbers that belong to a sample, not to a batch: each sample draws from its own seeded generator.

So a sample gets the same noise whatever the batch size, the padding, the number of processes and the samples beside it.
"""

import hashlib
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    Generators = torch.Generator | Sequence[torch.Generator]

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
    generators: "Generators", shape: Sequence[int], device: "torch.device | str | None" = None,
    dtype: "torch.dtype | None" = None,
) -> "Tensor":  # fmt: skip
    """Normal noise of `shape` (B, ...): row b from generator b, or all of it from a single generator.

    On the CPU the first frames of a row do not depend on how far the row is padded.
    """
    import torch

    if isinstance(generators, torch.Generator):
        return torch.randn(*shape, generator=generators, device=generators.device, dtype=dtype).to(device)
    size = _row_size(generators, shape)
    padded = -(-size // _BLOCK) * _BLOCK
    rows = [torch.randn(padded, generator=g, device=g.device, dtype=dtype)[:size] for g in generators]
    return torch.stack(rows).reshape(*shape).to(device)


def randn_like(generators: "Generators", x: "Tensor") -> "Tensor":
    """Normal noise with the shape, device and dtype of `x` (B, ...)."""
    return randn(generators, x.shape, device=x.device, dtype=x.dtype)


def rand(generators: "Generators", shape: Sequence[int], device: "torch.device | str | None" = None) -> "Tensor":
    """Uniform numbers in [0, 1) of `shape` (B, ...), row b from generator b."""
    import torch

    if isinstance(generators, torch.Generator):
        return torch.rand(*shape, generator=generators, device=generators.device).to(device)
    size = _row_size(generators, shape)
    return torch.stack([torch.rand(size, generator=g, device=g.device) for g in generators]).reshape(*shape).to(device)


def randint(
    generators: "Generators", high: int, shape: Sequence[int], low: int = 0,
    device: "torch.device | str | None" = None,
) -> "Tensor":  # fmt: skip
    """Whole numbers in [low, high) of `shape` (B, ...), int64, row b from generator b."""
    import torch

    if isinstance(generators, torch.Generator):
        return torch.randint(low, high, tuple(shape), generator=generators, device=generators.device).to(device)
    size = _row_size(generators, shape)
    rows = [torch.randint(low, high, (size,), generator=g, device=g.device) for g in generators]
    return torch.stack(rows).reshape(*shape).to(device)


def _row_size(generators: "Sequence[torch.Generator]", shape: Sequence[int]) -> int:
    if len(generators) != shape[0]:
        raise ValueError(f"{len(generators)} generators cannot fill {shape[0]} samples: one generator per sample")
    size = 1
    for length in shape[1:]:
        size *= length
    return size
