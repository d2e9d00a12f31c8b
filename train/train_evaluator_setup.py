"""What `train.train_evaluator` does once its options are read: data, networks, losses of both stages."""

import logging
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from data_loaders.batch_plan import BatchPlan
from data_loaders.batches import CaptionBatches, TextMotionDataset, WindowBatches
from data_loaders.corpus import Batch, Corpus, Statistics
from data_loaders.feature_statistics import with_feature_bias
from data_loaders.text import Caption
from evaluations.metrics import POOL, matching_score, r_precision
from model.evaluator_losses import draw_shift, matching_loss, movement_loss
from model.evaluator_words import MinilmWords, WordSource, load_words
from model.evaluators import LOOK_AHEAD, EvaluatorConfig, GuoEvaluator, MovementAutoencoder, WordFeatures
from model.pretrained import write_files
from protos.randomness import seed_everything
from train.loop import TrainResult, train
from train.text_table import text_table
from train.train_evaluator import EvaluatorOptions

logger = logging.getLogger(__name__)

VALIDATION_POOLS = 8


def train_evaluator(options: EvaluatorOptions) -> TrainResult:
    """Trains both stages, each gone on with where it was left. ValueError or OSError, in a user's words."""
    corpus = Corpus.open(options.dataset)
    captions = CaptionWords(corpus, options.words, options.glove_folder)
    config = EvaluatorConfig(
        num_features=corpus.skeleton.num_features, movement_hidden=options.movement_hidden,
        movement_latent=options.movement_latent, text_hidden=options.text_hidden, motion_hidden=options.motion_hidden,
        embedding=options.embedding, words=captions.source.name, word_dim=captions.source.word_dim,
        pos_dim=captions.source.pos_dim, dataset=options.dataset, skeleton=corpus.skeleton.name, fps=corpus.fps,
        heading=corpus.heading,
    )  # fmt: skip
    std = with_feature_bias(corpus.std, corpus.skeleton.num_joints, options.feat_bias, times=2)
    statistics = Statistics(corpus.mean, std, corpus.representation)
    movement = train_movement(options.of_movement(), corpus, config, statistics)
    return train_matching(options.of_matching(), corpus, config, statistics, movement, captions)


def train_movement(
    options: EvaluatorOptions, corpus: Corpus, config: EvaluatorConfig, statistics: Statistics
) -> MovementAutoencoder:
    """First stage: the movement autoencoder on windows of motion."""
    seed_everything(options.seed)
    networks = MovementAutoencoder(config)
    pair = (statistics.mean, statistics.std)
    batches, held_out = (
        WindowBatches(corpus, split, options.window_size, options.batch_size, options.seed, options.balance, statistics=pair)
        for split in ("train", "val")
    )

    def loss(networks: MovementAutoencoder, batch: Batch, generators: object) -> dict[str, Tensor]:
        return movement_loss(networks.encoder, networks.decoder, batch.motion)

    @torch.no_grad()
    def evaluate(networks: MovementAutoencoder, step: int) -> dict[str, float]:
        batch = held_out(0, 0, 1)
        device = next(networks.parameters()).device
        terms = movement_loss(networks.encoder, networks.decoder, batch.motion.to(device))
        return {"loss": float(sum(terms.values())), **{name: float(value) for name, value in terms.items()}}

    def save(folder: Path, networks: nn.Module) -> None:
        from safetensors.torch import save_file

        save_file({name: value.contiguous() for name, value in networks.state_dict().items()}, folder / "model.safetensors")

    logger.info("movement autoencoder: %d steps", options.num_steps)
    return train(networks, loss, batches, options, save, evaluate, stamp=corpus.stamp).networks


def train_matching(
    options: EvaluatorOptions, corpus: Corpus, config: EvaluatorConfig, statistics: Statistics,
    movement: MovementAutoencoder, captions: "CaptionWords",
) -> TrainResult:  # fmt: skip
    """Second stage: texts and motions that belong together become near, others far."""
    seed_everything(options.seed)
    networks = GuoEvaluator(config, statistics)
    networks.movement_encoder.load_state_dict(movement.encoder.state_dict())
    pair = (statistics.mean, statistics.std)
    data, held_out = (TextMotionDataset(corpus, split, statistics=pair) for split in ("train", "val"))

    def loss(networks: GuoEvaluator, batch: Batch, generators: list[torch.Generator]) -> dict[str, Tensor]:
        text, motion = embeddings(networks, batch, captions)
        shift = draw_shift(len(text), generators[0])
        return matching_loss(text, motion, shift, options.negative_margin)

    @torch.no_grad()
    def evaluate(networks: GuoEvaluator, step: int) -> dict[str, float]:
        count = min(len(held_out) // POOL, VALIDATION_POOLS) * POOL or len(held_out)
        chosen = BatchPlan(len(held_out), count, seed=options.seed).batch(0)
        text, motion = embeddings(networks, held_out.batch(chosen, options.seed), captions)
        terms = matching_loss(text, motion, 1, options.negative_margin)
        figures = {"loss": float(sum(terms.values())), **{name: float(value) for name, value in terms.items()}}
        text, motion = text.cpu().numpy(), motion.cpu().numpy()
        if count >= POOL:
            figures |= {f"top{k}": float(share) for k, share in zip((1, 2, 3), r_precision(text, motion))}
        return {**figures, "distance": matching_score(text, motion)}

    def save(folder: Path, networks: GuoEvaluator) -> None:
        write_files(folder, config, networks.state_dict(), statistics, card(options, corpus))

    logger.info("matching: %d steps", options.num_steps)
    weights = data.weights(options.balance) if options.balance else None
    batches = CaptionBatches(data, options.batch_size, options.seed, weights)
    judged = evaluate if options.eval_interval else None
    return train(networks, loss, batches, options, save, judged, stamp=corpus.stamp)


def embeddings(networks: GuoEvaluator, batch: Batch, captions: "CaptionWords") -> tuple[Tensor, Tensor]:
    """Embeddings (B, C) of a batch's texts and of its motions, which zeros follow as when motions are judged."""
    device = networks.device
    frames = min(batch.motion.shape[1] + LOOK_AHEAD, networks.config.max_frames)
    motion = F.pad(batch.motion, (0, 0, 0, frames - batch.motion.shape[1]))
    text = networks.text_encoder(captions.encode(batch.texts).to(device))
    return text, networks.embed_motion(motion.to(device), batch.lengths.to(device))


class CaptionWords:
    """Words of the captions of a corpus, by their text."""

    def __init__(self, corpus: Corpus, words: str, glove_folder: Path):
        self.source: WordSource = load_words(words, glove_folder)
        self.captions = {caption.text: caption for name in corpus.names for caption in corpus.captions(name)}
        if isinstance(self.source, MinilmWords):
            self.source = MinilmWords(text_table("minilm", self.captions))

    def encode(self, texts: list[str]) -> WordFeatures:
        return self.source.encode([self.captions.get(text, Caption(text)) for text in texts])


def card(options: EvaluatorOptions, corpus: Corpus) -> str:
    """README.md of a checkpoint folder."""
    words = np.unique([caption.text for name in corpus.names for caption in corpus.captions(name)]).size
    return f"""# Text-motion evaluator

Trained by `python -m train.train_evaluator` on `{options.dataset}` ({corpus.skeleton.name} skeleton, {corpus.fps:g} fps,
{corpus.heading} heading; {words} different captions, read through {options.words}). It judges motions of that kind only.
The terms of that dataset's licence hold for these weights.
"""
