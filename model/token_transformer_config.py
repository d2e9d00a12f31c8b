"""The settings of transformers over motion tokens: flags of `train.train_t2m_transformer`, config.json of their checkpoints.

Defaults are MoMask's (Guo et al. 2024); `lamp` is LaMP's masked transformer (Li et al. 2025).
"""

from dataclasses import dataclass, fields, replace
from typing import Annotated, Literal, Self

from data_loaders.features import HUMANML3D, Features
from model.vqvae_config import TokenizerConfig
from protos.flags import CHANNELS, FRAMES, GUIDANCE, LAYERS, SAMPLING_STEPS, SHARE, Bounded, Range, decided


@dataclass(frozen=True, kw_only=True)
class TransformerSizes(Bounded):
    """Network"""

    latent_dim: Annotated[int, CHANNELS] = 384
    """Channels."""
    ff_size: Annotated[int, Range(1, 65_536)] = 1024
    """Channels of the feed-forward layers."""
    num_layers: Annotated[int, LAYERS] = 8
    """Layers."""
    num_heads: Annotated[int, Range(1, 256)] = 6
    """Attention heads."""
    dropout: Annotated[float, Range(0, 1, below=True)] = 0.2
    """Dropout rate."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.latent_dim % 2 or self.latent_dim % self.num_heads:
            raise ValueError(f"latent_dim {self.latent_dim} must be even and a multiple of num_heads {self.num_heads}")


@dataclass(frozen=True, kw_only=True)
class DrawnTokens:
    """Sampling, unless the user asks for another way"""

    temperature: Annotated[float, Range(0, 100)] = 1.0
    """Temperature at which tokens are drawn; 0: the likeliest."""
    top_k: Annotated[float, SHARE] = 0.9
    """Share of the codes, the unlikeliest, that are never drawn."""


@dataclass(frozen=True, kw_only=True)
class OverTokensConfig(DrawnTokens, TransformerSizes):
    """Model and data"""

    text_encoder: str = "minilm"
    """minilm, clip (= clip-b32), or another name in model/text_towers.py, of which one vector a text is read."""
    condition_dim: Annotated[int, CHANNELS] = decided(512)
    max_frames: Annotated[int, FRAMES] = decided(196)
    features: Features = decided(HUMANML3D)
    dataset: str = decided("humanml")

    @property
    def reads_text(self) -> bool:
        return True

    def fitted(self, codes: TokenizerConfig, features: Features) -> Self:
        """With what the tokenizer and the data decide. ValueError where the tokenizer has too few codebooks."""
        names = {field.name for field in fields(self)} & {"num_codes", "code_dim", "num_quantizers"}
        return replace(self, **{name: getattr(codes, name) for name in names}, features=features)


@dataclass(frozen=True, kw_only=True)
class TokenNetwork:
    """Network over ids"""

    attention: Literal["none", "causal", "tril_plus_one"] = "none"
    """What a token may see: all, nothing later, or all with a bias to what is earlier, as LaMP's released weights need."""
    key_padding: bool = True
    """Hide padding from attention. LaMP shows it: its motions then depend on the longest of their batch."""
    lamp_condition: Literal["trained", "frozen"] = "trained"
    """How LaMP's queries read a text: its language model's states, through a layer that is trained along, as published; or its
    words, as LaMP itself learned to tell a text's motion, which is done once a text and saves most of the time."""
    share_weights: bool = True
    """Of the residual transformer: read a codebook's codes by what the one before is told by."""
    max_positions: Annotated[int, Range(2, 100_000)] = decided(5000)
    num_codes: Annotated[int, Range(1, 65_536)] = decided(512)
    code_dim: Annotated[int, CHANNELS] = decided(512)
    num_quantizers: Annotated[int, Range(1, 64)] = decided(1)


@dataclass(frozen=True, kw_only=True)
class TokenTransformerConfig(TokenNetwork, OverTokensConfig):
    """Filling in tokens"""

    guidance_scale: Annotated[float, GUIDANCE] = 4.0
    """Strength of classifier-free guidance."""
    sampling_steps: Annotated[int, SAMPLING_STEPS] = 10
    """Steps in which all tokens are filled in."""
    cond_mask_prob: Annotated[float, SHARE] = 0.1
    """How often the condition is left out in training, for classifier-free guidance."""

    @property
    def own_guidance(self) -> float | None:
        """The guidance scale; None for a model that never learned to do without its condition."""
        return None if self.cond_mask_prob == 0 else self.guidance_scale


@dataclass(frozen=True, kw_only=True)
class ResidualConfig(TokenTransformerConfig):
    """Of the residual transformer"""

    cond_mask_prob: Annotated[float, SHARE] = 0.2
    """How often the condition is left out in training, for classifier-free guidance."""
    guidance_scale: Annotated[float, GUIDANCE] = 5.0
    """Strength of classifier-free guidance for the further codebooks."""

    def fitted(self, codes: TokenizerConfig, features: Features) -> Self:
        if codes.num_quantizers < 2:
            raise ValueError("a residual transformer needs a tokenizer of several codebooks, this one has a single one: train "
                             "one with train.train_vq --preset momask")  # fmt: skip
        return super().fitted(codes, features)


LAMP = {
    "latent_dim": 512, "num_heads": 8, "attention": "tril_plus_one", "key_padding": False, "milestones": (60_000,), "gamma": 0.05,
}
SMALL = {
    "lamp_condition": "frozen", "latent_dim": 192, "ff_size": 512, "num_layers": 6, "num_heads": 6, "dropout": 0.1,
    "num_steps": 8000, "batch_size": 64, "lr": 5e-4, "schedule": "cosine", "warmup_steps": 500, "grad_clip": 1.0,
    "use_ema": True, "ema_decay": 0.999, "ema_warmup": True, "precision": "auto", "save_interval": 1000, "eval_interval": 500,
    "log_interval": 50, "balance": 0.7, "repeat": 0.35,
}  # fmt: skip
PRESETS = {"momask": {}, "lamp": LAMP, "small": SMALL}  # of published weights, and of the starter weights
