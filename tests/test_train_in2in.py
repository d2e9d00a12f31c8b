"""The command `train.train_in2in` as a user runs it, on a small made-up dataset of two people, and of one."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from data_loaders.corpus import Corpus
from data_loaders.features import FeaturesMismatch
from model.capabilities import Decoding, Request
from model.checkpoints import from_pretrained, read_config
from model.dualmdm import load_dual, of_one_person
from tests.pairs import PAIR, pair_corpus
from tests.test_in2in import published_state
from train.checkpoints import complete, read_training_state
from train.interaction_recipe import Drawing, interaction_recipe
from train.recipe import draws_of
from train.train_in2in import In2INOptions, run

SIZES = {
    "num_layers": 1, "latent_dim": 16, "ff_size": 16, "num_heads": 2, "text_layers": 1, "text_heads": 2, "text_ff_size": 8,
    "diffusion_steps": 20, "sampling_steps": 4, "latest_step": 14,
}  # fmt: skip
PERSON = replace(PAIR, kind="interhuman_person")


@pytest.fixture(scope="module")
def pairs(tmp_path_factory) -> Path:
    return pair_corpus(tmp_path_factory.mktemp("data") / "pairs", train=6, held_out=3)


@pytest.fixture(scope="module")
def persons(tmp_path_factory) -> Path:
    return pair_corpus(tmp_path_factory.mktemp("data") / "persons", train=6, held_out=3, features=PERSON)


def options(dataset: Path, folder: Path, **changes) -> In2INOptions:
    course = {"num_steps": 4, "batch_size": 3, "log_interval": 1, "save_interval": 2, "warmup_steps": 1, "lr": 0.01}
    return In2INOptions(save_dir=str(folder), dataset=str(dataset), device="cpu", **{**SIZES, **course, **changes})


def losses(folder: Path) -> list[dict[str, float]]:
    rows = [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]
    return [{name: value for name, value in row.items() if name not in ("time", "seconds", "samples_per_s")} for row in rows]


def total(folder: Path) -> list[float]:
    return [row["loss"] for row in losses(folder) if "loss" in row]


def test_it_trains_and_goes_on_as_if_it_had_never_stopped(pairs, tmp_path):
    run(options(pairs, tmp_path / "whole", eval_interval=4))
    run(options(pairs, tmp_path / "parts", num_steps=4, max_minutes=1e-9))  # stops after the first step
    run(options(pairs, tmp_path / "parts"))
    assert len(total(tmp_path / "whole")) == 4 and total(tmp_path / "parts") == total(tmp_path / "whole")
    terms = losses(tmp_path / "whole")[0].keys()
    assert {"denoising", "distance_map", "joint_affinity", "orientation", "velocity_1", "bone_length_2"} <= terms
    assert any("eval/distance_map" in row for row in losses(tmp_path / "whole"))
    model = from_pretrained(tmp_path / "whole")
    assert (model.features, model.config.mode, model.config.max_frames > 60) == (PAIR, "interaction", True)
    (made,) = model.generate([Request("two people walk", 20)])
    assert made.shape == (20, 524) and made.isfinite().all()
    assert (tmp_path / "whole" / "step_000000004" / "known_texts.npz").is_file()


def test_few_motions_are_validated_in_several_windows_at_several_levels_of_noise(pairs, tmp_path, monkeypatch):
    asked = options(pairs, tmp_path / "run", eval_interval=1, batch_size=16)
    recipe = interaction_recipe(Corpus.open(pairs), asked, asked, Drawing(window=24))
    model, seen = recipe.build(), []
    monkeypatch.setattr(model, "loss", lambda batch, draws: seen.append(batch) or {"loss": torch.ones(len(batch.motion))})
    assert recipe.evaluate(model, 1) == {"loss": 1.0}
    windows = torch.cat([batch.motion[:, :4].flatten(1) for batch in seen])
    assert len(windows) == 32 and len(windows.unique(dim=0)) > 16 and len({name for batch in seen for name in batch.names}) <= 6


PATCHES = {"patch": 4, "fine_width": 8, "about_pelvis": True, "joints_only": True}


@pytest.mark.parametrize("changes", [{"individual_texts": False}, {"role_mask_prob": 0.3, "lambda_near_joints": 1.0}, PATCHES])
def test_losses_do_not_depend_on_padding(pairs, tmp_path, changes):
    """A batch by itself and among frames of padding."""
    made = interaction_recipe(Corpus.open(pairs), options(pairs, tmp_path, **changes), options(pairs, tmp_path, **changes))
    model, batch = made.build(), made.batch(0, 0, 1)
    longer = replace(batch, motion=torch.nn.functional.pad(batch.motion, (0, 0, 0, 7)),
                     mask=torch.nn.functional.pad(batch.mask, (0, 7)))  # fmt: skip
    for parameter in model.networks.parameters():
        torch.nn.init.normal_(parameter, std=0.1)
    one, other = (model.eval().loss(each, draws_of(3, range(3), "train", 0)) for each in (batch, longer))
    assert one.keys() == other.keys()
    for name in one:
        assert torch.allclose(one[name], other[name], rtol=1e-4, atol=1e-6), name


def test_without_texts_about_each_they_follow_from_those_about_both(tmp_path):
    corpus = pair_corpus(tmp_path / "untold", train=6, held_out=3, told_of_each=False)
    made = interaction_recipe(Corpus.open(corpus), options(corpus, tmp_path), options(corpus, tmp_path))
    batch = made.batch(0, 0, 1)
    assert batch.role_texts["individual1"] == batch.texts
    assert set(batch.text_features) == {"interaction", "individual1", "individual2"}
    run(options(corpus, tmp_path / "run", num_steps=1))


def test_a_prior_of_one_person_and_two_people_made_of_it(persons, pairs, tmp_path):
    run(options(persons, tmp_path / "prior", mode="individual", schedule="constant", warmup_steps=0, eval_interval=2, spread=2.0))
    prior = from_pretrained(tmp_path / "prior")
    assert prior.features == PERSON and total(tmp_path / "prior")[-1] > 0
    assert prior.statistics.std[0] > 0.8 > Corpus.open(persons).statistics.std[0]  # metres, of people who start anywhere
    (alone,) = prior.generate([Request("a person walks", 16, 5)], Decoding(sampling_steps=2))
    assert alone.shape == (16, 262)

    asked = options(pairs, tmp_path / "two", prior=str(tmp_path / "prior"))
    fresh = interaction_recipe(Corpus.open(pairs), asked, asked, prior=prior).build().eval()
    x, t, texts = torch.randn(1, 9, 524), torch.tensor([7]), torch.randn(1, 3, 384)
    with torch.no_grad():
        made = fresh.networks["denoiser"](x, t, texts)
        for person, rows in enumerate(x.chunk(2, -1)):  # at first the partner is not looked at
            each = prior.networks["denoiser"](rows, t, texts[:, [person + 1]])
            assert torch.allclose(made.chunk(2, -1)[person], each, atol=1e-5)
    run(asked)
    before, after = prior.networks.state_dict(), from_pretrained(tmp_path / "two").networks.state_dict()
    changed = {name for name, value in fresh.networks.state_dict().items() if not torch.equal(value, after[name])}
    assert changed and not changed & before.keys()
    two = from_pretrained(tmp_path / "two")
    assert np.allclose(two.statistics.mean, np.tile(prior.statistics.mean, 2))
    (held,) = two.prior().generate([Request("a person walks", 16, 5)], Decoding(sampling_steps=2))
    assert two.config.made_of_prior == two.prior().config.dataset == persons.name and torch.equal(held, alone)
    assert load_dual(tmp_path / "two").individual.config.mode == of_one_person(tmp_path / "two").config.mode == "individual"


def test_in_patches_two_people_are_made_of_a_prior_too(persons, pairs, tmp_path):
    run(options(persons, tmp_path / "prior", mode="individual", spread=1.5, body_losses=True, **PATCHES))
    assert {"denoising", "velocity", "bone_length", "foot_contact", "loss"} <= losses(tmp_path / "prior")[0].keys()
    prior = from_pretrained(tmp_path / "prior")
    places = prior.features.blocks["positions"]
    of_place, of_joints = prior.statistics.std[places][[0, 2]], prior.statistics.std[places][3:].reshape(-1, 3)[:, ::2]
    assert of_place.min() > 0.2 and np.median(of_joints) < 0.2  # metres: a third of how far they stand about; joints about them
    with pytest.raises(ValueError, match="--prior has patch 4, this model 1: give --patch 4"):
        run(options(pairs, tmp_path / "frames", prior=str(tmp_path / "prior")))
    run(options(pairs, tmp_path / "two", prior=str(tmp_path / "prior"), **PATCHES))
    two = from_pretrained(tmp_path / "two")
    (alone,) = prior.generate([Request("a person walks", 15, 5)], Decoding(sampling_steps=2))
    (held,) = two.prior().generate([Request("a person walks", 15, 5)], Decoding(sampling_steps=2))
    assert alone.shape == (15, 66) and torch.equal(held, alone)


def test_low_rank_additions_are_of_the_two_alone(persons, pairs, tmp_path):
    run(options(persons, tmp_path / "prior", mode="individual", **PATCHES))
    prior = from_pretrained(tmp_path / "prior")
    asked = options(pairs, tmp_path / "two", prior=str(tmp_path / "prior"), prior_rank=2, **PATCHES)
    fresh = interaction_recipe(Corpus.open(pairs), asked, asked, prior=prior).build().eval()
    x, t, texts = torch.randn(1, 9, 132), torch.tensor([7]), torch.randn(1, 3, 384)
    with torch.no_grad():
        first = fresh.networks["denoiser"](x, t, texts)
        alone = prior.networks["denoiser"](x[..., :66], t, texts[:, [1]])
    assert torch.allclose(first[..., :66], alone, atol=1e-5)  # at first nothing is added
    run(asked)
    two, held = from_pretrained(tmp_path / "two"), prior.networks.state_dict()
    now = two.networks.state_dict()
    assert all(torch.equal(now[name], value) for name, value in held.items())
    added = {name for name in now if ".more." in name}
    learned = {name for name in added if name.endswith("up.weight") and now[name].any()}
    assert {name.split(".")[1] for name in learned} >= {"input_projection", "layers", "output_projection"}
    assert not any("cross_attention" in name or "partner" in name for name in added)
    assert two.prior().networks.state_dict().keys() == held.keys()
    run(options(pairs, tmp_path / "freed", prior=str(tmp_path / "prior"), prior_rank=2, prior_stays=False, lr=1e-5, **PATCHES))
    freed = from_pretrained(tmp_path / "freed")
    moved = {name: (freed.networks.state_dict()[name] - value).abs().max().item() for name, value in held.items()}
    assert freed.prior() is None and freed.config.prior_rank == 0
    assert max(moved.values()) < 1e-3 and sum(map(bool, moved.values())) > len(moved) / 2  # begun with it, all of it learns
    run(options(pairs, tmp_path / "plain", prior_rank=2, num_steps=1, **PATCHES))  # without a prior there is nothing to add to
    assert from_pretrained(tmp_path / "plain").config.prior_rank == 0


def test_windows_are_no_longer_than_asked(pairs, tmp_path):
    asked = options(pairs, tmp_path / "run", window=20)
    recipe = interaction_recipe(Corpus.open(pairs), asked, asked, Drawing(window=asked.window))
    assert recipe.build().config.max_frames == 20 and recipe.batches(0, 0, 1).motion.shape[1] == 20


def test_published_weights_are_trained_on_with_their_own_tower(pairs, tmp_path):
    state = published_state(("interaction",))
    torch.save(state, tmp_path / "published.pt")
    run(options(pairs, tmp_path / "run", resume_checkpoint=str(tmp_path / "published.pt"), num_layers=2, ff_size=24, num_heads=8,
                text_heads=8, num_steps=1, lr=1e-9, use_ema=False))  # fmt: skip
    trained = read_training_state(complete(tmp_path / "run")[-1])["networks"]
    assert torch.allclose(trained["denoiser.input_projection.weight"], state["decoder.net_interaction.motion_embed.weight"])
    config = read_config(tmp_path / "run")[1]
    assert (config.text_encoder, config.text_padded, config.text_dim) == ("clip-l14-336", True, 64)


def test_what_cannot_be_trained_is_one_line(persons, pairs, tmp_path):
    with pytest.raises(FeaturesMismatch, match="mode interaction makes motions of 2"):
        run(options(persons, tmp_path / "a"))
    with pytest.raises(FeaturesMismatch, match="mode individual makes motions of 1"):
        run(options(pairs, tmp_path / "b", mode="individual"))
    with pytest.raises(ValueError, match="belongs to --mode interaction"):
        options(persons, tmp_path / "c", mode="individual", prior="somewhere")
    with pytest.raises(ValueError, match="belongs to --mode individual"):
        options(pairs, tmp_path / "d", spread=1.0)
