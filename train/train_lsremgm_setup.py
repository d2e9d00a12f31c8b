"""What `train.train_lsremgm` does once its options are read: data, networks, and the callbacks of the training loop."""

import logging
from collections.abc import Iterable
from dataclasses import replace
from functools import cache
from pathlib import Path

import numpy as np
import torch
from torch import nn

from data_loaders.batches import CaptionBatches, TextMotionDataset, collate
from data_loaders.corpus import Corpus, Statistics
from evaluations.evaluation_set import real_set
from evaluations.judges import default_evaluator, load_judge
from evaluations.motion_sources import ModelSource
from evaluations.protocol import GENERATED, PROTOCOLS, Entrants, Evaluation
from model.generation import NotFiniteError
from model.known_texts import FILE as KNOWN_TEXTS_FILE
from model.known_texts import KnownTexts
from model.lsremgm import LSReMGMConfig
from model.lsremgm_loss import loss
from model.lsremgm_system import LSReMGM, build
from model.motion_autoencoder import MotionAutoencoder, load_autoencoder
from model.pretrained import from_pretrained, write_files
from protos.files import write_atomically
from protos.randomness import derive_seed, sample_generators, seed_everything
from sample.prompts import file_name
from train.checkpoints import load_weights
from train.loop import Evaluate, TrainResult, train
from train.prefetch import to_device
from train.run_statistics import kept_statistics
from train.text_table import text_table
from train.train_lsremgm import LSReMGMOptions

logger = logging.getLogger(__name__)

SAMPLE_SECONDS = 6.0
NUM_PROMPTS = 4
VALIDATION_CLIPS = 256
JUDGED_MOTIONS = 256  # that --eval_during_training makes


def train_lsremgm(options: LSReMGMOptions) -> TrainResult:
    """Trains as the options say. Raises ValueError or OSError, in a user's words, for what cannot be trained."""
    corpus = Corpus.open(options.dataset_folder or options.dataset)
    autoencoder, own = latents_of(options, corpus)
    statistics = kept_statistics(own, options)
    data = training_data(corpus, "train", options, statistics)
    networks, options = build_networks(options, corpus, captions(data), statistics, autoencoder)
    prompts = list(options.sample_prompts) or _spread(captions(data), NUM_PROMPTS)

    known_texts = cache(lambda: KnownTexts.make(captions(data)))

    def save(folder: Path, trained: nn.Module) -> None:
        write_files(folder, networks.config, trained.state_dict(), networks.statistics, card(options, corpus))
        if not options.unconstrained:
            known_texts().save(folder / KNOWN_TEXTS_FILE)
        write_atomically(folder / "prompts.txt", "".join(f"{prompt}\n" for prompt in prompts))

    def sample(trained: nn.Module, step: int) -> None:
        write_samples(Path(options.save_dir) / "samples" / f"step_{step:09d}", trained, prompts, options.seed)

    judge = judging(corpus, options) if options.eval_during_training else None
    held_out = validation(corpus, options, networks)

    def evaluate(trained: nn.Module, step: int) -> dict[str, float]:
        return held_out(trained, step) | (judge(trained, step) if judge else {})

    return train(
        networks, loss, batches(data, options, networks.config), options, save, evaluate if held_out else None, sample,
        corpus.stamp,
    )


def latents_of(options: LSReMGMOptions, corpus: Corpus) -> tuple[MotionAutoencoder | None, Statistics]:
    """The autoencoder whose latents are diffused, and the mean and std that it was trained with; else None and the corpus's."""
    if not options.autoencoder:
        return None, corpus.statistics
    autoencoder, statistics = load_autoencoder(Path(options.autoencoder))
    corpus.representation.require(statistics.representation, f"dataset {corpus.folder}", options.autoencoder)
    if statistics.mean.shape != corpus.mean.shape:
        raise ValueError(f"{options.autoencoder}: mean and std of {statistics.mean.size} features, dataset {corpus.folder} has "
                         f"{corpus.mean.size}")  # fmt: skip
    return autoencoder, statistics


def training_data(
    corpus: Corpus, split: str, options: LSReMGMOptions, statistics: Statistics | None = None
) -> TextMotionDataset:
    """The captioned motions of a split: published length limits for published datasets, all from 2 units up else.

    Models with a prefix train on crops of exactly context_len + pred_len frames. statistics: what motions are normalised
    with, by default the corpus's.
    """
    pair = None if statistics is None else (statistics.mean, statistics.std)
    if options.context_len:
        frames = options.context_len + options.pred_len
        if frames % 4:
            raise ValueError(f"--context_len + --pred_len is {frames}: expected a multiple of 4")
        return TextMotionDataset(corpus, split, frames, frames, crop_rule="whole", statistics=pair)
    shortest = corpus.skeleton.length_limits[0] if corpus.heading == "published" else None
    repeat = options.repeat if split == "train" else 0.0
    return TextMotionDataset(corpus, split, min_frames=shortest, statistics=pair, repeat=repeat)


def captions(*datasets: TextMotionDataset) -> list[str]:
    """All captions of the motions, each once, in the order of the data."""
    return list(dict.fromkeys(text for data in datasets for span in data.spans for text in span.texts))


def build_networks(
    options: LSReMGMOptions, corpus: Corpus, texts: Iterable[str], statistics: Statistics,
    autoencoder: MotionAutoencoder | None = None,
) -> tuple[LSReMGM, LSReMGMOptions]:  # fmt: skip
    """Fresh networks for the options and the corpus, with `texts` encoded ahead; published weights where
    --resume_checkpoint names some, which is then worked in and gone from the options.
    """
    encoder = None
    by_word = options.arch == "trans_dec" and not options.text_encoder_type.startswith("clip")
    if not options.unconstrained:
        encoder = text_table(options.text_encoder_type, texts, with_tokens=by_word)
    config = LSReMGMConfig(
        num_features=corpus.skeleton.num_features if autoencoder is None else autoencoder.config.latent_channels,
        arch=options.arch, latent_dim=options.latent_dim, ff_size=options.ff_size, num_layers=options.num_layers,
        num_heads=options.num_heads, dropout=options.dropout, norm_first=options.norm_first,
        modulation=options.modulation, output_skip=options.output_skip,
        max_positions=options.pos_embed_max_len,
        condition="none" if encoder is None else "text",
        text_encoder="none" if encoder is None else encoder.name,
        text_dim=0 if encoder is None else encoder.dim,
        text_memory="tokens" if by_word and encoder is not None else "pooled",
        decoder_token="time" if options.emb_trans_dec and options.arch == "trans_dec" else "none",
        cond_mask_prob=options.cond_mask_prob, text_noise=options.text_noise, word_drop=options.word_drop,
        mask_frames=options.mask_frames,
        context_len=options.context_len, pred_len=options.pred_len,
        target_encoder=options.multi_encoder_type if options.multi_target_cond else "none",
        target_layers=options.target_enc_layers,
        diffusion_steps=options.diffusion_steps, noise_schedule=options.noise_schedule,
        sigma_small=options.sigma_small, prediction=options.prediction, min_snr_gamma=options.min_snr_gamma,
        snr_power=options.snr_power, snr_floor=options.snr_floor, calm_power=options.calm_power,
        guidance_scale=options.guidance_scale, sampler=options.sampler, num_steps=options.sampling_steps or None,
        smoothing=options.smoothing,
        lambda_vel=options.lambda_vel, lambda_rcxyz=options.lambda_rcxyz, lambda_fc=options.lambda_fc,
        lambda_target_loc=options.lambda_target_loc,
        dataset=options.dataset, skeleton=corpus.skeleton.name, fps=corpus.fps, heading=corpus.heading,
        autoencoder=None if autoencoder is None else autoencoder.config,
    )  # fmt: skip
    seed_everything(options.seed)  # right before: whatever is read or made ahead of the weights may draw numbers too
    networks = build(config, statistics, encoder)
    if autoencoder is not None:
        networks.autoencoder.load_state_dict(autoencoder.state_dict())
    named = Path(options.resume_checkpoint)
    published = named.suffix == ".pt" or (named / "args.json").is_file()
    if options.resume_checkpoint and published:
        weights = from_pretrained(named, dataset_folder=corpus.folder).state_dict()
        load_weights(networks, weights, named)
        options = replace(options, resume_checkpoint="")
    return networks, options


def batches(data: TextMotionDataset, options: LSReMGMOptions, config: LSReMGMConfig) -> CaptionBatches:
    """The batches of training. Models that do not hide padding see it in training as in sampling: all their batches are
    padded to max_frames.
    """
    pad_to = None if config.mask_frames or config.context_len else config.max_frames
    weights = data.weights(options.balance) if options.balance or options.repeat else None
    # Padding that the model does not see costs time only: then batches are of clips of like length.
    lengths = data.lengths if pad_to is None and options.bucket else None
    return CaptionBatches(data, options.batch_size, options.seed, weights, lengths, pad_to)


def validation(corpus: Corpus, options: LSReMGMOptions, networks: LSReMGM) -> Evaluate | None:
    """evaluate(networks, step) -> mean loss terms over clips of the val split, always with the same noise; or None."""
    if not options.eval_interval:
        return None
    try:
        data = training_data(corpus, "val", options, networks.statistics)
    except FileNotFoundError as error:
        raise ValueError(f"--eval_interval needs a validation split: {error}") from error
    pad_to = batches(data, options, networks.config).pad_to
    count = min(len(data), VALIDATION_CLIPS)
    size = min(options.batch_size, count)
    chosen = np.linspace(0, len(data) - 1, count).astype(int)

    @torch.no_grad()
    def evaluate(trained: LSReMGM, step: int) -> dict[str, float]:
        sums: dict[str, float] = {}
        for start in range(0, count, size):
            rows = range(start, min(start + size, count))
            items = [data.item(int(chosen[i]), 0, options.seed) for i in rows]
            batch = to_device(collate(items, pad_to), trained.device)
            generators = sample_generators(options.seed, rows, "val", device=trained.device)
            with torch.autocast(trained.device.type, torch.bfloat16, enabled=options.precision == "bf16"):
                terms = loss(trained, batch, generators)
            for name, term in terms.items():
                sums[name] = sums.get(name, 0.0) + float(term.float().sum())
        return {name: total / count for name, total in sums.items()}

    return evaluate


def judging(corpus: Corpus, options: LSReMGMOptions) -> Evaluate | None:
    """evaluate(networks, step) -> the field's metrics on motions made for captions of the val split, always the same ones.

    None, with a note, where there is no evaluator of that dataset.
    """
    try:
        judge = load_judge(default_evaluator(corpus), corpus)
        data = real_set(corpus, "val")
        data.draw(np.random.default_rng(0))  # says what is wrong with a split too small
    except (OSError, ValueError) as error:
        logger.warning("--eval_during_training measures losses only: %s", error)
        return None
    protocol = replace(PROTOCOLS["mdm"], enough=JUDGED_MOTIONS)
    evaluation = Evaluation(data, judge, protocol, options.seed, multimodality=False)

    def evaluate(trained: LSReMGM, step: int) -> dict[str, float]:
        source = ModelSource(trained, corpus, progress=False)
        try:
            figures = evaluation.replicate(0, Entrants(source)).rows[GENERATED]
        except NotFiniteError as error:  # of a run that diverges, which the loop itself will end
            logger.warning("step %d: not judged: %s", step, error)
            return {}
        return {name: figures[name] for name in ("top1", "top3", "fid", "mm_dist")}

    return evaluate


def write_samples(folder: Path, networks: LSReMGM, prompts: list[str], seed: int) -> None:
    """A video of each prompt, always from the same noise, as NAME.mp4."""
    from model.generation import generate
    from visualize.video import write_video

    config = networks.config
    frames = min(int(SAMPLE_SECONDS * config.fps), config.max_frames)
    seeds = [derive_seed(seed, "prompt", i) for i in range(len(prompts))]
    motions = generate(networks, prompts, [frames] * len(prompts), seeds)
    for i, (prompt, motion) in enumerate(zip(prompts, motions)):
        write_video(folder / f"prompt{i:02d}_{file_name(prompt)}.mp4", [motion])
    logger.info("%d sample videos in %s", len(motions), folder)


def card(options: LSReMGMOptions, corpus: Corpus) -> str:
    """README.md of a checkpoint folder: what it is, what it was trained on, how to use it."""
    scale = f"guidance {options.guidance_scale:g}, {options.diffusion_steps} diffusion steps"
    return f"""# LS-ReMGM text to motion

Trained by `python -m train.train_lsremgm` on `{options.dataset}` ({corpus.skeleton.name} skeleton, {corpus.fps:g} fps,
{corpus.heading} heading; text encoder {options.text_encoder_type}; {scale}).
The terms of that dataset's licence hold for these weights.

This folder alone is enough to sample:

    python -m sample.sample --model_path THIS_FOLDER --text_prompt "a person walks forward"
"""


def _spread(items: list[str], count: int) -> list[str]:
    """`count` items evenly spread over a list."""
    return [items[i] for i in np.linspace(0, len(items) - 1, min(count, len(items))).astype(int)]
