"""The settings of LaMP's language-motion pretraining: flags of `train.train_lamp`, config.json of its checkpoints.

Defaults are the published ones (Li et al. 2025); `small` stands on the embedded language model, which stays as it is.
"""

from dataclasses import dataclass
from typing import Annotated, Literal

from data_loaders.features import HUMANML3D, Features
from protos.flags import CHANNELS, FRAMES, LAYERS, SHARE, WEIGHT, Bounded, Range, decided


@dataclass(frozen=True, kw_only=True)
class QFormerConfig(Bounded):
    """Q-Former"""

    text_tower: Literal["bert", "minilm"] = "bert"
    """Language model whose words and first layers the Q-Former begins with: bert-base, or the embedded MiniLM."""
    num_layers: Annotated[int, LAYERS] = 12
    """Layers, at most those of the language model."""
    cross_every: Annotated[int, LAYERS] = 2
    """Every so many-th layer, from the first, lets queries read the motion."""
    num_queries: Annotated[int, Range(1, 1000)] = 49
    """Learned queries; as many tokens has the longest motion."""
    memory_dim: Annotated[int, CHANNELS] = 1408
    """Channels of what queries read."""
    query_ff_size: Annotated[int, Range(0, 65_536)] = 0
    """Channels of the feed-forward layers of queries; 0: as the language model has."""
    embedding: Annotated[int, CHANNELS] = 512
    """Channels of the vectors of texts and motions."""
    dropout: Annotated[float, Range(0, 1, below=True)] = 0.1
    """Dropout rate."""
    frozen_text: bool = False
    """Leave words, text layers and self-attention as the language model has them, and store none of it."""
    text_tokens: Annotated[int, Range(4, 512)] = 32
    """Tokens that are read of a text."""
    mask_motion: bool = False
    """Hide from queries what lies beyond a motion's end. As published it is seen."""
    mask_queries: bool = False
    """With --mask_motion: a motion has as many queries as tokens, and batches are of motions of like length, which saves half the
    time. As published it has all queries."""
    latent_dim: Annotated[int, CHANNELS] = decided(768)
    num_heads: Annotated[int, Range(1, 256)] = decided(12)
    ff_size: Annotated[int, Range(1, 65_536)] = decided(3072)
    vocabulary: Annotated[int, Range(4, 1_000_000)] = decided(30_522)
    max_positions: Annotated[int, Range(4, 100_000)] = decided(512)
    text_weights: str = decided("")  # sha256 of the language model's, where these are not stored

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.mask_queries and not self.mask_motion:
            raise ValueError("--mask_queries leaves out what --mask_motion hides: give both")


@dataclass(frozen=True, kw_only=True)
class LaMPConfig(QFormerConfig):
    """Model and data"""

    lambda_contrastive: Annotated[float, WEIGHT] = 1.0
    """Weight of telling texts and motions of a batch apart."""
    lambda_matching: Annotated[float, WEIGHT] = 1.0
    """Weight of telling whether a text and a motion belong together."""
    lambda_captioning: Annotated[float, WEIGHT] = 1.0
    """Weight of saying what a motion shows."""
    lambda_generation: Annotated[float, WEIGHT] = 1.0
    """Weight of telling a text's motion by tokens."""
    match_every: Annotated[int, Range(1, 1000)] = 1
    """Matching, the most expensive of the four, is learnt of every so many-th text and motion of a batch."""
    told_words: Literal["all", "captions"] = "all"
    """Words that the next one is told from in training: all of the language model, or those of the training captions."""
    label_smoothing: Annotated[float, SHARE] = 0.1
    """Share of the target that goes to all classes, but for matching."""
    temperature: Annotated[float, Range(-100, 100)] = 2.6592600107192993
    """What cosines are multiplied by at first: ln(1 / 0.07), as published without the exponential."""
    duplicates: Literal["masked", "published"] = "masked"
    """Captions that say the same as another of the batch are no negatives of its motion; published: they are, and a motion
    may be its own negative."""
    features: Features = decided(HUMANML3D)
    dataset: str = decided("humanml")
    max_frames: Annotated[int, FRAMES] = decided(196)
    motion_classes: Annotated[int, Range(1, 65_536)] = decided(512)
    motion_dim: Annotated[int, CHANNELS] = decided(512)  # of the tokenizer's latents
    plain_texts: bool = decided(True)  # are read without capitals and signs; published models sample by them as written
    own_encoder: bool = decided(False)  # published files hold another motion encoder than their tokenizer's


PRESETS = {
    "published": {},
    "small": {
        "text_tower": "minilm", "num_layers": 4, "memory_dim": 256, "embedding": 256, "dropout": 0.0, "frozen_text": True,
        "mask_motion": True, "mask_queries": True, "query_ff_size": 512, "match_every": 4, "told_words": "captions",
        "temperature": 14.3, "num_steps": 2000, "batch_size": 64, "lr": 5e-4, "warmup_steps": 300, "grad_clip": 1.0,
        "use_ema": True, "ema_decay": 0.999, "ema_warmup": True, "precision": "auto", "save_interval": 500, "eval_interval": 500,
        "log_interval": 50, "balance": 0.7,
    },
}  # fmt: skip
