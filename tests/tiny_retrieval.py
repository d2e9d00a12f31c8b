"""A TMR with random weights and its features, for tests of what is built on it."""

from pathlib import Path

import numpy as np
import torch

from data_loaders.corpus import Statistics
from data_loaders.humanml_features import features_from_joints
from data_loaders.skeleton import load_skeleton
from model.pretrained import save_pretrained
from model.tmr import TMRConfig, build
from tests.synthetic import raise_hand, walk

SKELETON = load_skeleton("humanml")
SMALL = dict(latent_dim=16, ff_size=24, num_layers=1, num_heads=2, text_encoder="minilm", sentence_encoder="minilm", text_dim=384)
TEXT = "a person walks forward"


def features_of(joints: np.ndarray, heading: str = "continuous") -> np.ndarray:
    return features_from_joints(torch.as_tensor(joints), SKELETON, heading).numpy()


def saved_tmr(folder: Path, seed: int = 0, heading: str = "continuous") -> Path:
    torch.manual_seed(seed)
    config = TMRConfig(**SMALL, heading=heading)
    clips = np.concatenate([features_of(walk(80)), features_of(raise_hand(60)), features_of(walk(60, 2.0))])
    statistics = Statistics(clips.mean(0), clips.std(0) + 0.05, config.representation)
    networks = build(config, statistics)
    save_pretrained(folder, config, networks.state_dict(), statistics)
    return folder
