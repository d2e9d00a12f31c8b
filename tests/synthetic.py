"""Small made-up motions and datasets, so that a clone without any motion capture is really tested."""

import json
import pickle
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from data_loaders.corpus import Motion
from data_loaders.corpus_writer import NewClip, write_corpus
from data_loaders.features import Features, Statistics
from data_loaders.joint_mapping import load_mapping
from data_loaders.motion_files import write_results
from data_loaders.skeleton import Skeleton, load_skeleton
from data_loaders.text import Caption, Tagger, TaggerName

# Source joints of the shipped bandai_namco mapping, parent first, and the joints of ours that they carry.
BVH_JOINTS = {
    "Hips": (None, "pelvis"), "Spine": ("Hips", "spine1"), "Chest": ("Spine", "spine3"), "Neck": ("Chest", "neck"),
    "Head": ("Neck", "head"), "Shoulder_L": ("Chest", "left_collar"), "UpperArm_L": ("Shoulder_L", "left_shoulder"),
    "LowerArm_L": ("UpperArm_L", "left_elbow"), "Hand_L": ("LowerArm_L", "left_wrist"),
    "Shoulder_R": ("Chest", "right_collar"), "UpperArm_R": ("Shoulder_R", "right_shoulder"),
    "LowerArm_R": ("UpperArm_R", "right_elbow"), "Hand_R": ("LowerArm_R", "right_wrist"),
    "UpperLeg_L": ("Hips", "left_hip"), "LowerLeg_L": ("UpperLeg_L", "left_knee"), "Foot_L": ("LowerLeg_L", "left_ankle"),
    "Toes_L": ("Foot_L", "left_foot"), "UpperLeg_R": ("Hips", "right_hip"), "LowerLeg_R": ("UpperLeg_R", "right_knee"),
    "Foot_R": ("LowerLeg_R", "right_ankle"), "Toes_R": ("Foot_R", "right_foot"),
}  # fmt: skip


def standing() -> np.ndarray:
    """Joints (22, 3) of a person standing with the arms down, facing +Z, on the humanml skeleton."""
    skeleton = load_skeleton("humanml")
    offsets = np.array(skeleton.raw_offsets) * np.array(skeleton.bone_lengths)[:, None]
    joints = np.zeros((skeleton.num_joints, 3))
    for joint, parent in enumerate(skeleton.parents):
        joints[joint] = offsets[joint] + (joints[parent] if parent >= 0 else 0)
    joints[:, 1] -= joints[:, 1].min()
    return joints


def walk(num_frames: int, speed: float = 1.0, fps: float = 20.0) -> np.ndarray:
    """Joints (T, 22, 3) of a person walking along +Z at `speed` m/s, legs and arms swinging about hips and shoulders."""
    skeleton = load_skeleton("humanml")
    time = np.arange(num_frames) / fps
    joints = np.repeat(standing()[None], num_frames, axis=0)
    swing = 0.5 * np.sin(2 * np.pi * time)
    for names, sign in ((("left_hip", "left_knee", "left_ankle", "left_foot"), 1.0),
                        (("right_hip", "right_knee", "right_ankle", "right_foot"), -1.0),
                        (("right_shoulder", "right_elbow", "right_wrist"), 1.0),
                        (("left_shoulder", "left_elbow", "left_wrist"), -1.0)):  # fmt: skip
        pivot, *limb = (skeleton.index(name) for name in names)
        turn(joints, pivot, limb, sign * swing)
    joints[..., 2] += (speed * time)[:, None]
    return joints


def walk_in_a_curve(frames: int, speed: float = 1.2, turn: float = 0.4, fps: float = 20.0) -> np.ndarray:
    """Joints (T, 22, 3) in metres of a made-up walk; 0 for both numbers walks on the spot."""
    skeleton = load_skeleton("humanml")
    offsets = np.array(skeleton.raw_offsets) * np.array(skeleton.bone_lengths)[:, None]
    time_ = np.arange(frames) / fps
    swing = np.sin(2 * np.pi * 0.9 * time_)
    bend = {1: 0.5 * swing, 2: -0.5 * swing, 4: 0.5 - 0.4 * swing, 5: 0.5 + 0.4 * swing}
    bend |= {16: -0.5 * swing, 17: 0.5 * swing, 18: -0.3 + 0 * swing, 19: -0.3 + 0 * swing}
    joints, angle = np.zeros((frames, 22, 3)), np.zeros((frames, 22))
    joints[:, 0, 1] = 0.93 + 0.02 * np.abs(swing)
    for joint, parent in list(enumerate(skeleton.parents))[1:]:
        angle[:, joint] = angle[:, parent] + bend.get(parent, 0 * swing)  # about the hip axis, inherited
        cos, sin = np.cos(angle[:, joint]), np.sin(angle[:, joint])
        x, y, z = offsets[joint]
        joints[:, joint] = joints[:, parent] + np.stack([x + 0 * cos, cos * y - sin * z, sin * y + cos * z], axis=1)
    heading = turn * time_
    cos, sin = np.cos(heading), np.sin(heading)
    x, z = joints[..., 0].copy(), joints[..., 2].copy()
    joints[..., 0], joints[..., 2] = cos[:, None] * x + sin[:, None] * z, cos[:, None] * z - sin[:, None] * x
    joints[..., 0] += (np.cumsum(sin) * speed / fps)[:, None]
    joints[..., 2] += (np.cumsum(cos) * speed / fps)[:, None]
    joints[..., 1] -= joints[..., 1].min()
    return joints.astype(np.float32)


def synthetic_clip(frames: int, skeleton: Skeleton, seed: int) -> np.ndarray:
    """A body of its own bone lengths that sways, steps and slowly turns, (T, J, 3) float32."""
    random = np.random.default_rng(seed)
    time_axis = np.arange(frames)[:, None, None] / skeleton.contact_fps
    rest = np.array(skeleton.raw_offsets)[None] + 0.15 * random.standard_normal((1, skeleton.num_joints, 3))
    swing = 0.4 * np.sin(2 * np.pi * random.uniform(0.2, 1.2, (1, skeleton.num_joints, 3)) * time_axis)
    lengths = np.array(skeleton.bone_lengths) * random.uniform(0.9, 1.1)
    bones = rest + swing * random.uniform(0, 1, (1, skeleton.num_joints, 3))
    bones *= lengths[None, :, None] / np.linalg.norm(bones, axis=-1, keepdims=True)
    joints = np.zeros((frames, skeleton.num_joints, 3))
    for joint in range(1, skeleton.num_joints):
        joints[:, joint] = joints[:, skeleton.parents[joint]] + bones[:, joint]
    yaw = random.uniform(-3, 3) + np.cumsum(0.01 * random.standard_normal(frames))
    cos, sin = np.cos(yaw)[:, None], np.sin(yaw)[:, None]
    x, z = joints[..., 0] * cos + joints[..., 2] * sin, joints[..., 2] * cos - joints[..., 0] * sin
    path = np.cumsum(0.03 * random.standard_normal((frames, 3)) * [1, 0.1, 1], 0)
    return (np.stack([x, joints[..., 1], z], -1) + path[:, None]).astype(np.float32)


def raise_hand(num_frames: int, side: str = "left") -> np.ndarray:
    """Joints (T, 22, 3) of a person who lifts one straight arm forward and up and lowers it again."""
    skeleton = load_skeleton("humanml")
    joints = np.repeat(standing()[None], num_frames, axis=0)
    limb = [skeleton.index(f"{side}_{part}") for part in ("elbow", "wrist")]
    turn(joints, skeleton.index(f"{side}_shoulder"), limb, 2.8 * np.sin(np.pi * np.arange(num_frames) / (num_frames - 1)))
    return joints


def turn(joints: np.ndarray, pivot: int, limb: list[int], angle: np.ndarray) -> None:
    """Turns joints of `limb` about the left-right axis through `pivot`, per frame, forwards for positive angles."""
    for joint in limb:
        y, z = (joints[:, joint, axis] - joints[:, pivot, axis] for axis in (1, 2))
        joints[:, joint, 1] = joints[:, pivot, 1] + np.cos(angle) * y + np.sin(angle) * z
        joints[:, joint, 2] = joints[:, pivot, 2] - np.sin(angle) * y + np.cos(angle) * z


def bvh_text(joints: np.ndarray, fps: float = 30.0) -> str:
    """A BVH file in the Bandai-Namco dialect (centimetres, six channels per joint) that holds these joints (T, 22, 3)."""
    skeleton = load_skeleton("humanml")
    parents = {name: parent or "joint_Root" for name, (parent, _) in BVH_JOINTS.items()}
    places = {name: 100 * joints[:, skeleton.index(ours)] for name, (_, ours) in BVH_JOINTS.items()}
    return _bvh("joint_Root", parents, {"joint_Root": np.zeros((len(joints), 3)), **places}, fps)


def bvh_for(mapping: str, joints: np.ndarray, fps: float = 30.0) -> str:
    """A BVH file in the layout of a shipped mapping, of six channels per joint, that holds these joints (T, 22, 3)."""
    read, skeleton = load_mapping(mapping), load_skeleton("humanml")
    sources = sorted(read.sources)
    weights = np.zeros((len(read.joints), len(sources)))
    for row, weighted in enumerate(read.joints.values()):
        for source, weight in weighted.items():
            weights[row, sources.index(source)] = weight
    wanted = joints[:, [skeleton.index(name) for name in read.joints]] / read.scale
    found = np.linalg.lstsq(weights, wanted.transpose(1, 0, 2).reshape(len(weights), -1), rcond=None)[0]
    found = found.reshape(len(sources), len(joints), 3)
    (root,) = read.joints["pelvis"]
    parents = {name: name.removesuffix("_end") if name.endswith("_end") else root for name in sources if name != root}
    return _bvh(root, parents, dict(zip(sources, found, strict=True)), fps)


def _bvh(root: str, parents: dict[str, str], places: dict[str, np.ndarray], fps: float) -> str:
    """BVH of joints by name, each with its parent and its places (T, 3) in the world; nothing turns."""
    lines, order = [], []
    channels = "CHANNELS 6 Xposition Yposition Zposition Zrotation Xrotation Yrotation"

    def write(name: str, depth: int) -> None:
        pad = "  " * depth
        order.append(name)
        children = [child for child, parent in parents.items() if parent == name]
        lines.extend([f"{pad}{'JOINT' if depth else 'ROOT'} {name}", pad + "{", f"{pad}  OFFSET 0 0 0", f"{pad}  {channels}"])
        for child in children:
            write(child, depth + 1)
        if not children:
            lines.extend([f"{pad}  End Site", pad + "  {", f"{pad}    OFFSET 0 0 0", pad + "  }"])
        lines.append(pad + "}")

    write(root, 0)
    rows = np.zeros((len(places[root]), len(order), 6))
    for column, name in enumerate(order):
        rows[:, column, :3] = places[name] - places[parents[name]] if name in parents else places[name]
    motion = ["MOTION", f"Frames:\t{len(rows)}", f"Frame Time:\t{1 / fps:.7f}"]
    motion.extend(" ".join(f"{value:.5f}" for value in row) for row in rows.reshape(len(rows), -1))
    return "\n".join(["HIERARCHY", *lines, *motion]) + "\n"


def write_recordings(folder: Path, copies: int = 4) -> None:
    """A small folder of recordings in the Bandai-Namco layout: walks and raised hands with captions and splits."""
    folder.mkdir(parents=True, exist_ok=True)
    clips, splits = {}, {"train": [], "val": [], "test": []}
    for take in range(1, copies + 1):
        made = {
            "walk": (walk(75 + 6 * take, 0.8 + 0.1 * take, 30.0), ["a person walks forward", "someone strolls ahead"]),
            "raise-up-left-hand": (raise_hand(60 + 6 * take), ["a person raises the left hand", "lifting the left arm"]),
        }
        for content, (joints, captions) in made.items():
            name = f"dataset-2_{content}_normal_{take:03d}"
            (folder / f"{name}.bvh").write_text(bvh_text(joints))
            clips[name] = {"content": content, "style": "normal", "take": take, "captions": captions}
            splits["test" if take == copies else "val" if take == copies - 1 else "train"].append(name)
    (folder / "captions.json").write_text(json.dumps({"_meta": {}, "clips": clips}))
    for split, names in splits.items():
        (folder / f"{split}.txt").write_text("".join(f"{name}\n" for name in names))


def write_cmu_takes(raw: Path) -> None:
    """Folders cmu_more, cmu_sample and cmu_salsa of takes as those datasets name and caption them, all of them made up.

    One take is in the first two; the last has two people.
    """
    def captioned(folder: str, key: str, entries: dict[str, dict[str, object]]) -> None:
        (raw / folder / "captions.json").write_text(json.dumps({key: entries}))

    for folder in ("cmu_more", "cmu_sample", "cmu_salsa"):
        (raw / folder).mkdir(parents=True)
    more = {"cmu_02_01": ("mb", "cmu_asf"), "cmu_16_01": ("daz", "cmu_daz"), "cmu_90_01": ("dm", "cmu_deepmimic")}
    for number, (name, (_, mapping)) in enumerate(more.items()):
        (raw / "cmu_more" / f"{name}.bvh").write_text(bvh_for(mapping, walk(70 + 6 * number, fps=30.0)))
    captioned("cmu_more", "clips", {
        name: {"cmu": name.removeprefix("cmu_"), "cmu_description": "walk", "layout": layout, "written": ["a person walks"]}
        for name, (layout, _) in more.items()
    })  # fmt: skip
    for split, name in zip(("train", "val", "test"), more, strict=True):
        (raw / "cmu_more" / f"{split}.txt").write_text(f"{name}\n")
    sample = {"iclone_002_01": "cmu_iclone", "cgspeed_131_01": "cmu_cgspeed"}
    for name, mapping in sample.items():
        (raw / "cmu_sample" / f"{name}.bvh").write_text(bvh_for(mapping, walk(90, fps=60.0), fps=60.0))
    captioned("cmu_sample", "clips", {
        name: {"cmu": name.partition("_")[2].removeprefix("0"), "cmu_description": "walk", "captions": ["a walk"],
               "split": "train"}
        for name in sample
    })  # fmt: skip
    for name in ("60_01", "61_01"):
        (raw / "cmu_salsa" / f"{name}_scaled.bvh").write_text(bvh_for("cmu_salsa", walk(150, fps=60.0), fps=60.0))
    captioned("cmu_salsa", "takes", {"salsa_01": {
        "person1": "60_01_scaled.bvh", "person2": "61_01_scaled.bvh", "split": "train",
        "captions": {"interaction": ["two people dance"], "person1": ["one leads"], "person2": ["one follows"]},
    }})  # fmt: skip


CONTENTS = {"wave": "a person waves the left hand", "walk": "someone walks forward", "bow": "a person bows"}


def random_corpus(folder: Path, tagger: TaggerName = "") -> Path:
    """A corpus of 24 clips of 24..47 frames of smooth random features, 4 of them for validation. tagger: makes the tokens."""
    draw = np.random.default_rng(0)
    tokens = Tagger(tagger).tag if tagger else lambda text: ("a/DET",)
    contents = ["walk"] * 14 + ["wave"] * 7 + ["bow"] * 3
    entries = [
        NewClip(
            f"{i:06d}", draw.normal(size=(24 + i, 263)).cumsum(0).astype(np.float32),
            [Caption(text, tokens(text)) for text in (CONTENTS[content], f"{content} {i % 3}")],
            {"content": content},
        )
        for i, content in enumerate(contents)
    ]  # fmt: skip
    features = Features("humanml", 20.0, "continuous")
    write_corpus(folder, entries, features, Statistics(np.zeros(263), np.full(263, 5.0), features), tagger)
    (folder / "train.txt").write_text("\n".join(entry.name for entry in entries[:20]))
    (folder / "val.txt").write_text("\n".join(entry.name for entry in entries[20:]))
    return folder


def write_vocabulary(folder: Path, *words: str) -> Path:
    """Folder of the three files of word vectors: row i, of the i-th of sos, eos, unk and `words`, is the number i everywhere."""
    folder.mkdir(parents=True, exist_ok=True)
    words = ("sos", "eos", "unk", *words)
    np.save(folder / "our_vab_data.npy", np.repeat(np.arange(float(len(words)))[:, None], 300, axis=1))
    (folder / "our_vab_words.pkl").write_bytes(pickle.dumps(list(words)))
    (folder / "our_vab_idx.pkl").write_bytes(pickle.dumps({word: i for i, word in enumerate(words)}))
    return folder


POOL_STATISTICS = Statistics(
    np.zeros(263, np.float32), np.full(263, 0.3, np.float32), Features("humanml", 20.0, "continuous")
)


def pool_motion(number: int) -> tuple[np.ndarray, str]:
    """Joints (T, 22, 3) of one of many walks and raised hands, all a little different, and what it is."""
    if number % 2:
        return raise_hand(30 + number, "left" if number % 4 == 1 else "right"), f"a person raises a hand, number {number}"
    return walk(30 + number, 0.5 + 0.02 * number), f"a person walks, number {number}"


def pool_corpus(folder: Path, count: int = 40) -> Path:
    """A corpus whose splits all have the same `count` clips, more than a pool."""
    import torch

    from data_loaders.humanml_features import features_from_clips

    folder.mkdir(parents=True)
    made = [pool_motion(i) for i in range(count)]
    clips = [torch.as_tensor(joints) for joints, _ in made]
    features = features_from_clips(clips, load_skeleton("humanml"), POOL_STATISTICS.features.heading)
    entries = [
        NewClip(f"{i:03d}", rows.numpy(), [Caption(text), Caption(f"somebody there: {text}")],
              {"content": "raise" if i % 2 else "walk"})
        for i, (rows, (_, text)) in enumerate(zip(features, made))
    ]  # fmt: skip
    write_corpus(folder, entries, POOL_STATISTICS.features, POOL_STATISTICS)
    for split in ("train", "val", "test"):
        (folder / f"{split}.txt").write_text("\n".join(entry.name for entry in entries))
    return folder


def write_run(folder: Path, clips: Sequence[np.ndarray], texts: Sequence[str], fps: float = 20.0, num_samples: int | None = None,
              skeleton: str = "humanml") -> Path:  # fmt: skip
    """The results of a sampling run: clips (T, J, 3) of one person, or (P, T, J, 3)."""
    people = [np.asarray(clip, np.float32) for clip in clips]
    motions = [Motion(each if each.ndim == 4 else each[None], fps, skeleton, (text,))
               for each, text in zip(people, texts, strict=True)]  # fmt: skip
    return write_results(folder, motions, num_samples or len(motions))
