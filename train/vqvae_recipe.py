"""What a motion tokenizer adds to the training loop: windows of motion, and how far what it tells lies from them."""

import numpy as np
import torch

from data_loaders.batches import WindowBatches
from data_loaders.corpus import Batch, Corpus
from data_loaders.feature_statistics import with_feature_bias
from data_loaders.features import Statistics
from model.vqvae import VQVAE
from model.vqvae_config import VQVAEConfig
from model.vqvae_network import whole_tokens
from train.options import TrainOptions
from train.recipe import Recipe, kept_statistics

VALIDATION_BATCHES = 4


def vqvae_recipe(
    corpus: Corpus, config: VQVAEConfig, training: TrainOptions, window: int, balance: float, feature_bias: float
) -> Recipe:
    """How a tokenizer is trained on windows of `window` frames, rare contents lifted by `balance`.

    feature_bias: what the std of root and contacts is divided by, twice, so that they count for less.
    """
    statistics = kept_statistics(biased(corpus.statistics, feature_bias), training)
    batches, held_out = (
        WindowBatches(corpus, split, window, training.batch_size, training.seed, balance) for split in ("train", "val")
    )

    def evaluate(model: VQVAE, step: int) -> dict[str, float]:
        return mean_of([reconstruction_error(model, held_out(number, 0, 1)) for number in range(VALIDATION_BATCHES)])

    return Recipe(lambda: VQVAE(config, statistics), batches, evaluate, stamp=corpus.stamp, card=card(config, corpus))


def biased(statistics: Statistics, bias: float) -> Statistics:
    """Statistics by which root and contacts count for less: as published training has it, of a std divided twice."""
    if bias == 1:
        return statistics
    return Statistics(statistics.mean, with_feature_bias(statistics.std, statistics.features, bias, times=2), statistics.features)


@torch.no_grad()
def reconstruction_error(model: VQVAE, batch: Batch) -> dict[str, float]:
    """The loss of a batch told by its codes, without commitment; MPJPE in mm, the pelvis of each frame laid on the true one."""
    frames = model.config.downsampling
    x, keep = whole_tokens(*model.masked(batch), frames)
    coded = model.quantise(model.network.encoder(x, keep), keep[:, ::frames])
    made = model.network.decoder(coded.vectors, keep[:, ::frames]).float()
    joints, true = (model.features.joints(model.denormalise(each)) for each in (made, x))  # (B, [P,] T, J, 3)
    apart = (joints - joints[..., :1, :]) - (true - true[..., :1, :])
    apart = apart.norm(dim=-1).mean(-1).reshape(len(x), -1, x.shape[1]).mean(1)  # (B, T)
    terms = model.reconstruction_terms(made, x, keep)
    return {"loss": float(sum(terms.values())), "mpjpe_mm": float(1000 * apart[keep].mean()),
            "perplexity": float(coded.perplexity)}  # fmt: skip


def mean_of(figures: list[dict[str, float]]) -> dict[str, float]:
    return {name: float(np.mean([each[name] for each in figures])) for name in figures[0]}


def card(config: VQVAEConfig, corpus: Corpus) -> str:
    """README.md of a checkpoint folder: what it is, what it was trained on, how to use it."""
    return f"""# Motion tokenizer

{config.num_quantizers} x {config.num_codes} codes, a token for {config.downsampling} frames. Trained by
`python -m train.train_vq` on `{config.dataset}` ({corpus.skeleton.name} skeleton, {corpus.fps:g} fps). The terms of that
dataset's licence hold for these weights.

What motion loses by it:

    python -m evaluations.eval_vq --model_path THIS_FOLDER
"""
