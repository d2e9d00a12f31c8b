"""A TMR with random weights and its features, for tests of what is built on it; a folder of motions, and its gallery."""

import json
from pathlib import Path

import numpy as np
import torch

from data_loaders.features import Features, Statistics
from data_loaders.humanml_features import features_from_joints
from data_loaders.skeleton import load_skeleton
from model.checkpoints import save_pretrained
from model.tmr import TMR
from model.tmr_config import TMRConfig
from sample.gallery import Gallery
from sample.retrieve import main
from tests.synthetic import bvh_text, raise_hand, walk

SKELETON = load_skeleton("humanml")
SMALL = dict(latent_dim=16, ff_size=24, num_layers=1, num_heads=2, text_encoder="minilm", sentence_encoder="minilm", text_dim=384)
TEXT = "a person walks forward"


def features_of(joints: np.ndarray, heading: str = "continuous") -> np.ndarray:
    return features_from_joints(torch.as_tensor(joints), SKELETON, heading).numpy()


def saved_tmr(folder: Path, seed: int = 0, heading: str = "continuous") -> Path:
    torch.manual_seed(seed)
    config = TMRConfig(**SMALL, features=Features(heading=heading))
    clips = np.concatenate([features_of(walk(80)), features_of(raise_hand(60)), features_of(walk(60, 2.0))])
    statistics = Statistics(clips.mean(0), clips.std(0) + 0.05, config.features)
    networks = TMR(config, statistics)
    save_pretrained(folder, networks)
    return folder


def write_motions(folder: Path) -> Path:
    """Walks, hands, a long walk, a take of 30 fps in a BVH file."""
    (folder / "more").mkdir(parents=True)
    made = {"walk": walk(80), "fast": walk(60, 2.0), "more/hand": raise_hand(60), "long": walk(500, 1.3)}
    for name, joints in made.items():
        np.save(folder / f"{name}.npy", joints.astype(np.float32))
    (folder / "more" / "hand.txt").write_text("a person raises the left hand\nlifting one arm\n")
    (folder / "take.bvh").write_text(bvh_text(walk(90, fps=30.0)))
    return folder


def encode_folder(tmr, *more, motions="motions", gallery="gallery"):
    main(["encode_dataset", "--model_path", str(tmr), "--motions", str(motions), "--mapping", "bandai_namco",
          "--gallery", gallery, *more])  # fmt: skip
    return Gallery.load(Path(gallery))


def found(*arguments):
    """Hits of a search as its JSON tells them."""
    Path("found.json").unlink(missing_ok=True)
    main(["search", *map(str, arguments), "--json", "found.json"])
    return json.loads(Path("found.json").read_text())["hits"]
