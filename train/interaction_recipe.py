"""What training adds to a model of two people, or of one in their features: motions in one world, validation, videos."""

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from data_loaders.batches import CaptionBatches
from data_loaders.corpus import Batch, Corpus
from data_loaders.feature_statistics import mean_std
from data_loaders.features import FeaturesMismatch, Statistics
from data_loaders.interaction_batches import MAX_FRAMES, InteractionDataset, Making
from data_loaders.interhuman_features import about_pelvis
from model.checkpoints import from_pretrained
from model.in2in import In2IN
from model.in2in_config import In2INConfig
from model.individual_texts import individual_texts
from model.registry import in2in_file
from model.text_towers import load_text_encoder
from train.generator_recipe import some_of, validation, validation_data, write_samples
from train.options import SampledOptions
from train.recipe import Recipe, begun_from, kept_statistics

MOTIONS_MEASURED = 2000  # from which mean and std are taken where samples move them about
PLACE_COUNTS = 3.0


@dataclass(frozen=True)
class Drawing:
    """How clips are drawn: rare contents lifted by `balance`, and, with `bucket`, clips of like length together.

    published_pairing: which person reads which text; spread: where one person starts: see data_loaders/interaction_batches.py.
    window: frames of the longest sample.
    """

    balance: float = 0.0
    bucket: bool = True
    published_pairing: bool = False
    spread: float = 0.0
    window: int = MAX_FRAMES


def interaction_recipe(corpus: Corpus, config: In2INConfig, training: SampledOptions, drawing: Drawing = Drawing(),
                       prior: In2IN | None = None, prior_stays: bool = True) -> Recipe:
    """How a model of `config` is trained, what data and texts decide being filled in here.

    prior: a model of one person whose weights are each one's, and, with `prior_stays`, stay. ValueError or OSError, in a user's
    words, for what cannot be trained.
    """
    reads_individuals = len(config.text_roles) > 1
    derived = reads_individuals and not told_of_each(corpus)
    making = Making(
        individuals=reads_individuals and not derived, second_exchange=config.mode == "interaction" and not reads_individuals,
        published_pairing=drawing.published_pairing, spread=drawing.spread)  # fmt: skip
    if prior is not None:
        require_alike(prior, config, corpus)
    if prior is None or not prior_stays:
        config = replace(config, prior_rank=0)
    else:
        config = replace(config, made_of_prior=Path(prior.config.dataset).name)
    data = InteractionDataset(corpus, "train", making, drawing.window)
    if prior is not None:
        own = of_each(prior.statistics, corpus)
    else:
        own = as_drawn(data, config.about_pelvis) if making.spread or config.about_pelvis else corpus.statistics
    statistics = kept_statistics(own, training)
    begun = begun_from(training)
    published_one = from_pretrained(begun) if begun is not None and in2in_file(begun) else None
    if published_one is not None:  # its texts are read as it has learnt to
        config = replace(config, text_encoder=published_one.config.text_encoder, text_padded=True)
    encoder = published_one and published_one.text_encoder
    encoder = encoder or load_text_encoder(config.text_encoder, padded=config.text_padded)
    config = replace(config, features=corpus.features, text_encoder=encoder.name, text_dim=encoder.dim,
                     max_frames=int(data.lengths.max()))  # fmt: skip
    encoders = {role: encoder for role in config.text_roles}
    prompts = list(training.sample_prompts) or some_of(texts_of(corpus, data))
    prepare = derive_individuals if derived else lambda batch: batch
    plan = CaptionBatches(data, training.batch_size, training.seed, data.weights(drawing.balance) if drawing.balance else None,
                          data.lengths if drawing.bucket else None)  # fmt: skip
    held_out = None
    if training.eval_interval:
        made = validation_data(lambda split: InteractionDataset(corpus, split, making, drawing.window))
        held_out = validation(made, training, encoders, prepare=prepare)

    def fresh() -> In2IN:
        model = In2IN(config, statistics, text_encoder=encoder)
        if prior is not None:
            stand_on(model, prior, prior_stays)
        return model

    def sample(model: In2IN, step: int) -> None:
        write_samples(Path(training.save_dir) / "samples" / f"step_{step:09d}", model, prompts, training.seed)

    def published(path: Path) -> dict[str, Tensor] | None:
        return published_one and published_one.networks.state_dict()

    return Recipe(
        fresh, lambda *which: prepare(plan(*which)), held_out, sample, corpus.stamp, card(config, corpus), data.texts, prompts,
        published=published, encoders=encoders,
    )  # fmt: skip


def told_of_each(corpus: Corpus) -> bool:
    """Whether any clip of a corpus has a text about one of its people."""
    return any(corpus.captions(clip, person=1) for clip in range(len(corpus)))


def derive_individuals(batch: Batch) -> Batch:
    """The batch with texts about each, which follow from those about both."""
    pairs = [individual_texts(text) for text in batch.texts]
    return replace(batch, role_texts={f"individual{person + 1}": [pair[person] for pair in pairs] for person in range(2)})


def as_drawn(data: InteractionDataset, from_pelvis: bool = False) -> Statistics:
    """Mean and std of motions as samples place them, not as they lie in the corpus; of evenly chosen ones of many.

    from_pelvis: of features about the pelvis. Where that is stands in few columns of many and must be as exact as the others in
    metres, over a wider range: they get a `PLACE_COUNTS`th of their std, so that they count for more.
    """
    features, chosen = data.features, np.linspace(0, len(data) - 1, min(len(data), MOTIONS_MEASURED)).astype(int)
    motions = (data.item(int(i), 0).motion for i in chosen)
    if not from_pelvis:
        return Statistics(*mean_std(motions, features), features)
    people = (torch.from_numpy(each).unflatten(-1, (features.persons, -1)) for each in motions)
    mean, std = mean_std((about_pelvis(each, features).flatten(-2).numpy() for each in people), features)
    places = std.reshape(features.persons, -1)[:, features.blocks["positions"]][:, [0, 2]]  # a copy
    std.reshape(features.persons, -1)[:, [features.blocks["positions"].start + axis for axis in (0, 2)]] = places / PLACE_COUNTS
    return Statistics(mean, std, features)


def texts_of(corpus: Corpus, data: InteractionDataset) -> list[str]:
    """What all people do together, once."""
    return list(dict.fromkeys(text for example in data.examples for text in example.texts))


# ------------------------------------------------------------------------------------------------- two people out of a prior


def require_alike(prior: In2IN, config: In2INConfig, corpus: Corpus) -> None:
    """ValueError unless a prior has the sizes that are asked for, FeaturesMismatch unless it has the data's skeleton and rate."""
    if prior.config.mode != "individual":
        raise ValueError("--prior names a model of two people: it takes one of --mode individual")
    sizes = ("latent_dim", "ff_size", "num_layers", "num_heads", "max_positions", "text_layers", "text_heads", "text_ff_size",
             "patch", "fine_width", "about_pelvis", "joints_only")  # fmt: skip
    for name in (*sizes, "text_encoder", "text_padded"):
        here, there = getattr(config, name), getattr(prior.config, name)
        if here != there:
            flag = f"--{'' if there else 'no_'}{name}" if isinstance(there, bool) else f"--{name} {there}"
            raise ValueError(f"--prior has {name} {there}, this model {here}: give {flag}")
    of_one = replace(corpus.features, kind=prior.features.kind)
    prior.features.require(of_one, "the prior", f"dataset {corpus.folder}")
    if corpus.features.persons != 2:
        raise FeaturesMismatch(f"{corpus.folder} is of {corpus.features.persons}, two people are made of a prior")


def of_each(statistics: Statistics, corpus: Corpus) -> Statistics:
    """Mean and std of one person as those of each person of a corpus."""
    persons = corpus.features.persons
    return Statistics(np.tile(statistics.mean, persons), np.tile(statistics.std, persons), corpus.features)


def stand_on(model: In2IN, prior: In2IN, stays: bool = True) -> None:
    """Puts the prior's weights into a model of two people, and if they stay leaves only what the prior does not have to be
    trained: attention to the partner and low-rank additions, which at first change nothing."""
    given = prior.networks.state_dict()
    own = model.networks.state_dict()
    model.networks.load_state_dict({name: given.get(name, value) for name, value in own.items()})
    for name, parameter in model.networks.named_parameters():
        parameter.requires_grad_(not stays or name not in given)
    for layer in model.networks["denoiser"].layers:
        layer.cross_attention.out.weight.data.zero_()


def card(config: In2INConfig, corpus: Corpus) -> str:
    """README.md of a checkpoint folder: what it is, what it was trained on, how to use it."""
    who = "two people" if config.persons == 2 else "one person, the prior of DualMDM"
    roles = "a text about both" + " and one about each" * config.individual_texts if config.persons == 2 else "a text"
    mode, length = config.mode, config.max_frames / corpus.fps
    return f"""# Text to motion of {who}

Trained by `python -m train.train_in2in --mode {mode}` on `{corpus.folder.name}` ({corpus.skeleton.name} skeleton,
{corpus.fps:g} fps; text encoder {config.text_encoder}; reads {roles}; up to {length:.1f} s).
The terms of that dataset's licence hold for these weights.

This folder alone is enough to sample:

    python -m sample.interact --model_path THIS_FOLDER --mode {mode} --text_interaction "two people dance"
"""
