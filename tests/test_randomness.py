"""A sample's noise is its own: the batch around it, its padding and the process it runs in change nothing."""

import math

import pytest
import torch

from protos.randomness import (
    derive_seed,
    hashed_randn,
    rand,
    randint,
    randn,
    sample_generators,
    seeded_randn,
)


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
    noise = randn(torch.Generator().manual_seed(1), x.shape, dtype=x.dtype)
    assert noise.shape == x.shape and noise.dtype == x.dtype
    assert torch.equal(noise, randn(torch.Generator().manual_seed(1), (3, 4), dtype=torch.float64))


def test_one_generator_per_sample_is_required():
    with pytest.raises(ValueError, match="2 generators cannot fill 3 samples"):
        randn(sample_generators(0, range(2)), (3, 4))


def splitmix64(seed: int):
    """The generator as published, in whole numbers."""
    state = seed
    while True:
        state = (state + 0x9E3779B97F4A7C15) % 2**64
        z = state
        z = (z ^ z >> 30) * 0xBF58476D1CE4E5B9 % 2**64
        z = (z ^ z >> 27) * 0x94D049BB133111EB % 2**64
        yield z ^ z >> 31


def test_hashed_noise_is_that_of_splitmix64():
    numbers = splitmix64(1234567)
    first = [next(numbers) for _ in range(3)]
    assert first == [6457827717110365317, 3203168211198807973, 9817491932198370423]  # as published
    expected = []
    for z in first:
        radius = math.sqrt(-2 * math.log(((z >> 40) + 0.5) / 2**24))
        angle = 2 * math.pi * (z % 2**24) / 2**24
        expected += [radius * math.cos(angle), radius * math.sin(angle)]
    assert torch.allclose(hashed_randn([1234567], 6, "cpu")[0], torch.tensor(expected), atol=1e-5)


@pytest.mark.parametrize("draw", [lambda seeds, size: seeded_randn(seeds, (len(seeds), size)),
                                  lambda seeds, size: hashed_randn(seeds, size, "cpu")], ids=["cpu", "accelerators"])  # fmt: skip
def test_noise_from_seeds_depends_on_its_seed_and_place_alone(draw):
    seeds = [derive_seed(7, i) for i in range(6)]
    whole = draw(seeds, 1000)
    assert torch.equal(draw([seeds[4], seeds[2]], 1000), whole[[4, 2]])
    for size in (1, 16, 37, 500):
        assert torch.equal(draw(seeds, size), whole[:, :size])
    noise = draw([derive_seed(3, i) for i in range(400)], 501)
    assert abs(noise.mean()) < 0.01 and abs(noise.std() - 1) < 0.01 and 4 < noise.abs().max() < 7
    assert abs((noise**4).mean() - 3) < 0.1  # as heavy in its tails as a Gaussian
    assert abs((noise[:, 1:] * noise[:, :-1]).mean()) < 0.01 and abs((noise[1:] * noise[:-1]).mean()) < 0.01


def test_an_accelerator_draws_its_noise_itself():
    drawn = seeded_randn([1, 2], (2, 3, 5), "meta")  # the device without memory: whatever left it would be an error
    assert drawn.device.type == "meta" and drawn.shape == (2, 3, 5) and drawn.dtype == torch.float32


def test_threads_draw_the_same_noise_as_one():
    threads = torch.get_num_threads()
    try:
        torch.set_num_threads(1)
        alone = seeded_randn(range(8), (8, 200, 100))
        torch.set_num_threads(4)
        assert torch.equal(seeded_randn(range(8), (8, 200, 100)), alone)
    finally:
        torch.set_num_threads(threads)
    assert torch.equal(alone[3], randn([torch.Generator().manual_seed(3)], (1, 200, 100))[0])
