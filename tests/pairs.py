"""A small made-up dataset of two people, and what judges it."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from data_loaders.corpus import Corpus
from data_loaders.corpus_writer import NewClip, write_corpus
from data_loaders.features import Features, Statistics
from data_loaders.text import Caption
from tests.synthetic import raise_hand, standing, walk
from tests.synthetic_pairs import PAIR as PAIRS
from tests.synthetic_pairs import turned


def pair_motion(number: int, frames: int = 60) -> tuple[np.ndarray, str, tuple[str, str]]:
    """Joints (2, T, 22, 3) of one of three things that two people do, all a little different; what it is, and what each does."""
    rng = np.random.default_rng(number)
    frames = frames + int(rng.integers(10))
    still = np.repeat(standing()[None], frames, axis=0)
    if number % 3 == 0:  # side by side
        first = walk(frames, 1.0 + 0.1 * rng.random(), PAIRS.fps)
        people, texts = (first, first + [0.9 + 0.1 * rng.random(), 0, 0]), ("a person walks", "a person walks along")
        said = "two people walk side by side"
    elif number % 3 == 1:
        second = turned(walk(frames, 0.8 + 0.1 * rng.random(), PAIRS.fps), 180, 0, 3.0)
        people, texts = (still, second), ("a person stands", "a person walks toward the partner")
        said = "one person walks toward the other, who waits"
    else:
        second = turned(raise_hand(frames, "left"), 180, 0, 1.1 + 0.2 * rng.random())
        people, texts = (raise_hand(frames, "right"), second), ("a person raises the right hand", "a person raises the left hand")
        said = "two people face each other and raise a hand"
    return np.stack(people), f"{said}, number {number}", texts


def pair_corpus(folder: Path, train: int = 12, held_out: int = 9, features: Features = PAIRS, told_of_each: bool = True) -> Path:
    """A corpus of two people whose splits share no clip, or, by its `features`, of the first of them. told_of_each: whether texts
    say what each does."""
    folder.mkdir(parents=True)
    count = train + 2 * held_out
    entries = []
    for number in range(count):
        joints, text, own = pair_motion(number)
        rows = features.encode(torch.from_numpy(joints if features.persons > 1 else joints[0])).numpy()
        each = [Caption(own_text, person=k) for k, own_text in enumerate(own, 1)] if told_of_each and features.persons > 1 else []
        captions = [Caption(text), Caption(f"{text}, in a hall"), *each]
        entries.append(NewClip(f"{number:03d}", rows, captions, {"content": ("walk", "meet", "raise")[number % 3]}))
    rows = np.concatenate([entry.features for entry in entries])
    write_corpus(folder, entries, features, Statistics(rows.mean(0), rows.std(0) + 0.1, features))
    names = [entry.name for entry in entries]
    splits = {"train": names[:train], "val": names[train : train + held_out], "test": names[train + held_out :]}
    for split, listed in splits.items():
        (folder / f"{split}.txt").write_text("\n".join(listed) + "\n")
    return folder


def tiny_interclip(folder: Path, features: Features = PAIRS, seed: int = 0) -> Path:
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
                "text_width": 16, "text_layers": 1, "text_heads": 2, "embedding": 12, "normalised": True, "features": PAIRS,
                "initial_scale": 3.0}  # fmt: skip
    return InterCLIPConfig(**{**settings, **changes})


def tiny_in2in(folder: Path, corpus: Corpus, one: bool = False) -> Path:
    """Checkpoint folder of an untrained model of two people, or of one, that moves."""
    from model.checkpoints import save_pretrained
    from model.in2in import In2IN
    from model.in2in_config import In2INConfig

    features = replace(PAIRS, kind="interhuman_person") if one else PAIRS
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


def tiny_reaction(folder: Path) -> Path:
    """Checkpoint folder of an untrained model that reacts, to at most 40 frames."""
    from model.checkpoints import save_pretrained
    from model.reaction import Reaction
    from model.reaction_config import ReactionConfig

    width = PAIRS.persons * PAIRS.width
    statistics = Statistics(np.zeros(width, np.float32), np.full(width, 0.5, np.float32), PAIRS)
    torch.manual_seed(0)
    save_pretrained(folder, Reaction(ReactionConfig(**REACTION_SIZES, features=PAIRS, text_dim=384, max_frames=40,
                                                    sampling_steps=3, sampler="ddim"), statistics))  # fmt: skip
    return folder
