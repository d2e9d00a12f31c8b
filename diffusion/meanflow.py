"""MeanFlow (Geng et al. 2025): a network of the average velocity between two times, which goes from noise to data in one step.

z_t = (1 − t) x0 + t ε moves with the velocity v = ε − x0, from data at t = 0 to noise at t = 1. `flow(z, r, t)` answers the
average u of the velocity over r ≤ s ≤ t on the way through z at t, so that z_r = z − (t − r) u. At r = t that is the velocity
itself.
"""

from collections.abc import Callable, Iterator

import torch
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel

from diffusion.samplers import SampledStep

MeanVelocity = Callable[[Tensor, Tensor, Tensor], Tensor]  # (z (B, ...), r (B,), t (B,)) -> u (B, ...)
CENTRE, SPREAD = -0.4, 1.0  # of the normal numbers whose sigmoids are times (Geng et al. 2025, Table 1e)
POWER, FLOOR = 0.5, 1e-3  # of the adaptive weight (Eq. 22); at the published power 1 a loss would tell nothing of how good it is


def times(normal: Tensor, chance: Tensor, instant_share: float) -> tuple[Tensor, Tensor]:
    """r ≤ t (B,) of normal numbers (B, 2); the same where `chance` (B,) in [0, 1) is below `instant_share`. Geng et al., §4.3."""
    drawn = torch.sigmoid(CENTRE + SPREAD * normal)
    r, t = drawn.amin(1), drawn.amax(1)
    return torch.where(chance < instant_share, t, r), t


def between(x0: Tensor, noise: Tensor, t: Tensor) -> Tensor:
    """z_t (B, ...) of data and noise at times t (B,)."""
    t = _beside(t, x0)
    return (1 - t) * x0 + t * noise


def mean_flow_target(flow: MeanVelocity, z: Tensor, velocity: Tensor, r: Tensor, t: Tensor) -> Tensor:
    """What u(z, r, t) (B, ...) should be by its own change along the velocity (B, ...): v − (t − r) du/dt. Without gradient.

    Geng et al. 2025, Eq. 10 and 11: du/dt = v ∂u/∂z + ∂u/∂t in one pass of forward-mode differentiation. Attention is then done
    in plain products: its fused kernels have no such pass.
    """
    with torch.no_grad(), sdpa_kernel(SDPBackend.MATH):
        _, change = torch.func.jvp(flow, (z, r, t), (velocity, torch.zeros_like(r), torch.ones_like(t)))
        return velocity - _beside(t - r, z) * change


def mean_flow_terms(u: Tensor, target: Tensor) -> dict[str, Tensor]:
    """Terms (B,): the mean squared error of u (B, ...), and "loss", that by a weight that falls where it is large (Eq. 22)."""
    error = (u - target).square().flatten(1).mean(1)
    return {"loss": error / (error.detach() + FLOOR) ** POWER, "squared_error": error.detach()}


def data_at(z: Tensor, u: Tensor, t: Tensor) -> Tensor:
    """The data (B, ...) to which u leads from z at t (B,): a sample where u is the average over all of the way."""
    return z - _beside(t, z) * u


@torch.no_grad()
def mean_flow_steps(flow: MeanVelocity, z: Tensor, steps: int) -> Iterator[SampledStep]:
    """From noise z (B, ...) to a sample in even steps of time; one is z − u(z, 0, 1). Geng et al. 2025, Algorithm 2.

    x0 of a step is where its velocity would lead. ValueError for less than one step.
    """
    if steps < 1:
        raise ValueError(f"sampling takes at least one step, not {steps}")
    for k in range(steps - 1, -1, -1):
        r, t = (z.new_full((len(z),), each / steps) for each in (k, k + 1))
        u = flow(z, r, t)
        x0, z = data_at(z, u, t), z - _beside(t - r, z) * u
        yield SampledStep(k, z, x0)


def mean_flow_sample(flow: MeanVelocity, z: Tensor, steps: int, on_step: Callable[[SampledStep], None] | None = None) -> Tensor:
    """A sample (B, ...) from noise z (B, ...). `on_step` sees each SampledStep."""
    for step in mean_flow_steps(flow, z, steps):
        if on_step is not None:
            on_step(step)
    return step.x


def _beside(t: Tensor, x: Tensor) -> Tensor:
    return t.reshape(-1, *[1] * (x.dim() - 1))
