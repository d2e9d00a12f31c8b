"""The settings of InterCLIP, which judges motions of two people: flags of `train.train_interclip`, and config.json.

Defaults are those of the published evaluator (Liang et al. 2024), but for the text encoder, of which `auto` takes what is here.
"""

from dataclasses import dataclass
from typing import Annotated, Literal

from data_loaders.features import Features
from protos.flags import CHANNELS, FRAMES, LAYERS, Bounded, Range, decided

TWO_PEOPLE = Features(kind="interhuman", fps=30.0)
CLIP_TOKENS = 77
HEADS = Range(1, 256)


@dataclass(frozen=True, kw_only=True)
class MotionNetwork:
    """Motion encoder"""

    latent_dim: Annotated[int, CHANNELS] = 1024
    """Channels."""
    num_layers: Annotated[int, LAYERS] = 8
    """Layers."""
    num_heads: Annotated[int, HEADS] = 8
    """Attention heads."""
    ff_size: Annotated[int, Range(1, 65_536)] = 2048
    """Channels inside the feed-forward layers, those of the text encoder too."""
    dropout: Annotated[float, Range(0, 1, below=True)] = 0.1
    """Dropout rate of both encoders."""
    frames_per_token: Annotated[int, Range(1, 1000)] = 1
    """Frames that are read side by side; 4 makes training about four times as fast."""
    normalised: bool = False
    """Read motion normalised by the dataset's mean and std; published weights read it as it is."""


@dataclass(frozen=True, kw_only=True)
class TextNetwork:
    """Text encoder"""

    text_encoder: Literal["auto", "minilm", "clip-l14-336"] = "auto"
    """What texts are read as: the words of MiniLM, which is embedded, or, as published, CLIP's embeddings of tokens, of which
    no layer of CLIP is used; auto: the latter where CLIP's files are here."""
    text_width: Annotated[int, CHANNELS] = 768
    """Channels; 768 with CLIP's embeddings."""
    text_layers: Annotated[int, LAYERS] = 8
    """Layers."""
    text_heads: Annotated[int, HEADS] = 8
    """Attention heads."""


@dataclass(frozen=True, kw_only=True)
class Contrast:
    """Common space"""

    embedding: Annotated[int, CHANNELS] = 512
    """Channels of the common space."""
    initial_scale: Annotated[float, Range(0, 100, above=True)] = 1.0
    """Length that all vectors have before training, which learns it: cosines count by its square."""
    duplicates: Literal["words", "published"] = "words"
    """words: motions whose captions say the same, word for word but for grammar, are no negatives of one another; published:
    every other motion of a batch is one."""


@dataclass(frozen=True, kw_only=True)
class InterCLIPConfig(Contrast, TextNetwork, MotionNetwork, Bounded):
    """Model and data"""

    features: Features = decided(TWO_PEOPLE)
    dataset: str = decided("interhuman")
    text_dim: Annotated[int, CHANNELS] = decided(768)
    max_positions: Annotated[int, Range(2, 100_000)] = decided(2000)  # of frames and the token before them
    max_frames: Annotated[int, FRAMES] = decided(299)

    def __post_init__(self):
        super().__post_init__()
        if self.latent_dim % self.num_heads or self.latent_dim % 2:
            raise ValueError(f"latent_dim {self.latent_dim} must be even and a multiple of num_heads {self.num_heads}")
        if self.text_width % self.text_heads:
            raise ValueError(f"text_width {self.text_width} must be a multiple of text_heads {self.text_heads}")
        if self.reads_tokens and self.text_width != self.text_dim:
            raise ValueError(f"text_width {self.text_width}: CLIP's embeddings of tokens have {self.text_dim} channels")

    num_tokens, activation = 1, "gelu"  # of the motion encoder, that of TMR: one token before a motion gathers what it is

    @property
    def reads_tokens(self) -> bool:
        """Whether texts are read as CLIP's embeddings of tokens, not as words of a language model."""
        return self.text_encoder == "clip-l14-336"


PRESETS = {
    "published": {},
    "small": {
        "text_encoder": "minilm", "latent_dim": 128, "num_layers": 2, "num_heads": 4, "ff_size": 256, "dropout": 0.2,
        "frames_per_token": 4, "normalised": True, "text_width": 128, "text_layers": 1, "text_heads": 4, "embedding": 128,
        "initial_scale": 3.0, "num_steps": 1500, "batch_size": 32, "lr": 5e-4, "weight_decay": 0.05, "warmup_steps": 100,
        "schedule": "cosine", "grad_clip": 1.0, "use_ema": True, "ema_decay": 0.99, "ema_warmup": True,
        "save_interval": 500, "eval_interval": 100, "log_interval": 50,
    },
}  # fmt: skip
