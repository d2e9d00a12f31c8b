"""What TMR and TEMOS add to the training loop: captioned motions, language models, networks, loss, validation by retrieval."""

import logging
from collections.abc import Iterable, Mapping
from dataclasses import replace
from functools import partial

import numpy as np
import torch

from data_loaders.batches import CaptionBatches, TextMotionDataset, collate
from data_loaders.corpus import Batch, Corpus
from data_loaders.feature_statistics import feature_mean_std
from data_loaders.features import Statistics
from data_loaders.text_similarity import duplicates_rule
from evaluations import retrieval_metrics
from model.layers import cosines
from model.text_encoders import SENTENCES, WORDS, TextEncoder, with_text_features
from model.text_towers import at_hand, load_text_encoder, saved_beside
from model.tmr import TMR
from model.tmr_config import NUM_POSITIONS, TMRConfig
from protos.randomness import sample_generators
from train.options import TrainOptions
from train.recipe import Evaluate, Recipe, kept_statistics, to_device

logger = logging.getLogger(__name__)

POOL = retrieval_metrics.SMALL_BATCH
VALIDATION_POOLS = 16


def tmr_recipe(
    data: Corpus, config: TMRConfig, training: TrainOptions, seconds: tuple[float, float], balance: float = 0.0
) -> Recipe:
    """How a model of `config` is trained on motions of `seconds`, shortest and longest; rare contents are lifted by `balance`.

    ValueError or OSError, in a user's words, for what cannot be trained.
    """
    config = completed(config, data, seconds)
    motions = training_motions(data, "train", seconds)
    statistics = kept_statistics(statistics_of(motions, data), training)
    held_out = validation_motions(data, seconds) if training.eval_interval else None
    texts = list(dict.fromkeys([*motions.texts, *(held_out.texts if held_out else [])]))
    words = text_features(data, WORDS, config.text_encoder, texts)
    encoders = {"words": words}
    if config.lambda_contrastive:
        same = config.sentence_encoder == config.text_encoder and words.saved is None
        encoders["sentences"] = words if same else text_features(data, SENTENCES, config.sentence_encoder, texts)
    config = replace(config, text_dim=words.dim)
    if balance and not any(motions.labels("content")):
        logger.warning("--balance %g does nothing: the clips of %s have no content labels", balance, config.dataset)
    weights = motions.weights(balance) if balance else None
    return Recipe(
        partial(TMR, config, statistics, text_encoder=words),
        CaptionBatches(motions, training.batch_size, training.seed, weights),
        validation(held_out, training.seed, encoders) if held_out else None, stamp=data.stamp, card=card(config, seconds),
        captions=motions.texts, encoders=encoders,
    )  # fmt: skip


def completed(config: TMRConfig, data: Corpus, seconds: tuple[float, float]) -> TMRConfig:
    """The configuration with what data and language models decide, and what `auto` stands for."""
    words, sentences = language_models(config.text_encoder, config.sentence_encoder, data, bool(config.lambda_contrastive))
    return replace(
        config, features=data.features, text_encoder=words, sentence_encoder=sentences,
        duplicates=duplicates_rule(config.duplicates, data.heading == "published", sentences),
        **frame_limits(seconds, data.fps),
    )  # fmt: skip


def language_models(words: str, sentences: str, data: Corpus, contrast: bool = True) -> tuple[str, str]:
    """The language models asked for, with those of the published system, or the embedded one, in the place of `auto`."""
    chosen = {"text_encoder": words, "sentence_encoder": sentences}
    for name, kind, published in (("text_encoder", WORDS, "distilbert"), ("sentence_encoder", SENTENCES, "mpnet")):
        if chosen[name] == "auto":
            saved = saved_beside(data.folder, kind, published) is not None
            chosen[name] = published if saved else at_hand(published, "minilm")
            if chosen[name] != published and (kind == WORDS or contrast):
                logger.warning("--%s auto: minilm, since %s is not on this machine (python -m protos.fetch %s)", name, published,
                               published)  # fmt: skip
    return chosen["text_encoder"], chosen["sentence_encoder"]


def training_motions(data: Corpus, split: str, seconds: tuple[float, float]) -> TextMotionDataset:
    """The captioned motions of a split, whole as they are described."""
    shortest, longest = frames_between(seconds, data.fps)
    return TextMotionDataset(data, split, longest, shortest, unit_length=1, crop_rule="whole", seconds=seconds)


def validation_motions(data: Corpus, seconds: tuple[float, float]) -> TextMotionDataset:
    try:
        return training_motions(data, "val", seconds)
    except (FileNotFoundError, ValueError) as error:
        raise ValueError(f"--eval_interval needs a validation split (0: none): {error}") from error


def frames_between(seconds: tuple[float, float], fps: float) -> tuple[int, int]:
    shortest, longest = (max(1, int(each * fps + 1e-6)) for each in seconds)
    return shortest, longest


def frame_limits(seconds: tuple[float, float], fps: float) -> dict[str, int]:
    """min_frames and max_frames of motions of `seconds`. ValueError where the networks cannot read as many."""
    shortest, longest = frames_between(seconds, fps)
    positions = NUM_POSITIONS - 2
    if longest > positions:
        raise ValueError(f"--max_seconds {seconds[1]:g}: {longest} frames at {fps:g} fps, these networks read at most "
                         f"{positions}")  # fmt: skip
    return {"min_frames": shortest, "max_frames": longest}


def statistics_of(motions: TextMotionDataset, data: Corpus) -> Statistics:
    """Mean and std of each feature over all that is trained on: not the dataset's own, whose std is averaged in blocks."""
    return Statistics(*feature_mean_std(motions.motions(), data.features), data.features)


def text_features(data: Corpus, kind: str, encoder: str, texts: Iterable[str]) -> TextEncoder:
    """What makes features of all texts: those saved with the dataset where it has them all, else the encoder itself."""
    saved = saved_beside(data.folder, kind, encoder)
    if saved is None:
        return load_text_encoder(encoder)
    if missing := [text for text in texts if text not in saved.saved]:
        logger.warning("%d captions have no saved features in %s, such as %r: all are computed", len(missing),
                       data.folder / kind, missing[0])  # fmt: skip
        return load_text_encoder(encoder)
    return saved


def validation(motions: TextMotionDataset, seed: int, encoders: Mapping[str, TextEncoder]) -> Evaluate:
    """evaluate(networks, step) -> loss terms and recalls in pools of 32 texts and motions, always the same ones.

    Terms are of sampled latents, as in training, recalls of mean latents, as in use. Captions that mean the same count
    as one another's.
    """
    count = min(len(motions), VALIDATION_POOLS * POOL)
    size = min(POOL, count)
    order = np.random.default_rng(seed).permutation(len(motions))
    pools = order[: count // size * size].reshape(-1, size)

    @torch.no_grad()
    def evaluate(model: TMR, step: int) -> dict[str, float]:
        sums: dict[str, float] = {}
        for number, pool in enumerate(pools):
            batch = with_text_features(collate([motions.item(int(i), 0, seed) for i in pool]), encoders)
            batch = to_device(batch, model.device)
            generators = sample_generators(seed, range(size), "val", number, device=model.device)
            terms = {name: float(term) for name, term in model.loss_terms(batch, generators).items()}
            for name, value in {**terms, **batch_recalls(model, batch)}.items():
                sums[name] = sums.get(name, 0.0) + value / len(pools)
        if model.config.lambda_contrastive:
            sums["rank_by"] = -float(np.mean([sums[name] for name in RECALLS]))
        return sums

    return evaluate


RECALLS = ("t2m_R01", "t2m_R03", "m2t_R01", "m2t_R03")


@torch.no_grad()
def batch_recalls(model: TMR, batch: Batch) -> dict[str, float]:
    """RECALLS in percent within a batch."""
    text = model.text_posterior(batch.text_features["words"]).mean
    similarity = cosines(text, model.motion_posterior(*model.masked(batch)).mean).float().cpu().numpy()
    same = np.array(batch.texts)[:, None] == np.array(batch.texts)
    if captions := model.captions_of(batch):
        same |= captions.false_negatives(model.config.false_negative_threshold).cpu().numpy()
    found = retrieval_metrics.retrieval_metrics(similarity, same, rounding=None)
    return {name: found[name.replace("_", "/")] for name in RECALLS}


def card(config: TMRConfig, seconds: tuple[float, float]) -> str:
    """README.md of a checkpoint folder: what it is, what it was trained on, how to use it."""
    tmr = bool(config.lambda_contrastive)
    name, command = ("TMR text-motion retrieval", "train_tmr") if tmr else ("TEMOS text to motion", "train_temos")
    use = ('sample.retrieve text_motion_sim --model_path THIS_FOLDER --text "a person walks forward" --motion FILE' if tmr
           else 'sample.sample --model_path THIS_FOLDER --text_prompt "a person walks forward"')  # fmt: skip
    features = config.features
    return f"""# {name}

Trained by `python -m train.{command}` on `{config.dataset}` ({features.skeleton} skeleton, {features.fps:g} fps,
{features.heading} heading; motions of {seconds[0]:g} to {seconds[1]:g} s; words by {config.text_encoder}).
The terms of that dataset's licence hold for these weights.

This folder alone is enough:

    python -m {use}
"""
