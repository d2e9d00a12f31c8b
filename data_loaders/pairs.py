"""Two people as one recording: who was recorded with whom, and their files read into one world with one scale for both.

captions.json tells it, as `"takes": {NAME: {"person1": FILE, "person2": FILE, "captions": {...}, "segments": [...]}}`, or
pairs.json: `"pairs": [{...}]` of the same entries, which may place two who never met (`placement`: synthetic pairs). Captions are
those of `interaction`, `person1` and `person2`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from data_loaders.bvh import read_bvh
from data_loaders.clip_labels import Labels, Take
from data_loaders.input_files import SPLITS, Inventory
from data_loaders.joint_mapping import Mapping, common_scale, fitting_mapping, load_mapping
from data_loaders.mocap import rate_note, read_joints
from data_loaders.skeleton import load_skeleton
from data_loaders.sources import Placement, SourceClip
from data_loaders.text import Caption, checked_caption, written_text
from protos.files import safe_name, shown
from protos.reading import FileError

if TYPE_CHECKING:
    from pathlib import Path

INTERACTION = "interaction"
FORM = 'expected {"takes": {NAME: {"person1": FILE, "person2": FILE, "captions": {"interaction": ["..."]}}}} in captions.json'


def paired(labels: Labels, inventory: Inventory, fps: float | None = None) -> list[SourceClip]:
    """The takes that captions.json tells, each as a recording of `people`, those that cannot be used with the reason.

    fps: frames per second of files that do not tell their own. FileError where no take is told.
    """
    if not labels.takes:
        raise FileError(f"{labels.path}: says of no two recordings that they belong together, {FORM}")
    singles = {clip.file: clip for clip in labels.recordings(inventory, fps)}
    clips, used = [], set()
    for name, take in labels.takes.items():
        clips.append(_pair(name, take, labels, singles))
        used |= {file for each in take.files for file in labels.named(each)}
    labels.notes += [f"{file}: in no pair" for file in sorted(set(singles) - used)]
    return sorted(clips, key=lambda clip: clip.name)


def _pair(name: str, take: Take, labels: Labels, singles: dict[str, SourceClip]) -> SourceClip:
    where = f"{labels.path}, take {shown(name)}"
    name = safe_name(name.replace("@", "-"))
    captions, notes = _captions(take, labels.dataset.persons, where)
    people, problem = [], ""
    for person, file in zip(labels.dataset.persons, take.files):
        found = labels.named(file) if file else []
        if len(found) != 1:
            here = f"which {len(found)} files are" if found else "which is not here"
            problem = problem or f"{where}: {person} " + (f"names {shown(file)}, {here}" if file else "names no file")
            continue
        people.append(singles[found[0]])
    if len({each.file for each in people}) < len(people):
        problem = f"{where}: both people are {shown(people[0].file)}"
    left_out, reason = "", ""
    if problem or len(people) < 2:
        left_out, reason = "damaged", problem or f"{where}: {len(people)} persons, expected 2"
    elif spoilt := next((each for each in people if each.left_out in ("damaged", "excluded")), None):
        left_out, reason = spoilt.left_out, spoilt.reason
    elif not captions:
        left_out, reason = "without caption", f"{where}: no caption of {INTERACTION}"
    said = [{key: value for key, value in each.labels.items() if key != "recording"} for each in people]
    facts = {key: value for key, value in (said[0] if said else {}).items() if all(each.get(key) == value for each in said)}
    facts |= {person: each.file for person, each in zip(labels.dataset.persons, people)}
    return SourceClip(
        name, b"", "pair", captions=tuple(captions), split=_split(take, people),
        labels=facts | ({"synthetic": True} if take.placement else {}), file=name,
        stamp=" ".join([*(each.stamp for each in people), repr(take.placement)]), notes=tuple(notes), left_out=left_out,
        reason=reason, people=tuple(people), placement=take.placement,
    )  # fmt: skip


def _split(take: Take, people: Sequence[SourceClip]) -> str:
    """The take's; of two with splits of their own the one that is held out furthest, so that no test motion is trained on."""
    told = [take.split] if take.split else list(take.splits) or [each.split for each in people] or ["train"]
    return max(told, key=SPLITS.index)


def _captions(take: Take, persons: Sequence[str], where: str) -> tuple[list[Caption], list[str]]:
    """Captions of the segments, or, where there is none, of the whole take; and a line for each that cannot be used."""
    captions: list[Caption] = []
    notes = []
    parts = [(part.captions, part.start_s, part.end_s) for part in take.segments if part.captions] or [(take.captions, 0.0, 0.0)]
    for told, start, end in parts:
        for person, role in enumerate((INTERACTION, *persons)):
            for text in told.get(role, []):
                try:
                    captions.append(checked_caption(Caption(written_text(text), start=start, end=end, person=person)))
                except ValueError as error:
                    notes.append(f"{where}, captions of {role}: left out, {error}")
    return captions if any(not caption.person for caption in captions) else [], notes


# ------------------------------------------------------------------------------------------------------------------ two files


def read_pair(clip: SourceClip, fps: float, body_model: Path | None, warnings: list[str]) -> np.ndarray:
    """Joints (2, T, 22, 3) in metres at `fps` of two people in one world. FileError says what does not fit together."""
    people = clip.people
    names = [each.file for each in people]
    mapping = common_mapping(people, warnings) if all(each.kind == "bvh" for each in people) else None
    told: list[list[str]] = [[], []]
    joints = [read_joints(each, fps, body_model, mapping, warnings=notes) for each, notes in zip(people, told)]
    warnings += [f"{name}: {line}" for name, notes in zip(names, told) for line in notes]
    if clip.placement is not None:
        return placed(*joints, clip.placement, fps)
    if len(joints[0]) != len(joints[1]):
        lasting = " and ".join(f"{name} lasts {(len(each) - 1) / fps:.2f} s" for name, each in zip(names, joints))
        raise FileError(f"{lasting}: people who were recorded together have files of one length and rate")
    return np.stack(joints)


def common_mapping(people: Sequence[SourceClip], warnings: list[str]) -> Mapping:
    """The mapping of two BVH files, with one scale for both and the floor where the files have it. FileError for two skeletons.

    warnings: gets a line where the mapping was guessed and says another rate than the files.
    """
    clips = [read_bvh(each.data, name=each.file) for each in people]
    mappings = [load_mapping(each.mapping) if each.mapping else fitting_mapping(clip) for each, clip in zip(people, clips)]
    if mappings[0] != mappings[1]:
        raise FileError(f"{clips[0].name} and {clips[1].name}: of different skeletons ({mappings[0].name}, {mappings[1].name}), "
                        "expected one for both people")  # fmt: skip
    mapping = mappings[0]
    if not people[0].mapping and (note := rate_note(mapping, clips[0])):
        warnings.append(note)
    floor = mapping.floor if isinstance(mapping.floor, float) else "keep"  # the lowest joint of each would part them
    return replace(mapping, scale=common_scale(clips, mapping), floor=floor)


def placed(first: np.ndarray, second: np.ndarray, placement: Placement, fps: float) -> np.ndarray:
    """Joints (2, T, J, 3) of two who were recorded apart: each starts at the origin facing +Z, then the second is turned, moved
    and waits; the shorter motion holds its last pose."""
    import torch

    from data_loaders.interhuman_features import canonicalise

    body = load_skeleton("humanml")
    first, second = (canonicalise(torch.tensor(each, dtype=torch.float64), body, "kept").numpy() for each in (first, second))
    angle = np.radians(placement.person2_yaw_deg)
    cos, sin = np.cos(angle), np.sin(angle)
    x, y, z = np.moveaxis(second, -1, 0)
    second = np.stack([cos * x + sin * z, y, cos * z - sin * x], axis=-1)
    second[..., [0, 2]] += placement.person2_offset_m
    second = np.concatenate([second[:1].repeat(round(placement.person2_delay_s * fps), axis=0), second])
    frames = max(len(first), len(second))
    return np.stack([_held(each, frames) for each in (first, second)])


def _held(joints: np.ndarray, frames: int) -> np.ndarray:
    return np.concatenate([joints, joints[-1:].repeat(frames - len(joints), axis=0)])


def segments(captions: Sequence[Caption], duration: float) -> Iterator[tuple[float, float, list[Caption]]]:
    """(start, end, captions) in seconds of each part of a recording that captions of all people describe: those of that part, as
    captions of a clip of its own; a caption of the whole recording goes with each part."""
    spans = list(dict.fromkeys((each.start, each.end) for each in captions if not each.person and not each.whole))
    for start, end in spans or [(0.0, duration)]:
        told = [each for each in captions if each.whole or (each.start, each.end) == (start, end)]
        yield start, min(end, duration), [replace(each, start=0.0, end=0.0) for each in told]
