"""Made-up pairs of people: joints, recordings, a folder in InterHuman's layout, a small corpus."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import torch

from data_loaders.corpus_writer import NewClip, write_corpus
from data_loaders.feature_statistics import mean_std
from data_loaders.features import Features, Statistics
from data_loaders.text import Caption
from tests.synthetic import bvh_text, raise_hand, standing, walk, walk_in_a_curve

PAIR = Features("humanml", 30.0, "continuous", "interhuman")
SPLITS = ("train", "val", "test")


def turned(joints: np.ndarray, degrees: float, x: float, z: float) -> np.ndarray:
    """Joints (..., 3) turned about the vertical axis (+Z towards +X) and moved."""
    angle = np.radians(degrees)
    cos, sin = np.cos(angle), np.sin(angle)
    return joints @ np.array([[cos, 0, sin], [0, 1, 0], [-sin, 0, cos]]).T + [x, 0, z]


def two_walkers(frames: int = 60, degrees: float = 25.0, x: float = 3.0, z: float = -2.0) -> np.ndarray:
    """Joints (2, T, 22, 3) of two people who walk past each other, the second on a step of 20 cm; all is turned and moved."""
    first, second = walk_in_a_curve(frames), walk_in_a_curve(frames, speed=0.8, turn=-0.6)
    second = turned(second, 170, 0.4, 2.5) + [0, 0.2, 0]
    return turned(np.stack([first, second]), degrees, x, z)


def greeting(frames: int, apart: float = 1.2) -> np.ndarray:
    """Joints (2, T, 22, 3) of two people who face each other; the first raises the left hand, the second the right."""
    return np.stack([raise_hand(frames, "left"), turned(raise_hand(frames, "right"), 180, 0, apart)])


def sixd_of_rest(frames: int) -> np.ndarray:
    """Rotations (T, 51, 6) of bones that do not turn, row by row."""
    return np.tile([1.0, 0, 0, 1, 0, 0], (frames, 51, 1))


def columns(joints: np.ndarray) -> np.ndarray:
    """InterHuman's 492 columns of joints (T, 22, 3): Z up, 62 joints, 51 rotations."""
    x, y, z = np.moveaxis(joints, -1, 0)
    positions = np.zeros((len(joints), 62, 3))
    positions[:, :22] = np.stack([x, -z, y], axis=-1)
    return np.concatenate([positions.reshape(len(joints), -1), sixd_of_rest(len(joints)).reshape(len(joints), -1)], axis=1)


SENTENCES = {
    "hello": "one person raises the left hand while the other raises the right hand",
    "pass": "two people walk past each other",
}


def write_interhuman(
    folder: Path, flat: bool = False, lists: Mapping[str, Sequence[str]] | None = None, individuals: bool = True
) -> Path:
    """A small InterHuman folder: clips `hello0`.. and `pass0`.. of 30 to 42 frames, in in2IN's layout, or flat as InterGen's."""
    made = {f"hello{i}": greeting(30 + 3 * i) for i in range(4)} | {f"pass{i}": two_walkers(30 + 4 * i) for i in range(4)}
    lists = lists or {"train": ["hello0", "pass0", "hello1", "pass1"], "val": ["hello2", "pass2"], "test": ["hello3", "pass3"]}
    for name, people in made.items():
        save(folder / f"annots/{name}.txt", SENTENCES[name[:-1]] + "\ntwo people are there\n")
        for number, joints in enumerate(people, start=1):
            save(folder / f"motions_processed/person{number}/{name}.npy", columns(joints))
            if individuals:
                doing = f"raises the {('left', 'right')[number - 1]} hand" if name.startswith("hello") else f"walks on, {number}"
                save(folder / f"annots_individual/person{number}/{name}.txt", f"a person {doing}\n")
    for split, names in lists.items():
        save(folder / ("" if flat else "split") / f"{split}.txt", "\n".join(names))
    return folder


def save(path: Path, content: str | np.ndarray) -> Path:
    """Writes text or an array, and the folders it needs."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content, encoding="utf-8") if isinstance(content, str) else np.save(path, content)
    return path


def write_takes(folder: Path, takes: Mapping[str, np.ndarray], fps: float = 30.0, **told: object) -> Path:
    """BVH files NAME_1.bvh and NAME_2.bvh of joints (2, T, 22, 3), and the captions.json that says who was recorded with whom."""
    folder.mkdir(parents=True, exist_ok=True)
    entries = {}
    for number, (name, people) in enumerate(takes.items()):
        for person, joints in enumerate(people, start=1):
            (folder / f"{name}_{person}.bvh").write_text(bvh_text(joints, fps))
        captions = {"interaction": [f"two people, take {number}"], "person1": ["the first one"], "person2": ["the second one"]}
        entries[name] = {"person1": f"{name}_1.bvh", "person2": f"{name}_2.bvh", "captions": captions, **told,
                         "split": SPLITS[number] if number < 3 else "train"}  # fmt: skip
    (folder / "captions.json").write_text(json.dumps({"takes": entries}))
    return folder


def meeting_corpus(folder: Path, count: int = 12) -> Path:
    """A corpus of two people: greetings and walkers of 30 frames and more, texts of both and of each, all in every split."""
    people = [greeting(30 + 2 * i, 1.0 + 0.05 * i) if i % 2 else two_walkers(30 + 2 * i, degrees=20.0 * i) for i in range(count)]
    rows = [each.numpy() for each in PAIR.encode([torch.tensor(each, dtype=torch.float32) for each in people])]
    entries = []
    for i, each in enumerate(rows):
        kind = "hello" if i % 2 else "pass"
        own = ("a person raises the left hand", "a person raises the right hand") if i % 2 else ("one walks", "another walks")
        captions = [Caption(SENTENCES[kind]), Caption(f"{SENTENCES[kind]}, again")]
        captions += [Caption(text, person=person) for person, text in enumerate(own, start=1)]
        entries.append(NewClip(f"{kind}{i:02d}", each, captions, {"content": kind}))
    write_corpus(folder, entries, PAIR, Statistics(*mean_std(rows, PAIR), PAIR))
    for split in SPLITS:
        (folder / f"{split}.txt").write_text("\n".join(entry.name for entry in entries))
    return folder


def pair_motion(number: int, frames: int = 60) -> tuple[np.ndarray, str, tuple[str, str]]:
    """Joints (2, T, 22, 3) of one of three things that two people do, all a little different; what it is, and what each does."""
    rng = np.random.default_rng(number)
    frames = frames + int(rng.integers(10))
    still = np.repeat(standing()[None], frames, axis=0)
    if number % 3 == 0:  # side by side
        first = walk(frames, 1.0 + 0.1 * rng.random(), PAIR.fps)
        people, texts = (first, first + [0.9 + 0.1 * rng.random(), 0, 0]), ("a person walks", "a person walks along")
        said = "two people walk side by side"
    elif number % 3 == 1:
        second = turned(walk(frames, 0.8 + 0.1 * rng.random(), PAIR.fps), 180, 0, 3.0)
        people, texts = (still, second), ("a person stands", "a person walks toward the partner")
        said = "one person walks toward the other, who waits"
    else:
        second = turned(raise_hand(frames, "left"), 180, 0, 1.1 + 0.2 * rng.random())
        people, texts = (raise_hand(frames, "right"), second), ("a person raises the right hand", "a person raises the left hand")
        said = "two people face each other and raise a hand"
    return np.stack(people), f"{said}, number {number}", texts


def pair_corpus(folder: Path, train: int = 12, held_out: int = 9, features: Features = PAIR, told_of_each: bool = True) -> Path:
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
