"""The one training loop. A `Recipe` brings a model, its loss of (batch, draws), and its `batches(step, part, parts)`.

Everything random is a function of (seed, step, position of the sample in the global batch): which samples a step sees,
their noise and timesteps, dropout. So a step number is all that resuming needs to go on exactly, and P processes with
batch B train the same model as one with batch P*B, or, where the loss is a mean over samples, with B accumulated P times.
"""

import logging
import math
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, nullcontext
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import nn

from model.model import Draws, Learnt, Model
from protos.processes import Processes
from protos.randomness import derive_seed, seed_everything
from train import checkpoints
from train.checkpoints import STATE_FILE
from train.options import TrainOptions
from train.progress import Meter, Progress
from train.recipe import (
    Evaluate,
    Loss,
    Recipe,
    Sample,
    as_learnt,
    draws_of,
    in_precision,
    precision_of,
    prefetched,
    step_generator,
    to_device,
)

MAX_BAD_STEPS = 20
NOTHING, SAVE, STOP = 0, 1, 2

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class TrainResult:
    """Where a run ended: its last checkpoint folder and the model to sample from (the moving average)."""

    step: int
    checkpoint: Path
    model: Model


class DivergedError(ValueError):
    """The gradient was not finite for many steps in a row."""


class LossModule(nn.Module):
    """Makes the loss of a model the forward pass of a module, so that data-parallel wrappers see every use of its networks."""

    def __init__(self, model: Model, loss: Loss):
        super().__init__()
        self.networks, self.loss = model.networks, partial(loss, model)

    def forward(self, batch: Any, draws: Draws) -> Learnt:
        found = as_learnt(self.loss(batch, draws))
        terms = {name: term.float().mean() for name, term in found.terms.items()}
        if "loss" not in terms:
            terms["loss"] = torch.stack(list(terms.values())).sum()
        return found._replace(terms=terms)


def learning_rate(step: int, options: TrainOptions) -> float:
    """Rate of the optimiser step after `step` finished ones: linear warm-up, then constant, cosine or linear to 0.

    `intergen` falls as a cosine from the first step on, warm-up or not, and warms up one step longer, to above 1, as published.
    """
    if options.schedule == "intergen":
        fallen = 0.5 * (1 + math.cos(math.pi * step / options.num_steps))
        return options.lr * fallen * ((step + 1) / options.warmup_steps if step <= options.warmup_steps else 1)
    if step < options.warmup_steps:
        return options.lr * (step + 1) / options.warmup_steps
    schedule = "linear" if options.lr_anneal_steps and options.schedule == "constant" else options.schedule
    end = options.lr_anneal_steps or options.num_steps
    progress = min(1.0, (step - options.warmup_steps) / max(end - options.warmup_steps, 1))
    passed = sum(step - options.warmup_steps >= milestone for milestone in options.milestones)
    fall = {"constant": 1.0, "linear": 1 - progress, "cosine": 0.5 * (1 + math.cos(math.pi * progress)),
            "steps": options.gamma**passed}  # fmt: skip
    return options.lr * fall[schedule]


@torch.no_grad()
def update_average(average: nn.Module, networks: nn.Module, decay: float) -> None:
    """average <- decay * average + (1 - decay) * weights; buffers are copied."""
    pairs = [(a, p) for a, p in zip(average.parameters(), networks.parameters()) if p.requires_grad]
    torch._foreach_lerp_([a.data for a, _ in pairs], [p.data for _, p in pairs], 1 - decay)
    for a, b in zip(average.buffers(), networks.buffers()):
        a.copy_(b)


def clip_gradients(networks: nn.Module, limit: float, each: bool = False) -> float:
    """Norm of the whole gradient, before it is scaled down to at most `limit`; with `each`, child by child."""
    parts = [part.parameters() for part in networks.children()] if each else [networks.parameters()]
    if each:
        parts.append(networks.parameters(recurse=False))  # those that belong to no child
    trained = ([p for p in part if p.requires_grad] for part in parts)
    norms = [nn.utils.clip_grad_norm_(parameters, limit) for parameters in trained if parameters]
    return torch.stack(norms).norm().item()


def train(recipe: Recipe, options: TrainOptions) -> TrainResult:
    """Trains a fresh model; goes on with the newest complete checkpoint in options.save_dir if there is one.

    After --max_minutes, Ctrl-C or SIGTERM the run finishes its step and saves; the latter two then raise KeyboardInterrupt and
    SystemExit. Raises DivergedError, and ValueError for a checkpoint that does not fit.
    """
    seed_everything(options.seed)
    with ExitStack() as held:
        run = _Run(recipe.build(), recipe, options, held)
        held.callback(run.progress.close)
        workers = int(run.device.type != "cpu") if options.num_workers is None else options.num_workers
        with _signals() as caught, prefetched(run.plan(), recipe.batch, workers) as next_batch:
            return run.steps(next_batch, caught)


class _Run:
    """One call of `train`: the state that a checkpoint holds, and the steps that change it."""

    def __init__(self, model: Model, recipe: Recipe, options: TrainOptions, held: ExitStack):
        """held: keeps the folder to this run until it is closed."""
        from accelerate import Accelerator

        self.device = Processes(options.device).device
        self.accelerator = Accelerator(mixed_precision="no", cpu=self.device.type == "cpu")
        if self.accelerator.distributed_type.value in ("FSDP", "DEEPSPEED", "MEGATRON_LM"):
            raise ValueError("this loop averages whole weights: launch with data parallelism (--multi_gpu)")
        self.options, self.recipe, self.save_dir = options, recipe, Path(options.save_dir)
        self.main = self.accelerator.is_main_process
        self.world = self.accelerator.num_processes
        self.began = time.monotonic()
        self.saved_at = self.began
        if self.main:
            held.enter_context(checkpoints.alone(self.save_dir))
            checkpoints.begin_run(self.save_dir, options.overwrite)
        self.accelerator.wait_for_everyone()

        self.model = model.to(self.device)
        self.networks = model.networks
        parameters = [p for p in self.networks.parameters() if p.requires_grad]
        self.optimizer = torch.optim.AdamW(
            parameters, lr=options.lr, betas=(options.adam_beta1, options.adam_beta2), weight_decay=options.weight_decay,
            fused=self.device.type in ("cpu", "cuda"),
        )  # fmt: skip
        self.average = model.copied() if options.use_ema else None
        self.meter, self.step, self.best = Meter(), 0, math.inf
        self.checkpoint = self._restore()
        if self.main:
            checkpoints.remember_options(self.save_dir, asdict(options))
        self.module = self.accelerator.prepare_model(LossModule(model, recipe.loss), device_placement=False)
        samples_per_step = options.batch_size * options.accumulation * self.world
        self.progress = Progress(self.save_dir, self.step, options.num_steps, samples_per_step, self.main)
        if self.main:
            count = sum(p.numel() for p in parameters)
            self.progress.say(
                "%.2f M parameters, %d samples per step, %s on %d x %s",
                count / 1e6, samples_per_step, precision_of(options, self.device), self.world, self.device,
            )  # fmt: skip

    def _restore(self) -> Path | None:
        """Loads the newest checkpoint of the run, or the one named by --resume_checkpoint."""
        found = checkpoints.complete(self.save_dir)
        named = Path(self.options.resume_checkpoint) if self.options.resume_checkpoint else None
        if named is not None:  # a run's folder stands for its newest checkpoint
            named = (checkpoints.complete(named) or [named])[-1]
        if not found and named is None:
            return None
        folder = found[-1] if found else named
        if not found and not (folder / STATE_FILE).is_file():
            checkpoints.load_initial_weights(self.networks, folder, self.recipe.published(folder))
            if self.average is not None:
                self.average.networks.load_state_dict(self.networks.state_dict())
            return None
        state = checkpoints.read_training_state(folder)
        checkpoints.load_stored(self.model, state["networks"], folder)
        if self.average is not None:
            checkpoints.load_stored(self.average, state["average"] or state["networks"], folder)
        checkpoints.load_optimizer(self.optimizer, state["optimizer"], folder)
        for group in self.optimizer.param_groups:  # these may have been changed on purpose
            group.update(weight_decay=self.options.weight_decay, betas=(self.options.adam_beta1, self.options.adam_beta2))
        self.meter.restore(state["meter"], self.device)
        self.step, self.best = int(state["step"]), float(state["best"])
        if self.main:
            logger.info("going on with %s at step %d", folder, self.step)
            if (state.get("stamp") or self.recipe.stamp) != self.recipe.stamp:
                logger.warning("what the run learns from, its dataset or teacher, has changed since %s was written: training "
                               "goes on with what is there now", folder)
        return folder

    def plan(self) -> Iterator[tuple[int, int, int]]:
        """(step, part, parts) of every batch that this process will ask for, in order."""
        parts = self.options.accumulation * self.world
        for step in range(self.step, self.options.num_steps):
            for part in range(self.accelerator.process_index, parts, self.world):
                yield step, part, parts

    def steps(self, next_batch: Callable[[], Any], caught: list[int]) -> TrainResult:
        options, evaluate, sample, bad_steps = self.options, self.recipe.evaluate, self.recipe.sample, 0
        while self.step < options.num_steps:
            norm = self._update(next_batch)
            bad_steps = 0 if math.isfinite(norm) else bad_steps + 1
            if bad_steps:
                self.progress.say("step %d: the gradient is not finite; step skipped", self.step)
            if bad_steps >= MAX_BAD_STEPS:
                last = f"the last good checkpoint is {self.checkpoint}" if self.checkpoint else "nothing was saved yet"
                raise DivergedError(
                    f"training diverged: {MAX_BAD_STEPS} steps in a row without a finite gradient, up to step "
                    f"{self.step}; {last}; try a lower --lr, or --grad_clip 1"
                )
            self.progress.advance()
            if self.step % options.log_interval == 0 or self.step == options.num_steps:
                self._log(norm)
            if evaluate is not None and options.eval_interval and self.step % options.eval_interval == 0:
                self._evaluate(evaluate)
            action = self._agree(caught)
            if action or self.step % options.save_interval == 0 or self.step == options.num_steps:
                self._save()
            if sample is not None and options.sample_interval and self.step % options.sample_interval == 0:
                self._sample(sample)
            if action == STOP:
                reason = signal.Signals(caught[0]).name if caught else "--max_minutes"
                self.progress.say("stopped by %s at step %d; the same command goes on", reason, self.step)
                if caught:
                    raise KeyboardInterrupt if caught[0] == signal.SIGINT else SystemExit(128 + caught[0])
                break
        return TrainResult(self.step, self.checkpoint, self.judged)

    def _update(self, next_batch: Callable[[], Any]) -> float:
        """One optimiser step; returns the norm of the gradient. A gradient that is not finite changes nothing."""
        options = self.options
        self.model.train()
        parts = []
        for micro in range(options.accumulation):
            part = micro * self.world + self.accelerator.process_index
            seed_everything(derive_seed(options.seed, "step", self.step, part))
            positions = range(part * options.batch_size, (part + 1) * options.batch_size)
            draws = draws_of(options.seed, positions, "train", self.step, device=self.device,
                             progress=self.step / options.num_steps)
            batch = to_device(next_batch(), self.device)
            last = micro == options.accumulation - 1
            with nullcontext() if last else self.accelerator.no_sync(self.module):
                with in_precision(options, self.device):
                    learnt = self.module(batch, draws)
                (learnt.terms["loss"] / options.accumulation).backward()
            parts.append(learnt)
        norm = clip_gradients(self.networks, options.grad_clip or math.inf, options.clip_each)
        if math.isfinite(norm):
            for learnt in parts:
                self.meter.add(learnt.terms | learnt.figures)
            for group in self.optimizer.param_groups:
                group["lr"] = learning_rate(self.step, options)
            self.optimizer.step()
            if parts[0].sums:
                sums = {name: torch.stack([learnt.sums[name] for learnt in parts]).sum(0) for name in parts[0].sums}
                self.model.update(self.accelerator.reduce(sums, "sum"), step_generator(
                    options.seed, "update", self.step, device=self.device))
            if self.average is not None:
                decay = options.ema_decay
                if options.ema_warmup:
                    decay = min(decay, (1 + self.step) / (10 + self.step))
                update_average(self.average.networks, self.networks, decay)
        self.optimizer.zero_grad(set_to_none=True)
        self.step += 1
        return norm

    @property
    def judged(self) -> Model:
        """The model to sample, judge and save."""
        return (self.average if self.average is not None else self.model).eval()

    def _share_meter(self) -> None:
        if self.world > 1:
            from accelerate.utils import gather_object

            names = sorted({name for each in gather_object([sorted(self.meter.sums)]) for name in each})
            self.meter.set(names, self.accelerator.reduce(self.meter.table(names, self.device), "mean"))

    def _log(self, norm: float) -> None:
        self._share_meter()
        rate = learning_rate(self.step - 1, self.options)
        self.progress.log(self.step, {**self.meter.means(), "grad_norm": norm, "lr": rate})
        self.meter = Meter()

    def _evaluate(self, evaluate: Evaluate) -> None:
        if self.main:
            with torch.no_grad(), self.progress.paused():
                figures = evaluate(self.judged, self.step)
            self.progress.write(self.step, {f"eval/{name}": value for name, value in figures.items()})
            text = "  ".join(f"{name} {value:.4g}" for name, value in figures.items())
            self.progress.say("step %d: evaluation  %s", self.step, text)
            if (rank := figures.get("rank_by", figures.get("loss", math.inf))) < self.best:
                self.best = rank
                checkpoints.write_best(self.save_dir, self.judged, self.recipe.save, {"step": self.step, **figures})
        self.accelerator.wait_for_everyone()

    def _sample(self, sample: Sample) -> None:
        if self.main:
            try:
                with torch.no_grad(), self.progress.paused():
                    sample(self.judged, self.step)
            except (ImportError, OSError, RuntimeError, ValueError) as error:  # a missing ffmpeg must not end the run
                logger.warning("step %d: no samples: %s", self.step, error)
        self.accelerator.wait_for_everyone()

    def _agree(self, caught: list[int]) -> int:
        """What all processes do after this step: NOTHING, SAVE because it is time, or STOP."""
        minutes = (time.monotonic() - self.began) / 60
        action = NOTHING
        if caught or (self.options.max_minutes and minutes >= self.options.max_minutes):
            action = STOP
        elif self.options.save_minutes and time.monotonic() - self.saved_at >= 60 * self.options.save_minutes:
            action = SAVE
        if self.world > 1:
            actions = self.accelerator.gather(torch.tensor([action], device=self.device))
            action = int(actions.max())
        return action

    def _save(self) -> None:
        self._share_meter()
        if self.main:
            state = {
                "step": self.step, "best": self.best, "meter": self.meter.state(), "stamp": self.recipe.stamp,
                "networks": checkpoints.stored_weights(self.model), "optimizer": self.optimizer.state_dict(),
                "average": None if self.average is None else checkpoints.stored_weights(self.average),
            }  # fmt: skip
            self.checkpoint = checkpoints.write_checkpoint(self.save_dir, self.step, self.judged, self.recipe.save, state)
            checkpoints.prune(self.save_dir, self.options.keep_last)
        self.saved_at = time.monotonic()
        self.accelerator.wait_for_everyone()


@contextmanager
def _signals() -> Iterator[list[int]]:
    """Collects SIGINT and SIGTERM instead of dying of them; a second one of either acts at once."""
    caught: list[int] = []
    previous: dict[int, Any] = {}

    def note(number: int, frame: object) -> None:
        caught.append(number)
        logger.info("%s: saving after this step", signal.Signals(number).name)
        for each, handler in previous.items():
            signal.signal(each, handler)

    try:
        for number in (signal.SIGINT, signal.SIGTERM):
            previous[number] = signal.signal(number, note)
    except ValueError:  # not in the main thread: whoever runs us there handles signals
        previous.clear()
    try:
        yield caught
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)
