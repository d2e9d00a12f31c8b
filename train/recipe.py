"""What training adds to a model, and what every training command does alike: `train.loop.train` runs a `Recipe`."""

import logging
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field, fields, is_dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from data_loaders.features import Statistics
from model.checkpoints import from_pretrained, write_files
from model.known_texts import FILE as KNOWN_TEXTS_FILE
from model.known_texts import KnownTexts
from model.model import Draws, Learnt, Model
from model.registry import is_ours
from model.text_encoders import EncodesTexts, with_text_features
from protos.files import write_atomically
from protos.processes import multiplies_bf16
from protos.randomness import derive_seed, sample_generators
from train.checkpoints import complete
from train.options import TrainOptions

# (step, part, parts) -> the part-th of `parts` equal parts of the step's global batch. Pure: it runs in threads.
Batches = Callable[[int, int, int], Any]
# (model to judge, step) -> figures; "rank_by", or without it "loss", tells which checkpoint is best, lower being better.
Evaluate = Callable[[Any, int], dict[str, float]]
Sample = Callable[[Any, int], None]
Loss = Callable[[Any, Any, Draws], dict[str, Tensor] | Learnt]  # (model, batch, draws) -> terms, scalar or (B,)

logger = logging.getLogger(__name__)


def own_loss(model: Model, batch: Any, draws: Draws) -> dict[str, Tensor] | Learnt:
    """What the model itself is trained by."""
    return model.loss(batch, draws)


def as_learnt(found: dict[str, Tensor] | Learnt) -> Learnt:
    """What a loss found, also of one that found terms alone."""
    return found if isinstance(found, Learnt) else Learnt(found, {})


@dataclass(frozen=True)
class Recipe:
    """Model, data and callbacks of a training. The callbacks run on the main process, without gradient.

    The model that is judged, sampled and saved has the moving average of the weights, where there is one, and is in eval mode.
    """

    build: Callable[[], Model]  # a fresh model; called right after seeding, so whatever else draws numbers comes before
    batches: Batches
    evaluate: Evaluate | None = None
    sample: Sample | None = None
    stamp: str = ""  # changes with the data, which is said where a run goes on
    card: str = ""  # README.md of a checkpoint folder
    captions: Sequence[str] = ()  # whose sketch lies beside the weights, so that a prompt beyond them is told
    prompts: Sequence[str] = ()  # that sampling uses when none is given
    before_saving: Callable[[Any], None] = lambda model: None  # what is measured of a trained model once, such as its latents
    published: Callable[[Path], dict[str, Tensor] | None] = lambda path: None  # weights of another project's checkpoint
    encoders: Mapping[str, EncodesTexts] = field(default_factory=dict)  # by role, of whose features the loss reads
    loss: Loss = own_loss

    def batch(self, step: int, part: int, parts: int) -> Any:
        """A batch with its text features. It is called by the threads that make batches ahead of time."""
        made = self.batches(step, part, parts)
        return with_text_features(made, self.encoders) if self.encoders else made

    def save(self, folder: Path, model: Model) -> None:
        """Writes what sampling needs into an empty folder."""
        self.before_saving(model)
        write_files(folder, model, self.card)
        if self.captions:
            self._known_texts.save(folder / KNOWN_TEXTS_FILE)
        if self.prompts:
            write_atomically(folder / "prompts.txt", "".join(f"{prompt}\n" for prompt in self.prompts))

    @cached_property
    def _known_texts(self) -> KnownTexts:
        return KnownTexts.make(self.captions)


def draws_of(seed: int, positions: Sequence[int], *context: str | int, device: torch.device | str = "cpu",
             progress: float = 1.0) -> Draws:
    """The randomness of the samples at `positions` of the global batch, and of a step, in a context such as ("train", step)."""
    samples = sample_generators(seed, positions, *context, device=device)
    return Draws(samples, step_generator(seed, *context, device=device), progress, positions[0] if positions else 0)


def step_generator(seed: int, *context: str | int, device: torch.device | str = "cpu") -> torch.Generator:
    """The randomness of what a whole batch shares, in a context such as ("train", step)."""
    return torch.Generator(device).manual_seed(derive_seed(seed, "step", *context))


def precision_of(options: TrainOptions, device: torch.device) -> str:
    """fp32 or bf16: what is asked for, or the faster one."""
    if options.precision != "auto":
        return options.precision
    return "bf16" if multiplies_bf16(device) else "fp32"


def in_precision(options: TrainOptions, device: torch.device) -> torch.autocast:
    """The context of forward passes."""
    return torch.autocast(device.type, torch.bfloat16, enabled=precision_of(options, device) == "bf16")


def kept_statistics(own: Statistics, options: TrainOptions) -> Statistics:
    """`own`, those of the data, for a new run; else those that the weights gone on with, of a run or checkpoint, have learnt.

    Says so where the data have changed since. FeaturesMismatch where they are now of another kind.
    """
    begun = begun_from(options)
    if begun is None or not (begun / "stats.npz").is_file():
        return own
    found = Statistics.load(begun / "stats.npz")
    found.features.require(own.features, str(begun), "the dataset")
    if found.mean.shape != own.mean.shape:
        raise ValueError(f"{begun}: mean and std of {found.mean.size} features, the dataset has {own.mean.size}")
    if not (np.allclose(found.mean, own.mean, atol=1e-3) and np.allclose(found.std, own.std, rtol=1e-2)):
        logger.warning("the data have changed since this run began: motions are still normalised as then (%s)", begun)
    return found


def kept_parts(given: Mapping[str, Model], options: TrainOptions) -> dict[str, Model]:
    """`given`, the models that a new model is to stand on; else those that the weights gone on with have learnt to stand on.

    Says so where these are others than the given ones.
    """
    begun = begun_from(options)
    if not given or begun is None or not (begun / "config.json").is_file() or not is_ours(begun):
        return dict(given)
    kept = dict(given) | from_pretrained(begun).parts
    for name, part in kept.items():
        before, now = part.networks.state_dict(), given[name].networks.state_dict() if name in given else {}
        if before.keys() != now.keys() or not all(torch.equal(value, now[key]) for key, value in before.items()):
            logger.warning("the %s is another than when this run began: it stands on that of then (%s)", name, begun)
    return kept


def begun_from(options: TrainOptions) -> Path | None:
    """The checkpoint that a training goes on with: the newest of its run, else --resume_checkpoint; None for a new run."""
    started = [] if options.overwrite else complete(Path(options.save_dir))
    if not started and options.resume_checkpoint:
        named = Path(options.resume_checkpoint)
        started = complete(named) or [named]
    return started[-1] if started else None


# ----------------------------------------------------------------------------------------------- batches made ahead of time


@contextmanager
def prefetched(plan: Iterator[tuple[int, int, int]], batches: Batches, num_workers: int) -> Iterator[Callable[[], Any]]:
    """`next_batch()` for the calls of `plan` in turn; what a call raises, it raises. 0 workers: made when asked for."""
    if num_workers == 0:
        yield lambda: batches(*next(plan))
        return
    pool = ThreadPoolExecutor(num_workers, thread_name_prefix="batches")
    waiting: deque[Future] = deque()

    def next_batch() -> Any:
        while len(waiting) < num_workers + 1 and (following := next(plan, None)) is not None:
            waiting.append(pool.submit(batches, *following))
        return waiting.popleft().result()

    try:
        yield next_batch
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def to_device(record: Any, device: torch.device) -> Any:
    """The tensors of a record (dataclasses, lists, tuples and dicts of them) on `device`, all else as it is."""
    if isinstance(record, Tensor):
        return record.to(device, non_blocking=True)
    if is_dataclass(record) and not isinstance(record, type):
        return replace(record, **{f.name: to_device(getattr(record, f.name), device) for f in fields(record) if f.init})
    if isinstance(record, dict):
        return {key: to_device(value, device) for key, value in record.items()}
    if type(record) in (list, tuple):
        return type(record)(to_device(value, device) for value in record)
    return record
