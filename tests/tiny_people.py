"""Small untrained models of two people, and what judges them."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from data_loaders.corpus import Corpus
from data_loaders.features import Features, Statistics
from tests.pairs import PAIR


def tiny_interclip(folder: Path, features: Features = PAIR, seed: int = 0) -> Path:
    """Checkpoint folder of an untrained judge of such motions."""
    from model.checkpoints import save_pretrained
    from model.interclip import InterCLIP

    torch.manual_seed(seed)
    width = features.persons * features.width
    statistics = Statistics(np.zeros(width, np.float32), np.full(width, 0.5, np.float32), features)
    save_pretrained(folder, InterCLIP(tiny_config(features=features), statistics))
    return folder


def tiny_config(**changes):
    """Small networks that read MiniLM's words."""
    from model.interclip_config import InterCLIPConfig

    settings = {"text_encoder": "minilm", "text_dim": 384, "latent_dim": 16, "num_layers": 1, "num_heads": 2, "ff_size": 16,
                "text_width": 16, "text_layers": 1, "text_heads": 2, "embedding": 12, "normalised": True, "features": PAIR,
                "initial_scale": 3.0}  # fmt: skip
    return InterCLIPConfig(**{**settings, **changes})


def tiny_in2in(folder: Path, corpus: Corpus, one: bool = False) -> Path:
    """Checkpoint folder of an untrained model of two people, or of one, that moves."""
    from model.checkpoints import save_pretrained
    from model.in2in import In2IN
    from model.in2in_config import In2INConfig

    features = replace(PAIR, kind="interhuman_person") if one else PAIR
    config = In2INConfig(
        features=features, mode="individual" if one else "interaction", dataset=str(corpus.folder), latent_dim=16, ff_size=16,
        num_layers=1, num_heads=2, text_layers=1, text_heads=2, text_ff_size=16, text_dim=384,
    )  # fmt: skip
    width = features.persons * features.width
    torch.manual_seed(0)
    model = In2IN(config, Statistics(corpus.mean[:width], corpus.std[:width], features))
    with torch.no_grad():
        for parameter in model.networks.parameters():  # the last layer begins at zero
            parameter.add_(0.05 * torch.randn_like(parameter))
    save_pretrained(folder, model)
    return folder


REACTION_SIZES = {
    "latent_dim": 16, "ff_size": 16, "num_layers": 1, "num_heads": 2, "encoder_dim": 8, "encoder_layers": 1, "encoder_heads": 2,
    "encoder_ff_size": 16, "semantic_dim": 8, "num_atomic_actions": 5, "diffusion_steps": 20, "latest_step": 14,
}  # fmt: skip


def tiny_reaction(folder: Path, seed: int = 0, **changes) -> Path:
    """Checkpoint folder of an untrained model that reacts, to at most 40 frames."""
    from model.checkpoints import save_pretrained
    from model.reaction import Reaction
    from model.reaction_config import ReactionConfig

    width = PAIR.persons * PAIR.width
    statistics = Statistics(np.zeros(width, np.float32), np.full(width, 0.5, np.float32), PAIR)
    torch.manual_seed(seed)
    settings = {**REACTION_SIZES, "features": PAIR, "text_dim": 384, "max_frames": 40, "sampling_steps": 3, "sampler": "ddim"}
    save_pretrained(folder, Reaction(ReactionConfig(**settings | changes), statistics))
    return folder


def tiny_causal_autoencoder(folder: Path) -> Path:
    """Checkpoint folder of an untrained autoencoder of two people, four frames a latent, none of which reads a later one."""
    from model.autoencoder import MotionAutoencoder
    from model.autoencoder_config import AutoencoderConfig
    from model.checkpoints import save_pretrained

    width = PAIR.persons * PAIR.width
    config = AutoencoderConfig(width=8, latent_channels=4, num_blocks=1, fine_width=8, num_fine_blocks=1, causal=True,
                               features=PAIR)  # fmt: skip
    torch.manual_seed(0)
    statistics = Statistics(np.zeros(width, np.float32), np.full(width, 0.5, np.float32), PAIR)
    save_pretrained(folder, MotionAutoencoder(config, statistics))
    return folder
