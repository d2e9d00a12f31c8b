"""The weights that come with the code make the motions and vectors they always made; recorded on a CPU in float32."""

import numpy as np
import pytest

from model.embedding import open_space
from sample.generation import generate
from tests.synthetic import walk
from tests.tiny_retrieval import features_of

# Pelvis, left and right wrist (frames 0, 20, 40, 59) in metres.
MOTIONS = {
    ("a person waves with both hands", 80, 3): [
        [[0.0000, 0.9352, 0.0000], [0.4578, 1.4196, 0.1124], [-0.3653, 1.3805, 0.1039]],
        [[0.0087, 0.9292, 0.0253], [0.3202, 1.5801, 0.2065], [-0.2582, 1.6026, 0.2179]],
        [[0.0037, 0.9310, 0.0137], [0.3299, 1.5816, 0.1897], [-0.2745, 1.5918, 0.1950]],
        [[-0.0007, 0.9322, 0.0079], [0.4765, 1.5767, 0.0739], [-0.4314, 1.5848, 0.0835]],
    ],
    ("a person jumps", 60, 4): [
        [[0.0000, 0.8363, 0.0000], [0.1569, 0.8401, 0.0846], [-0.1545, 0.8290, 0.1008]],
        [[0.0117, 0.7405, -0.0943], [0.2032, 0.7231, -0.1108], [-0.1711, 0.7451, -0.0933]],
        [[0.0031, 1.0385, 0.7895], [0.2688, 1.0993, 0.7740], [-0.2644, 1.0929, 0.6515]],
        [[0.0012, 0.8228, 1.0777], [0.2106, 0.8295, 1.1471], [-0.1837, 0.8355, 1.1810]],
    ],
}  # fmt: skip
# First six channels of a text's and of a motion's vector, and their lengths.
VECTORS = {
    "checkpoints/tmr": (
        [-0.4704, 1.2176, 1.1603, 0.0079, -0.0274, -0.7197], [-1.1564, 1.2364, -0.9071, 1.5631, 0.7922, -2.3391],
        13.6549, 14.0554,
    ),
    "checkpoints/evaluators/bandai_cmu": (
        [0.3447, 0.5513, -0.3864, 0.5841, -0.1469, 0.3620], [0.2540, 0.4026, 0.0350, 0.2976, -0.3191, 0.3645],
        13.9529, 11.4170,
    ),
}  # fmt: skip


def test_the_starter_makes_the_motions_it_made():
    texts, lengths, seeds = (list(column) for column in zip(*MOTIONS))
    for motion, expected in zip(generate(texts, lengths=lengths, seeds=seeds), MOTIONS.values(), strict=True):
        np.testing.assert_allclose(motion.joints[0][[0, 20, 40, 59]][:, [0, 20, 21]], expected, atol=2e-3)


@pytest.mark.parametrize("folder", VECTORS)
def test_texts_and_motions_have_the_vectors_they_had(folder):
    space = open_space(folder)
    text, motion = space.encode_text(["a person walks forward"])[0], space.encode_motion([features_of(walk(80))])[0]
    of_text, of_motion, long_text, long_motion = VECTORS[folder]
    np.testing.assert_allclose(text[:6], of_text, atol=2e-3)
    np.testing.assert_allclose(motion[:6], of_motion, atol=2e-3)
    np.testing.assert_allclose([np.linalg.norm(text), np.linalg.norm(motion)], [long_text, long_motion], rtol=1e-3)


@pytest.mark.parametrize("folder, mark", [
    ("checkpoints/tmr", "b31b297e11ef1f363590c41e20b11712"),
    ("checkpoints/evaluators/bandai_cmu", "975cc802c24964c6a579e437a741b39a"),
])  # fmt: skip
def test_galleries_made_with_them_still_open(folder, mark):
    assert open_space(folder).fingerprint == mark
