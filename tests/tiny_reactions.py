"""The smallest models that react, pairs of people, and what is asked of the models."""

from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from data_loaders.atomic_actions import AtomicActions
from data_loaders.corpus import Batch
from data_loaders.features import Statistics
from model.capabilities import Request
from model.model import Draws
from model.reaction import Reaction
from model.reaction_config import ReactionConfig
from protos.randomness import sample_generators
from tests.pairs import PAIR, greeting, two_walkers

TINY = {
    "latent_dim": 16, "ff_size": 24, "num_layers": 2, "num_heads": 2, "encoder_dim": 8, "encoder_layers": 1, "encoder_heads": 2,
    "encoder_ff_size": 16, "semantic_dim": 12, "num_atomic_actions": 6, "text_dim": 384, "max_frames": 40, "dropout": 0.0,
    "diffusion_steps": 20, "latest_step": 14,
}  # fmt: skip
TEXT = "two people shake hands"


def tiny(seed: int = 0, scale: float = 0.5, moved: bool = True, parts: dict | None = None, **settings) -> Reaction:
    """A model with random weights (as made, it does not heed the action) and a made-up codebook."""
    width = PAIR.persons * PAIR.width
    statistics = Statistics(np.full(width, 0.1, np.float32), np.full(width, scale, np.float32), PAIR)
    torch.manual_seed(seed)
    config = ReactionConfig(**{**TINY, "features": PAIR, **settings})
    model = Reaction(config, statistics, parts)
    if config.tells_actions:
        actions = config.num_atomic_actions
        model.networks["semantics"].adopt(
            AtomicActions(torch.zeros(330), torch.ones(330), torch.randn(actions, 330), torch.tensor(50.0)))
    for parameter in model.networks.parameters() if moved else ():
        if parameter.dim() > 1:
            torch.nn.init.normal_(parameter, std=0.3)
    return model.eval()


def batch(frames: tuple[int, ...] = (20, 16, 24), pad: int = 0) -> Batch:
    """Pairs whose first person starts at the origin facing +Z."""
    people = [greeting(n + 1) if n % 3 else two_walkers(n + 1) for n in frames]
    rows = PAIR.encode([torch.tensor(each, dtype=torch.float32) for each in people])
    motion = torch.nn.utils.rnn.pad_sequence(rows, batch_first=True)
    motion = torch.nn.functional.pad(motion, (0, 0, 0, pad))
    lengths = torch.tensor(frames)
    return Batch(motion, lengths, torch.arange(motion.shape[1]) < lengths[:, None], [TEXT] * len(frames))


def draws(size: int = 3, progress: float = 1.0) -> Draws:
    return Draws(sample_generators(5, range(size)), torch.Generator().manual_seed(0), progress)


def told(model: Reaction, given: Batch) -> Batch:
    return replace(given, text_features={"text": model.encode_text(given.texts)})


def request(actor: Tensor, frames: int = 20, seed: int = 3, text: str = "") -> Request:
    return Request(text, frames, seed, actor=actor)
