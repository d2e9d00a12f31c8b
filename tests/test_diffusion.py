"""The diffusion engine: what its schedules, samplers, guidance, edits and losses satisfy whatever the network."""

import math

import numpy as np
import pytest
import torch

from diffusion.distillation import consistency_loss
from diffusion.gaussian import Diffusion, space_timesteps
from diffusion.guidance import dropped_rows, guided, keep_given, stack_conditions
from diffusion.losses import (
    LossWeights,
    MotionTerms,
    calm_weights,
    masked_goal_l2,
    masked_l2,
    snr_weights,
    training_loss,
)
from diffusion.samplers import SAMPLERS, consistency_x0, ddim_reverse_update, ddim_update, sample, sample_steps
from protos.randomness import sample_generators
from tests.golden.likelihood import vlb_terms

SHAPE = (3, 5, 4)  # B, T, D
MEAN, SPREAD = 1.5, 0.4  # of the Gaussian data whose best denoiser is known


def gaussian_denoiser(diffusion, seen=None):
    """E[x0 | x_t] for data N(MEAN, SPREAD²): with it the probability flow maps z to MEAN + SPREAD · z."""
    signal = torch.as_tensor(diffusion.alphas_cumprod)

    def denoise(x, t):
        if seen is not None:
            seen.append(t)
        kept = signal[t].to(x).reshape(-1, *[1] * (x.dim() - 1))
        gain = SPREAD**2 * kept.sqrt() / (SPREAD**2 * kept + 1 - kept)
        return MEAN + gain * (x - kept.sqrt() * MEAN)

    return denoise


def two_hills_denoiser(diffusion):
    """E[x0 | x_t] for data around −1 and 1 with spread SPREAD: not linear in x_t."""
    signal = torch.as_tensor(diffusion.alphas_cumprod)

    def denoise(x, t):
        kept = signal[t].to(x).reshape(-1, *[1] * (x.dim() - 1))
        total = SPREAD**2 * kept + 1 - kept
        return (SPREAD**2 * kept.sqrt() * x + (1 - kept) * torch.tanh(kept.sqrt() * x / total)) / total

    return denoise


def standard_normal(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


# schedules and respacing


@pytest.mark.parametrize("schedule", ["cosine", "linear"])
@pytest.mark.parametrize("num_timesteps", [20, 50, 1000])
def test_noise_grows_from_almost_none_to_almost_all(schedule, num_timesteps):
    signal = Diffusion.create(schedule, num_timesteps).alphas_cumprod
    assert (np.diff(signal) < 0).all()
    assert signal[0] > 0.98 - 1 / num_timesteps and signal[-1] < 1e-3


def test_respacing_keeps_the_noise_level_of_the_kept_steps():
    whole = Diffusion.create("cosine", 1000)
    short = whole.respaced("10,10,30")
    assert short.timestep_map == tuple(space_timesteps(1000, [10, 10, 30]))
    np.testing.assert_allclose(short.alphas_cumprod, whole.alphas_cumprod[list(short.timestep_map)], rtol=1e-9)
    twice = whole.respaced(100).respaced(10)  # original indices survive a second respacing
    np.testing.assert_allclose(twice.alphas_cumprod, whole.alphas_cumprod[list(twice.timestep_map)], rtol=1e-9)


def test_evenly_kept_steps_include_the_first_and_the_last():
    for count in range(2, 51):
        kept = space_timesteps(50, count)
        assert len(kept) == count and kept[0] == 0 and kept[-1] == 49


@pytest.mark.parametrize(
    ("call", "says"),
    [
        (lambda: Diffusion.create("cosine", 1), "at least 2 steps"),
        (lambda: Diffusion.create("linear", 19), "at least 20 steps"),
        (lambda: Diffusion.create("sigmoid", 50), "unknown noise schedule"),
        (lambda: Diffusion.create("cosine", 50, "x1"), "unknown prediction"),
        (lambda: Diffusion(np.array([0.1, 1.2])), "must lie in"),
        (lambda: space_timesteps(50, "51"), "cannot keep 51 steps"),
        (lambda: space_timesteps(50, "ddim49"), "whole stride"),
        (lambda: space_timesteps(50, "twenty"), "expected 20, 10,10,30, ddim20 or trailing4"),
        (lambda: space_timesteps(50, 0), "at least 1"),
        (lambda: Diffusion.create("cosine", 50).respaced("trailing51"), "cannot keep 51 of 50 steps"),
    ],
)
def test_impossible_schedules_are_refused_in_words(call, says):
    with pytest.raises(ValueError, match=says):
        call()


# the process


@pytest.mark.parametrize("t", [0, 7, 49, torch.tensor([0, 20, 49])], ids=str)
@pytest.mark.parametrize("prediction", ["x0", "eps", "v", "previous_x"])
def test_a_perfect_network_gives_back_x0_whatever_it_predicts(prediction, t):
    diffusion = Diffusion.create("cosine", 50, prediction)
    x0, noise = standard_normal(*SHAPE).double(), standard_normal(*SHAPE, seed=1).double()
    x = diffusion.q_sample(x0, t, noise)
    torch.testing.assert_close(diffusion.x0_from_output(diffusion.target(x0, x, t, noise), x, t), x0)
    if isinstance(t, int):
        torch.testing.assert_close(diffusion.eps_from_x0(x, t, x0), noise, atol=1e-9, rtol=1e-9)


def test_one_step_and_a_tensor_of_steps_agree():
    diffusion = Diffusion.create("cosine", 50)
    x0, x = standard_normal(*SHAPE).double(), standard_normal(*SHAPE, seed=1).double()
    steps = torch.tensor([5, 5, 5])
    for call in (diffusion.q_sample, diffusion.eps_from_x0, diffusion.x0_from_v):
        a, b = (x0, x) if call == diffusion.q_sample else (x, x0)
        torch.testing.assert_close(call(a, 5, b), call(a, steps, b))


@pytest.mark.parametrize("variance", ["learned", "learned_range"])
def test_learned_variance_is_read_from_the_second_half_of_the_channels(variance):
    diffusion = Diffusion.create("cosine", 50, variance=variance)
    x = standard_normal(*SHAPE)
    answer = torch.cat([x, -torch.ones_like(x)], dim=-1)
    reverse = diffusion.p_mean_variance(lambda x, t: answer, x, 10)
    assert reverse.x0 is not None and reverse.x0.shape == x.shape
    low = {"learned": -1.0, "learned_range": diffusion.posterior_log_variance_clipped[10]}[variance]
    torch.testing.assert_close(reverse.log_variance, torch.full_like(x, low))


def test_the_bound_is_zero_for_a_network_that_knows_x0():
    diffusion = Diffusion.create("cosine", 50)
    x0, t = standard_normal(*SHAPE), torch.tensor([1, 20, 49])
    x = diffusion.q_sample(x0, t, standard_normal(*SHAPE, seed=1))
    assert vlb_terms(diffusion, lambda x, t: x0, x0, x, t)[0].abs().max() < 1e-5
    assert vlb_terms(diffusion, lambda x, t: x0 + 1, x0, x, t)[0].min() > 1e-5


# samplers


@pytest.mark.parametrize("sampler", ["ddim", "plms", "dpmpp"])
def test_deterministic_samplers_follow_the_probability_flow(sampler):
    diffusion = Diffusion.create("cosine", 1000)
    z = standard_normal(64, 8)
    x = sample(gaussian_denoiser(diffusion), z, diffusion, sampler=sampler, sampling_steps=200)
    assert (x - (MEAN + SPREAD * z)).abs().max() < 0.02


@pytest.mark.parametrize(("sampler", "eta"), [("ddpm", 0.0), ("ddim", 1.0)])
def test_stochastic_samplers_reach_the_distribution_of_the_data(sampler, eta):
    diffusion = Diffusion.create("cosine", 200)
    generator = torch.Generator().manual_seed(3)
    x = sample(gaussian_denoiser(diffusion), (4000,), diffusion, sampler=sampler, eta=eta, noise=generator)
    assert abs(x.mean() - MEAN) < 0.03 and abs(x.std() - SPREAD) < 0.03


def test_dpmpp_converges_to_ddim_as_steps_grow_and_faster_than_ddim_itself():
    diffusion = Diffusion.create("cosine", 2000)
    z = standard_normal(16, 8).double()
    denoise = two_hills_denoiser(diffusion)
    x = {
        (sampler, steps): sample(denoise, z, diffusion, sampler=sampler, sampling_steps=steps)
        for sampler in ("ddim", "dpmpp") for steps in (10, 20, 40, 200, 2000)
    }

    def distance(a, b):
        return (x[a] - x[b]).abs().mean().item()

    apart = [distance(("dpmpp", steps), ("ddim", steps)) for steps in (10, 40, 200, 2000)]
    assert apart == sorted(apart, reverse=True) and apart[-1] < 1e-3
    errors = [distance(("dpmpp", steps), ("dpmpp", 2000)) for steps in (10, 20, 40)]
    assert errors[1] < errors[0] / 2 and errors[2] < errors[1] / 2
    assert errors[1] < distance(("ddim", 20), ("dpmpp", 2000)) / 2


def test_first_order_dpmpp_is_ddim():
    diffusion = Diffusion.create("cosine", 50)
    z = standard_normal(4, 8)
    denoise = gaussian_denoiser(diffusion)
    first_order = sample(denoise, z, diffusion, sampler="dpmpp", order=1, sampling_steps=10)
    torch.testing.assert_close(first_order, sample(denoise, z, diffusion, sampler="ddim", sampling_steps=10))


def test_ddim_at_eta_one_is_as_noisy_as_the_posterior():
    diffusion = Diffusion.create("cosine", 50)
    x = standard_normal(*SHAPE)
    for k in (1, 10, 49):
        assert ddim_update(diffusion, x, x, k, 1.0)[1] ** 2 == pytest.approx(diffusion.posterior_variance[k], rel=1e-9)


def test_reverse_ddim_finds_the_noise_that_makes_a_sample():
    diffusion = Diffusion.create("cosine", 1000)
    denoise = gaussian_denoiser(diffusion)
    x0 = MEAN + SPREAD * standard_normal(4, 8).double()
    x = x0
    for k in range(999):  # the last ᾱ_next is 0: nothing left of x0
        x = ddim_reverse_update(diffusion, x, diffusion.predict_x0(denoise, x, k), k)
    assert (x - (x0 - MEAN) / SPREAD).abs().max() < 0.02
    *_, back = sample_steps(denoise, x, diffusion, sampler="ddim")
    assert (back.x - x0).abs().max() < 0.02


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_a_sample_does_not_depend_on_the_samples_beside_it(sampler):
    diffusion = Diffusion.create("cosine", 50)
    denoise = gaussian_denoiser(diffusion)

    def draw(indices):
        noise = sample_generators(10, indices)
        shape = (len(indices), *SHAPE[1:])
        return sample(denoise, shape, diffusion, sampler=sampler, sampling_steps=8, eta=0.5, noise=noise)

    together = draw(range(4))
    torch.testing.assert_close(together[2:3], draw([2]), atol=1e-6, rtol=0)
    assert (together[0] - together[1]).abs().max() > 0.1


def test_networks_see_original_steps_in_descending_order():
    diffusion, seen = Diffusion.create("cosine", 50), []
    sample(gaussian_denoiser(diffusion, seen), standard_normal(2, 3), diffusion, sampling_steps=5)
    assert [t.tolist() for t in seen] == [[step] * 2 for step in (49, 37, 24, 12, 0)]


@pytest.mark.parametrize("count", [1, 2, 3, 20, 50])
def test_trailing_steps_end_at_the_last_and_leave_out_the_first(count):
    kept = space_timesteps(50, f"trailing{count}")
    assert len(kept) == count and kept[-1] == 49 and (kept[0] > 0 or count == 50)
    assert max(np.diff(kept), default=0) - min(np.diff(kept), default=0) <= 1


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_one_step_is_the_guess_of_the_network_from_pure_noise(sampler):
    diffusion, seen = Diffusion.create("cosine", 50), []
    denoise, z = gaussian_denoiser(diffusion, seen), standard_normal(2, 3)
    x = sample(denoise, z, diffusion, sampler=sampler, sampling_steps=1, noise=sample_generators(10, range(2)))
    assert [t.tolist() for t in seen] == [[49, 49]]
    torch.testing.assert_close(x, denoise(z, torch.tensor([49, 49])), atol=1e-5, rtol=1e-5)


# consistency: one step goes the whole way


def flow_ends(diffusion):
    """The consistency function of `gaussian_denoiser`'s data: where the probability flow through x at step t ends."""
    signal = torch.as_tensor(diffusion.alphas_cumprod)

    def ends(x, t):
        kept = signal[t].to(x).reshape(-1, *[1] * (x.dim() - 1))
        return MEAN + SPREAD * (x - kept.sqrt() * MEAN) / (SPREAD**2 * kept + 1 - kept).sqrt()

    return ends


def test_where_no_noise_is_left_a_consistency_function_is_the_identity():
    diffusion, x = Diffusion.create("cosine", 1000), standard_normal(*SHAPE)

    def wild(x, t):
        return 100 * torch.ones_like(x)

    assert torch.equal(consistency_x0(wild, x, diffusion, 0), x)
    steps = torch.tensor([0, 1, 999])  # beyond, the network's word counts
    found = consistency_x0(wild, x, diffusion, steps)
    assert torch.equal(found[0], x[0]) and (found[1] - 100).abs().max() < 0.5
    torch.testing.assert_close(found[2], wild(x, 999)[2], atol=1e-3, rtol=0)


@pytest.mark.parametrize("steps", [1, 2, 4])
def test_a_consistency_function_reaches_the_distribution_of_the_data_in_any_number_of_steps(steps):
    diffusion = Diffusion.create("cosine", 1000)
    generator = torch.Generator().manual_seed(3)
    x = sample(flow_ends(diffusion), (4000,), diffusion, sampler="consistency", sampling_steps=steps, noise=generator)
    assert abs(x.mean() - MEAN) < 0.03 and abs(x.std() - SPREAD) < 0.03


def test_the_loss_of_a_consistency_function_is_what_the_step_of_its_teacher_errs():
    diffusion = Diffusion.create("cosine", 1000)
    x0, noise = MEAN + SPREAD * standard_normal(200, 5, 4), standard_normal(200, 5, 4, seed=1)
    mask = torch.ones(200, 5, dtype=torch.bool)

    def error(student, parts, down):
        k, steps = down * (torch.arange(200) % parts + 1), diffusion.respaced(parts * down + 1)
        terms = consistency_loss(student, gaussian_denoiser(diffusion), x0, k, noise, mask, steps, down)
        return terms["squared_error"].mean().item()

    for errors in ([error(flow_ends(diffusion), parts, 1) for parts in (10, 20, 40, 80)],
                   [error(flow_ends(diffusion), 4, down) for down in (2, 4, 8, 16)]):  # fmt: skip
        assert errors == sorted(errors, reverse=True) and errors[-1] < errors[0] / 10
        assert errors[-1] < error(gaussian_denoiser(diffusion), 4, 16) / 10


def test_a_student_learns_to_go_in_one_step_where_its_teacher_goes_in_many():
    """To two hills, of which the teacher's own first guess is the valley between."""
    torch.manual_seed(0)
    diffusion, z = Diffusion.create("cosine", 100), standard_normal(500, 1, 1)
    teacher, steps = two_hills_denoiser(diffusion), diffusion.respaced(17)
    network = torch.nn.Sequential(torch.nn.Linear(2, 64), torch.nn.Tanh(), torch.nn.Linear(64, 64), torch.nn.Tanh(),
                                  torch.nn.Linear(64, 1))  # fmt: skip
    optimizer = torch.optim.Adam(network.parameters(), lr=3e-3)

    def student(x, t):
        return network(torch.cat([x, (t / 100)[:, None, None].expand_as(x)], dim=-1))

    for _ in range(400):
        x0 = torch.randn(256, 1, 1).sign() + SPREAD * torch.randn(256, 1, 1)
        k, mask = 4 * torch.randint(1, 5, (256,)), torch.ones(256, 1, dtype=torch.bool)
        loss = consistency_loss(student, teacher, x0, k, torch.randn(256, 1, 1), mask, steps, 4)["loss"].mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    there = sample(teacher, z, diffusion, sampler="dpmpp")
    learnt = sample(student, z, diffusion, sampler="consistency", sampling_steps=1, noise=sample_generators(0, range(500)))
    guessed = sample(teacher, z, diffusion, sampling_steps=1)
    assert (learnt - there).abs().mean() < 0.2 < 0.8 < (guessed - there).abs().mean()


def test_only_the_noisier_end_of_a_part_is_pulled():
    """Else both ends would run towards each other, and all motions become one."""
    diffusion = Diffusion.create("cosine", 50)
    respaced, gain = diffusion.respaced(10), torch.nn.Parameter(torch.ones(()))
    seen = []

    def student(x, t):
        seen.append((t.tolist(), torch.is_grad_enabled()))
        return gain * x

    x0, mask = standard_normal(*SHAPE), torch.ones(SHAPE[:2], dtype=torch.bool)
    k = torch.tensor([3, 6, 9])
    loss = consistency_loss(student, lambda x, t: x0, x0, k, standard_normal(*SHAPE, seed=1), mask, respaced, 3)["loss"]
    loss.sum().backward()
    steps = torch.tensor(respaced.timestep_map)
    assert seen == [(steps[k - 3].tolist(), False), (steps[k].tolist(), True)] and gain.grad != 0


def test_starting_late_from_a_motion_stays_near_it():
    diffusion = Diffusion.create("cosine", 50)
    motion, z = MEAN + SPREAD * standard_normal(2, 8), standard_normal(2, 8, seed=1)
    steps = []
    near = sample(gaussian_denoiser(diffusion), z, diffusion, init=motion, skip_timesteps=45, on_step=steps.append)
    far = sample(gaussian_denoiser(diffusion), z, diffusion, init=motion, skip_timesteps=5)
    assert [step.index for step in steps] == [4, 3, 2, 1, 0]
    assert (near - motion).abs().mean() < 0.5 * (far - motion).abs().mean()


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"sampler": "euler"}, "unknown sampler 'euler': expected one of ddpm, ddim, plms, dpmpp, consistency"),
        ({"sampler": "plms", "order": 1}, "plms has orders 2, 3 and 4, not 1"),
        ({"sampler": "plms", "order": 5}, "plms has orders 2, 3 and 4, not 5"),
        ({"sampler": "dpmpp", "order": 3}, "dpmpp has orders 1 and 2"),
        ({"sampling_steps": 51}, "cannot keep 51 steps"),
        ({"sampling_steps": 10, "skip_timesteps": 10}, "cannot skip 10 of 10"),
        ({"sampler": "ddpm"}, "draws noise: pass noise="),
    ],
)
def test_impossible_sampling_is_refused_in_words(settings, says):
    diffusion = Diffusion.create("cosine", 50)
    with pytest.raises(ValueError, match=says):
        sample(gaussian_denoiser(diffusion), torch.zeros(2, 3), diffusion, **settings)


def test_one_generator_for_each_sample_or_an_error():
    diffusion = Diffusion.create("cosine", 50)
    with pytest.raises(ValueError, match="one generator per sample"):
        sample(gaussian_denoiser(diffusion), (3, 4), diffusion, noise=sample_generators(10, range(2)))


# guidance and in-painting


def conditioned(calls):
    """A denoiser whose answer is its condition (rows,), counting its calls."""

    def with_condition(condition):
        def denoise(x, t):
            assert len(x) == len(t) == len(condition)
            calls.append(len(x))
            return x + condition.reshape(-1, 1)

        return denoise

    return with_condition


def test_guidance_extrapolates_from_the_unconditional_answer_in_one_call():
    calls = []
    x, t = standard_normal(3, 4), torch.zeros(3, dtype=torch.long)
    given = stack_conditions(torch.tensor([1.0, 2.0, 3.0]), 2).masked_fill(dropped_rows(3), 0.0)
    for scale in (0.0, 1.0, 2.5):
        answer = guided(conditioned(calls)(given), scale)(x, t)
        torch.testing.assert_close(answer, x + scale * torch.tensor([[1.0], [2.0], [3.0]]))
    own = guided(conditioned(calls)(given), torch.tensor([0.0, 1.0, 2.0]))(x, t)
    torch.testing.assert_close(own, x + torch.tensor([[0.0], [2.0], [6.0]]))
    assert calls == [6] * 4


def test_guidance_by_several_conditions_adds_or_nests_them():
    x, t = standard_normal(1, 4), torch.zeros(1, dtype=torch.long)
    denoise = conditioned([])(torch.tensor([0.0, 1.0, 10.0]))
    torch.testing.assert_close(guided(denoise, [2.0, 3.0])(x, t), x + 2 * 1 + 3 * 10)
    torch.testing.assert_close(guided(denoise, [2.0, 3.0], nested=True)(x, t), x + 2 * 1 + 3 * (10 - 1))


def test_scales_that_do_not_fit_the_batch_are_refused():
    denoise = guided(conditioned([])(torch.zeros(4)), torch.ones(3))
    with pytest.raises(ValueError, match="2 samples"):
        denoise(torch.zeros(2, 4), torch.zeros(2, dtype=torch.long))


@pytest.mark.parametrize("sampler", SAMPLERS)
@pytest.mark.parametrize("prediction", ["x0", "eps"])
def test_given_values_are_in_the_sample_unchanged(sampler, prediction):
    diffusion = Diffusion.create("cosine", 50, prediction)
    given = standard_normal(*SHAPE, seed=4)
    mask = torch.zeros(SHAPE, dtype=torch.bool)
    mask[:, :2] = True
    x = sample(
        lambda x, t: 0.5 * x, standard_normal(*SHAPE), diffusion, sampler=sampler, sampling_steps=8,
        edit_x0=keep_given(given, mask), noise=torch.Generator().manual_seed(0),
    )
    torch.testing.assert_close(x[:, :2], given[:, :2])
    assert (x[:, 2:] - given[:, 2:]).abs().min() > 0


# losses


def test_padding_does_not_change_the_error():
    a, b = standard_normal(2, 6, 4), standard_normal(2, 6, 4, seed=1)
    mask = torch.arange(6) < torch.tensor([[4], [6]])
    error = masked_l2(a, b, mask)
    assert error[0].item() == pytest.approx(((a[0, :4] - b[0, :4]) ** 2).mean().item(), rel=1e-5)
    assert error[1].item() == pytest.approx(((a[1] - b[1]) ** 2).mean().item(), rel=1e-5)
    a[0, 4:] = 1e6
    assert masked_l2(a, b, mask)[0] == error[0]


def test_goals_count_only_what_is_asked_and_headings_modulo_half_a_turn():
    pred, goal = torch.zeros(4, 8, 3), torch.zeros(4, 8, 3)
    valid = torch.zeros(4, 8, dtype=torch.bool)
    pred[:, 0, 0], pred[:, 6, 1], pred[:, 7, 0] = 3.0, 5.0, math.pi + 0.1
    valid[0, 0] = valid[1, 6] = valid[2, 7] = True  # pelvis; trajectory, whose height is free; heading; nothing
    assert masked_goal_l2(pred, goal, valid).tolist() == pytest.approx([3.0, 0.0, 0.01, 0.0], abs=1e-5)


def test_min_snr_weighs_the_same_error_alike_whatever_is_predicted():
    t = torch.arange(50)
    x0, noise, wrong = (standard_normal(50, 4, seed=seed).double() for seed in range(3))
    errors = {}
    for prediction in ("x0", "eps", "v"):
        diffusion = Diffusion.create("cosine", 50, prediction)
        x = diffusion.q_sample(x0, t, noise)
        wrong_noise = diffusion.eps_from_x0(x, t, wrong)  # the same wrong belief about x0, said in each way
        gap = diffusion.target(wrong, x, t, wrong_noise) - diffusion.target(x0, x, t, noise)
        errors[prediction] = snr_weights(diffusion, t, 5.0) * (gap**2).sum(1)
    torch.testing.assert_close(errors["eps"], errors["x0"], rtol=1e-4, atol=1e-6)
    torch.testing.assert_close(errors["v"], errors["x0"], rtol=1e-4, atol=1e-6)
    weights = snr_weights(Diffusion.create("cosine", 50), t, 5.0)
    assert weights.max() == 5.0 and (weights.diff() <= 0).all()


def test_snr_weights_of_a_lower_power_give_noisy_steps_a_larger_share():
    diffusion = Diffusion.create("cosine", 50)
    t = torch.arange(50)
    published, even = snr_weights(diffusion, t), snr_weights(diffusion, t, power=0.5, floor=1e-3)
    torch.testing.assert_close(even, published.clamp(min=1e-3).sqrt())
    assert even[-1] == pytest.approx(1e-3**0.5) and even[0] == pytest.approx(5**0.5)
    assert (even[40:].sum() / even.sum()) > 4 * (published[40:].sum() / published.sum())
    assert (snr_weights(diffusion, t, power=0.0) == 1).all()


def test_training_loss_is_the_weighted_sum_of_its_terms():
    diffusion = Diffusion.create("cosine", 50)
    x0, noise = standard_normal(2, 6, 12), standard_normal(2, 6, 12, seed=1)
    t, mask = torch.tensor([3, 40]), torch.arange(6) < torch.tensor([[4], [6]])
    scale = torch.tensor(0.5, requires_grad=True)

    def run(**weights):
        motion = MotionTerms(
            joints=lambda x: x.unflatten(-1, (4, 3)), foot_joints=(1, 2), foot_speed=1.0,
            goal=lambda x: (x[:, -1, 0] - 1) ** 2,
        )
        return training_loss(lambda x, t: scale * x, x0, t, noise, mask, diffusion, LossWeights(**weights), motion)

    plain = run()
    assert set(plain) == {"loss", "denoising"}
    torch.testing.assert_close(plain["loss"], masked_l2(scale * diffusion.q_sample(x0, t, noise), x0, mask))
    terms = run(velocity=2.0, joints=3.0, foot_contact=4.0, goal=5.0, joint_velocity=1.0)
    total = (terms["denoising"] + 2 * terms["velocity"] + 3 * terms["joints"] + 4 * terms["foot_contact"]
             + 5 * terms["goal"])
    torch.testing.assert_close(terms["loss"], total)
    weighted = run(min_snr_gamma=5.0)
    torch.testing.assert_close(weighted["loss"], snr_weights(diffusion, t) * plain["denoising"])
    weighted = run(min_snr_gamma=5.0, snr_power=0.5, snr_floor=0.2)
    torch.testing.assert_close(weighted["loss"], snr_weights(diffusion, t, 5.0, 0.5, 0.2) * plain["denoising"])
    calm = run(calm_power=0.5)
    torch.testing.assert_close(calm["loss"], calm_weights(x0, mask, 0.5) * plain["denoising"])
    terms["loss"].mean().backward()
    assert scale.grad.isfinite()


def test_an_error_of_the_same_share_counts_alike_in_calm_and_lively_motion_at_power_1():
    walk = torch.randn(1, 12, 6, generator=torch.Generator().manual_seed(0))
    x0, mask = torch.cat([walk, 0.2 * walk]), torch.arange(12) < torch.tensor([[12], [12]])
    error = masked_l2(0.9 * x0, x0, mask)
    assert error[1] == pytest.approx(0.04 * error[0])
    weighted = error * calm_weights(x0, mask, 1.0)
    assert weighted[1] == pytest.approx(weighted[0])
    padded = torch.nn.functional.pad(x0, (0, 0, 0, 5), value=9.0)
    torch.testing.assert_close(
        calm_weights(padded, torch.arange(17).expand(2, -1) < 12, 0.5), calm_weights(x0, mask, 0.5))
    still = calm_weights(torch.zeros(1, 12, 6), mask[:1], 0.5)
    assert still.isfinite().all()
