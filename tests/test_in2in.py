"""Two people: what the denoisers, guidance, the blend with a one-person prior and their checkpoints hold to."""

import re
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor

from data_loaders.features import Features, FeaturesMismatch, Statistics
from diffusion.guidance import blend_share, blended, held, pass_weights, weighted
from model.capabilities import Decoding, Guidance, Request
from model.checkpoints import from_pretrained, save_pretrained
from model.dualmdm import DualMDM
from model.in2in import In2IN, guidance_of
from model.in2in_config import In2INConfig
from model.individual_texts import individual_texts
from model.lsremgm_sampling import LengthError
from model.official.in2in import in2in_name
from protos.reading import FileError

TINY = {
    "latent_dim": 16, "ff_size": 24, "num_layers": 3, "num_heads": 2, "text_layers": 1, "text_heads": 2, "text_ff_size": 8,
    "text_dim": 384, "max_frames": 24, "dropout": 0.0,
}  # fmt: skip
SHORT = Decoding(sampler="ddim", sampling_steps=3)
TEXTS = ("a person steps forward", "a person turns")
TOGETHER = "two people shake hands"


def tiny(seed: int = 0, scale: float = 1.0, shift: float = 0.0, **settings) -> In2IN:
    """A model with random weights (as made, it would answer zero), whose columns are `scale` apart about `shift`."""
    one = settings.get("mode") == "individual"
    features = Features("humanml", 30.0, "continuous", "interhuman_person" if one else "interhuman")
    width = features.persons * features.width
    statistics = Statistics(np.full(width, shift, np.float32), np.full(width, scale, np.float32), features)
    torch.manual_seed(seed)
    model = In2IN(In2INConfig(**{**TINY, "features": features, **settings}), statistics)
    for parameter in model.networks.parameters():
        torch.nn.init.normal_(parameter, std=0.15)
    return model.eval()


WAYS = {"frames": {}, "patches": {"patch": 4, "about_pelvis": True},
        "joints": {"patch": 4, "about_pelvis": True, "joints_only": True}}  # fmt: skip


@pytest.fixture(scope="module", params=WAYS.values(), ids=WAYS)
def both(request) -> In2IN:
    return tiny(**request.param)


@pytest.fixture(scope="module")
def prior(both) -> In2IN:
    return tiny(1, mode="individual", joints_only=both.config.joints_only)


def request(frames: int = 12, seed: int = 3, text: str = TOGETHER, texts: tuple[str, str] | None = TEXTS) -> Request:
    return Request(text, frames, seed, individual_texts=texts)


class Rows:
    """How many rows the denoiser of a model is asked for at every call, while `with` lasts."""

    def __init__(self, model: In2IN):
        self.network, self.counts = model.networks["denoiser"], []

    def __enter__(self) -> list[int]:
        self.hook = self.network.register_forward_pre_hook(lambda _, given: self.counts.append(len(given[0])))
        return self.counts

    def __exit__(self, *_: object) -> None:
        self.hook.remove()


def exchanged(rows: Tensor) -> Tensor:
    return torch.cat(rows.chunk(2, dim=-1)[::-1], dim=-1)


# --------------------------------------------------------------------------------------------------------------- two people


@torch.no_grad()
def test_exchanging_people_and_their_texts_exchanges_the_result(both):
    x, t = torch.randn(2, 9, both.num_channels), torch.tensor([900, 40])
    texts, mask = torch.randn(2, 3, 384), torch.arange(9) < torch.tensor([[9], [5]])
    network = both.networks["denoiser"]
    turned = network(exchanged(x), t, texts[:, [0, 2, 1]], mask)
    assert torch.allclose(exchanged(turned), network(x, t, texts, mask), atol=1e-5)
    assert not torch.allclose(network(exchanged(x), t, texts, mask), turned, atol=1e-2)  # the texts belong to the people


@torch.no_grad()
def test_who_comes_first_is_told_where_it_is_asked_for(both):
    told = tiny(tell_first=True, **{name: getattr(both.config, name) for name in ("patch", "about_pelvis", "joints_only")})
    x, t, texts = torch.randn(2, 9, told.num_channels), torch.tensor([900, 40]), torch.randn(2, 1, 384).expand(-1, 3, -1)
    for model, alike in ((both, True), (told, False)):
        network = model.networks["denoiser"]
        made, turned = network(x, t, texts), exchanged(network(exchanged(x), t, texts))
        assert torch.allclose(made, turned, atol=1e-5) == alike
    with pytest.raises(ValueError, match="tell_first is said of a model of two people"):
        tiny(mode="individual", tell_first=True)


@torch.no_grad()
def test_each_reads_the_partner_and_only_real_frames(both):
    network = both.networks["denoiser"]
    x, t, texts = torch.randn(1, 9, both.num_channels), torch.tensor([500]), torch.randn(1, 3, 384)
    mask = torch.arange(9)[None] < 6
    made = network(x, t, texts, mask)
    other = x.clone()
    one = both.columns.stop
    other[:, :6, one:] += 1  # person 2 alone
    assert not torch.allclose(network(other, t, texts, mask)[:, :6, :one], made[:, :6, :one], atol=1e-3)
    beyond = x.clone()
    beyond[:, 6:] += 1
    assert torch.allclose(network(beyond, t, texts, mask)[:, :6], made[:, :6], atol=1e-6)
    assert torch.allclose(network(x[:, :6], t, texts), made[:, :6], atol=1e-5)


@torch.no_grad()
def test_a_query_may_attend_to_nothing(both):
    """One more key and value, both zero: as torch's own layer with add_zero_attn."""
    own = both.networks["denoiser"].layers[0].self_attention
    torchs = torch.nn.MultiheadAttention(16, 2, add_zero_attn=True, batch_first=True).eval()
    torchs.load_state_dict({"in_proj_weight": own.qkv.weight, "in_proj_bias": own.qkv.bias, "out_proj.weight": own.out.weight,
                            "out_proj.bias": own.out.bias})  # fmt: skip
    x, keep = torch.randn(2, 7, 16), torch.arange(7) < torch.tensor([[7], [1]])
    assert torch.allclose(own(x, keep=keep), torchs(x, x, x, key_padding_mask=~keep)[0], atol=1e-5)
    assert torch.allclose(own(x[:, :1], x[:, :1]), torchs(x[:, :1], x[:, :1], x[:, :1])[0], atol=1e-5)


def test_a_motion_does_not_depend_on_its_neighbours(both):
    requests = [request(12), request(24, 4), request(7, 5, texts=None)]
    together = both.generate(requests, SHORT)
    assert [len(each) for each in together] == [12, 24, 7]
    for each, made in zip(requests, together, strict=True):
        assert torch.allclose(both.generate([each], SHORT)[0], made, atol=1e-4)


def test_seed_and_texts_make_a_motion(both):
    made = both.generate([request(), request(), request(seed=4), request(texts=TEXTS[::-1]), request(text="they fight")], SHORT)
    assert torch.equal(made[0], made[1])
    assert all((each - made[0]).abs().max() > 1e-3 for each in made[2:])


def test_passes_that_count_nothing_are_left_out(both):
    for asked, rows in ((Guidance(3.0, 3.0, 1.0), 4), (None, 4), (Guidance(2.0, 0.0, 1.0), 3), (2.5, 2), (1.0, 1), (0.0, 1)):
        with Rows(both) as counts:
            both.generate([request(), request()], replace(SHORT, guidance_scale=asked))
        assert counts == [2 * rows] * 3


@torch.no_grad()
def test_guidance_weighs_each_role(both):
    x, t, texts = torch.randn(1, 5, both.num_channels), torch.tensor([300]), torch.randn(1, 3, 384)

    def answer(*shown: int) -> Tensor:
        return both.networks["denoiser"](x, t, texts * torch.tensor(shown)[:, None])

    nothing = answer(0, 0, 0)
    by_hand = (nothing + 3 * (answer(1, 1, 1) - nothing) + 2 * (answer(1, 0, 0) - nothing) - (answer(0, 1, 1) - nothing))
    assert torch.allclose(both.guided(texts, None, Guidance(3.0, 2.0, -1.0))(x, t), by_hand, atol=1e-4)


def test_every_sampler_makes_two_people(both):
    for sampler in ("ddpm", "ddim", "plms", "dpmpp"):
        (made,) = both.generate([request()], Decoding(sampler=sampler, sampling_steps=4))
        assert made.shape == (12, both.num_channels) and made.isfinite().all()
        whole = both.completed(made)
        assert whole.shape == (12, 524)
        assert torch.allclose(both.features.joints(whole), both.features.joints(made), atol=1e-6)
    if both.config.joints_only:  # what follows from them is what is measured of such joints
        steps = both.features.joints(made).diff(dim=1)[1]
        assert torch.allclose(whole[:-1, 328:394], steps.flatten(-2), atol=1e-6)


def test_what_is_given_of_one_person_stays(both):
    """Reaction: person 1 is given, person 2 is made."""
    motion = torch.randn(12, 524)
    keep = torch.zeros(12, 524, dtype=torch.bool)
    keep[:, :262] = True
    (made,) = both.generate([replace(request(), motion=motion, keep=keep)], SHORT)
    one, motion = both.columns.stop, both.kept_columns(motion)
    assert torch.allclose(made[:, :one], motion[:, :one], atol=1e-5) and not torch.allclose(made[:, one:], motion[:, one:])


def test_what_it_cannot_make_is_refused(both, prior):
    with pytest.raises(LengthError, match=r"1 to 24 .* not 25"):
        both.generate([request(25)], SHORT)
    with pytest.raises(ValueError, match="without"):
        prior.generate([request()], SHORT)
    with pytest.raises(ValueError, match="finite"):
        both.generate([request()], Decoding(guidance_scale=float("nan")))
    with pytest.raises(FeaturesMismatch, match="mode individual makes motions of 1"):
        tiny(mode="individual", features=both.features)


def test_texts_about_each_follow_from_the_text_about_both():
    assert individual_texts("One person spins while the other claps") == ("a person spins", "a person claps")
    assert individual_texts("two people dance") == ("two people dance", "two people dance")


def test_strengths_of_a_model_without_individual_texts():
    intergen, never = tiny(individual_texts=False), tiny(individual_texts=False, cond_mask_prob=0.0)
    assert guidance_of(intergen, Decoding()).together == 3.5 and guidance_of(never, Decoding(2.0)).together == 1.0
    with Rows(intergen) as counts:
        intergen.generate([request(texts=None)], SHORT)
    assert counts == [2] * 3


# -------------------------------------------------------------------------------------------------------- guidance and blends


def test_pass_weights_sum_to_one_and_leave_out_what_counts_nothing():
    assert pass_weights([3, 3, 1]) == {0: -6, 1: 3, 2: 3, 3: 1}
    assert pass_weights([1]) == {1: 1} and pass_weights([0, 0]) == {0: 1}
    answers = torch.tensor([[1.0], [10.0], [100.0]])
    assert weighted(lambda x, t: answers, [0.5, 2, 1])(torch.zeros(1, 1), torch.zeros(1)).item() == 120.5


def test_blend_shares_at_known_steps():
    t = torch.tensor([0, 500, 1000])
    assert blend_share("exp", 0.0085, t)[2] == 1 and blend_share("exp", 0.0085, t)[0] < 3e-4
    assert torch.allclose(blend_share("exp-inv", 0.01, t), 1 - blend_share("exp", 0.01, t))
    assert blend_share("lin", 0.0, t).tolist() == [0, 0.5, 1] and blend_share("const", 0.3, t).tolist() == [0.3] * 3


def test_a_blend_goes_from_one_denoiser_to_the_other():
    x, t = torch.randn(2, 4, 6), torch.tensor([10, 20])
    made = blended(lambda x, t: x, lambda x, t, x0: -x0, lambda t: torch.tensor([0.0, 0.5]))(x, t)
    assert torch.equal(made[0], x[0]) and not made[1].any()


def test_held_columns_are_seen_as_given_at_every_step():
    given, x = torch.full((1, 4, 3), 7.0), torch.zeros(1, 4, 3)
    assert held(lambda x, t: x, given, (0, 2))(x, torch.zeros(1)).tolist() == [[[7, 0, 7]] * 4] and not x.any()


# ------------------------------------------------------------------------------------------------------------------- DualMDM


def test_a_blend_without_a_share_of_the_prior_is_the_model_of_two(both, prior):
    dual = DualMDM.of(both, prior, blend="const", blend_value=0.0)
    with Rows(prior) as counts:
        (made,) = dual.generate([request()], SHORT)
    assert not counts
    plain = replace(SHORT, guidance_scale=3.5)
    assert torch.allclose(made, both.generate([request()], plain)[0], atol=1e-5)


def test_a_prior_alone_makes_each_person_by_its_own_text(both, prior):
    dual = DualMDM.of(both, prior, blend="const", blend_value=1.0, convert=False)
    condition = [prior.condition_of([Request(text, 1)]) for text in TEXTS]
    x, t = torch.randn(1, 8, both.num_channels), torch.tensor([700])
    with torch.no_grad():
        made = dual.blended(torch.zeros(1, 3, 384), condition, None, Guidance(interaction=3.5, individual=2.5))(x, t)
        for person, rows in enumerate(made.chunk(2, dim=-1)):
            alone = prior.guided(condition[person], None, Guidance(2.5, 0.0, 0.0))(x.chunk(2, dim=-1)[person], t)
            assert torch.allclose(rows, alone, atol=1e-5)


def test_the_published_blend_brings_person_2_through_the_last_layer_only(both, prior):
    right, released = (DualMDM.of(both, prior, convert=False, person2_layers=layers) for layers in ("all", "last"))
    one, other = (dual.generate([request()], SHORT)[0] for dual in (right, released))
    assert (one - other).abs().max() > 1e-3
    x, t, nothing = torch.randn(1, 8, both.num_channels), torch.tensor([999]), torch.zeros(1, 1, 384)
    with torch.no_grad():
        one, other = (dual.of_each([nothing, nothing], None, Guidance(1.0, 0.0, 0.0))(x, t) for dual in (right, released))
    first = both.columns.stop
    assert torch.allclose(one[..., :first], other[..., :first], atol=1e-5)
    assert not torch.allclose(one[..., first:], other[..., first:], atol=1e-3)


def test_each_part_of_a_blend_is_told_of_the_motion_in_its_own_normalisation():
    """The same prior, of data four times as widely spread, makes the same metres; what means something else in it stays out."""
    both, prior = tiny(0, scale=1.0, shift=0.5), tiny(1, scale=4.0, shift=-2.0, mode="individual")
    dual, seen = DualMDM.of(both, prior), []
    x0, t = torch.randn(1, 6, 524), torch.tensor([0])

    def second(x: Tensor, _: Tensor) -> Tensor:
        seen.append(x)
        return x

    made = dual.converted(second, x0, t, x0)  # without noise, x is the motion itself
    in_metres = prior.denormalise(seen[0].unflatten(-1, (2, -1))).flatten(-2)
    assert torch.allclose(in_metres, both.denormalise(x0), atol=0.05)
    assert torch.allclose(made, x0, atol=0.05)
    made = dual.converted(lambda x, t: torch.zeros_like(x), x0, t, x0)
    assert torch.allclose(both.denormalise(made)[..., :132], torch.tensor(-2.0), atol=1e-5)
    assert torch.equal(made[..., 132:262], x0[..., 132:262]) and torch.equal(made[..., 394:], x0[..., 394:])
    alike = DualMDM.of(tiny(0), tiny(1, mode="individual"))
    x = torch.randn(1, 6, 524)
    assert torch.equal(alike.converted(lambda x, t: x, x, torch.tensor([600]), x0)[..., :132], x[..., :132])


def test_parts_that_do_not_belong_together_are_refused(both, prior):
    with pytest.raises(ValueError, match="not interaction and interaction"):
        DualMDM.of(both, both)
    with pytest.raises(ValueError, match="same diffusion"):
        DualMDM.of(both, tiny(mode="individual", diffusion_steps=50, joints_only=both.config.joints_only))
    with pytest.raises(ValueError, match="same columns"):
        DualMDM.of(both, tiny(mode="individual", joints_only=not both.config.joints_only))


# ----------------------------------------------------------------------------------------------------------------- checkpoints


def test_a_checkpoint_alone_is_enough(both, prior, tmp_path):
    for name, model in (("both", both), ("prior", prior), ("dual", DualMDM.of(both, prior))):
        save_pretrained(tmp_path / name, model)
        again = from_pretrained(tmp_path / name)
        asked = [request(texts=None)]
        assert again.config == model.config and torch.allclose(again.generate(asked, SHORT)[0], model.generate(asked, SHORT)[0])
    assert {each.name for each in (tmp_path / "dual" / "parts").iterdir()} == {"interaction", "individual"}


LAYERS, CHANNELS, TEXT = 2, 16, 64


def published_state(kinds: tuple[str, ...]) -> dict[str, Tensor]:
    """Random weights under published names, with a small text tower of CLIP."""
    state = {}
    for kind in kinds:
        one = kind == "individual"
        config = In2INConfig(
            mode="individual" if one else "interaction", individual_texts=kind == "interaction", num_layers=LAYERS, ff_size=24,
            latent_dim=CHANNELS, text_layers=1, text_ff_size=8, text_dim=TEXT, features=tiny(mode="individual").features if one
            else tiny().features,
        )  # fmt: skip
        torch.manual_seed(len(state))
        made = {in2in_name(name, kind): 0.1 * torch.randn_like(value)
                for name, value in In2IN(config).networks.state_dict().items()}  # fmt: skip
        network = next(name.rpartition("motion_embed")[0] for name in made if "motion_embed" in name)
        state |= made | {f"{network}sequence_pos_encoder.pe": torch.zeros(5000, CHANNELS)}
        if one:
            state[f"{network}blocks.0.ca_block.norm.emb_layers.1.bias"] = torch.zeros(2 * CHANNELS)
    layer = "clip_transformer.resblocks.0."
    shapes = {
        "token_embedding.weight": (49408, TEXT), "positional_embedding": (77, TEXT), "ln_final.weight": (TEXT,),
        "ln_final.bias": (TEXT,), f"{layer}attn.in_proj_weight": (3 * TEXT, TEXT), f"{layer}attn.in_proj_bias": (3 * TEXT,),
        f"{layer}attn.out_proj.weight": (TEXT, TEXT), f"{layer}attn.out_proj.bias": (TEXT,), f"{layer}ln_1.weight": (TEXT,),
        f"{layer}ln_1.bias": (TEXT,), f"{layer}mlp.c_fc.weight": (4 * TEXT, TEXT), f"{layer}mlp.c_fc.bias": (4 * TEXT,),
        f"{layer}mlp.c_proj.weight": (TEXT, 4 * TEXT), f"{layer}mlp.c_proj.bias": (TEXT,), f"{layer}ln_2.weight": (TEXT,),
        f"{layer}ln_2.bias": (TEXT,),
    }  # fmt: skip
    return state | {name: 0.1 * torch.randn(shape) for name, shape in shapes.items()}


def as_lightning(state: dict[str, Tensor]) -> dict[str, object]:
    return {"state_dict": {f"model.{name}": value for name, value in state.items()}, "epoch": 3, "callbacks": {}}


def test_published_files_are_told_by_their_keys_whatever_their_names(tmp_path):
    torch.save(as_lightning(published_state(("intergen",))), tmp_path / "x.ckpt")
    torch.save(published_state(("interaction",)), tmp_path / "epoch=9-step=20.pt")
    (tmp_path / "prior").mkdir()
    torch.save(published_state(("individual",)), tmp_path / "prior" / "epoch=9-step=20.pt")
    torch.save(as_lightning(published_state(("individual",))), tmp_path / "prior" / "epoch=9-step=3.ckpt")
    intergen, both, prior = (from_pretrained(tmp_path / name) for name in ("x.ckpt", "epoch=9-step=20.pt", "prior"))
    assert intergen.config.text_roles == ("interaction",) and both.config.text_roles[2] == "individual2"
    assert prior.config.mode == "individual"
    assert (both.config.num_layers, both.config.latent_dim, both.config.ff_size, both.features.fps) == (LAYERS, CHANNELS, 24, 30)
    assert not torch.equal(both.mean, prior.mean.repeat(2))  # each has its own published statistics
    (made,) = both.generate([request(20)], Decoding(sampling_steps=2))  # its texts are read by the tower that came with it
    assert made.shape == (20, 524) and made.isfinite().all()


def test_a_tower_that_comes_with_weights_reads_all_77_tokens(tmp_path):
    torch.save(published_state(("interaction",)), tmp_path / "a.pt")
    features = from_pretrained(tmp_path / "a.pt").encode_text(["two people bow", "they hug"])
    assert features.tokens.shape == (2, 77, TEXT) and features.ids.argmax(1).tolist() == [4, 3]
    assert features.ids[0, :5].tolist()[0] == 49406 and not features.ids[1, 4:].any()


def test_a_published_file_that_lacks_a_tensor_is_refused_by_its_name(tmp_path):
    state = published_state(("interaction",))
    lost = "decoder.net_interaction.blocks.1.ca_block.attention.out_proj.bias"
    del state[lost]
    torch.save(state, tmp_path / "a.pt")
    with pytest.raises(FileError, match=re.escape(lost)):
        from_pretrained(tmp_path / "a.pt")


def test_a_file_of_both_denoisers_is_the_published_blend(tmp_path):
    state = published_state(("individual", "interaction"))
    state |= {"decoder.cfg_model.model.x": torch.zeros(1)}  # what sampling leaves in a saved module
    torch.save(state, tmp_path / "dual.pt")
    model = from_pretrained(tmp_path / "dual.pt")
    assert isinstance(model, DualMDM) and (model.config.convert, model.config.person2_layers) == (False, "last")


# -------------------------------------------------------------------------------------------------- sampling, as a user does it


def test_two_people_reach_one_video(both, prior, tmp_path):
    from sample.interact import main
    from train.export import main as export

    save_pretrained(tmp_path / "both", both)
    save_pretrained(tmp_path / "prior", prior)
    told = ["--text_interaction", TOGETHER, "--motion_length", "0.5", "--sampling_steps", "2", "--num_repetitions", "1",
            "--seed", "4", "--device", "cpu", "--html"]  # fmt: skip
    pair = ["--text_individual1", TEXTS[0], "--text_individual2", TEXTS[1]]
    main([*told, *pair, "--model_path", str(tmp_path / "both"), "--output_dir", str(tmp_path / "two")])
    joints = np.load(tmp_path / "two" / "joints" / "prompt00_rep00.npy")
    assert joints.shape == (2, 15, 22, 3)
    assert np.load(tmp_path / "two" / "p2.npy", allow_pickle=True).item()["motion"].shape == (1, 22, 3, 15)
    for name in ("prompt00_rep00.mp4", "prompt00.html", "prompt00.png"):
        assert (tmp_path / "two" / name).stat().st_size > 1000
    blend = [*told, *pair, "--mode", "dual", "--no_video"]
    main([*blend, "--model_path", str(tmp_path / "both"), "--individual_path", str(tmp_path / "prior"), "--output_dir",
          str(tmp_path / "blend")])  # fmt: skip
    export(["--checkpoint", str(tmp_path / "both"), "--individual_path", str(tmp_path / "prior"), "--output",
            str(tmp_path / "whole"), "--no_half"])  # fmt: skip
    main([*blend, "--model_path", str(tmp_path / "whole"), "--output_dir", str(tmp_path / "again")])
    first, again = (np.load(tmp_path / name / "joints" / "prompt00_rep00.npy") for name in ("blend", "again"))
    assert np.allclose(first, again, atol=1e-5) and not np.allclose(first, joints, atol=1e-3)
    main([*told, "--mode", "individual", "--model_path", str(tmp_path / "whole"), "--output_dir", str(tmp_path / "one")])
    assert np.load(tmp_path / "one" / "joints" / "prompt00_rep00.npy").shape == (15, 22, 3)


@pytest.mark.parametrize(("told", "why"), [
    (["--text_individual1", "a person waves"], "both --text_individual1 and --text_individual2"),
    (["--mode", "individual"], "mode interaction that was not made of one of mode individual"),
    (["--mode", "dual"], r"was not made of one of mode individual .* \(--individual_path\)"),
    (["--blend", "lin"], "belongs to --mode dual"),
])  # fmt: skip
def test_what_cannot_be_asked_for_is_one_line(both, tmp_path, told, why):
    from sample.interact import main

    save_pretrained(tmp_path / "both", both)
    with pytest.raises(ValueError, match=why):
        main(["--text_interaction", TOGETHER, "--model_path", str(tmp_path / "both"), "--device", "cpu", "--output_dir",
              str(tmp_path / "made"), *told])  # fmt: skip
    assert not (tmp_path / "made").exists()
