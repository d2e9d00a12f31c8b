"""A small library of motions made by the starter weights, for searches on a machine without recordings.

Every action in every manner that the weights know, and twice each of those that they know in no manner. Each motion is NAME.npy,
joints (T, 22, 3) in metres, with its caption in NAME.txt.
"""

from itertools import product
from pathlib import Path

from data_loaders.motion_files import write_joints
from model.capabilities import Decoding, Request
from protos.files import atomic_folder, file_name
from sample.generation import STARTER, frames_of, load, motions_for

ACTIONS = {  # seconds of each
    "walks forward": 5.0, "walks forward and turns left": 6.0, "walks forward and turns right": 6.0, "walks backward": 4.0,
    "runs forward": 3.0, "raises the left hand above the head": 4.0, "raises the right hand above the head": 4.0,
    "raises both hands above the head": 4.0, "waves with the left hand": 5.0, "waves with the right hand": 5.0,
    "waves with both hands": 5.0, "bows deeply": 4.0,
}  # fmt: skip
MANNERS = ("", "like an elderly person", "in an exhausted manner", "full of energy", "with feminine grace", "in a manly way")
ALONE = {  # actions without a manner, and seconds of each
    "jumps forward": 3.0, "kicks a soccer ball": 3.0, "runs and leaps": 2.5, "climbs on playground equipment": 6.0,
    "dribbles a basketball": 5.0, "dances salsa": 6.0, "gets up from the floor": 5.0, "ducks under something while running": 3.0,
}  # fmt: skip


def write_starter_motions(folder: Path, device: str = "auto") -> Path:
    """Writes the library, whole or not at all, and returns its folder. ValueError for a folder that is not empty."""
    if folder.exists() and (folder.is_file() or any(folder.iterdir())):
        raise ValueError(f"{folder} is not empty: move it away, motions of the starter weights are to be written there")
    model = load(STARTER, device)
    config = model.config
    wanted = [(f"a person {action} {manner}".rstrip(), ACTIONS[action]) for action, manner in product(ACTIONS, MANNERS)]
    wanted += [(f"a person {action}", seconds) for action, seconds in ALONE.items() for _ in range(2)]
    texts = [text for text, _ in wanted]
    lengths = [frames_of(seconds, config.features.fps, config.max_frames) for _, seconds in wanted]
    requests = [Request(text, frames, seed) for seed, (text, frames) in enumerate(zip(texts, lengths, strict=True))]
    motions = motions_for(model, requests, Decoding(batch_size=12))
    with atomic_folder(folder) as temporary:
        for number, (text, motion) in enumerate(zip(texts, motions)):
            name = f"{number:02d}_{file_name(text)}"
            write_joints(temporary / f"{name}.npy", motion)
            (temporary / f"{name}.txt").write_text(f"{text}\n", encoding="utf-8")
    return folder
