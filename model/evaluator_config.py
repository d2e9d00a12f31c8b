"""The settings of the evaluator and of the length estimator: the flags of their training, and their config.json.

Defaults are those of HumanML3D's evaluator (Guo et al. 2022).
"""

from dataclasses import dataclass
from typing import Annotated, Literal

from data_loaders.features import HUMANML3D, Features
from data_loaders.text import TaggerName
from protos.flags import CHANNELS, Range, check_bounds, decided

NUM_POS_CLASSES, WORD_DIM = 15, 300  # of the published words: parts of speech, and numbers of a GloVe vector
UNIT_LENGTH = 4  # frames per movement latent
LENGTH_CLASSES = 50  # lengths that the estimator tells apart, in units


@dataclass(frozen=True, kw_only=True)
class WordsConfig:
    """Data, and what texts are read as"""

    dataset: str = "humanml"
    """humanml, kit, bandai_namco, or a folder made by data_loaders.prepare."""
    words: Literal["auto", "glove", "minilm"] = "auto"
    """What is read of texts: the published word vectors, or MiniLM's; auto takes the former where they are."""
    word_dim: Annotated[int, CHANNELS] = decided(WORD_DIM)
    pos_dim: Annotated[int, Range(0, 1000)] = decided(NUM_POS_CLASSES)  # 0: words without part-of-speech classes
    tagger: TaggerName = decided("lexicon")  # whose parts of speech; '' for words without. Earlier versions did not say it
    features: Features = decided(HUMANML3D)

    def __post_init__(self):
        check_bounds(self)


@dataclass(frozen=True, kw_only=True)
class EvaluatorConfig(WordsConfig):
    """Networks of the evaluator"""

    movement_hidden: Annotated[int, CHANNELS] = 512
    """Channels inside the movement autoencoder."""
    movement_latent: Annotated[int, CHANNELS] = 512
    """Channels of a movement latent (4 frames)."""
    text_hidden: Annotated[int, CHANNELS] = 512
    """Channels of the text encoder's GRU, in each direction."""
    motion_hidden: Annotated[int, CHANNELS] = 1024
    """Channels of the motion encoder's GRU, in each direction."""
    embedding: Annotated[int, CHANNELS] = 512
    """Channels of the common space."""
    negative_margin: Annotated[float, Range(0, 1_000_000, above=True)] = 10.0
    """Distance that motions of other texts are pushed to."""
    max_frames: Annotated[int, Range(UNIT_LENGTH, 100_000)] = decided(196)


@dataclass(frozen=True, kw_only=True)
class LengthEstimatorConfig(WordsConfig):
    """Network of the length estimator"""

    hidden: Annotated[int, CHANNELS] = 512
    """Channels of the GRU, in each direction."""
    shortest_units: Annotated[int, Range(0, LENGTH_CLASSES - 1)] = decided(10)  # 6 for KIT: shorter lengths are drawn again
