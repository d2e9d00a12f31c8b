"""How motions are judged: the settings that decide an evaluation's numbers. Commands add how it is run and where files go."""

import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

from model.registry import dataset_of
from protos.flags import BATCH_SIZE, FPS, REPLICATIONS, SEED, Range, decided
from sample.generation import STARTER, DecodingSettings

log = logging.getLogger(__name__)

# (replications, whether texts are made several times); `full` and `mm_short` are those that fill the last column
MODES = {"debug": (5, False), "wo_mm": (20, False), "mm_short": (5, True), "full": (20, True)}
REAL_MOTION = "real"


def chosen_dataset(given: str | None, checkpoint: str | Path | None) -> str:
    """The dataset that was given, or that a checkpoint (by default the weights that come with the code) was trained on, which
    the log then says. ValueError where the checkpoint does not say."""
    if given is not None:
        return given
    checkpoint = STARTER if checkpoint is None else checkpoint
    name = dataset_of(checkpoint)
    log.info("dataset %s: %s was trained on it (--dataset takes another)", name, checkpoint)
    return name


@dataclass(frozen=True, kw_only=True)
class ProtocolSettings:
    """Beside which real motions, by which judge and by whose protocol motions are judged."""

    dataset: str | None = None
    """Prepared dataset, a folder or known name: the real motions, and the captions to make (default: that which the model was
    trained on)."""
    evaluator: Path | None = None
    """Evaluator to judge with (default: the published one of humanml and kit, of other data the one trained on them)."""
    protocol: Literal["t2m", "mdm", "t2mgpt", "momask", "lamp"] = "mdm"
    """Whose protocol; they differ in how many motions are made, in what FID compares and in which texts repeat."""
    eval_mode: Literal["debug", "wo_mm", "mm_short", "full"] = "wo_mm"
    """debug: 5 replications; wo_mm: 20; mm_short: 5 with MultiModality, 30 motions a text; full: 20 with it."""
    num_motions: Annotated[int, Range(1, 1_000_000)] | None = None
    """Motions to make per replication, in pools of 32 (default: as the protocol says; mdm: 1024 or the whole split)."""
    controls: bool = False
    """Judge shuffled captions and noise too, rows that every metric that should tell them apart must tell apart, and the training
    motion whose caption is nearest."""
    seed: Annotated[int, SEED] = 10
    """Seed: the same seed gives the same numbers."""


@dataclass(frozen=True, kw_only=True)
class ChoiceSettings:
    """What ways of making motions are compared on: probes, captions of the test split, and physics, alike for each way."""

    dataset: str | None = None
    """Prepared dataset with the real motions, whose probes are asked: folder or known name (default: the checkpoint's own)."""
    evaluator: Path | None = None
    """Evaluator of FID (default: the published one of humanml and kit, of other data the one trained on them)."""
    probe_seeds: Annotated[int, REPLICATIONS] = 3
    """Motions per wording of the probes."""
    num_motions: Annotated[int, Range(32, 1_000_000)] = 1000
    """Captions of the test split that motions are made for, at most: whole pools of 32, up to the one that reaches so many."""
    seed: Annotated[int, SEED] = 10
    """Seed: captions and noise are the same in every row."""
    batch_size: Annotated[int, BATCH_SIZE] = 64
    """Motions made at once."""
    device: str = "auto"
    """auto, cpu, cuda, cuda:1 or 1."""


@dataclass(frozen=True, kw_only=True)
class EvaluationSettings(ProtocolSettings, DecodingSettings):
    """What is judged, and how: two runs of equal settings on equal data come to the same numbers."""

    model_path: str = str(STARTER)
    """Checkpoint: our folder, an official folder, a model*.pt in one, or `real` for the real motions alone."""
    motions: Path | None = None
    """Judge these instead of a model: a folder of NAME.npy joints (T, J, 3) in metres, Y up, and NAME.txt with a caption a
    line, or the results of a sampling run."""
    fps: Annotated[float, FPS] | None = None
    """Frames per second of --motions (default: what results say of themselves, else those of the dataset)."""
    split: str = "test"
    """Split of the dataset."""
    physics_clips: Annotated[int, Range(0, 1_000_000)] = 200
    """Motions of the first replication whose physics is compared with that of real ones (0: none)."""
    def __post_init__(self) -> None:
        if self.fps is not None and self.motions is None:
            raise ValueError("--fps says how fast --motions run; a model has its own frame rate")


@dataclass(frozen=True, kw_only=True)
class ReactionSettings:
    """With --task reaction: one of two people acts, the other answers"""

    task: Literal["text", "reaction"] = "text"
    """text: motions of both, made of captions; reaction: what one answers to what the other does, either person of a test segment
    acting in turn, beside answers that need no model (--eval_mode does not matter)."""
    samples: Annotated[int, Range(1, 10_000)] = 10
    """Reactions of each action: MPJPE is the mean over them, and the least beside it."""
    with_text: bool = False
    """Tell the model what the two do, as well."""


@dataclass(frozen=True, kw_only=True)
class InteractionSettings(EvaluationSettings):
    """What two people do: what is judged, and how."""

    model_path: str = REAL_MOTION
    """Checkpoint of a model of two people: our folder, an official file, or `real` for the real motions alone."""
    dataset: str | None = None
    """Prepared dataset of two people, a folder or known name (default: that which the model or the evaluator was trained on)."""
    evaluator: Path | None = None
    """Judge (default: the published InterCLIP of InterHuman, of other data checkpoints/interclip)."""
    protocol: Literal["intergen", "in2in"] = "intergen"
    """Whose protocol; they differ in the number of replications. Both draw pools of 96; less data make one pool."""
    eval_mode: Literal["debug", "wo_mm", "mm_short", "full"] = "wo_mm"
    """debug: 5 replications; wo_mm: as many as the protocol has, mm_short: 5 with MultiModality, 30 motions of each of 100 texts;
    full: all, with it."""
    num_motions: Annotated[int, Range(1, 1_000_000)] | None = None
    """Motions to make per replication, in whole pools (default: the whole split)."""
    controls: bool = True
    """Judge shuffled captions, partners of other pairs, noise on paths and the nearest training segment too."""
    motions: Path | None = None
    """Judge these instead of a model: a folder of NAME.npy joints (2, T, J, 3) in metres, Y up, and NAME.txt with a caption a
    line, or the results of a sampling run."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.model_path == REAL_MOTION and self.dataset is None and self.evaluator is None:
            raise ValueError("whose motions? Give --dataset, or --model_path or --evaluator, which say what they were trained on")


@dataclass(frozen=True, kw_only=True)
class TokenizerSettings(ProtocolSettings):
    """What a tokenizer loses, and how it is judged."""

    model_path: str
    """Checkpoint of a motion tokenizer: our folder, or a published file or folder of LaMP, T2M-GPT or MoMask."""
    split: str = "test"
    """Split of the dataset."""
    physics_clips: Annotated[int, Range(0, 1_000_000)] = 1_000_000
    """Motions of the first replication whose joints and physics are compared with the real ones (0: none)."""
    motions: Path | None = decided(None)
