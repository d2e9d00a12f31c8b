"""The settings of LaMP's captioner: flags of `train.train_m2t`, config.json of its checkpoints.

Defaults are the published ones, on OPT-2.7b; `small` says it in the words of the embedded language model, with a small decoder.
"""

from dataclasses import dataclass
from typing import Annotated, Literal

from data_loaders.features import HUMANML3D, Features
from protos.flags import CHANNELS, FRAMES, LAYERS, Bounded, Range, decided


@dataclass(frozen=True, kw_only=True)
class CaptionerConfig(Bounded):
    """Captioner"""

    words: Literal["opt", "lamp"] = "opt"
    """Whose words captions are made of: those of OPT (facebook/opt-2.7b), or of the language model that LaMP stands on."""
    own_qformer: bool = True
    """Train a copy of LaMP's Q-Former too; else it is shared and stays as it is."""
    language_dim: Annotated[int, CHANNELS] = 2560
    """Channels of the language model."""
    language_layers: Annotated[int, LAYERS] = 32
    """Layers of the language model."""
    language_heads: Annotated[int, Range(1, 256)] = 32
    """Attention heads of the language model."""
    language_ff: Annotated[int, Range(1, 65_536)] = 10_240
    """Channels of its feed-forward layers."""
    lora_rank: Annotated[int, Range(0, 1024)] = 16
    """Rank of what is added to queries and values of a frozen language model; 0: the language model itself is trained."""
    lora_alpha: Annotated[float, Range(0, 10_000)] = 32.0
    """Strength of that addition, over its rank."""
    dropout: Annotated[float, Range(0, 1, below=True)] = 0.0
    """Dropout rate of the language model."""
    told_words: Literal["all", "captions"] = "all"
    """Words that it can say: all of the language model, or those of the training captions, which is several times faster."""
    text_tokens: Annotated[int, Range(4, 512)] = 32
    """Tokens of a caption in training."""
    language_positions: Annotated[int, Range(16, 100_000)] = decided(2048)
    vocabulary: Annotated[int, Range(4, 1_000_000)] = decided(50_272)
    features: Features = decided(HUMANML3D)
    dataset: str = decided("humanml")
    min_frames: Annotated[int, FRAMES] = decided(4)
    max_frames: Annotated[int, FRAMES] = decided(196)

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.language_dim % self.language_heads:
            raise ValueError(f"language_dim {self.language_dim} must be a multiple of language_heads {self.language_heads}")


PRESETS = {
    "published": {},
    "small": {
        "words": "lamp", "own_qformer": False, "language_dim": 384, "language_layers": 2, "language_heads": 6, "language_ff": 768,
        "lora_rank": 0, "dropout": 0.1, "told_words": "captions", "num_steps": 3000, "batch_size": 64, "lr": 5e-4,
        "schedule": "cosine", "warmup_steps": 300, "grad_clip": 1.0, "weight_decay": 0.01, "use_ema": True, "ema_decay": 0.999,
        "ema_warmup": True, "precision": "auto", "save_interval": 500, "eval_interval": 500, "log_interval": 50, "balance": 0.7,
        "adam_beta1": 0.9, "adam_beta2": 0.999,
    },
}  # fmt: skip
