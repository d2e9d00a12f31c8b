"""Weights of two people that come with the code, those of them that are here: how large they are, and what they make."""

from pathlib import Path

import numpy as np
import pytest

from evaluations.interaction_measures import pelvis_distance
from model.capabilities import Decoding, Request
from model.checkpoints import from_pretrained
from model.dualmdm import load_dual, of_one_person
from model.embedding import open_space
from model.registry import CHECKPOINTS
from sample.generation import IN2IN, REACTION, load, motions_for
from sample.reactions import actor_of, reactions_to
from tests.synthetic import walk

LARGEST = {("in2in", "interclip"): 14e6, ("reaction", "reaction_online"): 12e6}  # bytes of their weights together
TEXT = "two people dance salsa"
FEW = Decoding(sampling_steps=10)


def here(folder: Path) -> Path:
    if not folder.is_dir():
        pytest.skip(f"{folder.name} is not among the weights here")
    return folder


@pytest.mark.parametrize("names", LARGEST, ids="-".join)
def test_weights_are_small_and_say_their_terms(names):
    folders = [CHECKPOINTS / name for name in names if (CHECKPOINTS / name).is_dir()]
    if not folders:
        pytest.skip(f"neither {' nor '.join(names)} is among the weights here")
    assert sum(file.stat().st_size for each in folders for file in each.rglob("*.safetensors")) <= LARGEST[names]
    for folder in folders:
        assert "mocap.cs.cmu.edu" in (folder / "README.md").read_text()
        assert not list(folder.rglob("training_state.pt"))


def test_two_dancers_stand_on_the_floor_and_keep_their_distance():
    (motion,) = motions_for(load(here(IN2IN), "cpu"), [Request(TEXT, 120, seed=3)], FEW)
    apart = pelvis_distance(motion.joints)
    assert np.quantile(apart, 0.05) > 0.15 and np.quantile(apart, 0.95) < 4
    lowest = motion.joints[..., 1].min(axis=(1, 2))
    assert np.abs(lowest).max() < 0.15 and 1.2 < motion.joints[:, 0, :, 1].max() < 2.2


def test_one_folder_makes_one_person_and_the_blend_too():
    (one,) = motions_for(of_one_person(here(IN2IN)), [Request("a person walks forward", 60, seed=1)], FEW)
    (both,) = motions_for(load_dual(IN2IN), [Request(TEXT, 60, seed=1)], FEW)
    assert one.joints.shape == (1, 60, 22, 3) and both.joints.shape == (2, 60, 22, 3)
    assert np.isfinite(one.joints).all() and np.isfinite(both.joints).all()


def test_the_judge_reads_what_the_model_makes():
    space, model = open_space(here(CHECKPOINTS / "interclip")), from_pretrained(here(IN2IN))
    space.require(model.features, "the model")


@pytest.mark.parametrize("name", ["reaction", "reaction_online"])
def test_a_reaction_stays_near_its_actor(name):
    model = from_pretrained(here(REACTION.with_name(name)))
    actor = actor_of(walk(60, 0.5, model.features.fps), model.features, model.config.max_frames, "walk")
    (motion,) = reactions_to(model, actor, [Request("", 60, seed=2)])
    apart = pelvis_distance(motion.joints)
    assert apart.min() > 0.1 and apart.max() < 4 and abs(motion.joints[1, ..., 1].min()) < 0.2
