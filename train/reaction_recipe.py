"""What training adds to a reaction model: pairs whose first person acts, a codebook of atomic actions, validation, videos."""

import logging
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from data_loaders.atomic_actions import AtomicActions, fit_codebook, window_features
from data_loaders.batches import CaptionBatches
from data_loaders.corpus import Corpus
from data_loaders.interaction_batches import MIN_FRAMES, InteractionDataset, Making
from model.capabilities import Request
from model.checkpoints import from_pretrained
from model.lsremgm import LSReMGM
from model.model import Model
from model.reaction import Reaction
from model.reaction_base import require_autoencoder, require_pair, tokens_of
from model.reaction_config import ReactionConfig
from model.text_towers import load_text_encoder
from protos.files import file_name
from protos.randomness import derive_seed
from sample.reactions import reactions_for
from train.generator_recipe import NUM_PROMPTS, validation, validation_data
from train.interaction_recipe import Drawing, as_drawn
from train.options import SampledOptions
from train.recipe import Recipe, begun_from, kept_parts, kept_statistics

logger = logging.getLogger(__name__)
ONLINE_FRAMES = 9000  # of an action that is answered piece by piece: five minutes at 30 a second
EVERY = 8  # frames between the windows that a codebook is fitted to
MOST_WINDOWS = 100_000  # evenly chosen ones of many: more change no centre
OWN_NETWORKS = ("action_encoder.", "reaction_encoder.", "semantics.")  # of a reaction model
PLAIN = Drawing()
MAKING = Making(floor="kept")  # one rigid motion for both: the actor starts at the origin and faces +Z


def reaction_recipe(corpus: Corpus, config: ReactionConfig, training: SampledOptions, drawing: Drawing = PLAIN,
                    init_from: str = "", parts: Mapping[str, Model] | None = None) -> Recipe:
    """How a model of `config` is trained, what data and texts decide being filled in here. Either person acts in half of the
    samples, in mirrored twins too.

    config.max_frames: of the longest window. init_from: checkpoint of LS-ReMGM that a new run begins with. parts: the autoencoder
    of a model of latents. ValueError or OSError, in a user's words, for what cannot be trained.
    """
    require_pair(corpus.features)
    config, parts = replace(config.resolved(), features=corpus.features), kept_parts(parts or {}, training)
    require_autoencoder(config, parts.get("autoencoder"))
    if init_from and config.in_latents:
        raise ValueError("--init_from is for reactions made in frames: no text-to-motion model has weights for these latents")
    window = config.context_len + config.rollout * config.pred_len if config.online else config.max_frames

    def motions(split: str) -> InteractionDataset:
        return InteractionDataset(corpus, split, MAKING, window, window if config.online else MIN_FRAMES)

    data = motions("train")
    own = as_drawn(data, from_pelvis=True) if config.about_pelvis else corpus.statistics
    statistics, begun = kept_statistics(own, training), begun_from(training)
    longest = ONLINE_FRAMES if config.online else int(data.lengths.max())
    config = replace(config, max_frames=longest)
    encoders = {}
    if config.condition == "text":
        encoders["text"] = encoder = load_text_encoder(config.text_encoder, max_tokens=config.text_max_tokens or None)
        config = replace(config, text_encoder=encoder.name, text_dim=encoder.dim)
    actions = None
    if config.tells_actions and begun is None:  # else the codebook comes with the weights that are gone on with
        actions = codebook(data, config, training.seed)
        config = replace(config, num_atomic_actions=len(actions.codebook))
    elif config.tells_actions:
        config = replace(config, num_atomic_actions=from_pretrained(begun, systems=("reaction",)).config.num_atomic_actions)
    trunk = from_pretrained(init_from, systems=("lsremgm",)) if init_from and begun is None else None
    held_out = shown = None
    if training.eval_interval:
        shown = validation_data(motions)
        held_out = validation(shown, training, encoders)

    def fresh() -> Reaction:
        model = Reaction(config, statistics, parts, text_encoder=encoders.get("text"))
        if actions is not None:
            model.networks["semantics"].adopt(actions)
        if trunk is not None:
            begin_with(model, trunk)
        return model

    def sample(model: Reaction, step: int) -> None:
        write_reactions(Path(training.save_dir) / "samples" / f"step_{step:09d}", model, shown or data,
                        list(training.sample_prompts), training.seed)  # fmt: skip

    plan = CaptionBatches(data, training.batch_size, training.seed, data.weights(drawing.balance) if drawing.balance else None,
                          data.lengths if drawing.bucket else None)  # fmt: skip
    return Recipe(fresh, plan, held_out, sample, corpus.stamp, card(config, corpus), data.texts if encoders else (),
                  encoders=encoders)  # fmt: skip


def codebook(data: InteractionDataset, config: ReactionConfig, seed: int) -> AtomicActions:
    """Atomic actions of all that the people of the training clips do, either of whom may act."""
    features = data.features
    windows = []
    for rows in data.motions():
        people = features.joints(torch.from_numpy(np.array(rows, np.float32)))  # (P, T, J, 3)
        windows.append(window_features(tokens_of(people, features.fps, config), config.online)[:, ::EVERY].flatten(0, 1).numpy())
    windows = np.concatenate(windows)
    chosen = windows[np.linspace(0, len(windows) - 1, min(len(windows), MOST_WINDOWS)).astype(int)]
    logger.info("%d atomic actions of %d windows", config.num_atomic_actions, len(chosen))
    return fit_codebook(chosen, config.num_atomic_actions, seed)


def begin_with(model: Reaction, trunk: LSReMGM) -> None:
    """Copies every weight of a text-to-motion model whose name and shape the model has too, but for the projection of another
    text encoder's texts, and says what is new. ValueError where the layers do not fit."""
    given, own = trunk.networks.state_dict(), model.networks.state_dict()
    taken = {name for name, value in given.items() if name in own and own[name].shape == value.shape}
    if trunk.config.text_encoder != model.config.text_encoder:
        taken = {name for name in taken if "text_projection" not in name}
    layers = {name for name in own if name.startswith("denoiser.layers.")}
    if not layers <= taken:
        sizes = ("arch", "latent_dim", "ff_size", "num_layers", "num_heads")
        other = [f"--{name} {getattr(trunk.config, name)}" for name in sizes
                 if getattr(trunk.config, name) != getattr(model.config, name)]  # fmt: skip
        raise ValueError(f"--init_from has a network of another size: give {' '.join(other)}")
    model.networks.load_state_dict({name: given[name] if name in taken else value for name, value in own.items()})
    new = sorted({name.rpartition(".")[0] for name in own if name not in taken and not name.startswith(OWN_NETWORKS)})
    logger.info("%d of %d tensors are those of --init_from; new are the encoders, the reader of semantics, and %s",
                len(taken), len(own), ", ".join(new) or "nothing")  # fmt: skip


def write_reactions(folder: Path, model: Reaction, data: InteractionDataset, prompts: list[str], seed: int) -> None:
    """A video of reactions to a few actors of the data, always the same ones from the same noise, as NAME.mp4."""
    from visualize.video import write_video

    chosen = np.linspace(0, len(data) - 1, min(len(data), len(prompts) or NUM_PROMPTS)).astype(int)
    width, longest = model.features.width, model.config.max_frames
    items = [data.item(int(index), 0, seed) for index in chosen]
    texts = [prompts[i] if prompts else item.text for i, item in enumerate(items)]
    requests = [
        Request(text, min(len(item.motion), longest), derive_seed(seed, "reaction", i),
                actor=torch.from_numpy(item.motion[:, :width]))
        for i, (item, text) in enumerate(zip(items, texts))
    ]
    for i, (item, motion) in enumerate(zip(items, reactions_for(model, requests))):
        write_video(folder / f"reaction{i:02d}_{file_name(item.name)}.mp4", [motion])
    logger.info("%d sample videos in %s", len(items), folder)


def card(config: ReactionConfig, corpus: Corpus) -> str:
    """README.md of a checkpoint folder: what it is, what it was trained on, how to use it."""
    way = f"MeanFlow in latents of {config.pred_len} frames" if config.in_latents else f"{config.diffusion_steps} diffusion steps"
    without = f"; without {', '.join(config.left_out).replace('_', ' ')}" if config.left_out else ""
    return f"""# LS-ReMGM action to reaction

Trained by `python -m train.train_reaction` on `{corpus.folder.name}` ({corpus.skeleton.name} skeleton, {corpus.fps:g} fps; up to
{config.max_frames / corpus.fps:.1f} s; text encoder {config.text_encoder}; {way}{without}).
The terms of that dataset's licence hold for these weights.

This folder alone is enough to sample:

    python -m sample.react --model_path THIS_FOLDER --actor motion.npy
"""
