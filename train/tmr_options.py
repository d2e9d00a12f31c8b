"""The options of TMR and TEMOS, and what their commands do with them."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from protos.bounds import BATCH_SIZE, CHANNELS, LAYERS, SHARE, STEPS, WEIGHT, Range
from protos.flags import configured
from train.options import TrainOptions

if TYPE_CHECKING:
    from train.loop import TrainResult

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
    min_seconds: Annotated[float, Range(0, 1_000_000, above=True)] = 2.0
    """Shortest motion to train on."""
    max_seconds: Annotated[float, Range(0, 1_000_000, above=True)] = 10.0
    """Longest; longer annotated parts are left out, longer clips of a prepared dataset give a random part of that length."""
    balance: Annotated[float, Range(0, 10)] = 0.0
    """How far rare contents are lifted: 0 draws clips as often as they occur, 1 every content equally often."""

    text_encoder: Literal["auto", "distilbert", "minilm", "bert"] = "auto"
    """Language model whose word features are read; auto: distilbert, as published, where its files or its features of the
    dataset are at hand, else the embedded minilm."""
    sentence_encoder: Literal["auto", "mpnet", "minilm"] = "auto"
    """Language model that tells which captions mean the same, so that their motions are no negatives of one another; auto:
    mpnet, as published, where it is at hand, else minilm."""
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
    frames_per_token: Annotated[int, Range(1, 1000)] = 1
    """Frames that the networks read and write side by side; 4 makes training about four times as fast."""
    vae: bool = True
    """Encode as a Gaussian (--no_vae: as one vector)."""
    log_variance_shift: Annotated[float, Range(-100, 100)] = 0.0
    """Added to log variances. At 0, as published, fresh networks see little through the noise of their Gaussians."""

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
    false_negative_threshold: Annotated[float, SHARE] | None = None
    """Score, 0 to 1, above which captions mean the same (default: calibrated for the sentence encoder; 0: never)."""
    duplicates: Literal["auto", "words", "published"] = "auto"
    """words: captions that differ in a side, a direction or a word of content are never the same, whatever their score;
    published: the score alone decides; auto: published for published features with mpnet, else words."""

    num_steps: Annotated[int, STEPS] = 360_000
    """Optimiser steps in all; 500 epochs, as published, are about that on HumanML3D and 60,000 on KIT-ML."""
    batch_size: Annotated[int, Range(2, 65_536)] = 32
    """Texts and motions per process and step, at least 2."""
    accumulation: Annotated[int, BATCH_SIZE] = 1
    """Forward passes per optimiser step, each with a contrast of its own: no substitute for a larger batch."""
    weight_decay: Annotated[float, Range(0, 1000)] = 0.01
    """Weight decay of AdamW."""
    use_ema: bool = False
    """Judge and save the moving average of the weights."""
    save_interval: Annotated[int, STEPS] = 10_000
    """Steps between checkpoints."""
    eval_interval: Annotated[int, Range(0, 1_000_000_000)] = 2_000
    """Steps between evaluations on the validation split, by losses and by retrieval in pools of 32; the best is kept in
    save_dir/best: that which finds most (TMR), that with the lowest loss (TEMOS). 0: never."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.min_seconds > self.max_seconds:
            raise ValueError(f"--min_seconds {self.min_seconds:g} is more than --max_seconds {self.max_seconds:g}")
        if self.latent_dim % self.num_heads or self.latent_dim % 2:
            raise ValueError(f"--latent_dim {self.latent_dim} must be even and a multiple of --num_heads {self.num_heads}")


def run(options: TMROptions) -> "TrainResult":
    """Trains as the options say. Raises ValueError or OSError, in a user's words, for what cannot be trained."""
    from data_loaders.corpus import Corpus
    from data_loaders.text_similarity import duplicates_rule
    from model.tmr import TMRConfig
    from train.loop import train
    from train.tmr_recipe import FALSE_NEGATIVES, frame_limits, language_models, tmr_recipe

    data = Corpus.open(options.dataset, options.motions)
    seconds = options.min_seconds, options.max_seconds
    contrast = bool(options.lambda_contrastive)
    words, sentences = language_models(options.text_encoder, options.sentence_encoder, data, contrast)
    options = replace(options, text_encoder=words, sentence_encoder=sentences)
    threshold = options.false_negative_threshold
    config = configured(
        TMRConfig, options, num_features=data.features.width,
        false_negative_threshold=FALSE_NEGATIVES[sentences] if threshold is None else threshold,
        duplicates=duplicates_rule(options.duplicates, data.heading == "published", sentences),
        **frame_limits(seconds, data.fps), **data.features.record(),
    )  # fmt: skip
    return train(tmr_recipe(data, config, options, seconds, options.balance), options)
