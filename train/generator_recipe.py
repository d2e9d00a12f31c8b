"""What text to motion by diffusion adds to the training loop: captioned motions, validation with fixed noise, videos, judge."""

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from data_loaders.batches import CaptionBatches, TextMotionDataset, TrainingItem, collate
from data_loaders.corpus import Batch, Corpus
from data_loaders.known_datasets import published_limits
from evaluations.evaluation_set import real_set
from evaluations.motion_sources import ModelSource
from evaluations.protocol import GENERATED, PROTOCOLS, Entrants, Evaluation
from model.capabilities import Generates, Request
from model.checkpoints import from_pretrained
from model.embedding import default_evaluator, open_space
from model.lsremgm import LSReMGM
from model.lsremgm_config import LSReMGMConfig
from model.model import Model
from model.registry import system_of
from model.text_encoders import TextEncoder, with_text_features
from model.text_towers import load_text_encoder
from protos.files import file_name
from protos.randomness import derive_seed
from sample.generation import NotFiniteError, motions_for
from train.options import GeneratorOptions, TrainOptions
from train.recipe import (
    Evaluate,
    Loss,
    Recipe,
    as_learnt,
    draws_of,
    in_precision,
    kept_parts,
    kept_statistics,
    own_loss,
    to_device,
)

logger = logging.getLogger(__name__)

class Validated(Protocol):
    """Motions that are drawn by (index, number, seed), such as those of a split."""

    def __len__(self) -> int: ...

    def item(self, index: int, number: int, seed: int = 0) -> TrainingItem: ...


SAMPLE_SECONDS = 6.0
NUM_PROMPTS = 4
VALIDATION_CLIPS = 256
LEAST_VALIDATION = 32  # so many windows and levels of noise, of fewer motions several each: one draw each would say little
JUDGED_MOTIONS = 256  # that --eval_during_training makes


TITLES = {"lsremgm": "LS-ReMGM text to motion", "latent": "Text to motion in latents"}


@dataclass(frozen=True)
class Drawing:
    """How clips are drawn: rare contents lifted by `balance`, short actions played several times in a row by chance `repeat`,
    and, with `bucket`, clips of like length together."""

    balance: float = 0.0
    repeat: float = 0.0
    bucket: bool = False


PLAIN = Drawing()


def generator_recipe(
    kind: type[LSReMGM], corpus: Corpus, config: LSReMGMConfig, training: GeneratorOptions, drawing: Drawing = PLAIN,
    parts: Mapping[str, Model] | None = None, loss: Loss = own_loss,
) -> Recipe:  # fmt: skip
    """How a model of `kind` and `config` is trained, what data and texts decide being filled in here.

    parts: the models that it stands on, whose mean and std count. loss: of training and validation. ValueError or OSError, in a
    user's words, for what cannot be trained.
    """
    parts = kept_parts(parts or {}, training)
    own = next((part.statistics for part in parts.values()), corpus.statistics)
    own.features.require(corpus.features, "the model's part", f"dataset {corpus.folder}")
    statistics = kept_statistics(own, training)
    data = training_data(corpus, "train", config, drawing.repeat)
    texts = data.texts
    config = replace(config.resolved(), features=corpus.features)
    encoder, encoders = None, {}
    if config.condition == "text":
        encoder = load_text_encoder(config.text_encoder, max_tokens=config.text_max_tokens or None)
        encoders["text"] = encoder
        config = replace(config, text_encoder=encoder.name, text_dim=encoder.dim)
    prompts = list(training.sample_prompts) or some_of(texts)
    judge = judging(corpus, training.seed) if training.eval_during_training else None
    held_out = None
    if training.eval_interval:
        held_out = validation(validation_data(lambda split: training_data(corpus, split, config)), training, encoders, loss,
                              padding(config))  # fmt: skip

    def fresh() -> LSReMGM:
        model = kind(config, statistics, parts)
        model.text_encoder = encoder
        return model

    def evaluate(model: LSReMGM, step: int) -> dict[str, float]:
        return held_out(model, step) | (judge(model, step) if judge else {})

    def sample(model: LSReMGM, step: int) -> None:
        write_samples(Path(training.save_dir) / "samples" / f"step_{step:09d}", model, prompts, training.seed)

    def published(path: Path) -> dict[str, Tensor] | None:
        told = path.suffix == ".pt" or (path / "args.json").is_file()
        return from_pretrained(path, dataset_folder=corpus.folder).networks.state_dict() if told else None

    return Recipe(
        fresh, batches(data, config, training, drawing), evaluate if held_out else None, sample, corpus.stamp,
        card(kind, config, corpus), texts if encoder else (), prompts, published=published,
        encoders=encoders, loss=loss,
    )  # fmt: skip


def some_of(texts: Sequence[str]) -> list[str]:
    """A few prompts from all over the texts."""
    return [texts[i] for i in np.linspace(0, len(texts) - 1, min(NUM_PROMPTS, len(texts))).astype(int)]


def training_data(corpus: Corpus, split: str, config: LSReMGMConfig, repeat: float = 0.0) -> TextMotionDataset:
    """The captioned motions of a split: published length limits for published datasets, all from 2 units up else.

    Models with a prefix train on crops of exactly context_len + pred_len frames.
    """
    if config.context_len:
        frames = config.context_len + config.resolved().pred_len
        if frames % 4:
            raise ValueError(f"--context_len + --pred_len is {frames}: expected a multiple of 4")
        return TextMotionDataset(corpus, split, frames, frames, crop_rule="whole")
    limits = published_limits(corpus.features)
    return TextMotionDataset(corpus, split, min_frames=limits and limits[0], repeat=repeat)


def padding(config: LSReMGMConfig) -> int | None:
    """Frames of every batch: max_frames where padding is seen, as it is in sampling; None, those of the longest clip, else."""
    return None if config.mask_frames or config.context_len else config.max_frames


def batches(data: TextMotionDataset, config: LSReMGMConfig, training: TrainOptions, drawing: Drawing) -> CaptionBatches:
    """The batches of training."""
    pad_to = padding(config)
    weights = data.weights(drawing.balance) if drawing.balance or drawing.repeat else None
    # Padding that the model does not see costs time only: then batches are of clips of like length.
    lengths = data.lengths if pad_to is None and drawing.bucket else None
    return CaptionBatches(data, training.batch_size, training.seed, weights, lengths, pad_to)


def validation(
    data: Validated, training: TrainOptions, encoders: Mapping[str, TextEncoder], loss: Loss = own_loss,
    pad_to: int | None = None, prepare: Callable[[Batch], Batch] = lambda batch: batch,
) -> Evaluate:  # fmt: skip
    """evaluate(networks, step) -> mean loss terms over motions of a split, few ones several times, and their sum, always with the
    same noise.

    prepare: what is done to a batch before its texts are read. Of terms that are one number of a batch the mean over batches.
    """
    count = max(min(len(data), VALIDATION_CLIPS), LEAST_VALIDATION)
    size = min(training.batch_size, count)
    chosen = np.linspace(0, len(data) - 1, count).astype(int) if count <= len(data) else np.arange(count) % len(data)

    @torch.no_grad()
    def evaluate(trained: Model, step: int) -> dict[str, float]:
        sums: dict[str, float] = {}
        for start in range(0, count, size):
            rows = range(start, min(start + size, count))
            batch = prepare(collate([data.item(int(chosen[i]), i // len(data), training.seed) for i in rows], pad_to))
            batch = to_device(with_text_features(batch, encoders), trained.device)
            draws = draws_of(training.seed, rows, "val", device=trained.device)
            with in_precision(training, trained.device):
                found = as_learnt(loss(trained, batch, draws))
            terms = {"loss": sum(term.float().mean() for term in found.terms.values())} | found.terms
            for name, term in (terms | found.figures).items():
                sums[name] = sums.get(name, 0.0) + float(term.float().expand(len(rows)).sum())
        return {name: total / count for name, total in sums.items()}

    return evaluate


def validation_data(make: Callable[[str], Validated]) -> Validated:
    """make("val"). ValueError where there is no such split."""
    try:
        return make("val")
    except FileNotFoundError as error:
        raise ValueError(f"--eval_interval needs a validation split: {error}") from error


def judging(corpus: Corpus, seed: int) -> Evaluate | None:
    """evaluate(networks, step) -> the field's metrics on motions made for captions of the val split, always the same ones.

    None, with a note, where there is no evaluator of that dataset.
    """
    try:
        judge = open_space(default_evaluator(corpus), data=corpus)
        data = real_set(corpus, "val")
        data.draw(np.random.default_rng(0))  # says what is wrong with a split too small
    except (OSError, ValueError) as error:
        logger.warning("--eval_during_training measures losses only: %s", error)
        return None
    protocol = replace(PROTOCOLS["mdm"], enough=JUDGED_MOTIONS)
    evaluation = Evaluation(data, judge, protocol, seed, multimodality=False)

    def evaluate(trained: LSReMGM, step: int) -> dict[str, float]:
        source = ModelSource(trained, corpus, progress=False)
        try:
            figures = evaluation.replicate(0, Entrants(source)).rows[GENERATED]
        except NotFiniteError as error:  # of a run that diverges, which the loop itself will end
            logger.warning("step %d: not judged: %s", step, error)
            return {}
        return {name: figures[name] for name in ("top1", "top3", "fid", "mm_dist")}

    return evaluate


def write_samples(folder: Path, networks: Generates, prompts: list[str], seed: int) -> None:
    """A video of each prompt, always from the same noise, as NAME.mp4."""
    from visualize.video import write_video

    config = networks.config
    frames = min(int(SAMPLE_SECONDS * config.features.fps), config.max_frames)
    requests = [Request(prompt, frames, derive_seed(seed, "prompt", i)) for i, prompt in enumerate(prompts)]
    motions = motions_for(networks, requests)
    for i, (prompt, motion) in enumerate(zip(prompts, motions)):
        write_video(folder / f"prompt{i:02d}_{file_name(prompt)}.mp4", [motion])
    logger.info("%d sample videos in %s", len(motions), folder)


def card(kind: type[LSReMGM], config: LSReMGMConfig, corpus: Corpus) -> str:
    """README.md of a checkpoint folder: what it is, what it was trained on, how to use it."""
    scale = f"guidance {config.guidance_scale:g}, {config.diffusion_steps} diffusion steps"
    system = system_of(kind).name
    return f"""# {TITLES.get(system, system)}

Trained by `python -m train.train_{system}` on `{config.dataset}` ({corpus.skeleton.name} skeleton, {corpus.fps:g} fps,
{corpus.heading} heading; text encoder {config.text_encoder}; {scale}).
The terms of that dataset's licence hold for these weights.

This folder alone is enough to sample:

    python -m sample.sample --model_path THIS_FOLDER --text_prompt "a person walks forward"
"""
