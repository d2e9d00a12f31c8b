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
from functools import lru_cache
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from data_loaders.skeleton import Skeleton

Heading = Literal["published", "continuous"]
HEADINGS: tuple[Heading, ...] = ("published", "continuous")
SMOOTHING_SIGMA = 20.0  # frames, whatever the frame rate
SMOOTHING_RADIUS = 80  # scipy's gaussian_filter1d: int(truncate 4 * sigma + 0.5)
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


def forward_directions(across: Tensor) -> Tensor:
    """Forward (2, N) = Y x unit(across (3, N)); shorter than 1 where `across` is not level, as published."""
    return torch.stack((across[2], -across[0])) / across.square().sum(0).sqrt().clamp_min(NEARLY_ZERO)


def across_weights(skeleton: Skeleton, swapped_hips: bool) -> list[tuple[int, float]]:
    """(joint, sign) whose sum is the vector from the left to the right side of the body.

    `swapped_hips` is the published root rotation: left hip minus right hip. Kept by HumanML3D's authors (issue #55).
    """
    right_hip, left_hip, right_shoulder, left_shoulder = skeleton.face_joints
    hip = -1.0 if swapped_hips else 1.0
    return [(right_hip, hip), (left_hip, -hip), (right_shoulder, 1.0), (left_shoulder, -1.0)]


def smooth_in_time(values: Tensor, lengths: Tensor) -> Tensor:
    """Gaussian smoothing of values (C, N) along the frames of each of the concatenated clips (`lengths` sum to N).

    Sigma 20 frames, cut at 4 sigma, clip ends repeated: scipy's gaussian_filter1d(mode="nearest"). Clips never mix.
    """
    margin = 2 * SMOOTHING_RADIUS
    device = values.device
    clips = torch.arange(len(lengths), device=device)
    ends = lengths.cumsum(0)
    clip = torch.repeat_interleave(clips, lengths + margin)
    source = torch.arange(len(clip), device=device) - margin * clip - SMOOTHING_RADIUS
    source = torch.minimum(torch.maximum(source, (ends - lengths)[clip]), ends[clip] - 1)
    kernel = _gaussian_kernel().to(values)
    smoothed = F.conv1d(values[:, source].unsqueeze(1), kernel.view(1, 1, -1)).squeeze(1)
    return smoothed[:, torch.arange(values.shape[1], device=device) + margin * torch.repeat_interleave(clips, lengths)]


@lru_cache(maxsize=1)
def _gaussian_kernel() -> Tensor:
    offsets = torch.arange(-SMOOTHING_RADIUS, SMOOTHING_RADIUS + 1, dtype=torch.float64)
    kernel = torch.exp(-0.5 * (offsets / SMOOTHING_SIGMA) ** 2)
    return kernel / kernel.sum()


def unit_headings(forward: Tensor, starts: Tensor) -> Tensor:
    """Forward (2, N) brought to length 1; frames without a direction keep the last one of their clip, else +Z."""
    length = forward.square().sum(0).sqrt()
    unit = forward / length.clamp_min(NEARLY_ZERO)
    lost = length <= NEARLY_ZERO
    if bool(lost.any()):
        frames = torch.arange(forward.shape[1], device=forward.device)
        first = torch.zeros_like(frames)
        first[starts] = starts
        last_known = torch.where(lost, first, frames).cummax(0).values
        unit = unit[:, last_known]
        lost = lost[last_known]
        unit[0, lost], unit[1, lost] = 0.0, 1.0
    return unit


def turn(vectors: Tensor, heading: Tensor) -> Tensor:
    """Vectors (..., 3, N) seen by a body that faces `heading` (2, N): what lies ahead comes to lie along +Z."""
    sin, cos = heading
    x, y, z = vectors.unbind(-2)
    return torch.stack((cos * x - sin * z, y, sin * x + cos * z), -2)


def published_headings(forward: Tensor, facing: Tensor, starts: Tensor) -> tuple[Tensor, Tensor]:
    """Headings (2, N) after the clip was turned by `facing` (2, N), frame 0 overwritten, and half yaw steps (N,).

    The half step is arcsin(sin(difference of half angles)): folded, so it has the wrong sign where the heading passes
    -Z. Computed without arcsin, which gives NaN in the published code when rounding exceeds 1.
    """
    sin, cos = facing
    heading = torch.stack((cos * forward[0] - sin * forward[1], sin * forward[0] + cos * forward[1]))
    heading[0, starts], heading[1, starts] = 0.0, 1.0
    half = -0.5 * torch.atan2(heading[0], heading[1])
    difference = half.diff(append=half[-1:])
    folded = torch.where(difference.abs() > math.pi / 2, difference.sign() * math.pi - difference, difference)
    return heading, folded


def continuous_headings(forward: Tensor, starts: Tensor, clip: Tensor) -> tuple[Tensor, Tensor]:
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
    angle = -2 * (total - total[starts][clip])
    return torch.stack((angle.sin(), angle.cos())).to(forward.dtype), steps
