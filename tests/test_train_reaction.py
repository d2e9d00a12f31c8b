"""The commands `train.train_reaction` and `sample.react` as a user runs them, on a small made-up dataset of two people."""

import tarfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from data_loaders.corpus import Corpus
from data_loaders.features import FeaturesMismatch, Statistics
from data_loaders.interhuman_features import placement
from data_loaders.motion_files import read_results
from model.capabilities import Guidance
from model.checkpoints import from_pretrained, save_pretrained
from model.lsremgm import LSReMGM
from model.lsremgm_config import LSReMGMConfig
from model.reaction_config import PRESETS
from protos.options import parse
from protos.reading import FileError
from sample.react import main as react
from tests.pairs import PAIR, pair_corpus, turned, two_walkers
from tests.shared import shared
from tests.synthetic import bvh_text, walk
from tests.test_train_in2in import PERSON, losses, total
from tests.tiny_people import REACTION_SIZES
from train.reaction_recipe import reaction_recipe
from train.train_autoencoder import AutoencoderOptions
from train.train_autoencoder import run as train_autoencoder
from train.train_reaction import ReactionOptions, run

SIZES = {**REACTION_SIZES, "sampling_steps": 4}
QUICK = ["--device", "cpu", "--no_video"]


@pytest.fixture(scope="module")
def pairs(tmp_path_factory) -> Path:
    return pair_corpus(tmp_path_factory.mktemp("data") / "pairs", train=6, held_out=3)


def options(dataset: Path, folder: Path, **changes) -> ReactionOptions:
    course = {"num_steps": 4, "batch_size": 3, "log_interval": 1, "save_interval": 2, "lr": 0.01}
    return ReactionOptions(save_dir=str(folder), dataset=str(dataset), device="cpu", **{**SIZES, **course, **changes})


@pytest.fixture(scope="module")
def trained(pairs, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("reaction") / "run"
    run(options(pairs, folder, eval_interval=4, sample_interval=4, latent_rise=1.0))
    return folder


def recipe_of(chosen: ReactionOptions, init_from: str = ""):
    return reaction_recipe(Corpus.open(chosen.dataset), chosen, chosen, init_from=init_from)


def test_it_trains_and_goes_on_as_if_it_had_never_stopped(pairs, trained, tmp_path):
    run(options(pairs, tmp_path / "parts", latent_rise=1.0, max_minutes=1e-9))  # stops after the first step
    run(options(pairs, tmp_path / "parts", latent_rise=1.0))
    assert len(total(trained)) == 4 and total(tmp_path / "parts") == total(trained)
    assert {"denoising", "distance_map", "velocity", "semantics", "regularisation", "alignment", "discrimination"} <= losses(
        trained)[0].keys()  # fmt: skip
    assert any("eval/alignment" in row for row in losses(trained))
    model = from_pretrained(trained)
    assert model.features == PAIR and model.config.num_atomic_actions == 5 and model.config.max_frames > 60
    assert model.networks["semantics"].codebook.abs().sum() > 0
    assert (trained / "step_000000004" / "known_texts.npz").is_file()
    videos = sorted(path.name for path in (trained / "samples" / "step_000000004").glob("*.mp4"))
    assert len(videos) == 3 and videos[0].startswith("reaction00_")  # of all motions of the val split


def test_flags_of_ablations_and_presets():
    common = ["--save_dir", "x", "--dataset", "y"]
    chosen = parse(ReactionOptions, [*common, "--preset", "online", "--no_semantics", "--no_alignment"], presets=PRESETS)
    assert (chosen.semantics, chosen.alignment, chosen.regularisation) == (False, False, True)
    assert chosen.online and chosen.in_latents and chosen.resolved().pred_len == 4
    assert chosen.latent_dim == PRESETS["small"]["latent_dim"] and chosen.sampling_steps == 1
    plain = parse(ReactionOptions, common, presets=PRESETS)
    assert (plain.num_steps, plain.weight_decay, plain.diffusion_steps, plain.batch_size) == (500_000, 2e-5, 50, 64)
    assert not plain.online and plain.guidance == Guidance(2.5, action=1.5)
    with pytest.raises(ValueError, match="context_len 10 must be a multiple of pred_len 4"):
        ReactionOptions(save_dir="x", dataset="y", context_len=10, pred_len=4)


def test_an_online_model_trains_goes_on_and_answers_in_time(pairs, tmp_path):
    asked = {"context_len": 8, "pred_len": 4, "rollout": 2, "sampler": "ddim", "sampling_steps": 2, "eval_interval": 4}
    run(options(pairs, tmp_path / "whole", **asked))
    run(options(pairs, tmp_path / "parts", **asked, max_minutes=1e-9))
    run(options(pairs, tmp_path / "parts", **asked))
    assert len(total(tmp_path / "whole")) == 4 and total(tmp_path / "parts") == total(tmp_path / "whole")
    model = from_pretrained(tmp_path / "whole")
    assert model.config.online and model.config.max_frames == 9000
    np.save(tmp_path / "long.npy", walk(400, fps=30.0).astype(np.float32))
    react(["--actor", str(tmp_path / "long.npy"), "--model_path", str(tmp_path / "whole"), "--num_repetitions", "1",
           "--output_dir", str(tmp_path / "made"), *QUICK])  # fmt: skip
    assert read_results(tmp_path / "made").motions[0].joints.shape == (2, 400, 22, 3)


def test_an_online_model_of_latents_trains_goes_on_and_answers_in_time(pairs, tmp_path, capsys):
    alone = pair_corpus(tmp_path / "alone", train=6, held_out=3, features=replace(PAIR, kind="interhuman_person"))
    sizes = {"width": 12, "num_blocks": 1, "fine_width": 8, "num_fine_blocks": 1, "latent_channels": 6}
    train_autoencoder(AutoencoderOptions(
        save_dir=str(tmp_path / "latents"), dataset=str(pairs), strangers=str(alone), causal=True, window_size=16,
        num_steps=2, batch_size=3, log_interval=1, device="cpu", eval_interval=2, **sizes))  # fmt: skip
    own = from_pretrained(tmp_path / "latents")
    assert own.config.causal and own.features == PAIR and not torch.equal(own.network.latent_mean, torch.zeros(6))
    asked = {"context_len": 8, "pred_len": 4, "rollout": 2, "objective": "meanflow", "sampling_steps": 1, "eval_interval": 4,
             "autoencoder": str(tmp_path / "latents")}  # fmt: skip
    run(options(pairs, tmp_path / "whole", **asked))
    run(options(pairs, tmp_path / "parts", **asked, max_minutes=1e-9))
    run(options(pairs, tmp_path / "parts", **asked))
    assert len(total(tmp_path / "whole")) == 4 and total(tmp_path / "parts") == total(tmp_path / "whole")
    assert any("eval/squared_error" in row for row in losses(tmp_path / "whole"))
    model = from_pretrained(tmp_path / "whole")
    state = own.networks.state_dict()
    assert all(torch.equal(value, state[name]) for name, value in model.autoencoder.networks.state_dict().items())
    np.save(tmp_path / "long.npy", walk(50, fps=30.0).astype(np.float32))
    given = ["--actor", str(tmp_path / "long.npy"), "--model_path", str(tmp_path / "whole"), "--num_repetitions", "1", *QUICK]
    react([*given, "--sampling_steps", "4", "--guidance_reaction", "1.8", "--output_dir", str(tmp_path / "made")])
    assert read_results(tmp_path / "made").motions[0].joints.shape == (2, 50, 22, 3)
    with pytest.raises(ValueError, match="sampler: this model samples by MeanFlow"):
        react([*given, "--sampler", "ddim", "--output_dir", str(tmp_path / "other")])
    with pytest.raises(ValueError, match="objective meanflow makes latents: give --autoencoder"):
        run(options(pairs, tmp_path / "a", **{**asked, "autoencoder": ""}))
    with pytest.raises(ValueError, match=r"the autoencoder runs at fps '20.0', the reaction model '30.0'"):
        run(options(pairs, tmp_path / "b", **{**asked, "autoencoder": "checkpoints/starter"}))
    with pytest.raises(ValueError, match="--init_from is for reactions made in frames"):
        run(options(pairs, tmp_path / "c", **asked, init_from=str(tmp_path / "whole")))


def test_either_person_acts_from_the_origin_facing_ahead_and_both_move_as_one(pairs, tmp_path):
    made = recipe_of(options(pairs, tmp_path))
    starts, apart = [], []
    corpus = Corpus.open(pairs)
    for step in range(6):
        batch = made.batch(step, 0, 1)
        for row, name in zip(batch.motion, batch.names):
            people = PAIR.joints(row[:20])
            start = placement(people[0], PAIR.body)
            assert start.origin.abs().max() < 1e-5 and abs(start.facing - 1) < 1e-5
            clip = PAIR.joints(torch.tensor(corpus[corpus.position(name.removesuffix("@mirrored"))][:1]))[:, 0]
            starts.append(float(people[1, 0, 0, 2]))
            apart.append((torch.dist(people[0, 0], people[1, 0]) - torch.dist(clip[0], clip[1])).abs())
    assert max(apart) < 1e-3 and len({round(each, 1) for each in starts}) > 2


def test_it_begins_with_the_weights_of_a_text_to_motion_model(pairs, tmp_path, caplog):
    torch.manual_seed(1)
    settings = {name: value for name, value in SIZES.items() if hasattr(LSReMGMConfig(), name)}
    width = PERSON.width
    prior = LSReMGM(LSReMGMConfig(**settings, features=PERSON, text_dim=384, max_frames=60),
                    Statistics(np.zeros(width, np.float32), np.ones(width, np.float32), PERSON))  # fmt: skip
    save_pretrained(tmp_path / "prior", prior)
    chosen = options(pairs, tmp_path / "run")
    with caplog.at_level("INFO"):
        begun = recipe_of(chosen, str(tmp_path / "prior")).build().networks.state_dict()
    for name, value in prior.networks.state_dict().items():
        assert torch.equal(begun[name], value), name
    assert "denoiser.embed_actor" in caplog.text and "denoiser.layers" not in caplog.text
    with pytest.raises(ValueError, match=r"of another size: give --ff_size 16$"):
        recipe_of(options(pairs, tmp_path / "other", ff_size=24), str(tmp_path / "prior")).build()
    run(options(pairs, tmp_path / "run", init_from=str(tmp_path / "prior"), num_steps=1, save_interval=1))
    again = recipe_of(options(pairs, tmp_path / "run"), str(tmp_path / "prior"))  # goes on: nothing is begun with again
    assert not torch.equal(again.build().networks.state_dict()["denoiser.layers.0.linear1.weight"],
                           prior.networks.state_dict()["denoiser.layers.0.linear1.weight"])  # fmt: skip


def test_what_cannot_be_trained_is_one_line(pairs, trained, tmp_path, capsys):
    persons = pair_corpus(tmp_path / "persons", train=3, held_out=1, features=PERSON)
    with pytest.raises(FeaturesMismatch, match="learnt from two people"):
        run(options(persons, tmp_path / "a"))
    with pytest.raises(FileError, match="holds a model of kind reaction, needed is lsremgm"):
        run(options(pairs, tmp_path / "b", init_from=str(trained)))
    from train.train_lsremgm import main

    with pytest.raises(SystemExit):
        main(["--mode", "reaction", "--save_dir", "x"])
    assert "--mode reaction is a command of its own now: python -m train.train_reaction" in capsys.readouterr().err


# ------------------------------------------------------------------------------------------------------------- sample.react


def test_a_reaction_stands_in_the_actors_world(trained, tmp_path):
    """A file of another rate, turned, moved, on a floor of 1 m: the actor stays as given, the reaction comes along."""
    joints = walk(90, fps=60.0).astype(np.float32)
    np.savez(tmp_path / "plain.npz", joints=joints, fps=60.0)
    np.savez(tmp_path / "moved.npz", joints=(turned(joints, 70, 4.0, -3.0) + [0, 1, 0]).astype(np.float32), fps=60.0)
    found = {}
    for name in ("plain", "moved"):
        react(["--actor", str(tmp_path / f"{name}.npz"), "--model_path", str(trained), "--num_repetitions", "2",
               "--output_dir", str(tmp_path / name), *QUICK])  # fmt: skip
        found[name] = np.load(tmp_path / name / "motions.npz")["motion"].transpose(0, 1, 4, 2, 3)  # (rows, P, T, J, 3)
    assert found["plain"].shape == (2, 2, 45, 22, 3) and not np.allclose(found["plain"][0, 1], found["plain"][1, 1], atol=1e-3)
    np.testing.assert_allclose(found["plain"][:, 0], np.stack([joints[::2]] * 2), atol=1e-5)
    np.testing.assert_allclose(found["moved"], turned(found["plain"], 70, 4.0, -3.0) + [0, 1, 0], atol=2e-3)
    content = np.load(tmp_path / "moved" / "motions.npy", allow_pickle=True).item()
    assert content["action_motion"].shape == (2, 22, 3, 45)
    np.testing.assert_array_equal(content["action_motion"], content["motion"][:, 0])
    results = read_results(tmp_path / "moved")
    assert results.num_repetitions == 2 and results.motions[0].fps == 30 and results.texts == ["", ""]


def test_a_dancer_is_answered_in_video_page_and_joints(trained, tmp_path):
    """A real recording, as it lies."""
    with tarfile.open(shared("data", "two_person", "cmu_salsa.tar.xz")) as archive:
        name = next(each for each in archive.getnames() if each.endswith(".bvh"))
        (tmp_path / "leader.bvh").write_bytes(archive.extractfile(name).read())
    react(["--actor", str(tmp_path / "leader.bvh"), "--text_prompt", "two people dance salsa", "--model_path", str(trained),
           "--html", "--num_repetitions", "1", "--output_dir", str(tmp_path / "made"), "--device", "cpu"])  # fmt: skip
    written = {path.name for path in (tmp_path / "made").rglob("*") if path.is_file()}
    assert {"motions.npy", "motions.npz", "p1.npy", "p2.npy", "prompt00_rep00.mp4", "prompt00.png", "prompt00.html",
            "prompt00_rep00.npy"} <= written  # fmt: skip
    (motion,) = read_results(tmp_path / "made").motions
    assert motion.joints.shape[0] == 2 and np.isfinite(motion.joints).all()
    assert motion.captions == ("two people dance salsa",)


@pytest.mark.parametrize("content, message", [
    (two_walkers(30), "2 persons, this model reads one"),
    (walk(3), "3 frames at 30 per second, an action has at least 4"),
    (walk(30) * np.where(np.arange(30) == 7, np.nan, 1)[:, None, None], "NaN or infinity in frame 7"),
    (walk(30)[:, :21], "21 joints, expected the 22 of humanml"),
    (np.zeros((30, 262)), "a table of features, expected joints"),
    (bvh_text(walk(20)).replace("UpperLeg_L", "Thigh7"), "not named as in any skeleton known"),
    (None, "no such file"),
])  # fmt: skip
def test_an_actor_that_cannot_be_read_is_refused_in_one_line(trained, tmp_path, content, message):
    path = tmp_path / ("actor.bvh" if isinstance(content, str) else "actor.npy")
    if isinstance(content, str):
        path.write_text(content)
    elif content is not None:
        np.save(path, content.astype(np.float32))
    with pytest.raises(ValueError, match=message):
        react(["--actor", str(path), "--model_path", str(trained), "--output_dir", str(tmp_path / "out"), *QUICK])
    assert not (tmp_path / "out").exists()


def test_another_checkpoint_is_refused_and_a_long_actor_is_cut(trained, tmp_path, capsys):
    np.save(tmp_path / "long.npy", walk(200, fps=30.0).astype(np.float32))
    with pytest.raises(FileError, match="holds a model of kind latent, needed is reaction"):
        react(["--actor", str(tmp_path / "long.npy"), "--model_path", "checkpoints/starter", *QUICK])
    longest = from_pretrained(trained).config.max_frames
    react(["--actor", str(tmp_path / "long.npy"), "--model_path", str(trained), "--num_repetitions", "1", "--output_dir",
           str(tmp_path / "cut"), *QUICK])  # fmt: skip
    assert read_results(tmp_path / "cut").motions[0].joints.shape[1] == longest
    assert f"lasts 6.7 s, this model reacts to the first {longest / 30:.1f} s" in capsys.readouterr().err
