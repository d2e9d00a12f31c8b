"""What `train.train_tmr` and `train.train_temos` do once their options are read: data, networks, loss and validation."""

import logging
from collections.abc import Iterable
from dataclasses import replace
from functools import cache, partial
from pathlib import Path

import numpy as np
import torch

from data_loaders.amass_dataset import AmassDataset, open_dataset
from data_loaders.annotated_motions import AnnotatedMotions
from data_loaders.batches import CaptionBatches, TextMotionDataset, collate
from data_loaders.corpus import Batch, Corpus, Statistics
from data_loaders.feature_statistics import feature_mean_std
from data_loaders.text_similarity import duplicates_rule
from evaluations import retrieval_metrics
from model.known_texts import FILE as KNOWN_TEXTS_FILE
from model.known_texts import KnownTexts
from model.pretrained import write_files
from model.saved_text_features import SENTENCES, WORDS, SavedTextFeatures, features_beside
from model.text_encoders import TextEncoder
from model.text_towers import at_hand
from model.tmr import TMR, TMRConfig, build, cosines
from model.tmr_losses import captions_of, loss
from protos.randomness import sample_generators, seed_everything
from train.loop import Evaluate, TrainResult, train
from train.prefetch import to_device
from train.run_statistics import kept_statistics
from train.text_table import TextTable, text_table
from train.train_tmr import TMROptions

logger = logging.getLogger(__name__)

POOL = retrieval_metrics.SMALL_BATCH
VALIDATION_POOLS = 16
# Scores above which captions may mean the same. That of mpnet is published (0.8, a cosine of 0.6). By minilm, of 574 pairs
# of captions that say the same in their words, all lie above it, and so does a sixth of the others: words must decide too.
FALSE_NEGATIVES = {"mpnet": 0.8, "minilm": 0.8}
AS_ASKED = (
    "latent_dim", "ff_size", "num_layers", "num_heads", "dropout", "frames_per_token", "vae", "log_variance_shift",
    "text_encoder", "sentence_encoder", "lambda_recons", "lambda_kl", "lambda_latent", "lambda_contrastive", "contrast",
    "temperature",
)  # fmt: skip

Data = Corpus | AmassDataset
Motions = TextMotionDataset | AnnotatedMotions
Texts = TextTable | SavedTextFeatures


def train_tmr(options: TMROptions) -> TrainResult:
    """Trains as the options say. Raises ValueError or OSError, in a user's words, for what cannot be trained."""
    data = open_dataset(options.dataset, options.motions)
    options = with_encoders(options, data)
    motions = training_motions(data, "train", options)
    statistics = statistics_for(motions, data, options)
    motions.mean, motions.std = statistics.mean, statistics.std
    held_out = validation_motions(data, options, statistics) if options.eval_interval else None
    texts = list(dict.fromkeys([*motions.texts, *(held_out.texts if held_out else [])]))
    networks = build_networks(options, data, statistics, texts)

    known_texts = cache(lambda: KnownTexts.make(motions.texts))

    def save(folder: Path, trained: TMR) -> None:
        write_files(folder, networks.config, trained.state_dict(), statistics, card(options, data))
        known_texts().save(folder / KNOWN_TEXTS_FILE)

    if options.balance and not any(motions.labels("content")):
        logger.warning("--balance %g does nothing: the clips of %s have no content labels", options.balance, options.dataset)
    weights = motions.weights(options.balance) if options.balance else None
    batches = CaptionBatches(motions, options.batch_size, options.seed, weights)
    evaluate = validation(held_out, options) if held_out else None
    return train(networks, partial(loss, together=True), batches, options, save, evaluate, stamp=data.stamp)


def with_encoders(options: TMROptions, data: Data) -> TMROptions:
    """The options with language models in the place of `auto`: those of the published system, or the embedded one."""
    chosen = {}
    for name, kind, published in (("text_encoder", WORDS, "distilbert"), ("sentence_encoder", SENTENCES, "mpnet")):
        if getattr(options, name) == "auto":
            saved = isinstance(data, AmassDataset) and features_beside(data.folder, kind, published) is not None
            chosen[name] = published if saved else at_hand(published, "minilm")
            if chosen[name] != published and (kind == WORDS or options.lambda_contrastive):
                logger.warning("--%s auto: minilm, since %s is not on this machine (python -m protos.fetch %s)", name, published,
                               published)  # fmt: skip
    return replace(options, **chosen)


def training_motions(data: Data, split: str, options: TMROptions, statistics: Statistics | None = None) -> Motions:
    """The captioned motions of a split, whole as they are described, normalised where statistics are given."""
    pair = None if statistics is None else (statistics.mean, statistics.std)
    if isinstance(data, AmassDataset):
        return AnnotatedMotions(data, split, options.min_seconds, options.max_seconds, pair)
    shortest, longest = frame_limits(options, data.fps)
    return TextMotionDataset(data, split, longest, shortest, unit_length=1, crop_rule="whole", statistics=pair)


def validation_motions(data: Data, options: TMROptions, statistics: Statistics) -> Motions:
    try:
        return training_motions(data, "val", options, statistics)
    except (FileNotFoundError, ValueError) as error:
        raise ValueError(f"--eval_interval needs a validation split (0: none): {error}") from error


def frame_limits(options: TMROptions, fps: float) -> tuple[int, int]:
    return max(1, int(options.min_seconds * fps + 1e-6)), max(1, int(options.max_seconds * fps + 1e-6))


def statistics_for(motions: Motions, data: Data, options: TMROptions) -> Statistics:
    """Those of the run where it is gone on with, since its weights have learnt them; for a new run those of its motions."""
    return kept_statistics(statistics_of(motions, data), options)


def statistics_of(motions: Motions, data: Data) -> Statistics:
    """Mean and std of each feature over all that is trained on: not the dataset's own, whose std is averaged in blocks."""
    return Statistics(*feature_mean_std(motions.motions(), data.skeleton), data.representation)


def build_networks(options: TMROptions, data: Data, statistics: Statistics, texts: Iterable[str]) -> TMR:
    """Fresh networks with the features of `texts` at hand."""
    words = text_features(data, WORDS, options.text_encoder, texts)
    sentences = None
    if options.lambda_contrastive:
        same = options.sentence_encoder == options.text_encoder and isinstance(words, TextTable)
        sentences = words if same else text_features(data, SENTENCES, options.sentence_encoder, texts)
    threshold = options.false_negative_threshold
    if threshold is None:
        threshold = FALSE_NEGATIVES[options.sentence_encoder]
    duplicates = duplicates_rule(options.duplicates, data.heading == "published", options.sentence_encoder)
    shortest, longest = frame_limits(options, data.fps)
    positions = TMRConfig.max_positions - 2
    if longest > positions:
        raise ValueError(f"--max_seconds {options.max_seconds:g}: {longest} frames at {data.fps:g} fps, these networks read at "
                         f"most {positions}")  # fmt: skip
    config = TMRConfig(
        num_features=data.skeleton.num_features, text_dim=width_of(words), false_negative_threshold=threshold,
        duplicates=duplicates, dataset=options.dataset, skeleton=data.skeleton.name, fps=data.fps, heading=data.heading,
        min_frames=shortest, max_frames=longest, **{name: getattr(options, name) for name in AS_ASKED},
    )  # fmt: skip
    seed_everything(options.seed)  # last: loading a language model draws numbers too
    return build(config, statistics, words, sentences)


def text_features(data: Data, kind: str, encoder: str, texts: Iterable[str]) -> Texts | TextEncoder:
    """Features of all texts: those saved with the dataset where it has them all, else a table computed once."""
    saved = features_beside(data.folder, kind, encoder) if isinstance(data, AmassDataset) else None
    missing = [] if saved is None else [text for text in texts if text not in saved]
    if saved is not None and not missing:
        return saved
    if saved is not None:
        logger.warning("%d captions have no saved features in %s, such as %r: all are computed", len(missing),
                       data.folder / kind, missing[0])  # fmt: skip
    return text_table(encoder, texts, with_tokens=kind == WORDS)


def width_of(features: Texts | TextEncoder) -> int:
    return features.array.shape[1] if isinstance(features, SavedTextFeatures) else features.dim


def validation(motions: Motions, options: TMROptions) -> Evaluate:
    """evaluate(networks, step) -> loss terms and recalls in pools of 32 texts and motions, always the same ones.

    Terms are of sampled latents, as in training, recalls of mean latents, as in use. Captions that mean the same count
    as one another's.
    """
    count = min(len(motions), VALIDATION_POOLS * POOL)
    size = min(POOL, count)
    order = np.random.default_rng(options.seed).permutation(len(motions))
    pools = order[: count // size * size].reshape(-1, size)

    @torch.no_grad()
    def evaluate(networks: TMR, step: int) -> dict[str, float]:
        sums: dict[str, float] = {}
        for number, pool in enumerate(pools):
            batch = to_device(collate([motions.item(int(i), 0, options.seed) for i in pool]), networks.device)
            generators = sample_generators(options.seed, range(size), "val", number, device=networks.device)
            terms = {name: float(term) for name, term in loss(networks, batch, generators).items()}
            for name, value in {**terms, **recalls(networks, batch)}.items():
                sums[name] = sums.get(name, 0.0) + value / len(pools)
        if networks.config.lambda_contrastive:
            sums["rank_by"] = -float(np.mean([sums[name] for name in RECALLS]))
        return sums

    return evaluate


RECALLS = ("t2m_R01", "t2m_R03", "m2t_R01", "m2t_R03")


@torch.no_grad()
def recalls(networks: TMR, batch: Batch) -> dict[str, float]:
    """RECALLS in percent within a batch."""
    text = networks.text_posterior(networks.word_features(batch.texts)).mean
    similarity = cosines(text, networks.motion_posterior(batch.motion, batch.mask).mean).float().cpu().numpy()
    same = np.array(batch.texts)[:, None] == np.array(batch.texts)
    if captions := captions_of(networks, batch):
        same |= captions.false_negatives(networks.config.false_negative_threshold).cpu().numpy()
    found = retrieval_metrics.retrieval_metrics(similarity, same, rounding=None)
    return {name: found[name.replace("_", "/")] for name in RECALLS}


def card(options: TMROptions, data: Data) -> str:
    """README.md of a checkpoint folder: what it is, what it was trained on, how to use it."""
    tmr = bool(options.lambda_contrastive)
    name, command = ("TMR text-motion retrieval", "train_tmr") if tmr else ("TEMOS text to motion", "train_temos")
    use = ('sample.retrieve text_motion_sim --model_path THIS_FOLDER --text "a person walks forward" --motion FILE' if tmr
           else 'sample.sample --model_path THIS_FOLDER --text_prompt "a person walks forward"')  # fmt: skip
    return f"""# {name}

Trained by `python -m train.{command}` on `{options.dataset}` ({data.skeleton.name} skeleton, {data.fps:g} fps,
{data.heading} heading; motions of {options.min_seconds:g} to {options.max_seconds:g} s; words by {options.text_encoder}).
The terms of that dataset's licence hold for these weights.

This folder alone is enough:

    python -m {use}
"""
