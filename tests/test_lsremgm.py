"""The LS-ReMGM network and what it makes: variants, masks, guidance, protocols of sampling, losses."""

import numpy as np
import pytest
import torch

from data_loaders.corpus import Batch
from data_loaders.edit_masks import TARGET_JOINTS, EditError, TargetLocation, edit_mask, target_location, target_rows
from data_loaders.features import Features, FeaturesMismatch, Statistics
from data_loaders.skeleton import load_skeleton
from model.autoencoder import MotionAutoencoder
from model.autoencoder_config import AutoencoderConfig
from model.capabilities import OWN, Decoding, Request
from model.lsremgm import Latent, LSReMGM, perturbed
from model.lsremgm_config import LatentConfig, LSReMGMConfig
from model.lsremgm_network import LatentDenoiser, MotionDenoiser
from model.lsremgm_sampling import LengthError, autoregress, denoiser
from model.model import Draws
from model.text_encoders import TextFeatures, with_text_features
from model.text_towers import load_text_encoder
from protos.randomness import sample_generators
from sample.generation import motions_for

SMALL = dict(latent_dim=32, ff_size=48, num_layers=2, num_heads=4, diffusion_steps=5, dropout=0.0, arch="trans_enc",
             text_encoder="clip-b32", text_dim=512)  # fmt: skip
WORDS = {**SMALL, **dict(arch="trans_dec", text_encoder="minilm", text_dim=384, text_memory="tokens", mask_frames=True)}
# What the system `latent` adds, left out.
PLAIN = dict(norm_first=False, modulation=False, output_skip=False, text_noise=0.0, word_drop=0.0, min_snr_gamma=0.0,
             snr_power=1.0, snr_floor=0.0, calm_power=0.0, mask_frames=False, sampler="ddpm", sampling_steps=None)  # fmt: skip
VARIANTS = {
    "encoder": dict(),
    "encoder, masked": dict(mask_frames=True),
    "encoder, norm first": dict(norm_first=True),
    "decoder": dict(arch="trans_dec"),
    "decoder with time token": dict(arch="trans_dec", decoder_token="time"),
    "decoder with older token": dict(arch="trans_dec", decoder_token="time+text"),
    "decoder on words": WORDS,
    "decoder on words, modulated": dict(**WORDS, norm_first=True, modulation=True),
    "encoder, modulated": dict(norm_first=True, modulation=True),
    "decoder with a share of its input": dict(**WORDS, output_skip=True),
    "gru": dict(arch="gru"),
    "kit": dict(width=251),
    "action": dict(width=150, condition="action", num_actions=12),
    "unconstrained": dict(width=150, condition="none"),
    "prefix, one target network": dict(**WORDS, context_len=4, pred_len=8, target_encoder="single"),
    "prefix, split target": dict(**WORDS, context_len=4, pred_len=8, target_encoder="split"),
    "prefix, summed target": dict(**WORDS, context_len=4, pred_len=8, target_encoder="multi"),
}


@pytest.fixture(scope="module")
def minilm():
    return load_text_encoder("minilm", disk_cache=False)


def generate(nets, texts, lengths, seeds, **settings):
    requests = [Request(text, frames, seed) for text, frames, seed in zip(texts, lengths, seeds, strict=True)]
    return motions_for(nets, requests, Decoding(**settings))


def features(nets, text="a walk", frames=8, decoding=OWN, **given) -> torch.Tensor:
    """(frames, D) of one motion with seed 1."""
    return nets.generate([Request(text, frames, 1, **given)], decoding)[0]


def statistics(width=263, skeleton="humanml", fps=20.0, heading="published"):
    """Statistics of a spread that keeps random samples near a metre."""
    return Statistics(np.zeros(width, np.float32), np.full(width, 0.02, np.float32),
                      Features(skeleton, fps, heading))


@pytest.fixture(scope="module")
def nets(minilm):
    torch.manual_seed(0)
    return LSReMGM(LSReMGMConfig(**WORDS), statistics(), text_encoder=minilm).eval()


@pytest.fixture(scope="module")
def unmasked(minilm):
    torch.manual_seed(0)
    config = LSReMGMConfig(**{**SMALL, "text_encoder": "minilm", "text_dim": 384})
    return LSReMGM(config, statistics(), text_encoder=minilm).eval()


def network_of(width=263, **settings):
    """A network of LS-ReMGM, or of `latent` where a setting is one of those that this adds."""
    if settings.keys() & {"norm_first", "modulation", "output_skip"}:
        return LatentDenoiser(LatentConfig(**{**PLAIN, **settings}), width).eval()
    return MotionDenoiser(LSReMGMConfig(**settings), width).eval()


def loss(model, batch, generators):
    if model.config.condition == "text":
        batch = with_text_features(batch, {"text": model.text_encoder})
    return model.loss(batch, Draws(generators, generators[0]))


def text(batch, dim, length=5):
    tokens = torch.randn(batch, length, dim)
    return TextFeatures(tokens.mean(1), tokens, torch.ones(batch, length, dtype=torch.bool))


@pytest.mark.parametrize("name", VARIANTS)
def test_every_variant_answers_in_the_shape_it_was_asked(name):
    network = network_of(**{**SMALL, **VARIANTS[name]})
    config = network.config
    if getattr(config, "modulation", False):  # without effect at first
        torch.nn.init.normal_(network.modulation.projection.weight, std=0.1)
    x = torch.randn(3, 8, network.output_projection.out_features)
    given = dict(text=text(3, config.text_dim)) if config.condition == "text" else {}
    if config.condition == "action":
        given["action"] = torch.tensor([0, 3, 11])
    if config.context_len:
        given["prefix"] = torch.randn(3, 4, 263)
    if config.target_encoder != "none":
        valid = target_rows([TARGET_JOINTS, ["right_wrist", "traj"], []], [True, False, True])
        given["target"] = TargetLocation(torch.randn(3, 8, 3), valid)
    y = network(x, torch.tensor([0, 2, 4]), mask=torch.ones(3, 8, dtype=torch.bool), **given)
    assert y.shape == x.shape and y.isfinite().all()
    for parameter_name, parameter in network.named_parameters():
        grad = torch.autograd.grad(y.square().sum(), parameter, retain_graph=True, allow_unused=True)[0]
        assert grad is not None and grad.abs().sum() > 0, f"{parameter_name} has no part in the answer"


def test_contradicting_configurations_are_refused():
    for wrong in (dict(text_memory="tokens"), dict(decoder_token="time"), dict(condition="action"),
                  dict(text_dim=0), dict(latent_dim=30), dict(latent_dim=31, num_heads=31)):
        with pytest.raises(ValueError):
            network_of(**{**SMALL, **wrong})
    for wrong in (dict(modulation=True, norm_first=False), dict(context_len=20)):
        with pytest.raises(ValueError):
            LatentConfig(**{**WORDS, **wrong})


def modulated():
    """A modulated network and the plain one with the same weights, in which the modulation is then set to work."""
    torch.manual_seed(3)
    network = network_of(**WORDS, norm_first=True, modulation=True)
    plain = network_of(**WORDS, norm_first=True)
    shared = {name: value for name, value in network.state_dict().items() if not name.startswith("modulation.")}
    plain.load_state_dict(shared)
    return network, plain


@torch.no_grad()
def test_modulation_begins_without_effect_and_then_tells_steps_and_whole_texts():
    network, plain = modulated()
    x, words, drop = torch.randn(2, 8, 263), text(2, 384), torch.tensor([True, True])
    t = torch.tensor([2, 2])
    torch.testing.assert_close(network(x, t, words), plain(x, t, words))
    torch.nn.init.normal_(network.modulation.projection.weight, std=0.1)
    other = TextFeatures(words.pooled.flip(1), words.tokens, words.mask)  # the same words, another whole
    assert not torch.allclose(network(x, t, words), network(x, t, other), atol=1e-4)
    assert not torch.allclose(network.modulation(torch.zeros(2, 32), words, None),
                              network.modulation(torch.ones(2, 32), words, None), atol=1e-4)
    torch.testing.assert_close(network(x, t, words, drop=drop), network(x, t, other, drop=drop))


def test_a_share_of_the_input_begins_without_effect_and_then_follows_the_step():
    torch.manual_seed(0)
    network = network_of(**WORDS, output_skip=True)
    plain = network_of(**WORDS)
    shared = {name: value for name, value in network.state_dict().items() if not name.startswith("output_skip.")}
    plain.load_state_dict(shared)
    x, words = torch.randn(2, 8, 263), text(2, 384)
    t = torch.tensor([1, 4])
    torch.testing.assert_close(network(x, t, words), plain(x, t, words))
    torch.nn.init.constant_(network.output_skip.shares.bias[:263], -1.0)  # nothing of its own,
    torch.nn.init.constant_(network.output_skip.shares.bias[263:], 2.0)  # twice the input
    torch.testing.assert_close(network(x, t, words), 2 * x)
    torch.nn.init.normal_(network.output_skip.shares.weight)
    assert not torch.allclose(network(x, t, words)[0] / x[0], network(x, t.flip(0), words)[0] / x[0], atol=0.1)


def test_perturbed_texts_keep_their_first_token_and_most_of_what_they_say():
    words = text(64, 384, length=20)
    seeds = torch.arange(192).reshape(64, 3).tolist()
    noisy = perturbed(words, seeds, 0.5, 0.2)
    for before, after in ((words.tokens, noisy.tokens), (words.pooled, noisy.pooled)):
        assert (after - before).square().mean().sqrt() / before.square().mean().sqrt() == pytest.approx(0.5, abs=0.01)
    assert noisy.mask[:, 0].all() and (~noisy.mask[:, 1:]).float().mean() == pytest.approx(0.2, abs=0.03)
    longer = TextFeatures(words.pooled, torch.nn.functional.pad(words.tokens, (0, 0, 0, 7)),
                          torch.nn.functional.pad(words.mask, (0, 7)))
    alone = perturbed(longer[5:6], seeds[5:6], 0.5, 0.2)  # without its neighbours, padded further
    torch.testing.assert_close(alone.tokens[:, :20], noisy.tokens[5:6])
    assert torch.equal(alone.mask[:, :20], noisy.mask[5:6]) and torch.equal(alone.pooled, noisy.pooled[5:6])
    plain = perturbed(words, seeds, 0.0, 0.0)
    assert torch.equal(plain.tokens, words.tokens) and torch.equal(plain.mask, words.mask)


def test_masked_models_do_not_see_padding_and_unmasked_ones_do():
    x, t = torch.randn(2, 12, 263), torch.tensor([3, 3])
    mask = torch.arange(12) < torch.tensor([[8], [12]])
    changed = x.clone()
    changed[0, 8:] = 5.0
    for mask_frames in (True, False):
        torch.manual_seed(1)
        network = network_of(**SMALL, mask_frames=mask_frames)
        words = text(2, 512)
        with torch.no_grad():
            a, b = (network(y, t, words, mask)[0, :8] for y in (x, changed))
        assert torch.allclose(a, b, atol=1e-6) == mask_frames


def test_padding_of_words_has_no_influence():
    network = network_of(**WORDS)
    words = text(1, 384)
    padded = TextFeatures(words.pooled, torch.nn.functional.pad(words.tokens, (0, 0, 0, 3), value=9.0),
                          torch.nn.functional.pad(words.mask, (0, 3)))
    x, t = torch.randn(1, 8, 263), torch.tensor([2])
    with torch.no_grad():
        assert torch.allclose(network(x, t, words), network(x, t, padded), atol=1e-6)


def test_dropped_text_leaves_no_trace_of_the_prompt():
    network = network_of(**SMALL)
    x, t, drop = torch.randn(2, 8, 263), torch.tensor([2, 2]), torch.ones(2, dtype=torch.bool)
    with torch.no_grad():
        without = network(x, t)
        assert torch.equal(network(x, t, text(2, 512), drop=drop), without)
        half = network(x, t, text(2, 512), drop=torch.tensor([True, False]))
    assert torch.allclose(half[0], without[0], atol=1e-6) and not torch.allclose(half[1], without[1], atol=1e-3)


def test_bfloat16_autocast_stays_close():
    network = network_of(**WORDS, norm_first=True)
    x, t, words = torch.randn(2, 8, 263), torch.tensor([1, 3]), text(2, 384)
    with torch.no_grad():
        exact = network(x, t, words)
        with torch.autocast("cpu", torch.bfloat16):
            rough = network(x, t, words).float()
    assert (rough - exact).abs().mean() < 0.05 * exact.abs().mean()


def test_motion_is_in_metres_with_the_length_and_frame_rate_asked_for(nets):
    motions = generate(nets, ["a person walks", "a person waves"], [24, 9], [1, 2], sampling_steps=3, sampler="ddim")
    assert [m.joints.shape for m in motions] == [(1, 24, 22, 3), (1, 9, 22, 3)]
    assert motions[0].fps == 20 and motions[0].skeleton == "humanml" and motions[1].captions == ("a person waves",)
    assert np.isfinite(motions[0].joints).all()


def test_kit_motion_is_given_in_metres(minilm):
    torch.manual_seed(0)
    kit = load_skeleton("kit")
    config = LSReMGMConfig(**WORDS, features=Features("kit", 12.5))
    nets = LSReMGM(config, statistics(251, "kit", 12.5), text_encoder=minilm)
    made = nets.generate([Request("a walk", 10, 3)])[0]
    motion = generate(nets, ["a walk"], [10], [3])[0]
    assert motion.joints.shape == (1, 10, 21, 3)
    assert np.allclose(motion.joints[0, :, 0, 1], made[:, 3].numpy() * kit.metres_per_unit, atol=1e-6)


@pytest.mark.parametrize("sampler", ["ddpm", "ddim", "dpmpp", "plms", "consistency"])
def test_a_sample_depends_on_its_seed_and_not_on_its_batch(nets, sampler):
    prompts, lengths = ["a person walks", "a person waves", "a person bows"], [20, 33, 12]
    together = generate(nets, prompts, lengths, [5, 6, 7], sampler=sampler)
    for i in range(3):
        alone = generate(nets, [prompts[i]], [lengths[i]], [5 + i], sampler=sampler)[0]
        assert np.abs(alone.joints - together[i].joints).max() < 1e-4
    again = generate(nets, prompts, lengths, [5, 6, 7], sampler=sampler, batch_size=2)
    assert np.abs(again[2].joints - together[2].joints).max() < 1e-4
    other = generate(nets, prompts[:1], lengths[:1], [99], sampler=sampler)[0]
    assert np.abs(other.joints - together[0].joints).max() > 1e-3


def test_unmasked_models_are_sampled_at_196_frames_and_cut(unmasked):
    short, full = features(unmasked, frames=40), features(unmasked, frames=196)
    assert short.shape == (40, 263) and full.shape == (196, 263)
    assert torch.allclose(short, full[:40], atol=1e-5)


def test_masked_models_are_sampled_at_the_requested_length(nets):
    seen = []
    features(nets, frames=40, decoding=Decoding(on_step=lambda step: seen.append(step.x.shape[1])))
    assert set(seen) == {40} and len(seen) == 5


@pytest.mark.parametrize(("spacing", "steps"), [("even", [4, 2, 0]), ("trailing", [4, 2, 1])])
def test_trailing_spacing_leaves_out_the_step_of_hardly_any_noise(minilm, spacing, steps):
    nets, seen = LSReMGM(LSReMGMConfig(**WORDS, spacing=spacing), statistics(), text_encoder=minilm), []
    nets.denoiser.register_forward_pre_hook(lambda module, inputs: seen.append(int(inputs[1][0])))
    features(nets, decoding=Decoding(sampling_steps=3))
    assert seen == steps


@pytest.mark.parametrize("length", [0, -5, 197, 10_000])
def test_impossible_lengths_are_refused(nets, length):
    with pytest.raises(LengthError, match="1 to 196"):
        generate(nets, ["a walk"], [length], [1])


def test_guidance_in_one_batch_equals_two_passes(nets):
    x, t = torch.randn(2, 10, 263), torch.tensor([3, 3])
    mask = torch.ones(2, 10, dtype=torch.bool)
    prompts = ["a person waves", "someone kicks with the left foot"]
    with torch.no_grad():
        requests = [Request(text, 10) for text in prompts]
        answers = {scale: denoiser(nets, requests, prompts, mask, scale)(x, t) for scale in (0.0, 1.0, 2.5)}
    expected = answers[0.0] + 2.5 * (answers[1.0] - answers[0.0])
    assert torch.allclose(answers[2.5], expected, atol=1e-5)


def test_guidance_scales_of_0_and_1_ask_the_network_once(nets):
    rows = []
    handle = nets.denoiser.register_forward_pre_hook(lambda module, inputs: rows.append(len(inputs[0])))
    for scale in (0.0, 1.0, 2.0):
        features(nets, decoding=Decoding(guidance_scale=scale, sampling_steps=2))
    handle.remove()
    assert rows == [1, 1, 1, 1, 2, 2]
    free = [features(nets, p, decoding=Decoding(guidance_scale=0.0)) for p in ("a walk", "a bow")]
    assert torch.equal(*free)


def test_guidance_is_ignored_by_models_that_always_had_their_condition(minilm, caplog):
    nets = LSReMGM(LSReMGMConfig(**WORDS, cond_mask_prob=0.0), statistics(), text_encoder=minilm)
    plain = features(nets, decoding=Decoding(guidance_scale=1.0))
    assert torch.equal(features(nets, decoding=Decoding(guidance_scale=4.0)), plain)
    assert "ignored" in caplog.text


def test_settings_that_a_sampler_does_not_take_are_refused(nets):
    for settings, said in ((Decoding(sampler="ddpm", eta=0.5), "eta 0.5: only the sampler ddim"),
                           (Decoding(sampler="ddim", order=2), "order 2: only the samplers plms and dpmpp")):  # fmt: skip
        with pytest.raises(ValueError, match=said):
            features(nets, decoding=settings)


def test_in_between_keeps_start_and_end(nets):
    given = torch.randn(1, 20, 263) * 0.02
    keep = edit_mask("in_between", nets.config.features, torch.tensor([20]), 20)
    made = features(nets, frames=20, motion=given[0], keep=keep[0])
    assert torch.allclose(made[:5], given[0, :5], atol=1e-6) and torch.allclose(made[15:], given[0, 15:], atol=1e-6)
    assert not torch.allclose(made[5:15], given[0, 5:15], atol=1e-3)


def test_upper_body_edit_keeps_legs_and_root(unmasked):
    given = torch.randn(1, 30, 263) * 0.02
    keep = edit_mask("upper_body", unmasked.config.features, torch.tensor([30]), 30)
    made = features(unmasked, "waving", 30, motion=given[0], keep=keep[0])
    assert torch.allclose(made[keep[0]], given[0][keep[0]], atol=1e-6)
    assert not torch.allclose(made[~keep[0]], given[0][~keep[0]], atol=1e-3)


def test_motions_with_and_without_something_given_are_made_together(nets):
    given = torch.randn(20, 263) * 0.02
    edit = Request("a walk", 20, 1, motion=given, keep=torch.arange(20)[:, None] < 5)
    plain = Request("a bow", 24, 2)
    for made, request in zip(nets.generate([edit, plain]), (edit, plain), strict=True):
        torch.testing.assert_close(made, nets.generate([request])[0], atol=1e-5, rtol=0)
    targeted = TargetLocation(torch.ones(8, 3), torch.ones(8, dtype=torch.bool))
    for name, value in (("prefix", given), ("target", targeted), ("action", 0)):
        with pytest.raises(ValueError, match=f"{name}: this model does not take it"):
            features(nets, **{name: value})


def latent_model(minilm) -> Latent:
    torch.manual_seed(0)
    sizes = AutoencoderConfig(latent_channels=16, width=32, num_blocks=1, fine_width=16, num_fine_blocks=1)
    parts = {"autoencoder": MotionAutoencoder(sizes, statistics())}
    return Latent(LatentConfig(**WORDS, sampling_steps=None), statistics(), parts, text_encoder=minilm)


def test_latent_models_give_frames_of_any_length(minilm):
    nets = latent_model(minilm)
    motions = generate(nets, ["a walk", "a bow"], [21, 40], [1, 2])
    assert [m.joints.shape[1] for m in motions] == [21, 40]
    alone = generate(nets, ["a walk"], [21], [1])[0]
    assert np.abs(alone.joints - motions[0].joints).max() < 1e-4
    with pytest.raises(EditError, match="latents"):
        given = torch.zeros(21, 263)
        features(nets, frames=21, motion=given, keep=torch.ones_like(given).bool())


def test_latent_models_train_the_denoiser_only(minilm):
    nets = latent_model(minilm)
    loss(nets, make_batch(), sample_generators(0, range(4)))["loss"].mean().backward()
    assert all(parameter.grad is not None for parameter in nets.denoiser.parameters() if parameter.numel() > 16)
    assert not any(parameter.requires_grad for parameter in nets.autoencoder.networks.parameters())


def prefix_model(minilm, **more) -> LSReMGM:
    torch.manual_seed(0)
    config = LSReMGMConfig(**{**WORDS, "context_len": 4, "pred_len": 10, **more})
    return LSReMGM(config, statistics(), text_encoder=minilm)


def test_prefix_models_go_on_from_what_they_made(minilm):
    nets = prefix_model(minilm)
    prefix = torch.randn(4, 263) * 0.02
    long, short = features(nets, frames=25, prefix=prefix), features(nets, frames=10, prefix=prefix)
    assert long.shape == (25, 263) and torch.allclose(long[:10], short, atol=1e-6)
    assert features(nets, frames=300, prefix=prefix).shape == (300, 263)
    both = features(nets, frames=14, prefix=prefix, include_prefix=True)
    assert torch.allclose(both[:4], prefix, atol=1e-6) and torch.allclose(both[4:], short, atol=1e-6)
    with pytest.raises(EditError, match="continues 4 frames"):
        features(nets, prefix=prefix[:3])


def test_pieces_shorter_than_the_prefix_leave_it_as_long_as_the_model_was_trained_with(minilm):
    given = []

    def next_frames(prefix, call):
        given.append(prefix[0, :, 0].tolist())
        return torch.full((1, 2, 1), float(call))

    made = autoregress(next_frames, torch.tensor([-3.0, -2.0, -1.0]).reshape(1, 3, 1), required=5, pred_len=2)
    assert given == [[-3, -2, -1], [-1, 0, 0], [0, 1, 1]] and made[0, :, 0].tolist() == [0, 0, 1, 1, 2]
    nets = prefix_model(minilm, context_len=4, pred_len=3)
    seen = []
    nets.denoiser.register_forward_pre_hook(lambda _, args, kwargs: seen.append(kwargs["prefix"].shape[1]), with_kwargs=True)
    features(nets, prefix=torch.zeros(4, 263))
    assert set(seen) == {4}


def test_a_target_is_of_one_motion_alone(minilm):
    nets = prefix_model(minilm, target_encoder="single")
    target = TargetLocation(torch.ones(8, 3), torch.ones(8, dtype=torch.bool))
    asked = [Request("a walk", 10, 1, target=target), Request("a walk", 10, 1)]
    led, free = nets.generate(asked)
    assert (led - free).abs().max() > 1e-4
    torch.testing.assert_close(free, nets.generate(asked[1:])[0], atol=1e-5, rtol=0)


def test_prefix_models_take_a_prompt_per_piece(minilm):
    nets = prefix_model(minilm)
    prefix = torch.zeros(4, 263)
    same, change = (features(nets, text, 20, prefix=prefix) for text in ("a walk", ["a walk", "a bow"]))
    assert torch.equal(change[:10], same[:10]) and not torch.allclose(change[10:], same[10:], atol=1e-4)


def make_batch(lengths=(40, 40, 24, 12), seed=0) -> Batch:
    lengths = torch.tensor(lengths)
    mask = torch.arange(40) < lengths[:, None]
    motion = 0.02 * torch.randn(len(lengths), 40, 263, generator=torch.Generator().manual_seed(seed)) * mask[..., None]
    return Batch(motion, lengths, mask, ["a walk", "a bow", "a kick", "a wave"][: len(lengths)])


def test_loss_of_a_sample_does_not_depend_on_its_batch(nets):
    batch = make_batch()
    together = loss(nets, batch, sample_generators(7, range(4)))["loss"]
    one = Batch(batch.motion[2:3, :24], batch.lengths[2:3], batch.mask[2:3, :24], batch.texts[2:3])
    alone = loss(nets, one, sample_generators(7, [2]))["loss"]
    assert torch.allclose(alone, together[2:3], atol=1e-5)


def test_training_lowers_the_loss(minilm):
    torch.manual_seed(0)
    config = LatentConfig(**{**PLAIN, **WORDS, "lambda_vel": 1.0, "min_snr_gamma": 5.0})
    nets = Latent(config, statistics(), text_encoder=minilm)
    optimizer = torch.optim.AdamW(nets.denoiser.parameters(), 3e-3)
    batch, losses = make_batch(), []
    swing = torch.sin(torch.arange(40) / 5)[None, :, None]
    batch.motion = swing * batch.motion[:, :1] * batch.mask[..., None]  # each clip swings about its own pose
    for step in range(60):
        value = loss(nets, batch, sample_generators(1, range(4), step))["loss"].mean()
        optimizer.zero_grad()
        value.backward()
        optimizer.step()
        losses.append(value.item())
    assert np.mean(losses[-10:]) < 0.6 * np.mean(losses[:10])


def test_conditions_are_dropped_as_often_as_configured(nets, monkeypatch):
    dropped = []
    forward = nets.denoiser.forward
    monkeypatch.setattr(nets.denoiser, "forward", lambda *a, **k: dropped.append(k["drop"]) or forward(*a, **k))
    for step in range(100):
        loss(nets, make_batch(), sample_generators(3, range(4), step))
    assert 0.05 < torch.cat(dropped).float().mean() < 0.16  # cond_mask_prob is 0.1


def test_prefix_models_learn_to_end_at_a_target(minilm):
    nets = prefix_model(minilm, pred_len=36, target_encoder="single", lambda_target_loc=1.0)
    terms = loss(nets, make_batch((40, 40, 40, 40)), sample_generators(1, range(4)))
    assert terms["goal"].shape == (4,) and (terms["goal"] >= 0).all()
    x0 = torch.randn(2, 12, 263)
    mask = torch.ones(2, 12, dtype=torch.bool)
    valid = target_rows([["pelvis"], ["right_wrist"]], [True, True])
    reached = target_location(nets.denormalise(x0), mask.sum(1), valid, nets.config.features)
    assert torch.allclose(nets.goal_error(reached, mask, x0), torch.zeros(2), atol=1e-8)
    moved = TargetLocation(reached.values + 0.5, valid)
    assert (nets.goal_error(moved, mask, x0) > 0.1).all()


def test_joint_losses_need_joints(minilm):
    config = LSReMGMConfig(**{**SMALL, "condition": "none", "lambda_rcxyz": 1.0},
                           features=Features("smpl", kind="smpl_rot6d"))
    batch = Batch(torch.randn(1, 8, 150), torch.tensor([8]), torch.ones(1, 8, dtype=torch.bool), [""])
    with pytest.raises(FeaturesMismatch, match="body model"):
        loss(LSReMGM(config), batch, sample_generators(0, [0]))


@pytest.mark.parametrize("change", [dict(skeleton="kit", width=251, fps=12.5), dict(fps=30.0),
                                    dict(heading="continuous"), dict(width=251)])
def test_statistics_of_other_features_are_refused(change):
    with pytest.raises(FeaturesMismatch):
        LSReMGM(LSReMGMConfig(**SMALL), statistics(**change))


def test_smoothing_keeps_what_is_steady_and_calms_what_is_not():
    from model.lsremgm_sampling import smooth

    steady = torch.linspace(0, 1, 20)[:, None].expand(20, 3)
    torch.testing.assert_close(smooth(steady, 0.5)[2:-2], steady[2:-2])
    noise = torch.randn(200, 3, generator=torch.Generator().manual_seed(0))
    assert smooth(noise, 0.5).shape == noise.shape
    assert smooth(noise, 0.5).diff(n=3, dim=0).norm() < 0.7 * noise.diff(n=3, dim=0).norm()
