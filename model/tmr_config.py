"""The settings of TMR and TEMOS: the flags of `train.train_tmr`, the config.json of their checkpoints, and the networks' plan.

Defaults are those published on HumanML3D (Petrovich et al. 2023), but for language models, which `auto` chooses.
"""

from dataclasses import dataclass
from typing import Annotated, Literal

from data_loaders.features import HUMANML3D, Features
from protos.flags import CHANNELS, FRAMES, LAYERS, SHARE, WEIGHT, Bounded, Range, decided

NUM_POSITIONS = 5000  # rows of the table of positions


@dataclass(frozen=True, kw_only=True)
class Networks:
    """Encoders of texts and motions, and the decoder"""

    latent_dim: Annotated[int, CHANNELS] = 256
    """Channels of the networks and of the common space."""
    ff_size: Annotated[int, Range(1, 65_536)] = 1024
    """Channels inside the feed-forward layers."""
    num_layers: Annotated[int, LAYERS] = 6
    """Layers of each encoder and of the decoder."""
    num_heads: Annotated[int, Range(1, 256)] = 4
    """Attention heads."""
    dropout: Annotated[float, Range(0, 1, below=True)] = 0.1
    """Share of activations that are dropped in training."""
    activation: Literal["gelu", "relu"] = "gelu"
    """Activation in the feed-forward layers."""
    frames_per_token: Annotated[int, Range(1, 1000)] = 1
    """Frames that the networks read and write side by side; 4 makes training about four times as fast."""
    vae: bool = True
    """Encode as a Gaussian (--no_vae: as one vector)."""
    log_variance_shift: Annotated[float, Range(-50, 50)] = 0.0
    """Added to log variances. At 0, as published, fresh networks see little through the noise of their Gaussians."""
    text_relu: bool = decided(False)  # a ReLU before the projection of words, as in TEMOS as first published
    max_positions: Annotated[int, Range(3, 100_000)] = decided(NUM_POSITIONS)


@dataclass(frozen=True, kw_only=True)
class LanguageModels:
    """Language models"""

    text_encoder: Literal["auto", "distilbert", "minilm", "bert", "mpnet"] = "auto"
    """Language model whose word features are read; auto: distilbert, as published, where its files or its features of the
    dataset are at hand, else the embedded minilm."""
    sentence_encoder: Literal["auto", "mpnet", "minilm", "distilbert", "bert"] = "auto"
    """Language model that tells which captions mean the same, so that their motions are no negatives of one another; auto:
    mpnet, as published, where it is at hand, else minilm."""


@dataclass(frozen=True, kw_only=True)
class Losses:
    """Losses"""

    lambda_recons: Annotated[float, WEIGHT] = 1.0
    """Weight of the reconstruction out of both latents."""
    lambda_kl: Annotated[float, WEIGHT] = 1e-5
    """Weight of the Kullback-Leibler divergences."""
    lambda_latent: Annotated[float, WEIGHT] = 1e-5
    """Weight of the distance between the latents of a text and its motion."""
    lambda_contrastive: Annotated[float, WEIGHT] = 0.1
    """Weight of the contrast between motions of different texts; 0 trains TEMOS."""
    contrast: Literal["infonce", "hard_negatives"] = "infonce"
    """hard_negatives: negatives weigh by how near they come, as in TMR++."""
    temperature: Annotated[float, Range(1e-4, 1000)] = 0.1
    """What cosines are divided by in the contrast."""
    false_negative_threshold: Annotated[float, SHARE] = 0.8
    """Score, 0 to 1, above which captions mean the same; 0: never. That of mpnet is published; by minilm, of 574 pairs of
    captions that say the same in their words, all lie above it, and so does a sixth of the others: words must decide too."""
    duplicates: Literal["auto", "words", "published"] = "auto"
    """words: captions that differ in a side, a direction or a word of content are never the same, whatever their score;
    published: the score alone decides; auto: published for published features with mpnet, else words."""


@dataclass(frozen=True, kw_only=True)
class TMRConfig(Losses, LanguageModels, Networks, Bounded):
    """Model and data"""

    features: Features = decided(HUMANML3D)
    dataset: str = decided("humanml")
    text_dim: Annotated[int, CHANNELS] = decided(768)
    min_frames: Annotated[int, FRAMES] = decided(40)  # 2 to 10 seconds: what is trained on
    max_frames: Annotated[int, FRAMES] = decided(200)

    def __post_init__(self):
        super().__post_init__()
        if self.latent_dim % self.num_heads or self.latent_dim % 2:
            raise ValueError(f"latent_dim {self.latent_dim} must be even and a multiple of num_heads {self.num_heads}")

    reads_text = True
    own_guidance = None  # it is made in one step, without guidance

    @property
    def num_tokens(self) -> int:
        """Learned tokens before a sequence, whose outputs are the mean and, in a VAE, the log variance."""
        return 2 if self.vae else 1


PRESETS = {
    "published": {},
    "small": {
        "text_encoder": "minilm", "sentence_encoder": "minilm", "latent_dim": 192, "ff_size": 384,
        "num_layers": 3, "frames_per_token": 4, "log_variance_shift": -4.0, "min_seconds": 1.0, "max_seconds": 9.8,
        "balance": 0.5, "num_steps": 2400, "batch_size": 64, "lr": 5e-4, "warmup_steps": 200, "schedule": "cosine",
        "grad_clip": 1.0, "precision": "auto", "use_ema": True, "ema_decay": 0.999, "ema_warmup": True,
        "save_interval": 500, "eval_interval": 250, "log_interval": 50,
    },
}  # fmt: skip
