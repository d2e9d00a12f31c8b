"""Whose mean and std a training normalises with: those that the weights it goes on with have learnt."""

import logging
from pathlib import Path

import numpy as np

from data_loaders.corpus import Statistics
from train.checkpoints import complete
from train.options import TrainOptions

logger = logging.getLogger(__name__)


def kept_statistics(own: Statistics, options: TrainOptions) -> Statistics:
    """`own`, those of the data, for a new run; else those of the run or the checkpoint that is gone on with.

    Says so where the data have changed since. RepresentationMismatch where they are now of another kind.
    """
    started = [] if options.overwrite else complete(Path(options.save_dir))
    if not started and options.resume_checkpoint:
        named = Path(options.resume_checkpoint)
        started = complete(named) or [named]
    if not started or not (started[-1] / "stats.npz").is_file():
        return own
    found = Statistics.load(started[-1] / "stats.npz")
    found.representation.require(own.representation, str(started[-1]), "the dataset")
    if found.mean.shape != own.mean.shape:
        raise ValueError(f"{started[-1]}: mean and std of {found.mean.size} features, the dataset has {own.mean.size}")
    if not (np.allclose(found.mean, own.mean, atol=1e-3) and np.allclose(found.std, own.std, rtol=1e-2)):
        logger.warning("the data have changed since this run began: motions are still normalised as then (%s)", started[-1])
    return found
