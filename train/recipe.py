"""What training adds to a model, and what every training command does alike: `train.loop.train` runs a `Recipe`."""

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from data_loaders.corpus import Statistics
from model.known_texts import FILE as KNOWN_TEXTS_FILE
from model.known_texts import KnownTexts
from model.pretrained import write_files
from model.text_encoders import TextEncoder, with_text_features
from protos.files import write_atomically
from train.checkpoints import SaveNetworks, complete
from train.options import TrainOptions
from train.prefetch import Batches

# (networks, batch, a generator per sample) -> terms, scalar or (B,); "loss" is the total, where it is absent their sum.
Loss = Callable[[nn.Module, Any, "list[torch.Generator]"], dict[str, Tensor]]
# (networks to judge, step) -> figures; "rank_by", or without it "loss", tells which checkpoint is best, lower being better.
Evaluate = Callable[[nn.Module, int], dict[str, float]]
Sample = Callable[[nn.Module, int], None]

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Recipe:
    """Networks, data, loss and callbacks of a training. The callbacks run on the main process, without gradient.

    The networks that are judged, sampled and saved are the moving average, where there is one, in eval mode.
    """

    build: Callable[[], nn.Module]  # fresh networks; called right after seeding, so whatever else draws numbers comes before
    loss: Loss
    batches: Batches
    evaluate: Evaluate | None = None
    sample: Sample | None = None
    stamp: str = ""  # changes with the data, which is said where a run goes on
    card: str = ""  # README.md of a checkpoint folder
    captions: Sequence[str] = ()  # whose sketch lies beside the weights, so that a prompt beyond them is told
    prompts: Sequence[str] = ()  # that sampling uses when none is given
    write: SaveNetworks | None = None  # the sampling files of networks that are no registered system
    published: Callable[[Path], dict[str, Tensor] | None] = lambda path: None  # weights of another project's checkpoint
    encoders: Mapping[str, TextEncoder] = field(default_factory=dict)  # by role, of whose features the loss reads

    def batch(self, step: int, part: int, parts: int) -> Any:
        """A batch with its text features. It is called by the threads that make batches ahead of time."""
        made = self.batches(step, part, parts)
        return with_text_features(made, self.encoders) if self.encoders else made

    def save(self, folder: Path, networks: nn.Module) -> None:
        """Writes what sampling needs into an empty folder."""
        if self.write is not None:
            self.write(folder, networks)
            return
        write_files(folder, networks.config, networks.state_dict(), networks.statistics, self.card)
        if self.captions:
            self._known_texts.save(folder / KNOWN_TEXTS_FILE)
        if self.prompts:
            write_atomically(folder / "prompts.txt", "".join(f"{prompt}\n" for prompt in self.prompts))

    @cached_property
    def _known_texts(self) -> KnownTexts:
        return KnownTexts.make(self.captions)


def kept_statistics(own: Statistics, options: TrainOptions) -> Statistics:
    """`own`, those of the data, for a new run; else those that the weights gone on with, of a run or checkpoint, have learnt.

    Says so where the data have changed since. FeaturesMismatch where they are now of another kind.
    """
    started = [] if options.overwrite else complete(Path(options.save_dir))
    if not started and options.resume_checkpoint:
        named = Path(options.resume_checkpoint)
        started = complete(named) or [named]
    if not started or not (started[-1] / "stats.npz").is_file():
        return own
    found = Statistics.load(started[-1] / "stats.npz")
    found.features.require(own.features, str(started[-1]), "the dataset")
    if found.mean.shape != own.mean.shape:
        raise ValueError(f"{started[-1]}: mean and std of {found.mean.size} features, the dataset has {own.mean.size}")
    if not (np.allclose(found.mean, own.mean, atol=1e-3) and np.allclose(found.std, own.std, rtol=1e-2)):
        logger.warning("the data have changed since this run began: motions are still normalised as then (%s)", started[-1])
    return found
