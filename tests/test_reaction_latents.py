"""Reactions made piece by piece in latents of a causal autoencoder, by MeanFlow."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor

from benchmarks.online import read_anew
from data_loaders.features import FeaturesMismatch, Statistics
from data_loaders.interhuman_features import moved
from diffusion.meanflow import mean_flow_sample
from model import reaction_online
from model.autoencoder import MotionAutoencoder, columns_of
from model.autoencoder_config import AutoencoderConfig
from model.capabilities import Decoding, Guidance, Request
from model.checkpoints import from_pretrained, save_pretrained
from model.layers import TimeConv
from model.reaction import Reaction
from model.reaction_base import AskedText, Passes
from model.reaction_network import Action
from tests.pairs import PAIR
from tests.tiny_reactions import TEXT, batch, draws, request, told
from tests.tiny_reactions import tiny as tiny_in_frames

PERSON = replace(PAIR, kind="interhuman_person")
SIZES = AutoencoderConfig(latent_channels=6, width=12, num_blocks=2, fine_width=8, num_fine_blocks=1, causal=True, features=PAIR)
LATENTS = {
    "context_len": 8, "pred_len": 4, "rollout": 2, "max_frames": 500, "objective": "meanflow", "sampling_steps": 2,
    "instant_share": 0.5,
}  # fmt: skip


def autoencoder(**changes) -> MotionAutoencoder:
    """With random weights, also in what begins as zero."""
    width = PAIR.persons * PAIR.width
    torch.manual_seed(1)
    made = MotionAutoencoder(replace(SIZES, **changes),
                             Statistics(np.full(width, 0.1, np.float32), np.full(width, 0.5, np.float32), PAIR))  # fmt: skip
    for parameter in made.networks.parameters():
        if parameter.dim() > 1:
            torch.nn.init.normal_(parameter, std=0.15)
    return made.eval()


def tiny(**settings) -> Reaction:
    """A model of the sizes of tests/tiny_reactions.py."""
    return tiny_in_frames(parts={"autoencoder": autoencoder()}, **{**LATENTS, **settings})


@pytest.fixture(scope="module")
def model() -> Reaction:
    return tiny()


@pytest.fixture(scope="module")
def actor() -> Tensor:
    return batch((24,)).motion[0, :, :262]


def asked(model: Reaction, count: int = 3) -> Passes:
    """What a network may be asked for: texts or none, one sample of which little is known, and one without an action."""
    torch.manual_seed(2)
    config = model.config
    action = Action(torch.randn(count, 8), torch.randn(count, 9, 262), torch.randn(count, 9, config.semantic_dim))
    keep = torch.tensor([[True, True], [False, True], [False, False]])[:count]
    drop, drop_text = torch.tensor([False, False, True])[:count], torch.tensor([False, True, False])[:count]
    return Passes((1.0,), action, model.encode_text([TEXT, "", TEXT][:count]), keep, torch.randn(count, 2, 6), drop, drop_text)


# ------------------------------------------------------------------------------------------------------------ the autoencoder


def test_a_causal_convolution_reads_no_later_token():
    conv, x = TimeConv(4, 4, 5, causal=True), torch.randn(1, 9, 4)
    later = x.clone()
    later[:, 6:] += 1
    assert torch.equal(conv(x)[:, :6], conv(later)[:, :6]) and not torch.allclose(conv(x)[:, 6:], conv(later)[:, 6:])
    shifted = torch.nn.functional.pad(x, (0, 0, 2, 0))[:, :9]
    plain = TimeConv(4, 4, 5)
    plain.load_state_dict(conv.state_dict())
    torch.testing.assert_close(plain(shifted)[:, :7], conv(x)[:, :7])


def test_no_latent_reads_a_later_frame_and_no_frame_a_later_latent():
    network, ahead = autoencoder().network, autoencoder(causal=False).network
    x, mask = torch.randn(2, 24, 262), torch.ones(2, 24, dtype=torch.bool)
    later = x.clone()
    later[:, 12:] += 1
    z = network.encode(x, mask).mean
    assert z.shape == (2, 6, 6) and torch.equal(z[:, :3], network.encode(later, mask).mean[:, :3])
    assert not torch.allclose(ahead.encode(x, mask).mean[:, :3], ahead.encode(later, mask).mean[:, :3])
    other = z.clone()
    other[:, 3:] += 1
    assert torch.equal(network.decode(z)[:, :12], network.decode(other)[:, :12])
    assert not torch.allclose(network.decode(z)[:, 12:], network.decode(other)[:, 12:])
    torch.testing.assert_close(network.decode(z[:, :4]), network.decode(z)[:, :16])


def test_what_is_not_known_before_a_start_changes_nothing():
    network, x = autoencoder().network, torch.randn(1, 16, 262)
    alone = network.encode(x, torch.ones(1, 16, dtype=torch.bool)).mean
    mask = torch.arange(24)[None] >= 8
    before = network.encode(torch.cat([torch.randn(1, 8, 262), x], dim=1), mask).mean
    torch.testing.assert_close(before[:, 2:], alone)
    torch.testing.assert_close(network.decode(before, mask)[:, 8:], network.decode(alone))


def test_it_reads_each_person_as_the_partner_sees_them():
    own, given = autoencoder(), batch((16, 16, 16))
    assert columns_of(PAIR) == list(range(262))
    x, mask = own.masked(given)
    assert x.shape == (6, 16, 262) and mask.shape == (6, 16)
    whole = moved(given.motion[1], PAIR, 0.8, (2.0, -1.0))  # both elsewhere
    again, _ = own.masked(replace(given, motion=torch.stack([given.motion[0], whole, given.motion[2]])))
    assert torch.allclose(again, x, atol=1e-3)
    joints = own.joints_of(own.denormalise(x[2:4]))  # of the second sample: the first as the second sees them, and so on
    true = PAIR.joints(given.motion[1])
    for seen, person in zip(joints, true):
        assert torch.allclose(torch.cdist(seen[0], seen[0]), torch.cdist(person[0], person[0]), atol=1e-4)
    apart = (true[0, 12, 0] - true[1, 12, 0])[[0, 2]].norm()
    assert torch.allclose(joints[0, 12, 0, [0, 2]].norm(), apart, atol=1e-4)


def test_its_terms_know_a_perfect_reconstruction_and_its_latents_their_spread():
    own, given = autoencoder(), batch((16, 16, 16))
    x, mask = own.masked(given)
    terms = own.reconstruction_terms(x, x, mask)
    assert all(float(value) < 1e-6 for name, value in terms.items() if name != "plant")
    lost = own.loss(given, draws())
    assert {"joints", "path", "velocity", "kl", "correlation"} <= lost.keys() and all(v.isfinite() for v in lost.values())
    assert own.reconstruction_error(given)["mpjpe_mm"] > 1
    windows = [row.numpy() for row in given.motion]
    own.measure_latents(windows)
    z = own.network.normalise(own.network.encode(x, mask).mean).flatten(0, 1)
    assert z.mean(0).abs().max() < 1e-3 and (z.std(0) - 1).abs().max() < 1e-3


# ---------------------------------------------------------------------------------------------------------------- the network


@torch.no_grad()
def test_with_the_past_remembered_it_answers_what_it_answers_to_all_of_it(model):
    given = asked(model)
    z, r, t = torch.randn(3, 1, 6), torch.tensor([0.0, 0.2, 0.5]), torch.tensor([1.0, 0.2, 0.7])
    flow, read = model.flow(given), []
    hook = model.denoiser.layers[0].norm_self.register_forward_pre_hook(lambda _, seen: read.append(seen[0].shape[1]))
    for step in range(3):
        z, r, t = z + step, r / (1 + step), t / (1 + step)
        torch.testing.assert_close(flow(z, r, t), read_anew(model.denoiser, given, z, r, t), atol=1e-5, rtol=1e-5)
    hook.remove()
    assert read == [5, 5, 1, 5, 1, 5]  # text and action, two pieces, now, the latent; ours and read anew in turns
    assert not torch.allclose(flow(z, r, t), flow(z, r, t + 0.1), atol=1e-4)
    assert not torch.allclose(flow(z, r, t), flow(z, r + 0.1, t), atol=1e-4)


@torch.no_grad()
def test_it_answers_by_the_past_that_there_is_the_action_and_the_text_unless_they_are_left_out(model):
    given, z, r, t = asked(model), torch.randn(3, 1, 6), torch.zeros(3), torch.ones(3)
    plain = model.flow(given)(z, r, t)
    changed = model.flow(replace(given, past=given.past + given.mask.logical_not()[..., None]))(z, r, t)
    assert torch.equal(changed, plain)  # what is not there
    assert not torch.allclose(model.flow(replace(given, past=given.past + 1))(z, r, t)[:2], plain[:2], atol=1e-4)
    action = replace(given.action, motion=given.action.motion + 1)
    other = model.flow(replace(given, action=action))(z, r, t)
    assert torch.equal(other[2], plain[2]) and not torch.allclose(other[:2], plain[:2], atol=1e-4)
    text = model.encode_text(["someone bows"] * 3)
    other = model.flow(replace(given, text=text))(z, r, t)
    assert torch.equal(other[1], plain[1]) and not torch.allclose(other[[0, 2]], plain[[0, 2]], atol=1e-4)


@torch.no_grad()
def test_guidance_is_that_of_a_denoiser_on_average_velocities(model):
    given = asked(model, 2)
    z, r, t = torch.randn(2, 1, 6), torch.zeros(2), torch.ones(2)

    def answer(drop: bool, drop_text: tuple[bool, bool]) -> Tensor:
        return model.flow(replace(given, drop=torch.full((2,), drop), drop_text=torch.tensor(drop_text)))(z, r, t)

    nothing, alone, both = answer(True, (True, True)), answer(False, (True, True)), answer(False, (False, True))
    text = AskedText(given.text, torch.tensor([False, True]))
    made = model.flow(model.passes(given.action, text, given.mask, Guidance(2.5, action=1.5), given.past))(z, r, t)
    assert torch.allclose(made, nothing + 1.5 * (alone - nothing) + 2.5 * (both - alone), atol=1e-4)


# ----------------------------------------------------------------------------------------------------------------- reactions


def test_no_frame_reads_a_later_one_of_the_action(model, actor):
    (made,) = model.react([request(actor, 24, text=TEXT)])
    assert made.shape == (24, 262) and made.isfinite().all()
    for now in (0, 3, 9, 20):
        noised = actor.clone()
        noised[now + 1 :] += torch.randn_like(noised[now + 1 :])
        noised[now, 66:132], noised[now, 258:] = 9.0, 9.0  # what tells of the step to the frame after
        (other,) = model.react([request(noised, 24, text=TEXT)])
        assert torch.equal(other[: now + 1], made[: now + 1]), now
        assert now >= 20 or not torch.allclose(other[now + 5 :], made[now + 5 :], atol=1e-3)


def test_a_stream_makes_four_frames_of_every_four_wherever_the_actor_stands(model, actor):
    (made,) = model.react([request(actor, 24, text=TEXT)])
    pieces = list(model.stream(actor.split(4), Request(TEXT, 0, 3)))
    assert [tuple(piece.shape) for piece in pieces] == [(4, 262)] * 6
    assert torch.allclose(torch.cat(pieces), made, atol=1e-4)
    ragged = [*actor[:8].split(4), *actor[8:13].split([3, 2]), actor[13:17]]  # calls of fewer frames
    assert [len(piece) for piece in model.stream(ragged, Request(TEXT, 0, 3))] == [4, 4, 3, 2, 4]
    together = model.react([request(actor.flip(0), 9, 5), request(actor, 24, text=TEXT)])
    assert torch.allclose(together[1], made, atol=1e-3) and together[0].shape == (9, 262)
    (elsewhere,) = model.react([request(moved(actor, PERSON, 1.2, (3.0, -2.0)), 24, text=TEXT)])
    assert torch.allclose(elsewhere[:, :66], moved(made, PERSON, 1.2, (3.0, -2.0))[:, :66], atol=2e-2)


def test_one_step_takes_the_average_velocity_from_the_noise(model, monkeypatch, actor):
    seen = []
    monkeypatch.setattr(reaction_online, "mean_flow_sample", lambda flow, z, steps, on_step: seen.append((flow, z, steps)) or
                        mean_flow_sample(flow, z, steps, on_step))  # fmt: skip
    latents = []
    model.react([request(actor, 4)], Decoding(sampling_steps=1, on_step=lambda step: latents.append(step.x)))
    ((flow, z, steps),) = seen
    with torch.no_grad():
        assert steps == 1
        torch.testing.assert_close(latents[0], z - flow(z, torch.zeros(1), torch.ones(1)), atol=1e-5, rtol=1e-5)


def test_what_belongs_to_diffusions_is_refused(model, actor):
    for wrong in (Decoding(sampler="ddim"), Decoding(eta=0.5), Decoding(order=2)):
        with pytest.raises(ValueError, match="samples by MeanFlow, which takes sampling_steps alone"):
            model.react([request(actor, 8)], wrong)
    with pytest.raises(ValueError, match="in a number of even steps"):
        model.react([request(actor, 8)], Decoding(sampling_steps="ddim2"))


@pytest.mark.parametrize("parts, settings, message", [
    ({}, {}, "give --autoencoder a checkpoint"),
    ({"causal": False}, {}, "reads ahead"),
    ({"downsampling": 8}, {}, "latents of 8 frames, pieces of 4"),
    ({"features": replace(PAIR, fps=20.0)}, {}, "fps"),
    ({"width": 12}, {"objective": "diffusion"}, "no use for an autoencoder"),
    ({"width": 12}, {"context_len": 0}, "needs a context_len"),
])  # fmt: skip
def test_an_autoencoder_that_does_not_fit_is_refused(parts, settings, message):
    features = parts.get("features", PAIR)
    with pytest.raises((ValueError, FeaturesMismatch), match=message):
        width = PAIR.persons * PAIR.width
        statistics = Statistics(np.zeros(width, np.float32), np.ones(width, np.float32), features)
        given = {"autoencoder": MotionAutoencoder(replace(SIZES, **parts), statistics)} if parts else {}
        tiny_in_frames(parts=given, **{**LATENTS, **settings})


# ------------------------------------------------------------------------------------------------------------------ training


def test_pieces_are_learnt_after_the_models_own_in_latents_too(model):
    given = told(model, batch((16, 16, 16)))
    found = {}
    for seed in range(6):
        before = int(torch.randint(2, (1,), generator=torch.Generator().manual_seed(seed)))
        found[before] = model.loss(given, replace(draws(), step=torch.Generator().manual_seed(seed)))
    assert found.keys() == {0, 1}
    for terms in found.values():
        assert {"denoising", "squared_error", "velocity", "semantics", "alignment", "discrimination"} <= terms.keys()
        assert all(term.isfinite().all() for term in terms.values())


def test_every_part_of_the_network_learns_and_the_autoencoder_stays():
    trained = tiny().train()
    trained.loss(told(trained, batch((16, 16, 16))), draws(progress=0.1))["loss"].backward()
    idle = [name for name, parameter in trained.networks.named_parameters() if parameter.grad is None or not parameter.grad.any()]
    assert not idle
    assert all(parameter.grad is None for parameter in trained.autoencoder.networks.parameters())
    assert not trained.autoencoder.networks.training


def test_it_is_saved_with_its_autoencoder(model, actor, tmp_path):
    save_pretrained(tmp_path / "run", model)
    assert (tmp_path / "run" / "parts" / "autoencoder" / "model.safetensors").is_file()
    again = from_pretrained(tmp_path / "run")
    assert again.config == model.config and again.autoencoder.config.causal
    asked_for = [request(actor, text=TEXT)]
    assert torch.equal(again.react(asked_for)[0], model.react(asked_for)[0])
