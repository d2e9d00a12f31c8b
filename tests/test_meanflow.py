"""MeanFlow: what average velocities are and lead to, and its sampling."""

import pytest
import torch
from torch import Tensor

from diffusion.meanflow import between, data_at, mean_flow_sample, mean_flow_steps, mean_flow_target, mean_flow_terms, times
from model.layers import Attention, sinusoidal_table, sinusoids

SIGMA, MEAN = 0.4, 1.5  # of data whose flow is linear


def spread(t: Tensor) -> Tensor:
    return ((1 - t) ** 2 * SIGMA**2 + t**2).sqrt()


def velocity(z: Tensor, t: Tensor) -> Tensor:
    """Of the flow of normal data: E[noise - x0 | z]."""
    away = z - (1 - t) * MEAN
    return -MEAN + away * (t - (1 - t) * SIGMA**2) / spread(t) ** 2


def average(z: Tensor, r: Tensor, t: Tensor) -> Tensor:
    """Of that velocity from r to t: what lies s standard deviations from the mean stays there."""
    r, t = (each[:, None] for each in (r, t))
    there = (1 - r) * MEAN + (z - (1 - t) * MEAN) * spread(r) / spread(t)
    return torch.where(t > r, (z - there) / (t - r).clamp_min(1e-12), velocity(z, t))


def drawn(count: int = 64) -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    z = torch.randn(count, 3, generator=generator, dtype=torch.float64) + 0.5
    pair = torch.rand(count, 2, generator=generator, dtype=torch.float64)
    return z, pair.amin(1), pair.amax(1)


def test_the_average_velocity_of_a_linear_flow_is_its_own_target():
    z, r, t = drawn()
    target = mean_flow_target(average, z, velocity(z, t[:, None]), r, t)
    torch.testing.assert_close(target, average(z, r, t), atol=1e-6, rtol=1e-6)
    wrong = mean_flow_target(lambda *given: 0.8 * average(*given), z, velocity(z, t[:, None]), r, t)
    assert not torch.allclose(wrong, 0.8 * average(z, r, t), atol=1e-2)


def test_the_velocity_of_single_samples_leads_to_the_same_target_on_average():
    """Which is all that training has: data and noise drawn, not the velocity of the flow."""
    generator, count = torch.Generator().manual_seed(3), 200_000
    r, t = torch.full((count,), 0.2, dtype=torch.float64), torch.full((count,), 0.8, dtype=torch.float64)
    z = torch.full((count, 1), 0.6, dtype=torch.float64)
    mean = MEAN + (z - 0.2 * MEAN) * 0.2 * SIGMA**2 / spread(t[:, None]) ** 2  # of the data that z may come from
    left = 0.8 * SIGMA / spread(t[:, None])  # of their spread
    x0 = mean + left * torch.randn(count, 1, generator=generator, dtype=torch.float64)
    noise = (z - 0.2 * x0) / 0.8
    target = mean_flow_target(average, z, noise - x0, r, t)
    assert target.std() > 0.1
    torch.testing.assert_close(target.mean(), average(z, r, t)[0, 0], atol=5e-3, rtol=0)


def test_at_one_time_the_target_is_the_velocity():
    z, _, t = drawn()
    assert torch.equal(mean_flow_target(lambda z, r, t: z.sin() * t[:, None], z, torch.ones_like(z), t, t), torch.ones_like(z))


def test_a_known_flow_is_sampled_exactly_in_any_number_of_steps():
    z = drawn()[0]
    for steps in (1, 2, 4):
        torch.testing.assert_close(mean_flow_sample(average, z, steps), MEAN + SIGMA * z, atol=1e-6, rtol=0)
    seen = list(mean_flow_steps(average, z, 4))
    assert [each.index for each in seen] == [3, 2, 1, 0] and torch.equal(seen[-1].x, seen[-1].x0)
    with pytest.raises(ValueError, match="at least one step"):
        mean_flow_sample(average, z, 0)


def test_one_step_is_noise_less_the_average_over_all_of_the_way():
    z, nothing, whole = drawn()[0], torch.zeros(64, dtype=torch.float64), torch.ones(64, dtype=torch.float64)
    assert torch.equal(mean_flow_sample(average, z, 1), z - average(z, nothing, whole))


def test_a_straight_way_from_data_to_noise_costs_nothing():
    noise, r, t = drawn()
    x0 = torch.full_like(noise, MEAN)
    z = between(x0, noise, t)

    def straight(z: Tensor, r: Tensor, t: Tensor) -> Tensor:
        return (z - MEAN) / t[:, None]

    target = mean_flow_target(straight, z, noise - x0, r, t)
    terms = mean_flow_terms(straight(z, r, t), target)
    assert terms["loss"].max() < 1e-10 and torch.allclose(data_at(z, straight(z, r, t), t), x0)
    assert mean_flow_terms(straight(z, r, t) + 1, target)["squared_error"].sub(1).abs().max() < 1e-6


def test_times_are_in_order_and_as_often_the_same_as_asked_for():
    generator = torch.Generator().manual_seed(1)
    r, t = times(torch.randn(4000, 2, generator=generator), torch.rand(4000, generator=generator), 0.75)
    assert (r <= t).all() and t.max() < 1 and r.min() > 0
    assert (r == t).float().mean() == pytest.approx(0.75, abs=0.02)
    apart = times(torch.randn(9, 2), torch.rand(9), 0.0)
    assert (apart[0] < apart[1]).all()


def test_attention_is_differentiated_forwards():
    """As finite differences have it."""
    torch.manual_seed(0)
    attention = Attention(8, 2).double().requires_grad_(False)
    memory = torch.randn(1, 5, 8, dtype=torch.float64)
    _, kept = attention.onwards(memory)

    def flow(z: Tensor, r: Tensor, t: Tensor) -> Tensor:
        return attention.onwards(z * t[:, None, None] + r[:, None, None], kept)[0]

    z, v = (torch.randn(1, 1, 8, dtype=torch.float64) for _ in range(2))
    r, t, small = torch.tensor([0.2]).double(), torch.tensor([0.7]).double(), 1e-5
    change = (flow(z + small * v, r, t + small) - flow(z - small * v, r, t - small)) / (2 * small)
    torch.testing.assert_close(mean_flow_target(flow, z, v, r, t), v - 0.5 * change, atol=1e-7, rtol=0)


def test_waves_of_whole_numbers_are_the_rows_of_the_table():
    torch.testing.assert_close(sinusoids(torch.arange(9.0), 6), sinusoidal_table(9, 6))
