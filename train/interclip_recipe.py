"""What InterCLIP adds to the training loop: motions of two people with what they do, a contrast, validation by retrieval."""

from dataclasses import replace
from functools import partial

import numpy as np
import torch

from data_loaders.batch_plan import BatchPlan
from data_loaders.batches import CaptionBatches
from data_loaders.corpus import Corpus
from data_loaders.features import Statistics
from data_loaders.interaction_batches import InteractionDataset
from evaluations.metrics import matching_score
from evaluations.protocol import PROTOCOLS, finding_texts
from model.interclip import InterCLIP, contrast, text_reader
from model.interclip_config import InterCLIPConfig
from model.text_encoders import EncodesTexts, with_text_features
from model.text_towers import TOWERS, at_hand, load_text_encoder
from train.options import TrainOptions
from train.recipe import Evaluate, Recipe, kept_statistics

VALIDATION_POOLS = 4


def interclip_recipe(corpus: Corpus, config: InterCLIPConfig, training: TrainOptions, balance: float = 0.0) -> Recipe:
    """How a judge of `config` is trained on a dataset of two people; rare contents are lifted by `balance`.

    ValueError or OSError, in a user's words, for what cannot be trained.
    """
    if config.text_encoder == "auto":
        config = replace(config, text_encoder=at_hand("clip-l14-336", "minilm"))
    data = InteractionDataset(corpus, "train")
    config = replace(config, features=corpus.features, text_dim=TOWERS[config.text_encoder].dim, max_frames=data.max_frames)
    reader = text_reader(config)
    held_out = validation_motions(corpus) if training.eval_interval else None
    return Recipe(
        partial(fresh, config, kept_statistics(corpus.statistics, training), reader),
        CaptionBatches(data, training.batch_size, training.seed, data.weights(balance) if balance else None),
        validation(held_out, training.seed, reader) if held_out else None, stamp=corpus.stamp, card=card(config, corpus, data),
        captions=data.texts, encoders={"interaction": reader},
    )  # fmt: skip


def fresh(config: InterCLIPConfig, statistics: Statistics, reader: EncodesTexts) -> InterCLIP:
    """An untrained judge, with CLIP's own embeddings of tokens where it reads such."""
    model = InterCLIP(config, statistics, text_encoder=reader)
    if config.reads_tokens:
        clip, own = load_text_encoder(config.text_encoder).tower.run, model.networks["text_encoder"]
        own.words.weight.data.copy_(clip.words.weight)
        own.positions.data.copy_(clip.positions)
    return model


def validation_motions(corpus: Corpus) -> InteractionDataset:
    """The motions of the val split, without mirrored twins."""
    try:
        return InteractionDataset(corpus, "val", mirror=False)
    except (FileNotFoundError, ValueError) as error:
        raise ValueError(f"--eval_interval needs a validation split (0: none): {error}") from error


def validation(motions: InteractionDataset, seed: int, reader: EncodesTexts) -> Evaluate:
    """evaluate(model, step) -> loss, how often the text of a motion is found among those of its pool, and chance.

    Pools are of 96 motions, or of all there are, always the same ones.
    """
    size = min(PROTOCOLS["intergen"].pool, len(motions))
    pools = min(len(motions) // size, VALIDATION_POOLS)
    drawn = BatchPlan(len(motions), pools * size, seed=seed).batch(0)
    batches = [motions.batch(drawn[i * size : (i + 1) * size], seed) for i in range(pools)]

    @torch.no_grad()
    def evaluate(model: InterCLIP, step: int) -> dict[str, float]:
        sums: dict[str, float] = {}
        for batch in (with_text_features(each, {"interaction": reader}) for each in batches):
            text = model.text_vectors(batch.text_features["interaction"])
            motion = model.motion_vectors(*model.masked(batch))
            terms = {name: float(term) for name, term in contrast(text, motion, model.same(batch)).items()}
            text, motion = text.float().cpu().numpy(), motion.float().cpu().numpy()
            terms |= finding_texts(text, motion, batch.texts, size) | {"distance": matching_score(text, motion)}
            for name, value in terms.items():
                sums[name] = sums.get(name, 0.0) + value / pools
        return sums

    return evaluate


def card(config: InterCLIPConfig, corpus: Corpus, data: InteractionDataset) -> str:
    """README.md of a checkpoint folder: what it is, what it was trained on, how to use it."""
    clips = len({each.clip for each in data.examples})
    stretches = len(np.unique([(each.clip, each.start) for each in data.examples], axis=0))
    return f"""# InterCLIP: a judge of what two people do

Trained by `python -m train.train_interclip` on `{config.dataset}` ({corpus.skeleton.name} skeleton, {corpus.fps:g} fps; {clips}
clips with {stretches} described stretches; texts by {config.text_encoder}). It judges motions of that kind only, and what it is
worth is said by its own row:

    python -m evaluations.eval_interhuman --model_path real --evaluator THIS_FOLDER

The terms of that dataset's licence hold for these weights.
"""
