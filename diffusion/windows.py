"""Sequences longer than a network makes: windows that overlap, blended at every step, and what is decoded of them as it comes.

A sequence is denoised as one, by any sampler: at every step the network sees it window by window, and where two windows overlap
the one's prediction passes over into the other's (Bar-Tal et al. 2023, MultiDiffusion, Eq. 5; as the handshakes of Shafir et al.
2024, PriorMDM, §3.1). "Tokens" are frames, latents or ids.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from diffusion.gaussian import Denoise


@dataclass(frozen=True)
class Window:
    """Tokens from `start` up to `stop` of a long sequence, made under the text of a passage."""

    passage: int
    start: int
    stop: int


@dataclass(frozen=True)
class Arrangement:
    """Where the W windows of a block lie in the sequence (1, size, D) that is denoised: `index` (W, L) names the token at each of
    their places, `mask` (W, L) those that are no padding, `weight` (W, L) how much a window has to say there. Of the sequence the
    first `length` tokens are wanted; behind them lies what fills up windows that are always of one length.
    """

    index: Tensor
    mask: Tensor
    weight: Tensor
    length: int
    size: int


def in_tokens(frames: Sequence[int], step: int) -> list[int]:
    """Tokens of passages of so many frames: each begins with the token nearest to its first frame, and has at least one; all
    together have every frame."""
    ends, found = [sum(frames[: i + 1]) for i in range(len(frames))], []
    for i, end in enumerate(ends):
        last = -(-end // step) if i == len(ends) - 1 else (2 * end + step) // (2 * step)
        found.append(max(last - sum(found), 1))
    return found


def equal_parts(length: int, most: int) -> list[int]:
    """A length as parts of at most so many, as equal as can be."""
    count = -(-length // most)
    return [length * (i + 1) // count - length * i // count for i in range(count)]


def windows_over(lengths: Sequence[int], longest: int, overlap: int) -> list[Window]:
    """Windows of at most `longest` tokens over passages of `lengths` tokens, neighbours sharing `overlap` about where the one's
    part ends, fewer where a part is shorter: no token is in more than two. A passage that a window cannot hold has several.
    """
    if sum(lengths) <= longest and len(lengths) == 1:
        return [Window(0, 0, lengths[0])]
    most = longest - overlap
    if most < 1:
        raise ValueError(f"windows of {longest} tokens cannot overlap by {overlap}")
    parts = [(passage, part) for passage, length in enumerate(lengths) for part in equal_parts(length, most)]
    found, start, before = [], 0, 0
    for number, (passage, part) in enumerate(parts):
        following = parts[number + 1][1] if number + 1 < len(parts) else 0
        after = min(overlap // 2, part // 2, following // 2)
        found.append(Window(passage, start - before, start + part + after))
        start, before = start + part, after
    return found


def laid_out(windows: Sequence[Window], width: int | None = None) -> Arrangement:
    """A block of neighbouring windows from its first token on. width: tokens of each of them, where a network knows no other
    length: what fills them up are tokens of their own. In an overlap weights rise and fall evenly, and are 1 together."""
    first, length = windows[0].start, windows[-1].stop - windows[0].start
    widest = max(window.stop - window.start for window in windows) if width is None else width
    index = torch.zeros(len(windows), widest, dtype=torch.long)
    mask, weight, size = torch.zeros(index.shape, dtype=torch.bool), torch.zeros(index.shape), length
    for row, window in enumerate(windows):
        own = window.stop - window.start
        index[row, :own] = torch.arange(window.start - first, window.stop - first)
        mask[row, :own], weight[row, :own] = True, 1.0
        if row and (shared := windows[row - 1].stop - window.start):
            weight[row, :shared] = torch.arange(1, shared + 1) / (shared + 1)
            weight[row - 1, : windows[row - 1].stop - windows[row - 1].start][-shared:] = 1 - weight[row, :shared]
        if width is not None:
            index[row, own:] = torch.arange(size, size + widest - own)
            weight[row, own:] = 1.0
            size += widest - own
    return Arrangement(index, mask, weight, length, size)


def windowed(denoise: Denoise, layout: Arrangement) -> Denoise:
    """Denoiser of one sequence (1, size, D) from one of its W windows (W, L, D)."""

    def denoise_long(x: Tensor, t: Tensor) -> Tensor:
        index, weight = layout.index.to(x.device), layout.weight.to(x)
        rows = denoise(x[0, index], t.expand(len(index)))  # (W, L, D)
        return torch.zeros_like(x[0]).index_add(0, index.flatten(), (weight[..., None] * rows).flatten(0, 1))[None]

    return denoise_long


def in_turns(parts: Sequence[tuple[slice, Denoise]]) -> Denoise:
    """Denoiser of all rows from those of some each: so many are asked at once as memory holds."""
    return lambda x, t: torch.cat([denoise(x[rows], t[rows]) for rows, denoise in parts])


def decoded_pieces(
    pieces: Iterable[Tensor], decode: Callable[[Tensor], Tensor], step: int, reach: int, frames: int
) -> Iterator[Tensor]:
    """The first `frames` frames (n, D) of tokens (N, C) that come piece by piece, as soon as they are sure: decode(tokens) makes
    `step` frames of each token, which depend on no token farther than `reach`. Holds no more than that and a piece."""
    held, told = None, 0  # tokens, and how many of them have been told
    for piece in pieces:
        held = piece if held is None else torch.cat([held, piece])
        sure = len(held) - reach
        if sure > told and frames > 0:
            made = decode(held)[told * step : sure * step][:frames]
            frames -= len(made)
            kept = max(sure - reach, 0)
            held, told = held[kept:], sure - kept
            yield made
    if held is not None and frames > 0:
        yield decode(held)[told * step :][:frames]
