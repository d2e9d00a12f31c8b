"""What the evaluator, in two stages, and the length estimator add to the training loop."""

from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor
from torch.nn import functional as F

from data_loaders.batch_plan import BatchPlan
from data_loaders.batches import CaptionBatches, TextMotionDataset, WindowBatches
from data_loaders.corpus import Corpus
from data_loaders.features import Statistics
from data_loaders.known_datasets import published_limits
from evaluations.metrics import POOL, matching_score, r_precision
from model.evaluator_config import LENGTH_CLASSES, UNIT_LENGTH, EvaluatorConfig, LengthEstimatorConfig
from model.evaluator_losses import matching_loss
from model.evaluators import GuoEvaluator, LengthEstimator, MovementAutoencoder, WordSource
from model.text_encoders import with_text_features
from train.options import TrainOptions
from train.recipe import Recipe

VALIDATION_POOLS = 8


@dataclass(frozen=True)
class Settings:
    """What both stages of the evaluator draw: windows in frames, rare contents lifted by `balance`."""

    window: int
    balance: float


def movement_recipe(
    corpus: Corpus, config: EvaluatorConfig, training: TrainOptions, statistics: Statistics, settings: Settings
) -> Recipe:
    """First stage: the movement autoencoder on windows of motion."""
    batches, held_out = (
        WindowBatches(corpus, split, settings.window, training.batch_size, training.seed, settings.balance)
        for split in ("train", "val")
    )

    def evaluate(model: MovementAutoencoder, step: int) -> dict[str, float]:
        return with_total(model.loss(held_out(0, 0, 1)))

    return Recipe(partial(MovementAutoencoder, config, statistics), batches, evaluate, stamp=corpus.stamp)


def matching_recipe(
    corpus: Corpus, words: WordSource, config: EvaluatorConfig, training: TrainOptions, statistics: Statistics,
    movement: MovementAutoencoder, settings: Settings,
) -> Recipe:  # fmt: skip
    """Second stage: texts and motions that belong together become near, others far, over the encoder of the first."""
    data, held_out = (TextMotionDataset(corpus, split) for split in ("train", "val"))
    encoders = {"words": words}

    def fresh() -> GuoEvaluator:
        model = GuoEvaluator(config, statistics)
        model.networks["movement_encoder"].load_state_dict(movement.networks["encoder"].state_dict())
        return model

    def evaluate(model: GuoEvaluator, step: int) -> dict[str, float]:
        count = min(len(held_out) // POOL, VALIDATION_POOLS) * POOL or len(held_out)
        chosen = BatchPlan(len(held_out), count, seed=training.seed).batch(0)
        text, motion = model.embeddings(with_text_features(held_out.batch(chosen, training.seed), encoders))
        figures = with_total(matching_loss(text, motion, 1, config.negative_margin))
        text, motion = text.cpu().numpy(), motion.cpu().numpy()
        if count >= POOL:
            figures |= {f"top{k}": float(share) for k, share in zip((1, 2, 3), r_precision(text, motion))}
        return {**figures, "distance": matching_score(text, motion)}

    weights = data.weights(settings.balance) if settings.balance else None
    batches = CaptionBatches(data, training.batch_size, training.seed, weights)
    judged = evaluate if training.eval_interval else None
    read = f"{config.words}, parts of speech by {config.tagger}" if config.tagger else config.words
    card = f"""# Text-motion evaluator

Trained by `python -m train.train_evaluator` on `{config.dataset}` ({corpus.features.skeleton} skeleton, {corpus.fps:g} fps,
{corpus.heading} heading; {len(data.texts)} different captions, read through {read}). It judges motions of that kind only.
The terms of that dataset's licence hold for these weights.
"""
    return Recipe(fresh, batches, judged, stamp=corpus.stamp, card=card, encoders=encoders)


def with_total(terms: dict[str, Tensor]) -> dict[str, float]:
    return {"loss": float(sum(terms.values())), **{name: float(value) for name, value in terms.items()}}


def shortest_motion(corpus: Corpus) -> int:
    """Frames, in whole units, of the shortest motion whose length is learnt."""
    limits = published_limits(corpus.features)
    return limits[0] if limits else 2 * UNIT_LENGTH


def length_recipe(corpus: Corpus, words: WordSource, config: LengthEstimatorConfig, training: TrainOptions) -> Recipe:
    """A classifier of how many units of 4 frames a text's motion takes."""
    data, held_out = (
        TextMotionDataset(corpus, split, min_frames=shortest_motion(corpus), crop_rule="whole") for split in ("train", "val")
    )
    encoders = {"words": words}

    def evaluate(model: LengthEstimator, step: int) -> dict[str, float]:
        batch = CaptionBatches(held_out, min(len(held_out), 512), training.seed)(0, 0, 1)
        logits, units = model.logits_and_units(with_text_features(batch, encoders))
        expected = logits.softmax(-1) @ torch.arange(LENGTH_CLASSES, device=logits.device, dtype=logits.dtype)
        error = UNIT_LENGTH / corpus.fps * (expected - units).abs().mean()
        return {"loss": F.cross_entropy(logits, units).item(), "mean_error_seconds": error.item()}

    batches = CaptionBatches(data, training.batch_size, training.seed)
    judged = evaluate if training.eval_interval else None
    return Recipe(partial(LengthEstimator, config, corpus.statistics), batches, judged, stamp=corpus.stamp, encoders=encoders)
