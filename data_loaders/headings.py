"""Where a body faces, frame by frame: the root rotation of the HumanML3D features.

All headings are turns about Y, so a heading is a unit vector (x, z) on the floor, stored as (2, N) over the
concatenated frames of many clips. Two modes:

- `published`: Guo et al. 2022 as released. The hips enter with the wrong sign (shoulder width minus hip width), the
  root of frame 0 is overwritten with no rotation, and half angles jump where the heading passes -Z. Official
  features, statistics and weights need it.
- `continuous`: hips the right way round, nothing overwritten, angles continuous in time; the clip is turned so that its
  smoothed heading in frame 0 is +Z. Every clip decodes back to its joints.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

import torch
from torch import Tensor

from data_loaders.skeleton import Skeleton

Heading = Literal["published", "continuous"]
HEADINGS: tuple[Heading, ...] = ("published", "continuous")
SMOOTHING_SIGMA = 20.0  # frames, whatever the frame rate
SMOOTHING_RADIUS = 80  # scipy's gaussian_filter1d: int(truncate 4 * sigma + 0.5)
SMOOTHING_BLOCK = 64  # frames smoothed by one row of a matrix product
NEARLY_ZERO = 1e-12


class HeadingMismatch(ValueError):
    """Features of one heading mode met statistics, a corpus or a model of the other."""


def check_heading(heading: str) -> Heading:
    """The mode if it is one; ValueError otherwise."""
    if heading not in HEADINGS:
        raise ValueError(f"unknown heading {heading!r}: use one of {', '.join(HEADINGS)}")
    return heading  # type: ignore[return-value]


def require_same_heading(found: str, expected: str, found_in: str = "data", expected_by: str = "model") -> None:
    """HeadingMismatch where two things that shall work together were made with different heading modes."""
    if check_heading(found) != check_heading(expected):
        raise HeadingMismatch(
            f"{found_in} has {found!r} headings, {expected_by} expects {expected!r}: "
            f"prepare the data with heading {expected!r} or use a {expected_by} made for {found!r}"
        )


@dataclass(frozen=True)
class Spans:
    """How K clips lie one after the other in N frames."""

    lengths: Tensor  # (K,)
    starts: Tensor  # (K,)
    ends: Tensor  # (K,) exclusive
    clip: Tensor  # (N,) which clip a frame belongs to

    @classmethod
    def of(cls, lengths: Sequence[int], device: torch.device) -> "Spans":
        counts = torch.tensor(lengths, device=device)
        ends = counts.cumsum(0)
        frames = torch.arange(sum(lengths), device=device)
        return cls(counts, ends - counts, ends, torch.bucketize(frames, ends, right=True))


def forward_directions(joints: Tensor, skeleton: Skeleton, swapped_hips: bool) -> Tensor:
    """Forward (2, N) = Y x unit(across) of joints (J, 3, N); shorter than 1 where `across` is not level, as published.

    `across` leads from the left to the right side by hips and shoulders. `swapped_hips` is the published root rotation:
    left hip minus right hip, kept by HumanML3D's authors (issue #55).
    """
    right_hip, left_hip, right_shoulder, left_shoulder = (joints[joint] for joint in skeleton.face_joints)
    hips = left_hip - right_hip if swapped_hips else right_hip - left_hip
    across = hips + right_shoulder - left_shoulder
    length = across.square().sum(0).sqrt().clamp_min(NEARLY_ZERO)
    return torch.stack((across[2] / length, -across[0] / length))


def smooth_in_time(values: Tensor, spans: Spans) -> Tensor:
    """Gaussian smoothing of values (C, N) along the frames of each of the concatenated clips.

    Sigma 20 frames, cut at 4 sigma, clip ends repeated: scipy's gaussian_filter1d(mode="nearest"). Clips never mix. All
    clips are laid out with repeated ends between them, then blocks of frames go through one matrix product.
    """
    margin, block = 2 * SMOOTHING_RADIUS, SMOOTHING_BLOCK
    count, frames = len(spans.lengths), values.shape[1]
    blocks = -(-(frames + margin * (count - 1)) // block)
    padded = torch.arange(blocks * block + margin, device=values.device)
    padded_ends = spans.ends + margin * torch.arange(1, count + 1, device=values.device)
    clip = torch.bucketize(padded, padded_ends, right=True).clamp_(max=count - 1)
    first, last = spans.starts.index_select(0, clip), (spans.ends - 1).index_select(0, clip)
    source = padded.sub_(margin * clip + SMOOTHING_RADIUS).clamp_(first, last)
    windows = (
        values.nan_to_num().index_select(1, source).unfold(1, block + margin, block)
    )  # (C, blocks, block + margin)
    smoothed = (windows @ _smoothing_matrix(values.device).to(values.dtype)).flatten(1)
    return smoothed.index_select(1, torch.arange(frames, device=values.device).add_(spans.clip, alpha=margin))


@lru_cache(maxsize=8)
def _smoothing_matrix(device: torch.device) -> Tensor:
    """(block + margin, block) float64: column b is the kernel moved down by b."""
    offsets = torch.arange(-SMOOTHING_RADIUS, SMOOTHING_RADIUS + 1, dtype=torch.float64)
    kernel = torch.exp(-0.5 * (offsets / SMOOTHING_SIGMA) ** 2)
    matrix = torch.zeros(SMOOTHING_BLOCK + 2 * SMOOTHING_RADIUS, SMOOTHING_BLOCK, dtype=torch.float64)
    for column in range(SMOOTHING_BLOCK):
        matrix[column : column + len(kernel), column] = kernel / kernel.sum()
    return matrix.to(device)


def unit_headings(forward: Tensor, starts: Tensor) -> Tensor:
    """Forward (2, N) brought to length 1; frames without a direction keep the last one of their clip, else +Z."""
    length = forward.square().sum(0).sqrt()
    lost = length <= NEARLY_ZERO
    if bool(lost.any()):
        frames = torch.arange(forward.shape[1], device=forward.device)
        first = torch.zeros_like(frames)
        first[starts] = starts
        last_known = torch.where(lost, first, frames).cummax(0).values
        forward, length, lost = forward[:, last_known], length[last_known], lost[last_known]
        ahead = forward.new_tensor([[0.0], [1.0]])
        return torch.where(lost, ahead, forward / length.clamp_min(NEARLY_ZERO))
    return forward / length


def add(first: Tensor, second: Tensor) -> Tensor:
    """Heading (2, N) of `first` followed by `second`: sin and cos of the sum of two angles."""
    sin, cos = first
    return torch.stack((sin * second[1] + cos * second[0], cos * second[1] - sin * second[0]))


def turn(vectors: Tensor, heading: Tensor, out: Tensor | None = None) -> Tensor:
    """Vectors (..., 3, N) seen by a body that faces `heading` (2, N): what lies ahead comes to lie along +Z.

    `out` receives the result; it must not be `vectors`.
    """
    out = torch.empty_like(vectors) if out is None else out
    sin, cos = heading
    x, z = vectors[..., 0, :], vectors[..., 2, :]
    torch.mul(x, cos, out=out[..., 0, :]).addcmul_(z, sin, value=-1)
    torch.mul(z, cos, out=out[..., 2, :]).addcmul_(x, sin)
    out[..., 1, :] = vectors[..., 1, :]
    return out


def published_headings(forward: Tensor, facing: Tensor, spans: Spans) -> tuple[Tensor, Tensor]:
    """Headings (2, N) after the clip was turned by `facing` (2, N), frame 0 overwritten, and half yaw steps (N,).

    The half step is arcsin(sin(difference of half angles)): folded, so it has the wrong sign where the heading passes
    -Z. Computed without arcsin, which gives NaN in the published code when rounding exceeds 1.
    """
    heading = add(forward, facing * facing.new_tensor([[-1.0], [1.0]]))  # forward minus facing
    heading[:, spans.starts] = heading.new_tensor([[0.0], [1.0]])
    half = -0.5 * torch.atan2(heading[0], heading[1])
    difference = half.diff(append=half[-1:])
    folded = torch.where(difference.abs() > math.pi / 2, difference.sign() * math.pi - difference, difference)
    return heading, folded


def continuous_headings(forward: Tensor, spans: Spans) -> tuple[Tensor, Tensor]:
    """Headings (2, N) relative to frame 0 of each clip and the half yaw steps (N,) that lead from one to the next.

    The step is taken along the shorter way round, so it is a true half angle in (-pi/2, pi/2]. Headings are the running
    sum of the steps as stored: what a decoder adds up is exactly what the encoder turned by.
    """
    after = torch.cat((forward[:, 1:], forward[:, -1:]), 1)
    sin = after[0] * forward[1] - after[1] * forward[0]
    cos = (after * forward).sum(0)
    steps = -0.5 * torch.atan2(sin, cos)  # the root rotation undoes the heading, hence the sign
    total = steps.double().nan_to_num()
    total = total.cumsum(0) - total
    angle = -2 * (total - total[spans.starts][spans.clip])
    return torch.stack((angle.sin(), angle.cos())).to(forward.dtype), steps
