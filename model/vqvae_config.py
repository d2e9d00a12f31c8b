"""The settings of motion tokenizers: the flags of `train.train_vq`, and the config.json of their checkpoints.

Defaults are LaMP's one codebook; `momask` has six, each for what the ones before leave (Guo et al. 2024).
"""

from dataclasses import dataclass
from typing import Annotated, Literal

from data_loaders.features import HUMANML3D, Features
from protos.flags import CHANNELS, LAYERS, SHARE, WEIGHT, Bounded, Range, decided


@dataclass(frozen=True, kw_only=True)
class TokenizerConfig(Bounded):
    """Networks and losses of the tokenizer"""

    num_codes: Annotated[int, Range(1, 65_536)] = 512
    """Codes of a codebook."""
    code_dim: Annotated[int, CHANNELS] = 512
    """Channels of a code."""
    num_quantizers: Annotated[int, Range(1, 64)] = 1
    """Codebooks: each after the first tells what the ones before it leave of a latent."""
    width: Annotated[int, CHANNELS] = 512
    """Channels of the convolutions."""
    num_levels: Annotated[int, Range(1, 8)] = 2
    """Halvings of the frame rate: 2 give a token for 4 frames."""
    depth: Annotated[int, LAYERS] = 3
    """Residual blocks on each level."""
    dilation_growth: Annotated[int, Range(1, 16)] = 3
    """Dilation of a block over that of the next."""
    activation: Literal["relu", "silu", "gelu"] = "relu"
    """Activation in the blocks."""
    dropout: Annotated[float, Range(0, 1, below=True)] = 0.2
    """Dropout rate in the blocks."""
    quantizer_drop: Annotated[float, SHARE] = 0.0
    """How often training leaves out the codebooks after one that is drawn."""
    lambda_positions: Annotated[float, WEIGHT] = 0.5
    """Weight of the loss on joint positions."""
    lambda_commit: Annotated[float, WEIGHT] = 0.02
    """Weight of the loss that holds latents near their codes."""
    features: Features = decided(HUMANML3D)
    dataset: str = decided("")

    @property
    def downsampling(self) -> int:
        """Frames of a token."""
        return 2**self.num_levels

    @property
    def in_words(self) -> str:
        """What a token is told by, for people."""
        return f"{self.num_quantizers} x {self.num_codes} codes"


@dataclass(frozen=True, kw_only=True)
class VQVAEConfig(TokenizerConfig):
    """Codebooks"""

    code_decay: Annotated[float, SHARE] = 0.99
    """Decay per step of the averages that codes are."""
    code_least_use: Annotated[float, Range(0, 1000, above=True)] = 1.0
    """Average number of latents of a step, below which a code is put where a latent lies. Small batches leave few codes in peace
    at the published 1."""
    code_temperature: Annotated[float, Range(0, 100)] = 0.0
    """Temperature at which a code is drawn by its nearness in training; 0: the nearest."""


RESIDUAL = {"num_quantizers": 6, "code_temperature": 0.5, "quantizer_drop": 0.2}
SMALL = {
    "width": 192, "code_dim": 128, "dropout": 0.0, "num_steps": 8000, "batch_size": 64, "window_size": 64,
    "balance": 0.5, "feature_bias": 1.0, "lr": 5e-4, "schedule": "cosine", "warmup_steps": 200, "grad_clip": 1.0, "use_ema": True,
    "ema_decay": 0.999, "ema_warmup": True, "precision": "auto", "save_interval": 1000, "eval_interval": 500, "log_interval": 50,
}  # fmt: skip
PRESETS = {  # `lamp` and `momask` of published weights (of 50 epochs, MoMask's), `small` of the starter weights
    "lamp": {},
    "momask": {**RESIDUAL, "lr": 2e-4, "milestones": (150_000, 250_000), "num_steps": 300_000, "window_size": 64},
    "small": {**SMALL, "code_least_use": 0.1},
}
ALIASES = {  # the published scripts' name -> ours
    "nb_code": "num_codes", "down_t": "num_levels", "vq_act": "activation", "dilation_growth_rate": "dilation_growth",
    "mu": "code_decay", "quantize_dropout_prob": "quantizer_drop", "commit": "lambda_commit", "loss_vel": "lambda_positions",
    "total_iter": "num_steps", "warm_up_iter": "warmup_steps", "feat_bias": "feature_bias", "dataset_name": "dataset",
}  # fmt: skip
IGNORED = {
    "stride_t": "a level halves the frame rate, as in all published files", "output_emb_width": "that is --code_dim",
    "vq_norm": "no published file has it", "recons_loss": "smooth L1, as in all published files",
    "quantizer": "codebooks are moving averages with resets, as in all published files",
    "shared_codebook": "every codebook is its own, as in all published files",
}  # fmt: skip
