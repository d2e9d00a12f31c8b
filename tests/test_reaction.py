"""The reaction model: what its networks, losses, guidance and checkpoints hold to."""

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from data_loaders.features import Features, FeaturesMismatch
from data_loaders.interhuman_features import back_from, moved, placement, seen_from, told_by_then
from diffusion.reaction_losses import alike, discrimination, gaussian_kl
from diffusion.samplers import sample_noise
from model.capabilities import Decoding, Generates, Guidance, Reacts, Request
from model.checkpoints import from_pretrained, save_pretrained
from model.lsremgm_config import LSReMGMConfig
from model.lsremgm_network import MotionDenoiser
from model.lsremgm_sampling import LengthError
from model.reaction import Reaction
from model.reaction_base import AskedText, action_share, dropped
from model.reaction_network import Action
from model.registry import able
from tests.pairs import PAIR
from tests.tiny_reactions import TEXT, TINY, batch, draws, request, tiny, told

SHORT = Decoding(sampler="ddim", sampling_steps=3)


IN_PATCHES = {"patch": 4, "fine_width": 8, "about_pelvis": True, "joints_only": True}


@pytest.fixture(scope="module", params=[{}, IN_PATCHES], ids=["frames", "patches"])
def model(request) -> Reaction:
    return tiny(**request.param)


@pytest.fixture(scope="module")
def actor() -> Tensor:
    return batch((24,)).motion[0, :, :262]


class Rows:
    """How many rows the denoiser is asked for at every call, while `with` lasts."""

    def __init__(self, model: Reaction):
        self.network, self.counts = model.denoiser, []

    def __enter__(self) -> list[int]:
        self.hook = self.network.register_forward_pre_hook(lambda _, given: self.counts.append(len(given[0])))
        return self.counts

    def __exit__(self, *_: object) -> None:
        self.hook.remove()


# --------------------------------------------------------------------------------------------------------------- networks


@torch.no_grad()
@pytest.mark.parametrize("arch", ["trans_enc", "trans_dec"])
def test_at_first_it_is_the_text_to_motion_model_whose_weights_it_begins_with(arch):
    model = tiny(moved=False, arch=arch)
    settings = {name: value for name, value in TINY.items() if hasattr(LSReMGMConfig(), name)}
    plain = MotionDenoiser(LSReMGMConfig(**settings, arch=arch, mask_frames=True), 262).eval()
    state = model.denoiser.state_dict()
    plain.load_state_dict({name: state[name] for name in plain.state_dict()})
    x, t, mask = torch.randn(2, 9, 262), torch.tensor([3, 17]), torch.arange(9) < torch.tensor([[9], [6]])
    text = model.encode_text([TEXT, "a person bows"])
    action = Action(torch.randn(2, 8), torch.randn(2, 9, 262), torch.randn(2, 9, 12))
    assert torch.equal(model.denoiser(x, t, action, text, mask)[0], plain(x, t, text, mask))
    for parameter in (model.denoiser.embed_latent, model.denoiser.embed_actor, model.denoiser.embed_semantic):
        torch.nn.init.normal_(parameter.weight)
    assert not torch.allclose(model.denoiser(x, t, action, text, mask)[0], plain(x, t, text, mask), atol=1e-3)
    nothing = Action(*(torch.zeros_like(each) for each in (action.latent, action.motion, action.semantics)))
    assert torch.equal(model.denoiser(x, t, nothing, text, mask)[0], plain(x, t, text, mask))
    assert torch.equal(model.denoiser(x, t, action, text, mask, drop=torch.ones(2, dtype=torch.bool))[0], plain(x, t, text, mask))


def test_it_reacts_and_is_offered_as_no_text_to_motion_model():
    assert able(Reacts) == ("reaction",) and "reaction" not in able(Generates)


@pytest.mark.parametrize("flag, terms, tensors", [
    ("semantics", {"semantics"}, {"semantics", "denoiser.embed_semantic", "denoiser.semantic_final"}),
    ("atomic_actions", set(), {"semantics.mean", "semantics.std", "semantics.codebook", "semantics.sigma2"}),
    ("alignment", {"alignment"}, set()), ("regularisation", {"regularisation"}, set()),
    ("discrimination", {"discrimination"}, set()),
])  # fmt: skip
def test_each_ablation_leaves_out_what_it_names_and_nothing_else(flag, terms, tensors):
    whole, without = tiny(), tiny(**{flag: False})
    given = told(whole, batch())
    has, left = (set(each.loss(given, draws())) for each in (whole, without))
    assert has - left == terms and not left - has
    has, left = (set(each.networks.state_dict()) for each in (whole, without))
    assert not left - has and all(name.startswith(tuple(tensors)) for name in has - left)
    assert all(any(name.startswith(each) for name in has - left) for each in tensors)
    told_of = without.denoiser.semantic_final.out_features if without.config.semantics else 0
    assert told_of == {"semantics": 0, "atomic_actions": 165}.get(flag, 171)
    (made,) = without.react([request(given.motion[0, :20, :262])], SHORT)
    assert made.isfinite().all()


# ----------------------------------------------------------------------------------------------------------------- losses


def test_latents_that_agree_cost_nothing_and_kl_is_that_of_torch():
    a, r = (torch.distributions.Normal(torch.randn(4, 7).double(), torch.rand(4, 7).double() + 0.3) for _ in range(2))
    sides = [(each.mean, 2 * each.stddev.log()) for each in (a, r)]
    expected = torch.distributions.kl_divergence(a, r).mean(-1)
    torch.testing.assert_close(gaussian_kl(*sides[0], *sides[1]), expected)
    assert gaussian_kl(*sides[0], *sides[0]).abs().max() < 1e-12
    unit = torch.distributions.Normal(torch.zeros(4, 7).double(), torch.ones(4, 7).double())
    torch.testing.assert_close(gaussian_kl(*sides[0]), torch.distributions.kl_divergence(a, unit).mean(-1))


def test_pairs_that_are_alike_count_neither_for_nor_against():
    latents = torch.eye(3, 5)
    summaries = torch.tensor([[1.0, 0, 0], [0.99, 0.01, 0], [0, 1, 0]])
    excluded = alike(summaries, 0.9)
    assert excluded.tolist() == [[False, True, False], [True, False, False], [False] * 3]
    near = latents.clone()
    near[1] = latents[0]  # the second interaction is taken for the first
    assert discrimination(near, latents) > 0.5 > 0.1 > discrimination(near[[0, 2]], latents[[0, 2]])
    assert discrimination(latents, latents, ~torch.eye(3, dtype=torch.bool)) == 0


def test_losses_do_not_depend_on_padding(model):
    one, other = (model.loss(told(model, each), draws()) for each in (batch(), batch(pad=5)))
    assert one.keys() == other.keys() >= {"denoising", "velocity", "bone_length", "foot_contact", "distance_map", "orientation",
                                          "semantics", "regularisation", "alignment", "discrimination", "loss"}  # fmt: skip
    for name in one:
        torch.testing.assert_close(one[name], other[name], rtol=1e-4, atol=1e-5, msg=name)


def test_the_loss_is_the_sum_of_its_terms_by_their_weights(model):
    terms = model.loss(told(model, batch()), draws())
    config = model.config
    total = sum((1.0 if name == "denoising" else getattr(config, f"lambda_{name}")) * term.mean()
                for name, term in terms.items() if name != "loss")  # fmt: skip
    torch.testing.assert_close(terms["loss"], total)


@pytest.mark.parametrize("changes", [{}, IN_PATCHES], ids=["frames", "patches"])
def test_every_part_learns(changes):
    trained = tiny(**changes).train()
    trained.loss(told(trained, batch()), draws(progress=0.1))["loss"].backward()
    idle = [name for name, parameter in trained.networks.named_parameters() if parameter.grad is None or not parameter.grad.any()]
    assert not idle


def test_the_reaction_is_made_from_its_own_latent_at_first_and_ever_more_from_the_actions():
    assert [action_share(progress, 0.2) for progress in (0.0, 0.1, 0.2, 0.99, 1.0)] == [0.0, 0.25, 0.5, 0.5, 1.0]
    trained = tiny()
    given = told(trained, batch())
    other = {name: value.clone() for name, value in trained.networks["reaction_encoder"].state_dict().items()}
    by_own, as_sampled = (trained.loss(given, draws(progress=each))["denoising"] for each in (0.0, 1.0))
    trained.networks["reaction_encoder"].load_state_dict({name: value + 0.1 for name, value in other.items()})
    assert not torch.allclose(trained.loss(given, draws(progress=0.0))["denoising"], by_own)
    assert torch.equal(trained.loss(given, draws(progress=1.0))["denoising"], as_sampled)


def test_conditions_are_left_out_as_often_as_said():
    chance = torch.arange(1000) / 1000 + 0.0005
    action, text = dropped(chance, 0.1)
    assert (int((action & text).sum()), int((text & ~action).sum()), int((action & ~text).sum())) == (50, 100, 100)


# --------------------------------------------------------------------------------------------------------------- sampling


def test_a_reaction_follows_its_action_its_text_and_its_seed_alone(model, actor):
    other = actor.flip(0)
    asked = [request(actor), request(actor, 24, 4, TEXT), request(other, 11), request(actor, seed=9), request(actor, text=TEXT)]
    together = model.react(asked, SHORT)
    assert [tuple(each.shape) for each in together] == [(20, 262), (24, 262), (11, 262), (20, 262), (20, 262)]
    for each, made in zip(asked, together, strict=True):
        assert torch.allclose(model.react([each], SHORT)[0][:, :66], made[:, :66], atol=1e-4)
    for changed in (together[2], together[3][:11], together[4][:11]):
        assert (changed - together[0][:11]).abs().max() > 1e-3


def test_an_action_that_ends_before_its_reaction_goes_on_as_its_last_frame(model, actor):
    held = torch.cat([actor[:10], actor[9:10].expand(10, -1)])
    assert torch.equal(model.react([request(actor[:10])], SHORT)[0], model.react([request(held)], SHORT)[0])
    assert torch.equal(model.react([request(actor, 12)], SHORT)[0], model.react([request(actor[:12], 12)], SHORT)[0])


@torch.no_grad()
def test_both_guidances_are_the_formula(model, actor):
    mask, texts = torch.ones(2, 12, dtype=torch.bool), [TEXT, ""]
    rows = model.normalise(actor[:12]).expand(2, -1, -1)
    action = model.action_of(rows, mask, [1, 2])
    x, t = torch.randn(2, 12, model.columns.stop), torch.tensor([11, 4])
    features = model.encode_text(texts)

    def answer(drop: bool, drop_text: tuple[bool, bool]) -> Tensor:
        return model.denoiser(x, t, action, features, mask, drop=torch.full((2,), drop), drop_text=torch.tensor(drop_text))[0]

    nothing, alone, both = answer(True, (True, True)), answer(False, (True, True)), answer(False, (False, True))
    by_hand = nothing + 1.5 * (alone - nothing) + 2.5 * (both - alone)
    asked = AskedText(features, torch.tensor([False, True]))
    made = model.guided(action, asked, mask, Guidance(together=2.5, action=1.5))(x, t)
    assert torch.allclose(made, by_hand, atol=1e-4) and torch.equal(both[1], alone[1])


def test_passes_that_count_nothing_are_left_out(model, actor):
    for asked, text, rows in ((None, TEXT, 3), (None, "", 2), (Guidance(1.0, action=1.0), TEXT, 1), (0.0, TEXT, 2),
                              (Guidance(action=1.0), "", 1), (Guidance(2.0, action=0.0), TEXT, 3)):  # fmt: skip
        with Rows(model) as counts:
            model.react([request(actor, text=text)] * 2, replace(SHORT, guidance_scale=asked))
        assert counts == [2 * rows] * 3, (asked, text)


def test_the_spread_of_latents_is_what_is_asked_for(actor):
    still, wide = tiny(latent_temperature=0.0), tiny(latent_temperature=1.0)
    mask, rows = torch.ones(2, 24, dtype=torch.bool), still.normalise(actor).expand(2, -1, -1)
    one, other = (each.action_of(rows, mask, [1, 2]).latent for each in (still, wide))
    assert torch.allclose(one[0], one[1], atol=1e-6) and not torch.allclose(other[0], other[1], atol=1e-3)
    found = wide.encode("action", rows, wide.read(wide.tell(wide.joints_of((rows, rows))[:, 0], mask)), mask)
    noise = sample_noise([1, 2], 1)(found.mean)
    assert torch.allclose(other, found.sample(noise), atol=1e-5)


def test_mean_latents_of_pairs(model):
    given = batch()
    lengths = given.lengths.tolist()
    actors, reactions = ([row[:n] for row, n in zip(half, lengths)] for half in given.motion.chunk(2, dim=-1))
    one, other = model.embed_reactions(actors, reactions)
    assert one.shape == other.shape == (3, 8) and not torch.allclose(one, other)
    alone = model.embed_reactions(actors[1:2], reactions[1:2])
    assert torch.allclose(alone[0][0], one[1], atol=1e-5) and torch.allclose(alone[1][0], other[1], atol=1e-5)


def test_it_is_saved_with_its_codebook_and_shared_as_float16(model, actor, tmp_path):
    save_pretrained(tmp_path / "whole", model)
    save_pretrained(tmp_path / "half", model, half=True)
    again, half = (from_pretrained(tmp_path / name) for name in ("whole", "half"))
    assert again.config == model.config
    assert torch.equal(again.networks["semantics"].codebook, model.networks["semantics"].codebook)
    asked = [request(actor, text=TEXT)]
    assert torch.equal(again.react(asked, SHORT)[0], model.react(asked, SHORT)[0])
    assert torch.allclose(half.react(asked, SHORT)[0][:, :66], model.react(asked, SHORT)[0][:, :66], atol=0.05)


def test_what_is_read_about_the_pelvis_is_the_motion_as_it_lies(model, actor):
    made = actor[:, model.columns]
    torch.testing.assert_close(model.denormalise(model.normalise(actor)), made, atol=1e-5, rtol=0)
    torch.testing.assert_close(model.completed(made)[:, :66], actor[:, :66])
    aside = moved(actor, replace(PAIR, kind="interhuman_person"), 0.0, (2.0, 0.0))
    changed = (model.normalise(aside) - model.normalise(actor)).abs().amax(0) > 1e-4
    assert int(changed[:66].sum()) == (1 if model.config.about_pelvis else 22)  # x of the pelvis alone, or of all joints
    assert not changed[66:].any()


def test_pieces_are_made_of_frames():
    with pytest.raises(ValueError, match="reactions made as a whole"):
        replace(tiny(context_len=8, pred_len=4).config, patch=4)


def test_what_it_cannot_answer_is_refused(model, actor):
    with pytest.raises(LengthError, match=r"1 to 40 .* not 41"):
        model.react([request(actor, 41)], SHORT)
    with pytest.raises(ValueError, match="give the features of the one who acts"):
        model.react([Request(TEXT, 20)], SHORT)
    with pytest.raises(FeaturesMismatch, match=r"\(24, 100\), expected \(frames, 262\)"):
        model.react([request(actor[:, :100])], SHORT)
    with pytest.raises(ValueError, match="keep: this model does not take it"):
        model.react([replace(request(actor), keep=torch.ones(1))], SHORT)
    with pytest.raises(ValueError, match="strengths are of the text and of the action"):
        model.react([request(actor)], replace(SHORT, guidance_scale=Guidance(interaction=2.0)))
    with pytest.raises(ValueError, match="finite"):
        model.react([request(actor)], replace(SHORT, guidance_scale=Guidance(action=float("nan"))))
    with pytest.raises(FeaturesMismatch, match="learnt from two people"):
        tiny(features=Features("humanml", 30.0, "continuous", "interhuman_person"))


# ----------------------------------------------------------------------------------------------------------------- online


ONLINE = {"context_len": 8, "pred_len": 4, "rollout": 2, "max_frames": 500, "sampler": "ddim", "sampling_steps": 2}


@pytest.fixture(scope="module")
def online() -> Reaction:
    return tiny(**ONLINE)


def test_what_was_seen_from_somewhere_is_brought_back():
    rows = batch().motion[:, :, :262]
    start = placement(rows[:, 5:6, :66].unflatten(-1, (-1, 3)), PAIR.body)
    seen = seen_from(rows, start, PAIR)
    again = placement(seen[:, 5:6, :66].unflatten(-1, (-1, 3)), PAIR.body)
    assert again.origin.abs().max() < 1e-5 and (again.facing - 1).abs().max() < 1e-5
    assert torch.allclose(back_from(seen, start, PAIR), rows, atol=1e-5)
    steps = seen[:, :15, :66] + seen[:, :15, 66:132]  # all of them have 16 frames
    assert torch.allclose(steps, seen[:, 1:16, :66], atol=1e-4)


def test_what_is_told_by_then_are_the_steps_before():
    rows = batch((20,)).motion[:, :, :262]
    told_then = told_by_then(rows, PAIR)
    assert torch.allclose(told_then[:, 1:, 66:132], rows[:, :-1, 66:132], atol=1e-5) and not told_then[:, 0, 66:132].any()
    assert torch.equal(told_then[:, 1:, 258:], rows[:, :-1, 258:])
    noised = rows.clone()
    noised[:, 11:] += torch.randn_like(noised[:, 11:])
    assert torch.equal(told_by_then(noised, PAIR)[:, :11], told_then[:, :11])


def test_no_frame_of_an_online_reaction_reads_a_later_one_of_the_action(online, actor):
    (made,) = online.react([request(actor, 24, text=TEXT)])
    for now in (0, 3, 9, 20):
        noised = actor.clone()
        noised[now + 1 :] += torch.randn_like(noised[now + 1 :])
        noised[now, 66:132], noised[now, 258:] = 9.0, 9.0  # what tells of the step to the frame after
        (other,) = online.react([request(noised, 24, text=TEXT)])
        assert torch.equal(other[: now + 1], made[: now + 1]), now
        assert now >= 20 or not torch.allclose(other[now + 5 :], made[now + 5 :], atol=1e-3)
    whole = tiny()
    (made,), (other,) = (whole.react([request(each, 24)], SHORT) for each in (actor, noised))
    assert not torch.allclose(made[:9], other[:9], atol=1e-4)  # which a reaction to the whole action does


def test_a_stream_makes_four_frames_of_every_four_and_what_is_made_at_once(online, actor):
    (made,) = online.react([request(actor, 24, text=TEXT)])
    pieces = list(online.stream(actor.split(4), Request(TEXT, 0, 3)))
    assert [tuple(piece.shape) for piece in pieces] == [(4, 262)] * 6
    assert torch.allclose(torch.cat(pieces), made, atol=1e-4)
    together = online.react([request(actor.flip(0), 9, 5), request(actor, 24, text=TEXT)])
    assert torch.allclose(together[1], made, atol=1e-4) and together[0].shape == (9, 262)
    with pytest.raises(ValueError, match="1 actions of 1 to 4 frames"):
        next(online.stream([actor[:5]], Request("", 0)))
    with pytest.raises(ValueError, match="as a whole: train one with --preset online"):
        next(tiny().stream([actor[:4]], Request("", 0)))


def test_an_online_reaction_stands_where_its_actor_does(online, actor):
    """Turned and moved, the action is answered by the same reaction, turned and moved."""
    other = moved(actor, replace(PAIR, kind="interhuman_person"), 1.2, (3.0, -2.0))
    (made,), (elsewhere,) = (online.react([request(each, 20)]) for each in (actor, other))
    expected = moved(made, replace(PAIR, kind="interhuman_person"), 1.2, (3.0, -2.0))
    assert torch.allclose(elsewhere[:, :66], expected[:, :66], atol=2e-2)


def test_pieces_are_learnt_after_the_models_own(online):
    given = told(online, batch((16, 16, 16)))
    terms = {before: online.loss(given, replace(draws(), step=torch.Generator().manual_seed(seed)))
             for seed in range(6) for before in [int(torch.randint(2, (1,), generator=torch.Generator().manual_seed(seed)))]}
    assert set(terms) == {0, 1} and {"denoising", "velocity", "semantics", "alignment", "discrimination"} <= terms[0].keys()
    assert all(term.isfinite().all() for each in terms.values() for term in each.values())
    trained = tiny(**ONLINE).train()
    trained.loss(given, draws(progress=0.1))["loss"].backward()
    idle = [name for name, parameter in trained.networks.named_parameters() if parameter.grad is None or not parameter.grad.any()]
    assert not idle


def test_latents_of_the_latest_piece(online):
    given = batch()
    actors, reactions = ([row[:n] for row, n in zip(half, given.lengths.tolist())] for half in given.motion.chunk(2, dim=-1))
    one, other = online.embed_reactions(actors, reactions)
    assert one.shape == other.shape == (3, 8) and one.isfinite().all() and other.isfinite().all()
    longer = online.embed_reactions([torch.cat([actors[0][:1].repeat(9, 1), actors[0]])],
                                    [torch.cat([reactions[0][:1].repeat(9, 1), reactions[0]])])  # fmt: skip
    assert torch.allclose(longer[0][0], one[0], atol=1e-5)
