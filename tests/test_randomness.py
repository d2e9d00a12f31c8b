"""A sample's noise is its own: the batch around it, its padding and the process it runs in change nothing."""

import pytest
import torch

from protos.randomness import derive_seed, rand, randint, randn, randn_like, sample_generators


def test_noise_does_not_depend_on_the_samples_beside_it():
    whole = randn(sample_generators(7, range(6)), (6, 5, 3))
    part = randn(sample_generators(7, [4, 2]), (2, 5, 3))
    assert torch.equal(part, whole[[4, 2]])


@pytest.mark.parametrize("frames", [1, 3, 7, 16, 60])
def test_noise_of_real_frames_does_not_depend_on_the_padding(frames):
    long = randn(sample_generators(7, range(2)), (2, 64, 3))
    assert torch.equal(randn(sample_generators(7, range(2)), (2, frames, 3)), long[:, :frames])


def test_draws_follow_one_another():
    at_once, in_turn = (sample_generators(7, [0]) for _ in range(2))
    assert not torch.equal(randn(in_turn, (1, 16)), randn(in_turn, (1, 16)))
    assert torch.equal(randn(at_once, (1, 16)), randn(sample_generators(7, [0]), (1, 16)))


def test_seed_context_and_index_all_matter():
    draws = [
        randn(sample_generators(seed, [index], *context), (1, 4))
        for seed, index, context in [(1, 0, ()), (2, 0, ()), (1, 1, ()), (1, 0, ("train", 0)), (1, 0, ("train", 1))]
    ]
    assert len({tuple(draw.flatten().tolist()) for draw in draws}) == len(draws)
    assert derive_seed(1, 23) != derive_seed(12, 3)


def test_noise_is_standard_normal_and_uniform_numbers_are_uniform():
    generators = sample_generators(3, range(400))
    noise, uniform = randn(generators, (400, 50)), rand(generators, (400, 50))
    whole = randint(generators, 10, (400, 50), low=5)
    assert abs(noise.mean()) < 0.03 and abs(noise.std() - 1) < 0.02
    assert abs(noise[:, 0].std() - 1) < 0.15  # across samples too: seeds that lie together are not alike
    assert abs(uniform.mean() - 0.5) < 0.01 and uniform.min() >= 0 and uniform.max() < 1
    assert set(whole.flatten().tolist()) == set(range(5, 10))


def test_a_single_generator_fills_the_batch():
    x = torch.zeros(3, 4, dtype=torch.float64)
    noise = randn_like(torch.Generator().manual_seed(1), x)
    assert noise.shape == x.shape and noise.dtype == x.dtype
    assert torch.equal(noise, randn(torch.Generator().manual_seed(1), (3, 4), dtype=torch.float64))


def test_one_generator_per_sample_is_required():
    with pytest.raises(ValueError, match="2 generators cannot fill 3 samples"):
        randn(sample_generators(0, range(2)), (3, 4))
