"""python -m train.train_tmr --save_dir save/tmr --dataset humanml: text-motion retrieval (TMR, Petrovich et al. 2023).

Reads a prepared dataset, or a folder in TMR's layout with annotations.json (HumanML3D, KIT-ML, BABEL). On several
processes every text is contrasted with the motions of all of them, so they train like one with a larger batch; parts of
--accumulation are contrasted apart.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from protos.options import parse, run_command
from protos.processes import begin_command
from train.options import TrainOptions

PRESETS: dict[str, dict[str, Any]] = {
    "published": {},
    "small": {
        "dataset": "bandai_namco", "text_encoder": "minilm", "sentence_encoder": "minilm", "latent_dim": 192, "ff_size": 384,
        "num_layers": 3, "frames_per_token": 4, "log_variance_shift": -4.0, "min_seconds": 1.0, "max_seconds": 9.8,
        "balance": 0.5, "num_steps": 2400, "batch_size": 64, "lr": 5e-4, "warmup_steps": 200, "schedule": "cosine",
        "grad_clip": 1.0, "precision": "bf16", "use_ema": True, "ema_decay": 0.999, "ema_warmup": True,
        "save_interval": 500, "eval_interval": 250, "log_interval": 50,
    },
}  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class TMROptions(TrainOptions):
    """Train text and motion encoders with a common space, and a decoder out of it."""

    preset: Literal["published", "small"] = "published"
    """Recipe that sets the defaults of the other flags."""
    dataset: str = "humanml"
    """humanml, kit, bandai_namco, a folder made by data_loaders.prepare, or one with TMR's annotations.json."""
    motions: Path | None = None
    """Feature files of a folder with annotations.json (default: motions/guoh3dfeats, two folders above it)."""
    min_seconds: float = 2.0
    """Shortest motion to train on."""
    max_seconds: float = 10.0
    """Longest; longer annotated parts are left out, longer clips of a prepared dataset give a random part of that length."""
    balance: float = 0.0
    """How far rare contents are lifted: 0 draws clips as often as they occur, 1 every content equally often."""

    text_encoder: Literal["auto", "distilbert", "minilm", "bert"] = "auto"
    """Language model whose word features are read; auto: distilbert, as published, where its files or its features of the
    dataset are at hand, else the embedded minilm."""
    sentence_encoder: Literal["auto", "mpnet", "minilm"] = "auto"
    """Language model that tells which captions mean the same, so that their motions are no negatives of one another; auto:
    mpnet, as published, where it is at hand, else minilm."""
    latent_dim: int = 256
    """Channels of the networks and of the common space."""
    ff_size: int = 1024
    """Channels inside the feed-forward layers."""
    num_layers: int = 6
    """Layers of each encoder and of the decoder."""
    num_heads: int = 4
    """Attention heads."""
    dropout: float = 0.1
    """Share of activations that are dropped in training."""
    frames_per_token: int = 1
    """Frames that the networks read and write side by side; 4 makes training about four times as fast."""
    vae: bool = True
    """Encode as a Gaussian (--no_vae: as one vector)."""
    log_variance_shift: float = 0.0
    """Added to log variances. At 0, as published, fresh networks see little through the noise of their Gaussians."""

    lambda_recons: float = 1.0
    """Weight of the reconstruction out of both latents."""
    lambda_kl: float = 1e-5
    """Weight of the Kullback-Leibler divergences."""
    lambda_latent: float = 1e-5
    """Weight of the distance between the latents of a text and its motion."""
    lambda_contrastive: float = 0.1
    """Weight of the contrast between motions of different texts; 0 trains TEMOS."""
    contrast: Literal["infonce", "hard_negatives"] = "infonce"
    """hard_negatives: negatives weigh by how near they come, as in TMR++."""
    temperature: float = 0.1
    """What cosines are divided by in the contrast."""
    false_negative_threshold: float | None = None
    """Score, 0 to 1, above which captions mean the same (default: calibrated for the sentence encoder; 0: never)."""
    duplicates: Literal["auto", "words", "published"] = "auto"
    """words: captions that differ in a side, a direction or a word of content are never the same, whatever their score;
    published: the score alone decides; auto: published for published features with mpnet, else words."""

    num_steps: int = 360_000
    """Optimiser steps in all; 500 epochs, as published, are about that on HumanML3D and 60,000 on KIT-ML."""
    batch_size: int = 32
    """Texts and motions per process and step, at least 2."""
    accumulation: int = 1
    """Forward passes per optimiser step, each with a contrast of its own: no substitute for a larger batch."""
    weight_decay: float = 0.01
    """Weight decay of AdamW."""
    use_ema: bool = False
    """Judge and save the moving average of the weights."""
    save_interval: int = 10_000
    """Steps between checkpoints."""
    eval_interval: int = 2_000
    """Steps between evaluations on the validation split, by losses and by retrieval in pools of 32; the best is kept in
    save_dir/best: that which finds most (TMR), that with the lowest loss (TEMOS). 0: never."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.batch_size < 2:
            raise ValueError(f"--batch_size {self.batch_size}: negatives need at least 2 motions")
        if not 0 < self.min_seconds <= self.max_seconds:
            raise ValueError(f"--min_seconds {self.min_seconds:g} --max_seconds {self.max_seconds:g}: expected 0 < min <= max")
        for name in ("latent_dim", "ff_size", "num_layers", "num_heads", "frames_per_token"):
            if getattr(self, name) < 1:
                raise ValueError(f"--{name} must be at least 1, got {getattr(self, name)}")
        if self.latent_dim % self.num_heads or self.latent_dim % 2:
            raise ValueError(f"--latent_dim {self.latent_dim} must be even and a multiple of --num_heads {self.num_heads}")
        for name in ("balance", "lambda_recons", "lambda_kl", "lambda_latent", "lambda_contrastive"):
            if not getattr(self, name) >= 0:
                raise ValueError(f"--{name} must not be negative, got {getattr(self, name)}")
        if not 0 <= self.dropout < 1:
            raise ValueError(f"--dropout must be in [0, 1), got {self.dropout}")
        if not self.temperature > 0:
            raise ValueError(f"--temperature must be positive, got {self.temperature}")
        if self.false_negative_threshold is not None and not 0 <= self.false_negative_threshold <= 1:
            raise ValueError(f"--false_negative_threshold is a score from 0 to 1, got {self.false_negative_threshold}")


def main(argv: list[str] | None = None) -> None:
    options = parse(TMROptions, argv, __doc__, presets=PRESETS)
    begin_command()
    from train.train_tmr_setup import train_tmr

    train_tmr(options)


if __name__ == "__main__":
    run_command(main)
