"""What a motion tokenizer adds to the training loop: windows of motion, and how far what it tells lies from them."""

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from data_loaders.batches import WindowBatches
from data_loaders.corpus import Batch, Corpus
from data_loaders.feature_statistics import with_feature_bias
from data_loaders.features import Statistics
from model.quantizers import perplexity
from model.vqvae import VQVAE
from model.vqvae_config import TokenizerConfig
from model.vqvae_network import whole_tokens
from train.options import TokenizerOptions
from train.recipe import Recipe, kept_statistics

VALIDATION_BATCHES = 4


def vqvae_recipe(
    corpus: Corpus, kind: type[VQVAE], config: TokenizerConfig, training: TokenizerOptions, command: str
) -> Recipe:
    """How a tokenizer of a kind is trained on windows of motion by a command. ValueError for windows of broken tokens."""
    if training.window_size % config.downsampling:
        raise ValueError(f"--window_size {training.window_size}: expected a multiple of {config.downsampling}, the frames of a "
                         f"token with --num_levels {config.num_levels}")  # fmt: skip
    statistics = kept_statistics(biased(corpus.statistics, training.feature_bias), training)
    batches, held_out = (
        WindowBatches(corpus, split, training.window_size, training.batch_size, training.seed, training.balance)
        for split in ("train", "val")
    )

    def evaluate(model: VQVAE, step: int) -> dict[str, float]:
        return mean_of([reconstruction_error(model, held_out(number, 0, 1)) for number in range(VALIDATION_BATCHES)])

    return Recipe(lambda: kind(config, statistics), batches, evaluate, stamp=corpus.stamp, card=card(config, corpus, command))


def biased(statistics: Statistics, bias: float) -> Statistics:
    """Statistics by which root and contacts count for less: as published training has it, of a std divided twice."""
    if bias == 1:
        return statistics
    return Statistics(statistics.mean, with_feature_bias(statistics.std, statistics.features, bias, times=2), statistics.features)


@torch.no_grad()
def reconstruction_error(model: VQVAE, batch: Batch) -> dict[str, float]:
    """The loss of a batch told by its codes, without that of codebooks; MPJPE in mm, the pelvis of each frame laid on the true
    one, of coarser codes alone too where there are such; codes in use.
    """
    x, keep = whole_tokens(*model.masked(batch), model.config.downsampling)
    ids = model.ids_of(x, keep)
    made, mpjpe = told(model, ids, x, keep)
    figures = {"loss": float(sum(model.reconstruction_terms(made, x, keep).values())), "mpjpe_mm": mpjpe}
    figures |= {f"{name}_mpjpe_mm": told(model, part, x, keep)[1] for name, part in model.coarser(ids).items()}
    books = ids[..., ids.shape[-1] - model.config.num_quantizers :]  # (B, N, Q)
    if model.config.num_quantizers:
        real = books[keep[:, :: model.config.downsampling]]
        figures["perplexity"] = float(perplexity(F.one_hot(real, model.config.num_codes).float().mean(0)).mean())
    return figures


def told(model: VQVAE, ids: Tensor, x: Tensor, keep: Tensor) -> tuple[Tensor, float]:
    """Normalised motion (B, T, D) that ids tell of x, and its MPJPE in mm over frames with keep (B, T)."""
    made = model.network.decoder(model.vectors(ids), keep[:, :: model.config.downsampling]).float()
    joints, true = (model.features.joints(model.denormalise(each)) for each in (made, x))  # (B, [P,] T, J, 3)
    apart = (joints - joints[..., :1, :]) - (true - true[..., :1, :])
    apart = apart.norm(dim=-1).mean(-1).reshape(len(x), -1, x.shape[1]).mean(1)  # (B, T)
    return made, float(1000 * apart[keep].mean())


def mean_of(figures: list[dict[str, float]]) -> dict[str, float]:
    return {name: float(np.mean([each[name] for each in figures])) for name in figures[0]}


def card(config: TokenizerConfig, corpus: Corpus, command: str) -> str:
    """README.md of a checkpoint folder: what it is, what it was trained on, how to use it."""
    return f"""# Motion tokenizer

{config.in_words}, a token for {config.downsampling} frames. Trained by
`python -m {command}` on `{config.dataset}` ({corpus.skeleton.name} skeleton, {corpus.fps:g} fps). The terms of that
dataset's licence hold for these weights.

What motion loses by it:

    python -m evaluations.eval_vq --model_path THIS_FOLDER
"""
