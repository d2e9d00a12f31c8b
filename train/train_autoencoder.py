"""python -m train.train_autoencoder: the motion autoencoder in whose latents the starter model diffuses."""

import logging
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Literal

from protos.bounds import BATCH_SIZE, CHANNELS, STEPS, WEIGHT, Range
from protos.options import parse, run_command
from protos.processes import start
from train.options import TrainOptions

log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class AutoencoderOptions(TrainOptions):
    """Train the motion autoencoder on a prepared dataset."""

    autoencoder: str = ""
    """Checkpoint of an autoencoder, or of a model that has one, to begin from; its sizes then count, not the flags'
    (--kl_weight and --latent_noise do)."""
    decoder_only: bool = False
    """Train only the decoder of --autoencoder: its latents stay what they are, and so do models trained on them."""
    dataset: str = "bandai_namco"
    """Dataset folder made by data_loaders.prepare, or a known name."""
    window_size: Annotated[int, Range(8, 100_000)] = 64
    """Frames per training window, a multiple of 4."""
    balance: Annotated[float, Range(0, 10)] = 0.5
    """How far contents are evened out: 0 draws clips as often as they occur, 1 every content equally often."""
    latent_channels: Annotated[int, CHANNELS] = 64
    """Channels of one latent (4 frames)."""
    width: Annotated[int, CHANNELS] = 256
    """Channels inside the network."""
    kl_weight: Annotated[float, WEIGHT] = 1e-4
    """Weight of the KL term that keeps latents bounded."""

    latent_noise: Annotated[float, Range(0, 100)] = 0.1
    """Noise on latents in training, relative to their spread: what lies below it, a generator need not get right."""

    num_steps: Annotated[int, STEPS] = 8000
    """Optimiser steps in all."""
    batch_size: Annotated[int, BATCH_SIZE] = 128
    """Windows per process and step."""
    lr: Annotated[float, Range(0, 100, above=True)] = 5e-4
    """Learning rate of AdamW."""
    warmup_steps: Annotated[int, Range(0, 1_000_000_000)] = 200
    """Steps over which the learning rate rises from 0."""
    schedule: Literal["constant", "cosine", "linear"] = "cosine"
    """Course of the learning rate after the warm-up."""
    grad_clip: Annotated[float, WEIGHT] = 1.0
    """Largest norm of the gradient; 0 does not clip."""
    precision: Literal["fp32", "bf16"] = "bf16"
    """bf16 computes the forward pass in bfloat16 over float32 weights."""
    ema_decay: Annotated[float, Range(0, 1, below=True)] = 0.999
    """Decay of the moving average of the weights per step."""
    ema_warmup: bool = True
    """Begin with a shorter average."""
    save_interval: Annotated[int, STEPS] = 1000
    """Steps between checkpoints."""
    eval_interval: Annotated[int, Range(0, 1_000_000_000)] = 1000
    """Steps between evaluations on the validation split."""
    log_interval: Annotated[int, STEPS] = 50
    """Steps between lines of the log."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.window_size % 4:
            raise ValueError(f"--window_size {self.window_size}: expected a multiple of 4")
        if self.decoder_only and not self.autoencoder:
            raise ValueError("--decoder_only needs an --autoencoder whose decoder is to be trained")


def train_autoencoder(options: AutoencoderOptions) -> None:
    """Trains and saves the autoencoder; the checkpoint folder holds config, weights, statistics and latent spread."""
    import torch

    from data_loaders.batches import WindowBatches
    from data_loaders.corpus import Corpus
    from model.motion_autoencoder import (
        AutoencoderConfig,
        MotionAutoencoder,
        autoencoder_columns,
        autoencoder_loss,
        load_autoencoder,
        measure_latents,
        reconstruction_error,
        save_autoencoder,
    )
    from protos.randomness import randn, seed_everything
    from train.loop import train
    from train.run_statistics import kept_statistics

    corpus = Corpus.open(options.dataset)
    columns = autoencoder_columns(corpus.skeleton.num_joints)
    statistics = corpus.statistics
    if options.autoencoder:
        network, statistics = load_autoencoder(Path(options.autoencoder))
        network.config = replace(network.config, kl_weight=options.kl_weight, latent_noise=options.latent_noise)
        statistics.representation.require(corpus.representation, options.autoencoder, f"dataset {corpus.folder}")
        network.train().requires_grad_(True)
        if options.decoder_only:
            network.freeze_encoder()
    else:
        sizes = {"width": options.width, "kl_weight": options.kl_weight, "latent_noise": options.latent_noise}
        seed_everything(options.seed)
        network = MotionAutoencoder(AutoencoderConfig(len(columns), options.latent_channels, **sizes))
    config = network.config
    statistics = kept_statistics(statistics, options)
    pair = statistics.mean, statistics.std
    mean, std = (torch.from_numpy(array[columns]) for array in pair)
    batches, held_out = (
        WindowBatches(corpus, split, options.window_size, options.batch_size, options.seed, options.balance, columns, pair)
        for split in ("train", "val")
    )

    def loss(networks, batch, generators):
        shape = (batch.motion.shape[0], batch.motion.shape[1] // config.downsampling, config.latent_channels)
        noise = randn(generators, shape, device=batch.motion.device)
        device = batch.motion.device
        return autoencoder_loss(
            networks, batch.motion, batch.mask, noise, mean.to(device), std.to(device), corpus.skeleton, corpus.fps
        )

    def evaluate(networks, step):
        batch = held_out(0, 0, 1)
        return reconstruction_error(networks, batch.motion, batch.mask, mean, std, corpus.skeleton, corpus.fps)

    def save(folder, networks):
        if not options.decoder_only:
            measure_latents(networks, batches.whole_clips())
        save_autoencoder(folder, config, networks, statistics)

    train(network, loss, batches, options, save, evaluate, stamp=corpus.stamp)


def main() -> None:
    options = parse(AutoencoderOptions, description=__doc__)
    start(train_autoencoder, options)


if __name__ == "__main__":
    run_command(main)
