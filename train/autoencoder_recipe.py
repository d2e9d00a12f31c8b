"""What the motion autoencoder adds to the training loop: windows of motion, and the spread of its latents."""

from dataclasses import replace

from data_loaders.batches import WindowBatches
from data_loaders.corpus import Corpus
from data_loaders.interaction_batches import WithStrangers
from model.autoencoder import MotionAutoencoder
from model.autoencoder_config import AutoencoderConfig
from model.checkpoints import load_part
from train.options import TrainOptions
from train.recipe import Recipe, kept_statistics


def autoencoder_recipe(
    corpus: Corpus, config: AutoencoderConfig, training: TrainOptions, window: int, balance: float, start: str = "",
    decoder_only: bool = False, strangers: Corpus | None = None, strangers_share: float = 0.0,
) -> Recipe:  # fmt: skip
    """How an autoencoder is trained on windows of `window` frames, rare contents lifted by `balance`.

    start: checkpoint to begin from, whose sizes then count instead of the configuration's; decoder_only: its latents stay.
    strangers: of one person, pairs of whose windows are a share of what is trained on (`WithStrangers`).
    """
    statistics, begun = corpus.statistics, load_part(start, "autoencoder", "motion_autoencoder") if start else None
    if begun is not None:
        statistics = begun.statistics
        statistics.features.require(corpus.features, start, f"dataset {corpus.folder}")
        config = replace(begun.config, kl_weight=config.kl_weight, latent_noise=config.latent_noise)
    statistics = kept_statistics(statistics, training)
    batches, held_out = (
        WindowBatches(corpus, split, window, training.batch_size, training.seed, balance) for split in ("train", "val")
    )
    if strangers is not None:
        batches = WithStrangers(corpus, strangers, window, training.batch_size, training.seed, balance, strangers_share)

    def fresh() -> MotionAutoencoder:
        model = MotionAutoencoder(config, statistics)
        if begun is not None:
            model.networks.load_state_dict(begun.networks.state_dict())
        if decoder_only:
            model.network.freeze_encoder()
        return model

    def measure(model: MotionAutoencoder) -> None:
        if not decoder_only:
            model.measure_latents(batches.windows() if corpus.features.in_world else batches.whole_clips())

    def evaluate(model: MotionAutoencoder, step: int) -> dict[str, float]:
        return model.reconstruction_error(held_out(0, 0, 1))

    return Recipe(fresh, batches, evaluate, stamp=corpus.stamp, before_saving=measure)
