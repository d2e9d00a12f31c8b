"""Where a body faces, frame by frame: the root rotation of the HumanML3D features.

All headings are turns about Y, so a heading is a unit complex number, z + i x of the direction on the floor: +Z is 1,
+X is i, and a product adds two turns. They are kept as (N,) over the concatenated frames of many clips. Two modes:

- `published`: Guo et al. 2022 as released. The hips enter with the wrong sign (shoulder width minus hip width), the
  root of frame 0 is overwritten with no rotation, and half angles jump where the heading passes -Z. Official
  features, statistics and weights need it.
- `continuous`: hips the right way round, nothing overwritten, angles continuous in time; the clip is turned so that its
  smoothed heading in frame 0 is +Z. Every clip decodes back to its joints.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import torch
from torch import Tensor

from data_loaders.skeleton import Skeleton

SMOOTHING_SIGMA = 20.0  # frames, whatever the frame rate
SMOOTHING_RADIUS = 80  # scipy's gaussian_filter1d: int(truncate 4 * sigma + 0.5)
SMOOTHING_BLOCK = 64  # frames smoothed by one row of a matrix product
NEARLY_ZERO = 1e-12


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
    """Forward (N,) = Y x unit(across) of joints (J, 3, N); shorter than 1 where `across` is not level, as published.

    `across` leads from the left to the right side by hips and shoulders. `swapped_hips` is the published root rotation:
    left hip minus right hip, kept by HumanML3D's authors (issue #55).
    """
    right_hip, left_hip, right_shoulder, left_shoulder = (joints[joint] for joint in skeleton.face_joints)
    hips = left_hip - right_hip if swapped_hips else right_hip - left_hip
    across = hips + right_shoulder - left_shoulder
    across = across / across.square().sum(0).sqrt_().clamp_min_(NEARLY_ZERO)
    return torch.complex(-across[0], across[2])


def smooth_in_time(forward: Tensor, spans: Spans) -> Tensor:
    """Gaussian smoothing of complex (N,) along the frames of each of the concatenated clips.

    Sigma 20 frames, cut at 4 sigma, clip ends repeated: scipy's gaussian_filter1d(mode="nearest"). Clips never mix. All
    clips are laid out with repeated ends between them, then blocks of frames go through one matrix product.
    """
    margin, block = 2 * SMOOTHING_RADIUS, SMOOTHING_BLOCK
    count, frames, device = len(spans.lengths), len(forward), forward.device
    blocks = -(-(frames + margin * (count - 1)) // block)
    repeats = torch.ones(frames, dtype=torch.long, device=device)
    repeats.index_fill_(0, torch.cat((spans.starts, spans.ends - 1)), 1 + SMOOTHING_RADIUS)
    repeats[-1].add_(blocks * block - frames - margin * (count - 1))
    values = torch.view_as_real(forward).nan_to_num()
    values = values.index_select(0, torch.repeat_interleave(repeats))  # (blocks * block + margin, 2)
    matrix = _smoothing_matrix(device).to(values.dtype)
    smoothed = values.T.unfold(1, block + margin, block) @ matrix  # (2, blocks, block)
    kept = torch.arange(frames, device=device).add_(spans.clip, alpha=margin)
    return torch.complex(*smoothed.flatten(1).index_select(1, kept))


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
    """Forward (N,) brought to length 1; frames without a direction keep the last one of their clip, else +Z."""
    length = forward.abs()
    if length.amin() <= NEARLY_ZERO:
        lost = length <= NEARLY_ZERO
        frames = torch.arange(len(forward), device=forward.device)
        first = torch.zeros_like(frames)
        first[starts] = starts
        last_known = torch.where(lost, first, frames).cummax(0).values
        forward, length, lost = forward[last_known], length[last_known], lost[last_known]
        return torch.where(lost, 1.0, forward / length.clamp_min(NEARLY_ZERO))
    return forward / length


def turn(vectors: Tensor, heading: Tensor, out: Tensor | None = None) -> Tensor:
    """Vectors (..., 3, N) seen by a body with heading (N,): what lies ahead of it comes to lie along +Z.

    `out` receives the result; it must not be `vectors`.
    """
    out = torch.empty_like(vectors) if out is None else out
    cos, sin = heading.real.contiguous(), heading.imag.contiguous()
    x, y, z = vectors.unbind(-2)
    out_x, out_y, out_z = out.unbind(-2)
    torch.mul(x, cos, out=out_x).addcmul_(z, sin, value=-1)
    torch.mul(z, cos, out=out_z).addcmul_(x, sin)
    out_y.copy_(y)
    return out


def published_headings(forward: Tensor, facing: Tensor, spans: Spans) -> tuple[Tensor, Tensor]:
    """Headings (N,) after the clip was turned by `facing` (N,), frame 0 overwritten, and half yaw steps (N,).

    The half step is arcsin(sin(difference of half angles)), so it has the wrong sign where the heading passes -Z.
    The sine of an angle, unlike a product of quaternions, never leaves [-1, 1], where the published code gives NaN.
    """
    heading = (forward * facing.conj()).index_fill_(0, spans.starts, 1.0)
    half = heading.angle().mul_(-0.5)  # the root rotation undoes the heading, hence the sign
    return heading, half.diff(append=half[-1:]).sin_().asin_()


def continuous_headings(forward: Tensor, spans: Spans) -> tuple[Tensor, Tensor]:
    """Headings (N,) relative to frame 0 of each clip and the half yaw steps (N,) that lead from one to the next.

    The step is taken along the shorter way round, so it is a true half angle in (-pi/2, pi/2]. Headings are the running
    sum of the steps as stored: what a decoder adds up is exactly what the encoder turned by.
    """
    after = torch.cat((forward[1:], forward[-1:]))
    steps = (after * forward.conj()).angle().mul_(-0.5)
    total = steps.double().nan_to_num_()
    total = total.cumsum(0) - total
    yaw = (total - total[spans.starts][spans.clip]).mul_(-2)
    return torch.polar(torch.ones_like(yaw), yaw).to(forward.dtype), steps
