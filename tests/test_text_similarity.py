"""Which captions count as the same: what words keep apart, whatever a sentence encoder says, and what may differ."""

import numpy as np
import pytest

from data_loaders.text_similarity import meaning, meaning_codes
from evaluations.retrieval import Sentences
from model.text_towers import load_text_encoder

DIFFERENT = [
    ("a person raises the left hand", "a person raises the right hand"),
    ("a person kicks with the left leg and waves the right arm", "a person kicks with the right leg and waves the left arm"),
    ("a man waves his left arm and kicks with a leg", "a man waves an arm and kicks with his left leg"),
    ("a person walks forward", "a person walks backward"),
    ("someone looks up", "someone looks down"),
    ("a person walks in a clockwise circle", "a person walks in a counter-clockwise circle"),
    ("a person turns anticlockwise", "a person turns clockwise"),
    ("a person steps to the side", "a person steps back to the side"),
    ("a person walks slowly", "a person walks quickly"),
    ("a person walks", "a person jogs"),
    ("a person takes two steps", "a person takes three steps"),
    ("a person raises a hand", "a person raises both hands"),
    ("a person sits down and then stands up", "a person stands up and then sits down"),
    ("a person moves", "a person doesn't move"),
]
SAME = [
    ("a person walks forward", "The man is walking forwards."),
    ("someone waves with the left hand", "a person waves with their left hand"),
    ("a person turns counterclockwise", "a figure is turning counter clockwise"),
]


@pytest.fixture(scope="module")
def minilm():
    return load_text_encoder("minilm", disk_cache=False)


@pytest.mark.parametrize("pair", DIFFERENT)
def test_sides_directions_and_words_of_content_keep_texts_apart_whatever_the_encoder_says(pair, minilm):
    assert meaning(pair[0]) != meaning(pair[1])
    assert not Sentences(minilm, threshold=0.01).alike(pair)[0, 1]


@pytest.mark.parametrize("pair", SAME)
def test_wordings_of_one_motion_are_alike(pair, minilm):
    assert meaning(pair[0]) == meaning(pair[1])
    assert Sentences(minilm, threshold=0.8).alike(pair).all()


def test_the_encoder_alone_would_take_left_for_right(minilm):
    pair = ["a person waves with the left hand", "a person waves with the right hand"]
    assert Sentences(minilm, duplicates="published").alike(pair).all()
    assert Sentences(minilm, duplicates="words").alike(pair).tolist() == np.eye(2, dtype=bool).tolist()


def test_a_text_is_like_itself_and_codes_know_empty_and_foreign_texts(minilm):
    texts = ["a person walks", "", "一个人走路", "a person walks"]
    assert meaning_codes(texts).tolist() == [0, 1, 2, 0]
    assert Sentences(minilm).alike(texts)[0].tolist() == [True, False, False, True]
