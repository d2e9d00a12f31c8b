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
        [[0.0, 0.9130, 0.0], [0.3331, 0.8888, 0.0903], [-0.3165, 0.9015, 0.0937]],
        [[-0.0065, 0.9136, 0.0028], [0.3009, 1.5943, 0.1962], [-0.3047, 1.6100, 0.1993]],
        [[-0.0088, 0.9136, -0.0115], [0.5610, 1.5237, 0.0403], [-0.5302, 1.5564, 0.0714]],
        [[-0.0088, 0.9151, -0.0413], [0.3993, 1.5680, 0.1147], [-0.3878, 1.5967, 0.1274]],
    ],
    ("a person runs and turns left", 60, 4): [
        [[0.0, 0.8695, 0.0], [0.2384, 0.8525, -0.1355], [-0.2487, 0.8618, 0.2296]],
        [[0.2431, 0.9431, 2.3453], [0.5634, 1.0593, 2.6315], [-0.0691, 1.0132, 2.0845]],
        [[1.3508, 0.9269, 4.2772], [1.2078, 1.0676, 3.8481], [1.4743, 1.0697, 4.6155]],
        [[3.2076, 0.8785, 4.7708], [2.9210, 0.9163, 4.4649], [3.4407, 0.9058, 4.9753]],
    ],
}  # fmt: skip
# First six channels of a text's and of a motion's vector, and their lengths.
VECTORS = {
    "checkpoints/tmr": (
        [-0.2838, 2.0304, 1.0641, 1.0403, 1.3492, -0.0252], [-0.7307, -0.3410, -0.0846, 1.1826, -0.6662, -2.7481],
        13.6171, 14.0745,
    ),
    "checkpoints/evaluators/bandai_namco": (
        [0.0559, 0.2047, 0.7824, 0.1764, 0.9380, 0.9435], [0.0111, 0.5682, 1.6770, 0.1673, -0.6647, 0.8482], 17.6805, 13.5088,
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
    ("checkpoints/tmr", "bb896c3c4c8ff09259ae18c080a67685"),
    ("checkpoints/evaluators/bandai_namco", "1b8dfcd34ea46f5007c68bfb32264288"),
])  # fmt: skip
def test_galleries_made_with_them_still_open(folder, mark):
    assert open_space(folder).fingerprint == mark
