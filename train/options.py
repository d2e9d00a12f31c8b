"""The options every training command shares. A command's own dataclass inherits from this one and adds its flags."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

from protos.flags import BATCH_SIZE, PROCESSES, SEED, SHARE, STEPS, WEIGHT, Bounded, Range


@dataclass(frozen=True, kw_only=True)
class TrainOptions(Bounded):
    """How to train, whatever the system."""

    save_dir: str
    """Folder for checkpoints (step_#########), log.jsonl and samples; a run found there is gone on with."""
    overwrite: bool = False
    """Begin anew in a save_dir that holds a run, whose checkpoints and log are deleted."""
    resume_checkpoint: str = ""
    """Checkpoint (or the folder of a run) to begin from: gone on with exactly if it holds training_state.pt, else its
    weights only."""

    num_steps: Annotated[int, STEPS] = 600_000
    """Optimiser steps in all."""
    batch_size: Annotated[int, BATCH_SIZE] = 64
    """Samples per process and forward pass."""
    accumulation: Annotated[int, BATCH_SIZE] = 1
    """Forward passes per optimiser step; for losses that are means over samples, a batch so many times as large."""
    lr: Annotated[float, Range(0, 100, above=True)] = 1e-4
    """Learning rate of AdamW."""
    weight_decay: Annotated[float, Range(0, 1000)] = 0.0
    """Weight decay of AdamW."""
    adam_beta1: Annotated[float, Range(0, 1, below=True)] = 0.9
    """First beta of AdamW."""
    adam_beta2: Annotated[float, Range(0, 1, below=True)] = 0.999
    """Second beta of AdamW."""
    warmup_steps: Annotated[int, Range(0, 1_000_000_000)] = 0
    """Steps over which the learning rate rises from 0."""
    schedule: Literal["constant", "cosine", "linear", "steps", "intergen"] = "constant"
    """Course of the learning rate after the warm-up; cosine and linear fall to 0 at the last step, steps by a factor at each of
    some, intergen as a cosine from the first step on."""
    milestones: tuple[Annotated[int, STEPS], ...] = ()
    """Steps after the warm-up at which --schedule steps lowers the learning rate."""
    gamma: Annotated[float, SHARE] = 0.1
    """What it is multiplied by there."""
    lr_anneal_steps: Annotated[int, Range(0, 1_000_000_000)] = 0
    """Steps at which the falling rate reaches 0 (0: num_steps); setting it makes a constant schedule linear."""
    grad_clip: Annotated[float, WEIGHT] = 0.0
    """Largest norm of the gradient; 0 does not clip."""
    clip_each: bool = False
    """Clip the gradient of every network by itself, where there are several."""
    precision: Literal["fp32", "bf16", "auto"] = "fp32"
    """bf16 computes the forward pass in bfloat16 over float32 weights: several times faster where the hardware multiplies such
    numbers (GPUs, CPUs with AMX), many times slower elsewhere; auto takes it where it is faster."""

    use_ema: bool = True
    """Sample, judge and save the moving average of the weights."""
    ema_decay: Annotated[float, Range(0, 1, below=True)] = 0.9999
    """Decay of that average per step."""
    ema_warmup: bool = False
    """Begin with a shorter average, decay (1+step)/(10+step), so that short runs forget their first weights."""

    save_interval: Annotated[int, STEPS] = 50_000
    """Steps between checkpoints."""
    save_minutes: Annotated[float, Range(0, 1_000_000)] = 30.0
    """Minutes after which a checkpoint is written in any case; 0: never."""
    keep_last: Annotated[int, Range(0, 1_000_000)] = 2
    """How many of the newest checkpoints to keep; 0 keeps all."""
    log_interval: Annotated[int, STEPS] = 1000
    """Steps between lines of the log, which average over them."""
    eval_interval: Annotated[int, Range(0, 1_000_000_000)] = 0
    """Steps between evaluations on the validation split; the best is kept in save_dir/best. 0: never."""
    sample_interval: Annotated[int, Range(0, 1_000_000_000)] = 0
    """Steps between sample videos of fixed prompts; 0: never."""
    max_minutes: Annotated[float, Range(0, 1_000_000)] = 0.0
    """Save and stop after so many minutes; 0: no limit."""

    seed: Annotated[int, SEED] = 10
    """Seed of weights, data order, noise and timesteps."""
    device: str = "auto"
    """auto, cpu, cuda, cuda:1 or 1; of several processes each takes a GPU of its own, or its part of the CPU."""
    processes: Annotated[int, PROCESSES] = 1
    """Processes on this machine that train together, each with --batch_size samples of every step."""
    num_workers: Annotated[int, Range(0, 256)] | None = None
    """Background threads that prepare batches; 0 prepares them in the loop (default: 1 beside a GPU; 0 on a CPU, where they
    would only delay the loop)."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.save_dir:
            raise ValueError("--save_dir must name a folder")
        run = Path(self.save_dir).resolve()
        if self.overwrite and self.resume_checkpoint and Path(self.resume_checkpoint).resolve().is_relative_to(run):
            raise ValueError(f"--overwrite would delete {self.resume_checkpoint}, from which the run is to begin: give another "
                             "--save_dir, or leave --overwrite out to go on with the run")


@dataclass(frozen=True, kw_only=True)
class SampledOptions(TrainOptions):
    """Motions made while training"""

    dataset_folder: str = ""
    """Where the dataset lies, if not at dataset/."""
    sample_prompts: tuple[str, ...] = ()
    """Prompts of the videos of --sample_interval (default: captions of the data), one motion of 6 s each."""
    gen_during_training: bool = False
    """Sample videos at every checkpoint; as --sample_interval with the value of --save_interval."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.gen_during_training and not self.sample_interval:
            object.__setattr__(self, "sample_interval", self.save_interval)


@dataclass(frozen=True, kw_only=True)
class GeneratorOptions(SampledOptions):
    """Motions judged while training"""

    eval_during_training: bool = False
    """Judge motions made for captions of the val split too (R-precision, FID, ...), by the dataset's evaluator; without
    --eval_interval at every checkpoint."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.eval_during_training and not self.eval_interval:
            object.__setattr__(self, "eval_interval", self.save_interval)


@dataclass(frozen=True, kw_only=True)
class DrawingOptions:
    """How clips are drawn"""

    balance: Annotated[float, Range(0, 10)] = 0.7
    """How far rare contents are lifted: 0 draws clips as often as they occur, 1 every content equally often."""
    repeat: Annotated[float, SHARE] = 0.35
    """How often a short action on the spot is played several times in a row, for requests longer than recordings."""
    bucket: bool = True
    """With --mask_frames: batches of clips of similar length, which saves the time spent on padding."""


@dataclass(frozen=True, kw_only=True)
class OverTokensOptions(DrawingOptions, GeneratorOptions):
    """How captioned clips are drawn, and motions made and judged while training"""


@dataclass(frozen=True, kw_only=True)
class OverPosesOptions(OverTokensOptions):
    """Of transformers over pose codes"""

    preset: Literal["published", "small"] = "published"
    """Recipe that sets the defaults of the other flags."""
    keywords_folder: str = ""
    """Folder of NAME.npy with features of each motion's keywords, as CoMo and PGR2M publish them; without it their slots hold
    what --keywords says."""


@dataclass(frozen=True, kw_only=True)
class TokenizerOptions(TrainOptions):
    """Windows of motion"""

    window_size: Annotated[int, Range(4, 100_000)] = 64
    """Frames per training window, whole tokens; shorter clips are padded."""
    balance: Annotated[float, Range(0, 10)] = 0.0
    """How far contents are evened out: 0 draws clips as often as they occur, 1 every content equally often."""
    feature_bias: Annotated[float, Range(0, 1000, above=True)] = 5.0
    """What the std of root and contacts is divided by, twice as in published training; 1 leaves it as the data have it."""
