"""Golden cases of two people's data: files to features, joints of features, and the samples of the released loaders."""

import random
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch

from data_loaders import interhuman_features
from data_loaders.corpus import Corpus
from data_loaders.corpus_writer import NewClip, write_corpus
from data_loaders.features import Features, Statistics
from data_loaders.interaction_batches import InteractionDataset, InteractionDraws, Making
from data_loaders.interhuman import joints_and_rotations, used_columns
from data_loaders.kinematics import smoothed
from data_loaders.preparation import prepare
from data_loaders.read_recordings import PreparationSettings
from data_loaders.skeleton import load_skeleton
from data_loaders.text import Caption, mirror_text
from tests.golden.runner import Case

BODY = load_skeleton("humanml")
PAIR, PERSON = Features(fps=30.0, kind="interhuman"), Features(kind="interhuman_person")


def joints_of(used: np.ndarray, z_up: bool = True) -> tuple[torch.Tensor, torch.Tensor]:
    """Joints (T, 22, 3), Y up, and rotations (T, 21, 6) of the used columns (T, 192)."""
    if z_up:
        return tuple(map(torch.tensor, joints_and_rotations(used)))
    return torch.tensor(used[:, :66]).unflatten(-1, (22, 3)), torch.tensor(used[:, 66:]).unflatten(-1, (21, 6))


def quaternion(facing: torch.Tensor) -> torch.Tensor:
    """(4,) w first: the turn that takes a body to +Z."""
    half = -facing.angle() / 2
    return torch.stack([half.cos(), torch.zeros_like(half), half.sin(), torch.zeros_like(half)])


def load_clip(case: Case) -> dict[str, Any]:
    return {"loaded": used_columns(case.inputs["raw"])}


def mirror_clip(case: Case) -> dict[str, Any]:
    """The released loader mirrors a file's columns: x of positions, and rotations; so do we, features in place of columns."""
    joints, rotations = joints_of(case.inputs["loaded"], z_up=False)
    steps, contacts = torch.zeros_like(joints), torch.zeros(len(joints), 4)
    rows = torch.cat([joints.flatten(1), steps.flatten(1), rotations.flatten(1), contacts], dim=1)
    single = Features(kind="interhuman_person", heading="continuous")  # rotations row by row
    mirror = interhuman_features.mirrored(rows, single)
    return {"mirrored": torch.cat([mirror[:, single.blocks["positions"]], mirror[:, single.blocks["rot"]]], dim=1)}


def canonicalise_pair(case: Case) -> dict[str, Any]:
    people = [np.array(case.inputs[name]) for name in ("person1", "person2")]
    if before := case.config.get("before"):
        columns = before["columns"]
        people[before["person"] - 1][:, columns["start"] : columns["stop"] : columns["step"]] += np.float32(before["add"])
    joints, rotations = (torch.stack(each) for each in zip(*map(joints_of, people)))
    rows = interhuman_features.features_of(interhuman_features.canonicalise(joints, BODY, "person"), rotations, BODY)
    alone = interhuman_features.features_of(interhuman_features.canonicalise(joints[1], BODY, "person"), rotations[1], BODY)
    places = [interhuman_features.placement(each, BODY) for each in joints]
    first, second = places
    angle = (first.facing.angle() - second.facing.angle()) / 2
    apart = torch.complex(*(second.origin - first.origin)[[2, 0]]) * first.facing.conj()
    made = {"canon1": rows[0], "canon2": rows[1], "canon2_alone": alone}
    for number, place in enumerate(places, start=1):
        made |= {f"rootquat{number}": quaternion(place.facing)[None], f"rootxz{number}": place.origin[None]}
    return made | {"relative": torch.stack([angle, apart.imag, apart.real])}


def canonicalise_single(case: Case) -> dict[str, Any]:
    joints, rotations = joints_of(case.inputs["person"], z_up=False)
    return {"canon": interhuman_features.features_from_clips([joints], BODY, rotations=[rotations])[0]}


def normalise(case: Case) -> dict[str, Any]:
    features, mean, std = (torch.as_tensor(case.inputs[name]) for name in ("features", "mean", "std"))
    return {"normalised": (features - mean) / std}


def joints_from_features(case: Case) -> dict[str, Any]:
    x, mean, std = (torch.as_tensor(case.inputs[name]) for name in ("normalised", "mean", "std"))
    features = PAIR if case.config["people"] == 2 else PERSON
    rows = x * std.repeat(features.persons) + mean.repeat(features.persons)
    joints = features.joints(rows)
    return {"denormalised": rows, "joints": joints.transpose(0, 1) if features.persons == 2 else joints}


def smooth_joints(case: Case) -> dict[str, Any]:
    people = np.asarray(case.inputs["joints"]).swapaxes(0, 1)  # (P, T, J, 3)
    return {"joints_smoothed": smoothed(people, case.config["sigma_frames"]).swapaxes(0, 1)}


def hml3d_to_262(case: Case) -> dict[str, Any]:
    joints, features = (torch.as_tensor(case.inputs[name]) for name in ("positions", "features263"))
    kind = "released" if case.config["legacy_rotation_slice"] else "corrected"
    columns = interhuman_features.RELEASED_ROTATIONS if kind == "released" else Features().blocks["rot"]
    rows = interhuman_features.features_from_humanml3d(joints, features, BODY, kind)
    return {"loaded": torch.cat([joints[:-1].flatten(1), features[:, columns]], dim=1), "features262": rows}


# ------------------------------------------------------------------------------------------------------------------- the loaders


def published_swap(text: str) -> str:
    """The released exchange of sides: anywhere in words, and 'counterclockwise' becomes 'countercounterclockwise'."""
    text = text.replace("left", "\0").replace("right", "left").replace("\0", "right")
    return text.replace("clockwise", "counterclockwise")


def interhuman_folder(case: Case, folder: Path) -> Path:
    """The folder of a case in the layout of its system, prepared; the last line of a list counts only if it ends."""
    told, config = case.inputs["folder"], case.config
    intergen = config["system"] == "intergen"
    for clip in told["lengths"]:
        frames = case.inputs["frame_index"][clip]
        for person in ("person1", "person2"):
            write(folder / f"motions_processed/{person}/{clip}.npy", np.asarray(case.inputs[f"raw_{person}"])[frames])
            if lines := told[f"annots_individual_{person}"].get(clip):
                write(folder / f"annots_individual/{person}/{clip}.txt", "".join(f"{line}\n" for line in lines))
        write(folder / f"annots/{clip}.txt", "".join(f"{line}\n" for line in told["annots"][clip]))
    lists = told["split_file_text"]
    if config["legacy"]["last_split_line_needs_newline"]:
        lists = lists[: lists.rfind("\n") + 1]
    for split in ("train", "val", "test"):
        write(folder / ("" if intergen else "split") / f"{split}.txt", lists)
    if config["ignore_list_used"]:
        write(folder / "ignore_list.txt", "".join(f"{clip}\n" for clip in told["intergen_ignore_list"]))
    prepare(PreparationSettings("interhuman", folder, folder / "prepared"))
    return folder / "prepared"


def write(path: Path, content: str | np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content, encoding="utf-8") if isinstance(content, str) else np.save(path, content)


def humanml3d_folder(case: Case, folder: Path) -> Path:
    """HumanML3D in 262 columns, as the prior's loader finds it."""
    told, clips = case.inputs["folder"], []
    for clip, lines in told["texts"].items():
        frames = case.inputs["frame_index"][f"humanml3d_{clip}"]
        rows = np.asarray(case.inputs["motion"])[frames]
        clips.append(NewClip(clip, rows, [Caption(line.split("#")[0]) for line in lines]))
    write_corpus(folder, clips, PERSON, Statistics.published("interhuman_hml3d", PERSON))
    write(folder / "train.txt", told["split_file_text"])
    return folder


def dataset(case: Case, folder: Path) -> InteractionDataset:
    config = case.config
    if config["dataset"] == "humanml3d_262":
        corpus = Corpus(humanml3d_folder(case, folder))
        return InteractionDataset(corpus, config["mode"], max_frames=config["window_frames"], min_frames=config["min_frames"])
    legacy = config["legacy"]
    making = Making(
        individuals=config["extended"], second_exchange=config["system"] == "intergen",
        published_pairing="exchanged" in legacy["individual_text_pairing"],
        mirror_text=published_swap if "substring" in legacy["clockwise_swap"] else mirror_text,
    )  # fmt: skip
    return InteractionDataset(Corpus(interhuman_folder(case, folder)), config["mode"], making,
                              config["window_frames"] - 1, config["min_frames"] - 1)  # fmt: skip


def with_dataset(make: Callable[[Case, InteractionDataset], dict[str, Any]]) -> Callable[[Case], dict[str, Any]]:
    """A handler that is given the case's dataset."""

    def handler(case: Case) -> dict[str, Any]:
        with tempfile.TemporaryDirectory() as folder:
            return make(case, dataset(case, Path(folder)))

    return handler


def published_name(data: InteractionDataset, index: int, case: Case) -> str:
    mirrored = data.examples[index].mirrored
    return data.corpus.names[data.examples[index].clip] + (case.config["mirror_suffix"] if mirrored else "")


def entries(case: Case, data: InteractionDataset) -> dict[str, Any]:
    rows, shapes = [], {}
    for index, example in enumerate(data.examples):
        name = published_name(data, index, case)
        lines = case.inputs["folder"].get("texts", {}).get(name)  # of HumanML3D as they stand, tokens and times too
        if lines is not None and [line.split("#")[0] for line in lines] != list(example.texts):
            lines = None
        row = {"name": name, "swap": example.mirrored, "texts": lines or list(example.texts)}
        row |= {f"texts_individual{k}": list(own) for k, own in enumerate(example.individuals, start=1)}
        rows.append(row)
        shapes[name] = shape_of(case, data, index)
    return {"entries": sorted(rows, key=lambda row: row["name"]), "item_shapes": shapes}


def shape_of(case: Case, data: InteractionDataset, index: int) -> dict[str, Any]:
    item = data.item(index, 0)
    found = {"tuple_len": tuple_length(data, item), "gt_length": len(item.motion),
             "motion_shape": [case.config["pad_to"], data.features.width]}  # fmt: skip
    wanted = case.expected.get("item_shapes", {}).get(published_name(data, index, case), found)
    return {name: found[name] for name in wanted}


def tuple_length(data: InteractionDataset, item: Any) -> int:
    """Of the released item: name, text, a motion of each, length, texts of each."""
    return 3 + data.features.persons + len(item.individuals)


class PublishedDraws(InteractionDraws):
    """Choices from Python's and numpy's global generators, as the released loaders take them; `flips` tells those made."""

    def __init__(self, seeds: dict[str, int]):
        self.python, self.numpy = random.Random(seeds["python_random"]), np.random.RandomState(seeds["numpy_global"])
        self.flips: list[bool] = []

    def choice(self, options):
        return self.python.choice(options)

    def randint(self, low: int, high: int) -> int:
        return self.python.choice(range(low, high + 1))

    def flip(self) -> bool:
        self.flips.append(bool(self.numpy.rand() > 0.5))
        return self.flips[-1]


def item(case: Case, data: InteractionDataset) -> dict[str, Any]:
    config = case.config
    index = next(i for i in range(len(data)) if published_name(data, i, case) == config["item_name"])
    draws = PublishedDraws(config["seeds"])
    made = data.made(index, draws)
    rows = made.motion[config["rows"]]
    found = {"text": made.text, "length": len(made.motion), "tuple_len": tuple_length(data, made), "motion_rows": rows,
             "motion1_rows": rows[:, :262], "motion2_rows": rows[:, -262:]}  # fmt: skip
    found |= {f"text_individual{k}": own for k, own in enumerate(made.individuals, start=1)}
    return found | dict(zip(("people_exchanged", "canonical_exchanged"), draws.flips))


HANDLERS = {
    "load_clip": load_clip,
    "mirror_clip": mirror_clip,
    "canonicalise_pair": canonicalise_pair,
    "canonicalise_single": canonicalise_single,
    "normalise": normalise,
    "joints_from_features": joints_from_features,
    "smooth_joints": smooth_joints,
    "hml3d_to_262": hml3d_to_262,
    "dataset_entries": with_dataset(entries),
    "dataset_item": with_dataset(item),
}
