"""What the motion autoencoder adds to the training loop: windows of motion, its losses, the spread of its latents."""

from dataclasses import replace
from functools import partial
from pathlib import Path

import torch
from torch import Tensor

from data_loaders.batches import WindowBatches
from data_loaders.corpus import Batch, Corpus
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
from protos.randomness import randn
from train.options import TrainOptions
from train.recipe import Recipe, kept_statistics


def autoencoder_recipe(
    corpus: Corpus, config: AutoencoderConfig, training: TrainOptions, window: int, balance: float, start: str = "",
    decoder_only: bool = False,
) -> Recipe:  # fmt: skip
    """How an autoencoder is trained on windows of `window` frames, rare contents lifted by `balance`.

    start: checkpoint to begin from, whose sizes then count instead of the configuration's; decoder_only: its latents stay.
    """
    statistics, fresh = corpus.statistics, partial(MotionAutoencoder, config)
    if start:
        network, statistics = load_autoencoder(Path(start))
        config = replace(network.config, kl_weight=config.kl_weight, latent_noise=config.latent_noise)
        network.config = config
        statistics.features.require(corpus.features, start, f"dataset {corpus.folder}")
        network.train().requires_grad_(True)
        if decoder_only:
            network.freeze_encoder()
        fresh = lambda: network  # noqa: E731
    statistics = kept_statistics(statistics, training)
    columns = autoencoder_columns(corpus.features)
    mean, std = (torch.from_numpy(array[columns]) for array in (statistics.mean, statistics.std))
    batches, held_out = (
        WindowBatches(corpus, split, window, training.batch_size, training.seed, balance) for split in ("train", "val")
    )

    def normalise(motion: Tensor) -> Tensor:
        return ((motion[..., columns] - mean.to(motion.device)) / std.to(motion.device)).float()

    def normalised(batch: Batch) -> Tensor:
        return normalise(batch.motion) * batch.mask[..., None]  # (B, W, columns)

    def loss(networks: MotionAutoencoder, batch: Batch, generators: list[torch.Generator]) -> dict[str, Tensor]:
        device = batch.motion.device
        shape = (batch.motion.shape[0], batch.motion.shape[1] // config.downsampling, config.latent_channels)
        noise = randn(generators, shape, device=device)
        return autoencoder_loss(
            networks, normalised(batch), batch.mask, noise, mean.to(device), std.to(device), corpus.features
        )

    def evaluate(networks: MotionAutoencoder, step: int) -> dict[str, float]:
        batch = held_out(0, 0, 1)
        return reconstruction_error(networks, normalised(batch), batch.mask, mean, std, corpus.features)

    def write(folder: Path, networks: MotionAutoencoder) -> None:
        if not decoder_only:
            measure_latents(networks, (normalise(torch.tensor(clip)) for clip in batches.whole_clips()))
        save_autoencoder(folder, config, networks, statistics)

    return Recipe(fresh, loss, batches, evaluate, stamp=corpus.stamp, write=write)
