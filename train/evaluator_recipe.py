"""What the evaluator, in two stages, and the length estimator add to the training loop."""

from dataclasses import dataclass
from functools import partial
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from data_loaders.batch_plan import BatchPlan
from data_loaders.batches import CaptionBatches, TextMotionDataset, WindowBatches
from data_loaders.corpus import Batch, Corpus, Statistics
from data_loaders.known_datasets import published_limits
from data_loaders.text import Caption
from evaluations.metrics import POOL, matching_score, r_precision
from model.evaluator_losses import draw_shift, matching_loss, movement_loss
from model.evaluator_words import WordSource, load_words
from model.evaluators import (
    LENGTH_CLASSES,
    LOOK_AHEAD,
    UNIT_LENGTH,
    EvaluatorConfig,
    GuoEvaluator,
    LengthEstimator,
    LengthEstimatorConfig,
    MovementAutoencoder,
    MovementEncoder,
    WordFeatures,
)
from train.options import TrainOptions
from train.recipe import Recipe

VALIDATION_POOLS = 8


class CaptionWords:
    """Words of the captions of a corpus, by their text."""

    def __init__(self, corpus: Corpus, words: str, glove_folder: Path):
        self.source: WordSource = load_words(words, glove_folder)
        self.captions = {caption.text: caption for name in corpus.names for caption in corpus.captions(name)}

    def encode(self, texts: list[str]) -> WordFeatures:
        return self.source.encode([self.captions.get(text, Caption(text)) for text in texts])

    def settings(self) -> dict[str, str | int]:
        """What configurations of networks say of the words they read."""
        return {"words": self.source.name, "word_dim": self.source.word_dim, "pos_dim": self.source.pos_dim}


@dataclass(frozen=True)
class Settings:
    """What both stages of the evaluator draw and contrast: windows in frames, rare contents lifted by `balance`, a distance."""

    window: int
    balance: float
    negative_margin: float


def movement_recipe(
    corpus: Corpus, config: EvaluatorConfig, training: TrainOptions, statistics: Statistics, settings: Settings
) -> Recipe:
    """First stage: the movement autoencoder on windows of motion."""
    batches, held_out = (
        WindowBatches(corpus, split, settings.window, training.batch_size, training.seed, settings.balance)
        for split in ("train", "val")
    )

    def loss(networks: MovementAutoencoder, batch: Batch, generators: object) -> dict[str, Tensor]:
        motion = normalised(batch, statistics).to(next(networks.parameters()).device)
        return movement_loss(networks.encoder, networks.decoder, motion)

    def evaluate(networks: MovementAutoencoder, step: int) -> dict[str, float]:
        return with_total(loss(networks, held_out(0, 0, 1), None))

    def write(folder: Path, networks: nn.Module) -> None:
        from safetensors.torch import save_file

        save_file({name: value.contiguous() for name, value in networks.state_dict().items()}, folder / "model.safetensors")

    return Recipe(partial(MovementAutoencoder, config), loss, batches, evaluate, stamp=corpus.stamp, write=write)


def matching_recipe(
    corpus: Corpus, captions: CaptionWords, config: EvaluatorConfig, training: TrainOptions, statistics: Statistics,
    movement: MovementEncoder, settings: Settings,
) -> Recipe:  # fmt: skip
    """Second stage: texts and motions that belong together become near, others far, over the encoder of the first."""
    data, held_out = (TextMotionDataset(corpus, split) for split in ("train", "val"))

    def fresh() -> GuoEvaluator:
        networks = GuoEvaluator(config, statistics)
        networks.movement_encoder.load_state_dict(movement.state_dict())
        return networks

    def loss(networks: GuoEvaluator, batch: Batch, generators: list[torch.Generator]) -> dict[str, Tensor]:
        text, motion = embeddings(networks, batch, captions)
        return matching_loss(text, motion, draw_shift(len(text), generators[0]), settings.negative_margin)

    def evaluate(networks: GuoEvaluator, step: int) -> dict[str, float]:
        count = min(len(held_out) // POOL, VALIDATION_POOLS) * POOL or len(held_out)
        chosen = BatchPlan(len(held_out), count, seed=training.seed).batch(0)
        text, motion = embeddings(networks, held_out.batch(chosen, training.seed), captions)
        figures = with_total(matching_loss(text, motion, 1, settings.negative_margin))
        text, motion = text.cpu().numpy(), motion.cpu().numpy()
        if count >= POOL:
            figures |= {f"top{k}": float(share) for k, share in zip((1, 2, 3), r_precision(text, motion))}
        return {**figures, "distance": matching_score(text, motion)}

    weights = data.weights(settings.balance) if settings.balance else None
    batches = CaptionBatches(data, training.batch_size, training.seed, weights)
    judged = evaluate if training.eval_interval else None
    return Recipe(fresh, loss, batches, judged, stamp=corpus.stamp, card=card(config, len(captions.captions)))


def with_total(terms: dict[str, Tensor]) -> dict[str, float]:
    return {"loss": float(sum(terms.values())), **{name: float(value) for name, value in terms.items()}}


def normalised(batch: Batch, statistics: Statistics) -> Tensor:
    """Motion (B, T, D) float32 of a batch, zero beyond each end. In float64 inside, as motions are judged."""
    mean, std = (torch.as_tensor(array, dtype=torch.float64, device=batch.motion.device)
                 for array in (statistics.mean, statistics.std))  # fmt: skip
    return ((batch.motion.double() - mean) / std * batch.mask[..., None]).float()


def embeddings(networks: GuoEvaluator, batch: Batch, captions: CaptionWords) -> tuple[Tensor, Tensor]:
    """Embeddings (B, C) of a batch's texts and of its motions, which zeros follow as when motions are judged."""
    device = networks.device
    frames = min(batch.motion.shape[1] + LOOK_AHEAD, networks.config.max_frames)
    motion = F.pad(normalised(batch, networks.statistics), (0, 0, 0, frames - batch.motion.shape[1]))
    text = networks.text_encoder(captions.encode(batch.texts).to(device))
    return text, networks.embed_motion(motion.to(device), batch.lengths.to(device))


def card(config: EvaluatorConfig, num_captions: int) -> str:
    """README.md of a checkpoint folder."""
    return f"""# Text-motion evaluator

Trained by `python -m train.train_evaluator` on `{config.dataset}` ({config.skeleton} skeleton, {config.fps:g} fps,
{config.heading} heading; {num_captions} different captions, read through {config.words}). It judges motions of that kind only.
The terms of that dataset's licence hold for these weights.
"""


def shortest_motion(corpus: Corpus) -> int:
    """Frames, in whole units, of the shortest motion whose length is learnt."""
    limits = published_limits(corpus.features)
    return limits[0] if limits else 2 * UNIT_LENGTH


def length_recipe(corpus: Corpus, captions: CaptionWords, config: LengthEstimatorConfig, training: TrainOptions) -> Recipe:
    """A classifier of how many units of 4 frames a text's motion takes."""
    data, held_out = (
        TextMotionDataset(corpus, split, min_frames=shortest_motion(corpus), crop_rule="whole") for split in ("train", "val")
    )

    def logits_and_units(networks: LengthEstimator, batch: Batch) -> tuple[Tensor, Tensor]:
        device = next(networks.parameters()).device
        units = (batch.lengths // UNIT_LENGTH).clamp(max=LENGTH_CLASSES - 1).to(device)  # (B,)
        return networks(captions.encode(batch.texts).to(device)), units

    def loss(networks: LengthEstimator, batch: Batch, generators: object) -> dict[str, Tensor]:
        return {"cross_entropy": F.cross_entropy(*logits_and_units(networks, batch), reduction="none")}

    def evaluate(networks: LengthEstimator, step: int) -> dict[str, float]:
        batch = CaptionBatches(held_out, min(len(held_out), 512), training.seed)(0, 0, 1)
        logits, units = logits_and_units(networks, batch)
        expected = logits.softmax(-1) @ torch.arange(LENGTH_CLASSES, device=logits.device, dtype=logits.dtype)
        error = UNIT_LENGTH / corpus.fps * (expected - units).abs().mean()
        return {"loss": F.cross_entropy(logits, units).item(), "mean_error_seconds": error.item()}

    batches = CaptionBatches(data, training.batch_size, training.seed)
    judged = evaluate if training.eval_interval else None
    return Recipe(partial(LengthEstimator, config, corpus.statistics), loss, batches, judged, stamp=corpus.stamp)
